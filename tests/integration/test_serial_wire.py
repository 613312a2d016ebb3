"""Serial instruments over real pseudo-terminals: the simulated ones, and one by hand that does everything wrong."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import math
import os
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from drivers.connect import open_driver
from drivers.device import Address, Device, Profile, load_profile, profile_folder
from drivers.driver import Driver, Reading, WriteResult
from drivers.tags import Quality
from simulators.bench import StaticPlant
from simulators.pty_line import PtyLine
from simulators.serve import CannotServe, Servers
from tests.faults.framing import Line
from tests.faults.proxy import Corrupt, Delay, Direction, Drop, Late, SerialRelay, Truncate
from tests.integration.exchanging import Exchanging, plan_of
from tests.integration.waiting import until

pytestmark = pytest.mark.wire

BALANCE, TRANSMITTER = (load_profile(profile_folder() / f"{name}.toml") for name in ("balance", "ph_transmitter"))
SERIAL = "serial:lines/a?baud=9600"


def quick(profile: Profile, **dialogue: object) -> Profile:
    """Return a profile that is not waited for long: every signal is asked for in each read."""
    assert profile.dialogue is not None
    signals = {name: signal.model_copy(update={"group": ""}) for name, signal in profile.signals.items()}
    changed = profile.dialogue.model_copy(update={"timeout": 0.15, "pause": 0.001, **dialogue})
    return profile.model_copy(update={"signals": signals, "dialogue": changed})


def device(profile: Profile, path: str = "lines/a") -> Device:
    return Device("scale", profile, Address.parse(f"serial:{path}?baud=9600"), poll=0.05)


def value(driver: Driver, reading: Reading, signal: str) -> tuple[float, int]:
    place = driver.device.profile.place(signal)
    return float(reading.values[place]), int(reading.quality[place])


async def fresh(driver: Driver) -> Reading:
    """Return a reading in which nothing is older than this call; a signal is not asked for more often than each 50 ms."""
    begun = time.monotonic()
    while True:
        reading = await driver.read()
        if reading.received is None or (reading.received > begun).all():
            return reading
        await asyncio.sleep(0.005)


async def good(driver: Driver) -> bool:
    return bool((await fresh(driver)).quality.max() == Quality.GOOD)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), 30.0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    before = set(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert set(os.listdir("/proc/self/fd")) <= before


class Hand(PtyLine):
    """An instrument by hand: `says` answers each line that comes; None is silence."""

    def __init__(self, path: Path, says: Callable[[str], str | None]) -> None:
        super().__init__(path)
        self.says = says
        self.heard: list[str] = []

    def come(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            self.heard.append(line)
            if (answer := self.says(line)) is not None:
                self.send(answer.encode() + b"\r\n")


@asynccontextmanager
async def by_hand(folder: Path, says: Callable[[str], str | None], profile: Profile | None = None) -> AsyncIterator[tuple[Hand, Driver]]:
    hand = Hand(folder / "lines/a", says)
    await hand.open()
    try:
        async with open_driver(device(profile or quick(BALANCE)), data=folder, timeout=0.5) as driver:
            yield hand, driver
    finally:
        await hand.close()


IDENTITY = 'I4 A "0110080011"'


def speak(**answers: str | None) -> Callable[[str], str | None]:
    """Return a balance that says these."""
    said = {"I4": IDENTITY, "SI": "S S     123.45 kg", "TA": "TA A      0.00 kg", **answers}
    return lambda line: said.get(line.split(" ")[0] if line.startswith("TA ") else line, "ES")


def test_every_signal_comes_and_goes(tmp_path: Path) -> None:
    async def main() -> None:
        balance, meter = Device("scale", BALANCE, Address.parse(SERIAL)), Device("meter", TRANSMITTER, Address.parse("serial:lines/b?baud=9600"))
        plant = StaticPlant({"scale": BALANCE, "meter": TRANSMITTER})
        async with (
            Servers([balance, meter], plant, data=tmp_path) as servers,
            open_driver(balance, data=tmp_path) as scale,
            open_driver(meter, data=tmp_path) as ph,
        ):
            for driver in (scale, ph):
                await until(lambda driver=driver: good(driver))  # type: ignore[misc]
                reading = await driver.read()
                assert driver.metrics.connected, driver.metrics.why
                np.testing.assert_array_equal(reading.quality, Quality.GOOD)
                np.testing.assert_allclose(reading.values, plant.values[driver.device.name], atol=0.05)
                assert reading.received is not None
                assert (np.abs(reading.received - time.monotonic()) < 1.0).all()
            assert scale.texts == {"serial": "0110080011"}
            [outcome, unknown, beyond, read_only] = await scale.write({"tare": 12.25, "nothing": 1.0, "weight": 1.0, "tare ": math.nan})
            assert (outcome.result, outcome.found) == (WriteResult.CONFIRMED, 12.25)
            assert {unknown.result, beyond.result, read_only.result} == {WriteResult.NOT_SENT}
            for wrong in (math.nan, -1.0, 1000.5):
                [outcome] = await scale.write({"tare": wrong})
                assert outcome.result is WriteResult.NOT_SENT
                assert "expected 0 to 1000 kg" in outcome.why
            assert plant.values["scale"][BALANCE.place("tare")] == 12.25
            await servers.stop_device("meter")
            await servers.stop_device("scale")
            scale._asked.clear()  # type: ignore[attr-defined]  # half a second has passed
            assert (await scale.read()).quality.min() == Quality.BAD
            assert "no answer to" in scale.metrics.why
            [outcome] = await scale.write({"tare": 1.0})
            assert outcome.result is WriteResult.NOT_SENT
            await servers.start_device("scale")
            assert await until(lambda: good(scale)) < 5.0
        assert not (tmp_path / "lines/a").exists()

    run(main)


def test_each_reply_is_asked_for_as_often_as_its_signals_are_wanted(tmp_path: Path) -> None:
    async def main() -> None:
        async with by_hand(tmp_path, speak(), BALANCE) as (hand, driver):
            first = await driver.read()
            again = await driver.read()
            assert hand.heard == ["I4", "SI", "TA"]  # 500 ms and 5 s have not passed
            np.testing.assert_array_equal(first.received, again.received)  # and the values say so
            clock = driver._asked  # type: ignore[attr-defined]
            clock["weight"] -= 0.5
            await driver.read()
            assert hand.heard == ["I4", "SI", "TA", "SI"]

    run(main)


def test_a_loss_and_a_return_are_told_once_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with by_hand(tmp_path, speak()) as (hand, driver):
            assert await good(driver)
            hand.says = lambda line: None
            begun = time.monotonic()
            reading = await fresh(driver)
            assert time.monotonic() - begun < 0.5
            assert np.isnan(reading.values).all()
            for _ in range(10):
                assert not await good(driver)
            hand.says = speak()
            assert await until(lambda: good(driver)) < 5.0
            assert (driver.metrics.connects, driver.metrics.losses, driver.metrics.why) == (2, 1, "")
            assert driver.metrics.errors["timeout"] >= 1

    with caplog.at_level(logging.INFO, logger="drivers"):
        run(main)
    assert [record.levelname for record in caplog.records if record.name.startswith("drivers")] == ["INFO", "WARNING", "INFO"]


def test_what_is_wrong_with_a_signal_is_told_once_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reply has the name of its signal, as in many profiles."""

    async def main() -> None:
        async with by_hand(tmp_path, speak()) as (hand, driver):
            assert await good(driver)
            for answer, why in (("S S     272.17 lb", "it is in 'lb', which is not kg"), ("HELLO", "'SI' is answered 'HELLO'")):
                hand.says = speak(SI=answer)
                for _ in range(5):
                    assert value(driver, await fresh(driver), "weight")[1] == Quality.BAD
                assert driver.wrong == {"weight": why}
                hand.says = speak()
                assert await until(lambda: good(driver)) < 2.0
                assert driver.wrong == {}
            assert driver.metrics.errors["type"] == 1

    with caplog.at_level(logging.INFO, logger="drivers.serial_ascii"):
        run(main)
    assert [record.levelname for record in caplog.records if record.name == "drivers.serial_ascii"] == ["WARNING", "INFO"] * 2


