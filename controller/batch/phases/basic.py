"""Phases that hold, control, dose, follow and wait: nothing in them knows chemistry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from controller.batch.phase import Phase, Steps, register
from controller.core.equipment import UnitView
from drivers import eu
from recipes.model import ParameterSpec, PhaseSpec

__all__ = ["Control", "Dose", "Follow", "Keep", "Wait", "last_rate", "passed"]


def passed(unit: UnitView, flow: str) -> float:
    """Return the amount [eu of the flow times its time] that was measured to pass since the last scan; 0 while it is not known."""
    value = unit.value(flow)
    if not value > 0.0:  # false for NaN
        return 0.0
    return value * unit.dt * eu.convert(1.0, "s", unit.role(flow).eu.partition("/")[2])


def last_rate(rate: float, left: float, span: float) -> float:
    """Return the rate that doses at most what is `left` in the next scan; `span` is its length [time of the rate's eu], 0 if the clock stands."""
    return min(rate, left / span) if span > 0.0 else rate


@register
@dataclass
class Keep(Phase):
    """Hold one output at a value until the step's `until`."""

    spec: ClassVar = PhaseSpec(
        "keep",
        {
            "output": ParameterSpec("role", roles=("output",), say="the output"),
            "at": ParameterSpec("quantity", eu="role:output", say="its value"),
        },
        ends=False,
        say="holds an output at a value",
    )
    output: str
    at: float

    def running(self, unit: UnitView) -> Steps:
        """Ask for the value in every scan; never ends by itself."""
        while True:
            unit.request(self.output, self.at)
            yield ""


@register
@dataclass
class Control(Phase):
    """Control one loop at a setpoint until the step's `until`."""

    spec: ClassVar = PhaseSpec(
        "control",
        {
            "loop": ParameterSpec("role", roles=("loop",), say="the loop"),
            "sp": ParameterSpec("quantity", eu="role:loop", say="its setpoint"),
            "ramp": ParameterSpec("quantity", eu="rate:loop", required=False, default=None, low=0.0, say="how fast the setpoint may move"),
        },
        ends=False,
        say="controls a loop at a setpoint",
    )
    loop: str
    sp: float
    ramp: float | None = None  # [eu/s]

    def running(self, unit: UnitView) -> Steps:
        """Ask for the setpoint in every scan; never ends by itself."""
        while True:
            unit.good(self.loop)  # a loop without its measurement would stay where it is, for hours
            unit.control(self.loop, self.sp, math.inf if self.ramp is None else self.ramp)
            yield ""


@register
@dataclass
class Dose(Phase):
    """Dose a total through one flow, counted by what was measured, not by what was asked for."""

    spec: ClassVar = PhaseSpec(
        "dose",
        {
            "flow": ParameterSpec("role", roles=("output",), say="the flow"),
            "rate": ParameterSpec("quantity", eu="role:flow", low=0.0, say="at this rate"),
            "total": ParameterSpec("quantity", eu="integral:flow", low=0.0, say="until this much has passed"),
        },
        records={"amount": "integral:flow"},
        say="doses an amount",
    )
    flow: str
    rate: float
    total: float

    def running(self, unit: UnitView) -> Steps:
        """Ask for the rate, slower in the last scan so that it ends on the spot."""
        flow_eu = unit.role(self.flow).eu
        amount, _, time = flow_eu.partition("/")
        while (dosed := self.progress.setdefault("dosed", 0.0)) < self.total * (1.0 - 1e-3):
            measured = unit.good(self.flow)
            unit.request(self.flow, last_rate(self.rate, self.total - dosed, unit.dt * eu.convert(1.0, "s", time)))
            yield f"waits for {self.flow}, {dosed:.4g} of {self.total:.4g} {amount}, now {measured:.3g} {flow_eu}"
        self.keep("amount", self.progress["dosed"])

    def count(self, unit: UnitView) -> None:
        """Add what has passed since the last scan."""
        self.progress["dosed"] = self.progress.get("dosed", 0.0) + passed(unit, self.flow)


@register
@dataclass
class Follow(Phase):
    """Keep one flow in ratio to the measured value of another, until the step's `until`."""

    spec: ClassVar = PhaseSpec(
        "ratio",
        {
            "flow": ParameterSpec("role", roles=("output",), say="the flow that follows"),
            "to": ParameterSpec("role", roles=("output", "measurement"), say="the flow that leads"),
            "ratio": ParameterSpec("quantity", eu="", low=0.0, say="follower over leader"),
        },
        ends=False,
        say="keeps a flow in ratio to another",
    )
    flow: str
    to: str
    ratio: float

    def running(self, unit: UnitView) -> Steps:
        """Ask for ratio times the leader, at most the follower's range."""
        high = unit.bench.plan.outputs[unit.role(self.flow).output].high
        while True:
            unit.request(self.flow, min(self.ratio * max(unit.good(self.to), 0.0), high))
            yield ""


@register
@dataclass
class Wait(Phase):
    """Wait for a time on the plant clock; time in HOLD does not count."""

    spec: ClassVar = PhaseSpec("wait", {"time": ParameterSpec("quantity", eu="s", low=0.0, say="how long")}, say="waits for a time")
    time: float  # [s]

    def running(self, unit: UnitView) -> Steps:
        """Count the scans in which it ran."""
        while (waited := self.progress.setdefault("waited", 0.0)) < self.time:
            yield f"waits for {(self.time - waited) / 60:.0f} of {self.time / 60:.0f} min"
            self.progress["waited"] = waited + unit.dt
