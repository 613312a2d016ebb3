"""Faults of instruments, actuators, motors and links: by name, at a time or at random, the same for the same seed.

``TARGET:KIND[=SIZE[/h]][@START[+DURATION]]``: a tag of the cell, ``device.signal`` or ``device``; one of `KINDS`; a size in the eu of the
signal unless it says another; and plant times such as ``2h``, ``90min`` or ``30s``. docs/reference/faults.md lists the kinds.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from drivers import eu
from drivers.device import Profile, Signal

__all__ = ["KINDS", "Event", "Fault", "Faults", "Kind", "motor_of", "parse"]

EXAMPLE: Final = "AT-201:drift=0.05/h@2h+90min"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: on what, what its size is, and how large it is where none is given."""

    of: Literal["measurement", "output", "motor", "device"]
    size: Literal["", "eu", "rate", "factor", "end"] = ""  # "end" is high or low
    default: float = math.nan  # share of the signal's span; a plain number for a factor
    says: str = ""


KINDS: Final[Mapping[str, Kind]] = {
    "frozen": Kind("measurement", says="the value stands still"),
    "bias": Kind("measurement", "eu", 0.05, "reads too high by SIZE"),
    "drift": Kind("measurement", "rate", 0.02, "reads too high by SIZE more each hour"),
    "spike": Kind("measurement", "eu", 0.2, "jumps by up to SIZE for one step, about once a minute"),
    "noisy": Kind("measurement", "eu", 0.02, "noise of sigma SIZE"),
    "coated": Kind("measurement", "factor", 10.0, "a coated pH probe: SIZE times slower, and 10 % of its slope lost"),
    "high": Kind("measurement", says="over its range: the current stands at 20.5 mA"),
    "low": Kind("measurement", says="under its range: the current stands at 3.8 mA"),
    "ne43": Kind("measurement", "end", 1.0, "has failed and says so by 21 mA (high) or 3.6 mA (low)"),
    "nan": Kind("measurement", says="no number at all"),
    "stuck": Kind("output", says="stays where it is"),
    "stiction": Kind("output", "eu", 0.05, "moves only when it is asked to by more than SIZE"),
    "slow": Kind("output", "factor", 10.0, "moves SIZE times slower"),
    "loss": Kind("output", says="moves, and its feedback follows, but nothing comes: a blocked pipe, a sheared shaft"),
    "trip": Kind("motor", says="the motor trips and stays locked until reset"),
    "offline": Kind("device", says="silent on the wire; the equipment goes on"),
}

_FORM = re.compile(r"(?P<target>[^:]+):(?P<kind>\w+)(=(?P<size>[^@]+))?(@(?P<start>[^+@]+)(\+(?P<duration>[^+@]+))?)?")
_MOTORS: Final = ("rotor_speed_sp", "stirrer_speed_sp")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one signal, or of a device where `signal` is empty."""

    device: str
    signal: str
    kind: str
    size: float = math.nan  # [eu of the signal; of it an hour for a drift; 1 for a factor]; +1 or -1 for an end
    start: float = 0.0  # [s] plant time
    duration: float = math.inf  # [s]

    @property
    def end(self) -> float:
        """When it is over [s]."""
        return self.start + self.duration

    def __str__(self) -> str:
        form = KINDS[self.kind].size
        size = "" if not form else "=" + (("high" if self.size > 0.0 else "low") if form == "end" else f"{self.size:g}") + "/h" * (form == "rate")
        until = "" if math.isinf(self.duration) else f"+{self.duration:g}s"
        return f"{self.device}{'.' * bool(self.signal)}{self.signal}:{self.kind}{size}@{self.start:g}s{until}"


@dataclass(frozen=True, slots=True)
class Event:
    """A fault has begun or ended."""

    time: float  # [s] plant time
    fault: Fault
    began: bool

    def __str__(self) -> str:
        return f"{self.time:.0f} s: {self.fault} has {'begun' if self.began else 'ended'}"


def motor_of(profile: Profile) -> str | None:
    """Return the setpoint of a device's motor, when it has one that trips."""
    return next((name for name in _MOTORS if name in profile.signals), None) if "drive_tripped" in profile.signals else None


