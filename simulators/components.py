"""Components of every liquor and solid: their order, masses, volumes and charges, and what one litre of each reagent holds.

An inventory is a vector of shape (NC,): mol of each component, but kg for water. H+ is not a component: it follows from electroneutrality,
so NaOH is carried as Na + H2O - H+ and sulfuric acid as SO4 + 2 H+. Sulfate is S, ammonia is N, carbonate (and graphite
in solids) is C, phosphate is P.

What a component brings of H and O depends on the form that it stands in: each is a neutral block of it. So H and O are balanced as elements too.
Two entries are no matter and move with it: HEAT, the whole enthalpy [kJ] against 25 degC and the reference of `heats.py`, and BOUND,
the part of it that is not sensible.
"""

from __future__ import annotations

import numpy as np

from drivers.tags import FloatArray

__all__ = [
    "AL",
    "AMBIENT",
    "ATOMIC",
    "BALANCED",
    "BOUND",
    "CA",
    "CL",
    "CO",
    "CU",
    "ELEMENTS",
    "ELEMENT_OF",
    "FE2",
    "FE3",
    "GAS",
    "H2",
    "H2O2",
    "HEAT",
    "HO",
    "HO_GAS",
    "HO_LIQUOR",
    "HO_METAL",
    "HO_OXIDE",
    "HO_SALT",
    "LI",
    "LIQUID_MASS",
    "LIQUOR",
    "METAL",
    "MG",
    "MN",
    "NA",
    "NAMES",
    "NC",
    "NI",
    "O2",
    "OXIDE",
    "REAGENTS",
    "SALT",
    "SI",
    "STRONG",
    "VOLUME",
    "WATER",
    "WATER_HEAT",
    "ZN",
    "C",
    "F",
    "K",
    "N",
    "P",
    "S",
    "atoms",
    "by_element",
    "litres",
    "vector",
]  # fmt: skip

AMBIENT = 22.0  # [degC]
WATER_HEAT = 4.18  # [kJ/(kg K)]
_MOL_WATER = 1.0 / 0.018015  # [mol/kg]

NAMES = (
    "Li", "Ni", "Co", "Mn", "Al", "Cu", "Fe2", "Fe3", "Ca", "Mg", "Zn", "Na", "K", "S", "F", "Cl", "N", "Si", "C", "P", "H2O2", "water", "H2", "O2",
    "heat", "bound",
)  # fmt: skip
NC = len(NAMES)
LI, NI, CO, MN, AL, CU, FE2, FE3, CA, MG, ZN, NA, K, S, F, CL, N, SI, C, P, H2O2, WATER, H2, O2, HEAT, BOUND = range(NC)

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
BALANCED = (*ELEMENTS, "H", "O")
ELEMENT_OF = {place: ELEMENTS.index(name.rstrip("23")) for place, name in enumerate(NAMES[:H2O2])}  # the element that a component counts for

# the forms that a component stands in: ions of a liquor, oxides of the black mass, metals, what has precipitated, gases
LIQUOR, OXIDE, METAL, SALT, GAS = range(5)
_WATER_OF = (1, 2, 2, 2, 3, 2, 2, 3, 2, 2, 2, 1, 1, -2, -1, -1, 0, 0, -2, -3)  # charge z of Li to P; a block of the liquor is neutral by -z H+


def _hydrogen_oxygen() -> FloatArray:
    """Return mol of H and O that each component brings in each form, shape (5, 2, NC)."""
    out = np.zeros((5, 2, NC))
    z = np.array(_WATER_OF, dtype=float)
    ion = np.zeros((2, H2O2))  # M - z H+: the acid of an anion, the metal against H+
    ion[0] = -z
    ion[0, N] = 3.0
    ion[1, [S, SI, C, P]] = 4.0, 2.0, 3.0, 4.0
    out[LIQUOR, :, :H2O2] = ion
    # a precipitate has hydroxide where the liquor has H+: M(OH)z, and an anion in the place of z hydroxides
    out[SALT, :, :H2O2] = ion + np.stack([2.0 * z, z])
    # the black mass is made of anhydrides: LiO1/2 and MO3/2 of the layered oxides, FeO1/2 and PO7/2 of LFP with its iron counted as metal
    out[OXIDE, 1, [LI, NA, K]] = 0.5
    out[OXIDE, 1, [NI, CO, MN]] = 1.5
    out[OXIDE, 1, [CA, MG, ZN]] = 1.0
    out[OXIDE, 1, [F, CL]] = -0.5
    out[OXIDE, 1, [S, SI, FE3, P]] = 3.0, 2.0, 0.5, 3.5
    out[GAS, 0, N], out[GAS, 1, C] = 3.0, 2.0
    out[:, :, WATER] = (2.0 * _MOL_WATER, _MOL_WATER)
    out[:, :, H2O2] = 2.0
    out[:, 0, H2] = out[:, 1, O2] = 2.0
    return out


