"""Dose soda for the lithium of a liquor, after its assay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from controller.batch.phase import Phase, PhaseFailed, Steps, register
from controller.batch.phases.basic import last_rate, passed
from controller.core.equipment import UnitView
from controller.purity.composition import MOLAR_MASS
from recipes.model import ParameterSpec, PhaseSpec

__all__ = ["DoseSoda"]

SODA = 3.7  # [mol/L] of Na2CO3 in the 30 % solution


@register
@dataclass
class DoseSoda(Phase):
    """Dose Na2CO3 for 2 Li+ + CO3-- = Li2CO3, `excess` times what the assay's lithium needs."""

    spec: ClassVar = PhaseSpec(
        "dose_soda",
        {
            "assay": ParameterSpec("record", say="the record of the liquor's assay"),
            "excess": ParameterSpec("quantity", eu="", low=0.5, high=2.0, say="soda over what the lithium needs"),
            "rate": ParameterSpec("quantity", eu="L/min", low=0.0, high=20.0, say="of the soda solution"),
        },
        needs=("volume", "soda"),
        records={"amount": "L", "lithium": "mol"},
        say="doses soda for the lithium of an assay",
    )
    assay: str
    excess: float
    rate: float

    def running(self, unit: UnitView) -> Steps:
        """Work the amount out once, then dose it by what was measured."""
        if "litres" not in self.progress:
            self._plan(unit)
        litres: float = self.progress["litres"]
        while (dosed := self.progress.setdefault("dosed", 0.0)) < litres * (1.0 - 1e-3):
            measured = unit.good("soda")
            unit.request("soda", last_rate(self.rate, litres - dosed, unit.dt / 60.0))  # L/min
            yield f"waits for soda, {dosed:.4g} of {litres:.4g} L, now {measured:.3g} L/min"
        self.keep("amount", self.progress["dosed"])

    def count(self, unit: UnitView) -> None:
        """Add what has passed since the last scan."""
        if "litres" in self.progress:
            self.progress["dosed"] = self.progress.get("dosed", 0.0) + passed(unit, "soda")

    def _plan(self, unit: UnitView) -> None:
        volume = unit.good("volume")  # [m3]
        share, density = (self.records.get(f"{self.assay}.{name}", float("nan")) for name in ("li", "density"))  # [mg/kg], [kg/m3]
        lithium = share * 1e-3 * density * volume / MOLAR_MASS["li"]
        if not lithium > 0.0:  # false for NaN
            raise PhaseFailed(
                f"dose_soda: the assay {self.assay!r} has {share:.4g} mg/kg Li at {density:.4g} kg/m3 in {volume:.3g} m3; "
                "take the assay of the crystalliser's liquor again"
            )
        self.progress["litres"] = self.excess * 0.5 * lithium / SODA
        self.keep("lithium", lithium)
