"""The device part of the fault campaign on Modbus TCP. `Watch` looks at every reading: no value is ever another signal's, or old and GOOD."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from drivers.device import Device
from drivers.driver import WriteResult
from drivers.tags import Quality
from tests.faults.bench import IDENTITY, MovingPlant, Watch, modbus_profile, served, until
from tests.faults.framing import Mbap
from tests.faults.proxy import (
    Corrupt,
    Delay,
    Direction,
    Drop,
    Duplicate,
    Fault,
    Late,
    Proxy,
    Reorder,
    Reset,
    Rewrite,
    Stale,
    Truncate,
    wrong_transaction,
    wrong_unit,
)

pytestmark = pytest.mark.wire

TCP = "modbus-tcp://127.0.0.1:0?unit={}"
PROFILE = modbus_profile()
WRITES = (5, 6, 15, 16)


def function(message: bytes) -> int:
    return message[7]


def is_write(message: bytes) -> bool:
    return function(message) & 0x7F in WRITES


def is_read(message: bytes) -> bool:
    return not is_write(message)


def is_values(message: bytes) -> bool:
    """Whether it is a reply with registers."""
    return function(message) in (3, 4)


def behind(device: Device, proxy: Proxy) -> Device:
    return replace(device, address=replace(device.address, port=proxy.port))


@asynccontextmanager
async def bench(count: int = 1) -> AsyncIterator[tuple[list[Watch], list[Proxy], MovingPlant]]:
    """Serve devices, each behind a proxy of its own, and watch them."""
    async with AsyncExitStack() as stack:
        devices, plant, _ = await stack.enter_async_context(served(PROFILE, TCP, count))
        watches, proxies = [], []
        for number, device in enumerate(devices):
            proxy = await stack.enter_async_context(Proxy("127.0.0.1", device.address.port, Mbap, function))
            proxies.append(proxy)
            watches.append(await stack.enter_async_context(Watch(behind(device, proxy), number=number)))
        for watch in watches:
            await watch.lives()
        yield watches, proxies, plant


async def more_reads(watch: Watch, count: int) -> None:
    """Wait until there were so many more of them."""
    before = watch.reads
    await until(lambda: watch.reads >= before + count)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30.0))  # type: ignore[arg-type]


def test_twenty_resets_and_every_tag_lives() -> None:
    async def main() -> None:
        async with bench() as ([watch], [proxy], _):
            for _ in range(20):
                assert proxy.reset() == 1
                assert await watch.lives() < 5.0
            assert watch.driver.metrics.losses + watch.driver.metrics.connects >= 1

    run(main)


def test_packets_dropped_and_half_open_sockets_are_bad_within_three_seconds_and_come_back_within_five() -> None:
    """The time-out here is 0.3 s and the packets are gone for 3 s: ten time-outs, and longer than any pause."""

    async def main() -> None:
        async with bench(2) as ([dropped, half], [lossy, stuck], _):
            lossy.add(Drop(direction=Direction.BOTH))
            assert stuck.half_open() == 1
            assert await until(dropped.bad, 3.0, dropped.told) < 3.0
            assert await until(half.bad, 3.0, half.told) < 3.0
            assert await half.lives() < 5.0  # the device is there, only that connection is dead
            end = time.monotonic() + 2.5  # the fault itself: the campaign's minute is in test_process_faults.py
            while time.monotonic() < end:
                assert dropped.bad()
                await asyncio.sleep(0.05)
            assert lossy.accepted <= 12  # no storm of connections
            lossy.clear()
            assert await dropped.lives() < 5.0

    run(main)


def test_a_device_that_refuses_is_bad_within_a_second_and_back_within_five() -> None:
    async def main() -> None:
        async with bench() as ([watch], [proxy], _):
            await proxy.refuse()
            assert await until(watch.bad, 1.0, watch.told) < 1.0
            await until(lambda: watch.driver.metrics.errors["connect"] >= 2, 3.0, watch.told)
            await proxy.accept()
            assert await watch.lives() < 5.0

    run(main)


def test_a_slow_device_delays_no_other() -> None:
    """Each reply of one comes 0.2 s late (its time-out is 0.3 s): the others' values never get older than 0.3 s."""

    async def main() -> None:
        async with bench(3) as (watches, proxies, _):
            proxies[0].add(Delay(0.2))
            before = [watch.reads for watch in watches]
            for watch in watches:
                watch.longest = 0.0
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                assert watches[1].good()  # UNCERTAIN from 0.3 s on
                assert watches[2].good()
                await asyncio.sleep(0.02)
            slow, *others = (watch.reads - start for watch, start in zip(watches, before, strict=True))
            assert min(others) >= 15
            assert slow < min(others)
            assert max(watch.longest for watch in watches[1:]) < 0.2

    run(main)


