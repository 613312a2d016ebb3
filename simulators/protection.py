"""Local interlocks: what each device stops by itself, on its own measured values, whether a controller is there or not.

The limits are those of process.md section 2 made a little wider, so that a controller that works acts first. A permit is not given by a
transmitter that says it has failed, nor by a value that is not a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from drivers.tags import BoolArray, FloatArray
from simulators.instruments import BAD, StatusArray

__all__ = ["INTERLOCKS", "Interlock", "Protection"]


@dataclass(frozen=True, slots=True)
class Interlock:
    """A permit of a device: its own outputs take the values of `effects` while `signal` is beyond `limit`."""

    profile: str
    name: str
    signal: str
    limit: float  # [eu of the signal]
    effects: Mapping[str, float]  # [eu of each]
    hysteresis: float = 0.0  # [eu of the signal] on the way back
    delay: float = 0.0  # [s]
    least: bool = False  # the limit is a lower one


_HALT: Final = {"feed_rate_sp": 0.0, "rotor_speed_sp": 0.0}
_PURGE: Final = {**_HALT, "nitrogen_flow_sp": 100.0}
_LEACH_DOSING: Final = {"acid_flow_sp": 0.0, "peroxide_flow_sp": 0.0}
_PURIFY_DOSING: Final = {"naoh_flow_sp": 0.0, "acid_flow_sp": 0.0, "peroxide_flow_sp": 0.0, "powder_rate_sp": 0.0}
_REACTOR_FILL: Final = {"feed_flow_sp": 0.0, "naoh_flow_sp": 0.0, "ammonia_flow_sp": 0.0, "water_flow_sp": 0.0}
_CRYSTALLISER_FILL: Final = {"feed_flow_sp": 0.0, "naoh_flow_sp": 0.0, "acid_flow_sp": 0.0, "soda_flow_sp": 0.0, "jacket_valve": -20.0}
_CLEAR_FILL: Final = {"transfer_pump": 0.0, "press_wash_flow_sp": 0.0, "niso4_flow_sp": 0.0, "coso4_flow_sp": 0.0, "mnso4_flow_sp": 0.0}

# where two want one output the first wins
INTERLOCKS: Final = (
    Interlock("shredder", "T high", "temperature", 83.0, _PURGE, 5.0),  # controller: 80 degC
    Interlock("shredder", "H2 high", "hydrogen", 1.1, _PURGE, 0.2),  # 1 %
    Interlock("shredder", "O2 high", "oxygen", 4.3, _HALT, 0.2),  # 4 %
    Interlock("leach_tank", "T high", "temperature", 88.0, {"peroxide_flow_sp": 0.0, "jacket_valve": -100.0}, 3.0),  # 85 degC
    Interlock("leach_tank", "H2 high", "hydrogen", 28.0, _LEACH_DOSING, 5.0),  # 25 % of the lower explosive limit
    Interlock("leach_tank", "stirrer stands", "stirrer_speed", 15.0, _LEACH_DOSING, least=True),  # 20 rpm
    Interlock("leach_tank", "P high", "pressure", 22.0, _LEACH_DOSING, 5.0),  # 20 mbar
    Interlock("leach_tank", "level high", "volume", 4.45, {**_LEACH_DOSING, "water_flow_sp": 0.0}, 0.1),  # 4.4 m3
    Interlock("leach_tank", "press P high", "press_pressure", 8.5, {"transfer_pump": 0.0}, 1.0),  # 8 bar
    Interlock("purification_tank", "pH high", "ph", 6.7, {"naoh_flow_sp": 0.0}, 0.1, delay=10.0),  # 6.2, but a recipe may ask for 6.5
    Interlock("purification_tank", "stirrer stands", "stirrer_speed", 15.0, _PURIFY_DOSING, least=True),  # 20 rpm
    Interlock("purification_tank", "H2 high", "hydrogen", 28.0, {"powder_rate_sp": 0.0, "acid_flow_sp": 0.0}, 5.0),  # 25 % of the limit
    Interlock("purification_tank", "press P high", "press_pressure", 8.5, {"transfer_pump": 0.0}, 1.0),  # 8 bar
    Interlock("purification_tank", "level high", "volume", 6.9, {**_PURIFY_DOSING, "water_flow_sp": 0.0}, 0.1),  # 6.8 m3
    Interlock("purification_tank", "clear tank full", "clear_volume", 7.6, _CLEAR_FILL, 0.1),  # 7.5 m3
    Interlock("precipitation_reactor", "pH A high", "ph_a", 12.7, {"naoh_flow_sp": 0.0}, 0.2),  # 12.5
    Interlock("precipitation_reactor", "pH B high", "ph_b", 12.7, {"naoh_flow_sp": 0.0}, 0.2),
    Interlock("precipitation_reactor", "pH A low", "ph_a", 9.3, {"feed_flow_sp": 0.0}, 0.2, least=True),  # 9.5
    Interlock("precipitation_reactor", "pH B low", "ph_b", 9.3, {"feed_flow_sp": 0.0}, 0.2, least=True),
    Interlock("precipitation_reactor", "NH3 in the room", "room_ammonia", 28.0, {"ammonia_flow_sp": 0.0, "nitrogen_flow_sp": 0.0}, 5.0),  # 25 ppm
    Interlock("precipitation_reactor", "level high", "volume", 6.9, _REACTOR_FILL, 0.05),  # 6.8 m3
    Interlock("precipitation_reactor", "O2 high", "oxygen", 2.3, {"feed_flow_sp": 0.0}, 0.5),  # 2 %
    Interlock("filter_dryer", "P high", "pressure", 7.3, {"pressure_sp": 0.0}, 0.5),  # 7 bar
    Interlock("filter_dryer", "T high", "temperature", 133.0, {"heater": 0.0}, 5.0),  # 130 degC
    Interlock("crystalliser", "level high", "volume", 4.3, _CRYSTALLISER_FILL, 0.1),  # 4.2 m3, near boil-over
    Interlock("crystalliser", "T high", "temperature", 115.0, {"jacket_valve": 0.0}, 3.0),  # 112 degC
    Interlock("crystalliser", "dryer T high", "cake_temperature", 155.0, {"heater": 0.0}, 5.0),  # 150 degC
    Interlock("crystalliser", "centrifuge full", "cake_weight", 2480.0, {"transfer_pump": 0.0, "wash_flow_sp": 0.0}, 50.0),  # 2,400 kg
)  # fmt: skip


class Protection:
    """The interlocks of the devices that are there. `forced` is what they make of the outputs: row -> value."""

    def __init__(self, rows: Sequence[tuple[str, Interlock, int]], outputs: Mapping[tuple[str, str], int]) -> None:
        """`rows`: device, interlock, place of its measurement; `outputs`: (device, signal) -> row of the actuators."""
        self._names = tuple(f"{device}: {interlock.name}" for device, interlock, _ in rows)
        self._places = np.array([place for *_, place in rows], dtype=np.intp)
        self._sign = np.array([-1.0 if interlock.least else 1.0 for _, interlock, _ in rows])
        self._limit = np.array([interlock.limit for _, interlock, _ in rows]) * self._sign
        self._hysteresis = np.array([interlock.hysteresis for _, interlock, _ in rows])
        self._delay = np.array([interlock.delay for _, interlock, _ in rows])
        self._effects = [
            {outputs[device, name]: value for name, value in interlock.effects.items() if (device, name) in outputs} for device, interlock, _ in rows
        ]
        self._outside = self._delay.copy()  # [s] without its permit; before the first value none is given
        self._standing: BoolArray = np.ones(len(rows), dtype=np.bool_)
        self._judged, self._waiting = b"", True  # what was judged last, and whether a delay runs
        self.forced: dict[int, float] = {}
        self._force()

    def judge(self, value: FloatArray, status: StatusArray, dt: float) -> None:
        """Take the measured values [eu of each] and what their transmitters say of themselves, both shape (n,), `dt` [s] after the last."""
        inside = self._limit - value[self._places] * self._sign
        if BAD in status.tobytes():
            inside[status[self._places] >= BAD] = -np.inf
        given, clear = inside >= 0.0, inside >= self._hysteresis  # false for NaN
        judged = given.tobytes() + clear.tobytes()
        if judged == self._judged and not self._waiting:
            return  # as before, and one that stands does so until its permit is given: its time outside counts no more
        self._outside += dt
        self._outside[given] = 0.0
        standing = (self._outside > self._delay) | (self._standing & ~clear)
        self._judged, self._waiting = judged, bool((~given & ~standing).any())
        if standing.tobytes() != self._standing.tobytes():
            self._standing = standing
            self._force()

    def _force(self) -> None:
        forced: dict[int, float] = {}
        for row in self._standing.nonzero()[0].tolist():
            forced = {**self._effects[row], **forced}
        self.forced = forced

    def standing(self) -> tuple[str, ...]:
        """Return the names of those whose permit is not given."""
        return tuple(self._names[row] for row in self._standing.nonzero()[0].tolist())
