"""What a server publishes, and what it should have: order, gaps, age, silence, overflow, deadbands. Without a socket."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.batch.records import Event
from controller.runtime.service import Service
from drivers.device import Address, Device, Group, Identity, Profile, Signal
from drivers.driver import DriverMetrics, Reading
from drivers.opcua_codec import Decoder
from drivers.opcua_subscription import NoSubscription, Subscription
from drivers.opcua_table import Table
from drivers.tags import Quality
from tests.virtual import Later

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Channel:
    """Takes publish requests; the test answers them."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[tuple[int, int]], Callable[[bytes, int], None], Callable[[Exception], None]]] = []
        self.delivered: list[bytes] = []

    def publish(
        self, acknowledged: list[tuple[int, int]], times: int, taken: Callable[[bytes, int], None], failed: Callable[[Exception], None]
    ) -> None:
        assert times > 0
        self.asked += [(acknowledged if place == 0 else [], taken, failed) for place in range(times)]

    def deliver(self, data: bytes, at: int) -> None:
        self.delivered.append(data[at:])


class Bench:
    """A subscription (number 5) that is open, as far as it knows, to the signals of a device."""

    def __init__(self, n: int = 3, **options: Any) -> None:
        signals = {f"s{place}": Signal(at=f"nsu=urn:x;s=s{place}", type="float64", range=(0, 100), **options) for place in range(n)}
        identity = Identity(at="nsu=urn:x;s=id", value=1)
        groups = {"slow": Group(period="1 s", deadband=2.0)}
        profile = Profile(id="x", description="x", protocol="opcua", identity=identity, signals=signals, groups=groups)
        device = Device("x", profile, Address.parse("opc.tcp://127.0.0.1:1"))
        self.channel, self.metrics = Channel(), DriverMetrics()
        self.table = Table(device, np.ones(n, dtype=np.bool_))
        self.subscription = Subscription(None, self.channel, self.table, device, self.metrics)  # type: ignore[arg-type]
        self.publishing = self.subscription.publishing
        self.publishing.step = 1e9  # everything at once, however slow the machine
        self.publishing.start(5, self.subscription._take)

    def answer(self, response: Any) -> None:
        _, taken, _ = self.channel.asked.pop(0)
        taken(b"frame" + bytes(struct_to_binary(response)), 5)

    def publish(
        self,
        values: dict[int, float | ua.DataValue] | list[tuple[int, ua.DataValue]],
        number: int,
        *,
        to: int = 5,
        sent: datetime = NOW,
        more: bool = False,
    ) -> None:
        notification = ua.DataChangeNotification()
        for handle, value in values.items() if isinstance(values, dict) else values:
            held = value if isinstance(value, ua.DataValue) else ua.DataValue(ua.Variant(value, ua.VariantType.Double), SourceTimestamp=NOW)
            notification.MonitoredItems.append(ua.MonitoredItemNotification(ClientHandle=handle, Value=held))
        message = ua.NotificationMessage(SequenceNumber=number, PublishTime=sent)
        message.NotificationData = [notification] if values else []
        answer = ua.PublishResponse()
        answer.Parameters = ua.PublishResult(SubscriptionId=to, MoreNotifications=more, NotificationMessage=message)
        self.answer(answer)

    def values(self) -> list[float]:
        return list(self.table.reading(self.subscription.current).values)


def good(value: float, when: int | None) -> ua.DataValue:
    """Return a sample of a server at `when` [ms]; None: it gives no source times."""
    at = None if when is None else NOW + timedelta(milliseconds=when)
    return ua.DataValue(ua.Variant(value, ua.VariantType.Double), SourceTimestamp=at)


def go(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60.0))


