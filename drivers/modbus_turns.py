"""Whose request goes next over a link that several units share. Pure: times come from outside.

Writes go first, then reads by the earliest deadline, one request a turn, so a write never waits behind a whole device's plan. A unit that has
failed twice is *dead*. As long as another one lives, all dead units together have an eighth of the link's time, ahead of the reads of the living,
and of the time that these leave idle as much as it takes to ask each of them every 3 s, at most half of the link's time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final

from drivers.modbus_frames import Asked, DeviceSaidNo

__all__ = ["DEAD_SHARE", "MOST_SHARE", "TURNAROUND", "Job", "Turns", "Unit", "probe_patience", "probe_wait", "time_to_probe"]

DEAD_SHARE: Final = 1 / 8  # of the link's time, whatever the living need
MOST_SHARE: Final = 1 / 2  # with what they leave idle
TURNAROUND: Final = 0.1  # [s] that a device on a serial line may take before it starts to reply
_PROBED_EVERY: Final = 3.0  # [s] each dead unit, so that data are there 5 s after its return
_DEAD_AFTER: Final = 2  # failures in a row
_SHORTEST_WAIT: Final = 0.25  # [s] after one failure; behind a gateway also for a probe, since its own time-out holds all of its units up
_HURRIED: Final = 2.0  # [s]
_SUSPECT: Final = 0.5  # [s] by which the deadlines of a unit that has just failed are later, so that the others have a turn between two time-outs
_COMES_AGAIN: Final = 0.02  # [s] until a reader whose time was over asks again
_LONG_EVERY: Final = 20.0  # [s] between two long probes on a link


class Unit:
    """What a link knows of one unit on it. `pause` [s] is the least time between two requests to it."""

    __slots__ = ("cost", "doubted_until", "failures", "in_flight", "long_at", "number", "pause", "ready_at", "stale", "strays", "tried_at", "trip")

    def __init__(self, number: int, pause: float = 0.0, in_flight: int = 1) -> None:
        self.number, self.pause, self.in_flight = number, pause, in_flight
        self.failures = 0  # in a row
        self.ready_at = -math.inf  # [s] no request before
        self.tried_at = -math.inf  # [s] when it was asked last
        self.trip = math.nan  # [s] the longest of its latest replies, without the time of their bytes on a serial line
        self.doubted_until = -math.inf  # [s] a late reply may still come, which on a serial line could be taken for another
        self.cost = 0.0  # [s] how long its latest probe in vain held the link
        self.long_at = -math.inf  # [s] when a probe was waited for longer than usual
        self.strays = 0  # of these on a serial line, since it was set to 0, those that are no noise
        self.stale = 0  # replies that came when they were no longer waited for

    @property
    def dead(self) -> bool:
        """Whether it is only probed: it has failed twice, or never answered."""
        return self.failures >= _DEAD_AFTER or (self.failures > 0 and math.isnan(self.trip))

    @property
    def aside(self) -> bool:
        """Whether it lets those go first that answer: it is dead, or has not answered yet."""
        return self.failures >= _DEAD_AFTER or math.isnan(self.trip)

    def answered(self, now: float, trip: float) -> None:
        """Note a good reply after `trip` [s]."""
        self.failures = 0
        if self.pause:
            self.ready_at = now + self.pause
        self.trip = trip if not trip < 0.9 * self.trip else 0.9 * self.trip


class Job:
    """Requests to one unit that belong together. Each gets a reply: its data, the device's refusal, or None if time ran out.

    `deadline` [s] orders it among others, `within` [s] is how long to wait for a reply, and nothing is begun that would end after `until` [s].
    `future` is done when all is over.
    """

    def __init__(
        self, unit: Unit, asked: Sequence[Asked], deadline: float, within: float, until: float, future: asyncio.Future[Job], urgent: bool = False
    ) -> None:
        self.unit, self.asked, self.deadline, self.within, self.until, self.future = unit, asked, deadline, within, until, future
        self.urgent = urgent  # a write, or its reading back: before all reads
        self.todo = list(range(len(asked) - 1, -1, -1))  # places in `asked`, the next one last
        self.left = len(asked)  # without a reply
        self.replies: list[bytes | DeviceSaidNo | None] = [None] * len(asked)
        self.times = [math.nan] * len(asked)  # [s] when each reply came
        self.busy = 0  # times that the device was busy
        self.sent = False  # any
        self.closing = False  # nothing more is sent

    def take(self, place: int, reply: bytes | DeviceSaidNo, now: float) -> None:
        """Note a reply; the last one ends the job."""
        self.replies[place], self.times[place] = reply, now
        self.left -= 1
        if not self.left or (self.closing and not self.out):
            self.end()

    def end(self) -> None:
        """Let whoever waits for it go on with what there is."""
        if not self.future.done():
            self.future.set_result(self)

    @property
    def out(self) -> int:
        """How many requests wait for their replies."""
        return self.left - len(self.todo)

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done()


class Turns:
    """The jobs that wait for a turn on one link, and the time that dead units have had."""

    def __init__(self, *, serial: bool = False) -> None:
        self.units: dict[int, Unit] = {}
        self.jobs: list[Job] = []
        self._serial = serial
        self._debt = 0.0  # [s] of the link that dead units had beyond their share
        self._spare = 0.0  # [s] the same with the larger share that they may have of idle time
        self._share = 2.0 * DEAD_SHARE  # the larger one
        self._seen = -math.inf
        self._long_at = -math.inf  # [s] when a probe was waited for longer than usual
        self.living_first_until = -math.inf  # [s]
        self.hurried = -math.inf  # [s] until when nobody is waited for as long as usual

    @property
    def alone(self) -> bool:
        """Whether the link has only one unit."""
        return len(self.units) <= 1

    @property
    def _nobody_lives(self) -> bool:
        return all(unit.aside for unit in self.units.values())

    def patience(self, job: Job, now: float) -> float:
        """Return how long [s] to wait for the next reply of a job: less than its time on a link that others need, after a failure.

        For 2 s that goes for all units that have answered before, so that several that fall silent at once do not hold up the others for long.
        One probe in 20 s is waited for half of the job's time, each unit in its turn, so that one is found that has become slower.
        """
        unit, within = job.unit, job.within
        if self.alone or not (unit.failures or (now < self.hurried and unit.trip >= 0.0)):
            return within
        if unit.failures and not unit.dead:
            return probe_patience(within, unit.trip, _SHORTEST_WAIT)
        wait = probe_wait(within, unit.trip, serial=self._serial)
        if unit.dead and wait < 0.5 * within <= job.until - now and now - self._long_at >= _LONG_EVERY and unit is self._longest_not_waited_for():
            self._long_at = unit.long_at = now
            return 0.5 * within
        return wait

    def _longest_not_waited_for(self) -> Unit:
        return min((unit for unit in self.units.values() if unit.dead), key=lambda unit: unit.long_at)

    def expired(self, unit: Unit, now: float) -> None:
        """Note at `now` [s] that the time of a job was over: while the link is held up, one that answers is to lose no turn by that."""
        if not unit.aside:
            self.living_first_until = now + _COMES_AGAIN

    def silent(self, unit: Unit, now: float) -> bool:
        """Note at `now` [s] that a unit did not answer; return whether that is to be charged."""
        aside = unit.aside
        unit.failures += 1
        if not aside:
            self.hurried = now + _HURRIED
            self._long_at = now
        return aside

    def charge(self, unit: Unit, until: float, now: float) -> None:
        """Note at `now` [s] that a dead unit, or one that has not answered yet, was asked in vain and holds the link until `until` [s]."""
        self._settle(now)
        held, passed = until - unit.tried_at, now - unit.tried_at  # a share has been paid in the meantime
        self._debt += held - passed * DEAD_SHARE
        if unit.failures > 1 or unit.trip >= 0.0:  # to be asked once whether it is there, each of them has idle time
            unit.cost = held
            self._share = _larger_share(sum(other.cost for other in self.units.values() if other.dead))
            self._spare += held - passed * self._share
        if self._nobody_lives:  # it was nobody's time, and none is owed: else the first to return would keep the others waiting
            self._debt = self._spare = 0.0

    def _settle(self, now: float) -> None:
        if now > self._seen:
            passed = now - self._seen
            self._debt = max(0.0, self._debt - passed * DEAD_SHARE) if self._debt else 0.0
            self._spare = max(0.0, self._spare - passed * self._share) if self._spare else 0.0
            self._seen = now

    def next(self, now: float) -> Job | None:
        """Return the job whose next request is to be sent at `now` [s]; None while none may."""
        jobs = self.jobs
        if len(jobs) == 1:
            job = jobs[0]
            unit = job.unit
            well = not unit.failures and unit.trip >= 0.0
            if unit.ready_at <= now and (well or not unit.aside or self.alone) and not job.future.done():
                return job
        self._settle(now)
        free = self._debt <= 0.0 or self._nobody_lives
        held = now < self.living_first_until
        best: Job | None = None
        least: tuple[int, float] = (9, 0.0)
        for job in [job for job in jobs if job.over]:
            jobs.remove(job)
        for job in jobs:
            unit = job.unit
            if unit.ready_at > now or ((aside := unit.aside) and (held or (not free and self._spare > 0.0))):
                continue
            if aside:
                rank = (1 if free else 3, unit.tried_at)
            else:
                rank = (0 if job.urgent else 2, job.deadline + _SUSPECT if unit.failures else job.deadline)
            if rank < least:
                best, least = job, rank
        return best

    def wake(self, now: float) -> float:
        """Return when [s] a waiting job may be sent, after `next` has found none; infinite while none waits."""
        soonest = math.inf
        paid = max(now + min(self._debt / DEAD_SHARE, self._spare / self._share), self.living_first_until)
        for job in self.jobs:
            soonest = min(soonest, max(job.unit.ready_at, paid if job.unit.aside and not self.alone else now))
        return soonest

    def take(self, job: Job) -> None:
        """Note that the job's next question is out; a job that has sent all of them waits for turns no more."""
        todo = job.todo
        todo.pop()
        if not todo:
            self.jobs.remove(job)

    def again(self, job: Job, place: int) -> None:
        """Ask a question of a job once more."""
        if not job.todo:
            self.jobs.append(job)
        job.todo.append(place)


