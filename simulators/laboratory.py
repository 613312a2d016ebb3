"""Laboratory analyser: a sample is taken when the request number changes and answered after its preparation time, with an error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from drivers.tags import FloatArray
from simulators.components import ATOMIC, ELEMENTS, LIQUID_MASS, WATER, by_element, litres
from simulators.parameters import parameter

__all__ = ["Laboratory", "LaboratoryParameters", "Sample", "liquid_sample", "purity", "solid_sample"]

MAJOR = ("Ni", "Co", "Mn")
# points of P that 1 wt% of an element takes: mass of the compound it stands for (process.md section 4)
BUDGET = {
    "S": 2.996, "Na": 1.0, "K": 1.0, "Li": 1.0, "Cl": 1.0, "F": 1.0, "Mg": 2.40, "Ca": 1.85, "Al": 2.89, "Fe": 1.91, "Cu": 1.535,
    "Zn": 1.52, "Si": 2.14, "C": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class LaboratoryParameters:
    """Errors are 2 sigma, relative where their eu is 1."""

    delay: tuple[float, float] = parameter((2700.0, 3600.0), "s", "A", "process.md section 2: 45-120 min; least and most together", range=(1.0, 2.0))
    major: float = parameter(0.015, "1", "T", "process.md section 2: Ni, Co, Mn in liquors by ICP")
    titration: float = parameter(0.003, "1", "T", "Ni, Co, Mn in solids by titration")
    trace: float = parameter(0.05, "1", "T", "process.md section 2")
    least: float = parameter(1.0, "mg/kg", "T", "process.md section 2: of a trace, at least")
    size: float = parameter(0.03, "1", "T", "process.md section 2: D50")
    tap: float = parameter(0.01, "1", "A", "tap density")
    moisture: float = parameter(0.05, "%", "A", "of the solid")
    density: float = parameter(1.0, "kg/m3", "T", "process.md section 2")


@dataclass
class Sample:
    """Composition [mg/kg] by element and the rest of an answer, true values."""

    composition: dict[str, float] = field(default_factory=dict)
    moisture: float = 0.0  # [%]
    density: float = 0.0  # [kg/m3]
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)  # D10, D50, D90 [um]
    tap: float = 0.0  # [g/cm3]
    solid: bool = True


def solid_sample(
    inventory: FloatArray, dry: float, *, moisture: float = 0.0, size: tuple[float, float, float] = (0.0, 0.0, 0.0), tap: float = 0.0
) -> Sample:
    """Return the true sample of a solid: mol of everything in it over `dry` [kg]."""
    if dry <= 0.0:
        return Sample()
    amounts = by_element(inventory)
    composition = {element: float(amount) * ATOMIC[element] * 1e3 / dry for element, amount in zip(ELEMENTS, amounts, strict=True)}
    return Sample(composition, moisture, 0.0, size, tap)


def liquid_sample(inventory: FloatArray) -> Sample:
    """Return the true sample of a liquor, per kg of liquor."""
    mass = float(LIQUID_MASS.dot(inventory))
    if mass <= 0.01:
        return Sample(solid=False)
    amounts = by_element(inventory)
    composition = {element: float(amount) * ATOMIC[element] * 1e3 / mass for element, amount in zip(ELEMENTS, amounts, strict=True)}
    water = 100.0 * float(inventory[WATER]) / mass
    return Sample(composition, min(water, 100.0), mass / max(litres(inventory), 1e-9) * 1e3, solid=False)


def purity(composition: Mapping[str, float]) -> float:
    """Return P [wt%] of a dry product from its composition [mg/kg]."""
    return 100.0 - sum(factor * composition.get(element, 0.0) for element, factor in BUDGET.items()) * 1e-4


class Laboratory:
    """One sample at a time; a new request while one is in work drops the old one."""

    measures = (
        "sample_done", "sample_source", "ni", "co", "mn", "li", "na", "k", "ca", "mg", "al", "fe", "cu", "zn", "si", "s", "f", "cl", "c",
        "acid_insolubles", "moisture", "density", "d10", "d50", "d90", "tap_density", "pb",
    )  # fmt: skip
    sets = ("sample_point", "sample_request")

    def __init__(self, parameters: LaboratoryParameters | None = None) -> None:
        self.p = parameters or LaboratoryParameters()
        self.answer = dict.fromkeys(self.measures, 0.0)
        self._seen = 0.0
        self._due: tuple[float, float, float, dict[str, float]] | None = None  # time, number, point, answer

    def step(self, sp: Mapping[str, float], now: float, rng: np.random.Generator, take: Callable[[int], Sample]) -> None:
        """Take and answer samples at plant time `now` [s]; `take` gives the sample at a point."""
        request = sp["sample_request"]
        if request != self._seen:
            self._seen = request
            point = int(sp["sample_point"])
            low, high = self.p.delay
            self._due = (now + low + (high - low) * rng.random(), request, float(point), self._analyse(take(point), rng))
        if self._due is not None and now >= self._due[0]:
            _, request, source, answer = self._due
            self.answer.update(answer, sample_done=request, sample_source=source)
            self._due = None

    def _analyse(self, sample: Sample, rng: np.random.Generator) -> dict[str, float]:
        p = self.p
        noise = rng.standard_normal(len(ELEMENTS) + 8)
        out: dict[str, float] = dict.fromkeys(self.measures[2:], 0.0)
        for place, element in enumerate(ELEMENTS):
            name = element.lower()
            if name not in out:
                continue
            true = sample.composition.get(element, 0.0)
            if element in MAJOR and true > 5000.0:
                sigma = 0.5 * (p.titration if sample.solid else p.major) * true
            elif true > 5000.0:
                sigma = 0.5 * p.major * true
            else:
                sigma = 0.5 * max(p.trace * true, p.least) if true > 0.0 else 0.0
            out[name] = max(true + sigma * float(noise[place]), 0.0)
        rest = noise[len(ELEMENTS) :].tolist()
        out["moisture"] = max(sample.moisture + 0.5 * p.moisture * rest[0], 0.0) if sample.moisture else 0.0
        out["density"] = sample.density + 0.5 * p.density * rest[1] if sample.density else 0.0
        scale = math.exp(0.5 * p.size * rest[2])
        out["d10"], out["d50"], out["d90"] = (size * scale for size in sample.size)
        out["tap_density"] = sample.tap * (1.0 + 0.5 * p.tap * rest[3])
        return out

    def measure(self) -> tuple[float, ...]:
        """Return the last answer in the order of `measures`."""
        return tuple(self.answer.values())
