"""The device part of the fault campaign on a serial line that two devices share: a relay between two pseudo-terminals does the faults."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.device import Profile
from drivers.driver import WriteResult
from tests.faults.bench import IDENTITY, MovingPlant, Watch, modbus_profile, served, until
from tests.faults.framing import Rtu, rtu
from tests.faults.proxy import Corrupt, Delay, Direction, Drop, Fault, Late, Rewrite, SerialRelay, Stale, Truncate

pytestmark = pytest.mark.wire

PROFILE = modbus_profile()
_KNOWN = modbus_profile(max_registers=6).model_dump()
# three reads of six input registers and nothing else: nothing in a reply tells which one it belongs to
EQUAL = Profile.model_validate({**_KNOWN, "signals": {name: signal for name, signal in _KNOWN["signals"].items() if name.startswith("m")}})
# one read a value, the identity's as long as the others: a probe of all of it would be, too
_LONE = modbus_profile(max_registers=2).model_dump()
LONE = Profile.model_validate({**_LONE, "signals": {name: _LONE["signals"][name] for name in ("m0", "m1")}})


def of(unit: int) -> Callable[[bytes], bool]:
    return lambda message: message[0] == unit


def is_values(message: bytes) -> bool:
    return message[0] == 1 and message[1] in (3, 4)


def is_write(message: bytes) -> bool:
    return message[0] == 1 and message[1] == 16


@asynccontextmanager
async def bench(folder: Path, profile: Profile = PROFILE) -> AsyncIterator[tuple[Watch, Watch, SerialRelay, MovingPlant]]:
    """Serve units 1 and 2 on one line, behind a relay, and watch both."""
    async with AsyncExitStack() as stack:
        devices, plant, _ = await stack.enter_async_context(served(profile, "modbus-rtu:far?unit={}&baud=115200", 2, folder))
        relay = await stack.enter_async_context(SerialRelay(folder / "line", folder / "far", Rtu, lambda message: tuple(message[:2])))
        near = [replace(device, address=replace(device.address, path="line")) for device in devices]
        one = await stack.enter_async_context(Watch(near[0], folder, number=0))
        two = await stack.enter_async_context(Watch(near[1], folder, number=1))
        await one.lives()
        await two.lives()
        yield one, two, relay, plant


def failures(*watches: Watch) -> int:
    """Return how many reads have timed out, or met a reply that was not theirs."""
    return sum(watch.driver.metrics.errors["timeout"] + watch.driver.metrics.errors["reply"] for watch in watches)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 40.0))  # type: ignore[arg-type]


def test_a_late_reply_is_never_another_tags_value(tmp_path: Path) -> None:
    """A reply of either unit is held until after the time-out (0.3 s) and let go at moments from at once to 0.4 s later: `Watch` sees every value."""

    async def one_line(unit: int, pause: float) -> None:
        folder = tmp_path / f"{unit}-{pause}"
        async with bench(folder) as (one, two, relay, _):
            before = failures(one, two)
            late = Late(times=1, match=lambda message: message[0] == unit and message[1] in (3, 4))
            relay.add(late)
            await asyncio.wait_for(late.happened.wait(), 5.0)
            await until(lambda: failures(one, two) > before, 3.0)
            await asyncio.sleep(pause)  # the moment at which it comes
            late.release()
            assert await one.lives(8.0) < 5.0
            assert await two.lives(8.0) < 5.0

    async def main() -> None:
        await asyncio.gather(*(one_line(unit, pause) for unit in (1, 2) for pause in (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4)))

    run(main)


@pytest.mark.parametrize("profile", [EQUAL, LONE], ids=["blocks", "single values"])
def test_a_device_that_stalled_and_then_answers_everything_at_once_is_no_value_of_another_tag(tmp_path: Path, profile: Profile) -> None:
    """It answers the question that timed out when it is asked again, and that one when it is asked the next, which has the same length."""

    def first(message: bytes) -> bool:
        return message[0] == 1 and message[1:4] == b"\x04\x00\x00"

    def next_one(message: bytes) -> bool:
        return message[0] == 1 and message[1] == 4 and not first(message)

    async def main() -> None:
        async with bench(tmp_path, profile) as (one, two, relay, _):
            for _ in range(3):
                stalled = Late(times=2, direction=Direction.REQUESTS, match=first)
                relay.add(stalled)
                await until(lambda stalled=stalled: len(stalled.held) == 2, 3.0, one.told)  # type: ignore[misc]
                then = relay.add(Delay(0.03, times=1, direction=Direction.REQUESTS, match=next_one))
                relay.add(Delay(0.06, match=of(1)))  # one answer after the other
                (asked, pipe), (again, _) = stalled.held
                pipe.send(asked)
                await asyncio.wait_for(then.happened.wait(), 3.0)
                pipe.send(again)
                reads = one.reads
                await until(lambda reads=reads: one.reads >= reads + 2)  # type: ignore[misc]
                relay.clear()
                assert await one.lives(8.0) < 5.0
                assert await two.lives(8.0) < 5.0

    run(main)


ANSWERS: dict[str, Callable[[], Fault]] = {
    "checksum": lambda: Corrupt(-1, match=of(1)),
    "one bit": lambda: Corrupt(5, 0x04, match=is_values),
    "cut off": lambda: Truncate(-3, match=is_values),
    "another unit": lambda: Rewrite(lambda message: rtu(b"\x02" + message[1:-2]), match=of(1)),
    "another function": lambda: Rewrite(lambda message: rtu(message[:1] + bytes([message[1] ^ 7]) + message[2:-2]), match=is_values),
    "two bytes short": lambda: Rewrite(lambda message: rtu(message[:2] + bytes([message[2] - 2]) + message[3:-4]), match=is_values),
    "two bytes long": lambda: Rewrite(lambda message: rtu(message[:2] + bytes([message[2] + 2]) + message[3:-2] + bytes(2)), match=is_values),
    "stale": lambda: Stale(match=of(1)),
    "noise before it": lambda: Rewrite(lambda message: b"\x00\xff\x7e" + message, match=of(1)),
    "silence": lambda: Drop(match=of(1)),
}


def test_a_broken_reply_is_no_value_and_the_other_unit_lives(tmp_path: Path) -> None:
    """Each on a line of its own; `Watch` looks at both units of it."""

    async def one_line(name: str) -> None:
        async with bench(tmp_path / name) as (one, two, relay, _):
            fault = relay.add(ANSWERS[name]())
            await asyncio.wait_for(fault.happened.wait(), 3.0)
            if name != "noise before it":  # a driver may find the frame behind it
                await until(one.any_bad, 3.0, lambda: (name, one.told()))
            assert await two.lives(8.0) < 5.0, name
            relay.clear()
            assert await one.lives(8.0) < 5.0, name

    async def main() -> None:
        await asyncio.gather(*map(one_line, ANSWERS))

    run(main)


def test_a_second_device_with_the_same_unit_id_is_never_shown(tmp_path: Path) -> None:
    """It answers behind the first, with values of its own; or both at once, which is noise. A cell file with such a pair is refused."""

    def another(message: bytes) -> bytes:
        """Return the frame and, behind it, that of a device that reads 70,000 everywhere."""
        count = message[2] // 4
        values = struct.pack(
            f">{count}f", *(IDENTITY if message[3:7] == struct.pack(">f", IDENTITY) and place == 0 else 70_000.0 for place in range(count))
        )
        return message + rtu(message[:3] + values)

    def both(message: bytes) -> bytes:
        return bytes(one & other for one, other in zip(message, another(message)[len(message) :], strict=True))

    async def main() -> None:
        async with bench(tmp_path) as (one, two, relay, _):
            for how in (another, both):
                fault = relay.add(Rewrite(how, match=lambda message: is_values(message) and message[2] % 4 == 0 and message[2] >= 12))
                await asyncio.wait_for(fault.happened.wait(), 3.0)
                before = one.reads
                await until(lambda before=before: one.reads >= before + 8)  # type: ignore[misc]
                relay.clear()
                assert await one.lives(8.0) < 5.0
                assert await two.lives(8.0) < 5.0

    run(main)


LOSSES: dict[str, Callable[[], Fault]] = {
    "lost": lambda: Drop(times=1, match=is_write),
    "late": lambda: Late(times=1, match=is_write),
    "checksum": lambda: Corrupt(-1, times=1, match=is_write),
    "another address": lambda: Rewrite(lambda message: rtu(message[:3] + b"\x06" + message[4:-2]), times=1, match=is_write),
}


def test_a_write_whose_reply_is_lost_is_executed_once_and_unknown(tmp_path: Path) -> None:
    async def one_line(name: str) -> None:
        async with bench(tmp_path / name) as (one, two, relay, plant):
            fault = relay.add(LOSSES[name]())
            [outcome] = await one.driver.write({"sp": 42.5})
            assert outcome.result is WriteResult.UNKNOWN, (name, outcome)
            if isinstance(fault, Late):
                reads = one.reads
                await until(lambda: one.reads > reads)
                fault.release()
            assert await one.lives() < 5.0
            assert await two.lives() < 5.0
            assert plant.executed == [("d0", "sp", 42.5)], name
            assert relay.seen[Direction.REQUESTS][1, 16] == 1, name
            await until(lambda: one.shown().value[PROFILE.place("sp")] == 42.5)

    async def main() -> None:
        await asyncio.gather(*map(one_line, LOSSES))

    run(main)


def test_an_adapter_that_is_pulled_out_is_bad_within_a_second_and_back_within_five(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as (one, two, relay, _):
            await relay.unplug()
            assert await until(lambda: one.bad() and two.bad(), 1.0, one.told) < 1.0
            await until(lambda: one.driver.metrics.errors["connect"] >= 1, 3.0, one.told)
            relay.plug()
            assert await one.lives() < 5.0
            assert await two.lives() < 5.0

    run(main)


def test_units_are_back_within_five_seconds_however_many_are_dead(tmp_path: Path) -> None:
    """Six units on a line, with the time-out of the service; four die. One comes back while three stay dead, then these, each at the worst moment.

    On one line they have answered before, on the other they are dead from the start. The two that live are never lost, and hardly delayed.
    """

    async def one_line(known: bool) -> None:
        folder = tmp_path / str(known)
        ages: list[float] = []
        async with AsyncExitStack() as stack:
            devices, _, servers = await stack.enter_async_context(served(PROFILE, "modbus-rtu:line?unit={}&baud=19200", 6, folder))
            for device in () if known else devices[2:]:
                await servers.stop_device(device.name)
            watches = [
                await stack.enter_async_context(Watch(device, folder, number=place, timeout=1.0, poll=0.25)) for place, device in enumerate(devices)
            ]
            for watch in watches if known else watches[:2]:
                await watch.lives(20.0)

            async def asked_in_vain(watch: Watch, times: int) -> None:
                timeouts = watch.driver.metrics.errors["timeout"]
                await until(lambda: watch.bad() and watch.driver.metrics.errors["timeout"] >= timeouts + times, 30.0, watch.told)

            async def back(place: int) -> float:
                await asked_in_vain(watches[place], 1)
                await servers.start_device(f"d{place}")
                return await watches[place].lives(8.0)

            async def look() -> None:
                while True:
                    ages.append(max(watch.age() for watch in watches[:2]))
                    await asyncio.sleep(0.02)

            looking = asyncio.create_task(look())
            for device in devices[2:]:
                await servers.stop_device(device.name)
            await asyncio.gather(*(asked_in_vain(watch, 2) for watch in watches[2:]))
            await until(lambda: ages[-1] < 0.5)
            dying, at = max(ages), len(ages)
            took = [await back(2), *await asyncio.gather(*map(back, (3, 4, 5)))]
            looking.cancel()
            assert max(took) < 5.0, took
            assert dying < 2.5, "never BAD by age"
            assert max(ages[at:]) < 1.5, "a poll, and one probe; one in 20 s is a long one"

    async def main() -> None:
        await asyncio.gather(one_line(True), one_line(False))

    run(main)


def test_a_line_that_was_silent_for_long_has_all_of_its_units_back_within_five_seconds(tmp_path: Path) -> None:
    """Nothing passes the line, as when its cable is out. However long that was, the first unit to answer does not keep the others waiting."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            devices, _, _ = await stack.enter_async_context(served(PROFILE, "modbus-rtu:far?unit={}&baud=19200", 4, tmp_path))
            relay = await stack.enter_async_context(SerialRelay(tmp_path / "line", tmp_path / "far", Rtu, lambda message: message[0]))
            near = [replace(device, address=replace(device.address, path="line")) for device in devices]
            watches = [
                await stack.enter_async_context(Watch(device, tmp_path, number=place, timeout=1.0, poll=0.25)) for place, device in enumerate(near)
            ]
            for watch in watches:
                await watch.lives(20.0)
            relay.add(Drop(direction=Direction.BOTH))
            asked = relay.seen[Direction.REQUESTS].copy()
            await until(lambda: min((relay.seen[Direction.REQUESTS] - asked)[unit] for unit in (1, 2, 3, 4)) > 12, 30.0)
            assert all(watch.bad() for watch in watches)
            relay.clear()
            took = await asyncio.gather(*(watch.lives(20.0) for watch in watches))
            assert max(took) < 5.0, took

    run(main)