def test_another_instrument_is_bad(tmp_path: Path) -> None:
    async def main() -> None:
        for answer in ('I4 A "PUMP-7"', "ES", "#?%"):
            async with by_hand(tmp_path, speak(I4=answer)) as (hand, driver):
                assert (await fresh(driver)).quality.min() == Quality.BAD
                assert f"'I4' is answered {answer!r}: another instrument is on serial:lines/a" in driver.metrics.why
                assert driver.metrics.errors["identity"] == 1
                assert "SI" not in hand.heard
                [outcome] = await driver.write({"tare": 5.0})
                assert outcome.result is WriteResult.NOT_SENT
                assert not any(line.startswith("TA") for line in hand.heard)

    run(main)


def test_words_units_and_garbage_cost_their_own_signal_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with by_hand(tmp_path, speak()) as (hand, driver):
            assert await good(driver)
            for answer, expected, kind in (
                ("S D     123.46 kg", (123.46, Quality.UNCERTAIN), None),
                ("S S  123450.00 g", (123.45, Quality.GOOD), None),
                ("S S     272.17 lb", (math.nan, Quality.BAD), "type"),
                ("S +", (math.nan, Quality.BAD), "type"),
                ("S I", (math.nan, Quality.BAD), "type"),  # a refusal's word, and the reply's own: the reply goes first
                ("ES", (math.nan, Quality.BAD), "exception"),
                ("TA A     55.00 kg", (math.nan, Quality.BAD), "reply"),  # another command's answer
                ("\x7f\x01?", (math.nan, Quality.BAD), "reply"),
            ):
                hand.says = speak(SI=answer)
                before = dict(driver.metrics.errors)
                reading = await fresh(driver)
                found, quality = value(driver, reading, "weight")
                assert (found, quality) == (pytest.approx(expected[0], nan_ok=True), expected[1]), answer
                assert value(driver, reading, "tare") == (0.0, Quality.GOOD), answer
                assert driver.metrics.connected
                assert [name for name, count in driver.metrics.errors.items() if count > before[name]] == ([kind] if kind else []), answer
                hand.says = speak()
                assert await until(lambda: good(driver)) < 2.0

    run(main)


