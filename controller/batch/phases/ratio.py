"""Bring Ni:Co:Mn of a liquor to the product's ratio with sulfate solutions, after an assay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from controller.batch.phase import Phase, PhaseFailed, Steps, register
from controller.batch.phases.basic import last_rate, passed
from controller.core.equipment import UnitView
from controller.purity.composition import MOLAR_MASS
from recipes.model import ParameterSpec, PhaseSpec

__all__ = ["AdjustRatio", "additions"]

METALS = ("ni", "co", "mn")
SALT = 2.0  # [mol/L] of the three sulfate solutions
AT_MOST = 0.25  # of the product's metals may come from salts; a target further away is another product


def additions(held: dict[str, float], target: dict[str, float]) -> dict[str, float]:
    """Return the least amounts [mol] of each metal that bring `held` [mol] to the mole fractions `target`.

    The metal of which there is most, measured by its target, is not added to and sets the scale.
    """
    scale = max(held[metal] / target[metal] for metal in METALS if target[metal] > 0.0)
    return {metal: max(scale * target[metal] - held[metal], 0.0) for metal in METALS}


@register
@dataclass
class AdjustRatio(Phase):
    """Dose nickel, cobalt and manganese sulfate until the liquor has the product's ratio."""

    spec: ClassVar = PhaseSpec(
        "adjust_ratio",
        {
            "assay": ParameterSpec("record", say="the record of the liquor's assay"),
            "nickel": ParameterSpec("quantity", eu="", low=0.0, high=1.0, say="mole fraction wanted"),
            "cobalt": ParameterSpec("quantity", eu="", low=0.0, high=1.0, say="mole fraction wanted"),
            "manganese": ParameterSpec("quantity", eu="", low=0.0, high=1.0, say="mole fraction wanted"),
            "rate": ParameterSpec("quantity", eu="L/min", low=0.0, high=20.0, say="of each solution"),
        },
        needs=("volume", "nickel", "cobalt", "manganese"),
        records={"added_ni": "mol", "added_co": "mol", "added_mn": "mol", "metals": "mol/L"},
        say="brings the liquor to the product's ratio",
    )
    assay: str
    nickel: float
    cobalt: float
    manganese: float
    rate: float

    def running(self, unit: UnitView) -> Steps:
        """Work the additions out once, then dose them by what was measured."""
        if "litres" not in self.progress:
            self._plan(unit)
        litres: dict[str, float] = self.progress["litres"]
        dosed: dict[str, float] = self.progress["dosed"]
        while waiting := {role: total for role, total in litres.items() if dosed[role] < total * (1.0 - 1e-3)}:
            for role, total in waiting.items():
                unit.request(role, last_rate(self.rate, total - dosed[role], unit.dt / 60.0))  # L/min
            yield "waits for " + ", ".join(f"{role} {dosed[role]:.1f} of {total:.1f} L" for role, total in waiting.items())
            for role in waiting:
                unit.good(role)

    def count(self, unit: UnitView) -> None:
        """Add what has passed of each solution since the last scan."""
        for role in self.progress.get("dosed", {}):
            self.progress["dosed"][role] += passed(unit, role)

    def _plan(self, unit: UnitView) -> None:
        volume = unit.good("volume")  # [m3]
        density = self.records.get(f"{self.assay}.density", float("nan"))  # [kg/m3]
        try:
            held = {metal: self.records[f"{self.assay}.{metal}"] * 1e-3 * density * volume / MOLAR_MASS[metal] for metal in METALS}
        except KeyError as missing:
            raise PhaseFailed(f"adjust_ratio: no record {missing}; take the assay {self.assay!r} of the liquor first") from None
        if not density > 0.0 or not sum(held.values()) > 0.0:
            raise PhaseFailed(
                f"adjust_ratio: the assay {self.assay!r} has density {density:g} kg/m3 and {sum(held.values()):.3g} mol of metals; take it again"
            )
        given = {"ni": self.nickel, "co": self.cobalt, "mn": self.manganese}
        whole = sum(given.values())
        target = {metal: part / whole for metal, part in given.items()}
        wanted = additions(held, target)
        share = sum(wanted.values()) / (sum(wanted.values()) + sum(held.values()))
        if share > AT_MOST:
            ratio = ":".join(f"{held[metal] / sum(held.values()):.2f}" for metal in METALS)
            raise PhaseFailed(
                f"adjust_ratio: {share:.0%} of the product's metals would have to be added as salts, at most {AT_MOST:.0%}; "
                f"the liquor is Ni:Co:Mn {ratio}. Choose the product nearest to it."
            )
        roles = {"nickel": "ni", "cobalt": "co", "manganese": "mn"}
        self.progress["litres"] = {role: wanted[metal] / SALT for role, metal in roles.items()}
        self.progress["dosed"] = dict.fromkeys(roles, 0.0)
        added = sum(self.progress["litres"].values()) * 1e-3  # [m3]
        for metal in METALS:
            self.keep(f"added_{metal}", wanted[metal])
        self.keep("metals", (sum(held.values()) + sum(wanted.values())) / ((volume + added) * 1e3))
