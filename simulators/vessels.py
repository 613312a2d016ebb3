"""What several units are made of: the ledger, dosing lines, a jacket, and a filter press."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from drivers.tags import FloatArray
from simulators.components import LIQUID_MASS, NC, REAGENTS, VOLUME, WATER, litres
from simulators.parameters import parameter

__all__ = ["AMBIENT", "Jacket", "JacketParameters", "Ledger", "Lines", "Press", "PressParameters", "approach"]

AMBIENT = 22.0  # [degC]


def approach(value: float, target: float, dt: float, lag: float) -> float:
    """Return `value` after `dt` [s] of a first-order move to `target` with `lag` [s]; it arrives for good when it is near."""
    new = target + (value - target) * math.exp(-dt / lag)
    return target if abs(new - target) < 1e-4 * (1.0 + abs(target)) else new


@dataclass
class Ledger:
    """Everything that crossed the plant's boundary: litres of reagents, solids in, and what left by each outlet [mol; kg of water]."""

    dosed: dict[str, float] = field(default_factory=dict)  # [L] of each reagent
    into: dict[str, FloatArray] = field(default_factory=dict)
    out: dict[str, FloatArray] = field(default_factory=dict)

    def dose(self, reagent: str, volume: float) -> None:
        """Count `volume` [L] of a reagent."""
        self.dosed[reagent] = self.dosed.get(reagent, 0.0) + volume

    def enter(self, name: str, inventory: FloatArray) -> None:
        """Count what came in as a solid."""
        if name in self.into:
            self.into[name] += inventory
        else:
            self.into[name] = inventory.copy()

    def leave(self, outlet: str, inventory: FloatArray) -> None:
        """Count what left by `outlet`."""
        if outlet in self.out:
            self.out[outlet] += inventory
        else:
            self.out[outlet] = inventory.copy()

    def total_in(self) -> FloatArray:
        """Return all that came in, shape (NC,)."""
        total = np.zeros(NC)
        for name, volume in self.dosed.items():
            total += REAGENTS[name] * volume
        for inventory in self.into.values():
            total += inventory
        return total

    def total_out(self) -> FloatArray:
        """Return all that left, shape (NC,)."""
        total = np.zeros(NC)
        for inventory in self.out.values():
            total += inventory
        return total


@dataclass
class Lines:
    """Dosing lines into one vessel: signal -> (reagent, lag). Flows follow their setpoints [eu of the setpoint]."""

    reagents: Mapping[str, str]  # signal without _sp -> reagent
    lag: float = 3.0  # [s] of a dosing pump with its controller [A] 1-6
    per_second: float = 1.0 / 60.0  # L/min -> L/s; 1/3600 for L/h
    flow: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flow = dict.fromkeys(self.reagents, 0.0)

    def step(self, setpoints: Mapping[str, float], dt: float, liquor: FloatArray, ledger: Ledger, *, room: float = math.inf) -> float:
        """Move the flows and add what they bring to `liquor`; return the litres. Nothing flows into a vessel without `room` [L]."""
        brought = 0.0
        for name, reagent in self.reagents.items():
            flow, target = self.flow[name], setpoints[name + "_sp"]
            if room <= brought:
                target = flow = 0.0
            if flow != target:
                flow = approach(flow, target, dt, self.lag)
            self.flow[name] = flow
            if flow > 0.0:
                volume = flow * self.per_second * dt
                liquor += REAGENTS[reagent] * volume
                ledger.dose(reagent, volume)
                brought += volume
        return brought


@dataclass(frozen=True)
class JacketParameters:
    """A jacket with its two media."""

    ua: float = parameter(2.8, "kW/K", "A", "process.md section 3: 300-500 W/m2K, 8 m2", range=(2.4, 4.0))
    steam: float = parameter(140.0, "degC", "size", "saturated, 2.6 bar over ambient")
    coolant: float = parameter(15.0, "degC", "size", "cooling water")
    lag: float = parameter(60.0, "s", "A", "of the jacket's wall and content")
    loss: float = parameter(0.03, "kW/K", "A", "to the room, insulated")


class Jacket:
    """Heating by steam and cooling by water through one jacket."""

    def __init__(self, parameters: JacketParameters) -> None:
        self.p = parameters
        self.temperature = AMBIENT  # of the jacket [degC]

    def heat(self, vessel: float, valve: float, dt: float, capacity: float) -> float:
        """Return the new vessel temperature [degC] after `dt` with the valve at -100..100 %; exact for a constant jacket."""
        p = self.p
        share = 0.01 * valve
        target = vessel + share * (p.steam - vessel) if share >= 0.0 else vessel - share * (p.coolant - vessel)
        self.temperature += (target - self.temperature) * (1.0 - math.exp(-dt / p.lag))
        whole = p.ua + p.loss
        final = (p.ua * self.temperature + p.loss * AMBIENT) / whole
        return final + (vessel - final) * math.exp(-whole * dt / capacity)


