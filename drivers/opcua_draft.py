"""A profile drafted from a survey of an OPC UA server: what can be known is filled in, what a person must decide is said in comments. No sockets."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import numpy as np

from drivers import eu as units
from drivers import unece
from drivers.device import SignalType
from drivers.opcua_browse import FoundMethod, FoundVariable, Survey

__all__ = ["Draft", "choose", "draft_profile", "signal_type", "unit_of"]

_TYPES: Final[dict[str, SignalType]] = {
    "Boolean": "bool", "Int16": "int16", "UInt16": "uint16", "Int32": "int32", "UInt32": "uint32", "Int64": "int64",
    "UInt64": "uint64", "Float": "float32", "Double": "float64",
}  # fmt: skip
_CONSTANT: Final = re.compile(r"serial|identity|ident|device_?id|product_?code|order_?code|vendor|model|article", re.IGNORECASE)
_LETTERS: Final = str.maketrans({"³": "3", "²": "2", "µ": "u", "μ": "u", "₃": "3"})  # as people write them
_WIDE: Final = 1e9  # of a value whose range the server does not tell


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafted profile, and what a person should know of it."""

    text: str
    signals: int
    methods: int
    left: tuple[str, ...]  # what was left out, and why
    identity: str  # the path of the proposed constant, empty for none


def signal_type(variable: FoundVariable) -> SignalType | None:
    """Return the type that a signal would have; None for what a profile cannot read."""
    return _TYPES.get(variable.type) if variable.rank < 0 else None


def unit_of(variable: FoundVariable) -> str | None:
    """Return the eu of a variable by its UNECE id, else by its display name; empty without one, None when it is not known here."""
    if variable.unit is None:
        return ""
    number, name = variable.unit
    found = unece.eu_of(number)
    if found is not None:
        return "" if found == "1" else found
    plain = name.translate(_LETTERS).replace("°C", "degC").replace("·", "*")
    written = re.sub(r"\bl\b", "L", re.sub(r"\bml\b", "mL", plain))
    return written if units.known(written) else None


