"""A test bench in place of a plant: every signal keeps the value it was given. For commissioning of drivers, and for their tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drivers.device import Profile
from drivers.tags import FloatArray
from simulators.instruments import StatusArray

__all__ = ["StaticPlant"]


class StaticPlant:
    """No physics: time passes and nothing moves. `values` holds all signals of each device [eu of each], in the order of its profile."""

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        self.profiles = dict(profiles)
        self.time = 0.0
        self.values: dict[str, FloatArray] = {}
        for name, profile in self.profiles.items():
            # something inside each range that differs from signal to signal and that float32 holds exactly
            share = (np.arange(len(profile.signals)) % 7 + 1) / 8.0
            middle = np.rint((profile.low + share * (profile.high - profile.low)) * 4.0) / 4.0
            whole = np.array([signal.type not in ("float32", "float64") for signal in profile.signals.values()])
            inside = np.clip(np.where(whole, np.rint(middle), middle), profile.low, profile.high)
            self.values[name] = np.where(profile.writable, profile.safe, inside)

    def advance(self, dt: float) -> None:
        """Let `dt` [s] pass."""
        self.time += dt

    def read(self, device: str) -> FloatArray:
        """Return all signals of a device [eu of each], shape (n,)."""
        return self.values[device].copy()

    def status(self, device: str) -> StatusArray:
        """Return that every signal is good, shape (n,)."""
        return np.zeros(len(self.values[device]), dtype=np.uint8)

    def write(self, device: str, signal: str, value: float) -> None:
        """Set a signal [its eu]; a beating heart ends the safe state."""
        profile = self.profiles[device]
        self.values[device][profile.place(signal)] = value
        if profile.heartbeat is not None and signal == profile.heartbeat.signal:
            self._show_safe(device, 0.0)

    def safe(self, device: str) -> None:
        """Put the writable signals to their safe values, all but the heartbeat."""
        profile = self.profiles[device]
        for place, (name, signal) in enumerate(profile.signals.items()):
            if signal.access == "write" and (profile.heartbeat is None or name != profile.heartbeat.signal):
                self.values[device][place] = signal.safe
        self._show_safe(device, 1.0)

    def _show_safe(self, device: str, state: float) -> None:
        if "safe_state" in self.profiles[device].signals:
            self.values[device][self.profiles[device].place("safe_state")] = state

    def truth(self) -> dict[str, Any]:
        """Return all values by device and signal."""
        return {name: dict(zip(profile.names, self.values[name].tolist(), strict=True)) for name, profile in self.profiles.items()}