@dataclass(frozen=True)
class PressParameters:
    """A filter press, with the cake of the leach residue."""

    area: float = parameter(30.0, "m2", "size", "process.md section 2, nominal cell")
    resistance: float = parameter(1e11, "m/kg", "A", "specific, of graphite and residue", range=(3e10, 3e11))
    medium: float = parameter(2e10, "1/m", "A", "of the cloth")
    viscosity: float = parameter(1e-3, "Pa s", "T", "sulfate liquor, 1 M, near 50 degC")
    holds: float = parameter(0.8, "L/kg", "A", "process.md section 3: liquor in the cake of the leach residue")
    pump: float = parameter(120.0, "L/min", "size", "at 100 %")
    limit: float = parameter(7.0, "bar", "size", "that the pump can give")
    idle: float = parameter(0.2, "bar", "size", "of the empty line at full pump")
    bleed: float = parameter(1e-4, "kg/kg", "A", "solids that pass the cloth", range=(0.3e-4, 3e-4))
    wash: float = parameter(0.7, "1", "A", "process.md section 3: exponent of the wash law, per bed volume")


class Press:
    """A cake with the liquor that it holds. Solids have a shape (rows, NC) [mol] and a mass of each [kg/mol]."""

    def __init__(self, parameters: PressParameters, mass: FloatArray) -> None:
        self.parameters = parameters
        self.mass = mass
        self.solids: FloatArray = np.zeros(mass.shape)
        self.liquor: FloatArray = np.zeros(NC)
        self.dry = 0.0  # [kg]
        self.pressure = 0.0  # [bar]
        self.flow = 0.0  # filtrate [L/min]
        self.wash_flow = 0.0
        self.last: tuple[FloatArray, FloatArray, float] = (self.liquor, self.solids, 0.0)  # liquor, solids, dry [kg] of the last cake

    @property
    def wet(self) -> float:
        """Mass of the wet cake [kg]."""
        return self.dry + float(LIQUID_MASS.dot(self.liquor))

    def rate(self, share: float) -> float:
        """Return the slurry flow [L/s] with the pump at `share` of full speed, throttled by the cake; sets the pressure."""
        p = self.parameters
        resistance = p.viscosity * (p.resistance * self.dry / p.area + p.medium) / p.area  # [Pa s/m3]
        q = min(p.pump * share / 6e4, p.limit * 1e5 / resistance)  # [m3/s]
        self.pressure = p.idle * share + q * resistance * 1e-5
        return q * 1e3

    def filter(self, liquor: FloatArray, solids: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Take slurry in; return the filtrate that goes forward and the solids that passed the cloth."""
        passed = solids * self.parameters.bleed
        kept = solids - passed
        self.solids += kept
        self.dry += float((kept * self.mass).sum())
        volume = litres(liquor)
        need = self.parameters.holds * self.dry - litres(self.liquor)
        share = min(max(need / volume, 0.0), 1.0) if volume > 0.0 else 1.0
        self.liquor += liquor * share
        return liquor * (1.0 - share), passed

    def wash(self, setpoint: float, dt: float, ledger: Ledger) -> FloatArray | None:
        """Wash with water at `setpoint` [L/min]; return what goes forward, or None. C falls by exp(-0.7 BV)."""
        self.wash_flow = approach(self.wash_flow, setpoint, dt, 3.0) if self.wash_flow != setpoint else setpoint
        volume = self.wash_flow * dt / 60.0
        if volume <= 0.0:
            return None
        ledger.dose("water", volume)
        water = REAGENTS["water"] * volume
        pore = litres(self.liquor)
        if pore < 0.1:
            return water
        share = 1.0 - math.exp(-self.parameters.wash * volume / pore)
        out = self.liquor * share
        out[WATER] = 0.0
        lost = float(VOLUME.dot(out))  # the pores stay full: water takes the place of what the salts filled
        self.liquor -= out
        taken = min(lost / float(VOLUME[WATER]), float(water[WATER]))
        self.liquor[WATER] += taken
        out[WATER] = water[WATER] - taken
        return out

    def drop(self) -> tuple[FloatArray, FloatArray]:
        """Empty the press; return its liquor and its solids. The laboratory can still sample what was dropped."""
        out = self.liquor, self.solids
        self.last = (*out, self.dry)
        self.liquor, self.solids, self.dry = np.zeros(NC), np.zeros(self.mass.shape), 0.0
        return out