def test_a_late_answer_is_never_the_next_ones(tmp_path: Path) -> None:
    """The weight of before, which was 1, comes after the time-out: while it is asked for what is now 2, only 2 is shown."""

    async def main() -> None:
        weights = iter(["S S       1.00 kg"])
        async with by_hand(tmp_path, speak()) as (hand, driver):
            assert await good(driver)
            asked = asyncio.Event()
            normal = speak(SI="S S       2.00 kg")

            def late(line: str) -> str | None:
                if line == "SI" and (weight := next(weights, None)) is not None:
                    asyncio.get_running_loop().call_later(0.25, hand.send, weight.encode() + b"\r\n")  # the time-out is 0.15 s
                    asked.set()
                    return None
                return normal(line)

            hand.says = late
            seen = set()
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                reading = await fresh(driver)
                found, quality = value(driver, reading, "weight")
                if asked.is_set() and quality != Quality.BAD:
                    seen.add(found)
                await asyncio.sleep(0.01)
            assert seen == {2.0}
            assert driver.metrics.errors["timeout"] >= 1

    run(main)


def test_however_late_it_is_the_instrument_is_asked_who_it_is_first(tmp_path: Path) -> None:
    """An instrument that answers everything 0.4 s late, in order: nothing that comes is taken for what it is not."""

    async def main() -> None:
        count = 0

        async with by_hand(tmp_path, speak()) as (hand, driver):

            def slow(line: str) -> None:
                nonlocal count
                count += 1
                answer = {"I4": IDENTITY, "SI": f"S S {count:8.2f} kg", "TA": f"TA A {count:8.2f} kg"}[line]
                asyncio.get_running_loop().call_later(0.4, hand.send, answer.encode() + b"\r\n")

            hand.says = slow
            end = time.monotonic() + 2.0
            while time.monotonic() < end:
                reading = await fresh(driver)
                assert reading.quality.min() == Quality.BAD
                assert np.isnan(reading.values).all()
                await asyncio.sleep(0.01)
            hand.says = speak(SI="S S    9999.00 kg")
            hand.says = speak()
            assert await until(lambda: good(driver)) < 5.0
            assert value(driver, await fresh(driver), "weight") == (123.45, Quality.GOOD)

    run(main)


def test_a_write_whose_answer_is_lost_is_unknown_and_sent_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with by_hand(tmp_path, speak()) as (hand, driver):
            assert await good(driver)
            for answer, result, why in (
                (None, WriteResult.UNKNOWN, "no answer to 'TA 5.00 kg'"),
                ("TA A      6.00 kg", WriteResult.MISMATCH, "acknowledged as '6.00', asked for 5.00"),
                ("TA L", WriteResult.REFUSED, "is answered 'TA L'"),
                ("S S     123.45 kg", WriteResult.UNKNOWN, "is answered 'S S"),
                ("TA A      5.00 kg", WriteResult.MISMATCH, "accepted, but reads back as 0"),  # nothing has happened there
            ):
                normal = speak()
                hand.says = lambda line, answer=answer, normal=normal: answer if line.startswith("TA ") else normal(line)
                hand.heard.clear()
                [outcome] = await driver.write({"tare": 5.0})
                assert (outcome.result, why in outcome.why) == (result, True), outcome
                assert hand.heard.count("TA 5.00 kg") == 1
                hand.says = speak()
                await until(lambda: good(driver))
                assert hand.heard.count("TA 5.00 kg") == 1

    run(main)


