"""Expressions of a recipe: parse, make the eu agree, and hand out something fast that says what it waits for.

Nothing of an expression is Python's: the grammar in ``grammar.lark`` is all there is.

>>> from drivers.tags import Quality
>>> class Tank:
...     now = 0.0
...     def eu(self, name): return {"T": "degC", "level": "m3"}.get(name)
...     def known(self): return ["T", "level"]
...     def range(self, name): return (0.0, 120.0) if name == "T" else (0.0, 5.0)
...     def step(self, name): return None
...     def value(self, name): return {"T": 79.5, "level": 2.0}[name]
...     def quality(self, name): return Quality.GOOD
...     def done(self, step): return False
>>> warm = compile_expression("T within 1 K of 80 degC and level > 500 L", Tank(), want="bool")
>>> warm.truth(Tank(), {})
True
>>> compile_expression("level - 0.5 m3", Tank(), want="L").value(Tank())
1500.0
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from drivers.source import BadInput, Position, Problem
from recipes.conditions import Condition, Done
from recipes.meaning import Misuse, Typed, give, means
from recipes.nodes import Memory, Names, Node, Range, Scope, show

__all__ = ["Expression", "Memory", "Names", "Range", "Scope", "compile_expression", "is_name"]

LONGEST = 600  # characters; nobody reads more, and it bounds the depth of what is built
_DEEPEST = 40
RESERVED = frozenset(["and", "or", "not", "for", "within", "of", "is", "good", "bad", "uncertain", "done", "true", "false", "abs", "min", "max"])
_NAME = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)


def is_name(text: str) -> bool:
    """Whether a unit, parameter, record or step may be called this: letters, digits and _, no word of the grammar."""
    return _NAME.match(text) is not None and text not in RESERVED


@dataclass(frozen=True, slots=True)
class Expression:
    """A value or a condition, ready to run; compiled by `compile_expression`."""

    text: str
    eu: str  # "bool" for a condition
    names: tuple[str, ...]  # that it reads, in the order of the text
    steps: tuple[str, ...]  # paths of the steps whose end it asks for
    node: Node = field(repr=False, compare=False)

    def value(self, scope: Scope) -> float:
        """Return the value [`eu`]; NaN if it is not known. Raise `TypeError` for a condition."""
        return self.node.value(scope)

    def truth(self, scope: Scope, memory: Memory) -> bool | None:
        """Return whether the condition holds; None while an input that decides it is not known.

        `memory` is plain data, since when [s, plant clock] each `for` clause holds; keep it, one for each place of use.
        """
        if not isinstance(self.node, Condition):
            raise TypeError(f"{self.text!r} is a value, not a condition")
        return self.node.truth(scope, memory)

    def explain(self, scope: Scope, memory: Memory) -> str:
        """Return one sentence with live values, such as ``R1.oxygen < 0.5 %, now 1.3 %``; `memory` stays as it is."""
        if isinstance(self.node, Condition):
            return self.node.explain(scope, memory)
        return f"{self.text} = {show(self.node.value(scope), self.eu)}"

    def bounds(self, names: Names) -> Range:
        """Return the range [`eu`] that the declared ranges of its names allow; never too narrow."""
        return self.node.bounds(names)


@cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="basic", propagate_positions=True, maybe_placeholders=False)


_WORDS = {"NAME": "a name", "NUMBER": "a value", "LPAR": "'('", "RPAR": "')'", "QUALITY": "good, bad or uncertain", "OF": "'of'"}


def _expected(error: UnexpectedToken) -> str:
    accepts = error.accepts or error.expected
    if "NAME" in accepts:
        return "expected a value or a name"
    words = [_WORDS[kind] for kind in ("QUALITY", "OF", "RPAR") if kind in accepts]
    return f"expected {' or '.join(words)}" if words else "expected an operator such as < or and"


def _complain(text: str, error: UnexpectedInput) -> Misuse:
    """Return what is wrong with the grammar of `text`, in words."""
    if isinstance(error, UnexpectedCharacters):
        at = error.pos_in_stream or 0
        hints = {"=": "; to compare write ==", "&": "; write and", "|": "; write or", "!": "; write not", "^": "; there are no powers"}
        return Misuse(at, f"{text[at]!r} is not part of an expression{hints.get(text[at], '')}")
    if isinstance(error, UnexpectedToken):
        token = error.token
        if token.type == "$END":
            return Misuse(len(text), f"the expression ends too soon; {_expected(error)}")
        at = token.start_pos or 0
        if token.type == "COMPARE" and "NAME" not in (error.accepts or error.expected):
            return Misuse(at, f"{str(token)!r} cannot follow a comparison; write 'a < b and b < c'")
        return Misuse(at, f"did not expect {str(token)!r} here; {_expected(error)}")
    return Misuse(0, "cannot be read as an expression")


def _depth(text: str) -> int:
    deepest = now = 0
    for letter in text:
        now += (letter == "(") - (letter == ")")
        deepest = max(deepest, now)
    return max(deepest, len(re.findall(r"\bnot\b", text)), len(re.findall(r"[-+](?=[\s+-]*[-+])", text)))


def compile_expression(text: str, names: Names, *, want: str, where: Position | None = None) -> Expression:
    """Return the expression of `text`, whose value is wanted in the eu `want` ("bool": a condition).

    `where` is the place of its first character. Raise `BadInput` with the exact column of what is wrong: grammar, a name or
    step that does not exist, eu that do not agree.
    """
    try:
        if not text.strip():
            raise Misuse(0, f"expected {'a condition' if want == 'bool' else 'a value with its eu'}, got nothing")
        if len(text) > LONGEST or _depth(text) > _DEEPEST:
            raise Misuse(0, f"the expression is too long or nested too deeply; at most {LONGEST} characters and {_DEEPEST} levels")
        try:
            tree: Tree[Token] = _parser().parse(text)
        except UnexpectedInput as error:
            raise _complain(text, error) from None
        typed = means(tree.children[0], text, names)
        node = give(typed, want, text)
    except Misuse as misuse:
        raise BadInput([Problem(_shift(where or Position("expression"), text, misuse.at), misuse.what)]) from None
    return Expression(text.strip(), want, _names(typed), _steps(node), node)


def _shift(where: Position, text: str, at: int) -> Position:
    lines = text.count("\n", 0, at)
    column = at - text.rfind("\n", 0, at) if lines else where.column + at
    return Position(where.file, where.line + lines, column)


def _names(typed: Typed) -> tuple[str, ...]:
    return tuple(dict.fromkeys(typed.reads))


def _steps(node: Node) -> tuple[str, ...]:
    found = [node.step] if isinstance(node, Done) else []
    return tuple(dict.fromkeys([*found, *(step for part in node.parts for step in _steps(part))]))
