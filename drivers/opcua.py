"""An OPC UA device, read as one service call. A failed read is BAD quality, never an exception.

asyncua does the protocol. Its own reconnection is not used: each connection is a new client, an *epoch*, in which namespace
indices, data types and the identity are looked up again, since a server that restarts with other indices would
otherwise bring another node's value as ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from asyncua import ua

from drivers.device import Device, Signal
from drivers.driver import CallOutcome, Driver, ErrorKind, Reading, WriteOutcome, WriteResult
from drivers.opcua_client import FAILURES, connect, disconnect, new_client
from drivers.opcua_events import EventFeed, watch_events
from drivers.opcua_method import call_method, wire_inputs
from drivers.opcua_security import Expiry, NotSecured
from drivers.opcua_session import Session, WrongDevice, check_identity, look_up, reading
from drivers.opcua_value import UNSURE, VARIANT, plain
from drivers.pause import Pause
from drivers.tags import FloatArray, Quality, QualityArray, TimeArray

__all__ = ["OpcuaDriver"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class OpcuaDriver(Driver):
    """One OPC UA server and its nodes, secured as the device's `security` says."""

    def __init__(self, device: Device, *, data: Path, timeout: float = 1.0) -> None:
        super().__init__(device, timeout=timeout)
        self._data = data
        self._signals = tuple(device.profile.signals.values())
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None  # makes the next session, or closes the last
        self._pause = Pause()
        self._why = "not connected yet"
        self._open = False
        self._stamps: tuple[datetime | None, int] = (None, 0)
        self._expiry = Expiry(device.name, ())
        self._feed: EventFeed | None = None

    async def __aenter__(self) -> OpcuaDriver:
        self._open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._open = False
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        session, self._session = self._session, None
        if session is not None:
            await disconnect(session.client)
        self.metrics.connected, self.metrics.why = False, "closed"

    async def read(self) -> Reading:
        """Return all signals, in the order of the profile, with the device's own quality and source times."""
        if not self._open:
            return self._lost(None, "closed")
        begun = time.monotonic()
        session = await self._ready()
        if session is None:
            return self._lost(None, self._why)
        if self._feed is not None and self._feed.problem:
            return self._give_up(session, "drop", f"{self.device.address}: {self._feed.problem}")
        try:
            results = await session.client.uaclient.read(session.request)
            if len(results) != len(session.nodes) + 1:
                raise ValueError(f"asked for {len(session.nodes) + 1} values, got {len(results)}")
            check_identity(self.device, results[-1])
        except WrongDevice as error:
            return self._give_up(session, "identity", str(error))
        except FAILURES as error:
            kind: ErrorKind = "timeout" if isinstance(error, TimeoutError) else "drop"
            why = f"no answer within {self.timeout:.2f} s" if kind == "timeout" else f"{type(error).__name__}: {error}"
            return self._give_up(session, kind, f"{self.device.address}: {why}")
        self._pause.succeeded()
        self.metrics.reads += 1
        self.metrics.certificate_days = self._expiry.days()
        self.metrics.round_trip = time.monotonic() - begun
        self._tell(up=True)
        return self._decode(session, results)

    def _lose(self, events: int) -> None:
        self.metrics.drops += events
        self._count("overflow", events)

    async def _ready(self) -> Session | None:
        """Return the session; while there is none, start to connect and wait for it at most `timeout`."""
        if self._task is not None and self._task.done():
            self._task = None
        if self._session is None and self._task is None and self._pause.over(time.monotonic()):
            self._task = asyncio.create_task(self._connect(), name=f"connect {self.device.name}")
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self.timeout)
        return self._session

    def _give_up(self, session: Session, kind: ErrorKind, why: str) -> Reading:
        """End the epoch: what it may still bring is dropped with its client."""
        if self._session is session:
            self._session = None
            self._why = why
            self._pause.failed(time.monotonic())
            self._task = asyncio.create_task(disconnect(session.client), name=f"disconnect {self.device.name}")
        return self._lost(kind, why)

    async def _connect(self) -> None:
        """Make a new session; `_why` tells why there is none."""
        address = self.device.address
        client = new_client(self.device, self.timeout)
        try:
            await connect(client, self.device, self._data)
            session = await look_up(client, self.device)
            feed = await watch_events(client, self.device, session.spaces, self._report, self._lose)
        except asyncio.CancelledError:
            await disconnect(client)
            raise
        except WrongDevice as error:
            self._why = str(error)
        except NotSecured as error:
            self._why = f"not connected to {address}: {error}"
        except FAILURES as error:
            what = f"no answer within {self.timeout:.2f} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            self._why = f"cannot connect to {address}: {what}; check the address and that the device is on"
        else:
            self._session, self._feed, self._why = session, feed, ""
            self._expiry = Expiry(self.device.name, client.certificates)
            self._count("type", sum(map(bool, session.wrong)))
            return
        self._pause.failed(time.monotonic())
        await disconnect(client)

    def _decode(self, session: Session, results: list[ua.DataValue]) -> Reading:
        n = len(self._signals)
        values: FloatArray = np.full(n, np.nan)
        quality: QualityArray = np.full(n, Quality.BAD, dtype=np.uint8)
        times: TimeArray = np.zeros(n, dtype=np.int64)
        for place, (signal, found) in enumerate(zip(self._signals, results, strict=False)):  # the identity comes behind them
            times[place] = self._nanoseconds(found.SourceTimestamp)
            if session.wrong[place]:
                continue
            number = _number(signal, found)
            if math.isfinite(number):
                values[place] = number
                quality[place] = _quality(found)
        values[quality == Quality.BAD] = np.nan
        return Reading(values, quality, times)

    def _nanoseconds(self, when: Any) -> int:
        """Return a source time [ns]; the values of one device mostly share one."""
        if when is None:
            return 0
        if self._stamps[0] != when:
            aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
            self._stamps = (when, (aware - _EPOCH) // _MICROSECOND * 1000)
        return self._stamps[1]

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        """Write signals [eu of each] in one request and read them back in another; nothing is repeated.

        What was not sent, since the device is not connected or the value cannot be, is refused: nothing changed there.
        """
        session = self._session
        outcomes: dict[str, WriteOutcome] = {}
        values: dict[str, bool | int | float] = {}
        for name, value in changes.items():
            try:
                if session is None:
                    raise ValueError(f"not sent: {self._why or 'not connected'}")
                values[name] = self._wire_value(session, name, value)
            except ValueError as error:
                outcomes[name] = self._outcome(name, value, WriteResult.REFUSED, str(error))
        if session is not None and values:
            outcomes |= await self._send(session, changes, values)
        return [outcomes[name] for name in changes]

    async def call(self, method: str, inputs: dict[str, float]) -> CallOutcome:
        """Call a method once, with inputs [eu of the signal that each is for, else its own]; never repeated."""
        session = self._session
        try:
            if session is None:
                raise ValueError(self._why or "not connected")
            if method not in session.methods:
                raise ValueError(f"profile {self.device.profile.id} has no such method; it has {', '.join(session.methods) or 'none'}")
            bound = session.methods[method]
            if bound.problem:
                raise ValueError(bound.problem)
            sent = wire_inputs(self.device.profile, bound.method, inputs)
        except ValueError as error:
            return self._called(method, WriteResult.REFUSED, why=f"not sent: {error}")
        try:
            return self._called(method, *await call_method(session.client, bound, sent))
        except FAILURES as error:
            why = f"no answer to a call: {type(error).__name__} {error}".rstrip()
            self._give_up(session, "timeout" if isinstance(error, TimeoutError) else "drop", why)
            return self._called(method, WriteResult.UNKNOWN, why=why)

    def _called(self, method: str, result: WriteResult, outputs: tuple[float, ...] = (), why: str = "") -> CallOutcome:
        self.metrics.writes += 1
        self.metrics.write_errors += result is not WriteResult.CONFIRMED
        return CallOutcome(method, result, outputs, why)

    def _wire_value(self, session: Session, name: str, value: float) -> bool | int | float:
        signal = self.device.profile.signals.get(name)
        if signal is None or signal.access != "write":
            what = "not a signal" if signal is None else "only read"
            raise ValueError(f"{name} is {what} in profile {self.device.profile.id}")
        if problem := session.wrong[self.device.profile.place(name)]:
            raise ValueError(f"not sent: {problem}")
        return plain((value - signal.offset) / signal.scale, signal.type)

    async def _send(self, session: Session, changes: dict[str, float], values: dict[str, bool | int | float]) -> dict[str, WriteOutcome]:
        profile = self.device.profile
        names = list(values)
        nodes = [session.nodes[profile.place(name)] for name in names]
        parcels = [_alone(values[name], VARIANT[profile.signals[name].type]) for name in names]
        try:
            codes = await session.client.uaclient.write_attributes(nodes, parcels)
            found = await session.client.uaclient.read(reading(nodes))
        except FAILURES as error:
            why = f"no answer to a write: {type(error).__name__} {error}".rstrip()
            self._give_up(session, "timeout" if isinstance(error, TimeoutError) else "drop", why)
            return {name: self._outcome(name, changes[name], WriteResult.UNKNOWN, why) for name in names}
        outcomes = {}
        for name, code, back in zip(names, codes, found, strict=True):
            outcomes[name] = self._judge(name, changes[name], values[name], code, back)
        return outcomes

    def _judge(self, name: str, asked: float, sent: float, code: ua.StatusCode, back: ua.DataValue) -> WriteOutcome:
        if code.is_bad():
            unsure = code.name.removeprefix("Bad") in UNSURE
            return self._outcome(name, asked, WriteResult.UNKNOWN if unsure else WriteResult.REFUSED, code.name)
        signal = self.device.profile.signals[name]
        number = _number(signal, back)
        if not math.isfinite(number) or _quality(back) == Quality.BAD:
            return self._outcome(name, asked, WriteResult.UNKNOWN, "accepted, but could not be read back")
        if back.Value is not None and back.Value.Value == sent:
            return self._outcome(name, asked, WriteResult.CONFIRMED, "", asked)
        return self._outcome(name, asked, WriteResult.MISMATCH, f"accepted, but reads back as {number:g}", number)


def _alone(value: bool | int | float, variant: ua.VariantType) -> ua.DataValue:
    """Return the value without status and times: some servers refuse a write that brings them."""
    return ua.DataValue(ua.Variant(value, variant), StatusCode=None)


def _quality(found: ua.DataValue) -> Quality:
    """Return the quality of a status code by its two severity bits (OPC UA part 4, 7.38)."""
    severity = 0 if found.StatusCode is None else int(found.StatusCode.value) >> 30
    return Quality(min(severity, 2))


def _number(signal: Signal, found: ua.DataValue) -> float:
    """Return the value [eu]; NaN when it is not a number of the profile's type."""
    variant = found.Value
    if variant is None or variant.VariantType != VARIANT[signal.type] or not isinstance(variant.Value, (bool, int, float)):
        return math.nan
    return float(variant.Value) * signal.scale + signal.offset
