"""What signing and encrypting costs a client: the driver and asyncua's own client, each with and without, against the same server of asyncua.

Shown and not judged: `opcua.py` judges against a source that does not hold up its clients, which has no security.
Run with ``python benchmarks/opcua_secured.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import opcua as bench
from peers import ROOT, Peer, once
from peers.opcua import WRITABLE

from drivers.connect import open_driver
from drivers.device import Device, Security
from drivers.driver import Driver, WriteResult
from drivers.opcua_pki import Pki

ITEMS, CHANGES, SECONDS, CALLS = 1000, 1000.0, 4.0, 50
WARM = 5
PEERS = ROOT / "benchmarks/peers"


async def cpu(work: Callable[[], Awaitable[object]], times: int) -> float:
    """Return the CPU [us] of one call."""
    for _ in range(WARM):
        await work()
    begun = time.process_time()
    for _ in range(times):
        await work()
    return (time.process_time() - begun) / times * 1e6


async def ours(port: int, data: Path, security: Security) -> dict[str, float]:
    """Return the CPU [us] that our driver takes for a change, a read of 1,000 and a write of 100."""

    def device(items: int, mode: str, writable: int = 0) -> Device:
        return replace(bench.device(port, items, mode, writable), security=security)

    async def write(driver: Driver) -> None:
        outcomes = await driver.write({f"w{place}": time.monotonic() for place in range(WRITABLE)})
        assert all(outcome.result is WriteResult.CONFIRMED for outcome in outcomes), outcomes[0]

    found: dict[str, float] = {}
    async with open_driver(device(ITEMS, "subscribe"), data=data, timeout=5.0) as driver:
        await bench.until_good(driver)
        await bench.watch(driver, 1.5)
        first, used = (await driver.read()).values.max(), time.process_time()
        await bench.watch(driver, SECONDS)
        changes = (await driver.read()).values.max() - first  # a value is the number of all changes before
        found["monitor"] = (time.process_time() - used) / changes * 1e6
    async with open_driver(device(ITEMS, "poll"), data=data, timeout=5.0) as driver:
        await bench.until_good(driver)
        found["read"] = await cpu(driver.read, CALLS)
        assert driver.metrics.read_errors <= 1, driver.metrics.why  # the first waits for the connection
    async with open_driver(device(1, "poll", WRITABLE), data=data, timeout=5.0) as driver:
        await bench.until_good(driver)
        found["write"] = await cpu(lambda: write(driver), CALLS)
    return found


def stock(port: int, folder: Path, *, secured: bool) -> dict[str, float]:
    """Return the same of asyncua's client."""
    more = [folder] if secured else []
    command = [sys.executable, PEERS / "opcua_stock.py", str(port), str(ITEMS), f"{SECONDS:g}", str(CALLS), *more]
    return {what: each["cpu_s"] / each["count"] * 1e6 for what, each in once(command, within=180.0).items()}


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pki = Pki(folder)
        pki.own()
        with Peer([sys.executable, PEERS / "opcua_secured.py", str(ITEMS), f"{CHANGES:g}", folder], within=60.0) as server:  # type: ignore[list-item]
            pki.trust(str(folder / "server.pem"))
            port = server.hello["port"]
            rows = {
                (who, secured): once([sys.executable, __file__, "--ours", str(port), folder, str(int(secured))], within=180.0)
                if who == "ours"
                else stock(port, folder, secured=secured)
                for secured in (False, True)
                for who in ("ours", "asyncua")
            }
    print(f"Basic256Sha256, SignAndEncrypt; server of asyncua, {CHANGES:,.0f} changes/s of {ITEMS:,} items; CPU of the client")
    for what, each in (("monitor", "change"), ("read", "read of 1,000"), ("write", "write of 100 (ours reads them back as well)")):
        us, them = ([rows[who, secured][what] for secured in (False, True)] for who in ("ours", "asyncua"))
        print(f"{what}, us for each {each}: ours {us[0]:.1f}, secured {us[1]:.1f}; asyncua {them[0]:.1f}, secured {them[1]:.1f}")
        print(f"  secured over not: ours {us[1] / us[0]:.2f}, asyncua {them[1] / them[0]:.2f}; ours over asyncua, secured: 1/{them[1] / us[1]:.1f}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", nargs=3)
    chosen = parser.parse_args().ours
    if chosen:
        port, folder, secured = chosen
        print(json.dumps(asyncio.run(ours(int(port), Path(folder), Security("Basic256Sha256" if secured == "1" else "none")))))
    else:
        sys.exit(main())
