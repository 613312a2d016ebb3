"""A process of devices that hangs (SIGSTOP) and one that is killed (SIGKILL): what the drivers show, and what the service does."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controller.batch.journal import JournalReader
from controller.config import cell_path, load_cell
from controller.core.commands import Command, Start, Transition
from controller.core.frame import Frame
from controller.core.states import Verb
from controller.demo import simulated_cell
from controller.runtime.clock import LiveClock
from controller.runtime.service import Service
from drivers.connect import open_driver
from drivers.device import Address, Device, load_profile, profile_folder
from drivers.image import Freshness, ProcessImage
from drivers.tags import Quality, Tag, TagTable
from tests.faults.bench import until
from tests.faults.framing import Line, Mbap, Rtu, Uacp
from tests.faults.proxy import Direction, Drop, Proxy, SerialRelay
from tests.integration.waiting import frame

pytestmark = pytest.mark.wire

SPEED = 60.0
SERVED = {
    "leach": ("leach_tank", "modbus-tcp://127.0.0.1:0?unit=1"),
    "shredder": ("shredder", "opc.tcp://127.0.0.1:0"),
    "wash": ("filter_dryer", "modbus-rtu:lines/wash?unit=1&baud=115200"),
    "balance": ("balance", "serial:lines/balance"),
    "meter": ("ph_transmitter", "serial:lines/meter"),
}
RECIPE = """
recipe: {id: still, version: 1, title: Still, product: none, specification: pcam-99}
units: {L1: leach_tank}
procedure:
  - stir: {unit: L1, run: keep, with: {output: stirrer, at: 120 rpm}, until: "L1.temperature >= 90 degC", max: 40 h}
