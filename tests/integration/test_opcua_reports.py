"""What a simulated OPC UA device does when it is called, and reports by itself: up to the journal, over real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from controller.batch.records import Event
from controller.config import load_cell
from controller.runtime.clock import LiveClock
from controller.runtime.exchange import Exchange
from drivers.connect import open_driver
from drivers.device import Address, Device, OpcuaOptions, load_profile, profile_folder
from drivers.driver import WriteResult
from drivers.image import ProcessImage
from drivers.opcua_browse import Bounds, Survey, walk
from drivers.opcua_client import disconnect, new_client
from drivers.opcua_draft import draft_profile
from drivers.tags import Quality
from simulators.bench import StaticPlant
from simulators.serve import Servers

pytestmark = pytest.mark.wire

CELL = """
[cell]
id = "reports"

[devices.shredder]
profile = "shredder"
address = "{address}"
security = "none"
tags = {{ "ST-101" = "rotor_speed" }}
"""


async def events_of(exchange: Exchange, says: str) -> Event:
    """Read until the device has reported something in these words; return what goes to the journal."""
    end = time.monotonic() + 5.0
    while True:
        for event in await exchange.read():
            if says in event.why:
                return event
        assert time.monotonic() < end, f"no event said {says!r}"
        await asyncio.sleep(0.02)


def test_a_device_that_falls_to_its_safe_state_says_so_in_the_journal_and_takes_no_call(tmp_path: Path) -> None:
    profile = load_profile(profile_folder() / "shredder.toml").model_copy(update={"opcua": OpcuaOptions(events="server", min_severity=500)})

    async def main() -> None:
        clock = [0.0]
        device = Device("shredder", profile, Address.parse("opc.tcp://127.0.0.1:0/reports"))
        plant = StaticPlant({"shredder": profile})
        async with Servers([device], plant, start=1_700_000_000_000_000_000, monotonic=lambda: clock[0]) as servers:
            there = Device("shredder", profile, servers.endpoints["shredder"])
            path = tmp_path / "cell.toml"
            path.write_text(CELL.format(address=there.address), encoding="utf-8")
            cell = load_cell(path).plan
            async with open_driver(there, data=tmp_path) as driver:
                image = ProcessImage(cell.image, cell.freshness)
                exchange = Exchange(cell.devices["shredder"], driver, image, cell, LiveClock.now(1.0))
                await events_of(exchange, "opc.tcp://")  # the link is up
                assert (await driver.read()).quality.max() == Quality.GOOD
                await driver.write({"heartbeat": 7.0})
                outcome = await driver.call("reset_drive", {})
                assert (outcome.result, outcome.why) == (WriteResult.CONFIRMED, "")
                outcome = await driver.call("reset_drive", {"hard": 1.0})
                assert (outcome.result, outcome.why) == (WriteResult.NOT_SENT, "it takes no inputs; wrong or missing: hard")
                clock[0] += 5.1
                event = await events_of(exchange, "the heartbeat has stopped")
                assert (event.kind, event.name, event.new) == ("device", "shredder.shredder", "severity 800")
                outcome = await driver.call("reset_drive", {})
                assert (outcome.result, outcome.why) == (WriteResult.REFUSED, "BadInvalidState")
                assert driver.metrics.drops == 0

    asyncio.run(main())


@pytest.mark.parametrize("largest", [None, 1500])
def test_a_walk_finds_again_what_a_simulated_device_was_made_from(largest: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a server that takes only requests of so many bytes."""
    profile = load_profile(profile_folder() / "shredder.toml")

    sizes: list[int] = []

    async def main() -> Survey:
        device = Device("shredder", profile, Address.parse("opc.tcp://127.0.0.1:0/reports"))
        async with Servers([device], StaticPlant({"shredder": profile}), start=0, monotonic=time.monotonic) as servers:
            client = new_client(Device("shredder", profile, servers.endpoints["shredder"]), 3.0)
            await client.connect()
            protocol: Any = client.uaclient.protocol
            write = protocol.transport.write
            monkeypatch.setattr(protocol.transport, "write", lambda data: (sizes.append(len(data)), write(data)))
            if largest is not None:
                protocol.largest = largest
            try:
                return await walk(client)
            finally:
                await disconnect(client)

    survey = asyncio.run(main())
    assert (max(sizes) <= 1500) == (largest is not None), max(sizes)
    draft = draft_profile(survey, "shredder", writable=True)
    path = tmp_path / "draft.toml"
    path.write_text(draft.text, encoding="utf-8")
    drafted = load_profile(path)
    assert drafted.identity == profile.identity
    assert drafted.names == profile.names
    for name, signal in profile.signals.items():
        there = drafted.signals[name]
        assert (there.at, there.type, there.eu, there.range, there.access) == (signal.at, signal.type, signal.eu, signal.range, signal.access), name
    assert [(name, method.at) for name, method in drafted.methods.items()] == [(name, method.at) for name, method in profile.methods.items()]


FEED = """
[methods.feed]
at = "nsu=urn:blackmass:shredder;s=feed"
inputs.rate = { writes = "feed_rate_sp", eu = "kg/min" }
"""


def test_a_walk_that_ends_early_knows_all_of_what_it_has_seen(tmp_path: Path) -> None:
    """A draft without the eu and ranges that the server tells, or of a method without its inputs, would be wrong and look right."""
    path = tmp_path / "fed.toml"
    path.write_text((profile_folder() / "shredder.toml").read_text(encoding="utf-8") + FEED, encoding="utf-8")
    profile = load_profile(path)
    count = len(profile.signals) + len(profile.methods) + 1

    async def main() -> list[Survey]:
        device = Device("shredder", profile, Address.parse("opc.tcp://127.0.0.1:0/reports"))
        async with Servers([device], StaticPlant({"shredder": profile}), start=0, monotonic=time.monotonic) as servers:
            client = new_client(Device("shredder", profile, servers.endpoints["shredder"]), 3.0)
            await client.connect()
            try:
                return [await walk(client, bounds) for bounds in (Bounds(), Bounds(nodes=6), Bounds(nodes=count + 1), Bounds(depth=2))]
            finally:
                await disconnect(client)

    whole, *early = asyncio.run(main())
    assert whole.cut == ""
    there = {one.at: one for one in whole.variables}
    methods = {one.at: one for one in whole.methods}
    assert [bool(one.inputs) for one in methods.values()] == [False, True]
    for survey in early:
        assert survey.cut
        assert survey.variables
        assert all(one == there[one.at] for one in survey.variables), survey.cut
        assert all(one == methods[one.at] for one in survey.methods), survey.cut
    assert len(early[0].variables) < len(there)
    assert [len(survey.methods) for survey in early] == [0, 2, 2]
