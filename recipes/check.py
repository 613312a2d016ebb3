"""Check the arguments of a step against its phase and its unit: every parameter known, of its kind, in its eu, and inside its range
for every formula that the recipe allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from drivers import eu
from drivers.source import KeyPath
from recipes.bounds import RecipeNames, StepNames, eu_from, outside, spell
from recipes.classes import RoleSpec, UnitClass
from recipes.expression import Expression
from recipes.meaning import nearest
from recipes.model import Argument, Catalogue, ParameterSpec, PhaseSpec
from recipes.outline import Outline
from recipes.reader import Reader

__all__ = ["arguments", "clashes", "phase_of"]


def phase_of(reader: Reader, step: Outline, unit_class: UnitClass, catalogue: Catalogue) -> PhaseSpec | None:
    """Return the phase that a step runs, if its unit can run it."""
    at: KeyPath = (*step.at, "run")
    name = step.body["run"]
    spec = catalogue.get(name) if isinstance(name, str) else None
    if spec is None:
        reader.say(at, f"no phase {name!r}{nearest(str(name), catalogue) or f'; known: {_list(catalogue)}'}", value=True)
        return None
    if spec.classes and unit_class.name not in spec.classes:
        reader.say(at, f"phase {spec.name} runs on {_list(spec.classes)}; unit {step.unit} is a {unit_class.name}", value=True)
        return None
    if missing := [role for role in spec.needs if role not in unit_class.roles]:
        lacks = f"which unit {step.unit} ({unit_class.name}) does not have"
        reader.say(at, f"phase {spec.name} needs {_list(missing)}, {lacks}", value=True)
        return None
    return spec


def arguments(reader: Reader, step: Outline, spec: PhaseSpec, unit_class: UnitClass, names: RecipeNames) -> dict[str, Argument]:
    """Return the arguments of a step, compiled; roles first, since quantities take their eu from them."""
    return _Arguments(reader, step, spec, unit_class, names).all()


class _Arguments:
    def __init__(self, reader: Reader, step: Outline, spec: PhaseSpec, unit_class: UnitClass, names: RecipeNames) -> None:
        self.reader, self.step, self.spec, self.unit_class, self.recipe = reader, step, spec, unit_class, names
        self.names = StepNames(names, step, at_start=True)
        self.at: KeyPath = (*step.at, "with")
        self.roles: dict[str, RoleSpec] = {}
        self.done: dict[str, Argument] = {}

    def all(self) -> dict[str, Argument]:
        required = [name for name, spec in self.spec.parameters.items() if spec.required and spec.default is None]
        optional = [name for name in self.spec.parameters if name not in required]
        given = self.step.body.get("with", {})
        at = self.at if "with" in self.step.body else self.step.at
        what = f"phase {self.spec.name}"
        data = self.reader.mapping({} if given is None else given, at, required=required, optional=optional, what=what)
        ordered = sorted(self.spec.parameters.items(), key=lambda item: item[1].kind != "role")
        for name, spec in ordered:
            value = data.get(name, spec.default)
            if value is not None:
                self._one(name, spec, value)
        return {name: self.done[name] for name in self.spec.parameters if name in self.done}

    def _one(self, name: str, spec: ParameterSpec, value: Any) -> None:
        at, reader = (*self.at, name), self.reader
        made: Argument | None
        if spec.kind == "role":
            made = self._role(name, spec, value)
        elif spec.kind == "flag":
            made = value if isinstance(value, bool) else None
            if made is None:
                reader.say(at, f"{name}: expected true or false, got {value!r}", value=True)
        elif spec.kind == "quantity":
            made = self._quantity(name, spec, value)
        elif spec.kind == "record":
            made = self._record(name, value)
        else:
            made = (reader.choice(value, at, name, spec.choices) if spec.choices else reader.text(value, at, name)) or None
        if made is not None:
            self.done[name] = made

    def _role(self, name: str, spec: ParameterSpec, value: Any) -> str | None:
        roles = self.unit_class.roles
        unit = f"unit {self.step.unit} ({self.unit_class.name})"
        at = (*self.at, name)
        if not isinstance(value, str) or value not in roles:
            fit = [role for role, known in roles.items() if not spec.roles or known.kind in spec.roles]
            hint = nearest(str(value), roles) or f"; it has {_list(fit)}"
            self.reader.say(at, f"{name}: {unit} has no role {value!r}{hint}", value=True)
            return None
        found = roles[value]
        if spec.roles and found.kind not in spec.roles:
            wanted = " or ".join(spec.roles)
            self.reader.say(at, f"{name}: {self.step.unit}.{value} is of kind {found.kind}; phase {self.spec.name} takes {wanted}", value=True)
            return None
        self.roles[name] = found
        return value

    def _record(self, name: str, value: Any) -> str | None:
        makers = {record.partition(".")[0] for record in self.recipe.makers}
        if not isinstance(value, str) or value not in makers:
            hint = nearest(str(value), makers) or f"; recorded are {_list(sorted(makers)) or 'none'}"
            self.reader.say((*self.at, name), f"{name}: no step records {value!r}{hint}", value=True)
            return None
        first = next(record for record in self.recipe.makers if record.partition(".")[0] == value)
        try:
            self.names.eu(first)  # is it made before this step starts?
        except ValueError as error:
            self.reader.say((*self.at, name), f"{name}: {error}", value=True)
        return value

    def _quantity(self, name: str, spec: ParameterSpec, value: Any) -> Expression | None:
        kind, _, parameter = spec.eu.partition(":")
        role = self.roles.get(parameter) if parameter else None
        if parameter and role is None:
            return None  # the role is wrong, which has been said
        low = -math.inf if spec.low is None else spec.low
        high = math.inf if spec.high is None else spec.high
        takes = "it takes"
        unit = spec.eu
        if role is not None:
            where = f"{self.step.unit}.{self.done[parameter]}"
            try:
                unit = eu_from(spec.eu, role)
            except eu.EuError as error:
                self.reader.say((*self.at, name), f"{name}: {where} has {error}")
                return None
            if kind == "role":
                low, high, takes = max(low, role.low), min(high, role.high), f"{where} takes"
        if name not in self.step.body.get("with", {}):
            value = f"{value!r} {unit}".rstrip()
        made = self.reader.expression(value, (*self.at, name), name, self.names, unit)
        if made is not None:
            found = made.bounds(self.names)
            if outside(found, low, high):
                hint = "; bound it with min() and max()" if any(map(math.isinf, found)) else ""
                what = f"{name}: {spell(*found, unit)}, but {takes} {spell(low, high, unit)}{hint}"
                self.reader.say((*self.at, name), what, value=True)
        return made


def clashes(reader: Reader, root: Outline, catalogue: Catalogue, classes: dict[str, UnitClass]) -> None:
    """Note steps that would drive the same role of the same unit at the same time."""
    for group in root.walk():
        if not group.parallel:
            continue
        driven: dict[tuple[str, str], Outline] = {}
        for branch in group.children:
            mine = {role: step for step in branch.walk() if step.kind == "run" for role in _drives(step, catalogue, classes)}
            for key, step in mine.items():
                other = driven.setdefault(key, step)
                if other is not step:
                    reader.say(step.at, f"step {step.path} drives {'.'.join(key)} at the same time as step {other.path}")


def _drives(step: Outline, catalogue: Catalogue, classes: dict[str, UnitClass]) -> Iterable[tuple[str, str]]:
    spec, unit_class = catalogue.get(str(step.body.get("run"))), classes.get(step.unit)
    given = step.body.get("with") or {}
    if spec is None or unit_class is None or not isinstance(given, dict):
        return
    asked = [given.get(name) for name, known in spec.parameters.items() if known.kind == "role" and "measurement" not in known.roles]
    for role in (*asked, *spec.needs):
        found = unit_class.roles.get(role) if isinstance(role, str) else None
        if found is not None and found.kind != "measurement":
            yield step.unit, str(role)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
