"""The OPC UA driver against simulated devices over real sockets. One server is built for all tests: its address space takes a second."""

import asyncio
import logging
import math
import time
from pathlib import Path

import numpy as np
import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError

from drivers.connect import open_driver
from drivers.device import Address, Device, load_profile, profile_folder
from drivers.driver import Driver, Reading, WriteResult
from drivers.tags import Quality
from simulators.bench import StaticPlant
from simulators.serve import Servers
from tests.integration.waiting import good, until, widened

pytestmark = pytest.mark.wire

PROFILES = {path.stem: load_profile(path) for path in sorted(profile_folder().glob("*.toml"))}
OPCUA = [name for name, profile in PROFILES.items() if profile.protocol == "opcua"]
START = 1_700_000_000_000_000_000
HERE = Path()


def bench(*names: str) -> tuple[list[Device], StaticPlant]:
    made = [Device(name, PROFILES[name], Address.parse("opc.tcp://127.0.0.1:0/bench")) for name in names]
    return made, StaticPlant({device.name: device.profile for device in made})


def at(name: str, servers: Servers, profile: str | None = None) -> Device:
    return Device(name, PROFILES[profile or name], servers.endpoints[name])


def value(driver: Driver, reading: Reading, signal: str) -> float:
    return float(reading.values[driver.device.profile.place(signal)])


def polled(device: Device, registered: bool = False) -> Device:
    options = device.profile.opcua.model_copy(update={"mode": "poll", "registered": registered})
    return Device(device.name, device.profile.model_copy(update={"opcua": options}), device.address)


async def everything_comes_and_goes(device: Device, plant: StaticPlant) -> None:
    name, profile = device.name, device.profile
    async with open_driver(device, data=HERE) as driver:
        reading = await driver.read()
        assert driver.metrics.connected, driver.metrics.why
        np.testing.assert_array_equal(reading.quality, Quality.GOOD)
        np.testing.assert_allclose(reading.values, plant.values[name], rtol=1e-12)
        plant.time += 2.5
        moved = np.array([signal.access == "read" and not signal.discrete for signal in profile.signals.values()])
        plant.values[name][moved] += 0.25

        async def shown() -> bool:
            return bool(np.allclose((await driver.read()).values, plant.values[name], rtol=1e-12))

        await until(shown)
        reading = await driver.read()
        np.testing.assert_array_equal(reading.source_time[moved], START + round(plant.time * 1e9))
        assert reading.received is not None
        assert time.monotonic() - reading.received.min() < 1.0
        changes = {}
        for signal, its in profile.signals.items():
            if its.access == "write":
                changes[signal] = float(round(its.range[0] + 0.75 * (its.range[1] - its.range[0])))
        outcomes = await driver.write(changes)
        assert [outcome.result for outcome in outcomes] == [WriteResult.CONFIRMED] * len(changes)
        reading = await driver.read()
        assert {signal: value(driver, reading, signal) for signal in changes} == changes
        assert driver.metrics.errors == dict.fromkeys(driver.metrics.errors, 0)


async def refusals(servers: Servers, plant: StaticPlant) -> None:
    wide = widened(at("shredder", servers), "rotor_speed_sp", 0.0, 1000.0)
    async with open_driver(wide, data=HERE) as driver:
        assert await good(driver)
        before = plant.values["shredder"].copy()
        asked = {"rotor_speed_sp": 61.0, "oxygen": 5.0, "feed_rate_sp": math.nan, "heartbeat": 70000.0, "nothing": 1.0}
        outcomes = {outcome.signal: outcome for outcome in await driver.write(asked)}
        assert outcomes.pop("rotor_speed_sp")[3:] == (WriteResult.REFUSED, "BadOutOfRange")
        assert {outcome.result for outcome in outcomes.values()} == {WriteResult.NOT_SENT}
        assert "only read" in outcomes["oxygen"].why
        assert outcomes["feed_rate_sp"].why.endswith("got nan")
        assert outcomes["heartbeat"].why == "expected 0 to 65535, got 70000"
        np.testing.assert_array_equal((await driver.read()).values, before)


async def the_server_itself_refuses(servers: Servers) -> None:
    client = Client(str(servers.endpoints["shredder"]))
    async with client:
        space = await client.get_namespace_index("urn:blackmass:shredder")
        node = ua.NodeId.from_string(f"ns={space};s=oxygen")
        wide = ua.NodeId.from_string(f"ns={space};s=rotor_speed_sp")
        parcels = [ua.DataValue(ua.Variant(5.0, ua.VariantType.Double), StatusCode=None), ua.DataValue(ua.Variant(5, ua.VariantType.Int32))]
        codes = await client.uaclient.write_attributes([node, wide], parcels)
        assert [code.name for code in codes] == ["BadNotWritable", "BadTypeMismatch"]
    admin = Client(str(servers.endpoints["shredder"]))
    admin.set_user("admin")
    with pytest.raises(UaError):
        await admin.connect()


