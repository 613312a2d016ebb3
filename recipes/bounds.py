"""What the expressions of a recipe may speak of, with the ranges in which the recipe is proven."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from drivers import eu as units_of_measure
from recipes.classes import RoleSpec, UnitClass
from recipes.meaning import nearest
from recipes.model import Catalogue, Parameter
from recipes.nodes import Range, show
from recipes.outline import Outline, order, step_path

__all__ = ["RecipeNames", "StepNames", "eu_from", "outside", "spell"]


def eu_from(rule: str, role: RoleSpec) -> str:
    """Return the eu that ``role:``, ``integral:`` or ``rate:`` takes from a role; raise `EuError` if it cannot."""
    kind = rule.partition(":")[0]
    if kind == "rate":
        return f"{units_of_measure.difference(role.eu) or 1}/s"
    if kind == "role":
        return role.eu
    amount, _, time = role.eu.rpartition("/")
    if not amount or not units_of_measure.compatible(time, "s"):
        raise units_of_measure.EuError(f"no flow: its eu is {role.eu or 'none'}")
    return amount


class RecipeNames:
    """The names of a whole recipe: roles of its units, formula, records. This is what a watch sees."""

    def __init__(self, units: Mapping[str, UnitClass], formula: Mapping[str, Parameter], root: Outline, catalogue: Catalogue) -> None:
        self.root = root
        self.units = units
        self._eu: dict[str, str] = {}
        self._range: dict[str, Range] = {}
        for alias, unit_class in units.items():
            for role, spec in unit_class.roles.items():
                for name in (f"{alias}.{role}", f"{alias}.{role}.sp") if spec.kind == "loop" else (f"{alias}.{role}",):
                    self._eu[name], self._range[name] = spec.eu, (spec.low, spec.high)
        for name, parameter in formula.items():
            self._eu[name], self._range[name] = parameter.eu, (parameter.low, parameter.high)
        self.makers: dict[str, Outline] = {}  # who makes each record
        for step in root.walk():
            for name, unit in step.records(catalogue).items():
                self._eu.setdefault(name, self._recorded(step, unit))
                self.makers.setdefault(name, step)

    def _recorded(self, step: Outline, rule: str) -> str:
        """Return the eu of a record; one such as ``integral:flow`` comes from the role that the step gives for `flow`."""
        parameter, given = rule.partition(":")[2], step.body.get("with")
        if not parameter:
            return rule
        unit = self.units.get(step.unit)
        role = unit.roles.get(str(given.get(parameter))) if unit is not None and isinstance(given, dict) else None
        try:
            return "" if role is None else eu_from(rule, role)
        except units_of_measure.EuError:  # said of the step's arguments
            return ""

    def eu(self, name: str) -> str | None:
        """Return the eu of a name; None if there is no such name."""
        alias, _, role = name.partition(".")
        if name not in self._eu and alias in self.units and role:
            roles = self.units[alias].roles
            raise ValueError(f"unit {alias} ({self.units[alias].name}) has no {role!r}{nearest(role, roles) or f'; it has {_list(roles)}'}")
        return self._eu.get(name)

    def known(self) -> Iterable[str]:
        """Return all names."""
        return self._eu

    def range(self, name: str) -> Range:
        """Return the range of a name; of a record, which nobody has measured yet, everything."""
        return self._range.get(name, (-math.inf, math.inf))

    def step(self, name: str) -> str | None:
        """Return the path that a name means here."""
        return step_path(self.root, name, None)


class StepNames:
    """The names of a recipe as one step sees them: a record that is not made by then cannot be used."""

    def __init__(self, recipe: RecipeNames, step: Outline, *, at_start: bool) -> None:
        self.recipe, self.of, self.at_start = recipe, step, at_start

    def eu(self, name: str) -> str | None:
        """Return the eu of a name; raise `ValueError` for a record that is made too late."""
        maker = self.recipe.makers.get(name)
        if maker is not None:
            place = order(maker, self.of)
            if place == "after" or (self.at_start and place != "before"):
                when = "after" if place == "after" else "only while"
                raise ValueError(f"{name!r} is recorded by step {maker.path}, {when} {self.of.path}{' runs' if when != 'after' else ''}")
        return self.recipe.eu(name)

    def known(self) -> Iterable[str]:
        """Return all names."""
        return self.recipe.known()

    def range(self, name: str) -> Range:
        """Return the range of a name."""
        return self.recipe.range(name)

    def step(self, name: str) -> str | None:
        """Return the path that a name means to this step."""
        return step_path(self.recipe.root, name, self.of)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def outside(found: Range, low: float, high: float) -> bool:
    """Whether a range leaves [low, high]; the last digits of a conversion do not count."""
    slack = 1e-9 * max((abs(limit) for limit in (low, high) if math.isfinite(limit)), default=0.0)
    return found[0] < low - slack or found[1] > high + slack


def spell(low: float, high: float, eu: str) -> str:
    """Return a range as people read it."""
    if low == high:
        return show(low, eu)
    if math.isinf(low) and math.isinf(high):
        return f"any value {eu}".rstrip()
    if math.isinf(high):
        return f"{show(low, eu)} or more"
    return f"{show(high, eu)} or less" if math.isinf(low) else f"{show(low, '')} to {show(high, eu)}"
