"""The service over the real protocols: eight simulated devices in a process of their own, a real journal, a real historian.

The plant runs 300 times as fast as the clock, so that a batch gets somewhere; links do not speed up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controller.batch.journal import JournalReader
from controller.config import LoadedCell, cell_path, load_cell
from controller.core.commands import Answer, Start, Transition
from controller.core.frame import Frame
from controller.core.states import Verb
from controller.demo import Simulator, simulated_cell
from controller.historian.reader import HistorianReader
from controller.runtime import exchange
from controller.runtime import service as service_module
from controller.runtime.batches import Library
from controller.runtime.clock import LiveClock
from controller.runtime.service import DataInUseError, Service
from drivers.driver import Reading
from drivers.modbus import ModbusDriver
from tests.integration.waiting import frame

pytestmark = pytest.mark.wire

SPEED = 300.0
RECIPE = """
recipe: {id: wire, version: 1, title: Wire, product: none, specification: pcam-99}
units: {L1: leach_tank}
formula:
  water: {value: 2000 L, range: [10 L, 3000 L]}
procedure:
  - fill:
      unit: L1
      parallel:
        - stir: {run: keep, with: {output: stirrer, at: 120 rpm}, until: "water done"}
        - water: {run: dose, with: {flow: water, rate: 100 L/min, total: water}, max: 3 h}
  - heat: {unit: L1, run: control, with: {loop: temperature, sp: 40 degC}, until: "L1.temperature within 2 K of 40 degC for 1 min", max: 6 h}
  - confirm: {ask: "Warm?", role: operator}
"""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulator, LiveClock, Path]]:
    """The simulated cell, one for all tests here: starting two OPC UA servers takes seconds."""
    folder = tmp_path_factory.mktemp("plant")
    cell = load_cell(cell_path("demo"), speed=SPEED)
    clock = LiveClock.now(SPEED)
    free = {name: str(replace(row.device.address, port=0)) for name, row in cell.plan.devices.items() if row.device.address.port}
    with simulated_cell(cell, folder, clock, addresses=free) as simulator:
        yield simulator, clock, folder


def cell_of(plant: tuple[Simulator, LiveClock, Path]) -> LoadedCell:
    simulator, _, folder = plant
    addresses = {name: text.replace("modbus-rtu:lines", f"modbus-rtu:{folder}/lines") for name, text in simulator.endpoints.items()}
    return load_cell(cell_path("demo"), addresses=addresses, speed=SPEED)


@asynccontextmanager
async def running(plant: tuple[Simulator, LiveClock, Path], data: Path) -> AsyncIterator[Service]:
    before = asyncio.all_tasks()
    async with Service(cell_of(plant), data, plant[1]) as service:
        await frame(service, lambda frame: not dict(frame.commands)["START"] or frame.batch is not None)
        yield service
    left = asyncio.all_tasks() - before
    assert not left, left


@asynccontextmanager
async def without(simulator: Simulator, device: str) -> AsyncIterator[None]:
    """Stop a device, and start it again whatever happens meanwhile: the other tests need it."""
    await asyncio.to_thread(simulator.ask, do="stop", device=device)
    try:
        yield
    finally:
        await asyncio.to_thread(simulator.ask, do="start", device=device)


async def start(service: Service, folder: Path) -> None:
    path = folder / "wire.yaml"
    path.write_text(RECIPE)
    receipt = await service.send(Start(who="op", recipe=str(path)))
    assert receipt.accepted, receipt.why
    await frame(service, lambda frame: frame.batch is not None)


async def send(service: Service, verb: Verb, state: str) -> Frame:
    receipt = await service.send(Transition(who="op", verb=verb, why="test"))
    assert receipt.accepted, receipt.why
    return await frame(service, lambda frame: frame.state == state)


def go(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 90.0))  # type: ignore[arg-type]


def test_a_batch_runs_over_the_wire_obeys_every_command_and_is_in_journal_and_historian(
    plant: tuple[Simulator, LiveClock, Path], tmp_path: Path
) -> None:
    async def main() -> None:
        async with running(plant, tmp_path) as service:
            await start(service, tmp_path)
            place = service.plan.points.place("FT-203")
            await frame(service, lambda frame: frame.value[place] > 90.0)  # the device's own measurement, not our setpoint
            held = await send(service, Verb.HOLD, "HELD")
            await frame(service, lambda frame: frame.value[place] < 1.0)
            assert held.batch is not None
            refused = await service.send(Transition(who="op", verb=Verb.PAUSE))
            assert not refused.accepted
            assert "PAUSE is valid from RUNNING" in refused.why
            await send(service, Verb.RESTART, "RUNNING")
            await send(service, Verb.PAUSE, "PAUSED")
            await send(service, Verb.RESUME, "RUNNING")
            asked = await frame(service, lambda frame: bool(frame.batch and frame.batch.prompts), within=40.0)
            assert asked.batch is not None
            assert (await service.send(Answer(who="op", prompt="confirm", value=True))).accepted
            await frame(service, lambda frame: frame.state == "COMPLETE")
            await send(service, Verb.RESET, "IDLE")
            await start(service, tmp_path)
            await send(service, Verb.ABORT, "ABORTED")
            await send(service, Verb.RESET, "IDLE")
            await start(service, tmp_path)
            await send(service, Verb.STOP, "STOPPED")
            await send(service, Verb.RESET, "IDLE")

    go(main)
    journal = JournalReader(tmp_path / "journal.sqlite")
    assert [str(state.state) for state in journal.batches()] == ["COMPLETE", "ABORTED", "STOPPED"]
    assert journal.verify() == ""
    states = [entry.event.new for entry in journal.entries("demo-0001") if entry.event.kind == "batch"]
    steps = [(entry.event.name, entry.event.new) for entry in journal.entries("demo-0001") if entry.event.kind == "step"]
    assert len(steps) == len(set(steps)) == 2 * 4  # each begins and ends once in the journal
    for state in ("RUNNING", "HOLDING", "HELD", "RESTARTING", "PAUSING", "PAUSED", "COMPLETE"):
        assert state in states
    count = HistorianReader(tmp_path).count()
    assert count.frames > 100
    first = journal.batch("demo-0001")[0]
    history = HistorianReader(tmp_path).read(["TT-201", "LT-201"], first.started, first.ended or 0.0)
    assert np.nanmax(history.value[1]) == pytest.approx(2.0, abs=0.15)
    assert np.nanmax(history.value[0]) > 37.0


def test_what_takes_long_is_done_before_a_device_is_talked_to(
    plant: tuple[Simulator, LiveClock, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipes are read once, drivers are loaded: later either would hold up the loop, and run into the time-outs of devices."""

    async def main() -> None:
        done: list[str] = []
        load, summaries, opened = service_module.load_drivers, Library.summaries, service_module.open_driver
        monkeypatch.setattr(service_module, "load_drivers", lambda devices: (done.append("drivers"), load(devices)))
        monkeypatch.setattr(Library, "summaries", lambda library: (done.append("recipes"), summaries(library))[1])
        monkeypatch.setattr(service_module, "open_driver", lambda *given, **named: (done.append("device"), opened(*given, **named))[1])
        async with running(plant, tmp_path) as service:
            assert "nmc622-pcam" in {recipe["path"] for recipe in service.describe()["recipes"]}
            service.describe()
        assert done == ["drivers", "recipes"] + ["device"] * len(service.plan.devices)

    go(main)


