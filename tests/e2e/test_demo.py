"""The demo as a newcomer runs it: eight simulated devices over the real protocols, a whole batch, a released lot, exit status 0.

Faster than by default (36 s of plant time a scan instead of 27), so that it fits into a test run; nothing else differs.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller.batch.journal import JournalReader

pytestmark = [pytest.mark.wire, pytest.mark.slow]


def blackmass(*arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )


def demo(*arguments: str) -> str:
    """Run the demo; fail as soon as its batch is held: nobody is there to restart it."""
    command = [sys.executable, "-m", "controller.cli", "demo", *arguments]
    said = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "160"}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if " HELD" in line:
                process.terminate()
                raise AssertionError(said)
    assert process.returncode == 0, said
    return said


def test_make_demo_ends_with_a_released_lot_and_its_report(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    said = demo("--speed", "720", "--port", "0", "--data", str(data))
    assert "RELEASED" in said
    assert "NOT RELEASED" not in said

    journal = JournalReader(data / "journal.sqlite")
    (state,) = journal.batches()
    assert state.released is True
    assert state.records["release.purity"] >= 99.0
    assert {record.state for record in state.steps.values()} == {"done"}
    assert journal.verify() == ""
    ends = [entry.event.name for entry in journal.entries(state.id) if entry.event.kind == "step" and entry.event.new == "done"]
    assert sorted(ends) == sorted(state.steps)  # each step ended once

    page = (data / f"{state.id}.html").read_text()
    assert page.count("<polyline") >= 10
    assert "SIMULATED PLANT" in page

    report = blackmass("report", state.id, "--data", str(data))
    assert report.returncode == 0, report.stderr
    assert "Metal" in report.stdout or "Recovery" in report.stdout
    listed = blackmass("batches", "--data", str(data))
    assert state.id in listed.stdout

    folder = tmp_path / "export"
    exported = blackmass("export", state.id, "--to", str(folder), "--data", str(data))
    assert exported.returncode == 0, exported.stderr
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, digest in manifest["files"].items():
        found = digest["sha256"] if isinstance(digest, dict) else digest
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == found
    with (folder / "telemetry.csv").open() as file:
        rows = csv.reader(file)
        head = next(rows)
        assert sum(1 for _ in rows) > 1000
    assert any(name.startswith("TT-201") for name in head)
