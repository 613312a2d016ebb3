"""The frame: a frozen snapshot of one scan, the only thing that the page, the historian and the forwarder ever see.

Everything here is plain data, so that it can cross a process boundary. ``as_json`` gives the form that the page and exports use.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from drivers.tags import FloatArray, Quality, QualityArray, Tag, TagTable, TimeArray

__all__ = [
    "AlarmView",
    "BatchView",
    "BudgetLine",
    "Frame",
    "Point",
    "PointKind",
    "PromptView",
    "PurityView",
    "StepView",
    "UnitView",
    "as_json",
]

PointKind = Literal["input", "output", "setpoint", "mode", "device", "service", "batch"]


@dataclass(frozen=True, slots=True)
class Point(Tag):
    """A tag of the frame: a measurement, an output, a loop's SP or mode, or something the service knows of itself."""

    kind: PointKind = "input"
    unit: str = ""  # the ISA-88 unit it belongs to; empty for the cell's own
    device: str = ""


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of the running procedure. Times are plant clock [s]."""

    path: str  # "leach/digest"
    unit: str
    phase: str
    state: Literal["idle", "running", "held", "done", "failed", "stopped"]
    why: str = ""  # why it waits, in one sentence with the live value
    started: float | None = None
    ended: float | None = None
    limit: float | None = None  # [s] the longest it may take


@dataclass(frozen=True, slots=True)
class PromptView:
    """A question to a person; it waits as long as it takes."""

    id: str
    step: str
    text: str
    role: str
    kind: Literal["confirm", "number", "text"]
    eu: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """What one impurity takes away from purity."""

    name: str
    points: float  # [wt%]
    source: Literal["assay", "estimate"]


@dataclass(frozen=True, slots=True)
class PurityView:
    """Purity P so far (process.md, section 4) with its budget; quality says how much of it is measured."""

    value: float  # [wt%]; NaN while nothing is known
    quality: Quality
    says: str  # where it comes from, in one sentence
    budget: tuple[BudgetLine, ...] = ()
    recovery: float = math.nan  # [%] metals in product over metals charged, on assays


@dataclass(frozen=True, slots=True)
class BatchView:
    """The running batch."""

    id: str
    recipe: str
    version: int
    state: str  # ISA-88 procedural state
    started: float  # [s] plant clock
    ended: float | None
    why: str  # why it is in this state, in one sentence
    steps: tuple[StepView, ...]
    prompts: tuple[PromptView, ...]
    purity: PurityView
    remaining: float | None  # [s] plant time, expected
    deviations: int
    released: bool | None = None  # None until decided


@dataclass(frozen=True, slots=True)
class UnitView:
    """One ISA-88 unit."""

    name: str
    unit_class: str
    state: str  # IDLE, or that of the batch that holds it
    step: str = ""
    why: str = ""
    interlocks: tuple[str, ...] = ()  # those that hold its outputs now


@dataclass(frozen=True, slots=True)
class AlarmView:
    """One alarm that is not normal (ISA-18.2)."""

    name: str
    unit: str
    priority: Literal[1, 2, 3]  # 1 is the highest
    state: Literal["unacknowledged", "acknowledged", "returned"]
    text: str  # what, with the value and its eu
    cause: str
    consequence: str
    action: str
    since: float  # [s] plant clock


@dataclass(frozen=True, slots=True)
class Frame:
    """One scan. Arrays are shape (n,), in the order of the cell's points, and are never changed afterwards."""

    boot: int  # which start of the service
    seq: int  # counts scans of that start, from 0
    time: float  # [s] plant clock, since 1970-01-01 UTC
    wall: int  # [ns] wall clock, UTC; 0 in lockstep
    value: FloatArray  # [eu of each]; NaN where BAD
    quality: QualityArray
    source_time: TimeArray
    receive_time: TimeArray
    state: str = "IDLE"  # of the procedure
    commands: tuple[tuple[str, str], ...] = ()  # (verb, "" or why it is not valid now), every verb
    batch: BatchView | None = None
    units: tuple[UnitView, ...] = ()
    alarms: tuple[AlarmView, ...] = ()

    def point(self, points: TagTable, name: str) -> float:
        """Return one value [its eu]; NaN where BAD."""
        return float(self.value[points.place(name)])


def as_json(part: Any) -> Any:
    """Return dataclasses and arrays as dicts and lists; a value that is not finite becomes None."""
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return {entry.name: as_json(getattr(part, entry.name)) for entry in dataclasses.fields(part)}
    if isinstance(part, tuple | list):
        return [as_json(inner) for inner in part]
    if isinstance(part, dict):
        return {key: as_json(inner) for key, inner in part.items()}
    if isinstance(part, float):
        return float(part) if math.isfinite(part) else None  # a numpy scalar is a float that JSON does not take
    if hasattr(part, "tolist"):
        return as_json(part.tolist())
    return part
