"""A server that takes little at once, has forgotten what was registered, or is set to another eu: node-opcua, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from drivers.connect import open_driver
from drivers.device import Address, Device, OpcuaOptions, Profile, Signal
from drivers.driver import Driver, WriteResult
from drivers.tags import Quality
from tests.faults.framing import Uacp, service
from tests.faults.proxy import Direction, Proxy
from tests.integration.foreign_opcua import Foreign, foreign_server, good, reads

pytestmark = pytest.mark.wire

READ, WRITE, MONITOR, REGISTER = 631, 673, 751, 560  # requests (part 6, A.3)
SMALL = {
    "maxNodesPerRead": 3,
    "maxNodesPerWrite": 3,
    "maxMonitoredItemsPerCall": 2,
    "maxNodesPerTranslateBrowsePathsToNodeIds": 2,
    "maxNodesPerBrowse": 1,
    "maxNodesPerRegisterNodes": 2,
}
SETPOINTS = {"speed": 42.5, "level": -7.0, "steps": 12.0, "running": 0.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with foreign_server(tmp_path_factory.mktemp("foreign")) as server:
        server.restart(capabilities={"operationLimits": SMALL})
        yield server


def press(server: Foreign, port: int, **options: object) -> Device:
    """Return the press behind a proxy at `port`."""
    profile = server.profile.model_copy(update={"opcua": OpcuaOptions(**options)})  # type: ignore[arg-type]
    return replace(server.device("none", profile=profile), address=Address.parse(f"opc.tcp://127.0.0.1:{port}"), poll=0.05)


def proxy_of(server: Foreign) -> Proxy:
    return Proxy("127.0.0.1", Address.parse(server.endpoint).port, Uacp, service)


async def moves(driver: Driver, within: float = 5.0) -> None:
    """Wait until all signals are good and one that counts has changed."""
    await good(driver)
    seen: set[float] = set()
    end = time.monotonic() + within
    while len(seen) < 2:
        reading = await driver.read()
        if reading.quality.max() == Quality.GOOD:
            seen.add(float(reading.values[driver.device.profile.place("count")]))
        assert time.monotonic() < end, driver.metrics.why
        await asyncio.sleep(0.02)


async def lost(driver: Driver, times: int) -> None:
    """Wait until the link was lost so often; what does not change is shown as it is, or not at all."""
    end = time.monotonic() + 6.0
    while driver.metrics.losses < times:
        shown = await reads(driver, "temperature")
        assert shown == 20.0 or math.isnan(shown)
        assert time.monotonic() < end, "nobody has noticed"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("options", [{}, {"mode": "poll"}, {"mode": "poll", "registered": True}, {"registered": True}], ids=str)
def test_what_is_more_than_a_server_takes_at_once_goes_in_parcels(server: Foreign, tmp_path: Path, options: dict[str, object]) -> None:
    async def main_() -> None:
        async with proxy_of(server) as proxy, open_driver(press(server, proxy.port, **options), data=tmp_path, timeout=3.0) as driver:
            await good(driver)
            outcomes = await driver.write(SETPOINTS)
            assert [outcome.result for outcome in outcomes] == [WriteResult.CONFIRMED] * 4, outcomes
            assert server.ask("get", name="Level")["value"] == -7
            assert server.ask("get", name="Running")["value"] is False
            await moves(driver)
            assert {name: await reads(driver, name) for name in SETPOINTS} == SETPOINTS
            outcome = await driver.call("dose", {"speed": 50.0, "steps": 3.0})
            assert outcome.result is WriteResult.CONFIRMED, outcome
            back = await driver.write({"speed": 10.0, "level": -5.0, "steps": 7.0, "running": 1.0})
            assert [outcome.result for outcome in back] == [WriteResult.CONFIRMED] * 4, back
            assert driver.metrics.errors == dict.fromkeys(driver.metrics.errors, 0)
            assert driver.metrics.losses == 0
            asked = proxy.seen[Direction.REQUESTS]
            assert asked[WRITE] == 4  # two of each: 3 + 1
            assert asked[MONITOR] == (4 if options.get("mode") != "poll" else 0)  # 7 items, 2 at a time
            assert asked[REGISTER] == (4 if options.get("registered") else 0)

    asyncio.run(main_())


@pytest.mark.parametrize("options", [{}, {"mode": "poll", "registered": True}], ids=str)
def test_no_request_is_larger_than_a_server_takes(server: Foreign, tmp_path: Path, options: dict[str, object]) -> None:
    """It takes 64 KiB: the names of 1,000 nodes alone are more. It says so nowhere but in its greeting."""
    names = [f"{'Zone' * 15}{place}" for place in range(1000)]
    signals = {
        f"z{place}": Signal(at=f"nsu=urn:foreign:press;s={name}", type="float64", range=(0, 1001), access="write") for place, name in enumerate(names)
    }
    profile = Profile(
        id="zones",
        description="Zones",
        protocol="opcua",
        identity=server.profile.identity,
        signals=signals,
        opcua=OpcuaOptions(**options),  # type: ignore[arg-type]
    )

    async def main_() -> None:
        async with open_driver(server.device("none", profile=profile), data=tmp_path, timeout=3.0) as driver:
            await good(driver)
            changes = {f"z{place}": float(place + 1) for place in range(1000)}
            outcomes = await driver.write(changes)
            assert {outcome.result for outcome in outcomes} == {WriteResult.CONFIRMED}, outcomes[0]
            assert (await driver.read()).values.tolist() == list(changes.values())
            assert driver.metrics.losses == 0

    server.restart(capabilities={}, more=1000, message=65_536)
    try:
        asyncio.run(main_())
    finally:
        server.restart(capabilities={"operationLimits": SMALL}, more=0, message=0)


def test_a_server_that_monitors_fewer_items_is_polled(server: Foreign, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main_() -> None:
        async with open_driver(press(server, Address.parse(server.endpoint).port), data=tmp_path, timeout=3.0) as driver:
            await moves(driver)
            assert driver.metrics.losses == 0

    server.restart(capabilities={"maxMonitoredItemsPerSubscription": 3})
    try:
        with caplog.at_level(logging.WARNING, logger="drivers"):
            asyncio.run(main_())
    finally:
        server.restart(capabilities={"operationLimits": SMALL})
    assert "press is polled, not subscribed to: it does not monitor" in caplog.text
    assert "BadTooManyMonitoredItems" in caplog.text


def test_a_server_that_samples_too_rarely_is_polled(server: Foreign, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it publishes in time may be 5 s old."""

    async def main_() -> None:
        async with open_driver(press(server, Address.parse(server.endpoint).port), data=tmp_path, timeout=3.0) as driver:
            for _ in range(5):
                await moves(driver, within=1.0)
            assert driver.metrics.losses == 0

    server.restart(sampling=5000)
    try:
        with caplog.at_level(logging.WARNING, logger="drivers"):
            asyncio.run(main_())
    finally:
        server.restart(sampling=50)
    assert "press is polled, not subscribed to: it samples ns=3;s=Temperature only every 5 s, wanted every 0.05 s" in caplog.text


