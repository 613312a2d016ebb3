"""Events that an OPC UA device reports by itself: a subscription in each connection, and what arrives by it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.device import Device
from drivers.driver import DeviceEvent
from drivers.opcua_told import Told
from drivers.opcua_value import local_node

__all__ = ["EventFeed", "watch_events"]

_FIELDS: Final = ("EventType", "SourceName", "Time", "Severity", "Message")  # of BaseEventType (OPC UA part 5, 6.4.2)
_OVERFLOW: Final = ua.NodeId(ua.Int32(ObjectIds.EventQueueOverflowEventType))
_BASE: Final = ua.NodeId(ua.Int32(ObjectIds.BaseEventType))
_PUBLISHED: Final = 500.0  # [ms] between two looks for events
_KEEP_ALIVE: Final = 10  # looks without an event until the server says that it lives
_LIFETIME: Final = 120  # looks without us until the server forgets the subscription
_QUEUE: Final = 1000  # events that the server keeps for us
_AT_ONCE: Final = 100  # events in one publication, which take asyncua 2 ms; the others follow in the next ones
_SILENT: Final = 3.0  # keep-alives that may be missed
_LONGEST: Final = 500  # characters of a text
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_handles = itertools.count(1)


class EventFeed:
    """The event subscription of one connection. `report` takes each event, `lose` the number of those that were lost on the way."""

    def __init__(self, device: Device, report: Callable[[DeviceEvent], None], lose: Callable[[int], None]) -> None:
        self._device, self._report, self._lose = device, report, lose
        self._least = device.profile.opcua.min_severity
        self._patience = _SILENT * _KEEP_ALIVE * _PUBLISHED / 1e3  # [s]
        self._heard = time.monotonic()
        self._sequence = 0
        self.ended = ""  # why the server has ended it

    @property
    def problem(self) -> str:
        """Why no event can be expected any more, empty while they can."""
        if self.ended:
            return self.ended
        silent = time.monotonic() - self._heard
        return f"the event subscription is silent for {silent:.0f} s" if silent > self._patience else ""

    def patient(self, published: float, keep_alive: int) -> None:
        """Note what the server has made of the asked publishing interval [ms] and keep-alive count."""
        self._patience = _SILENT * max(published, 1.0) * max(keep_alive, 1) / 1e3

    def take(self, result: ua.PublishResult) -> None:
        """Take what was published: events, a keep-alive, or the end."""
        self._heard = time.monotonic()
        message = result.NotificationMessage
        number = int(message.SequenceNumber or 0)
        if message.NotificationData and self._sequence and number > self._sequence + 1:
            self._lose(number - self._sequence - 1)  # a message each; how many events it had is not known
        for part in message.NotificationData or ():
            self._sequence = number
            if isinstance(part, ua.EventNotificationList):
                for fields in part.Events or ():
                    self._one([field.Value for field in fields.EventFields or ()])
            elif isinstance(part, ua.StatusChangeNotification):
                self.ended = f"the server has ended the event subscription ({part.Status.name})"

    def _one(self, fields: Sequence[Any]) -> None:
        if len(fields) != len(_FIELDS):
            self._lose(1)
            return
        kind, source, when, severity, message = fields
        if kind == _OVERFLOW:
            self._lose(1)  # at least
            return
        level = severity if isinstance(severity, int) and 1 <= severity <= 1000 else 1
        if level >= self._least:
            text = message.Text if isinstance(message, ua.LocalizedText) else message
            self._report(DeviceEvent(_nanoseconds(when), level, _clean(source), _clean(text)))


def _clean(text: Any) -> str:
    """Return a stranger's text on one line, without control characters, and not endless."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST]) if isinstance(text, str) else ""


def _nanoseconds(when: Any) -> int:
    if not isinstance(when, datetime):
        return 0
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1) * 1000


async def watch_events(
    client: Client, device: Device, spaces: Sequence[str], report: Callable[[DeviceEvent], None], lose: Callable[[int], None], told: Told
) -> EventFeed | None:
    """Subscribe to the events of the profile's notifier; None when it has none, or when the server has not: that is logged, and values go on."""
    options = device.profile.opcua
    if not options.events:
        return None
    node = ua.NodeId(ua.Int32(ObjectIds.Server)) if options.events == "server" else local_node(options.events, spaces)
    if node is None:
        told.say(f"{device.name}: no events: the server offers no namespace for {options.events}")
        return None
    feed = EventFeed(device, report, lose)
    asked = ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=_PUBLISHED, RequestedLifetimeCount=ua.UInt32(_LIFETIME), RequestedMaxKeepAliveCount=ua.UInt32(_KEEP_ALIVE),
        MaxNotificationsPerPublish=ua.UInt32(_AT_ONCE), PublishingEnabled=True, Priority=ua.Byte(0),
    )  # fmt: skip
    try:
        made = await client.uaclient.create_subscription(asked, feed.take)
    except UaStatusCodeError as error:  # it has no subscription left for us
        told.say(f"{device.name}: no events: {type(error).__name__}")
        return None
    feed.patient(made.RevisedPublishingInterval, made.RevisedMaxKeepAliveCount)
    status = await _monitor(client, made.SubscriptionId, node, options.min_severity)
    if status.is_bad() and options.min_severity > 1:
        status = await _monitor(client, made.SubscriptionId, node, 1)  # a server that cannot filter: we do
    if status.is_bad():
        told.say(f"{device.name}: no events: {status.name} of {options.events}; check `events` in the profile")
        await client.uaclient.delete_subscriptions([made.SubscriptionId])
        return None
    return feed


async def _monitor(client: Client, subscription: int, node: ua.NodeId, least: int) -> ua.StatusCode:
    """Monitor the events of `node` that are at least so severe; return the server's word."""
    parameters = ua.MonitoringParameters(
        ClientHandle=ua.UInt32(next(_handles)), SamplingInterval=0.0, Filter=_filter(least), QueueSize=ua.UInt32(_QUEUE), DiscardOldest=True
    )
    item = ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.EventNotifier),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=parameters,
    )
    try:
        [result] = await client.uaclient.create_monitored_items(
            ua.CreateMonitoredItemsParameters(
                SubscriptionId=ua.IntegerId(subscription), TimestampsToReturn=ua.TimestampsToReturn.Neither, ItemsToCreate=[item]
            )
        )
    except UaStatusCodeError as error:  # of the whole request
        return ua.StatusCode(ua.UInt32(error.code))
    status: ua.StatusCode = result.StatusCode
    return status


def _filter(least: int) -> ua.EventFilter:
    asked = ua.EventFilter(SelectClauses=[_field(name) for name in _FIELDS])
    if least > 1:
        level = ua.LiteralOperand(Value=ua.Variant(least, ua.VariantType.UInt16))
        element = ua.ContentFilterElement(FilterOperator=ua.FilterOperator.GreaterThanOrEqual, FilterOperands=[_field("Severity"), level])
        asked.WhereClause = ua.ContentFilter(Elements=[element])
    return asked


def _field(name: str) -> ua.SimpleAttributeOperand:
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=_BASE, BrowsePath=[ua.QualifiedName(name, ua.UInt16(0))], AttributeId=ua.IntegerId(AttributeIds.Value)
    )
