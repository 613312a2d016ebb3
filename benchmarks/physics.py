"""The physics against its limits, and how its cost grows: with tanks at work, with plants side by side, with scenarios at once and in processes.

All times are CPU times of the process, so that a busy machine does not change what is shown; only processes side by side are timed by the wall.
Takes some three minutes; ends with an exit status of 1 when a limit is missed.

make bench
"""

from __future__ import annotations

import os
import sys
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
PROFILES = {path.stem: load_profile(path) for path in profile_folder().glob("*.toml")}
# plant time of the stretches with scans of 100 ms [h], each of 200 s: the leach, the pH of the purification, the feed of the precipitation
FINE = (1.5, 5.0, 20.0)
EARLY = 6.0  # [h] plant time of the scenarios: charge, leach and the first of the purification
missed: list[str] = []


def against(what: str, share: float) -> str:
    """Return `share` of a limit as text, 1 or less being kept, and remember it when it is missed."""
    if not share <= 1.0:
        missed.append(what)
    return f"{share:.2f} of the limit" + ("" if share <= 1.0 else ", MISSED")


def one_tank(n: int = 4000) -> tuple[float, float]:
    """Return median and 99th percentile [s] of a warm-started pH while caustic runs in, as in a physics step of 1 s."""
    totals = [LIQUOR.get(name, 0.0) for name in DISSOLVED]
    soda = DISSOLVED.index("Na")
    water = Equilibrium()
    water.solve(50.0, totals)
    times = np.empty(n)
    for place in range(n):
        totals[soda] += 1e-5
        begun = time.process_time()
        water.solve(50.0, totals)
        times[place] = time.process_time() - begun
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
        begun = time.process_time()
        water.solve(t, totals)
        times.append(time.process_time() - begun)
    return float(np.median(times))


# what sets each of the four tanks of a plant to work, in the order of the liquor
WORK: dict[str, dict[str, float]] = {
    "leach_tank": {"water_flow_sp": 40.0, "acid_flow_sp": 5.0, "stirrer_speed_sp": 100.0, "jacket_valve": 20.0},
    "purification_tank": {"water_flow_sp": 30.0, "acid_flow_sp": 0.5, "naoh_flow_sp": 1.5, "stirrer_speed_sp": 100.0},
    "precipitation_reactor": {
        "water_flow_sp": 1500.0,
        "ammonia_flow_sp": 60.0,
        "naoh_flow_sp": 30.0,
        "seed_rate_sp": 20.0,
        "stirrer_speed_sp": 200.0,
    },
    "crystalliser": {"soda_flow_sp": 15.0, "acid_flow_sp": 0.5, "jacket_valve": 30.0},
}


def at_work(tanks: int) -> Plant:
    """Return a plant with `tanks` of its four tanks at work: filled, dosed, stirred and reacting."""
    plant = Plant(PROFILES, feed=FEEDS["nmc622"], seed=1)
    for device, signals in list(WORK.items())[:tanks]:
        for signal, value in signals.items():
            plant.write(device, signal, value)
    if tanks:
        plant.hopper.weight = 100.0
        plant.write("weigh_hopper", "feeder_rate_sp", 400.0)
    plant.advance(900.0)
    return plant


def step_of(plants: list[Plant], seconds: int) -> float:
    """Return the time [s] of a physics step of 1 s of all plants, over some seconds of their time."""
    begun = time.process_time()
    for _ in range(seconds):
        for plant in plants:
            plant.advance(1.0)
    return (time.process_time() - begun) / seconds


def started(seed: int, dt: float) -> tuple[Plant, Lockstep]:
    """Return the demo's cell and its plant in lockstep, with the demo's recipe under way."""
    cell = load_cell(cell_path("demo"))
    library = Library(cell.classes)
    recipe = library.load("nmc622-pcam")
    plant = Plant({name: row.device.profile for name, row in cell.plan.devices.items()}, feed=FEEDS["nmc622"], seed=seed)
    made = Lockstep(cell.plan, plant, dt=dt)
    made.step()
    made.step([library.prepare(recipe, cell.plan, f"bench-{seed:04d}", made.clock.plant(), {}, "", "bench")])
    return plant, made


