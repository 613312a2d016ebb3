"""Lockstep: the same cell, recipe and plant physics in one process on a virtual clock. No sockets, no sleeping.

What stands behind the devices is given by the caller, who knows where it comes from: a simulated plant in tests, a recording in a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from controller.batch.records import Event
from controller.core.cell import Begin, Cell, Scan
from controller.core.commands import Command
from controller.core.plan import CellPlan
from controller.runtime.clock import VirtualClock
from controller.runtime.exchange import Exchange
from drivers.image import ProcessImage
from drivers.memory import MemoryDevice, MemoryDriver

__all__ = ["Lockstep", "SimulatedPlant"]

T = TypeVar("T")


class SimulatedPlant(MemoryDevice, Protocol):
    """What lockstep needs of a plant."""

    def advance(self, dt: float) -> None:
        """Run the plant on by `dt` [s]."""


class Lockstep:
    """A cell and its plant, scan by scan."""

    def __init__(self, plan: CellPlan, plant: SimulatedPlant, *, dt: float | None = None) -> None:
        self.plan, self.plant = plan, plant
        self.dt = plan.scan if dt is None else dt  # [s] plant time between scans
        self.clock = VirtualClock()
        self.image = ProcessImage(plan.image, plan.freshness)
        self.cell = Cell(plan)
        start = round(self.clock.start * 1e9)
        self.drivers: dict[str, MemoryDriver] = {name: MemoryDriver(row.device, plant, start=lambda: start) for name, row in plan.devices.items()}
        self._exchanges = [Exchange(row, self.drivers[name], self.image, plan, self.clock) for name, row in plan.devices.items()]
        for driver in self.drivers.values():
            _run(driver.__aenter__())
        self.events: list[tuple[float, Event]] = []
        for place in plan.service.values():
            self.image.value[place], self.image.quality[place] = 0.0, 0

    def step(self, commands: Sequence[Command | Begin] = ()) -> Scan:
        """Advance plant and cell by one scan; return what the scan gave."""
        self.plant.advance(self.dt)
        self.clock.time += self.dt
        found: list[Event] = []
        for exchange in self._exchanges:
            found += _run(exchange.read())
        scan = self.cell.scan(self.clock.plant(), self.image.snapshot(self.clock.monotonic()), commands)
        for exchange in self._exchanges:
            found += _run(exchange.write(scan.outputs, scan.frame.seq))
        for event in (*found, *scan.events):
            self.events.append((scan.frame.time, event))
        return scan

    def run(self, until: Callable[[Scan], bool], *, at_most: float) -> Iterator[Scan]:
        """Yield scans until `until` is true of one; raise `TimeoutError` after `at_most` [s] of plant time."""
        end = self.clock.time + at_most
        while self.clock.time < end:
            scan = self.step()
            yield scan
            if until(scan):
                return
        frame = scan.frame
        raise TimeoutError(f"after {at_most:g} s of plant time: {frame.state}, {frame.batch.why if frame.batch else ''}")


def _run(step: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine gives that never waits; memory drivers do not."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    step.close()
    raise RuntimeError("a driver waited in lockstep; only memory drivers can be used here")