@pytest.mark.parametrize(
    ("spoilt", "reads"),
    [("TA?~garbled", 0), ("TA A      6.00 kg", 0), ("TA?~garbled", 1)],
    ids=["unknown", "acknowledged as another", "unknown, and the next read too"],
)
def test_a_tare_that_is_unknown_is_taken_once_and_read_at_once(tmp_path: Path, spoilt: str, reads: int) -> None:
    """The balance that comes with the product has it in a group of 5 s. The next read decides; while that cannot, nothing is sent again."""
    tare, takes, garbled = 0.0, list[str](), 0

    def says(line: str) -> str:
        nonlocal tare, garbled
        if line.startswith("TA "):
            takes.append(line)
            tare, garbled = float(line.split()[1]), reads
            return spoilt if len(takes) == 1 else f"TA A      {tare:.2f} kg"
        if line == "TA" and garbled:
            garbled -= 1
            return "TA?~garbled"
        return {"I4": IDENTITY, "SI": "S S     123.45 kg"}.get(line, f"TA A      {tare:.2f} kg")

    async def main() -> None:
        hand = Hand(tmp_path / "lines/a", says)
        await hand.open()
        plan = plan_of(tmp_path, "balance", SERIAL, {"WT-1": "weight", "FY-1": "tare"})
        async with open_driver(plan.devices["d"].device, data=tmp_path) as driver:
            cell = Exchanging(plan, driver)

            async def shows(value: float) -> bool:
                await cell.turn()
                return cell.shown("FY-1") == (value, Quality.GOOD)

            await until(lambda: shows(0.0))
            cell.outputs[0] = 12.25
            while not takes:
                await cell.turn()

            async def taken() -> bool:
                assert not await shows(0.0), "nobody knows that"
                return cell.shown("FY-1") == (12.25, Quality.GOOD)

            assert await until(taken, 10.0) < 2.0 or reads
            assert takes == ["TA 12.25 kg"], "it was sent again without a look at what is there"
        await hand.close()

    run(main)


def test_faults_of_the_line(tmp_path: Path) -> None:
    """Silence, broken and split lines, an adapter that is pulled out: no value but the right one, and it comes back by itself."""

    async def main() -> None:
        profile = quick(BALANCE)
        plant = StaticPlant({"scale": profile})
        right = plant.values["scale"].round(2)
        async with (
            Servers([device(profile, "far")], plant, data=tmp_path),
            SerialRelay(tmp_path / "lines/a", tmp_path / "far", Line) as relay,
            open_driver(device(profile), data=tmp_path, timeout=0.5) as driver,
        ):

            async def never_wrong(reads: int) -> int:
                """Read; return how many values were there."""
                there = 0
                for _ in range(reads):
                    reading = await fresh(driver)
                    known = reading.quality != Quality.BAD
                    np.testing.assert_allclose(reading.values[known], right[known], atol=0.006)
                    assert np.isnan(reading.values[~known]).all()
                    there += int(known.sum())
                    await asyncio.sleep(0.01)
                return there

            assert await until(lambda: good(driver)) < 2.0
            for fault in (
                Drop(times=2),
                Drop(times=2, direction=Direction.REQUESTS),
                Truncate(7, times=3),
                Corrupt(4, times=3),
                Delay(0.2, times=2),
                Late(times=1),
            ):
                relay.add(fault)
                await never_wrong(10)
                if isinstance(fault, Late):
                    fault.release()
                relay.clear()
                assert await until(lambda: good(driver)) < 5.0, type(fault)
                assert fault.done, type(fault)
                assert await never_wrong(3) == 6
            relay.inject(b"S S     999.99 kg\r\n" + bytes(range(256)) * 40)  # out of the blue
            await never_wrong(5)
            assert await until(lambda: good(driver)) < 5.0
            before = driver.metrics.errors["drop"]
            await relay.unplug()
            begun = time.monotonic()
            assert (await fresh(driver)).quality.min() == Quality.BAD
            assert time.monotonic() - begun < 0.5
            assert driver.metrics.errors["drop"] == before + 1
            assert "check the adapter and its cable" in driver.metrics.why
            tried = driver.metrics.errors["connect"]

            async def tries_again() -> bool:
                assert (await driver.read()).quality.min() == Quality.BAD
                return driver.metrics.errors["connect"] > tried

            await until(tries_again)
            [outcome] = await driver.write({"tare": 5.0})
            assert outcome.result is WriteResult.NOT_SENT
            relay.plug()
            assert await until(lambda: good(driver)) < 5.0

    run(main)


def test_a_line_in_pieces_is_a_line(tmp_path: Path) -> None:
    async def main() -> None:
        async with by_hand(tmp_path, speak()) as (hand, driver):
            assert await good(driver)
            loop = asyncio.get_running_loop()

            def in_pieces(line: str) -> None:
                data = (speak()(line) or "").encode() + b"\r\n"
                for place in range(len(data)):
                    loop.call_later(0.002 * place, hand.send, data[place : place + 1])

            hand.says = in_pieces
            assert await good(driver)
            hand.says = lambda line: f"{line}\r\n\r\n{speak()(line)}"  # it repeats what it hears, with an empty line
            assert not await good(driver)
            assert (await fresh(driver)).quality.min() == Quality.BAD
        async with by_hand(tmp_path, lambda line: f"{line}\r\n\r\n{speak()(line)}", quick(BALANCE, echo=True)) as (hand, driver):
            assert await good(driver)

    run(main)


