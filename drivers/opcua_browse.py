"""A walk through the address space of an OPC UA server, within bounds and only reading: what could be signals and methods of a profile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from drivers import unece
from drivers.opcua_channel import Channel
from drivers.opcua_value import portable_node

__all__ = ["Argument", "Bounds", "FoundMethod", "FoundVariable", "Survey", "walk"]


def _standard(number: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(number))


_OBJECTS: Final = _standard(ObjectIds.ObjectsFolder)
_HIERARCHICAL: Final = _standard(ObjectIds.HierarchicalReferences)
_HAS_PROPERTY: Final = _standard(ObjectIds.HasProperty)
_TYPES: Final = {
    getattr(ObjectIds, name): name
    for name in (
        "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String", "DateTime", "Guid",
        "ByteString", "LocalizedText", "Duration", "UtcTime", "Number", "Integer", "UInteger", "Enumeration", "Structure", "Range", "EUInformation",
    )
}  # fmt: skip
_ATTRIBUTES: Final = (AttributeIds.DataType, AttributeIds.ValueRank, AttributeIds.AccessLevel, AttributeIds.UserAccessLevel, AttributeIds.Description)
_CHUNK: Final = 20  # nodes a request: small servers take about a hundred operations at once
_MANY: Final = 1000  # attributes, where the server tells no limit
_LARGE: Final = 350  # [B] of a request for one node with a long name, and of what stands around all
_LIMITS: Final = (
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
)
_PRODUCT: Final = (ObjectIds.Server_ServerStatus_BuildInfo_ManufacturerName, ObjectIds.Server_ServerStatus_BuildInfo_ProductName)
_REFERENCES: Final = 500  # of a node, asked for at once
_LONGEST: Final = 200  # characters of a name or description that are kept


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a walk ends, whatever a server offers."""

    depth: int = 12
    nodes: int = 20_000
    seconds: float = 60.0


@dataclass(slots=True)
class FoundVariable:
    """A variable: where it is, and what the server says of it."""

    path: tuple[str, ...]  # browse names below Objects
    at: str  # node id with its namespace URI
    property: bool  # of an object
    browse_name: str = ""  # empty where it cannot be written down as it is
    type: str = ""  # name of a standard data type, else its node id
    rank: int = -1  # -1 scalar, 1 array
    readable: bool = False
    writable: bool = False
    description: str = ""
    value: Any = None
    range: tuple[float, float] | None = None  # EURange
    unit: tuple[int, str] | None = None  # UnitId and display name
    seen: bool = True  # whether the walk got as far as to read what is above, and
    told: bool = True  # its range and unit


@dataclass(frozen=True, slots=True)
class Argument:
    """An input of a method: its name, its data type as for a variable, and whether it is a scalar."""

    name: str
    type: str
    scalar: bool
    description: str


@dataclass(slots=True)
class FoundMethod:
    """A method: where it is, the objects it was found at, and what it takes; None when that cannot be read."""

    path: tuple[str, ...]
    at: str
    objects: list[str] = field(default_factory=list)
    inputs: tuple[Argument, ...] | None = ()


@dataclass(slots=True)
class Survey:
    """What a walk has found, in the order of the server; `cut` tells why it is not all."""

    server: str
    variables: list[FoundVariable] = field(default_factory=list)
    methods: list[FoundMethod] = field(default_factory=list)
    notifiers: list[tuple[tuple[str, ...], str]] = field(default_factory=list)  # objects that report events: path, node id
    cut: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    node: ua.NodeId
    path: tuple[str, ...]
    at: str


