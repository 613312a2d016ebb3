"""Black mass: what comes in. Nominal feeds and random ones by section 6 of the design basis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from drivers.tags import FloatArray
from simulators.components import ATOMIC, NAMES, NC

__all__ = ["CHEMISTRIES", "FEEDS", "Feed", "draw"]

# mole fractions of Ni, Co and Mn
CHEMISTRIES: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "nmc111": (1 / 3, 1 / 3, 1 / 3),
        "nmc532": (0.5, 0.2, 0.3),
        "nmc622": (0.6, 0.2, 0.2),
        "nmc811": (0.8, 0.1, 0.1),
        "lco": (0.0, 1.0, 0.0),
    }
)
# leach rate against NMC622 [A]
REACTIVITY: Mapping[str, float] = MappingProxyType({"nmc111": 0.6, "nmc532": 0.8, "nmc622": 1.0, "nmc811": 1.2, "lco": 0.6})
_LITHIUM = 1.02  # [mol Li per mol Ni+Co+Mn]
_IMPURITIES = {"Cu": 1.3, "Al": 1.3, "Fe": 0.35, "F": 1.2, "Ca": 0.03, "Mg": 0.004, "Zn": 0.002, "Si": 0.05, "Na": 0.02}  # [wt%] medians
_SPREAD = {
    "Cu": (0.6, 0.2, 5.0),
    "Al": (0.6, 0.2, 6.0),
    "Fe": (0.7, 0.05, 3.0),
    "F": (0.6, 0.5, 4.0),
}  # sigma of the logarithm, low, high [wt%]


@dataclass(frozen=True)
class Feed:
    """A black mass: `composition` in wt% of the dry mass; oxygen of the oxides is the rest to 100 with graphite as C."""

    name: str
    composition: Mapping[str, float]  # [wt%]
    reactivity: float = 1.0  # leach rate against NMC622

    def per_kg(self) -> FloatArray:
        """Return mol of each component in 1 kg, shape (NC,); iron counts as Fe2 (metal)."""
        out = np.zeros(NC)
        for element, share in self.composition.items():
            if element in ATOMIC:
                out[NAMES.index("Fe2" if element == "Fe" else element)] = share * 10.0 / ATOMIC[element]
        return out

    @property
    def metals(self) -> float:
        """Ni+Co+Mn [mol/kg]."""
        return sum(self.composition.get(metal, 0.0) * 10.0 / ATOMIC[metal] for metal in ("Ni", "Co", "Mn"))


def _feed(name: str, mix: Mapping[str, float], active: float, impurities: Mapping[str, float]) -> Feed:
    """Return the feed with `active` [wt%] of oxides in the shares `mix` [mol/mol]."""
    ratio = [sum(share * CHEMISTRIES[kind][metal] for kind, share in mix.items()) for metal in range(3)]
    mass = [part * ATOMIC[metal] for part, metal in zip(ratio, ("Ni", "Co", "Mn"), strict=True)]
    formula = sum(mass) + _LITHIUM * ATOMIC["Li"] + 2 * 15.999  # [g per mol of Ni+Co+Mn]
    moles = active / formula
    composition = {metal: moles * grams for metal, grams in zip(("Ni", "Co", "Mn"), mass, strict=True)}
    composition["Li"] = moles * _LITHIUM * ATOMIC["Li"]
    composition.update(impurities)
    composition["C"] = max(100.0 - active - sum(impurities.values()), 0.0)
    reactivity = sum(share * REACTIVITY[kind] for kind, share in mix.items())
    return Feed(name, MappingProxyType(composition), reactivity)


FEEDS: Mapping[str, Feed] = MappingProxyType({name: _feed(name, {name: 1.0}, 58.0, _IMPURITIES) for name in ("nmc111", "nmc532", "nmc622", "nmc811")})


def draw(seed: int, chemistry: str | None = None) -> Feed:
    """Return a random feed: chemistry, share of active material and lognormal impurities of process.md section 6; LFP is not drawn.

    `chemistry` fixes the main one; else it is drawn as well. Raise `ValueError` if it is not known.
    """
    rng = np.random.default_rng(seed)
    names = list(CHEMISTRIES)
    main = str(rng.choice(names, p=[0.10, 0.25, 0.30, 0.22, 0.13])) if chemistry is None else chemistry
    if main not in CHEMISTRIES:
        raise ValueError(f"chemistry: expected one of {', '.join(names)}, got {chemistry!r}")
    others = [name for name in names if name != main]
    shares = rng.dirichlet([1.0] * len(others)) * 0.25
    mix = {main: 0.75, **dict(zip(others, shares.tolist(), strict=True))}
    impurities = dict(_IMPURITIES)
    for element, (sigma, low, high) in _SPREAD.items():
        impurities[element] = min(max(_IMPURITIES[element] * math.exp(rng.normal(0.0, sigma)), low), high)
    return _feed(f"{main}-{seed}", mix, float(np.clip(rng.normal(58.0, 6.0), 40.0, 76.0)), impurities)
