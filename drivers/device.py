"""Device profiles: what a type of device offers. A `Device` is a profile at an address.

A profile is a TOML file; it is the map that the driver reads by and that the simulated device serves. Its fields are
described in docs/reference/profile.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, Field, field_validator, model_validator

from drivers import eu
from drivers.address import NO_SECURITY, Address, AddressError, Policy, Security
from drivers.dialogue import Dialogue, places
from drivers.modbus_options import AT, ByteOrder, ModbusOptions, WordOrder
from drivers.shapes import STRICT, Eu, Seconds
from drivers.source import BadInput, Document, Position, Problem, read_toml, validate
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
    "Policy",
    "Profile",
    "Security",
    "Signal",
    "SignalType",
    "Text",
    "find_profile",
    "load_profile",
    "profile_folder",
]


class Strict(BaseModel):
    """A part of a file: unknown keys are refused, and it never changes after loading."""

    model_config = STRICT


SignalType = Literal["bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
FLOATS: Final = ("float16", "float32", "float64")
_ON_MODBUS: Final = ("bit", "nan", "enum", "byte_order", "word_order")
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


class Method(Strict):
    """What a device does when it is called: it takes each input for its signal, all or none, and then pulses a bool (0, 1, 0)."""

    at: str
    object: str = ""  # node id of the object it is called on; found by the driver where the method has one owner
    description: str = ""
    inputs: dict[str, Argument] = {}
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
        if self.heartbeat is not None:
            signal = self.signals.get(self.heartbeat.signal)
            if signal is None or signal.access != "write":
                raise ValueError(f"heartbeat.signal: expected a writable signal of this profile, got {self.heartbeat.signal!r}")
        if (self.protocol == "ascii") != (self.dialogue is not None):
            raise ValueError("dialogue: expected with protocol ascii, and only with it")
        if (self.protocol == "ascii") != (self.identity is _IN_DIALOGUE):
            raise ValueError("identity: expected, except with protocol ascii, where it stands in the dialogue")
        taken: dict[tuple[object, ...], str] = {}
        for name, signal in self.signals.items():
            place = (signal.at, signal.bit, signal.element, signal.field)
            if self.protocol != "opcua" and (signal.element is not None or signal.field or signal.browse_name):
                raise ValueError(f"signals.{name}: element, field and browse_name are for OPC UA")
            if signal.group and signal.group not in self.groups:
                raise ValueError(f"signals.{name}.group: no group {signal.group!r}; this profile has {', '.join(self.groups) or 'none'}")
            if self.protocol == "modbus" and not AT.match(signal.at):
                raise ValueError(f"signals.{name}.at: expected coil|discrete|input|holding:<address>, got {signal.at!r}")
            if self.protocol == "opcua" and not signal.at.startswith("nsu="):
                raise ValueError(f"signals.{name}.at: expected a node id with its namespace URI (nsu=...;s=...), got {signal.at!r}")
            if self.protocol != "modbus" and (told := [key for key in _ON_MODBUS if getattr(signal, key) not in (None, (), {})]):
                raise ValueError(f"signals.{name}.{told[0]}: only a signal on Modbus has one")
            if self.protocol == "opcua" and signal.type == "float16":
                raise ValueError(f"signals.{name}.type: OPC UA has no float16; expected float32 or float64")
            if place in taken:
                raise ValueError(f"signals.{name}.at: {signal.at} is already taken by {taken[place]}")
            taken[place] = name
        for name, text in self.texts.items():
            if self.protocol == "modbus" and not (text.at.startswith(("holding:", "input:")) and AT.match(text.at) and text.length):
                raise ValueError(f"texts.{name}: expected at = holding|input:<address> and a length [bytes], got {text.at!r}, {text.length}")
            if self.protocol == "opcua" and not text.at.startswith("nsu="):
                raise ValueError(f"texts.{name}.at: expected a node id with its namespace URI (nsu=...;s=...), got {text.at!r}")
        if self.identity.text and self.protocol != "modbus":
            raise ValueError("identity.text: only on Modbus; give a value")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The signals in order."""
        return tuple(self.signals)

    def place(self, signal: str) -> int:
        """Return the index of a signal in every reading."""
        return self.names.index(signal)

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
        """By how much each signal must change to count as changed [eu of each], shape (n,)."""
        groups, signals = self.profile.groups, self.profile.signals.values()
        share = np.array([groups[signal.group].deadband if signal.group else 0.0 for signal in signals])
        own = np.array([signal.deadband for signal in signals])
        return np.where(own > 0.0, own, share / 100.0 * (self.profile.high - self.profile.low))