class _Walk:
    """One walk, breadth first; a node is visited once, by its shortest path."""

    def __init__(self, client: Client, spaces: Sequence[str], bounds: Bounds, limits: tuple[int, int]) -> None:
        self._client, self._spaces, self._bounds = client, spaces, bounds
        self._at_once, self._browsed_at_once = limits
        self._end = time.monotonic() + bounds.seconds
        self._seen: set[tuple[int, Any]] = set()
        self._methods: dict[str, FoundMethod] = {}
        self._variables: dict[str, FoundVariable] = {}
        self._nodes: dict[str, ua.NodeId] = {}
        self._objects: list[_Place] = []
        self._units: list[tuple[FoundVariable, str, ua.NodeId]] = []
        self._inputs: list[tuple[FoundMethod, ua.NodeId]] = []
        self._looked: set[str] = set()  # whose references are all known
        self.survey = Survey("")

    async def run(self) -> Survey:
        survey = self.survey
        level = [_Place(_OBJECTS, (), "")]
        for _ in range(self._bounds.depth):
            if not level or survey.cut:
                break
            level = [place async for place in self._below(level)]
        if level and not survey.cut:
            survey.cut = f"deeper than {self._bounds.depth} levels"
        await self._unlooked()
        await self._attributes()
        await self._properties()
        await self._notifiers()
        survey.variables, survey.methods = list(self._variables.values()), list(self._methods.values())
        return survey

    async def _below(self, level: Sequence[_Place]) -> Any:
        for chunk in _chunks(level):
            if time.monotonic() > self._end:
                self.survey.cut = f"it took more than {self._bounds.seconds:g} s"
                return
            for place, references in zip(chunk, await self._references([place.node for place in chunk]), strict=True):
                for reference in references:
                    if len(self._seen) > self._bounds.nodes:
                        self.survey.cut = f"more than {self._bounds.nodes} nodes"
                        return
                    if (found := self._note(place, reference)) is not None:
                        yield found
                self._looked.add(place.at)

    def _note(self, parent: _Place, reference: ua.ReferenceDescription) -> _Place | None:
        """Note one reference; return what is to be looked at below it."""
        target = reference.NodeId
        if getattr(target, "ServerIndex", None):
            return None  # another server's
        if target.NamespaceIndex == 0 and not parent.path:
            return None  # Server, Aliases, Locations ...: of the server, not of the device
        node = ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
        try:
            place = _Place(node, (*parent.path, _clean(reference.BrowseName.Name)), portable_node(node, self._spaces))
        except ValueError:
            return None
        if reference.NodeClass == ua.NodeClass.Method:
            self._note_method(place, parent)
        key = (node.NamespaceIndex, node.Identifier)
        if key in self._seen:
            return None
        self._seen.add(key)
        if reference.NodeClass == ua.NodeClass.Variable:
            is_property = reference.ReferenceTypeId == _HAS_PROPERTY
            return self._note_variable(place, parent, str(reference.BrowseName.Name), is_property=is_property)
        if reference.NodeClass == ua.NodeClass.Object:
            self._objects.append(place)
        return place if reference.NodeClass in (ua.NodeClass.Object, ua.NodeClass.Method) else None

    def _note_method(self, place: _Place, parent: _Place) -> None:
        method = self._methods.setdefault(place.at, FoundMethod(place.path, place.at))
        self._nodes[place.at] = place.node
        if parent.at and parent.at not in method.objects:
            method.objects.append(parent.at)

    def _note_variable(self, place: _Place, parent: _Place, name: str, *, is_property: bool) -> _Place | None:
        if parent.at in self._methods or (is_property and parent.at in self._variables):
            self._note_property(parent.at, place.path[-1], place.node)
            return None
        kept = name if place.path[-1] == name else ""
        self._variables[place.at] = FoundVariable(place.path, place.at, is_property, kept, seen=False, told=is_property)
        self._nodes[place.at] = place.node
        return None if is_property else place

    def _note_property(self, owner: str, name: str, node: ua.NodeId) -> None:
        """Note what tells of its variable or method."""
        if owner in self._methods and name == "InputArguments":
            self._inputs.append((self._methods[owner], node))
        elif owner in self._variables and name in ("EURange", "EngineeringUnits"):
            self._units.append((self._variables[owner], name, node))

    async def _unlooked(self) -> None:
        """Find the properties of what the walk met and did not look below, since it ended there; nothing else there is noted."""
        left = [at for at, one in self._variables.items() if not one.property and at not in self._looked]
        left += [at for at in self._methods if at not in self._looked]
        for chunk in _chunks(left):
            if time.monotonic() > self._end:
                return
            for at, references in zip(chunk, await self._references([self._nodes[at] for at in chunk], _HAS_PROPERTY), strict=True):
                for reference in references:
                    target = reference.NodeId
                    if not getattr(target, "ServerIndex", None):
                        node = ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
                        self._note_property(at, _clean(reference.BrowseName.Name), node)
                self._looked.add(at)

    async def _references(self, nodes: Sequence[ua.NodeId], kind: ua.NodeId = _HIERARCHICAL) -> list[list[ua.ReferenceDescription]]:
        return [found for some in _chunks(nodes, self._browsed_at_once) for found in await self._references_at_once(some, kind)]

    async def _references_at_once(self, nodes: Sequence[ua.NodeId], kind: ua.NodeId) -> list[list[ua.ReferenceDescription]]:
        wanted = [
            ua.BrowseDescription(NodeId=node, BrowseDirection=ua.BrowseDirection.Forward, ReferenceTypeId=kind, IncludeSubtypes=True, ResultMask=63)
            for node in nodes
        ]
        results = await self._client.uaclient.browse(ua.BrowseParameters(RequestedMaxReferencesPerNode=ua.UInt32(_REFERENCES), NodesToBrowse=wanted))
        if len(results) != len(nodes):
            raise ValueError(f"asked for the references of {len(nodes)} nodes, got {len(results)}")
        found = [list(result.References or []) for result in results]
        open_ = {place: result.ContinuationPoint for place, result in enumerate(results) if result.ContinuationPoint}
        while open_ and sum(map(len, found)) < self._bounds.nodes and time.monotonic() < self._end:
            more = await self._client.uaclient.browse_next(
                ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=list(open_.values()))
            )
            if len(more) != len(open_):
                raise ValueError(f"asked for {len(open_)} lists of references to go on, got {len(more)}")
            for place, result in zip(list(open_), more, strict=True):
                found[place] += result.References or []
                if result.ContinuationPoint and result.References:
                    open_[place] = result.ContinuationPoint
                else:
                    del open_[place]
        return found

    async def _attributes(self) -> None:
        for chunk in _chunks(list(self._variables.values())):
            if time.monotonic() > self._end:
                self.survey.cut = self.survey.cut or f"it took more than {self._bounds.seconds:g} s"
                return
            wanted = [(self._nodes[one.at], attribute) for one in chunk for attribute in _ATTRIBUTES]
            values = iter(await self._read(wanted))
            for one in chunk:
                kind, rank, access, mine, says = (next(values) for _ in _ATTRIBUTES)
                one.seen, one.type = True, _type(kind)
                one.rank = rank if isinstance(rank, int) else -1
                level = (access if isinstance(access, int) else 0) & (mine if isinstance(mine, int) else 0)
                one.readable, one.writable = bool(level & 1), bool(level & 2)
                one.description = _clean(says.Text) if isinstance(says, ua.LocalizedText) else ""
        plain = [one for one in self._variables.values() if one.readable and one.rank < 0 and one.type in _TYPES.values()]
        for chunk in _chunks(plain):
            for one, value in zip(chunk, await self._read([(self._nodes[one.at], AttributeIds.Value) for one in chunk]), strict=True):
                one.value = value if isinstance(value, (bool, int, float)) else _clean(value) or None

    async def _properties(self) -> None:
        """Read what tells of variables and methods; of those that the walk did not look at it is not known."""
        for variable in self._variables.values():
            variable.told = variable.told or variable.at in self._looked
        for method in self._methods.values():
            if method.at not in self._looked:
                method.inputs = None
        for units in _chunks(self._units):
            for (one, name, _), value in zip(units, await self._read([(node, AttributeIds.Value) for _, _, node in units]), strict=True):
                if name == "EURange" and isinstance(value, ua.Range):
                    one.range = (float(value.Low), float(value.High))
                elif name == "EngineeringUnits" and isinstance(value, ua.EUInformation):
                    known = value.NamespaceUri == unece.NAMESPACE  # else the number is somebody's own
                    one.unit = (int(value.UnitId) if known else -1, _clean(value.DisplayName.Text))
        for inputs in _chunks(self._inputs):
            for (method, _), value in zip(inputs, await self._read([(node, AttributeIds.Value) for _, node in inputs]), strict=True):
                method.inputs = _arguments(value)

    async def _notifiers(self) -> None:
        for chunk in _chunks(self._objects):
            for place, value in zip(chunk, await self._read([(place.node, AttributeIds.EventNotifier) for place in chunk]), strict=True):
                if isinstance(value, int) and value & 1:
                    self.survey.notifiers.append((place.path, place.at))

    async def _read(self, wanted: Sequence[tuple[ua.NodeId, AttributeIds]]) -> list[Any]:
        """Return the values; None for what cannot be read."""
        return [value for some in _chunks(wanted, self._at_once) for value in await _values(self._client, some)]


