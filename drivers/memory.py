"""An array as a device: lockstep simulation and replay. Never waits, never fails by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from drivers.device import Device
from drivers.driver import Driver, Reading, WriteOutcome, WriteResult
from drivers.tags import FloatArray

__all__ = ["MemoryDevice", "MemoryDriver"]


class MemoryDevice(Protocol):
    """What stands behind a `MemoryDriver`: a simulated plant, or a recording."""

    time: float  # [s] plant time

    def read(self, device: str) -> FloatArray:
        """Return all signals of a device [eu of each], in the order of its profile, shape (n,)."""

    def write(self, device: str, signal: str, value: float) -> None:
        """Set a writable signal [its eu]; raise `ValueError` when the device refuses."""


class MemoryDriver(Driver):
    """A device that is an array in this process. `fail` makes it silent, as a cut cable would."""

    def __init__(self, device: Device, plant: MemoryDevice, *, start: Callable[[], int] = lambda: 0) -> None:
        super().__init__(device)
        self._plant = plant
        self._start = start  # ns, UTC: when plant time was 0
        self.fail = False
        self.why = "the device does not answer"  # what it says then

    async def __aenter__(self) -> MemoryDriver:
        self.metrics.connected, self.metrics.why = True, ""
        self.metrics.connects += 1
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.metrics.connected, self.metrics.why = False, "closed"

    async def read(self) -> Reading:
        """Return all signals, GOOD; all BAD while `fail` is set."""
        if self.fail:
            return self._lost(None, self.why)
        n = len(self.device.profile.signals)
        self._tell(up=True)
        self.metrics.reads += 1
        values = self._plant.read(self.device.name)
        when = np.empty(n, dtype=np.int64)
        when.fill(self._start() + round(self._plant.time * 1e9))
        return Reading(values, np.zeros(n, dtype=np.uint8), when)

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        """Write and read back."""
        return [self._write(signal, value) for signal, value in changes.items()]

    def _write(self, signal: str, value: float) -> WriteOutcome:
        if self.fail:
            return self._outcome(signal, value, WriteResult.UNKNOWN, "the device does not answer")
        try:
            self._plant.write(self.device.name, signal, value)
        except ValueError as error:
            return self._outcome(signal, value, WriteResult.REFUSED, str(error))
        return self._outcome(signal, value, WriteResult.CONFIRMED, "", value)
