"""The scan of the demo cell against its 100 ms period, and lockstep against real time. Ratios of one run; nothing is asserted on absolute times.

make bench
"""

from __future__ import annotations

import time

import numpy as np

from controller.config import cell_path, load_cell
from controller.core.states import FINAL
from controller.runtime.batches import Library
from controller.runtime.lockstep import Lockstep
from simulators.feed import FEEDS
from simulators.plant import Plant


def bed(dt: float) -> Lockstep:
    """Return the demo cell in lockstep with its plant, running the demo's recipe."""
    cell = load_cell(cell_path("demo"))
    library = Library(cell.classes)
    recipe = library.load("nmc622-pcam")
    plant = Plant({name: row.device.profile for name, row in cell.plan.devices.items()}, feed=FEEDS["nmc622"], seed=1)
    made = Lockstep(cell.plan, plant, dt=dt)
    made.step()
    made.step([library.prepare(recipe, cell.plan, "bench-0001", made.clock.plant(), {}, "", "bench")])
    return made


def scan_times(n: int = 4000) -> np.ndarray:
    """Return execution times [s] of n scans at 100 ms in mid-batch, without the plant."""
    cell = bed(24.0)
    for _ in range(1500):  # 10 h in: the leach has begun
        cell.step()
    times = np.empty(n)
    image = cell.image.snapshot(cell.clock.monotonic())
    now = cell.clock.plant()
    for place in range(n):
        begun = time.perf_counter()
        cell.cell.scan(now + 0.1 * (place + 1), image, ())
        times[place] = time.perf_counter() - begun
    return times


def whole_batch(dt: float) -> tuple[float, float]:
    """Return plant time and real time [s] of a whole batch."""
    made = bed(dt)
    begun, start = time.perf_counter(), made.clock.time
    for _ in made.run(lambda scan: scan.frame.state in (*FINAL, "HELD"), at_most=60 * 3600.0):
        pass
    return made.clock.time - start, time.perf_counter() - begun


def stretch(dt: float, scans: int) -> tuple[float, float]:
    """Return plant time and real time [s] of some scans from the start of a batch."""
    made = bed(dt)
    begun = time.perf_counter()
    for _ in range(scans):
        made.step()
    return scans * dt, time.perf_counter() - begun


def main() -> None:
    times = scan_times()
    p50, p99 = np.percentile(times, [50, 99])
    points = len(load_cell(cell_path("demo")).plan.points)
    share = f"{p50 / 0.1:.2%} and {p99 / 0.1:.2%} of its 100 ms period"
    print(f"scan of the demo cell ({points} points): p50 {p50 * 1e6:.0f} us, p99 {p99 * 1e6:.0f} us = {share}")
    plant, real = stretch(0.1, 10_000)
    print(f"lockstep, scans of 100 ms: {plant / real:,.0f} x real time ({plant:.0f} s in {real:.2f} s) = {plant / real / 200:.2f} of 200 x")
    plant, real = stretch(1.0, 10_000)
    print(f"lockstep, scans of 1 s, from the start of a batch: {plant / real:,.0f} x real time = {plant / real / 1000:.2f} of 1,000 x")
    plant, real = whole_batch(27.0)
    print(f"lockstep, a whole batch at the demo's scan of 27 s: {plant / real:,.0f} x real time ({plant / 3600:.1f} h in {real:.1f} s)")


if __name__ == "__main__":
    main()
