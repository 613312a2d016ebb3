"""What a server of another make (node-opcua) keeps back and what it queues, as it was asked to: counted on the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary

from drivers.connect import open_driver
from drivers.device import Address, Device, OpcuaOptions, Profile, Signal
from drivers.driver import Driver
from tests.faults.framing import Uacp, service
from tests.faults.proxy import Proxy, Rewrite
from tests.integration.foreign_opcua import Foreign, foreign_server, good, reads

pytestmark = pytest.mark.wire

PUBLISHED = 829  # PublishResponse (part 6, A.3)
AT = "nsu=urn:foreign:press;s="


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with foreign_server(tmp_path_factory.mktemp("foreign")) as server:
        yield server


def press(server: Foreign, port: int, signals: dict[str, Signal], **options: object) -> Device:
    """Return the press behind a proxy at `port`, with these signals, sampled every 50 ms."""
    profile = Profile(
        id="press",
        description="Press",
        protocol="opcua",
        identity=server.profile.identity,
        signals=signals,
        opcua=OpcuaOptions(**options),  # type: ignore[arg-type]
    )
    return replace(server.device("none", profile=profile), address=Address.parse(f"opc.tcp://127.0.0.1:{port}"), poll=0.05)


class Reports:
    """What each publication reports, in the order of the wire; a library of another make decodes it."""

    def __init__(self, proxy: Proxy) -> None:
        self.publications: list[list[ua.MonitoredItemNotification]] = []
        proxy.add(Rewrite(self._look, match=lambda message: service(message) == PUBLISHED))

    def _look(self, message: bytes) -> bytes:
        told = struct_from_binary(ua.PublishResponse, Buffer(message[24:])).Parameters.NotificationMessage.NotificationData
        self.publications += [part.MonitoredItems for part in told or () if isinstance(part, ua.DataChangeNotification)]
        return message

    def of(self, handle: int) -> list[list[ua.DataValue]]:
        """Return the samples of one item in each publication that has any."""
        found = [[item.Value for item in items if item.ClientHandle == handle] for items in self.publications]
        return [samples for samples in found if samples]

    def numbers(self, handle: int) -> list[float]:
        """Return all numbers that were reported of one item."""
        return [sample.Value.Value for samples in self.of(handle) for sample in samples]

    def handle(self, first: float) -> int:
        """Return the handle of the item that was first reported as this number."""
        handles = {item.ClientHandle for items in self.publications for item in items}
        return next(handle for handle in handles if self.numbers(handle)[0] == first)


async def until(driver: Driver, what: Callable[[float], bool], within: float = 8.0) -> None:
    """Read until something is so, given what the first signal reads."""
    end = time.monotonic() + within
    while not what(float((await driver.read()).values[0])):
        assert time.monotonic() < end, driver.metrics
        await asyncio.sleep(0.01)


def test_changes_within_the_deadband_are_not_reported_and_the_band_is_that_of_the_wire(server: Foreign, tmp_path: Path) -> None:
    """The signal is a fifth of what is on the wire, and its deadband of 2 degC is 10 there. A signal without one says that all was sampled."""
    signals = {
        "temperature": Signal(at=f"{AT}Temperature", type="float64", eu="degC", range=(0, 40), scale=0.2, deadband=2.0),
        "level": Signal(at=f"{AT}Level", type="int16", range=(-100, 100)),
    }

    async def main() -> None:
        async with Proxy("127.0.0.1", Address.parse(server.endpoint).port, Uacp, service) as proxy:
            reports = Reports(proxy)
            async with open_driver(press(server, proxy.port, signals, queue=4), data=tmp_path, timeout=3.0) as driver:
                await good(driver)
                await until(driver, lambda _: len(reports.publications) > 0)
                temperature, level = reports.handle(20.0), reports.handle(-5)

                async def change(number: float) -> None:
                    await asyncio.to_thread(server.ask, "set", name="Temperature", value=number)
                    for _ in range(2):  # once may have been sampled just before
                        seen = len(reports.numbers(level))
                        await asyncio.to_thread(server.ask, "set", name="Level", value=seen)
                        await until(driver, lambda _, seen=seen: len(reports.numbers(level)) > seen)  # type: ignore[misc]

                for number in (25.0, 29.5, 11.0):
                    await change(number)
                    assert await reads(driver, "temperature") == pytest.approx(4.0)
                await change(30.5)
                await until(driver, lambda reading: reading == pytest.approx(6.1))
                await change(21.0)
                assert reports.numbers(temperature) == [20.0, 30.5]

    asyncio.run(main())


def test_samples_of_one_publication_are_queued_and_those_that_did_not_fit_are_counted(server: Foreign, tmp_path: Path) -> None:
    """The count moves every 50 ms, and three of its samples are in a publication each 150 ms: a queue of four holds them, and one of two does not."""
    signals = {"count": Signal(at=f"{AT}Count", type="uint32", range=(0, 4e9))}

    def overflows(samples: list[ua.DataValue]) -> list[bool]:
        """Return of which samples the bit of a data value is set that says that others were left out."""
        return [sample.StatusCode.value & 0x480 == 0x480 for sample in samples]

    async def queued(queue: int, wanted: Callable[[list[ua.DataValue]], bool]) -> tuple[Driver, list[list[ua.DataValue]]]:
        """Read until some publications have samples as they are wanted; return those of all."""
        async with Proxy("127.0.0.1", Address.parse(server.endpoint).port, Uacp, service) as proxy:
            reports = Reports(proxy)
            device = press(server, proxy.port, signals, queue=queue, publishing_interval="150 ms")
            async with open_driver(device, data=tmp_path, timeout=3.0) as driver:
                await good(driver)
                await until(driver, lambda _: len(reports.publications) > 0)
                count = reports.publications[0][0].ClientHandle  # it is the only item
                await until(driver, lambda _: sum(map(wanted, reports.of(count))) > 3)
                samples = reports.of(count)
                newest = samples[-1][-1].Value.Value
                await until(driver, lambda reading: reading >= newest)
                return driver, samples

    async def main() -> None:
        _, samples = await queued(4, lambda found: len(found) >= 3)
        assert max(map(len, samples)) <= 4
        # the oldest is left out, and the one behind it says so
        driver, samples = await queued(2, lambda found: overflows(found) == [True, False])
        assert max(map(len, samples)) == 2
        assert driver.metrics.errors["overflow"] == driver.metrics.drops >= sum(sum(overflows(found)) for found in samples)
        for found in samples:
            numbers = [sample.Value.Value for sample in found]
            assert numbers == sorted(set(numbers)), "in the order in which they were sampled"

    asyncio.run(main())