async def body_values_come_and_are_acknowledged() -> None:
    bench = Bench()
    assert len(bench.channel.asked) == 4  # requests in flight
    bench.publish({0: 1.0, 1: 2.0, 2: 3.0}, 1)
    assert len(bench.channel.asked) == 3
    bench.publish({1: 5.0}, 2)
    assert bench.values() == [1.0, 5.0, 3.0]
    assert [acknowledged for acknowledged, _, _ in bench.channel.asked] == [[], [], [(5, 1), (5, 2)], []]  # two at a time
    bench.publish({}, 3)  # a keep-alive is not acknowledged, and does not use up its number
    bench.publish({}, 3)
    assert [acknowledged for acknowledged, _, _ in bench.channel.asked[2:]] == [[], []]
    bench.publish({0: 4.0, 2: 6.0}, 3)
    assert bench.values() == [4.0, 5.0, 6.0]
    assert (bench.metrics.drops, bench.subscription.reread, bench.publishing.failure) == (0, False, None)


async def body_gap() -> None:
    bench = Bench()
    bench.publish({0: 1.0}, 1)
    bench.publish({0: 2.0}, 4)
    assert (bench.metrics.drops, bench.metrics.errors["overflow"], bench.subscription.reread) == (2, 1, True)
    current = bench.subscription.current
    bench.publish({1: 3.0}, 5)  # what was lost is not current, whatever else comes, before everything has been read
    assert bench.subscription.current == current
    bench.subscription.reread = False
    bench.publish({}, 7)  # what it says comes next shows that 6 is lost
    assert (bench.metrics.drops, bench.subscription.reread) == (3, True)


async def body_replay() -> None:
    bench = Bench()
    bench.publish({0: 1.0}, 7)
    bench.publish({0: 2.0}, 8)
    bench.publish({0: 1.0}, 7)
    assert bench.values()[0] == 2.0
    assert bench.metrics.drops == 0


async def body_wrap() -> None:
    bench = Bench()
    bench.publish({0: 1.0}, 2**32 - 1)
    bench.publish({0: 2.0}, 1)
    assert (bench.values()[0], bench.metrics.drops, bench.subscription.reread) == (2.0, 0, False)


async def body_age() -> None:
    """What was held up on the way is as old as the server's clock says."""
    bench = Bench()
    bench.subscription.clock(time.monotonic(), ua.datetime_to_win_epoch(NOW))
    bench.publish({0: 1.0}, 1, sent=NOW - timedelta(seconds=8))
    age = time.monotonic() - bench.table.reading(bench.subscription.current).received[0]  # type: ignore[index]
    assert 7.9 < age < 9.0
    bench.publish({0: 2.0}, 2, sent=NOW + timedelta(hours=1))  # a clock that was set tells nothing
    received = bench.table.reading(bench.subscription.current).received
    assert received is not None
    assert time.monotonic() - received[0] < 1.0


async def body_more() -> None:
    """While more is waiting at the server, only what has come is current."""
    bench = Bench()
    bench.publish({0: 1.0}, 1, more=True)
    received = bench.table.reading(bench.subscription.current).received
    assert received is not None
    assert np.isfinite(received).tolist() == [True, False, False]
    bench.publish({1: 1.0}, 2)
    received = bench.table.reading(bench.subscription.current).received
    assert received is not None
    assert np.isfinite(received).all()


def status(value: float, code: int, kind: ua.VariantType = ua.VariantType.Double) -> ua.DataValue:
    return ua.DataValue(ua.Variant(value, kind), StatusCode=ua.StatusCode(ua.UInt32(code)), SourceTimestamp=NOW)


async def body_statuses() -> None:
    bench = Bench()
    bench.publish({0: status(1.0, 0x480), 1: status(2.0, 0x40000000), 2: status(3.0, 0x80000000)}, 1)
    reading = bench.table.reading(bench.subscription.current)
    assert reading.quality.tolist() == [Quality.GOOD, Quality.UNCERTAIN, Quality.BAD]
    assert np.isnan(reading.values).tolist() == [False, False, True]
    assert (bench.metrics.drops, bench.metrics.errors["overflow"]) == (1, 1)
    bench.publish({0: ua.DataValue(ua.Variant(7, ua.VariantType.Int32))}, 2)
    assert np.isnan(bench.values()[0])
    assert bench.metrics.errors["type"] == 1
    assert not bench.subscription.changed
    bench.publish({0: status(1.0, 0x4000)}, 3)
    assert bench.subscription.changed  # its meaning has changed