def test_of_a_stream_the_newest_whole_line_counts_and_silence_is_a_loss(tmp_path: Path) -> None:
    async def main() -> None:
        async with by_hand(tmp_path, lambda line: None, quick(TRANSMITTER)) as (hand, driver):
            asked = asyncio.create_task(driver.read())
            await asyncio.sleep(0.02)
            hand.send(b"25.3 C;OK;11\r\nPH  7.10;T  25.3 C;OK;12\r\n")  # it begins in the middle of one
            reading = await asked
            assert value(driver, reading, "ph") == (7.10, Quality.GOOD), driver.metrics.why
            assert driver.metrics.errors["reply"] == 0  # its tail was nobody's fault
            first = reading.received
            assert first is not None
            reading = await driver.read()  # nothing new: the same, and as old as it is
            assert reading.received is not None
            assert (reading.received == first).all()
            hand.send(b"PH  7.20;T  25.3 C;OK;11\r\nPH  7.30;T  25.3 C;OK;10\r\nPH  7.4")

            async def newer() -> bool:
                reading = await driver.read()
                assert reading.received is not None
                return value(driver, reading, "ph") == (7.30, Quality.GOOD) and bool((reading.received > first).all())

            await until(newer)
            hand.send(b"0;T  25.3 C;OK;00\r\n")  # its checksum is wrong

            async def noticed() -> bool:
                number, quality = value(driver, await driver.read(), "ph")
                assert number == 7.30 or quality == Quality.BAD
                return driver.metrics.errors["reply"] == 1

            await until(noticed)

            async def silent() -> bool:
                return bool(np.isnan((await driver.read()).values).all())

            await until(silent, 1.0)
            assert "has sent nothing that is understood for 0.15 s" in driver.metrics.why
            hand.send(b"PH  7.50;T  25.3 C;OK;16\r\n")

            async def back() -> bool:
                return value(driver, await driver.read(), "ph") == (7.50, Quality.GOOD)

            await until(back)
            for place in range(1000):  # a flood between two reads
                hand.send(b"PH  7.10;T  25.3 C;OK;12\r\n")
                if place % 10 == 0:
                    await asyncio.sleep(0)

            async def newest() -> bool:
                hand.send(b"PH  7.60;T  25.3 C;OK;15\r\n")  # each time: on a busy machine one may be older than its time-out when it is read
                return value(driver, await driver.read(), "ph") == (7.60, Quality.GOOD)

            await until(newest)
            await hand.close()

            async def lost() -> bool:
                return bool((await driver.read()).quality.min() == Quality.BAD)

            assert await until(lost) < 0.1  # not only after its time-out
            assert driver.metrics.errors["drop"] == 1

    run(main)


def talker(**dialogue: object) -> Profile:
    """Return the profile of an instrument of whose line the tail is a line, and another value."""
    answer = {"expect": r" *(?P<value>-?[0-9]+\.[0-9]+) (?P<unit>[a-z]+)", "example": "  -123.45 kg"}
    given = {"stream": True, "timeout": "500 ms", **dialogue}
    reply = {"weight": answer if given["stream"] else {**answer, "send": "SI"}}
    signal = {"eu": "kg", "range": [-1000, 1000], "at": "weight"}
    made = {"id": "talker", "description": "d", "protocol": "ascii", "dialogue": {**given, "replies": reply}, "signals": {"weight": signal}}
    return Profile.model_validate(made)


LINE = b"  -123.45 kg\r\n"


def test_a_stream_that_is_opened_in_mid_line_shows_nothing_of_its_tail(tmp_path: Path) -> None:
    """Without its first four bytes the line is 23.45 kg; the same when the adapter was pulled out and is back."""

    async def main() -> None:
        async with by_hand(tmp_path, lambda line: None, talker()) as (hand, driver):
            reads = 0

            async def is_open() -> bool:
                return bool(driver._port.is_open)  # type: ignore[attr-defined]

            async def right() -> bool:
                nonlocal reads
                number, quality = value(driver, await driver.read(), "weight")
                assert quality == Quality.BAD or number == -123.45
                reads += 1
                return bool(quality == Quality.GOOD)

            async def read_since(before: int) -> bool:
                return reads > before

            for _ in range(2):
                asked = asyncio.create_task(until(right))
                await until(is_open)
                hand.send(LINE[4:])
                await until(lambda before=reads + 1: read_since(before))  # type: ignore[misc]  # one that began behind it
                assert not asked.done()
                hand.send(LINE)
                await asked
                await hand.close()

                async def lost() -> bool:
                    return bool((await driver.read()).quality.min() == Quality.BAD)

                await until(lost)
                await hand.open()
            assert driver.metrics.errors["reply"] == 0

    run(main)


def test_a_stream_that_is_opened_between_two_lines_has_time_for_two(tmp_path: Path) -> None:
    """The first is passed over, since nobody knows that it is whole; an instrument that takes most of its time-out for a line is not lost by that."""

    async def main() -> None:
        async with by_hand(tmp_path, lambda line: None, talker(timeout="1 s")) as (hand, driver):
            asked = asyncio.create_task(until(lambda: good(driver)))
            for number in (1, 2):
                asyncio.get_running_loop().call_later(0.6 * number, hand.send, LINE)
            while not asked.done():
                assert not driver.metrics.connected, "nothing is told of an instrument that has not said a whole line"
                await asyncio.sleep(0.01)
            assert await asked < 2.0
            assert (driver.metrics.losses, driver.metrics.errors["timeout"]) == (0, 0)

    run(main)


