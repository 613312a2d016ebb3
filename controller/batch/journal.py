"""The journal: what happened to every batch, hash-chained, on disk before anybody is told that it happened.

One SQLite file beside the historian (WAL, synchronous=FULL) and one writer thread. `append` returns when the rows are on disk.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.batch.records import BatchState, Event

__all__ = ["Entry", "Journal", "JournalError", "JournalReader"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    seq INTEGER PRIMARY KEY, batch TEXT NOT NULL, plant REAL NOT NULL, wall INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
    old TEXT NOT NULL, new TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entry_batch ON entry (batch, seq);
CREATE TABLE IF NOT EXISTS batch (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, recipe_text TEXT NOT NULL, recipe_file TEXT NOT NULL, cell TEXT NOT NULL,
    state TEXT NOT NULL, checkpoint TEXT NOT NULL
) STRICT;
"""
_FIRST = "0" * 64


class JournalError(RuntimeError):
    """The journal cannot be written or read; names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: an event, when it happened, and the hash that chains it to the one before."""

    seq: int
    batch: str
    plant: float  # [s] plant clock
    wall: int  # [ns]
    event: Event
    hash: str


def _digest(before: str, row: Sequence[object]) -> str:
    return hashlib.sha256(f"{before}\n{json.dumps(row, ensure_ascii=False)}".encode()).hexdigest()


class Journal:
    """The writer; safe to call from any one thread at a time, and blocking, so the service calls it in a worker thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            row = self._db.execute("SELECT hash, seq FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise JournalError(f"journal {path}: {error}; check the disk, or choose another data directory with --data") from None
        self._head: str = row[0] if row else _FIRST
        self._seq: int = row[1] if row else 0

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            head, seq = self._head, self._seq
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._head, self._seq = head, seq
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise JournalError(
                    f"journal {self.path}: {error}; nothing was written. Free some disk, or choose another data directory with --data"
                ) from None

    def append(self, batch: str, plant: float, wall: int, events: Sequence[Event], *, state: BatchState | None = None) -> None:
        """Write events, and the batch's state with them; return when they are on disk. Raise `JournalError` and change nothing otherwise."""
        with self._transaction() as db:
            self._insert(db, batch, plant, wall, events)
            if state is not None:
                db.execute("UPDATE batch SET state = ?, checkpoint = ? WHERE id = ?", (str(state.state), json.dumps(state.to_json()), state.id))

    def _insert(self, db: sqlite3.Connection, batch: str, plant: float, wall: int, events: Sequence[Event]) -> None:
        for event in events:
            self._seq += 1
            row = (self._seq, batch, plant, wall, event.kind, event.name, event.old, event.new, event.who, event.why)
            self._head = _digest(self._head, row)
            db.execute("INSERT INTO entry VALUES (?,?,?,?,?,?,?,?,?,?,?)", (*row, self._head))

    def next_id(self, cell: str) -> tuple[str, int]:
        """Return the id and number of the next batch of a cell; raise `JournalError` if it cannot be read."""
        with self._lock:
            try:
                number = int(self._db.execute("SELECT coalesce(max(number), 0) + 1 FROM batch").fetchone()[0])
            except sqlite3.Error as error:
                raise JournalError(f"journal {self.path}: {error}") from None
        return f"{cell}-{number:04d}", number

    def begin(
        self,
        state: BatchState,
        number: int,
        recipe_text: str,
        recipe_file: str,
        cell: str,
        *,
        plant: float = 0.0,
        wall: int = 0,
        events: Sequence[Event] = (),
    ) -> None:
        """Record a new batch and the command that asked for it, together or not at all.

        It is kept with the very text of its recipe: a changed file never changes a running batch.
        """
        with self._transaction() as db:
            row = (state.id, number, recipe_text, recipe_file, cell, str(state.state), json.dumps(state.to_json()))
            db.execute("INSERT INTO batch VALUES (?,?,?,?,?,?,?)", row)
            self._insert(db, state.id, plant, wall, events)


class JournalReader:
    """Read a journal; any thread or process, while it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        if not self.path.is_file():
            raise JournalError(f"no journal at {self.path}; give the data directory of the service with --data")
        try:
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
                return db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"journal {self.path}: {error}") from None

    def batches(self) -> list[BatchState]:
        """Return every batch, oldest first."""
        return [BatchState.from_json(json.loads(row[0])) for row in self._rows("SELECT checkpoint FROM batch ORDER BY number")]

    def batch(self, name: str) -> tuple[BatchState, str, str]:
        """Return a batch, its recipe's text and its recipe's file; raise `JournalError` with the known ids."""
        rows = self._rows("SELECT checkpoint, recipe_text, recipe_file FROM batch WHERE id = ?", name)
        if not rows:
            known = [row[0] for row in self._rows("SELECT id FROM batch ORDER BY number DESC LIMIT 5")]
            raise JournalError(f"no batch {name!r} in {self.path}; the newest are {', '.join(known) or 'none'}")
        return BatchState.from_json(json.loads(rows[0][0])), rows[0][1], rows[0][2]

    def entries(self, batch: str | None = None) -> list[Entry]:
        """Return the events of a batch, or of all, in the order in which they were written."""
        where = "" if batch is None else "WHERE batch = ?"
        rows = self._rows(f"SELECT * FROM entry {where} ORDER BY seq", *([] if batch is None else [batch]))
        return [Entry(row[0], row[1], row[2], row[3], Event(*row[4:10]), row[10]) for row in rows]

    def verify(self) -> str:
        """Return where the chain of hashes is broken, empty if it is whole."""
        before = _FIRST
        for row in self._rows("SELECT * FROM entry ORDER BY seq"):
            if _digest(before, row[:10]) != row[10]:
                return f"journal {self.path}: entry {row[0]} was changed after it was written"
            before = row[10]
        return ""
