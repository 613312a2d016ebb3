"""Our Modbus driver against pymodbus, libmodbus in C and Telegraf: client CPU for each request of 125 registers, as ratios of one run.

Run with ``python benchmarks/modbus.py``. All checks are on: identity, transaction, unit, length, finite values, freshness. The source is plain C
and holds nobody up. Exit status 1 when a limit is missed; a peer that this machine cannot run is named and left out.

Where source and client run decides as much as the client does: to wake the other core costs some machines 15 us for each request, whoever asks.
The kernel moves them about from run to run, so both are held in place, once together on one core and once on a core each. Telegraf is given as
many requests a round as our read has. *asyncio itself* sends and receives as many bytes and does nothing with them: where calls of the kernel are
quick it takes nearly twice what all of libmodbus does. A tenth of Telegraf and a quarter of pymodbus are no limits on two cores, since that is what
a client in C, and asyncio itself, take there.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import Missing, modbus, telegraf
from peers.callbacks import LONGEST, Callbacks, settle

from drivers.device import Address, Device, Profile
from drivers.modbus import ModbusDriver
from drivers.modbus_plan import plan
from drivers.tags import Quality

REQUESTS = 6_000
ROUNDS = 4  # the best of each is taken: the machine is not ours alone
ALONE, PLAIN, PIPED = "ours, 1 request a read", "ours, 16 requests a read", "ours, 16, 4 in flight"
BARE, BARE_4 = "asyncio itself", "asyncio itself, 4 in flight"
TELEGRAF, TELEGRAF_16 = "telegraf, 1 request a round", "telegraf, 16 requests a round"
LIMITS: list[tuple[str, str, float, float]] = [  # on one core, on two; 0: only shown
    (PLAIN, "pymodbus", 1 / 4, 0.0),
    (PLAIN, "libmodbus", 2.0, 2.0),
    (PLAIN, TELEGRAF_16, 1 / 10, 0.0),
    (PIPED, "libmodbus", 2.0, 2.0),
    (ALONE, "pymodbus", 0.0, 0.0),  # a read of few requests bears what a whole read costs
    (ALONE, TELEGRAF, 0.0, 0.0),
    (BARE, "libmodbus", 0.0, 0.0),
    (BARE, "pymodbus", 0.0, 0.0),
    (BARE_4, "libmodbus", 0.0, 0.0),
    ("libmodbus", TELEGRAF_16, 0.0, 0.0),
]
RATE = 8_000  # [requests/s]
SHARE = (0.93, 1.0)  # of the requests that a line can carry with t3.5
FLAT = 1.25  # the dearest cost of a tag, of the cheapest, from 100 to 10,000 tags


def device(address: str, blocks: int, in_flight: int = 1) -> Device:
    """Return a device of `blocks` requests: in each 62 float32, and the identity at the end of the first."""
    signals = {
        f"v{block}_{k}": {"at": f"input:{modbus.BLOCK * block + 2 * k}", "range": [-1e9, 1e9]}
        for block in range(blocks)
        for k in range(modbus.FLOATS)
    }
    identity = {"at": f"input:{modbus.BLOCK - 1}", "value": modbus.IDENTITY}
    profile = Profile.model_validate(
        {"id": "bench", "description": "", "protocol": "modbus", "identity": identity, "signals": signals, "modbus": {"in_flight": in_flight}}
    )
    return Device("bench", profile, Address.parse(address))


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def reads(what: Device, count: int) -> dict[str, float]:
    """Read a device `count` times and check what came; return requests, cpu_s and wall_s."""
    expected = np.array([float(name.partition("_")[2]) + 62.0 * int(name[1:].partition("_")[0]) + 0.25 for name in what.profile.names])
    settle()  # now, since later it would keep a serial line waiting for as long as three of its requests
    async with ModbusDriver(what, data=Path()) as driver:
        first = await driver.read()
        cpu_before, begun = cpu(), time.perf_counter()
        for _ in range(count):
            reading = await driver.read()
        used, passed = cpu() - cpu_before, time.perf_counter() - begun
        assert reading.quality.max() == Quality.GOOD
        np.testing.assert_array_equal(first.values, expected)
        np.testing.assert_array_equal(reading.values, expected)
        assert driver.metrics.read_errors == 0
        with Callbacks() as callbacks:
            for _ in range(5):
                await driver.read()
        requests = count * len(plan(what.profile, what.periods))
        return {"requests": requests, "cpu_s": used, "wall_s": passed, "longest": max(callbacks.longest)}


def ours(address: str, blocks: int, count: int, in_flight: int = 1) -> dict[str, Any]:
    """Measure in a process of its own, so that nothing else is charged to it."""
    command = [sys.executable, __file__, "--child", address, str(blocks), str(count), str(in_flight)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def child(address: str, blocks: str, count: str, in_flight: str) -> None:
    print(json.dumps(asyncio.run(reads(device(address, int(blocks), int(in_flight)), int(count)))))


def cost(found: dict[str, Any]) -> float:
    """Return the CPU of one request [us]."""
    return float(found["cpu_s"]) / float(found["requests"]) * 1e6


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return min(runs, key=cost)


def over_tcp(source_on: int, client_on: int) -> list[str]:
    """Compare over one TCP connection, source and clients each on a core; return the limits that were missed."""
    where = "on one core" if source_on == client_on else "on a core each"
    missed = []
    os.sched_setaffinity(0, {source_on})
    with modbus.source() as source:
        os.sched_setaffinity(0, {client_on})
        port = source.hello["port"]
        address = f"modbus-tcp://127.0.0.1:{port}?unit=1"
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in (ALONE, PLAIN, PIPED, BARE, BARE_4, "libmodbus", "pymodbus")}
        for _ in range(ROUNDS):
            found[ALONE].append(ours(address, 1, REQUESTS))
            found[PLAIN].append(ours(address, 16, REQUESTS // 16))
            found[PIPED].append(ours(address, 16, REQUESTS // 16, 4))
            found[BARE].append(modbus.bare(port, requests=REQUESTS))
            found[BARE_4].append(modbus.bare(port, requests=REQUESTS, in_flight=4))
            found["libmodbus"].append(modbus.libmodbus("tcp", port, requests=REQUESTS))
            found["pymodbus"].append(modbus.pymodbus("tcp", port, requests=REQUESTS // 4))
        try:
            found[TELEGRAF] = [telegraf.poll(source) for _ in range(2)]
            found[TELEGRAF_16] = [telegraf.poll(source, requests=16) for _ in range(2)]
        except Missing as error:
            print(f"telegraf: left out: {error}")
        print(f"Source and client {where}:")
        for name, runs in found.items():
            one = best(runs)
            print(f"  {name:29} {cost(one):7.1f} us of CPU a request, {one['requests'] / one['wall_s']:8,.0f} requests/s")
        for mine, peer, together, apart in LIMITS:
            if peer in found:
                ratio, limit = cost(best(found[mine])) / cost(best(found[peer])), together if source_on == client_on else apart
                print(f"  {mine}: {ratio:.2f} x {peer}" + (f" (at most {limit:.2f})" if limit else ""))
                if limit and ratio > limit:
                    missed.append(f"{where}, {mine}: {ratio:.2f} x {peer}, at most {limit:.2f}")
        rate = max(run["requests"] / run["wall_s"] for run in found[PLAIN])
        theirs = max(run["requests"] / run["wall_s"] for run in found["libmodbus"])
        told = f"{rate:,.0f} requests/s on one connection, {rate / theirs:.2f} x libmodbus"
        if source_on == client_on:  # on two cores it is the time that a wake-up takes
            told += f" (at least {RATE:,})"
            if rate < RATE:
                missed.append(told)
        print(f"  {told}")
        if source_on == client_on:
            missed += by_tags(address)
    return missed


def by_tags(address: str) -> list[str]:
    """Return whether the cost of a tag grows with their number, and whether a callback holds the loop up when 10,000 are read at once."""
    costs = {}
    for blocks in (2, 16, 161):  # 124, 992, 9,982 tags
        runs = [ours(address, blocks, max(20, 3_000 // blocks)) for _ in range(ROUNDS)]
        tags = blocks * modbus.FLOATS
        costs[tags] = min(run["cpu_s"] / (run["requests"] / blocks * tags) for run in runs) * 1e6
        longest = min(run["longest"] for run in runs)
    print("  CPU a tag: " + ", ".join(f"{used:.2f} us of {tags:,}" for tags, used in costs.items()))
    ratio = costs[max(costs)] / costs[min(costs)]
    print(f"  longest callback: {longest * 1e3:.2f} ms of CPU, with {tags:,} tags (at most {LONGEST * 1e3:.0f} ms)")
    missed = [f"a tag of {max(costs):,} costs {ratio:.2f} x one of {min(costs)}, at most {FLAT}"] if ratio > FLAT else []
    return missed + ([f"a callback took {longest * 1e3:.2f} ms with {tags:,} tags, at most {LONGEST * 1e3:.0f} ms"] if longest > LONGEST else [])


def on_a_line() -> list[str]:
    """Poll over a paced serial line as fast as it goes; return the limits that were missed."""
    missed = []
    for baud in (19200, 115200):
        with modbus.SerialBench(baud) as bench:
            found = ours(f"modbus-rtu:{bench.near}?unit=1&baud={baud}", 1, 40 if baud < 50_000 else 200)
            line = bench.report()
        share, below = line["share"], line["client_below"]
        print(
            f"RTU, {baud} baud: {share:.3f} of the limit with t3.5 ({bench.limit:.2f} requests/s), {below} frames too early, "
            f"{cost(found):.0f} us of CPU a request"
        )
        if not SHARE[0] <= share <= SHARE[1]:
            missed.append(f"{share:.3f} of the limit at {baud} baud, expected {SHARE[0]} to {SHARE[1]}")
        if below:
            missed.append(f"{below} frames came before t3.5 was over at {baud} baud")
    return missed


def main() -> None:
    """Print a line a comparison."""
    cores = sorted(os.sched_getaffinity(0))
    missed = over_tcp(cores[-1], cores[-1])
    if len(cores) > 1:
        missed += over_tcp(cores[-1], cores[0])
    os.sched_setaffinity(0, cores)
    missed += on_a_line()
    for text in missed:
        print(f"MISSED: {text}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
