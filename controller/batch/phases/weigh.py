"""Record what a measurement reads now: a weight, a volume, a temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from controller.batch.phase import Phase, Steps, register
from controller.core.equipment import UnitView
from recipes.model import ParameterSpec, PhaseSpec

__all__ = ["Record"]

_SPAN = 30.0  # [s] plant time over which it is averaged: a load cell is noisy


@register
@dataclass
class Record(Phase):
    """Average a measurement for half a minute and record it as ``<record>.value``."""

    spec: ClassVar = PhaseSpec(
        "record",
        {"of": ParameterSpec("role", roles=("measurement", "output", "loop"), say="the measurement")},
        records={"value": "role:of"},
        say="records a measurement, averaged",
    )
    of: str

    def running(self, unit: UnitView) -> Steps:
        """Sum in every scan, then record the mean [eu of the role]."""
        while self.progress.setdefault("time", 0.0) < _SPAN:
            self.progress["sum"] = self.progress.get("sum", 0.0) + unit.good(self.of) * unit.dt
            self.progress["time"] += unit.dt
            yield f"averages {self.of}, now {unit.value(self.of):.4g} {unit.role(self.of).eu}"
        self.keep("value", self.progress["sum"] / self.progress["time"])
