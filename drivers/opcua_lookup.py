"""Whether the nodes of an OPC UA server are what the profile says: asked again in each connection, since a server may restart as another."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_to_binary

from drivers import eu, unece
from drivers import opcua_messages as messages
from drivers.device import Device, Signal
from drivers.opcua_binary import length, skip_node, skip_string
from drivers.opcua_messages import ServiceFault
from drivers.opcua_reader import AT_ONCE, Found, Reader
from drivers.opcua_structure import NodeKey, Part, Structure, node_key
from drivers.opcua_table import KINDS

__all__ = ["Limits", "Structures", "Unit", "read_limits", "read_units", "signal_problems", "unit_at"]

Unit = tuple[str, int, str]  # of EUInformation: namespace, id and name

_NUMBER, _INTEGER, _UNSIGNED, _ANY, _ENUMERATION = 26, 27, 28, 24, 29  # abstract data types (part 5, 12.2)
_UNDER: Final = {_ANY: range(1, 12), _NUMBER: range(2, 12), _INTEGER: (2, 4, 6, 8), _UNSIGNED: (3, 5, 7, 9), _ENUMERATION: (6,)}
_TOO_MANY: Final = 0x80100000  # Bad_TooManyOperations
_HEAD: Final = 1024  # [B] of a request at most, without what it asks for
_BESIDE: Final = 128  # [B] at most for each node besides its id: the request to monitor it with a deadband has the most
_STEPS: Final = 12  # of a data type to a built-in one
_SAME: Final = {"°C": "degC", "℃": "degC", "µS/cm": "uS/cm", "m³": "m3", "m³/h": "m3/h", "kg/m³": "kg/m3", "l/min": "L/min", "l": "L", "1/min": "rpm"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server takes in one request; and its namespaces by their index."""

    spaces: tuple[str, ...]
    read: int = AT_ONCE
    write: int = AT_ONCE
    browse: int = AT_ONCE
    translate: int = AT_ONCE
    register: int = AT_ONCE
    monitor: int = AT_ONCE

    def within(self, largest: int, longest: int) -> Limits:
        """Return these limits for requests of at most `largest` bytes, when the longest node id has `longest`."""
        most = max((largest - _HEAD) // (longest + _BESIDE), 1)
        return replace(self, **{name: min(getattr(self, name), most) for name in _LIMITS})


_LIMITS: Final = {
    "read": "MaxNodesPerRead",
    "write": "MaxNodesPerWrite",
    "browse": "MaxNodesPerBrowse",
    "translate": "MaxNodesPerTranslateBrowsePathsToNodeIds",
    "register": "MaxNodesPerRegisterNodes",
    "monitor": "MaxMonitoredItemsPerCall",
}


async def read_limits(reader: Reader) -> Limits:
    """Read the namespaces and the limits of requests, and let the reader heed its own; raise `ValueError` when there are no namespaces."""
    names = (f"Server_ServerCapabilities_OperationLimits_{name}" for name in _LIMITS.values())
    nodes = (ObjectIds.Server_NamespaceArray, *(getattr(ObjectIds, name) for name in names))
    items = [messages.read_item(nodeid_to_binary(ua.NodeId(ua.Int32(node)))) for node in nodes]
    try:
        found = await reader.values(items)
    except ServiceFault as error:
        if error.code != _TOO_MANY:
            raise
        reader.at_once = 1  # even this was too much
        found = await reader.values(items)
    spaces, *limits = (reply.value(place) for reply, place in found)
    if not isinstance(spaces, list) or not all(isinstance(uri, str) for uri in spaces):
        raise ValueError("the server does not tell its namespaces")
    told = {name: limit for name, limit in zip(_LIMITS, limits, strict=True) if isinstance(limit, int) and 0 < limit < AT_ONCE}
    reader.at_once = told.setdefault("read", reader.at_once)
    return Limits(tuple(spaces), **told)


async def signal_problems(
    client: Client, reader: Reader, device: Device, nodes: Sequence[bytes], structures: Structures, units: Mapping[int, tuple[bytes, Unit]]
) -> list[str]:
    """Return why each signal cannot be used, empty when it can; `nodes` are of the signals, in the order of the profile, and `units` by that."""
    signals = tuple(device.profile.signals.values())
    types = await reader.values([messages.read_item(node, AttributeIds.DataType) for node in nodes])
    named = [place for place, signal in enumerate(signals) if signal.browse_name]
    names = dict(zip(named, await reader.values([messages.read_item(nodes[place], AttributeIds.BrowseName) for place in named]), strict=True))
    problems = []
    for place, signal in enumerate(signals):
        problem = await _type_problem(client, structures, place, signal, *types[place])
        if not problem and place in names:
            problem = _name_problem(signal, *names[place])
        problems.append(problem or _eu_problem(signal, units[place][1] if place in units else None))
    return problems


def _status(found: Found, place: int) -> str:
    return str(ua.StatusCode(ua.UInt32(found.columns.status[place])).name)


async def _type_problem(client: Client, structures: Structures, place: int, signal: Signal, found: Found, at: int) -> str:
    if not found.good(at) or found.columns.kind[at] != 17:
        return f"{signal.at}: {_status(found, at) if found.columns.status[at] else 'no data type'}"
    key, _ = node_key(found.data, found.start(at))
    if signal.field:
        return await structures.learn(place, signal, key)
    base = await structures.base(client, key)
    if base == KINDS[signal.type] or KINDS[signal.type] in _UNDER.get(base, ()):
        return ""
    return f"{signal.at} has data type {_type_name(key)}, expected {ua.VariantType(KINDS[signal.type]).name}; check the profile"


def _type_name(key: NodeKey) -> str:
    if key[0] == 0 and isinstance(key[1], int) and 1 <= key[1] <= 25:
        return str(ua.VariantType(key[1]).name)
    return str(_node_id(key).to_string())


def _name_problem(signal: Signal, found: Found, at: int) -> str:
    name = found.value(at)
    there = name.Name if isinstance(name, ua.QualifiedName) else None
    return "" if there == signal.browse_name else f"{signal.at} has browse name {there!r}, expected {signal.browse_name!r}: it is another node"


async def read_units(reader: Reader, signals: Sequence[Signal], nodes: Sequence[bytes], at_once: int) -> dict[int, tuple[bytes, Unit]]:
    """Return the EngineeringUnits of those signals whose node has them: the node of the property, and what it says.

    The server looks up `at_once` properties in one request.
    """
    wanted = [place for place, signal in enumerate(signals) if signal.eu and not signal.discrete and not signal.field]
    properties: dict[int, bytes] = {}
    for begin in range(0, len(wanted), at_once):
        some = wanted[begin : begin + at_once]
        data, handle = await reader.channel.ask(
            messages.TRANSLATE, messages.property_body([nodes[place] for place in some], "EngineeringUnits"), reader.timeout
        )
        found = messages.property_reply(data, len(some), handle)
        properties |= {place: node for place, node in zip(some, found, strict=True) if node}
    values = await reader.values([messages.read_item(node) for node in properties.values()])
    return {
        place: (node, unit) for (place, node), (found, at) in zip(properties.items(), values, strict=True) if (unit := unit_at(found, at)) is not None
    }


def unit_at(found: Found, at: int) -> Unit | None:
    """Return an EUInformation (part 8, 5.6.3): namespace, id and display name."""
    if not found.good(at) or found.columns.kind[at] != 22:
        return None
    data, start = found.data, found.start(at)
    key, start = node_key(data, start)
    if key != (0, ObjectIds.EUInformation_Encoding_DefaultBinary) or data[start] != 1:
        return None
    _, start = length(data, start + 1)
    n, start = length(data, start)
    space, start = data[start : start + n].decode(errors="replace"), start + n
    (number,) = struct.unpack_from("<i", data, start)
    mask, start = data[start + 4], start + 5
    if mask & 1:
        start = skip_string(data, start)
    if not mask & 2:
        return space, number, ""
    n, start = length(data, start)
    return space, number, data[start : start + n].decode(errors="replace")


def _eu_problem(signal: Signal, unit: Unit | None) -> str:
    """Return how the server's eu differs from the profile's; one that cannot be told is taken as the same."""
    if unit is None:
        return ""
    space, number, name = unit
    name = _SAME.get(name, name)
    code = unece.unit_id(signal.eu)
    coded = space == unece.NAMESPACE and number > 0 and code > 0
    same = number == code if coded else name == signal.eu or not name or not eu.known(name)
    if same:
        return ""
    return f"{signal.at} is in {name or unece.code_of(number)!r} at the server, and in {signal.eu!r} in the profile; set one of them right"


class Structures:
    """Data types of one connection: what they are under, and what structures are made of."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._bases: dict[NodeKey, int] = {}
        self._known: dict[NodeKey, Structure | str | int] = {}  # a built-in type, or why it cannot be used
        self.of_signal: dict[int, Structure] = {}

    async def base(self, client: Client, key: NodeKey) -> int:
        """Return the built-in or abstract standard data type that a data type is, or is under; 0 when it is under none."""
        if key not in self._bases:
            self._bases[key] = 0
            at = key
            for _ in range(_STEPS):
                if at[0] == 0 and isinstance(at[1], int) and at[1] <= _ENUMERATION:
                    self._bases[key] = at[1]
                    break
                above = await _supertype(client, at)
                if above is None:
                    break
                at = above
        return self._bases[key]

    async def learn(self, place: int, signal: Signal, key: NodeKey) -> str:
        """Learn the structure of a signal; return why its field cannot be read, empty when it can."""
        structure = await self._define(key, 0)
        if not isinstance(structure, Structure):
            return f"{signal.at} is no structure that can be read: {structure}"
        part = structure.find(signal.field.split("."))
        if part is None or part.inner is not None:
            there = ", ".join(part.name for part in structure.parts)
            return f"{signal.at} has no field {signal.field} that is a number; it has {there}"
        if part.kind != KINDS[signal.type]:
            return f"{signal.at}: field {signal.field} is a {ua.VariantType(part.kind).name}, expected {ua.VariantType(KINDS[signal.type]).name}"
        self.of_signal[place] = structure
        return ""

    async def _define(self, key: NodeKey, depth: int) -> Structure | str | int:
        """Return what a data type is made of, the number of a built-in one, or why it is not known."""
        if key[0] == 0 and isinstance(key[1], int) and key[1] <= 25:
            return key[1]
        if key not in self._known:
            self._known[key] = "it is inside itself"
            self._known[key] = await self._ask(key, depth)
        return self._known[key]

    async def _ask(self, key: NodeKey, depth: int) -> Structure | str | int:
        if depth > _STEPS:
            return "it is too deep"
        [(found, at)] = await self._reader.values([messages.read_item(nodeid_to_binary(_node_id(key)), AttributeIds.DataTypeDefinition)])
        definition = found.value(at)
        if isinstance(definition, ua.EnumDefinition):
            return 6
        if not isinstance(definition, ua.StructureDefinition):
            return f"the server does not define data type {_node_id(key).to_string()}"
        if definition.StructureType not in (ua.StructureType.Structure, ua.StructureType.StructureWithOptionalFields):
            return f"data type {_node_id(key).to_string()} is a {definition.StructureType.name}"
        parts = []
        for one in definition.Fields or ():
            inner, _ = node_key(nodeid_to_binary(one.DataType), 0)
            what = await self._define(inner, depth + 1)
            if isinstance(what, str) or one.ValueRank not in (-1, 1):
                return f"field {one.Name}: {what if isinstance(what, str) else 'it is a matrix'}"
            kind, structure = (what, None) if isinstance(what, int) else (0, what)
            parts.append(Part(str(one.Name), kind, structure, one.ValueRank == 1, bool(one.IsOptional)))
        encoding, _ = node_key(nodeid_to_binary(definition.DefaultEncodingId), 0)
        return Structure(encoding, tuple(parts))


def _node_id(key: NodeKey) -> ua.NodeId:
    space, identifier = key
    if isinstance(identifier, int):
        return ua.NodeId(ua.Int32(identifier), ua.Int16(space), ua.NodeIdType.Numeric)
    if identifier[0] == 3:
        return ua.NodeId(ua.String(identifier[5:].decode()), ua.Int16(space))
    raise ValueError(f"data type with a node id of form {identifier[0]}")


async def _supertype(client: Client, key: NodeKey) -> NodeKey | None:
    """Return the data type above one."""
    wanted = ua.BrowseDescription(
        NodeId=_node_id(key),
        BrowseDirection=ua.BrowseDirection.Inverse,
        ReferenceTypeId=ua.NodeId(ua.Int32(ObjectIds.HasSubtype)),
        IncludeSubtypes=False,
        ResultMask=ua.UInt32(0),
    )
    [result] = await client.uaclient.browse(ua.BrowseParameters(RequestedMaxReferencesPerNode=ua.UInt32(1), NodesToBrowse=[wanted]))
    for reference in result.References or ():
        data = nodeid_to_binary(reference.NodeId)
        skip_node(data, 0)
        return node_key(data, 0)[0]
    return None
