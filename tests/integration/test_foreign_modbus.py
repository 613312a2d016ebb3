"""Our Modbus driver against a device of another make: a server on libmodbus, in C, over TCP and over a serial line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import select
import subprocess
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from drivers.connect import open_driver
from drivers.device import Address, Device, SignalType, load_profile
from drivers.driver import Driver, WriteResult
from drivers.tags import Quality
from tests.integration.test_foreign import needs
from tests.integration.waiting import good, until

pytestmark = pytest.mark.wire

FOREIGN = Path(__file__).parent.parent / "foreign"
UNIT = 17
ORDERS = {("big", "big"): 100, ("big", "little"): 200, ("little", "big"): 300, ("little", "little"): 400}  # byte and word order: where
VALUES: dict[str, tuple[int, float]] = {  # of a type: where in each hundred of modbus_server.c, and what
    "bool": (2, 1.0),
    "int16": (0, -12345.0),
    "uint16": (1, 54321.0),
    "int32": (4, -123456789.0),
    "uint32": (12, 3123456789.0),
    "int64": (20, -1234567890123456789.0),
    "uint64": (16, 12345678901234567890.0),
    "float16": (3, -1.5),
    "float32": (32, -1234.5),
    "float64": (36, -98765.4321),
}


@pytest.fixture(scope="module")
def program() -> str:
    built = subprocess.run([FOREIGN / "build", FOREIGN / "modbus_server.c"], capture_output=True, text=True, timeout=60, check=False)
    needs(built.returncode == 0, built.stderr.strip())
    return built.stdout.strip()


class Peer:
    """A running modbus_server: where it is, and the writes that it has executed."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: list[dict[str, Any]] = []
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        assert first, f"{' '.join(command)} ended with {self._process.wait(5)}"
        self.port = json.loads(first)["port"]
        self._reader = threading.Thread(target=self._follow)
        self._reader.start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._lines.append(json.loads(text))

    def kill(self) -> list[dict[str, Any]]:
        """End it as a power cut would, and return the writes that it had executed."""
        self._process.kill()
        self._process.wait(5)
        self._reader.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return self._lines


class Cable:
    """Two serial ports and what one sends on the other's side; it stays when a device at its end dies."""

    def __init__(self) -> None:
        self._pairs = [os.openpty(), os.openpty()]
        for pair in self._pairs:
            tty.setraw(pair[1])
        self.near, self.far = (os.ttyname(slave) for _, slave in self._pairs)
        self._end = os.pipe()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self) -> None:
        near, far = (master for master, _ in self._pairs)
        while True:
            ready, _, _ = select.select([near, far, self._end[0]], [], [])
            if self._end[0] in ready:
                return
            for source, sink in ((near, far), (far, near)):
                if source in ready:
                    os.write(sink, os.read(source, 4096))

    def close(self) -> None:
        os.write(self._end[1], b"x")
        self._thread.join(5)
        for file in (*self._pairs[0], *self._pairs[1], *self._end):
            os.close(file)


class Place:
    """Where the device is, which can die and come back there."""

    def __init__(self, program: str, cable: Cable | None) -> None:
        self._program, self._cable, self._port, self.tcp = program, cable, 0, cable is None
        self._peer: Peer | None = None
        self.writes: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        if self._cable is None:
            self._peer = Peer(self._program, "tcp", str(self._port))
            self._port = self._peer.port
        else:
            self._peer = Peer(self._program, "rtu", self._cable.far, "115200", str(UNIT))

    def stop(self) -> None:
        if self._peer is not None:
            self.writes += self._peer.kill()
            self._peer = None

    @property
    def address(self) -> str:
        if self._cable is None:
            return f"modbus-tcp://127.0.0.1:{self._port}?unit={UNIT}"
        return f"modbus-rtu:{self._cable.near}?unit={UNIT}&baud=115200"


