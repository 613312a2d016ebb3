"""What a link makes of replies that come together, and who is asked first: a transport by hand, so that each piece is as wanted."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from drivers import alarm, modbus_line, modbus_wire
from drivers.device import Address
from drivers.modbus_connect import Connection
from drivers.modbus_frames import BadReply, LinkDown, read
from drivers.modbus_line import Line
from drivers.modbus_turns import Job, Unit
from tests.virtual import Later


class Hand:
    """A transport: what was sent is in `sent`, and `bring` is what comes."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.protocol: Any = None

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def abort(self) -> None:
        pass

    def bring(self, *replies: bytes) -> None:
        data = b"".join(replies)
        self.protocol.get_buffer(-1)[: len(data)] = data
        self.protocol.buffer_updated(len(data))


def good(request: bytes) -> bytes:
    size = 2 * int.from_bytes(request[10:12], "big")
    return request[:4] + struct.pack(">HBBB", size + 3, request[6], request[7], size) + bytes(size)


def exception(request: bytes, code: int) -> bytes:
    return request[:4] + struct.pack(">HBBB", 3, request[6], request[7] | 0x80, code)


Body = Callable[[Line, Hand], Coroutine[Any, Any, None]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Body], None]:
    """Run a test, in time that passes at once, with a link that is connected when somebody asks for the first time."""

    def now(body: Body) -> None:
        async def main() -> None:
            hand = Hand()

            async def connect(*_: object) -> Connection:
                return Connection(hand)  # type: ignore[arg-type]

            clock = asyncio.get_running_loop().time
            monkeypatch.setattr(alarm, "_LIBC", None)
            monkeypatch.setattr(modbus_line, "monotonic", clock)
            monkeypatch.setattr(modbus_wire, "monotonic", clock)
            monkeypatch.setattr(modbus_line, "connect", connect)
            line = Line(Address.parse("modbus-tcp://127.0.0.1:1?unit=1"), tmp_path)
            try:
                await body(line, hand)
            finally:
                await line.close()

        with asyncio.Runner(loop_factory=Later) as runner:
            runner.run(main())

    return now


def ask(line: Line, unit: Unit, *addresses: int, within: float = 1.0) -> asyncio.Future[Job]:
    now = asyncio.get_running_loop().time()
    asked = [line.frame(unit, read("holding", address, 1)) for address in addresses]
    return line.ask(unit, asked, deadline=now + 1.0, within=within, until=now + within)


async def sent(hand: Hand, count: int) -> list[bytes]:
    async with asyncio.timeout(1.0):
        while len(hand.sent) < count:
            await asyncio.sleep(0.001)
    return hand.sent[-count:]


async def known(line: Line, hand: Hand, in_flight: int) -> Unit:
    """Return a unit that has answered."""
    unit = line.unit(1, in_flight=in_flight)
    job = ask(line, unit, 0)
    hand.bring(good((await sent(hand, 1))[0]))
    await job
    return unit


def test_a_unit_that_is_busy_when_no_time_is_left_keeps_nobody_waiting(run: Callable[[Body], None]) -> None:
    """The first reply takes more than half of the time, so nothing more is asked; then the second says that it is busy."""

    async def body(line: Line, hand: Hand) -> None:
        job = ask(line, line.unit(1, in_flight=2), 0, 1, 2, 3, within=0.2)
        first, second = await sent(hand, 2)
        await asyncio.sleep(0.12)
        hand.bring(good(first))
        assert not job.done()
        hand.bring(exception(second, 6))
        done = await asyncio.wait_for(job, 1.0)
        assert [type(reply).__name__ for reply in done.replies] == ["bytes", "DeviceSaidNo", "NoneType", "NoneType"]
        assert len(hand.sent) == 2

    run(body)


def test_what_came_before_a_reply_that_is_none_says_that_modbus_is_spoken(run: Callable[[Body], None]) -> None:
    async def body(line: Line, hand: Hand) -> None:
        job = ask(line, line.unit(1, in_flight=2), 0, 1)
        first, second = await sent(hand, 2)
        hand.bring(good(first), good(second)[:6] + b"\x09" + good(second)[7:])
        with pytest.raises(BadReply, match=r"asked unit 1, unit 9 answers") as error:
            await job
        assert "no other protocol" not in str(error.value)

    run(body)


def test_a_good_reply_behind_a_gateways_no_counts_as_an_answer(run: Callable[[Body], None]) -> None:
    async def body(line: Line, hand: Hand) -> None:
        unit = await known(line, hand, 3)
        jobs = [ask(line, unit, address) for address in (1, 2, 3)]
        first, second, third = await sent(hand, 3)
        hand.bring(good(first), exception(second, 11), good(third))
        assert unit.failures == 0
        await jobs[0]
        await jobs[2]
        with pytest.raises(LinkDown, match="exception 11"):
            await jobs[1]

    run(body)


def test_a_gateway_that_says_no_to_all_that_is_in_flight_says_it_once(run: Callable[[Body], None]) -> None:
    async def body(line: Line, hand: Hand) -> None:
        unit = await known(line, hand, 4)
        job = ask(line, unit, 1, 2, 3, 4)
        hand.bring(*(exception(request, 11) for request in await sent(hand, 4)))
        with pytest.raises(LinkDown, match="exception 11"):
            await job
        assert (unit.failures, unit.dead) == (1, False)

    run(body)


def test_units_that_have_not_answered_yet_are_asked_in_turn(run: Callable[[Body], None]) -> None:
    async def body(line: Line, hand: Hand) -> None:
        jobs = [ask(line, line.unit(number, in_flight=4), *range(8)) for number in (1, 2)]
        assert sorted(request[6] for request in (await sent(hand, 4))[:2]) == [1, 2]
        for job in jobs:
            job.cancel()

    run(body)


def test_bytes_behind_the_end_of_a_connection_are_nothing(run: Callable[[Body], None], caplog: pytest.LogCaptureFixture) -> None:
    async def body(line: Line, hand: Hand) -> None:
        job = ask(line, line.unit(1, in_flight=2), 0, 1)
        first, second = await sent(hand, 2)
        hand.bring(good(first)[:6] + b"\x09" + good(first)[7:])
        with pytest.raises(BadReply):
            await job
        hand.bring(good(second))

    run(body)
    assert not caplog.records
