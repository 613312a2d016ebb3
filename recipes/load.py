"""Read a recipe and prove it, before anything of it runs. All that is wrong is named at once, each with file:line:column."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from drivers import eu
from drivers.source import BadInput, read_yaml
from recipes.bounds import RecipeNames, StepNames, outside, spell
from recipes.check import arguments, clashes, phase_of
from recipes.classes import UnitClass
from recipes.formula import BadFormula, bind_formula, read_formula
from recipes.meaning import nearest
from recipes.model import Action, AskKind, AskStep, Catalogue, Group, OnHold, Recipe, RunStep, Step, Watch
from recipes.outline import Outline, outline
from recipes.reader import Reader

__all__ = ["BadFormula", "bind_formula", "load_recipe"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_RUN = ("with", "unit", "until", "max", "on_hold", "max_hold", "resume", "record", "expect", "say")
_ASK = ("unit", "role", "kind", "eu", "record", "pass_if")


def load_recipe(path: Path, classes: Mapping[str, UnitClass], catalogue: Catalogue) -> Recipe:
    """Return the recipe of a YAML file, checked against the unit classes and the phases; raise `BadInput` with every problem."""
    document = read_yaml(path)
    reader = Reader(document)
    parts = ("recipe", "units", "procedure")
    data = reader.mapping(document.data, (), required=parts, optional=("formula", "watch"), what="recipe file")
    head = _head(reader, data.get("recipe"))
    units = _units(reader, data.get("units"), classes)
    formula = read_formula(reader, data.get("formula", {}))
    for name in set(formula) & set(units):
        reader.say(("formula", name), f"{name!r} is already the name of a unit")
    root = outline(reader, data.get("procedure", []), ("procedure",)) if "procedure" in data else Outline("", "", "group", (), {}, "", None)
    names = RecipeNames(units, formula, root, catalogue)
    compiler = _Compiler(reader, units, catalogue, names)
    compiler.records(root, {*units, *formula})
    procedure = compiler.group(root)
    watches = tuple(_watches(reader, data.get("watch", []), names))
    clashes(reader, root, catalogue, units)
    if reader.problems:
        raise BadInput(reader.problems)
    return Recipe(
        **head,
        units={alias: unit_class.name for alias, unit_class in units.items()},
        formula=formula,
        watches=watches,
        procedure=procedure,
        text=document.text,
        sha256=hashlib.sha256(document.text.encode()).hexdigest(),
        file=document.file,
    )


def _head(reader: Reader, data: Any) -> dict[str, Any]:
    texts = ("title", "product", "specification")
    head = reader.mapping(data, ("recipe",), required=("id", "version"), optional=texts, what="recipe") if data is not None else {}
    made: dict[str, Any] = {"id": "", "version": 0}
    if "id" in head:
        made["id"] = reader.text(head["id"], ("recipe", "id"), "id")
        if made["id"] and not _ID.match(made["id"]):
            reader.say(("recipe", "id"), f"id: expected letters, digits, '.', '_' and '-', got {made['id']!r}", value=True)
    if "version" in head:
        made["version"] = head["version"]
        if isinstance(head["version"], bool) or not isinstance(head["version"], int) or head["version"] < 1:
            reader.say(("recipe", "version"), f"version: expected a whole number from 1, got {head['version']!r}", value=True)
    return made | {key: reader.text(head[key], ("recipe", key), key) if key in head else "" for key in texts}


def _units(reader: Reader, data: Any, classes: Mapping[str, UnitClass]) -> dict[str, UnitClass]:
    units: dict[str, UnitClass] = {}
    for alias, name in reader.named(data, ("units",), "unit").items() if data is not None else ():
        if isinstance(name, str) and name in classes:
            units[alias] = classes[name]
        else:
            hint = nearest(str(name), classes) or f"; known: {', '.join(classes)}"
            reader.say(("units", alias), f"unit {alias}: no unit class {name!r}{hint}", value=True)
    return units


def _watches(reader: Reader, data: Any, names: RecipeNames) -> list[Watch]:
    watches: list[Watch] = []
    for place, item in enumerate(reader.items(data, ("watch",), "watch")):
        at = ("watch", place)
        entry = reader.mapping(item, at, required=("if", "do"), optional=("say", "while"), what="watch")
        condition = reader.expression(entry.get("if"), (*at, "if"), "if", names, "bool")
        action = reader.choice(entry["do"], (*at, "do"), "do", get_args(Action)) if "do" in entry else ""
        say = reader.text(entry["say"], (*at, "say"), "say") if "say" in entry else ""
        during = None
        if "while" in entry:
            try:
                during = names.step(str(entry["while"]))
            except ValueError as error:
                reader.say((*at, "while"), f"while: {error}", value=True)
        if condition is not None and action:
            watches.append(Watch(condition, cast(Action, action), say, during, reader.document.at(*at)))
    return watches


class _Compiler:
    """From the outline to the procedure."""

    def __init__(self, reader: Reader, units: dict[str, UnitClass], catalogue: Catalogue, names: RecipeNames) -> None:
        self.reader, self.units, self.catalogue, self.names = reader, units, catalogue, names

    def records(self, root: Outline, taken: set[str]) -> None:
        """Check that no record hides another name."""
        made: dict[str, Outline] = {}
        for step in root.walk():
            if step.kind != "group" and step.body.get("record") is not None:
                self.reader.name(step.body["record"], (*step.at, "record"), "record")
            label = step.label(self.catalogue)
            if not label:
                continue
            at = (*step.at, "record") if "record" in step.body else step.at
            if label in taken:
                self.reader.say(at, f"record {label!r} is already the name of a unit or of the formula")
            elif label in made:
                self.reader.say(at, f"record {label!r} is also made by step {made[label].path}; give one of them another 'record'")
            made.setdefault(label, step)

    def group(self, group: Outline) -> Group:
        """Return a group and all that is in it."""
        if group.parent is not None:
            reader, what = self.reader, f"group {group.path}"
            mark = "parallel" if group.parallel else "steps"
            reader.mapping(group.body, group.at, required=(mark,), optional=("unit", "max", "say"), what=what)
            if "unit" in group.body:
                self._unit(group)
        steps = tuple(made for child in group.children if (made := self._step(child)) is not None)
        limit = self.reader.time(group.body.get("max"), (*group.at, "max"), "max")
        say = self._text(group, "say")
        return Group(group.name, group.path, group.parallel, steps, limit, say, self.reader.document.at(*group.at))

    def _step(self, step: Outline) -> Step | None:
        if step.kind == "group":
            return self.group(step)
        return self._run(step) if step.kind == "run" else self._ask(step)

    def _text(self, step: Outline, key: str, default: str = "") -> str:
        value = step.body.get(key)
        return default if value is None else self.reader.text(value, (*step.at, key), key)

    def _unit(self, step: Outline) -> UnitClass | None:
        at = (*step.at, "unit")
        if not step.unit:
            self.reader.say(at, f"step {step.path} runs on no unit; give 'unit', here or at its group: {', '.join(self.units)}")
        elif step.unit not in self.units:
            declared = self.reader.document.data.get("units")
            if "unit" in step.body and not (isinstance(declared, dict) and step.unit in declared):  # else it has been said
                hint = nearest(step.unit, self.units) or f"; it has {', '.join(self.units)}"
                self.reader.say(at, f"no unit {step.unit!r} in this recipe{hint}", value=True)
        return self.units.get(step.unit)

    def _run(self, step: Outline) -> RunStep | None:
        reader, at = self.reader, step.at
        body = reader.mapping(step.body, at, required=("run",), optional=_RUN, what=f"step {step.path}")
        unit_class = self._unit(step)
        running = StepNames(self.names, step, at_start=False)
        until = reader.expression(body.get("until"), (*at, "until"), "until", running, "bool")
        limit = reader.time(body.get("max"), (*at, "max"), "max")
        max_hold = reader.time(body.get("max_hold"), (*at, "max_hold"), "max_hold")
        expect = reader.time(body.get("expect"), (*at, "expect"), "expect")
        resume = None
        if "resume" in body:
            entry = reader.mapping(body["resume"], (*at, "resume"), required=("require",), what="resume")
            resume = reader.expression(entry.get("require"), (*at, "resume", "require"), "resume", running, "bool")
        if unit_class is None or "run" not in body:
            return None
        on_hold = self._on_hold(step, unit_class)
        spec = phase_of(reader, step, unit_class, self.catalogue)
        if spec is None:
            return None
        if not spec.ends and "until" not in body:
            reader.say(at, f"step {step.path}: phase {spec.name} never ends by itself; give 'until'")
        given = arguments(reader, step, spec, unit_class, self.names)
        record = body.get("record")
        return RunStep(
            step.name,
            step.path,
            step.unit,
            spec.name,
            given,
            until,
            limit,
            on_hold,
            max_hold,
            resume,
            None if record is None else str(record),
            expect,
            self._text(step, "say"),
            reader.document.at(*at),
        )

    def _on_hold(self, step: Outline, unit_class: UnitClass) -> dict[str, OnHold]:
        given = step.body.get("on_hold")
        if given is None:
            return {}
        at = (*step.at, "on_hold")
        made: dict[str, OnHold] = {}
        for role, wish in self.reader.named(given, at, "on_hold").items():
            spec = unit_class.roles.get(role)
            if spec is None or spec.kind == "measurement":
                why = "is only measured" if spec else f"is not a role of {step.unit} ({unit_class.name}){nearest(role, unit_class.roles)}"
                self.reader.say((*at, role), f"on_hold: {role} {why}")
            elif wish in ("keep", "stop"):
                made[role] = wish
            else:
                value = self.reader.within(wish, (*at, role), "on_hold: expected keep, stop or a value", spec.eu)
                if value is not None and outside((value, value), spec.low, spec.high):
                    takes = spell(spec.low, spec.high, spec.eu)
                    self.reader.say((*at, role), f"on_hold: {spell(value, value, spec.eu)}, but {step.unit}.{role} takes {takes}", value=True)
                elif value is not None:
                    made[role] = value
        return made

    def _ask(self, step: Outline) -> AskStep:
        reader, at, what = self.reader, step.at, f"step {step.path}"
        body = reader.mapping(step.body, at, required=("ask",), optional=_ASK, what=what)
        if "unit" in body:
            self._unit(step)
        kind = reader.choice(body.get("kind", "confirm"), (*at, "kind"), "kind", get_args(AskKind)) or "confirm"
        unit = self._text(step, "eu")
        if kind == "number" and "eu" not in step.body:
            reader.say(at, f"{what}: a number needs its 'eu', such as eu: mg/kg")
        elif kind != "number" and unit:
            reader.say((*at, "eu"), f"{what}: only a number has an eu; write kind: number")
        elif not eu.known(unit):
            reader.say((*at, "eu"), f"{what}: eu {unit!r} is not known", value=True)
        pass_if = reader.expression(body.get("pass_if"), (*at, "pass_if"), "pass_if", StepNames(self.names, step, at_start=False), "bool")
        record = body.get("record")
        return AskStep(
            step.name,
            step.path,
            step.unit,
            self._text(step, "ask"),
            self._text(step, "role", "operator"),
            cast(AskKind, kind),
            unit,
            None if record is None else str(record),
            pass_if,
            reader.document.at(*at),
        )
