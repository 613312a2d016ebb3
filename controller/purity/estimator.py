"""Purity so far: what the assays of this batch say of its product, and how far that goes.

Before the product's assay P is bounded, not guessed: impurities that follow the metals (Al, Fe, Cu, Zn, Mg, Ca) are counted in full
from the clear liquor; sulfate, sodium and the rest are not known yet and the quality says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from controller.core.frame import BudgetLine, PurityView
from controller.purity.composition import CARBONATE, HYDROXIDE, Product
from drivers.tags import Quality

__all__ = ["estimate", "product_of", "record"]

_ASSAYS = {HYDROXIDE.name: "product", CARBONATE.name: "carbonate"}  # the record of a product's assay; recipes give it this name
_BRINE = "brine"  # the record of the liquor that lithium carbonate falls from


def record(records: Mapping[str, float], name: str) -> dict[str, float]:
    """Return what the record `name` holds, by the names within it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in records.items() if key.startswith(prefix)}


def product_of(records: Mapping[str, float]) -> tuple[Product, dict[str, float]]:
    """Return what kind of product a batch makes, the hydroxide while no record says otherwise, and the assay of its product, empty before it."""
    made = {name.partition(".")[0] for name in records}
    product = CARBONATE if made & {_ASSAYS[CARBONATE.name], _BRINE, "mother_liquor"} else HYDROXIDE
    return product, record(records, _ASSAYS[product.name])


def estimate(records: Mapping[str, float], *, liquor: str = "liquor") -> PurityView:
    """Return purity so far from the records of the batch."""
    product, final = product_of(records)
    recovery = records.get("balance.recovery", math.nan)
    if final:
        lines = tuple(BudgetLine(element, points, "assay") for element, points in _largest(product.budget(final)))
        return PurityView(product.purity(final), Quality.GOOD, "from the assay of the dry product", lines, recovery)
    clear = record(records, liquor)
    if clear and product.moles(clear) > 0.0:
        scale = product.amount / product.moles(clear)  # kg of liquor per kg of product
        lost = {element: product.factors[element] * clear.get(element, 0.0) * scale * 1e-4 for element in product.follow}
        lines = tuple(BudgetLine(element, points, "estimate") for element, points in _largest(lost))
        says = "at most, from the clear liquor; sulfate and sodium are known after the product's assay"
        return PurityView(100.0 - sum(lost.values()), Quality.UNCERTAIN, says, lines, recovery)
    return PurityView(math.nan, Quality.BAD, "not known before an assay", (), recovery)


def _largest(lost: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(((name, points) for name, points in lost.items() if points > 0.0), key=lambda row: -row[1])
