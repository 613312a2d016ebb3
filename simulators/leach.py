"""Leach tank: dissolution of black mass by size class in sulfuric acid with peroxide, and the leach press behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from drivers.tags import FloatArray
from simulators.components import (
    AL,
    AMBIENT,
    BOUND,
    CA,
    CL,
    CO,
    CU,
    FE2,
    FE3,
    H2O2,
    HEAT,
    HO_LIQUOR,
    HO_OXIDE,
    LI,
    LIQUID_MASS,
    LIQUOR,
    MG,
    MN,
    NA,
    NC,
    NI,
    OXIDE,
    SI,
    STRONG,
    WATER,
    ZN,
    C,
    F,
    K,
    N,
    P,
    S,
    litres,
    vector,
)
from simulators.constants import HYDROXIDES
from simulators.equilibrium import Equilibrium, Table, molal
from simulators.feed import Feed
from simulators.heats import Heats, bound
from simulators.parameters import parameter
from simulators.vessels import (
    SOLID_HEAT,
    Content,
    Jacket,
    JacketParameters,
    Ledger,
    Lines,
    Press,
    PressParameters,
    Shell,
    approach,
    boil,
    check_solids,
    check_step,
    opening,
    react,
    within,
)

__all__ = ["Conductances", "LeachParameters", "LeachTank", "conductivity"]

# mass [kg/mol] of what is solid here: Ni, Co, Mn with two O; metals, graphite
_SOLID_MASS = LIQUID_MASS.copy()
_SOLID_MASS[[NI, CO, MN]] += 0.032
_SOLID_MASS[[C, S, N]] = 0.01201, 0.03206, 0.01401
_SOLID_MASS[[H2O2, WATER]] = 0.0
_STAYS = (0.0,) * len(HYDROXIDES)
_METALS = slice(NI, MN + 1)  # Ni, Co, Mn
_TRACE = (CA, MG, ZN, NA, K, CL)


@dataclass(frozen=True)
class Conductances:
    """The conductivity of a liquor: sum of lambda c with a root law. Its error is mostly in `factor`: the assumed lambdas vary little."""

    sodium: float = parameter(50.0, "mS L/(cm mol)", "T", "limiting molar conductivity at 25 degC")
    lithium: float = parameter(39.0, "mS L/(cm mol)", "T", "limiting molar conductivity at 25 degC")
    potassium: float = parameter(74.0, "mS L/(cm mol)", "T", "limiting molar conductivity at 25 degC")
    divalent: float = parameter(100.0, "mS L/(cm mol)", "T", "limiting molar conductivity at 25 degC, Ni, Co, Mn and their like")
    divalent_free: float = parameter(0.5, "1", "A", "share of the metals of two charges that is not in neutral pairs", range=(0.45, 0.55))
    sulfate: float = parameter(120.0, "mS L/(cm mol)", "A", "limiting molar 160 at 25 degC, less pairs and HSO4-", range=(110.0, 130.0))
    proton: float = parameter(350.0, "mS L/(cm mol)", "T", "limiting molar conductivity at 25 degC")
    hydroxide: float = parameter(198.0, "mS L/(cm mol)", "T", "limiting molar conductivity at 25 degC")
    ammonia: float = parameter(15.0, "mS L/(cm mol)", "A", "73 of NH4+ by the share of it that an ammonia liquor holds")
    root: float = parameter(0.35, "(L/mol)^0.5", "T", "process.md section 3")
    least: float = parameter(0.25, "1", "A", "of the root law, which alone would turn negative above 8 M", range=(0.2, 0.3))
    turn: float = parameter(0.02, "1/K", "T", "process.md section 3; from 25 degC")
    factor: float = parameter(1.0, "1", "A", "process.md section 3: +-15 %", range=(0.85, 1.15))


@dataclass(frozen=True)
class LeachParameters:
    """Constants of the leach. Rates hold at the temperature that their source names."""

    volume: float = parameter(4500.0, "L", "size", "process.md section 2, nominal cell")
    sizes: tuple[float, ...] = parameter(
        (4.8, 9.3, 13.2, 16.8, 21.5), "um", "A", "of the active particles: Rosin-Rammler n = 2, d50 10 um; together", range=(0.9, 1.1)
    )
    shares: tuple[float, ...] = parameter((0.30, 0.30, 0.20, 0.12, 0.08), "kg/kg", "T", "of `sizes`: classes denser in the coarse tail")
    solid_density: float = parameter(2.6, "kg/L", "A", "of the black mass, oxide 4.7 and graphite 2.2", range=(2.3, 3.2))
    rate: float = parameter(
        7.1e-4, "1/s", "calibrated", "1/tr of 10 um, aH = 1: 99.7 % in 60 min at 40 degC through the whole law, clean cathode [L]"
    )
    activation: float = parameter(40.0, "kJ/mol", "A", "process.md section 3, black mass; 65 for clean cathode", range=(30.0, 50.0))
    acid_order: float = parameter(0.6, "1", "A", "process.md section 3")
    proton_most: float = parameter(3.0, "1", "A", "activity of H+ above which the rate rises no more")
    diffusion: float = parameter(
        3500.0, "s", "A", "td of 10 um at 70 degC: 95-99 % in 60-120 min, middle 97 % in 90 min; 0 in clean cathode", range=(2300.0, 4700.0)
    )
    diffusion_activation: float = parameter(20.0, "kJ/mol", "A", "process.md section 3")
    half_peroxide: float = parameter(0.05, "mol/L", "A", "process.md section 3")
    unreduced: float = parameter(0.01, "1", "A", "rate without reductant, as a share; 0.03 of a `rate` a third as large in process.md section 3")
    free_share: float = parameter(0.35, "1", "L", "process.md section 3: of the transition metals, needs no reductant")
    lithium_lead: float = parameter(1.2, "1", "A", "Li left = (1 - X)^lead", range=(1.0, 1.56))
    stir_rest: float = parameter(0.3, "1", "A", "share of the rate in a tank at rest")
    stir_most: float = parameter(400.0, "rpm", "size", "of the stirrer")
    line: float = parameter(200.0, "L/min", "size", "of a dosing line")
    stir_full: float = parameter(80.0, "rpm", "A", "adds a whole rate; with `stir_rest`, all solids are off the floor at 0.7 of it")
    al: float = parameter(1.0 / 1800.0, "1/s", "A", "process.md section 3, at 70 degC")
    fe: float = parameter(1.0 / 600.0, "1/s", "A", "process.md section 3, at 70 degC")
    cu: float = parameter(1.0 / 1800.0, "1/s", "A", "process.md section 3, at 70 degC")
    metal_activation: float = parameter(50.0, "kJ/mol", "A", "of Al, Fe and Cu")
    metal_acid: float = parameter(0.01, "1", "A", "aH at which Al, Fe, Cu and traces dissolve at half their rate")
    lfp: float = parameter(1.15e-3, "1/s", "L", "98 % of Li in 1 h at 25 degC (process.md section 2)", range=(1e-3, 1.6e-3))
    lfp_activation: float = parameter(25.0, "kJ/mol", "A", "of the rate of LFP", range=(19.0, 33.0))
    lfp_whole: float = parameter(0.2, "1", "A", "share of that rate at which LFP dissolves whole, without peroxide", range=(0.1, 0.4))
    ferric_leak: float = parameter(0.02, "1", "L", "of FePO4 dissolves at 0.3 M H+ (process.md section 2)", range=(0.01, 0.03))
    al_reduces: float = parameter(0.30, "1", "A", "process.md section 3: share of Al that reduces oxide instead of making H2")
    fluoride: float = parameter(0.30, "1", "A", "process.md section 3: soluble share", range=(0.10, 0.60))
    silicon: float = parameter(0.10, "1", "A", "soluble share")
    trace: float = parameter(1.0 / 600.0, "1/s", "A", "Ca, Mg, Zn, Na, K, Cl and what is soluble of F and Si")
    peroxide_loss: tuple[float, float, float] = parameter(
        (1e-4, 2e-3, 5e-3), "1/s; L/(mol s)", "A", "process.md section 3, at 70 degC: by itself, per mol/L of Cu, per mol/L of Fe"
    )
    peroxide_activation: float = parameter(57.0, "kJ/mol", "T", "process.md section 3")
    fe_peroxide: float = parameter(76.0, "L/(mol s)", "T", "process.md section 3: Fenton's step, 25 degC")
    orp_iron: float = parameter(480.0, "mV", "T", "process.md section 3: Fe(III)/Fe(II) in sulfate against Ag/AgCl")
    orp_oxide: float = parameter(325.0, "mV", "A", "process.md section 3: while oxide outlasts the peroxide", range=(250.0, 400.0))
    orp_oxide_left: float = parameter(0.02, "1", "A", "share of oxide below which that fades")
    orp_peroxide: float = parameter(80.0, "mV", "A", "mixed potential with much peroxide")
    orp_half: float = parameter(0.01, "mol/L", "A", "peroxide at half of it")
    orp_lag: float = parameter(10.0, "s", "A", "of the electrode's surface")
    offgas: float = parameter(12.4, "mol/s", "size", "process.md section 2: 1,000 Nm3/h")
    suction: float = parameter(-2.0, "mbar", "size", "of the fan on the head space")
    back_pressure: float = parameter(2.5, "mbar s/mol", "A", "of the off-gas line, per gas made")
    ions: Conductances = field(default_factory=Conductances)
    press: PressParameters = field(default_factory=PressParameters)
    jacket: JacketParameters = field(default_factory=JacketParameters)


def conductivity(liquor: FloatArray, volume: float, t: float, ph: float, ions: Conductances) -> float:
    """Return [mS/cm] of a liquor: sum of lambda c with the root law of process.md section 3."""
    if volume < 0.1:
        return 0.0
    c: list[float] = (liquor / volume).tolist()
    h = min(math.pow(10.0, -ph) * 1.2, 5.0)
    oh = min(math.pow(10.0, ph - 13.3), 10.0)
    two = c[NI] + c[CO] + c[MN] + c[FE2] + c[MG] + c[CA] + c[ZN] + c[CU]
    ionic = 0.5 * (c[NA] + c[LI]) + 2.0 * c[S] + 0.5 * (h + oh)
    whole = (
        ions.sodium * c[NA]
        + ions.lithium * c[LI]
        + ions.divalent * two * ions.divalent_free
        + ions.sulfate * c[S]
        + ions.proton * h
        + ions.hydroxide * oh
        + ions.ammonia * c[N]
        + ions.potassium * c[K]
    )
    return max(whole * max(1.0 - ions.root * math.sqrt(min(ionic, 4.0)), ions.least), 0.002) * (1.0 + ions.turn * (t - 25.0))


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

    def __init__(self, feed: Feed, parameters: LeachParameters | None = None, table: Table | None = None, heats: Heats | None = None) -> None:
        self.p = parameters or LeachParameters()
        self.heats = heats or Heats()
        self.feed = feed
        per_kg = feed.per_kg()  # with its enthalpy
        per_kg[HEAT] = float(self.heats.oxide.dot(per_kg)) + SOLID_HEAT * (AMBIENT - 25.0)
        self.per_kg = per_kg
        self.metal_share = per_kg[[NI, CO, MN]] / max(float(per_kg[[NI, CO, MN]].sum()), 1e-12)
        self.liquor: FloatArray = np.zeros(NC)
        self.solids: FloatArray = np.zeros(NC)
        self.fed = [0.0] * len(self.p.sizes)  # mol of Ni+Co+Mn brought into each size class
        self.left = [0.0] * len(self.p.sizes)  # not yet dissolved
        self.soluble_f = self.soluble_si = 0.0
        self.lithium_fed = 0.0  # of the oxides
        self.lfp = 0.0  # LiFePO4 that is still whole [mol]; its Li, Fe and P are among the solids
        self.solid_mass = 0.0
        self.temperature = AMBIENT
        self.shell = Shell()
        self.chemistry = Equilibrium(table)
        self.jacket = Jacket(self.p.jacket)
        self.lines = Lines({"acid_flow": "acid", "peroxide_flow": "peroxide", "water_flow": "water"}, self.p.line)
        self.press = Press(self.p.press, _SOLID_MASS[None, :])
        self.stirrer = 0.0
        self.hydrogen = self.vented = 0.0  # [mol/s] of H2 and of all gas made
        self.orp = 200.0
        self.charged = 0.0  # Ni+Co+Mn [mol]

    def volume(self) -> float:
        """Return the slurry's volume [L]."""
        return litres(self.liquor) + self.solid_mass / self.p.solid_density

    def step(self, sp: Mapping[str, float], dt: float, black_mass: float, ledger: Ledger) -> tuple[FloatArray | None, FloatArray | None]:
        """Advance by `dt` [s] with `black_mass` [kg] falling in."""
        check_step(dt)
        check_solids(black_mass)
        p = self.p
        self.stirrer = approach(self.stirrer, within(sp["stirrer_speed_sp"], 0.0, p.stir_most), dt, 5.0)
        if black_mass > 0.0:
            self._charge(black_mass)
        self.lines.step(sp, dt, self.liquor, ledger, room=lambda: p.volume - self.volume())
        self.hydrogen = self.vented = 0.0
        n = self.liquor
        volume = litres(n)
        if volume > 1.0:
            # no hydroxide forms here: what an acid leach lacks in acid it shows as a pH that is too high
            self.chemistry.solve(self.temperature, molal(n), ahead=_STAYS, back=_STAYS)
            before = HO_LIQUOR.dot(n) + HO_OXIDE.dot(self.solids)
            hydrogen = self._dissolve(volume, dt) if self.solid_mass > 1e-6 else 0.0
            self._oxidise(volume, dt)
            oxygen = react(n, before, HO_LIQUOR.dot(n) + HO_OXIDE.dot(self.solids), hydrogen, ledger, self.heats.p.hydrogen)
            self.hydrogen, self.vented = hydrogen / dt, (hydrogen + oxygen) / dt
            n[BOUND] = bound(n, self.chemistry.heat, self.heats)
        inside = float(self.heats.oxide.dot(self.solids))
        warm = self.jacket.warming(sp["jacket_valve"], dt, ledger)
        self.temperature, self.solids[HEAT] = self.shell.even((n,), float(self.solids[HEAT]), inside, self.solid_mass, warm)
        if self.temperature > 100.0:
            boil(n, self.temperature, self.heats.p.boiling, ledger)
        return self._transfer(sp, dt, ledger)

    def heat_to(self, t: float) -> None:
        """Bring the tank and what is in it to `t` [degC], from outside."""
        n = self.liquor
        if litres(n) > 1.0:
            self.chemistry.solve(t, molal(n), ahead=_STAYS, back=_STAYS)
            n[BOUND] = bound(n, self.chemistry.heat, self.heats)
        inside = float(self.heats.oxide.dot(self.solids))
        self.temperature, self.solids[HEAT] = self.shell.even((n,), float(self.solids[HEAT]), inside, self.solid_mass, lambda *_: t)

    def _charge(self, kg: float) -> None:
        new = self.per_kg * kg
        self.solids += new
        metals = float(new[NI] + new[CO] + new[MN])
        self.charged += metals
        for place, share in enumerate(self.p.shares):
            self.fed[place] += share * metals
            self.left[place] += share * metals
        lfp = float(self.feed.lfp_per_kg()[LI]) * kg
        self.lfp += lfp
        self.lithium_fed += float(new[LI]) - lfp
        self.soluble_f += self.p.fluoride * float(new[F])
        self.soluble_si += self.p.silicon * float(new[SI])
        self.solid_mass = float(_SOLID_MASS.dot(self.solids))

    def _dissolve(self, volume: float, dt: float) -> float:
        """Dissolve solids for `dt` [s]; return the hydrogen that they made [mol]."""
        p = self.p
        t = self.temperature + 273.15
        proton = 10.0 ** -min(self.chemistry.ph, 14.0)
        n, solids = self.liquor, self.solids
        stirred = min(p.stir_rest + self.stirrer / p.stir_full, 1.0)
        # protons that are there to be used; keeps the step from running past neutral
        free = max(-float(STRONG.dot(n)) - 2.0 * float(n[NI] + n[CO] + n[MN] + n[CU]) - 3.0 * float(n[AL] + n[FE3]), 0.0)
        peroxide = max(float(n[H2O2]), 0.0)
        h = peroxide / volume
        r = h / (h + p.half_peroxide)
        turn = 1.0 / 313.15 - 1.0 / t
        rate = p.rate * self.feed.reactivity * math.exp(p.activation / 8.314e-3 * turn) * min(proton, p.proton_most) ** p.acid_order * stirred
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
        heat70 = math.exp(p.metal_activation / 8.314e-3 * (1.0 / 343.15 - 1.0 / t))
        acid = proton / (proton + p.metal_acid)
        al = float(solids[AL]) * (1.0 - math.exp(-p.al * heat70 * acid * dt))
        fe = max(float(solids[FE2]) - self.lfp, 0.0) * (1.0 - math.exp(-p.fe * heat70 * acid * dt))
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
        share = np.minimum(share, solids[_METALS])
        solids[_METALS] -= share
        n[_METALS] += share
        fed = sum(self.fed)
        keep = self.lithium_fed * max(sum(self.left) / fed, 0.0) ** p.lithium_lead if fed > 0.0 else 0.0
        if self.lfp > 0.0:
            self._dissolve_lfp(r, proton, acid, 0.3 * free, dt)
        self._move(LI, min(max(float(solids[LI]) - keep - self.lfp, 0.0), 0.3 * free + total))
        self._move(AL, al)
        self._move(FE2, fe)
        self._move(CU, cu)
        ease = 1.0 - math.exp(-p.trace * acid * dt)
        f = self.soluble_f * ease
        self.soluble_f -= f
        self._move(F, f)
        si = self.soluble_si * ease
        self.soluble_si -= si
        self._move(SI, si)
        for trace in _TRACE:
            there = float(solids[trace])
            if there > 0.0:
                self._move(trace, there * ease)
        self.solid_mass = float(_SOLID_MASS.dot(solids))
        return 1.5 * (al - al_oxide) + fe

    def _dissolve_lfp(self, oxidised: float, proton: float, acid: float, free: float, dt: float) -> None:
        """LiFePO4 + H+ + 1/2 H2O2 = Li+ + FePO4 + H2O, all but a little of FePO4 staying; without peroxide it dissolves whole, and slower."""
        p, n, solids = self.p, self.liquor, self.solids
        warm = math.exp(p.lfp_activation / 8.314e-3 * (1.0 / 298.15 - 1.0 / (self.temperature + 273.15)))
        gone = self.lfp * (1.0 - math.exp(-p.lfp * warm * acid * dt))
        turned = min(gone * oxidised, 2.0 * max(float(n[H2O2]), 0.0), free)
        whole = min(gone * (1.0 - oxidised) * p.lfp_whole, 0.3 * free)
        self.lfp = max(self.lfp - turned - whole, 0.0)
        n[H2O2] -= 0.5 * turned
        turned = min(turned, float(solids[FE2]))
        solids[FE2] -= turned
        solids[FE3] += turned
        self._move(LI, turned + whole)
        self._move(FE2, whole)
        leak = min(p.ferric_leak * min(proton / 0.3, 10.0), 1.0) * turned
        self._move(FE3, leak)
        self._move(P, whole + leak)

    def _move(self, place: int, amount: float) -> None:
        there = float(self.solids[place])
        amount = min(amount, there)
        self.solids[place] = there - amount
        self.liquor[place] += amount

    def _oxidise(self, volume: float, dt: float) -> None:
        """Oxidise Fe(II), lose peroxide; set the ORP."""
        p = self.p
        n = self.liquor
        peroxide, fe2, fe3 = float(n[H2O2]), float(n[FE2]), float(n[FE3])
        if peroxide > 1e-9:
            turned = min(fe2 * (1.0 - math.exp(-p.fe_peroxide * peroxide / volume * dt)), 1.9 * peroxide)
            fe2, fe3 = fe2 - turned, fe3 + turned
            n[FE2], n[FE3] = fe2, fe3
            peroxide -= 0.5 * turned
            base, by_cu, by_fe = p.peroxide_loss
            k = (base + by_cu * float(n[CU]) / volume + by_fe * (fe2 + fe3) / volume) * math.exp(
                p.peroxide_activation / 8.314e-3 * (1.0 / 343.15 - 1.0 / (self.temperature + 273.15))
            )
            peroxide -= peroxide * (1.0 - math.exp(-k * dt))
            n[H2O2] = peroxide
        kelvin = self.temperature + 273.15
        nernst = p.orp_iron + 0.0862 * kelvin * math.log((fe3 + 1e-6 * volume) / (fe2 + 1e-6 * volume))
        fed, left = sum(self.fed), sum(self.left)
        # oxide that outlasts the peroxide holds the potential up; peroxide sets a mixed potential
        oxide = (
            p.orp_oxide * min(1.0, left / (p.orp_oxide_left * fed)) * (p.half_peroxide / (p.half_peroxide + peroxide / volume)) if fed > 0.0 else 0.0
        )
        mixed = p.orp_peroxide * peroxide / (peroxide + p.orp_half * volume)
        self.orp = approach(self.orp, nernst + oxide + mixed, dt, p.orp_lag)

    def _transfer(self, sp: Mapping[str, float], dt: float, ledger: Ledger) -> tuple[FloatArray | None, FloatArray | None]:
        press = self.press
        out: FloatArray | None = None
        passed: FloatArray | None = None
        press.pressure = press.flow = 0.0
        share = opening(sp["transfer_pump"])
        if share > 0.0 and (volume := self.volume()) > 0.0:
            moved = min(press.rate(share) * dt, volume)
            part = 1.0 if volume - moved < 1.0 else moved / volume
            liquor, solids = self.liquor * part, self.solids * part
            if part == 1.0:
                self.liquor, self.solids = np.zeros(NC), np.zeros(NC)
                self.fed, self.left = [0.0] * len(self.p.sizes), [0.0] * len(self.p.sizes)
                self.lithium_fed = self.lfp = self.soluble_f = self.soluble_si = self.solid_mass = 0.0
            else:
                self.liquor -= liquor
                self.solids -= solids
                keep = 1.0 - part
                self.fed, self.left = [x * keep for x in self.fed], [x * keep for x in self.left]
                self.lfp *= keep
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
            ledger.leave("leach_cake", solid_rows[0], OXIDE)
            ledger.leave("leach_cake", liquor)
        return out, passed

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        liquid = litres(self.liquor)
        volume = liquid + self.solid_mass / self.p.solid_density
        flow = self.lines.flow
        wet = liquid > 20.0
        mass = float(LIQUID_MASS.dot(self.liquor)) + self.solid_mass if wet else 0.0
        ph = self.chemistry.ph if wet else 7.0
        return (
            self.temperature, ph, self.orp if wet else 200.0,
            self.p.ions.factor * conductivity(self.liquor, liquid, self.temperature, ph, self.p.ions) if wet else 0.0,
            mass / volume * 1e3 if wet else 998.0, volume * 1e-3, 100.0 * self.hydrogen / self.p.offgas / 0.04,
            self.p.suction + self.p.back_pressure * self.vented,
            self.stirrer, flow["acid_flow"], flow["peroxide_flow"], flow["water_flow"], self.jacket.temperature,
            self.press.pressure, self.press.flow, self.press.wet,
        )  # fmt: skip

    def holds(self) -> Content:
        """Return all that the tank and its press hold."""
        wall = vector({HEAT: self.shell.heat})
        return [(self.liquor, LIQUOR), (self.solids, OXIDE), (self.press.liquor, LIQUOR), (self.press.solids[0], OXIDE), (wall, LIQUOR)]
