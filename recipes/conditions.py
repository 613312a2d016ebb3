"""Conditions: small objects that give a truth and a sentence.

Truth has three values. None is *unknown*: an input is NaN, so that neither the condition nor its opposite holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers import eu as units
from drivers.tags import Quality
from recipes.nodes import Memory, Node, Scope, show

__all__ = ["All", "AnyOf", "Compare", "Condition", "Done", "Fixed", "IsQuality", "Lasting", "Not", "Within"]


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
