"""Methods of an OPC UA device: looked up in each connection, called once, and what is known afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from drivers import eu
from drivers.device import Device, Method, Profile
from drivers.driver import WriteResult
from drivers.opcua_lookup import Limits
from drivers.opcua_told import Told
from drivers.opcua_value import VARIANT, local_node, no_to_action, plain

__all__ = ["BoundMethod", "call_method", "find_methods", "wire_inputs"]

_HAS_PROPERTY: Final = ua.NodeId(ua.Int32(ObjectIds.HasProperty))
_HAS_COMPONENT: Final = ua.NodeId(ua.Int32(ObjectIds.HasComponent))
_RESULTS: Final = (AttributeIds.NodeClass, AttributeIds.Executable, AttributeIds.UserExecutable)
_MANY: Final = 50  # references of a method are few; a server that tells of more is not followed


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """A method of the profile in this connection: its node and object, or why it cannot be called."""

    method: Method
    node: ua.NodeId = field(default_factory=ua.NodeId)
    object: ua.NodeId = field(default_factory=ua.NodeId)
    problem: str = ""


async def find_methods(client: Client, device: Device, limits: Limits, told: Told) -> dict[str, BoundMethod]:
    """Return the methods of the profile as the server offers them; one that differs is logged and will not be called."""
    spaces = limits.spaces
    methods = device.profile.methods
    nodes = {name: node for name, method in methods.items() if (node := local_node(method.at, spaces)) is not None}
    found: dict[str, BoundMethod] = {}
    if nodes:
        owners = await _browse(client, nodes, _HAS_COMPONENT, ua.BrowseDirection.Inverse, limits.browse)
        properties = await _browse(client, nodes, _HAS_PROPERTY, ua.BrowseDirection.Forward, limits.browse)
        states = await _read(client, [(node, attribute) for node in nodes.values() for attribute in _RESULTS], limits.read)
        for place, (name, node) in enumerate(nodes.items()):
            node_class, *executable = states[3 * place : 3 * place + 3]
            taken = next((one.NodeId for one in properties[name] if one.BrowseName.Name == "InputArguments"), None)
            arguments = _value((await _read(client, [(_plain_node(taken), AttributeIds.Value)], 1))[0]) if taken is not None else []
            owner, problem = _owner(methods[name], owners[name], spaces)
            if _value(node_class) != ua.NodeClass.Method:
                problem = f"{methods[name].at} is not a method of this server"
            elif any(_value(one) is False for one in executable):
                problem = f"{methods[name].at} may not be called by this user now"
            found[name] = BoundMethod(methods[name], node, owner, problem or _argument_problem(methods[name], arguments))
    for name, method in methods.items():
        bound = found.setdefault(name, BoundMethod(method, problem=f"the server offers no namespace for {method.at}"))
        if bound.problem:
            told.say(f"{device.name}.{name} cannot be called: {bound.problem}")
    return found


def _owner(method: Method, references: Sequence[ua.ReferenceDescription], spaces: Sequence[str]) -> tuple[ua.NodeId, str]:
    """Return the object that a method is called on, and why there is none."""
    if method.object:
        named = local_node(method.object, spaces)
        return (ua.NodeId(), f"the server offers no namespace for {method.object}") if named is None else (named, "")
    objects = [_plain_node(one.NodeId) for one in references if one.NodeClass in (ua.NodeClass.Object, ua.NodeClass.ObjectType)]
    if len(objects) != 1:
        return ua.NodeId(), f"{method.at} belongs to {len(objects) or 'no'} objects; name the one with `object` in the profile"
    return objects[0], ""


def _argument_problem(method: Method, arguments: object) -> str:
    """Return how the arguments that the server tells of differ from the profile's, empty if they do not."""
    if not isinstance(arguments, list) or not all(isinstance(one, ua.uaprotocol_auto.Argument) for one in arguments):
        return "what it takes cannot be read" if method.inputs else ""
    if len(arguments) != len(method.inputs):
        return f"it takes {len(arguments)} inputs ({', '.join(str(one.Name) for one in arguments)}), and the profile has {len(method.inputs)}"
    for (label, wanted), there in zip(method.inputs.items(), arguments, strict=True):
        if there.DataType != ua.NodeId(ua.Int32(getattr(ObjectIds, VARIANT[wanted.type].name))):
            return f"input {label} is a {wanted.type} in the profile, but {there.Name} of data type {there.DataType.to_string()} at the server"
    return ""


