"""The metal balance of a batch, on what was weighed and assayed: charged, added, in the product, recovered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from controller.purity.composition import MOLAR_MASS, PRODUCT_METALS, metals

__all__ = ["Balance", "balance"]

_ASSAY = 0.015  # 2 sigma of a major element by ICP: what recovery cannot be better than


@dataclass(frozen=True, slots=True)
class Balance:
    """Amounts of Ni+Co+Mn [mol]; recovery [%] with the uncertainty [%, 2 sigma] of its assays and weights."""

    charged: float
    added: float
    product: float
    product_mass: float  # [kg] dry
    recovery: float
    uncertainty: float


def balance(records: Mapping[str, float]) -> Balance:
    """Return the balance from the records of a batch.

    Recovery counts Ni+Co+Mn of the charged black mass that are in the dry product, less what was added as salts, nickel powder or seed
    (process design basis, section 1.3). Records: ``hopper_full.mass`` and ``hopper_empty.mass`` [kg], ``feed.*`` and ``product.*``
    [mg/kg], ``weighing.mass`` [kg], ``adjust.added_*`` [mol], ``cement.amount`` and ``seed.amount`` [kg]. What is missing makes the figures NaN.
    """
    assay = {name: {key.partition(".")[2]: value for key, value in records.items() if key.startswith(f"{name}.")} for name in ("feed", "product")}
    charged = (records.get("hopper_full.mass", math.nan) - records.get("hopper_empty.mass", math.nan)) * metals(assay["feed"])
    salts = sum(records.get(f"adjust.added_{metal}", 0.0) for metal in ("ni", "co", "mn"))
    powder = records.get("cement.amount", 0.0) * 1e3 / MOLAR_MASS["ni"]
    added = salts + powder + records.get("seed.amount", 0.0) * PRODUCT_METALS
    dry = records.get("weighing.mass", math.nan) * (1.0 - assay["product"].get("moisture", math.nan) / 100.0)
    product = dry * metals(assay["product"])
    recovery = 100.0 * (product - added) / charged if charged > 0.0 else math.nan
    uncertainty = recovery * math.hypot(_ASSAY, _ASSAY) if math.isfinite(recovery) else math.nan
    return Balance(charged, added, product, dry, recovery, uncertainty)