def choose(paths: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a browse path, joined by slashes, matches one of the globs."""
    return any(fnmatchcase("/".join(path), glob) for glob in paths)


def draft_profile(survey: Survey, name: str, *, include: Sequence[str] = ("*",), exclude: Sequence[str] = (), writable: bool = False) -> Draft:
    """Return a profile called `name` of what matches the globs. Outputs are drafted as `writable`, else as read with a comment."""
    chosen = [one for one in survey.variables if choose(include, one.path) and not choose(exclude, one.path)]
    usable = [one for one in chosen if one.readable and signal_type(one) is not None]
    left = [f"{'/'.join(one.path)}: {_why_left(one)}" for one in chosen if not (one.readable and signal_type(one) is not None)]
    methods = [one for one in survey.methods if choose(include, one.path) and not choose(exclude, one.path)]
    identity = _identity(usable)
    signals = [one for one in usable if one is not identity]
    names = _names([*(one.path for one in signals), *(one.path for one in methods)])
    parts = [
        f"# drafted from {_comment(survey.server or 'a server that does not say what it is')}; look at every line that has a comment",
        *([f"# not all was seen: {survey.cut}"] if survey.cut else []),
        f"id = {_text(name)}",
        f"description = {_text(survey.server or name)}",
        'protocol = "opcua"',
        *_identity_lines(identity, chosen),
        *_event_lines(survey),
    ]
    for label, signal in zip(names, signals, strict=False):
        parts += ["", *_signal_lines(label, signal, writable=writable)]
    kept = 0
    for label, method in zip(names[len(signals) :], methods, strict=True):
        if problem := _method_problem(method):
            left.append(f"{'/'.join(method.path)}: {problem}")
        else:
            kept += 1
            parts += ["", *_method_lines(label, method)]
    if left:
        parts += ["", "# left out:", *(f"# {_comment(line)}" for line in left)]
    return Draft("\n".join(parts) + "\n", len(signals), kept, tuple(left), "/".join(identity.path) if identity else "")


def _why_left(one: FoundVariable) -> str:
    if not one.seen:
        return "not looked at, since the walk ended before"
    if not one.readable:
        return "cannot be read by this user"
    if one.rank >= 0:
        element = f"; one number of it: at = {_text(one.at)}, type = {_text(_TYPES[one.type])}, element = 0" if one.type in _TYPES else ""
        return f"an array of {one.type}{element}"
    return f"data type {one.type}"


def _identity(usable: Iterable[FoundVariable]) -> FoundVariable | None:
    """Return the likeliest constant number: a property or a value that is only read, called like one, and not 0."""
    found = [one for one in usable if not one.writable and isinstance(one.value, (int, float)) and one.value and math.isfinite(one.value)]
    found = [one for one in found if one.type not in ("Boolean", "Float") and _CONSTANT.search(one.path[-1])]
    return min(found, key=lambda one: (not one.property, len(one.path)), default=None)


def _identity_lines(identity: FoundVariable | None, chosen: Iterable[FoundVariable]) -> list[str]:
    if identity is not None:
        value = f"{identity.value}"
        return [
            f"# a guess, from {_comment('/'.join(identity.path))}: it has to be the same in every device of this type, and in no other",
            f"identity = {{ at = {_text(identity.at)}, type = {_text(_TYPES[identity.type])}, value = {value} }}",
        ]
    words = [one for one in chosen if isinstance(one.value, str) and _CONSTANT.search(one.path[-1])][:5]
    return [
        "# identity is missing: name a number that is the same in every device of this type and in no other, such as",
        '# identity = { at = "nsu=...;s=...", type = "uint32", value = 1 }',
        *(f"# a text cannot be one yet: {_comment('/'.join(one.path))} = {_comment(str(one.value))}" for one in words),
    ]


def _event_lines(survey: Survey) -> list[str]:
    if not survey.notifiers:
        return []
    lines = ["", "# to have its events in the journal:", "# [opcua]"]
    return lines + [f"# events = {_text(at)}  # {_comment('/'.join(path))}" for path, at in survey.notifiers[:5]]


def _signal_lines(label: str, one: FoundVariable, *, writable: bool) -> list[str]:
    kind = signal_type(one)
    assert kind is not None  # as chosen
    lines = [f"[signals.{label}]  # {_comment('/'.join(one.path))}", f"at = {_text(one.at)}", f"type = {_text(kind)}"]
    if one.browse_name:
        lines.append(f"browse_name = {_text(one.browse_name)}")
    if one.description and one.description != one.path[-1]:
        lines.append(f"description = {_text(one.description)}")
    unit = unit_of(one)
    if not one.told:
        lines.append("# eu and range were not asked for, since the walk ended before: browse again for longer, or write them yourself")
    if unit is None:
        assert one.unit is not None  # else it would be empty
        lines.append(f"# eu: the server says {_comment(one.unit[1])}, which is not known here; convert it with scale and offset")
    elif unit:
        lines.append(f"eu = {_text(unit)}")
    low, high, told = _range(one, kind)
    if kind != "bool":
        why = "" if told else "  # the server does not tell: narrow it" if one.told else "  # not asked for: anything that the type holds"
        lines.append(f"range = [{low!r}, {high!r}]{why}")
    if one.writable:
        safe = min(max(0.0, low), high)
        if writable:
            lines += ['access = "write"', f"safe = {safe!r}  # what the device falls back to by itself: ask its maker"]
        else:
            lines.append(f'# it can be written; where a cell should: access = "write", safe = {safe!r}')
    return lines


def _range(one: FoundVariable, kind: SignalType) -> tuple[float, float, bool]:
    """Return the range of a signal, and whether the server has told it."""
    if kind == "bool":
        return 0.0, 1.0, True
    if one.range is not None and all(map(math.isfinite, one.range)) and one.range[0] < one.range[1]:
        return *one.range, True
    if kind in ("float32", "float64"):
        return -_WIDE, _WIDE, False
    limits = np.iinfo(kind)
    return float(limits.min), float(limits.max), False


def _method_problem(method: FoundMethod) -> str:
    if method.inputs is None:
        return "what it takes cannot be read"
    odd = [f"{one.name} ({one.type}{'' if one.scalar else ', an array'})" for one in method.inputs if not (one.scalar and one.type in _TYPES)]
    return f"takes {', '.join(odd)}" if odd else ""


def _method_lines(label: str, method: FoundMethod) -> list[str]:
    lines = [f"[methods.{label}]  # {_comment('/'.join(method.path))}", f"at = {_text(method.at)}"]
    if len(method.objects) > 1:
        lines.append(f"object = {_text(method.objects[0])}  # one of {len(method.objects)} that have it")
    for name, one in zip(_names([(one.name,) for one in method.inputs or ()]), method.inputs or (), strict=True):
        says = f", description = {_text(one.description)}" if one.description else ""
        lines.append(f"inputs.{name} = {{ type = {_text(_TYPES[one.type])}{says} }}")
    return lines


def _names(paths: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each path, from its end, and from so much of it that no two are the same."""
    slugs = [[slug for part in path if (slug := _slug(part))] or ["x"] for path in paths]
    deep = [1] * len(paths)
    for _ in range(max(map(len, slugs), default=0)):
        names = ["_".join(slug[-depth:]) for slug, depth in zip(slugs, deep, strict=True)]
        many = Counter(names)
        for place, name in enumerate(names):
            if many[name] > 1 and deep[place] < len(slugs[place]):
                deep[place] += 1
    found, taken = list[str](), set[str]()
    for parts, depth in zip(slugs, deep, strict=True):
        wanted = name = "_".join(parts[-depth:])
        number = 2
        while name in taken:
            name, number = f"{wanted}_{number}", number + 1
        taken.add(name)
        found.append(name)
    return found


def _slug(text: str) -> str:
    """Return a browse name as a key of TOML.

    >>> _slug("FillLevel"), _slug("Füllstand 2"), _slug("TT-101.PV"), _slug("7Bar")
    ('fill_level', 'fullstand_2', 'tt_101_pv', 'x7_bar')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    name = re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")[:60]
    return f"x{name}" if name[:1].isdigit() else name


def _text(text: str) -> str:
    """Return a string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _comment(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:300]
