"""Clocks. Wall, plant and monotonic time are different things; only the runtime reads any of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from drivers.tags import FloatArray

__all__ = ["Clock", "LiveClock", "VirtualClock"]


class Clock(Protocol):
    """The three clocks of a service."""

    def plant(self) -> float:
        """Plant clock [s] since 1970-01-01 UTC: what process timers run on."""

    def monotonic(self) -> float:
        """Monotonic clock [s]: what freshness, heartbeats and time-outs of links run on."""

    def plant_at(self, monotonic: FloatArray) -> FloatArray:
        """Return what the plant clock read at times of the monotonic one; both [s], any shape."""

    def wall(self) -> int:
        """Wall clock [ns] since 1970-01-01 UTC."""


@dataclass(frozen=True, slots=True)
class LiveClock:
    """Real clocks; the plant clock runs `speed` times as fast, which is 1 wherever the plant is real.

    `epoch` [ns, monotonic] is when the plant clock read `start` [ns, UTC]. The monotonic clock is one for all processes of
    a machine, so a simulator that is given the same three numbers has the same plant clock.
    """

    speed: float
    epoch: int
    start: int

    @classmethod
    def now(cls, speed: float = 1.0) -> LiveClock:
        """Return clocks whose plant time starts at the present wall time."""
        return cls(speed, time.monotonic_ns(), time.time_ns())

    def plant(self) -> float:
        """Plant clock [s]."""
        return self.start * 1e-9 + (time.monotonic_ns() - self.epoch) * 1e-9 * self.speed

    def monotonic(self) -> float:
        """Monotonic clock [s]."""
        return time.monotonic()

    def plant_at(self, monotonic: FloatArray) -> FloatArray:
        """Return what the plant clock read at times of the monotonic one; both [s]."""
        return self.start * 1e-9 + (monotonic - self.epoch * 1e-9) * self.speed

    def wall(self) -> int:
        """Wall clock [ns]."""
        return time.time_ns()


@dataclass(slots=True)
class VirtualClock:
    """A clock that is moved by hand: lockstep and tests. Its monotonic time is plant time, since nothing waits for a wire."""

    time: float = 0.0  # [s]
    start: float = 1_767_225_600.0  # [s] 2026-01-01 UTC: a fixed date, so that a run again gives the same frames

    def plant(self) -> float:
        """Plant clock [s]."""
        return self.start + self.time

    def monotonic(self) -> float:
        """Monotonic clock [s]."""
        return self.time

    def plant_at(self, monotonic: FloatArray) -> FloatArray:
        """Return what the plant clock read at times of the monotonic one; both [s]."""
        return self.start + monotonic

    def wall(self) -> int:
        """Return 0: lockstep has no wall clock."""
        return 0
