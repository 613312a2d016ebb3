"""Whose request goes next over a link that several units share. Pure: times come from outside.

Writes go first, then reads by the earliest deadline, one request a turn, so a write never waits behind a whole device's plan. A unit that has
failed twice is *dead*: it is asked in no more than a fixed share of the link's time, all dead units together, as long as another one lives.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final

from drivers.modbus_frames import Asked, DeviceSaidNo

__all__ = ["DEAD_SHARE", "Job", "Turns", "Unit"]

DEAD_SHARE: Final = 1 / 8  # of the link's time
_DEAD_AFTER: Final = 2  # failures in a row
_SHORTEST_PROBE: Final = 0.25  # [s]


class Unit:
    """What a link knows of one unit on it. `pause` [s] is the least time between two requests to it."""

    __slots__ = ("failures", "in_flight", "number", "pause", "ready_at", "stale", "tried_at", "trip")

    def __init__(self, number: int, pause: float = 0.0, in_flight: int = 1) -> None:
        self.number, self.pause, self.in_flight = number, pause, in_flight
        self.failures = 0  # in a row
        self.ready_at = -math.inf  # [s] no request before
        self.tried_at = -math.inf  # [s] when it was asked last
        self.trip = math.nan  # [s] the longest of its latest replies
        self.stale = 0  # replies that came when they were no longer waited for

    @property
    def dead(self) -> bool:
        """Whether it only gets its share of the time of dead units."""
        return self.failures >= _DEAD_AFTER

    def answered(self, now: float, trip: float) -> None:
        """Note a good reply after `trip` [s]."""
        self.failures = 0
        if self.pause:
            self.ready_at = now + self.pause
        self.trip = trip if not trip < 0.9 * self.trip else 0.9 * self.trip

    def patience(self, within: float, *, alone: bool) -> float:
        """Return how long [s] to wait for its reply: after a failure, less on a link that others need."""
        if not self.failures or alone:
            return within
        if math.isnan(self.trip):  # it has never answered: it may be slow
            return 0.5 * within
        return min(max(3.0 * self.trip, _SHORTEST_PROBE), within)


class Job:
    """Requests to one unit that belong together. Each gets a reply: its data, the device's refusal, or None if time ran out.

    `deadline` [s] orders it among others, `within` [s] is how long to wait for a reply, and nothing is begun that would end after `until` [s].
    `future` is done when all is over.
    """

    def __init__(self, unit: Unit, asked: Sequence[Asked], deadline: float, within: float, until: float, future: asyncio.Future[Job]) -> None:
        self.unit, self.asked, self.deadline, self.within, self.until, self.future = unit, asked, deadline, within, until, future
        self.urgent = False
        self.todo = list(range(len(asked) - 1, -1, -1))  # places in `asked`, the next one last
        self.left = len(asked)
        self.replies: list[bytes | DeviceSaidNo | None] = [None] * len(asked)
        self.times = [math.nan] * len(asked)  # [s] when each reply came
        self.busy = 0  # times that the device was busy
        self.out = 0  # requests that wait for their replies
        self.sent = False  # any
        self.closing = False  # nothing more is sent

    def take(self, place: int, reply: bytes | DeviceSaidNo, now: float) -> None:
        """Note a reply; the last one ends the job."""
        self.replies[place], self.times[place] = reply, now
        self.left -= 1
        self.out -= 1
        if not self.left or (self.closing and not self.out):
            self.end()

    def end(self) -> None:
        """Let whoever waits for it go on with what there is."""
        if not self.future.done():
            self.future.set_result(self)

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done()


class Turns:
    """The jobs that wait for a turn on one link, and the time that dead units have had."""

    def __init__(self) -> None:
        self.units: dict[int, Unit] = {}
        self.jobs: list[Job] = []
        self._debt = 0.0  # [s] of the link that dead units had beyond their share
        self._seen = -math.inf

    @property
    def alone(self) -> bool:
        """Whether the link has only one unit."""
        return len(self.units) <= 1

    def charge(self, seconds: float, now: float) -> None:
        """Note that a dead unit held the link for `seconds` [s] until `now`."""
        self._settle(now)
        self._debt += seconds * (1.0 - DEAD_SHARE)  # its share has been paid in the meantime

    def _settle(self, now: float) -> None:
        if now > self._seen:
            self._debt = max(0.0, self._debt - (now - self._seen) * DEAD_SHARE) if self._debt else 0.0
            self._seen = now

    def next(self, now: float) -> Job | None:
        """Return the job whose next request is to be sent at `now` [s]; None while none may."""
        jobs = self.jobs
        if len(jobs) == 1:
            job = jobs[0]
            unit = job.unit
            if not job.future.done() and unit.ready_at <= now and (unit.failures < _DEAD_AFTER or self.alone):
                return job
        self._settle(now)
        free = self._debt <= 0.0 or not any(not unit.dead for unit in self.units.values())
        best: Job | None = None
        least: tuple[int, float] = (9, 0.0)
        for job in [job for job in jobs if job.over]:
            jobs.remove(job)
        for job in jobs:
            unit = job.unit
            if unit.ready_at > now or (unit.dead and not free):
                continue
            rank = (1, unit.tried_at) if unit.dead else (0 if job.urgent else 2, job.deadline)
            if rank < least:
                best, least = job, rank
        return best

    def wake(self, now: float) -> float:
        """Return when [s] a waiting job may be sent, after `next` has found none; infinite while none waits."""
        soonest = math.inf
        paid = now + self._debt / DEAD_SHARE
        for job in self.jobs:
            soonest = min(soonest, max(job.unit.ready_at, paid if job.unit.dead and not self.alone else now))
        return soonest

    def take(self, job: Job) -> int:
        """Return the place of the job's next question; a job that has sent all of them waits for turns no more."""
        place = job.todo.pop()
        if not job.todo:
            self.jobs.remove(job)
        return place

    def again(self, job: Job, place: int) -> None:
        """Ask a question of a job once more."""
        if not job.todo:
            self.jobs.append(job)
        job.todo.append(place)
