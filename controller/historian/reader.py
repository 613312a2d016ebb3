"""The embedded historian's reader: trends, batches and the forwarder's cursor, from any thread or process while the writer writes."""

from __future__ import annotations

import difflib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controller.core.frame import Point
from controller.historian import ledger
from controller.historian.columns import unpack
from controller.historian.ledger import Gap
from controller.historian.trend import History, Samples, join, thin
from drivers.tags import FloatArray, IndexArray, QualityArray, TimeArray

__all__ = ["FILE", "FORMAT", "START", "Boot", "Chunk", "Count", "Cursor", "HistorianError", "HistorianReader", "History"]

FILE = "historian.sqlite"
FORMAT = 1
_PAGE = 16  # rows that are in memory at once while chunks are walked through


class HistorianError(RuntimeError):
    """The historian cannot be written or read; names the file and what to do."""


class Cursor(NamedTuple):
    """A frame that was the last one read; the next is the first with a greater (boot, seq)."""

    boot: int = 0
    seq: int = -1


START = Cursor()


class Boot(NamedTuple):
    """One start of the service; times are plant clock [s], None while nothing is stored."""

    boot: int
    frames: int
    start: float | None
    stop: float | None
    closed: bool  # it ended in order


class Count(NamedTuple):
    """What is stored, and what is known to be lost."""

    frames: int
    samples: int  # frames times their points
    lost: int  # frames in the ledger


@dataclass(frozen=True)
class Chunk:
    """Frames as columns: f frames of n points, arrays tag-first. `text` is the ``(batch, state)`` of each frame."""

    boot: int
    points: tuple[Point, ...]
    seq: TimeArray  # (f,)
    time: FloatArray  # (f,) [s] plant clock
    wall: TimeArray  # (f,) [ns]
    value: FloatArray  # (n, f) [eu of each point]
    quality: QualityArray  # (n, f)
    source_time: TimeArray  # (n, f) [ns]
    receive_time: TimeArray  # (n, f) [ns]
    text: tuple[tuple[str, str], ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.seq)

    def part(self, start: int, stop: int) -> Chunk:
        """Return frames `start` to before `stop`."""
        columns = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        cut = {name: column[..., start:stop] for name, column in columns.items() if isinstance(column, np.ndarray)}
        return Chunk(**{**columns, **cut, "text": self.text[start:stop]})

    def after(self, seq: int) -> Chunk:
        """Return the frames that follow `seq`."""
        return self.part(int(np.searchsorted(self.seq, seq, side="right")), len(self))

    @cached_property
    def batches(self) -> tuple[str, ...]:
        """The id of each frame's batch, empty where none ran."""
        return tuple(batch for batch, _ in self.text)

    @property
    def end(self) -> Cursor:
        """The cursor after the last frame."""
        return Cursor(self.boot, int(self.seq[-1]))


