"""Read a cell file and compile it into a `CellPlan`. Every mistake is named with file:line:column before anything starts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from controller.cell_file import CellFile, DeviceEntry, InfluxConfig, OutputRole, Part, TagBinding, WebConfig
from controller.commissioning import crowded, line_plans
from controller.core.frame import Point
from controller.core.plan import (
    LINK_POINTS,
    AlarmRows,
    CellPlan,
    Condition,
    DeviceRows,
    InterlockRows,
    LoopRows,
    Role,
    SelectorRows,
    UnitPlan,
)
from drivers import eu
from drivers.device import FLOOR, Address, AddressError, Device, Policy, Profile, Security, find_profile, profile_file
from drivers.image import Freshness
from drivers.modbus_plan import PlanError, spots, text_spots
from drivers.source import BadInput, Document, KeyPath, Problem, read_toml, validate
from drivers.tags import Tag, TagTable
from recipes.classes import UnitClass, load_classes

__all__ = ["InfluxConfig", "LoadedCell", "WebConfig", "cell_path", "class_file", "load_cell"]

SAFE_STATE = "safe_state"  # the signal by which a device says that it has fallen to its own safe state
SERVICE_POINTS = {
    "SERVICE.SCAN_MS": ("ms", 0.0, 1e6, "Execution time of the last scan"),
    "SERVICE.LATE_MS": ("ms", 0.0, 1e7, "Lateness of the last scan"),
    "SERVICE.QUEUE": ("", 0.0, 1e9, "Frames waiting for the historian"),
    "SERVICE.UNSTORED": ("", 0.0, 1.0, "The historian cannot write"),
    "SERVICE.DROPPED": ("", 0.0, 1e12, "Frames the historian has lost since the start"),
}


class LoadedCell(Part):
    """A cell file, compiled."""

    plan: CellPlan
    classes: dict[str, UnitClass]
    influx: InfluxConfig | None
    web: WebConfig
    descriptions: dict[str, str]  # of loops


def cell_path(name: str) -> Path:
    """Return the file of a cell given by its path, or by its name among those that come with the product."""
    shipped = Path(__file__).parent / "cells" / f"{name}.toml"
    return shipped if re.fullmatch(r"[A-Za-z0-9_-]+", name) and not Path(name).exists() and shipped.is_file() else Path(name)


def class_file() -> Path:
    """Return the file of the unit classes that come with the product."""
    import recipes

    return Path(recipes.__file__).parent / "library" / "classes.toml"


def load_cell(path: Path, *, addresses: Mapping[str, str] | None = None, speed: float = 1.0) -> LoadedCell:
    """Read and check a cell file; raise `BadInput` with every mistake.

    `addresses` replace those of devices in the file (a simulator on free ports). `speed` is plant seconds a second: the
    wires do not speed up with the plant, so polling periods are bounded below by ``FLOOR`` of real time.
    """
    document = read_toml(path)
    file = validate(document, CellFile)
    return _Compiler(document, file, path, dict(addresses or {}), speed).run()


class _Compiler:
    """One cell file on its way to a plan. Collects problems; raises them together at the end of each stage."""

    def __init__(self, document: Document, file: CellFile, path: Path, addresses: dict[str, str], speed: float) -> None:
        self.document, self.file, self.path, self.addresses, self.speed = document, file, path, addresses, speed
        self.problems: list[Problem] = []
        self.classes = load_classes(class_file())

    def say(self, path: KeyPath, what: str) -> None:
        self.problems.append(self.document.problem(path, what))

    def settle(self) -> None:
        if self.problems:
            raise BadInput(self.problems)

    def run(self) -> LoadedCell:
        self._devices()
        self.settle()
        self._tables()
        self.settle()
        selectors = self._selectors()
        loops = self._loops()
        units = self._units()
        interlocks = self._interlocks()
        alarms = self._alarms()
        self.settle()
        plan = CellPlan(
            self.file.cell.id,
            self.file.cell.description,
            str(self.path),
            float(self.file.cell.scan),
            self.file.cell.simulated,
            self.device_rows,
            self.image,
            self.freshness,
            self.inputs,
            self.outputs,
            self.rest,
            self.safe,
            self.readback,
            self._points(loops, units),
            selectors,
            loops,
            interlocks,
            alarms,
            units,
            {name: self.image.place(name) for name in SERVICE_POINTS},
        )
        return LoadedCell(
            plan=plan,
            classes=self.classes,
            influx=self.file.influx,
            web=self.file.web,
            descriptions={name: loop.description for name, loop in self.file.loops.items()},
        )

    # devices and tags ---------------------------------------------------------------------------------------------------

    def _devices(self) -> None:
        self.devices: dict[str, Device] = {}
        self.bound: dict[str, tuple[str, str, TagBinding]] = {}  # tag: device, signal, binding
        ends: dict[tuple[str, int], str] = {}  # port or line, and unit
        for unknown in set(self.addresses) - set(self.file.devices):
            self.say(("devices",), f"an address was given for {unknown!r}, but there is no such device; known: {', '.join(self.file.devices)}")
        for name, entry in self.file.devices.items():
            at = ("devices", name)
            try:
                profile = find_profile(entry.profile, self.document.at(*at, "profile"), [self.path.parent])
            except BadInput as error:
                self.problems += error.problems
                continue
            self._check_places(entry.profile, profile)
            try:
                address = Address.parse(self.addresses.get(name, entry.address))
            except AddressError as error:
                self.say((*at, "address"), f"device {name}: address {error}")
                continue
            if address.protocol != profile.protocol:
                self.say((*at, "address"), f"address {address} speaks {address.protocol}, but profile {profile.id} is {profile.protocol}")
            end = (address.path, address.unit) if address.serial else (str(address), 0)
            if end in ends and (address.serial or address.port):
                self.say((*at, "address"), f"address {address} is already that of device {ends[end]}")
            ends[end] = name
            poll = max(float(entry.poll if entry.poll is not None else self.file.cell.scan) / self.speed, FLOOR)
            self.devices[name] = Device(name, profile, address, poll, self.speed, self._security(name, entry, address))
            if SAFE_STATE in profile.signals and SAFE_STATE not in entry.tags.values():
                self._bind(name, profile, f"{name}.SAFE", SAFE_STATE, at)
            for tag, given in entry.tags.items():
                self._bind(name, profile, tag, given, (*at, "tags", tag))

    def _check_places(self, name: str, profile: Profile) -> None:
        """See that each value of a Modbus profile can be where it says."""
        if profile.protocol != "modbus" or (file := profile_file(name, [self.path.parent])) is None:
            return
        try:
            spots(profile)
            text_spots(profile)
        except PlanError as error:
            self.problems.append(read_toml(file).problem(error.keys, str(error)))

    def _security(self, name: str, entry: DeviceEntry, address: Address) -> Security:
        """Return how the link is secured; a link of OPC UA without security has to be asked for."""
        at = ("devices", name)
        if address.protocol == "opcua" and entry.security is None:
            policies = ", ".join(policy for policy in get_args(Policy) if policy != "none")
            self.say(at, f'device {name}: name the security policy ({policies}), or write security = "none" where the network is closed')
        if address.protocol != "opcua" and entry.security not in (None, "none"):
            self.say((*at, "security"), f"{address.scheme} has no security policies; use modbus-tls:// for a secured link")
        if entry.user and not entry.password_file:
            self.say((*at, "user"), f"user {entry.user!r} needs a password_file of mode 0600; a password is never written in a cell file")
        if entry.password_file and not entry.user:
            self.say((*at, "password_file"), "a password needs the user whose it is")
        return Security(entry.security or "none", entry.security_mode, entry.user, entry.password_file)

    def _bind(self, device: str, profile: Profile, tag: str, given: str | TagBinding, at: KeyPath) -> None:
        binding = TagBinding(signal=given) if isinstance(given, str) else given
        if tag in self.bound:
            self.say(at, f"tag {tag!r} is already a signal of device {self.bound[tag][0]}; every tag has a name of its own")
            return
        signal = profile.signals.get(binding.signal)
        if signal is None:
            near = difflib.get_close_matches(binding.signal, profile.names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(profile.names)}"
            self.say(at, f"profile {profile.id} has no signal {binding.signal!r}; {hint}")
            return
        if binding.range is not None and not signal.range[0] <= binding.range[0] < binding.range[1] <= signal.range[1]:
            self.say(at, f"range {list(binding.range)} is not inside that of the device, {list(signal.range)} {signal.eu}")
        inside = binding.rest in (None, "last") or signal.range[0] <= float(binding.rest or 0.0) <= signal.range[1]
        if binding.rest is not None and not (signal.access == "write" and inside):
            self.say(at, f"rest {binding.rest}: expected a value of a writable signal in {list(signal.range)} {signal.eu}")
        self.bound[tag] = (device, binding.signal, binding)

    def _tables(self) -> None:
        tags, link, outputs = list[Tag](), list[Tag](), list[Tag]()
        rest, safe = list[float](), list[float]()
        self.owner: dict[str, str] = {}
        for tag, (device, name, binding) in self.bound.items():
            signal = self.devices[device].profile.signals[name]
            low, high = binding.range or signal.range
            tags.append(Tag(tag, signal.eu, low, high, binding.description or signal.description))
            self.owner[tag] = device
            if signal.access == "write":
                outputs.append(tags[-1])
                default = 0.0 if low <= 0.0 <= high else signal.safe
                rest.append(np.nan if binding.rest == "last" else float(binding.rest if binding.rest is not None else default))
                safe.append(np.nan if binding.rest == "last" else signal.safe)
        for name, device_ in self.devices.items():
            for point, (unit, low, high, says) in LINK_POINTS.items():
                link.append(
                    Tag(f"{name}.{point}", unit, low, high, says.format(f"{name} ({device_.profile.description})" if point == "UP" else name))
                )
        service = [Tag(name, *row) for name, row in SERVICE_POINTS.items()]
        for name in self.file.selectors:
            if name in self.bound:
                self.say(("selectors", name), f"{name!r} is already a tag of device {self.owner[name]}")
        self.settle()
        self.image = TagTable([*tags, *link, *service])
        self.outputs = TagTable(outputs)
        self.rest, self.safe = np.array(rest), np.array(safe)
        self.readback = self.image.places(self.outputs.names)
        self.inputs = TagTable([*self.image, *self._selector_tags()])
        self._link_rows(len(tags))

    def _selector_tags(self) -> list[Tag]:
        tags = []
        for name, selector in self.file.selectors.items():
            members = [self.image[self.image.place(tag)] for tag in selector.of if tag in self.image]
            for place, tag in enumerate(selector.of):
                if tag not in self.image:
                    self.say(("selectors", name, "of", place), self._no_tag(tag))
            if members:
                low, high = min(member.low for member in members), max(member.high for member in members)
                tags.append(Tag(name, members[0].eu, low, high, selector.description))
        return tags

    def _link_rows(self, measured: int) -> None:
        uncertain = np.full(len(self.image), np.inf)
        bad = np.full(len(self.image), np.inf)
        self.device_rows: dict[str, DeviceRows] = {}
        for name, device in self.devices.items():
            names = {signal: tag for tag, (owner, signal, _) in self.bound.items() if owner == name}
            places = np.array([self.image.place(names[signal]) if signal in names else -1 for signal in device.profile.names], dtype=np.intp)
            mine = [tag for tag in self.outputs.names if self.owner[tag] == name]
            periods = device.periods[places >= 0]
            uncertain[places[places >= 0]] = np.maximum(3 * periods, 0.3)
            bad[places[places >= 0]] = np.maximum(10 * periods, 2.5)
            self.device_rows[name] = DeviceRows(
                device,
                float(periods.min(initial=device.poll)),
                places,
                self.outputs.places(mine),
                tuple(self.bound[tag][1] for tag in mine),
                self.image.places(f"{name}.{point}" for point in LINK_POINTS),
                self.image.place(f"{name}.UP"),
                self.image.place(f"{name}.UNTAKEN"),
                self.image.place(f"{name}.CERT_DAYS"),
                int(places[device.profile.place(SAFE_STATE)]) if SAFE_STATE in device.profile.names else -1,
            )
            if mine:
                self._heartbeat(name, self.device_rows[name])
        self.freshness = Freshness(uncertain, bad)
        try:
            lines = line_plans(self.device_rows.values())
        except PlanError as error:
            self.say(("devices",), str(error))
        else:  # a simulated line is a pty, which has no baud rate; another speed than 1 is refused for a real one elsewhere
            for name, sentence in crowded(lines) if not self.file.cell.simulated and self.speed == 1.0 else ():
                self.say(("devices", name, "address"), sentence)

    def _heartbeat(self, name: str, row: DeviceRows) -> None:
        """Refuse a device that would fall to its safe state between two heartbeats: one comes with a poll, and moves with a scan."""
        heartbeat, scan = row.device.profile.heartbeat, float(self.file.cell.scan) / self.speed
        if heartbeat is not None and 2.0 * max(row.poll, scan) > heartbeat.timeout:
            at = ("cell", "scan") if scan > row.poll else ("devices", name, "poll")
            self.say(
                at,
                f"{name} falls to its safe state {heartbeat.timeout:g} s after a heartbeat, and the next would come after {max(row.poll, scan):g} s; "
                f"{at[-1]} at least every {heartbeat.timeout / 2.0:g} s",
            )

    def _no_tag(self, tag: str) -> str:
        near = difflib.get_close_matches(tag, [*self.bound, *self.file.selectors], 2)
        return f"no tag {tag!r} in this cell" + (f"; did you mean {' or '.join(near)}?" if near else "")

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

    # what stands on tags ------------------------------------------------------------------------------------------------

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
            elif tag.name.rpartition(".")[2] in LINK_POINTS and tag.name.rpartition(".")[0] in self.devices:
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
