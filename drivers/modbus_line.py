"""One Modbus link: a TCP server, a serial port or an RTU server in a socket, with one schedule for all units behind it.

The link itself waits for replies, not those who ask: a reader that is cancelled leaves nothing behind that could be taken for another's reply.
What the libraries leave open is closed here. No retries but of a read that the device was too busy for; a new connection for each *epoch*;
what waits when the link drops fails at once; after a reply that does not come, or is not the one asked for, a serial line is closed, left silent
for the longest that reply could take, and opened again. Over TCP a late reply is known by its transaction, dropped and counted.
When a step of the link itself goes wrong, all who wait fail, and it is opened again, too.
"""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from drivers.address import Address
from drivers.alarm import Alarm
from drivers.driver import NOT_YET
from drivers.expiry import Ending, Expiry
from drivers.modbus_connect import Connection, connect, own_certificate
from drivers.modbus_flight import Flight, Out
from drivers.modbus_frames import LONGEST_FRAME, Asked, BadReply, DeviceSaidNo, LinkDown, Question, rtu_asked, tcp_asked
from drivers.modbus_plan import char_silence
from drivers.modbus_says import check, foreign, shown
from drivers.modbus_turns import TURNAROUND, Job, Turns, Unit
from drivers.modbus_wire import Result, RtuWire, TcpWire
from drivers.pause import Pause

__all__ = ["Line"]

log = logging.getLogger(__name__)

_HELD_UP: Final = 0.1  # [s] that a timer rings late when this process itself was held up
_DOUBT: Final = 5.0  # [s] in which a reply that is late may come
_BUSY: Final = 6
_BUSY_PAUSE: Final = 0.05  # [s]
_BUSY_TIMES: Final = 2
_NOT_THERE: Final = (10, 11)  # a gateway says that the unit behind it does not answer
_MOST: Final = 0x10000  # requests in flight: there are no more transactions
_MUTE: Final = 2  # timeouts without a byte in between, and no unit that answers: then a TCP connection is taken for dead