async def body_queue() -> None:
    """Several samples of a signal in one message: the last one counts."""
    bench = Bench()
    notification = ua.DataChangeNotification()
    for value in (1.0, 2.0, 3.0):
        held = ua.DataValue(ua.Variant(value, ua.VariantType.Double))
        notification.MonitoredItems.append(ua.MonitoredItemNotification(ClientHandle=1, Value=held))
    answer = ua.PublishResponse()
    message = ua.NotificationMessage(SequenceNumber=1, NotificationData=[notification])
    answer.Parameters = ua.PublishResult(SubscriptionId=5, NotificationMessage=message)
    bench.answer(answer)
    assert bench.values()[1] == 3.0


async def body_deadband() -> None:
    """A deadband that the server refuses is kept here; what is hidden is current all the same."""
    bench = Bench(group="slow")
    for item in range(3):
        bench.table.band_item(item)
    bench.publish({0: 10.0}, 1)
    bench.publish({0: 11.5}, 2)
    assert bench.values()[0] == 10.0
    bench.publish({0: 12.5}, 3)
    assert bench.values()[0] == 12.5
    bench.publish({0: status(12.6, 0x40000000)}, 4)
    assert bench.values()[0] == 12.6  # its quality has changed


async def body_a_spike_in_a_message() -> None:
    """Two samples of one signal in a message: the deadband is that of the last one, and it is the last one that is shown."""
    bench = Bench(group="slow")
    for item in range(3):
        bench.table.band_item(item)
    bench.publish({0: 50.0, 1: 50.0, 2: 50.0}, 1)
    for number, (samples, shown) in enumerate((((90.0, 50.0), 50.0), ((50.5, 90.0), 90.0), ((50.0, 91.0), 90.0)), 2):
        bench.publish([(1, good(value, number)) for value in samples], number)
        assert bench.values() == [50.0, shown, 50.0]


async def body_hold() -> None:
    """A sample from before a write does not undo what was read back."""
    bench = Bench()
    bench.publish({0: ua.DataValue(ua.Variant(50.0, ua.VariantType.Double), SourceTimestamp=NOW)}, 1)
    bench.table.hold(np.array([0]), time.monotonic() + 60.0, np.array([1.0]))
    bench.publish({0: ua.DataValue(ua.Variant(1.0, ua.VariantType.Double), SourceTimestamp=NOW - timedelta(milliseconds=100))}, 2)
    assert bench.values()[0] == 50.0
    bench.publish({0: ua.DataValue(ua.Variant(2.0, ua.VariantType.Double), SourceTimestamp=NOW + timedelta(milliseconds=100))}, 3)
    assert bench.values()[0] == 2.0


@pytest.mark.parametrize("when", [0, None], ids=["coarse source times", "no source times"])
def test_a_sample_from_before_a_write_is_not_shown_behind_what_was_read_back(when: int | None) -> None:
    """Whether it comes before the answer to the read or behind it; a second write within the holding is read back all the same.

    What the device itself does then, or a failure, is shown at once, whatever its time.
    """

    async def main() -> None:
        bench = Bench()
        table, place = bench.table, np.array([0])
        where = table.places(place, lasting=True)
        bench.publish({0: good(1.0, when), 1: good(1.0, when), 2: good(1.0, when)}, 1)
        for number, (before, written) in enumerate(((1.0, 50.0), (50.0, 60.0)), 1):
            asked = time.monotonic()
            bench.publish({0: good(before, when)}, 2 * number)
            table.take(where, Decoder().decode(struct_to_binary(good(written, when)), 0, 1), asked, written=True)
            table.hold(place, time.monotonic() + 60.0, np.array([before]))
            assert bench.values()[0] == written
            bench.publish({0: good(before, when)}, 2 * number + 1)
            assert bench.values()[0] == written
        bench.publish({0: good(7.0, when)}, 6)
        assert bench.values()[0] == 7.0
        bench.publish({0: status(0.0, 0x80000000)}, 7)
        assert np.isnan(bench.values()[0])

    go(main)


