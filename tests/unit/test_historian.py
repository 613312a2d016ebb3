"""The store: what is acknowledged stays, what is missing is in the ledger, and a trend hides neither spike nor gap."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from controller.core.frame import Frame, Point
from controller.historian.columns import pack, unpack
from controller.historian.ledger import Gap
from controller.historian.store import Cursor, Historian, HistorianError, HistorianFull, HistorianReader

EPOCH = 1_767_225_600.0  # [s]
POINTS = [Point("TT-1", "degC", 0, 150, "Tank", "input", "leach"), Point("LT-1", "%", 0, 100), Point("XV-1.OUT", "", 0, 1)]


def frame(seq: int, *, boot: int = 1, value: Sequence[float] | None = None, time: float | None = None) -> Frame:
    """Return frame `seq` of a plant scanned once a second; a value that is NaN is BAD."""
    values = np.array([seq + 0.25, 50.0, seq % 2] if value is None else value, dtype=float)
    now = EPOCH + seq if time is None else time
    stamps = np.full(values.size, round(now * 1e9), dtype=np.int64)
    quality = np.where(np.isnan(values), 2, 0).astype(np.uint8)
    return Frame(boot, seq, now, round(now * 1e9) + 5, values, quality, stamps - 1_000, stamps)


def fill(folder: Path, count: int, *, size: int = 7) -> HistorianReader:
    historian = Historian.open(folder, POINTS)
    for start in range(0, count, size):
        historian.append([frame(seq, boot=historian.boot) for seq in range(start, min(start + size, count))])
    historian.close()
    return HistorianReader(folder)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 40))),
    hnp.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 40))),
    hnp.arrays(np.uint8, st.integers(1, 300)),
)
def test_columns_come_back_bit_for_bit(floats: np.ndarray, integers: np.ndarray, small: np.ndarray) -> None:
    for column, kind in ((floats, np.float64), (integers, np.int64), (small, np.uint8)):
        assert unpack(pack(column), kind, column.shape).tobytes() == column.tobytes()


def test_frames_come_back_whole_and_in_order(tmp_path: Path) -> None:
    reader = fill(tmp_path, 20)
    chunks = list(reader.after())
    assert [seq for chunk in chunks for seq in chunk.seq.tolist()] == list(range(20))
    third = chunks[1].part(1, 2)
    expected = frame(8)
    for name in ("value", "quality", "source_time", "receive_time"):
        assert (getattr(third, name)[:, 0] == getattr(expected, name)).all(), name
    assert (third.time[0], third.wall[0], third.points) == (expected.time, expected.wall, tuple(POINTS))
    assert reader.count() == (20, 60, 0)
    assert reader.points() == tuple(POINTS)


def test_cursor_starts_in_the_middle_of_a_chunk_and_ends_at_a_limit(tmp_path: Path) -> None:
    reader = fill(tmp_path, 20)
    assert [chunk.seq.tolist() for chunk in reader.after(Cursor(1, 9), limit=2)] == [[10, 11, 12, 13], [14, 15, 16, 17, 18, 19]]
    assert list(reader.after(Cursor(1, 19))) == []
    assert reader.behind(Cursor(1, 9)) == (10, 12.0)  # its chunk begins at 7 s
    assert reader.behind(Cursor(1, 19)) == (0, 0.0)
    found = reader.frame(Cursor(1, 9))
    assert found is not None
    assert found.seq.tolist() == [9]
    assert reader.frame(Cursor(1, 20)) is None


def test_starts_are_counted_and_may_have_other_points(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    more = [*POINTS[1:], Point("AT-9", "pH", 0, 14)]
    historian = Historian.open(tmp_path, more)
    assert historian.boot == 2
    historian.append([frame(0, boot=2, value=[51.0, 1.0, 7.0], time=EPOCH + 100.0)])
    historian.close()
    reader = HistorianReader(tmp_path)
    history = reader.read(["LT-1", "TT-1", "AT-9"], EPOCH, EPOCH + 200.0)
    expected = [[50, 50, 50, np.nan, 51], [0.25, 1.25, 2.25, np.nan, np.nan], [np.nan] * 4 + [7]]
    assert np.array_equal(history.value, np.array(expected), equal_nan=True)
    assert history.quality[:, 3].tolist() == [2, 2, 2]  # nobody looked between the two starts
    assert [(boot.boot, boot.frames, boot.closed) for boot in reader.boots()] == [(1, 3, True), (2, 1, True)]
    with pytest.raises(HistorianError, match="start 2 is in it already, the next one is 3"):
        Historian.open(tmp_path, more, boot=2)


def test_what_is_missing_between_frames_is_a_gap_in_the_trend(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    historian.append([frame(0), frame(1), frame(5), frame(6)])
    historian.note_gap(Gap(1, 2, 4, EPOCH + 2, EPOCH + 4, "overflow"))
    historian.close()
    reader = HistorianReader(tmp_path)
    history = reader.read(["TT-1"], EPOCH, EPOCH + 10)
    assert np.array_equal(history.value[0], [0.25, 1.25, np.nan, 5.25, 6.25], equal_nan=True)
    assert [gap.reason for gap in history.gaps] == ["overflow"]
    assert reader.count() == (4, 12, 3)
    assert reader.gaps(EPOCH + 5, EPOCH + 9) == ()


def test_thinned_trend_keeps_every_spike_and_every_loss(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    random = np.random.default_rng(4)
    values = random.normal(50.0, 0.1, (2000, 3))
    values[777, 0], values[1234, 1] = 149.0, 0.5
    values[1500:1502, 2] = np.nan
    historian.append([frame(seq, value=row) for seq, row in enumerate(values.tolist())])
    historian.close()
    history = HistorianReader(tmp_path).read([point.name for point in POINTS], EPOCH, EPOCH + 2000, 100.0)
    assert history.time.size == 41  # two a step, and one where XV-1 was lost
    assert (np.diff(history.time) > 0).all()
    assert history.value[0].max() == 149.0
    assert history.value[1].min() == 0.5
    steps = np.floor((history.time - EPOCH) / 100.0)
    for place, step in itertools.product(range(3), range(20)):
        mine = history.value[place, steps == step]
        theirs = values[100 * step : 100 * step + 100, place]
        assert (np.nanmin(mine), np.nanmax(mine)) == (np.nanmin(theirs), np.nanmax(theirs))
        assert np.isnan(mine).any() == np.isnan(theirs).any()
    assert (history.quality[2] == 2).sum() == 1
    assert dict(history)["value"] is history.value


def test_thinning_never_makes_more_columns_than_samples(tmp_path: Path) -> None:
    reader = fill(tmp_path, 10)
    assert reader.read(["TT-1"], EPOCH, EPOCH + 10, 0.1).time.tolist() == [EPOCH + seq for seq in range(10)]
    assert reader.read(["TT-1"], EPOCH + 500, EPOCH + 900, 10.0).value.shape == (1, 0)


def test_trend_may_begin_with_the_last_sample_before_it(tmp_path: Path) -> None:
    reader = fill(tmp_path, 10)
    history = reader.read(["TT-1"], EPOCH + 4.5, EPOCH + 6, last=True)
    assert (history.time - EPOCH).tolist() == [4.5, 5.0, 6.0]
    assert history.value[0].tolist() == [4.25, 5.25, 6.25]


def test_unknown_name_says_which_are_near(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"TT-2; did you mean .*TT-1"):
        fill(tmp_path, 1).read(["TT-2"], 0, 1)


def test_clock_that_goes_back_is_ledgered_and_loses_nothing(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    historian.append([frame(0), frame(1)])
    historian.append([frame(2, time=EPOCH - 3600.0), frame(3, time=EPOCH - 3599.0)])
    historian.close()
    reader = HistorianReader(tmp_path)
    (gap,) = reader.gaps()
    assert (gap.reason, gap.start, gap.stop, gap.frames) == ("clock", EPOCH + 1.0, EPOCH - 3600.0, 0)
    assert reader.count() == (4, 12, 0)
    assert [seq for chunk in reader.after() for seq in chunk.seq.tolist()] == [0, 1, 2, 3]
    assert reader.read(["TT-1"], EPOCH - 4000, EPOCH + 10).value[0].tolist() == [2.25, 3.25, 0.25, 1.25]


def test_append_repeated_after_doubt_stores_once(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    historian.append([frame(0), frame(1)])
    historian.append([frame(0), frame(1), frame(2)])
    historian.close()
    assert HistorianReader(tmp_path).count().frames == 3


def test_frames_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    with pytest.raises(ValueError, match="frame 0 is of start 2 with 3 points; this historian was opened for start 1 with 3"):
        historian.append([frame(0, boot=2)])
    with pytest.raises(ValueError, match="frame 0 follows frame 1"):
        historian.append([frame(1), frame(0)])
    historian.close()


def test_full_disk_loses_nothing_that_was_acknowledged_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    historian.append([frame(0)])
    assert historian._db is not None
    pages = historian._db.execute("PRAGMA page_count").fetchone()[0]
    historian._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own full disk: the same code, the same SQLITE_FULL
    noise = np.random.default_rng(0).random((4000, 3))
    frames = [frame(seq, value=row) for seq, row in enumerate(noise.tolist(), 1)]
    with pytest.raises(HistorianFull, match=f"{tmp_path}/historian.sqlite: the disk is full .* choose another data directory with --data"):
        historian.append(frames)
    assert HistorianReader(tmp_path).count().frames == 1
    historian.append(frames)  # the limit went with its connection, as a full disk does when somebody frees some
    historian.close()
    assert HistorianReader(tmp_path).count() == (4001, 12003, 0)


def test_broken_and_missing_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(HistorianError, match=r"no historian at .*historian.sqlite; give the data directory"):
        HistorianReader(tmp_path).count()
    (tmp_path / "historian.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(HistorianError, match="file is not a database"):
        Historian.open(tmp_path, POINTS)
    with pytest.raises(HistorianError, match="cannot be read: file is not a database"):
        HistorianReader(tmp_path).count()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HistorianError, match=r"cannot create .*file/data"):
        Historian.open(tmp_path / "file" / "data", POINTS)
    newer = tmp_path / "newer"
    fill(newer, 1)
    with sqlite3.connect(newer / "historian.sqlite") as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(HistorianError, match="has format 9, this version of blackmass writes 1"):
        Historian.open(newer, POINTS)


def test_readers_in_other_threads_see_whole_chunks_while_it_is_written(tmp_path: Path) -> None:
    historian = Historian.open(tmp_path, POINTS)
    done = threading.Event()
    problems: list[str] = []

    def read() -> None:
        reader = HistorianReader(tmp_path)
        seen = -1
        while not done.is_set():
            history = reader.read(["TT-1"], EPOCH, EPOCH + 1e6)
            if (history.value[0] != np.arange(history.time.size) + 0.25).any() or history.time.size <= seen:
                problems.append(f"{history.time.size} samples after {seen}")
            seen = history.time.size - 1

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    for start in range(0, 300, 5):
        historian.append([frame(seq) for seq in range(start, start + 5)])
    done.set()
    for thread in readers:
        thread.join(30.0)
    historian.close()
    assert problems == []


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from controller.core.frame import Frame, Point
from controller.historian.store import Historian

points = [Point(f"P-{i}", "", 0, 1) for i in range(200)]
historian = Historian.open(Path(sys.argv[1]), points)
random = np.random.default_rng(historian.boot)
stamps = np.zeros(200, dtype=np.int64)
print("boot", historian.boot, flush=True)
for seq in range(0, 10**9, 4):
    few = range(seq, seq + 4)
    historian.append([Frame(historian.boot, n, float(n), 0, random.random(200), stamps.astype(np.uint8), stamps, stamps) for n in few])
    print(seq + 3, flush=True)
"""


