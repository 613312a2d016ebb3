"""Enthalpies: what each component holds in each form, against ions at infinite dilution, liquid water and O2 at 25 degC.

Reactions are not given heats of their own: the temperature follows from the enthalpy of what is there, so that energy closes whatever happens.
Each number below is a reaction enthalpy at 25 degC, from which the block's enthalpy follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivers.tags import FloatArray
from simulators.components import (
    AL,
    CA,
    CO,
    CU,
    FE2,
    FE3,
    GAS,
    H2,
    H2O2,
    LI,
    LIQUOR,
    METAL,
    MG,
    MN,
    NAMES,
    NC,
    NI,
    OXIDE,
    SALT,
    STRONG,
    WATER,
    C,
    F,
    N,
    P,
    S,
)
from simulators.constants import HYDROXIDES, SOLIDS
from simulators.parameters import parameter

__all__ = ["HeatParameters", "Heats", "bound"]

_DISSOLVING = {solid.name: solid.heat for solid in (*HYDROXIDES, *SOLIDS)}


@dataclass(frozen=True)
class HeatParameters:
    """Enthalpies of reaction at 25 degC."""

    oxide: float = parameter(
        170.0, "kJ/mol", "A", "process.md section 3, given off: LiMO2 + 3 H+ + 1/2 H2O2 = Li+ + M2+ + 2 H2O + 1/2 O2", range=(130.0, 210.0)
    )
    lithium: float = parameter(60.0, "kJ/mol", "A", "given off: of that, LiO1/2 + H+ = Li+ + 1/2 H2O", range=(40.0, 80.0))
    aluminium: float = parameter(531.0, "kJ/mol", "T", "process.md section 3, given off: Al + 3 H+ = Al3+ + 3/2 H2")
    iron: float = parameter(90.0, "kJ/mol", "T", "given off: Fe + 2 H+ = Fe2+ + H2 (formation of Fe2+)")
    nickel: float = parameter(54.0, "kJ/mol", "T", "given off: Ni + 2 H+ = Ni2+ + H2 (formation of Ni2+)")
    copper: float = parameter(-64.8, "kJ/mol", "T", "given off: Cu + 2 H+ = Cu2+ + H2 (formation of Cu2+)")
    ferric: float = parameter(102.0, "kJ/mol", "T", "given off: Fe2+ + H+ + 1/4 O2 = Fe3+ + 1/2 H2O (formation of Fe2+ and Fe3+)")
    peroxide: float = parameter(95.0, "kJ/mol", "T", "process.md section 3, given off: H2O2 = H2O + 1/2 O2")
    phosphate: float = parameter(132.0, "kJ/mol", "A", "given off: LiFePO4 + H+ + 1/2 H2O2 = Li+ + FePO4 + H2O", range=(110.0, 160.0))
    lime: float = parameter(193.0, "kJ/mol", "T", "given off: CaO + 2 H+ = Ca2+ + H2O")
    magnesia: float = parameter(151.0, "kJ/mol", "T", "given off: MgO + 2 H+ = Mg2+ + H2O")
    hydrogen: float = parameter(285.8, "kJ/mol", "T", "given off: H2 + 1/2 O2 = H2O")
    ammonia: float = parameter(35.4, "kJ/mol", "T", "taken up: NH3 from water; of its Henry's constant, process.md section 3")
    carbon_dioxide: float = parameter(-4.0, "kJ/mol", "T", "taken up: CO3-- + 2 H+ = CO2 + H2O")
    dilution: float = parameter(74.7, "kJ/mol", "T", "of H2SO4 in much water, with `dilution_half`: Thomsen's law")
    dilution_half: float = parameter(1.8, "mol/mol", "T", "water per H2SO4 at half of it")
    boiling: float = parameter(2257.0, "kJ/kg", "T", "of water at 100 degC")


class Heats:
    """Enthalpy of each component in each form, `of`, shape (5, NC) [kJ/mol]; speciation and sensible heat come on top."""

    def __init__(self, parameters: HeatParameters | None = None) -> None:
        self.p = p = parameters or HeatParameters()
        of = np.zeros((5, NC))
        of[LIQUOR, FE3] = -p.ferric
        of[:, H2O2] = p.peroxide
        of[:, H2] = p.hydrogen
        of[METAL, [AL, FE2, NI, CU]] = np.array([1.5, 1.0, 1.0, 1.0]) * p.hydrogen + np.array([p.aluminium, p.iron, p.nickel, p.copper])
        of[OXIDE, [AL, FE2, CU]] = of[METAL, [AL, FE2, CU]]
        of[OXIDE, LI] = p.lithium
        of[OXIDE, [NI, CO, MN]] = p.oxide - 0.5 * p.peroxide - p.lithium
        of[OXIDE, [CA, MG]] = p.lime, p.magnesia
        # LiFePO4 and FePO4, with the iron of the first counted as metal
        ferric = of[LIQUOR, FE3] - _DISSOLVING["FePO4"]
        of[OXIDE, P] = ferric + p.phosphate - 0.5 * p.peroxide - p.lithium - of[OXIDE, FE2]
        of[OXIDE, FE3] = ferric - of[OXIDE, P]
        for solid in HYDROXIDES:
            place = NAMES.index(solid.metal)
            of[SALT, place] = of[LIQUOR, place] - solid.heat
        # an anion in a precipitate: what makes the commonest of its solids right, of the hydroxide whose place it takes
        of[SALT, F] = (-_DISSOLVING["cryolite"] - of[SALT, AL]) / 6.0
        of[SALT, P] = ferric - of[SALT, FE3]
        of[GAS, N], of[GAS, C] = p.ammonia, p.carbon_dioxide
        self.of: FloatArray = of
        self.liquor, self.oxide, self.metal, self.salt, self.gas = of  # its rows, each (NC,)


_TWO, _THREE = [NI, CO, MN, CU], [AL, FE3]
_ACID = -STRONG.copy()
_ACID[_TWO], _ACID[_THREE] = -2.0, -3.0


def bound(liquor: FloatArray, speciation: float, heats: Heats) -> float:
    """Return the enthalpy [kJ] of a liquor that is not sensible; `speciation` [kJ per kg of water] is `Equilibrium.heat`.

    Free sulfuric acid in little water has more of it, by Thomsen's law.
    """
    p, water = heats.p, float(liquor[WATER])
    out = float(heats.liquor.dot(liquor)) + speciation * water
    acid = min(0.5 * float(_ACID.dot(liquor)), float(liquor[S]))
    if acid > 0.0:
        out += p.dilution * p.dilution_half * acid * acid / (water / 0.018015 + p.dilution_half * acid)
    return out
