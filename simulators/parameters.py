"""Parameters of the simulated units: every constant a dataclass field with its eu, the kind and text of its source, and its range.

A *plant instance* is one plant that could stand behind the literature: `draw` gives it the assumed constants, each from its range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np

__all__ = ["Kind", "Note", "Row", "describe", "draw", "parameter"]

T = TypeVar("T")
# literature, textbook, assumed, the size of a machine, fitted to a figure that the source names
Kind = Literal["L", "T", "A", "size", "calibrated"]
_FACTOR = 1.3  # up and down, where an assumed value names no range
_NOTE = "note"


@dataclass(frozen=True)
class Note:
    """What is known of a parameter. The `range` of a tuple is that of one factor on all its members."""

    eu: str  # "1" without a dimension
    kind: Kind
    source: str
    range: tuple[float, float] | None


class Row(NamedTuple):
    """A parameter as a page lists it; a part's parameters have dotted names."""

    name: str
    value: float | tuple[float, ...]
    note: Note


def parameter(default: T, eu: str, kind: Kind, source: str = "", *, range: tuple[float, float] | None = None) -> T:
    """Declare a field of a frozen dataclass: a number, or a tuple of numbers that vary together.

    An assumed value without a range gets a factor of 1.3 up and down. Raises `ValueError` without an eu, without a source (unless
    assumed), or when the value is not in its range.
    """
    if not eu:
        raise ValueError(f"parameter {default!r}: expected an eu, '1' for a number without one")
    if kind != "A" and not source:
        raise ValueError(f"parameter {default!r} {eu}: kind {kind!r} needs a source")
    middle = 1.0 if isinstance(default, tuple) else float(cast(float, default))
    if range is None and kind == "A":
        range = (middle / _FACTOR, middle * _FACTOR)
    if range is not None and not (range[0] <= middle <= range[1] and range[0] < range[1]):
        raise ValueError(f"parameter {default!r} {eu}: expected a value within its range, got {range[0]:g} to {range[1]:g} {eu}")
    # the type checkers see the value, the dataclass the field
    return field(default=default, metadata={_NOTE: Note(eu, kind, source, range)})


def draw(cls: type[T], rng: np.random.Generator) -> T:
    """Return an instance with every assumed parameter drawn from its range and all others at their default.

    Log-uniform, or uniform where the range reaches 0 or below; a part of its own is drawn in turn.
    """
    return _draw(cls(), rng)


def _draw(nominal: T, rng: np.random.Generator) -> T:
    changed: dict[str, Any] = {}
    for entry in fields(cast(Any, nominal)):
        value = getattr(nominal, entry.name)
        if is_dataclass(value):
            changed[entry.name] = _draw(value, rng)
            continue
        note: Note = entry.metadata[_NOTE]
        if note.kind == "A" and note.range is not None:
            new = _within(*note.range, rng)
            changed[entry.name] = tuple(member * new for member in value) if isinstance(value, tuple) else new
        else:
            changed[entry.name] = value
    return type(nominal)(**changed)


def _within(low: float, high: float, rng: np.random.Generator) -> float:
    share = float(rng.random())
    # the bounds again: a logarithm and back may end an ulp outside
    new = low * math.pow(high / low, share) if low > 0.0 else low + share * (high - low)
    return min(max(new, low), high)


def describe(cls: type[Any]) -> list[Row]:
    """Return a row for every parameter, the parts' own after their place."""
    return list(_rows(cls(), ""))


def _rows(nominal: Any, prefix: str) -> Iterator[Row]:
    for entry in fields(nominal):
        value = getattr(nominal, entry.name)
        if is_dataclass(value):
            yield from _rows(value, f"{prefix}{entry.name}.")
        else:
            yield Row(prefix + entry.name, value, entry.metadata[_NOTE])
