"""What a batch remembers: plain data that survives a restart of the service, and the events it leaves in the journal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from controller.core.states import State

__all__ = ["BatchState", "Event", "StepRecord", "StepState"]

StepState = Literal["idle", "running", "held", "done", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal: what changed, from what to what, by whom and why."""

    kind: Literal["batch", "step", "command", "prompt", "alarm", "interlock", "record", "deviation", "link", "device", "write", "service"]
    name: str
    old: str = ""
    new: str = ""
    who: str = "blackmass"
    why: str = ""


@dataclass(slots=True)
class StepRecord:
    """One step: where it stands, and all that it has achieved."""

    state: StepState = "idle"
    started: float | None = None  # [s] plant clock
    ended: float | None = None
    active: float = 0.0  # [s] plant time in RUNNING; a hold does not count
    extended: float = 0.0  # [s] added to its limit by a restart
    held: float = 0.0  # [s] of the present hold
    progress: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)  # since when the timed conditions of `until` hold
    resume: dict[str, float] = field(default_factory=dict)
    issued: dict[str, tuple[float, float | None]] = field(default_factory=dict)  # role: (value or setpoint, ramp) of its last scan


@dataclass(slots=True)
class BatchState:
    """A batch, whole. ``to_json`` and ``from_json`` are exact inverses."""

    id: str
    recipe: str
    version: int
    sha256: str
    formula: dict[str, float]
    units: dict[str, str]  # the recipe's name: the unit's
    started: float
    lot: str = ""
    state: State = State.RUNNING
    why: str = ""
    ended: float | None = None
    steps: dict[str, StepRecord] = field(default_factory=dict)
    groups: dict[str, float] = field(default_factory=dict)  # [s] plant time that groups with a limit have taken
    watches: dict[str, dict[str, float]] = field(default_factory=dict)
    records: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)  # amounts that went through each output since the start
    deviations: list[str] = field(default_factory=list)
    released: bool | None = None
    confirmed: bool = True  # False after a restart of the service, until a person restarts the batch: nothing is kept running

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BatchState:
        """Return the batch that `to_json` wrote."""
        fields = dict(data)
        fields["state"] = State(fields["state"])
        fields["steps"] = {path: StepRecord(**record) for path, record in fields["steps"].items()}
        for record in fields["steps"].values():
            record.issued = {role: (row[0], row[1]) for role, row in record.issued.items()}
        return cls(**fields)
