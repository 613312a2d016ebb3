"""What several units are made of: the ledger, dosing lines, a jacket, and a filter press."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from drivers.tags import FloatArray
from simulators.components import (
    AMBIENT,
    BALANCED,
    BOUND,
    GAS,
    H2,
    HEAT,
    HO,
    HO_LIQUOR,
    LIQUID_MASS,
    LIQUOR,
    NC,
    O2,
    REAGENTS,
    VOLUME,
    WATER,
    WATER_HEAT,
    atoms,
    litres,
    vector,
)
from simulators.parameters import parameter

__all__ = [
    "SOLID_HEAT", "Content", "Jacket", "JacketParameters", "Ledger", "Lines", "Press", "PressParameters", "Shell", "approach", "boil",
    "check_solids", "check_step", "held", "opening", "react", "temperature", "within",
]  # fmt: skip

SOLID_HEAT = 0.8  # [kJ/(kg K)]
_STEPS: Final = (1e-6, 60.0)  # [s]
_MOST_SOLIDS: Final = 1e4  # [kg]
_ATOMS: Final = [of.dot for of in HO]  # what gives H and O of an inventory, by its form
Content = list[tuple[FloatArray, int]]  # inventories, each with its form


def approach(value: float, target: float, dt: float, lag: float) -> float:
    """Return `value` after `dt` [s] of a first-order move to `target` with `lag` [s]; it arrives for good when it is near."""
    if value == target:
        return target
    new = target + (value - target) * math.exp(-dt / lag)
    return target if abs(new - target) < 1e-4 * (1.0 + abs(target)) else new


def within(value: float, low: float, high: float) -> float:
    """Return what an actuator that gives `low` to `high` makes of the setpoint `value` [same eu]."""
    return low if value < low else high if value > high else value


def opening(setpoint: float) -> float:
    """Return the share of full speed of a pump or heater at `setpoint` [%]."""
    return 0.01 * within(setpoint, 0.0, 100.0)


def check_step(dt: float) -> None:
    """Raise `ValueError` unless `dt` [s] is a time step that the rates of the units are made for."""
    if not _STEPS[0] <= dt <= _STEPS[1]:  # true for NaN
        raise ValueError(f"dt: expected {_STEPS[0]:g} to {_STEPS[1]:g} s, got {dt:g} s")


def check_solids(kg: float) -> None:
    """Raise `ValueError` unless `kg` [kg] is what can fall in within a step."""
    if not 0.0 <= kg <= _MOST_SOLIDS:  # true for NaN
        raise ValueError(f"solids: expected 0 to {_MOST_SOLIDS:g} kg in a step, got {kg:g} kg")


def held(content: Content) -> FloatArray:
    """Return the sum of the inventories, whatever their forms, shape (NC,)."""
    out = np.zeros(NC)
    for inventory, _ in content:
        out += inventory
    return out


def temperature(liquor: FloatArray) -> float:
    """Return the temperature [degC] of a liquor by its own enthalpy."""
    water = float(liquor[WATER])
    return 25.0 + float(liquor[HEAT] - liquor[BOUND]) / (WATER_HEAT * water) if water > 0.0 else AMBIENT


def boil(liquor: FloatArray, t: float, latent: float, ledger: Ledger) -> None:
    """Let the vapour go that a liquor above its boiling point at `t` [degC] makes of its own heat; `latent` [kJ/kg].

    What is dissolved raises the boiling point, by 28 K per natural logarithm of the activity of water (1 - 0.017 sum(m), at least 0.3).
    """
    water = float(liquor[WATER])
    dissolved = float(liquor[:WATER].sum())
    activity = max(1.0 - 0.017 * dissolved / water, 0.3) if water > 0.0 else 0.3
    kg = min((t - 100.0 + 28.0 * math.log(activity)) * WATER_HEAT * water / latent, 0.2 * (water - 0.02 * dissolved))
    if kg > 0.0:
        gone = vector({WATER: kg, HEAT: kg * (latent + WATER_HEAT * (t - 25.0))})
        liquor -= gone
        ledger.leave("off-gas", gone, GAS)


@dataclass
class Ledger:
    """Everything that crossed the plant's boundary: litres of reagents, solids in, what left by each outlet [mol; kg of water], and heat [kJ]."""

    dosed: dict[str, float] = field(default_factory=dict)  # [L] of each reagent
    into: dict[str, FloatArray] = field(default_factory=dict)
    out: dict[str, FloatArray] = field(default_factory=dict)
    warmed: dict[str, float] = field(default_factory=dict)  # [kJ] by jackets, heaters and stirrers, less what the room took
    turnover: float = 0.0  # [kJ] of heat, whichever way it went
    _brought: FloatArray = field(default_factory=lambda: np.zeros(2))  # H and O of `into` and `out` [mol]
    _gone: FloatArray = field(default_factory=lambda: np.zeros(2))

    def dose(self, reagent: str, volume: float) -> None:
        """Count `volume` [L] of a reagent."""
        self.dosed[reagent] = self.dosed.get(reagent, 0.0) + volume

    def enter(self, name: str, inventory: FloatArray, form: int) -> None:
        """Count what came in as a solid."""
        self._brought += _ATOMS[form](inventory)
        if name in self.into:
            self.into[name] += inventory
        else:
            self.into[name] = inventory.copy()

    def leave(self, outlet: str, inventory: FloatArray, form: int = LIQUOR) -> None:
        """Count what left by `outlet`."""
        self._gone += _ATOMS[form](inventory)
        if outlet in self.out:
            self.out[outlet] += inventory
        else:
            self.out[outlet] = inventory.copy()

    def warm(self, by: str, heat: float) -> None:
        """Count `heat` [kJ] that came in."""
        self.warmed[by] = self.warmed.get(by, 0.0) + heat
        self.turnover += abs(heat)

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

    def error(self, content: Content) -> dict[str, float]:
        """Return in - out - held over in, of every element and of the energy, for what the plant holds."""
        came, went = self.total_in(), self.total_out()
        dosed = sum((REAGENTS[name] * volume for name, volume in self.dosed.items()), np.zeros(NC))
        into = atoms(came, LIQUOR)
        into[-2:] = HO_LIQUOR.dot(dosed) + self._brought
        out = atoms(went, LIQUOR)
        out[-2:] = self._gone
        inside = np.zeros(len(BALANCED))
        for inventory, form in content:
            inside += atoms(inventory, form)
        errors = (into - out - inside) / np.maximum(into, 1e-3)
        energy = float(came[HEAT] - went[HEAT] - held(content)[HEAT]) + sum(self.warmed.values())
        return {**dict(zip(BALANCED, errors.tolist(), strict=True)), "energy": energy / max(abs(float(came[HEAT])) + self.turnover, 1e3)}


