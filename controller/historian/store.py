"""The embedded historian's writer: every frame on disk before anybody counts on it.

One SQLite file (WAL, synchronous=FULL), one row of packed columns a batch of frames. ``(boot, seq)`` is the key: the plant clock may
step, the count of scans does not. `HistorianReader` reads it, from any thread or process, while it is written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from controller.core.frame import Frame, Point
from controller.historian import ledger
from controller.historian.columns import pack
from controller.historian.ledger import Gap
from controller.historian.reader import FILE, FORMAT, Boot, Chunk, Count, Cursor, HistorianError, HistorianReader, History

__all__ = ["Boot", "Chunk", "Count", "Cursor", "Gap", "Historian", "HistorianError", "HistorianFull", "HistorianReader", "History"]

log = logging.getLogger("blackmass.historian")

_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS points (id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, points TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS boot (
    boot INTEGER PRIMARY KEY, points INTEGER NOT NULL REFERENCES points (id), closed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS chunk (
    id INTEGER PRIMARY KEY, boot INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, count INTEGER NOT NULL,
    first_time REAL NOT NULL, last_time REAL NOT NULL, points INTEGER NOT NULL REFERENCES points (id), seq BLOB, time BLOB NOT NULL,
    value BLOB NOT NULL, quality BLOB NOT NULL, source_time BLOB NOT NULL, receive_time BLOB NOT NULL, wall BLOB NOT NULL,
    runs TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS chunk_key ON chunk (boot, last_seq, count);
CREATE INDEX IF NOT EXISTS chunk_time ON chunk (first_time, last_time);
"""
    + ledger.SCHEMA
)
_BUSY = 5.0  # [s] to wait for another connection; readers never lock a writer out for longer than an instant


class HistorianFull(HistorianError):
    """The disk is full."""