def shorter(by: int) -> Callable[[bytes], bytes]:
    """Return what makes a reply with registers `by` bytes shorter (longer if negative), whole in itself: lengths and counts fit."""

    def rewrite(message: bytes) -> bytes:
        data = message[9:-by] if by > 0 else message[9:] + bytes(-by)
        return message[:4] + struct.pack(">HBBB", len(data) + 3, message[6], message[7], len(data)) + data

    return rewrite


def count_off(by: int) -> Callable[[bytes], bytes]:
    """Return what makes the byte count of a reply wrong, and nothing else."""
    return lambda message: message[:8] + bytes([(message[8] + by) % 256]) + message[9:]


ANSWERS: dict[str, Callable[[], Fault]] = {
    "two bytes short": lambda: Rewrite(shorter(2), match=is_values),
    "four bytes short": lambda: Rewrite(shorter(4), match=is_values),
    "two bytes long": lambda: Rewrite(shorter(-2), match=is_values),
    "an odd byte": lambda: Rewrite(shorter(1), match=is_values),
    "no data": lambda: Rewrite(lambda message: shorter(message[8])(message), match=is_values),
    "count too small": lambda: Rewrite(count_off(-2), match=is_values),
    "count too large": lambda: Rewrite(count_off(2), match=is_values),
    "cut off": lambda: Truncate(-3, match=is_values),
    "another unit": lambda: wrong_unit(2),
    "unit 0": lambda: wrong_unit(0),
    "transaction before": lambda: wrong_transaction(-1),
    "transaction after": lambda: wrong_transaction(1),
    "transaction 0": lambda: Rewrite(lambda message: bytes(2) + message[2:]),
    "another protocol": lambda: Rewrite(lambda message: message[:2] + b"\x00\x01" + message[4:]),
    "another function": lambda: Rewrite(lambda message: message[:7] + bytes([message[7] ^ 7]) + message[8:], match=is_values),
    "function of a write": lambda: Rewrite(lambda message: message[:7] + b"\x10" + message[8:], match=is_values),
    "no such function": lambda: Corrupt(7, 0x60, match=is_values),
    "the reply before (stale transaction)": lambda: Stale(match=is_values),
    "twice": lambda: Duplicate(),
    "in another order": lambda: Reorder(),
}


def test_an_answer_that_does_not_belong_is_never_a_value_and_passes_with_its_cause() -> None:
    """Short, long and odd replies, wrong counts, units, transactions and functions, stale ones: ten reads of each. `Watch` sees every value."""

    async def one(name: str, watch: Watch, proxy: Proxy) -> None:
        fault = proxy.add(ANSWERS[name]())
        await asyncio.wait_for(fault.happened.wait(), 3.0)
        if name != "twice":  # the first of two equal replies is a good one
            await until(watch.any_bad, 3.0, lambda: (name, watch.told()))
            assert sum(watch.driver.metrics.errors.values()) >= 1, name
        await more_reads(watch, 10)
        proxy.clear()
        took = await watch.lives(8.0)
        assert took < 5.0, (name, took)

    async def main() -> None:
        async with bench(len(ANSWERS)) as (watches, proxies, _):
            await asyncio.gather(*map(one, ANSWERS, watches, proxies))

    run(main)


def refusing(code: int, match: Callable[[bytes], bool]) -> Rewrite:
    """Return a fault that makes of each reply an exception."""
    return Rewrite(
        lambda message: message[:4] + b"\x00\x03" + message[6:7] + bytes([message[7] | 0x80, code]),
        match=lambda message: match(message) and not message[7] & 0x80,
    )


