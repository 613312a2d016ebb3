"""Black mass: what comes in. Named feeds, random ones and those of a file, by section 6 of the design basis."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from drivers.tags import FloatArray
from simulators.components import ATOMIC, ELEMENTS, FE2, LI, NAMES, NC

__all__ = ["CHEMISTRIES", "FEEDS", "LFP_MASS", "MOST_ADDED", "PRODUCTS", "Feed", "draw", "find_feed", "nearest_product", "share_to_add"]

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
PRODUCTS = ("nmc111", "nmc532", "nmc622", "nmc811")  # ratios that a recipe makes
MOST_ADDED = 0.25  # [mol/mol] of the charged Ni+Co+Mn that may be added as salts to reach a product's ratio
LFP_MASS = 157.76  # LiFePO4 [g/mol]
# leach rate against NMC622 [A]
REACTIVITY: Mapping[str, float] = MappingProxyType({"nmc111": 0.6, "nmc532": 0.8, "nmc622": 1.0, "nmc811": 1.2, "lco": 0.6})
_METALS = ("Ni", "Co", "Mn")
_LITHIUM = 1.02  # [mol Li per mol Ni+Co+Mn]
_IMPURITIES = {"Cu": 1.3, "Al": 1.3, "Fe": 0.35, "F": 1.2, "Ca": 0.03, "Mg": 0.004, "Zn": 0.002, "Si": 0.05, "Na": 0.02}  # [wt%] medians
_SPREAD = {
    "Cu": (0.6, 0.2, 5.0),
    "Al": (0.6, 0.2, 6.0),
    "Fe": (0.7, 0.05, 3.0),
    "F": (0.6, 0.5, 4.0),
    "Ca": (0.6, 0.0, math.inf),
    "Mg": (0.6, 0.0, math.inf),
    "Zn": (0.6, 0.0, math.inf),
}  # sigma of the logarithm, low, high [wt%]
_LFP_TAIL = (2.0, 12.0)  # [wt%] mean of the exponential, most [A]


@dataclass(frozen=True)
class Feed:
    """A black mass: `composition` in wt% of the dry mass, without what its LFP brings; the oxygen of the oxides is the rest to 100."""

    name: str
    composition: Mapping[str, float]  # [wt%]; Fe is iron metal
    reactivity: float = 1.0  # leach rate against NMC622
    lfp: float = 0.0  # LiFePO4 [wt%]; its Li, Fe and P come on top of the composition

    def per_kg(self) -> FloatArray:
        """Return mol of each component in 1 kg, LFP with it, shape (NC,); all iron counts as Fe2."""
        out = self.lfp_per_kg()
        for element, share in self.composition.items():
            out[NAMES.index("Fe2" if element == "Fe" else element)] += share * 10.0 / ATOMIC[element]
        return out

    def with_foil(self, factor: float) -> Feed:
        """Return the feed with `factor` times its copper and aluminium, the rest in proportion."""
        if factor == 1.0:
            return self
        composition = dict(self.composition)
        for metal in ("Cu", "Al"):
            composition[metal] = composition.get(metal, 0.0) * factor
        whole = 100.0 + sum(composition[metal] - self.composition.get(metal, 0.0) for metal in ("Cu", "Al"))
        scaled = {element: 100.0 / whole * share for element, share in composition.items()}
        return replace(self, composition=MappingProxyType(scaled), lfp=100.0 / whole * self.lfp)

    def lfp_per_kg(self) -> FloatArray:
        """Return mol of each component that the LFP in 1 kg brings, shape (NC,)."""
        out = np.zeros(NC)
        places = [LI, FE2]
        if "P" in NAMES:
            places.append(NAMES.index("P"))
        out[places] = self.lfp * 10.0 / LFP_MASS
        return out

    @property
    def metals(self) -> float:
        """Ni+Co+Mn [mol/kg]."""
        return sum(self.composition.get(metal, 0.0) * 10.0 / ATOMIC[metal] for metal in _METALS)

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Mole fractions of Ni, Co and Mn; raise `ValueError` when there is none of them."""
        ni, co, mn = (self.composition.get(metal, 0.0) / ATOMIC[metal] for metal in _METALS)
        whole = ni + co + mn
        if whole <= 0.0:
            raise ValueError(f"feed {self.name}: it holds no Ni, Co or Mn, so no hydroxide can be made of it")
        return ni / whole, co / whole, mn / whole


def _feed(name: str, mix: Mapping[str, float], active: float = 58.0, impurities: Mapping[str, float] = _IMPURITIES, lfp: float = 0.0) -> Feed:
    """Return the feed with `active` [wt%] of active material: `lfp` [wt%] of it LFP, the rest oxides in the shares `mix` [mol/mol]."""
    ratio = [sum(share * CHEMISTRIES[kind][metal] for kind, share in mix.items()) for metal in range(3)]
    mass = [part * ATOMIC[metal] for part, metal in zip(ratio, _METALS, strict=True)]
    formula = sum(mass) + _LITHIUM * ATOMIC["Li"] + 2 * 15.999  # [g per mol of Ni+Co+Mn]
    moles = (active - lfp) / formula
    composition = {metal: moles * grams for metal, grams in zip(_METALS, mass, strict=True)}
    composition["Li"] = moles * _LITHIUM * ATOMIC["Li"]
    composition.update(impurities)
    composition["C"] = max(100.0 - active - sum(impurities.values()), 0.0)
    reactivity = sum(share * REACTIVITY[kind] for kind, share in mix.items())
    return Feed(name, MappingProxyType(composition), reactivity, lfp)