class HistorianReader:
    """Reads the historian of a data directory. Every call opens a connection of its own, so that any thread may call."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._tables: dict[int, tuple[Point, ...]] = {}  # by id, which never changes its meaning

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise HistorianError(f"no historian at {self.path}; give the data directory of the service with --data")
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as db:
                version = int(db.execute("PRAGMA user_version").fetchone()[0])
                if version != FORMAT:
                    raise HistorianError(f"historian {self.path} has format {version}, this version of blackmass reads {FORMAT}")
                yield db
        except (sqlite3.Error, zlib.error) as error:
            raise HistorianError(f"historian {self.path} cannot be read: {error}; check the disk and who may read there") from error

    def _points(self, db: sqlite3.Connection, table: int) -> tuple[Point, ...]:
        if table not in self._tables:
            text = db.execute("SELECT points FROM points WHERE id = ?", (table,)).fetchone()[0]
            self._tables[table] = tuple(Point(**entry) for entry in json.loads(text))
        return self._tables[table]

    # what there is ------------------------------------------------------------------------------------------------------

    def points(self) -> tuple[Point, ...]:
        """Return the points of the newest start, in their order."""
        with self._open() as db:
            return self._points(db, db.execute("SELECT points FROM boot ORDER BY boot DESC LIMIT 1").fetchone()[0])

    def boots(self) -> tuple[Boot, ...]:
        """Return every start, oldest first."""
        query = """SELECT boot.boot, coalesce(sum(count), 0), min(first_time), max(last_time), closed FROM boot
                   LEFT JOIN chunk ON chunk.boot = boot.boot GROUP BY boot.boot ORDER BY boot.boot"""
        with self._open() as db:
            return tuple(Boot(boot, frames, first, last, bool(closed)) for boot, frames, first, last, closed in db.execute(query))

    def count(self) -> Count:
        """Return how much is stored and how many frames are ledgered as lost."""
        with self._open() as db:
            rows = db.execute("SELECT points, sum(count) FROM chunk GROUP BY points").fetchall()
            lost = sum(gap.frames or 0 for gap in ledger.between(db))
            return Count(sum(row[1] for row in rows), sum(row[1] * len(self._points(db, row[0])) for row in rows), lost)

    def gaps(self, start: float | None = None, stop: float | None = None) -> tuple[Gap, ...]:
        """Return what is not stored, in a span of plant time [s] or ever."""
        with self._open() as db:
            return ledger.between(db, start, stop)

    # trends -------------------------------------------------------------------------------------------------------------

    def read(self, names: Sequence[str], start: float, stop: float, step: float | None = None, *, last: bool = False) -> History:
        """Return the history of k points between two plant times [s], both included.

        Parameters
        ----------
        step : [s] thin it out to two columns a step, the least and the greatest value in the order in which they came, so that a
            spike is never lost; a step in which a point was BAD for a while gets a third, BAD for that point. All samples if None
        last : begin with the last sample before `start`, as a column at `start`, so that a trend has a left end

        Where frames are missing (in the ledger, or between two starts) stands a column of NaN and BAD: no line is drawn across what
        nobody saw. Raises `KeyError` for a name that was never recorded, `ValueError` for a span or step that is none.
        """
        if not start <= stop or (step is not None and not step > 0.0):
            raise ValueError(f"span {start:g} s to {stop:g} s with step {step} s: expected start <= stop and a step above 0 s")
        with self._open() as db:
            places = self._places(db, names)
            query = "SELECT points, boot, first_seq, count, seq, time, value, quality FROM chunk"
            rows = db.execute(f"{query} WHERE last_time >= ? AND first_time <= ? ORDER BY boot, last_seq", (start, stop))
            parts = [_samples(row, places[row[0]], self._points(db, row[0])) for row in rows]
            before = None
            if last:
                row = db.execute(f"{query} WHERE first_time < ? ORDER BY first_time DESC LIMIT 1", (start,)).fetchone()
                if row is not None:
                    before = _samples(row, places[row[0]], self._points(db, row[0]))
            gaps = ledger.between(db, start, stop)
        history = join(parts, len(names), start, stop, gaps, before)
        return history if step is None else thin(history, start, step)

    def _places(self, db: sqlite3.Connection, names: Sequence[str]) -> dict[int, IndexArray]:
        """Return, for each table of points, the place of each name in it; -1 where it has none."""
        tables = [row[0] for row in db.execute("SELECT id FROM points ORDER BY id")]
        index = {table: {point.name: place for place, point in enumerate(self._points(db, table))} for table in tables}
        for name in names:
            if not any(name in known for known in index.values()):
                near = difflib.get_close_matches(name, set().union(*index.values()), 3)
                raise KeyError(f"{name}; did you mean {' or '.join(sorted(near))}?" if near else name)
        return {table: np.array([known.get(name, -1) for name in names], dtype=np.intp) for table, known in index.items()}

    # frames in the order in which they came -----------------------------------------------------------------------------

    def after(self, cursor: Cursor = START, limit: int | None = None) -> Iterator[Chunk]:
        """Yield what is stored after a cursor, in (boot, seq) order, at most `limit` chunks."""
        left = limit
        while left is None or left > 0:
            page = _PAGE if left is None else min(_PAGE, left)
            rows = self._rows("WHERE (boot, last_seq) > (?, ?) ORDER BY boot, last_seq LIMIT ?", *cursor, page)
            for chunk in rows:
                yield chunk.after(cursor.seq) if chunk.boot == cursor.boot else chunk
                cursor = chunk.end
            if len(rows) < page:
                return
            left = None if left is None else left - page

    def during(self, start: float, stop: float) -> Iterator[Chunk]:
        """Yield the frames between two plant times [s], both included, in (boot, seq) order."""
        cursor = Cursor()
        while rows := self._rows(
            "WHERE (boot, last_seq) > (?, ?) AND last_time >= ? AND first_time <= ? ORDER BY boot, last_seq LIMIT ?",
            *cursor, start, stop, _PAGE,
        ):  # fmt: skip
            for chunk in rows:
                inside = np.flatnonzero((chunk.time >= start) & (chunk.time <= stop))
                for run in np.split(inside, np.flatnonzero(np.diff(inside) != 1) + 1):
                    if run.size:
                        yield chunk.part(int(run[0]), int(run[-1]) + 1)
                cursor = chunk.end

    def frame(self, cursor: Cursor) -> Chunk | None:
        """Return the very frame of a cursor, None if it is not stored."""
        for chunk in self._rows("WHERE boot = ? AND last_seq >= ? ORDER BY last_seq LIMIT 1", *cursor):
            place = int(np.searchsorted(chunk.seq, cursor.seq))
            if chunk.seq[place] == cursor.seq:
                return chunk.part(place, place + 1)
        return None

    def behind(self, cursor: Cursor) -> tuple[int, float]:
        """Return how many frames follow a cursor, and how far its frame is behind the newest [s, plant clock]."""
        with self._open() as db:
            frames = int(db.execute("SELECT coalesce(sum(count), 0) FROM chunk WHERE (boot, last_seq) > (?, ?)", cursor).fetchone()[0])
            if frames == 0:
                return 0, 0.0
            newest = db.execute("SELECT last_time FROM chunk ORDER BY boot DESC, last_seq DESC LIMIT 1").fetchone()[0]
            oldest, first, last = db.execute(
                "SELECT first_time, first_seq, last_seq FROM chunk WHERE (boot, last_seq) > (?, ?) ORDER BY boot, last_seq LIMIT 1", cursor
            ).fetchone()
            read = max(cursor.seq - first + 1, 0) if first <= cursor.seq < last else 0
        return frames - read, max(newest - oldest, 0.0)

    def _rows(self, where: str, *values: object) -> list[Chunk]:
        query = "SELECT points, boot, first_seq, count, seq, time, value, quality, source_time, receive_time, wall, runs FROM chunk"
        with self._open() as db:
            return [_chunk(row, self._points(db, row[0])) for row in db.execute(f"{query} {where}", values)]


def _seq(first: int, count: int, blob: bytes | None) -> NDArray[np.int64]:
    return np.arange(first, first + count) if blob is None else unpack(blob, np.int64, (count,))


def _samples(row: Sequence[Any], places: IndexArray, points: Sequence[Point]) -> Samples:
    _, boot, first, count, seq, time, value, quality = row
    shape = (len(points), count)
    missing = places < 0
    some, marks = unpack(value, np.float64, shape)[places], unpack(quality, np.uint8, shape)[places]
    some[missing], marks[missing] = np.nan, 2
    return Samples(np.full(count, boot), _seq(first, count, seq), unpack(time, np.float64, (count,)), some, marks)


def _chunk(row: Sequence[Any], points: tuple[Point, ...]) -> Chunk:
    _, boot, first, count, seq, time, value, quality, source_time, receive_time, wall, runs = row
    shape = (len(points), count)
    return Chunk(
        boot,
        points,
        _seq(first, count, seq),
        unpack(time, np.float64, (count,)),
        unpack(wall, np.int64, (count,)),
        unpack(value, np.float64, shape),
        unpack(quality, np.uint8, shape),
        unpack(source_time, np.int64, shape),
        unpack(receive_time, np.int64, shape),
        tuple((batch, state) for length, batch, state in json.loads(runs) for _ in range(length)),
    )
