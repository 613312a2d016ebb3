"""Shredder under nitrogen, and the weigh hopper its fines fall into."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simulators.components import AMBIENT
from simulators.parameters import parameter
from simulators.vessels import approach, check_solids, check_step, within

__all__ = ["Hopper", "Shredder", "ShredderParameters", "carry_over"]


@dataclass(frozen=True)
class ShredderParameters:
    """Constants of the shredder."""

    fines: float = parameter(0.54, "kg/kg", "A", "black mass per scrap", range=(0.45, 0.62))
    clearing: float = parameter(1.0 / 2400.0, "1/(rpm s)", "A", "k of F_out = k omega M, process.md section 3")
    energy: float = parameter(35.0, "kWh/t", "A", "process.md section 3", range=(15.0, 60.0))
    cut: float = parameter(0.5, "mm", "size", "process.md section 2: of the sieve, 0.25-1 mm")
    foil: float = parameter(2.0, "mm", "A", "d63 of copper and aluminium fragments at 35 kWh/t", range=(1.5, 3.0))
    foil_spread: float = parameter(1.2, "1", "A", "process.md section 3: n of Rosin-Rammler")
    foil_energy: float = parameter(0.5, "1", "A", "power of the energy by which they get finer", range=(0.3, 0.7))
    idle: float = parameter(6.0, "kW", "A", "of the empty rotor")
    rated: float = parameter(60.0, "kW", "size", "at `rated_speed`")
    rated_speed: float = parameter(30.0, "rpm", "size", "of the rotor")
    jam_torque: float = parameter(230.0, "%", "A", "of the rated one, where the converter limits it in a jam", range=(200.0, 245.0))
    torque_limit: float = parameter(180.0, "%", "size", "process.md section 2: the drive reverses")
    torque_time: float = parameter(2.0, "s", "size", "process.md section 2: the drive reverses")
    reversing: float = parameter(5.0, "s", "A", "of the drive")
    frees: float = parameter(0.8, "1", "A", "chance that a reversal frees a jam", range=(0.6, 0.95))
    reversals: float = parameter(3.0, "1", "size", "process.md section 2: so many in `reversals_time` trip the drive")
    reversals_time: float = parameter(600.0, "s", "size", "process.md section 2")
    jams: float = parameter(0.2, "1/h", "A", "process.md section 3: Poisson")
    current_share: float = parameter(0.92, "1", "size", "motor current per torque, both of the rated one")
    current_idle: float = parameter(8.0, "%", "size", "magnetising current of the motor")
    volume: float = parameter(10.0, "m3", "size", "of the chamber")
    leak: float = parameter(1.5, "Nm3/h", "A", "of air")
    airlock: float = parameter(0.6, "Nm3/t", "A", "air that comes with the scrap")
    hydrogen: float = parameter(2e-2, "% m3/kg", "A", "H2 from wet electrolyte and foil, per scrap")
    fluoride: float = parameter(4e-2, "ppm m3/kg", "A", "HF from LiPF6, per scrap")
    capacity: float = parameter(1500.0, "kJ/K", "size", "heat of the machine")
    warming: float = parameter(0.8, "1", "A", "process.md section 3: share of the power that heats it", range=(0.65, 0.95))
    loss: float = parameter(1.2, "kW/K", "A", "to the room and the purge")
    residual: float = parameter(20.0, "kJ/kg", "A", "process.md section 3: charge left in the cells", range=(9.0, 45.0))
    speed_most: float = parameter(60.0, "rpm", "size", "of the converter")
    feed_most: float = parameter(2000.0, "kg/h", "size", "of the conveyor")
    nitrogen_most: float = parameter(150.0, "Nm3/h", "size", "of the supply")
    speed_least: float = parameter(5.0, "rpm", "size", "own interlock of the feed")


_NOMINAL = 0.5, 35.0  # [mm], [kWh/t]: for which a feed names its copper and aluminium


def carry_over(p: ShredderParameters) -> float:
    """Return the share of copper and aluminium that passes the sieve, over that at the nominal cut and energy.

    A harder blow makes finer fragments, a coarser sieve lets larger ones through (process.md section 5): Rosin-Rammler's law for both.
    """

    def passing(cut: float, energy: float) -> float:
        size = p.foil * (_NOMINAL[1] / energy) ** p.foil_energy
        return 1.0 - math.exp(-((cut / size) ** p.foil_spread))

    return passing(p.cut, p.energy) / passing(*_NOMINAL)


class Shredder:
    """Cells in, black mass out. `step` returns the fines [kg]."""

    measures = (
        "oxygen",
        "temperature",
        "hydrogen",
        "hydrogen_fluoride",
        "motor_current",
        "torque",
        "rotor_speed",
        "feed_rate",
        "nitrogen_flow",
        "scrap_weight",
    )
    sets = ("feed_rate_sp", "rotor_speed_sp", "nitrogen_flow_sp")

    def __init__(self, scrap: float, parameters: ShredderParameters | None = None) -> None:
        self.p = parameters or ShredderParameters()
        self.scrap = scrap  # on the conveyor [kg]
        self.held = 0.0  # in the chamber [kg]
        self.oxygen = 20.9
        self.temperature = AMBIENT
        self.hydrogen = self.fluoride = 0.0
        self.speed = self.feed = self.nitrogen = self.torque = 0.0
        self.jammed = False
        self.overload = False  # the drive has reversed too often and has to be tripped
        self._over = 0.0  # [s] above the limit of torque
        self._reverse = 0.0  # [s] left
        self._since: list[float] = []  # [s] ago, of each reversal that counts

    def clear(self) -> None:
        """Take out what jams the rotor, as a person does before a reset."""
        self.jammed = self.overload = False
        self._over = self._reverse = 0.0
        self._since = []

    def step(self, sp: Mapping[str, float], dt: float, rng: np.random.Generator) -> float:
        """Advance by `dt` [s]."""
        check_step(dt)
        p = self.p
        self._drive(dt, rng)
        turns = within(sp["rotor_speed_sp"], 0.0, p.speed_most)
        self.speed = approach(self.speed, 0.0 if self._reverse > 0.0 else turns, dt, 1.0 if self._reverse > 0.0 else 6.0)
        self.nitrogen = approach(self.nitrogen, within(sp["nitrogen_flow_sp"], 0.0, p.nitrogen_most), dt, 4.0)
        free = self.speed >= p.speed_least and not self.jammed and self._reverse <= 0.0
        self.feed = approach(self.feed, within(sp["feed_rate_sp"], 0.0, p.feed_most), dt, 5.0) if free and self.scrap > 0.0 else 0.0
        taken = min(self.feed * dt / 3600.0, self.scrap)
        self.scrap -= taken
        self.held += taken
        if self.scrap < 1e-6:
            self.held += self.scrap
            taken += self.scrap
            self.scrap = 0.0
        out = self.held * (1.0 - math.exp(-p.clearing * self.speed * dt)) if self.held > 0.0 else 0.0
        if self.held < 0.05 and self.scrap == 0.0:
            out = self.held
        self.held -= out
        rate = out / dt  # [kg/s]
        if not self.jammed and rate > 0.01 and rng.random() < p.jams * dt / 3600.0:
            self.jammed = True
        power = (p.idle + p.energy * 3.6 * rate) * min(self.speed / p.rated_speed, 1.0) if self.speed > 0.1 else 0.0
        twist = 100.0 * power / p.rated * p.rated_speed / max(self.speed, 1.0)
        self.torque = approach(self.torque, p.jam_torque if self.jammed and self.speed > 1.0 and self._reverse <= 0.0 else twist, dt, 1.0)
        air = p.leak + p.airlock * taken / dt * 3.6
        flow = air + self.nitrogen
        limit = 20.9 * air / flow if flow > 0.0 else 20.9
        keep = math.exp(-flow / 3600.0 / p.volume * dt)
        self.oxygen = limit + (self.oxygen - limit) * keep
        self.hydrogen = self.hydrogen * keep + p.hydrogen * taken / p.volume
        self.fluoride = self.fluoride * keep + p.fluoride * taken / p.volume
        heat = p.warming * power + p.residual * taken / dt
        final = AMBIENT + heat / p.loss
        self.temperature = final + (self.temperature - final) * math.exp(-p.loss / p.capacity * dt)
        return out * p.fines

    def _drive(self, dt: float, rng: np.random.Generator) -> None:
        """Reverse when the torque has been too high for too long; give up after some reversals."""
        p = self.p
        self._since = [ago + dt for ago in self._since if ago + dt < p.reversals_time]
        if self._reverse > 0.0:
            self._reverse -= dt
            if self._reverse <= 0.0 and rng.random() < p.frees:
                self.jammed = False
            return
        self._over = self._over + dt if self.torque > p.torque_limit else 0.0
        if self._over > p.torque_time:
            self._over, self._reverse = 0.0, p.reversing
            self._since.append(0.0)
            self.overload = len(self._since) >= p.reversals

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        current = self.torque * self.p.current_share + (self.p.current_idle if self.speed > 0.5 else 0.0)
        return (
            self.oxygen,
            self.temperature,
            self.hydrogen,
            self.fluoride,
            current,
            self.torque,
            self.speed,
            self.feed,
            self.nitrogen,
            self.scrap,
        )


class Hopper:
    """Black mass on load cells with a screw feeder."""

    measures = ("weight", "feeder_rate")
    sets = ("feeder_rate_sp",)

    def __init__(self, capacity: float = 1200.0, most: float = 1000.0) -> None:
        self.capacity = capacity  # [kg]
        self.most = most  # [kg/h] of the screw
        self.weight = 0.0  # [kg]
        self.rate = 0.0  # [kg/h]
        self._screw = 0.0

    def step(self, sp: Mapping[str, float], dt: float, fines: float) -> float:
        """Take `fines` [kg] in, advance by `dt` [s]; return what falls into the leach tank [kg]."""
        check_step(dt)
        check_solids(fines)
        self.weight += fines
        self._screw = approach(self._screw, within(sp["feeder_rate_sp"], 0.0, self.most), dt, 3.0)
        out = min(self._screw * dt / 3600.0, self.weight)
        self.weight -= out
        if self.weight < 1e-6 and out > 0.0:
            out += self.weight
            self.weight = 0.0
        self.rate = out / dt * 3600.0
        return out

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        return (self.weight, self.rate)
