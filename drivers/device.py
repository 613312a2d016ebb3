"""Device profiles: what a type of device offers. A `Device` is a profile at an address.

A profile is a TOML file; it is the map that the driver reads by and that the simulated device serves. Its fields are
described in docs/reference/profile.md.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, Field, field_validator, model_validator

from drivers.address import NO_SECURITY, Address, AddressError, Policy, Security
from drivers.dialogue import Dialogue
from drivers.modbus_options import ByteOrder, ModbusOptions, WordOrder
from drivers.profile_checks import dialogue_mistakes, method_mistakes, mistakes
from drivers.shapes import STRICT, Eu, Seconds
from drivers.source import BadInput, Document, Mistakes, Position, Problem, read_toml, validate
from drivers.tags import BoolArray, FloatArray

__all__ = [
    "FLOATS",
    "FLOOR",
    "Address",
    "AddressError",
    "Argument",
    "Device",
    "Dialogue",
    "Eu",
    "Group",
    "Identity",
    "Method",
    "OpcuaOptions",
    "Output",
    "Policy",
    "Profile",
    "Security",
    "Signal",
    "SignalType",
    "Text",
    "find_profile",
    "load_profile",
    "profile_file",
    "profile_folder",
]


class Strict(BaseModel):
    """A part of a file: unknown keys are refused, and it never changes after loading."""

    model_config = STRICT


SignalType = Literal["bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
FLOATS: Final = ("float16", "float32", "float64")
_LONGEST_TEXT: Final = 246  # [bytes] of one request


class Signal(Strict):
    """One value that a device offers.

    `at` is ``input:12``, ``holding:3``, ``coil:0`` or ``discrete:0`` on Modbus, a node id with its namespace URI on OPC UA
    (``nsu=urn:...;s=...``), and in a serial dialogue a reply and its group (``weight``, ``measured:ph``). On the wire an integer
    is ``(value - offset) / scale``. A writable signal is read back at the same place.
    On OPC UA several signals may share a node: each an `element` of its array, or a `field` of its structure.
    """

    eu: Eu = ""
    range: tuple[float, float] = (0.0, 1.0)
    type: SignalType = "float32"
    at: str
    access: Literal["read", "write"] = "read"
    safe: float = 0.0  # what the device falls back to when the heartbeat stops; writable signals only
    scale: float = Field(default=1.0, gt=0)
    offset: float = 0.0
    group: str = ""  # whose period and deadband it has; empty: the device's poll, and no deadband
    deadband: float = Field(default=0.0, ge=0)  # [eu] instead of its group's
    description: str = ""
    browse_name: str = ""  # that the node must have; empty: any
    element: int | None = Field(default=None, ge=0)  # of an array, from 0
    field: str = ""  # of a structure: NAME or NAME.NAME
    bit: int | None = Field(default=None, ge=0, le=15)  # a bool in a register: which bit of it, 0 the lowest
    nan: tuple[float, ...] = ()  # what stands on the wire when the device knows no value: BAD
    enum: dict[str, str] = {}  # code -> what it means; another code is BAD
    byte_order: ByteOrder | None = None  # instead of the profile's
    word_order: WordOrder | None = None

    @field_validator("nan", mode="before")
    @classmethod
    def _one_or_more(cls, given: Any) -> Any:
        return (given,) if isinstance(given, int | float) else given

    @property
    def discrete(self) -> bool:
        """Whether it is 0 or 1."""
        return self.type == "bool"

    def refusal(self, value: float) -> str:
        """Return why a value [eu] must not be written: it is outside the range, or neither 0 nor 1 where those are all; empty when it may."""
        low, high = self.range
        if low <= value <= high and (not self.discrete or value in (0.0, 1.0)):  # NaN is not
            return ""
        return f"expected {'0 or 1' if self.discrete else f'{low:g} to {high:g} {self.eu}'.rstrip()}, got {value:g}"

    @model_validator(mode="after")
    def _consistent(self) -> Signal:
        low, high = self.range
        if not low < high:
            raise ValueError(f"range: expected low < high, got [{low:g}, {high:g}]")
        if self.access == "write" and not low <= self.safe <= high:
            raise ValueError(f"safe: {self.safe:g} is outside the range [{low:g}, {high:g}]")
        if self.access == "write" and self.field:
            raise ValueError(f"field: {self.field} of a structure is only read; a server offers what is written as a node of its own, or as a method")
        if self.bit is not None and not (self.discrete and self.at.startswith(("holding:", "input:"))):
            raise ValueError(f"bit: only a bool in a holding or input register has one, not a {self.type} at {self.at}")
        if self.enum and (self.type in FLOATS or (self.scale, self.offset) != (1.0, 0.0)):
            raise ValueError("enum: only an integer or a bool without scale and offset has codes")
        if odd := [code for code in self.enum if not re.fullmatch(r"-?\d+", code)]:
            raise ValueError(f"enum: expected whole numbers as codes, got {odd[0]!r}")
        return self


class Group(Strict):
    """Signals that change alike: how often they are wanted, and by how much they must change to count as changed."""

    period: Seconds
    deadband: float = Field(default=0.0, ge=0, le=100)  # [% of each signal's range]


class Identity(Strict):
    """A constant that tells this type of device from every other; a mismatch makes all of its values BAD."""

    at: str
    type: SignalType = "uint16"
    value: float = math.nan
    text: str = ""  # instead of type and value, on Modbus: ASCII, two characters a register

    @model_validator(mode="after")
    def _one(self) -> Identity:
        if math.isnan(self.value) == (not self.text):
            raise ValueError("expected a value, or a text in its place")
        if not self.text.isascii() or len(self.text) > _LONGEST_TEXT:
            raise ValueError(f"text: expected at most {_LONGEST_TEXT} ASCII characters")
        return self


class Text(Strict):
    """Words that a device says of itself, such as a serial number. On Modbus two characters stand in each register, padded with 0 or blanks."""

    at: str
    length: int = Field(default=0, ge=0, le=_LONGEST_TEXT)  # [bytes] on Modbus
    encoding: Literal["ascii", "latin-1", "utf-8"] = "ascii"
    byte_order: ByteOrder | None = None  # instead of the profile's
    description: str = ""


class Heartbeat(Strict):
    """The counter that the controller writes after each good scan; the device falls to its safe state when it stops."""

    signal: str
    timeout: float = Field(default=5.0, gt=0)  # [s]


class Argument(Strict):
    """An input of a method: the value that a caller gives for a signal, in an eu that may be another one than the signal's.

    Without a signal, callers give it in its own eu.
    """

    writes: str = ""
    eu: Eu = ""
    type: SignalType = "float64"
    description: str = ""


class Output(Strict):
    """A number that a method gives back."""

    eu: Eu = ""
    description: str = ""


class Method(Strict):
    """What a device does when it is called: it takes each input for its signal, all or none, and then pulses a bool (0, 1, 0)."""

    at: str
    object: str = ""  # node id of the object it is called on; found by the driver where the method has one owner
    description: str = ""
    inputs: dict[str, Argument] = {}
    outputs: dict[str, Output] = {}  # in the order of the method; only said to people
    pulses: str = ""


class OpcuaOptions(Strict):
    """How a type of device wants to be talked to over OPC UA."""

    mode: Literal["subscribe", "poll"] = "subscribe"
    publishing_interval: Seconds | None = None  # how often changes are sent; by default the shortest period of a signal
    queue: int = Field(default=4, ge=1, le=1000)  # samples of a signal that wait to be sent
    registered: bool = False  # register nodes, where the server answers quicker for them
    events: str = ""  # the node that reports events, or "server"; empty: none are asked for
    min_severity: int = Field(default=1, ge=1, le=1000)  # events below it are not asked for

    @model_validator(mode="after")
    def _consistent(self) -> OpcuaOptions:
        if self.events not in ("", "server") and not self.events.startswith("nsu="):
            raise ValueError(f'events: expected "server" or a node id with its namespace URI (nsu=...;s=...), got {self.events!r}')
        return self


_IN_DIALOGUE: Final = Identity(at="", value=0.0)  # an instrument with a serial dialogue says who it is in words


class Profile(Strict):
    """A type of device. `signals` is in the order of every array of its readings."""

    id: str
    description: str
    protocol: Literal["modbus", "opcua", "ascii"]
    identity: Identity = _IN_DIALOGUE
    heartbeat: Heartbeat | None = None
    modbus: ModbusOptions = ModbusOptions()
    opcua: OpcuaOptions = OpcuaOptions()
    dialogue: Dialogue | None = None  # of a serial instrument
    groups: dict[str, Group] = {}
    signals: dict[str, Signal]
    texts: dict[str, Text] = {}
    methods: dict[str, Method] = {}  # on OPC UA only

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        if found := list(mistakes(self)):
            raise Mistakes(found)
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The signals in order."""
        return tuple(self.signals)

    def place(self, signal: str) -> int:
        """Return the index of a signal in every reading."""
        return self.names.index(signal)

    def beat(self, count: int) -> float:
        """Return what the heartbeat is after `count` scans [eu of its signal]: the whole numbers of its range in turn, since no other is written."""
        assert self.heartbeat is not None  # as who has none is not asked
        low, high = self.signals[self.heartbeat.signal].range
        first = math.ceil(low)
        return float(first + count % (math.floor(min(high, first + 65535.0)) - first + 1))

    @cached_property
    def low(self) -> FloatArray:
        """Lower ends of the ranges [eu of each], shape (n,)."""
        return np.array([signal.range[0] for signal in self.signals.values()])

    @cached_property
    def high(self) -> FloatArray:
        """Upper ends of the ranges [eu of each], shape (n,)."""
        return np.array([signal.range[1] for signal in self.signals.values()])

    @cached_property
    def writable(self) -> BoolArray:
        """Which signals can be written, shape (n,)."""
        return np.array([signal.access == "write" for signal in self.signals.values()])

    @cached_property
    def safe(self) -> FloatArray:
        """The device's own safe state [eu of each]; NaN for what is only read; shape (n,)."""
        return np.array([signal.safe if signal.access == "write" else np.nan for signal in self.signals.values()])


