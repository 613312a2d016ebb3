"""Transmitters: dead time, lag, noise, errors, resolution, range and failures; one array over all signals of all devices."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drivers.device import Signal
from drivers.tags import FloatArray
from simulators.faults import Fault

__all__ = ["BAD", "GOOD", "UNCERTAIN", "Instrument", "StatusArray", "Transmitters", "instrument", "sodium_error"]

StatusArray = NDArray[np.uint8]
GOOD, UNCERTAIN, BAD = 0, 1, 2  # what a transmitter says of itself

# NAMUR NE 43, as shares of the span beyond 0 and 1: the current saturates at 3.8 and 20.5 mA, and a failed one drives 3.6 or 21 mA
_SATURATED: Final = {"low": -0.2 / 16.0, "high": 16.5 / 16.0}
_FAILED: Final = {-1.0: -0.4 / 16.0, 1.0: 17.0 / 16.0}
_SLOPE: Final = 0.9  # what a coated pH probe keeps of its slope [A]
_SPIKES: Final = 1.0 / 60.0  # [1/s]


@dataclass(frozen=True, slots=True)
class Instrument:
    """A type of transmitter [T]/[A], process.md section 2. Accuracies are 2 sigma and drawn once for an instance of the plant."""

    lag: float = 0.0  # [s]
    noise: float = 0.0  # sigma [eu]
    relative: float = 0.0  # sigma, share of the value
    walk: float = 0.0  # random walk of the bias [eu per square root of a day]
    accuracy: float = 0.0  # [eu]
    share: float = 0.0  # accuracy, share of the value
    resolution: float = 0.0  # [eu]
    dead: float = 0.0  # [s] of a sample line, or until an analysis answers
    glass: bool = False  # a pH electrode, which sees sodium as well


EXACT = Instrument()
_FLOW = Instrument(1.0, relative=0.001, share=0.002)
_TEMPERATURE = Instrument(25.0, 0.05, accuracy=0.3, resolution=0.01)
_PH = Instrument(8.0, 0.01, walk=0.02, accuracy=0.05, resolution=0.01, glass=True)
_LEVEL = Instrument(2.0, 0.002, accuracy=0.012, resolution=0.002)  # 5 mm and 1 mm over 2.4 m2
_SCALE = Instrument(2.0, 0.5, share=0.001, resolution=0.1)
_SPEED = Instrument(0.5, 0.1, accuracy=0.2, resolution=0.1)
_LEL = Instrument(15.0, 0.05, accuracy=1.0, resolution=0.1, dead=5.0)
_BY_NAME: dict[str, Instrument] = {
    "ph": Instrument(8.0, 0.01, walk=0.015, accuracy=0.05, resolution=0.01, glass=True), "ph_a": _PH, "ph_b": _PH,
    "filtrate_ph": Instrument(8.0, 0.02, accuracy=0.1, resolution=0.01, glass=True),
    "orp": Instrument(20.0, 2.0, accuracy=10.0, resolution=1.0),
    "temperature": _TEMPERATURE, "jacket_temperature": _TEMPERATURE, "cake_temperature": _TEMPERATURE,
    "conductivity": Instrument(5.0, 0.02, 0.004, share=0.02, resolution=0.01),
    "density": Instrument(3.0, 0.5, accuracy=1.0, resolution=0.1),
    "volume": _LEVEL, "clear_volume": _LEVEL, "tank_volume": _LEVEL, "slurry_level": Instrument(2.0, 0.1, accuracy=0.3, resolution=0.1),
    "weight": Instrument(1.0, 0.2, share=0.001, resolution=0.1), "scrap_weight": Instrument(1.0, 0.5, share=0.001, resolution=0.1),
    "vessel_weight": _SCALE, "press_cake": _SCALE, "cake_weight": _SCALE,
    "oxygen": Instrument(10.0, 0.03, accuracy=0.1, resolution=0.01, dead=3.0), "hydrogen": _LEL,
    "hydrogen_fluoride": Instrument(30.0, 0.05, accuracy=0.3, resolution=0.01, dead=10.0),
    "room_ammonia": Instrument(30.0, 0.1, accuracy=2.0, resolution=0.1, dead=10.0),
    "pressure": Instrument(1.0, 0.01, accuracy=0.02, resolution=0.001),
    "press_pressure": Instrument(1.0, 0.01, accuracy=0.04, resolution=0.001),
    "motor_current": Instrument(0.5, 1.0, share=0.01, resolution=0.1), "torque": Instrument(0.5, 1.0, share=0.02, resolution=0.1),
    "rotor_speed": Instrument(0.5, 0.05, accuracy=0.1, resolution=0.01), "stirrer_speed": _SPEED,
    "stirrer_power": Instrument(2.0, 0.02, share=0.01, resolution=0.01),
    "ammonia": Instrument(30.0, 0.004, share=0.05, resolution=0.001, dead=60.0),
    "d50": Instrument(300.0, relative=0.008, share=0.03, resolution=0.01, dead=1500.0),
    "moisture": Instrument(10.0, 0.03, 0.01, accuracy=0.1, resolution=0.01),
    "heater_power": Instrument(1.0, 0.05, share=0.01, resolution=0.01),
}  # fmt: skip
_BY_UNIT: dict[tuple[str, str], Instrument] = {
    ("shredder", "hydrogen"): Instrument(15.0, 0.005, accuracy=0.05, resolution=0.001, dead=5.0),
    ("leach_tank", "pressure"): Instrument(1.0, 0.01, accuracy=0.3, resolution=0.01),  # in mbar
}


def instrument(name: str, unit: str) -> Instrument:
    """Return the type of the transmitter behind a signal of a unit."""
    if unit == "icp_analyser":
        return EXACT  # the laboratory has errors and a delay of its own
    return _BY_UNIT.get((unit, name)) or _BY_NAME.get(name, _FLOW)


def sodium_error(ph: FloatArray) -> FloatArray:
    """Return by how much a pH glass reads too low in 1 mol/L Na at 25 degC: 0.10 at pH 12.5 and 0.18 at 13 [T].

    Nikolsky's law with the exponent that these two points give; less Na or a warmer glass is not told apart.
    """
    error: FloatArray = np.log10(1.0 + 0.2589 * 10.0 ** (0.595 * (ph - 12.5)))
    return error


class Transmitters:
    """All measured signals of the plant, shape (n,), in steps of `dt` [s]. With `errors` each has an accuracy of its own."""

    def __init__(
        self, kinds: Sequence[Instrument], signals: Sequence[Signal], dt: float, rng: np.random.Generator, errors: np.random.Generator | None = None
    ) -> None:
        n = len(kinds)
        self._dt, self._rng = dt, rng
        self._lag = np.array([kind.lag for kind in kinds])
        self._noise = self._sigma = np.array([kind.noise for kind in kinds])
        self._relative = np.array([kind.relative for kind in kinds])
        self._walk = np.array([kind.walk for kind in kinds]) * math.sqrt(dt / 86400.0)
        self._low = np.array([signal.range[0] for signal in signals], dtype=float)
        self._high = np.array([signal.range[1] for signal in signals], dtype=float)
        resolution = np.array([kind.resolution for kind in kinds])
        self._coarse = resolution > 0.0
        self._resolution = np.where(self._coarse, resolution, 1.0)
        self._glass = np.array([place for place, kind in enumerate(kinds) if kind.glass], dtype=np.intp)
        # places and what is under way in their sample lines, oldest first: until one is full its first value comes out
        self._lines = [(place, deque[float](maxlen=round(kind.dead / dt) + 1)) for place, kind in enumerate(kinds) if kind.dead > 0.0]
        draw = np.zeros((2, n)) if errors is None else 0.5 * errors.standard_normal((2, n))
        self._true_gain = self._gain = 1.0 + draw[0] * np.array([kind.share for kind in kinds])
        self._true_offset = self._offset = draw[1] * np.array([kind.accuracy for kind in kinds])
        self._true_pace = self._pace = np.where(self._lag > 0.0, 1.0 - np.exp(-dt / np.maximum(self._lag, 1e-9)), 1.0)
        self._state: FloatArray | None = None  # before noise and errors
        self._bias = np.zeros(n)
        self._draw = np.zeros((2, n))  # a step's random numbers: of the walk, of the noise
        self._failures: list[tuple[int, Fault]] = []
        self._held: dict[tuple[int, Fault], float] = {}  # where a frozen one stands
        self._chance = np.random.default_rng(0)
        self.value: FloatArray = np.zeros(n)
        self.status: StatusArray = np.zeros(n, dtype=np.uint8)

    def fail(self, faults: Sequence[tuple[int, Fault]], rng: np.random.Generator) -> None:
        """Let these (place, fault) stand from the next step, and no others; `rng` draws what they need."""
        self._chance = rng
        gain, offset, pace, noise = self._true_gain.copy(), self._true_offset.copy(), self._true_pace.copy(), self._sigma.copy()
        self.status[:] = GOOD
        self._failures = []
        for place, fault in faults:
            if fault.kind == "bias":
                offset[place] += fault.size
            elif fault.kind == "noisy":
                noise[place] = fault.size
            elif fault.kind == "coated":  # its slope turns about the point of zero potential, pH 7
                pace[place] = 1.0 - math.exp(-self._dt / (fault.size * self._lag[place]))
                gain[place] *= _SLOPE
                offset[place] += 7.0 * (1.0 - _SLOPE)
            else:
                self._failures.append((place, fault))
                self.status[place] = max({"nan": BAD, "ne43": BAD, "high": UNCERTAIN, "low": UNCERTAIN}.get(fault.kind, GOOD), self.status[place])
        self._gain, self._offset, self._pace, self._noise = gain, offset, pace, noise
        self._held = {
            key: self._held.get(key, float(min(max(self.value[key[0]], self._low[key[0]]), self._high[key[0]])))
            for key in self._failures
            if key[1].kind == "frozen"
        }

    def step(self, true: Sequence[float] | FloatArray, now: float) -> FloatArray:
        """Return what is measured at plant time `now` [s], a step after the last, of the true values; both shape (n,)."""
        seen = np.array(true)
        for place, line in self._lines:
            line.append(true[place])
            seen[place] = line[0]
        if len(self._glass):
            ph = seen[self._glass]
            seen[self._glass] = ph - sodium_error(ph)
        if self._state is None:
            self._state = seen.copy()
        # in place, since an array of its own for each term costs as much as the term
        state, term = self._state, seen
        term -= state
        term *= self._pace
        state += term
        steps, draw = self._rng.standard_normal(out=self._draw)
        steps *= self._walk
        self._bias += steps
        out: FloatArray = state * self._gain
        out += self._offset
        out += self._bias
        np.abs(state, out=term)
        term *= self._relative
        term += self._noise
        term *= draw
        out += term
        np.divide(out, self._resolution, out=term)
        np.rint(term, out=term)
        term *= self._resolution
        np.copyto(out, term, where=self._coarse)
        if self._failures:
            self._drift(out, now)
        np.maximum(out, self._low, out=out)  # a healthy one says no more than its range
        np.minimum(out, self._high, out=out)
        if self._failures:
            self._break(out)
        self.value = out
        return out

    def _drift(self, out: FloatArray, now: float) -> None:
        for place, fault in self._failures:
            if fault.kind == "drift":
                out[place] += fault.size * (now - fault.start) / 3600.0
            elif fault.kind == "spike" and self._chance.random() < _SPIKES * self._dt:
                out[place] += fault.size * self._chance.uniform(-1.0, 1.0)

    def _break(self, out: FloatArray) -> None:
        """Let the failed ones say what they say, beyond their range too; the first of several on one wins."""
        for place, fault in reversed(self._failures):
            low, span = self._low[place], self._high[place] - self._low[place]
            if fault.kind == "frozen":
                out[place] = self._held[place, fault]
            elif fault.kind == "nan":
                out[place] = math.nan
            elif fault.kind == "ne43":
                out[place] = low + span * _FAILED[fault.size]
            elif fault.kind in _SATURATED:
                out[place] = low + span * _SATURATED[fault.kind]
