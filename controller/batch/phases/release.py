"""The release decision: the product's assay against its specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from controller.batch.phase import Phase, PhaseFailed, Steps, register
from controller.core.equipment import UnitView
from controller.purity.composition import assay_purity, purity
from controller.purity.specification import Specification, judge
from recipes.model import ParameterSpec, PhaseSpec

__all__ = ["Release"]


@register
@dataclass
class Release(Phase):
    """Decide on the lot. A lot that fails is not an error of the batch: it ends complete, and not released."""

    spec: ClassVar = PhaseSpec(
        "release",
        {
            "assay": ParameterSpec("record", say="the record of the product's assay"),
            "nickel": ParameterSpec("quantity", eu="", low=0.0, high=1.0, say="mole fraction wanted"),
            "cobalt": ParameterSpec("quantity", eu="", low=0.0, high=1.0, say="mole fraction wanted"),
            "manganese": ParameterSpec("quantity", eu="", low=0.0, high=1.0, say="mole fraction wanted"),
        },
        records={"purity": "%", "purity_by_metals": "%", "released": ""},
        say="decides whether the lot is released",
    )
    assay: str
    nickel: float
    cobalt: float
    manganese: float

    def running(self, unit: UnitView) -> Steps:
        """Judge the assay by the recipe's specification and record every finding."""
        prefix = f"{self.assay}."
        assay = {name.removeprefix(prefix): value for name, value in self.records.items() if name.startswith(prefix)}
        specification = self.context.get("specification")
        if not assay or not isinstance(specification, Specification):
            raise PhaseFailed(f"release: no record {self.assay!r} or no specification; take the product's assay before this step")
        target = {"ni": self.nickel, "co": self.cobalt, "mn": self.manganese}
        findings = judge(specification, assay, target)
        self.keep("purity", purity(assay))
        self.keep("purity_by_metals", assay_purity(assay))
        self.keep("released", float(all(finding.passed for finding in findings)))
        self.progress["findings"] = [[f.name, f.value, f.eu, f.limit, f.passed] for f in findings]
        self.progress["failed"] = [str(finding) for finding in findings if not finding.passed]
        yield from ()