FLOOR: Final = 0.05  # [s] no signal is polled faster


@dataclass(frozen=True)
class Device:
    """A profile at an address, and how fast it is asked there.

    `speed` is plant seconds a second: the periods of groups are in plant time, and wires do not speed up with the plant.
    """

    name: str
    profile: Profile
    address: Address
    poll: float = 0.1  # [s] monotonic; the period of signals that have no group
    speed: float = 1.0
    security: Security = NO_SECURITY

    @cached_property
    def periods(self) -> FloatArray:
        """How often each signal is wanted [s, monotonic], shape (n,), in the order of the profile."""
        groups = self.profile.groups
        wanted = (groups[signal.group].period / self.speed if signal.group else self.poll for signal in self.profile.signals.values())
        return np.array([max(period, FLOOR) for period in wanted])

    @cached_property
    def deadbands(self) -> FloatArray:
        """By how much each signal must change to count as changed [eu of each], shape (n,); 0 for what is written and what is 0 or 1.

        A readback that is held would never show what was asked for, and be written again and again.
        """
        groups, signals = self.profile.groups, self.profile.signals.values()
        share = np.array([groups[signal.group].deadband if signal.group else 0.0 for signal in signals])
        own = np.array([signal.deadband for signal in signals])
        measured = np.array([signal.access == "read" and not signal.discrete for signal in signals], dtype=np.bool_)
        return np.where(measured, np.where(own > 0.0, own, share / 100.0 * (self.profile.high - self.profile.low)), 0.0)


