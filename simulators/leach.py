"""Leach tank: dissolution of black mass by size class in sulfuric acid with peroxide, and the leach press behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drivers.tags import FloatArray
from simulators.components import (
    AL,
    CA,
    CL,
    CO,
    CU,
    FE2,
    FE3,
    H2O2,
    LI,
    LIQUID_MASS,
    MG,
    MN,
    NA,
    NC,
    NI,
    SI,
    STRONG,
    WATER,
    ZN,
    C,
    F,
    K,
    N,
    S,
    heat_capacity,
    litres,
)
from simulators.constants import HYDROXIDES
from simulators.equilibrium import Equilibrium, Table, molal
from simulators.feed import Feed
from simulators.vessels import AMBIENT, Jacket, Ledger, Lines, Press, PressParameters, approach

__all__ = ["LeachParameters", "LeachTank", "conductivity"]

# mass [kg/mol] of what is solid here: Ni, Co, Mn with two O; metals, graphite
_SOLID_MASS = LIQUID_MASS.copy()
_SOLID_MASS[[NI, CO, MN]] += 0.032
_SOLID_MASS[[C, S, N]] = 0.01201, 0.03206, 0.01401
_SOLID_MASS[[H2O2, WATER]] = 0.0
_STAYS = (0.0,) * len(HYDROXIDES)
_TRACE = (CA, MG, ZN, NA, K, CL)


@dataclass(frozen=True)
class LeachParameters:
    """Constants of the leach; [A] with a factor of 1.3 up and down where no source is named."""

    volume: float = 4500.0  # [L]
    sizes: tuple[float, ...] = (4.8, 9.3, 13.2, 16.8, 21.5)  # of the active particles [um], Rosin-Rammler n = 2, d50 10 um
    shares: tuple[float, ...] = (0.30, 0.30, 0.20, 0.12, 0.08)  # of the mass, denser in the coarse tail
    solid_density: float = 2.6  # [kg/L]
    rate: float = 7.1e-4  # 1/tr of 10 um at 40 degC, aH = 1 and much peroxide [1/s]; from 99.7 % in 60 min through the whole law
    activation: float = 40.0  # [kJ/mol] 30-50
    acid_order: float = 0.6
    diffusion: float = 3500.0  # td of 10 um at 70 degC in black mass [s]; fitted to 97 % at 90 min; none in clean cathode
    diffusion_activation: float = 20.0  # [kJ/mol]
    half_peroxide: float = 0.05  # [mol/L]
    unreduced: float = 0.01  # rate without reductant, as a share; 0.03 in the basis, where `rate` is a third of the one fitted here
    free_share: float = 0.35  # of the transition metals that needs no reductant
    lithium_lead: float = 1.2  # Li left = (1 - X)^lead
    al: float = 1.0 / 1800.0  # at 70 degC [1/s]
    fe: float = 1.0 / 600.0
    cu: float = 1.0 / 1800.0
    al_reduces: float = 0.30  # share of Al that reduces oxide instead of making H2
    fluoride: float = 0.30  # soluble share 0.10-0.60
    silicon: float = 0.10
    trace: float = 1.0 / 600.0  # [1/s]
    peroxide_loss: tuple[float, float, float] = (1e-4, 2e-3, 5e-3)  # 1/s; per mol/L Cu; per mol/L Fe, at 70 degC
    peroxide_activation: float = 57.0  # [kJ/mol]
    fe_peroxide: float = 76.0  # [L/mol/s]
    heat_oxide: float = 170.0  # [kJ/mol] 130-210
    heat_al: float = 531.0
    heat_peroxide: float = 95.0
    heat_acid: float = 72.0  # of dilution
    offgas: float = 12.4  # [mol/s], 1,000 Nm3/h
    conductivity: float = 1.0  # factor 0.85-1.15


def conductivity(liquor: FloatArray, volume: float, t: float, ph: float) -> float:
    """Return [mS/cm] of a liquor: sum of lambda c with the root law of process.md section 3."""
    if volume < 0.1:
        return 0.0
    c = liquor / volume
    h = min(math.pow(10.0, -ph) * 1.2, 5.0)
    oh = min(math.pow(10.0, ph - 13.3), 10.0)
    two = float(c[NI] + c[CO] + c[MN] + c[FE2] + c[MG] + c[CA] + c[ZN] + c[CU])
    ionic = 0.5 * float(c[NA] + c[LI]) + 2.0 * float(c[S]) + 0.5 * (h + oh)
    whole = 50 * float(c[NA]) + 39 * float(c[LI]) + 100 * two * 0.5 + 120 * float(c[S]) + 350 * h + 198 * oh + 15 * float(c[N]) + 74 * float(c[K])
    # free ions fall with pairing; the root law alone would turn negative above 8 M
    return max(whole * max(1.0 - 0.35 * math.sqrt(min(ionic, 4.0)), 0.25), 0.002) * (1.0 + 0.02 * (t - 25.0))


class LeachTank:
    """The tank and its press. `step` returns the filtrate [mol] and its solids that passed the cloth."""

    measures = (
        "temperature", "ph", "orp", "conductivity", "density", "volume", "hydrogen", "pressure", "stirrer_speed", "acid_flow",
        "peroxide_flow", "water_flow", "jacket_temperature", "press_pressure", "filtrate_flow", "press_cake",
    )  # fmt: skip
    sets = (
        "acid_flow_sp", "peroxide_flow_sp", "water_flow_sp", "jacket_valve", "stirrer_speed_sp", "transfer_pump", "press_wash_flow_sp",
        "press_discharge",
    )  # fmt: skip

    def __init__(self, feed: Feed, parameters: LeachParameters | None = None, table: Table | None = None) -> None:
        self.p = parameters or LeachParameters()
        self.feed = feed
        per_kg = feed.per_kg()
        self.per_kg = per_kg
        self.metal_share = per_kg[[NI, CO, MN]] / max(float(per_kg[[NI, CO, MN]].sum()), 1e-12)
        self.liquor: FloatArray = np.zeros(NC)
        self.solids: FloatArray = np.zeros(NC)
        self.fed = [0.0] * len(self.p.sizes)  # mol of Ni+Co+Mn brought into each size class
        self.left = [0.0] * len(self.p.sizes)  # not yet dissolved
        self.soluble_f = self.soluble_si = 0.0
        self.lithium_fed = 0.0
        self.solid_mass = 0.0
        self.temperature = AMBIENT
        self.chemistry = Equilibrium(table)
        self.jacket = Jacket()
        self.lines = Lines({"acid_flow": "acid", "peroxide_flow": "peroxide", "water_flow": "water"})
        self.press = Press(PressParameters(), _SOLID_MASS[None, :])
        self.stirrer = 0.0
        self.hydrogen = self.vented = 0.0  # [mol/s] of H2 and of all gas made
        self.orp = 200.0
        self.charged = 0.0  # Ni+Co+Mn [mol]

    def volume(self) -> float:
        """Return the slurry's volume [L]."""
        return litres(self.liquor) + self.solid_mass / self.p.solid_density

    def step(self, sp: Mapping[str, float], dt: float, black_mass: float, ledger: Ledger) -> tuple[FloatArray | None, FloatArray | None]:
        """Advance by `dt` [s] with `black_mass` [kg] falling in."""
        p = self.p
        self.stirrer = approach(self.stirrer, sp["stirrer_speed_sp"], dt, 5.0)
        if black_mass > 0.0:
            self._charge(black_mass)
        before = litres(self.liquor)
        acid_before = ledger.dosed.get("acid", 0.0)
        brought = self.lines.step(sp, dt, self.liquor, ledger, room=p.volume - self.volume())
        self.hydrogen = self.vented = 0.0
        heat = (ledger.dosed.get("acid", 0.0) - acid_before) * 18.0 * p.heat_acid
        volume = litres(self.liquor)
        if volume > 1.0:
            if brought > 0.0:
                share = min(brought / volume, 1.0)
                self.temperature += (AMBIENT - self.temperature) * (share if before > 1.0 else 1.0)
            # no hydroxide forms here: what an acid leach lacks in acid it shows as a pH that is too high
            self.chemistry.solve(self.temperature, molal(self.liquor), ahead=_STAYS, back=_STAYS)
            if self.solid_mass > 1e-6:
                heat += self._dissolve(volume, dt)
            heat += self._oxidise(volume, dt)
        capacity = heat_capacity(self.liquor, self.solid_mass)
        # boiling takes away what would go above 102 degC; an empty tank follows the jacket slowly
        self.temperature = min(self.jacket.heat(self.temperature + heat / max(capacity, 200.0), sp["jacket_valve"], dt, max(capacity, 200.0)), 102.0)
        return self._transfer(sp, dt, ledger)

    def _charge(self, kg: float) -> None:
        new = self.per_kg * kg
        self.solids += new
        metals = float(new[NI] + new[CO] + new[MN])
        self.charged += metals
        for place, share in enumerate(self.p.shares):
            self.fed[place] += share * metals
            self.left[place] += share * metals
        self.lithium_fed += float(new[LI])
        self.soluble_f += self.p.fluoride * float(new[F])
        self.soluble_si += self.p.silicon * float(new[SI])
        self.solid_mass = float(_SOLID_MASS.dot(self.solids))

    def _dissolve(self, volume: float, dt: float) -> float:
        """Dissolve solids for `dt` [s]; return the heat [kJ]."""
        p = self.p
        t = self.temperature + 273.15
        proton = 10.0 ** -min(self.chemistry.ph, 14.0)
        n, solids = self.liquor, self.solids
        stirred = min(0.3 + self.stirrer / 80.0, 1.0)
        # protons that are there to be used; keeps the step from running past neutral
        free = max(-float(STRONG.dot(n)) - 2.0 * float(n[NI] + n[CO] + n[MN] + n[CU]) - 3.0 * float(n[AL] + n[FE3]), 0.0)
        peroxide = max(float(n[H2O2]), 0.0)
        h = peroxide / volume
        r = h / (h + p.half_peroxide)
        turn = 1.0 / 313.15 - 1.0 / t
        rate = p.rate * self.feed.reactivity * math.exp(p.activation / 8.314e-3 * turn) * min(proton, 3.0) ** p.acid_order * stirred
        slow = p.diffusion * math.exp(p.diffusion_activation / 8.314e-3 * (1.0 / t - 1.0 / 343.15))
        gone = [0.0] * len(p.sizes)
        needs = 0.0
        for place, size in enumerate(p.sizes):
            left = self.left[place]
            if left <= 0.0:
                continue
            remain = left / self.fed[place]
            if remain < 1e-9:  # the last of it
                gone[place] = left
                continue
            blend = min(max(((1.0 - remain) - p.free_share + 0.05) / 0.1, 0.0), 1.0)  # 0: needs no reductant, 1: does
            factor = (1.0 - blend) + blend * (r + p.unreduced)
            cube = remain ** (1.0 / 3.0)
            tr = 10.0 / size * rate * factor
            if tr <= 0.0:
                continue
            dx = min(dt / (1.0 / (3.0 * tr * cube * cube) + 2.0 * slow * (size * 0.1) ** 2 * (1.0 / cube - 1.0)), remain)
            gone[place] = dx * self.fed[place]
            needs += 0.5 * gone[place] * blend * r / (r + p.unreduced)
        whole = sum(gone)
        limit = min(1.0, peroxide / needs if needs > 0.0 else 1.0, 0.3 * free / (3.0 * whole) if whole > 0.0 else 1.0)
        n[H2O2] -= needs * limit
        heat70 = math.exp(50.0 / 8.314e-3 * (1.0 / 343.15 - 1.0 / t))  # Al, Fe, Cu: Ea 50 [A]
        acid = proton / (proton + 0.01)
        al = float(solids[AL]) * (1.0 - math.exp(-p.al * heat70 * acid * dt))
        fe = float(solids[FE2]) * (1.0 - math.exp(-p.fe * heat70 * acid * dt))
        cu = float(solids[CU]) * (1.0 - math.exp(-p.cu * heat70 * acid * dt))
        scale = min(1.0, 0.3 * free / max(3.0 * al + 2.0 * fe + 2.0 * cu, 1e-12))
        al, fe, cu = al * scale, fe * scale, cu * scale
        left = sum(self.left) - whole * limit
        # copper needs an oxidant: peroxide, else the oxide itself; aluminium reduces oxide while there is some
        by_peroxide = min(cu * r, float(n[H2O2]))
        by_oxide = min(cu - by_peroxide, 0.25 * left)
        cu = by_peroxide + by_oxide
        n[H2O2] -= by_peroxide
        al_oxide = min(p.al_reduces * al, 0.08 * left)
        extra = 3.0 * al_oxide + 2.0 * by_oxide
        spread = extra / left if left > 0.0 else 0.0
        total = 0.0
        for place in range(len(p.sizes)):
            out = gone[place] * limit
            out += (self.left[place] - out) * spread
            out = min(out, self.left[place])
            self.left[place] -= out
            total += out
        share = total * self.metal_share
        here = solids[[NI, CO, MN]]
        share = np.minimum(share, here)
        solids[[NI, CO, MN]] = here - share
        n[[NI, CO, MN]] += share
        fed = sum(self.fed)
        keep = self.lithium_fed * max(sum(self.left) / fed, 0.0) ** p.lithium_lead if fed > 0.0 else 0.0
        self._move(LI, min(max(float(solids[LI]) - keep, 0.0), 0.3 * free + total))
        self._move(AL, al)
        self._move(FE2, fe)
        self._move(CU, cu)
        n[WATER] += 0.036 * total
        ease = 1.0 - math.exp(-p.trace * acid * dt)
        f = self.soluble_f * ease
        self.soluble_f -= f
        self._move(F, f)
        si = self.soluble_si * ease
        self.soluble_si -= si
        self._move(SI, si)
        for trace in _TRACE:
            if solids[trace] > 0.0:
                self._move(trace, float(solids[trace]) * ease)
        self.hydrogen = (1.5 * (al - al_oxide) + fe) / dt
        self.vented = self.hydrogen + 0.25 * total / dt
        self.solid_mass = float(_SOLID_MASS.dot(solids))
        return total * p.heat_oxide + al * p.heat_al + 90.0 * fe

    def _move(self, place: int, amount: float) -> None:
        amount = min(amount, float(self.solids[place]))
        self.solids[place] -= amount
        self.liquor[place] += amount

    def _oxidise(self, volume: float, dt: float) -> float:
        """Oxidise Fe(II), lose peroxide; set the ORP; return the heat [kJ]."""
        p = self.p
        n = self.liquor
        peroxide, fe2 = float(n[H2O2]), float(n[FE2])
        heat = 0.0
        if peroxide > 1e-9:
            turned = min(fe2 * (1.0 - math.exp(-p.fe_peroxide * peroxide / volume * dt)), 1.9 * peroxide)
            n[FE2] -= turned
            n[FE3] += turned
            peroxide -= 0.5 * turned
            base, by_cu, by_fe = p.peroxide_loss
            k = (base + by_cu * float(n[CU]) / volume + by_fe * float(n[FE2] + n[FE3]) / volume) * math.exp(
                p.peroxide_activation / 8.314e-3 * (1.0 / 343.15 - 1.0 / (self.temperature + 273.15))
            )
            lost = peroxide * (1.0 - math.exp(-k * dt))
            n[H2O2] = peroxide - lost
            self.vented += 0.5 * lost / dt
            heat = lost * p.heat_peroxide
        fe2, fe3 = float(n[FE2]), float(n[FE3])
        kelvin = self.temperature + 273.15
        nernst = 480.0 + 0.0862 * kelvin * math.log((fe3 + 1e-6 * volume) / (fe2 + 1e-6 * volume))
        fed, left = sum(self.fed), sum(self.left)
        # oxide that outlasts the peroxide holds the potential up; peroxide sets a mixed potential
        oxide = 325.0 * min(1.0, left / (0.02 * fed)) * (p.half_peroxide / (p.half_peroxide + float(n[H2O2]) / volume)) if fed > 0.0 else 0.0
        mixed = 80.0 * float(n[H2O2]) / (float(n[H2O2]) + 0.01 * volume)
        self.orp = approach(self.orp, nernst + oxide + mixed, dt, 10.0)
        return heat

    def _transfer(self, sp: Mapping[str, float], dt: float, ledger: Ledger) -> tuple[FloatArray | None, FloatArray | None]:
        press = self.press
        out: FloatArray | None = None
        passed: FloatArray | None = None
        press.pressure = press.flow = 0.0
        share = 0.01 * sp["transfer_pump"]
        volume = self.volume()
        if share > 0.0 and volume > 0.0:
            moved = min(press.rate(share) * dt, volume)
            part = 1.0 if volume - moved < 1.0 else moved / volume
            liquor, solids = self.liquor * part, self.solids * part
            if part == 1.0:
                self.liquor, self.solids = np.zeros(NC), np.zeros(NC)
                self.fed, self.left = [0.0] * len(self.p.sizes), [0.0] * len(self.p.sizes)
                self.lithium_fed = self.soluble_f = self.soluble_si = self.solid_mass = 0.0
            else:
                self.liquor -= liquor
                self.solids -= solids
                keep = 1.0 - part
                self.fed, self.left = [x * keep for x in self.fed], [x * keep for x in self.left]
                self.lithium_fed, self.soluble_f, self.soluble_si = self.lithium_fed * keep, self.soluble_f * keep, self.soluble_si * keep
                self.solid_mass *= keep
            out, bled = press.filter(liquor, solids[None, :])
            passed = bled[0]
            press.flow = litres(out) / dt * 60.0
        if sp["press_wash_flow_sp"] > 0.0 or press.wash_flow > 0.0:
            washed = press.wash(sp["press_wash_flow_sp"], dt, ledger)
            if washed is not None:
                out = washed if out is None else out + washed
                press.flow += litres(washed) / dt * 60.0
                press.pressure = max(press.pressure, 1.0 + press.wash_flow * 0.02)
        elif sp["press_discharge"] > 0.5 and share == 0.0 and press.dry > 0.0:
            liquor, solid_rows = press.drop()
            ledger.leave("leach_cake", solid_rows[0] + liquor)
        return out, passed

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        liquid = litres(self.liquor)
        volume = liquid + self.solid_mass / self.p.solid_density
        mass = float(LIQUID_MASS.dot(self.liquor)) + self.solid_mass
        flow = self.lines.flow
        wet = liquid > 20.0
        ph = self.chemistry.ph if wet else 7.0
        return (
            self.temperature, ph, self.orp if wet else 200.0,
            self.p.conductivity * conductivity(self.liquor, liquid, self.temperature, ph) if wet else 0.0,
            mass / volume * 1e3 if wet else 998.0, volume * 1e-3, 100.0 * self.hydrogen / self.p.offgas / 0.04,
            -2.0 + 2.5 * self.vented,
            self.stirrer, flow["acid_flow"], flow["peroxide_flow"], flow["water_flow"], self.jacket.temperature,
            self.press.pressure, self.press.flow, self.press.wet,
        )  # fmt: skip

    def held(self) -> FloatArray:
        """Return all that the tank and its press hold, shape (NC,)."""
        out: FloatArray = self.liquor + self.solids + self.press.liquor + self.press.solids[0]
        return out
