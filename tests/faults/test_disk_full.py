"""A disk that is full, and one that cannot be written: commands are refused with what to do, what was acknowledged is kept, the batch holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controller.batch.journal import Journal, JournalError, JournalReader
from controller.batch.records import Event
from controller.config import cell_path, load_cell
from controller.core.commands import Start, Transition
from controller.core.frame import Frame, Point
from controller.core.states import Verb
from controller.demo import simulated_cell
from controller.historian.reader import HistorianReader
from controller.historian.store import Historian, HistorianFull
from controller.runtime.bus import Bus
from controller.runtime.clock import LiveClock
from controller.runtime.service import Service

pytestmark = pytest.mark.wire

POINTS = [Point(f"T-{place}", "degC", 0, 150) for place in range(20)]
SPEED = 60.0
RECIPE = """
recipe: {id: still, version: 1, title: Still, product: none, specification: pcam-99}
units: {L1: leach_tank}
procedure:
  - stir: {unit: L1, run: keep, with: {output: stirrer, at: 120 rpm}, until: "L1.temperature >= 90 degC", max: 40 h}
"""


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, of that size; skips where mounting is not permitted."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("a full disk cannot be made here: mounting is not permitted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "256k") as folder:
        yield folder


def fill(folder: Path) -> Path:
    """Take all space that is left; delete the file to give it back."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


def frame(boot: int, seq: int) -> Frame:
    stamp = np.full(len(POINTS), seq, dtype=np.int64)
    value = np.random.default_rng(seq).normal(50.0, 1.0, len(POINTS))  # noise does not compress: it fills the disk
    return Frame(boot, seq, float(seq), 0, value, np.zeros(len(POINTS), dtype=np.uint8), stamp, stamp)


def test_the_journal_refuses_keeps_what_it_acknowledged_and_goes_on_when_there_is_room(small: Path) -> None:
    (small / "reserve").write_bytes(bytes(64 * 1024))
    journal = Journal(small / "journal.sqlite")
    acknowledged = []
    for number in range(10_000):
        try:
            journal.append("demo-0001", float(number), number, [Event("command", f"{number}", new="x" * 200)])
        except JournalError as error:
            why = str(error)
            break
        acknowledged.append(f"{number}")
    else:
        raise AssertionError("the disk did not fill")
    assert "full" in why
    assert "nothing was written" in why
    assert "--data" in why
    assert str(journal.path) in why
    assert len(acknowledged) > 10
    with pytest.raises(JournalError, match="--data"):
        journal.append("demo-0001", 0.0, 0, [Event("command", "still full", new="x" * 9000)])
    reader = JournalReader(journal.path)
    assert [entry.event.name for entry in reader.entries()] == acknowledged
    (small / "reserve").unlink()
    journal.append("demo-0001", 1e9, 0, [Event("command", "after")])
    journal.close()
    assert [entry.event.name for entry in reader.entries()] == [*acknowledged, "after"]
    assert reader.verify() == ""  # one chain, across the failure


def test_the_historian_goes_on_says_why_and_ledgers_what_it_lost(small: Path) -> None:
    historian = Historian.open(small, POINTS)
    bus = Bus(historian, capacity=32, batch=8, gather=0.0, slowest=0.05)
    ballast = fill(small)
    with pytest.raises(HistorianFull, match="Free some disk, or choose another data directory with --data"):
        historian.append([frame(historian.boot, 0)])
    sent = 0
    for sent in range(1, 201):
        begun = time.monotonic()
        bus.put(frame(historian.boot, sent))
        assert time.monotonic() - begun < 0.5  # the scan does not wait for the disk
    until(lambda: "the disk is full" in bus.why)
    assert "--data" in bus.why
    assert bus.dropped > 0
    assert bus.depth <= 32 + 8
    ballast.unlink()
    until(lambda: bus.why == "" and bus.depth == 0)
    bus.close()
    historian.close()
    count = HistorianReader(small).count()
    assert count.frames + count.lost == sent
    assert count.lost == bus.dropped


