"""Setpoints that are finer than a device can show them: written once over each kind of wire, and again when the device shows something else."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from controller.runtime.clock import LiveClock
from controller.runtime.exchange import Exchange
from drivers.connect import open_driver
from drivers.device import Address, Device, Profile
from drivers.image import Freshness, ProcessImage
from drivers.tags import Tag, TagTable
from simulators.bench import StaticPlant
from simulators.serve import Servers
from tests.integration.waiting import good, until

pytestmark = pytest.mark.wire

SERIAL = """
id = "pump"
description = "d"
protocol = "ascii"
[dialogue]
timeout = "500 ms"
pause = "1 ms"
identity = { send = "ID", expect = "PUMP", example = "PUMP" }
replies.sp = { send = "R", expect = 'R +(?P<value>[0-9.]+)', example = "R   12.3" }
writes.sp = { send = "W {value:.1f}", expect = "W OK", example = "W OK" }
[signals]
sp = { eu = "%", range = [0, 100], at = "sp", access = "write" }
"""
MODBUS = """
id = "pump"
description = "d"
protocol = "modbus"
identity = { at = "input:0", value = 7 }
[signals]
sp = { eu = "%", range = RANGE, type = "TYPE", scale = SCALE, at = "holding:1", access = "write", safe = SAFE }
"""
OPCUA = """
id = "pump"
description = "d"
protocol = "opcua"
identity = { at = "nsu=urn:blackmass:pump;s=identity", value = 7 }
opcua = { mode = "poll" }
[signals]
sp = { eu = "%", range = RANGE, type = "TYPE", scale = SCALE, at = "nsu=urn:blackmass:pump;s=sp", access = "write", safe = SAFE }
"""


def made(text: str, range_: str = "[0, 100]", type_: str = "float32", scale: float = 1.0, safe: float = 0.0) -> Profile:
    for what, by in (("RANGE", range_), ("TYPE", type_), ("SCALE", str(scale)), ("SAFE", str(safe))):
        text = text.replace(what, by)
    return Profile.model_validate(tomllib.loads(text))


class Counted(StaticPlant):
    """A test bench that knows what was written."""

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        super().__init__(profiles)
        self.written: list[float] = []

    def write(self, device: str, signal: str, value: float) -> None:
        """Set a signal [its eu]."""
        self.written.append(value)
        super().write(device, signal, value)


HIGH = {"range_": "[100000, 100001]", "safe": 100000.0}  # of which a float32 knows 7 digits: steps of 1/128
SERVED = "modbus-tcp://127.0.0.1:0?unit=1", "opc.tcp://127.0.0.1:0"


@pytest.mark.parametrize(
    ("profile", "address", "asked", "shown", "another"),
    [
        (made(SERIAL), "serial:lines/a", 12.34, 12.3, 12.4),
        (made(MODBUS, type_="uint16", scale=0.1), SERVED[0], 12.34, 12.3, 12.4),
        (made(MODBUS, type_="uint16", scale=0.1), SERVED[0], 1.05, 1.0, 1.2),  # half a step, and as floats a little more
        (made(MODBUS, **HIGH), SERVED[0], 100000.1234, 100000.125, 100000.1328125),
        (made(OPCUA, type_="int16", scale=0.1), SERVED[1], 12.34, 12.3, 12.4),
        (made(OPCUA, **HIGH), SERVED[1], 100000.1234, 100000.125, 100000.1328125),
    ],
)
def test_a_setpoint_finer_than_the_device_is_written_once_and_again_when_it_shows_another(
    profile: Profile, address: str, asked: float, shown: float, another: float, tmp_path: Path
) -> None:
    async def main() -> None:
        device, plant = Device("pump", profile, Address.parse(address)), Counted({"pump": profile})
        points = [Tag("SC-1", "%", *profile.signals["sp"].range), *(Tag(f"pump.{place}", "", -1e9, 1e9) for place in range(15))]
        image = ProcessImage(TagTable(points), Freshness(0.3, 2.5))
        plan: Any = SimpleNamespace(readback=np.array([0]), outputs=TagTable(points[:1]))
        async with Servers([device], plant, data=tmp_path) as servers:
            where = Device("pump", profile, servers.endpoints["pump"], poll=0.05)
            rows: Any = SimpleNamespace(device=where, places=np.array([0]), links=np.arange(1, 16), outputs=np.array([0]), signals=("sp",))
            async with open_driver(where, data=tmp_path) as driver:
                assert await until(lambda: good(driver)) < 5.0
                exchange = Exchange(rows, driver, image, plan, LiveClock.now())
                polls = 0

                async def poll(wanted: float) -> bool:
                    nonlocal polls
                    polls += 1
                    await exchange.read()
                    await exchange.write(np.array([wanted]), polls)
                    return not exchange.differs(np.array([wanted]))

                async def shows(wanted: float, found: float) -> bool:
                    return await poll(wanted) and image.value[0] == pytest.approx(found, abs=1e-9)

                await until(lambda: shows(asked, shown))
                for _ in range(10):
                    await shows(asked, shown)
                    await asyncio.sleep(0.02)
                assert plant.written == [pytest.approx(shown, abs=1e-9)]
                assert driver.metrics.write_errors == 0
                plant.values["pump"][0] = another  # it goes to another value by itself: one step of it

                async def written_again() -> bool:
                    await poll(asked)
                    return len(plant.written) > 1

                await until(written_again)
                await until(lambda: shows(asked, shown))
                assert plant.written == [pytest.approx(shown, abs=1e-9)] * 2

    asyncio.run(main())