def test_a_stream_that_says_who_it_is_begins_with_that(tmp_path: Path) -> None:
    """Whatever comes before its identity is dropped, a tail too, and the answer is not passed over; so also between its lines."""

    async def main() -> None:
        identity = {"send": "ID", "expect": "ME", "example": "ME"}
        for before in ("", LINE[4:].decode()):
            answer = f"{before}ME\r\n{LINE.decode().rstrip()}"
            async with by_hand(tmp_path, lambda line, answer=answer: answer, talker(identity=identity)) as (_, driver):  # type: ignore[misc]
                assert await until(lambda driver=driver: good(driver)) < 2.0  # type: ignore[misc]
                assert value(driver, await driver.read(), "weight") == (-123.45, Quality.GOOD)
                assert driver.metrics.errors["timeout"] == 0

    run(main)


def test_the_tail_of_a_line_that_nobody_asked_for_is_no_answer(tmp_path: Path) -> None:
    """Somebody presses the print key: the line is under way when the next command is due. It is waited for, then the command goes out."""

    async def main() -> None:
        identity = {"send": "ID", "expect": "ME", "example": "ME"}
        profile = talker(identity=identity, stream=False, pause="30 ms", timeout="400 ms")
        async with by_hand(tmp_path, lambda line: None, profile) as (hand, driver):
            loop = asyncio.get_running_loop()
            free = 0.0

            def say(data: bytes) -> None:
                """Send behind what is being sent, 5 ms a byte."""
                nonlocal free
                for place in range(len(data)):
                    free = max(free, loop.time()) + 0.005
                    loop.call_at(free, hand.send, data[place : place + 1])

            def says(line: str) -> None:
                say({"ID": b"ME\r\n", "SI": b"    700.00 kg\r\n"}[line])

            hand.says = says
            assert await until(lambda: good(driver)) < 2.0
            for _ in range(10):
                say(LINE)
                found = value(driver, await fresh(driver), "weight")
                assert found in ((700.0, Quality.GOOD), (-123.45, Quality.GOOD)), "a line that is whole is the instrument's word too"
            assert driver.metrics.losses == 0

    run(main)


def test_an_instrument_that_is_never_silent_is_not_asked(tmp_path: Path) -> None:
    async def main() -> None:
        identity = {"send": "ID", "expect": "ME", "example": "ME"}
        profile = talker(identity=identity, stream=False, pause="50 ms", timeout="200 ms")
        async with by_hand(tmp_path, {"ID": "ME", "SI": "    700.00 kg"}.get, profile) as (hand, driver):
            assert await until(lambda: good(driver)) < 2.0

            async def talk() -> None:
                while True:
                    hand.send(LINE)
                    await asyncio.sleep(0.002)

            talking = asyncio.create_task(talk())
            try:

                async def lost() -> bool:
                    begun = time.monotonic()
                    number, quality = value(driver, await driver.read(), "weight")
                    assert quality == Quality.BAD or number == 700.0
                    assert time.monotonic() - begun < driver.timeout + 0.2
                    return quality == Quality.BAD

                await until(lost)
                assert "is never silent for 0.05 s" in driver.metrics.why
            finally:
                talking.cancel()
            assert await until(lambda: good(driver)) < 5.0

    run(main)


def test_a_port_is_for_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with by_hand(tmp_path, speak()) as (hand, driver):
            assert await good(driver)
            async with open_driver(device(quick(BALANCE)), data=tmp_path) as other:
                assert (await fresh(other)).quality.min() == Quality.BAD
                assert "nobody else has it" in other.metrics.why
            assert await good(driver)
            with contextlib.closing(os.fdopen(os.open(hand.path, os.O_RDWR | os.O_NOCTTY))) as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ghost = device(quick(BALANCE), "no/such")
        async with open_driver(ghost, data=tmp_path) as driver:
            assert (await fresh(driver)).quality.min() == Quality.BAD
            assert "cannot open" in driver.metrics.why
            assert "no such file or directory" in driver.metrics.why
            assert driver.metrics.errors["connect"] == 1
        twice = [Device(name, BALANCE, Address.parse(SERIAL)) for name in ("one", "two")]
        with pytest.raises(CannotServe, match="device two: serial:lines/a\\?baud=9600 is already used"):
            async with Servers(twice, StaticPlant({"one": BALANCE, "two": BALANCE}), data=tmp_path):
                pass

    run(main)


