"""Purity P and recovery from assays: the formula of the product's specification, and nothing else.

P = 100 - (2.996 S + Na + K + Li + Cl + F + 2.40 Mg + 1.85 Ca + 2.89 Al + 1.91 Fe + 1.535 Cu + 1.52 Zn + 2.14 Si + C + acid insolubles),
all in wt% of the dry product.
Each factor is the mass of the compound that the element stands for over that of the element: S as SO4, Mg to Zn as hydroxides, Si as SiO2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["BUDGET", "MOLAR_MASS", "assay_purity", "budget", "metals", "purity", "ratio"]

MOLAR_MASS = {
    "ni": 58.6934,
    "co": 58.9332,
    "mn": 54.9380,
    "li": 6.94,
    "na": 22.9898,
    "s": 32.06,
    "al": 26.9815,
    "fe": 55.845,
    "cu": 63.546,
}  # [g/mol] IUPAC 2021
HYDROXIDE = 34.015  # [g/mol] of the two OH of M(OH)2
PRODUCT_METALS = 10.82  # [mol/kg] Ni+Co+Mn in pure M(OH)2 of 92.4 g/mol; 811 to 111 differ by 1 %

# element: [wt% of the compound per wt% of the element]
BUDGET = {
    "s": 2.996, "na": 1.0, "k": 1.0, "li": 1.0, "cl": 1.0, "f": 1.0, "mg": 2.40, "ca": 1.85, "al": 2.89, "fe": 1.91,
    "cu": 1.535, "zn": 1.52, "si": 2.14, "c": 1.0, "acid_insolubles": 1.0,
}  # fmt: skip


def budget(assay: Mapping[str, float]) -> dict[str, float]:
    """Return what each impurity takes away [wt%]; `assay` in [mg/kg] dry. A missing element is NaN: not measured is not zero."""
    return {name: factor * assay.get(name, math.nan) * 1e-4 for name, factor in BUDGET.items()}


def purity(assay: Mapping[str, float]) -> float:
    """Return P [wt%] of a dry product; NaN unless every element of the budget was measured."""
    return 100.0 - sum(budget(assay).values())


def assay_purity(assay: Mapping[str, float]) -> float:
    """Return the cross-check [wt%]: the hydroxides of the metals that were measured."""
    return sum(assay.get(metal, math.nan) * 1e-4 * (MOLAR_MASS[metal] + HYDROXIDE) / MOLAR_MASS[metal] for metal in ("ni", "co", "mn"))


def metals(assay: Mapping[str, float]) -> float:
    """Return Ni+Co+Mn [mol/kg]."""
    return sum(assay.get(metal, math.nan) * 1e-3 / MOLAR_MASS[metal] for metal in ("ni", "co", "mn"))


def ratio(assay: Mapping[str, float]) -> dict[str, float]:
    """Return the mole fractions of Ni, Co and Mn among themselves."""
    whole = metals(assay)
    return {metal: assay.get(metal, math.nan) * 1e-3 / MOLAR_MASS[metal] / whole if whole else math.nan for metal in ("ni", "co", "mn")}
