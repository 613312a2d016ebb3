"""Wash filter with its dryer: pressure filtration, caustic reslurry, displacement wash, drying, discharge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from drivers.tags import FloatArray
from simulators.components import (
    AMBIENT,
    GAS,
    HEAT,
    LIQUID_MASS,
    LIQUOR,
    NC,
    SALT,
    STRONG,
    VOLUME,
    WATER,
    WATER_HEAT,
    N,
    S,
    litres,
    vector,
)
from simulators.equilibrium import Equilibrium, Table, molal
from simulators.heats import Heats
from simulators.leach import Conductances, conductivity
from simulators.parameters import parameter
from simulators.precipitation import SOLID_MASS, Particles, Slurry
from simulators.vessels import SOLID_HEAT, Content, Ledger, Lines, Shell, approach, check_step, opening, within

__all__ = ["FilterDryer", "FilterParameters", "Product"]


@dataclass(frozen=True)
class FilterParameters:
    """Constants of the filter and dryer."""

    volume: float = parameter(2600.0, "L", "size", "of the vessel")
    area: float = parameter(10.0, "m2", "size", "of the cloth")
    resistance: float = parameter(3e10, "m/kg", "A", "process.md section 3, pCAM", range=(1e10, 1e11))
    medium: float = parameter(2e10, "1/m", "A", "of the cloth")
    viscosity: float = parameter(0.7e-3, "Pa s", "T", "1 M Na2SO4 near 50 degC")
    line: float = parameter(200.0, "L/min", "size", "of the water and of the caustic")
    stir_most: float = parameter(100.0, "rpm", "size", "of the stirrer")
    vacuum: float = parameter(-1.0, "bar", "size", "the least over ambient that the vacuum pump can hold")
    pressure_most: float = parameter(10.0, "bar", "size", "of the compressed gas")
    flow_most: float = parameter(200.0, "L/min", "size", "of the filtrate line")
    density: float = parameter(3.953, "kg/L", "T", "process.md section 3, of the solid")
    pores: float = parameter(0.6, "L/kg", "A", "process.md section 3: one bed volume")
    wash: float = parameter(0.7, "1", "A", "process.md section 3: exponent of the wash law, per bed volume")
    mixing: float = parameter(20.0, "s", "A", "pores against the liquid above while the stirrer runs")
    reslurry: float = parameter(900.0, "s", "A", "exchange of lattice sulfate")
    caustic_half: float = parameter(0.03, "mol/L", "A", "NaOH at which that runs at half its rate")
    wash_temperature: float = parameter(70.0, "degC", "size", "process.md section 2: hot water")
    heater: float = parameter(45.0, "kW", "size", "at 100 %")
    latent: float = parameter(2300.0, "kJ/kg", "T", "of water, 60-100 degC")
    boiling_slope: float = parameter(28.0, "K", "T", "boiling point per natural logarithm of the pressure")
    loss: float = parameter(0.12, "kW/K", "A", "to the room")
    transfer: float = parameter(0.0012, "kg/(s K)", "A", "evaporation per K above boiling")
    creep: float = parameter(0.02, "1", "A", "of `transfer`, below boiling")
    creep_span: float = parameter(40.0, "K", "A", "below boiling where evaporation begins")
    critical: float = parameter(0.15, "kg/kg", "A", "moisture where the rate begins to fall")
    bound: float = parameter(0.002, "kg/kg", "A", "moisture that stays")
    mass_capacity: float = parameter(400.0, "kJ/K", "size", "of the vessel")
    ions: Conductances = field(default_factory=Conductances)


@dataclass(frozen=True)
class Product:
    """What was discharged."""

    inventory: FloatArray  # with what the water left behind [mol; kg]
    solid: float  # [kg] dry
    particles: Particles
    moisture: float  # [%]


class FilterDryer:
    """Takes slurry in and gives filtrate; all else that leaves goes to the ledger, and the last product stays for the laboratory."""

    measures = (
        "pressure", "filtrate_flow", "conductivity", "filtrate_ph", "vessel_weight", "wash_flow", "caustic_flow", "temperature", "moisture",
        "slurry_level", "heater_power", "stirrer_speed",
    )  # fmt: skip
    sets = ("pressure_sp", "wash_flow_sp", "caustic_flow_sp", "heater", "stirrer_speed_sp", "drain", "discharge")

    def __init__(self, parameters: FilterParameters | None = None, table: Table | None = None, heats: Heats | None = None) -> None:
        self.p = parameters or FilterParameters()
        self.heats = heats or Heats()
        self.shell = Shell(self.p.mass_capacity)
        self.free: FloatArray = np.zeros(NC)  # liquid above the cake
        self.pore: FloatArray = np.zeros(NC)
        self.solids: FloatArray = np.zeros(NC)
        self.solid_mass = 0.0
        self.loose_s = 0.0
        self.particles = Particles()
        self.temperature = AMBIENT
        self.lines = Lines({"wash_flow": "water", "caustic_flow": "caustic"}, self.p.line)
        self.pressure = self.stirrer = self.heating = self.flow = 0.0
        self.chemistry = Equilibrium(table)
        self.mirror = (0.0, 7.0)  # conductivity [mS/cm at 25 degC basis] and pH of the last filtrate
        self.product: Product | None = None
        self._since = 1e9

    def room(self) -> float:
        """Return what the vessel can still take [L]."""
        return max(self.p.volume - litres(self.free) - litres(self.pore) - self.solid_mass / self.p.density, 0.0)

    def step(self, sp: Mapping[str, float], dt: float, slurry: Slurry | None, ledger: Ledger) -> FloatArray | None:
        """Advance by `dt` [s]; return the filtrate."""
        check_step(dt)
        p = self.p
        self.stirrer = approach(self.stirrer, within(sp["stirrer_speed_sp"], 0.0, p.stir_most), dt, 4.0)
        self.pressure = approach(self.pressure, within(sp["pressure_sp"], p.vacuum, p.pressure_most), dt, 8.0)
        self.flow = 0.0
        filtrate: FloatArray | None = None
        if slurry is not None:
            self.free += slurry.liquor
            self.solids += slurry.solids
            self.loose_s += slurry.loose_s
            self.particles.join(slurry.particles)
            self.solid_mass = float(SOLID_MASS.dot(self.solids))
        brought = self.lines.step(sp, dt, self.free, ledger, room=self.room)
        if brought > 0.0:  # through a heater
            heat = WATER_HEAT * brought * (p.wash_temperature - AMBIENT)
            self.free[HEAT] += heat
            ledger.warm("wash water", heat)
        if slurry is not None or litres(self.free) > 0.0 or litres(self.pore) > 0.0:
            self.temperature = self._even(0.0, 0.0, ledger)
            self._settle()
            if self.stirrer > 5.0 and sp["drain"] < 0.5:
                self._reslurry(dt)
            if sp["drain"] > 0.5 and self.pressure > 0.05:
                filtrate = self._drain(dt)
        self._heat(sp, dt, ledger)
        if sp["discharge"] > 0.5 and self.solid_mass > 0.0:
            self._discharge(ledger)
        return filtrate

    def _even(self, power: float, dt: float, ledger: Ledger) -> float:
        """Return the one temperature [degC] of vessel and content after `dt` [s] with `power` [kW] of heating, less what the room takes."""

        def warm(t: float, capacity: float) -> float:
            heat = (power - self.p.loss * (t - AMBIENT)) * dt
            ledger.warm("dryer", heat)
            return t + heat / capacity

        solids = self.solids
        inside = float(self.heats.salt.dot(solids))
        t, solids[HEAT] = self.shell.even((self.free, self.pore), float(solids[HEAT]), inside, self.solid_mass, warm)
        return t

    def _settle(self) -> None:
        """Fill the pores of the cake from the liquid above, as far as there is any."""
        need = self.p.pores * self.solid_mass - litres(self.pore)
        above = litres(self.free)
        if need > 1e-9 and above > 0.0:
            part = min(need / above, 1.0)
            self.pore += self.free * part
            self.free = self.free * (1.0 - part) if part < 1.0 else np.zeros(NC)

    def _reslurry(self, dt: float) -> None:
        """Mix pores and liquid above; caustic takes lattice sulfate out."""
        above, inside = litres(self.free), litres(self.pore)
        if above < 0.2 * inside or inside <= 0.0:
            return
        whole = self.free + self.pore
        mixed = whole * (inside / (above + inside))
        self.pore += (mixed - self.pore) * (1.0 - math.exp(-dt / self.p.mixing))
        self.free = whole - self.pore
        hydroxide = max(float(STRONG.dot(whole)), 0.0) / (above + inside)
        gone = self.loose_s * (1.0 - math.exp(-dt / self.p.reslurry * hydroxide / (hydroxide + self.p.caustic_half)))
        gone = min(gone, float(self.solids[S]))
        self.loose_s -= gone
        self.solids[S] -= gone
        self.free[S] += gone
        self.free[WATER] -= 2.0 * 0.018015 * gone  # M(OH)2 again, of the water
        self.solid_mass = float(SOLID_MASS.dot(self.solids))

    def _drain(self, dt: float) -> FloatArray | None:
        """Push liquid through the cake; what it displaces from the pores leaves by the wash law."""
        p = self.p
        above = litres(self.free)
        if above <= 1e-6:
            return None
        resistance = p.viscosity * (p.resistance * self.solid_mass / p.area + p.medium) / p.area
        volume = min(self.pressure * 1e5 / resistance * 1e3 * dt, above, p.flow_most / 60.0 * dt)
        part = volume / above if above - volume > 0.05 else 1.0
        through = self.free * part
        self.free = self.free - through if part < 1.0 else np.zeros(NC)
        inside = litres(self.pore)
        if inside > 0.1:
            share = 1.0 - math.exp(-p.wash * volume / inside)
            target = through * (inside / max(litres(through), 1e-12))
            change = (target - self.pore) * share
            # never more than came: with little liquid the pores take what there is
            linear = change[HEAT:].copy()  # the enthalpy may have either sign
            change = np.maximum(np.minimum(change, through), -self.pore)
            change[HEAT:] = linear
            # the pores keep their volume; water makes up the difference, if there is so much in what came
            change[WATER] -= float(VOLUME.dot(change)) / float(VOLUME[WATER])
            change[WATER] = min(max(change[WATER], -self.pore[WATER]), through[WATER])
            self.pore = self.pore + change
            through = through - change
        self.flow = volume / dt * 60.0
        self._since += dt
        if self._since >= 10.0:
            self._since = 0.0
            self._look(through)
        return through

    def _look(self, filtrate: FloatArray) -> None:
        """Set what the probes in the filtrate line see; every 10 s is enough."""
        volume = litres(filtrate)
        if volume <= 0.0:
            return
        if float(filtrate[WATER]) <= 0.0:
            return
        self.chemistry.solve(self.temperature, molal(filtrate))
        self.mirror = (conductivity(filtrate, volume, self.temperature, self.chemistry.ph, self.p.ions), self.chemistry.ph)

    def moisture(self) -> float:
        """Return water in the cake [kg per kg of dry solid]."""
        return float(self.pore[WATER] + self.free[WATER]) / self.solid_mass if self.solid_mass > 0.0 else 0.0

    def _heat(self, sp: Mapping[str, float], dt: float, ledger: Ledger) -> None:
        p = self.p
        self.heating = approach(self.heating, p.heater * opening(sp["heater"]), dt, 5.0)
        if self.heating <= 0.0 and abs(self.temperature - AMBIENT) < 0.01:
            return
        self.temperature = self._even(self.heating, dt, ledger)
        capacity = self.shell.capacity + SOLID_HEAT * self.solid_mass + WATER_HEAT * float(self.free[WATER] + self.pore[WATER])
        # boiling point over the pressure in the vessel, near enough between -0.9 and 3 bar
        absolute = min(max(self.pressure + 1.013, 0.08), 4.0)
        boiling = 100.0 + p.boiling_slope * math.log(absolute / 1.013)
        wet = max(float(self.pore[WATER]) - p.bound * self.solid_mass, 0.0) + float(self.free[WATER])
        if wet > 0.0 and self.temperature > boiling - p.creep_span and self.solid_mass > 0.0:
            # evaporation holds the cake near boiling while it is wet; below it only creeps
            drive = self.temperature - boiling if self.temperature > boiling else p.creep * (self.temperature - boiling + p.creep_span)
            falling = min(self.moisture() / p.critical, 1.0)
            most = max(self.temperature - (boiling - p.creep_span), 0.0) * capacity / p.latent * 0.5
            gone = min(p.transfer * drive * falling * dt, wet, most)
            above = min(gone, float(self.free[WATER]))
            self.free[WATER] -= above
            share = (gone - above) / float(self.pore[WATER]) if self.pore[WATER] > 0.0 else 0.0
            self.pore[WATER] -= gone - above
            ammonia = float(self.pore[N]) * min(share, 1.0)
            self.pore[N] -= ammonia
            gas = vector({N: ammonia, WATER: gone})
            gas[HEAT] = gone * (p.latent + WATER_HEAT * (self.temperature - 25.0)) + ammonia * self.heats.of[GAS, N]
            self.free[HEAT] -= gas[HEAT]
            ledger.leave("off-gas", gas, GAS)
            self.temperature = self._even(0.0, 0.0, ledger)

    def _discharge(self, ledger: Ledger) -> None:
        inventory = self.solids + self.pore + self.free
        moisture = 100.0 * self.moisture() / (1.0 + self.moisture())
        self.product = Product(inventory, self.solid_mass, self.particles, moisture)
        ledger.leave("product", self.solids, SALT)
        ledger.leave("product", self.pore + self.free)
        self.free, self.pore, self.solids = np.zeros(NC), np.zeros(NC), np.zeros(NC)
        self.solid_mass = self.loose_s = 0.0
        self.particles = Particles()

    def content(self) -> Product | None:
        """Return what lies in the vessel, or the last product when it is empty."""
        if self.solid_mass > 0.0:
            moisture = self.moisture()
            return Product(self.solids + self.pore + self.free, self.solid_mass, self.particles, 100.0 * moisture / (1.0 + moisture))
        return self.product

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        above = litres(self.free)
        weight = self.solid_mass + float(LIQUID_MASS.dot(self.free) + LIQUID_MASS.dot(self.pore))
        water = self.moisture()
        flow = self.lines.flow
        return (
            self.pressure, self.flow, self.mirror[0], self.mirror[1], weight, flow["wash_flow"], flow["caustic_flow"], self.temperature,
            100.0 * water / (1.0 + water), 100.0 * above / self.p.volume, self.heating, self.stirrer,
        )  # fmt: skip

    def holds(self) -> Content:
        """Return all that the vessel holds."""
        return [(self.solids, SALT), (self.pore, LIQUOR), (self.free, LIQUOR), (vector({HEAT: self.shell.heat}), LIQUOR)]
