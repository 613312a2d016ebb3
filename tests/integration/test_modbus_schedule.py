"""One link for several units, and what a profile asks of it: turns, dead units, groups, ranges, bits, texts; RTU in a socket, and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import ipaddress
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drivers.connect import open_driver
from drivers.device import Address, Device, Profile
from drivers.driver import NOT_YET, Driver, WriteResult
from drivers.modbus import ModbusDriver
from drivers.tags import Quality
from simulators.bench import StaticPlant
from simulators.serve import Servers
from simulators.serve_modbus import with_crc

pytestmark = pytest.mark.wire


def profile(signals: dict[str, dict[str, Any]], **more: Any) -> Profile:
    known: dict[str, Any] = {"id": "thing", "description": "", "protocol": "modbus", "identity": {"at": "input:0", "value": 7}}
    return Profile.model_validate({**known, **more, "signals": signals})


def at(device: Device, servers: Servers) -> Device:
    return Device(device.name, device.profile, servers.endpoints[device.name], device.poll)


async def until(what: Callable[[], bool], driver: Driver, within: float = 5.0) -> float:
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < within, "it did not happen in time"
        await driver.read()
        await asyncio.sleep(0.005)
    return time.monotonic() - begun


class Gateway:
    """A Modbus TCP server whose units hold one float each, its unit number; some are silent, or slow, and it notes who was asked what."""

    def __init__(self, *silent: int) -> None:
        self.silent = set(silent)
        self.asked: list[tuple[int, int]] = []  # unit, function
        self.delay = 0.0
        self.behave: Callable[[bytes, bytes], list[bytes]] = lambda request, reply: [reply]
        self.connections = 0
        self.port = 0

    def reply(self, unit: int, pdu: bytes) -> bytes:
        self.asked.append((unit, pdu[0]))
        if pdu[0] in (5, 6, 16):
            return pdu[:5]
        count = int.from_bytes(pdu[3:5], "big")
        words = {0: 7, **dict(enumerate(struct.unpack(">HH", struct.pack(">f", float(unit))), 1))}
        data = b"".join(words.get(int.from_bytes(pdu[1:3], "big") + place, 0).to_bytes(2, "big") for place in range(count))
        return bytes((pdu[0], len(data))) + data

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readexactly(7)
                pdu = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                if head[6] in self.silent:
                    self.asked.append((head[6], pdu[0]))
                    continue
                body = self.reply(head[6], pdu)
                if self.delay:
                    await asyncio.sleep(self.delay)
                for frame in self.behave(head + pdu, head[:4] + struct.pack(">HB", len(body) + 1, head[6]) + body):
                    writer.write(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Gateway]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    def device(self, unit: int, poll: float = 0.05, **modbus: Any) -> Device:
        signals = {"level": {"at": "input:1", "range": [0, 300]}, "sp": {"at": "holding:1", "range": [0, 300], "access": "write"}}
        address = Address.parse(f"modbus-tcp://127.0.0.1:{self.port}?unit={unit}")
        return Device(f"u{unit}", profile(signals, modbus=modbus), address, poll)


async def poll(driver: Driver, counts: Counter[str], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reading = await driver.read()
        counts[driver.device.name] += reading.quality.max() == Quality.GOOD
        await asyncio.sleep(0.02)


def test_dead_units_take_no_more_than_their_share(tmp_path: Path) -> None:
    """Two of six units behind one gateway are silent, and each of them costs its timeout: the living are asked nearly as often as alone."""

    async def main() -> None:
        async with Gateway(2, 5).serve() as gateway:
            drivers = [open_driver(gateway.device(unit), data=tmp_path, timeout=0.3) for unit in range(1, 7)]
            counts: Counter[str] = Counter()
            for driver in drivers:
                await driver.__aenter__()
            await asyncio.gather(*(poll(driver, counts, 2.0) for driver in drivers))  # until the breaker is open
            counts.clear()
            gateway.asked.clear()
            begun = time.monotonic()
            await asyncio.gather(*(poll(driver, counts, 3.0) for driver in drivers))
            passed = time.monotonic() - begun
            asked = Counter(unit for unit, _ in gateway.asked)
            assert counts["u2"] == counts["u5"] == 0
            assert asked[2] + asked[5] <= 0.25 * passed / 0.15 + 2, "they take more than their share, a quarter where time is idle"
            assert asked[2] + asked[5] > 0, "dead units are asked, too"
            assert min(counts[f"u{unit}"] for unit in (1, 3, 4, 6)) > 30
            assert gateway.connections == 1
            gateway.silent.clear()
            for driver in (drivers[1], drivers[4]):
                assert await until(lambda driver=driver: driver.metrics.connected, driver) < 5.0  # type: ignore[misc]
            for driver in drivers:
                await driver.__aexit__()

    asyncio.run(main())


def test_a_write_does_not_wait_for_a_whole_plan(tmp_path: Path) -> None:
    async def main() -> None:
        async with Gateway().serve() as gateway:
            gateway.delay = 0.005
            many = {f"s{number}": {"at": f"input:{100 * number + 3}", "range": [0, 300]} for number in range(20)}
            slow = Device("slow", profile(many), gateway.device(1).address)
            async with open_driver(slow, data=tmp_path) as reader, open_driver(gateway.device(2), data=tmp_path) as writer:
                await until(lambda: writer.metrics.connected, writer)
                await until(lambda: reader.metrics.connected, reader)
                gateway.asked.clear()
                reading = asyncio.create_task(reader.read())
                await asyncio.sleep(0)
                await writer.write({"sp": 0.0})  # the gateway forgets it: only its turn counts
                await reading
                assert (2, 16) in gateway.asked[:2], "more than the request that was out went before it"
                assert gateway.asked[-1] == (1, 4), "nothing was left to be asked after it and its reading back"

    asyncio.run(main())


def test_a_device_is_not_blamed_for_our_own_stall(tmp_path: Path) -> None:
    async def main() -> None:
        async with Gateway().serve() as gateway, open_driver(gateway.device(1), data=tmp_path, timeout=0.2) as driver:
            for _ in range(3):
                reading = asyncio.create_task(driver.read())
                await asyncio.sleep(0)
                time.sleep(0.5)  # noqa: ASYNC251  # as a start with a full address space does
                assert (await reading).values[0] == 1.0
            assert driver.metrics.losses == 0
            assert driver.metrics.errors["timeout"] == 0

    asyncio.run(main())


def test_pauses_between_requests_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with Gateway().serve() as gateway, open_driver(gateway.device(1, pause="60 ms"), data=tmp_path) as driver:
            begun = time.monotonic()
            reading = await driver.read()
            assert reading.values[0] == 1.0
            await driver.read()
            assert time.monotonic() - begun >= 3 * 0.06  # four requests, two of each read

    asyncio.run(main())


def test_replies_in_any_order_find_their_questions(tmp_path: Path) -> None:
    """Four in flight, answered two by two backwards, and each reply twice."""
    held: list[bytes] = []

    def swap(request: bytes, reply: bytes) -> list[bytes]:
        held.append(reply)
        if len(held) < 2:
            return []
        swapped = [held[1], held[0], held[0]]
        held.clear()
        return swapped

    async def main() -> None:
        async with Gateway().serve() as gateway:
            signals = {f"s{number}": {"at": f"input:{1 + 200 * number}", "range": [0, 300]} for number in range(8)}
            device = Device("d", profile(signals, modbus={"in_flight": 4}), gateway.device(9).address)
            async with open_driver(device, data=tmp_path) as driver:
                for _ in range(5):
                    gateway.behave = swap
                    reading = await driver.read()
                    np.testing.assert_array_equal(reading.values, [9.0, *[0.0] * 7])
                assert driver.metrics.errors["reply"] > 0  # the second ones are dropped and counted
                assert driver.metrics.losses == 0

    asyncio.run(main())


def test_a_reply_that_is_none_among_good_ones_in_one_piece(tmp_path: Path) -> None:
    """What came before it counts as an answer, what comes behind it is not taken, and the next connection brings all."""
    held: list[bytes] = []

    def spoil(request: bytes, reply: bytes) -> list[bytes]:
        held.append(reply)
        if len(held) < 4:
            return []
        held[1] = held[1][:6] + b"\x08" + held[1][7:]  # another unit
        whole = b"".join(held)
        held.clear()
        return [whole]

    async def main() -> None:
        async with Gateway().serve() as gateway:
            signals = {f"s{number}": {"at": f"input:{1 + 200 * number}", "range": [0, 300]} for number in range(4)}
            device = Device("d", profile(signals, modbus={"in_flight": 4}), gateway.device(9).address)
            async with open_driver(device, data=tmp_path) as driver:
                first = await driver.read()
                np.testing.assert_array_equal(first.values, [9.0, 0.0, 0.0, 0.0])
                gateway.behave = spoil
                begun = time.monotonic()
                reading = await driver.read()
                assert time.monotonic() - begun < 0.5 * driver.timeout, "nobody waits for the others"
                assert driver.metrics.errors["reply"] == 1
                assert reading.received is not None
                assert first.received is not None
                np.testing.assert_array_equal(reading.received, first.received)
                gateway.behave = lambda request, reply: [reply]
                begun = time.monotonic()
                while driver.metrics.reads < 2:
                    assert time.monotonic() - begun < 5.0, driver.metrics
                    reading = await driver.read()
                    await asyncio.sleep(0.01)
                np.testing.assert_array_equal(reading.values, [9.0, 0.0, 0.0, 0.0])

    asyncio.run(main())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda request, reply: [struct.pack(">H", (int.from_bytes(reply[:2], "big") - 1) & 0xFFFF) + reply[2:]],  # another transaction
        lambda request, reply: [b"\0\0" + reply[2:]],  # transaction 0
        lambda request, reply: [reply[:6] + b"\x09" + reply[7:]],  # another unit
        lambda request, reply: [reply[:7] + b"\x03" + reply[8:]],  # another function
        lambda request, reply: [reply[:4] + b"\0\5" + reply[6:8] + b"\2\0\7"],  # fewer registers
        lambda request, reply: [reply[:2] + b"\1\0" + reply[4:]],  # another protocol
        lambda request, reply: [reply[:4] + b"\xff\xff" + reply[6:]],  # too long for a frame
        lambda request, reply: [bytes(300)],
        lambda request, reply: [reply[:5]],
    ],
)
def test_a_reply_that_is_none_gives_no_value(spoil: Callable[[bytes, bytes], list[bytes]], tmp_path: Path) -> None:
    async def main() -> None:
        async with Gateway().serve() as gateway, open_driver(gateway.device(1), data=tmp_path, timeout=0.2) as driver:
            reading = await driver.read()
            assert reading.values[0] == 1.0
            assert reading.received is not None
            before = reading.received.copy()
            gateway.behave = spoil
            end = time.monotonic() + 10.0  # a machine that is busy gives it more time for each reply
            while time.monotonic() < end and driver.metrics.connected:
                reading = await driver.read()
                if driver.metrics.connected:  # what was known ages
                    assert reading.received is not None
                    np.testing.assert_array_equal(reading.received, before)
            assert not driver.metrics.connected
            assert np.isnan(reading.values).all()
            gateway.behave = lambda request, reply: [reply]
            await until(lambda: driver.metrics.connected, driver)
            assert (await driver.read()).values[0] == 1.0

    asyncio.run(main())


def test_groups_are_asked_for_when_they_are_due(tmp_path: Path) -> None:
    async def main() -> None:
        async with Gateway().serve() as gateway:
            signals = {
                "fast": {"at": "input:1", "range": [0, 300]},
                "slow": {"at": "input:200", "range": [0, 300], "group": "slow"},
                "calm": {"at": "input:2", "type": "uint16", "range": [0, 65535], "deadband": 5},
            }
            del signals["calm"]  # it would overlap: see the deadband below
            made = profile(signals, groups={"slow": {"period": "400 ms"}})
            device = Device("d", made, gateway.device(3).address, 0.05)
            async with open_driver(device, data=tmp_path) as driver:
                begun, times = time.monotonic(), set[float]()
                gateway.asked.clear()
                while time.monotonic() - begun < 1.4:
                    reading = await driver.read()
                    assert reading.received is not None
                    assert reading.values[0] == 3.0
                    assert time.monotonic() - reading.received[0] < 0.2
                    times.add(float(reading.received[1]))
                    await asyncio.sleep(0.05)
                assert 3 <= len(times) <= 5
                assert len(gateway.asked) >= 15

    asyncio.run(main())


def test_a_deadband_holds_the_value_while_it_is_fresh(tmp_path: Path) -> None:
    made = profile({"level": {"at": "input:1", "range": [0, 100], "deadband": 0.5}})

    async def main() -> None:
        device, plant = Device("d", made, Address.parse("modbus-tcp://127.0.0.1:0?unit=1")), StaticPlant({"d": made})
        async with Servers([device], plant) as servers, open_driver(at(device, servers), data=tmp_path) as driver:
            for real, shown in ((50.0, 50.0), (50.4, 50.0), (50.5, 50.0), (50.75, 50.75), (50.5, 50.75), (50.0, 50.0)):
                plant.values["d"][0] = real
                servers.stations["d"].moved()
                asked = time.monotonic()
                reading = await driver.read()
                assert reading.values[0] == shown
                assert reading.received is not None
                assert reading.received[0] >= asked

    asyncio.run(main())


EVERYTHING = {
    "beat": {"at": "holding:0", "type": "uint16", "range": [0, 65535], "access": "write"},
    "total": {"at": "input:10", "type": "uint64", "range": [0, 1e12], "word_order": "mid_little"},
    "ratio": {"at": "input:14", "type": "float16", "range": [0, 100]},
    "flow": {"at": "input:15", "type": "int16", "range": [-100, 100], "scale": 0.1, "nan": -32768},
    "mode": {"at": "holding:3", "type": "uint16", "range": [0, 9], "access": "write", "enum": {"0": "stopped", "1": "runs"}},
    "open": {"at": "holding:4", "type": "bool", "bit": 3, "access": "write"},
    "locked": {"at": "holding:4", "type": "bool", "bit": 9},
    "pump": {"at": "coil:0", "type": "bool", "access": "write"},
    "valve": {"at": "coil:1", "type": "bool", "access": "write"},
    "sp1": {"at": "holding:10", "range": [0, 100], "access": "write"},
    "sp2": {"at": "holding:12", "range": [0, 100], "access": "write"},
}


@pytest.mark.parametrize("byte_order", ["big", "little"])
@pytest.mark.parametrize("scheme", ["modbus-tcp://127.0.0.1:0", "modbus-rtu-tcp://127.0.0.1:0", "modbus-rtu:line"])
def test_everything_that_a_profile_can_say(scheme: str, byte_order: str, tmp_path: Path) -> None:
    options = {"byte_order": byte_order, "mask_write": True, "write_runs": True, "forbidden": ["holding:5-9"], "in_flight": 4, "write_single": False}
    identity = {"at": "input:0", "text": "AB-100"}
    made = profile(EVERYTHING, modbus=options, identity=identity, texts={"serial": {"at": "input:20", "length": 12}})

    async def main() -> None:
        device, plant = Device("unit", made, Address.parse(f"{scheme}?unit=1&baud=115200")), StaticPlant({"unit": made})
        plant.values["unit"][made.place("mode")] = 1.0
        async with Servers([device], plant, data=tmp_path) as servers, open_driver(at(device, servers), data=tmp_path) as driver:
            reading = await driver.read()
            assert driver.metrics.connected, driver.metrics.why
            np.testing.assert_array_equal(reading.quality, Quality.GOOD)
            np.testing.assert_allclose(reading.values, plant.values["unit"], rtol=1e-3)
            assert driver.texts == {"serial": "unit serial"}
            changes = {"open": 1.0, "pump": 1.0, "valve": 1.0, "sp1": 25.0, "sp2": 50.5, "mode": 0.0}
            outcomes = await driver.write(changes)
            assert [(outcome.signal, outcome.result) for outcome in outcomes] == [(name, WriteResult.CONFIRMED) for name in changes], outcomes
            for name, value in changes.items():
                assert plant.values["unit"][made.place(name)] == value
            [outcome] = await driver.write({"mode": 5.0})
            assert outcome.result is WriteResult.NOT_SENT
            assert "one of the codes 0, 1" in outcome.why
            plant.values["unit"][made.place("flow")] = np.nan
            plant.values["unit"][made.place("mode")] = 5.0
            servers.stations["unit"].moved()
            reading = await driver.read()
            bad = {name for name, quality in zip(made.names, reading.quality, strict=True) if quality == Quality.BAD}
            assert bad == {"flow", "mode"}

    asyncio.run(main())


def test_another_text_is_another_device(tmp_path: Path) -> None:
    async def main() -> None:
        served, asked = ({"at": "input:0", "text": text} for text in ("AB-100", "AB-200"))
        signals = {"level": {"at": "input:10"}}
        device = Device("d", profile(signals, identity=served), Address.parse("modbus-tcp://127.0.0.1:0?unit=1"))
        async with Servers([device], StaticPlant({"d": device.profile})) as servers:
            wrong = Device("d", profile(signals, identity=asked), servers.endpoints["d"])
            async with open_driver(wrong, data=tmp_path) as driver:
                assert np.isnan((await driver.read()).values).all()
                assert "identity is 'AB-100' at input:0, expected 'AB-200'" in driver.metrics.why

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["text", "value"])
def test_what_another_device_says_of_itself_is_not_shown(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        served, asked = ({"at": "input:0", "text": "AB-100"}, {"at": "input:0", "text": "AB-200"})
        if kind == "value":
            served, asked = ({"at": "input:0", "value": 7}, {"at": "input:0", "value": 8})  # type: ignore[dict-item]
        signals, texts = {"level": {"at": "input:10"}}, {"serial": {"at": "input:20", "length": 12}}
        device = Device("d", profile(signals, identity=served, texts=texts), Address.parse("modbus-tcp://127.0.0.1:0?unit=1"))
        async with Servers([device], StaticPlant({"d": device.profile})) as servers:
            wrong = Device("d", profile(signals, identity=asked, texts=texts), servers.endpoints["d"])
            async with open_driver(wrong, data=tmp_path) as driver:
                await driver.read()
                assert "another device answers" in driver.metrics.why
                assert driver.texts == {}
            async with open_driver(at(device, servers), data=tmp_path) as driver:
                await driver.read()
                assert driver.texts == {"serial": "d serial"}

    asyncio.run(main())


def test_a_unit_that_had_no_turn_yet_is_not_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another one holds the link for longer than a read may take: nothing is known yet, so nothing is told. If that stays so, it is."""

    async def main() -> None:
        async with (
            Gateway().serve() as gateway,
            open_driver(gateway.device(1), data=tmp_path) as slow,
            open_driver(gateway.device(2), data=tmp_path, timeout=0.1) as driver,
        ):
            await slow.read()
            gateway.delay = 0.5
            reading = asyncio.create_task(slow.read())
            await asyncio.sleep(0)
            assert np.isnan((await driver.read()).values).all()
            assert not reading.done()
            assert driver.metrics.why == NOT_YET
            assert [record.getMessage() for record in caplog.records if "u2" in record.getMessage()] == []
            assert isinstance(driver, ModbusDriver)
            driver._heard -= 10.0  # it has waited for so long
            assert np.isnan((await driver.read()).values).all()
            assert "no turn on the link" in driver.metrics.why
            assert sum(driver.metrics.errors.values()) == 0
            gateway.delay = 0.0
            await reading
            await until(lambda: driver.metrics.connected, driver)

    with caplog.at_level("INFO", logger="drivers"):
        asyncio.run(main())


