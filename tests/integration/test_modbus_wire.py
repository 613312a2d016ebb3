"""The Modbus driver against simulated devices over real sockets and pseudo-terminals."""

import asyncio
import contextlib
import logging
import math
import os
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from drivers.connect import open_driver
from drivers.device import Address, Device, Profile, load_profile, profile_folder
from drivers.driver import Driver, Reading, WriteResult
from drivers.modbus import ModbusDriver
from drivers.modbus_codec import Way, decode_one, encode_one
from drivers.modbus_options import ByteOrder, WordOrder
from drivers.tags import Quality
from simulators.bench import StaticPlant
from simulators.serve import CannotServe, Servers
from tests.integration.waiting import good, until, widened

pytestmark = pytest.mark.wire

PROFILES = {path.stem: load_profile(path) for path in sorted(profile_folder().glob("*.toml"))}
MODBUS = [name for name, profile in PROFILES.items() if profile.protocol == "modbus"]
TCP = "modbus-tcp://127.0.0.1:0?unit=1"


def bench(*devices: tuple[str, str, str]) -> tuple[list[Device], StaticPlant]:
    made = [Device(name, PROFILES[profile], Address.parse(address)) for name, profile, address in devices]
    return made, StaticPlant({device.name: device.profile for device in made})


def at(device: Device, servers: Servers) -> Device:
    return Device(device.name, device.profile, servers.endpoints[device.name])


async def read_until_set(driver: Driver, event: asyncio.Event) -> bool:
    await driver.read()
    return event.is_set()


async def bad(driver: Driver) -> bool:
    return bool((await driver.read()).quality.min() == Quality.BAD)


def value(driver: Driver, reading: Reading, signal: str) -> float:
    return float(reading.values[driver.device.profile.place(signal)])


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def sockets() -> int:
    count = 0
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{entry}").startswith(("socket:", "/dev/pt"))
    return count


@pytest.mark.parametrize("address", [TCP, "modbus-rtu:lines/a?unit=7&baud=115200"])
@pytest.mark.parametrize("profile", MODBUS)
def test_every_signal_comes_and_goes(profile: str, address: str, tmp_path: Path) -> None:
    async def main() -> None:
        devices, plant = bench(("d", profile, address))
        async with Servers(devices, plant, data=tmp_path) as servers, open_driver(at(devices[0], servers), data=tmp_path) as driver:
            reading = await driver.read()
            assert driver.metrics.connected, driver.metrics.why
            np.testing.assert_array_equal(reading.quality, Quality.GOOD)
            np.testing.assert_allclose(reading.values, plant.values["d"], rtol=1e-6)
            wanted = {}
            for name, signal in PROFILES[profile].signals.items():
                low, high = signal.range
                wanted[name] = float(round(low + 0.75 * (high - low))) if signal.access == "write" else math.nan
            changes = {name: new for name, new in wanted.items() if not math.isnan(new)}
            outcomes = await driver.write(changes)
            assert [outcome.result for outcome in outcomes] == [WriteResult.CONFIRMED] * len(changes)
            reading = await driver.read()
            for name, new in changes.items():
                assert value(driver, reading, name) == pytest.approx(new)
                assert plant.values["d"][PROFILES[profile].place(name)] == pytest.approx(new)

    asyncio.run(main())


def test_a_lost_device_is_bad_at_once_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        devices, plant = bench(("tank", "leach_tank", TCP))
        async with Servers(devices, plant) as servers, open_driver(at(devices[0], servers), data=tmp_path) as driver:
            assert await good(driver)
            await servers.stop_device("tank")
            begun = time.monotonic()
            reading = await driver.read()
            assert time.monotonic() - begun < 0.5
            assert reading.quality.min() == Quality.BAD
            assert np.isnan(reading.values).all()
            assert not driver.metrics.connected
            assert driver.metrics.why
            for _ in range(5):
                assert not await good(driver)
            [outcome] = await driver.write({"acid_flow_sp": 3.0})
            assert outcome.result is WriteResult.NOT_SENT
            assert outcome.why == driver.metrics.why
            await servers.start_device("tank")
            assert await until(lambda: good(driver)) < 5.0
            assert (driver.metrics.connects, driver.metrics.losses, driver.metrics.why) == (2, 1, "")
            assert plant.values["tank"][devices[0].profile.place("acid_flow_sp")] == 0.0

    with caplog.at_level(logging.INFO, logger="drivers"):
        asyncio.run(main())
    assert [record.levelname for record in caplog.records if record.name.startswith("drivers")] == ["INFO", "WARNING", "INFO"]


