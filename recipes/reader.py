"""Take values out of a recipe's document, noting everything that is wrong with them instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drivers import eu
from drivers.source import BadInput, Document, KeyPath, Problem
from recipes.expression import Expression, compile_expression, is_name
from recipes.meaning import nearest
from recipes.nodes import Names

__all__ = ["Reader"]


class Reader:
    """A document and what is wrong with it. Every method returns something usable, or None, and notes the problem."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def say(self, at: KeyPath, what: str, *, value: bool = False) -> None:
        """Note a problem at the key of `at`, or at its value."""
        self.problems.append(Problem(self.document.value_at(*at) if value else self.document.at(*at), what))

    def mapping(self, data: Any, at: KeyPath, *, required: Sequence[str] = (), optional: Sequence[str] = (), what: str) -> dict[str, Any]:
        """Return a mapping with these keys only."""
        if not isinstance(data, dict):
            self.say(at, f"{what}: expected keys and values, such as {{{next(iter((*required, *optional)), 'key')}: ...}}, got {_show(data)}")
            return {}
        known = (*required, *optional)
        for key in data:
            if key not in known:
                hint = nearest(key, known) or f"; known keys: {', '.join(known)}"
                self.say((*at, key), f"{what}: unknown key {key!r}{hint}")
        for key in required:
            if key not in data:
                self.say(at, f"{what}: missing key {key!r}")
            elif data[key] is None:
                self.say((*at, key), f"{what}: {key} has no value")
        return {key: value for key, value in data.items() if key in known and value is not None}

    def named(self, data: Any, at: KeyPath, what: str) -> dict[str, Any]:
        """Return a mapping whose keys are names of the recipe's own."""
        if not isinstance(data, dict):
            self.say(at, f"{what}: expected names and their values, got {_show(data)}")
            return {}
        for key in data:
            self.name(key, (*at, key), what)
        return data

    def name(self, text: Any, at: KeyPath, what: str) -> str:
        """Return a name that expressions can use."""
        if not isinstance(text, str) or not is_name(text):
            self.say(at, f"{what} {_show(text)}: expected a name of letters, digits and _, not beginning with a digit and no word of the grammar")
            return ""
        return text

    def items(self, data: Any, at: KeyPath, what: str) -> list[Any]:
        """Return a list."""
        if not isinstance(data, list):
            self.say(at, f"{what}: expected a list, got {_show(data)}")
            return []
        return data

    def text(self, data: Any, at: KeyPath, what: str) -> str:
        """Return text; a number stands for its digits."""
        if isinstance(data, bool) or not isinstance(data, str | int | float) or not str(data).strip():
            self.say(at, f"{what}: expected text, got {_show(data)}", value=True)
            return ""
        return str(data)

    def choice(self, data: Any, at: KeyPath, what: str, known: Sequence[str]) -> str:
        """Return one of `known`, or ""."""
        if data not in known:
            self.say(at, f"{what}: expected one of {', '.join(known)}, got {_show(data)}{nearest(str(data), known)}", value=True)
            return ""
        return str(data)

    def quantity(self, data: Any, at: KeyPath, what: str) -> eu.Quantity | None:
        """Return a value with its eu."""
        if not isinstance(data, str | int | float) or isinstance(data, bool):
            self.say(at, f"{what}: expected a value with its eu, such as '20 L/min', got {_show(data)}", value=True)
            return None
        try:
            return eu.parse(data)
        except (eu.EuError, OverflowError) as error:
            self.say(at, f"{what}: {error}", value=True)
            return None

    def within(self, data: Any, at: KeyPath, what: str, unit: str) -> float | None:
        """Return a constant [unit]."""
        given = self.quantity(data, at, what)
        if given is None:
            return None
        if given.eu == "" and unit == "pH":  # people write pH without it
            return given.value
        try:
            if given.eu == "" and unit not in ("", "1"):
                raise eu.EuError(f"{given.value:g} has no eu; write '{given.value:g} {unit}'")
            return given.to(unit)
        except eu.EuError as error:
            self.say(at, f"{what}: {error}", value=True)
            return None

    def time(self, data: Any, at: KeyPath, what: str) -> float | None:
        """Return a time above zero [s]; None if there is none."""
        if data is None:
            return None
        given = self.quantity(data, at, what)
        if given is None:
            return None
        if not given.eu or not eu.compatible(given.eu, "s") or given.value <= 0.0:
            self.say(at, f"{what}: expected a time above 0 such as '30 min', got {_show(data)}", value=True)
            return None
        return given.to("s")

    def expression(self, data: Any, at: KeyPath, what: str, names: Names, want: str) -> Expression | None:
        """Return an expression whose value is wanted in the eu `want`; None if it is not given."""
        if data is None:
            return None
        text = ("true" if data else "false") if isinstance(data, bool) else repr(data) if isinstance(data, int | float) else data
        if not isinstance(text, str):
            self.say(at, f"{what}: expected an expression, got {_show(data)}", value=True)
            return None
        try:
            return compile_expression(text, names, want=want, where=self.document.value_at(*at))
        except BadInput as error:
            self.problems += [Problem(problem.where, f"{what}: {problem.what}") for problem in error.problems]
            return None


def _show(data: Any) -> str:
    if data is None:
        return "nothing"
    if isinstance(data, Mapping):
        return "keys and values"
    return "a list" if isinstance(data, list) else repr(data)