@pytest.mark.parametrize("when", [0, None], ids=["coarse source times", "no source times"])
def test_a_read_does_not_put_back_what_was_reported_meanwhile(when: int | None) -> None:
    async def main() -> None:
        bench = Bench()
        asked = time.monotonic()
        bench.publish({0: good(9.0, when), 1: good(9.0, when), 2: good(9.0, when)}, 1)
        everything = bench.table.places(np.arange(3), lasting=True)
        bench.table.take(everything, Decoder().decode(struct_to_binary(good(1.0, when)) * 3, 0, 3), asked)
        assert bench.values() == [9.0, 9.0, 9.0]

    go(main)


async def body_overtaken() -> None:
    """What was asked for before something newer came does not take its place; a bad value without a time does."""
    bench = Bench()
    everything = bench.table.places(np.arange(3), lasting=True)
    asked = time.monotonic()
    bench.publish({0: 1.0, 1: 2.0, 2: 3.0}, 1)
    bad = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(0x80000000)))
    at = [NOW - timedelta(milliseconds=1), NOW + timedelta(milliseconds=1)]
    reply = [ua.DataValue(ua.Variant(9.0, ua.VariantType.Double), SourceTimestamp=when) for when in at]
    columns = Decoder().decode(b"".join(map(struct_to_binary, [*reply, bad])), 0, 3)
    bench.table.take(everything, columns, asked)
    np.testing.assert_array_equal(bench.values(), [1.0, 9.0, np.nan])
    older = Decoder().decode(struct_to_binary(reply[0]) * 3, 0, 3)
    bench.table.take(everything, older, asked)  # all of them good, which is put in a quicker way
    assert bench.values() == [1.0, 9.0, 9.0]
    bench.table.take(everything, older, time.monotonic())  # a clock that was put back is no reason not to take what comes later
    assert bench.values() == [9.0, 9.0, 9.0]


async def body_unreported() -> None:
    """What was read and not reported is in doubt, and as current as it was read."""
    bench = Bench()
    bench.publish({0: 1.0, 1: 2.0, 2: 3.0}, 1)
    bench.table.remember()
    bench.table.compare()
    asked = time.monotonic()
    assert bench.table.doubt.tolist() == [0, 0, 0]
    value = ua.DataValue(ua.Variant(9.0, ua.VariantType.Double))
    nine = Decoder().decode(struct_to_binary(value), 0, 1)
    for times in (1, 2):
        bench.publish({0: 1.0 + times}, 1 + times)
        bench.table.remember()
        bench.table.take(bench.table.places(np.array([1])), nine, asked)
        bench.table.compare()
        assert bench.table.doubt.tolist() == [0, times, 0]
    received = bench.table.reading(bench.subscription.current).received
    assert received is not None
    assert (received[1], received[0] > asked) == (asked, True)
    bench.publish({1: 9.0}, 4)
    bench.table.remember()
    bench.table.compare()
    assert bench.table.doubt.tolist() == [0, 0, 0]
    never = Bench()
    never.publish({0: 1.0, 2: 3.0}, 1)
    never.table.compare()
    assert never.table.doubt.tolist() == [0, 1, 0]


