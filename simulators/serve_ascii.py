"""Simulated serial instruments on pseudo-terminals: each speaks by the examples of its profile, with the values of the moment in them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from drivers import eu
from drivers.device import Signal
from drivers.dialogue import Answer, Dialogue, Write
from drivers.dialogue_lines import BadLine, Lines, frame, unframe
from drivers.tags import FloatArray
from simulators.instruments import StatusArray
from simulators.pty_line import PtyLine
from simulators.station import Refused, Station

__all__ = ["AsciiInstrument", "AsciiLine"]

_MEANING: Final = ("good", "uncertain", "bad")  # by what a transmitter says of itself


class AsciiInstrument:
    """The whole behaviour of an instrument: a line in, a line out; or, if it talks by itself, lines out."""

    def __init__(self, station: Station) -> None:
        self.station = station
        profile = station.device.profile
        assert profile.dialogue is not None  # as its protocol says
        self.dialogue: Dialogue = profile.dialogue
        self._commands = {name: _command(write) for name, write in self.dialogue.writes.items()}

    def answer(self, text: str) -> str:
        """Return the line that answers a command; nothing, if it has no word for what it does not do."""
        dialogue = self.dialogue
        if dialogue.identity is not None and text == dialogue.identity.send:
            return dialogue.identity.example
        for name, reply in dialogue.replies.items():
            if reply.send and text == reply.send:
                return self.line(name, reply)
        for name, pattern in self._commands.items():
            if match := pattern.fullmatch(text):
                return self._set(name, float(match[1]))
        return dialogue.refusal.example if dialogue.refusal is not None else ""

    def _set(self, name: str, value: float) -> str:
        signal = self.station.device.profile.signals[name]
        try:
            self.station.write(name, value * signal.scale + signal.offset)
        except Refused:
            return self.dialogue.refusal.example if self.dialogue.refusal is not None else ""
        write = self.dialogue.writes[name]
        match = write.pattern.fullmatch(write.example)
        assert match is not None  # checked as the profile was loaded
        return _filled(write.example, match, {"value": write.number(value)} if "value" in match.groupdict() else {})

    def line(self, name: str, reply: Answer) -> str:
        """Return the reply `name`: its example, with values, status and nothing else changed."""
        match = reply.pattern.fullmatch(reply.example)
        assert match is not None  # checked as the profile was loaded
        values, status = self.station.values(), self.station.status()
        wanted: dict[str, str] = {}
        for place, signal in enumerate(self.station.device.profile.signals.values()):
            at, _, group = signal.at.partition(":")
            if at == name:
                wanted |= _texts(reply, match, signal, group or "value", place, values, status)
        return _filled(reply.example, match, wanted)

    def lines(self) -> list[str]:
        """Return what an instrument that talks by itself says now."""
        return [self.line(name, reply) for name, reply in self.dialogue.replies.items()]


def _filled(example: str, match: re.Match[str], wanted: Mapping[str, str]) -> str:
    """Return the example with some of its groups replaced."""
    said, end = "", 0
    for group in sorted(wanted, key=match.start):
        said = _fit(said + example[end : match.start(group)], wanted[group], match[group])
        end = match.end(group)
    return said + example[end:]


def _command(write: Write) -> re.Pattern[str]:
    """Return the pattern of a command, with its value as the first group."""
    before, _, after = write.parts
    return re.compile(rf"{re.escape(before)}(-?\d+(?:\.\d+)?){re.escape(after)}", re.ASCII)


def _texts(reply: Answer, match: re.Match[str], signal: Signal, group: str, place: int, values: FloatArray, status: StatusArray) -> dict[str, str]:
    """Return the groups of one signal and what they say."""
    own = "" if group == "value" else f"{group}_"
    unit = next((match[name] for name in (f"{own}unit", "unit") if name in reply.pattern.groupindex), None)
    value = (float(values[place]) - signal.offset) / signal.scale
    says = int(status[place]) if math.isfinite(value) else 2
    if unit is not None:
        value = eu.convert(value, signal.eu, reply.units.get(unit, unit)) if math.isfinite(value) else value
    decimals = len(match[group].partition(".")[2])
    found = {group: f"{value if math.isfinite(value) else 0.0:.{decimals}f}"}
    for name in (f"{own}status", "status"):
        if name in reply.pattern.groupindex:
            found[name] = next((word for word, meaning in reply.status.items() if meaning == _MEANING[says]), match[name])
            break
    return found


def _fit(said: str, text: str, example: str) -> str:
    """Return `said` and `text` behind it, the columns kept as in the example: a longer value takes the blanks before it, a shorter leaves some."""
    more = len(text) - len(example)
    if more > 0:
        blanks = len(said) - len(said.rstrip(" "))
        return said[: len(said) - min(more, max(blanks - 1, 0))] + text
    return said + " " * (-more if said.endswith(" ") else 0) + text


class AsciiLine(PtyLine):
    """One instrument on its line. `period` [s] is how often it talks, if it does so by itself."""

    def __init__(self, path: Path, instrument: AsciiInstrument, period: float) -> None:
        super().__init__(path)
        self.instrument, self._period = instrument, period
        dialogue = instrument.dialogue
        self._lines = Lines(dialogue.terminator.encode(), dialogue.longest)
        self._talker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make the line; an instrument that talks by itself begins."""
        await super().open()
        if self.instrument.dialogue.stream and self._talker is None:
            self._talker = asyncio.create_task(self._talk(), name=f"instrument {self.path}")

    async def close(self) -> None:
        """End it."""
        talker, self._talker = self._talker, None
        if talker is not None:
            talker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await talker
        await super().close()

    async def _talk(self) -> None:
        while True:
            if self.instrument.station.serving:
                for text in self.instrument.lines():
                    self.send(frame(self.instrument.dialogue, text))
            await asyncio.sleep(self._period)

    def come(self, data: bytes) -> None:
        """Answer each command; one that is broken is not understood."""
        dialogue = self.instrument.dialogue
        for line in self._lines.feed(data):
            try:
                text = unframe(dialogue, line)
            except BadLine:
                text = ""
            if not self.instrument.station.serving:
                continue
            if dialogue.echo:
                self.send(frame(dialogue, text))
            if answer := self.instrument.answer(text):
                self.send(frame(dialogue, answer))
