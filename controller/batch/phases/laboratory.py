"""Grab samples: ask the analyser, wait for its answer, record it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from controller.batch.phase import Phase, PhaseFailed, Steps, register
from controller.core.equipment import UnitView
from recipes.model import ParameterSpec, PhaseSpec

__all__ = ["ELEMENTS", "POINTS", "Assay"]

POINTS = {
    "black_mass": 1,
    "leach_tank": 2,
    "clear_liquor": 3,
    "reactor_solids": 4,
    "dry_product": 5,
    "leach_cake": 6,
    "purification_cake": 7,
    "crystalliser": 8,
    "crystals": 9,
    "mother_liquor": 10,
}
ELEMENTS = ("ni", "co", "mn", "li", "na", "k", "ca", "mg", "al", "fe", "cu", "zn", "pb", "si", "s", "f", "cl", "c", "acid_insolubles")
_OTHERS = {"moisture": "%", "density": "kg/m3", "d10": "um", "d50": "um", "d90": "um", "tap_density": "g/cm3"}


@register
@dataclass
class Assay(Phase):
    """Take a sample at a point of the process and record every result of the analyser."""

    spec: ClassVar = PhaseSpec(
        "assay",
        {"point": ParameterSpec("text", choices=tuple(POINTS), say="where the sample is taken")},
        needs=("point", "request", "answered", "source"),
        records={**dict.fromkeys(ELEMENTS, "mg/kg"), **_OTHERS},
        say="takes a sample and waits for its results",
    )
    point: str

    def running(self, unit: UnitView) -> Steps:
        """Set the sample point, then a new sample number; wait until the analyser answers that number."""
        point = float(POINTS[self.point])
        if "number" not in self.progress:
            self.progress["number"] = float((int(unit.good("request")) + 1) % 65536)
            self.progress["since"] = unit.now
        number = float(self.progress["number"])
        while unit.good("point") != point:  # first the point, so that the number never starts a sample elsewhere
            unit.request("point", point)
            unit.request("request", (number - 1) % 65536)
            yield f"waits for the analyser to take sample point {self.point}"
        while unit.good("answered") != number or unit.good("source") != point:
            unit.request("point", point)
            unit.request("request", number)
            yield f"waits for sample {number:.0f} ({self.point}), {(unit.now - self.progress['since']) / 60:.0f} min under way"
        while doubtful := [name for name in (*ELEMENTS, *_OTHERS) if not unit.trusted(name)]:
            yield f"waits for results that are GOOD; not so: {', '.join(doubtful[:4])}"
        for name in (*ELEMENTS, *_OTHERS):
            self.keep(name, unit.good(name))
        if sum(self.records[f"{self.record}.{name}"] for name in ("ni", "co", "mn", "li")) <= 0.0:
            self.progress.clear()  # a restart takes another sample
            raise PhaseFailed(f"sample {number:.0f} of {self.point} holds no Ni, Co, Mn or Li (0 mg/kg). Check the sample point and take it again.")