def test_a_device_that_dies_is_bad_within_a_second_holds_its_unit_and_comes_back(plant: tuple[Simulator, LiveClock, Path], tmp_path: Path) -> None:
    async def main() -> None:
        simulator = plant[0]
        async with running(plant, tmp_path) as service:
            await start(service, tmp_path)
            place = service.plan.points.place("TT-201")
            await frame(service, lambda frame: frame.state == "RUNNING" and bool(frame.quality[place] == 0))
            async with without(simulator, "leach"):
                held = await frame(service, lambda frame: bool(frame.quality[place] == 2) and frame.state == "HELD", within=1.0)
                assert np.isnan(held.value[place])
                alarms = {alarm.name: alarm.text for alarm in held.alarms}
                assert {"LINK-leach", "BATCH-HELD"} <= alarms.keys()
                # the driver's own reason: it was waiting for a reply, had just sent a request, or neither
                reasons = ("the connection was closed", "the connection dropped", "cannot connect to")
                assert any(words in alarms["LINK-leach"] for words in reasons), alarms
                assert "lost device leach" in (held.batch.why if held.batch else "")
                other = service.plan.points.place("TT-401")
                assert held.quality[other] == 0  # nobody else suffers
            await frame(service, lambda frame: bool(frame.quality[place] == 0), within=5.0)
            await send(service, Verb.RESTART, "RUNNING")
            await frame(service, lambda frame: bool(frame.batch and frame.batch.prompts), within=40.0)
            await send(service, Verb.STOP, "STOPPED")

    go(main)


