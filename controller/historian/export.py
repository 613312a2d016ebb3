"""Export of a batch: plain files that anybody can read for decades, and a manifest that says whether they are still the same."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from controller.core.frame import Point
from controller.historian.reader import Chunk, HistorianReader

__all__ = ["export_batch"]

_HEAD = ("boot", "seq", "time", "wall_ns", "batch", "state")


def export_batch(
    reader: HistorianReader, journal_rows: Sequence[Mapping[str, Any]], recipe_text: str, folder: Path, start: float, stop: float
) -> None:
    """Write what happened between two plant times [s] into `folder`, which must not exist or be empty.

    =============== ======================================================================================================
    telemetry.csv   a row a frame: time (ISO 8601, plant clock), then each point's value [its eu] and quality; BAD is empty
    events.jsonl    `journal_rows`, one JSON object a line
    recipe.yaml     `recipe_text`, byte for byte
    manifest.json   span, points with eu and range, gaps of the telemetry, and the SHA-256 of each file
    =============== ======================================================================================================

    All of it appears at once or not at all. Raises `FileExistsError`, `OSError`, or `HistorianError`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder; an export never overwrites. Choose another one with --to")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        points = _points(reader, start, stop)
        frames = _telemetry(reader, points, fresh / "telemetry.csv", start, stop)
        with (fresh / "events.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in journal_rows)
        (fresh / "recipe.yaml").write_bytes(recipe_text.encode())
        manifest = {
            "format": 1,
            "start": _moment(start),
            "stop": _moment(stop),
            "frames": frames,
            "points": [asdict(point) for point in points],
            "gaps": [asdict(gap) for gap in reader.gaps(start, stop)],
            "files": {path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size} for path in sorted(fresh.iterdir())},
        }
        (fresh / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        for path in (*fresh.iterdir(), fresh):
            _sync(path)
        fresh.rename(folder)  # onto an empty folder too
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _points(reader: HistorianReader, start: float, stop: float) -> list[Point]:
    """Return every point of the span, in the order in which they first came: a restart may have brought other ones."""
    found: dict[str, Point] = {}
    known: tuple[Point, ...] = ()
    for chunk in reader.during(start, stop):
        if chunk.points is not known:
            known = chunk.points
            found |= {point.name: point for point in known if point.name not in found}
    return list(found.values())


def _telemetry(reader: HistorianReader, points: Sequence[Point], path: Path, start: float, stop: float) -> int:
    frames = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_HEAD, *itertools.chain.from_iterable((point.name, f"{point.name}.quality") for point in points)])
        for chunk in reader.during(start, stop):
            writer.writerows(_rows(chunk, points))
            frames += len(chunk)
    return frames


def _rows(chunk: Chunk, points: Sequence[Point]) -> Iterator[list[Any]]:
    places = {point.name: place for place, point in enumerate(chunk.points)}
    order = np.array([places.get(point.name, -1) for point in points], dtype=np.intp)
    value, quality = chunk.value[order].astype(object), chunk.quality[order].astype(object)
    value[~np.isfinite(chunk.value[order])] = ""
    value[order < 0], quality[order < 0] = "", ""
    cells = np.stack((value, quality), axis=1).reshape(2 * len(points), len(chunk)).T.tolist()
    for place, row in enumerate(cells):
        yield [chunk.boot, int(chunk.seq[place]), _moment(float(chunk.time[place])), int(chunk.wall[place]), *chunk.text[place], *row]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