def profile_folder() -> Path:
    """Return the folder of the profiles that come with the product."""
    return Path(__file__).parent / "profiles"


def load_profile(path: Path) -> Profile:
    """Read one profile; raise `BadInput` with every mistake in it."""
    document: Document = read_toml(path)
    profile = validate(document, Profile)
    found = [(("methods", *at), what) for at, what in method_mistakes(profile)]
    found += dialogue_mistakes(profile)
    if problems := [document.problem(at, f"{'.'.join(at)}: {what}") for at, what in found]:
        raise BadInput(problems)
    return profile


def profile_file(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """Return the file of the profile called `name`, from `folders` or those that come with the product; None if there is none."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        for folder in (*folders, profile_folder()):
            if (path := folder / f"{name}.toml").is_file():
                return path
    return None


def find_profile(name: str, where: Position, folders: Sequence[Path] = ()) -> Profile:
    """Return the profile called `name` from `folders` or those that come with the product; raise `BadInput` at `where` if there is none."""
    if (path := profile_file(name, folders)) is not None:
        return load_profile(path)
    there = {path.stem for folder in folders for path in folder.glob("*.toml")} | {path.stem for path in profile_folder().glob("*.toml")}
    near = difflib.get_close_matches(name, sorted(there), 1)
    shipped = ", ".join(sorted(path.stem for path in profile_folder().glob("*.toml")))
    hint = f"did you mean {near[0]!r}?" if near else f"with the product come {shipped}; one of your own is {name}.toml beside the cell file"
    raise BadInput([Problem(where, f"no device profile {name!r}; {hint}")])
