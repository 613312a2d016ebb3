"""What an expression is made of once its eu agree: small objects that give a value, a truth, a range and a sentence.

Truth has three values. None is *unknown*: an input is NaN, so that neither the condition nor its opposite holds.
Ranges are interval arithmetic: never too narrow, sometimes wider than what can happen, since each name is taken for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Protocol, TypeAlias

from drivers import eu as units
from drivers.tags import Quality

__all__ = [
    "Absolute", "All", "AnyOf", "Compare", "Condition", "Constant", "Converted", "Difference", "Done", "Fixed", "Greatest",
    "IsQuality", "Lasting", "Least", "Memory", "Names", "Node", "Not", "Product", "Quotient", "Range", "Read", "Scope",
    "Sum", "Within", "show",
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


# Conditions -------------------------------------------------------------------------------------------------------------


class Condition(Node):
    """True, false, or not known. `explain` says it with live values."""

    __slots__ = ()

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return whether it holds; None while that is not known."""
        raise NotImplementedError

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Return one sentence; `memory` stays as it is."""
        raise NotImplementedError

    @property
    def timed(self) -> bool:
        """Whether a `for` stands in it, so that it has to be judged in every scan."""
        return any(isinstance(part, Condition) and part.timed for part in self.parts)


@dataclass(frozen=True, slots=True)
class Fixed(Condition):
    """``true`` or ``false``."""

    holds: bool

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return it."""
        return self.holds

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Return it in words."""
        return "true" if self.holds else "false"


@dataclass(frozen=True, slots=True)
class _Measured(Condition):
    """Two values [eu] and the text of the condition; `other` is the text of the right one, empty for a constant."""

    left: Node
    right: Node
    eu: str
    text: str
    other: str

    @property
    def parts(self) -> tuple[Node, ...]:
        """Both sides."""
        return self.left, self.right

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Return the text and the values as they are now."""
        now = f"{self.text}, now {show(self.left.value(scope), self.eu)}"
        return f"{now}, {self.other} {show(self.right.value(scope), self.eu)}" if self.other else now


@dataclass(frozen=True, slots=True)
class Compare(_Measured):
    """Left against right; `operator` is one of < <= > >= == !=."""

    operator: str

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return the comparison; None if a side is NaN."""
        a, b, operator = self.left.value(scope), self.right.value(scope), self.operator
        if a != a or b != b:
            return None
        if operator == ">":
            return a > b
        if operator == "<":
            return a < b
        if operator == ">=":
            return a >= b
        if operator == "<=":
            return a <= b
        return (a == b) is (operator == "==")


@dataclass(frozen=True, slots=True)
class Within(_Measured):
    """Left no further than `distance` from right; `eu` is theirs, the distance is in the eu of a difference of it."""

    distance: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """Left, right and distance."""
        return self.left, self.right, self.distance

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return whether they are near; None if one of the three is NaN."""
        gap = abs(self.left.value(scope) - self.right.value(scope)) - self.distance.value(scope)
        return None if gap != gap else gap <= 0.0


@dataclass(frozen=True, slots=True)
class Lasting(Condition):
    """A condition that has held without a break for a time. Not knowing is a break."""

    of: Condition
    time: Node  # [s]
    key: str
    eu: str  # in which people read the time
    text: str

    @property
    def parts(self) -> tuple[Node, ...]:
        """The condition and the time."""
        return self.of, self.time

    @property
    def timed(self) -> bool:
        """Always."""
        return True

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Note since when it holds; return whether that is long enough."""
        holds = self.of.truth(scope, memory)
        if holds is not True:
            memory.pop(self.key, None)
            return holds
        now, time = scope.now, self.time.value(scope)
        since = memory.setdefault(self.key, now)
        if since > now:  # the memory of a plant whose clock was ahead: begin again
            since = memory[self.key] = now
        # a clock of 1.7e9 s resolves 0.24 us: a microsecond may be missing
        return None if time != time else now - since >= time - 1e-6

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Return the condition, and how much of the time has passed."""
        time = units.convert(self.time.value(scope), "s", self.eu)
        held = units.convert(max(scope.now - memory.get(self.key, scope.now), 0.0), "s", self.eu)
        return f"{self.of.explain(scope, memory)}, held {min(held, time):.3g} of {show(time, self.eu)}"


@dataclass(frozen=True, slots=True)
class IsQuality(Condition):
    """A name has this quality."""

    name: str
    wanted: Quality

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return whether; quality is always known."""
        return scope.quality(self.name) == self.wanted

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Return both qualities."""
        return f"{self.name} is {self.wanted.name.lower()}, now {Quality(scope.quality(self.name)).name.lower()}"


@dataclass(frozen=True, slots=True)
class Done(Condition):
    """A step is done."""

    step: str

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return whether."""
        return scope.done(self.step)

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Say it of the path."""
        return f"{self.step} is done" if scope.done(self.step) else f"{self.step} to be done"


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The opposite; of what is not known, not known."""

    of: Condition

    @property
    def parts(self) -> tuple[Node, ...]:
        """The condition."""
        return (self.of,)

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return the opposite."""
        holds = self.of.truth(scope, memory)
        return None if holds is None else not holds

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Return the condition after "not"."""
        return f"not ({self.of.explain(scope, memory)})"


@dataclass(frozen=True, slots=True)
class _Several(Condition):
    of: tuple[Condition, ...]
    every: bool  # a `for` stands in it: judge all of them, whatever the first ones say

    @property
    def parts(self) -> tuple[Node, ...]:
        """The conditions."""
        return self.of

    def _judge(self, scope: Scope, memory: Memory, decisive: bool) -> bool | None:
        result: bool | None = not decisive
        for condition in self.of:
            holds = condition.truth(scope, memory)
            if holds is decisive:
                result = decisive
                if not self.every:
                    return result
            elif holds is None and result is not decisive:
                result = None
        return result


class All(_Several):
    """``and``: false if one is, else not known if one is not."""

    __slots__ = ()

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return whether all hold."""
        return self._judge(scope, memory, decisive=False)

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Return what does not hold yet; all of it if everything does."""
        missing = [condition for condition in self.of if condition.truth(scope, dict(memory)) is not True]
        return " and ".join(condition.explain(scope, memory) for condition in missing or self.of)


class AnyOf(_Several):
    """``or``: true if one is, else not known if one is not."""

    __slots__ = ()

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return whether one holds."""
        return self._judge(scope, memory, decisive=True)

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Return what holds; all of it if nothing does."""
        holding = [condition for condition in self.of if condition.truth(scope, dict(memory)) is True]
        return " or ".join(condition.explain(scope, memory) for condition in holding or self.of)