@pytest.fixture(params=["tcp", "rtu"])
def place(program: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    with contextlib.ExitStack() as ends:
        cable = Cable() if request.param == "rtu" else None
        if cable is not None:
            ends.callback(cable.close)
        made = Place(program, cable)
        ends.callback(made.stop)
        yield made


def device(folder: Path, place: Place, signals: dict[str, dict[str, object]], **options: object) -> Device:
    """A device with a profile of its own, written and read as people do. `options` are those of its [modbus]; `identity` is where it is."""
    identity = options.pop("identity", "input:134")
    lines = ['id = "libmodbus"', 'description = "A server in C"', 'protocol = "modbus"']
    lines += [f'identity = {{ at = "{identity}", type = "uint32", value = 43211234 }}', "[modbus]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    for name, keys in signals.items():
        lines += [f"[signals.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in {"range": [-2e19, 2e19], **keys}.items())]
    path = folder / "libmodbus.toml"
    path.write_text("\n".join(lines) + "\n")
    return Device("peer", load_profile(path), Address.parse(place.address))


async def lost(driver: Driver) -> bool:
    return bool((await driver.read()).quality.min() == Quality.BAD)


@pytest.mark.parametrize("table", ["input", "holding"])
@pytest.mark.parametrize("order", list(ORDERS), ids="-".join)
def test_every_type_in_every_order(place: Place, order: tuple[str, str], table: str, tmp_path: Path) -> None:
    kinds = get_args(SignalType)
    signals = {f"a_{kind}": {"type": kind, "at": f"{table}:{ORDERS[order] + VALUES[kind][0]}"} for kind in kinds}
    what = device(tmp_path, place, signals, byte_order=order[0], word_order=order[1], identity=f"{table}:{ORDERS[order] + 34}")

    async def main() -> None:
        async with open_driver(what, data=tmp_path) as driver:
            reading = await driver.read()
            assert driver.metrics.connected, driver.metrics.why
            np.testing.assert_array_equal(reading.quality, Quality.GOOD)
            np.testing.assert_array_equal(reading.values, [VALUES[kind][1] for kind in kinds])

    asyncio.run(main())


def test_bits_of_both_tables(place: Place, tmp_path: Path) -> None:
    signals = {f"bit_{n}": {"type": "bool", "at": f"discrete:{n}", "range": [0, 1]} for n in (0, 1, 3, 5, 12, 97, 99)}
    signals["coil"] = {"type": "bool", "at": "coil:9", "range": [0, 1], "access": "write"}

    async def main() -> None:
        async with open_driver(device(tmp_path, place, signals), data=tmp_path) as driver:
            np.testing.assert_array_equal((await driver.read()).values, [1, 0, 1, 0, 1, 0, 1, 0])
            [outcome] = await driver.write({"coil": 1.0})
            assert outcome.result is WriteResult.CONFIRMED, outcome
            np.testing.assert_array_equal((await driver.read()).values, [1, 0, 1, 0, 1, 0, 1, 1])

    asyncio.run(main())
    place.stop()
    assert place.writes == [{"write": 1, "unit": UNIT, "function": 5, "address": 9, "count": 1}]


@pytest.mark.parametrize("order", list(ORDERS), ids="-".join)
def test_a_write_is_executed_once_and_read_back(place: Place, order: tuple[str, str], tmp_path: Path) -> None:
    asked = {"bool": 1.0, "int16": -7.0, "uint16": 40000.0, "int32": -70000.0, "uint32": 4e9, "float32": 0.15625, "float64": 1e-3}
    signals: dict[str, dict[str, object]] = {
        f"a_{kind}": {"type": kind, "at": f"holding:{10 + 4 * n}", "access": "write"} for n, kind in enumerate(asked)
    }
    what = device(tmp_path, place, signals, byte_order=order[0], word_order=order[1], identity=f"input:{ORDERS[order] + 34}")

    async def main() -> None:
        async with open_driver(what, data=tmp_path) as driver:
            await until(lambda: good(driver))
            outcomes = await driver.write({f"a_{kind}": value for kind, value in asked.items()})
            assert [outcome.result for outcome in outcomes] == [WriteResult.CONFIRMED] * len(asked), outcomes
            np.testing.assert_array_equal((await driver.read()).values, list(asked.values()))

    asyncio.run(main())
    place.stop()
    assert [(entry["write"], entry["address"]) for entry in place.writes] == [(n + 1, 10 + 4 * n) for n in range(len(asked))]


def test_what_is_refused_is_bad_and_its_neighbours_live(place: Place, tmp_path: Path) -> None:
    signals: dict[str, dict[str, object]] = {
        f"r{at}": {"type": "uint16", "at": f"holding:{at}", "access": "write"} for at in (598, 599, 600, 619, 620)
    }

    async def main() -> None:
        async with open_driver(device(tmp_path, place, signals, gap=20), data=tmp_path) as driver:

            async def settled() -> bool:
                quality = (await driver.read()).quality
                return [int(one) for one in quality] == [Quality.GOOD, Quality.GOOD, Quality.BAD, Quality.BAD, Quality.GOOD]

            await until(settled)
            reading = await driver.read()
            np.testing.assert_array_equal(reading.values, [0.0, 0.0, math.nan, math.nan, 0.0])
            assert driver.metrics.connected
            assert driver.metrics.errors["exception"] > 0
            outcomes = await driver.write({"r599": 5.0, "r600": 5.0, "r620": 6.0})
            assert [outcome.result for outcome in outcomes] == [WriteResult.CONFIRMED, WriteResult.REFUSED, WriteResult.CONFIRMED]
            assert "exception 2" in outcomes[1].why

    asyncio.run(main())
    place.stop()
    assert [entry["address"] for entry in place.writes] == [599, 620]


@pytest.mark.parametrize("code", range(1, 12))
def test_an_exception_costs_only_its_own_value(place: Place, code: int, tmp_path: Path) -> None:
    signals = {"fine": {"type": "int16", "at": "holding:100"}, "not": {"type": "uint16", "at": f"holding:{700 + code}"}}

    async def main() -> None:
        async with open_driver(device(tmp_path, place, signals), data=tmp_path) as driver:

            async def settled() -> bool:
                quality = (await driver.read()).quality
                return [int(one) for one in quality] == [Quality.GOOD, Quality.BAD]

            await until(settled)
            np.testing.assert_array_equal((await driver.read()).values, [-12345.0, math.nan])

    asyncio.run(main())


def test_it_dies_and_returns(place: Place, tmp_path: Path) -> None:
    signals = {"level": {"type": "float32", "at": "input:132"}, "sp": {"type": "float32", "at": "holding:10", "access": "write"}}

    async def main() -> None:
        async with open_driver(device(tmp_path, place, signals), data=tmp_path) as driver:
            await until(lambda: good(driver))
            [outcome] = await driver.write({"sp": 3.5})
            assert outcome.result is WriteResult.CONFIRMED
            place.stop()
            begun = time.monotonic()
            await until(lambda: lost(driver), 3.0)  # over TCP the link drops; a silent line fails twice first
            assert time.monotonic() - begun < (0.5 if place.tcp else 3.0)
            reading = await driver.read()
            np.testing.assert_array_equal(reading.quality, Quality.BAD)
            assert np.isnan(reading.values).all()
            [outcome] = await driver.write({"sp": 4.5})
            assert outcome.result in (WriteResult.NOT_SENT, WriteResult.UNKNOWN)
            place.start()
            assert await until(lambda: good(driver)) < 5.0
            assert (await driver.read()).values.tolist() == [-1234.5, 0.0]  # it has forgotten what was written, and nothing was repeated
            assert (driver.metrics.connects, driver.metrics.losses) == (2, 1)

    asyncio.run(main())
    place.stop()
    assert [entry["address"] for entry in place.writes] == [10]
