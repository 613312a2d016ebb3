"""The OPC UA driver as the service uses it, all checks on, against asyncua as it comes, node-opcua and Telegraf: ratios of CPU in one run.

Run with ``python benchmarks/opcua.py``; a peer that this machine cannot run is said and left out. The source is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import mmap
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from peers import Missing, Peer, once, opcua, telegraf
from peers.callbacks import LONGEST, Callbacks, settle

from drivers.connect import open_driver
from drivers.device import Address, Device, Identity, Profile, Signal
from drivers.device import OpcuaOptions as Options
from drivers.driver import Driver, WriteResult
from drivers.tags import Quality

ITEMS, CHANGES, SECONDS, CALLS = 1000, 10_000.0, 5.0, 300
POLL = 0.1  # [s]
MAXIMA = {  # our CPU as a share of a peer's
    ("monitor", "asyncua"): 1 / 25,
    ("monitor", "node-opcua"): 1.0,
    ("monitor", "Telegraf"): 1 / 10,
    ("read", "asyncua"): 1 / 30,
    ("write", "asyncua"): 1 / 8,
}
WARM = 50  # calls before those that are counted, since the first ones are slower
ROUNDS = 5
SIZES, EACH = (100, 1000, 3000, 10_000), 10.0  # tags, and changes a second of each
FLAT = 1.0  # CPU of a change over that with the next smaller number of tags: none may cost more for being one of more
Measured = dict[str, dict[str, Any]]


def device(port: int, items: int, mode: str, writable: int = 0, mixed: int = 0) -> Device:
    where = f"nsu={opcua.URI};s="
    types = ["int32" if mixed and place % mixed == mixed - 1 else "float64" for place in range(items)]
    wide = (-1e9, 1e9)
    signals = {f"v{place}": Signal(at=f"{where}v{place}", type=type_, range=wide) for place, type_ in enumerate(types)}
    signals |= {f"w{place}": Signal(at=f"{where}w{place}", type="float64", range=wide, access="write") for place in range(writable)}
    profile = Profile(
        id="bench",
        description="Bench",
        protocol="opcua",
        identity=Identity(at=f"{where}identity", value=opcua.IDENTITY),
        signals=signals,
        opcua=Options(mode=mode),
    )
    return Device("bench", profile, Address.parse(f"opc.tcp://127.0.0.1:{port}/"), poll=POLL)


async def until_good(driver: Driver) -> None:
    end = time.monotonic() + 60.0
    while (await driver.read()).quality.max() != Quality.GOOD:
        if time.monotonic() > end:
            raise RuntimeError(f"not connected: {driver.metrics.why}")
        await asyncio.sleep(0.05)


async def watch(driver: Driver, seconds: float) -> None:
    """Read as the service does."""
    end, failed = time.monotonic() + seconds, driver.metrics.read_errors
    while time.monotonic() < end:
        reading = await driver.read()
        await driver.due(POLL, POLL)
    assert driver.metrics.read_errors == failed, driver.metrics.why
    assert reading.quality.max() == Quality.GOOD
    assert reading.received is not None
    assert time.monotonic() - reading.received.min() < 1.0


async def monitor(source: Peer, items: int, seconds: float, mixed: int) -> Measured:
    async with open_driver(device(source.hello["port"], items, "subscribe", mixed=mixed), data=Path()) as driver:
        await until_good(driver)
        await watch(driver, 1.5)
        settle()
        source.ask()
        cpu, begun = time.process_time(), time.perf_counter()
        await watch(driver, seconds)
        used, wall = time.process_time() - cpu, time.perf_counter() - begun
        count = source.ask()["notifications"]
        with Callbacks() as callbacks:
            await watch(driver, seconds)
        errors = {kind: n for kind, n in driver.metrics.errors.items() if n}
        times = sorted(callbacks.longest) or [0.0]
    longest = {"longest": times[-1], "most": times[int(len(times) * 0.99)], "errors": errors}
    return {"monitor": {"count": count, "cpu_s": used, "wall_s": wall, **longest}}


async def calls(source: Peer, items: int, times: int) -> Measured:
    """Read all, and write 100 with their readback, each as one call of the driver."""
    found: Measured = {}
    async with open_driver(device(source.hello["port"], items, "poll"), data=Path()) as driver:
        await until_good(driver)
        settle()
        for _ in range(WARM):
            await driver.read()
        cpu, begun = time.process_time(), time.perf_counter()
        for _ in range(times):
            await driver.read()
        found["read"] = {"count": times, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - begun}
        assert driver.metrics.read_errors == 0, driver.metrics.why
    async with open_driver(device(source.hello["port"], 1, "poll", opcua.WRITABLE), data=Path()) as driver:
        await until_good(driver)
        settle()
        names = [f"w{place}" for place in range(opcua.WRITABLE)]
        for call in range(-WARM, times):
            if call == 0:
                cpu, begun = time.process_time(), time.perf_counter()
            outcomes = await driver.write(dict.fromkeys(names, float(call)))
            assert outcomes[-1].result is WriteResult.CONFIRMED, outcomes[-1]
        assert driver.metrics.write_errors == 0
        found["write"] = {"count": times, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - begun}
    return found


def ours(items: int = ITEMS, changes: float = CHANGES, *, seconds: float = SECONDS, times: int = CALLS, mixed: int = 0) -> Measured:
    """Let our driver do what the peers do, in a process of its own."""
    return once([sys.executable, __file__, "--ours", str(items), f"{changes:g}", f"{seconds:g}", str(times), str(mixed)], within=240.0)


def work(items: int, changes: float, seconds: float, times: int, mixed: int) -> Measured:
    with opcua.source(items, changes, mixed=mixed) as source:
        found = asyncio.run(monitor(source, items, seconds, mixed))
    if times:
        with opcua.source(items, changes) as source:
            found |= asyncio.run(calls(source, items, times))
    return found


def cost(found: Measured, what: str) -> float:
    return float(found[what]["cpu_s"]) / max(float(found[what]["count"]), 1.0)


def of_telegraf(items: int = ITEMS, changes: float = CHANGES, *, settings: str = "") -> Measured:
    found = telegraf.listen(items=items, changes=changes, settings=settings)
    return {"monitor": {**found, "count": found["notifications"]}}


def rounds(clients: Mapping[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
    """Let each client work in turn, several times: what the machine gives to others changes from minute to minute."""
    found: dict[str, list[Measured]] = {name: [] for name in clients}
    for _ in range(ROUNDS):
        for name in tuple(found):
            try:
                found[name].append(clients[name]())
            except Missing as error:
                print(f"{name} cannot be run here: {error}")
                del found[name]
    return found


def first_touch(pages: int = 256, idle: float = 0.1, times: int = 20) -> tuple[float, float]:
    """Return what it takes to read a byte of each of some pages [us a page]: again at once, and after `idle` [s] of doing something else.

    Who takes ten messages a second pays the second for all that it touches. On some virtual machines that is more than all of
    the work, and then a client that has little to do loses most of its lead.
    """
    data = bytearray(pages * mmap.PAGESIZE)
    places = random.Random(1).sample(range(0, len(data), mmap.PAGESIZE), pages)

    def once_more() -> float:
        begun = time.thread_time()
        for place in places:
            data[place] ^= 1
        return (time.thread_time() - begun) / pages * 1e6

    soon, late = [], []
    for _ in range(times):
        once_more()
        soon.append(once_more())
        end = time.perf_counter() + idle
        while time.perf_counter() < end:
            pass
        late.append(once_more())
    return median(soon), median(late)


def main() -> int:
    missed = []

    def judge(what: str, share: float, most: float) -> None:
        fine = share <= most
        print(f"  {what}: {share:.4f} of it = 1/{1 / share:.1f}, at most {most:.4f} = 1/{1 / most:.1f}" + ("" if fine else "   MISSED"))
        if not fine:
            missed.append(what)

    # source and client on one core: where else they run is the kernel's choice, and costs every client up to a third more or less
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        opcua.source().close()
    except Missing as error:
        print(f"nothing can be measured here: {error}")
        return 0
    soon, late = first_touch()
    print(f"this machine: a page that was not touched for 0.1 s costs {late:.2f} us, one that was {soon:.2f} us")
    found = rounds(
        {
            "ours": ours,
            "asyncua": partial(opcua.asyncua, calls=100),
            "node-opcua": partial(opcua.node_opcua, calls=CALLS),
            "Telegraf": of_telegraf,
            "Telegraf with larger batches": partial(of_telegraf, settings=telegraf.THRIFTY),
        }
    )
    for what, each in (("monitor", "change"), ("read", "read of 1,000"), ("write", "write of 100 (ours reads them back as well)")):
        costs = {name: sorted(cost(one, what) for one in those) for name, those in found.items() if what in those[0]}
        middle = {name: median(those) for name, those in costs.items()}
        print(f"{what}: CPU of the client in us for each {each}, of {ROUNDS} runs the middle one (least to most):")
        print("  " + ", ".join(f"{name} {middle[name] * 1e6:.2f} ({of[0] * 1e6:.2f} to {of[-1] * 1e6:.2f})" for name, of in costs.items()))
        for name in middle:
            if (what, name) in MAXIMA:
                judge(f"{what} against {name}", middle["ours"] / middle[name], MAXIMA[what, name])
            elif name != "ours":
                print(f"  {what} against {name}: 1/{middle[name] / middle['ours']:.1f}, without a limit")
    told = [one["monitor"] for one in found["ours"]]
    # the clock of a virtual machine counts what its host takes as well; what is the driver's own comes in each run
    longest, most, greatest = (of(one[name] for one in told) for of, name in ((median, "longest"), (median, "most"), (max, "longest")))
    print(f"callbacks: longest {longest * 1e3:.2f} ms of CPU (once {greatest * 1e3:.2f}), 99 % below {most * 1e3:.2f} ms")
    print(f"errors: {[one['errors'] for one in told]}")
    judge("longest callback against 2 ms", longest / LONGEST, 1.0)
    print(f"two types in turn: {cost(ours(mixed=2, times=0), 'monitor') * 1e6:.2f} us a change")
    before = math.inf
    for items in SIZES:
        one = cost(ours(items, EACH * items, times=0), "monitor")
        print(f"{items:,} tags, {EACH:.0f} changes/s of each: {one * 1e6:.2f} us a change")
        if before < math.inf:
            judge(f"a change of {items:,} tags against one of fewer", one / before, FLAT)
        before = one
    if "Telegraf" in found:
        theirs = cost(of_telegraf(items, EACH * items), "monitor")
        print(f"Telegraf, {items:,} tags: {theirs * 1e6:.2f} us a change")
        judge(f"monitor {items:,} against Telegraf", one / theirs, MAXIMA["monitor", "Telegraf"])
    print("missed: " + ", ".join(missed) if missed else "all limits kept")
    return bool(missed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", nargs=5, type=float)
    chosen = parser.parse_args().ours
    if chosen:
        items, changes, seconds, times, mixed = chosen
        print(json.dumps(work(int(items), changes, seconds, int(times), int(mixed))))
    else:
        sys.exit(main())