def test_a_driver_that_does_not_come_back_is_told_and_costs_its_own_device_only(
    plant: tuple[Simulator, LiveClock, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """None does; if one did, its values would be BAD by their age, and nobody would know why."""
    right, stuck = ModbusDriver.read, asyncio.Event()

    async def read(driver: ModbusDriver) -> Reading:
        if stuck.is_set() and driver.device.name == "leach":
            await asyncio.Event().wait()
        return await right(driver)

    async def main() -> None:
        async with running(plant, tmp_path) as service:
            stuck.set()
            seen = await frame(service, lambda frame: "LINK-leach" in {alarm.name for alarm in frame.alarms})
            alarms = {alarm.name: alarm.text for alarm in seen.alarms}
            assert "its driver has not come back for 1 s" in alarms["LINK-leach"]
            assert "leach (modbus-tcp://" in dict(seen.commands)["START"]
            later = await frame(service, lambda frame: frame.seq > seen.seq + 5)
            assert later.quality[service.plan.points.place("TT-401")] == 0, "nobody else suffers"

    monkeypatch.setattr(exchange, "_STUCK", 1.0)
    monkeypatch.setattr(ModbusDriver, "read", read)
    go(main)
    assert [record.getMessage().partition(":")[0] for record in caplog.records if "come back" in record.getMessage()] == ["leach is lost"]


def test_with_a_device_missing_it_starts_shows_it_lost_and_refuses_start(plant: tuple[Simulator, LiveClock, Path], tmp_path: Path) -> None:
    async def main() -> None:
        async with without(plant[0], "reactor"), Service(cell_of(plant), tmp_path, plant[1]) as service:
            seen = await frame(service, lambda frame: "reactor" in dict(frame.commands)["START"] and "leach" not in dict(frame.commands)["START"])
            assert "LINK-reactor" in {alarm.name for alarm in seen.alarms}
            (tmp_path / "wire.yaml").write_text(RECIPE)
            receipt = await service.send(Start(who="op", recipe=str(tmp_path / "wire.yaml")))
            assert not receipt.accepted
            assert "reactor (opc.tcp://" in receipt.why

    go(main)
    assert JournalReader(tmp_path / "journal.sqlite").batches() == []


def test_a_second_service_on_the_same_data_is_refused(plant: tuple[Simulator, LiveClock, Path], tmp_path: Path) -> None:
    async def main() -> None:
        async with running(plant, tmp_path):
            with pytest.raises(DataInUseError, match="choose another with --data"):
                async with Service(cell_of(plant), tmp_path, plant[1]):
                    pass

    go(main)


def test_leaving_it_puts_every_output_to_its_safe_value(plant: tuple[Simulator, LiveClock, Path], tmp_path: Path) -> None:
    async def main() -> None:
        async with running(plant, tmp_path) as service:
            await start(service, tmp_path)
            place = service.plan.points.place("FT-203")
            await frame(service, lambda frame: frame.value[place] > 90.0)
        async with Service(cell_of(plant), tmp_path / "other", plant[1]) as fresh:
            seen = await frame(fresh, lambda frame: bool(frame.quality[place] == 0))
            assert seen.point(fresh.plan.points, "FY-203") == 0.0

    go(main)
    assert str(JournalReader(tmp_path / "journal.sqlite").batches()[0].state) == "RUNNING"  # kept, to go on from HELD


def serve(plant: tuple[Simulator, LiveClock, Path], data: Path, *more: str) -> subprocess.Popen[str]:
    _, clock, _ = plant
    devices = [part for name, row in cell_of(plant).plan.devices.items() for part in ("--device", f"{name}={row.device.address}")]
    times = ["--speed", str(clock.speed), "--epoch", str(clock.epoch), "--start", str(clock.start)]
    command = [sys.executable, "-m", "controller.cli", "run", "demo", "--data", str(data), *times, *devices, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def page(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("Page: "):
            return line.split()[1]
    raise AssertionError(said)


def newest(url: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{url}/api/frame", timeout=5.0) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def wait_for(url: str, wanted: Callable[[dict[str, object]], bool], within: float = 30.0) -> dict[str, object]:
    end, last = time.monotonic() + within, None
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            last = newest(url)
            if wanted(last):
                return last
        time.sleep(0.05)
    raise AssertionError(f"not within {within} s; the last frame was {last and last.get('state')}")


def test_killed_in_mid_batch_it_comes_back_in_held_with_what_was_achieved(plant: tuple[Simulator, LiveClock, Path], tmp_path: Path) -> None:
    recipe = tmp_path / "wire.yaml"
    recipe.write_text(RECIPE)
    first = serve(plant, tmp_path, "--port", "0", "--recipe", str(recipe))
    try:
        url = page(first)
        wait_for(url, lambda frame: frame["state"] == "RUNNING")
        journal = JournalReader(tmp_path / "journal.sqlite")
        end = time.monotonic() + 30.0
        while journal.batches()[0].steps["fill/water"].progress.get("dosed", 0.0) <= 0.0:
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        first.stdout.close()  # type: ignore[union-attr]
    dosed = journal.batches()[0].steps["fill/water"].progress["dosed"]
    recipe.write_text("changed after the batch had begun")  # a changed file never changes a running batch
    second = serve(plant, tmp_path, "--port", "0")
    try:
        url = page(second)
        found = wait_for(url, lambda frame: frame["state"] == "HELD")
        assert "service was restarted" in found["batch"]["why"]  # type: ignore[index]
        assert journal.batches()[0].steps["fill/water"].progress["dosed"] == dosed
        sent = subprocess.run(
            [sys.executable, "-m", "controller.cli", "command", "RESTART", "--url", url, "--who", "op"], capture_output=True, text=True, check=False
        )
        assert sent.returncode == 0, sent.stderr
        wait_for(url, lambda frame: frame["state"] == "RUNNING")
        second.send_signal(signal.SIGINT)
        said, _ = second.communicate(timeout=20.0)
        assert "safe values" in said
        assert "is kept" in said
    finally:
        if second.poll() is None:
            second.kill()
            second.communicate()
    assert journal.verify() == ""


def test_a_taken_port_is_named_with_the_setting_to_change(plant: tuple[Simulator, LiveClock, Path], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = serve(plant, tmp_path, "--port", str(taken.getsockname()[1]))
        said, _ = process.communicate(timeout=30.0)
    assert process.returncode == 3
    assert "choose another port with --port" in said
    assert "Traceback" not in said


def test_two_starts_at_once_make_one_batch(plant: tuple[Simulator, LiveClock, Path], tmp_path: Path) -> None:
    async def main() -> None:
        async with running(plant, tmp_path) as service:
            path = tmp_path / "wire.yaml"
            path.write_text(RECIPE)
            receipts = await asyncio.gather(*(service.send(Start(who=f"op{place}", recipe=str(path))) for place in range(3)))
            assert sorted(receipt.accepted for receipt in receipts) == [False, False, True]
            assert all("the batch is RUNNING" in receipt.why for receipt in receipts if not receipt.accepted)
            await send(service, Verb.ABORT, "ABORTED")

    go(main)
    assert len(JournalReader(tmp_path / "journal.sqlite").batches()) == 1


def test_a_device_that_falls_to_its_own_safe_state_holds_its_unit(plant: tuple[Simulator, LiveClock, Path], tmp_path: Path) -> None:
    async def main() -> None:
        async with running(plant, tmp_path) as service:
            await start(service, tmp_path)
            exchange = next(exchange for exchange in service._exchanges if exchange.name == "leach")
            exchange._beaten = float("inf")  # the heartbeat stops, the link stays
            held = await frame(service, lambda frame: frame.state == "HELD", within=15.0)
            assert "own safe state" in (held.batch.why if held.batch else "")
            assert "DEVICE-leach" in {alarm.name for alarm in held.alarms}
            exchange._beaten = float("-inf")
            await frame(service, lambda frame: "DEVICE-leach" not in {alarm.name for alarm in frame.alarms if alarm.state != "returned"})
            await send(service, Verb.STOP, "STOPPED")

    go(main)


def test_an_abort_that_was_acknowledged_and_not_worked_off_is_worked_off_after_a_crash(tmp_path: Path) -> None:
    from controller.batch.journal import Journal
    from controller.batch.records import Event
    from controller.runtime.batches import Library, unfinished

    cell = load_cell(cell_path("demo"))
    library = Library(cell.classes)
    (tmp_path / "wire.yaml").write_text(RECIPE)
    recipe = library.load(str(tmp_path / "wire.yaml"))
    begin = library.prepare(recipe, cell.plan, "demo-0001", 0.0, {}, "", "op")
    journal = Journal(tmp_path / "journal.sqlite")
    journal.begin(begin.state, 1, recipe.text, recipe.file, "demo")
    held = unfinished(JournalReader(journal.path), library, cell.plan)
    assert held is not None
    assert str(held.state.state) == "HELD"  # type: ignore[union-attr]
    intent = Event("command", "transition", "", '{"verb":"ABORT"}', "op")
    journal.append("demo-0001", 0.0, 0, [intent])
    ended = unfinished(JournalReader(journal.path), library, cell.plan)
    assert str(ended.state.state) == "ABORTING"  # type: ignore[union-attr]
    journal.append("demo-0001", 0.0, 0, [Event("command", "transition", "", "done", "op")])
    assert str(unfinished(JournalReader(journal.path), library, cell.plan).state.state) == "HELD"  # type: ignore[union-attr]
    journal.close()
