"""An OPC UA device, read as one service call. A failed read is BAD quality, never an exception.

asyncua does the protocol. Its own reconnection is not used: each connection is a new client, an *epoch*, in which namespace
indices, data types and the identity are looked up again, since a server that restarts with other indices would
otherwise bring another node's value as ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import struct
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaError

from drivers.device import Device, Signal, SignalType
from drivers.driver import Driver, ErrorKind, Reading, WriteOutcome, WriteResult
from drivers.pause import Pause
from drivers.tags import FloatArray, Quality, QualityArray, TimeArray

__all__ = ["OpcuaDriver"]

log = logging.getLogger(__name__)
# what asyncua reports is counted and reported here, once for each change
logging.getLogger("asyncua.client").setLevel(logging.CRITICAL + 1)

_FAILURES: Final = (UaError, OSError, ValueError, TypeError, struct.error)
_VARIANT: Final[dict[SignalType, ua.VariantType]] = {
    "bool": ua.VariantType.Boolean,
    "int16": ua.VariantType.Int16,
    "uint16": ua.VariantType.UInt16,
    "int32": ua.VariantType.Int32,
    "uint32": ua.VariantType.UInt32,
    "float32": ua.VariantType.Float,
    "float64": ua.VariantType.Double,
}
_CLOSING: Final = 0.5  # [s] that a disconnect may take
_SESSION: Final = 60_000  # [ms] after which a server forgets a session that was cut off
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UNSURE: Final = ("Timeout", "Communication", "NoCommunication", "Shutdown", "ConnectionClosed", "UnexpectedError", "InternalError")


class _WrongDevice(Exception):
    """The server answers, but it is not the device of the profile."""


@dataclass(frozen=True, slots=True)
class _Session:
    """One connection: its client, and what was found out in it. `nodes` and `wrong` are in the order of the profile."""

    client: Client
    nodes: tuple[ua.NodeId, ...]
    wrong: tuple[str, ...]  # why a node cannot be used; empty when it can
    request: ua.ReadParameters  # all values, and the identity last


def _plain(value: float, type_: SignalType) -> bool | int | float:
    """Return `value` as what a variant of `type_` carries; raise `ValueError` if it cannot."""
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be written; write a finite number")
    if type_ == "bool":
        if value not in (0.0, 1.0):
            raise ValueError(f"expected 0 or 1 for a bool, got {value:g}")
        return bool(value)
    if type_ == "float64":
        return value
    if type_ == "float32":
        if abs(value) > float(np.finfo(np.float32).max):
            raise ValueError(f"{value:g} does not fit a float32")
        return float(np.float32(value))
    limits = np.iinfo(type_)
    if not limits.min <= round(value) <= limits.max:
        raise ValueError(f"{value:g} does not fit a {type_} ({limits.min} to {limits.max})")
    return round(value)


class OpcuaDriver(Driver):
    """One OPC UA server and its nodes. Without security in this version: for loopback and closed networks."""

    def __init__(self, device: Device, *, timeout: float = 1.0) -> None:
        super().__init__(device, timeout=timeout)
        self._signals = tuple(device.profile.signals.values())
        self._session: _Session | None = None
        self._task: asyncio.Task[None] | None = None  # makes the next session, or closes the last
        self._pause = Pause()
        self._why = "not connected yet"
        self._open = False
        self._stamps: tuple[datetime | None, int] = (None, 0)

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
            await _disconnect(session.client)
        self.metrics.connected, self.metrics.why = False, "closed"

    async def read(self) -> Reading:
        """Return all signals, in the order of the profile, with the device's own quality and source times."""
        if not self._open:
            return self._lost(None, "closed")
        begun = time.monotonic()
        session = await self._ready()
        if session is None:
            return self._lost(None, self._why)
        try:
            results = await session.client.uaclient.read(session.request)
            if len(results) != len(session.nodes) + 1:
                raise ValueError(f"asked for {len(session.nodes) + 1} values, got {len(results)}")
            self._check_identity(results[-1])
        except _WrongDevice as error:
            return self._give_up(session, "identity", str(error))
        except _FAILURES as error:
            kind: ErrorKind = "timeout" if isinstance(error, TimeoutError) else "drop"
            why = f"no answer within {self.timeout:.2f} s" if kind == "timeout" else f"{type(error).__name__}: {error}"
            return self._give_up(session, kind, f"{self.device.address}: {why}")
        self._pause.succeeded()
        self.metrics.reads += 1
        self.metrics.round_trip = time.monotonic() - begun
        self._tell(up=True)
        return self._decode(session, results)

    async def _ready(self) -> _Session | None:
        """Return the session; while there is none, start to connect and wait for it at most `timeout`."""
        if self._task is not None and self._task.done():
            self._task = None
        if self._session is None and self._task is None and self._pause.over(time.monotonic()):
            self._task = asyncio.create_task(self._connect(), name=f"connect {self.device.name}")
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self.timeout)
        return self._session

    def _give_up(self, session: _Session, kind: ErrorKind, why: str) -> Reading:
        """End the epoch: what it may still bring is dropped with its client."""
        if self._session is session:
            self._session = None
            self._why = why
            self._pause.failed(time.monotonic())
            self._task = asyncio.create_task(_disconnect(session.client), name=f"disconnect {self.device.name}")
        return self._lost(kind, why)

    async def _connect(self) -> None:
        """Make a new session; `_why` tells why there is none."""
        address = self.device.address
        client = Client(f"opc.tcp://{address.host}:{address.port}{address.path}", timeout=self.timeout, auto_reconnect=False)
        client.session_timeout = _SESSION
        client.name = client.description = "blackmass"
        try:
            await client.connect()
            session = await self._look_up(client)
        except asyncio.CancelledError:
            await _disconnect(client)
            raise
        except _WrongDevice as error:
            self._why = str(error)
        except _FAILURES as error:
            what = f"no answer within {self.timeout:.2f} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            self._why = f"cannot connect to {address}: {what}; check the address and that the device is on"
        else:
            self._session, self._why = session, ""
            return
        self._pause.failed(time.monotonic())
        await _disconnect(client)

    async def _look_up(self, client: Client) -> _Session:
        """Resolve namespaces, check data types and the identity; raise `_WrongDevice`."""
        profile = self.device.profile
        spaces = await client.get_namespace_array()
        nodes = [_node(at, spaces, str(self.device.address)) for at in (*(s.at for s in self._signals), profile.identity.at)]
        types = await client.uaclient.read_attributes(nodes[:-1], AttributeIds.DataType)
        wrong = [_type_problem(signal, found) for signal, found in zip(self._signals, types, strict=True)]
        for name, problem in zip(profile.names, wrong, strict=True):
            if problem:
                self._count("type")
                log.error("%s.%s is not used: %s", self.device.name, name, problem)
        request = _reading(nodes)
        self._check_identity((await client.uaclient.read(request))[-1])
        return _Session(client, tuple(nodes[:-1]), tuple(wrong), request)

    def _check_identity(self, found: ua.DataValue) -> None:
        identity = self.device.profile.identity
        at = identity.at
        if found.Value is None or found.Value.Value is None or not _good(found):
            status = found.StatusCode.name if found.StatusCode is not None else "no value"
            raise _WrongDevice(f"identity at {at} could not be read ({status}): another device answers at {self.device.address}")
        if found.Value.Value != identity.value:
            expected = f"expected {identity.value:g}: another device answers at {self.device.address}"
            raise _WrongDevice(f"identity is {found.Value.Value} at {at}, {expected}")

    def _decode(self, session: _Session, results: list[ua.DataValue]) -> Reading:
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

    def _wire_value(self, session: _Session, name: str, value: float) -> bool | int | float:
        signal = self.device.profile.signals.get(name)
        if signal is None or signal.access != "write":
            what = "not a signal" if signal is None else "only read"
            raise ValueError(f"{name} is {what} in profile {self.device.profile.id}")
        if problem := session.wrong[self.device.profile.place(name)]:
            raise ValueError(f"not sent: {problem}")
        return _plain((value - signal.offset) / signal.scale, signal.type)

    async def _send(self, session: _Session, changes: dict[str, float], values: dict[str, bool | int | float]) -> dict[str, WriteOutcome]:
        profile = self.device.profile
        names = list(values)
        nodes = [session.nodes[profile.place(name)] for name in names]
        parcels = [_alone(values[name], _VARIANT[profile.signals[name].type]) for name in names]
        try:
            codes = await session.client.uaclient.write_attributes(nodes, parcels)
            found = await session.client.uaclient.read(_reading(nodes))
        except _FAILURES as error:
            why = f"no answer to a write: {type(error).__name__} {error}".rstrip()
            self._give_up(session, "timeout" if isinstance(error, TimeoutError) else "drop", why)
            return {name: self._outcome(name, changes[name], WriteResult.UNKNOWN, why) for name in names}
        outcomes = {}
        for name, code, back in zip(names, codes, found, strict=True):
            outcomes[name] = self._judge(name, changes[name], values[name], code, back)
        return outcomes

    def _judge(self, name: str, asked: float, sent: float, code: ua.StatusCode, back: ua.DataValue) -> WriteOutcome:
        if code.is_bad():
            unsure = code.name.removeprefix("Bad") in _UNSURE
            return self._outcome(name, asked, WriteResult.UNKNOWN if unsure else WriteResult.REFUSED, code.name)
        signal = self.device.profile.signals[name]
        number = _number(signal, back)
        if not math.isfinite(number) or _quality(back) == Quality.BAD:
            return self._outcome(name, asked, WriteResult.UNKNOWN, "accepted, but could not be read back")
        if back.Value is not None and back.Value.Value == sent:
            return self._outcome(name, asked, WriteResult.CONFIRMED, "", asked)
        return self._outcome(name, asked, WriteResult.MISMATCH, f"accepted, but reads back as {number:g}", number)


