"""The seam below the process image: one device, read and written as arrays. No callers."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum

from drivers.device import Device
from drivers.tags import FloatArray, QualityArray, TimeArray

log = logging.getLogger(__name__)

__all__ = ["Driver", "DriverMetrics", "Reading", "WriteOutcome", "WriteResult"]


class WriteResult(Enum):
    """What is known after a write."""

    CONFIRMED = "confirmed"  # accepted, and read back equal
    MISMATCH = "mismatch"  # accepted, but reads back as something else
    REFUSED = "refused"  # the device said no: nothing changed there
    UNKNOWN = "unknown"  # no answer: it may or may not have happened. Read, never repeat blindly


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """The outcome of writing one signal: what was asked, what is there now (NaN when not known), and why it failed."""

    signal: str
    asked: float
    found: float
    result: WriteResult
    why: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """All signals of a device, in the order of its profile: values [eu of each], qualities, source times; shape (n,)."""

    values: FloatArray
    quality: QualityArray
    source_time: TimeArray  # ns on the device's clock; 0 where the device gives none


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
    why: str = "not connected yet"  # why it is not connected; empty when it is
    errors: dict[str, int] = field(default_factory=dict)  # by kind


class Driver(ABC):
    """One device. A failed read is BAD quality, never an exception; so is a device that is not there.

    Used as ``async with driver:``; entering returns at once, whether or not the device answers, and the driver
    connects and reconnects by itself, never more than one attempt per 2 s. `read` and `write` bound their own time
    (at most `timeout` [s] each), log once on loss and once on return, and are never cancelled in mid-request by callers other than exit.
    """

    def __init__(self, device: Device, *, timeout: float = 1.0) -> None:
        self.device = device
        self.timeout = timeout
        self.metrics = DriverMetrics()
        self._told: bool | None = None  # whether the log last said up or down

    def _tell(self, *, up: bool, why: str = "") -> None:
        """Note whether the device answers, count it, and log it when it changes."""
        metrics = self.metrics
        if up and not metrics.connected:
            metrics.connects += 1
        elif not up and metrics.connected:
            metrics.losses += 1
        metrics.connected, metrics.why = up, why
        if up and self._told is not True:
            log.info("%s answers at %s", self.device.name, self.device.address)
        elif not up and self._told is not False:
            log.warning("%s is lost: %s", self.device.name, why)
        self._told = up

    @abstractmethod
    async def __aenter__(self) -> Driver: ...

    @abstractmethod
    async def __aexit__(self, *exc_info: object) -> None:
        """Close the link. Leaves no task, socket or file behind; takes at most 0.5 s."""

    @abstractmethod
    async def read(self) -> Reading:
        """Return all signals of the profile, in its order; NaN and BAD for what could not be read."""

    @abstractmethod
    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        """Write signals [eu of each] and read them back; one outcome per change, in order. Never repeats a write by itself."""