def test_another_device_at_the_address_is_bad(tmp_path: Path) -> None:
    async def main() -> None:
        devices, plant = bench(("tank", "leach_tank", TCP))
        async with Servers(devices, plant) as servers:
            wrong = Device("other", PROFILES["purification_tank"], servers.endpoints["tank"])
            async with open_driver(wrong, data=tmp_path) as driver:
                reading = await driver.read()
                assert reading.quality.min() == Quality.BAD
                assert "12010001" in driver.metrics.why or "exception 2" in driver.metrics.why
                [outcome] = await driver.write({"acid_flow_sp": 3.0})
                assert outcome.result is WriteResult.NOT_SENT
            small = Device("small", PROFILES["weigh_hopper"], servers.endpoints["tank"])
            async with open_driver(small, data=tmp_path) as driver:
                assert (await driver.read()).quality.min() == Quality.BAD
                assert "identity is 12010001 at input:0, expected 11010001: another device answers at" in driver.metrics.why

    asyncio.run(main())


@pytest.mark.parametrize("profile", MODBUS)
def test_a_device_of_another_word_or_byte_order_shows_no_value(profile: str, tmp_path: Path) -> None:
    """Each shipped profile against the same device with each other order: nothing is GOOD and nothing is written, and the reason is the identity."""
    ours = PROFILES[profile]
    right = (ours.modbus.byte_order, ours.modbus.word_order)
    words = encode_one(ours.identity.value, Way(ours.identity.type, *right))
    orders = product(get_args(ByteOrder), get_args(WordOrder))
    wrong = [order for order in orders if Way("float32", *order).byteplaces_of() != Way("float32", *right).byteplaces_of()]
    assert len(wrong) == 6, "of two words the middle orders are big and little"

    def of(order: tuple[str, str]) -> Profile:
        return ours.model_copy(update={"modbus": ours.modbus.model_copy(update={"byte_order": order[0], "word_order": order[1]})})

    async def main() -> None:
        served = [Device("_".join(order), of(order), Address.parse(TCP)) for order in wrong]
        plant = StaticPlant({device.name: device.profile for device in served})
        before = {name: values.copy() for name, values in plant.values.items()}
        async with Servers(served, plant) as servers:
            for device, order in zip(served, wrong, strict=True):
                async with open_driver(Device("d", ours, servers.endpoints[device.name]), data=tmp_path) as driver:
                    for _ in range(3):
                        reading = await driver.read()
                        assert (reading.quality == Quality.BAD).all(), order
                        assert np.isnan(reading.values).all(), order
                    assert not driver.metrics.connected
                    found = f"{decode_one(words, Way(ours.identity.type, *order)):.0f}"
                    assert driver.metrics.why.startswith(f"identity is {found} at input:0, expected {ours.identity.value:.0f}, which is"), order
                    [outcome] = await driver.write({next(name for name, signal in ours.signals.items() if signal.access == "write"): 1.0})
                    assert outcome.result is WriteResult.NOT_SENT, order
                async with open_driver(Device("d", of(order), servers.endpoints[device.name]), data=tmp_path) as driver:
                    assert await good(driver), "in its own order it is a good device"
        for name, values in plant.values.items():
            np.testing.assert_array_equal(values[ours.writable], before[name][ours.writable])

    asyncio.run(main())


