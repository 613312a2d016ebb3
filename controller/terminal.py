"""The terminal's face: what the page shows, in a shell. Sees frames and nothing else."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from controller.batch.report import Report
from controller.core.frame import BatchView, Frame
from drivers.tags import Quality

__all__ = ["Screen", "report_text"]

_TAGS = 30  # rows; the page has them all
_MARK = {Quality.GOOD: "", Quality.UNCERTAIN: " ?", Quality.BAD: ""}


class Screen:
    """Draws frames of one service; `description` is its ``describe()``."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._cell = description
        self._place = {point["name"]: place for place, point in enumerate(description["points"])}

    def draw(self, frame: Frame) -> RenderableType:
        """Return one frame as text."""
        parts: list[RenderableType] = [self._banner(frame)]
        if frame.batch is not None:
            parts += [self._batch(frame.batch), self._steps(frame, frame.batch)]
        parts += [self._units(frame) if self._cell["units"] else self._tags(frame), self._alarms(frame)]
        return Group(*parts)

    def line(self, frame: Frame) -> str:
        """Return one frame as a line, for where there is no terminal."""
        if frame.batch is not None:
            running = [f"{step.path}: {step.why or step.state}" for step in frame.batch.steps if step.state in ("running", "held") and step.why]
            why = f"({frame.batch.why}) " if frame.state in ("HOLDING", "HELD") else ""
            return f"{frame.batch.id} {frame.state} {why}{' | '.join(running[-2:])}"
        if self._cell["units"]:
            return f"{frame.state}: {dict(frame.commands)['START'] or 'ready to START'}"
        rows = self._inputs()
        bad = sum(int(frame.quality[place]) == Quality.BAD for place in rows)
        lost = self._lost(frame)
        devices = f"lost: {', '.join(lost)}" if lost else "every device answers"
        alarms = f"{len(frame.alarms) or 'no'} alarm{'' if len(frame.alarms) == 1 else 's'}"
        return f"{len(rows)} tags, {f'{bad} of them BAD' if bad else 'none BAD'}; {devices}; {alarms}"

    def _inputs(self) -> list[int]:
        """Return the places of what is measured."""
        return [place for place, point in enumerate(self._cell["points"]) if point["kind"] == "input"]

    def _lost(self, frame: Frame) -> list[str]:
        return [row["name"] for row in self._cell["devices"] if self._value(frame, f"{row['name']}.UP") != 1.0]

    def _banner(self, frame: Frame) -> RenderableType:
        when = datetime.fromtimestamp(frame.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
        text = Text()
        if self._cell["simulated"]:
            text.append(f" SIMULATED x{self._cell['speed']:g} ", style="reverse")
        text.append(f"  {self._cell['cell']}   plant clock {when}   scan {self._value(frame, 'SERVICE.SCAN_MS'):.1f} ms", style="bold")
        down = self._lost(frame)
        text.append("   every device answers" if not down else f"   LOST: {', '.join(down)}", style="" if not down else "bold red")
        return text

    def _value(self, frame: Frame, name: str) -> float:
        return float(frame.value[self._place[name]])

    def _shown(self, frame: Frame, name: str) -> Text:
        place = self._place[name]
        point, value, quality = self._cell["points"][place], frame.value[place], Quality(int(frame.quality[place]))
        if quality is Quality.BAD or not math.isfinite(value):
            return Text(f"BAD {point['eu']}", style="bold red")
        return Text(f"{value:.4g} {point['eu']}{_MARK[quality]}")

    def _batch(self, batch: BatchView) -> RenderableType:
        done = sum(step.state == "done" for step in batch.steps)
        left = "—" if batch.remaining is None else _hours(batch.remaining)
        purity = (
            "—" if not math.isfinite(batch.purity.value) else f"{batch.purity.value:.2f} %" + ("" if batch.purity.quality is Quality.GOOD else " ?")
        )
        bar = "█" * round(30 * done / max(len(batch.steps), 1))
        text = Text(f"{batch.id}  {batch.recipe} v{batch.version}  ", style="bold")
        text.append(str(batch.state), style="bold" if batch.state == "RUNNING" else "bold yellow")
        text.append(f"  {batch.why}\n")
        text.append(f"{bar:·<30} {done} of {len(batch.steps)} steps   left {left} of plant time   purity {purity} ({batch.purity.says})")
        if batch.deviations:
            text.append(f"   deviations {batch.deviations}", style="yellow")
        return Panel(text, title="Batch", title_align="left")

    def _steps(self, frame: Frame, batch: BatchView) -> RenderableType:
        table = Table(expand=True, box=None, pad_edge=False)
        for name, ratio in (("Step", 3), ("Unit", 1), ("Phase", 1), ("Why it waits", 6)):
            table.add_column(name, ratio=ratio, overflow="fold", no_wrap=False)
        # what runs until another step is done comes last: it is not what the batch waits for
        for step in sorted(batch.steps, key=lambda step: step.why.endswith("to be done")):
            if step.state in ("running", "held", "failed"):
                table.add_row(step.path, step.unit, step.phase, step.why or step.state)
        for prompt in batch.prompts:
            table.add_row(prompt.step, "", "ask", Text(prompt.text, style="bold yellow"))
        return table

    def _units(self, frame: Frame) -> RenderableType:
        table = Table(expand=True, box=None, pad_edge=False)
        table.add_column("Unit")
        table.add_column("State")
        table.add_column("Key measurements", ratio=1)
        states = {view.name: view for view in frame.units}
        for unit in self._cell["units"]:
            view = states.get(unit["name"])
            if view is None or unit["unit_class"] == "laboratory":
                continue
            roles = {point: role for role, point in unit["roles"].items()}
            values = Text("   ").join(Text(f"{roles.get(name, name)} ") + self._shown(frame, name) for name in unit["key"])
            if view.interlocks:
                values.append(f"   interlock {', '.join(view.interlocks)}", style="bold red")
            table.add_row(unit["name"], view.state if view.step else "·", values)
        return table

    def _tags(self, frame: Frame) -> RenderableType:
        """Return the measurements of a cell without units, which only watches."""
        rows = self._inputs()
        table = Table(expand=True, box=None, pad_edge=False)
        table.add_column("Tag")
        table.add_column("Value")
        table.add_column("What it is", ratio=1)
        for place in rows[:_TAGS]:
            point = self._cell["points"][place]
            table.add_row(point["name"], self._shown(frame, point["name"]), Text(point["description"]))
        more = len(rows) - _TAGS
        return Group(table, Text(f"and {more} more tags: see the page", style="dim")) if more > 0 else table

    @staticmethod
    def _alarms(frame: Frame) -> RenderableType:
        if not frame.alarms:
            return Text("No alarms.", style="dim")
        lines = Text()
        for alarm in frame.alarms[:5]:
            mark = {"unacknowledged": "!", "acknowledged": " ", "returned": "~"}[alarm.state]
            lines.append(
                f"{mark} P{alarm.priority} {alarm.name}: {alarm.text}\n",
                style="bold red" if alarm.state == "unacknowledged" and alarm.priority < 3 else "",
            )
        if len(frame.alarms) > 5:
            lines.append(f"  and {len(frame.alarms) - 5} more")
        return lines


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


def _figure(value: float, digits: int, eu: str = "") -> str:
    """Return a value with its eu, or a dash while it is not known."""
    return f"{value:.{digits}f} {eu}".rstrip() if math.isfinite(value) else "—"


def report_text(report: Report) -> RenderableType:
    """Return a batch report for the terminal."""
    head = Text(f"Batch {report.state.id}: {report.state.recipe} version {report.state.version}", style="bold")
    if report.simulated:
        head.append("  (simulated plant)")
    decision = Text(report.decision, style="bold" if report.state.released else "bold red")
    figures = Table(box=None, show_header=False, pad_edge=False)
    balance = report.balance
    figures.add_row("Purity P", _figure(report.purity.value, 2, "%"), report.purity.says)
    figures.add_row("  by metals", _figure(report.metals_purity, 2, "%"), "cross-check")
    figures.add_row("Recovery", _figure(balance.recovery, 1, "%"), f"± {_figure(balance.uncertainty, 1)}, on assays and weights")
    figures.add_row("Dry product", _figure(balance.product_mass, 1, "kg"), _figure(balance.product, 0, f"mol {balance.metals}"))
    figures.add_row("Plant time", _hours(report.duration) if math.isfinite(report.duration) else "—", f"{len(report.entries)} journal entries")
    budget = Text("Budget: " + ", ".join(f"{line.name} {line.points:.3f}" for line in report.purity.budget[:8]) + " wt%")
    reagents = Text("Reagents: " + ", ".join(f"{name} {amount:.4g} {eu}" for name, amount, eu in report.reagents))
    parts: list[RenderableType] = [head, decision, figures, budget, reagents]
    parts += [Text(f"Deviation: {text}", style="yellow") for text in report.state.deviations] or [Text("No deviations.")]
    parts += [Text(note, style="yellow") for note in (*report.notes, *([report.broken] if report.broken else []))]
    return Panel(Group(*parts), title="Batch report", title_align="left")
