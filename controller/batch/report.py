"""The batch report: what went in, what came out, what happened, and whether the lot may leave. For the terminal and as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import numpy as np

from controller.batch.balance import Balance, balance
from controller.batch.journal import Entry, JournalReader
from controller.batch.records import BatchState
from controller.core.frame import PurityView
from controller.purity.estimator import estimate
from drivers import eu
from drivers.tags import FloatArray, QualityArray

__all__ = ["Report", "Trend", "build", "html"]

_STATES = ("batch", "step", "command", "prompt", "deviation", "interlock", "alarm", "link", "device", "write", "service")


@dataclass(frozen=True, slots=True)
class Trend:
    """One tag over the batch: time [h since its start], value [eu] (NaN is a gap), shape (t,)."""

    tag: str
    eu: str
    description: str
    time: FloatArray
    value: FloatArray

    @classmethod
    def of(cls, tag: str, tag_eu: str, text: str, start: float, time: FloatArray, value: FloatArray, quality: QualityArray) -> Trend:
        """Return a trend from what the historian keeps; a BAD value is a gap."""
        return cls(tag, tag_eu, text, (time - start) / 3600.0, np.where(quality < 2, value, np.nan))

    def svg(self, width: int = 640, height: int = 120) -> str:
        """Return the curve as the points of SVG polylines, one a stretch without a gap."""
        good = np.isfinite(self.value)
        if not good.any():
            return ""
        low, high = float(np.min(self.value[good])), float(np.max(self.value[good]))
        span = high - low or 1.0
        end = float(self.time[-1]) or 1.0
        x = np.round(self.time / end * width, 1)
        y = np.round((height - 4) - (self.value - low) / span * (height - 8), 1)
        edges = np.flatnonzero(np.diff(good.astype(np.int8))) + 1
        lines = []
        for part in np.split(np.arange(len(x)), edges):
            if len(part) > 1 and good[part[0]]:
                lines.append(" ".join(f"{x[place]:g},{y[place]:g}" for place in part))
        return "\n".join(f'<polyline points="{points}"/>' for points in lines)

    @property
    def range(self) -> str:
        """The lowest and the highest value [eu]."""
        good = self.value[np.isfinite(self.value)]
        return f"{good.min():.4g} to {good.max():.4g} {self.eu}" if len(good) else "no good value"


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step as the report shows it; times in [s] plant clock."""

    path: str
    state: str
    started: float | None
    minutes: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """All that a batch report says; made by `build`."""

    state: BatchState
    cell: str
    simulated: bool
    purity: PurityView
    metals_purity: float  # [wt%] cross-check by the metals
    balance: Balance
    findings: tuple[tuple[str, float, str, str, bool], ...]
    reagents: tuple[tuple[str, float, str], ...]
    steps: tuple[StepRow, ...]
    entries: tuple[Entry, ...]
    trends: tuple[Trend, ...] = ()
    broken: str = ""  # where the journal's chain is broken
    notes: tuple[str, ...] = field(default=())

    @property
    def decision(self) -> str:
        """The lot's fate, in one sentence."""
        if self.state.released is None:
            return f"no release decision: the batch is {self.state.state} ({self.state.why})"
        if self.state.released:
            return "RELEASED"
        failed = ", ".join(f"{name} {value:.4g} {unit} (limit {limit})" for name, value, unit, limit, passed in self.findings if not passed)
        return f"NOT RELEASED: {failed}"

    @property
    def duration(self) -> float:
        """Plant time from START to the end [s]; NaN while it runs."""
        return math.nan if self.state.ended is None else self.state.ended - self.state.started


def build(journal: JournalReader, batch: str, eus: Mapping[str, str], *, simulated: bool, trends: Sequence[Trend] = ()) -> Report:
    """Return the report of a batch from its journal.

    Parameters
    ----------
    eus : eu of each ``UNIT.role`` whose amounts were counted
    """
    state, _, _ = journal.batch(batch)
    entries = tuple(journal.entries(batch))
    records = state.records
    release: list[tuple[str, float, str, str, bool]] = next(
        (record.progress["findings"] for record in state.steps.values() if "findings" in record.progress), []
    )
    reagents = tuple(sorted(_reagents(state.counters, eus)))
    steps = tuple(
        StepRow(
            path,
            record.state,
            record.started,
            None if record.ended is None or record.started is None else (record.ended - record.started) / 60,
        )
        for path, record in state.steps.items()
    )
    whole = balance(records)
    notes = []
    metals_purity = records.get("release.purity_by_metals", math.nan)
    purity = estimate(records)
    if abs(metals_purity - purity.value) > 1.0:
        notes.append(f"P by impurities ({purity.value:.2f} %) and by metals ({metals_purity:.2f} %) differ by more than 1 point: check the assay")
    cell = entries[0].batch.rpartition("-")[0] if entries else ""
    findings = tuple((name, value, unit, limit, passed) for name, value, unit, limit, passed in release)
    broken = journal.verify()
    return Report(state, cell, simulated, purity, metals_purity, whole, findings, reagents, steps, entries, tuple(trends), broken, tuple(notes))


def _reagents(counters: Mapping[str, float], eus: Mapping[str, str]) -> list[tuple[str, float, str]]:
    rows = []
    for name, amount in counters.items():
        mass, _, time = eus.get(name, "").partition("/")
        if time:
            rows.append((name, amount * eu.convert(1.0, "s", time), mass))
    return [row for row in rows if row[1] > 0.0]


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def html(report: Report) -> str:
    """Return the report as one HTML page that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["moment"] = _moment
    environment.filters["figure"] = lambda value, digits=2: "—" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"
    return environment.get_template("report.html").render(report=report, events=[entry for entry in report.entries if entry.event.kind in _STATES])
