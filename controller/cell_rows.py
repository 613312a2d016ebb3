"""What stands on the tags of a cell file, compiled: selectors, loops, units, interlocks, alarms, and the points of a frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from controller.cell_file import CellFile, OutputRole
from controller.cell_tags import SERVICE_POINTS, CellTags, Stage, no_tag
from controller.core.frame import Point
from controller.core.plan import LINK_POINTS, AlarmRows, Condition, InterlockRows, LoopRows, Role, SelectorRows, UnitPlan
from drivers import eu
from drivers.source import Document, KeyPath
from drivers.tags import Tag, TagTable
from recipes.classes import UnitClass

__all__ = ["CellRows", "compile_rows"]


@dataclass(frozen=True, slots=True)
class CellRows:
    """What stands on the tags of a cell."""

    selectors: SelectorRows
    loops: LoopRows
    units: dict[str, UnitPlan]
    interlocks: InterlockRows
    alarms: AlarmRows
    points: TagTable


def compile_rows(document: Document, file: CellFile, tags: CellTags, classes: dict[str, UnitClass]) -> CellRows:
    """Compile all of a cell file that stands on its tags; raise `BadInput`."""
    return _Rows(document, file, tags, classes).run()


class _Rows(Stage):
    def __init__(self, document: Document, file: CellFile, tags: CellTags, classes: dict[str, UnitClass]) -> None:
        super().__init__(document, file)
        self.tags, self.classes = tags, classes
        self.inputs, self.outputs, self.owner = tags.inputs, tags.outputs, tags.owner

    def run(self) -> CellRows:
        selectors = self._selectors()
        loops = self._loops()
        units = self._units()
        interlocks = self._interlocks()
        alarms = self._alarms()
        self.settle()
        return CellRows(selectors, loops, units, interlocks, alarms, self._points(loops, units))

    def _no_tag(self, tag: str) -> str:
        return no_tag(tag, self.owner, self.file.selectors)

    def _input(self, tag: str, at: KeyPath) -> int:
        if tag in self.inputs:
            return self.inputs.place(tag)
        self.say(at, self._no_tag(tag))
        return 0

    def _output(self, tag: str, at: KeyPath) -> int:
        if tag in self.outputs:
            return self.outputs.place(tag)
        self.say(at, f"tag {tag!r} is only read; expected a writable one" if tag in self.inputs else self._no_tag(tag))
        return 0

    def _selectors(self) -> SelectorRows:
        rows = self.file.selectors
        width = max((len(row.of) for row in rows.values()), default=1)
        of = np.zeros((len(rows), width), dtype=np.intp)
        member = np.zeros((len(rows), width), dtype=np.bool_)
        agree = np.zeros(len(rows))
        for row, (name, entry) in enumerate(rows.items()):
            of[row] = self.inputs.place(entry.of[0])
            for column, tag in enumerate(entry.of):
                of[row, column], member[row, column] = self.inputs.place(tag), True
            agree[row] = self._quantity(entry.agree_within, eu.difference(self.inputs[of[row, 0]].eu), ("selectors", name, "agree_within"))
        return SelectorRows(of, member, agree)

    def _quantity(self, text: str | float | None, wanted: str, at: KeyPath) -> float:
        if text is None:
            return 0.0
        try:
            return eu.parse(text).to(wanted)
        except eu.EuError as error:
            self.say(at, str(error))
            return 0.0

    def _loops(self) -> LoopRows:
        pv, out, feed = list[int](), list[int](), list[int]()
        columns: dict[str, list[float]] = {key: [] for key in ("gain", "reset", "beta", "ff", "sl", "sh", "ol", "oh")}
        driven: dict[int, str] = {}
        for name, loop in self.file.loops.items():
            at = ("loops", name)
            if name in self.inputs:
                self.say(at, f"{name!r} is already the name of a tag")
            pv.append(self._input(loop.pv, (*at, "pv")))
            out.append(self._output(loop.out, (*at, "out")))
            if out[-1] in driven:
                self.say((*at, "out"), f"output {loop.out} is already driven by loop {driven[out[-1]]}")
            driven[out[-1]] = name
            feed.append(self._input(loop.feed_forward.of, (*at, "feed_forward", "of")) if loop.feed_forward else 0)
            if float(loop.reset) <= 0:
                self.say((*at, "reset"), "reset: expected a time above 0, such as '10 min'")
            measured, driven_tag = self.inputs[pv[-1]], self.outputs[out[-1]]
            sp = self._inside(loop.sp_range, measured, (*at, "sp_range"))
            limits = self._inside(loop.out_range, driven_tag, (*at, "out_range"))
            row = (loop.gain, float(loop.reset), loop.beta, loop.feed_forward.gain if loop.feed_forward else 0.0, *sp, *limits)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        values = {key: np.array(column, dtype=np.float64) for key, column in columns.items()}
        return LoopRows(
            tuple(self.file.loops),
            np.array(pv, dtype=np.intp),
            np.array(out, dtype=np.intp),
            np.array(feed, dtype=np.intp),
            values["gain"],
            values["reset"],
            values["beta"],
            values["ff"],
            values["sl"],
            values["sh"],
            values["ol"],
            values["oh"],
        )

    def _inside(self, given: tuple[float, float] | None, tag: Tag, at: KeyPath) -> tuple[float, float]:
        if given is None:
            return tag.low, tag.high
        if not tag.low <= given[0] < given[1] <= tag.high:
            self.say(at, f"{list(given)} is not inside the range of {tag.name}, {tag.low:g} to {tag.high:g} {tag.eu}")
        return given

    def _units(self) -> dict[str, UnitPlan]:
        loops = {name: place for place, name in enumerate(self.file.loops)}
        units: dict[str, UnitPlan] = {}
        for name, unit in self.file.units.items():
            at = ("units", name)
            unit_class = self.classes.get(unit.unit_class)
            if unit_class is None:
                self.say((*at, "class"), f"no unit class {unit.unit_class!r}; known: {', '.join(self.classes)}")
                continue
            roles: dict[str, Role] = {}
            for role in set(unit_class.roles) - set(unit.roles):
                self.say((*at, "roles"), f"unit {name}: role {role!r} of class {unit.unit_class} is not bound")
            for role, given in unit.roles.items():
                spec = unit_class.roles.get(role)
                here = (*at, "roles", role)
                if spec is None:
                    self.say(here, f"class {unit.unit_class} has no role {role!r}; it has {', '.join(unit_class.roles)}")
                    continue
                roles[role] = self._role(role, spec.kind, spec.eu, given, loops, here)
            for place, role in enumerate(unit.key):
                if role not in roles:
                    self.say((*at, "key", place), f"unit {name} has no role {role!r}")
            devices = {self.owner[tag] for tag in self._tags_of(roles.values()) if tag in self.owner}
            text = unit.description or unit_class.description
            units[name] = UnitPlan(name, unit.unit_class, text, roles, tuple(unit.key), tuple(sorted(devices)))
        return units

    def _tags_of(self, roles: Iterable[Role]) -> list[str]:
        tags = list[str]()
        for role in roles:
            if role.measured >= 0:
                name = self.inputs[role.measured].name
                tags += self.file.selectors[name].of if name in self.file.selectors else [name]
            if role.output >= 0:
                tags.append(self.outputs[role.output].name)
        return tags

    def _role(self, role: str, kind: str, wanted: str, given: str | OutputRole, loops: dict[str, int], at: KeyPath) -> Role:
        if kind == "output":
            if isinstance(given, str):
                given = OutputRole(output=given)
            output = self._output(given.output, (*at, "output"))
            measured = self._input(given.feedback or given.output, (*at, "feedback")) if given.feedback or given.output in self.outputs else 0
            if given.output not in self.outputs or self.inputs.names[measured] not in (given.feedback, given.output):
                return Role(role, "measurement", wanted, 0)  # said already
            self._same_eu(self.outputs[output], wanted, at)
            self._same_eu(self.inputs[measured], wanted, at)
            return Role(role, "output", wanted, measured, output)
        if not isinstance(given, str):
            self.say(at, f"role {role!r} is a {kind}; expected the name of a {'loop' if kind == 'loop' else 'tag'}")
            return Role(role, "measurement", wanted, 0)
        if kind == "loop":
            if given not in loops:
                self.say(at, f"no loop {given!r} in this cell; known: {', '.join(loops)}")
                return Role(role, "measurement", wanted, 0)
            entry = self.file.loops[given]
            if entry.pv in self.inputs and entry.out in self.outputs:
                self._same_eu(self.inputs[self.inputs.place(entry.pv)], wanted, at)
                return Role(role, "loop", wanted, self.inputs.place(entry.pv), self.outputs.place(entry.out), loops[given])
            return Role(role, "measurement", wanted, 0)
        measured = self._input(given, at)
        if given in self.inputs:
            self._same_eu(self.inputs[measured], wanted, at)
        return Role(role, "measurement", wanted, measured)

    def _same_eu(self, tag: Tag, wanted: str, at: KeyPath) -> None:
        if tag.eu != wanted:
            self.say(at, f"{tag.name} is in {tag.eu or 'no eu'}, but the role is in {wanted or 'no eu'}; use a signal in that eu")

    # interlocks and alarms ----------------------------------------------------------------------------------------------

    _COMPARISON = re.compile(r"\s*(\S+)\s*(<=|>=|<|>)\s*(.+?)\s*$")

    def _condition(self, text: str, at: KeyPath) -> tuple[int, float, float, bool]:
        """Return (input place, sign, limit, strict) of ``TAG <= 4 %``."""
        match = self._COMPARISON.match(text)
        if match is None:
            self.say(at, f"expected a comparison such as 'TT-201 <= 85 degC', got {text!r}")
            return 0, 1.0, 0.0, False
        place = self._input(match[1], at)
        tag = self.inputs[place]
        limit = self._quantity(match[3], tag.eu, at)
        if not tag.low <= limit <= tag.high:
            self.say(at, f"limit {match[3]} is outside the range of {tag.name}, {tag.low:g} to {tag.high:g} {tag.eu}")
        return place, 1.0 if match[2].startswith("<") else -1.0, limit, len(match[2]) == 1

    def _unique(self, kind: str, names: list[str]) -> None:
        for place, name in enumerate(names):
            if name in names[:place]:
                self.say((kind, place, "name"), f"{name!r} is used twice; every one of the {kind} has a name of its own")

    @staticmethod
    def _rows(rows: list[tuple[int, float, float, bool]]) -> Condition:
        place, sign, limit, strict = zip(*rows, strict=True) if rows else ((), (), (), ())
        return Condition(np.array(place, dtype=np.intp), np.array(sign, dtype=float), np.array(limit, dtype=float), np.array(strict, dtype=np.bool_))

    def _unit_of(self, tag: str) -> str:
        for name, unit in self.file.units.items():
            for given in unit.roles.values():
                if isinstance(given, OutputRole):
                    if tag in (given.output, given.feedback):
                        return name
                elif given == tag or (given in self.file.loops and tag in (self.file.loops[given].pv, self.file.loops[given].out)):
                    return name
        return ""

    def _interlocks(self) -> InterlockRows:
        rows, m = self.file.interlocks, len(self.outputs)
        self._unique("interlocks", [row.name for row in rows])
        affects = np.zeros((len(rows), m), dtype=np.bool_)
        safe = np.full((len(rows), m), np.nan)
        permits, hysteresis, units = [], [], []
        for place, row in enumerate(rows):
            at = ("interlocks", place)
            permits.append(self._condition(row.permit, (*at, "permit")))
            hysteresis.append(self._quantity(row.hysteresis, eu.difference(self.inputs[permits[-1][0]].eu), (*at, "hysteresis")))
            for tag, value in row.effects.items():
                output = self._output(tag, (*at, "effects", tag))
                limits = self.outputs[output]
                if not limits.low <= value <= limits.high:
                    self.say((*at, "effects", tag), f"{value:g} is outside the range of {tag}, {limits.low:g} to {limits.high:g} {limits.eu}")
                affects[place, output], safe[place, output] = True, value
            units.append(self._unit_of(next(iter(row.effects))))
        return InterlockRows(
            tuple(row.name for row in rows),
            tuple(row.text for row in rows),
            tuple(units),
            self._rows(permits),
            np.array(hysteresis, dtype=float),
            np.array([row.delay for row in rows], dtype=float),
            np.array([row.latch for row in rows], dtype=np.bool_),
            affects,
            safe,
            tuple(row.permit for row in rows),
        )

    def _alarms(self) -> AlarmRows:
        rows = self.file.alarms
        self._unique("alarms", [row.name for row in rows])
        when, enable, hysteresis, units = [], [], [], []
        for place, row in enumerate(rows):
            at = ("alarms", place)
            when.append(self._condition(row.when, (*at, "when")))
            enable.append(self._condition(row.enable, (*at, "while")) if row.enable else (-1, 1.0, 0.0, False))
            hysteresis.append(self._quantity(row.hysteresis, eu.difference(self.inputs[when[-1][0]].eu), (*at, "hysteresis")))
            units.append(self._unit_of(self.inputs[when[-1][0]].name))
        return AlarmRows(
            tuple(row.name for row in rows),
            tuple(units),
            tuple(row.priority for row in rows),
            tuple(row.text for row in rows),
            tuple(row.cause for row in rows),
            tuple(row.consequence for row in rows),
            tuple(row.action for row in rows),
            self._rows(when),
            self._rows(enable),
            np.array(hysteresis, dtype=float),
            np.array([row.delay for row in rows], dtype=float),
        )

    def _points(self, loops: LoopRows, units: Mapping[str, UnitPlan]) -> TagTable:
        owner = {tag: name for name, unit in units.items() for tag in self._tags_of(unit.roles.values())}
        points: list[Tag] = []
        for tag in self.inputs:
            kind: Literal["input", "device", "service"] = "input"
            device = self.owner.get(tag.name, "")
            if tag.name in SERVICE_POINTS:
                kind = "service"
            elif tag.name.rpartition(".")[2] in LINK_POINTS and tag.name.rpartition(".")[0] in self.tags.devices:
                kind, device = "device", tag.name.rpartition(".")[0]
            unit = owner.get(tag.name, "") or self._unit_of(tag.name)
            points.append(Point(tag.name, tag.eu, tag.low, tag.high, tag.description, kind, unit, device))
        for tag in self.outputs:
            unit = owner.get(tag.name, "")
            points.append(Point(f"{tag.name}.OUT", tag.eu, tag.low, tag.high, tag.description, "output", unit, self.owner[tag.name]))
        for place, name in enumerate(loops.names):
            pv = self.inputs[loops.pv[place]]
            unit = owner.get(pv.name, "") or self._unit_of(pv.name)
            points.append(
                Point(f"{name}.SP", pv.eu, float(loops.sp_low[place]), float(loops.sp_high[place]), f"Setpoint of {name}", "setpoint", unit)
            )
        for name in loops.names:
            points.append(Point(f"{name}.MODE", "", 0, 2, f"Mode of {name}: 0 MAN, 1 AUTO, 2 REMOTE", "mode"))
        return TagTable(points)
