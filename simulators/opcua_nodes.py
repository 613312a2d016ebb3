"""The nodes that a device offers on OPC UA: an object with a variable for each signal, and its methods (OPC UA parts 3, 5 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import NodeManagementService
from asyncua.ua.object_ids import ObjectIds

from drivers import unece
from drivers.device import Method, Signal, SignalType
from drivers.opcua_value import VARIANT
from simulators.opcua_space import SAMPLING

__all__ = ["Nodes", "plain", "split_node"]

_READ: Final = 1  # bits of AccessLevel
_WRITE: Final = 2


def plain(value: float, type_: SignalType) -> bool | int | float:
    """Return `value` as the Python type that a variant of `type_` carries."""
    if type_ == "bool":
        return value == 1.0
    return value if type_ in ("float32", "float64") else round(value)


def split_node(at: str) -> tuple[str, str]:
    """Return the namespace URI and the rest of a node id.

    >>> split_node("nsu=urn:blackmass:shredder;s=torque")
    ('urn:blackmass:shredder', 's=torque')
    """
    uri, _, rest = at.removeprefix("nsu=").rpartition(";")
    return uri, rest


def _standard(number: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(number))


def _text(text: str) -> ua.LocalizedText:
    return ua.LocalizedText(text, "en") if text else ua.LocalizedText()


def _units(eu: str) -> ua.EUInformation:
    name = ua.LocalizedText(eu or "1")
    return ua.EUInformation(NamespaceUri=unece.NAMESPACE, UnitId=ua.Int32(unece.unit_id(eu)), DisplayName=name, Description=name)


class Nodes:
    """Adds a device's nodes to a server. `spaces` holds the index of each namespace; `object` is the device's own node."""

    def __init__(self, service: NodeManagementService, name: str, description: str, uri: str, spaces: Mapping[str, int]) -> None:
        self._service, self._spaces = service, spaces
        new = ua.NodeId(ua.Int32(0), ua.Int16(spaces[uri]))  # 0: the server finds a number
        attributes = ua.ObjectAttributes(DisplayName=_text(name), Description=_text(description))
        objects = _standard(ObjectIds.ObjectsFolder)
        self.object = self._add(new, objects, ObjectIds.Organizes, name, ua.NodeClass.Object, attributes, ObjectIds.BaseObjectType)

    def signal(self, name: str, signal: Signal) -> ua.NodeId:
        """Add the variable of a signal, an analog one with its range and eu."""
        kind = ObjectIds.BaseDataVariableType if signal.discrete else ObjectIds.AnalogUnitRangeType
        node = self.variable(name, signal.at, signal.type, 0.0, signal.description, writable=signal.access == "write", kind=kind)
        if not signal.discrete:
            low, high = signal.range
            self._property(node, "EURange", ua.Range(Low=low, High=high), ObjectIds.Range)
            self._property(node, "EngineeringUnits", _units(signal.eu), ObjectIds.EUInformation)
        return node

    def variable(
        self,
        name: str,
        at: str,
        type_: SignalType,
        value: float,
        description: str,
        *,
        writable: bool = False,
        kind: int = ObjectIds.BaseDataVariableType,
    ) -> ua.NodeId:
        """Add a variable of the object; it holds `value` until something else tells it."""
        node = self._node(at)
        attributes = self._variable(ua.Variant(plain(value, type_), VARIANT[type_]), getattr(ObjectIds, VARIANT[type_].name), writable=writable)
        attributes.DisplayName, attributes.Description = _text(name), _text(description)
        attributes.MinimumSamplingInterval = SAMPLING * 1e3
        self._add(node, self.object, ObjectIds.HasComponent, name, ua.NodeClass.Variable, attributes, kind)
        return node

    def method(self, name: str, method: Method) -> ua.NodeId:
        """Add a method of the object and say what it takes."""
        node = self._node(method.at)
        attributes = ua.MethodAttributes(DisplayName=_text(name), Description=_text(method.description), Executable=True, UserExecutable=True)
        self._add(node, self.object, ObjectIds.HasComponent, name, ua.NodeClass.Method, attributes)
        taken = [
            ua.Argument(
                Name=label,
                DataType=_standard(getattr(ObjectIds, VARIANT[argument.type].name)),
                ValueRank=ua.Int32(-1),
                Description=_text(f"{argument.description} [{argument.eu}]" if argument.eu else argument.description),
            )
            for label, argument in method.inputs.items()
        ]
        if taken:
            self._property(node, "InputArguments", taken, ObjectIds.Argument)
        return node

    def _node(self, at: str) -> ua.NodeId:
        uri, rest = split_node(at)
        return ua.NodeId.from_string(f"ns={self._spaces[uri]};{rest}")

    def _variable(self, value: ua.Variant, data_type: int, *, writable: bool = False) -> ua.VariableAttributes:
        access = _READ | (_WRITE if writable else 0)
        rank = ua.ValueRank.OneDimension if value.is_array else ua.ValueRank.Scalar
        return ua.VariableAttributes(
            Value=value,
            DataType=_standard(data_type),
            ValueRank=rank,
            ArrayDimensions=[ua.UInt32(0)] if value.is_array else [],
            AccessLevel=ua.Byte(access),
            UserAccessLevel=ua.Byte(access),
            Historizing=False,
        )

    def _property(self, owner: ua.NodeId, name: str, value: Any, data_type: int) -> None:
        """Add a property with a standard browse name, beside its owner's node id."""
        attributes = self._variable(ua.Variant(value, ua.VariantType.ExtensionObject), data_type)
        attributes.DisplayName = _text(name)
        node = ua.NodeId(ua.String(f"{owner.Identifier!s}.{name}"), owner.NamespaceIndex)
        self._add(node, owner, ObjectIds.HasProperty, name, ua.NodeClass.Variable, attributes, ObjectIds.PropertyType, space=0)

    def _add(
        self,
        node: ua.NodeId,
        parent: ua.NodeId,
        reference: int,
        name: str,
        node_class: ua.NodeClass,
        attributes: Any,
        kind: int | None = None,
        space: int | None = None,
    ) -> ua.NodeId:
        item = ua.AddNodesItem(
            ParentNodeId=parent,
            ReferenceTypeId=_standard(reference),
            RequestedNewNodeId=node,
            BrowseName=ua.QualifiedName(name, ua.UInt16(node.NamespaceIndex if space is None else space)),
            NodeClass=node_class,
            NodeAttributes=attributes,
            TypeDefinition=ua.NodeId() if kind is None else _standard(kind),
        )
        [result] = self._service.add_nodes([item])
        result.StatusCode.check()
        added: ua.NodeId = result.AddedNodeId
        return added