async def _browse(
    client: Client, nodes: Mapping[str, ua.NodeId], reference: ua.NodeId, direction: ua.BrowseDirection, at_once: int
) -> dict[str, list[ua.ReferenceDescription]]:
    wanted = [
        ua.BrowseDescription(NodeId=node, BrowseDirection=direction, ReferenceTypeId=reference, IncludeSubtypes=True, ResultMask=63)
        for node in nodes.values()
    ]
    results: list[ua.BrowseResult] = []
    for begin in range(0, len(wanted), at_once):
        some = wanted[begin : begin + at_once]
        results += await client.uaclient.browse(ua.BrowseParameters(RequestedMaxReferencesPerNode=ua.UInt32(_MANY), NodesToBrowse=some))
    if len(results) != len(nodes):
        raise ValueError(f"asked for the references of {len(nodes)} methods, got {len(results)}")
    return {name: list(result.References or []) for name, result in zip(nodes, results, strict=True)}


async def _read(client: Client, wanted: Sequence[tuple[ua.NodeId, AttributeIds]], at_once: int) -> list[ua.DataValue]:
    asked = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in wanted]
    found: list[ua.DataValue] = []
    for begin in range(0, len(asked), at_once):
        some = asked[begin : begin + at_once]
        found += await client.uaclient.read(ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Neither, NodesToRead=some))
    if len(found) != len(asked):
        raise ValueError(f"asked for {len(asked)} attributes, got {len(found)}")
    return found


def _value(found: ua.DataValue) -> object:
    return found.Value.Value if found.Value is not None and (found.StatusCode is None or found.StatusCode.is_good()) else None


def _plain_node(node: ua.NodeId) -> ua.NodeId:
    """Return the node id of an expanded one of this server."""
    return ua.NodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)


def wire_inputs(profile: Profile, method: Method, inputs: Mapping[str, float]) -> list[ua.Variant]:
    """Return what is sent for `inputs` [eu of the signal that each is for, else its own]; raise `ValueError` or `EuError`."""
    if unknown := set(inputs) ^ set(method.inputs):
        raise ValueError(f"it takes {', '.join(method.inputs) or 'no inputs'}; wrong or missing: {', '.join(sorted(unknown))}")
    sent = []
    for label, argument in method.inputs.items():
        value, from_eu = inputs[label], argument.eu
        if argument.writes:
            signal = profile.signals[argument.writes]
            low, high = signal.range
            from_eu = signal.eu
            if not low <= value <= high:
                raise ValueError(f"{label} {value:g} {signal.eu} is outside of the range of {argument.writes}, {low:g} to {high:g} {signal.eu}")
        converted = eu.convert(value, from_eu, argument.eu) if math.isfinite(value) else value
        sent.append(ua.Variant(plain(converted, argument.type), VARIANT[argument.type]))
    return sent


async def call_method(client: Client, bound: BoundMethod, sent: list[ua.Variant]) -> tuple[WriteResult, tuple[float, ...], str]:
    """Call once; return what is known afterwards, the outputs (NaN for one that is no number) and why it failed."""
    request = ua.CallMethodRequest(ObjectId=bound.object, MethodId=bound.node, InputArguments=sent)
    results = await client.uaclient.call([request])
    if len(results) != 1:
        raise ValueError(f"called one method, got {len(results)} results")
    result = results[0]
    code = result.StatusCode
    if code.is_bad():
        known, why = no_to_action(code.value)
        for label, one in zip(bound.method.inputs, result.InputArgumentResults or [], strict=False):
            why += f"; {label}: {one.name}" if not one.is_good() else ""
        return known, (), why
    return WriteResult.CONFIRMED, tuple(map(_number, result.OutputArguments or [])), "" if code.is_good() else code.name


def _number(variant: ua.Variant) -> float:
    return float(variant.Value) if isinstance(variant.Value, (bool, int, float)) else math.nan
