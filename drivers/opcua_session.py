"""One connection to an OPC UA server, an *epoch*: what was found out in it, and the values that come by it.

Namespace indices, data types, units and the identity are looked up again in each, since a server that restarts with other indices
would otherwise bring another node's value as ours; and nothing that an epoch brings outlives it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.ua_binary import nodeid_to_binary

from drivers import opcua_messages as messages
from drivers.device import Device
from drivers.driver import DriverMetrics, ErrorKind, Reading
from drivers.opcua_channel import Channel
from drivers.opcua_codec import Columns
from drivers.opcua_lookup import Limits, Structures, read_limits, read_units, signal_problems
from drivers.opcua_messages import ServiceFault
from drivers.opcua_method import BoundMethod, find_methods
from drivers.opcua_reader import Found, Reader
from drivers.opcua_structure import find_number
from drivers.opcua_subscription import NoSubscription, Subscription, note
from drivers.opcua_table import Places, Table
from drivers.opcua_told import Told
from drivers.opcua_upkeep import Upkeep
from drivers.opcua_value import local_node
from drivers.tags import BoolArray

__all__ = ["Lost", "Session", "WrongDevice", "open_session"]

log = logging.getLogger(__name__)

_BEAT: Final = 1.0  # [s] between two looks at the identity of a device that is subscribed to
_AUDIT: Final = 1.0  # [s] between two reads of all that is reported; three of its quickest periods where that is longer
_VERIFY: Final = 30.0  # [s] between two questions whether all monitored items exist
_AGAIN: Final = 60.0  # [s] until a server that had no subscription for us is asked again
_LONGEST: Final = 246  # characters of a text
_PAUSE: Final = 0.005  # [s]
_SILENT: Final = 5  # reads in a row that find an unreported change, until that is more than a slow server
_UNKNOWN: Final = (0x80330000, 0x80340000)  # Bad_NodeIdInvalid, Bad_NodeIdUnknown
_UNSUPPORTED: Final = 0x800B0000  # Bad_ServiceUnsupported


class WrongDevice(Exception):
    """The server answers, but it is not the device of the profile."""


class Lost(Exception):
    """The epoch is over; `kind` is what is counted."""

    def __init__(self, kind: ErrorKind, why: str) -> None:
        super().__init__(why)
        self.kind: ErrorKind = kind


class _Parcel(NamedTuple):
    """A request, how many values it reads, whether the last is the identity, where the others go, and which of those can be used."""

    body: bytes
    n: int
    apart: int
    places: Places
    used: BoolArray


class Nodes(NamedTuple):
    """The nodes of an epoch: as on the wire, but for those that are monitored."""

    signals: tuple[bytes, ...]  # in the order of the profile
    monitored: list[ua.NodeId]  # of the table's items
    read: list[bytes]  # of the table's items: these, or what the server has registered for them
    identity: bytes


class Session:
    """One connection and what comes by it. `wrong` says why a signal is not used, in the order of the profile."""

    def __init__(
        self,
        client: Client,
        device: Device,
        metrics: DriverMetrics,
        reader: Reader,
        limits: Limits,
        nodes: Nodes,
        wrong: tuple[str, ...],
        table: Table,
        upkeep: Upkeep,
    ) -> None:
        self.client, self.reader, self.limits, self.nodes, self.wrong, self.table = client, reader, limits, nodes, wrong, table
        self.methods: dict[str, BoundMethod] = {}
        self.texts: dict[str, str] = {}  # what the device says of itself
        self.registered = False  # whether reads ask for what the server has registered, and it has answered
        self.subscription: Subscription | None = None
        self._upkeep = upkeep
        self._device, self._metrics = device, metrics
        self._audit_every = max(_AUDIT, 3.0 * float(device.periods.min()))
        self._beat_due = 0.0  # [s] monotonic
        self._audit_due = time.monotonic() + self._audit_every
        self._verify_due = time.monotonic() + _VERIFY
        self._looked = 0.0
        self._can_verify = True
        self._again: asyncio.Task[None] | None = None
        self._again_due = math.inf
        table.patience = np.maximum(np.ceil(3.0 * device.periods / self._audit_every), 1.0).astype(np.intp)
        self._parcels = _parcels(table, nodes, reader.at_once)
        self._identity = messages.read_body([messages.read_item(nodes.identity)])

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self.reader.channel.closed

    async def refresh(self) -> None:
        """Bring the table up to date, or make sure that it is; raise `Lost`, `WrongDevice` or what a reader raises."""
        subscription = self.subscription
        if subscription is None:
            self._ask_again()
            await self.read_all()
            if time.monotonic() >= self._upkeep.due:
                await self.look_after()
            return
        self._listen(subscription)
        now = time.monotonic()
        if subscription.reread or now >= self._audit_due:
            await self._audit(subscription, now)
        elif now >= self._beat_due or now - subscription.heard > subscription.late:
            await self._beat(subscription)
        elif now - self._looked < _PAUSE:
            await asyncio.sleep(0)  # who reads without a pause must not keep what is published from coming in
        if now >= self._upkeep.due:
            await self.look_after()
        self._looked = now
        self._listen(subscription)
        if (silence := time.monotonic() - subscription.heard) > subscription.silence:
            raise Lost("timeout", f"the server answers, but has published nothing for {silence:.1f} s")

    async def look_after(self) -> None:
        """Raise `Lost` when the server says that its values cannot be used, or are in something else."""
        if why := await self._upkeep.look():
            raise Lost("type", why)

    async def subscribe(self) -> str:
        """Subscribe to all items; return why the server does not let us, empty when it does. Until then they are polled."""
        channel = self.reader.channel
        subscription = Subscription(self.client, channel, self.table, self._device, self._metrics)
        subscription.at_once = min(subscription.at_once, self.limits.monitor)
        channel.own_publishing()
        self.table.unband()
        try:
            await subscription.open(self.nodes.monitored)
        except NoSubscription as error:
            subscription.publishing.close()
            channel.release_publishing()
            self.table.band_all()
            if not self._device.profile.opcua.events:  # asyncua publishes those from now on, which cannot be taken back without losing some
                self._again_due = time.monotonic() + _AGAIN
            return str(error)
        self.subscription, self._again_due = subscription, math.inf
        self._beat_due, self._audit_due = 0.0, time.monotonic() + self._audit_every
        return ""

    def _ask_again(self) -> None:
        """Ask for a subscription again from time to time, beside the polling: the server may have had none to spare."""
        if self._again is not None and self._again.done():
            again, self._again = self._again, None
            again.result()
        if self._again is None and time.monotonic() >= self._again_due:
            self._again = asyncio.create_task(self._subscribe_again(), name=f"subscribe to {self._device.name}")

    async def _subscribe_again(self) -> None:
        if not await self.subscribe():
            log.info("%s is subscribed to from now on", self._device.name)

    def _listen(self, subscription: Subscription) -> None:
        if (failure := subscription.publishing.failure) is not None:
            raise Lost(*failure)
        if subscription.changed:
            raise Lost("type", "the server says that the meaning of values has changed; looking all of them up again")

    async def _beat(self, subscription: Subscription) -> None:
        """Make sure that the session answers, as the device of the profile."""
        sent = time.monotonic()
        found = await self.reader.one(self._identity, 1)
        self._beat_due = sent + _BEAT
        self._metrics.round_trip = time.monotonic() - sent
        subscription.clock(sent, found.header.time)
        self._check_identity(found.columns)

    async def _audit(self, subscription: Subscription, now: float) -> None:
        """Read everything, and compare it with what was reported."""
        subscription.reread = False
        found, sent = await self.read_all()
        subscription.clock(sent, found.header.time)
        self.table.compare()
        doubt = int(self.table.doubt.max(initial=0))
        if doubt >= _SILENT:
            raise Lost("reply", "values have changed that the subscription does not report")
        if doubt:
            self._verify_due = now
        self._audit_due = now + self._audit_every
        self._beat_due = now + _BEAT
        if self._can_verify and now >= self._verify_due:
            self._verify_due = now + _VERIFY
            try:
                await subscription.verify(self.reader.timeout)
            except ServiceFault as error:
                if error.code != _UNSUPPORTED:
                    raise
                self._can_verify = False

    async def read_all(self) -> tuple[Found, float]:
        """Read all items and the identity into the table; return the last reply and when it was asked for [s, monotonic]."""
        begun = time.monotonic()
        replies: list[tuple[Found, float]] = []
        for parcel in self._parcels:
            sent = time.monotonic()
            replies.append((await self.reader.one(parcel.body, parcel.n, parcel.apart), sent))
        found, sent = replies[-1]
        self._check_identity(found.last)  # before anything of another device is taken
        if self.subscription is not None:
            self.table.remember()
        for parcel, (found, sent) in zip(self._parcels, replies, strict=True):
            if self.registered and (np.isin(found.columns.status, _UNKNOWN) & parcel.used).any():
                raise Lost("reply", "the server has forgotten the nodes that were registered; registering them again")
            taken = self.table.take(parcel.places, found.columns, sent)
            for item, position in parcel.places.odd:
                self.table.take_odd(item, position, found.columns, found.data, sent, taken)
            note(self._metrics, taken)
        self._metrics.round_trip = time.monotonic() - begun
        return found, sent

    def _check_identity(self, found: Columns) -> None:
        """Raise `WrongDevice` when what was read is not the profile's identity."""
        identity = self._device.profile.identity
        at, where = identity.at, self._device.address
        status = int(found.status[0])
        if not found.kind[0] or status >> 30:
            name = ua.StatusCode(ua.UInt32(status)).name if status else "no value"
            raise WrongDevice(f"identity at {at} could not be read ({name}): another device answers at {where}")
        value = float(found.value[0])
        if value != identity.value:
            raise WrongDevice(f"identity is {_digits(value)} at {at}, expected {_digits(identity.value)}: another device answers at {where}")

    def reading(self) -> Reading:
        """Return what is known now; what has been published so far counts as read."""
        if self.subscription is None:
            return self.table.reading(-math.inf)
        self.subscription.publishing.unread = False
        return self.table.reading(self.subscription.current)

    def close(self) -> None:
        """Take nothing more."""
        if self._again is not None:
            self._again.cancel()
        if self.subscription is not None:
            self.subscription.publishing.close()