class Shell:
    """The wall of a vessel, which has the temperature of what is in it."""

    def __init__(self, capacity: float = 200.0) -> None:
        self.capacity = capacity  # [kJ/K] 400 kg of steel
        self.heat = capacity * (AMBIENT - 25.0)  # [kJ] against 25 degC

    def even(
        self, liquors: Sequence[FloatArray], solid: float, inside: float, mass: float, warm: Callable[[float, float], float]
    ) -> tuple[float, float]:
        """Bring wall and content to one temperature; return it [degC] and the enthalpy [kJ] that the solids have then.

        The solids, of which there are `mass` [kg], bring `solid` [kJ], of which `inside` is bound; the liquors have their BOUND and get their
        HEAT. `warm` takes the temperature and the heat capacity [kJ/K], and returns the temperature after heat came from outside.
        """
        water = sensible = 0.0
        for liquor in liquors:
            water += float(liquor[WATER])
            sensible += float(liquor[HEAT]) - float(liquor[BOUND])
        capacity = self.capacity + WATER_HEAT * water + SOLID_HEAT * mass
        whole = self.heat + solid - inside + sensible
        t = warm(25.0 + whole / capacity, capacity)
        above = t - 25.0
        self.heat = self.capacity * above
        for liquor in liquors:
            liquor[HEAT] = float(liquor[BOUND]) + WATER_HEAT * float(liquor[WATER]) * above
        return t, inside + SOLID_HEAT * mass * above


