"""What arrives by an event subscription, whatever a server may send. No sockets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from drivers import opcua_events
from drivers.device import Address, Device, OpcuaOptions, load_profile, profile_folder
from drivers.driver import DeviceEvent
from drivers.opcua_events import EventFeed, watch_events
from drivers.opcua_told import Told

WHEN = datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
BASE = ua.NodeId(ua.Int32(ObjectIds.BaseEventType))


class Taken:
    def __init__(self, least: int = 300) -> None:
        profile = load_profile(profile_folder() / "shredder.toml").model_copy(update={"opcua": OpcuaOptions(events="server", min_severity=least)})
        self.events: list[DeviceEvent] = []
        self.lost = 0
        self.device = Device("shredder", profile, Address.parse("opc.tcp://127.0.0.1:4840"))
        self.feed = EventFeed(self.device, self.events.append, self._lose)

    def _lose(self, count: int) -> None:
        self.lost += count

    def message(self, number: int, *parts: Any) -> None:
        self.feed.take(ua.PublishResult(NotificationMessage=ua.NotificationMessage(SequenceNumber=ua.Counter(number), NotificationData=list(parts))))


def event(*fields: Any) -> ua.EventFieldList:
    return ua.EventFieldList(EventFields=[ua.Variant(field) if not isinstance(field, ua.Variant) else field for field in fields])


def usual(severity: Any = 500, kind: ua.NodeId = BASE, source: Any = "Drive", when: Any = WHEN, text: Any = None) -> ua.EventFieldList:
    return event(kind, source, when, ua.Variant(severity, ua.VariantType.UInt16), ua.LocalizedText("Tripped") if text is None else text)


def test_an_event_is_taken_with_its_time_and_words() -> None:
    taken = Taken()
    taken.message(1, ua.EventNotificationList(Events=[usual(), usual(299), usual(300, text=ua.LocalizedText("a\r\nb\x1b[31m" + "c" * 900))]))
    first, second = taken.events
    assert first == DeviceEvent(1_770_091_506_789_000_000, 500, "Drive", "Tripped")
    assert second.text.startswith("a  b [31mccc")
    assert len(second.text) == 500
    assert taken.lost == 0


def test_an_overflow_and_a_gap_in_the_numbers_are_counted() -> None:
    taken = Taken()
    taken.message(1, ua.EventNotificationList(Events=[usual(kind=ua.NodeId(ua.Int32(ObjectIds.EventQueueOverflowEventType)))]))
    assert (taken.events, taken.lost) == ([], 1)
    taken.message(2)  # a keep-alive tells the number that comes next
    taken.message(2, ua.EventNotificationList(Events=[usual()]))
    assert taken.lost == 1
    taken.message(5, ua.EventNotificationList(Events=[usual()]))
    assert taken.lost == 3


@pytest.mark.parametrize(
    "fields",
    [
        event(),
        event(None, None, None, None, None),
        event(BASE, 7, "yesterday", ua.Variant("much", ua.VariantType.String), 3.5),
        event(BASE, "Drive"),
        usual(severity=0),
        usual(severity=65535),
        ua.EventFieldList(EventFields=None),
    ],
)
def test_fields_that_are_not_what_they_should_be_do_no_harm(fields: ua.EventFieldList) -> None:
    taken = Taken(least=1)
    taken.message(1, ua.EventNotificationList(Events=[fields, usual()]))
    assert taken.events[-1].text == "Tripped"
    assert all(1 <= one.severity <= 1000 and isinstance(one.text, str) and isinstance(one.source, str) for one in taken.events)
    assert len(taken.events) + taken.lost == 2


def test_a_subscription_that_ends_or_falls_silent_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(opcua_events.time, "monotonic", lambda: now[0])
    taken = Taken()
    taken.feed.patient(1000.0, 5)
    now[0] += 14.9
    assert taken.feed.problem == ""
    taken.message(1)
    now[0] += 14.9
    assert taken.feed.problem == ""
    now[0] += 0.2
    assert taken.feed.problem == "the event subscription is silent for 15 s"
    taken.message(2, ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(0x800A0000))))
    assert taken.feed.problem == "the server has ended the event subscription (BadTimeout)"


def test_a_server_that_refuses_to_monitor_events_gives_its_values_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    deleted: list[list[int]] = []

    async def create(_asked: ua.CreateSubscriptionParameters, _take: object) -> ua.CreateSubscriptionResult:
        return ua.CreateSubscriptionResult(SubscriptionId=9, RevisedPublishingInterval=500.0, RevisedMaxKeepAliveCount=10)

    async def refuse(_asked: ua.CreateMonitoredItemsParameters) -> None:
        raise ua.UaStatusCodeError(ua.status_codes.StatusCodes.BadServiceUnsupported)

    async def delete(ids: list[int]) -> None:
        deleted.append(ids)

    uaclient = SimpleNamespace(create_subscription=create, create_monitored_items=refuse, delete_subscriptions=delete)
    device, client = Taken().device, SimpleNamespace(uaclient=uaclient)
    feed = asyncio.run(watch_events(client, device, [], lambda _event: None, lambda _lost: None, Told()))  # type: ignore[arg-type]
    assert feed is None
    assert deleted == [[9]]
    assert "shredder: no events: BadServiceUnsupported of server; check `events` in the profile" in caplog.text