def profile_folder() -> Path:
    """Return the folder of the profiles that come with the product."""
    return Path(__file__).parent / "profiles"


def load_profile(path: Path) -> Profile:
    """Read one profile; raise `BadInput` with every mistake in it."""
    document: Document = read_toml(path)
    profile = validate(document, Profile)
    mistakes = [(("methods", *at), what) for at, what in _method_mistakes(profile)]
    mistakes += _dialogue_mistakes(profile)
    if problems := [document.problem(at, f"{'.'.join(at)}: {what}") for at, what in mistakes]:
        raise BadInput(problems)
    return profile


def _dialogue_mistakes(profile: Profile) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the place in the file and what is wrong there, between a dialogue and the signals."""
    dialogue = profile.dialogue
    if dialogue is None:
        return
    known = places(dialogue)
    for name, signal in profile.signals.items():
        if signal.at not in known:
            yield ("signals", name, "at"), f"no such reply or group: {signal.at!r}; this dialogue has {', '.join(known)}"
        if (signal.access == "write") != (name in dialogue.writes):
            yield ("signals", name), f"a writable signal, and no other, has a command: dialogue.writes.{name}"
    for name in dialogue.writes:
        if name not in profile.signals:
            yield ("dialogue", "writes", name), f"no signal {name!r}; this profile has {', '.join(profile.signals)}"


def _method_mistakes(profile: Profile) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the place in the methods table and what is wrong there."""
    taken = {signal.at: name for name, signal in profile.signals.items()} | {profile.identity.at: "identity"}
    for name, method in profile.methods.items():
        if profile.protocol != "opcua":
            yield (name,), "only an OPC UA device has methods; make it a signal"
            continue
        if name in profile.signals:
            yield (name,), "a signal has this name; choose another"
        if not method.at.startswith("nsu="):
            yield (name, "at"), f"expected a node id with its namespace URI (nsu=...;s=...), got {method.at!r}"
        elif method.at in taken:
            yield (name, "at"), f"{method.at} is already taken by {taken[method.at]}"
        taken[method.at] = name
        if method.object and not method.object.startswith("nsu="):
            yield (name, "object"), f"expected a node id with its namespace URI (nsu=...;s=...), got {method.object!r}"
        if method.pulses and not _writable(profile, method.pulses, kind="bool"):
            yield (name, "pulses"), f"expected a writable bool of this profile, got {method.pulses!r}"
        written = dict[str, str]()
        for label, argument in method.inputs.items():
            place = (name, "inputs", label)
            if argument.type == "float16":
                yield (*place, "type"), "OPC UA has no float16"
            if not argument.writes:
                continue
            if not _writable(profile, argument.writes):
                yield (*place, "writes"), f"expected a writable signal of this profile, got {argument.writes!r}"
            elif argument.writes in written or argument.writes == method.pulses:
                yield (*place, "writes"), f"{argument.writes} is already written by {written.get(argument.writes, 'pulses')}"
            elif not eu.compatible(argument.eu, profile.signals[argument.writes].eu):
                yield (*place, "eu"), f"{argument.eu!r} cannot be expressed in {profile.signals[argument.writes].eu!r}, the eu of {argument.writes}"
            elif (argument.type == "bool") != profile.signals[argument.writes].discrete:
                yield (*place, "type"), f"{argument.type} does not fit {argument.writes}, a {profile.signals[argument.writes].type}"
            written[argument.writes] = label


def _writable(profile: Profile, name: str, kind: SignalType | None = None) -> bool:
    signal = profile.signals.get(name)
    return signal is not None and signal.access == "write" and kind in (None, signal.type)


def find_profile(name: str, where: Position, folders: Sequence[Path] = ()) -> Profile:
    """Return the profile called `name` from `folders` or those that come with the product; raise `BadInput` at `where` if there is none."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        for folder in (*folders, profile_folder()):
            if (path := folder / f"{name}.toml").is_file():
                return load_profile(path)
    known = sorted(path.stem for folder in (*folders, profile_folder()) for path in folder.glob("*.toml"))
    raise BadInput([Problem(where, f"no device profile {name!r}; known: {', '.join(known)}")])
