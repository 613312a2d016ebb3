"""When a lost device is tried again."""

from __future__ import annotations

import random

__all__ = ["LONGEST_PAUSE", "Pause"]

_FIRST = 0.1  # [s]
LONGEST_PAUSE = 2.0  # [s]


class Pause:
    """Pauses between attempts that double up to 2 s, with jitter so that devices do not come back in step."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._until = 0.0

    def over(self, now: float) -> bool:
        """Whether an attempt is allowed at `now` [s, monotonic]."""
        return now >= self._until

    def failed(self, now: float) -> None:
        """Note a failure at `now` [s]: the next pause is twice as long."""
        self._pause = min(max(2.0 * self._pause, _FIRST), LONGEST_PAUSE)
        self._until = now + self._pause * random.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Start again with the shortest pause."""
        self._pause = self._until = 0.0
