"""The simulated plant as a process: what it says, the commands it takes, and that it ends in time."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.connect import open_driver
from drivers.device import Address, Device, load_profile, profile_folder
from drivers.tags import Quality

pytestmark = pytest.mark.wire

SMALL: list[dict[str, Any]] = [
    {"name": "leach", "profile": "leach_tank", "address": "modbus-tcp://127.0.0.1:0?unit=1"},
    {"name": "hopper", "profile": "weigh_hopper", "address": "modbus-rtu:lines/scale?unit=2&baud=115200"},
]


@contextmanager
def serving(devices: list[dict[str, Any]], folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    path = folder / "devices.json"
    path.write_text(json.dumps(devices))
    command = [sys.executable, "-m", "simulators.serve", "--devices", str(path), "--data", str(folder), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    text = process.stdout.readline()
    assert text, process.stderr.read() if process.stderr is not None and process.poll() is not None else "no answer"
    answer: dict[str, Any] = json.loads(text)
    return answer


def ask(process: subprocess.Popen[str], **command: str) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(command) + "\n")
    process.stdin.flush()
    return line(process)


def device(entry: dict[str, Any], address: str) -> Device:
    return Device(entry["name"], load_profile(profile_folder() / f"{entry['profile']}.toml"), Address.parse(address))


def test_it_serves_obeys_and_ends_with_its_input(tmp_path: Path) -> None:
    with serving(SMALL, tmp_path, "--speed", "20", "--start", "1700000000000000000") as process:
        ready = line(process)
        assert ready["ready"] is True
        found = [device(entry, ready["endpoints"][entry["name"]]) for entry in SMALL]
        assert found[0].address.port > 0

        async def main() -> None:
            async with open_driver(found[0], data=tmp_path) as leach, open_driver(found[1], data=tmp_path) as hopper:
                for driver in (leach, hopper):
                    reading = await driver.read()
                    assert driver.metrics.connected, driver.metrics.why
                    assert reading.quality.max() == Quality.GOOD
                assert ask(process, do="stop", device="leach") == {"done": "stop", "device": "leach"}
                assert (await leach.read()).quality.min() == Quality.BAD
                assert (await hopper.read()).quality.max() == Quality.GOOD
                assert ask(process, do="start", device="leach") == {"done": "start", "device": "leach"}
                deadline = time.monotonic() + 5.0
                while (await leach.read()).quality.max() != Quality.GOOD:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)

        asyncio.run(main())
        assert "charged" in ask(process, do="truth")["truth"]
        assert "known: stop" in ask(process, do="dance")["error"]
        assert "no device 'x'" in ask(process, do="stop", device="x")["error"]
        assert process.stdin is not None
        process.stdin.close()
        begun = time.monotonic()
        assert "charged" in line(process)["final"]
        assert process.wait(2.0) == 0
        assert time.monotonic() - begun < 2.0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not os.path.lexists(tmp_path / "lines/scale")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number: signal.Signals, tmp_path: Path) -> None:
    with serving(SMALL[:1], tmp_path) as process:
        assert line(process)["ready"]
        process.send_signal(number)
        assert "final" in line(process)
        assert process.wait(2.0) == 0


def test_plant_time_follows_the_clock_it_is_given(tmp_path: Path) -> None:
    """Water runs in for 60 s of plant time in under 2 s of ours."""
    epoch = time.monotonic_ns()
    with serving(SMALL[:1], tmp_path, "--speed", "60", "--epoch", str(epoch)) as process:
        leach = device(SMALL[0], line(process)["endpoints"]["leach"])

        async def main() -> float:
            async with open_driver(leach, data=tmp_path) as driver:
                place = leach.profile.place("volume")
                before = (await driver.read()).values[place]
                await driver.write({"water_flow_sp": 150.0, "heartbeat": 1.0})
                deadline = time.monotonic() + 4.0
                while (now := (await driver.read()).values[place]) < before + 0.1:
                    assert time.monotonic() < deadline, f"volume went from {before:g} to {now:g} m3"
                    await asyncio.sleep(0.05)
                return float(now - before)

        assert np.isfinite(asyncio.run(main()))


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with serving(SMALL[:1], tmp_path) as process:
        taken = line(process)["endpoints"]["leach"]
        other = tmp_path / "other"
        other.mkdir()
        with serving([{**SMALL[0], "address": taken}], other) as second:
            assert second.wait(20.0) == 2
            assert second.stderr is not None
            [text] = second.stderr.read().splitlines()
            assert text.startswith(f"device leach: cannot serve {taken}")
            assert "Change its address" in text


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([{"name": "a", "profile": "nothing", "address": "modbus-tcp://127.0.0.1:0"}], "no device profile 'nothing'"),
        ([{"name": "a", "profile": "leach_tank", "address": "http://x"}], "expected opc.tcp"),
        ([{"name": "a", "profile": "leach_tank"}], "address"),
        ([{"name": "a", "profile": "leach_tank", "address": "opc.tcp://127.0.0.1:0"}], "change its address"),
    ],
)
def test_a_bad_list_of_devices(devices: list[dict[str, str]], expected: str, tmp_path: Path) -> None:
    with serving(devices, tmp_path) as process:
        assert process.wait(20.0) == 2
        assert process.stderr is not None
        assert expected in process.stderr.read()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--feed", "nope"), "feed 'nope' is not known; known: nmc111"),
        (("--fault", "leach.ph:melted"), "kind 'melted' is not known"),
        (("--fault", "leach.phh:frozen"), "did you mean leach.ph"),
        (("--fault", "AT-201:drift=0.05"), "expected a drift an hour"),
    ],
)
def test_a_feed_or_fault_that_is_none_is_refused_before_anything_is_served(options: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    devices: list[dict[str, Any]] = [{**SMALL[0], "tags": {"AT-201": "ph"}}, SMALL[1]]
    with serving(devices, tmp_path, *options) as process:
        assert process.wait(20.0) == 2
        assert process.stderr is not None
        assert process.stdout is not None
        [text] = process.stderr.read().splitlines()
        assert expected in text
        assert process.stdout.read() == ""
    assert not os.path.lexists(tmp_path / "lines/scale")


def test_faults_come_and_go_on_the_wire(tmp_path: Path) -> None:
    """One from the command line, by its tag, on a Modbus device; one while it runs, on OPC UA, where the status code says so."""
    shredder = {"name": "shredder", "profile": "shredder", "address": "opc.tcp://127.0.0.1:0"}
    devices: list[dict[str, Any]] = [{**SMALL[0], "tags": {"AT-201": "ph"}}, shredder]
    feed = tmp_path / "feed.toml"
    feed.write_text('name = "mine"\n[composition]\nNi = 20.0\nCo = 7.0\nMn = 6.5\nLi = 4.0\nC = 30.0\n')
    with serving(devices, tmp_path, "--fault", "AT-201:ne43=high", "--feed", str(feed), "--speed", "5") as process:
        endpoints = line(process)["endpoints"]
        found = [device(entry, endpoints[entry["name"]]) for entry in devices]

        async def quality(driver: Any, name: str, expected: Quality) -> None:
            place = driver.device.profile.place(name)
            deadline = time.monotonic() + 5.0
            while (await driver.read()).quality[place] != expected:
                assert time.monotonic() < deadline, f"{name} does not become {expected.name}"
                await asyncio.sleep(0.02)

        async def main() -> None:
            async with open_driver(found[0], data=tmp_path) as leach, open_driver(found[1], data=tmp_path) as rotor:
                await quality(leach, "ph", Quality.BAD)
                await quality(leach, "temperature", Quality.GOOD)
                await quality(rotor, "oxygen", Quality.GOOD)
                assert ask(process, do="fault", text="shredder.oxygen:ne43=low")["done"] == "fault"
                await quality(rotor, "oxygen", Quality.BAD)
                await quality(rotor, "temperature", Quality.GOOD)
                assert ask(process, do="fault", text="leach:offline@0s+1h")["done"] == "fault"
                await quality(leach, "temperature", Quality.BAD)
                assert len(ask(process, do="faults")["faults"]) == 3
                assert ask(process, do="clear") == {"done": "clear"}
                for driver, name in ((leach, "ph"), (rotor, "oxygen"), (leach, "temperature")):
                    await quality(driver, name, Quality.GOOD)

        asyncio.run(main())
        assert "no target" in ask(process, do="fault", text="x:frozen")["error"]


def test_for_people_it_says_what_is_served_fed_and_going_to_fail(tmp_path: Path) -> None:
    lot = tmp_path / "lot.toml"
    lot.write_text('name = "lot 4711"\nlfp = 2.0\n[composition]\nNi = 20.5\nCo = 7.0\nMn = 6.8\nLi = 4.1\nC = 30.0\nZn = 0.02\n')
    with serving(SMALL[:1], tmp_path, "--text", "--feed", str(lot), "--fault", "leach.ph:drift=0.05/h@2h") as process:
        assert process.stdout is not None
        served, fed, fails = (process.stdout.readline().split() for _ in range(3))
        assert served[0] == "leach"
        assert served[1].startswith("modbus-tcp://127.0.0.1:")
        assert " ".join(fed) == "feed lot 4711: C 30, Ni 20.5, Co 7, Mn 6.8, Li 4.1, LFP 2 wt%"
        assert " ".join(fails) == "fault leach.ph:drift=0.05/h@7200s"
