"""Purity so far: what the assays of this batch say of its product, and how far that goes.

Before the product's assay P is bounded, not guessed: impurities that follow the metals (Al, Fe, Cu, Zn, Mg, Ca) are counted in full
from the clear liquor; sulfate, sodium and the rest are not known yet and the quality says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from controller.core.frame import BudgetLine, PurityView
from controller.purity.composition import BUDGET, PRODUCT_METALS, budget, metals, purity
from drivers.tags import Quality

__all__ = ["FOLLOW", "estimate"]

FOLLOW = ("al", "fe", "cu", "zn", "mg", "ca")  # precipitate with the metals


def estimate(records: Mapping[str, float], *, product: str = "product", liquor: str = "liquor") -> PurityView:
    """Return purity so far from the records of the batch."""
    final = _assay(records, product)
    recovery = records.get("balance.recovery", math.nan)
    if final:
        lines = tuple(BudgetLine(name, points, "assay") for name, points in _largest(budget(final)))
        return PurityView(purity(final), Quality.GOOD, "from the assay of the dry product", lines, recovery)
    clear = _assay(records, liquor)
    if clear and metals(clear) > 0.0:
        scale = PRODUCT_METALS / metals(clear)  # kg of liquor per kg of product
        lost = {name: BUDGET[name] * clear.get(name, 0.0) * scale * 1e-4 for name in FOLLOW}
        lines = tuple(BudgetLine(name, points, "estimate") for name, points in _largest(lost))
        says = "at most, from the clear liquor; sulfate and sodium are known after the product's assay"
        return PurityView(100.0 - sum(lost.values()), Quality.UNCERTAIN, says, lines, recovery)
    return PurityView(math.nan, Quality.BAD, "not known before the assay of the clear liquor", (), recovery)


def _assay(records: Mapping[str, float], name: str) -> dict[str, float]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in records.items() if key.startswith(prefix)}


def _largest(lost: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(((name, points) for name, points in lost.items() if points > 0.0), key=lambda row: -row[1])
