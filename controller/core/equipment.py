"""What a phase may see and ask of the equipment: one `UnitView` a unit, all of them over one `Bench` that a scan fills."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from controller.core.plan import CellPlan, Role, UnitPlan
from drivers.tags import FloatArray, Quality, QualityArray

__all__ = ["Bench", "NotGood", "UnitView"]


_BAD = int(Quality.BAD)


class NotGood(Exception):
    """A phase needs a value that is BAD; its unit holds."""


@dataclass(slots=True)
class Bench:
    """The workspace of one scan: what was measured, and what is asked for. A request lasts one scan."""

    plan: CellPlan
    now: float = 0.0  # [s] plant clock
    dt: float = 0.1  # [s] plant time since the last scan
    values: FloatArray = field(default_factory=lambda: np.zeros(0))  # inputs
    quality: QualityArray = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    loop_sp: FloatArray = field(default_factory=lambda: np.zeros(0))  # working setpoints of the last scan
    loop_on: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    asked: FloatArray = field(default_factory=lambda: np.zeros(0))  # (m,) NaN: nobody asks
    target: FloatArray = field(default_factory=lambda: np.zeros(0))  # (n,) setpoint wanted; NaN: released
    ramp: FloatArray = field(default_factory=lambda: np.zeros(0))  # (n,) [eu/s]

    def begin(self, now: float, dt: float, values: FloatArray, quality: QualityArray, loop_sp: FloatArray, loop_on: np.ndarray) -> None:
        """Start a scan: forget what the last one asked for."""
        self.now, self.dt, self.values, self.quality, self.loop_sp, self.loop_on = now, dt, values, quality, loop_sp, loop_on
        self.asked = np.full(len(self.plan.outputs), np.nan)
        self.target = np.full(len(loop_sp), np.nan)
        self.ramp = np.full(len(loop_sp), np.inf)

    def setpoints(self) -> FloatArray:
        """Return the working setpoints (n,) of this scan: each moves toward its target by at most its ramp."""
        rows = self.plan.loops
        ramped = np.isfinite(self.ramp)
        if not np.count_nonzero(ramped):
            direct: FloatArray = np.minimum(np.maximum(self.target, rows.sp_low), rows.sp_high)
            return direct
        pv = self.values[rows.pv]
        start = np.where(self.loop_on & np.isfinite(self.loop_sp), self.loop_sp, pv)
        start = np.where(np.isfinite(start), start, self.target)
        step = np.where(ramped, self.ramp, 0.0) * self.dt
        moved = start + np.minimum(np.maximum(self.target - start, -step), step)
        limited: FloatArray = np.minimum(np.maximum(np.where(ramped, moved, self.target), rows.sp_low), rows.sp_high)
        return limited


class UnitView:
    """One unit, as its phases see it: roles in, requests out."""

    def __init__(self, unit: UnitPlan, bench: Bench) -> None:
        self.unit = unit
        self.bench = bench
        self.issued: dict[str, tuple[float, float]] = {}  # role: (value or setpoint, ramp) of this scan, for a hold to keep

    @property
    def name(self) -> str:
        """The unit's name in the cell."""
        return self.unit.name

    @property
    def now(self) -> float:
        """Plant clock [s]."""
        return self.bench.now

    @property
    def dt(self) -> float:
        """Plant time since the last scan [s]."""
        return self.bench.dt

    def role(self, name: str) -> Role:
        """Return what a role is bound to."""
        return self.unit.roles[name]

    def value(self, role: str) -> float:
        """Return the measured value of a role [its eu]; NaN if it is BAD."""
        return float(self.bench.values[self.unit.roles[role].measured])

    def good(self, role: str) -> float:
        """Return the measured value of a role [its eu]; raise `NotGood` if it is BAD, so that the unit holds."""
        bound = self.unit.roles[role]
        if self.bench.quality[bound.measured] == _BAD:
            tag = self.bench.plan.inputs[bound.measured].name
            raise NotGood(f"{self.unit.name} {role} ({tag}) is BAD; check its device and its range")
        return float(self.bench.values[bound.measured])

    def trusted(self, role: str) -> bool:
        """Return whether the measured value of a role is GOOD; raise `NotGood` if it is BAD."""
        self.good(role)
        return int(self.bench.quality[self.unit.roles[role].measured]) == 0

    def request(self, role: str, value: float) -> None:
        """Ask for an output [eu of the role] in this scan; raise `ValueError` for what is not finite or outside its range."""
        place = self.unit.roles[role].output
        tag = self.bench.plan.outputs[place]
        if not tag.low <= value <= tag.high:  # false for NaN too
            raise ValueError(f"{self.unit.name} {role} ({tag.name}): {value:g} {tag.eu} is outside {tag.low:g} to {tag.high:g} {tag.eu}")
        self.bench.asked[place] = value
        self.issued[role] = (value, np.inf)

    def control(self, role: str, setpoint: float, ramp: float = np.inf) -> None:
        """Ask a loop to control at `setpoint` [eu of the role] in this scan, moving there by at most `ramp` [eu/s]."""
        place = self.unit.roles[role].loop
        rows = self.bench.plan.loops
        if not rows.sp_low[place] <= setpoint <= rows.sp_high[place]:
            tag = self.bench.plan.inputs[int(rows.pv[place])]
            raise ValueError(
                f"{rows.names[place]}: setpoint {setpoint:g} {tag.eu} is outside {rows.sp_low[place]:g} to {rows.sp_high[place]:g} {tag.eu}"
            )
        self.bench.target[place] = setpoint
        self.bench.ramp[place] = ramp
        self.issued[role] = (setpoint, ramp)

    def rest(self, role: str) -> float:
        """Return the safe value of an output role [its eu]."""
        place = self.unit.roles[role].output
        safe = float(self.bench.plan.safe[place])
        return safe if np.isfinite(safe) else float(self.bench.values[self.bench.plan.readback[place]])
