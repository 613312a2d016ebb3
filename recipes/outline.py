"""The outline of a procedure before anything in it is compiled: which steps there are, in which order, and who records what.

An expression may speak of steps and records anywhere in the recipe, so the whole outline has to stand first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from drivers import eu
from drivers.source import KeyPath
from recipes.meaning import nearest
from recipes.model import Catalogue
from recipes.reader import Reader

__all__ = ["Outline", "order", "outline", "step_path"]

Kind = Literal["run", "ask", "group"]
_GROUP = ("steps", "parallel")
_MARKS = ("run", "ask", *_GROUP)
_DEEPEST = 12


@dataclass(eq=False, slots=True)
class Outline:
    """One step or group as the file has it; `at` is where its body stands."""

    name: str
    path: str
    kind: Kind
    at: KeyPath
    body: dict[str, Any]
    unit: str
    parent: Outline | None
    parallel: bool = False
    children: list[Outline] = field(default_factory=list)

    def walk(self) -> Iterator[Outline]:
        """Yield this and everything below."""
        yield self
        for child in self.children:
            yield from child.walk()

    def line(self) -> list[Outline]:
        """Return the way from the procedure down to this one."""
        return [*(self.parent.line() if self.parent else []), self]

    def records(self, catalogue: Catalogue) -> dict[str, str]:
        """Return what it records for expressions: name and eu."""
        body = self.body
        if self.kind == "run":
            spec = catalogue.get(str(body.get("run")))
            name = str(body.get("record") or "")
            return {f"{name}.{field}": unit for field, unit in spec.records.items()} if spec and name else {}
        if self.kind == "ask" and isinstance(body.get("record"), str) and body.get("kind") != "text":
            unit = str(body.get("eu") or "")
            return {str(body["record"]): unit if eu.known(unit) else ""}  # an eu that is not known is said of the step
        return {}

    def label(self, catalogue: Catalogue) -> str:
        """Return the name under which it records something; empty if it records nothing."""
        if self.kind == "run":
            spec = catalogue.get(str(self.body.get("run")))
            return str(self.body.get("record") or "") if spec and spec.records else ""
        return str(self.body.get("record") or "") if self.kind == "ask" else ""


def outline(reader: Reader, data: Any, at: KeyPath) -> Outline:
    """Return the outline of the procedure at `at`; mistakes go to the reader."""
    root = Outline("", "", "group", at, {}, "", None)
    _children(reader, root, data, at)
    return root


def _children(reader: Reader, group: Outline, data: Any, at: KeyPath) -> None:
    what = f"step {group.path}" if group.path else "procedure"
    if len(at) > 4 * _DEEPEST:
        reader.say(at, f"{what}: groups are nested too deeply; at most {_DEEPEST} levels")
        return
    items = reader.items(data, at, what)
    if not items and isinstance(data, list):
        reader.say(at, f"{what}: expected at least one step")
    for place, item in enumerate(items):
        here = (*at, place)
        if not isinstance(item, dict) or len(item) != 1:
            got = f"keys {', '.join(item)}" if isinstance(item, dict) else repr(item)
            reader.say(here, f"{what}: expected one step such as '- heat: {{run: control, ...}}', got {got}")
            continue
        name, body = next(iter(item.items()))
        here = (*here, name)
        reader.name(name, here, "step")
        if not isinstance(body, dict):
            reader.say(here, f"step {name}: expected its keys, such as {{run: control, ...}}, got {body!r}")
            continue
        if any(child.name == name for child in group.children):
            reader.say(here, f"step {name!r} stands twice in {group.path or 'the procedure'}; every step there has a name of its own")
        _step(reader, group, name, body, here)


def _step(reader: Reader, group: Outline, name: str, body: dict[str, Any], at: KeyPath) -> None:
    path = f"{group.path}/{name}" if group.path else name
    marks = [key for key in _MARKS if key in body]
    if len(marks) != 1:
        got = " and ".join(marks) or f"only {', '.join(body) or 'nothing'}"
        hint = next((near for key in body if (near := nearest(key, _MARKS)) and key not in _MARKS), "")
        reader.say(at, f"step {path}: expected exactly one of {', '.join(_MARKS)}, got {got}{hint if not marks else ''}")
        return
    unit = body.get("unit", group.unit)
    kind: Kind = "group" if marks[0] in _GROUP else "run" if marks[0] == "run" else "ask"
    made = Outline(name, path, kind, at, body, unit if isinstance(unit, str) else "", group, marks[0] == "parallel")
    group.children.append(made)
    if kind == "group":
        _children(reader, made, body[marks[0]], (*at, marks[0]))


def order(other: Outline, step: Outline) -> Literal["before", "after", "beside", "around"]:
    """Return how `other` stands to `step`: done before it starts, after it, beside it, or one of them inside the other."""
    theirs, ours = other.line(), step.line()
    for depth, (a, b) in enumerate(zip(theirs, ours, strict=False)):
        if a is not b:
            group = ours[depth - 1]
            if group.parallel:
                return "beside"
            return "before" if group.children.index(a) < group.children.index(b) else "after"
    return "around"


def step_path(root: Outline, name: str, asks: Outline | None) -> str:
    """Return the path of the step that `name` means to the step `asks` (None: a watch).

    A name is looked up among the siblings, then among those of each group above, then in the whole recipe. Raise `ValueError` if
    there is none, several, or one that cannot be done while `asks` runs.
    """
    first, *rest = name.split("/")
    found: Outline | None = None
    for group in reversed(asks.line()[:-1] if asks else [root]):
        found = _descend(next((child for child in group.children if child.name == first), None), rest)
        if found is not None:
            break
    if found is None:
        ends = [step for step in root.walk() if step.path == name or step.path.endswith(f"/{name}")]
        if len(ends) > 1:
            raise ValueError(f"step {name!r} is one of {', '.join(step.path for step in ends)}; write the path")
        if not ends:
            known = [step.path for step in root.walk() if step.path] + [step.name for step in root.walk() if step.name]
            raise ValueError(f"no step {name!r}{nearest(name, known)}")
        found = ends[0]
    if asks is not None:
        place = order(found, asks)
        if place == "around":
            raise ValueError(f"step {asks.path} cannot wait for {found.path}, which it is part of")
        if place == "after":
            raise ValueError(f"step {found.path} comes after {asks.path}, so it is never done by then")
    return found.path


def _descend(step: Outline | None, rest: list[str]) -> Outline | None:
    for name in rest:
        step = next((child for child in step.children if child.name == name), None) if step else None
    return step