# Dead units ------------------------------------------------------------------------------------------------------------


def probe_patience(within: float, trip: float, least: float) -> float:
    """Return how long [s] to wait for a unit whose replies took `trip` [s]: three times that; one that has never answered may be slow."""
    return 0.5 * within if math.isnan(trip) else min(max(3.0 * trip, least), within)


def probe_wait(within: float, trip: float, *, serial: bool) -> float:
    """Return how long [s] to wait for the reply of a dead unit, beyond the time of the bytes on a serial line.

    There it is the turnaround that a device may have, also for one that has never answered; behind a gateway not less than 0.25 s.
    """
    if serial:
        return probe_patience(within, 0.0 if math.isnan(trip) else trip, TURNAROUND)
    return probe_patience(within, trip, _SHORTEST_WAIT)


def _larger_share(seconds: float) -> float:
    """Return the share of a link's time in which dead units can be asked, whose probes in vain take `seconds` [s] together."""
    return min(max(seconds / _PROBED_EVERY, 2.0 * DEAD_SHARE), MOST_SHARE)


def time_to_probe(costs: Sequence[float], idle: float, pause: float) -> float:
    """Return how long [s] a dead unit waits to be asked again at most, when those with these costs [s] of a probe in vain are dead.

    `idle` is the share of the link's time that the living leave, `pause` [s] the longest that a driver waits between two attempts.
    """
    total = sum(costs)
    share = max(DEAD_SHARE, min(_larger_share(total), idle))
    return max(total, pause * share + max(costs)) / share
