"""Comparisons of measurements with limits, as arrays: the common ground of interlocks and alarms."""

from __future__ import annotations

import numpy as np

from controller.core.plan import Condition
from drivers.tags import BoolArray, FloatArray

__all__ = ["margin", "met"]


def margin(condition: Condition, values: FloatArray) -> FloatArray:
    """Return how far inside its limit each value is [its eu], shape (n,); NaN for a BAD value."""
    result: FloatArray = condition.sign * (condition.limit - values[condition.place])
    return result


def met(condition: Condition, inside: FloatArray, needed: FloatArray | None = None) -> BoolArray:
    """Return which conditions are met, with at least `needed` [eu] to spare when that is given; false for NaN."""
    if needed is None:
        given: BoolArray = inside >= condition.least
        return given
    return np.where(condition.strict, inside > needed, inside >= needed)