async def body_a_reading_stays_as_it_is() -> None:
    """What comes later, in any of the ways in which values are put, changes nothing that was handed out."""
    bench = Bench()
    bench.publish({0: 1.0, 1: 2.0, 2: 3.0}, 1)
    everything = bench.table.places(np.arange(3), lasting=True)
    assert everything.whole
    bad = ua.DataValue(ua.Variant(9.0, ua.VariantType.Double), StatusCode=ua.StatusCode(ua.UInt32(0x80000000)))
    four = Decoder().decode(struct_to_binary(ua.DataValue(ua.Variant(4.0, ua.VariantType.Double))) * 3, 0, 3)

    def read_all() -> None:
        bench.table.take(everything, four, time.monotonic())

    changes: list[tuple[Callable[[], None], list[float]]] = [
        (lambda: bench.publish({1: 5.0}, 2), [1.0, 5.0, 3.0]),
        (lambda: bench.publish({2: bad}, 3), [1.0, 5.0, np.nan]),
        (read_all, [4.0, 4.0, 4.0]),
        (lambda: bench.publish({0: 6.0}, 4), [6.0, 4.0, 4.0]),
        (lambda: bench.publish({0: bad}, 5), [np.nan, 4.0, 4.0]),
        (lambda: bench.publish({0: 7.0}, 6), [7.0, 4.0, 4.0]),
    ]
    for change, expected in changes:
        before = bench.table.reading(bench.subscription.current)
        assert before.received is not None
        assert before.server_time is not None
        held = (before.values, before.quality, before.source_time, before.received, before.server_time)
        copies = [array.copy() for array in held]
        change()
        np.testing.assert_array_equal(bench.table.reading(bench.subscription.current).values, expected)
        np.testing.assert_array_equal(
            bench.table.reading(bench.subscription.current).quality, np.where(np.isnan(expected), Quality.BAD, Quality.GOOD)
        )
        for array, copy in zip(held, copies, strict=True):
            np.testing.assert_array_equal(array, copy)


async def body_slow() -> None:
    """What is sampled more rarely than it is read may differ for as long as three of its periods take."""
    bench = Bench()
    bench.table.patience[1] = 3
    bench.publish({0: 1.0, 1: 2.0, 2: 3.0}, 1)
    doubts = []
    for times in range(1, 8):
        bench.table.remember()
        bench.table.value[0] = bench.table.value[1] = 9.0 + times
        bench.table.compare()
        doubts.append(bench.table.doubt.tolist())
    assert doubts == [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 1, 0], [4, 1, 0], [5, 1, 0], [6, 2, 0]]
    bench.publish({1: 5.0}, 2)
    bench.table.remember()
    bench.table.compare()
    assert bench.table.doubt.tolist() == [7, 0, 0]


async def body_steps() -> None:
    """A huge message is taken in steps of about a millisecond, and nothing overtakes it."""
    n = 30_000
    bench = Bench(n)
    bench.publishing.step = 0.0
    bench.publish(dict.fromkeys(range(n), 1.0), 1)
    bench.publish({0: 2.0}, 2)
    assert len(bench.channel.asked) == 2  # not before it is taken
    while len(bench.channel.asked) < 4:
        await asyncio.sleep(0)
    assert bench.values() == [2.0] + [1.0] * (n - 1)


async def body_flood() -> None:
    """However quickly a server publishes, no more waits here than was asked for."""
    n = 2000
    bench = Bench(n)
    bench.publishing.step = 0.0
    number = 0
    while number < 40:
        while bench.channel.asked:
            number += 1
            bench.publish(dict.fromkeys(range(n), float(number)), number)
            assert len(bench.publishing._inbox) + len(bench.channel.asked) <= 4
        await asyncio.sleep(0)
    while bench.publishing._inbox:
        await asyncio.sleep(0)
    assert bench.values() == [float(number)] * n
    assert (bench.metrics.drops, bench.publishing.failure) == (0, None)


