"""The release decision: the product's assay against its specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from controller.batch.phase import Phase, PhaseFailed, Steps, register
from controller.core.equipment import UnitView
from controller.purity.composition import PRODUCTS
from controller.purity.specification import Specification, judge
from recipes.model import ParameterSpec, PhaseSpec

__all__ = ["Release"]

_FRACTION = "mole fraction wanted, where the specification has a ratio"


@register
@dataclass
class Release(Phase):
    """Decide on the lot. A lot that fails is not an error of the batch: it ends complete, and not released."""

    spec: ClassVar = PhaseSpec(
        "release",
        {
            "assay": ParameterSpec("record", say="the record of the product's assay"),
            "nickel": ParameterSpec("quantity", eu="", required=False, low=0.0, high=1.0, say=_FRACTION),
            "cobalt": ParameterSpec("quantity", eu="", required=False, low=0.0, high=1.0, say=_FRACTION),
            "manganese": ParameterSpec("quantity", eu="", required=False, low=0.0, high=1.0, say=_FRACTION),
        },
        records={"purity": "%", "purity_by_metals": "%", "released": ""},
        say="decides whether the lot is released",
    )
    assay: str
    nickel: float | None = None
    cobalt: float | None = None
    manganese: float | None = None

    def running(self, unit: UnitView) -> Steps:
        """Judge the assay by the recipe's specification and record every finding."""
        prefix = f"{self.assay}."
        assay = {name.removeprefix(prefix): value for name, value in self.records.items() if name.startswith(prefix)}
        specification = self.context.get("specification")
        if not assay or not isinstance(specification, Specification):
            raise PhaseFailed(f"release: no record {self.assay!r} or no specification; take the product's assay before this step")
        given = {"ni": self.nickel, "co": self.cobalt, "mn": self.manganese}
        target = {metal: part for metal, part in given.items() if part is not None}
        if specification.ratio is not None and not (len(target) == len(given) and sum(target.values()) > 0.0):
            raise PhaseFailed(f"release: {specification.title!r} has a ratio; give nickel, cobalt and manganese, at least one above 0")
        product = PRODUCTS[specification.product]
        findings = judge(specification, assay, target)
        self.keep("purity", product.purity(assay))
        self.keep("purity_by_metals", product.assay_purity(assay))
        self.keep("released", float(all(finding.passed for finding in findings)))
        self.progress["findings"] = [[f.name, f.value, f.eu, f.limit, f.passed] for f in findings]
        self.progress["failed"] = [str(finding) for finding in findings if not finding.passed]
        yield from ()
