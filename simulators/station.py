"""One simulated device as its wire sees it: values of this moment, writes that it may refuse, its own heartbeat watch. No sockets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from drivers.device import Device
from drivers.tags import FloatArray
from simulators.instruments import StatusArray

__all__ = ["Locked", "PlantLike", "Refused", "Station"]


class PlantLike(Protocol):
    """The plant behind the devices; see simulators/plant.py."""

    @property
    def time(self) -> float:
        """Plant time [s]."""

    def advance(self, dt: float) -> None:
        """Let `dt` [s] of plant time pass."""

    def read(self, device: str) -> FloatArray:
        """Return all signals of a device [eu of each], in the order of its profile, shape (n,)."""

    def status(self, device: str) -> StatusArray:
        """Return what the instruments say of themselves: 0 good, 1 uncertain, 2 failed; in the order of the profile, shape (n,)."""

    def write(self, device: str, signal: str, value: float) -> None:
        """Set a writable signal [its eu]; raise `ValueError` when the device refuses."""

    def safe(self, device: str) -> None:
        """Put a device into its own safe state."""

    def truth(self) -> dict[str, Any]:
        """Return what is really in the plant, ready for JSON."""


class Refused(ValueError):
    """A write that the device does not take; nothing has changed."""


class Locked(Refused):
    """A write to a device that is in its safe state, since its controller's heart has stopped; only the heartbeat is taken."""


class Station:
    """A device of the plant. `monotonic` [s] is the clock of its heartbeat watch: a lost controller is lost at any plant speed."""

    def __init__(self, device: Device, plant: PlantLike, monotonic: Callable[[], float]) -> None:
        self.device, self.plant = device, plant
        self.serving = True
        self.fallen = False  # into its safe state, since the heartbeat stopped
        self._monotonic = monotonic
        self._heartbeat = device.profile.heartbeat
        self._beat = math.nan
        self._beaten: float | None = None
        self._values: FloatArray | None = None
        self._status: StatusArray | None = None

    def values(self) -> FloatArray:
        """Return all signals [eu of each] of this moment, shape (n,); the same array until `moved`."""
        if self._values is None:
            self._values = self.plant.read(self.device.name)
        return self._values

    def status(self) -> StatusArray:
        """Return what the instruments say of themselves in this moment, shape (n,); see `PlantLike.status`."""
        if self._status is None:
            self._status = self.plant.status(self.device.name)
        return self._status

    def moved(self) -> None:
        """Forget the values: plant time went on."""
        self._values = self._status = None

    def check(self, name: str, value: float) -> None:
        """Raise `Refused` for a signal that is only read, and for a value [its eu] that is not finite or outside the range."""
        signal = self.device.profile.signals[name]
        low, high = signal.range
        if signal.access != "write":
            raise Refused(f"{self.device.name}.{name} is only read")
        if not low <= value <= high:  # false for NaN
            raise Refused(f"{self.device.name}.{name}: expected {low:g} to {high:g} {signal.eu}, got {value:g}")

    def write_all(self, changes: Sequence[tuple[str, float]]) -> None:
        """Set signals [eu of each] one after another, all or none; raise `Refused`."""
        for name, value in changes:
            self.check(name, value)
        for name, value in changes:
            self.write(name, value)

    def write(self, name: str, value: float) -> None:
        """Set a signal [its eu]; raise `Refused` for what `check` or the plant refuse."""
        self.check(name, value)
        beat = self._heartbeat is not None and name == self._heartbeat.signal
        if self.fallen and not beat:
            raise Locked(f"{self.device.name} is in its safe state until its heartbeat moves; {name} is not taken")
        if beat and self.fallen and value == self._beat:
            return  # a counter that stands still is no heartbeat
        try:
            self.plant.write(self.device.name, name, value)
        except ValueError as error:
            raise Refused(str(error)) from error
        self.moved()
        if beat and value != self._beat:
            self._beat, self._beaten, self.fallen = value, self._monotonic(), False

    def watch(self) -> None:
        """Fall to the safe state when the heartbeat, once begun, has stood still for too long."""
        if self._heartbeat is None or self._beaten is None or self.fallen:
            return
        if self._monotonic() - self._beaten > self._heartbeat.timeout:
            self.fallen = True
            self.plant.safe(self.device.name)
            self.moved()
