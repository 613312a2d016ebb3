"""The export: readable without us, complete, and unchanged or found out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from controller.core.frame import Frame, Point
from controller.historian.export import export_batch
from controller.historian.store import Historian, HistorianReader

EPOCH = 1_767_225_600.0  # [s]


def record(folder: Path, points: list[Point], times: list[float], values: list[list[float]]) -> None:
    historian = Historian.open(folder, points)
    frames = []
    for seq, (time, row) in enumerate(zip(times, values, strict=True)):
        value = np.array(row)
        stamp = np.zeros(value.size, dtype=np.int64)
        frames.append(Frame(historian.boot, seq, EPOCH + time, 0, value, np.where(np.isnan(value), 2, 0).astype(np.uint8), stamp, stamp))
    historian.append(frames)
    historian.close()


def test_export_holds_every_frame_of_the_span_and_proves_itself(tmp_path: Path) -> None:
    data, to = tmp_path / "data", tmp_path / "out" / "demo-0001"
    record(data, [Point("TT-1", "degC", 0, 150), Point("LT-1", "%", 0, 100)], [0, 1, 2, 3], [[1, 2], [0.1 + 0.2, np.nan], [3, 4], [5, 6]])
    record(data, [Point("LT-1", "%", 0, 100), Point("AT-1", "pH", 0, 14)], [10, 11], [[7, 8], [9, 10]])
    to.mkdir(parents=True)  # empty, so it may be used
    recipe = "recipe: nmc622 # µ\r\n"
    export_batch(HistorianReader(data), [{"seq": 1, "why": "größer"}, {"seq": 2}], recipe, to, EPOCH + 1, EPOCH + 10)

    assert sorted(path.name for path in to.iterdir()) == ["events.jsonl", "manifest.json", "recipe.yaml", "telemetry.csv"]
    rows = list(csv.DictReader(io.StringIO((to / "telemetry.csv").read_text(encoding="utf-8"))))
    assert [(row["boot"], row["seq"], row["time"]) for row in rows] == [
        ("1", "1", "2026-01-01T00:00:01.000000Z"),
        ("1", "2", "2026-01-01T00:00:02.000000Z"),
        ("1", "3", "2026-01-01T00:00:03.000000Z"),
        ("2", "0", "2026-01-01T00:00:10.000000Z"),
    ]
    assert (float(rows[0]["TT-1"]), rows[0]["LT-1"], rows[0]["LT-1.quality"], rows[0]["AT-1"]) == (0.1 + 0.2, "", "2", "")
    assert (rows[3]["TT-1"], rows[3]["TT-1.quality"], rows[3]["LT-1"], rows[3]["AT-1"]) == ("", "", "7.0", "8.0")
    assert (to / "recipe.yaml").read_bytes() == recipe.encode()
    assert [json.loads(line) for line in (to / "events.jsonl").read_text(encoding="utf-8").splitlines()] == [
        {"seq": 1, "why": "größer"},
        {"seq": 2},
    ]
    manifest = json.loads((to / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["frames"] == 4
    assert [(point["name"], point["eu"]) for point in manifest["points"]] == [("TT-1", "degC"), ("LT-1", "%"), ("AT-1", "pH")]
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256((to / name).read_bytes()).hexdigest()


def test_export_overwrites_nothing_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    data, to = tmp_path / "data", tmp_path / "out"
    record(data, [Point("TT-1", "degC", 0, 150)], [0], [[1]])
    to.mkdir()
    (to / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not an empty folder; an export never overwrites"):
        export_batch(HistorianReader(data), [], "", to, EPOCH, EPOCH + 1)
    with pytest.raises(ValueError, match="Out of range float"):
        export_batch(HistorianReader(data), [{"bad": float("nan")}], "", tmp_path / "new", EPOCH, EPOCH + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]
    assert [path.name for path in to.iterdir()] == ["mine.txt"]
