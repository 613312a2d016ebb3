r"""Bytes of a serial line to lines, lines to values. Pure.

>>> lines = Lines(b"\r\n", 128)
>>> lines.feed(b"S S   1.00 g\r\nS S   1.0"), lines.feed(b"1 g\r\n")
([b'S S   1.00 g'], [b'S S   1.01 g'])
>>> Lines(b"\r\n", 128, stream=True).feed(b"3.45 kg\r\n  -123.45 kg\r\n")
[b'  -123.45 kg']
>>> xor_sum(b"PH 7.00;"), plain_sum(b"PH 7.00;")
('1A', 'B8')
"""

from __future__ import annotations

import functools
import math
import operator
import re
from dataclasses import dataclass

from drivers import eu
from drivers.device import Device, Signal
from drivers.dialogue import Answer, Dialogue
from drivers.tags import Quality

__all__ = ["BadLine", "Found", "Lines", "Turn", "frame", "plain_sum", "read_value", "turns", "unframe", "xor_sum"]

_QUALITY = {"good": Quality.GOOD, "uncertain": Quality.UNCERTAIN, "bad": Quality.BAD}


class BadLine(ValueError):
    """A line that cannot be what the instrument has sent."""


class Lines:
    """Cuts what comes into lines. One that is longer than `longest` [bytes] is dropped to its end, and counted.

    What comes first in a `stream` may be the tail of a line, and a value of its own (-123.45 kg without its first four bytes): it is passed
    over to the first terminator, and `begun` is false until then.
    """

    def __init__(self, terminator: bytes, longest: int, *, stream: bool = False) -> None:
        self._terminator, self._longest, self._stream = terminator, longest, stream
        self.dropped = 0
        self.begin()

    def begin(self) -> None:
        """Begin at a line that was opened: nothing is known of what came before."""
        self._rest, self._skipping = b"", self._stream
        self.begun = not self._stream

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that end in `data`, without their terminators; empty ones are none."""
        *whole, self._rest = (self._rest + data).split(self._terminator)
        found = []
        for line in whole:
            if self._skipping or len(line) > self._longest:
                self.dropped += not self._skipping
                self._skipping, self.begun = False, True
            elif line:
                found.append(line)
        if len(self._rest) > self._longest + len(self._terminator):
            self.dropped += not self._skipping
            self._skipping = True
            self._rest = self._rest[-len(self._terminator) :]  # the terminator may have begun
        return found

    def clear(self) -> None:
        """Forget what has come of a line; what comes next is looked at from its first byte."""
        self._rest, self._skipping = b"", False


def xor_sum(data: bytes) -> str:
    """Return all bytes in exclusive or, as two hexadecimal digits."""
    return f"{functools.reduce(operator.xor, data, 0):02X}"


def plain_sum(data: bytes) -> str:
    """Return the sum of all bytes modulo 256, as two hexadecimal digits."""
    return f"{sum(data) & 0xFF:02X}"


_SUMS = {"xor": xor_sum, "sum": plain_sum}


def frame(dialogue: Dialogue, text: str) -> bytes:
    """Return `text` as it goes on the line."""
    data = text.encode(dialogue.encoding)
    if dialogue.checksum != "none":
        data += _SUMS[dialogue.checksum](data).encode()
    return data + dialogue.terminator.encode()


def unframe(dialogue: Dialogue, line: bytes) -> str:
    """Return what a line says; raise `BadLine` when its checksum or a byte is wrong. A NUL stands for a byte that came with a wrong parity bit."""
    if 0 in line:
        raise BadLine(f"a NUL is in {line!r}: a byte with a wrong parity or stop bit; check parity, baud rate and cable")
    if dialogue.checksum != "none":
        line, found = line[:-2], line[-2:]
        if found.upper() != (expected := _SUMS[dialogue.checksum](line).encode()):
            raise BadLine(f"checksum of {line!r} is {found!r}, expected {expected!r}")
    try:
        return line.decode(dialogue.encoding)
    except UnicodeDecodeError as error:
        raise BadLine(f"byte {line[error.start]:#04x} in {line!r} is not {dialogue.encoding}") from None


@dataclass(frozen=True, slots=True)
class Found:
    """A value [eu of its signal] and its quality; NaN and why, when there is none."""

    value: float
    quality: Quality
    why: str = ""


def read_value(signal: Signal, answer: Answer, match: re.Match[str]) -> Found:
    """Return the value of `signal` in a line that matched the pattern of `answer`."""
    groups = match.groupdict()
    group = signal.at.partition(":")[2] or "value"
    own = "" if group == "value" else f"{group}_"
    status, unit = (groups.get(f"{own}{what}", groups.get(what)) for what in ("status", "unit"))
    quality = Quality.GOOD
    if f"{own}status" in groups or "status" in groups:
        quality = _QUALITY[answer.status.get(status or "", "bad")]
    if quality is Quality.BAD:
        return Found(math.nan, quality, f"the instrument says {status!r}")
    text = groups[group]
    try:
        value = float((text or "").replace(" ", "")) * signal.scale + signal.offset
    except ValueError:
        return Found(math.nan, Quality.BAD, f"{text!r} is not a number")
    if not math.isfinite(value) or (signal.discrete and value not in (0.0, 1.0)):
        return Found(math.nan, Quality.BAD, f"{text!r} is not a {signal.type}")
    if unit is None:
        return Found(value, quality)
    try:
        return Found(eu.convert(value, answer.units.get(unit, unit), signal.eu), quality)
    except eu.EuError:
        return Found(math.nan, Quality.BAD, f"it is in {unit!r}, which is not {signal.eu or 'a plain number'}")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a dialogue says on its line again and again: a command (empty in a stream) and the line that answers, each `period` [s]."""

    send: str
    signals: tuple[str, ...]
    period: float
    time: float  # [s] that it takes on the line, with the pause behind it


def turns(device: Device) -> list[Turn]:
    """Return the turns of a serial instrument's dialogue: each reply that has signals, as often as the fastest of them is wanted."""
    dialogue, profile = device.profile.dialogue, device.profile
    if dialogue is None:
        return []
    found = []
    for name, answer in dialogue.replies.items():
        of = [place for place, signal in enumerate(profile.signals.values()) if signal.at.partition(":")[0] == name]
        if of:
            said = len(frame(dialogue, answer.example)) + (len(frame(dialogue, answer.send)) if answer.send else 0)
            time = said * device.address.character_time + (0.0 if dialogue.stream else dialogue.pause)
            found.append(Turn(answer.send, tuple(profile.names[place] for place in of), float(device.periods[of].min()), time))
    return found
