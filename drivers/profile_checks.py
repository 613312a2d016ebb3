"""Whether the parts of a device profile fit together; each part by itself is checked by its model."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from drivers import eu
from drivers.dialogue import places
from drivers.modbus_options import AT

if TYPE_CHECKING:
    from drivers.device import Profile

__all__ = ["dialogue_mistakes", "method_mistakes", "mistakes"]

_FLOATS: Final = {"float16": ">e", "float32": ">f", "float64": ">d"}
_ON_OPCUA: Final = ("element", "field", "browse_name")
_ON_MODBUS: Final = ("bit", "nan", "enum", "byte_order", "word_order")


def mistakes(profile: Profile) -> Iterator[str]:
    """Yield what is wrong, each behind the keys where it stands."""
    yield from _of_profile(profile)
    yield from _of_signals(profile)
    yield from _of_texts(profile)


def _of_profile(profile: Profile) -> Iterator[str]:
    """Yield what is wrong in the profile's own keys, each behind its key."""
    heartbeat, identity = profile.heartbeat, profile.identity
    if heartbeat is not None and not _writable(profile, heartbeat.signal):
        yield f"heartbeat.signal: expected a writable signal of this profile, got {heartbeat.signal!r}"
    elif heartbeat is not None:
        low, high = profile.signals[heartbeat.signal].range
        if math.ceil(low) + 1 > high:
            yield f"heartbeat.signal: there are no two whole numbers to count with in {low:g} to {high:g}, its range; give it 0 to 65535"
    if (profile.protocol == "ascii") != (profile.dialogue is not None):
        yield "dialogue: expected with protocol ascii, and only with it"
    given = "identity" in profile.model_fields_set
    if (profile.protocol == "ascii") == given:
        yield "identity: expected, except with protocol ascii, where it stands in the dialogue"
    elif given:
        if problem := _place_problem(profile.protocol, identity.at):
            yield f"identity.at: {problem}"
        if identity.text and profile.protocol != "modbus":
            yield "identity.text: only on Modbus; give a value"
        if not identity.text and not _holds(identity.type, identity.value):
            yield f"identity.value: {identity.value:g} is no {identity.type}, so no device could ever show it"
        elif identity.type in _FLOATS and (nearest := _nearest(identity.type, identity.value)) != identity.value:
            yield f"identity.value: no device could ever show {identity.value!r} in a {identity.type}; the nearest that it can is {nearest!r}"


def _of_signals(profile: Profile) -> Iterator[str]:
    taken: dict[tuple[object, ...], str] = {}
    for name, signal in profile.signals.items():
        at = f"signals.{name}"
        place = (signal.at, signal.bit, signal.element, signal.field)
        if profile.protocol != "opcua" and (told := [key for key in _ON_OPCUA if getattr(signal, key) not in (None, "")]):
            yield f"{at}.{told[0]}: only a signal on OPC UA has one"
        if signal.group and signal.group not in profile.groups:
            yield f"{at}.group: no group {signal.group!r}; this profile has {', '.join(profile.groups) or 'none'}"
        if problem := _place_problem(profile.protocol, signal.at):
            yield f"{at}.at: {problem}"
        if profile.protocol != "modbus" and (told := [key for key in _ON_MODBUS if getattr(signal, key) not in (None, (), {})]):
            yield f"{at}.{told[0]}: only a signal on Modbus has one"
        words = f"u{signal.type}" if signal.type.startswith("int") else signal.type  # in an int16, 32768 is another way to say -32768
        if never := [code for code in signal.nan if not _holds(signal.type, code) and not _holds(words, code)]:
            yield f"{at}.nan: {never[0]:g} is no {signal.type}, so it never comes"
        if never := [code for code in map(float, signal.enum) if not _holds(signal.type, code)]:
            yield f"{at}.enum: {never[0]:g} is no {signal.type}, so it never comes"
        if profile.protocol == "opcua" and signal.type == "float16":
            yield f"{at}.type: OPC UA has no float16; expected float32 or float64"
        if place in taken:
            yield f"{at}.at: {signal.at} is already taken by {taken[place]}"
        taken[place] = name


def _of_texts(profile: Profile) -> Iterator[str]:
    for name, text in profile.texts.items():
        if profile.protocol == "ascii":
            yield f"texts.{name}: only on Modbus and OPC UA; what an instrument says of itself are the named groups of dialogue.identity"
        if profile.protocol == "modbus" and not (text.at.startswith(("holding:", "input:")) and AT.fullmatch(text.at) and text.length):
            yield f"texts.{name}: expected at = holding|input:<address> and a length [bytes], got {text.at!r}, {text.length}"
        if profile.protocol == "opcua" and (problem := _place_problem(profile.protocol, text.at)):
            yield f"texts.{name}.at: {problem}"


def _place_problem(protocol: str, at: str) -> str:
    """Return why a value cannot be at a place; empty when it can, and of a dialogue, which has places of its own."""
    if protocol == "modbus" and not AT.fullmatch(at):
        return f"expected coil|discrete|input|holding:<address>, got {at!r}"
    if protocol == "opcua" and not at.startswith("nsu="):
        return f"expected a node id with its namespace URI (nsu=...;s=...), got {at!r}"
    return ""


def _nearest(type_: str, value: float) -> float:
    """Return the number that a type of float has for a value; infinity where it has none."""
    try:
        return float(struct.unpack(_FLOATS[type_], struct.pack(_FLOATS[type_], value))[0])
    except OverflowError:
        return math.inf


def _holds(type_: str, value: float) -> bool:
    """Whether a value can be shown in a type."""
    if type_.startswith("float"):
        return True
    if type_ == "bool":
        return value in (0.0, 1.0)
    bits = int(type_.removeprefix("u").removeprefix("int"))
    low, high = (0, 2**bits) if type_.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return value.is_integer() and low <= value < high


def dialogue_mistakes(profile: Profile) -> Iterator[tuple[tuple[str, ...], str]]:
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


def method_mistakes(profile: Profile) -> Iterator[tuple[tuple[str, ...], str]]:
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


def _writable(profile: Profile, name: str, kind: str | None = None) -> bool:
    signal = profile.signals.get(name)
    return signal is not None and signal.access == "write" and kind in (None, signal.type)
