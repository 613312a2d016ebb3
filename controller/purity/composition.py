"""Purity P and recovery from assays: the formula of the product's specification, and nothing else.

P of a hydroxide = 100 - (2.996 S + Na + K + Li + Cl + F + 2.40 Mg + 1.85 Ca + 2.89 Al + 1.91 Fe + 1.535 Cu + 1.52 Zn + 2.14 Si + C
+ acid insolubles), all in wt% of the dry product. P of lithium carbonate likewise: its own C and Li are no impurity, Mg and Ca are carbonates,
Ni, Co, Mn and Pb are counted too.
Each factor is the mass of the compound that the element stands for over that of the element: S as SO4, Mg to Zn as hydroxides, Si as SiO2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CARBONATE", "HYDROXIDE", "MOLAR_MASS", "PRODUCTS", "Product", "ratio"]

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


@dataclass(frozen=True)
class Product:
    """A kind of product: what is counted as recovered, and what takes from its purity. Assays are in [mg/kg] dry."""

    name: str
    metals: tuple[str, ...]  # that recovery counts
    compound: float  # [g/mol of metal] that comes to each metal in the product
    amount: float  # [mol/kg] of the metals in the pure product
    factors: Mapping[str, float]  # element: [wt% of the compound per wt% of the element]
    follow: tuple[str, ...] = ()  # impurities of the liquor that end in the product in full

    @property
    def label(self) -> str:
        """The metals as a chemist writes them."""
        return "+".join(metal.capitalize() for metal in self.metals)

    def budget(self, assay: Mapping[str, float]) -> dict[str, float]:
        """Return what each impurity takes away [wt%]. A missing element is NaN: not measured is not zero."""
        return {name: factor * assay.get(name, math.nan) * 1e-4 for name, factor in self.factors.items()}

    def purity(self, assay: Mapping[str, float]) -> float:
        """Return P [wt%] of a dry product; NaN unless every element of the budget was measured."""
        return 100.0 - sum(self.budget(assay).values())

    def assay_purity(self, assay: Mapping[str, float]) -> float:
        """Return the cross-check [wt%]: the product's compounds by the metals that were measured."""
        return sum(assay.get(metal, math.nan) * 1e-4 * (MOLAR_MASS[metal] + self.compound) / MOLAR_MASS[metal] for metal in self.metals)

    def moles(self, assay: Mapping[str, float]) -> float:
        """Return the amount of its metals together [mol/kg]."""
        return sum(assay.get(metal, math.nan) * 1e-3 / MOLAR_MASS[metal] for metal in self.metals)


HYDROXIDE = Product(
    "hydroxide",
    ("ni", "co", "mn"),
    34.015,  # two OH
    10.82,  # M(OH)2 of 92.4 g/mol; 811 to 111 differ by 1 %
    {
        "s": 2.996, "na": 1.0, "k": 1.0, "li": 1.0, "cl": 1.0, "f": 1.0, "mg": 2.40, "ca": 1.85, "al": 2.89, "fe": 1.91,
        "cu": 1.535, "zn": 1.52, "si": 2.14, "c": 1.0, "acid_insolubles": 1.0,
    },
    ("al", "fe", "cu", "zn", "mg", "ca"),
)  # fmt: skip
CARBONATE = Product(
    "carbonate",
    ("li",),
    30.005,  # half a CO3
    27.07,  # Li2CO3 of 73.89 g/mol
    {
        "s": 2.996, "na": 1.0, "k": 1.0, "cl": 1.0, "f": 1.0, "mg": 3.47, "ca": 2.50, "al": 2.89, "fe": 1.91, "cu": 1.535, "zn": 1.52,
        "ni": 1.58, "co": 1.577, "mn": 1.619, "pb": 1.164, "si": 2.14, "acid_insolubles": 1.0,
    },
)  # fmt: skip
PRODUCTS = {product.name: product for product in (HYDROXIDE, CARBONATE)}


def ratio(assay: Mapping[str, float]) -> dict[str, float]:
    """Return the mole fractions of Ni, Co and Mn among themselves."""
    whole = HYDROXIDE.moles(assay)
    return {metal: assay.get(metal, math.nan) * 1e-3 / MOLAR_MASS[metal] / whole if whole else math.nan for metal in HYDROXIDE.metals}
