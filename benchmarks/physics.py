"""The physics: pH of one tank and of a thousand, the whole cell against real time, and batches side by side. Limits and ratios of one run.

make bench
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from controller.config import cell_path, load_cell
from controller.core.states import FINAL
from controller.runtime.batches import Library
from controller.runtime.lockstep import Lockstep
from drivers.device import load_profile, profile_folder
from simulators.equilibrium import DISSOLVED, Equilibrium, Many
from simulators.feed import FEEDS
from simulators.plant import Plant

LIQUOR = {"Ni": 0.45, "Co": 0.15, "Mn": 0.15, "Li": 0.75, "S": 1.2, "Na": 1.2, "Al": 0.02, "Fe3": 0.004, "Cu": 0.003, "N": 0.4, "F": 0.01}


def one_tank(n: int = 4000) -> tuple[float, float]:
    """Return median and 99th percentile [s] of a warm-started pH while caustic runs in, as in a physics step of 1 s."""
    totals = [LIQUOR.get(name, 0.0) for name in DISSOLVED]
    soda = DISSOLVED.index("Na")
    water = Equilibrium()
    water.solve(50.0, totals)
    times = np.empty(n)
    for place in range(n):
        totals[soda] += 1e-5
        begun = time.perf_counter()
        water.solve(50.0, totals)
        times[place] = time.perf_counter() - begun
    return float(np.median(times)), float(np.percentile(times, 99))


def many_tanks(n: int, turns: int = 40) -> float:
    """Return the median time [s] of a warm-started pH of n different tanks at once."""
    rng = np.random.default_rng(1)
    totals = np.array([LIQUOR.get(name, 0.0) for name in DISSOLVED])[:, None] * rng.uniform(0.9, 1.1, (len(DISSOLVED), n))
    t = rng.uniform(25.0, 70.0, n)
    soda = DISSOLVED.index("Na")
    water = Many(n)
    for _ in range(3):
        water.solve(t, totals)
    times = []
    for _ in range(turns):
        totals[soda] += 1e-6
        begun = time.perf_counter()
        water.solve(t, totals)
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def units(count: int, seconds: int = 3000) -> float:
    """Return real time [s] of one physics step of 1 s with `count` of the devices connected; the units behind them are at rest."""
    names = sorted(path.stem for path in profile_folder().glob("*.toml"))[:count]
    plant = Plant({name: load_profile(profile_folder() / f"{name}.toml") for name in names}, feed=FEEDS["nmc622"], seed=1)
    begun = time.perf_counter()
    for _ in range(seconds):
        plant.advance(1.0)
    return (time.perf_counter() - begun) / seconds


def batch(seed: int, dt: float = 24.0) -> tuple[float, float, float, float]:
    """Run a whole batch in lockstep; return plant time [s], real time [s], purity [wt%] and recovery [%]."""
    cell = load_cell(cell_path("demo"))
    library = Library(cell.classes)
    recipe = library.load("nmc622-pcam")
    plant = Plant({name: row.device.profile for name, row in cell.plan.devices.items()}, feed=FEEDS["nmc622"], seed=seed)
    made = Lockstep(cell.plan, plant, dt=dt)
    made.step()
    made.step([library.prepare(recipe, cell.plan, f"bench-{seed:04d}", made.clock.plant(), {}, "", "bench")])
    begun, start = time.perf_counter(), made.clock.time
    for _ in made.run(lambda scan: scan.frame.state in (*FINAL, "HELD"), at_most=60 * 3600.0):
        pass
    truth = plant.truth()
    return made.clock.time - start, time.perf_counter() - begun, truth["purity"], truth["recovery"]


def main() -> None:
    median, tail = one_tank()
    print(f"pH of one tank, warm: median {median * 1e6:.0f} us, p99 {tail * 1e6:.0f} us = {median / 100e-6:.2f} and {tail / 100e-6:.2f} of 100 us")
    for n in (1, 10, 100, 1000, 10000):
        whole = many_tanks(n)
        note = f" = {whole / 5e-3:.2f} of 5 ms" if n == 1000 else ""
        print(f"pH of {n} tanks at once: {whole * 1e3:.2f} ms{note}; {whole / n * 1e6:.1f} us a tank = {n * median / whole:.1f} x one by one")
    base = units(1)
    for count in (1, 3, 5, 7, 8):
        each = units(count)
        print(f"physics step of 1 s, {count} devices at rest: {each * 1e6:.0f} us = {each / base:.1f} x one device; {1.0 / each:,.0f} x real time")
    plant, real, *_ = batch(1, dt=1.0)
    print(f"the whole cell in lockstep, scans and physics of 1 s: {plant / real:,.0f} x real time = {plant / real / 1000:.2f} of 1,000 x")
    cores = os.cpu_count() or 1
    begun = time.perf_counter()
    alone = [batch(seed) for seed in range(1, 3)]
    single = (time.perf_counter() - begun) / 2
    for count in (cores, 2 * cores):
        begun = time.perf_counter()
        with ProcessPoolExecutor(cores) as pool:
            results = list(pool.map(batch, range(1, count + 1)))
        each = (time.perf_counter() - begun) / count
        print(f"Monte-Carlo of {count} batches in {cores} processes: {each:.1f} s a batch = {single / each:.2f} x one after another")
    purity, recovery = zip(*((row[2], row[3]) for row in (*alone, *results)), strict=True)
    print(f"purity {min(purity):.2f} to {max(purity):.2f} wt%, recovery {min(recovery):.1f} to {max(recovery):.1f} %")


if __name__ == "__main__":
    main()