@pytest.mark.parametrize(
    ("address", "refused"), [("serial:lines/a?parity=E&bits=7", "parity=E and bits=7"), ("modbus-rtu:lines/a?unit=1&parity=O", "parity=O")]
)
def test_a_port_that_does_not_take_its_settings_is_lost_and_says_which(address: str, refused: str, tmp_path: Path) -> None:
    """A pseudo-terminal has 8 bits and no parity; at the first try the system says nothing of it, later it refuses: told in the same words."""

    async def main() -> None:
        where = Address.parse(address)
        profile = quick(BALANCE) if where.scheme == "serial" else load_profile(profile_folder() / "weigh_hopper.toml")
        hand = Hand(tmp_path / "lines/a", speak())
        await hand.open()
        try:
            async with open_driver(Device("scale", profile, where), data=tmp_path, timeout=0.5) as driver:
                tries = set[int]()

                async def tried_again() -> bool:
                    assert (await driver.read()).quality.min() == Quality.BAD
                    assert f"lines/a: it does not take {refused}; use an adapter that does" in driver.metrics.why
                    tries.add(driver.metrics.errors["connect"])
                    return len(tries) > 2

                await until(tried_again)
                assert not driver.metrics.connected
        finally:
            await hand.close()

    run(main)


def test_the_parity_of_each_byte_is_checked_whatever_was_set_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with by_hand(tmp_path, speak()) as (hand, driver):
            near = os.open(hand.path, os.O_RDWR | os.O_NOCTTY)
            try:
                left = termios.tcgetattr(near)
                left[0] |= termios.IGNPAR | termios.BRKINT | termios.PARMRK | termios.ISTRIP
                termios.tcsetattr(near, termios.TCSANOW, left)
                assert await good(driver)
                flags = termios.tcgetattr(near)[0]
            finally:
                os.close(near)
            assert flags & termios.INPCK
            assert not flags & (termios.IGNPAR | termios.BRKINT | termios.IGNBRK | termios.PARMRK | termios.ISTRIP)

    run(main)


def test_a_line_with_a_byte_that_came_wrong_is_no_value(tmp_path: Path) -> None:
    """The pattern would pass over it: of -123.45 kg it would make 23.45 kg."""

    async def main() -> None:
        profile = quick(BALANCE)
        assert profile.dialogue is not None
        weight = profile.dialogue.replies["weight"].model_copy(update={"expect": "S (?P<status>S).*?(?P<value>-?[0-9.]+) (?P<unit>kg)"})
        weight.__dict__.pop("pattern", None)
        lenient = quick(BALANCE, replies={**profile.dialogue.replies, "weight": weight})
        async with by_hand(tmp_path, speak(SI="S S    -123.45 kg"), lenient) as (hand, driver):
            assert await good(driver)
            assert value(driver, await fresh(driver), "weight") == (-123.45, Quality.GOOD)
            hand.says = speak(SI="S S    -\x0023.45 kg")
            found, quality = value(driver, await fresh(driver), "weight")
            assert (math.isnan(found), quality) == (True, Quality.BAD)
            assert "a byte with a wrong parity or stop bit" in driver.wrong["weight"]

    run(main)


