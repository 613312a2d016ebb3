"""One Modbus link: a TCP server, a serial port or an RTU server in a socket, with one schedule for all units behind it.

The link itself waits for replies, not those who ask: a reader that is cancelled leaves nothing behind that could be taken for another's reply.
What the libraries leave open is closed here. No retries but of a read that the device was too busy for; a new connection for each *epoch*;
what waits when the link drops fails at once; after a reply that does not come, or is not the one asked for, a serial line is closed, left silent
for the longest that reply could take, and opened again. Over TCP a late reply is known by its transaction, dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from drivers.address import Address
from drivers.alarm import Alarm
from drivers.modbus_connect import connect, own_certificate
from drivers.modbus_frames import EXCEPTIONS, Asked, BadReply, DeviceSaidNo, LinkDown, Question, rtu_asked, tcp_asked
from drivers.modbus_plan import char_silence
from drivers.modbus_turns import TURNAROUND, Job, Turns, Unit
from drivers.modbus_wire import RtuWire, TcpWire
from drivers.pause import Pause

__all__ = ["EXCEPTIONS", "BadReply", "DeviceSaidNo", "Line", "LinkDown", "release_line", "share_line"]

log = logging.getLogger(__name__)

_HELD_UP: Final = 0.1  # [s] that a timer rings late when this process itself was held up
_DOUBT: Final = 5.0  # [s] in which a reply that is late may come
_BUSY: Final = 6
_BUSY_PAUSE: Final = 0.05  # [s]
_BUSY_TIMES: Final = 2
_NOT_THERE: Final = (10, 11)  # a gateway says that the unit behind it does not answer
_MUTE: Final = 2  # timeouts without a byte in between, and no unit that answers: then a TCP connection is taken for dead


_Flight = tuple[Job, int, float, float]  # a request that is out: its place in the job, when it was sent and when its reply is late [s]


class Line:
    """A link and its schedule. `ask` is all that devices need."""

    def __init__(self, address: Address, data: Path) -> None:
        self.address, self.data = address, data
        self.users = 0
        self.epoch = 0  # counts connections; 0 is none so far
        self.days = math.inf  # [d] until a certificate of the link expires
        self._rtu = address.scheme in ("modbus-rtu", "modbus-rtu-tcp")
        self._byte = address.character_time if self._rtu else 0.0
        self._silence = char_silence(self._byte) if self._rtu else 0.0
        self._turns = Turns(serial=self._rtu)
        self._wire: TcpWire | RtuWire | None = None
        self._flight: dict[int, _Flight] = {}
        self._opener: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._late_timer: asyncio.TimerHandle | None = None
        self._late_at = math.inf  # [s] when it rings
        self._wake = Alarm(self._kick)  # when something may be sent
        self._silent_until = -math.inf
        self._mute = 0  # timeouts since anything was heard
        self._heard = False  # anything in this epoch
        self._pause = Pause()
        self._why = "not connected yet"

    @property
    def where(self) -> str:
        """The endpoint as people write it."""
        return str(self.data / self.address.path) if self.address.serial else f"{self.address.host}:{self.address.port}"

    @property
    def why(self) -> str:
        """Why there is no connection."""
        return self._why

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        return self._wire is not None

    @property
    def alone(self) -> bool:
        """Whether only one unit is on it."""
        return self._turns.alone

    def unit(self, number: int, pause: float = 0.0, in_flight: int = 1) -> Unit:
        """Return the unit of this number; `pause` [s] and `in_flight` are how it wants to be asked."""
        found = self._turns.units.setdefault(number, Unit(number))
        found.pause, found.in_flight = pause, 1 if self._rtu else in_flight
        return found

    def frame(self, unit: Unit, question: Question) -> Asked:
        """Return a question to a unit, made once for all times that it is asked."""
        return rtu_asked(unit.number, question, self._byte) if self._rtu else tcp_asked(unit.number, question)

    def ask(self, unit: Unit, asked: Sequence[Asked], *, deadline: float, within: float, until: float, urgent: bool = False) -> asyncio.Future[Job]:
        """Return what to await: the replies, and when each came; see `Job`. It raises `LinkDown` or `BadReply` when the link or the unit fails.

        After a failure nothing of the rest is asked. An urgent job whose time runs out before it is sent raises `LinkDown`, too.
        """
        job = Job(unit, asked, deadline, within, until, self._loop.create_future())
        job.urgent = urgent
        if not asked:
            job.end()
            return job.future
        self._turns.jobs.append(job)
        if until < self._late_at:
            self._look_at(until)
        self._kick()
        return job.future

    def forget(self, unit: Unit) -> None:
        """Note that nobody asks a unit any more."""
        if self._turns.units.get(unit.number) is unit:
            del self._turns.units[unit.number]

    async def close(self) -> None:
        """Close the link; whatever waits fails."""
        opener, self._opener = self._opener, None
        if self._late_timer is not None:
            self._late_timer.cancel()
        self._late_timer, self._late_at = None, math.inf
        self._wake.close()
        self._disconnect()
        self._fail_all(LinkDown("drop", f"the link to {self.where} was closed", sent=True))
        if opener is not None:
            opener.cancel()
            await asyncio.wait({opener})

    # sending ------------------------------------------------------------------------------------------------------------

    def _kick(self) -> None:
        """Send what may be sent now, and see to it that the rest is looked at again."""
        wire, flight, turns = self._wire, self._flight, self._turns
        if wire is None:
            self._reopen()
            return
        now = monotonic()
        if now < self._silent_until:
            if turns.jobs and not flight:
                self._wake_at(self._silent_until)
            return
        while turns.jobs:
            if flight and len(flight) >= min(out[0].unit.in_flight for out in flight.values()):
                return
            job = turns.next(now)
            if job is None:
                if not flight and (when := turns.wake(now)) < math.inf:
                    self._wake_at(max(when, now + 0.001))
                return
            unit = job.unit
            if flight and len(flight) >= unit.in_flight:
                return
            patience, left = turns.patience(job, now) if unit.failures or now < turns.hurried else job.within, job.until - now
            if left < 0.5 * patience:  # too late to wait for a reply
                self._expire(job)
                continue
            place = turns.take(job)
            asked = job.asked[place]
            due = now + (patience if patience < left else left) + asked.seconds
            unit.tried_at, job.sent = now, True
            job.out += 1
            flight[wire.send(asked)] = job, place, now, due
            if due < self._late_at:
                self._look_at(due)
            if len(flight) >= unit.in_flight:
                return

    def _wake_at(self, when: float) -> None:
        if when < self._wake.when:
            self._wake.set(when)

    def _look_at(self, when: float) -> None:
        if self._late_timer is not None:
            self._late_timer.cancel()
        self._late_timer, self._late_at = self._loop.call_at(when, self._late), when

    # replies ------------------------------------------------------------------------------------------------------------

    def replied(self, transaction: int, result: bytes | DeviceSaidNo | BadReply) -> None:
        """Take the data of a reply, or what is wrong with it."""
        out = self._flight.pop(transaction)
        job, place, sent, _ = out
        unit, now = job.unit, monotonic()
        self._mute = 0
        if isinstance(result, BadReply):
            aside = unit.aside
            unit.failures += 1
            self._doubt(unit, now)
            self._fail(job, result)
            self._guard(out, now, f"{self.where} gave a reply that does not belong to its request: {result}", aside)
            return
        if self._rtu:
            self._silent_until = now + self._silence
        if not self._heard:
            self._heard = True
            self._pause.succeeded()
        if isinstance(result, DeviceSaidNo):
            if result.code == _BUSY and not job.urgent and job.busy < _BUSY_TIMES and not job.over:
                job.busy += 1
                job.out -= 1
                unit.ready_at = now + _BUSY_PAUSE
                self._turns.again(job, place)
                self._kick()
                return
            if result.code in _NOT_THERE and job.left == len(job.asked):  # else the unit has just answered
                if self._turns.silent(unit, now):
                    self._turns.charge(unit, now, now)
                self._fail(job, LinkDown("exception", f"unit {unit.number} behind {self.where}: {result}", sent=True))
                self._kick()
                return
        trip = now - sent
        if self._rtu:
            trip = max(trip - job.asked[place].seconds, 0.0)
        unit.answered(now, trip)
        job.take(place, result, now)
        if self._turns.jobs:
            self._kick()

    def stale(self, unit: int, *, noise: bool = False) -> None:
        """Note a reply to a question that is no longer waited for; it is dropped."""
        found = self._turns.units.get(unit)
        for known in self._turns.units.values() if found is None else (found,):
            known.stale += 1
            if not noise:
                known.strays += 1
                self._doubt(known, monotonic())
        self._mute = 0
        if self._rtu:  # someone talks out of turn: the line is silent when it has been silent for a while
            self._silent_until = max(self._silent_until, monotonic() + self._silence)

    def _doubt(self, unit: Unit, now: float) -> None:
        if self._rtu:
            unit.doubted_until = now + _DOUBT

    def dropped(self, why: str) -> None:
        """Note that the connection has ended by itself: whatever waits fails at once."""
        self._wire = None
        self._why = f"{self.where}: {why}"
        if not self._heard and self.address.scheme == "modbus-tls":  # with TLS 1.3 a server refuses us when the link stands already
            self._why += f", before any reply; {own_certificate(self.data)}"
        if not self._heard:
            self._pause.failed(monotonic())
        self._fail_all(LinkDown("drop", self._why, sent=True))

    def _late(self) -> None:
        """Fail the requests whose replies are late, and end the jobs whose time is over. One timer for all, set anew when it has rung."""
        now = monotonic()
        held_up = now - self._late_at > _HELD_UP
        self._late_timer, self._late_at = None, math.inf
        if held_up:
            self._forgive(now)
        for job in [job for job in self._turns.jobs if job.until <= now + 1e-3]:
            self._expire(job)
        for transaction, out in list(self._flight.items()):
            job, _, sent, due = out
            if due > now + 1e-3:
                continue
            if self._flight.pop(transaction, None) is None or self._wire is None:
                continue  # the link was closed by the one before
            unit = job.unit
            self._wire.forget(transaction)
            aside = unit.aside
            self._doubt(unit, now)
            if not job.over:  # the first of its requests: those beside it are late for the same reason
                self._turns.silent(unit, now)
                self._mute += 1
            why = f"unit {unit.number} at {self.where} does not answer within {due - sent:.2f} s"
            self._fail(job, LinkDown("timeout", why, sent=True))
            if self._rtu:
                self._guard(out, now, why, aside)
                continue
            if aside:
                self._turns.charge(unit, now, now)
            if self._mute >= _MUTE and all(other.failures for other in self._turns.units.values()):
                self._cut(now, why)
        if times := [due for *_, due in self._flight.values()] + [job.until for job in self._turns.jobs]:
            self._look_at(max(min(times), now + 1e-3))
        self._kick()

    def _forgive(self, now: float) -> None:
        """Let the time of everything begin anew: this process was held up, so replies may be there that nobody has looked at."""
        for job in [*self._turns.jobs, *(out[0] for out in self._flight.values())]:
            job.until = max(job.until, now + job.within)
        for transaction, (job, place, sent, due) in self._flight.items():
            self._flight[transaction] = job, place, sent, max(due, now + job.within)

    def _guard(self, out: _Flight, now: float, why: str, aside: bool) -> None:
        """Close the link; on a serial line keep silent until a late reply can no longer be taken for the next one's."""
        self._cut(now, why, failed=False)
        until = now
        if self._rtu:
            job, place, *_ = out
            until = self._silent_until = now + TURNAROUND + (job.asked[place].question.size + 3) * self._byte
        if aside:
            self._turns.charge(out[0].unit, until, now)
        self._kick()

    def _cut(self, now: float, why: str, *, failed: bool = True) -> None:
        self._disconnect()
        self._why = why
        if failed:
            self._pause.failed(now)
        for out in list(self._flight.values()):
            self._fail(out[0], LinkDown("drop", why, sent=True))
        self._flight.clear()

    # jobs ---------------------------------------------------------------------------------------------------------------

    def _fail(self, job: Job, error: LinkDown | BadReply) -> None:
        if job in self._turns.jobs:
            self._turns.jobs.remove(job)
        if not job.over:
            job.future.set_exception(error)

    def _fail_all(self, error: LinkDown) -> None:
        """Fail what is out, and what waits for its turn: that was not sent."""
        jobs = [*(out[0] for out in self._flight.values()), *self._turns.jobs]
        self._flight.clear()
        for job in dict.fromkeys(jobs):
            self._fail(job, LinkDown(error.kind, str(error), sent=error.sent and job.sent))

    def _expire(self, job: Job) -> None:
        """End a job whose time is over with what it has got, as soon as nothing of it is out."""
        if job in self._turns.jobs:
            self._turns.jobs.remove(job)
        job.closing = True
        self._turns.expired(job.unit, monotonic())
        if job.over or job.out:
            return
        if job.urgent and not job.sent:
            job.future.set_exception(LinkDown("timeout", f"unit {job.unit.number} had no turn at {self.where} in time", sent=False))
        else:
            job.end()

    # connections --------------------------------------------------------------------------------------------------------

    def _disconnect(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _reopen(self) -> None:
        if self._opener is not None or not self._turns.jobs:
            return
        if not self._pause.over(monotonic()):
            self._fail_all(LinkDown(None, self._why, sent=False))
            return
        self._opener = self._loop.create_task(self._open(), name=f"connect {self.where}")

    async def _open(self) -> None:
        """Connect; whatever waits goes on, or fails. A new connection is a new epoch."""
        if (left := self._silent_until - monotonic()) > 0.0:
            await asyncio.sleep(left)
        # so that whoever waits hears that there is no connection before its own time is over
        within = max((job.until for job in self._turns.jobs), default=0.0) - monotonic() - 0.05
        within, begun = max(within, 0.1), monotonic()
        try:
            try:
                made = await connect(self.address, self.data, within)
            except LinkDown:
                if monotonic() - begun < within + _HELD_UP:
                    raise
                made = await connect(self.address, self.data, within)  # this process was held up meanwhile: that was no attempt
        except LinkDown as error:
            self._why = str(error)
            self._pause.failed(monotonic())
            self._fail_all(error)
            return
        finally:
            self._opener = None
        self._wire = RtuWire(made.transport, self, self._byte, made.fd) if self._rtu else TcpWire(made.transport, self)
        made.transport.set_protocol(self._wire)
        self.epoch += 1
        self.days = made.days
        self._mute, self._heard = 0, False
        self._silent_until = monotonic() + self._silence
        self._kick()


_Key = tuple[asyncio.AbstractEventLoop, object]
_lines: dict[_Key, Line] = {}


def _key(address: Address, data: Path) -> _Key:
    end: object = data / address.path if address.serial else (address.scheme, address.host, address.port)
    return asyncio.get_running_loop(), end


def share_line(address: Address, data: Path) -> Line:
    """Return the link to a device, shared with the other units at the same server or on the same serial port; `release_line` gives it back."""
    key = _key(address, data)
    line = _lines.get(key)
    if line is None:
        line = _lines[key] = Line(address, data)
    if address.serial and (line.address.baud, line.address.parity, line.address.stop) != (address.baud, address.parity, address.stop):
        raise ValueError(f"{line.where} is used as {line.address} already, not as {address}; devices on one line share its speed and parity")
    line.users += 1
    return line


async def release_line(line: Line) -> None:
    """Give a link back; the last user closes it."""
    line.users -= 1
    if line.users == 0:
        with contextlib.suppress(KeyError):
            del _lines[_key(line.address, line.data)]
        await line.close()