CODES = tuple(range(1, 12))
OPEN = (4, 5, 8, 9, 10, 11)  # device failure, acknowledged, memory parity error, no code of the standard, gateways: a write may have happened


@pytest.mark.parametrize("what", ["read", "write"])
def test_each_exception_is_what_the_standard_says(what: str) -> None:
    """Codes 1 to 11. A read: BAD, counted, told. A write: refused, or unknown where it may have happened; sent once, *busy* as well."""

    async def one(code: int, watch: Watch, proxy: Proxy) -> None:
        driver = watch.driver
        if what == "read":
            proxy.add(refusing(code, is_read))
            await until(watch.bad, 3.0, lambda: (code, watch.told()))
            assert driver.metrics.errors["exception"] >= 1, code
            await more_reads(watch, 4)
            assert watch.bad(), code
            return
        before = proxy.seen[Direction.REQUESTS][16]
        proxy.add(refusing(code, is_write))
        [outcome] = await driver.write({"sp": 42.0})
        assert outcome.result is (WriteResult.UNKNOWN if code in OPEN else WriteResult.REFUSED), (code, outcome)
        assert f"exception {code} " in outcome.why
        await more_reads(watch, 4)  # a repetition would come before them
        assert proxy.seen[Direction.REQUESTS][16] == before + 1, code

    async def main() -> None:
        async with bench(len(CODES)) as (watches, proxies, _):
            await asyncio.gather(*map(one, CODES, watches, proxies))

    run(main)


def test_a_wrong_word_order_blocks_the_device() -> None:
    """Its identity is a float over two registers: read in another order it is another number."""

    async def main() -> None:
        async with served(PROFILE, TCP) as ([device], plant, _):
            for wrong in (modbus_profile(word_order="little"), modbus_profile(byte_order="little")):
                async with Watch(replace(device, profile=wrong)) as watch:
                    await until(lambda watch=watch: watch.reads >= 5, 5.0)
                    assert watch.bad()
                    assert watch.driver.metrics.errors["identity"] >= 1
                    assert not watch.driver.metrics.connected
                    [outcome] = await watch.driver.write({"sp": 1.0})
                    assert outcome.result is WriteResult.NOT_SENT
            assert plant.executed == []

    run(main)


def test_the_last_device_at_an_address_is_the_one_that_is_shown() -> None:
    """Another device takes over the address while we are away: it has another identity, and nothing of it is shown."""

    async def main() -> None:
        identity = {"at": "input:0", "type": "float32", "value": IDENTITY + 1.0}
        other = PROFILE.model_validate({**PROFILE.model_dump(), "identity": identity})
        async with bench() as ([watch], [proxy], _), served(other, TCP) as ([stranger], _, _):
            ours, proxy.target = proxy.target, ("127.0.0.1", stranger.address.port)
            proxy.reset()
            await until(watch.bad, 1.0, watch.told)
            await until(lambda: watch.driver.metrics.errors["identity"] >= 2)
            assert f"expected {IDENTITY:g}" in watch.driver.metrics.why
            proxy.target = ours
            proxy.reset()
            assert await watch.lives() < 5.0

    run(main)


LOSSES: dict[str, Callable[[], Fault]] = {
    "lost": lambda: Drop(times=1, match=is_write),
    "late": lambda: Late(times=1, match=is_write),
    "cut off with the connection": lambda: Reset(times=1, match=is_write),
    "cut short": lambda: Truncate(9, times=1, match=is_write),
    "of another transaction": lambda: wrong_transaction(-1, times=1, match=is_write),
    "of another unit": lambda: wrong_unit(7, times=1, match=is_write),
    "an echo of another address": lambda: Corrupt(9, 0x06, times=1, match=is_write),
    "an echo of another count": lambda: Corrupt(11, 0x01, times=1, match=is_write),
    "a reply to a read": lambda: Rewrite(lambda message: message[:7] + b"\x03" + message[8:], times=1, match=is_write),
}