def test_a_server_that_takes_one_at_a_time(server: Foreign, tmp_path: Path) -> None:
    """Even the question for its limits is too much for it then."""

    async def main_() -> None:
        async with open_driver(press(server, Address.parse(server.endpoint).port), data=tmp_path, timeout=3.0) as driver:
            await good(driver)
            await moves(driver)
            [outcome] = await driver.write({"speed": 11.0})
            assert outcome.result is WriteResult.CONFIRMED

    server.restart(capabilities={"operationLimits": dict.fromkeys(SMALL, 1)})
    try:
        asyncio.run(main_())
        result = CliRunner().invoke(main, ["browse", server.endpoint, "--security", "none", "--data", str(tmp_path)])
        assert result.exit_code == 0, result.output
        assert "Press/Temperature" in result.output
    finally:
        server.restart(capabilities={"operationLimits": SMALL})


@pytest.mark.parametrize("mode", ["poll", "subscribe"])
def test_registered_nodes_that_are_forgotten_are_registered_again(
    server: Foreign, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main_() -> None:
        async with (
            proxy_of(server) as proxy,
            open_driver(press(server, proxy.port, mode=mode, registered=True), data=tmp_path, timeout=3.0) as driver,
        ):
            await good(driver)
            registered = proxy.seen[Direction.REQUESTS][REGISTER]
            server.ask("forget")
            await lost(driver, 1)
            await moves(driver)
            assert proxy.seen[Direction.REQUESTS][REGISTER] == 2 * registered
            server.restart()  # as after a power cut: a new session, and nothing is registered
            await lost(driver, 2)
            await moves(driver)
            assert proxy.seen[Direction.REQUESTS][REGISTER] == 3 * registered

    with caplog.at_level(logging.WARNING, logger="drivers"):
        asyncio.run(main_())
    assert "has forgotten the nodes that were registered" in caplog.text


@pytest.mark.parametrize("mode", ["poll", "subscribe"])
def test_an_eu_that_is_changed_at_the_server_is_bad_from_then_on(
    server: Foreign, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody sets the transmitter to degF: 20 degC would be shown as 68. This server tells those who subscribe; who polls has to look."""

    async def main_() -> None:
        async with open_driver(press(server, Address.parse(server.endpoint).port, mode=mode), data=tmp_path, timeout=3.0) as driver:
            await moves(driver)
            place = driver.device.profile.place("temperature")
            server.ask("unit", name="Temperature", unit="degree_fahrenheit")
            end = time.monotonic() + 6.0
            while (reading := await driver.read()).quality[place] != Quality.BAD or not driver.metrics.connected:
                assert time.monotonic() < end, "nobody has noticed"
                await asyncio.sleep(0.02)
            others = [quality for at, quality in enumerate(reading.quality) if at != place]
            assert set(others) == {Quality.GOOD}
            server.ask("unit", name="Temperature", unit="degree_celsius")
            server.restart()
            await moves(driver)

    with caplog.at_level(logging.WARNING, logger="drivers"):
        asyncio.run(main_())
    told = "says that the meaning of values has changed" if mode == "subscribe" else "s=Temperature in another eu than before (°F, not °C)"
    assert told in caplog.text
    assert "set one of them right" in caplog.text
