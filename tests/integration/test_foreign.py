"""What is served, seen by clients of other makes: mbpoll (libmodbus) over TCP and a serial line, node-opcua over OPC UA."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drivers.device import Address, load_profile, profile_folder
from tests.integration.test_serve import line, serving

pytestmark = pytest.mark.wire

CI = os.environ.get("CI") == "true"
CLIENT = Path(__file__).parent.parent / "foreign" / "opcua.mjs"
DEVICES = [
    {"name": "leach", "profile": "leach_tank", "address": "modbus-tcp://127.0.0.1:0?unit=1"},
    {"name": "hopper", "profile": "weigh_hopper", "address": "modbus-rtu:lines/scale?unit=2&baud=19200"},
    {"name": "shredder", "profile": "shredder", "address": "opc.tcp://127.0.0.1:0"},
]


def needs(there: bool, what: str) -> None:
    if not there and CI:
        pytest.fail(f"CI must not skip this: {what}")
    if not there:
        pytest.skip(what)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], dict[str, str], Path]]:
    folder = tmp_path_factory.mktemp("foreign")
    with serving(DEVICES, folder, "--speed", "1") as process:
        yield process, line(process)["endpoints"], folder


class Mbpoll:
    """One poll, or one write, of a device by mbpoll; addresses as in the profile, from 0."""

    def __init__(self, *options: str, where: str) -> None:
        self._options, self._where = options, where

    def run(self, *options: str, values: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = ["mbpoll", "-0", "-1", "-o", "2", *self._options, *options, self._where, *values]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    def read(self, *options: str) -> list[float]:
        done = self.run(*options)
        assert done.returncode == 0, done.stdout + done.stderr
        return [float(found) for found in re.findall(r"^\[\d+\]:\s+(\S+)", done.stdout, re.MULTILINE)]

    def write(self, *options: str, values: tuple[str, ...]) -> None:
        done = self.run(*options, values=values)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"Written {len(values)} references" in done.stdout

    def refused(self, *options: str, values: tuple[str, ...] = ()) -> str:
        done = self.run(*options, values=values)
        assert done.returncode != 0 or "failed" in done.stderr, done.stdout
        return done.stderr


@pytest.fixture
def leach(plant: tuple[subprocess.Popen[str], dict[str, str], Path]) -> Mbpoll:
    needs(shutil.which("mbpoll") is not None, "no mbpoll: apt-get install mbpoll")
    return Mbpoll("-m", "tcp", "-p", str(Address.parse(plant[1]["leach"]).port), "-a", "1", "-B", where="127.0.0.1")


@pytest.fixture
def hopper(plant: tuple[subprocess.Popen[str], dict[str, str], Path]) -> Mbpoll:
    needs(shutil.which("mbpoll") is not None, "no mbpoll: apt-get install mbpoll")
    return Mbpoll("-m", "rtu", "-b", "19200", "-P", "none", "-a", "2", "-B", where=str(plant[2] / "lines" / "scale"))


def spot(profile: str, signal: str) -> str:
    return str(load_profile(profile_folder() / f"{profile}.toml").signals[signal].at).rpartition(":")[2]


@pytest.mark.parametrize("name", ["leach", "hopper"])
def test_mbpoll_reads_registers_and_bits(name: str, request: pytest.FixtureRequest) -> None:
    device: Mbpoll = request.getfixturevalue(name)
    profile = load_profile(profile_folder() / ("leach_tank.toml" if name == "leach" else "weigh_hopper.toml"))
    assert device.read("-t", "3:int", "-r", "0", "-c", "1") == [profile.identity.value]
    measured = "temperature" if name == "leach" else "weight"
    [value] = device.read("-t", "3:float", "-r", spot(profile.id, measured), "-c", "1")
    low, high = profile.signals[measured].range
    assert low <= value <= high
    assert value == pytest.approx(22.0 if name == "leach" else 0.0, abs=2.0)
    assert device.read("-t", "1", "-r", spot(profile.id, "safe_state"), "-c", "1")[0] in (0.0, 1.0)


def test_mbpoll_writes_a_setpoint_a_coil_and_sees_both(leach: Mbpoll) -> None:
    leach.write("-t", "4", "-r", spot("leach_tank", "heartbeat"), values=("1",))
    leach.write("-t", "4:float", "-r", spot("leach_tank", "stirrer_speed_sp"), values=("72.5",))
    assert leach.read("-t", "4:float", "-r", spot("leach_tank", "stirrer_speed_sp"), "-c", "1") == [72.5]
    coil = spot("leach_tank", "press_discharge")
    leach.write("-t", "0", "-r", coil, values=("1",))
    assert leach.read("-t", "0", "-r", coil, "-c", "1") == [1.0]
    leach.write("-t", "0", "-r", coil, values=("0",))


def test_mbpoll_writes_over_the_serial_line(hopper: Mbpoll) -> None:
    hopper.write("-t", "4", "-r", spot("weigh_hopper", "heartbeat"), values=("7",))
    hopper.write("-t", "4:float", "-r", spot("weigh_hopper", "feeder_rate_sp"), values=("125",))
    assert hopper.read("-t", "4:float", "-r", spot("weigh_hopper", "feeder_rate_sp"), "-c", "1") == [125.0]


def test_mbpoll_is_told_what_was_wrong(leach: Mbpoll) -> None:
    assert "Illegal data address" in leach.refused("-t", "3", "-r", "4000", "-c", "2")
    assert "Illegal data address" in leach.refused("-t", "4", "-r", spot("leach_tank", "stirrer_speed_sp"), values=("1",))  # half of a float
    leach.write("-t", "4", "-r", spot("leach_tank", "heartbeat"), values=("2",))
    assert "Illegal data value" in leach.refused("-t", "4:float", "-r", spot("leach_tank", "stirrer_speed_sp"), values=("9000",))


def test_a_client_of_another_make_finds_opc_ua_normal(plant: tuple[subprocess.Popen[str], dict[str, str], Path]) -> None:
    """It browses, reads types, eu, ranges, status codes and times, sees a change, writes, is refused, and calls a method."""
    needs(shutil.which("node") is not None and (CLIENT.parent / "node_modules").is_dir(), "no node-opcua: make tests/foreign/node_modules/.done")
    _, endpoints, _ = plant
    done = subprocess.run(
        ["node", str(CLIENT), endpoints["shredder"], "nitrogen_flow_sp", "40", "500", "reset_drive"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(next(text for text in done.stdout.splitlines() if text.startswith("{")))
    profile = load_profile(profile_folder() / "shredder.toml")
    assert set(found["variables"]) == {*profile.signals, "identity"}
    for name, signal in profile.signals.items():
        seen = found["variables"][name]
        assert seen["status"] == "Good", (name, seen)
        assert seen["writable"] == (signal.access == "write")
        assert abs(datetime.fromisoformat(seen["time"]) - datetime.now(UTC)) < timedelta(minutes=1)
        if signal.type == "bool":
            assert seen["type"] == "Boolean"
        else:
            assert (seen["EURange"]["low"], seen["EURange"]["high"]) == signal.range
            assert seen["EngineeringUnits"]["displayName"]["text"] == (signal.eu or "1")
            assert seen["EngineeringUnits"]["namespaceUri"] == "http://www.opcfoundation.org/UA/units/un/cefact"
    assert found["variables"]["temperature"]["type"] == "Double"
    assert found["variables"]["temperature"]["EngineeringUnits"]["unitId"] == 4408652  # CEL
    assert (found["written"], found["changes"][-1], found["after"]) == ("Good", 40, 40)
    assert found["refused"] == "BadOutOfRange"
    assert found["called"] == "Good"