def batch(dt: float) -> tuple[float, float, Plant]:
    """Run a whole batch in lockstep; return plant time [s], CPU time [s] and the plant."""
    plant, made = started(1, dt)
    begun, start = time.process_time(), made.clock.time
    for _ in made.run(lambda scan: scan.frame.state in (*FINAL, "HELD"), at_most=60 * 3600.0):
        pass
    return made.clock.time - start, time.process_time() - begun, plant


def fine_scans(at: float, scans: int = 2000) -> float:
    """Return how many times real time `scans` of 100 ms are, from `at` [h] in a batch."""
    _, made = started(1, 10.0)
    while made.clock.time < at * 3600.0:
        made.step()
    made.dt = 0.1
    begun = time.process_time()
    for _ in range(scans):
        made.step()
    return scans * 0.1 / (time.process_time() - begun)


def scenario(seed: int) -> float:
    """Run the early part of one scenario of a Monte-Carlo; return the Ni+Co+Mn [mol] that its plant holds."""
    plant, made = started(seed, 24.0)
    while made.clock.time < EARLY * 3600.0:
        made.step()
    return plant.truth()["held"]


def in_processes(count: int, processes: int) -> tuple[float, list[float]]:
    """Return the real time [s] of `count` scenarios in some processes, and what they gave."""
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(abs, range(processes)))  # they have started
        begun = time.perf_counter()
        held = list(pool.map(scenario, range(1, count + 1)))
        return time.perf_counter() - begun, held


def main() -> int:
    median, tail = one_tank()
    print(f"pH of one tank, warm: median {median * 1e6:.0f} us, p99 {tail * 1e6:.0f} us; limit 100 us: {against('pH of one tank', median / 100e-6)}")
    print("scenarios at once, as arrays:")
    for n in (1, 10, 100, 1000, 10000):
        whole = many_tanks(n)
        limit = f"; limit 5 ms: {against('pH of 1,000 tanks', whole / 5e-3)}" if n == 1000 else ""
        print(f"  pH of {n:6,d} tanks: {whole * 1e3:6.2f} ms, {whole / n * 1e6:7.1f} us a tank = {n * median / whole:4.1f} x one by one{limit}")

    print("units at work, a physics step of 1 s:")
    rest = step_of([at_work(0)], 600)
    print(f"  a plant at rest: {rest * 1e6:.0f} us")
    for tanks in (1, 2, 3, 4):
        each = step_of([at_work(tanks)], 600)
        print(f"  {tanks} of its tanks at work: {each * 1e6:.0f} us = {each / rest:.1f} x at rest; {1.0 / each:,.0f} x real time")
    single = 0.0
    for count in (1, 2, 4, 8):
        each = step_of([at_work(4) for _ in range(count)], 300)
        single = single or each
        ratio = f"{each * 1e6:,.0f} us = {each / single:.1f} x one"
        print(f"  {count} plants, {4 * count} tanks at work: {ratio}; {1.0 / each:,.0f} x real time for all")

    plant_time, real, plant = batch(1.0)
    truth = plant.truth()
    speed = plant_time / real
    print(
        f"the whole cell in lockstep, scans and physics of 1 s, a whole batch of {plant_time / 3600:.1f} h: {speed:,.0f} x real time on one core;",
        end=" ",
    )
    print(f"limit 1,000 x: {against('lockstep at 1 s', 1000.0 / speed)}")
    print(f"  its purity is {truth['purity']:.2f} wt%, its recovery {truth['recovery']:.1f} %")
    for at in FINE:
        speed = fine_scans(at)
        print(f"the same with scans of 100 ms, 200 s at {at:g} h: {speed:,.0f} x real time;", end=" ")
        print(f"limit 200 x: {against(f'lockstep at 100 ms, {at:g} h', 200.0 / speed)}")

    count = 4
    print(f"Monte-Carlo of {count} scenarios in processes, the first {EARLY:g} h of a batch, by the wall, on {os.cpu_count()} cores:")
    alone = 0.0
    results = []
    for processes in (1, 2):
        real, held = in_processes(count, processes)
        results.append(held)
        alone = alone or real
        print(f"  {processes} at a time: {real / count:.1f} s a scenario = {alone / real:.2f} x one process")
    if results[0] != results[1]:
        missed.append("scenarios in processes give other results")
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