class Line:
    """A link and its schedule. `ask` is all that devices need."""

    def __init__(self, address: Address, data: Path) -> None:
        self.address, self.data = address, data
        self.users = 0
        self.epoch = 0  # counts connections; 0 is none so far
        self._ends: tuple[Ending, ...] = ()  # when the certificates of the link expire
        self._expiry = Expiry(self.where, ())
        self._rtu = address.scheme in ("modbus-rtu", "modbus-rtu-tcp")
        self._byte = address.character_time if self._rtu else 0.0
        self._silence = char_silence(self._byte) if self._rtu else 0.0
        self._turns = Turns(serial=self._rtu)
        self._wire: TcpWire | RtuWire | None = None
        self._flight = Flight(self._turns)
        self._opener: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._late_timer: asyncio.TimerHandle | None = None
        self._late_at = math.inf  # [s] when it rings
        self._wake = Alarm(self._woken)  # when something may be sent
        self._silent_until = -math.inf
        self._mute = 0  # timeouts since anything was heard
        self._heard = False  # anything in this epoch
        self._speaks = False  # Modbus has been heard in any
        self._pause = Pause()
        self._why = NOT_YET
        self._faults: set[tuple[str, int | None]] = set()  # of this program, by their place, which are told once

    @property
    def where(self) -> str:
        """The endpoint as people write it."""
        return str(self.data / self.address.path) if self.address.serial else f"{self.address.host}:{self.address.port}"

    @property
    def why(self) -> str:
        """Why there is no connection."""
        return self._why

    @property
    def days(self) -> float:
        """How long from now until the first certificate of the link expires [d]; infinite without any."""
        return self._expiry.days()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        return self._wire is not None

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
        job = Job(unit, asked, deadline, within, until, self._loop.create_future(), urgent)
        if not asked:
            job.end()
            return job.future
        self._turns.jobs.append(job)
        try:
            if until < self._late_at:
                self._look_at(until)
            self._kick(monotonic())
        except Exception as error:  # noqa: BLE001  # told with its place, and the reader fails
            self.broken(error)
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
        self._flight.fail_all(LinkDown("drop", f"the link to {self.where} was closed", sent=True))
        if opener is not None:
            opener.cancel()
            await asyncio.wait({opener})

    # sending ------------------------------------------------------------------------------------------------------------

    def _kick(self, now: float) -> None:
        """Send what may be sent now, and see to it that the rest is looked at again."""
        wire, flight, turns = self._wire, self._flight.out, self._turns
        if wire is None:
            self._reopen()
            return
        if now < self._silent_until:
            if turns.jobs and not flight:
                self._wake_at(self._silent_until)
            return
        room = min([out[0].unit.in_flight for out in flight.values()]) - len(flight) if flight else _MOST
        while room > 0 and turns.jobs:
            job = turns.next(now)
            if job is None:
                if not flight and (when := turns.wake(now)) < math.inf:
                    self._wake_at(max(when, now + 0.001))
                return
            unit = job.unit
            room = min(room, unit.in_flight - len(flight))
            if room <= 0:
                return
            patience, left = turns.patience(job, now) if unit.failures or now < turns.hurried else job.within, job.until - now
            if left < 0.5 * patience:  # too late to wait for a reply
                self._flight.expire(job, self.where, now)
                continue
            due = now + (patience if patience < left else left)
            unit.tried_at, job.sent = now, True
            while True:  # all that may be sent now
                place = job.todo[-1]
                asked = job.asked[place]
                flight[wire.send(asked)] = job, place, now, due + asked.seconds
                turns.take(job)
                room -= 1
                if not room or not job.todo or unit.failures or unit.aside:
                    break
            if due + asked.seconds < self._late_at:
                self._look_at(due + asked.seconds)

    def _woken(self) -> None:
        try:
            self._kick(monotonic())
        except Exception as error:  # noqa: BLE001  # told with its place, and who waits fails
            self.broken(error)

    def _wake_at(self, when: float) -> None:
        if when < self._wake.when:
            self._wake.set(when)

    def _look_at(self, when: float) -> None:
        if self._late_timer is not None:
            self._late_timer.cancel()
        self._late_timer, self._late_at = self._loop.call_at(when, self._late), when

    # replies ------------------------------------------------------------------------------------------------------------

    def replied(self, replies: Sequence[tuple[int, Result]]) -> None:
        """Take what came together: the data of each reply, or what is wrong with it."""
        flight, now = self._flight.out, monotonic()
        self._mute = 0
        if self._rtu:
            self._silent_until = now + self._silence
        heard: Unit | None = None
        for transaction, result in replies:
            job, place, sent, _ = flight[transaction]
            if isinstance(result, BadReply):
                self._is_none(flight[transaction], result, now)
                return  # the link is closed
            if not self._heard:
                self._heard = self._speaks = True
                self._pause.succeeded()
            if isinstance(result, DeviceSaidNo) and self._is_no_answer(job, place, result, now):
                heard = None
            else:
                if (unit := job.unit) is not heard:  # of several the first one took longest
                    heard = unit
                    unit.answered(now, max(now - sent - job.asked[place].seconds, 0.0))
                job.take(place, result, now)
            del flight[transaction]
        if self._turns.jobs:
            self._kick(now)

    def _is_none(self, out: Out, result: BadReply, now: float) -> None:
        """Close the link after a reply that does not belong to its question."""
        unit = out[0].unit
        aside = unit.aside
        unit.failures += 1
        self._doubt(unit, now)
        why = f"unit {unit.number} at {self.where} gave a reply that is none: {result}; {check(self.address, speaks=self._speaks)}"
        self._flight.fail(out[0], BadReply(why))
        self._guard(out, now, why, aside)

    def _is_no_answer(self, job: Job, place: int, result: DeviceSaidNo, now: float) -> bool:
        """Whether an exception says only that the device is busy, so it is asked again, or that a gateway does not reach it."""
        unit = job.unit
        if result.code == _BUSY and not (job.urgent or job.over or job.closing) and job.busy < _BUSY_TIMES:
            job.busy += 1
            unit.ready_at = now + _BUSY_PAUSE
            self._turns.again(job, place)
            return True
        if result.code in _NOT_THERE and job.left == len(job.asked):  # else the unit has just answered
            if not job.over and self._turns.silent(unit, now):  # of those beside it the gateway says the same
                self._turns.charge(unit, now, now)
            why = f"unit {unit.number} behind {self.where}: {result}; {check(self.address, speaks=True)}"
            self._flight.fail(job, LinkDown("exception", why, sent=True))
            return True
        return False

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
        if not self._heard:
            self._pause.failed(monotonic())
            if self.address.scheme == "modbus-tls":  # with TLS 1.3 a server refuses us when the link stands already
                self._why += f", before any reply; {own_certificate(self.data)}"
            elif not self._speaks:
                self._why += f", before any reply; {check(self.address, speaks=False)}"
        self._flight.fail_all(LinkDown("drop", self._why, sent=True))

    def foreign(self, data: bytes) -> None:
        """Note that something else than Modbus came; the connection cannot be used any more."""
        self.dropped(f"it sent {shown(data)}, which is no Modbus" if self._speaks else foreign(data))

    def broken(self, error: Exception) -> None:
        """End a connection on which a step of this program went wrong: whoever waits fails, and the link is opened again. Each place is told once."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        if (key := (place.filename, place.lineno)) not in self._faults:
            self._faults.add(key)
            log.error("the link to %s is opened again after a mistake in this program; please report it", self.where, exc_info=error)
        now = monotonic()
        self._disconnect()
        self._pause.failed(now)
        self._why = f"{self.where}: a mistake in this program, {error!r}; please report it with the lines in the log"
        if self._rtu:  # what was asked for last may still be answered
            self._silent_until = now + TURNAROUND + LONGEST_FRAME * self._byte
            for unit in self._turns.units.values():
                self._doubt(unit, now)
        self._flight.fail_all(LinkDown("drop", self._why, sent=True))

    def _late(self) -> None:
        try:
            self._look(monotonic())
        except Exception as error:  # noqa: BLE001  # told with its place, and who waits fails
            self.broken(error)

    def _look(self, now: float) -> None:
        """Fail the requests whose replies are late, and end the jobs whose time is over. One timer for all, set anew when it has rung."""
        held_up = now - self._late_at > _HELD_UP
        self._late_timer, self._late_at = None, math.inf
        if held_up:
            self._flight.forgive(now)
        for job in [job for job in self._turns.jobs if job.until <= now + 1e-3]:
            self._flight.expire(job, self.where, now)
        for transaction, out in list(self._flight.out.items()):
            job, _, sent, due = out
            if due > now + 1e-3:
                continue
            if self._wire is None or self._flight.out.get(transaction) is not out:
                continue  # the link was closed by the one before
            unit = job.unit
            self._wire.forget(transaction)
            aside = unit.aside
            self._doubt(unit, now)
            if not job.over:  # the first of its requests: those beside it are late for the same reason
                self._turns.silent(unit, now)
                self._mute += 1
            why = f"unit {unit.number} at {self.where} does not answer within {due - sent:.2f} s; {check(self.address, speaks=self._speaks)}"
            if not self._speaks and isinstance(self._wire, TcpWire) and (part := self._wire.part):
                why = f"{self.where}: {foreign(part)}"
            self._flight.fail(job, LinkDown("timeout", why, sent=True))
            del self._flight.out[transaction]
            if self._rtu:
                self._guard(out, now, why, aside)
                continue
            if aside:
                self._turns.charge(unit, now, now)
            if self._mute >= _MUTE and all(other.failures for other in self._turns.units.values()):
                self._cut(now, why)
        if times := self._flight.due():
            self._look_at(max(min(times), now + 1e-3))
        self._kick(now)

    def _guard(self, out: Out, now: float, why: str, aside: bool) -> None:
        """Close the link; on a serial line keep silent until a late reply can no longer be taken for the next one's."""
        self._cut(now, why, failed=False)
        until = now
        if self._rtu:
            job, place, *_ = out
            until = self._silent_until = now + TURNAROUND + (job.asked[place].question.size + 3) * self._byte
        if aside:
            self._turns.charge(out[0].unit, until, now)
        self._kick(now)

    def _cut(self, now: float, why: str, *, failed: bool = True) -> None:
        self._disconnect()
        self._why = why
        if failed:
            self._pause.failed(now)
        self._flight.cut(why)

    # connections --------------------------------------------------------------------------------------------------------

    def _disconnect(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _reopen(self) -> None:
        if self._opener is not None or not self._turns.jobs:
            return
        if not self._pause.over(monotonic()):
            self._flight.fail_all(LinkDown(None, self._why, sent=False))
            return
        self._opener = self._loop.create_task(self._open(), name=f"connect {self.where}")

    async def _open(self) -> None:
        """Connect; whatever waits goes on, or fails. A new connection is a new epoch."""
        try:
            made = await self._connect()
            self._wire = RtuWire(made.transport, self, self._byte, made.fd) if self._rtu else TcpWire(made.transport, self)
            made.transport.set_protocol(self._wire)
            self.epoch += 1
            if made.ends != self._ends:  # else each connection would warn anew
                self._ends, self._expiry = made.ends, Expiry(self.where, made.ends)
            self._mute, self._heard = 0, False
            now = monotonic()
            self._silent_until = now + self._silence
            self._kick(now)
        except LinkDown as error:
            self._why = str(error)
            self._pause.failed(monotonic())
            self._flight.fail_all(error)
        except Exception as error:  # noqa: BLE001  # told with its place, and who waits fails
            self.broken(error)
        finally:
            self._opener = None

    async def _connect(self) -> Connection:
        if (left := self._silent_until - monotonic()) > 0.0:
            await asyncio.sleep(left)
        # so that whoever waits hears that there is no connection before its own time is over
        within = max((job.until for job in self._turns.jobs), default=0.0) - monotonic() - 0.05
        within, begun = max(within, 0.1), monotonic()
        try:
            return await connect(self.address, self.data, within)
        except LinkDown:
            if monotonic() - begun < within + _HELD_UP:
                raise
            return await connect(self.address, self.data, within)  # this process was held up meanwhile: that was no attempt
