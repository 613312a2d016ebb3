"""What is found out in one connection to an OPC UA server: its nodes, whether they are what the profile says, and its identity.

Namespace indices, data types and the identity are looked up again in each connection, an *epoch*, since a server that restarts
with other indices would otherwise bring another node's value as ours.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from drivers.device import Device, Signal
from drivers.opcua_method import BoundMethod, find_methods
from drivers.opcua_value import VARIANT, local_node

__all__ = ["Session", "WrongDevice", "check_identity", "good", "look_up", "reading"]

log = logging.getLogger(__name__)


class WrongDevice(Exception):
    """The server answers, but it is not the device of the profile."""


@dataclass(frozen=True, slots=True)
class Session:
    """One connection: its client, and what was found out in it. `nodes` and `wrong` are in the order of the profile."""

    client: Client
    nodes: tuple[ua.NodeId, ...]
    wrong: tuple[str, ...]  # why a node cannot be used; empty when it can
    request: ua.ReadParameters  # all values, and the identity last
    methods: dict[str, BoundMethod]
    spaces: tuple[str, ...]  # namespace URIs by their index


async def look_up(client: Client, device: Device) -> Session:
    """Resolve namespaces, check data types and the identity; raise `WrongDevice`."""
    profile = device.profile
    signals = tuple(profile.signals.values())
    spaces = await client.get_namespace_array()
    nodes = [_node(at, spaces, str(device.address)) for at in (*(s.at for s in signals), profile.identity.at)]
    types = await client.uaclient.read_attributes(nodes[:-1], AttributeIds.DataType)
    wrong = [_type_problem(signal, found) for signal, found in zip(signals, types, strict=True)]
    for name, problem in zip(profile.names, wrong, strict=True):
        if problem:
            log.error("%s.%s is not used: %s", device.name, name, problem)
    request = reading(nodes)
    check_identity(device, (await client.uaclient.read(request))[-1])
    methods = await find_methods(client, device, spaces)
    return Session(client, tuple(nodes[:-1]), tuple(wrong), request, methods, tuple(spaces))


def check_identity(device: Device, found: ua.DataValue) -> None:
    """Raise `WrongDevice` when what was read is not the profile's identity."""
    identity = device.profile.identity
    at = identity.at
    if found.Value is None or found.Value.Value is None or not good(found):
        status = found.StatusCode.name if found.StatusCode is not None else "no value"
        raise WrongDevice(f"identity at {at} could not be read ({status}): another device answers at {device.address}")
    if found.Value.Value != identity.value:
        expected = f"expected {identity.value:g}: another device answers at {device.address}"
        raise WrongDevice(f"identity is {found.Value.Value} at {at}, {expected}")


def _node(at: str, spaces: list[str], where: str) -> ua.NodeId:
    """Return the node id with this epoch's namespace index; raise `WrongDevice` when the server does not have the namespace."""
    node = local_node(at, spaces)
    if node is None:
        uri = at.removeprefix("nsu=").rpartition(";")[0]
        raise WrongDevice(f"{where} offers no namespace {uri}: another device answers, or its software has changed")
    return node


def reading(nodes: list[ua.NodeId]) -> ua.ReadParameters:
    """Return the request for the values of `nodes` and their source times."""
    wanted = [ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in nodes]
    return ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Source, NodesToRead=wanted)


def _type_problem(signal: Signal, found: ua.DataValue) -> str:
    """Return why a node cannot be the signal, by its DataType attribute; empty when it can."""
    if not good(found) or found.Value is None:
        return f"{signal.at}: {found.StatusCode.name if found.StatusCode is not None else 'no data type'}"
    expected = ua.NodeId(ua.Int32(getattr(ObjectIds, VARIANT[signal.type].name)))
    if found.Value.Value != expected:
        return f"{signal.at} has data type {found.Value.Value.to_string()}, expected {VARIANT[signal.type].name}; check the profile"
    return ""


def good(found: ua.DataValue) -> bool:
    """Whether its status is good."""
    return found.StatusCode is None or found.StatusCode.is_good()