def test_the_simulated_plant_serves_both(tmp_path: Path) -> None:
    listed = [{"name": profile.id, "profile": profile.id, "address": f"serial:lines/{profile.id}"} for profile in (BALANCE, TRANSMITTER)]
    (tmp_path / "devices.json").write_text(json.dumps([*listed, {"name": "h", "profile": "weigh_hopper", "address": "modbus-tcp://127.0.0.1:0"}]))
    command = [sys.executable, "-m", "simulators.serve", "--devices", str(tmp_path / "devices.json"), "--data", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        endpoints = json.loads(process.stdout.readline())["endpoints"]

        async def main() -> None:
            for profile in (BALANCE, TRANSMITTER):
                assert endpoints[profile.id] == f"serial:lines/{profile.id}?baud=9600"
                async with open_driver(Device(profile.id, profile, Address.parse(endpoints[profile.id])), data=tmp_path) as driver:
                    await until(lambda driver=driver: good(driver))  # type: ignore[misc]
            async with open_driver(Device("balance", BALANCE, Address.parse(endpoints["balance"])), data=tmp_path) as driver:
                await until(lambda: good(driver))
                [outcome] = await driver.write({"tare": 12.5})
                assert outcome.result is WriteResult.CONFIRMED

        try:
            run(main)
        finally:
            process.stdin.close()
        assert process.wait(10.0) == 0


def chatty(replies: int, timeout: str) -> Profile:
    """Return the profile of an instrument that is asked for each of its signals by itself."""
    names = [f"p{place}" for place in range(replies)]
    text = f'id = "chatty"\ndescription = "d"\nprotocol = "ascii"\n[dialogue]\ntimeout = "{timeout}"\npause = "1 ms"\n'
    text += 'identity = { send = "ID", expect = "ME", example = "ME" }\n'
    text += "".join(f'[dialogue.replies.{name}]\nsend = "{name}"\nexpect = \'{name} (?P<value>[0-9.]+)\'\nexample = "{name} 1"\n' for name in names)
    text += "".join(f'[dialogue.writes.{name}]\nsend = "{name}={{value:.1f}}"\nexpect = \'OK\'\nexample = "OK"\n' for name in names)
    text += "".join(f'[signals.{name}]\nat = "{name}"\nrange = [0, 100]\naccess = "write"\n' for name in names)
    return Profile.model_validate(tomllib.loads(text))


def slowly(hand: Hand, held: dict[str, float], seconds: float) -> Callable[[str], None]:
    """Return an instrument that answers each command so many seconds later; `held` are its values."""

    def says(line: str) -> None:
        name, _, value = line.partition("=")
        if value:
            held[name] = float(value)
        answer = "ME" if line == "ID" else "OK" if value else f"{name} {held[name]:.1f}"
        asyncio.get_running_loop().call_later(seconds, hand.send, answer.encode() + b"\r\n")

    return says


def test_more_replies_than_a_read_has_time_for_come_in_turn(tmp_path: Path) -> None:
    """12 replies of 60 ms each, and 0.5 s for a read: none is lost, and none is asked for that cannot be waited for."""

    async def main() -> None:
        held = {f"p{place}": float(place) for place in range(12)}
        async with by_hand(tmp_path, lambda line: None, chatty(12, "200 ms")) as (hand, driver):
            hand.says = slowly(hand, held, 0.06)

            async def all_good() -> bool:
                begun = time.monotonic()
                reading = await driver.read()
                assert time.monotonic() - begun < driver.timeout + 0.2
                return bool(reading.quality.max() == Quality.GOOD)

            assert await until(all_good) < 3.0
            assert (await driver.read()).values.tolist() == list(held.values())
            outcomes = await driver.write(dict.fromkeys(held, 50.0))
            done = [outcome.result is WriteResult.CONFIRMED for outcome in outcomes]
            assert done == sorted(done, reverse=True)
            assert 0 < sum(done) < 12
            for outcome, was in zip(outcomes, list(held), strict=True):
                assert (outcome.result is WriteResult.CONFIRMED) == (held[was] == 50.0)
                assert outcome.result is WriteResult.CONFIRMED or "no time is left" in outcome.why
            assert (driver.metrics.connects, driver.metrics.losses) == (1, 0)
            assert driver.metrics.errors["timeout"] == 0

    run(main)


def test_what_is_unknown_is_bad_until_there_was_time_to_read_it(tmp_path: Path) -> None:
    async def main() -> None:
        held = {f"p{place}": 1.0 for place in range(4)}
        async with by_hand(tmp_path, lambda line: None, chatty(4, "200 ms")) as (hand, driver):
            hand.says = says = slowly(hand, held, 0.03)
            await until(lambda: good(driver))

            def garbled(line: str) -> None:
                name, _, value = line.partition("=")
                if not value:
                    says(line)
                    return
                held[name] = float(value)
                hand.send(b"O?\r\n")

            hand.says = garbled
            for name in held:
                [outcome] = await driver.write({name: 50.0})
                assert outcome.result is WriteResult.UNKNOWN
            first = await driver.read()
            assert 0 < (first.quality == Quality.BAD).sum() < 4, "the line is left silent for a while, and then there is no time for all"
            np.testing.assert_array_equal(first.values, np.where(first.quality == Quality.BAD, np.nan, 50.0))
            await until(lambda: good(driver))
            assert (await driver.read()).values.tolist() == [50.0] * 4

    run(main)


def test_a_zero_that_loses_its_sign_is_the_same_number(tmp_path: Path) -> None:
    async def main() -> None:
        held = {"p0": 7.0}
        async with by_hand(tmp_path, lambda line: None, chatty(1, "200 ms")) as (hand, driver):

            def says(line: str) -> str:
                if "=" in line:
                    held["p0"] = abs(float(line.partition("=")[2]))
                return "ME" if line == "ID" else "OK" if "=" in line else f"p0 {held['p0']:.1f}"

            hand.says = says
            assert await until(lambda: good(driver)) < 4.0
            [outcome] = await driver.write({"p0": -0.0})
            assert (held["p0"], outcome.result, outcome.why) == (0.0, WriteResult.CONFIRMED, "")

    run(main)


def test_an_instrument_may_take_as_long_as_its_profile_says(tmp_path: Path) -> None:
    async def main() -> None:
        held = {"p0": 7.0}
        async with by_hand(tmp_path, lambda line: None, chatty(1, "1 s")) as (hand, driver):
            hand.says = slowly(hand, held, 0.7)  # longer than the 0.5 s that the driver was opened with
            assert await until(lambda: good(driver)) < 4.0
            [outcome] = await driver.write({"p0": 8.0})
            assert (outcome.result, outcome.found) == (WriteResult.CONFIRMED, 8.0)
            assert driver.metrics.losses == 0

    run(main)
