"""What a cell asks of a Modbus device and what it shows of it: a real driver and its exchange, against a device over a real socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.commissioning import line_plans
from drivers.connect import open_driver
from drivers.device import Address, Device, load_profile
from drivers.tags import Quality
from simulators.bench import StaticPlant
from simulators.serve import Servers
from tests.faults.framing import Mbap
from tests.faults.proxy import Direction, Drop, Fault, Proxy, Rewrite
from tests.integration.exchanging import Exchanging, plan_of
from tests.integration.waiting import until

pytestmark = pytest.mark.wire

PROFILE = """
id = "stirrer"
description = "A stirrer"
protocol = "modbus"
identity = {{ at = "input:0", type = "uint16", value = 7 }}
[groups.slow]
period = "{period}"
deadband = {deadband}
[signals.level]
at = "input:2"
range = [0, 100]
[signals.weight]
at = "input:4"
range = [0, 100]
group = "slow"
[signals.speed_sp]
at = "holding:2"
range = [0, 100]
access = "write"
group = "slow"
"""
SP, WEIGHT = "FY-1", "WT-1"


class Counted(StaticPlant):
    """Plant values that nothing changes but writes, and what was executed."""

    def __init__(self, device: Device) -> None:
        super().__init__({device.name: device.profile})
        self.executed: list[float] = []

    def write(self, device: str, signal: str, value: float) -> None:
        self.executed.append(value)
        super().write(device, signal, value)


@asynccontextmanager
async def bench(
    folder: Path, period: str, deadband: float = 0.0, *, profile: str = PROFILE
) -> AsyncIterator[tuple[Exchanging, Counted, Proxy, Servers]]:
    """Serve the device behind a proxy, and exchange with it."""
    (folder / "stirrer.toml").write_text(profile.format(period=period, deadband=deadband))
    device = Device("d", load_profile(folder / "stirrer.toml"), Address.parse("modbus-tcp://127.0.0.1:0?unit=1"))
    plant = Counted(device)
    async with Servers([device], plant) as servers, Proxy("127.0.0.1", servers.endpoints["d"].port, Mbap) as proxy:
        tags = {"LT-1": "level", WEIGHT: "weight", SP: "speed_sp"}
        plan = plan_of(folder, "stirrer", f"modbus-tcp://127.0.0.1:{proxy.port}?unit=1", tags)
        async with open_driver(plan.devices["d"].device, data=folder, timeout=0.3) as driver:
            yield Exchanging(plan, driver), plant, proxy, servers


async def showing(cell: Exchanging, tag: str, value: float) -> None:
    """Take turns until a tag is shown as this, GOOD."""

    async def shown() -> bool:
        await cell.turn()
        return cell.shown(tag) == (pytest.approx(value), Quality.GOOD)

    await until(shown)


def test_a_setpoint_within_a_deadband_is_written_once_and_shown_as_it_is(tmp_path: Path) -> None:
    """A group's deadband is for what is measured: a readback that it holds would differ from its output for ever."""

    async def main() -> None:
        async with bench(tmp_path, "50 ms", 1.0) as (cell, plant, _, servers):
            cell.outputs[0] = 50.0
            await showing(cell, SP, 50.0)
            plant.values["d"][1] = 20.0
            servers.stations["d"].moved()
            await showing(cell, WEIGHT, 20.0)
            plant.values["d"][1] = 20.4
            servers.stations["d"].moved()
            cell.outputs[0] = 50.4
            await showing(cell, SP, 50.4)
            for _ in range(10):
                await cell.turn()
            assert plant.executed == pytest.approx([50.0, 50.4]), "it was written again and again"
            assert cell.shown(WEIGHT) == (20.0, Quality.GOOD), "what is measured is held"

    asyncio.run(main())


def is_write(message: bytes) -> bool:
    return message[7] in (6, 16)


def refused(message: bytes) -> bytes:
    """Return exception 4 instead of a reply: it failed while it did it."""
    return message[:4] + b"\x00\x03" + message[6:7] + bytes([message[7] | 0x80, 4])


def is_readback(message: bytes) -> bool:
    return message[7] == 3


UNKNOWN: dict[str, list[Callable[[], Fault]]] = {
    "lost": [lambda: Drop(times=1, match=is_write)],
    "exception 4": [lambda: Rewrite(refused, times=1, match=is_write)],
    "exception 4, and the next read is lost": [lambda: Rewrite(refused, times=1, match=is_write), lambda: Drop(times=1, match=is_readback)],
    "accepted, and the readback is lost": [lambda: Drop(times=1, match=is_readback)],
}