async def body_refusals() -> None:
    for code, left in ((0x80780000, 3), (0x800A0000, 4)):  # too many requests: one fewer; timed out: another one
        bench = Bench()
        fault = ua.ServiceFault()
        fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(code))
        bench.answer(fault)
        assert (len(bench.channel.asked), bench.publishing.failure) == (left, None)
    bench = Bench()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(0x80780000))
    bench.publish({0: 1.0}, 1)
    for left in (2, 1, 1):  # it refuses all that it has: one is asked for again, and when that is refused as well it publishes nothing any more
        bench.answer(fault)
        assert (len(bench.channel.asked), bench.publishing.failure) == (left, None)
    bench.answer(fault)
    assert bench.publishing.failure == ("exception", "it publishes nothing any more: status code 0x80780000")
    bench = Bench()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(0x80260000))
    bench.answer(fault)
    assert bench.publishing.failure == ("exception", "it publishes nothing any more: status code 0x80260000")
    for spoil in ({"values": {7: 1.0}, "number": 1}, {"values": {2**32 - 1: 1.0}, "number": 1}):
        bench = Bench()
        bench.publish(**spoil)  # type: ignore[arg-type]
        assert bench.publishing.failure is not None
        assert bench.publishing.failure[0] == "reply"
        assert len(bench.channel.asked) == 3
    bench = Bench()
    message = ua.NotificationMessage(SequenceNumber=1, NotificationData=[ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(0x800A0000)))])
    answer = ua.PublishResponse()
    answer.Parameters = ua.PublishResult(SubscriptionId=5, NotificationMessage=message)
    bench.answer(answer)
    assert bench.publishing.failure == ("exception", "the server has ended the subscription: status code 0x800a0000")
    bench = Bench()
    bench.channel.asked.pop(0)[2](ConnectionError("cut"))
    assert bench.publishing.failure == ("drop", "ConnectionError: cut")


async def body_refused_items() -> None:
    """A server that refuses the request for items as a whole is polled, and keeps no subscription of ours."""
    bench = Bench()
    deleted: list[list[int]] = []

    async def create(_asked: ua.CreateSubscriptionParameters) -> ua.CreateSubscriptionResult:
        return ua.CreateSubscriptionResult(SubscriptionId=9, RevisedPublishingInterval=50.0, RevisedMaxKeepAliveCount=1)

    async def refuse(_asked: ua.CreateMonitoredItemsParameters) -> None:
        raise ua.UaStatusCodeError(ua.status_codes.StatusCodes.BadTooManyMonitoredItems)

    async def delete(ids: list[int]) -> None:
        deleted.append(ids)

    bench.channel.create_subscription = create  # type: ignore[attr-defined]
    bench.subscription._client = SimpleNamespace(  # type: ignore[assignment]
        uaclient=SimpleNamespace(create_monitored_items=refuse, delete_subscriptions=delete)
    )
    with pytest.raises(NoSubscription, match="it monitors none of 3 nodes: BadTooManyMonitoredItems"):
        await bench.subscription.open([ua.NodeId(place, 2) for place in range(3)])
    assert deleted == [[9]]


async def body_foreign() -> None:
    """What is for another subscription of the session is handed on, and acknowledged."""
    bench = Bench()
    bench.publish({0: 1.0}, 1, to=6)
    assert len(bench.channel.delivered) == 1
    bench.publish({0: 1.0}, 2, to=6)
    assert bench.channel.asked[-2][0] == [(6, 1), (6, 2)]
    assert np.isnan(bench.values()[0])


async def body_closed() -> None:
    """Nothing that comes after the end of the epoch is taken."""
    bench = Bench()
    bench.publishing.close()
    bench.publish({0: 1.0}, 1)
    bench.publish({0: 1.0}, 2)
    assert np.isnan(bench.values()[0])
    assert len(bench.channel.asked) == 2


