"""Simulated devices on OPC UA (asyncua), one server each: values are made when they are read, writes may be refused."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncua import ua
from asyncua.common.event_objects import BaseEvent
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AddressSpace, AttributeService, AttributeValue, MethodService
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from drivers import eu
from drivers.device import Address, Argument, Method, Signal, SignalType
from drivers.opcua_value import VARIANT
from simulators.opcua_nodes import Nodes, plain, split_node
from simulators.opcua_space import SAMPLING, DeviceServer, status_code
from simulators.station import Locked, Refused, Station

__all__ = ["OpcuaListener"]

logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # what matters is raised or seen by the client

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# what an instrument says of itself: 0 good, 1 uncertain, 2 failed
_STATUS: Final = tuple(status_code(code) for code in (StatusCodes.Good, StatusCodes.UncertainSensorNotAccurate, StatusCodes.BadSensorFailure))


def _number(variant: ua.Variant | None, type_: SignalType) -> float | None:
    """Return the number in a variant; None when it is not one of `type_`."""
    if variant is None or variant.VariantType != VARIANT[type_] or variant.is_array or variant.Value is None:
        return None
    return float(variant.Value)


def _stamped(value: ua.DataValue, source: Any, server: Any) -> ua.DataValue:
    return replace(value, SourceTimestamp=source, ServerTimestamp=server)


class _Anonymous(UserManager):
    """Lets anonymous clients in as operators, and nobody by name: the server's own rule makes any `admin` an administrator."""

    def get_user(self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None) -> User | None:
        return None if username else User(role=UserRole.User)


class _Attributes(AttributeService):
    """Writes to a device's nodes go to the device, which may refuse them; everything else is only read."""

    def __init__(self, space: AddressSpace, station: Station) -> None:
        super().__init__(space)
        self.names: dict[ua.NodeId, str] = {}
        self._station = station

    def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Return the values with those times that are asked for."""
        found = super().read(params)
        wanted = params.TimestampsToReturn
        if wanted == ua.TimestampsToReturn.Source:  # as they are made
            return found
        server = datetime.now(UTC) if wanted in (ua.TimestampsToReturn.Server, ua.TimestampsToReturn.Both) else None
        both = wanted == ua.TimestampsToReturn.Both
        return [_stamped(value, value.SourceTimestamp if both else None, server) for value in found]

    async def write(self, params: ua.WriteParameters, user: User | None = None) -> list[ua.StatusCode]:
        if user is None or user.role == UserRole.Admin:  # the server itself
            return await super().write(params)
        return [status_code(self._write(item)) for item in params.NodesToWrite]

    def _write(self, item: ua.WriteValue) -> int:
        if item.NodeId not in self._aspace:
            return int(StatusCodes.BadNodeIdUnknown)
        if item.AttributeId not in self._aspace[item.NodeId].attributes:
            return int(StatusCodes.BadAttributeIdInvalid)
        name = self.names.get(item.NodeId)
        if name is None or item.AttributeId != AttributeIds.Value:
            return int(StatusCodes.BadUserAccessDenied)
        signal = self._station.device.profile.signals[name]
        if signal.access != "write":
            return int(StatusCodes.BadNotWritable)
        sent = item.Value
        status = sent.StatusCode is not None and not sent.StatusCode.is_good()
        if item.IndexRange or status or sent.SourceTimestamp or sent.ServerTimestamp:
            return int(StatusCodes.BadWriteNotSupported)
        value = _number(sent.Value, signal.type)
        return int(StatusCodes.BadTypeMismatch) if value is None else put(self._station, {name: value * signal.scale + signal.offset})


class _Methods(MethodService):
    """Calls of a device's methods; the standard ones are asyncua's."""

    def __init__(self, space: AddressSpace, station: Station) -> None:
        super().__init__(space)
        self.methods: dict[ua.NodeId, tuple[ua.NodeId, Method]] = {}  # node -> the object it belongs to, the method
        self._station = station

    async def call(self, methods: list[ua.CallMethodRequest]) -> list[ua.CallMethodResult]:
        return [self._do(asked) if asked.MethodId in self.methods else (await super(_Methods, self).call([asked]))[0] for asked in methods]

    def _do(self, asked: ua.CallMethodRequest) -> ua.CallMethodResult:
        owner, method = self.methods[asked.MethodId]
        given = asked.InputArguments or []
        if asked.ObjectId != owner:
            code = StatusCodes.BadNodeIdUnknown if asked.ObjectId not in self._aspace else StatusCodes.BadMethodInvalid
            return ua.CallMethodResult(status_code(code))
        if len(given) != len(method.inputs):
            few = len(given) < len(method.inputs)
            return ua.CallMethodResult(status_code(StatusCodes.BadArgumentsMissing if few else StatusCodes.BadTooManyArguments))
        changes, codes = dict[str, float](), list[ua.StatusCode]()
        for argument, variant in zip(method.inputs.values(), given, strict=True):
            value, code = self._argument(argument, variant)
            if argument.writes:
                changes[argument.writes] = value
            codes.append(status_code(code))
        if not all(code.is_good() for code in codes):
            return ua.CallMethodResult(status_code(StatusCodes.BadInvalidArgument), codes)
        return ua.CallMethodResult(status_code(put(self._station, changes, method.pulses)), codes)

    def _argument(self, argument: Argument, variant: ua.Variant) -> tuple[float, int]:
        """Return the value for the argument's signal [its eu] and whether it can be taken."""
        number = _number(variant, argument.type)
        if number is None:
            return math.nan, int(StatusCodes.BadTypeMismatch)
        if not math.isfinite(number):
            return math.nan, int(StatusCodes.BadOutOfRange)
        if not argument.writes:  # of no signal, so nothing is known of its range
            return number, int(StatusCodes.Good)
        signal = self._station.device.profile.signals[argument.writes]
        value = eu.convert(number, argument.eu, signal.eu)
        low, high = signal.range
        return value, int(StatusCodes.Good if low <= value <= high else StatusCodes.BadOutOfRange)