"""


@contextmanager
def devices(folder: Path, addresses: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Serve the devices in a process of their own."""
    entries = [{"name": name, "profile": profile, "address": addresses[name]} for name, (profile, _) in SERVED.items()]
    (folder / "devices.json").write_text(json.dumps(entries))
    command = [sys.executable, "-m", "simulators.serve", "--devices", str(folder / "devices.json"), "--data", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["endpoints"]
        finally:
            process.kill()


class Shown:
    """A device as the page shows it: polled into an image whose ages lower quality as those of a cell file do."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name = name
        profile = load_profile(profile_folder() / f"{SERVED[name][0]}.toml")
        device = Device(name, profile, Address.parse(address), poll=0.1)
        self.driver = open_driver(device, data=folder)
        periods = device.periods
        tags = TagTable(Tag(signal, its.eu, *its.range) for signal, its in device.profile.signals.items())
        self.image = ProcessImage(tags, Freshness(np.maximum(3 * periods, 0.3), np.maximum(10 * periods, 2.5)))
        self._part = self.image.part(np.arange(len(tags)))
        # what is asked for each few seconds may be as old as that before it is missed
        self._quick = periods <= 0.25

    async def poll(self) -> None:
        while True:
            reading = await self.driver.read()
            now = time.monotonic()
            self.image.update(self._part, reading.values, reading.quality, 0, 0, now if reading.received is None else reading.received)
            await asyncio.sleep(0.1)

    def qualities(self) -> np.ndarray:
        return self.image.snapshot(time.monotonic()).quality

    def bad(self) -> bool:
        return bool((self.qualities()[self._quick] == Quality.BAD).all()) and (bool(self._quick.any()) or not self.driver.metrics.connected)

    def alive(self) -> bool:
        return bool((self.qualities() == Quality.GOOD).any()) and self.driver.metrics.connected


def test_a_process_that_hangs_is_bad_within_three_seconds_one_that_is_killed_within_one_and_data_is_back_within_five(tmp_path: Path) -> None:
    """Modbus TCP, OPC UA with subscriptions, Modbus RTU and serial ASCII at once; the pH transmitter, which talks each second, as well."""

    async def main() -> None:
        with devices(tmp_path, {name: address for name, (_, address) in SERVED.items()}) as (process, endpoints):
            shown = {name: Shown(name, endpoints[name], tmp_path) for name in SERVED}
            async with AsyncExitStack() as stack:
                for one in shown.values():
                    await stack.enter_async_context(one.driver)
                    task = asyncio.create_task(one.poll())
                    stack.callback(task.cancel)

                def all_alive() -> bool:
                    return all(one.alive() for one in shown.values())

                def told() -> dict[str, tuple[str, bool, bool]]:
                    return {name: (one.driver.metrics.why, one.bad(), one.alive()) for name, one in shown.items()}

                await until(all_alive, 10.0, told)
                process.send_signal(signal.SIGSTOP)
                try:
                    assert await until(lambda: all(one.bad() for one in shown.values()), 4.0, told) < 3.0
                finally:
                    process.send_signal(signal.SIGCONT)
                assert await until(all_alive, 6.0, told) < 5.0
                process.kill()
                assert await until(lambda: all(one.bad() for one in shown.values()), 2.0, told) < 1.0
                await asyncio.to_thread(process.wait, 5.0)
                with devices(tmp_path, endpoints) as (_, again):
                    assert again == endpoints
                    assert await until(all_alive, 6.0, told) < 5.0

    asyncio.run(asyncio.wait_for(main(), 60.0))


def test_packets_dropped_for_a_minute_are_bad_within_three_seconds_and_data_is_back_within_five(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The campaign's own 60 s, and the time-outs of the service: each kind of link at once; nothing passes it in either direction, none is cut."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            _, endpoints = stack.enter_context(devices(tmp_path, {name: address for name, (_, address) in SERVED.items()}))
            relays: dict[str, Proxy | SerialRelay] = {}
            shown: dict[str, Shown] = {}
            for name, framing in {"leach": Mbap, "shredder": Uacp, "wash": Rtu, "balance": Line, "meter": Line}.items():
                far = Address.parse(endpoints[name])
                if far.serial:
                    serial = await stack.enter_async_context(SerialRelay(tmp_path / "near" / name, tmp_path / far.path, framing))
                    relays[name], near = serial, replace(far, path=f"near/{name}")
                else:
                    proxy = await stack.enter_async_context(Proxy("127.0.0.1", far.port, framing))
                    relays[name], near = proxy, replace(far, port=proxy.port)
                shown[name] = Shown(name, str(near), tmp_path)
                await stack.enter_async_context(shown[name].driver)
                stack.callback(asyncio.create_task(shown[name].poll()).cancel)

            def told() -> dict[str, tuple[str, bool, bool]]:
                return {name: (one.driver.metrics.why, one.bad(), one.alive()) for name, one in shown.items()}

            def all_bad() -> bool:
                return all(one.bad() for one in shown.values())

            await until(lambda: all(one.alive() for one in shown.values()), 10.0, told)
            for relay in relays.values():
                relay.add(Drop(direction=Direction.BOTH))
            begun = time.monotonic()
            assert await until(all_bad, 4.0, told) < 3.0
            while time.monotonic() - begun < 60.0:  # the fault itself: it lasts that long
                await asyncio.sleep(0.05)
                assert all_bad(), told()
            for name in ("leach", "shredder"):
                relay = relays[name]
                assert isinstance(relay, Proxy)
                assert relay.accepted < 60, f"{name}: a storm of connections"
            for relay in relays.values():
                relay.clear()
            assert await until(lambda: all(one.alive() for one in shown.values()), 6.0, told) < 5.0

    with caplog.at_level("INFO", logger="drivers"):
        asyncio.run(asyncio.wait_for(main(), 100.0))
    for name in SERVED:
        levels = [record.levelname for record in caplog.records if record.name.startswith("drivers") and record.getMessage().startswith(f"{name} ")]
        assert levels == ["INFO", "WARNING", "INFO"], name


def test_devices_that_hang_hold_the_batch_with_an_alarm_within_three_seconds_and_ones_that_are_killed_within_one(tmp_path: Path) -> None:
    """The whole service on the whole simulated cell: BAD, HOLD and alarms; it goes on scanning, and all is GOOD within 5 s of the devices' return."""
    (tmp_path / "still.yaml").write_text(RECIPE)
    clock = LiveClock.now(SPEED)
    cell = load_cell(cell_path("demo"), speed=SPEED)
    free = {name: str(replace(row.device.address, port=0)) for name, row in cell.plan.devices.items() if row.device.address.port}

    async def main(process: subprocess.Popen[str], addresses: dict[str, str]) -> None:
        async with Service(load_cell(cell_path("demo"), addresses=addresses, speed=SPEED), tmp_path / "data", clock) as service:
            places = [service.plan.points.place(tag) for tag in ("TT-201", "TT-401", "AT-101", "TT-501", "WT-111")]
            links = {f"LINK-{name}" for name in service.plan.devices}

            def alarms(frame: Frame) -> set[str]:
                return {alarm.name for alarm in frame.alarms if alarm.state != "returned"}

            def works(frame: Frame) -> bool:
                return frame.state == "RUNNING" and bool((frame.quality[places] == Quality.GOOD).all())

            def safe(frame: Frame) -> bool:
                bad = bool((frame.quality[places] == Quality.BAD).all() and np.isnan(frame.value[places]).all())
                return bad and frame.state in ("HOLDING", "HELD") and "BATCH-HELD" in alarms(frame)

            async def command(command: Command) -> None:
                receipt = await service.send(command)
                assert receipt.accepted, receipt.why

            await frame(service, lambda frame: not dict(frame.commands)["START"])
            await command(Start(who="op", recipe=str(tmp_path / "still.yaml")))
            await frame(service, works)
            process.send_signal(signal.SIGSTOP)
            try:
                held = await frame(service, safe, within=3.0)
                assert held.batch is not None
                # a driver gives a reply more time where this process was held up itself; then the age of the values holds the unit
                assert any(why in held.batch.why for why in ("unit T-201 has lost device leach", "L1.temperature is BAD")), held.batch.why
                await frame(service, lambda frame: links <= alarms(frame) and frame.seq > held.seq + 10, within=3.0)
            finally:
                process.send_signal(signal.SIGCONT)
            await frame(service, lambda frame: bool((frame.quality[places] == Quality.GOOD).all()), within=5.0)
            await command(Transition(who="op", verb=Verb.RESTART))
            await frame(service, works)
            process.kill()
            held = await frame(service, lambda frame: safe(frame) and links <= alarms(frame), within=1.0)
            await frame(service, lambda frame: frame.seq > held.seq + 10, within=3.0)

    with simulated_cell(cell, tmp_path / "plant", clock, addresses=free) as simulator:
        addresses = {name: text.replace("modbus-rtu:lines", f"modbus-rtu:{tmp_path}/plant/lines") for name, text in simulator.endpoints.items()}
        asyncio.run(asyncio.wait_for(main(simulator.process, addresses), 60.0))
    entries = [entry.event for entry in JournalReader(tmp_path / "data" / "journal.sqlite").entries()]
    states = [event.new for event in entries if event.kind == "batch"]
    assert [state for state in states if state in ("HOLDING", "HELD")] == ["HOLDING", "HELD"] * 2
    assert [event.new for event in entries if event.kind == "link" and event.name == "leach"][:4] == ["up", "down", "up", "down"]
