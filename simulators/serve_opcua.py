"""Simulated devices on OPC UA (asyncua), one server each: values are made when they are read, writes may be refused."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AddressSpace, AttributeService
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from drivers.device import Address, SignalType
from simulators.station import Locked, Refused, Station

__all__ = ["OpcuaListener"]

logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # what matters is raised or seen by the client

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VARIANT: Final[dict[SignalType, ua.VariantType]] = {
    "bool": ua.VariantType.Boolean,
    "int16": ua.VariantType.Int16,
    "uint16": ua.VariantType.UInt16,
    "int32": ua.VariantType.Int32,
    "uint32": ua.VariantType.UInt32,
    "float32": ua.VariantType.Float,
    "float64": ua.VariantType.Double,
}

# what an instrument says of itself: 0 good, 1 uncertain, 2 failed
_STATUS: Final = tuple(
    ua.StatusCode(ua.UInt32(code)) for code in (StatusCodes.Good, StatusCodes.UncertainSensorNotAccurate, StatusCodes.BadSensorFailure)
)


def _plain(value: float, type_: SignalType) -> bool | int | float:
    """Return `value` as the Python type that a variant of `type_` carries."""
    if type_ == "bool":
        return value == 1.0
    return value if type_ in ("float32", "float64") else round(value)


class _Anonymous(UserManager):
    """Lets anonymous clients in as operators, and nobody by name: the server's own rule makes any `admin` an administrator."""

    def get_user(self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None) -> User | None:
        return None if username else User(role=UserRole.User)


class _Attributes(AttributeService):
    """Writes to a device's nodes go to the device, which may refuse them; everything else is only read."""

    def __init__(self, aspace: AddressSpace) -> None:
        super().__init__(aspace)
        self.nodes: dict[ua.NodeId, tuple[Station, str]] = {}

    async def write(self, params: ua.WriteParameters, user: User | None = None) -> list[ua.StatusCode]:
        if user is None or user.role == UserRole.Admin:  # the server itself
            return await super().write(params)
        return [ua.StatusCode(ua.UInt32(self._write(item))) for item in params.NodesToWrite]

    def _write(self, item: ua.WriteValue) -> int:
        found = self.nodes.get(item.NodeId)
        if found is None or item.AttributeId != AttributeIds.Value:
            return StatusCodes.BadUserAccessDenied
        station, name = found
        signal = station.device.profile.signals[name]
        if signal.access != "write":
            return StatusCodes.BadNotWritable
        if item.IndexRange or item.Value.SourceTimestamp or item.Value.ServerTimestamp:
            return StatusCodes.BadWriteNotSupported
        variant = item.Value.Value
        if variant is None or variant.VariantType != _VARIANT[signal.type] or variant.is_array or variant.Value is None:
            return StatusCodes.BadTypeMismatch
        try:
            station.write(name, float(variant.Value) * signal.scale + signal.offset)
        except Locked:
            return StatusCodes.BadInvalidState
        except Refused:
            return StatusCodes.BadOutOfRange
        return StatusCodes.Good


class OpcuaListener:
    """One device as an OPC UA server without security. `now` returns the plant clock [ns, UTC], for source times."""

    def __init__(self, station: Station, now: Callable[[], int]) -> None:
        self.station = station
        self._now = now
        self._server: Any = None
        self._listening = False
        self.port = station.device.address.port
        self._stamp: tuple[int, datetime] = (-1, _EPOCH)

    async def open(self) -> None:
        """Serve; raise `OSError` when the port is taken. The first time, the address space is built (about 1 s of CPU)."""
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
        server = Server(user_manager=_Anonymous())
        device = self.station.device
        collecting = gc.isenabled()
        gc.disable()  # thousands of nodes that all stay: collecting among them doubles the time
        try:
            await server.init()
        finally:
            if collecting:
                gc.enable()
        server.disable_clock()  # it would hold up stopping by a second
        server.name = f"{device.name} ({device.profile.description})"
        server.set_endpoint(f"opc.tcp://{device.address.host}:{device.address.port}{device.address.path}")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        attributes = _Attributes(server.iserver.aspace)
        server.iserver.attribute_service = attributes
        await self._add_nodes(server, attributes)
        return server

    async def _add_nodes(self, server: Any, attributes: _Attributes) -> None:
        """Add an object that holds a variable for each signal and the identity."""
        device = self.station.device
        profile = device.profile
        uri, _ = split_node(profile.identity.at)
        folder = await server.nodes.objects.add_object(await server.register_namespace(uri), device.name)
        identity = _plain(profile.identity.value, profile.identity.type)
        await folder.add_variable(await node_id(server, profile.identity.at), "identity", identity, _VARIANT[profile.identity.type])
        for place, (name, signal) in enumerate(profile.signals.items()):
            node = await node_id(server, signal.at)
            variable = await folder.add_variable(node, name, _plain(0.0, signal.type), _VARIANT[signal.type])
            if signal.access == "write":
                await variable.set_writable()
            space = node.NamespaceIndex
            low, high = signal.range
            await variable.add_property(space, "EURange", ua.Range(Low=low, High=high))
            eu = ua.EUInformation(NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact", DisplayName=ua.LocalizedText(signal.eu))
            await variable.add_property(space, "EngineeringUnits", eu)
            server.iserver.set_attribute_value_callback(node, self._source(place, signal.type, signal.scale, signal.offset))
            attributes.nodes[node] = (self.station, name)

    def _source(self, place: int, type_: SignalType, scale: float, offset: float) -> Callable[[Any, Any], ua.DataValue]:
        """Return what reads one signal."""
        variant = _VARIANT[type_]

        def read(_node: Any, _attribute: Any) -> ua.DataValue:
            value = (float(self.station.values()[place]) - offset) / scale
            status = _STATUS[int(self.station.status()[place])]
            if not math.isfinite(value) and type_ not in ("float32", "float64"):
                value = 0.0  # an integer cannot say that it is none; its status does
            return ua.DataValue(ua.Variant(_plain(value, type_), variant), StatusCode=status, SourceTimestamp=self._source_time())  # type: ignore[arg-type]  # a datetime

        return read

    def _source_time(self) -> datetime:
        now = self._now()
        if self._stamp[0] != now:
            self._stamp = (now, _EPOCH + timedelta(microseconds=now // 1000))
        return self._stamp[1]

    async def close(self) -> None:
        """Stop listening and drop all sessions; the address space stays for the next `open`."""
        if self._listening:
            self._listening = False
            await self._server.bserver.stop()

    async def end(self) -> None:
        """Close for good."""
        server, self._server = self._server, None
        if server is not None:
            self._listening = False
            await server.stop()
            await asyncio.sleep(0)

    async def changed(self) -> None:
        """Serve while the device is switched on."""
        await (self.open() if self.station.serving else self.close())

    def address(self, asked: Address) -> Address:
        """Return the address with the real port."""
        return Address(asked.scheme, asked.host, self.port, asked.path, asked.unit, asked.baud)


def split_node(at: str) -> tuple[str, str]:
    """Return the namespace URI and the rest of a node id.

    >>> split_node("nsu=urn:blackmass:shredder;s=torque")
    ('urn:blackmass:shredder', 's=torque')
    """
    uri, _, rest = at.removeprefix("nsu=").rpartition(";")
    return uri, rest


async def node_id(server: Any, at: str) -> ua.NodeId:
    """Return the node id in the server's own namespace table."""
    uri, rest = split_node(at)
    return ua.NodeId.from_string(f"ns={await server.register_namespace(uri)};{rest}")
