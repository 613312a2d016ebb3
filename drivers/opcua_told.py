"""What is said of a device when a connection is made: once, and not again in each connection in which it is still so."""

from __future__ import annotations

import logging

__all__ = ["Told"]

log = logging.getLogger(__name__)


class Told:
    """Remembers, over the connections of a device, what the log has been told."""

    def __init__(self) -> None:
        self._before: set[str] = set()
        self._now: set[str] = set()

    def say(self, line: str, level: int = logging.ERROR) -> None:
        """Log what is so in the connection that is being made, if it is news."""
        if line not in self._before and line not in self._now:
            log.log(level, "%s", line)
        self._now.add(line)

    def ended(self, *, made: bool) -> None:
        """Note that an attempt has ended: what it did not say, since it came that far, is not so any more, and is news the next time."""
        self._before = self._now if made else self._before | self._now
        self._now = set()
