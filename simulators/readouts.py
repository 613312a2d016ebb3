"""Instruments beside the units: they show what a unit has, on a line of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["Readout"]


class Readout:
    """`shows`: signal -> what it reads [its eu] now; `sets`: what can be set on it."""

    def __init__(self, shows: Mapping[str, Callable[[], float]], sets: tuple[str, ...] = ()) -> None:
        self._shows = dict(shows)
        self.sets = sets

    @property
    def measures(self) -> tuple[str, ...]:
        """The signals in order."""
        return tuple(self._shows)

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        return tuple(shown() for shown in self._shows.values())