def _parcels(table: Table, nodes: Nodes, at_once: int) -> list[_Parcel]:
    """Return the requests that read all items, and the identity with the last of them."""
    items = nodes.read
    used = np.array([table.usable_item(item) for item in range(len(items))], dtype=np.bool_)
    groups = [range(len(items))[begin : begin + at_once] for begin in range(0, len(items), at_once)]
    if not groups or len(groups[-1]) == at_once:
        groups.append(range(0))
    parcels = []
    for group in groups:
        asked = [messages.read_item(items[item]) for item in group]
        apart = 1 if group is groups[-1] else 0
        if apart:
            asked.append(messages.read_item(nodes.identity))
        places = table.places(np.array(group, dtype=np.intp), lasting=True)
        parcels.append(_Parcel(messages.read_body(asked), len(asked), apart, places, used[group.start : group.stop]))
    return parcels


def _digits(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() else f"{value}"


async def open_session(client: Client, device: Device, metrics: DriverMetrics, timeout: float, told: Told) -> Session:  # noqa: ASYNC109  # of each request
    """Look up everything in a connected client, and read or subscribe to it once; raise `WrongDevice` or what a reader raises."""
    options, signals = device.profile.opcua, tuple(device.profile.signals.values())
    channel = Channel(client)
    reader = Reader(channel, timeout)
    limits = await read_limits(reader)
    if why := await Upkeep(reader, {}).look():
        raise Lost("type", why)
    places = (*(signal.at for signal in signals), device.profile.identity.at)
    *nodes, identity = (_node(at, limits.spaces, str(device.address)) for at in places)
    wire = tuple(nodeid_to_binary(node) for node in nodes)
    others = (*(text.at for text in device.profile.texts.values()), *(method.at for method in device.profile.methods.values()))
    longest = max(*map(len, wire), len(nodeid_to_binary(identity)), *(len(at.encode()) for at in others))
    limits = limits.within(channel.largest, longest)
    reader.at_once = limits.read
    structures = Structures(reader)
    units = await read_units(reader, signals, wire, limits.translate)
    wrong = await signal_problems(client, reader, device, wire, structures, units)
    fields = {
        place: partial(find_number, structure=structure, path=signals[place].field.split("."), element=signals[place].element)
        for place, structure in structures.of_signal.items()
    }
    table = Table(device, np.array([not problem for problem in wrong], dtype=np.bool_), fields)
    of_items = dict(zip((signal.at for signal in signals), nodes, strict=True))
    monitored = [of_items[at] for at in table.items]
    asked = await _registered(client, monitored, limits.register) if options.registered else monitored  # for reads alone
    found = Nodes(wire, monitored, [nodeid_to_binary(node) for node in asked], nodeid_to_binary(identity))
    upkeep = Upkeep(reader, {signals[place].at: unit for place, unit in units.items()})
    session = Session(client, device, metrics, reader, limits, found, tuple(wrong), table, upkeep)
    await session.read_all()
    session.registered = asked is not monitored
    for name, problem in zip(device.profile.names, wrong, strict=True):
        if problem:  # and it is the device that it should be
            told.say(f"{device.name}.{name} is not used: {problem}")
    session.texts = await _texts(reader, device, limits.spaces)
    session.methods = await find_methods(client, device, limits, told)
    if options.mode == "poll":
        table.band_all()
    elif why := await session.subscribe():
        told.say(f"{device.name} is polled, not subscribed to: {why}", logging.WARNING)
    return session


def _node(at: str, spaces: Sequence[str], where: str) -> ua.NodeId:
    """Return the node id with this epoch's namespace index; raise `WrongDevice` when the server does not have the namespace."""
    node = local_node(at, spaces)
    if node is None:
        uri = at.removeprefix("nsu=").rpartition(";")[0]
        raise WrongDevice(f"{where} offers no namespace {uri}: another device answers, or its software has changed")
    return node


async def _texts(reader: Reader, device: Device, spaces: Sequence[str]) -> dict[str, str]:
    """Return the texts of the profile that the device has, each on one line and not endless."""
    nodes = {name: node for name, text in device.profile.texts.items() if (node := local_node(text.at, spaces)) is not None}
    found = await reader.values([messages.read_item(nodeid_to_binary(node)) for node in nodes.values()])
    texts = {}
    for name, (reply, place) in zip(nodes, found, strict=True):
        value = reply.value(place)
        word = value.Text if isinstance(value, ua.LocalizedText) else value
        if isinstance(word, str):
            texts[name] = "".join(letter if letter.isprintable() else " " for letter in word[:_LONGEST]).strip()
    return texts


async def _registered(client: Client, nodes: list[ua.NodeId], at_once: int) -> list[ua.NodeId]:
    """Return what the server would rather be asked for; the nodes themselves when it registers none."""
    registered: list[ua.NodeId] = []
    try:
        for begin in range(0, len(nodes), at_once):
            registered += await client.uaclient.register_nodes(nodes[begin : begin + at_once])
    except ua.uaerrors.UaStatusCodeError:
        return nodes
    return registered if len(registered) == len(nodes) else nodes
