"""What a cell asks of a Modbus device and what it shows of it: a real driver and its exchange, against a device over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drivers.connect import open_driver
from drivers.device import Address, Device, load_profile
from drivers.tags import Quality
from simulators.bench import StaticPlant
from simulators.serve import Servers
from tests.faults.framing import Mbap
from tests.faults.proxy import Proxy
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
async def bench(folder: Path, period: str, deadband: float = 0.0) -> AsyncIterator[tuple[Exchanging, Counted, Proxy, Servers]]:
    """Serve the device behind a proxy, and exchange with it."""
    (folder / "stirrer.toml").write_text(PROFILE.format(period=period, deadband=deadband))
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