def test_a_service_whose_disk_fills_holds_the_batch_refuses_commands_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "still.yaml").write_text(RECIPE)
    clock = LiveClock.now(SPEED)
    cell = load_cell(cell_path("demo"), speed=SPEED)
    free = {name: str(replace(row.device.address, port=0)) for name, row in cell.plan.devices.items() if row.device.address.port}

    async def newest(service: Service, wanted: Callable[[Frame], bool], what: str) -> Frame:
        try:
            async with asyncio.timeout(20.0):
                async for found in service.frames():
                    if wanted(found):
                        return found
        except TimeoutError:
            raise AssertionError(f"never {what}: {service.frame and (service.frame.state, service.frame.batch)}") from None
        raise AssertionError("no more frames")

    async def main(data: Path, addresses: dict[str, str]) -> None:
        async with Service(load_cell(cell_path("demo"), addresses=addresses, speed=SPEED), data, clock) as service:
            await newest(service, lambda frame: not dict(frame.commands)["START"], "ready")
            receipt = await service.send(Start(who="op", recipe=str(tmp_path / "still.yaml")))
            assert receipt.accepted, receipt.why
            await newest(service, lambda frame: frame.state == "RUNNING", "running")
            ballast = await asyncio.to_thread(fill, data)
            held = await newest(service, lambda frame: frame.state == "HELD", "held")
            assert held.batch is not None
            assert "journal" in held.batch.why
            assert "--data" in held.batch.why
            seq = held.seq
            await newest(service, lambda frame: frame.seq > seq + 5, "scanning on a full disk")
            refused = await service.send(Transition(who="op", verb=Verb.RESTART, why="on a full disk"))
            assert not refused.accepted
            assert str(data / "journal.sqlite") in refused.why
            assert "--data" in refused.why
            await newest(service, lambda _: "--data" in service.bus.why, "a historian that says why")
            await asyncio.to_thread(ballast.unlink)
            await newest(service, lambda _: not service._journal_why, "writing again")
            receipt = await service.send(Transition(who="op", verb=Verb.RESTART, why="room again"))
            assert receipt.accepted, receipt.why
            await newest(service, lambda frame: frame.state == "RUNNING", "running again")
            journal = JournalReader(data / "journal.sqlite")
            await newest(service, lambda _: any(entry.event.new == "RESTARTING" for entry in journal.entries()), "journaling again")
            assert not service.stopped.is_set()

    with mounted(tmp_path / "disk", "4m") as disk, simulated_cell(cell, tmp_path / "plant", clock, addresses=free) as simulator:
        addresses = {name: text.replace("modbus-rtu:lines", f"modbus-rtu:{tmp_path}/plant/lines") for name, text in simulator.endpoints.items()}
        asyncio.run(asyncio.wait_for(main(disk, addresses), 90.0))
        journal = JournalReader(disk / "journal.sqlite")
        assert journal.verify() == ""
        assert str(journal.batches()[0].state) == "RUNNING"
        whys = [entry.event.why for entry in journal.entries() if entry.event.kind == "command" and entry.event.who == "op"]
        assert "room again" in whys
        assert "on a full disk" not in whys
        states = [entry.event.new for entry in journal.entries() if entry.event.kind == "batch"]
        assert [state for state in states if state in ("HELD", "RUNNING")][-2:] == ["HELD", "RUNNING"]
        count = HistorianReader(disk).count()
        assert count.frames > 10


def blackmass(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60.0,
        env={**os.environ, "XDG_DATA_HOME": str(home), "COLUMNS": "400"},
    )


def test_a_service_does_not_start_on_a_full_disk_and_says_what_to_do(small: Path, tmp_path: Path) -> None:
    data = small / "data"
    data.mkdir()
    fill(small)
    done = blackmass("run", "demo", "--port", "0", "--data", data, home=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "No space left" in done.stderr or "full" in done.stderr
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr
    found = blackmass("doctor", "--data", data, home=tmp_path)
    assert found.returncode == 1
    bad = [line for line in found.stdout.splitlines() if "NOT OK" in line]
    assert any("disk" in line and "--data" in line for line in bad), found.stdout
    assert any("SQLite" in line for line in bad), found.stdout


def test_a_data_directory_that_cannot_be_written_is_said_with_what_to_do(small: Path, tmp_path: Path) -> None:
    data = small / "data"
    data.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    for command, folder in (("run", data), ("simulate", small / "new")):
        done = blackmass(command, "demo", "--data", folder, home=tmp_path)
        assert done.returncode == 3, done.stderr
        assert str(folder) in done.stderr
        assert "Read-only file system" in done.stderr
        assert "--data" in done.stderr
        assert "Traceback" not in done.stderr
    found = blackmass("doctor", "--data", data, home=tmp_path)
    assert found.returncode == 1
    assert any("NOT OK" in line and "data directory" in line and "--data" in line for line in found.stdout.splitlines()), found.stdout
