"""Co-precipitation reactor: fed-batch, hydroxide solid solution in ammonia, moments of the particle size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from drivers.tags import FloatArray
from simulators.components import (
    AL,
    AMBIENT,
    BOUND,
    CA,
    CO,
    CU,
    FE2,
    FE3,
    GAS,
    H2O2,
    HEAT,
    HO_LIQUOR,
    HO_SALT,
    LI,
    LIQUID_MASS,
    LIQUOR,
    MG,
    MN,
    NA,
    NAMES,
    NC,
    NI,
    SALT,
    SI,
    WATER,
    ZN,
    C,
    F,
    N,
    S,
    litres,
    vector,
)
from simulators.constants import HYDROXIDES
from simulators.equilibrium import Equilibrium, Table, molal
from simulators.heats import Heats, bound
from simulators.parameters import parameter
from simulators.purification import PurificationTank
from simulators.vessels import SOLID_HEAT, Content, Jacket, JacketParameters, Ledger, Lines, Shell, approach, boil, check_step, opening, react, within

__all__ = ["SOLID_MASS", "Particles", "Reactor", "ReactorParameters", "Slurry"]

_METALS = [NI, CO, MN]
_PLACES = [NAMES.index(solid.metal) for solid in HYDROXIDES]
_CHARGE = [-solid.of["H"] for solid in HYDROXIDES]
_SHARES = [1.0 if place in _METALS else 0.0 for place in _PLACES]  # impurities go as guests, not as hydroxides of their own
_GROWTH = 10.0  # [um] that a crystal can grow in a step; in a plant it takes the hours of a feed
SOLID_MASS = LIQUID_MASS.copy()  # [kg/mol] of what is in the product: Ni, Co, Mn and the impurities as hydroxides
SOLID_MASS[_PLACES] += 0.017007 * np.array(_CHARGE)
SOLID_MASS[[H2O2, WATER]] = 0.0
_METAL_MASS = {place: float(SOLID_MASS[place]) for place in _METALS}


@dataclass(frozen=True)
class ReactorParameters:
    """Constants of the precipitation.

    `take_*` is the share of an impurity that the growing solid takes as a guest, far below the solubility of its own hydroxide: Al as
    layered double hydroxide where alone it would be aluminate, Cu and Zn in spite of their ammines (to the safe side).
    """

    volume: float = parameter(6800.0, "L", "size", "process.md section 2: to the overflow, where every feed stops")
    gas: float = parameter(7.6, "m3", "size", "vessel with its dome")
    density: float = parameter(3953.0, "kg/m3", "T", "process.md section 3, of the product")
    seed_size: float = parameter(3.0, "um", "size", "process.md section 3: volume median of the seed")
    seed_spread: float = parameter(0.2, "1", "size", "process.md section 3: sigma of ln L")
    birth: float = parameter(2e5, "1/(m3 s)", "A", "B0 at the nominal plume and `rpm`, calibrated: the nominal recipe ends at D50 10 um")
    birth_size: float = parameter(0.1, "um", "T", "process.md section 3: L0")
    birth_order: float = parameter(2.5, "1", "A", "process.md section 3")
    plume_metal: float = parameter(0.8, "mol/L", "T", "process.md section 3: metal of the feed at the nominal plume")
    plume_ammonia: float = parameter(0.4, "mol/L", "T", "process.md section 3: NH3 at the nominal plume")
    rpm: float = parameter(200.0, "rpm", "size", "nominal")
    rpm_most: float = parameter(500.0, "rpm", "size", "of the stirrer")
    line: float = parameter(6000.0, "L/h", "size", "of the feed and of a dosing line")
    nitrogen_most: float = parameter(100.0, "Nm3/h", "size", "of the supply")
    seed_most: float = parameter(100.0, "kg/h", "size", "of the feeder of seed")
    rpm_least: float = parameter(20.0, "rpm", "A", "that a stirrer at rest counts for")
    sulfate: float = parameter(0.0017, "kg/kg", "A", "process.md section 3: lattice S at pH 11 and 10 h")
    sulfate_mean: float = parameter(0.8, "1", "T", "makes the mean over a feed at constant rate the value at its whole time")
    sulfate_order: float = parameter(0.2, "1", "A", "process.md section 3: of the feed time")
    leachable: float = parameter(0.42, "1", "A", "process.md section 3: share of lattice S that a caustic reslurry can reach")
    sodium: float = parameter(120e-6, "kg/kg", "A", "process.md section 3: lattice Na")
    nitrogen: float = parameter(5e-4, "kg/kg", "A", "process.md section 3: lattice NH3")
    lithium: float = parameter(30e-6, "kg/kg", "A", "lattice Li")
    carbonate: float = parameter(0.9, "1", "A", "share of the caustic's carbonate that the solid takes", range=(0.7, 1.0))
    take_al: float = parameter(0.97, "1", "A", "as a guest", range=(0.9, 1.0))
    take_fe: float = parameter(1.0, "1", "A", "as a guest", range=(0.95, 1.0))
    take_cu: float = parameter(0.98, "1", "A", "as a guest", range=(0.8, 1.0))
    take_zn: float = parameter(0.95, "1", "A", "as a guest", range=(0.75, 1.0))
    take_mg: float = parameter(0.95, "1", "A", "as a guest", range=(0.8, 1.0))
    take_ca: float = parameter(0.15, "1", "A", "process.md section 3", range=(0.10, 0.20))
    take_si: float = parameter(0.95, "1", "A", "as a guest", range=(0.8, 1.0))
    take_f: float = parameter(0.01, "1", "A", "as a guest")
    impurity: float = parameter(120.0, "s", "A", "time constant of the guests")
    compact_ph: float = parameter(11.0, "1", "L", "process.md section 3: pH of round, dense particles")
    compact_ph_band: float = parameter(0.4, "1", "A", "process.md section 3: about it")
    compact_ph_width: float = parameter(0.4, "1", "A", "process.md section 3: fall outside")
    compact_thin: float = parameter(0.3, "mol/L", "A", "process.md section 3: least NH3 of dense particles")
    compact_rich: float = parameter(0.6, "mol/L", "A", "process.md section 3: most NH3 of dense particles")
    compact_width: float = parameter(0.2, "mol/L", "A", "process.md section 3: fall outside")
    tap_loose: float = parameter(1.2, "g/cm3", "calibrated", "process.md section 3: tap density of loose particles; the nominal recipe passes")
    tap_gain: float = parameter(0.9, "g/cm3", "calibrated", "process.md section 3: more of dense ones; the nominal recipe passes")
    tap_time: float = parameter(14400.0, "s", "A", "process.md section 3: growth that makes them dense")
    leak: float = parameter(0.3, "Nm3/h", "A", "of air")
    henry: float = parameter(59.0, "mol/(L atm)", "T", "process.md section 3: NH3 at 25 degC")
    henry_turn: float = parameter(4255.0, "K", "T", "process.md section 3: 16 at 55 degC")
    peroxide_life: float = parameter(300.0, "s", "A", "alkaline: peroxide falls apart")
    room: float = parameter(2.0, "ppm", "A", "NH3 in the room's air at `room_ammonia`")
    room_ammonia: float = parameter(0.35, "mol/kg", "T", "free NH3 at 0.42 M and 50 degC")
    power: float = parameter(10.0, "kW", "size", "stirrer at `rpm` and 6 m3")
    pump: float = parameter(12000.0, "L/h", "size", "at 100 %")
    jacket: JacketParameters = field(default_factory=lambda: JacketParameters(ua=3.2))


class Particles:
    """Moments 0 to 5 of the crystals' size [um^k, number], and the history that decides tap density."""

    def __init__(self) -> None:
        self.m = [0.0] * 6
        self.compact = 0.0  # mass-weighted f of the tap density [kg]
        self.mass = 0.0  # [kg] grown or seeded
        self.grown = 0.0  # [kg] without the seed
        self.time = 0.0  # of the growth, mass over rate [s]

    def seed(self, kg: float, size: float, spread: float, density: float) -> None:
        """Add crystals with a lognormal size: volume median `size` [um]."""
        volume = kg / density * 1e18  # [um3]
        mu = math.log(size) - 3.0 * spread**2
        m3 = math.exp(3.0 * mu + 4.5 * spread**2)
        number = volume / (math.pi / 6.0 * m3)
        for k in range(6):
            self.m[k] += number * math.exp(k * mu + 0.5 * (k * spread) ** 2)
        self.mass += kg
        self.compact += kg

    def grow(self, kg: float, born: float, size: float, density: float, compact: float) -> None:
        """Grow by `kg`, with `born` new crystals of `size` [um]."""
        m = self.m
        if kg < 0.0:
            keep = max(1.0 + kg / self.mass, 0.0) if self.mass > 0.0 else 0.0
            self.m = [x * keep for x in m]
            self.mass, self.compact, self.grown = self.mass * keep, self.compact * keep, self.grown * keep
            return
        if kg == 0.0:
            return
        volume = kg / density * 1e18 * 6.0 / math.pi  # rise of m3 [um3]
        fresh = min(born * size**3, volume) if m[2] > 0.0 else volume
        step = (volume - fresh) / (3.0 * m[2]) if m[2] > 0.0 else 0.0  # growth [um]
        if step > _GROWTH:  # a surface as good as none: what it cannot take is born
            step, fresh = _GROWTH, volume - 3.0 * m[2] * _GROWTH
        born = fresh / size**3
        for k in range(5, 0, -1):
            m[k] += k * step * m[k - 1] + born * size**k
        m[0] += born
        # m3 follows the mass exactly; the rest carries the error of the step
        self.mass += kg
        self.grown += kg
        self.compact += compact * kg

    def percentiles(self) -> tuple[float, float, float]:
        """Return D10, D50, D90 by volume [um], lognormal through m3, m4, m5."""
        m3, m4, m5 = self.m[3], self.m[4], self.m[5]
        if m3 <= 0.0 or m4 <= 0.0:
            return (0.0, 0.0, 0.0)
        spread = math.sqrt(max(math.log(max(m5 / m4 * (m3 / m4), 1.0)), 0.0))
        median = m4 / m3 * math.exp(-0.5 * spread**2)
        return (median * math.exp(-1.2816 * spread), median, median * math.exp(1.2816 * spread))

    def tap(self, p: ReactorParameters) -> float:
        """Return the tap density [g/cm3]."""
        if self.mass <= 0.0:
            return 0.0
        return p.tap_loose + p.tap_gain * self.compact / self.mass * (1.0 - math.exp(-self.time / p.tap_time))

    def take(self, part: float) -> Particles:
        """Split off a share of the crystals."""
        other = Particles()
        other.m = [x * part for x in self.m]
        other.mass, other.compact, other.grown, other.time = self.mass * part, self.compact * part, self.grown * part, self.time
        keep = 1.0 - part
        self.m = [x * keep for x in self.m]
        self.mass, self.compact, self.grown = self.mass * keep, self.compact * keep, self.grown * keep
        return other

    def join(self, other: Particles) -> None:
        """Add other crystals."""
        whole = self.mass + other.mass
        if whole > 0.0:
            self.time = (self.time * self.mass + other.time * other.mass) / whole
        self.m = [a + b for a, b in zip(self.m, other.m, strict=True)]
        self.mass, self.compact, self.grown = whole, self.compact + other.compact, self.grown + other.grown