def put(station: Station, changes: Mapping[str, float], pulses: str = "") -> int:
    """Write signals [eu of each], all or none, then let a bool go to 0, 1 and 0; return the status code."""
    steps = [*changes.items(), *((pulses, level) for level in (0.0, 1.0, 0.0) if pulses)]
    try:
        station.write_all(steps)
    except Locked:
        return int(StatusCodes.BadInvalidState)
    except Refused:
        return int(StatusCodes.BadOutOfRange)
    return int(StatusCodes.Good)


class OpcuaListener:
    """One device as an OPC UA server without security. `now` returns the plant clock [ns, UTC], for source times."""

    def __init__(self, station: Station, now: Callable[[], int]) -> None:
        self.station = station
        self._now = now
        self._server: Any = None
        self._listening = False
        self.port = station.device.address.port
        self._stamp: tuple[int, datetime] = (-1, _EPOCH)
        self._watched: list[tuple[AttributeValue, Callable[[], ua.DataValue]]] = []
        self._looked = 0.0
        self._fallen = False  # what was last reported of its safe state

    async def open(self) -> None:
        """Serve; raise `OSError` when the port is taken. The first time, the address space is built."""
        if self._listening:
            return
        if self._server is None:
            self._server = await self._build()
            try:
                await self._server.start()
            except OSError:
                self._server = None
                raise
            self.port = self._server.bserver.port
        else:
            await self._server.bserver.start()
        self._listening = True

    async def _build(self) -> Any:
        device = self.station.device
        inner = DeviceServer(_Anonymous())
        server = Server(inner)
        server.name = f"{device.name} ({device.profile.description})"
        server.manufacturer_name, server.product_uri = "blackmass", f"urn:blackmass:simulators:{device.profile.id}"
        await server.init()
        await server.set_application_uri(f"urn:blackmass:simulators:{device.profile.id}:{device.name}")
        server.disable_clock()  # it would hold up stopping by a second; the time is told when it is asked for
        server.set_endpoint(f"opc.tcp://{device.address.host}:{device.address.port}{device.address.path}")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        inner.attribute_service = attributes = _Attributes(inner.aspace, self.station)
        inner.method_service.stop()
        inner.method_service = methods = _Methods(inner.aspace, self.station)
        await self._add_nodes(server, attributes, methods)
        return server

    async def _add_nodes(self, server: Server, attributes: _Attributes, methods: _Methods) -> None:
        """Add an object that holds a variable for each signal and the identity, and the methods."""
        device = self.station.device
        profile = device.profile
        parts: list[Signal | Method] = [*profile.signals.values(), *profile.methods.values()]
        places = [profile.identity.at, *(part.at for part in parts)]
        spaces = {uri: await server.register_namespace(uri) for uri in dict.fromkeys(split_node(at)[0] for at in places)}
        identity = profile.identity
        nodes = Nodes(server.iserver.node_mgt_service, device.name, profile.description, split_node(identity.at)[0], spaces)
        nodes.variable("identity", identity.at, identity.type, identity.value, "Constant that tells this type of device from every other")
        for place, (name, signal) in enumerate(profile.signals.items()):
            node = nodes.signal(name, signal)
            source = self._source(place, signal)
            server.iserver.set_attribute_value_callback(node, lambda *_, source=source: source())
            attributes.names[node] = name
            self._watched.append((server.iserver.aspace[node].attributes[AttributeIds.Value], source))
        for name, method in profile.methods.items():
            methods.methods[nodes.method(name, method)] = (nodes.object, method)

    def _source(self, place: int, signal: Signal) -> Callable[[], ua.DataValue]:
        """Return what reads one signal."""
        type_, variant, scale, offset = signal.type, VARIANT[signal.type], signal.scale, signal.offset

        def read() -> ua.DataValue:
            value = (float(self.station.values()[place]) - offset) / scale
            status = _STATUS[int(self.station.status()[place])]
            if not math.isfinite(value):
                # an integer cannot say that it is none; its status does. One NaN, so that it equals itself
                value = math.nan if type_ in ("float32", "float64") else 0.0
            return ua.DataValue(ua.Variant(plain(value, type_), variant), StatusCode=status, SourceTimestamp=self._source_time())  # type: ignore[arg-type]  # a datetime

        return read

    def _source_time(self) -> datetime:
        now = self._now()
        if self._stamp[0] != now:
            self._stamp = (now, _EPOCH + timedelta(microseconds=now // 1000))
        return self._stamp[1]

    async def look(self) -> None:
        """Show the values to those who monitor them, each `SAMPLING` seconds."""
        now = time.monotonic()
        if now - self._looked < SAMPLING:
            return
        self._looked = now
        for held, source in self._watched:
            if held.datachange_callbacks:
                value = source()
                for handle, callback in tuple(held.datachange_callbacks.items()):
                    await callback(handle, value)
        if self.station.fallen != self._fallen:
            self._fallen = self.station.fallen
            await self._report(800, "the heartbeat has stopped; fallen to the safe state") if self._fallen else await self._report(
                200, "the heartbeat is back; outputs are taken again"
            )

    async def _report(self, severity: int, text: str) -> None:
        """Raise an event of the server, for those who watch it (OPC UA part 5, 6.4.2)."""
        event: Any = BaseEvent(message=text, severity=severity)  # type: ignore[no-untyped-call]
        event.SourceName, event.Time = self.station.device.name, self._source_time()
        await self._server.iserver.subscription_service.trigger_event(event)

    async def close(self) -> None:
        """Stop listening and drop all sessions; the address space stays for the next `open`."""
        if self._listening:
            self._listening = False
            await self._server.bserver.stop()
            await self._server.iserver.drop_sessions()

    async def end(self) -> None:
        """Close for good."""
        server, self._server = self._server, None
        if server is not None:
            self._listening = False
            await server.iserver.drop_sessions()
            await server.stop()
            await asyncio.sleep(0)

    async def changed(self) -> None:
        """Serve while the device is switched on."""
        await (self.open() if self.station.serving else self.close())

    def address(self, asked: Address) -> Address:
        """Return the address with the real port."""
        return Address(asked.scheme, asked.host, self.port, asked.path, asked.unit, asked.baud)
