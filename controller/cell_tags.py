"""The devices and tags of a cell file, compiled: the first stage, on which all else stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from controller.cell_file import CellFile, DeviceEntry, TagBinding
from controller.commissioning import crowded, line_plans
from controller.core.plan import LINK_POINTS, DeviceRows
from drivers.device import FLOOR, Address, AddressError, Device, Policy, Profile, Security, find_profile, profile_file
from drivers.image import Freshness
from drivers.modbus_plan import PlanError, spots, text_spots
from drivers.source import BadInput, Document, KeyPath, Problem, read_toml
from drivers.tags import FloatArray, IndexArray, Tag, TagTable

__all__ = ["SERVICE_POINTS", "CellTags", "Stage", "compile_tags", "no_tag"]

SAFE_STATE = "safe_state"  # the signal by which a device says that it has fallen to its own safe state
SERVICE_POINTS = {
    "SERVICE.SCAN_MS": ("ms", 0.0, 1e6, "Execution time of the last scan"),
    "SERVICE.LATE_MS": ("ms", 0.0, 1e7, "Lateness of the last scan"),
    "SERVICE.QUEUE": ("", 0.0, 1e9, "Frames waiting for the historian"),
    "SERVICE.UNSTORED": ("", 0.0, 1.0, "The historian cannot write"),
    "SERVICE.DROPPED": ("", 0.0, 1e12, "Frames the historian has lost since the start"),
}


class Stage:
    """A stage of compiling one cell file. Collects the mistakes in it, and raises them together."""

    def __init__(self, document: Document, file: CellFile) -> None:
        self.document, self.file = document, file
        self.problems: list[Problem] = []

    def say(self, path: KeyPath, what: str) -> None:
        """Note a mistake."""
        self.problems.append(self.document.problem(path, what))

    def settle(self) -> None:
        """Raise `BadInput` with the mistakes so far, if there are any."""
        if self.problems:
            raise BadInput(self.problems)


@dataclass(frozen=True, slots=True)
class CellTags:
    """The devices of a cell and the tags that are bound to their signals."""

    devices: dict[str, Device]
    rows: dict[str, DeviceRows]  # by device
    owner: dict[str, str]  # tag: device
    image: TagTable  # all that is read
    inputs: TagTable  # the image and the selectors behind it
    outputs: TagTable
    rest: FloatArray  # of the outputs
    safe: FloatArray  # of the outputs
    readback: IndexArray  # of each output, in the image
    freshness: Freshness


def compile_tags(document: Document, file: CellFile, path: Path, addresses: dict[str, str], speed: float) -> CellTags:
    """Compile the devices and tags of a cell file; raise `BadInput`. See `load_cell` for `addresses` and `speed`."""
    return _Tags(document, file, path, addresses, speed).run()


class _Tags(Stage):
    def __init__(self, document: Document, file: CellFile, path: Path, addresses: dict[str, str], speed: float) -> None:
        super().__init__(document, file)
        self.path, self.addresses, self.speed = path, addresses, speed

    def run(self) -> CellTags:
        self._devices()
        self.settle()
        self._tables()
        self.settle()
        return CellTags(
            self.devices,
            self.device_rows,
            self.owner,
            self.image,
            self.inputs,
            self.outputs,
            self.rest,
            self.safe,
            self.readback,
            self.freshness,
        )

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
                    self.say(("selectors", name, "of", place), no_tag(tag, self.bound, self.file.selectors))
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


def no_tag(tag: str, *known: Iterable[str]) -> str:
    """Return that there is no such tag, and what was likely meant."""
    near = difflib.get_close_matches(tag, [name for names in known for name in names], 2)
    return f"no tag {tag!r} in this cell" + (f"; did you mean {' or '.join(near)}?" if near else "")