def _node(at: str, spaces: list[str], where: str) -> ua.NodeId:
    """Return the node id with this epoch's namespace index; raise `_WrongDevice` when the server does not have the namespace."""
    uri, _, rest = at.removeprefix("nsu=").rpartition(";")
    if uri not in spaces:
        raise _WrongDevice(f"{where} offers no namespace {uri}: another device answers, or its software has changed")
    return ua.NodeId.from_string(f"ns={spaces.index(uri)};{rest}")


def _reading(nodes: list[ua.NodeId]) -> ua.ReadParameters:
    """Return the request for the values of `nodes` and their source times."""
    wanted = [ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in nodes]
    return ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Source, NodesToRead=wanted)


def _alone(value: bool | int | float, variant: ua.VariantType) -> ua.DataValue:
    """Return the value without status and times: some servers refuse a write that brings them."""
    return ua.DataValue(ua.Variant(value, variant), StatusCode=None)


def _type_problem(signal: Signal, found: ua.DataValue) -> str:
    """Return why a node cannot be the signal, by its DataType attribute; empty when it can."""
    if not _good(found) or found.Value is None:
        return f"{signal.at}: {found.StatusCode.name if found.StatusCode is not None else 'no data type'}"
    expected = ua.NodeId(ua.Int32(getattr(ObjectIds, _VARIANT[signal.type].name)))
    if found.Value.Value != expected:
        return f"{signal.at} has data type {found.Value.Value.to_string()}, expected {_VARIANT[signal.type].name}; check the profile"
    return ""


def _good(found: ua.DataValue) -> bool:
    return found.StatusCode is None or found.StatusCode.is_good()


def _quality(found: ua.DataValue) -> Quality:
    """Return the quality of a status code by its two severity bits (OPC UA part 4, 7.38)."""
    severity = 0 if found.StatusCode is None else int(found.StatusCode.value) >> 30
    return Quality(min(severity, 2))


def _number(signal: Signal, found: ua.DataValue) -> float:
    """Return the value [eu]; NaN when it is not a number of the profile's type."""
    variant = found.Value
    if variant is None or variant.VariantType != _VARIANT[signal.type] or not isinstance(variant.Value, (bool, int, float)):
        return math.nan
    return float(variant.Value) * signal.scale + signal.offset


async def _disconnect(client: Client) -> None:
    """Close a client within 0.5 s, whatever state it is in."""
    try:
        async with asyncio.timeout(_CLOSING):
            await client.disconnect()
    except _FAILURES:
        client.disconnect_socket()
