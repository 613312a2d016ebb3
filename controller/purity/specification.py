"""Release: a product's assay against its specification. Limits are data; nothing here knows a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from controller.purity.composition import PRODUCTS, ratio
from drivers.source import read_toml, validate

__all__ = ["Finding", "Specification", "judge", "specifications"]

_EU = {"moisture": "%", "d10": "um", "d50": "um", "d90": "um", "tap_density": "g/cm3"}


class Specification(BaseModel):
    """What a lot must be to be released."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    title: str
    product: Literal["hydroxide", "carbonate"]  # by whose formula P is counted
    purity: float  # [wt%] at least
    ratio: float | None = None  # [mol%] Ni, Co and Mn each within this of the target
    at_most: dict[str, float]  # [mg/kg]
    size: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a release decision."""

    name: str
    value: float
    eu: str
    limit: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} {self.eu}, limit {self.limit}: {'pass' if self.passed else 'FAIL'}"


@cache
def specifications(path: Path) -> dict[str, Specification]:
    """Read a file of specifications; raise `BadInput` with every mistake."""
    document = read_toml(path)
    return {name: validate(document, Specification, data, (name,)) for name, data in document.data.items()}


def judge(specification: Specification, assay: Mapping[str, float], target: Mapping[str, float]) -> list[Finding]:
    """Return every finding; a value that was not measured fails.

    `assay` is in [mg/kg] and [eu of the size limits]; `target` holds the mole fractions wanted, where the specification has a ratio.
    """
    p = PRODUCTS[specification.product].purity(assay)
    findings = [Finding("P", p, "wt%", f">= {specification.purity:g}", p >= specification.purity)]
    if specification.ratio is not None:
        whole = sum(target.values())
        for metal, found in ratio(assay).items():
            wanted = 100.0 * target[metal] / whole
            off = abs(100.0 * found - wanted)
            limit = f"{wanted:.1f} ± {specification.ratio:g}"
            findings.append(Finding(metal.capitalize(), 100.0 * found, "mol%", limit, off <= specification.ratio))
    for name, most in specification.at_most.items():
        value = assay.get(name, math.nan)
        findings.append(Finding(name.capitalize(), value, "mg/kg", f"<= {most:g}", value <= most))
    for name, (low, high) in specification.size.items():
        value = assay.get(name, math.nan)
        findings.append(Finding(name, value, _EU.get(name, ""), f"{low:g} to {high:g}", low <= value <= high))
    return findings