HO = _hydrogen_oxygen()
HO_LIQUOR, HO_OXIDE, HO_METAL, HO_SALT, HO_GAS = HO
_ELEMENTS = np.zeros((len(ELEMENTS), NC))
for _place, _element in ELEMENT_OF.items():
    _ELEMENTS[_element, _place] = 1.0


def vector(amounts: dict[int, float]) -> FloatArray:
    """Return an inventory [mol; water kg] of the components given, shape (NC,)."""
    out = np.zeros(NC)
    for place, amount in amounts.items():
        out[place] = amount
    return out


def by_element(inventory: FloatArray) -> FloatArray:
    """Return mol of each element of an inventory, shape (len(ELEMENTS),)."""
    out: FloatArray = _ELEMENTS @ inventory
    return out


def atoms(inventory: FloatArray, form: int) -> FloatArray:
    """Return mol of each of `BALANCED` in an inventory that stands in `form`, shape (len(BALANCED),)."""
    return np.concatenate([_ELEMENTS @ inventory, HO[form] @ inventory])


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
            2.016,
            32.0,
            0.0,
            0.0,
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
        0.0,
        0.0,
        0.0,
        0.0,
    ]
)
# charge of what neither precipitates nor takes up protons in the solver
STRONG = np.array([1, 0, 0, 0, 0, 0, 2, 0, 2, 2, 2, 1, 1, -2, -1, -1, 0, 0, -2, -3, 0, 0, 0, 0, 0, 0], dtype=float)


_volume = VOLUME.dot


def litres(inventory: FloatArray) -> float:
    """Return the volume [L] of a liquor; never negative."""
    volume = float(_volume(inventory))
    return 0.0 if volume < 0.0 else volume


def _reagent(amounts: dict[int, float], bound: float = 0.0) -> FloatArray:
    """Return one litre at `AMBIENT`, with its BOUND [kJ]."""
    out = vector(amounts)
    out[BOUND] = bound
    out[HEAT] = bound + WATER_HEAT * out[WATER] * (AMBIENT - 25.0)
    return out


# enthalpies of the reagents [kJ/mol] [T]: H2SO4 of 96 % as by `heats.bound`, OH- by Kw, H2O2 by its decomposition
_ACID, _HYDROXIDE, _PEROXIDE = 88.0, 55.8, 95.0
# one litre of each reagent: mol of each component, kg of water
REAGENTS: dict[str, FloatArray] = {
    "water": _reagent({WATER: 0.992}),
    "acid": _reagent({S: 18.0, WATER: 0.075}, 18.0 * _ACID),  # H2SO4 96 %, 1.84 kg/L
    "peroxide": _reagent({H2O2: 9.79, WATER: 0.777}, 9.79 * _PEROXIDE),  # H2O2 30 %, 1.11 kg/L
    # membrane-grade caustic: 0.25 mol% carbonate, 0.05 % chloride, 0.03 % potassium [A]
    "naoh": _reagent({NA: 10.0, K: 0.003, CL: 0.005, C: 0.025, WATER: 1.11}, 9.95 * _HYDROXIDE),
    "caustic": _reagent({NA: 0.3, K: 9e-5, CL: 1.5e-4, C: 7.5e-4, WATER: 1.0}, 0.298 * _HYDROXIDE),
    "ammonia": _reagent({N: 13.0, WATER: 0.69}),
    # Na2CO3 30 % at 60 degC, 1.31 kg/L; softened: 0.1 % chloride and 0.03 % potassium by mole, a trace of Ca and Mg [A]
    "soda": _reagent({NA: 7.4, C: 3.7, CL: 0.004, K: 0.001, CA: 2e-5, MG: 2e-5, WATER: 0.917}),
    "niso4": _reagent({NI: 2.0, S: 2.0, WATER: 0.985}),
    "coso4": _reagent({CO: 2.0, S: 2.0, WATER: 0.985}),
    "mnso4": _reagent({MN: 2.0, S: 2.0, WATER: 0.985}),
}
