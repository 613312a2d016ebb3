"""The jobs of a link, and where each stands. Pure.

A job waits for its turn in `Turns.jobs`, or has a request in flight, or is over; a request leaves the flight only when its job is in one of the
others. So whatever goes wrong, all who wait are found here.
"""

from __future__ import annotations

from drivers.modbus_frames import BadReply, LinkDown
from drivers.modbus_turns import Job, Turns

__all__ = ["Flight", "Out"]

Out = tuple[Job, int, float, float]  # a request that is out: its job, its place there, when it was sent and when its reply is late [s]


class Flight:
    """The requests of a link that are `out`, by their transactions, and the `turns` that the others wait for."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.out: dict[int, Out] = {}

    def due(self) -> list[float]:
        """Return when each request is late and each waiting job's time is over [s]."""
        return [due for *_, due in self.out.values()] + [job.until for job in self.turns.jobs]

    def forgive(self, now: float) -> None:
        """Let the time of everything begin anew: this process was held up, so replies may be there that nobody has looked at."""
        for job in [*self.turns.jobs, *(out[0] for out in self.out.values())]:
            job.until = max(job.until, now + job.within)
        for transaction, (job, place, sent, due) in self.out.items():
            self.out[transaction] = job, place, sent, max(due, now + job.within)

    def fail(self, job: Job, error: LinkDown | BadReply) -> None:
        """End a job in vain; of its requests that are out, the replies are dropped."""
        if not job.over:
            job.future.set_exception(error)
        if job in self.turns.jobs:
            self.turns.jobs.remove(job)

    def fail_all(self, error: LinkDown) -> None:
        """Fail what is out, and what waits for its turn: that was not sent."""
        for job in dict.fromkeys([*(out[0] for out in self.out.values()), *self.turns.jobs]):
            self.fail(job, LinkDown(error.kind, str(error), sent=error.sent and job.sent))
        self.out.clear()

    def cut(self, why: str) -> None:
        """Fail what is out; what waits for its turn may wait on."""
        for out in self.out.values():
            self.fail(out[0], LinkDown("drop", why, sent=True))
        self.out.clear()

    def expire(self, job: Job, where: str, now: float) -> None:
        """End a job whose time is over at `now` [s] with what it has got, as soon as nothing of it is out."""
        job.closing = True
        self.turns.expired(job.unit, now)
        if job.urgent and not job.sent:
            self.fail(job, LinkDown("timeout", f"unit {job.unit.number} had no turn at {where} in time; see blackmass plan", sent=False))
            return
        if not job.out:
            job.end()
        if job in self.turns.jobs:
            self.turns.jobs.remove(job)