async def _values(client: Client, wanted: Sequence[tuple[ua.NodeId, AttributeIds]]) -> list[Any]:
    """Return what one request reads; None for what cannot be read."""
    asked = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in wanted]
    found = await client.uaclient.read(ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Neither, NodesToRead=asked))
    if len(found) != len(asked):
        raise ValueError(f"asked for {len(asked)} attributes, got {len(found)}")
    return [one.Value.Value if one.Value is not None and (one.StatusCode is None or one.StatusCode.is_good()) else None for one in found]


def _chunks(things: Sequence[Any], at_once: int = _CHUNK) -> Iterator[Any]:
    return (things[place : place + at_once] for place in range(0, len(things), at_once))


def _clean(text: Any) -> str:
    """Return a stranger's text on one line, without control characters, and not endless."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST]).strip() if isinstance(text, str) else ""


def _type(node: Any) -> str:
    if not isinstance(node, ua.NodeId):
        return "unknown"
    return _TYPES.get(node.Identifier, node.to_string()) if node.NamespaceIndex == 0 else node.to_string()


def _arguments(value: Any) -> tuple[Argument, ...] | None:
    if not isinstance(value, list) or not all(isinstance(one, ua.uaprotocol_auto.Argument) for one in value):
        return None
    return tuple(Argument(_clean(one.Name), _type(one.DataType), one.ValueRank == -1, _clean(one.Description.Text)) for one in value)


async def walk(client: Client, bounds: Bounds = Bounds()) -> Survey:  # frozen
    """Return what there is below Objects, without the standard objects there. Nothing is written; what cannot be read is left open."""
    spaces = await client.get_namespace_array()
    limits = [await _standard_value(client, number) for number in _LIMITS]  # one by one: some take no two at once
    fit = max(Channel(client).largest // _LARGE, 1)
    at_once, browsed = (min(limit if isinstance(limit, int) and limit > 0 else _MANY, fit) for limit in limits)
    found = await _Walk(client, spaces, bounds, (at_once, browsed)).run()
    words = [_clean(await _standard_value(client, number)) for number in _PRODUCT]
    found.server = " ".join(filter(None, words))
    return found


async def _standard_value(client: Client, number: int) -> Any:
    [value] = await _values(client, [(_standard(number), AttributeIds.Value)])
    return value
