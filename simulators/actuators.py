"""Actuators: what lies between a setpoint that a device has taken and what its unit feels; one array over all outputs of all devices.

Valves travel and stick, pumps ramp, motors start only when they have been told to stop before, trip, and stay locked until reset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from drivers.device import Signal
from drivers.tags import BoolArray, FloatArray
from simulators.faults import Fault

__all__ = ["Actuator", "Actuators", "Drive", "Output", "actuator"]

_STILL: Final = 0.02  # share of its range below which a motor stands
_LEAST: Final = 1e-6  # share of its span that an output resolves: less is nothing


@dataclass(frozen=True, slots=True)
class Actuator:
    """A type of actuator [A]."""

    travel: float = 0.0  # [s] through the whole range
    stick: float = 0.0  # change, as share of the range, that it does not follow


INSTANT = Actuator()
PUMP = Actuator(6.0)  # a metering pump or a feeder on a frequency converter
GAS = Actuator(15.0)
MOTOR = Actuator(15.0)
SHUTTER = Actuator(6.0)  # an on-off valve or a flap; a unit sees it open from the middle of its way
_BY_NAME: Final[dict[str, Actuator]] = {
    "jacket_valve": Actuator(40.0, 0.0015),  # two valves in split range, 20 s each, with positioners
    "nitrogen_flow_sp": GAS, "pressure_sp": Actuator(10.0), "transfer_pump": Actuator(10.0), "heater": INSTANT,
    "stirrer_speed_sp": MOTOR, "rotor_speed_sp": Actuator(10.0),
}  # fmt: skip


def actuator(name: str, unit: str, signal: Signal) -> Actuator:
    """Return the type of the actuator behind a setpoint of a unit."""
    if unit == "icp_analyser":
        return INSTANT
    return SHUTTER if signal.discrete else _BY_NAME.get(name, PUMP)


@dataclass(frozen=True, slots=True)
class Output:
    """A setpoint of a device, and what is behind it."""

    device: str
    name: str
    signal: Signal
    type: Actuator


@dataclass(slots=True)
class Drive:
    """A motor's starter. A reset unlocks it at standstill and never starts it: the command has to be 0 once before it runs again."""

    row: int
    tripped: bool = False
    ready: bool = True


class Actuators:
    """All outputs of the plant, shape (m,). `asked` is what the devices have taken, `position` where things are [eu of each]."""

    def __init__(self, outputs: Sequence[Output], motors: Mapping[str, str], dt: float) -> None:
        """`motors`: device -> setpoint of the motor that trips; `dt` [s] is the step."""
        self.rows = {(output.device, output.name): row for row, output in enumerate(outputs)}
        self.drives = {device: Drive(self.rows[device, name]) for device, name in motors.items()}
        self._low = np.array([output.signal.range[0] for output in outputs], dtype=float)
        self._high = np.array([output.signal.range[1] for output in outputs], dtype=float)
        span = self._high - self._low
        travel = np.array([output.type.travel for output in outputs])
        self._dt = dt
        self._true_reach = self._reach = np.where(travel > 0.0, span * dt / np.where(travel > 0.0, travel, 1.0), np.inf)  # in a step
        self._true_stick = self._stick = span * np.array([output.type.stick for output in outputs])
        self._still = _STILL * span
        self._least = _LEAST * span
        self.asked: FloatArray = np.array([output.signal.safe for output in outputs], dtype=float)
        self.position: FloatArray = self.asked.copy()
        self.felt: FloatArray = self.position.copy()  # what comes of it
        self._moves: BoolArray = np.zeros(len(outputs), dtype=np.bool_)
        self._stuck: list[int] = []
        self.lost: list[int] = []  # rows whose position comes to nothing
        self._tripping: list[Drive] = []

    def ask(self, row: int, value: float) -> None:
        """Take a setpoint [eu of the output]."""
        self.asked[row] = value if abs(value) >= self._least[row] else 0.0

    def fail(self, faults: Sequence[tuple[int, Fault]]) -> None:
        """Let these (row, fault) stand from the next step, and no others."""
        self._reach, self._stick = self._true_reach.copy(), self._true_stick.copy()
        self._stuck, self.lost, self._tripping = [], [], []
        for row, fault in faults:
            if fault.kind == "stuck":
                self._stuck.append(row)
            elif fault.kind == "stiction":
                self._stick[row] = max(self._stick[row], fault.size)
            elif fault.kind == "slow":
                span = self._high[row] - self._low[row]
                self._reach[row] = min(self._reach[row], span * self._dt) / fault.size
            elif fault.kind == "loss":
                self.lost.append(row)
            else:
                self._tripping += [drive for drive in self.drives.values() if drive.row == row]

    def trip(self, device: str) -> None:
        """Trip the motor of a device, when it is one that can."""
        if device in self.drives:
            self.drives[device].tripped = True

    def reset(self, device: str) -> bool:
        """Unlock the motor of a device that has tripped and stands; return whether it is unlocked."""
        drive = self.drives[device]
        if drive.tripped and self.position[drive.row] <= self._still[drive.row]:
            drive.tripped = drive.ready = False
        return not drive.tripped

    def step(self, forced: Mapping[int, float]) -> FloatArray:
        """Return what the units feel after a step, shape (m,). `forced`: row -> what a local interlock makes of it."""
        target = self.asked.copy()
        for row, value in forced.items():
            target[row] = value
        for drive in self._tripping:
            drive.tripped = True
        for drive in self.drives.values():
            if drive.tripped or not drive.ready:
                target[drive.row] = 0.0
                drive.ready = not drive.tripped and self.asked[drive.row] == 0.0
        gap = target - self.position
        if np.count_nonzero(gap):
            self._move(gap)
        else:
            self._moves.fill(False)
        self.felt = self.position
        if self.lost:
            self.felt = self.position.copy()
            self.felt[self.lost] = np.clip(0.0, self._low[self.lost], self._high[self.lost])
        return self.felt

    def _move(self, gap: FloatArray) -> None:
        # stick-slip: it follows once the gap is wide enough, and then all the way
        self._moves &= gap != 0.0
        self._moves |= np.abs(gap) > self._stick
        if self._stuck:
            self._moves[self._stuck] = False
        if not np.count_nonzero(self._moves):
            return
        np.maximum(gap, -self._reach, out=gap)
        np.minimum(gap, self._reach, out=gap)
        gap *= self._moves
        self.position += gap
