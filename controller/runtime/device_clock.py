"""How far the clock of a device is from ours, from the times that its samples carry."""

from __future__ import annotations

import math

from controller.runtime.clock import Clock
from drivers.driver import Reading
from drivers.tags import TimeArray

__all__ = ["DeviceClock", "stamps"]

_EVERY = 5.0  # [s] monotonic between two looks
_STEP = 0.1  # [s] smaller changes are those of the poll, and not told


def stamps(reading: Reading) -> tuple[TimeArray, bool]:
    """Return the times [ns] that tell of the device's clock, and whether they are its server's.

    A server stamps when it samples, and a source often only when a value changes, so the server's come first.
    """
    server = reading.server_time
    if server is not None and server.any():
        return server, True
    return reading.source_time, False


class DeviceClock:
    """`ahead` [s] is how far the device's clock is before ours; NaN while that is not known, as of one that gives no times.

    Only samples that have come between one read and the next count, so that an old one, which a device repeats, does not look like a clock that is
    slow. It is known to within a poll and the time on the way.
    """

    def __init__(self) -> None:
        self.ahead = math.nan
        self._before: TimeArray | None = None
        self._due = -math.inf

    def forget(self) -> None:
        """Know nothing: the device is lost."""
        self.ahead, self._before, self._due = math.nan, None, -math.inf

    def look(self, reading: Reading, clock: Clock, monotonic: float) -> None:
        """Look at a reading that has just come, if it is time."""
        if monotonic < self._due:
            return
        times, of_server = stamps(reading)
        before, self._before = self._before, times
        if before is None or before is times:
            return
        newest = int(times[times != before].max(initial=0))
        if newest <= 0:
            return
        # a server's clock is that of a computer; that of a device is the plant's, which runs faster where it is simulated so
        ahead = (newest - (clock.wall() if of_server else round(clock.plant() * 1e9))) / 1e9
        if not abs(ahead - self.ahead) < _STEP:
            self.ahead = round(ahead, 3)
        self._before, self._due = None, monotonic + _EVERY
