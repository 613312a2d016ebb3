"""Shredder under nitrogen, and the weigh hopper its fines fall into."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simulators.vessels import AMBIENT, approach

__all__ = ["Hopper", "Shredder", "ShredderParameters"]


@dataclass(frozen=True)
class ShredderParameters:
    """Constants of the shredder; all [A] with a factor of 1.3 up and down unless noted."""

    fines: float = 0.54  # black mass per scrap [kg/kg]
    clearing: float = 1.0 / 2400.0  # k of F_out = k omega M [1/(rpm s)]
    energy: float = 35.0  # [kWh/t] 15-60
    idle: float = 6.0  # [kW]
    rated: float = 60.0  # at `rated_speed` [kW]
    rated_speed: float = 30.0  # [rpm]
    volume: float = 10.0  # of the chamber [m3]
    leak: float = 1.5  # of air [Nm3/h]
    airlock: float = 0.6  # air per scrap [Nm3/t]
    capacity: float = 1500.0  # [kJ/K]
    loss: float = 1.2  # [kW/K]
    residual: float = 20.0  # charge left in the cells [kJ/kg] 9-45
    jams: float = 0.2  # [1/h]
    oxygen_limit: float = 4.0  # own interlock of the feed [%]


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
        self.jam = 0.0  # [s] left

    def step(self, sp: Mapping[str, float], dt: float, rng: np.random.Generator) -> float:
        """Advance by `dt` [s]."""
        p = self.p
        self.speed = approach(self.speed, sp["rotor_speed_sp"], dt, 6.0)
        self.nitrogen = approach(self.nitrogen, sp["nitrogen_flow_sp"], dt, 4.0)
        free = self.oxygen <= p.oxygen_limit and self.speed >= 5.0 and self.jam <= 0.0
        self.feed = approach(self.feed, sp["feed_rate_sp"], dt, 5.0) if free and self.scrap > 0.0 else 0.0
        taken = min(self.feed * dt / 3600.0, self.scrap)
        self.scrap -= taken
        self.held += taken
        if self.scrap < 1e-6:
            self.held += self.scrap
            taken += self.scrap
            self.scrap = 0.0
        out = self.held * (1.0 - math.exp(-p.clearing * self.speed * dt))
        if self.held < 0.05 and self.scrap == 0.0:
            out = self.held
        self.held -= out
        rate = out / dt  # [kg/s]
        if self.jam > 0.0:
            self.jam -= dt
        elif rate > 0.01 and rng.random() < p.jams * dt / 3600.0:
            self.jam = 6.0  # the drive reverses by itself below the trip of 180 %
        power = (p.idle + p.energy * 3.6 * rate) * min(self.speed / p.rated_speed, 1.0) if self.speed > 0.1 else 0.0
        twist = 100.0 * power / p.rated * p.rated_speed / max(self.speed, 1.0)
        self.torque = approach(self.torque, 165.0 if self.jam > 0.0 and self.speed > 1.0 else twist, dt, 1.0)
        air = p.leak + p.airlock * taken / dt * 3.6
        flow = air + self.nitrogen
        limit = 20.9 * air / flow if flow > 0.0 else 20.9
        keep = math.exp(-flow / 3600.0 / p.volume * dt)
        self.oxygen = limit + (self.oxygen - limit) * keep
        self.hydrogen = self.hydrogen * keep + 2e-3 * taken / p.volume * 10.0
        self.fluoride = self.fluoride * keep + 4e-3 * taken / p.volume * 10.0
        heat = 0.8 * power + p.residual * taken / dt
        final = AMBIENT + heat / p.loss
        self.temperature = final + (self.temperature - final) * math.exp(-p.loss / p.capacity * dt)
        return out * p.fines

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        current = self.torque * 0.92 + (8.0 if self.speed > 0.5 else 0.0)
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

    def __init__(self, capacity: float = 1200.0) -> None:
        self.capacity = capacity  # [kg]
        self.weight = 0.0  # [kg]
        self.rate = 0.0  # [kg/h]
        self._screw = 0.0

    def step(self, sp: Mapping[str, float], dt: float, fines: float) -> float:
        """Take `fines` [kg] in, advance by `dt` [s]; return what falls into the leach tank [kg]."""
        self.weight += fines
        self._screw = approach(self._screw, sp["feeder_rate_sp"], dt, 3.0)
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