def test_kill_in_the_middle_of_writing_loses_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[int, int] = {}
    for boot in (1, 2, 3):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == f"boot {boot}\n"
            for _ in range(20 * boot):
                process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)  # it is somewhere in a write: it never does anything else
            lines = process.stdout.read().splitlines()
        acknowledged[boot] = int(lines[-1]) if lines else 20 * boot * 4 - 1
    historian = Historian.open(tmp_path, POINTS)
    historian.close()
    reader = HistorianReader(tmp_path)
    stored = {boot.boot: boot.frames for boot in reader.boots()}
    for boot, seq in acknowledged.items():
        assert stored[boot] >= seq + 1
        random = np.random.default_rng(boot)
        mine = [chunk for chunk in reader.after() if chunk.boot == boot]
        assert [number for chunk in mine for number in chunk.seq.tolist()] == list(range(stored[boot]))
        assert (random.random((stored[boot], 200)) == np.concatenate([chunk.value for chunk in mine], axis=1).T).all()
    with sqlite3.connect(tmp_path / "historian.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    crashes = reader.gaps()
    assert [(gap.boot, gap.first_seq, gap.last_seq, gap.reason) for gap in crashes] == [(boot, stored[boot], None, "crash") for boot in (1, 2, 3)]
    assert dataclasses.replace(crashes[0], last_seq=stored[1] + 1).frames == 2