@pytest.mark.parametrize(
    "body", [value for name, value in sorted(globals().items()) if "body" in name and callable(value)], ids=lambda body: body.__name__
)
def test_subscription(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    go(body)


def served(period: float, alive: float, published: list[float], *, work: float = 0.0, until: float = 60.0) -> tuple[list[float], list[float]]:
    """Return when the service reads, and writes to, a device that publishes at some times as long as it lives; a write takes `work` [s]."""
    read: list[float] = []
    written: list[float] = []
    with asyncio.Runner(loop_factory=Later) as runner:
        loop = runner.get_loop()

        async def main() -> None:
            bench = Bench()
            bench.subscription.alive = alive

            async def reading() -> list[Event]:
                read.append(loop.time())
                bench.publishing.unread = False
                return []

            async def write(outputs: object, scan: int) -> list[Event]:
                written.append(loop.time())
                await asyncio.sleep(work)
                return []

            exchange = SimpleNamespace(read=reading, write=write, driver=bench.subscription, rows=SimpleNamespace(poll=period))
            cell = SimpleNamespace(seq=1)
            service = SimpleNamespace(_happen=lambda events: None, frame=cell, stopped=asyncio.Event(), cell=cell, _outputs=None)
            task = asyncio.create_task(Service._serve(service, exchange))  # type: ignore[arg-type]
            for number, when in enumerate(published, 1):
                loop.call_at(when, bench.publish, {0: 1.0}, number)
            await asyncio.sleep(until)
            task.cancel()

        runner.run(main())
    return read, written


def late(interval: float, most: float, until: float = 60.0, lost: float = 0.0) -> list[float]:
    """Return times of publications that come up to `most` [s] late, in their order; some are lost."""
    chance = random.Random(1)
    times = [place * interval + chance.uniform(0.0, most) for place in range(1, int(until / interval))]
    return sorted(time for time in times if chance.random() >= lost)


@pytest.mark.parametrize(
    ("period", "alive", "published", "work"),
    [
        (0.1, 0.1, late(0.1, 0.02), 0.0),
        (0.1, 0.1, late(0.1, 0.09), 0.0),
        (0.1, 0.1, late(0.1, 0.02, lost=0.05), 0.0),
        (0.05, 0.05, late(0.05, 0.01), 0.0),
        (0.1, 0.08, late(0.08, 0.0), 0.0),
        (0.1, 0.12, late(0.12, 0.0), 0.0),
        (0.1, 0.14, late(0.14, 0.0), 0.0),
        (0.1, 0.02, late(0.02, 0.0), 0.0),
        (1.2, 1.0, late(1.0, 0.1), 0.0),
        (5.0, 1.0, late(1.0, 0.1), 0.0),
        (0.1, 0.1, late(0.1, 0.02), 0.06),
        (0.1, 0.1, late(0.1, 0.02), 0.11),
        (0.1, 0.1, [], 0.0),
        (0.1, 1.0, late(1.0, 0.0), 0.0),
    ],
)
def test_a_device_is_read_about_once_a_period_however_it_publishes(period: float, alive: float, published: list[float], work: float) -> None:
    """Its outputs, and its heartbeat, are written in the same turn."""
    read, written = served(period, alive, published, work=work)
    assert read == written
    gaps = np.diff(written)
    assert gaps.max() <= max(1.25 * period, work) + 1e-6
    assert 0.7 * period <= gaps.mean()
    usual = alive if period <= alive <= 1.25 * period else 1.25 * period if not published else period
    assert gaps.mean() <= 1.03 * max(usual, work)


@pytest.mark.parametrize("phase", [0.0, 0.001, 0.03, 0.049, 0.05, 0.07, 0.099])
def test_a_device_is_read_when_it_has_published_whatever_the_phase(phase: float) -> None:
    published = [phase + 0.1 * place for place in range(1, 90)]
    read, _ = served(0.1, 0.1, published, work=0.01, until=9.0)
    waited = [min(after for when in read if (after := when - time) >= -1e-9) for time in published[5:-5]]
    assert max(waited) < 1e-6


def test_the_end_of_publications_is_not_waited_for() -> None:
    with asyncio.Runner(loop_factory=Later) as runner:
        loop = runner.get_loop()

        async def main() -> None:
            bench = Bench()
            for period in (0.1, 60.0):
                begun = loop.time()
                loop.call_later(0.01, bench.publishing.fail, "drop", "cut")
                assert await bench.subscription.due(period, period)
                assert loop.time() - begun <= 0.02
            assert bench.publishing.failure == ("drop", "cut")

        runner.run(main())


def test_only_a_whole_publication_of_its_own_is_news() -> None:
    with asyncio.Runner(loop_factory=Later) as runner:
        loop = runner.get_loop()

        async def main() -> None:
            bench = Bench()
            loop.call_later(1.0, lambda: bench.publish({0: 1.0}, 1, to=6))
            loop.call_later(2.0, lambda: bench.publish({0: 1.0}, 1, more=True))
            loop.call_later(3.0, lambda: bench.publish({1: 1.0}, 2))
            assert await bench.publishing.news(0.0, 10.0)
            assert loop.time() == pytest.approx(3.0)
            assert bench.publishing.unread

        runner.run(main())


ORDERS = st.sampled_from([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]) | st.permutations(range(5)) | st.lists(st.integers(0, 4), min_size=1, max_size=6)
STEPS = st.tuples(
    st.sampled_from(["publish", "publish", "publish", "read", "some", "compare", "look"]), ORDERS, st.sampled_from([0, 0, 0, 0x80000000])
)


@settings(max_examples=300, deadline=None)
@example([[("publish", [0, 1, 2], 0)], [("some", [0, 1, 2, 3, 4], 0)]])
@given(st.lists(STEPS.flatmap(lambda step: st.lists(st.just(step), min_size=1, max_size=3)), max_size=12))
def test_a_table_knows_of_each_signal_what_came_last(runs: list[list[tuple[str, list[int], int]]]) -> None:
    """In whatever order, one or all, once or several times, good or not, reported or read; and which were reported since they were compared."""

    async def made() -> Bench:
        return Bench(5)

    bench = asyncio.run(made())
    table = bench.table
    everything = table.places(np.arange(5), lasting=True)
    values, received, reported = np.full(5, np.nan), np.full(5, -np.inf), set[int]()
    held: list[tuple[Reading, np.ndarray, np.ndarray]] = []
    for now, (step, order, code) in enumerate(itertools.chain.from_iterable(runs), 1):
        items = {"publish": order, "some": list(dict.fromkeys(order))}.get(step, list(range(5)))
        sent = [
            ua.DataValue(ua.Variant(now + place / 8, ua.VariantType.Double), StatusCode=ua.StatusCode(ua.UInt32(code))) for place in range(len(items))
        ]
        columns = Decoder().decode(b"".join(map(struct_to_binary, sent)), 0, len(sent))
        if step == "publish":
            table.take(bench.subscription._where(np.array(items, dtype=np.uint32)), columns, float(now), report=True)
            reported |= set(items)
        elif step == "read":
            table.remember()
            table.take(everything, columns, float(now))
        elif step == "some":
            table.take(table.places(np.array(items), lasting=True), columns, float(now))
        elif step == "compare":
            table.compare()
            reported.clear()
        if step in ("publish", "read", "some"):
            for place, item in enumerate(items):  # the last one counts
                values[item], received[item] = np.nan if code else now + place / 8, now
        elif step == "look":
            held.append((table.reading(-np.inf), values.copy(), received.copy()))
    for reading, then, when in [*held, (table.reading(-np.inf), values, received)]:
        np.testing.assert_array_equal(reading.values, then)
        np.testing.assert_array_equal(reading.received, when)
        np.testing.assert_array_equal(reading.quality == Quality.GOOD, np.isfinite(then))
    assert set(np.flatnonzero(table._reported_in == table._round)) == reported