_MIXTURES: dict[str, tuple[dict[str, float], float]] = {  # shares of the oxides [mol/mol], LFP [wt%]
    **{name: ({name: 1.0}, 0.0) for name in CHEMISTRIES},
    "nmc-mixed": ({"nmc111": 0.25, "nmc532": 0.35, "nmc622": 0.40}, 0.0),
    "nmc811-lco10": ({"nmc811": 0.9, "lco": 0.1}, 0.0),
    "nmc622-lfp10": ({"nmc622": 1.0}, 10.0),
}
FEEDS: Mapping[str, Feed] = MappingProxyType(
    {
        **{name: _feed(name, mix, lfp=lfp) for name, (mix, lfp) in _MIXTURES.items()},
        "lfp": Feed("lfp", MappingProxyType({**_IMPURITIES, "C": 42.0 - sum(_IMPURITIES.values())}), lfp=58.0),
    }
)


def draw(seed: int, chemistry: str | None = None) -> Feed:
    """Return a random feed by process.md section 6: chemistry, active material, LFP and impurities.

    `chemistry` fixes the main one, which is three quarters of the oxides; else it is drawn as well. Raise `ValueError` if it is not known.
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
    active = float(np.clip(rng.normal(58.0, 6.0), 40.0, 76.0))
    mean, most = _LFP_TAIL
    return _feed(f"{main}-{seed}", mix, active, impurities, min(float(rng.exponential(mean)), most))


def find_feed(name_or_path: str) -> Feed:
    """Return a feed by its name in `FEEDS`, by ``random:SEED`` or from a TOML file; raise `ValueError` for any other or a bad file."""
    if name_or_path in FEEDS:
        return FEEDS[name_or_path]
    if name_or_path.startswith("random:"):
        seed = name_or_path.removeprefix("random:")
        if not (seed.isascii() and seed.isdigit()):
            raise ValueError(f"feed {name_or_path!r}: expected random: and a whole number from 0, such as random:7")
        return draw(int(seed))
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise ValueError(f"feed {name_or_path!r} is not known; known: {', '.join(FEEDS)}, random:SEED, or a TOML file")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"feed file {path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"feed file {path}: not valid TOML: {error}") from error
    return _from_table(table, str(path))


def _from_table(table: Mapping[str, Any], where: str) -> Feed:
    """Return the feed that a file says; raise `ValueError` at its first mistake."""
    known = ("name", "reactivity", "lfp", "composition")
    for key in table:
        if key not in known:
            raise ValueError(f"feed file {where}: unknown key {key!r}; known: {', '.join(known)}")
    name, shares = table.get("name"), table.get("composition")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"feed file {where}: name: expected a name, got {name!r}")
    if not isinstance(shares, dict) or not shares:
        raise ValueError(f"feed file {where}: expected a table [composition] of elements in wt%, such as Ni = 21.0")
    elements = [element for element in ELEMENTS if element != "P"]
    for element in shares:
        if element not in elements:
            hint = "phosphorus comes with LFP, give lfp in wt%" if element == "P" else f"known: {', '.join(elements)}"
            raise ValueError(f"feed file {where}: composition.{element}: not an element of a feed; {hint}")
    composition = {element: _number(share, 0.0, 100.0, "wt%", f"{where}: composition.{element}") for element, share in shares.items()}
    lfp = _number(table.get("lfp", 0.0), 0.0, 100.0, "wt%", f"{where}: lfp")
    whole = sum(composition.values()) + lfp
    if whole > 100.0 + 1e-6:
        raise ValueError(f"feed file {where}: composition and lfp: expected at most 100 wt% together, got {whole:g} wt%")
    reactivity = _number(table.get("reactivity", 1.0), 0.1, 3.0, "of NMC622's leach rate", f"{where}: reactivity")
    return Feed(name, MappingProxyType(composition), reactivity, lfp)


def _number(value: object, low: float, high: float, eu: str, what: str) -> float:
    # true is an int to Python, not a share
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"feed file {what}: expected a number from {low:g} to {high:g} {eu}, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"feed file {what}: expected {low:g} to {high:g} {eu}, got {value:g} {eu}")
    return float(value)


def share_to_add(feed: Feed, product: str) -> float:
    """Return the salts that bring the feed to the product's ratio [mol of Ni+Co+Mn to add per mol charged]; 0.67 from NMC111 to NMC622.

    Raise `ValueError` when the feed holds no Ni, Co or Mn.
    """
    return max(have / want for have, want in zip(feed.ratio, CHEMISTRIES[product], strict=True)) - 1.0


def nearest_product(feed: Feed) -> tuple[str, float]:
    """Return the product whose ratio needs the least added salts, and how much [mol/mol], see `share_to_add`.

    Raise `ValueError` when that is more than `MOST_ADDED`: such a lot would be bought salts rather than black mass.
    """
    added, name = min((share_to_add(feed, product), product) for product in PRODUCTS)
    if added > MOST_ADDED:
        ratio = " ".join(f"{metal} {part:.2f}" for metal, part in zip(_METALS, feed.ratio, strict=True))
        raise ValueError(
            f"feed {feed.name} ({ratio}): its nearest product, {name}, needs {100 * added:.0f} % of the charged Ni+Co+Mn as added salts, "
            f"expected at most {100 * MOST_ADDED:.0f} %; blend it with a black mass that holds what it lacks"
        )
    return name, max(added, 0.0)
