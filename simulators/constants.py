"""Equilibrium constants of the liquors: every one a named entry with its log K, heat, source and the range from which a plant instance draws it.

A species is written as its formation from master species (the ions of `MASTERS`, H+ and water), a solid as its dissolution into them.
log K at 25 degC and zero ionic strength, molal; heats [kJ/mol] of the reaction as written, taken as constant from 5 to 100 degC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

__all__ = ["CHARGE", "HYDROXIDES", "MASTERS", "ROWS", "SOLIDS", "SPECIES", "Solid", "Species", "draw_shifts"]

# charge of each master species; S is SO4, N is NH3, C is CO3, P is PO4
CHARGE: Mapping[str, int] = MappingProxyType(
    {
        "Na": 1, "Li": 1, "K": 1, "Ni": 2, "Co": 2, "Mn": 2, "Cu": 2, "Zn": 2, "Fe2": 2, "Mg": 2, "Ca": 2, "Al": 3, "Fe3": 3,
        "S": -2, "N": 0, "F": -1, "C": -2, "P": -3, "Cl": -1,
    }
)  # fmt: skip
MASTERS = tuple(CHARGE)


@dataclass(frozen=True)
class Species:
    """A dissolved species: `of` counts its master species, "H" its protons and "w" its water (negative: given off)."""

    name: str
    log_k: float
    heat: float  # [kJ/mol]
    of: Mapping[str, int]
    source: str
    spread: float = 0.1  # half width of log K in a plant instance

    @property
    def charge(self) -> int:
        """Charge of the species."""
        return sum(CHARGE.get(name, 1 if name == "H" else 0) * count for name, count in self.of.items())

    @property
    def power(self) -> int:
        """Power of gamma(1) that turns K into one of concentrations and the activity of H+ (Davies: log g = z^2 log g(1))."""
        return sum(count * CHARGE[name] ** 2 for name, count in self.of.items() if name in CHARGE) - self.charge**2


@dataclass(frozen=True)
class Solid:
    """A solid: `of` counts what its dissolution gives (negative "H": takes up protons)."""

    name: str
    log_k: float
    heat: float  # [kJ/mol]
    of: Mapping[str, int]
    source: str
    spread: float = 0.3
    metal: str = field(default="")  # of a hydroxide

    @property
    def power(self) -> int:
        """Power of gamma(1) in the product of concentrations at equilibrium."""
        return -sum(count * CHARGE[name] ** 2 for name, count in self.of.items() if name in CHARGE)


_BASIS = "design basis, process.md section 3"
_AMMINE = "van Bommel and Dahn 2009 (design basis); heat per NH3 the design basis, [A] for Co and Mn"
_MINTEQ = "MINTEQA2 / minteq.v4 data base"
_WATEQ = "phreeqc.dat (WATEQ4F lineage)"
_TEXT = "Smith and Martell, Critical Stability Constants; heat [A]"


def _species() -> tuple[Species, ...]:
    rows = [
        Species("OH-", -13.997, 55.8, {"w": 1, "H": -1}, _BASIS, 0.0),
        Species("HSO4-", 1.99, 22.0, {"S": 1, "H": 1}, _BASIS, 0.03),
        Species("NH4+", 9.244, -52.0, {"N": 1, "H": 1}, _BASIS, 0.02),
        Species("NH4SO4-", 9.244 + 1.03, -52.0, {"N": 1, "H": 1, "S": 1}, _BASIS),
        Species("HF", 3.17, 13.3, {"F": 1, "H": 1}, f"{_BASIS}; heat {_MINTEQ}", 0.05),
        Species("HCO3-", 10.329, -14.9, {"C": 1, "H": 1}, _WATEQ, 0.02),
        Species("H2CO3", 16.681, -24.0, {"C": 1, "H": 2}, _WATEQ, 0.03),
        Species("HPO4-2", 12.346, -14.8, {"P": 1, "H": 1}, _WATEQ, 0.03),
        Species("H2PO4-", 19.553, -18.9, {"P": 1, "H": 2}, _WATEQ, 0.03),
        Species("H3PO4", 21.721, -10.5, {"P": 1, "H": 3}, _MINTEQ, 0.03),
        Species("NaSO4-", 0.73, 0.0, {"Na": 1, "S": 1}, _BASIS),
        Species("LiSO4-", 0.64, 0.0, {"Li": 1, "S": 1}, _BASIS),
        Species("KSO4-", 0.85, 0.0, {"K": 1, "S": 1}, _MINTEQ),
        Species("NiSO4", 2.30, 0.0, {"Ni": 1, "S": 1}, _BASIS),
        Species("CoSO4", 2.30, 0.0, {"Co": 1, "S": 1}, _BASIS),
        Species("MnSO4", 2.25, 0.0, {"Mn": 1, "S": 1}, _BASIS),
        Species("CuSO4", 2.31, 0.0, {"Cu": 1, "S": 1}, _WATEQ),
        Species("ZnSO4", 2.37, 0.0, {"Zn": 1, "S": 1}, _WATEQ),
        Species("FeSO4", 2.25, 0.0, {"Fe2": 1, "S": 1}, _WATEQ),
        Species("MgSO4", 2.37, 0.0, {"Mg": 1, "S": 1}, _WATEQ),
        Species("CaSO4", 2.30, 0.0, {"Ca": 1, "S": 1}, _WATEQ),
        Species("NiOH+", -9.90, 50.0, {"Ni": 1, "H": -1, "w": 1}, f"{_BASIS}; heat [A]", 0.3),
        Species("CoOH+", -9.70, 50.0, {"Co": 1, "H": -1, "w": 1}, f"{_BASIS}; heat [A]", 0.3),
        Species("MnOH+", -10.60, 60.0, {"Mn": 1, "H": -1, "w": 1}, f"{_BASIS}; heat [A]", 0.3),
        Species("CuOH+", -7.50, 43.0, {"Cu": 1, "H": -1, "w": 1}, f"{_MINTEQ}; heat [A]", 0.3),
        Species("ZnOH+", -8.96, 55.8, {"Zn": 1, "H": -1, "w": 1}, _WATEQ, 0.3),
        Species("Zn(OH)3-", -28.4, 130.0, {"Zn": 1, "H": -3, "w": 3}, f"{_WATEQ}; heat [A]", 0.3),
        Species("FeOH+", -9.50, 55.2, {"Fe2": 1, "H": -1, "w": 1}, _WATEQ, 0.3),
        Species("MgOH+", -11.44, 66.7, {"Mg": 1, "H": -1, "w": 1}, _WATEQ, 0.1),
        Species("CaOH+", -12.78, 64.0, {"Ca": 1, "H": -1, "w": 1}, f"{_WATEQ}; heat [A]", 0.1),
        Species("AlOH+2", -5.00, 48.1, {"Al": 1, "H": -1, "w": 1}, _WATEQ, 0.1),
        Species("Al(OH)2+", -10.1, 112.5, {"Al": 1, "H": -2, "w": 2}, _WATEQ, 0.2),
        Species("Al(OH)3 (aq)", -16.9, 166.9, {"Al": 1, "H": -3, "w": 3}, _WATEQ, 0.3),
        Species("Al(OH)4-", -22.7, 177.0, {"Al": 1, "H": -4, "w": 4}, _WATEQ, 0.3),
        Species("AlSO4+", 3.50, 9.6, {"Al": 1, "S": 1}, _WATEQ, 0.3),
        Species("Al(SO4)2-", 5.00, 13.0, {"Al": 1, "S": 2}, _WATEQ, 0.3),
        Species("AlF+2", 7.0, 4.4, {"Al": 1, "F": 1}, f"{_BASIS}; heat {_WATEQ}"),
        Species("AlF2+", 12.6, 8.3, {"Al": 1, "F": 2}, f"{_BASIS}; heat {_WATEQ}", 0.2),
        Species("AlF3", 16.7, 9.1, {"Al": 1, "F": 3}, f"{_BASIS}; heat {_WATEQ}", 0.2),
        Species("AlF4-", 19.4, 9.2, {"Al": 1, "F": 4}, f"{_BASIS}; heat {_WATEQ}", 0.3),
        Species("FeOH+2", -2.19, 43.5, {"Fe3": 1, "H": -1, "w": 1}, _WATEQ, 0.1),
        Species("Fe(OH)2+", -5.67, 71.5, {"Fe3": 1, "H": -2, "w": 2}, _WATEQ, 0.2),
        Species("Fe(OH)3 (aq)", -12.56, 103.8, {"Fe3": 1, "H": -3, "w": 3}, _WATEQ, 0.5),
        Species("Fe(OH)4-", -21.6, 133.5, {"Fe3": 1, "H": -4, "w": 4}, _WATEQ, 0.3),
        Species("FeSO4+", 4.04, 16.4, {"Fe3": 1, "S": 1}, _WATEQ, 0.2),
        Species("Fe(SO4)2-", 5.38, 19.2, {"Fe3": 1, "S": 2}, _WATEQ, 0.3),
        Species("FeF+2", 6.2, 11.3, {"Fe3": 1, "F": 1}, _WATEQ, 0.2),
        Species("FeF2+", 10.8, 20.1, {"Fe3": 1, "F": 2}, _WATEQ, 0.2),
        Species("FeF3", 14.0, 22.6, {"Fe3": 1, "F": 3}, _WATEQ, 0.3),
        Species("MgF+", 1.82, 13.4, {"Mg": 1, "F": 1}, _WATEQ, 0.1),
        Species("CaF+", 0.94, 17.2, {"Ca": 1, "F": 1}, _WATEQ, 0.1),
    ]
    ammines: tuple[tuple[str, tuple[float, ...], float, str], ...] = (
        ("Ni", (2.81, 5.08, 6.85, 8.12, 8.93, 9.08), -14.8, _AMMINE),
        ("Co", (2.10, 3.67, 4.78, 5.53, 5.75, 5.14), -13.0, _AMMINE),
        ("Mn", (1.00, 1.54, 1.70, 1.30), -11.0, _AMMINE),
        ("Cu", (4.04, 7.47, 10.27, 11.75), -23.0, _TEXT),
        ("Zn", (2.21, 4.50, 6.86, 8.89), -15.0, _TEXT),
    )
    for metal, logs, heat, source in ammines:
        rows += [Species(f"{metal}(NH3){n}+2", log, n * heat, {metal: 1, "N": n}, source, 0.1) for n, log in enumerate(logs, 1)]
    return tuple(rows)


SPECIES = _species()

HYDROXIDES = (
    Solid("Ni(OH)2", 12.77, -96.0, {"Ni": 1, "H": -2, "w": 2}, _BASIS, 0.25, "Ni"),
    Solid("Co(OH)2", 13.10, -93.6, {"Co": 1, "H": -2, "w": 2}, _BASIS, 0.25, "Co"),
    Solid("Mn(OH)2", 15.29, -97.0, {"Mn": 1, "H": -2, "w": 2}, _BASIS, 0.25, "Mn"),
    Solid("Cu(OH)2", 8.67, -56.0, {"Cu": 1, "H": -2, "w": 2}, _BASIS, 0.3, "Cu"),
    Solid("Zn(OH)2", 12.47, -80.6, {"Zn": 1, "H": -2, "w": 2}, f"{_MINTEQ}, amorphous", 0.5, "Zn"),
    Solid("Fe(OH)2", 13.56, -90.0, {"Fe2": 1, "H": -2, "w": 2}, f"{_MINTEQ}; heat [A]", 0.3, "Fe2"),
    Solid("Mg(OH)2", 17.1, -114.0, {"Mg": 1, "H": -2, "w": 2}, _BASIS, 0.2, "Mg"),
    Solid("Ca(OH)2", 22.8, -129.0, {"Ca": 1, "H": -2, "w": 2}, f"{_BASIS}; heat {_MINTEQ}", 0.1, "Ca"),
    Solid("Al(OH)3", 9.35, -102.0, {"Al": 1, "H": -3, "w": 3}, f"{_BASIS}, microcrystalline", 0.5, "Al"),
    Solid("Fe(OH)3", 3.19, -73.0, {"Fe3": 1, "H": -3, "w": 3}, f"{_BASIS}, 2-line ferrihydrite", 0.5, "Fe3"),
)
# solids that form slowly against a step, outside of the equation for pH
SOLIDS = (
    Solid("gypsum", -4.61, 1.0, {"Ca": 1, "S": 1, "w": 2}, f"{_BASIS}; heat {_MINTEQ}", 0.05),
    Solid("CaF2", -10.5, 8.0, {"Ca": 1, "F": 2}, f"{_BASIS}; heat {_MINTEQ}", 0.3),
    Solid("MgF2", -8.13, -8.0, {"Mg": 1, "F": 2}, f"{_BASIS}; heat {_MINTEQ}", 0.3),
    Solid("cryolite", -33.84, 38.0, {"Na": 3, "Al": 1, "F": 6}, _BASIS, 0.5),
    Solid("LiF", -2.77, 4.0, {"Li": 1, "F": 1}, _BASIS, 0.1),
    Solid("FePO4", -26.4, -9.4, {"Fe3": 1, "P": 1, "w": 2}, f"{_MINTEQ}, strengite", 0.5),
    Solid("AlPO4", -22.1, -9.4, {"Al": 1, "P": 1, "w": 2}, f"{_MINTEQ}, variscite; heat [A]", 0.5),
)
# every constant, in the order of the arrays of a solver
ROWS: tuple[Species | Solid, ...] = (*SPECIES, *HYDROXIDES, *SOLIDS)


def draw_shifts(seed: int) -> dict[str, float]:
    """Return the shift of log K of every species and solid in the plant instance `seed`: uniform within its spread.

    The ammines of one metal move together, and so do the hydroxides of Ni, Co and Mn: published sets differ that way.
    """
    rng = np.random.default_rng(seed)
    shifts: dict[str, float] = {}
    together: dict[str, float] = {}
    for row in ROWS:
        group = row.name.split("(NH3)")[0] + "(NH3)" if "(NH3)" in row.name else "MOH2" if row.name in ("Ni(OH)2", "Co(OH)2", "Mn(OH)2") else row.name
        if group not in together:
            together[group] = float(rng.uniform(-1.0, 1.0))
        shifts[row.name] = row.spread * together[group]
    return shifts