@dataclass
class Slurry:
    """What moves from the reactor to the wash filter."""

    liquor: FloatArray
    solids: FloatArray
    loose_s: float  # lattice S that caustic can reach [mol]
    particles: Particles


class Reactor:
    """Fed from the clear-liquor tank. `step` returns the slurry pumped to the wash filter."""

    measures = (
        "temperature", "ph_a", "ph_b", "ammonia", "oxygen", "volume", "d50", "stirrer_speed", "stirrer_power", "feed_flow", "naoh_flow",
        "ammonia_flow", "water_flow", "nitrogen_flow", "jacket_temperature", "room_ammonia", "transfer_flow",
    )  # fmt: skip
    sets = (
        "feed_flow_sp", "naoh_flow_sp", "ammonia_flow_sp", "water_flow_sp", "nitrogen_flow_sp", "stirrer_speed_sp", "jacket_valve",
        "transfer_pump", "seed_rate_sp",
    )  # fmt: skip

    def __init__(
        self, ratio: FloatArray, parameters: ReactorParameters | None = None, table: Table | None = None, heats: Heats | None = None
    ) -> None:
        self.heats = heats or Heats()
        self.p = p = parameters or ReactorParameters()
        self._takes = (
            (AL, p.take_al), (FE2, p.take_fe), (FE3, p.take_fe), (CU, p.take_cu), (ZN, p.take_zn), (MG, p.take_mg), (CA, p.take_ca),
            (SI, p.take_si), (F, p.take_f),
        )  # fmt: skip
        self.ratio = ratio if float(ratio.sum()) > 0.0 else np.full(3, 1.0 / 3.0)  # Ni, Co, Mn of the seed, shape (3,)
        self.liquor: FloatArray = np.zeros(NC)
        self.solids: FloatArray = np.zeros(NC)
        self.loose_s = 0.0
        self.particles = Particles()
        self.temperature = AMBIENT
        self.shell = Shell()
        self.chemistry = Equilibrium(table)
        self.jacket = Jacket(self.p.jacket)
        self.lines = Lines({"naoh_flow": "naoh", "ammonia_flow": "ammonia", "water_flow": "water"}, self.p.line, per_second=1.0 / 3600.0)
        self.oxygen = 20.9
        self.feed = self.nitrogen = self.stirrer = self.seeding = self.moved = 0.0
        self.solid_mass = 0.0
        self._rate = 0.0

    def volume(self) -> float:
        """Return the slurry's volume [L]."""
        return litres(self.liquor) + self.solid_mass / self.p.density * 1e3

    def step(self, sp: Mapping[str, float], dt: float, source: PurificationTank, room: Callable[[], float], ledger: Ledger) -> Slurry | None:
        """Advance by `dt` [s]; `room` tells what the wash filter can take [L]."""
        check_step(dt)
        p = self.p
        self.stirrer = approach(self.stirrer, within(sp["stirrer_speed_sp"], 0.0, p.rpm_most), dt, 5.0)
        self.nitrogen = approach(self.nitrogen, within(sp["nitrogen_flow_sp"], 0.0, p.nitrogen_most), dt, 4.0)
        self.seeding = approach(self.seeding, within(sp["seed_rate_sp"], 0.0, p.seed_most), dt, 3.0)
        free = p.volume - self.volume()
        self.lines.step(sp, dt, self.liquor, ledger, room=lambda: free)
        target = within(sp["feed_flow_sp"], 0.0, p.line) if free > 0.0 else 0.0
        self.feed = approach(self.feed, target, dt, 3.0)
        strength = 0.0
        if self.feed > 0.0:
            new = source.draw(self.feed * dt / 3600.0)
            fed = litres(new)
            if fed < 0.5 * self.feed * dt / 3600.0:
                self.feed = fed / dt * 3600.0  # the clear-liquor tank has run dry
            strength = float(new[NI] + new[CO] + new[MN]) / fed if fed > 0.0 else 0.0
            self.liquor += new
        if self.seeding > 0.0:
            self._seed(self.seeding * dt / 3600.0, ledger)
        n = self.liquor
        volume = litres(n)
        if volume > 1.0 or n[H2O2] > 0.0:
            before = HO_LIQUOR.dot(n) + HO_SALT.dot(self.solids)
            if volume > 1.0:
                self._precipitate(volume, strength, dt)
            n[H2O2] *= math.exp(-dt / p.peroxide_life)
            react(n, before, HO_LIQUOR.dot(n) + HO_SALT.dot(self.solids), 0.0, ledger, 0.0)
        if volume > 1.0:
            n[BOUND] = bound(n, self.chemistry.heat, self.heats)
        self._gas(volume, dt, ledger)
        warm = self.jacket.warming(sp["jacket_valve"], dt, ledger, self._power(self.volume()))
        solids = self.solids
        inside = float(self.heats.salt.dot(solids))
        self.temperature, solids[HEAT] = self.shell.even((n,), float(solids[HEAT]), inside, self.solid_mass, warm)
        if self.temperature > 100.0:
            boil(n, self.temperature, self.heats.p.boiling, ledger)
        return self._pump(opening(sp["transfer_pump"]), dt, room)

    def _power(self, volume: float) -> float:
        return self.p.power * (self.stirrer / self.p.rpm) ** 3 * min(volume / 6000.0, 1.0)

    def _seed(self, kg: float, ledger: Ledger) -> None:
        metal = float(self.ratio @ SOLID_MASS[_METALS])
        new = np.zeros(NC)
        new[_METALS] = self.ratio * (kg / metal)
        new[HEAT] = float(self.heats.salt.dot(new)) + SOLID_HEAT * kg * (AMBIENT - 25.0)
        ledger.enter("seed", new, SALT)
        self.solids += new
        self.particles.seed(kg, self.p.seed_size, self.p.seed_spread, self.p.density)

    def _precipitate(self, volume: float, fed: float, dt: float) -> None:
        """Solve pH with the metals in equilibrium; `fed` is the strength of the feed [mol/L], 0 while nothing is fed."""
        p = self.p
        n, solid = self.liquor, self.solids
        water = float(n[WATER])
        if water <= 0.0:
            return
        inverse = 1.0 / water
        x, y = n.tolist(), solid.tolist()
        slow = 1.0 - math.exp(-dt / p.impurity)
        self.chemistry.solve(self.temperature, molal(n), [y[place] * inverse for place in _PLACES], ahead=_SHARES, back=_SHARES)
        kg = 0.0
        for place, left in zip(_PLACES, self.chemistry.left, strict=True):
            change = max(min(x[place] - left * water, x[place]), -y[place])
            n[place] = x[place] - change
            solid[place] = y[place] + change
            if place in _METALS:
                kg += change * _METAL_MASS[place]
        if kg > 0.0:
            self._lattice(kg, dt)
            for place, share in self._takes:
                if x[place] > 0.0:
                    take = max(share * (x[place] + y[place]) - y[place], 0.0) * slow
                    n[place] -= take
                    solid[place] += take
            carbon = float(n[C]) * p.carbonate * slow
            n[C] -= carbon
            solid[C] += carbon
            plume = fed / p.plume_metal * math.sqrt(p.plume_ammonia / max(x[N] * inverse, 0.02))
            born = p.birth * plume**p.birth_order * (max(self.stirrer, p.rpm_least) / p.rpm) * (volume * 1e-3) * dt
            self.particles.grow(kg, born, p.birth_size, p.density, self._compact(x[N] * inverse))
        elif kg < 0.0:
            self._shrink(kg)
        self.solid_mass = float(SOLID_MASS.dot(solid))

    def _lattice(self, kg: float, dt: float) -> None:
        """Build sulfate, sodium, ammonia and lithium into `kg` of new solid."""
        p, n, solid = self.p, self.liquor, self.solids
        crystals = self.particles
        self._rate += (kg / dt - self._rate) * (1.0 - math.exp(-dt / 300.0))
        # time scale of the growth
        tau = max(crystals.grown / max(self._rate, 1e-9), 600.0) if self._rate > 0.0 else 600.0
        if self._rate > 1e-4:
            crystals.time = max(crystals.time, tau)
        ph = min(max(self.chemistry.ph, 8.0), 13.0)
        sulfur = p.sulfate * math.exp(-(ph - 11.0)) * p.sulfate_mean * (36000.0 / min(tau, 72000.0)) ** p.sulfate_order * kg / 0.03206
        for place, amount in (
            (S, sulfur), (NA, p.sodium * kg / 0.02299), (N, p.nitrogen * kg / 0.01703), (LI, p.lithium * kg / 0.00694),
        ):  # fmt: skip
            there = float(n[place])
            amount = min(amount, 0.2 * there)
            n[place] = there - amount
            solid[place] += amount
            if place == S:
                self.loose_s += p.leachable * amount

    def _shrink(self, kg: float) -> None:
        """Give back what was built in when the solid dissolves by `-kg`."""
        share = min(-kg / max(self.solid_mass, 1e-9), 1.0)
        for place in (S, NA, N, LI, C, *(row[0] for row in self._takes)):
            back = float(self.solids[place]) * share
            self.solids[place] -= back
            self.liquor[place] += back
        self.loose_s *= 1.0 - share
        self.particles.grow(kg, 0.0, 0.0, self.p.density, 0.0)

    def _compact(self, ammonia: float) -> float:
        p = self.p
        out = max(abs(self.chemistry.ph - p.compact_ph) - p.compact_ph_band, 0.0) / p.compact_ph_width
        thin = max(p.compact_thin - ammonia, ammonia - p.compact_rich, 0.0) / p.compact_width
        return math.exp(-(out**2) - thin**2)

    def _gas(self, volume: float, dt: float, ledger: Ledger) -> None:
        """Purge the head space; strip ammonia with the nitrogen."""
        p = self.p
        head = max(p.gas - self.volume() * 1e-3, 0.3)
        flow = p.leak + self.nitrogen
        limit = 20.9 * p.leak / flow
        self.oxygen = limit + (self.oxygen - limit) * math.exp(-flow / 3600.0 / head * dt)
        if volume > 1.0 and self.nitrogen > 0.0 and self.liquor[N] > 0.0:
            henry = p.henry * math.exp(-p.henry_turn * (1.0 / 298.15 - 1.0 / (self.temperature + 273.15)))
            share = min(self.chemistry.ammonia / henry, 0.5)
            lost = min(self.nitrogen / 3600.0 / 0.022414 * share / (1.0 - share) * dt, 0.1 * float(self.liquor[N]))
            gas = vector({N: lost, HEAT: self.heats.of[GAS, N] * lost})
            self.liquor -= gas
            ledger.leave("off-gas", gas, GAS)

    def _pump(self, share: float, dt: float, room: Callable[[], float]) -> Slurry | None:
        self.moved = 0.0
        if share <= 0.0 or (volume := self.volume()) <= 0.0 or (most := room()) <= 0.0:
            return None
        moved = min(share * self.p.pump * dt / 3600.0, volume, most)
        part = 1.0 if volume - moved < 1.0 else moved / volume
        self.moved = moved / dt * 3600.0
        out = Slurry(self.liquor * part, self.solids * part, self.loose_s * part, self.particles.take(part))
        if part == 1.0:
            self.liquor, self.solids, self.loose_s, self.solid_mass, self.particles = np.zeros(NC), np.zeros(NC), 0.0, 0.0, Particles()
            self._rate = 0.0
        else:
            self.liquor -= out.liquor
            self.solids -= out.solids
            self.loose_s -= out.loose_s
            self.solid_mass *= 1.0 - part
        return out

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        liquid = litres(self.liquor)
        wet = liquid > 20.0
        ph = self.chemistry.ph if wet else 7.0
        ammonia = float(self.liquor[N]) / liquid if wet else 0.0
        volume = liquid + self.solid_mass / self.p.density * 1e3
        flow = self.lines.flow
        return (
            self.temperature, ph, ph, ammonia, self.oxygen, volume * 1e-3,
            self.particles.percentiles()[1],
            self.stirrer, self._power(volume), self.feed, flow["naoh_flow"], flow["ammonia_flow"], flow["water_flow"], self.nitrogen,
            self.jacket.temperature, self.p.room * (self.chemistry.ammonia if wet else 0.0) / self.p.room_ammonia, self.moved,
        )  # fmt: skip

    def holds(self) -> Content:
        """Return all that the reactor holds."""
        return [(self.liquor, LIQUOR), (self.solids, SALT), (vector({HEAT: self.shell.heat}), LIQUOR)]
