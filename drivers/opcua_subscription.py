"""A subscription: the server reports changes, and that there are none. Nothing that it does wrong goes unnoticed.

It is alive while publications come, at least one each keep-alive time; their numbers say whether some were lost; whether all
items still exist is asked for from time to time; and what was held up on the way is as old as the server's own clock says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final

import numpy as np
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers import opcua_messages as messages
from drivers.device import Device
from drivers.driver import DriverMetrics
from drivers.opcua_binary import Malformed, length, skip_diagnostics
from drivers.opcua_channel import Channel
from drivers.opcua_codec import Decoder, UInts
from drivers.opcua_messages import Publication
from drivers.opcua_publishing import Publishing
from drivers.opcua_table import Places, Table, Taken

__all__ = ["NoSubscription", "Subscription", "note"]

_SILENCE: Final = 2.0  # [s] at most without a publication
_LATE: Final = 0.3  # [s]
_OLD: Final = 3.0  # periods, from which on a value is no longer current
_OFTEN: Final = 0.75  # periods; a publication that comes sooner than that after another is read with the next one
_EARLY: Final = 0.5  # periods before the end of one
_OVER: Final = 0.25  # periods after it
_KEEP_ALIVE: Final = 1.0  # [s] at most between two publications
_LIFE: Final = 30.0  # [s] after which the server forgets a subscription nobody asks about
_AT_ONCE: Final = 1000  # items in one request
_PUBLISHED: Final = 4000  # values in one publication
_STEP: Final = 1500  # values that are taken in one step
_NO_FILTER: Final = (0x80430000, 0x80440000, 0x80450000, 0x808E0000)  # invalid, unsupported, not allowed, bad deadband


class NoSubscription(Exception):
    """The server offers no subscription that is quick enough; poll it."""


class Subscription:
    """The monitored items of one epoch, reporting into a `Table`."""

    def __init__(self, client: Client, channel: Channel, table: Table, device: Device, metrics: DriverMetrics) -> None:
        self._client, self._channel, self._table, self._device, self._metrics = client, channel, table, device, metrics
        self._decoder = Decoder()
        self.publishing = Publishing(channel)
        self.current = -math.inf  # [s] monotonic, when all items were known to be current
        self.heard = time.monotonic()  # [s] of the last publication
        self.reread = False  # something was lost or is odd: read everything once
        self.changed = False  # what values mean has changed: look everything up again
        self.silence = _SILENCE
        self.alive = _KEEP_ALIVE  # [s] between two publications
        self.late = _LATE  # [s] without one until the server is asked whether it is there
        self.at_once = _AT_ONCE
        self._id = 0
        self._number: int | None = None  # of the last message
        self._lag: float | None = None  # [s] monotonic - the server's clock
        self._every = b""  # the handles of all items in the order in which they were reported last
        self._everywhere: Places | None = None  # where their values go; None: not reported twice in this order yet
        self._servers: list[int] = []  # the server's ids of the items

    async def open(self, nodes: Sequence[ua.NodeId]) -> None:
        """Create the subscription and its items; `nodes` are of the table's items. Raises `NoSubscription`."""
        periods = self._device.periods
        options = self._device.profile.opcua
        interval = min(options.publishing_interval or float(periods.min()), _KEEP_ALIVE)
        asked = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=ua.Double(interval * 1e3),
            RequestedLifetimeCount=ua.UInt32(math.ceil(_LIFE / interval)),
            RequestedMaxKeepAliveCount=ua.UInt32(1),
            MaxNotificationsPerPublish=ua.UInt32(_PUBLISHED),
            PublishingEnabled=True,
        )
        try:
            made = await self._channel.create_subscription(asked)
        except UaStatusCodeError as error:
            raise NoSubscription(f"it makes no subscription: {type(error).__name__}") from None
        self._id = made.SubscriptionId
        alive = made.RevisedPublishingInterval * max(made.RevisedMaxKeepAliveCount, 1) / 1e3
        if not 0.0 < alive <= max(interval, min(max(_OLD * float(periods.min()), _LATE), _KEEP_ALIVE)):
            await self._client.uaclient.delete_subscriptions([self._id])
            raise NoSubscription(f"it says that it lives only every {alive:g} s")
        self.alive = alive
        self.late = max(3.0 * alive, _LATE)
        self.silence = min(max(4.0 * alive, 1.0), _SILENCE)
        wanted = list(enumerate(nodes))
        try:
            for begin in range(0, len(wanted), self.at_once):
                await self._create(wanted[begin : begin + self.at_once], filtered=True)
        except NoSubscription:
            await self._client.uaclient.delete_subscriptions([self._id])
            raise
        self.heard = time.monotonic()
        self.publishing.start(self._id, self._take)

    async def _create(self, wanted: Sequence[tuple[int, ua.NodeId]], *, filtered: bool) -> None:
        """Create items with their deadbands, and again without where the server refuses the filter: it is kept here then."""
        table, options = self._table, self._device.profile.opcua
        periods, deadbands = table.of_items(self._device.periods), table.deadbands_of_items()
        requests = []
        for item, node in wanted:
            deadband = deadbands[item] if filtered else 0.0
            change = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, ua.UInt32(ua.DeadbandType.Absolute), ua.Double(deadband))
            requests.append(
                ua.MonitoredItemCreateRequest(
                    ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=ua.IntegerId(AttributeIds.Value)),
                    MonitoringMode=ua.MonitoringMode.Reporting,
                    RequestedParameters=ua.MonitoringParameters(
                        ClientHandle=ua.IntegerId(item),
                        SamplingInterval=ua.Duration(periods[item] * 1e3),
                        Filter=change if deadband > 0.0 else None,
                        QueueSize=ua.Counter(options.queue),
                        DiscardOldest=True,
                    ),
                )
            )
        asked = ua.CreateMonitoredItemsParameters(
            SubscriptionId=ua.IntegerId(self._id), TimestampsToReturn=ua.TimestampsToReturn.Both, ItemsToCreate=requests
        )
        try:
            results = await self._client.uaclient.create_monitored_items(asked)
        except UaStatusCodeError as error:
            raise NoSubscription(f"it monitors none of {len(wanted)} nodes: {type(error).__name__}") from None
        if len(results) != len(wanted):
            raise ValueError(f"asked for {len(wanted)} monitored items, got {len(results)}")
        again = []
        for (item, node), result in zip(wanted, results, strict=True):
            code = int(result.StatusCode.value)
            if code in _NO_FILTER and filtered and deadbands[item] > 0.0:
                again.append((item, node))
                table.band_item(item)
            elif code >> 30 >= 2:
                if table.usable_item(item):
                    raise NoSubscription(f"it does not monitor {node.to_string()}: {result.StatusCode.name}")
            else:
                if result.RevisedSamplingInterval > 1e3 * max(_OLD * periods[item], _LATE):
                    every = f"only every {result.RevisedSamplingInterval / 1e3:g} s, wanted every {periods[item]:g} s"
                    raise NoSubscription(f"it samples {node.to_string()} {every}")
                self._servers.append(int(result.MonitoredItemId))
        if again:
            await self._create(again, filtered=False)

    def clock(self, sent: float, server_time: int) -> None:
        """Note what the server's clock said [100 ns from 1601] in the answer to a request sent at `sent` [s, monotonic]."""
        self._lag = sent - server_time / 1e7 if server_time else None

    def _when(self, publication: Publication) -> float:
        """Return when a publication was sent [s, monotonic]: now, or before by the server's clock if it was held up."""
        now = time.monotonic()
        if self._lag is None or not publication.time:
            return now
        return min(now, publication.time / 1e7 + self._lag)

    def _take(self, data: bytes, publication: Publication) -> Iterator[None]:
        """Take a publication in steps."""
        if not self._in_order(publication):
            return
        when = self._when(publication)
        for kind, start, end in publication.parts:
            if kind == messages.DATA_CHANGE:
                yield from self._changes(data, start, end, when)
            elif kind == messages.STATUS_CHANGE:
                code = int.from_bytes(data[start : start + 4], "little")
                if code >> 30:
                    self.publishing.fail("exception", f"the server has ended the subscription: status code {code:#010x}")
                    return
        self.heard = time.monotonic()
        if not publication.more and not self.reread:  # what was lost on the way is known again when everything has been read
            self.current = max(self.current, when)

    def due(self, left: float, period: float) -> Coroutine[Any, Any, bool]:
        """Wait for the end of a period, or for a publication around it where they come about as often; return whether there was one.

        What has come already counts, and none is waited for long: whoever reads has outputs to write as well.
        """
        if not _OFTEN * period <= self.alive <= (1.0 + _OVER) * period:
            return self.publishing.news(left, left)
        return self.publishing.news(left - _EARLY * period, left + _OVER * period)

    def _in_order(self, publication: Publication) -> bool:
        """Check the number of a message; False for one that was here before. A keep-alive has the number of the message that comes next."""
        number, last = publication.number, self._number
        self._number = number if publication.parts else number - 1
        if last is None:
            return True
        missing = (number - last - 1) % 2**32
        if missing >= 2**31:
            self._number = last
            self.heard = time.monotonic()
            return False
        if missing and not (last >= 2**32 - 2**16 and number < 2**16):  # numbers begin again at 1
            self._metrics.errors["overflow"] += 1
            self._metrics.drops += missing
            self.reread = True
        return True

    def _changes(self, data: bytes, start: int, end: int, when: float) -> Iterator[None]:
        n, at = length(data, start, 5)
        while n:
            k = n if n <= _STEP else _STEP
            columns = self._decoder.decode(data, at, k, 4)
            places = self._where(columns.handle)
            taken = self._table.take(places, columns, when, report=True)
            for item, position in places.odd:
                yield
                self._table.take_odd(item, position, columns, data, when, taken, report=True)
            if taken.anything:
                note(self._metrics, taken)
                self.changed |= taken.changed
            n, at = n - k, columns.end
            if n:
                yield
        if data[at:end] not in messages.NO_DIAGNOSTICS and (at > end or skip_diagnostics(data, at) != end):
            raise Malformed(f"a notification of {end - start} bytes that ends elsewhere")

    def _where(self, handles: UInts) -> Places:
        """Return where the values of items go; as quick to use as can be when all items are reported in the order of the last time."""
        if len(handles) == len(self._table.items):
            every = handles.tobytes()
            if every == self._every:
                if self._everywhere is None:
                    self._everywhere = self._table.places(handles, lasting=True)
                return self._everywhere
            self._every, self._everywhere = every, None
        try:
            return self._table.places(handles)
        except IndexError:
            raise Malformed(f"a value for handle {handles.max()}, of {len(self._table.items)}") from None

    async def verify(self, timeout: float) -> None:  # noqa: ASYNC109  # it goes on the wire
        """Ask whether all items still exist; raise `ValueError` when they do not."""
        for begin in range(0, len(self._servers), self.at_once):
            ids = self._servers[begin : begin + self.at_once]
            body = messages.set_reporting_body(self._id, ids)
            data, handle = await self._channel.ask(messages.SET_MONITORING_MODE, body, timeout)
            codes = messages.status_reply(data, messages.SET_MONITORING_MODE, len(ids), handle)
            if gone := int(np.count_nonzero(codes >> 30)):
                raise ValueError(f"{gone} of {len(self._servers)} monitored items are gone")


def note(metrics: DriverMetrics, taken: Taken) -> None:
    """Count what was found in values besides the values."""
    metrics.errors["overflow"] += taken.overflows
    metrics.drops += taken.overflows
    metrics.errors["type"] += taken.types
