"""The heartbeat counts within its signal's range, since nothing outside is written, and stands still with the scan."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from controller.config import cell_path, load_cell
from controller.runtime.clock import VirtualClock
from controller.runtime.exchange import Exchange
from drivers.device import Device, Profile
from drivers.driver import Driver, Reading, WriteOutcome, WriteResult
from drivers.image import ProcessImage


def profile(**signal: Any) -> Profile:
    beat = {"at": "holding:0", "type": "uint16", "access": "write"} | signal
    described = {"id": "x", "description": "x", "protocol": "modbus", "identity": {"at": "input:0", "value": 7}, "heartbeat": {"signal": "beat"}}
    return Profile.model_validate(described | {"signals": {"beat": beat}})


@pytest.mark.parametrize(
    ("signal", "first", "last"),
    [
        ({"range": [0, 65535]}, 0, 65535),
        ({"range": [0, 255]}, 0, 255),
        ({"range": [-10.5, 9], "type": "int16"}, -10, 9),
        ({"range": [0, 1], "type": "bool", "at": "coil:0"}, 0, 1),
        ({"range": [0, 1e30], "type": "float32"}, 0, 65535),
    ],
)
def test_it_counts_in_the_range_of_its_signal(signal: dict[str, Any], first: int, last: int) -> None:
    one = profile(**signal)
    beats = [one.beat(count) for count in range(65538)]
    n = last - first + 1
    assert beats[: n + 1] == [*range(first, last + 1), first]
    assert beats[n:] == beats[:-n]
    assert not any(map(one.signals["beat"].refusal, beats[:n]))


@pytest.mark.parametrize("limits", [[0.1, 1.5], [0.5, 0.7]])
def test_a_range_in_which_it_cannot_count_is_refused(limits: list[float]) -> None:
    with pytest.raises(ValueError, match=r"heartbeat\.signal: there are no two whole numbers to count with in .*, its range; give it 0 to 65535"):
        profile(range=limits, safe=limits[1], type="float32")


class Taking(Driver):
    """A device that takes everything."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.taken: list[float | None] = []

    async def __aenter__(self) -> Driver:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def read(self) -> Reading:
        raise AssertionError("nothing is read here")

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        self.taken.append(changes.get("heartbeat"))
        return [WriteOutcome(name, value, value, WriteResult.CONFIRMED) for name, value in changes.items()]


def test_it_moves_with_the_scan_and_stands_still_with_it() -> None:
    async def main() -> None:
        plan = load_cell(cell_path("demo")).plan
        clock, driver = VirtualClock(), Taking(plan.devices["leach"].device)
        driver._tell(up=True)
        exchange = Exchange(plan.devices["leach"], driver, ProcessImage(plan.image, plan.freshness), plan, clock)
        for scan in (40, 50, 50, 50, 60):  # an even number of scans between two beats must not look like none
            clock.time += 1.0
            await exchange.write(plan.safe, scan)
        assert driver.taken == [1.0, 2.0, 2.0, 2.0, 3.0]
        await exchange.write(plan.safe, 61)
        assert driver.taken[5:] in ([], [None]), "not before it is time"

    asyncio.run(main())


class Refusing(Taking):
    """A device that takes no heartbeat, until it does."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.answer = WriteOutcome("heartbeat", 1.0, float("nan"), WriteResult.REFUSED, "exception 3")

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        return [self.answer]


def test_a_device_that_refuses_it_is_told_once_and_a_link_that_is_lost_is_not() -> None:
    async def main() -> None:
        plan = load_cell(cell_path("demo")).plan
        clock, driver = VirtualClock(), Refusing(plan.devices["leach"].device)
        driver._tell(up=True)
        exchange = Exchange(plan.devices["leach"], driver, ProcessImage(plan.image, plan.freshness), plan, clock)
        told = []
        said_no = driver.answer
        lost = WriteOutcome("heartbeat", 1.0, float("nan"), WriteResult.NOT_SENT, "connection lost")
        taken = WriteOutcome("heartbeat", 1.0, 1.0, WriteResult.CONFIRMED)
        for answer in (lost, said_no, said_no, lost, taken, said_no):
            driver.answer = answer
            clock.time += 1.0
            told.append([(event.name, event.why) for event in await exchange.write(plan.safe, int(clock.time))])
        no = [("leach.heartbeat", "exception 3")]
        assert told == [[], no, [], [], [], no]

    asyncio.run(main())


def test_a_cell_that_only_watches_writes_nothing(tmp_path: Path) -> None:
    """Another controller's device has to fall to its safe state when that one dies."""
    cell = '[cell]\nid = "w"\n[devices.leach]\nprofile = "leach_tank"\naddress = "modbus-tcp://127.0.0.1:1"\ntags = { "TT-1" = "temperature" }\n'
    path = tmp_path / "watch.toml"
    path.write_text(cell, encoding="utf-8")

    async def main() -> None:
        plan = load_cell(path).plan
        clock, driver = VirtualClock(), Taking(plan.devices["leach"].device)
        driver._tell(up=True)
        exchange = Exchange(plan.devices["leach"], driver, ProcessImage(plan.image, plan.freshness), plan, clock)
        for scan in range(3):
            clock.time += 1.0
            await exchange.write(plan.safe, scan)
        assert driver.taken == []

    asyncio.run(main())