def test_a_late_reply_on_a_line_is_never_the_next_ones(tmp_path: Path) -> None:
    """RTU in a socket: nothing in a frame tells two reads of one length apart, so after a timeout the link is closed and left silent."""
    late: list[tuple[float, int]] = []

    async def main() -> None:
        connections = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            try:
                while True:
                    frame = await reader.readexactly(8)
                    first, count = struct.unpack(">HH", frame[2:6])
                    words = [7 if first + place == 0 else first + place for place in range(count)]
                    if late and first == late[0][1]:
                        await asyncio.sleep(late.pop()[0])
                    writer.write(with_crc(frame[:2] + bytes((2 * count,)) + struct.pack(f">{count}H", *words)))
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        signals = {f"s{number}": {"at": f"input:{number}", "type": "uint16", "range": [0, 65535]} for number in (100, 200, 300, 400)}
        device = Device("d", profile(signals), Address.parse(f"modbus-rtu-tcp://127.0.0.1:{port}?unit=1&baud=115200"))
        async with server, open_driver(device, data=tmp_path, timeout=0.1) as driver:
            for turn in range(8):
                if turn % 2:
                    late.append((0.11 + 0.05 * turn, 100 * (1 + turn // 2)))
                reading = await driver.read()
                for name, value in zip(device.profile.names, reading.values, strict=True):
                    assert np.isnan(value) or value == float(name[1:]), f"{name} has the value of another"
                await until(lambda: driver.metrics.connected, driver)
            assert connections >= 4
            assert driver.metrics.errors["timeout"] >= 4

    asyncio.run(main())


@pytest.mark.parametrize("code", [2, 6])
def test_another_device_that_refuses_the_identity_is_no_value(tmp_path: Path, code: int) -> None:
    """It takes over the unit behind a gateway whose connection stays: its values are never shown, and nothing is written to it."""

    async def main() -> None:
        async with Gateway().serve() as gateway, open_driver(gateway.device(1), data=tmp_path, timeout=0.3) as driver:
            await until(lambda: driver.metrics.connected, driver)
            ours = gateway.reply

            def other(unit: int, pdu: bytes) -> bytes:
                if pdu[0] == 4 and int.from_bytes(pdu[1:3], "big") == 0:
                    gateway.asked.append((unit, pdu[0]))
                    return bytes((pdu[0] | 0x80, code))
                return ours(99, pdu)

            gateway.reply = other  # type: ignore[method-assign]
            end = time.monotonic() + 6.0
            while driver.metrics.connected:
                reading = await driver.read()
                assert not (reading.values == 99.0).any(), reading
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            assert driver.metrics.errors["identity"] == 1
            assert "could not be read" in driver.metrics.why
            gateway.asked.clear()
            [outcome] = await driver.write({"sp": 5.0})
            assert outcome.result is WriteResult.NOT_SENT
            assert not [function for _, function in gateway.asked if function == 16]
            assert np.isnan((await driver.read()).values).all()
            gateway.reply = ours  # type: ignore[method-assign]
            await until(lambda: driver.metrics.connected, driver)
            assert gateway.connections == 1

    asyncio.run(main())


def test_a_unit_that_comes_back_on_the_same_connection_is_asked_who_it_is(tmp_path: Path) -> None:
    """It was silent, another unit kept the connection alive, and now something else answers to its number, whose identity is busy at first."""

    async def main() -> None:
        async with (
            Gateway().serve() as gateway,
            open_driver(gateway.device(2), data=tmp_path) as other,
            open_driver(gateway.device(1), data=tmp_path, timeout=0.3) as driver,
        ):
            ours = gateway.reply

            async def reads() -> bool:
                await other.read()
                reading = await driver.read()
                assert not (reading.values == 99.0).any(), reading
                return driver.metrics.connected

            def stranger(unit: int, pdu: bytes) -> bytes:
                if unit == 1 and pdu[0] == 4 and pdu[1:5] != b"\x00\x00\x00\x01":
                    return bytes((pdu[0] | 0x80, 6))
                return ours(99 if unit == 1 else unit, pdu)

            while not await reads():
                await asyncio.sleep(0.01)
            gateway.silent.add(1)
            while await reads():
                await asyncio.sleep(0.01)
            gateway.reply = stranger  # type: ignore[method-assign]
            gateway.silent.clear()
            end = time.monotonic() + 1.5
            while time.monotonic() < end:  # what must not happen in that time
                assert not await reads()
                await asyncio.sleep(0.02)
            gateway.reply = ours  # type: ignore[method-assign]
            while not await reads():
                assert time.monotonic() < end + 5.0
                await asyncio.sleep(0.02)
            assert gateway.connections == 1

    asyncio.run(main())


def certificate(folder: Path, name: str, days: float = 100.0) -> None:
    """Write a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))


def test_a_server_that_never_finishes_to_connect_is_no_connection(tmp_path: Path) -> None:
    certificate(tmp_path / "tls" / "trusted", "device")

    async def main() -> None:
        gone = asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            with contextlib.suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()
            gone.set()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        address = Address.parse(f"modbus-tls://127.0.0.1:{server.sockets[0].getsockname()[1]}?unit=1")
        async with server, open_driver(Device("d", profile({"level": {"at": "input:10"}}), address), data=tmp_path, timeout=0.3) as driver:
            begun = time.monotonic()
            assert np.isnan((await driver.read()).values).all()
            assert time.monotonic() - begun < 0.6
            assert driver.metrics.errors["connect"] == 1
            assert "cannot connect to 127.0.0.1" in driver.metrics.why
            await asyncio.wait_for(gone.wait(), 5.0)

    asyncio.run(main())


def test_tls_with_a_certificate_of_each_side(tmp_path: Path) -> None:
    server, client = tmp_path / "server", tmp_path / "client"
    certificate(server / "tls", "device", days=20.0)
    certificate(client / "tls", "own", days=50.0)
    certificate(tmp_path, "stranger")
    (server / "tls" / "clients.pem").write_bytes((client / "tls" / "own.pem").read_bytes())
    trusted = client / "tls" / "trusted"
    trusted.mkdir()
    made = profile({"level": {"at": "input:10"}})

    async def main() -> None:
        device, plant = Device("d", made, Address.parse("modbus-tls://127.0.0.1:0?unit=1")), StaticPlant({"d": made})
        async with Servers([device], plant, data=server) as servers:

            async def why() -> str:
                async with open_driver(at(device, servers), data=client) as driver:
                    assert np.isnan((await driver.read()).values).all()
                    assert driver.metrics.errors["connect"] == 1
                    return driver.metrics.why

            assert "no trusted certificate: put the device's" in await why()
            (trusted / "stranger.pem").write_bytes((tmp_path / "stranger.pem").read_bytes())
            assert "a certificate that is not trusted (self-signed certificate); if it is the device's" in await why()
            (trusted / "device.pem").write_bytes((server / "tls" / "device.pem").read_bytes())
            async with open_driver(at(device, servers), data=client) as driver:
                reading = await driver.read()
                assert driver.metrics.connected, driver.metrics.why
                np.testing.assert_allclose(reading.values, plant.values["d"])
                assert driver.metrics.certificate_days == pytest.approx(20.0, abs=0.1)
            (trusted / "device.pem").write_text("no certificate")
            assert "device.pem cannot be used" in await why()

    asyncio.run(main())


def test_malformed_frames_hold_nothing_up(tmp_path: Path) -> None:
    """Two seconds of replies that are cut, changed, doubled, swapped or invented: no foreign value, no stall of 50 ms, and it goes on afterwards."""
    random = np.random.default_rng(5)

    def spoil(request: bytes, reply: bytes) -> list[bytes]:
        at, kind = int(random.integers(len(reply))), int(random.integers(7))
        if kind == 0:
            return [reply[:at]]
        if kind == 1:
            return [reply[:at] + bytes((reply[at] ^ int(random.integers(1, 256)),)) + reply[at + 1 :]] if at < 8 else [reply]
        if kind == 2:
            return [reply, reply]
        if kind == 3:
            return [random.bytes(int(random.integers(1, 600)))]
        if kind == 4:
            return []
        if kind == 5:
            return [random.bytes(3) + reply]
        return [reply]

    async def main() -> None:
        stall = 0.0

        async def watch() -> None:
            nonlocal stall
            while True:
                before = time.thread_time()  # of this thread alone: the machine has other work, too
                await asyncio.sleep(0)
                stall = max(stall, time.thread_time() - before)

        async with Gateway().serve() as gateway, open_driver(gateway.device(1), data=tmp_path, timeout=0.05) as driver:
            await driver.read()
            gateway.behave = spoil
            gc.collect()
            gc.freeze()  # as the service does: what the tests hold is nothing to look through
            watcher = asyncio.create_task(watch())
            end, seen = time.monotonic() + 2.0, 0
            while time.monotonic() < end:
                reading = await driver.read()
                assert np.isnan(reading.values[0]) or reading.values[0] == 1.0
                seen += not np.isnan(reading.values[0])
                await driver.write({"sp": 5.0})
                await asyncio.sleep(0)
            watcher.cancel()
            gc.unfreeze()
            assert seen > 0
            assert stall < 0.05
            gateway.behave = lambda request, reply: [reply]
            begun = time.monotonic()
            while (await driver.read()).values[0] != 1.0:  # the rest of a broken frame may cost one more connection
                assert time.monotonic() - begun < 5.0
                await asyncio.sleep(0.01)

    asyncio.run(main())
