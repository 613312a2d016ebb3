"""Ingest of the historian against a naive SQLite table, and line protocol against the client's `Point`; ratios of one run on one machine.

Run with ``python benchmarks/historian.py``. Every batch of every store is on disk (WAL, synchronous=FULL) before the next one.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from influxdb_client.client.write.point import Point as InfluxPoint
from influxdb_client.domain.write_precision import WritePrecision

from controller.core.frame import Frame, Point
from controller.historian.line_protocol import LineEncoder
from controller.historian.store import Historian, HistorianReader

TAGS, BATCH = 500, 5  # the writer gathers half a second of a 100 ms scan
EPOCH = 1_767_225_600_000_000_000  # [ns]


def signals(frames: int) -> list[Frame]:
    """Return frames of slow signals with noise, rounded as an instrument rounds them; a tenth of the points stand still."""
    random = np.random.default_rng(1)
    walk = np.cumsum(random.normal(0.0, 0.05, (frames, TAGS)), axis=0) + 50.0
    walk[:, ::10] = 1.0
    value = np.round(walk, 2)
    made = []
    for seq in range(frames):
        now = EPOCH + seq * 100_000_000
        source = np.repeat(now - random.integers(0, 9_000_000, 20) * 1_000, TAGS // 20)  # twenty devices
        quality = np.zeros(TAGS, dtype=np.uint8)
        made.append(Frame(1, seq, now * 1e-9, now, value[seq], quality, source, np.full(TAGS, now, dtype=np.int64)))
    return made


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(folder: Path, frames: Sequence[Frame], batch: int) -> Path:
    historian = Historian.open(folder, [Point(f"T-{place}", "degC", 0, 150, unit="tank") for place in range(TAGS)])
    for start in range(0, len(frames), batch):
        historian.append(frames[start : start + batch])
    historian.close()
    return historian.path


def naive(folder: Path, frames: Sequence[Frame], batch: int) -> Path:
    path = folder / "naive.sqlite"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE sample (tag INTEGER, time INTEGER, value REAL, quality INTEGER, PRIMARY KEY (tag, time)) WITHOUT ROWID")
    for start in range(0, len(frames), batch):
        db.execute("BEGIN")
        for frame in frames[start : start + batch]:
            rows = zip(range(TAGS), frame.source_time.tolist(), frame.value.tolist(), frame.quality.tolist(), strict=True)
            db.executemany("INSERT OR REPLACE INTO sample VALUES (?,?,?,?)", rows)
        db.execute("COMMIT")
    db.close()
    return path


def by_point(frames: Sequence[Frame]) -> str:
    lines = []
    for frame in frames:
        columns = frame.value.tolist(), frame.quality.tolist(), frame.source_time.tolist()
        for place, (value, quality, stamp) in enumerate(zip(*columns, strict=True)):
            point = InfluxPoint("tank").tag("cell", "demo").tag("tag", f"T-{place}").tag("unit", "tank")
            lines.append(point.field("value", value).field("quality", quality).time(stamp, WritePrecision.NS).to_line_protocol())
    return "\n".join(lines)


def main() -> None:
    """Print one line a comparison."""
    frames = signals(1_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for batch in (BATCH, 250):
            few = frames[:300]
            store, table = folder / f"ours-{batch}", folder / f"naive-{batch}"
            table.mkdir()
            mine = len(frames) * TAGS / timed(lambda: ours(store, frames, batch))  # noqa: B023
            theirs = len(few) * TAGS / timed(lambda: naive(table, few, batch))  # noqa: B023
            bytes_ = (store / "historian.sqlite").stat().st_size / (len(frames) * TAGS)
            row = (table / "naive.sqlite").stat().st_size / (len(few) * TAGS)
            print(
                f"ingest, {batch} frames of {TAGS} points a write: {mine / theirs:.1f} x the table with a row a point "
                f"({mine:,.0f} points/s against {theirs:,.0f}), {bytes_:.1f} bytes a point against {row:.1f}"
            )
        reader = HistorianReader(folder / f"ours-{BATCH}")
        span = frames[0].time, frames[-1].time
        trend = timed(lambda: reader.read(["T-7"], *span))
        print(f"one trend of {len(frames)} samples from {len(frames) // BATCH} chunks: {trend * 1e3:.1f} ms")
        chunk = next(HistorianReader(folder / "ours-250").after())
    LineEncoder(chunk.points, cell="demo").encode(chunk)
    body, count = b"", 0

    def encode() -> None:
        nonlocal body, count
        body, count = LineEncoder(chunk.points, cell="demo").encode(chunk)

    fast = timed(encode)
    slow = timed(lambda: by_point(frames[:40]))
    ours_rate, point_rate = count / fast, 40 * TAGS / slow
    print(
        f"line protocol: {ours_rate / point_rate:.0f} x influxdb_client.Point ({ours_rate:,.0f} lines/s against {point_rate:,.0f}), "
        f"{len(body) / count:.0f} bytes a line"
    )


if __name__ == "__main__":
    main()
