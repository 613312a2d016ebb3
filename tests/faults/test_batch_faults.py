"""A running batch whose device is behind the fault proxy: what the whole service does when nobody answers a write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.batch.journal import JournalReader
from controller.config import load_cell
from controller.core.commands import Command, Start, Transition
from controller.core.frame import Frame
from controller.core.states import Verb
from controller.runtime.clock import LiveClock
from controller.runtime.service import Service
from drivers.device import Address, Device, load_profile, profile_folder
from simulators.bench import StaticPlant
from simulators.serve import Servers
from tests.faults.framing import Mbap
from tests.faults.proxy import Direction, Drop, Proxy
from tests.integration.waiting import frame

pytestmark = pytest.mark.wire

HOPPER = load_profile(profile_folder() / "weigh_hopper.toml")
CELL = """
[cell]
id = "small"
[devices.hopper]
profile = "weigh_hopper"
address = "modbus-tcp://127.0.0.1:{port}?unit=2"
[devices.hopper.tags]
"WT-111" = "weight"
"FT-111" = "feeder_rate"
"FY-111" = "feeder_rate_sp"
[units.H-111]
class = "weigh_hopper"
[units.H-111.roles]
weight = "WT-111"
feeder = { output = "FY-111", feedback = "FT-111" }
"""
RECIPE = """
recipe: {id: feed, version: 1, title: Feed, product: none, specification: pcam-99}
units: {H1: weigh_hopper}
procedure:
  - feed: {unit: H1, run: keep, with: {output: feeder, at: 300 kg/h}, until: "H1.weight <= 1 kg", max: 40 h}
"""


class Counting(StaticPlant):
    """`executed` are the setpoints that the hopper has taken [kg/h], `beats` how often its heartbeat was written."""

    def __init__(self) -> None:
        super().__init__({"hopper": HOPPER})
        self.executed: list[float] = []
        self.beats = 0

    def write(self, device: str, signal: str, value: float) -> None:
        if signal == "heartbeat":
            self.beats += 1
        else:
            self.executed.append(value)
        super().write(device, signal, value)


def is_setpoint(message: bytes) -> bool:
    """Whether it is a write of the setpoint at holding register 2, or the reply to one; the heartbeat has register 0."""
    return message[7] in (6, 16) and int.from_bytes(message[8:10], "big") == 2


@asynccontextmanager
async def cell(folder: Path) -> AsyncIterator[tuple[Service, Proxy, Counting]]:
    """Run the service on a cell of one hopper, which is behind the proxy."""
    plant = Counting()
    device = Device("hopper", HOPPER, Address.parse("modbus-tcp://127.0.0.1:0?unit=2"))
    async with Servers([device], plant) as servers, Proxy("127.0.0.1", servers.endpoints["hopper"].port, Mbap) as proxy:
        (folder / "small.toml").write_text(CELL.replace("{port}", str(proxy.port)), encoding="utf-8")
        (folder / "feed.yaml").write_text(RECIPE, encoding="utf-8")
        async with Service(load_cell(folder / "small.toml"), folder / "data", LiveClock.now()) as service:
            await frame(service, lambda frame: not dict(frame.commands)["START"])
            yield service, proxy, plant


async def send(service: Service, command: Command) -> None:
    receipt = await service.send(command)
    assert receipt.accepted, receipt.why


def go(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60.0))  # type: ignore[arg-type]


def journaled(folder: Path) -> list[str]:
    """Return what the journal says that came of the setpoint's writes."""
    entries = [entry.event for entry in JournalReader(folder / "data" / "journal.sqlite").entries()]
    return [event.new for event in entries if (event.kind, event.name) == ("write", "hopper.feeder_rate_sp")]


def test_a_setpoint_whose_reply_is_lost_is_executed_once_and_the_batch_goes_on(tmp_path: Path) -> None:
    """No reply to a write comes, ever: what came of it is decided by what is read."""

    async def main() -> None:
        async with cell(tmp_path) as (service, proxy, plant):
            points = service.plan.points
            fault = proxy.add(Drop(match=is_setpoint))
            await send(service, Start(who="op", recipe=str(tmp_path / "feed.yaml")))
            await frame(service, lambda frame: frame.point(points, "FY-111") == 300.0)
            seen, beats = set[tuple[str, float, float]](), plant.beats

            def later(frame: Frame) -> bool:
                seen.add((frame.state, frame.point(points, "FY-111"), frame.point(points, "hopper.UNTAKEN")))
                return plant.beats > beats + 8  # 4 s: a second write, and a hold, would have come

            await frame(service, later)
            assert seen == {("RUNNING", 300.0, 0.0)}
            assert plant.executed == [300.0]
            assert (fault.done, service.frame.point(points, "hopper.UP")) == (1, 1.0)  # type: ignore[union-attr]
            proxy.clear()

    go(main)
    assert journaled(tmp_path) == ["unknown"]


def test_a_setpoint_that_stays_unknown_holds_its_unit_and_is_executed_once_when_it_gets_through(tmp_path: Path) -> None:
    """No write of it reaches the device, all else does: nobody says no, and it never reads as it was asked for."""

    async def main() -> None:
        async with cell(tmp_path) as (service, proxy, plant):
            points = service.plan.points
            fault = proxy.add(Drop(match=is_setpoint, direction=Direction.REQUESTS))
            await send(service, Start(who="op", recipe=str(tmp_path / "feed.yaml")))
            held = await frame(service, lambda frame: frame.state == "HELD", within=10.0)
            alarms = {alarm.name: alarm.text for alarm in held.alarms}
            says = "cannot use device hopper: it does not take 1 of its outputs"
            assert alarms["DEVICE-hopper"] == f"The cell {says}"
            assert "BATCH-HELD" in alarms
            assert "LINK-hopper" not in alarms, "it answers"
            assert held.batch is not None
            assert says in held.batch.why
            assert (plant.executed, held.point(points, "FY-111")) == ([], 0.0)
            assert fault.done > 1
            proxy.clear()
            await frame(service, lambda frame: "DEVICE-hopper" not in {alarm.name for alarm in frame.alarms if alarm.state != "returned"})
            assert plant.executed == [], "nothing is written late: what is asked for now is what there is"
            await send(service, Transition(who="op", verb=Verb.RESTART))
            await frame(service, lambda frame: (frame.state, frame.point(points, "FY-111")) == ("RUNNING", 300.0))
            assert plant.executed == [300.0]

    go(main)
    assert journaled(tmp_path) == ["unknown"]
