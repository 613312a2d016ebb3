"""Transmitters: lag, noise, a slow bias, and a range; one array over all signals of all devices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drivers.device import Signal
from drivers.tags import FloatArray

__all__ = ["Instrument", "Transmitters", "instrument"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """A type of transmitter [T]/[A], process.md section 2."""

    lag: float = 0.0  # [s]
    noise: float = 0.0  # sigma [eu]
    relative: float = 0.0  # sigma, share of the value
    walk: float = 0.0  # random walk of the bias [eu per square root of a day]


EXACT = Instrument()
_BY_NAME: dict[str, Instrument] = {
    "ph": Instrument(8.0, 0.01, 0.0, 0.015), "ph_a": Instrument(8.0, 0.01, 0.0, 0.02), "ph_b": Instrument(8.0, 0.01, 0.0, 0.02),
    "filtrate_ph": Instrument(8.0, 0.02), "orp": Instrument(20.0, 2.0), "temperature": Instrument(25.0, 0.05),
    "jacket_temperature": Instrument(25.0, 0.05), "conductivity": Instrument(5.0, 0.02, 0.004), "density": Instrument(3.0, 0.5),
    "volume": Instrument(2.0, 0.002), "clear_volume": Instrument(2.0, 0.002), "weight": Instrument(1.0, 0.2),
    "scrap_weight": Instrument(1.0, 0.5), "vessel_weight": Instrument(2.0, 0.5), "press_cake": Instrument(2.0, 0.5),
    "oxygen": Instrument(10.0, 0.03), "hydrogen": Instrument(15.0, 0.05), "hydrogen_fluoride": Instrument(30.0, 0.05),
    "room_ammonia": Instrument(30.0, 0.1), "pressure": Instrument(1.0, 0.01), "press_pressure": Instrument(1.0, 0.01),
    "motor_current": Instrument(0.5, 1.0), "torque": Instrument(0.5, 1.0), "rotor_speed": Instrument(0.5, 0.05),
    "stirrer_speed": Instrument(0.5, 0.1), "stirrer_power": Instrument(2.0, 0.02), "ammonia": Instrument(30.0, 0.004),
    "d50": Instrument(300.0, 0.0, 0.008), "moisture": Instrument(10.0, 0.03, 0.01), "slurry_level": Instrument(2.0, 0.1),
    "heater_power": Instrument(1.0, 0.05),
}  # fmt: skip
_FLOW = Instrument(1.0, 0.0, 0.001)


def instrument(name: str, unit: str) -> Instrument:
    """Return the type of the transmitter behind a signal of a unit."""
    if unit == "icp_analyser":
        return EXACT
    if unit == "shredder" and name == "hydrogen":
        return Instrument(15.0, 0.005)
    return _BY_NAME.get(name, _FLOW)


class Transmitters:
    """All measured signals of the plant, shape (n,)."""

    def __init__(self, kinds: list[Instrument], signals: list[Signal]) -> None:
        self._lag = np.array([kind.lag for kind in kinds])
        self._noise = np.array([kind.noise for kind in kinds])
        self._relative = np.array([kind.relative for kind in kinds])
        self._walk = np.array([kind.walk for kind in kinds]) / math.sqrt(86400.0)
        self._low = np.array([signal.range[0] for signal in signals], dtype=float)
        self._high = np.array([signal.range[1] for signal in signals], dtype=float)
        self._state: FloatArray | None = None
        self._bias = np.zeros(len(kinds))
        self._gain: dict[float, FloatArray] = {}

    def step(self, true: FloatArray, dt: float, rng: np.random.Generator) -> FloatArray:
        """Return what is measured after `dt` [s] of the true values, both shape (n,)."""
        if self._state is None:
            self._state = true.copy()
        gain = self._gain.get(dt)
        if gain is None:
            gain = self._gain[dt] = np.where(self._lag > 0.0, 1.0 - np.exp(-dt / np.maximum(self._lag, 1e-9)), 1.0)
        self._state += gain * (true - self._state)
        draw = rng.standard_normal((2, len(true)))
        self._bias += self._walk * math.sqrt(dt) * draw[0]
        out: FloatArray = self._state + self._bias + (self._noise + self._relative * np.abs(self._state)) * draw[1]
        np.maximum(out, self._low, out=out)
        np.minimum(out, self._high, out=out)
        return out
