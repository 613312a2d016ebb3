"""A serial instrument with a dialogue of lines: a balance, a pH transmitter. A failed read is BAD quality, never an exception.

A late answer is never taken for the next one's. The line is drained before each command, and a line that does not match the pattern of what
was asked is never taken. After anything unexpected the line is left silent for as long as an answer may take, and then the instrument is asked
who it is: it answers in order, so whatever was late comes before that answer, and is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from pathlib import Path
from typing import Final

import numpy as np

from drivers.device import Device
from drivers.dialogue import Answer, Write
from drivers.dialogue_lines import BadLine, Lines, frame, read_value, unframe
from drivers.driver import NOT_YET, Driver, Reading, WriteOutcome, WriteResult
from drivers.pause import Pause
from drivers.serial_port import PortLost, SerialPort
from drivers.tags import FloatArray, Quality, QualityArray

__all__ = ["SerialAsciiDriver"]

log = logging.getLogger(__name__)

_EARLY: Final = 0.2  # of its period: polls are not exact, and a reply that is due soon is due


class _Unexpected(Exception):
    """A line came that does not answer the command."""


class _Refused(Exception):
    """The instrument says that it does not do it."""


class SerialAsciiDriver(Driver):
    """One instrument on a serial port of its own.

    Each reply of the profile is asked for as often as the fastest of its signals is wanted, the longest due first; what a read has no time for
    stays due. `timeout` is at least that of two answers. Of an instrument that talks by itself
    (``stream``) the newest whole line counts, and a silence of the dialogue's `timeout` is a loss.
    """

    def __init__(self, device: Device, *, data: Path, timeout: float = 1.0) -> None:
        profile = device.profile
        assert profile.dialogue is not None  # as its protocol says
        self._dialogue = dialogue = profile.dialogue
        # one command and one that reads it back, however slow the instrument is
        super().__init__(device, timeout=timeout if dialogue.stream else max(timeout, 2.0 * (dialogue.timeout + dialogue.pause)))
        self._lines = Lines(dialogue.terminator.encode(), dialogue.longest, stream=dialogue.stream)
        self._port = SerialPort(data / device.address.path, device.address, self._lines)
        self._lock = asyncio.Lock()
        self._pause = Pause()
        self._open = False
        self._in_step = False  # the last answer was the one that was asked for
        self._quiet_until = 0.0  # [s, monotonic]
        self._understood = 0.0  # [s, monotonic] when a line was last understood
        self._begun = False  # the first whole line of a stream is on its way
        self._speaks = False  # and one was understood since the port was opened
        self._dropped = 0  # lines of the port that have been counted
        self._unanswered: dict[str, str] = {}  # what is wrong with a reply, as it was logged; a signal may have the same name
        self._misread: dict[str, str] = {}  # what is wrong with a signal of a line that was understood, as it was logged
        self._signals = tuple(profile.signals.values())
        at = [signal.at.partition(":")[0] for signal in self._signals]
        self._places = {name: [place for place, reply in enumerate(at) if reply == name] for name in dialogue.replies}
        self._replies = {name: answer for name, answer in dialogue.replies.items() if self._places[name]}
        self._periods = {name: float(device.periods[self._places[name]].min()) for name in self._replies}
        self._asked: dict[str, float] = {}  # reply: when it was asked for last [s, monotonic]
        self._values: FloatArray = np.full(len(at), np.nan)
        self._quality: QualityArray = np.full(len(at), Quality.BAD, dtype=np.uint8)
        self._received: FloatArray = np.zeros(len(at))

    async def __aenter__(self) -> SerialAsciiDriver:
        self._open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._open = False
        self._forget()
        self._port.close()
        self.metrics.connected, self.metrics.why = False, "closed"

    def _forget(self) -> None:
        """Let no value outlive the link it came by."""
        self._in_step = False
        self._asked.clear()
        self.wrong.clear()
        self._values.fill(np.nan)
        self._quality.fill(Quality.BAD)

    async def read(self) -> Reading:
        """Return all signals, in the order of the profile, each with the time its line came; the instrument gives no source times."""
        async with self._lock:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            if not self._open:
                return self._lost(None, "closed")
            if not self._pause.over(begun):
                return self._lost(None, self.metrics.why)
            try:
                await self._refresh(begun + self.timeout)
            except PortLost as error:
                return self._give_up(error)
            self._pause.succeeded()
            if self._dialogue.stream and not self._speaks:
                return self._lost(None, NOT_YET)
            now = loop.time()
            self.metrics.reads += 1
            self._tell(up=True)
            received = np.where(self._quality == Quality.BAD, now, self._received)
            return Reading(self._values.copy(), self._quality.copy(), np.zeros(len(self._signals), dtype=np.int64), received)

    def _give_up(self, error: PortLost) -> Reading:
        now = asyncio.get_running_loop().time()
        self._forget()
        self._quiet_until = max(self._quiet_until, now + self._dialogue.timeout)
        if error.kind in ("connect", "drop"):
            self._port.close()
        self._pause.failed(now)
        return self._lost(error.kind, str(error))

    async def _refresh(self, deadline: float) -> None:
        """Bring the values up to date; raise `PortLost` when the instrument does not answer."""
        loop = asyncio.get_running_loop()
        if self._port.open():
            self._understood, self._begun, self._speaks = loop.time(), False, False
        if self._dialogue.stream:
            await self._listen(deadline)
            return
        begun = loop.time()
        late = {name: begun - self._asked.get(name, -math.inf) - (1.0 - _EARLY) * period for name, period in self._periods.items()}
        due = sorted((name for name in late if late[name] >= 0.0), key=lambda name: -late[name])
        for place, name in enumerate(due):
            if place and not self._time_for(1 if self._in_step else 3, deadline):
                break
            answer, now = self._replies[name], loop.time()
            await self._bring_into_step(deadline)
            begun = loop.time()
            try:
                match = await self._ask(answer.send, answer.pattern, deadline)
            except (_Unexpected, _Refused) as error:
                self._count("exception" if isinstance(error, _Refused) else "reply")
                self._note(self._unanswered, name, str(error))
                self._spoil(name, str(error))
            else:
                self.metrics.round_trip = loop.time() - begun
                self._note(self._unanswered, name, "")
                self._take(name, answer, match, loop.time())
            self._asked[name] = now
        if self._time_for(2, deadline):  # else the next read begins with it
            await self._bring_into_step(deadline)

    def _time_for(self, answers: int, deadline: float) -> bool:
        """Whether so many answers may take all of their time before `deadline` [s, monotonic]."""
        return asyncio.get_running_loop().time() + answers * (self._dialogue.timeout + self._dialogue.pause) <= deadline

    async def _listen(self, deadline: float) -> None:
        """Take the lines that an instrument has sent by itself; at first, wait for one."""
        loop = asyncio.get_running_loop()
        await self._bring_into_step(deadline)
        lines = self._port.take()
        if not lines and self._quality.min() == Quality.BAD:
            try:
                lines = [await self._port.line(min(deadline, self._understood + self._dialogue.timeout)), *self._port.take()]
            except TimeoutError:
                lines = []
        for received, line in lines:
            self._hear(received, line)
        self._count_dropped()
        if self._lines.begun and not self._begun:  # its tail was passed over: the line behind it has a `timeout` of its own
            self._begun, self._understood = True, max(self._understood, self._port.heard)
        if loop.time() - self._understood >= self._dialogue.timeout:
            raise PortLost("timeout", f"{self._port.path} has sent nothing that is understood for {self._dialogue.timeout:g} s")

    def _hear(self, received: float, line: bytes) -> None:
        """Take a line that was not asked for."""
        try:
            text = unframe(self._dialogue, line)
        except BadLine:
            self._count("reply")
            return
        for name, answer in self._replies.items():
            if match := answer.pattern.fullmatch(text):
                self._understood, self._speaks = received, True
                self._take(name, answer, match, received)
                return
        self._count("reply")

    def _count_dropped(self) -> None:
        """Count the lines that were too long to be lines."""
        self._count("reply", self._lines.dropped - self._dropped)
        self._dropped = self._lines.dropped

    async def _bring_into_step(self, deadline: float) -> None:
        """Ask the instrument who it is unless the last answer was as expected; raise `PortLost` when it is another one."""
        identity = self._dialogue.identity
        if self._in_step or identity is None:
            return
        try:
            match = await self._ask(identity.send, identity.pattern, deadline, skip=True)
        except (_Unexpected, _Refused) as error:
            raise PortLost("identity", f"identity: {error}: another instrument is on {self.device.address}, or at another baud rate") from None
        self.texts.update({name: text for name, text in match.groupdict().items() if text is not None})

    async def _ask(self, send: str, pattern: re.Pattern[str], deadline: float, *, skip: bool = False) -> re.Match[str]:
        """Return the line that answers; raise `_Unexpected`, `_Refused` or `PortLost`.

        With `skip` other lines before it are dropped: they are late answers to what was asked before.
        """
        dialogue, port, loop = self._dialogue, self._port, asyncio.get_running_loop()
        if not self._in_step and self._quiet_until > loop.time():
            await asyncio.sleep(min(self._quiet_until, deadline) - loop.time())
        if dialogue.stream:
            port.drain()
        else:
            await self._silence(deadline)
        self._in_step = False
        port.send(frame(dialogue, send))
        until, other = min(loop.time() + dialogue.timeout, deadline), ""
        while True:
            try:
                _, line = await port.line(until)
                text = unframe(dialogue, line)
            except TimeoutError:
                self._count_dropped()
                if other:
                    raise _Unexpected(other) from None
                raise PortLost("timeout", f"no answer to {send!r} on {port.path} within {dialogue.timeout:g} s") from None
            except BadLine as error:  # it is no answer, not even where the pattern takes anything
                other = str(error)
            else:
                if dialogue.echo and text == send:
                    continue
                if match := pattern.fullmatch(text):
                    self._in_step = True
                    return match
                if dialogue.refusal is not None and dialogue.refusal.pattern.fullmatch(text) and not skip:
                    self._in_step = True
                    raise _Refused(f"{send!r} is answered {text!r}")
                other = other or f"{send!r} is answered {text!r}"
            if not skip:
                self._quiet_until = loop.time() + dialogue.timeout
                raise _Unexpected(other)

    async def _silence(self, deadline: float) -> None:
        """Wait until nothing has come for the `pause`, and forget what has; raise `PortLost` when the instrument does not stop.

        Of a line that has begun (somebody pressed its print key) the tail would come behind the command, as its answer.
        """
        dialogue, port, loop = self._dialogue, self._port, asyncio.get_running_loop()
        now = loop.time()
        until = max(min(now + dialogue.timeout, deadline), now + dialogue.pause)
        while (left := port.heard + dialogue.pause - loop.time()) > 0.0 or port.drain():
            if loop.time() >= until:
                why = f"{port.path} is never silent for {dialogue.pause:g} s; let the instrument send only when it is asked, or declare a stream"
                raise PortLost("reply", why)
            await asyncio.sleep(left)

    def _take(self, name: str, answer: Answer, match: re.Match[str], received: float) -> None:
        """Take the values of a line."""
        for place in self._places[name]:
            signal, label = self._signals[place], self.device.profile.names[place]
            found = read_value(signal, answer, match)
            if found.why and label not in self._misread:
                self._count("type")
            self._note(self._misread, label, found.why)
            self.wrong.pop(label, None)
            if found.why:
                self.wrong[label] = found.why
            self._values[place], self._quality[place], self._received[place] = found.value, found.quality, received

    def _spoil(self, name: str, why: str) -> None:
        """Let the signals of a reply that did not come be BAD."""
        self._values[self._places[name]] = np.nan
        self._quality[self._places[name]] = Quality.BAD
        self.wrong.update({self.device.profile.names[place]: why for place in self._places[name]})

    def _note(self, noted: dict[str, str], what: str, why: str) -> None:
        """Log what is wrong with a reply or a signal as it begins, and its end."""
        if why and what not in noted:
            log.warning("%s.%s is BAD: %s", self.device.name, what, why)
        elif not why and what in noted:
            log.info("%s.%s is understood again", self.device.name, what)
        noted.pop(what, None)
        if why:
            noted[what] = why

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        """Write signals [eu of each], one command each, and read them back; nothing is repeated.

        What is not sent, since the instrument is not connected, the value cannot be or no time is left, changes nothing there. What may or may not
        be done is BAD until the next read says what is there.
        """
        async with self._lock:
            deadline = asyncio.get_running_loop().time() + self.timeout
            outcomes = list[WriteOutcome]()
            for name, value in changes.items():
                if outcomes and not self._time_for(2, deadline):
                    why = f"no time is left in this write of {len(changes)} signals; write it again"
                    outcomes.append(self._outcome(name, value, WriteResult.NOT_SENT, why))
                else:
                    outcomes.append(await self._write(name, value, deadline))
                    self._doubt(outcomes[-1])
            return outcomes

    def _doubt(self, outcome: WriteOutcome) -> None:
        """Let the next read ask for what may or may not be done, however seldom it is wanted; until then nobody knows what is there."""
        if not outcome.result.doubtful:
            return
        place = self.device.profile.place(outcome.signal)
        self._asked.pop(self._signals[place].at.partition(":")[0], None)
        if math.isnan(outcome.found):
            self._values[place], self._quality[place] = np.nan, Quality.BAD
            self.wrong[outcome.signal] = outcome.why

    async def _write(self, name: str, value: float, deadline: float) -> WriteOutcome:
        signal, command = self.device.profile.signals.get(name), self._dialogue.writes.get(name)
        if signal is None or command is None:
            what = "not a signal" if signal is None else "only read"
            return self._outcome(name, value, WriteResult.NOT_SENT, f"{name} is {what} in profile {self.device.profile.id}")
        if why := signal.refusal(value):
            return self._outcome(name, value, WriteResult.NOT_SENT, why)
        wire = (value - signal.offset) / signal.scale
        if not self.metrics.connected or not self._port.is_open:
            return self._outcome(name, value, WriteResult.NOT_SENT, self.metrics.why or "not connected")
        try:
            await self._bring_into_step(deadline)
        except PortLost as error:
            self._give_up(error)
            return self._outcome(name, value, WriteResult.NOT_SENT, str(error))
        try:
            match = await self._ask(command.command(wire), command.pattern, deadline)
        except _Refused as error:
            return self._outcome(name, value, WriteResult.REFUSED, str(error))
        except _Unexpected as error:
            self._count("reply")
            return self._outcome(name, value, WriteResult.UNKNOWN, str(error))
        except PortLost as error:
            self._give_up(error)
            return self._outcome(name, value, WriteResult.UNKNOWN, str(error))
        echo = match.groupdict().get("value")
        if echo is not None and not _same(echo, command.number(wire)):
            return self._outcome(name, value, WriteResult.MISMATCH, f"acknowledged as {echo!r}, asked for {command.number(wire)}")
        return await self._read_back(name, value, command, deadline)

    def same(self, signal: str, one: float, other: float) -> bool:
        """Whether the command that writes a signal has the same number for two values [its eu]."""
        its, command = self.device.profile.signals[signal], self._dialogue.writes[signal]
        first, second = (command.number((value - its.offset) / its.scale) for value in (one, other))
        return first == second or _same(first, second)  # -0.0 is 0.0

    async def _read_back(self, name: str, value: float, command: Write, deadline: float) -> WriteOutcome:
        place = self.device.profile.place(name)
        signal = self._signals[place]
        reply = signal.at.partition(":")[0]
        answer = self._replies[reply]
        try:
            match = await self._ask(answer.send, answer.pattern, deadline)
        except (_Unexpected, _Refused, PortLost) as error:
            if isinstance(error, PortLost):
                self._give_up(error)
            return self._outcome(name, value, WriteResult.UNKNOWN, f"accepted, but could not be read back: {error}")
        self._take(reply, answer, match, asyncio.get_running_loop().time())
        found = float(self._values[place])
        if math.isnan(found):
            return self._outcome(name, value, WriteResult.UNKNOWN, f"accepted, but reads back as none: {self.wrong.get(name, '')}")
        if self.same(name, value, found):
            return self._outcome(name, value, WriteResult.CONFIRMED, "", found)
        return self._outcome(name, value, WriteResult.MISMATCH, f"accepted, but reads back as {found:g}", found)


def _same(one: str, other: str) -> bool:
    """Whether two texts are one number."""
    try:
        return math.isclose(float(one), float(other), rel_tol=1e-9)
    except ValueError:
        return False