async def loss_and_return(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    async with open_driver(at("shredder", servers), data=HERE) as driver:
        assert await good(driver)
        await servers.stop_device("shredder")
        begun = time.monotonic()
        reading = await driver.read()
        assert time.monotonic() - begun < 0.5
        assert reading.quality.min() == Quality.BAD
        assert np.isnan(reading.values).all()
        assert driver.metrics.why
        [outcome] = await driver.write({"rotor_speed_sp": 3.0})
        assert outcome.result is WriteResult.NOT_SENT
        for _ in range(3):
            assert not await good(driver)
        await servers.start_device("shredder")
        assert await until(lambda: good(driver)) < 5.0
        assert (driver.metrics.connects, driver.metrics.losses, driver.metrics.why) == (2, 1, "")
    levels = [record.levelname for record in caplog.records if record.name.startswith("drivers")]
    assert levels == ["INFO", "WARNING", "INFO"]


async def in_step(servers: Servers) -> None:
    """What is published is read when it has come; a cut link ends the wait for it."""
    device = at("shredder", servers)
    slow = Device(device.name, device.profile, device.address, poll=1.0)
    async with open_driver(slow, data=HERE) as driver:
        await until(lambda: good(driver))
        assert await driver.due(1.0, 1.0)
        for _ in range(3):
            await driver.read()
            assert await driver.due(1.0, 1.0)
            begun = time.monotonic()
            reading = await driver.read()
            assert reading.received is not None
            assert begun - reading.received.min() < 0.6  # it has just come; a second is how long it could have waited
        waiting = asyncio.create_task(driver.due(30.0, 30.0))
        await asyncio.sleep(0)
        begun = time.monotonic()
        await servers.stop_device("shredder")
        assert await waiting
        assert time.monotonic() - begun < 5.0
        assert not await good(driver)
        begun = time.monotonic()
        assert not await driver.due(0.05, 0.05)  # nothing is published, so time alone counts
        assert 0.04 < time.monotonic() - begun < 1.0
        await servers.start_device("shredder")


async def wrong_device(servers: Servers) -> None:
    async with open_driver(at("precipitation_reactor", servers, "shredder"), data=HERE) as driver:
        assert (await driver.read()).quality.min() == Quality.BAD
        assert "offers no namespace urn:blackmass:shredder" in driver.metrics.why
    profile = PROFILES["shredder"]
    other = profile.model_copy(update={"identity": profile.identity.model_copy(update={"value": 1002.0})})
    async with open_driver(Device("shredder", other, servers.endpoints["shredder"]), data=HERE) as driver:
        assert (await driver.read()).quality.min() == Quality.BAD
        assert "identity is 1001 at nsu=urn:blackmass:shredder;s=identity, expected 1002: another device" in driver.metrics.why
    torque = profile.signals["torque"].model_copy(update={"type": "float32"})
    typed = profile.model_copy(update={"signals": {**profile.signals, "torque": torque}})
    async with open_driver(Device("shredder", typed, servers.endpoints["shredder"]), data=HERE) as driver:
        reading = await driver.read()
        assert driver.metrics.connected
        bad = np.flatnonzero(reading.quality == Quality.BAD)
        assert [profile.names[place] for place in bad] == ["torque"]


async def nothing_left(servers: Servers) -> None:
    tasks = asyncio.all_tasks()
    async with open_driver(at("shredder", servers), data=HERE) as driver:
        assert await good(driver)
        begun = time.monotonic()
    assert time.monotonic() - begun < 0.5

    async def ended() -> bool:
        return asyncio.all_tasks() <= tasks  # the server notices a turn later

    await until(ended)
    assert (await driver.read()).quality.min() == Quality.BAD


async def heartbeat(servers: Servers, clock: list[float]) -> None:
    async with open_driver(at("shredder", servers), data=HERE) as driver:
        assert await good(driver)
        await driver.write({"heartbeat": 7.0, "nitrogen_flow_sp": 5.0, "feed_rate_sp": 300.0})
        clock[0] += 5.1

        async def fallen() -> bool:
            return value(driver, await driver.read(), "safe_state") == 1.0

        await until(fallen)
        reading = await driver.read()
        assert (value(driver, reading, "nitrogen_flow_sp"), value(driver, reading, "feed_rate_sp")) == (60.0, 0.0)
        [outcome] = await driver.write({"feed_rate_sp": 300.0})
        assert (outcome.result, outcome.why) == (WriteResult.REFUSED, "BadInvalidState")
        await driver.write({"heartbeat": 8.0})

        async def risen() -> bool:
            return not await fallen()

        await until(risen)


def test_opcua_devices_on_the_wire(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        devices, plant = bench(*OPCUA)
        clock = [0.0]
        async with Servers(devices, plant, start=START, monotonic=lambda: clock[0]) as servers:
            for name in OPCUA:
                await everything_comes_and_goes(at(name, servers), plant)
            for registered in (False, True):
                await everything_comes_and_goes(polled(at(OPCUA[0], servers), registered), plant)
            await refusals(servers, plant)
            await the_server_itself_refuses(servers)
            await loss_and_return(servers, caplog)
            await in_step(servers)
            await wrong_device(servers)
            await heartbeat(servers, clock)
            await nothing_left(servers)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with caplog.at_level(logging.INFO, logger="drivers"):
        asyncio.run(main())


def test_a_server_that_is_not_there_and_one_that_is_mute() -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            gone.set()

        nowhere = Device("ghost", PROFILES["shredder"], Address.parse("opc.tcp://127.0.0.1:1"))
        async with open_driver(nowhere, data=HERE) as driver:
            assert (await driver.read()).quality.min() == Quality.BAD
            assert "cannot connect to opc.tcp://127.0.0.1:1" in driver.metrics.why
        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        address = Address.parse(f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server, open_driver(Device("mute", PROFILES["shredder"], address), data=HERE, timeout=0.3) as driver:
            begun = time.monotonic()
            assert (await driver.read()).quality.min() == Quality.BAD
            assert time.monotonic() - begun < 0.6
        await gone.wait()

    asyncio.run(main())
