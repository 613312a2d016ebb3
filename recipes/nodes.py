"""What an expression is made of once its eu agree: small objects that give a value and a range.

Ranges are interval arithmetic: never too narrow, sometimes wider than what can happen, since each name is taken for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Protocol, TypeAlias

from drivers.tags import Quality

__all__ = [
    "Absolute", "Constant", "Converted", "Difference", "Greatest", "Least", "Memory", "Names", "Node", "Product", "Quotient",
    "Range", "Read", "Scope", "Sum", "show",
]  # fmt: skip

Memory: TypeAlias = dict[str, float]  # since when [s, plant clock] each `for` clause holds, by its text
Range: TypeAlias = tuple[float, float]
EVERYTHING: Range = (-math.inf, math.inf)


class Scope(Protocol):
    """What an expression reads while it runs."""

    @property
    def now(self) -> float:
        """Plant clock [s]."""

    def value(self, name: str) -> float:
        """Return the value of a name [its declared eu]; NaN unless it can be used."""

    def quality(self, name: str) -> Quality:
        """Return the quality of a name."""

    def done(self, step: str) -> bool:
        """Return whether the step or group of this path is done."""


class Names(Protocol):
    """What an expression may speak of."""

    def eu(self, name: str) -> str | None:
        """Return the declared eu of a name; None if there is none. Raise `ValueError` with why it cannot be used."""

    def known(self) -> Iterable[str]:
        """Return all names, for a suggestion."""

    def range(self, name: str) -> Range:
        """Return the declared range of a name [its eu]."""

    def step(self, name: str) -> str | None:
        """Return the path of the step or group that a name means; None if there is none. Raise `ValueError` with why not."""


def show(value: float, eu: str) -> str:
    """Return a value as people read it: four digits and its eu."""
    if math.isnan(value):
        return "not known"
    number = f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return f"{number} {eu}".rstrip()


class Node:
    """A value. `parts` are what it is made of."""

    __slots__ = ()

    @property
    def parts(self) -> tuple[Node, ...]:
        """The nodes it is made of."""
        return ()

    def value(self, scope: Scope) -> float:
        """Return the value [eu of this node]; NaN if it is not known."""
        raise TypeError("a condition has no value")

    def bounds(self, names: Names) -> Range:
        """Return the lowest and the highest value [eu of this node] that the declared ranges allow."""
        return EVERYTHING


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A number."""

    number: float

    def value(self, scope: Scope) -> float:
        """Return the number."""
        return self.number

    def bounds(self, names: Names) -> Range:
        """Return the number, twice."""
        return self.number, self.number


@dataclass(frozen=True, slots=True)
class Read(Node):
    """The value of a name."""

    name: str

    def value(self, scope: Scope) -> float:
        """Return what the scope knows."""
        return scope.value(self.name)

    def bounds(self, names: Names) -> Range:
        """Return the declared range."""
        return names.range(self.name)


@dataclass(frozen=True, slots=True)
class Converted(Node):
    """A value in another eu, or negated: times `factor`."""

    of: Node
    factor: float

    @property
    def parts(self) -> tuple[Node, ...]:
        """The value."""
        return (self.of,)

    def value(self, scope: Scope) -> float:
        """Return the value times the factor."""
        return self.of.value(scope) * self.factor

    def bounds(self, names: Names) -> Range:
        """Return the range times the factor, the right way round."""
        return _hull(bound * self.factor for bound in self.of.bounds(names))


def _hull(values: Iterable[float]) -> Range:
    """Return the lowest and highest; 0 times infinity is 0 here, since a bound is never reached at infinity."""
    known = [0.0 if math.isnan(value) else value for value in values]
    return min(known), max(known)


@dataclass(frozen=True, slots=True)
class _Pair(Node):
    left: Node
    right: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """Both sides."""
        return self.left, self.right


class Sum(_Pair):
    """Left plus right."""

    __slots__ = ()

    def value(self, scope: Scope) -> float:
        """Return the sum."""
        return self.left.value(scope) + self.right.value(scope)

    def bounds(self, names: Names) -> Range:
        """Return the sums of the lows and of the highs."""
        a, b = self.left.bounds(names), self.right.bounds(names)
        return a[0] + b[0], a[1] + b[1]


class Difference(_Pair):
    """Left minus right."""

    __slots__ = ()

    def value(self, scope: Scope) -> float:
        """Return the difference."""
        return self.left.value(scope) - self.right.value(scope)

    def bounds(self, names: Names) -> Range:
        """Return low minus high, and high minus low."""
        a, b = self.left.bounds(names), self.right.bounds(names)
        return a[0] - b[1], a[1] - b[0]


class Product(_Pair):
    """Left times right."""

    __slots__ = ()

    def value(self, scope: Scope) -> float:
        """Return the product."""
        return self.left.value(scope) * self.right.value(scope)

    def bounds(self, names: Names) -> Range:
        """Return the extremes of the four corners."""
        return _hull(a * b for a, b in product(self.left.bounds(names), self.right.bounds(names)))


class Quotient(_Pair):
    """Left over right; not known when right is zero."""

    __slots__ = ()

    def value(self, scope: Scope) -> float:
        """Return the quotient, NaN over zero."""
        below = self.right.value(scope)
        return self.left.value(scope) / below if below != 0.0 else math.nan

    def bounds(self, names: Names) -> Range:
        """Return the extremes of the four corners; everything if the divisor can be zero."""
        below = self.right.bounds(names)
        if below[0] <= 0.0 <= below[1]:
            return EVERYTHING
        return _hull(a / b for a, b in product(self.left.bounds(names), below))


@dataclass(frozen=True, slots=True)
class Absolute(Node):
    """The size of a value."""

    of: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """The value."""
        return (self.of,)

    def value(self, scope: Scope) -> float:
        """Return the size."""
        return abs(self.of.value(scope))

    def bounds(self, names: Names) -> Range:
        """Return from zero, if that can be, to the larger size."""
        low, high = self.of.bounds(names)
        sizes = (abs(low), abs(high))
        return (0.0 if low <= 0.0 <= high else min(sizes)), max(sizes)


@dataclass(frozen=True, slots=True)
class Least(Node):
    """The least of several values; not known when one is not."""

    of: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """The values."""
        return self.of

    def value(self, scope: Scope) -> float:
        """Return the least, NaN if one is."""
        values = [node.value(scope) for node in self.of]
        return math.nan if any(map(math.isnan, values)) else min(values)

    def bounds(self, names: Names) -> Range:
        """Return the least of the lows and of the highs."""
        lows, highs = zip(*(node.bounds(names) for node in self.of), strict=True)
        return min(lows), min(highs)


@dataclass(frozen=True, slots=True)
class Greatest(Node):
    """The greatest of several values; not known when one is not."""

    of: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """The values."""
        return self.of

    def value(self, scope: Scope) -> float:
        """Return the greatest, NaN if one is."""
        values = [node.value(scope) for node in self.of]
        return math.nan if any(map(math.isnan, values)) else max(values)

    def bounds(self, names: Names) -> Range:
        """Return the greatest of the lows and of the highs."""
        lows, highs = zip(*(node.bounds(names) for node in self.of), strict=True)
        return max(lows), max(highs)