class Historian:
    """The one writer. Not async: it is called from a thread of its own, see `controller.runtime.bus`."""

    def __init__(self, path: Path, points: Sequence[Point], boot: int | None) -> None:
        self.path = path
        self._n = len(points)
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._whole = True  # the last write succeeded
        self._time = float("-inf")  # [s] of the newest frame
        with self._transaction(create=True) as db:
            text = json.dumps([asdict(point) for point in points], ensure_ascii=False)
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            db.execute("INSERT OR IGNORE INTO points (sha256, points) VALUES (?, ?)", (sha256, text))
            self._points = int(db.execute("SELECT id FROM points WHERE sha256 = ?", (sha256,)).fetchone()[0])
            last, closed = db.execute("SELECT coalesce(max(boot), 0), closed FROM boot").fetchone()
            if boot is not None and boot <= last:
                raise HistorianError(f"historian {path}: start {boot} is in it already, the next one is {last + 1}")
            if last and not closed:
                ledger.write(db, [_crash(db, last)])
            self.boot: int = last + 1 if boot is None else boot
            db.execute("INSERT INTO boot (boot, points) VALUES (?, ?)", (self.boot, self._points))

    @classmethod
    def open(cls, folder: Path, points: Sequence[Point], *, boot: int | None = None) -> Historian:
        """Open or create the historian of a data directory for one more start of the service.

        Parameters
        ----------
        points : in the order of every array of the frames to come; another list than last time gets a table of its own
        boot : which start this is; one more than the last by default

        Raises `HistorianError` with the file and what to do.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HistorianError(f"historian: cannot create {folder}: {error.strerror}; choose another data directory with --data") from error
        return cls(folder / FILE, points, boot)

    def append(self, frames: Sequence[Frame], gaps: Sequence[Gap] = ()) -> None:
        """Write frames and gaps in one transaction; return when they are on disk.

        Frames that are stored already are left out, so a call that failed may be repeated whole, whatever came of it. Raises
        `HistorianFull` or `HistorianError`, and then nothing of this call is stored.
        """
        for before, frame in itertools.pairwise(frames):
            if frame.seq <= before.seq:
                raise ValueError(f"frame {frame.seq} follows frame {before.seq}: expected frames in the order of their seq")
        for frame in frames:
            if frame.boot != self.boot or frame.value.shape != (self._n,):
                raise ValueError(
                    f"frame {frame.seq} is of start {frame.boot} with {frame.value.size} points; "
                    f"this historian was opened for start {self.boot} with {self._n}"
                )
        with self._transaction() as db:
            stored = db.execute("SELECT coalesce(max(last_seq), -1) FROM chunk WHERE boot = ?", (self.boot,)).fetchone()[0]
            new = [frame for frame in frames if frame.seq > stored]
            ledger.write(db, [*gaps, *ledger.backward_steps(new, self._time)])
            if new:
                self._insert(db, new)
        if new:
            self._time = new[-1].time

    def _insert(self, db: sqlite3.Connection, frames: Sequence[Frame]) -> None:
        time = np.array([frame.time for frame in frames])
        first, last = frames[0].seq, frames[-1].seq
        whole = last - first + 1 == len(frames)
        notes = ((frame.batch.id if frame.batch is not None else "", frame.state) for frame in frames)
        runs = [[len(list(run)), *note] for note, run in itertools.groupby(notes)]
        row = (
            self.boot,
            first,
            last,
            len(frames),
            float(time.min()),
            float(time.max()),
            self._points,
            None if whole else pack(np.array([frame.seq for frame in frames], dtype=np.int64)),
            pack(time),
            pack(np.stack([frame.value for frame in frames], axis=1, dtype=np.float64)),
            pack(np.stack([frame.quality for frame in frames], axis=1, dtype=np.uint8)),
            pack(np.stack([frame.source_time for frame in frames], axis=1, dtype=np.int64)),
            pack(np.stack([frame.receive_time for frame in frames], axis=1, dtype=np.int64)),
            pack(np.array([frame.wall for frame in frames], dtype=np.int64)),
            json.dumps(runs, ensure_ascii=False),
        )
        db.execute(f"INSERT INTO chunk VALUES (NULL{', ?' * len(row)})", row)

    def note_gap(self, gap: Gap) -> None:
        """Write one gap; return when it is on disk. Raises as `append` does."""
        self.append((), (gap,))

    def close(self) -> None:
        """Note that this start ended in order, and close the file. A start whose last write failed stays unclosed: it lost something."""
        try:
            if self._whole:
                with self._transaction() as db:
                    db.execute("UPDATE boot SET closed = 1 WHERE boot = ?", (self.boot,))
        except HistorianError as error:
            log.error("%s", error)
        finally:
            self._drop()

    # the connection -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._db is None:
                    self._db = self._connect(create)
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
                self._whole = True
            except sqlite3.Error as error:
                # What a connection holds after a failed write or fsync is not worth guessing: the next call opens a new one, and the file
                # itself tells what is in it.
                self._drop()
                self._whole = False
                raise self._explain(error) from error
            except BaseException:
                self._drop()
                raise

    def _connect(self, create: bool) -> sqlite3.Connection:
        mode = "rwc" if create else "rw"
        db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, FORMAT):
                raise HistorianError(f"historian {self.path} has format {version}, this version of blackmass writes {FORMAT}; choose another --data")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA foreign_keys=ON")
            if create:
                db.executescript(_SCHEMA)
                db.execute(f"PRAGMA user_version={FORMAT}")
        except BaseException:
            db.close()
            raise
        return db

    def _drop(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            db.close()  # rolls back what was not committed

    def _explain(self, error: sqlite3.Error) -> HistorianError:
        what = getattr(error, "sqlite_errorname", "") or type(error).__name__
        if what == "SQLITE_FULL":
            return HistorianFull(
                f"historian {self.path}: the disk is full ({error}); nothing of this write is stored. "
                "Free some disk, or choose another data directory with --data"
            )
        return HistorianError(
            f"historian {self.path}: {error} ({what}); nothing of this write is stored. "
            "Check the disk and who may write there, or choose another data directory with --data"
        )


def _crash(db: sqlite3.Connection, boot: int) -> Gap:
    seq, time = db.execute("SELECT last_seq, last_time FROM chunk WHERE boot = ? ORDER BY last_seq DESC LIMIT 1", (boot,)).fetchone() or (
        -1,
        0.0,
    )
    return Gap(boot, seq + 1, None, time, None, "crash")