def test_a_write_whose_reply_is_lost_or_wrong_is_executed_once_and_unknown() -> None:
    """The device counts what it executes. What is known again is decided by the next read, which shows what is there."""

    async def one(name: str, watch: Watch, proxy: Proxy, plant: MovingPlant) -> None:
        fault, device = proxy.add(LOSSES[name]()), watch.driver.device.name
        [outcome] = await watch.driver.write({"sp": 42.5})
        assert outcome.result is WriteResult.UNKNOWN, (name, outcome)
        assert outcome.why
        assert fault.done == 1
        if isinstance(fault, Late):
            await more_reads(watch, 2)  # it comes while others are awaited
            fault.release()
        assert await watch.lives() < 5.0, name
        assert [entry for entry in plant.executed if entry[0] == device] == [(device, "sp", 42.5)], name
        await until(lambda: watch.shown().value[PROFILE.place("sp")] == 42.5)
        assert proxy.seen[Direction.REQUESTS][16] == 1, name

    async def main() -> None:
        async with bench(len(LOSSES)) as (watches, proxies, plant):
            await asyncio.gather(*(one(name, watch, proxy, plant) for name, watch, proxy in zip(LOSSES, watches, proxies, strict=True)))

    run(main)


def test_a_request_that_is_lost_was_not_executed_and_is_not_sent_again() -> None:
    async def main() -> None:
        async with bench() as ([watch], [proxy], plant):
            proxy.add(Drop(times=1, direction=Direction.REQUESTS, match=is_write))
            [outcome] = await watch.driver.write({"sp": 42.5})
            assert outcome.result is WriteResult.UNKNOWN
            assert await watch.lives() < 5.0
            assert plant.executed == []
            assert watch.shown().value[PROFILE.place("sp")] == 0.0

    run(main)


def test_accepted_and_nothing_comes_of_it_is_a_mismatch() -> None:
    """Of a float, an integer and a coil: the echo is right, and it reads back as it was."""

    async def main() -> None:
        async with bench() as ([watch], _, plant):
            plant.deaf = True
            outcomes = await watch.driver.write({"sp": 42.5, "steps": 7.0, "valve": 1.0})
            assert [(outcome.result, outcome.found) for outcome in outcomes] == [(WriteResult.MISMATCH, 0.0)] * 3
            assert all("reads back as 0" in outcome.why for outcome in outcomes)
            plant.deaf = False
            outcomes = await watch.driver.write({"sp": 42.5, "steps": 7.0, "valve": 1.0})
            assert [outcome.result for outcome in outcomes] == [WriteResult.CONFIRMED] * 3

    run(main)


def test_what_comes_out_of_the_blue_is_nothing() -> None:
    """Replies that nobody asked for, before, between and behind the right ones, in the form of a good one."""

    async def main() -> None:
        async with bench() as ([watch], [proxy], _):
            for transaction in range(0, 400, 7):
                registers = struct.pack(">6f", IDENTITY, *(77_000.0 + place for place in range(5)))
                body = struct.pack(">BBB", 1, 4, len(registers)) + registers
                proxy.inject(struct.pack(">HHH", transaction, 0, len(body)) + body)
                await asyncio.sleep(0.01)  # so that they come at all moments of a poll
            assert await watch.lives() < 5.0
            assert np.max(watch.shown().quality[watch.measured]) == Quality.GOOD

    run(main)


def test_nothing_is_told_but_changes(caplog: pytest.LogCaptureFixture) -> None:
    """Two losses of any length make two lines, and two returns two."""

    async def main() -> None:
        async with bench() as ([watch], [proxy], _):
            for _ in range(2):
                proxy.add(Drop(direction=Direction.BOTH))
                await until(watch.bad, 3.0)
                await until(lambda before=watch.driver.metrics.errors["timeout"]: watch.driver.metrics.errors["timeout"] >= before + 2)  # type: ignore[misc]
                proxy.clear()
                await watch.lives()

    with caplog.at_level("INFO", logger="drivers"):
        run(main)
    told = [record.levelname for record in caplog.records if record.name.startswith("drivers")]
    assert told == ["INFO"] + ["WARNING", "INFO"] * 2


def test_all_tasks_and_sockets_end() -> None:
    async def main() -> None:
        for fault in (Drop(direction=Direction.BOTH), Reset(), Delay(0.2), Late()):
            async with bench() as ([_], [proxy], _):
                proxy.add(fault)
                await asyncio.wait_for(fault.happened.wait(), 3.0)
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, 1.0, lambda: asyncio.all_tasks())

    asyncio.run(main())
