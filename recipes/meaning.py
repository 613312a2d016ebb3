"""From a parsed expression to nodes: every name is known, every eu agrees with its neighbour's. Errors say where, by offset.

Rules of eu: a sum, a difference and a comparison need eu of one kind, and convert; ``degC - degC`` is K, ``degC + K`` is degC; a product
and a quotient combine; a bare number has no eu and is refused beside %, ppm or mg/kg, where it would mean a hundred or a million of them,
but does for pH, which people write bare.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from lark import Token, Tree

from drivers import eu
from drivers.tags import Quality
from recipes.conditions import All, AnyOf, Compare, Condition, Done, Fixed, IsQuality, Lasting, Not, Within
from recipes.nodes import Absolute, Constant, Converted, Difference, Greatest, Least, Names, Node, Product, Quotient, Read, Sum

__all__ = ["Misuse", "Typed", "give", "means", "nearest"]

Branch: TypeAlias = "Tree[Token] | Token"
BOOL = "bool"


class Misuse(Exception):
    """What is wrong, and at which character of the expression."""

    def __init__(self, at: int, what: str) -> None:
        self.at, self.what = at, what
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Typed:
    """A node, its eu ("bool": a condition), and where it stands in the text."""

    node: Node
    eu: str
    start: int
    end: int
    reads: tuple[str, ...] = ()

    @property
    def constant(self) -> bool:
        """Whether it is a number, with or without eu."""
        return isinstance(self.node, Constant)

    @property
    def condition(self) -> Condition:
        """The node of a condition."""
        if not isinstance(self.node, Condition):
            raise TypeError(f"{self.node} is not a condition")
        return self.node


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a suggestion to append to "no such name", empty if nothing is near."""
    near = difflib.get_close_matches(name, list(dict.fromkeys(known)), 2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def named(unit: str) -> str:
    """Return an eu as people say it."""
    return unit or "a plain number"


def _in(unit: str) -> str:
    return f"in {unit}" if unit else "a plain number"


# eu ---------------------------------------------------------------------------------------------------------------------


def _scaled(unit: str) -> bool:
    """Whether an eu is a plain number by another factor, such as % or mg/kg."""
    return eu.compatible(unit, "") and eu.factor(unit, "") != 1.0


def _agree(unit: str, other: str) -> bool:
    if "pH" in (unit, other) and "" in (unit, other):
        return True
    return eu.compatible(unit, other)


def convert(typed: Typed, unit: str) -> Node:
    """Return a node of compatible eu in [unit]."""
    if typed.eu == unit or "pH" in (typed.eu, unit):
        return typed.node
    if isinstance(typed.node, Constant):
        return Constant(eu.convert(typed.node.number, typed.eu, unit))
    factor = eu.factor(typed.eu, unit)
    return typed.node if factor == 1.0 else Converted(typed.node, factor)


def give(typed: Typed, want: str, text: str) -> Node:
    """Return the node of a whole expression in the eu that is wanted; raise `Misuse`."""
    what = text[typed.start : typed.end]
    if want == BOOL:
        if typed.eu != BOOL:
            raise Misuse(typed.start, f"expected a condition, but {what!r} is a value ({named(typed.eu)}); compare it with something")
        return typed.node
    if typed.eu == BOOL:
        raise Misuse(typed.start, f"expected a value in {named(want)}, but {what!r} is a condition")
    _not_bare(typed, want, what)
    if not _agree(typed.eu, want):
        hint = "; a difference of temperatures is in K" if {typed.eu, want} == {"K", "degC"} else ""
        raise Misuse(typed.start, f"expected a value in {named(want)}, but {what!r} is {_in(typed.eu)}{hint}")
    return convert(typed, want)


def _not_bare(typed: Typed, other: str, what: str) -> None:
    if typed.constant and typed.eu == "" and _scaled(other):
        raise Misuse(typed.start, f"{what} has no eu; write '{what} {other}'")


# the walk ---------------------------------------------------------------------------------------------------------------


def means(branch: Branch, text: str, names: Names) -> Typed:
    """Return what a parsed expression means; raise `Misuse`."""
    return _Meaning(text, names).of(branch)


class _Meaning:
    def __init__(self, text: str, names: Names) -> None:
        self.text, self.names = text, names

    def of(self, branch: Branch) -> Typed:
        if isinstance(branch, Token):
            raise TypeError(f"the grammar leaves a bare token {branch!r}")
        make: Callable[[Tree[Token], int, int], Typed] = getattr(self, f"_{branch.data}")
        return make(branch, branch.meta.start_pos, branch.meta.end_pos)

    def _text(self, typed: Typed) -> str:
        return self.text[typed.start : typed.end]

    def _value(self, branch: Branch) -> Typed:
        typed = self.of(branch)
        if typed.eu == BOOL:
            raise Misuse(typed.start, f"expected a value, but {self._text(typed)!r} is a condition")
        return typed

    def _truth(self, branch: Branch) -> Typed:
        typed = self.of(branch)
        if typed.eu != BOOL:
            raise Misuse(typed.start, f"expected a condition, but {self._text(typed)!r} is a value ({named(typed.eu)})")
        return typed

    def _same(self, verb: str, left: Typed, right: Typed) -> tuple[Node, Node, str]:
        """Return both in one eu: that of the side that is not a constant."""
        _not_bare(left, right.eu, self._text(left))
        _not_bare(right, left.eu, self._text(right))
        if not _agree(left.eu, right.eu):
            hint = "; a difference of temperatures is in K" if {left.eu, right.eu} == {"K", "degC"} else ""
            raise Misuse(right.start, f"cannot {verb} {named(left.eu)} with {named(right.eu)}{hint}")
        unit = right.eu if (left.constant and not right.constant) or left.eu == "" else left.eu
        return convert(left, unit), convert(right, unit), unit

    # values

    def _number(self, tree: Tree[Token], start: int, end: int) -> Typed:
        return Typed(Constant(self._finite(str(tree.children[0]), start)), "", start, end)

    def _quantity(self, tree: Tree[Token], start: int, end: int) -> Typed:
        try:
            given = eu.parse(str(tree.children[0]))
        except eu.EuError as error:
            raise Misuse(start, f"{error}; to divide by a name, put spaces around the /" if "/" in self.text[start:end] else str(error)) from None
        return Typed(Constant(given.value), given.eu, start, end)

    @staticmethod
    def _finite(text: str, at: int) -> float:
        number = float(text)
        if number == float("inf"):
            raise Misuse(at, f"{text} is too large a number")
        return number

    def _name(self, tree: Tree[Token], start: int, end: int) -> Typed:
        name = str(tree.children[0])
        return Typed(Read(name), self._eu(name, start), start, end, (name,))

    def _eu(self, name: str, at: int) -> str:
        try:
            unit = self.names.eu(name)
        except ValueError as error:
            raise Misuse(at, str(error)) from None
        if unit is None:
            raise Misuse(at, f"no name {name!r} here{nearest(name, self.names.known())}")
        return unit

    def _parentheses(self, tree: Tree[Token], start: int, end: int) -> Typed:
        inner = self.of(tree.children[0])
        return Typed(inner.node, inner.eu, start, end, inner.reads)

    def _sign(self, tree: Tree[Token], start: int, end: int) -> Typed:
        inner = self._value(tree.children[1])
        if tree.children[0] == "+":
            return inner
        node = Constant(-inner.node.number) if isinstance(inner.node, Constant) else Converted(inner.node, -1.0)
        return Typed(node, inner.eu, start, end, inner.reads)

    def _sum(self, tree: Tree[Token], start: int, end: int) -> Typed:
        total = self._value(tree.children[0])
        for sign, branch in zip(tree.children[1::2], tree.children[2::2], strict=True):
            total = (self._add if sign == "+" else self._subtract)(total, self._value(branch))
        return total

    def _add(self, left: Typed, right: Typed) -> Typed:
        reads = left.reads + right.reads
        kinds = ["degC" if side.eu == "degC" else "K" if eu.compatible(side.eu, "K") else "" for side in (left, right)]
        if kinds in (["degC", "K"], ["K", "degC"]):
            a = left.node if kinds[0] == "degC" else convert(left, "K")
            b = right.node if kinds[1] == "degC" else convert(right, "K")
            return _folded(Typed(Sum(a, b), "degC", left.start, right.end, reads))
        if kinds == ["degC", "degC"]:
            raise Misuse(right.start, "cannot add two temperatures; a difference is written in K")
        a, b, unit = self._same("add", left, right)
        return _folded(Typed(Sum(a, b), unit, left.start, right.end, reads))

    def _subtract(self, left: Typed, right: Typed) -> Typed:
        reads = left.reads + right.reads
        if left.eu == "degC" and right.eu != "degC" and eu.compatible(right.eu, "K"):
            return _folded(Typed(Difference(left.node, convert(right, "K")), "degC", left.start, right.end, reads))
        a, b, unit = self._same("subtract", left, right)
        return _folded(Typed(Difference(a, b), eu.difference(unit), left.start, right.end, reads))

    def _product(self, tree: Tree[Token], start: int, end: int) -> Typed:
        total = self._value(tree.children[0])
        for sign, branch in zip(tree.children[1::2], tree.children[2::2], strict=True):
            other = self._value(branch)
            try:
                unit = (eu.product if sign == "*" else eu.quotient)(total.eu, other.eu)
            except eu.EuError as error:
                raise Misuse(total.start if total.eu == "degC" else other.start, str(error)) from None
            if sign == "/" and isinstance(other.node, Constant) and other.node.number == 0.0:
                raise Misuse(other.start, "divides by zero")
            node = (Product if sign == "*" else Quotient)(total.node, other.node)
            total = _folded(Typed(node, unit, total.start, other.end, total.reads + other.reads))
        return total

    def _call(self, tree: Tree[Token], start: int, end: int) -> Typed:
        function = str(tree.children[0])
        given = [self._value(branch) for branch in tree.children[1:]]
        reads = tuple(name for typed in given for name in typed.reads)
        if function == "abs":
            if len(given) != 1:
                raise Misuse(given[1].start, f"abs takes one value, got {len(given)}")
            return _folded(Typed(Absolute(given[0].node), given[0].eu, start, end, reads))
        if len(given) < 2:
            raise Misuse(start, f"{function} takes two values or more")
        first = next((typed for typed in given if not typed.constant), given[0])
        if first.eu == "":
            first = next((typed for typed in given if typed.eu), first)
        for typed in given:
            self._same("compare", first, typed)
        nodes = tuple(convert(typed, first.eu) for typed in given)
        return _folded(Typed((Least if function == "min" else Greatest)(nodes), first.eu, start, end, reads))

    # conditions

    def _flag(self, tree: Tree[Token], start: int, end: int) -> Typed:
        return Typed(Fixed(tree.children[0] == "true"), BOOL, start, end)

    def _compare(self, tree: Tree[Token], start: int, end: int) -> Typed:
        left, right = self._value(tree.children[0]), self._value(tree.children[2])
        a, b, unit = self._same("compare", left, right)
        other = "" if right.constant else self._text(right)
        node = Compare(a, b, unit, self.text[start:end], other, str(tree.children[1]))
        return Typed(node, BOOL, start, end, left.reads + right.reads)

    def _within(self, tree: Tree[Token], start: int, end: int) -> Typed:
        left, distance, right = (self._value(branch) for branch in tree.children)
        a, b, unit = self._same("compare", left, right)
        wanted = eu.difference(unit)
        _not_bare(distance, wanted, self._text(distance))
        if not _agree(distance.eu, wanted):
            raise Misuse(distance.start, f"a distance between values in {named(unit)} is in {named(wanted)}, not in {named(distance.eu)}")
        other = "" if right.constant else self._text(right)
        node = Within(a, b, unit, self.text[start:end], other, convert(distance, wanted))
        return Typed(node, BOOL, start, end, left.reads + distance.reads + right.reads)

    def _lasting(self, tree: Tree[Token], start: int, end: int) -> Typed:
        inner, time = self._truth(tree.children[0]), self._value(tree.children[1])
        if not eu.compatible(time.eu, "s"):
            raise Misuse(time.start, f"expected a time such as '30 s' after 'for', got a value in {named(time.eu)}")
        if isinstance(time.node, Constant) and not time.node.number > 0.0:
            raise Misuse(time.start, "expected a time above 0 after 'for'")
        text = self.text[start:end]
        node = Lasting(inner.condition, convert(time, "s"), text, time.eu, text)
        return Typed(node, BOOL, start, end, inner.reads + time.reads)

    def _quality(self, tree: Tree[Token], start: int, end: int) -> Typed:
        name = str(tree.children[0])
        self._eu(name, start)
        return Typed(IsQuality(name, Quality[str(tree.children[1]).upper()]), BOOL, start, end, (name,))

    def _done(self, tree: Tree[Token], start: int, end: int) -> Typed:
        name = str(tree.children[0])
        try:
            path = self.names.step(name)
        except ValueError as error:
            raise Misuse(start, str(error)) from None
        if path is None:
            raise Misuse(start, f"no step {name!r} here")
        return Typed(Done(path), BOOL, start, end)

    def _negate(self, tree: Tree[Token], start: int, end: int) -> Typed:
        inner = self._truth(tree.children[0])
        return Typed(Not(inner.condition), BOOL, start, end, inner.reads)

    def _both(self, tree: Tree[Token], start: int, end: int) -> Typed:
        return self._several(All, tree, start, end)

    def _either(self, tree: Tree[Token], start: int, end: int) -> Typed:
        return self._several(AnyOf, tree, start, end)

    def _several(self, kind: type[All] | type[AnyOf], tree: Tree[Token], start: int, end: int) -> Typed:
        inner = [self._truth(branch) for branch in tree.children]
        conditions = tuple(typed.condition for typed in inner)
        reads = tuple(name for typed in inner for name in typed.reads)
        return Typed(kind(conditions, any(condition.timed for condition in conditions)), BOOL, start, end, reads)


class _Nothing:
    """A scope without names, for folding constants."""

    now = 0.0

    def value(self, name: str) -> float:
        raise KeyError(name)

    def quality(self, name: str) -> Quality:
        raise KeyError(name)

    def done(self, step: str) -> bool:
        raise KeyError(step)


def _folded(typed: Typed) -> Typed:
    """Return a constant for an operation on constants."""
    if all(isinstance(part, Constant) for part in typed.node.parts):
        return Typed(Constant(typed.node.value(_Nothing())), typed.eu, typed.start, typed.end, typed.reads)
    return typed
