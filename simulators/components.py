"""Components of every liquor and solid: their order, masses, volumes and charges, and what one litre of each reagent holds.

An inventory is a vector of shape (NC,): mol of each component, but kg for water. H+ is not a component: it follows from electroneutrality,
so NaOH is carried as Na + H2O - H+ and sulfuric acid as SO4 + 2 H+. Sulfate is S, ammonia is N, carbonate (and graphite
in solids) is C, phosphate is P.
"""

from __future__ import annotations

import numpy as np

from drivers.tags import FloatArray

__all__ = [
    "AL",
    "ATOMIC",
    "CA",
    "CL",
    "CO",
    "CU",
    "ELEMENTS",
    "ELEMENT_OF",
    "FE2",
    "FE3",
    "H2O2",
    "LI",
    "LIQUID_MASS",
    "MG",
    "MN",
    "NA",
    "NAMES",
    "NC",
    "NI",
    "REAGENTS",
    "SI",
    "STRONG",
    "VOLUME",
    "WATER",
    "ZN",
    "C",
    "F",
    "K",
    "N",
    "P",
    "S",
    "by_element",
    "heat_capacity",
    "litres",
    "vector",
]  # fmt: skip

NAMES = ("Li", "Ni", "Co", "Mn", "Al", "Cu", "Fe2", "Fe3", "Ca", "Mg", "Zn", "Na", "K", "S", "F", "Cl", "N", "Si", "C", "P", "H2O2", "water")
NC = len(NAMES)
LI, NI, CO, MN, AL, CU, FE2, FE3, CA, MG, ZN, NA, K, S, F, CL, N, SI, C, P, H2O2, WATER = range(NC)

ELEMENTS = ("Li", "Ni", "Co", "Mn", "Al", "Cu", "Fe", "Ca", "Mg", "Zn", "Na", "K", "S", "F", "Cl", "N", "Si", "C", "P")
ATOMIC = dict(
    zip(
        ELEMENTS,
        (
            6.94,
            58.6934,
            58.9332,
            54.938,
            26.9815,
            63.546,
            55.845,
            40.078,
            24.305,
            65.38,
            22.9898,
            39.098,
            32.06,
            18.998,
            35.45,
            14.007,
            28.085,
            12.011,
            30.974,
        ),
        strict=True,
    )
)  # [g/mol] IUPAC
# the element that each component counts for; -1: not balanced (H2O2 and water are made and destroyed)
ELEMENT_OF = np.array([ELEMENTS.index(name.rstrip("23")) if name not in ("H2O2", "water") else -1 for name in NAMES])
_BALANCED = np.zeros((len(ELEMENTS), NC))
for _place, _element in enumerate(ELEMENT_OF):
    if _element >= 0:
        _BALANCED[_element, _place] = 1.0


def vector(amounts: dict[int, float]) -> FloatArray:
    """Return an inventory [mol; water kg] of the components given, shape (NC,)."""
    out = np.zeros(NC)
    for place, amount in amounts.items():
        out[place] = amount
    return out


def by_element(inventory: FloatArray) -> FloatArray:
    """Return mol of each element of an inventory, shape (len(ELEMENTS),)."""
    out: FloatArray = _BALANCED @ inventory
    return out


# mass [kg/mol] of each component in a liquor; S as SO4, N as NH3, C as CO3, Si as SiO2
LIQUID_MASS = (
    np.array(
        [
            6.94,
            58.69,
            58.93,
            54.94,
            26.98,
            63.55,
            55.85,
            55.85,
            40.08,
            24.31,
            65.38,
            22.99,
            39.10,
            96.06,
            19.0,
            35.45,
            17.03,
            60.08,
            60.01,
            94.97,
            34.01,
            1e3,
        ]
    )
    * 1e-3
)
# partial volumes [L/mol; water L/kg] chosen so that density rises 0.15 kg/L per M MSO4 and 0.11 per M Na2SO4 (process.md section 3)
VOLUME = np.array(
    [
        -0.005,
        -0.03,
        -0.03,
        -0.03,
        -0.04,
        -0.03,
        -0.03,
        -0.04,
        -0.03,
        -0.03,
        -0.03,
        -0.007,
        0.0,
        0.038,
        0.0,
        0.015,
        0.025,
        0.02,
        0.0,
        0.04,
        0.022,
        1.008,
    ]
)
# charge of what neither precipitates nor takes up protons in the solver
STRONG = np.array([1, 0, 0, 0, 0, 0, 2, 0, 2, 2, 2, 1, 1, -2, -1, -1, 0, 0, -2, -3, 0, 0], dtype=float)


def litres(inventory: FloatArray) -> float:
    """Return the volume [L] of a liquor; never negative."""
    return max(float(VOLUME.dot(inventory)), 0.0)


def heat_capacity(inventory: FloatArray, solids: float) -> float:
    """Return the heat capacity [kJ/K] of a liquor and `solids` [kg]; salts add little to the water's."""
    return 4.18 * float(inventory[WATER]) + 0.8 * solids + 1.0


# one litre of each reagent: mol of each component, kg of water
REAGENTS: dict[str, FloatArray] = {
    "water": vector({WATER: 0.992}),
    "acid": vector({S: 18.0, WATER: 0.075}),  # H2SO4 96 %, 1.84 kg/L
    "peroxide": vector({H2O2: 9.79, WATER: 0.777}),  # H2O2 30 %, 1.11 kg/L
    # membrane-grade caustic: 0.25 mol% carbonate, 0.05 % chloride, 0.03 % potassium [A]
    "naoh": vector({NA: 10.0, K: 0.003, CL: 0.005, C: 0.025, WATER: 1.11}),
    "caustic": vector({NA: 0.3, K: 9e-5, CL: 1.5e-4, C: 7.5e-4, WATER: 1.0}),
    "ammonia": vector({N: 13.0, WATER: 0.69}),
    # Na2CO3 30 % at 60 degC, 1.31 kg/L; softened: 0.1 % chloride and 0.03 % potassium by mole, a trace of Ca and Mg [A]
    "soda": vector({NA: 7.4, C: 3.7, CL: 0.004, K: 0.001, CA: 2e-5, MG: 2e-5, WATER: 0.917}),
    "niso4": vector({NI: 2.0, S: 2.0, WATER: 0.985}),
    "coso4": vector({CO: 2.0, S: 2.0, WATER: 0.985}),
    "mnso4": vector({MN: 2.0, S: 2.0, WATER: 0.985}),
}
