"""The formula: read it, prove its scaling, and bind it to what the operator gives for one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers import eu
from drivers.eu import Quantity
from recipes.bounds import outside, spell
from recipes.meaning import nearest
from recipes.model import Parameter, Recipe
from recipes.nodes import show
from recipes.reader import Reader

__all__ = ["BadFormula", "bind_formula", "read_formula"]


class BadFormula(ValueError):
    """Values that a batch cannot start with; `problems` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def read_formula(reader: Reader, data: Any) -> dict[str, Parameter]:
    """Return the parameters of ``formula``; mistakes go to the reader."""
    formula: dict[str, Parameter] = {}
    for name, body in reader.named(data, ("formula",), "formula").items():
        at = ("formula", name)
        entry = reader.mapping(body, at, required=("value", "range"), optional=("scale", "say"), what=name)
        value = reader.quantity(entry["value"], (*at, "value"), name) if "value" in entry else None
        limits = reader.items(entry["range"], (*at, "range"), f"{name}: range") if "range" in entry else []
        if value is None or not limits:
            continue
        if len(limits) != 2:
            reader.say((*at, "range"), f"{name}: expected range: [lowest, highest], got {len(limits)} values")
            continue
        low, high = (reader.within(limit, (*at, "range", place), name, value.eu) for place, limit in enumerate(limits))
        if low is None or high is None:
            continue
        if low > high:
            reader.say((*at, "range"), f"{name}: the range begins at {show(low, value.eu)}, above its end {show(high, value.eu)}")
        elif not low <= value.value <= high:
            reader.say((*at, "value"), f"{name}: {value} is outside its range, {spell(low, high, value.eu)}", value=True)
        scale = reader.text(entry["scale"], (*at, "scale"), f"{name}: scale") if "scale" in entry else ""
        say = reader.text(entry["say"], (*at, "say"), f"{name}: say") if "say" in entry else ""
        formula[name] = Parameter(name, value, low, high, scale or None, say)
    for parameter in formula.values():
        _scaling(reader, parameter, formula)
    return formula


def _scaling(reader: Reader, parameter: Parameter, formula: Mapping[str, Parameter]) -> None:
    if parameter.scale is None:
        return
    at = ("formula", parameter.name, "scale")
    base = formula.get(parameter.scale)
    if base is None or base is parameter:
        why = "itself" if base is parameter else f"{parameter.scale!r}, which is not in the formula{nearest(parameter.scale, formula)}"
        reader.say(at, f"{parameter.name} scales with {why}", value=True)
    elif base.scale is not None:
        reader.say(at, f"{parameter.name} scales with {base.name}, which itself scales with {base.scale}; use that", value=True)
    elif parameter.eu == "degC" or base.eu == "degC":
        reader.say(at, f"{parameter.name}: a temperature [degC] cannot be scaled, nor scale anything", value=True)
    elif not base.value.value > 0.0 or base.low < 0.0:
        reader.say(at, f"{parameter.name} scales with {base.name}, which must be above 0; it is {base.value}", value=True)
    else:
        first, last = (parameter.value.value * limit / base.value.value for limit in (base.low, base.high))
        ends = (min(first, last), max(first, last))  # a negative value turns them round
        if outside(ends, parameter.low, parameter.high):
            over = f"{parameter.name} scaled over {base.name} of {spell(base.low, base.high, base.eu)} is {spell(*ends, parameter.eu)}"
            reader.say(at, f"{over}; its range is {spell(parameter.low, parameter.high, parameter.eu)}", value=True)


def bind_formula(recipe: Recipe, overrides: Mapping[str, str]) -> dict[str, float]:
    """Return the effective value of every parameter [its eu] for one batch.

    `overrides` are what the operator gives, each with its eu (``{"batch_size": "480 kg"}``). A parameter with a scaling rule that is
    not given goes linearly with its base. Raise `BadFormula` with every value that is not known, not in its eu or not in its range.
    """
    problems = [
        f"no parameter {name!r} in the formula of {recipe.id}{nearest(name, recipe.formula)}" for name in overrides if name not in recipe.formula
    ]
    given: dict[str, float] = {}
    for name, text in overrides.items():
        if (parameter := recipe.formula.get(name)) is None:
            continue
        takes = f"{name} takes {spell(parameter.low, parameter.high, parameter.eu)}"
        try:
            value = _given(eu.parse(text), parameter.eu)
        except (eu.EuError, OverflowError) as error:
            problems.append(f"{takes}, got {text!r}: {error}")
            continue
        if outside((value, value), parameter.low, parameter.high):
            problems.append(f"{takes}, got {text}")
        given[name] = value
    if problems:
        raise BadFormula(problems)
    bound = dict(given)
    for name, parameter in recipe.formula.items():
        if name not in bound:
            base = recipe.formula[parameter.scale] if parameter.scale else None
            factor = given.get(base.name, base.value.value) / base.value.value if base else 1.0
            bound[name] = parameter.value.value * factor
    return {name: bound[name] for name in recipe.formula}


def _given(quantity: Quantity, unit: str) -> float:
    if quantity.eu == "" and unit == "pH":
        return quantity.value
    if quantity.eu == "" and unit != "":
        raise eu.EuError(f"it has no eu; write {quantity.value:g} {unit}")
    return quantity.to(unit)
