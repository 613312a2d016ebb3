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

import difflib
import math
import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["EuError", "Quantity", "compatible", "convert", "difference", "factor", "known", "nearest", "parse", "product", "quotient"]


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
    "Pa": ({"Pa": 1}, 1.0), "kPa": ({"Pa": 1}, 1e3), "MPa": ({"Pa": 1}, 1e6), "mbar": ({"Pa": 1}, 1e2), "bar": ({"Pa": 1}, 1e5),
    "V": ({"V": 1}, 1.0), "mV": ({"V": 1}, 1e-3), "A": ({"A": 1}, 1.0), "mA": ({"A": 1}, 1e-3),
    "S": ({"S": 1}, 1.0), "mS": ({"S": 1}, 1e-3), "uS": ({"S": 1}, 1e-6),
    "J": ({"J": 1}, 1.0), "kJ": ({"J": 1}, 1e3), "MJ": ({"J": 1}, 1e6), "kWh": ({"J": 1}, 3.6e6),
    "W": ({"J": 1, "s": -1}, 1.0), "kW": ({"J": 1, "s": -1}, 1e3),
    "Hz": ({"s": -1}, 1.0), "rpm": ({"rev": 1, "s": -1}, 1.0 / 60.0), "BV": ({"BV": 1}, 1.0),
}  # fmt: skip
# as others write them, in small letters
_SPELLINGS = {
    "c": "degC", "°c": "degC", "celsius": "degC", "sec": "s", "hr": "h", "hour": "h", "day": "d", "ltr": "L", "cbm": "m3", "to": "t", "percent": "%",
}  # fmt: skip
_PARTS = re.compile(r"([*/])")


@lru_cache(maxsize=512)
def _resolve(eu: str) -> tuple[tuple[tuple[str, int], ...], float]:
    """Return (dimensions, factor) of an eu such as ``L/min``, ``mS/cm`` or ``L/min*h``, read from left to right."""
    factor, dims = 1.0, dict[str, int]()
    parts = _PARTS.split(f"*{eu}")[1:]  # operator, symbol, operator, symbol ...
    for operator, symbol in zip(parts[::2], parts[1::2], strict=True):
        entry = _SYMBOLS.get(symbol.strip())
        if entry is None or (symbol == "" and len(parts) > 2):
            raise EuError(f"eu {eu!r} is not known (at {symbol!r}); known symbols: {' '.join(sorted(filter(None, _SYMBOLS)))}")
        sign = 1 if operator == "*" else -1
        factor *= entry[1] ** sign
        for name, power in entry[0].items():
            # in a rate (degC/min) a degree is a difference
            base = "K" if name == "degC" and len(parts) > 2 else name
            dims[base] = dims.get(base, 0) + sign * power
    return tuple(sorted((name, power) for name, power in dims.items() if power)), factor


def known(eu: str) -> bool:
    """Whether the eu can be parsed."""
    try:
        _resolve(eu)
    except EuError:
        return False
    return True


def nearest(eu: str) -> str | None:
    """Return the eu that was likely meant by one that is not known; None when no symbol comes near.

    >>> nearest("l/min"), nearest("kg/hr"), nearest("furlong")
    ('L/min', 'kg/h', None)
    """
    meant = []
    for operator, symbol in _factors(eu):
        if symbol not in _SYMBOLS:
            folded = {known.casefold(): known for known in reversed(_SYMBOLS)} | _SPELLINGS
            near = difflib.get_close_matches(symbol.casefold(), folded, 1, 0.76)  # degF is not degC
            if not near:
                return None
            symbol = folded[near[0]]
        meant.append((operator, symbol))
    return _joined(*meant)


def compatible(a: str, b: str) -> bool:
    """Whether a value in eu `a` can be converted to eu `b`."""
    return _resolve(a)[0] == _resolve(b)[0]


def difference(eu: str) -> str:
    """Return the eu of a difference of two values [eu]: ``K`` for ``degC``, else itself."""
    return "K" if eu == "degC" else eu


def factor(source: str, target: str) -> float:
    """Return what a value [source] is multiplied by to be in [target]; raise `EuError` when they measure different things."""
    return convert(1.0, source, target)


def _factors(eu: str) -> list[tuple[str, str]]:
    parts = _PARTS.split(f"*{eu}")[1:]
    return [(operator, symbol.strip()) for operator, symbol in zip(parts[::2], parts[1::2], strict=True) if symbol.strip() not in ("", "1")]


def _joined(*factors: tuple[str, str]) -> str:
    """Return the eu made of (operator, symbol) pairs, with the symbols that cancel left out."""
    above, below = [symbol for sign, symbol in factors if sign == "*"], list[str]()
    for symbol in (symbol for sign, symbol in factors if sign == "/"):
        above.remove(symbol) if symbol in above else below.append(symbol)
    left = "*".join(above) or ("1" if below else "")
    return "/".join([left, *below])


def product(a: str, b: str) -> str:
    """Return the eu of a value [a] times a value [b]; raise `EuError` for a temperature, whose zero is arbitrary.

    >>> product("L/min", "min"), product("", "kg"), product("L", "mol/L")
    ('L', 'kg', 'mol')
    """
    _no_temperature(a, b)
    return _joined(*_factors(a), *_factors(b))


def quotient(a: str, b: str) -> str:
    """Return the eu of a value [a] over a value [b]; raise `EuError` for a temperature.

    >>> quotient("L", "min"), quotient("kg", "kg"), quotient("", "L/min")
    ('L/min', '', 'min/L')
    """
    _no_temperature(a, b)
    return _joined(*_factors(a), *(("/" if sign == "*" else "*", symbol) for sign, symbol in _factors(b)))


def _no_temperature(*eus: str) -> None:
    if "degC" in eus:
        raise EuError("a temperature [degC] cannot be multiplied or divided; take the difference of two, which is in K")


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