def parse(text: str, tags: Mapping[str, tuple[str, str]], profiles: Mapping[str, Profile]) -> Fault:
    """Return the fault that `text` names; `tags`: tag -> (device, signal), `profiles`: device -> profile. Raise `ValueError`."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"fault {text!r}: expected TARGET:KIND[=SIZE[/h]][@START[+DURATION]], for example {EXAMPLE}")
    kind = KINDS.get(match["kind"])
    if kind is None:
        raise ValueError(f"fault {text!r}: kind {match['kind']!r} is not known; known: {', '.join(KINDS)}; for example {EXAMPLE}")
    device, name = _target(text, match["target"].strip(), tags, profiles)
    profile = profiles[device]
    if kind.of == "motor" and not name:
        name = motor_of(profile) or ""
    _fits(text, match["kind"], device, name, profile)
    size = _size(text, match["kind"], match["size"], profile.signals[name] if name else None)
    start = _seconds(text, "start", match["start"], 0.0)
    return Fault(device, name, match["kind"], size, start, _seconds(text, "duration", match["duration"], math.inf))


def _target(text: str, target: str, tags: Mapping[str, tuple[str, str]], profiles: Mapping[str, Profile]) -> tuple[str, str]:
    if target in tags:
        return tags[target]
    if target in profiles:
        return target, ""
    device, _, name = target.rpartition(".")
    if device in profiles and name in profiles[device].signals:
        return device, name
    known = [*tags, *profiles, *(f"{device}.{name}" for device, profile in profiles.items() for name in profile.signals)]
    near = difflib.get_close_matches(target, known, 3)
    advice = f"did you mean {' or '.join(near)}?" if near else f"known devices: {', '.join(profiles)}; a tag or device.signal does as well."
    raise ValueError(f"fault {text!r}: no target {target!r}; {advice} For example {EXAMPLE}")


def _fits(text: str, name: str, device: str, signal: str, profile: Profile) -> None:
    """Raise `ValueError` where such a fault cannot be."""
    of = KINDS[name].of
    where = f"{device}.{signal}" if signal else device
    problem = ""
    if of == "device":
        problem = f"is of a whole device, {where} is a signal; write {device}:{name}" if signal else ""
    elif not signal:
        problem = f"is of a {of}, {device} is a device" + (" without a motor that trips" if of == "motor" else "; write device.signal or a tag")
    elif of == "measurement":
        entry = profile.signals[signal]
        if entry.access == "write" or not entry.type.startswith("float"):
            problem = f"is of a measurement, {where} is not one"
        elif name == "coated" and entry.eu != "pH":
            problem = f"is of a pH probe, {where} measures {entry.eu or 'no pH'}"
    elif profile.signals[signal].access != "write" or signal == "drive_reset" or (profile.heartbeat and signal == profile.heartbeat.signal):
        problem = f"is of an output, {where} is not one"
    elif of == "motor" and signal != motor_of(profile):
        problem = f"is of a motor, {where} is not one"
    if problem:
        fitting = ", ".join(other for other, kind in KINDS.items() if kind.of == of)
        raise ValueError(f"fault {text!r}: {name} {problem}. Kinds of a {of}: {fitting}; for example {EXAMPLE}")


def _size(text: str, name: str, given: str | None, signal: Signal | None) -> float:
    kind = KINDS[name]
    if not kind.size or signal is None:
        if given is not None:
            raise ValueError(f"fault {text!r}: {name} has no size, got {given!r}; write it without '='")
        return math.nan
    if kind.size == "end":
        if given not in (None, "high", "low"):
            raise ValueError(f"fault {text!r}: expected {name}=high or {name}=low, got {given!r}")
        return -1.0 if given == "low" else 1.0
    unit = "" if kind.size == "factor" else eu.difference(signal.eu)
    if given is None:
        return kind.default if kind.size == "factor" else kind.default * (signal.range[1] - signal.range[0])
    body = given.strip()
    if kind.size == "rate":
        if not body.endswith("/h"):
            raise ValueError(f"fault {text!r}: expected a {name} an hour, got {given!r}; for example {name}=0.05/h")
        body = body[:-2]
    try:
        asked = eu.parse(body)
        size = eu.convert(asked.value, asked.eu, unit) if asked.eu else asked.value
    except eu.EuError as error:
        raise ValueError(f"fault {text!r}: size of {name} in {unit or 'a plain number'}: {error}; for example {EXAMPLE}") from None
    least = 1.0 if kind.size == "factor" else 0.0
    if name in ("spike", "noisy", "stiction", "slow", "coated") and not size > least:
        raise ValueError(f"fault {text!r}: size of {name}: expected more than {least:g} {unit}, got {size:g} {unit}".rstrip())
    return size


def _seconds(text: str, what: str, given: str | None, default: float) -> float:
    if given is None:
        return default
    try:
        seconds = eu.parse(given).to("s")
    except eu.EuError as error:
        raise ValueError(f"fault {text!r}: {what}: expected a plant time such as 2h, 90min or 30s, got {given!r} ({error})") from None
    if seconds < 0.0 or (what == "duration" and seconds == 0.0):
        raise ValueError(f"fault {text!r}: {what}: expected a time ahead such as 2h, 90min or 30s, got {given!r}")
    return seconds


class Faults:
    """The faults of a plant, now and to come. `active` gives those of a moment; it is the same tuple until something changes."""

    def __init__(self, faults: Iterable[Fault] = (), seed: int = 0) -> None:
        self.rng = np.random.default_rng([seed, 0xFA])
        self._all = list(faults)
        self._active: tuple[Fault, ...] = ()
        self._until = -math.inf  # [s] plant time of the next change
        self._events: list[Event] = []

    @classmethod
    def random(cls, profiles: Mapping[str, Profile], seed: int, rate_per_hour: float, hours: float = 48.0) -> Faults:
        """Return faults that begin `rate_per_hour` times an hour for `hours`, each for half an hour or so: any kind, anywhere."""
        if not (math.isfinite(rate_per_hour) and rate_per_hour >= 0.0 and math.isfinite(hours) and hours >= 0.0):
            raise ValueError(f"random faults: expected a rate of at least 0 1/h and at least 0 h, got {rate_per_hour:g} 1/h, {hours:g} h")
        rng = np.random.default_rng([seed, 0xFB])
        choices = {kind: found for kind in KINDS if (found := _choices(kind, profiles))}
        kinds = list(choices)
        faults = []
        time = 0.0
        while kinds and rate_per_hour > 0.0 and (time := time + float(rng.exponential(3600.0 / rate_per_hour))) < hours * 3600.0:
            kind = kinds[int(rng.integers(len(kinds)))]
            device, name = choices[kind][int(rng.integers(len(choices[kind])))]
            size = _size("random", kind, None, profiles[device].signals[name] if name else None)
            form = KINDS[kind].size
            if form == "end":
                size = float(rng.choice([-1.0, 1.0]))
            elif form:
                size *= float(rng.uniform(0.5, 2.0))
                size *= float(rng.choice([-1.0, 1.0])) if kind in ("bias", "drift") else 1.0
            faults.append(Fault(device, name, kind, size, round(time, 1), round(60.0 + float(rng.exponential(1800.0)), 1)))
        return cls(faults, seed)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._all)

    def add(self, *faults: Fault) -> None:
        """Add faults; one whose start has passed begins at the next step."""
        self._all += faults
        self._until = -math.inf

    def clear(self, device: str = "", signal: str = "") -> None:
        """Take away all faults, those of a device, or those of a signal of it."""
        self._all = [fault for fault in self._all if (device and fault.device != device) or (signal and fault.signal != signal)]
        self._until = -math.inf

    def active(self, time: float) -> tuple[Fault, ...]:
        """Return the faults at plant time `time` [s], which never goes back."""
        if time >= self._until:
            active = tuple(fault for fault in self._all if fault.start <= time < fault.end)
            self._events += [Event(time, fault, False) for fault in self._active if fault not in active]
            self._events += [Event(time, fault, True) for fault in active if fault not in self._active]
            if active != self._active:
                self._active = active
            ahead = [moment for fault in self._all for moment in (fault.start, fault.end) if moment > time]
            self._until = min(ahead, default=math.inf)
        return self._active

    def events(self) -> list[Event]:
        """Return what has begun and ended since the last call."""
        events, self._events = self._events, []
        return events


def _choices(kind: str, profiles: Mapping[str, Profile]) -> list[tuple[str, str]]:
    """Return each (device, signal) that can suffer a kind of fault."""
    found = []
    for device, profile in profiles.items():
        for name in ("", *profile.signals):
            try:
                _fits("random", kind, device, name, profile)
            except ValueError:
                continue
            found.append((device, name))
    return found