def test_what_the_device_refuses_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    async def main() -> None:
        devices, plant = bench(("tank", "leach_tank", TCP))
        before = plant.values["tank"].copy()
        async with (
            Servers(devices, plant) as servers,
            open_driver(widened(at(devices[0], servers), "acid_flow_sp", 0.0, 100.0), data=tmp_path) as driver,
        ):
            assert await good(driver)
            asked = {"acid_flow_sp": 21.0, "temperature": 50.0, "water_flow_sp": 1e6, "nothing": 1.0}
            outcomes = {outcome.signal: outcome for outcome in await driver.write(asked)}
            results = [outcomes[name].result for name in asked]
            assert results == [WriteResult.REFUSED, WriteResult.NOT_SENT, WriteResult.NOT_SENT, WriteResult.NOT_SENT]
            assert "exception 3" in outcomes["acid_flow_sp"].why
            assert "only read" in outcomes["temperature"].why
            assert outcomes["water_flow_sp"].why.startswith("expected 0 to ")
            np.testing.assert_array_equal((await driver.read()).values, before)
            assert driver.metrics.write_errors == 4

    asyncio.run(main())


def test_without_a_heartbeat_the_device_falls_to_its_safe_state(tmp_path: Path) -> None:
    async def main() -> None:
        devices, plant = bench(("tank", "leach_tank", TCP))
        clock = [100.0]
        async with (
            Servers(devices, plant, monotonic=lambda: clock[0]) as servers,
            open_driver(at(devices[0], servers), data=tmp_path) as driver,
        ):
            assert await good(driver)
            await driver.write({"heartbeat": 1.0, "acid_flow_sp": 5.0, "stirrer_speed_sp": 20.0})
            clock[0] += 4.9
            servers.stations["tank"].watch()
            assert value(driver, await driver.read(), "acid_flow_sp") == 5.0
            clock[0] += 0.2

            async def fallen() -> bool:
                return value(driver, await driver.read(), "safe_state") == 1.0

            await until(fallen)
            reading = await driver.read()
            assert (value(driver, reading, "acid_flow_sp"), value(driver, reading, "stirrer_speed_sp")) == (0.0, 100.0)
            [outcome] = await driver.write({"acid_flow_sp": 6.0})
            assert (outcome.result, outcome.why) == (WriteResult.REFUSED, "exception 6 (device busy)")
            await driver.write({"heartbeat": 1.0})
            assert await fallen(), "a counter that stands still is no heartbeat"
            outcomes = await driver.write({"heartbeat": 2.0, "acid_flow_sp": 6.0})
            assert [outcome.result for outcome in outcomes] == [WriteResult.CONFIRMED] * 2
            assert not await fallen()

    asyncio.run(main())


def test_units_on_one_line_live_and_die_apart(tmp_path: Path) -> None:
    async def main() -> None:
        devices, plant = bench(
            ("wash", "filter_dryer", "modbus-rtu:lines/wash?unit=1&baud=115200"),
            ("scale", "weigh_hopper", "modbus-rtu:lines/wash?unit=2&baud=115200"),
        )
        async with Servers(devices, plant, data=tmp_path) as servers:
            assert (tmp_path / "lines/wash").is_symlink()
            async with (
                open_driver(at(devices[0], servers), data=tmp_path, timeout=0.3) as wash,
                open_driver(at(devices[1], servers), data=tmp_path, timeout=0.3) as scale,
            ):
                for _ in range(3):
                    assert all(await asyncio.gather(good(wash), good(scale)))
                np.testing.assert_allclose((await scale.read()).values, plant.values["scale"])
                await servers.stop_device("scale")
                await until(lambda: bad(scale), 3.0)
                assert "unit 2" in scale.metrics.why
                await until(lambda: good(wash))
                np.testing.assert_allclose((await wash.read()).values, plant.values["wash"])
                await servers.start_device("scale")
                assert await until(lambda: good(scale)) < 5.0
                assert await good(wash)
        assert not (tmp_path / "lines/wash").exists()

    asyncio.run(main())


@pytest.mark.parametrize("address", [TCP, "modbus-rtu:line?unit=3"])
def test_nothing_is_left_behind(address: str, tmp_path: Path) -> None:
    async def main() -> None:
        before = sockets()
        devices, plant = bench(("scale", "weigh_hopper", address))
        async with Servers(devices, plant, data=tmp_path) as servers:
            during, tasks = sockets(), others()
            async with open_driver(at(devices[0], servers), data=tmp_path) as driver:
                assert await good(driver)
                assert sockets() > during
                begun = time.monotonic()
            assert time.monotonic() - begun < 0.5
            assert others() == tasks

            async def closed() -> bool:
                return sockets() == during

            await until(closed)
            assert (await driver.read()).quality.min() == Quality.BAD
        await asyncio.sleep(0)
        assert not others()
        assert sockets() == before

    asyncio.run(main())