@pytest.mark.parametrize("how", UNKNOWN)
def test_a_write_that_is_unknown_is_decided_by_the_next_read_however_slow_its_group(how: str, tmp_path: Path) -> None:
    """It was executed: not again, and what was there before is not shown any longer than to the next read."""

    async def main() -> None:
        async with bench(tmp_path, "60 s") as (cell, plant, proxy, _):
            cell.outputs[0] = 20.0
            await showing(cell, SP, 20.0)
            spoilt, *_ = [proxy.add(fault()) for fault in UNKNOWN[how]]
            cell.outputs[0] = 42.5
            await until(lambda: tried(cell, spoilt))
            await showing_never(cell, SP, 20.0, until_it_is=42.5)
            assert plant.executed == [20.0, 42.5], "it was sent again without a look at what is there"
            assert [event.new for event in cell.events if event.kind == "write"] == ["unknown"]

    asyncio.run(main())


def test_a_write_of_which_nothing_comes_is_read_again_at_once(tmp_path: Path) -> None:
    """The device takes it, shows the old value once more, and has the new one then: it is not written twice."""

    async def main() -> None:
        async with bench(tmp_path, "60 s") as (cell, plant, proxy, _):
            cell.outputs[0] = 20.0
            await showing(cell, SP, 20.0)
            old = proxy.add(Rewrite(lambda message: message[:9] + b"\x41\xa0\x00\x00", times=1, match=is_readback))  # 20.0
            cell.outputs[0] = 42.5
            await until(lambda: tried(cell, old))
            await showing(cell, SP, 42.5)
            assert plant.executed == [20.0, 42.5]
            assert [event.new for event in cell.events if event.kind == "write"] == ["mismatch"]

    asyncio.run(main())


ALL_SLOW = PROFILE.replace("[0, 100]\n[signals.weight]", '[0, 100]\ngroup = "slow"\n[signals.weight]')


@pytest.mark.parametrize("identity", ['type = "uint16", value = 7', 'text = "AB-100"'], ids=["number", "text"])
def test_a_device_is_asked_no_more_often_than_its_quickest_group_wants(identity: str, tmp_path: Path) -> None:
    """As `blackmass plan` says: 0.6 s, and not each poll of 0.1 s. What is known is shown meanwhile, as old as it is."""

    async def main() -> None:
        made = ALL_SLOW.replace('type = "uint16", value = 7', identity).replace("input:2", "input:12")
        async with bench(tmp_path, "600 ms", profile=made) as (cell, plant, proxy, _):
            plant.values["d"][1] = 20.0
            row = cell.plan.devices["d"]
            [line] = line_plans(plan_of(tmp_path, "stirrer", "modbus-rtu:line?unit=1&baud=9600", {"WT-2": "weight"}).devices.values())
            [device] = line.devices
            assert line.busy == pytest.approx(device.time / 0.6), "no request of it is planned more often"
            planned = (len(device.requests) + ("text" in identity)) / 0.6
            await showing(cell, WEIGHT, 20.0)
            begun, before = time.monotonic(), sum(proxy.seen[Direction.REQUESTS].values())
            driver, reads = cell.exchange.driver, 0
            while (passed := time.monotonic() - begun) < 3.0:
                await cell.turn()
                reads += 1
                assert driver.metrics.connected
                assert cell.shown(WEIGHT) == (20.0, Quality.GOOD)
                await asyncio.sleep(row.poll)
            asked = sum(proxy.seen[Direction.REQUESTS].values()) - before
            assert reads >= 8, "this machine is too slow to say anything"
            assert 0.5 * planned * passed <= asked <= 1.3 * planned * passed

    asyncio.run(main())


def test_a_device_that_is_seldom_asked_is_written_to_and_missed_at_once(tmp_path: Path) -> None:
    """Its link is looked at with each poll: made again when it drops, so that a write need not wait, and lost when that cannot be."""

    async def main() -> None:
        async with bench(tmp_path, "60 s", profile=ALL_SLOW) as (cell, plant, proxy, _):
            driver = cell.exchange.driver
            cell.outputs[0] = 20.0
            await showing(cell, SP, 20.0)
            for value in (30.0, 40.0):
                assert proxy.reset() == 1
                cell.outputs[0] = value
                await showing(cell, SP, value)
            assert plant.executed == [20.0, 30.0, 40.0]
            await proxy.refuse()

            async def lost() -> bool:
                await cell.turn()
                return cell.shown(SP)[1] is Quality.BAD and not driver.metrics.connected

            assert await until(lost) < 1.0
            await proxy.accept()
            await showing(cell, SP, 40.0)

    asyncio.run(main())


async def tried(cell: Exchanging, fault: Fault) -> bool:
    await cell.turn()
    return fault.done == 1


async def showing_never(cell: Exchanging, tag: str, never: float, *, until_it_is: float) -> None:
    """Take turns until a tag is shown as the one, GOOD; before it is BAD, and never as the other."""

    async def shown() -> bool:
        await cell.turn()
        value, quality = cell.shown(tag)
        assert quality is Quality.BAD or value != never, f"{value:g} {quality.name}: nobody knows that"
        return (value, quality) == (until_it_is, Quality.GOOD)

    await until(shown)
