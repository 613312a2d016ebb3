"""Engineering units: parse, convert, check. No tags.

A closed table, on purpose: a cell file with an eu that is not listed here is refused. ``K`` is a *difference* of temperature and
``degC`` a temperature, so that ``within 1 K of temp`` cannot be mistaken; ``Nm3`` is an amount of gas, not a volume.

>>> convert(20.0, "L/min", "m3/h")
1.2
>>> parse("0.42 mol/L")
Quantity(value=0.42, eu='mol/L')
>>> str(parse("1 degC/min"))
'1 degC/min'
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["EuError", "Quantity", "compatible", "convert", "difference", "known", "parse"]


class EuError(ValueError):
    """An eu that is not known, or two that do not convert into one another."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value and its eu."""

    value: float
    eu: str

    def to(self, eu: str) -> float:
        """Return the value [eu]."""
        return convert(self.value, self.eu, eu)

    def __str__(self) -> str:
        return f"{self.value:g} {self.eu}".rstrip()


# symbol: (dimensions, factor to the base of those dimensions)
_SYMBOLS: dict[str, tuple[dict[str, int], float]] = {
    "": ({}, 1.0), "1": ({}, 1.0), "%": ({}, 1e-2), "ppm": ({}, 1e-6), "wt%": ({}, 1e-2),
    "pH": ({"pH": 1}, 1.0),
    "degC": ({"degC": 1}, 1.0), "K": ({"K": 1}, 1.0),
    "s": ({"s": 1}, 1.0), "ms": ({"s": 1}, 1e-3), "min": ({"s": 1}, 60.0), "h": ({"s": 1}, 3600.0), "d": ({"s": 1}, 86400.0),
    "kg": ({"kg": 1}, 1.0), "g": ({"kg": 1}, 1e-3), "mg": ({"kg": 1}, 1e-6), "t": ({"kg": 1}, 1e3),
    "mol": ({"mol": 1}, 1.0), "mmol": ({"mol": 1}, 1e-3), "kmol": ({"mol": 1}, 1e3),
    "m": ({"m": 1}, 1.0), "cm": ({"m": 1}, 1e-2), "mm": ({"m": 1}, 1e-3), "um": ({"m": 1}, 1e-6),
    "m2": ({"m": 2}, 1.0), "m3": ({"m": 3}, 1.0), "L": ({"m": 3}, 1e-3), "mL": ({"m": 3}, 1e-6), "cm3": ({"m": 3}, 1e-6),
    "Nm3": ({"Nm3": 1}, 1.0),
    "Pa": ({"Pa": 1}, 1.0), "kPa": ({"Pa": 1}, 1e3), "mbar": ({"Pa": 1}, 1e2), "bar": ({"Pa": 1}, 1e5),
    "V": ({"V": 1}, 1.0), "mV": ({"V": 1}, 1e-3), "A": ({"A": 1}, 1.0), "mA": ({"A": 1}, 1e-3),
    "S": ({"S": 1}, 1.0), "mS": ({"S": 1}, 1e-3), "uS": ({"S": 1}, 1e-6),
    "J": ({"J": 1}, 1.0), "kJ": ({"J": 1}, 1e3), "MJ": ({"J": 1}, 1e6), "kWh": ({"J": 1}, 3.6e6),
    "W": ({"J": 1, "s": -1}, 1.0), "kW": ({"J": 1, "s": -1}, 1e3),
    "rpm": ({"rev": 1, "s": -1}, 1.0 / 60.0), "BV": ({"BV": 1}, 1.0),
}  # fmt: skip


@lru_cache(maxsize=512)
def _resolve(eu: str) -> tuple[tuple[tuple[str, int], ...], float]:
    """Return (dimensions, factor) of an eu such as ``L/min`` or ``mS/cm``."""
    factor, dims = 1.0, dict[str, int]()
    parts = eu.split("/")
    for place, symbol in enumerate(parts):
        entry = _SYMBOLS.get(symbol.strip())
        if entry is None or (symbol == "" and len(parts) > 1):
            raise EuError(f"eu {eu!r} is not known (at {symbol!r}); known symbols: {' '.join(sorted(filter(None, _SYMBOLS)))}")
        sign = 1 if place == 0 else -1
        factor *= entry[1] ** sign
        for name, power in entry[0].items():
            # in a rate (degC/min) a degree is a difference
            base = "K" if name == "degC" and len(parts) > 1 else name
            dims[base] = dims.get(base, 0) + sign * power
    return tuple(sorted((name, power) for name, power in dims.items() if power)), factor


def known(eu: str) -> bool:
    """Whether the eu can be parsed."""
    try:
        _resolve(eu)
    except EuError:
        return False
    return True


def compatible(a: str, b: str) -> bool:
    """Whether a value in eu `a` can be converted to eu `b`."""
    return _resolve(a)[0] == _resolve(b)[0]


def difference(eu: str) -> str:
    """Return the eu of a difference of two values [eu]: ``K`` for ``degC``, else itself."""
    return "K" if eu == "degC" else eu


def convert(value: float, source: str, target: str) -> float:
    """Return `value` [source] in [target]; raise `EuError` when they measure different things."""
    (from_dims, from_factor), (to_dims, to_factor) = _resolve(source), _resolve(target)
    if from_dims != to_dims:
        raise EuError(f"{value:g} {source} cannot be expressed in {target or 'a plain number'}")
    if source == target:
        return value
    # 12 significant digits hide the last bit of two inexact factors and keep every digit an instrument has
    return float(f"{value * (from_factor / to_factor):.12g}")


_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*$")


def parse(text: str | float | int) -> Quantity:
    """Return the `Quantity` written as ``20 L/min``; a bare number has no eu. Raise `EuError` with what was expected."""
    if isinstance(text, bool):
        raise EuError(f"expected a value with its eu, such as '20 L/min', got {text}")
    if isinstance(text, int | float):
        if not math.isfinite(text):
            raise EuError(f"expected a finite value, got {text}")
        return Quantity(float(text), "")
    match = _QUANTITY.match(text)
    if match is None:
        raise EuError(f"expected a value with its eu, such as '20 L/min', got {text!r}")
    eu = match[2] or ""
    _resolve(eu)
    value = float(match[1])
    if not math.isfinite(value):
        raise EuError(f"expected a finite value, got {text!r}")
    return Quantity(value, eu)
