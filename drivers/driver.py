"""The seam below the process image: one device, read and written as arrays. No callers."""

from __future__ import annotations

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, NamedTuple, get_args

import numpy as np

from drivers.device import Device
from drivers.tags import FloatArray, Quality, QualityArray, TimeArray

log = logging.getLogger(__name__)

__all__ = ["ERROR_KINDS", "NOT_YET", "CallOutcome", "DeviceEvent", "Driver", "DriverMetrics", "ErrorKind", "Reading", "WriteOutcome", "WriteResult"]

ErrorKind = Literal[
    "connect",  # no connection could be made
    "timeout",  # no answer in time
    "drop",  # the link was cut
    "reply",  # an answer that does not belong to the question, or cannot be understood
    "exception",  # the device said no
    "identity",  # another device answers
    "type",  # a signal is not there as the profile says
    "overflow",  # samples were lost on the way
]
ERROR_KINDS: Final[tuple[ErrorKind, ...]] = get_args(ErrorKind)
NOT_YET: Final = "not connected yet"  # the first attempt is under way
_EVENTS: Final = 1000  # of a device that may wait to be taken; older ones are dropped and counted


class WriteResult(Enum):
    """What is known after a write."""

    CONFIRMED = "confirmed"  # accepted, and read back equal
    MISMATCH = "mismatch"  # accepted, but reads back as something else
    REFUSED = "refused"  # the device said no: nothing changed there
    NOT_SENT = "not sent"  # there is no link, it cannot be written, or no time was left: nothing changed there
    UNKNOWN = "unknown"  # no answer: it may or may not have happened. Read, never repeat blindly

    @property
    def doubtful(self) -> bool:
        """Whether what is there now has to be read before anything else is done."""
        return self in (WriteResult.MISMATCH, WriteResult.UNKNOWN)


class WriteOutcome(NamedTuple):
    """The outcome of writing one signal: what was asked, what is there now (NaN when not known), and why it failed."""

    signal: str
    asked: float
    found: float
    result: WriteResult
    why: str = ""


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """The outcome of calling a method: what it gave back [eu of each], and why it failed."""

    method: str
    result: WriteResult  # any but MISMATCH
    outputs: tuple[float, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """What a device reported by itself: when on its own clock [ns], how severe (1 to 1000, OPC UA part 5, 6.4.2), from what, and its words."""

    time: int
    severity: int
    source: str
    text: str


class Reading(NamedTuple):
    """All signals of a device, in the order of its profile: values [eu of each], qualities and clocks; all shape (n,)."""

    values: FloatArray
    quality: QualityArray
    source_time: TimeArray  # ns on the device's clock; 0 where the device gives none
    received: FloatArray | None = None  # [s] monotonic, when each was known to be current; None: now
    server_time: TimeArray | None = None  # ns on the clock of the server between; None where there is none


@dataclass(slots=True)
class DriverMetrics:
    """What a driver counts about itself. Counters only grow."""

    connected: bool = False
    connects: int = 0
    losses: int = 0
    reads: int = 0
    read_errors: int = 0
    writes: int = 0
    write_errors: int = 0
    round_trip: float = float("nan")  # [s] of the last successful read
    why: str = NOT_YET  # why it is not connected; empty when it is
    errors: dict[ErrorKind, int] = field(default_factory=lambda: dict.fromkeys(ERROR_KINDS, 0))
    drops: int = 0  # samples and events that were lost on the way, as far as that is known
    certificate_days: float = math.inf  # [d] until a certificate of this link expires


class Driver(ABC):
    """One device. A failed read is BAD quality, never an exception; so is a device that is not there.

    Used as ``async with driver:``; entering returns at once, whether or not the device answers, and the driver
    connects and reconnects by itself, after pauses that grow from 0.1 to 2 s. `read` and `write` bound their own time
    (`timeout` [s] for the answer to each request), log once on loss and once on return, and are never cancelled in
    mid-request by callers other than exit.
    """

    def __init__(self, device: Device, *, timeout: float = 1.0) -> None:
        self.device = device
        self.timeout = timeout
        self.metrics = DriverMetrics()
        self.texts: dict[str, str] = {}  # what the device says of itself in words, by the profile's `texts`
        self.wrong: dict[str, str] = {}  # why a signal is BAD although the device answers, as far as the driver knows
        self._told: bool | None = None  # whether the log last said up or down
        self._events: deque[DeviceEvent] = deque()

    def _tell(self, *, up: bool, why: str = "") -> None:
        """Note whether the device answers, count it, and log it when it changes."""
        metrics = self.metrics
        if up and metrics.connected and self._told:
            return
        if up and not metrics.connected:
            metrics.connects += 1
        elif not up and metrics.connected:
            metrics.losses += 1
        metrics.connected, metrics.why = up, why
        if not up and why == NOT_YET:
            return  # a reason is on its way
        if up and self._told is not True:
            log.info("%s answers at %s", self.device.name, self.device.address)
        elif not up and self._told is not False:
            log.warning("%s is lost: %s", self.device.name, why)
        self._told = up

    def _count(self, kind: ErrorKind, times: int = 1) -> None:
        self.metrics.errors[kind] += times

    def _lost(self, kind: ErrorKind | None, why: str) -> Reading:
        """Return the reading of a device that does not answer; `kind` is None while it is only waited for."""
        self.metrics.read_errors += 1
        if kind is not None:
            self._count(kind)
        self._tell(up=False, why=why)
        n = len(self.device.profile.signals)
        return Reading(np.full(n, np.nan), np.full(n, Quality.BAD, dtype=np.uint8), np.zeros(n, dtype=np.int64))

    def _outcome(self, name: str, value: float, result: WriteResult, why: str, found: float = math.nan) -> WriteOutcome:
        self.metrics.writes += 1
        self.metrics.write_errors += result is not WriteResult.CONFIRMED
        return WriteOutcome(name, value, found, result, why)

    def _report(self, event: DeviceEvent) -> None:
        """Keep an event of the device until it is taken."""
        if len(self._events) >= _EVENTS:
            self._events.popleft()
            self.metrics.drops += 1
        self._events.append(event)

    def take_events(self) -> list[DeviceEvent]:
        """Return what the device has reported since the last call, oldest first."""
        events = list(self._events)
        self._events.clear()
        return events

    async def call(self, method: str, inputs: dict[str, float]) -> CallOutcome:
        """Call a method of the device with inputs [eu of each in the profile]. Never repeats a call by itself."""
        return CallOutcome(
            method, WriteResult.NOT_SENT, why=f"{self.device.profile.protocol} has no methods; write the signals of {self.device.name}"
        )

    @abstractmethod
    async def __aenter__(self) -> Driver: ...

    @abstractmethod
    async def __aexit__(self, *exc_info: object) -> None:
        """Close the link. Leaves no task, socket or file behind; takes at most 0.5 s."""

    async def due(self, left: float, period: float) -> bool:
        """Wait for the time of the next read, with `left` [s] of a `period` to go.

        A device that tells of changes may set the time itself, a little before or after: returns whether it has.
        """
        await asyncio.sleep(left)
        return False

    @abstractmethod
    async def read(self) -> Reading:
        """Return all signals of the profile, in its order; NaN and BAD for what could not be read."""

    def same(self, signal: str, one: float, other: float) -> bool:
        """Whether two values of a signal [its eu], which it can have, are one to the device: it is sent the same for both.

        What a write of `one` sends may be coarser than `one` (a step of an integer, a format with a decimal): the device then reads back as `other`.
        """
        return one == other

    @abstractmethod
    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        """Write signals [eu of each] and read them back; one outcome per change, in order. Never repeats a write by itself."""