def react(liquor: FloatArray, before: FloatArray, after: FloatArray, hydrogen: float, ledger: Ledger, hydrogen_heat: float) -> float:
    """Make water and oxygen of the H and O that reactions left over, and let the gases go; return the oxygen [mol].

    `before` and `after`: H and O [mol] of all that took part; `hydrogen` [mol] is the gas that was made.
    """
    h, o = (before - after).tolist()
    water = 0.5 * h - hydrogen
    oxygen = 0.5 * (o - water)
    liquor[WATER] += 0.018015 * water
    if hydrogen > 0.0 or abs(oxygen) > 1e-8:
        gas = vector({H2: hydrogen, O2: oxygen, HEAT: hydrogen * hydrogen_heat})
        liquor[HEAT] -= gas[HEAT]
        ledger.leave("off-gas", gas, GAS)
    return float(oxygen)


@dataclass
class Lines:
    """Dosing lines into one vessel. Flows follow their setpoints [eu of the setpoint], as far as the pumps can."""

    reagents: Mapping[str, str]  # signal without _sp -> reagent
    most: float  # [eu of the setpoint] that a pump gives
    lag: float = 3.0  # [s] of a dosing pump with its controller [A] 1-6
    per_second: float = 1.0 / 60.0  # L/min -> L/s; 1/3600 for L/h
    flow: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flow = dict.fromkeys(self.reagents, 0.0)
        self._rows = [(name, f"{name}_sp", reagent) for name, reagent in self.reagents.items()]

    def step(self, setpoints: Mapping[str, float], dt: float, liquor: FloatArray, ledger: Ledger, *, room: Callable[[], float]) -> float:
        """Move the flows and add what they bring to `liquor`; return the litres. Nothing flows into a vessel without `room` [L]."""
        brought = 0.0
        most: float | None = None  # [L] that the vessel can take, which only matters when something flows
        for name, setpoint, reagent in self._rows:
            flow, target = self.flow[name], setpoints[setpoint]
            if flow == target == 0.0:
                continue
            if most is None:
                most = room()
            if most <= brought:
                target = flow = 0.0
            if flow != target:
                flow = approach(flow, within(target, 0.0, self.most), dt, self.lag)
            self.flow[name] = flow
            if flow > 0.0:
                volume = min(flow * self.per_second * dt, most - brought)
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
        share = 0.01 * min(max(valve, -100.0), 100.0)
        target = vessel + share * (p.steam - vessel) if share >= 0.0 else vessel - share * (p.coolant - vessel)
        self.temperature += (target - self.temperature) * (1.0 - math.exp(-dt / p.lag))
        whole = p.ua + p.loss
        final = (p.ua * self.temperature + p.loss * AMBIENT) / whole
        return final + (vessel - final) * math.exp(-whole * dt / capacity)

    def warming(self, valve: float, dt: float, ledger: Ledger, power: float = 0.0) -> Callable[[float, float], float]:
        """Return what `Shell.even` takes: heat of the jacket for `dt` [s] and of a stirrer's `power` [kW], both counted in `ledger`."""

        def warm(t: float, capacity: float) -> float:
            new = self.heat(t + power * dt / capacity, valve, dt, capacity)
            ledger.warm("jacket", (new - t) * capacity - power * dt)
            if power:
                ledger.warm("stirrer", power * dt)
            return new

        return warm


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
    wash_most: float = parameter(200.0, "L/min", "size", "that the pump of the wash water can give")
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
        setpoint = within(setpoint, 0.0, self.parameters.wash_most)
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
        whole = self.liquor + water
        out = self.liquor * share
        out[WATER] = 0.0
        lost = float(VOLUME.dot(out))  # the pores stay full: water takes the place of what the salts filled
        self.liquor -= out
        taken = min(lost / float(VOLUME[WATER]), float(water[WATER]))
        self.liquor[WATER] += taken
        out[WATER] = water[WATER] - taken
        above = temperature(whole) - 25.0  # what stays and what goes are as warm
        self.liquor[HEAT] = self.liquor[BOUND] + WATER_HEAT * self.liquor[WATER] * above
        out[HEAT] = whole[HEAT] - self.liquor[HEAT]
        return out

    def drop(self) -> tuple[FloatArray, FloatArray]:
        """Empty the press; return its liquor and its solids. The laboratory can still sample what was dropped."""
        out = self.liquor, self.solids
        self.last = (*out, self.dry)
        self.liquor, self.solids, self.dry = np.zeros(NC), np.zeros(self.mass.shape), 0.0
        return out
