"""The bus: the scan never waits, and what is lost is counted: sampled = stored + ledgered."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from controller.core.frame import Frame, Point
from controller.historian.ledger import Gap
from controller.historian.store import Historian, HistorianFull, HistorianReader
from controller.runtime.bus import Bus

POINTS = [Point("TT-1", "degC", 0, 150)]


def frame(seq: int) -> Frame:
    stamp = np.array([seq], dtype=np.int64)
    return Frame(1, seq, float(seq), 0, np.array([float(seq)]), np.zeros(1, dtype=np.uint8), stamp, stamp)


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


class Gate:
    """A historian whose disk is full while `full` is set, and slow while `open` is not. Everything else is the real one."""

    def __init__(self, historian: Historian) -> None:
        self.historian = historian
        self.full = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.calls = 0

    def append(self, frames: Sequence[Frame], gaps: Sequence[Gap] = ()) -> None:
        self.open.wait(30.0)
        self.calls += 1
        if self.full.is_set():
            raise HistorianFull("historian here: the disk is full; free some disk")
        self.historian.append(frames, gaps)


def settled(folder: Path, historian: Historian, bus: Bus, puts: int) -> HistorianReader:
    bus.close()
    historian.close()
    reader = HistorianReader(folder)
    count = reader.count()
    assert count.frames + count.lost == puts
    assert count.lost == bus.dropped
    held = {seq for chunk in reader.after() for seq in chunk.seq.tolist()}
    for gap in reader.gaps():
        assert gap.last_seq is not None
        held |= set(range(gap.first_seq, gap.last_seq + 1))
    assert held == set(range(puts))
    return reader


def test_everything_put_is_stored_in_few_writes(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    gate = Gate(historian)
    bus = Bus(gate, gather=0.05)
    for seq in range(1000):
        bus.put(frame(seq))
    until(lambda: bus.depth == 0)
    assert settled(tmp_path, historian, bus, 1000).gaps() == ()
    assert gate.calls < 50
    assert bus.why == ""


def test_full_queue_never_blocks_and_its_losses_are_ledgered(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    gate = Gate(historian)
    bus = Bus(gate, capacity=10, batch=4, gather=0.01)
    for round_ in range(3):
        gate.open.clear()
        started = time.monotonic()
        for seq in range(round_ * 100, round_ * 100 + 100):
            bus.put(frame(seq))
        assert time.monotonic() - started < 1.0
        gate.open.set()
        until(lambda: bus.depth == 0)
    reader = settled(tmp_path, historian, bus, 300)
    assert bus.dropped >= 3 * (100 - 10 - 4)
    assert {gap.reason for gap in reader.gaps()} == {"overflow"}


def test_full_disk_keeps_the_frames_says_so_once_and_recovers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    historian = Historian.open(tmp_path, POINTS)
    gate = Gate(historian)
    bus = Bus(gate, gather=0.01, slowest=0.02)
    gate.full.set()
    for seq in range(50):
        bus.put(frame(seq))
    until(lambda: gate.calls > 5)
    assert "the disk is full" in bus.why
    assert bus.depth == 50
    gate.full.clear()
    until(lambda: bus.depth == 0)
    assert bus.why == ""
    assert settled(tmp_path, historian, bus, 50).count() == (50, 50, 0)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_disk_that_stays_full_to_the_end_leaves_a_gap_behind(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    gate = Gate(historian)
    bus = Bus(gate, gather=0.01, slowest=0.02)
    bus.put(frame(0))
    until(lambda: bus.depth == 0)
    gate.full.set()
    for seq in range(1, 9):
        bus.put(frame(seq))
    started = time.monotonic()
    bus.close(timeout=0.2)
    assert time.monotonic() - started < 5.0
    assert (bus.dropped, bus.depth) == (8, 0)
    assert "the disk is full" in bus.why
    bus.put(frame(9))  # too late: counted, not waited for
    assert bus.dropped == 9
    historian.close()


def test_writer_that_dies_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda end: ends.append(end.exc_value))
    historian = Historian.open(tmp_path, POINTS)
    bus = Bus(historian, gather=0.01)
    bus.put(dataclasses.replace(frame(0), boot=7))  # a mistake of the program, not a trouble of the disk
    until(lambda: ends)
    assert "ended by an error" in bus.why
    assert "of start 7" in str(ends[0])
    historian.close()