def test_a_poller_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    """Whatever the moment: a reply that comes together with the request to end does not hide it."""

    async def main() -> None:
        devices, plant = bench(("tank", "leach_tank", TCP))
        async with Servers(devices, plant) as servers, open_driver(at(devices[0], servers), data=tmp_path) as driver:
            over = asyncio.Event()

            async def poll() -> None:
                while not over.is_set():
                    await driver.read()

            for turns in range(60):
                await until(lambda: good(driver))
                poller = asyncio.create_task(poll())
                for _ in range(turns):
                    await asyncio.sleep(0)
                poller.cancel()
                done, _ = await asyncio.wait({poller}, timeout=1.0)
                if not done:
                    over.set()
                assert done, f"it polls on when asked to end in turn {turns}"
                assert poller.cancelled()

    asyncio.run(main())


def test_a_device_that_was_never_there(tmp_path: Path) -> None:
    async def main() -> None:
        refused = "127.0.0.1:1: the connection is refused, no server listens there; check the address and that the device is on"
        gone = f"{tmp_path}/no/such/line: no such file or directory; check that the serial port exists and is free"
        for address, says in (("modbus-tcp://127.0.0.1:1?unit=1", refused), ("modbus-rtu:no/such/line?unit=1", gone)):
            device = Device("ghost", PROFILES["leach_tank"], Address.parse(address))
            async with open_driver(device, data=tmp_path) as driver:
                assert (await driver.read()).quality.min() == Quality.BAD
                assert driver.metrics.why == f"cannot connect to {says}"

    asyncio.run(main())


def test_a_device_that_accepts_and_is_mute_costs_one_timeout(tmp_path: Path) -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            gone.set()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        device = Device("mute", PROFILES["leach_tank"], Address.parse(f"modbus-tcp://127.0.0.1:{port}?unit=1"))
        async with server, open_driver(device, data=tmp_path, timeout=0.3) as driver:
            begun = time.monotonic()
            assert (await driver.read()).quality.min() == Quality.BAD
            assert 0.25 < time.monotonic() - begun < 0.6
            assert driver.metrics.errors["timeout"] == 1
            assert not gone.is_set(), "over TCP a late reply is known by its transaction"
            await until(lambda: read_until_set(driver, gone), 3.0)  # a connection on which nothing is heard twice is taken for dead
            assert driver.metrics.errors["timeout"] == 2

    asyncio.run(main())


def test_a_taken_port_names_the_device(tmp_path: Path) -> None:
    async def main() -> None:
        devices, plant = bench(("one", "leach_tank", TCP))
        async with Servers(devices, plant) as servers:
            twice, other = bench(("two", "leach_tank", str(servers.endpoints["one"])))
            with pytest.raises(CannotServe, match="device two: cannot serve modbus-tcp://127"):
                async with Servers(twice, other):
                    pass

    asyncio.run(main())


def with_more(profile: Profile, **more: str) -> Profile:
    """Return a profile that claims signals at addresses which its device does not have."""
    extra = {name: {"at": at, "range": (0, 100)} for name, at in more.items()}
    described = profile.model_dump()
    return Profile.model_validate({**described, "signals": {**described["signals"], **extra}})


