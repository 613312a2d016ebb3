"""The gap ledger: every stretch of time that the historian does not hold, and why. Sampled = stored + ledgered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from controller.core.frame import Frame

__all__ = ["SCHEMA", "Gap", "Reason", "backward_steps", "between", "write"]

Reason = Literal["overflow", "unwritten", "crash", "clock"]

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS gap (
    boot INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER, start REAL NOT NULL, stop REAL,
    reason TEXT NOT NULL CHECK (reason IN ({", ".join(repr(reason) for reason in get_args(Reason))})),
    PRIMARY KEY (boot, first_seq, reason)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames `first_seq` to `last_seq` of a start, both lost.

    ========== ======================================================================================================
    overflow   the queue to the historian was full
    unwritten  the service stopped while the disk refused them
    crash      the service ended without a word: what it had sampled but not yet written is lost, and nobody counted it
    clock      nothing is lost (`last_seq` is `first_seq` - 1): the plant clock went back from `start` to `stop`
    ========== ======================================================================================================
    """

    boot: int
    first_seq: int
    last_seq: int | None  # None: not known
    start: float  # [s] plant clock
    stop: float | None
    reason: Reason

    @property
    def frames(self) -> int | None:
        """How many frames were lost; None where nobody counted them."""
        return None if self.last_seq is None else self.last_seq - self.first_seq + 1


def backward_steps(frames: Sequence[Frame], before: float) -> list[Gap]:
    """Return where the plant clock went back, in frames that follow one of time `before` [s]."""
    times = [before, *(frame.time for frame in frames)]
    return [
        Gap(frame.boot, frame.seq, frame.seq - 1, last, frame.time, "clock") for last, frame in zip(times, frames, strict=False) if frame.time < last
    ]


def write(db: sqlite3.Connection, gaps: Iterable[Gap]) -> None:
    """Write gaps inside the caller's transaction; the same gap again, or the same one grown, replaces itself."""
    rows = [(gap.boot, gap.first_seq, gap.last_seq, gap.start, gap.stop, gap.reason) for gap in gaps]
    db.executemany("INSERT OR REPLACE INTO gap VALUES (?,?,?,?,?,?)", rows)


def between(db: sqlite3.Connection, start: float | None = None, stop: float | None = None) -> tuple[Gap, ...]:
    """Return the gaps that touch a span of plant time [s], all of them without one, in (boot, seq) order."""
    rows = db.execute("SELECT boot, first_seq, last_seq, start, stop, reason FROM gap ORDER BY boot, first_seq")
    gaps = (Gap(boot, first, last, begin, end, cast(Reason, reason)) for boot, first, last, begin, end, reason in rows)
    return tuple(gap for gap in gaps if _touches(gap, start, stop))


def _touches(gap: Gap, start: float | None, stop: float | None) -> bool:
    ends = (gap.start, gap.start if gap.stop is None else gap.stop)
    return (start is None or max(ends) >= start) and (stop is None or min(ends) <= stop)
