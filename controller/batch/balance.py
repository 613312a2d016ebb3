"""The metal balance of a batch, on what was weighed and assayed: charged, added, in the product, recovered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from controller.purity.composition import HYDROXIDE, MOLAR_MASS
from controller.purity.estimator import product_of, record

__all__ = ["Balance", "balance"]

_ASSAY = 0.015  # 2 sigma of a major element by ICP: what recovery cannot be better than


@dataclass(frozen=True, slots=True)
class Balance:
    """Amounts of the product's metals [mol]; recovery [%] with the uncertainty [%, 2 sigma] of its assays and weights."""

    metals: str  # which they are
    source: str  # what was charged
    charged: float
    added: float
    product: float
    product_mass: float  # [kg] dry
    recovery: float
    uncertainty: float


def balance(records: Mapping[str, float]) -> Balance:
    """Return the balance from the records of a batch.

    Recovery counts the product's metals (Ni+Co+Mn of a hydroxide, Li of a carbonate) of the charge that are in the dry product, less what was
    added as salts, nickel powder or seed (process design basis, section 1.3). The charge is black mass, or mother liquor where there is a
    record of it. Records: ``hopper_full.value`` and ``hopper_empty.value`` [kg] with ``feed.*`` [mg/kg], or ``mother_liquor.*`` with
    ``tank_full.value`` [m3]; ``product.*`` or ``carbonate.*`` [mg/kg], ``weighing.value`` [kg], ``adjust.added_*`` [mol], ``cement.amount`` and
    ``seed.amount`` [kg]. What is missing makes the figures NaN.
    """
    kind, assay = product_of(records)
    liquor = record(records, "mother_liquor")
    if liquor:
        source = "mother liquor"
        charged = records.get("tank_full.value", math.nan) * liquor.get("density", math.nan) * kind.moles(liquor)
    else:
        source = "black mass"
        charged = (records.get("hopper_full.value", math.nan) - records.get("hopper_empty.value", math.nan)) * kind.moles(record(records, "feed"))
    added = 0.0
    if kind is HYDROXIDE:
        added = sum(records.get(f"adjust.added_{metal}", 0.0) for metal in kind.metals)
        added += records.get("cement.amount", 0.0) * 1e3 / MOLAR_MASS["ni"] + records.get("seed.amount", 0.0) * kind.amount
    dry = records.get("weighing.value", math.nan) * (1.0 - assay.get("moisture", math.nan) / 100.0)
    product = dry * kind.moles(assay)
    recovery = 100.0 * (product - added) / charged if charged > 0.0 else math.nan
    uncertainty = recovery * math.hypot(_ASSAY, _ASSAY) if math.isfinite(recovery) else math.nan
    return Balance(kind.label, source, charged, added, product, dry, recovery, uncertainty)