def test_one_refused_address_costs_no_other_signal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Within some reads the bad value stands alone; it is told once, asked for no more, and everything else is GOOD."""
    real = PROFILES["leach_tank"]
    claimed = with_more(real, ghost="input:36", spirit="holding:20")

    async def main() -> None:
        devices, plant = bench(("tank", "leach_tank", TCP))
        async with Servers(devices, plant) as servers:
            device = Device("tank", claimed, servers.endpoints["tank"])
            async with open_driver(device, data=tmp_path) as driver:
                assert isinstance(driver, ModbusDriver)
                for reads in range(1, 12):
                    reading = await driver.read()
                    bad = {name for name, quality in zip(claimed.names, reading.quality, strict=True) if quality == Quality.BAD}
                    assert driver.metrics.connected or reads <= 8, driver.metrics.why  # the identity may be in the refused half
                    if bad == {"ghost", "spirit"}:
                        break
                else:
                    pytest.fail(f"still BAD after {reads} reads: {bad}")
                assert set(driver.quarantined) == {"ghost", "spirit"}
                before = sum(driver.metrics.errors.values())
                for _ in range(5):
                    reading = await driver.read()
                    np.testing.assert_array_equal(reading.quality[: len(real.names)], Quality.GOOD)
                    np.testing.assert_allclose(reading.values[: len(real.names)], plant.values["tank"], rtol=1e-6)
                assert sum(driver.metrics.errors.values()) == before  # not asked for
                driver._blocks._blocks = [
                    replace(block, after=0.0) if block.after > 0.0 else block for block in driver._blocks._blocks
                ]  # a minute has passed
                await driver.read()
                assert set(driver.quarantined) == {"ghost", "spirit"}

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    told = [record.getMessage() for record in caplog.records if "refuses" in record.getMessage()]
    assert sorted(text.split(":")[0] for text in told) == ["tank refuses ghost at input", "tank refuses spirit at holding"]


def test_a_neighbour_of_the_identity_that_is_refused_is_no_other_device(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The identity is asked for alone before anything is said of it: the first read has every value but those of the refused block."""
    real = PROFILES["leach_tank"]
    described = real.model_dump()
    ghost = {"at": "input:34", "type": "uint16", "range": (0, 100)}
    claimed = Profile.model_validate({**described, "signals": {**described["signals"], "ghost": ghost}})

    async def main() -> None:
        devices, plant = bench(("tank", "leach_tank", TCP))
        async with Servers(devices, plant) as servers, open_driver(replace(at(devices[0], servers), profile=claimed), data=tmp_path) as driver:
            reading = await driver.read()
            assert driver.metrics.connected
            there = {name for name, quality in zip(claimed.names, reading.quality, strict=True) if quality == Quality.GOOD}
            assert there == {name for name, signal in claimed.signals.items() if not signal.at.startswith("input")}
            [outcome] = await driver.write({"acid_flow_sp": 3.0})
            assert outcome.result is WriteResult.CONFIRMED

            async def whole() -> bool:
                return bool((await driver.read()).quality[: len(real.names)].max() == Quality.GOOD)

            await until(whole)
            assert isinstance(driver, ModbusDriver)
            assert driver.quarantined == ("ghost",)
            assert driver.metrics.errors["identity"] == 0
            assert (driver.metrics.connects, driver.metrics.losses) == (1, 0)

    with caplog.at_level(logging.INFO, logger="drivers"):
        asyncio.run(main())
    told = [record.getMessage() for record in caplog.records if record.name.startswith("drivers")]
    assert len(told) == 2, told
    assert "answers" in told[0]
    assert "refuses ghost" in told[1]


def test_a_device_that_has_the_address_after_all_is_read_by_the_whole_plan_again(tmp_path: Path) -> None:
    claimed = with_more(PROFILES["leach_tank"], ghost="input:36")

    async def main() -> None:
        old, plant = bench(("tank", "leach_tank", TCP))
        new = [Device("tank", claimed, Address.parse(TCP))]
        async with Servers(old, plant) as before, Servers(new, StaticPlant({"tank": claimed})) as after:
            async with open_driver(Device("tank", claimed, before.endpoints["tank"]), data=tmp_path) as driver:
                assert isinstance(driver, ModbusDriver)
                for _ in range(8):
                    await driver.read()
                assert driver.quarantined == ("ghost",)
                blocks = driver._blocks._blocks
            async with open_driver(Device("tank", claimed, after.endpoints["tank"]), data=tmp_path) as driver:
                assert isinstance(driver, ModbusDriver)
                whole = len(driver._blocks._blocks)
                driver._blocks._blocks = [replace(block, after=0.0) if block.after > 0.0 else block for block in blocks]
                driver._blocks._whole = None
                reading = await driver.read()
                np.testing.assert_array_equal(reading.quality, Quality.GOOD)
                assert driver.quarantined == ()
                assert len(driver._blocks._blocks) == whole

    asyncio.run(main())
