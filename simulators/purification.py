"""Purification tank: cementation of copper, removal of Fe, Al and F as hydroxides and cryolite, its press, and the clear-liquor tank."""

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
    CO,
    CU,
    FE2,
    FE3,
    GAS,
    H2O2,
    HEAT,
    HO,
    HO_GAS,
    HO_LIQUOR,
    LI,
    LIQUID_MASS,
    LIQUOR,
    METAL,
    MG,
    NA,
    NAMES,
    NC,
    NI,
    OXIDE,
    SALT,
    SI,
    WATER,
    C,
    F,
    P,
    S,
    litres,
    vector,
)
from simulators.constants import HYDROXIDES
from simulators.equilibrium import Equilibrium, Table, molal
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
    check_step,
    opening,
    react,
    within,
)

__all__ = ["CakePressParameters", "PurificationParameters", "PurificationTank"]

# rows of the solids: hydroxides and cryolite, metals, sorbed (comes off), sorbed (stays), what passed the cloth of the leach press, other salts
_HYDROXIDE, _METAL, _LOOSE, _FAST, _RESIDUE, _SALTS = range(6)
_ROWS = (SALT, METAL, SALT, SALT, OXIDE, SALT)  # their forms
_ATOMS = [HO[form].dot for form in _ROWS]  # what gives the H and O of a row
_METALS = [NAMES.index(solid.metal) for solid in HYDROXIDES]
_CHARGE = [-solid.of["H"] for solid in HYDROXIDES]
_SORBS = [NI, CO, LI]
_MASS = np.tile(LIQUID_MASS, (6, 1))
_MASS[_HYDROXIDE, _METALS] += 0.017007 * np.array(_CHARGE)
_MASS[:, C] = 0.01201
_MASS[:, [H2O2, WATER]] = 0.0
_MASS[_SALTS, WATER] = 1.0  # of crystallisation
# the other salts: cation, anion, anions per cation, water of crystallisation per cation [kg/mol]
_SPARSE = {
    "FePO4": (FE3, P, 1.0, 0.0),
    "AlPO4": (AL, P, 1.0, 0.0),
    "CaF2": (CA, F, 2.0, 0.0),
    "MgF2": (MG, F, 2.0, 0.0),
    "gypsum": (CA, S, 1.0, 0.03603),
}
_LOOK = 10.0  # [s] between two looks at them: they take minutes


@dataclass(frozen=True)
class CakePressParameters(PressParameters):
    """The press behind the purification, with the cake of the hydroxides."""

    resistance: float = parameter(5e12, "m/kg", "A", "process.md section 3, Fe/Al cake", range=(1e12, 1e13))
    holds: float = parameter(4.0, "L/kg", "A", "process.md section 3: liquor in the Fe/Al cake")


@dataclass(frozen=True)
class PurificationParameters:
    """Constants of the purification. Rates hold at the temperature that their source names."""

    volume: float = parameter(7500.0, "L", "size", "process.md section 2: to the overflow, 6 m3 working")
    clear_volume: float = parameter(7800.0, "L", "size", "of the clear-liquor tank")
    density: float = parameter(2.4, "kg/L", "A", "of the solids")
    cementation: float = parameter(2e-3, "1/s", "A", "process.md section 3, at 50 degC")
    cementation_activation: float = parameter(30.0, "kJ/mol", "A", "process.md section 3")
    powder_half: float = parameter(0.0005, "mol/L", "A", "nickel powder at which cementation runs at half its rate")
    powder_acid: float = parameter(1e-4, "1/s", "A", "dissolution of the powder by acid at aH = 1")
    proton_most: float = parameter(3.0, "1", "A", "activity of H+ above which that rises no more")
    stir_rest: float = parameter(0.2, "1", "A", "share of the rates in a tank at rest")
    stir_most: float = parameter(400.0, "rpm", "size", "of the stirrer")
    line: float = parameter(200.0, "L/min", "size", "of a dosing line")
    powder_most: float = parameter(100.0, "kg/h", "size", "of the feeder of nickel powder")
    stir_full: float = parameter(80.0, "rpm", "A", "adds a whole rate; with `stir_rest`, all solids are off the floor at 0.8 of it")
    hydroxide: float = parameter(120.0, "s", "A", "process.md section 3: Al, Fe(III)")
    divalent: float = parameter(300.0, "s", "A", "Cu, Ni, Co, Mn")
    fluoride: float = parameter(600.0, "s", "A", "process.md section 3; phosphates and gypsum too")
    aged: float = parameter(30000.0, "s", "A", "Al, Fe(III) back out of an aged cake near pH 5; faster in acid: at pH 3 the cake dissolves whole")
    aged_fluoride: float = parameter(200000.0, "s", "A", "the same of cryolite")
    aged_acid: float = parameter(1e-4, "1", "A", "aH that doubles those rates")
    surface: float = parameter(0.04, "mol/mol", "A", "protons per Al and Fe hydroxide and per pH", range=(0.02, 0.08))
    sorbed_base: float = parameter(0.002, "1", "A", "process.md section 3: share of Ni, Co, Li sorbed")
    sorbed: float = parameter(0.012, "L/g", "A", "process.md section 3: more of it per Al")
    comes_off: float = parameter(0.70, "1", "A", "process.md section 3: of what is sorbed, in a repulp", range=(0.60, 0.80))
    edge: float = parameter(5.2, "1", "A", "pH at which half of the sorption is left", range=(4.9, 5.5))
    edge_steepness: float = parameter(1.5, "1", "A", "decades of it per pH", range=(1.0, 2.0))
    sorption: float = parameter(900.0, "s", "A", "time constant")
    silica: float = parameter(0.8, "1", "A", "share that the Fe/Al cake takes", range=(0.6, 0.95))
    fe_peroxide: float = parameter(76.0, "L/(mol s)", "T", "process.md section 3: Fenton's step, 25 degC")
    peroxide_loss: float = parameter(2e-4, "1/s", "A", "at 60 degC")
    peroxide_activation: float = parameter(57.0, "kJ/mol", "T", "process.md section 3")
    orp_iron: float = parameter(480.0, "mV", "T", "process.md section 3: Fe(III)/Fe(II) in sulfate against Ag/AgCl")
    orp_peroxide: float = parameter(120.0, "mV", "A", "mixed potential with much peroxide")
    orp_half: float = parameter(0.005, "mol/L", "A", "peroxide at half of it")
    orp_powder: float = parameter(250.0, "mV", "A", "that nickel powder holds it down")
    orp_powder_least: float = parameter(0.002, "mol/L", "A", "powder that does so")
    orp_lag: float = parameter(10.0, "s", "A", "of the electrode's surface")
    offgas: float = parameter(6.2, "mol/s", "size", "500 Nm3/h")
    press: CakePressParameters = field(default_factory=CakePressParameters)
    jacket: JacketParameters = field(default_factory=lambda: JacketParameters(ua=3.2))


class PurificationTank:
    """The tank, its press and the clear-liquor tank behind."""

    measures = (
        "temperature", "ph", "orp", "volume", "stirrer_speed", "naoh_flow", "acid_flow", "peroxide_flow", "water_flow", "powder_rate",
        "jacket_temperature", "press_pressure", "filtrate_flow", "press_cake", "clear_volume", "niso4_flow", "coso4_flow",
        "mnso4_flow", "hydrogen",
    )  # fmt: skip
    sets = (
        "naoh_flow_sp", "acid_flow_sp", "peroxide_flow_sp", "water_flow_sp", "powder_rate_sp", "jacket_valve", "stirrer_speed_sp",
        "transfer_pump", "press_wash_flow_sp", "niso4_flow_sp", "coso4_flow_sp", "mnso4_flow_sp", "repulp", "press_discharge",
    )  # fmt: skip

    def __init__(self, parameters: PurificationParameters | None = None, table: Table | None = None, heats: Heats | None = None) -> None:
        self.p = parameters or PurificationParameters()
        self.heats = heats or Heats()
        self._heat_of = [self.heats.of[form] for form in _ROWS]
        self.liquor: FloatArray = np.zeros(NC)
        self.solids: FloatArray = np.zeros((6, NC))
        self.clear: FloatArray = np.zeros(NC)
        self.temperature = AMBIENT
        self.shell = Shell()
        self.chemistry = Equilibrium(table)
        self.jacket = Jacket(self.p.jacket)
        self.lines = Lines({"naoh_flow": "naoh", "acid_flow": "acid", "peroxide_flow": "peroxide", "water_flow": "water"}, self.p.line)
        self.salts = Lines({"niso4_flow": "niso4", "coso4_flow": "coso4", "mnso4_flow": "mnso4"}, self.p.line)
        self.press = Press(self.p.press, _MASS)
        self.stirrer = self.powder = 0.0
        self.solid_mass = 0.0
        self.hydrogen = 0.0  # [mol/s]
        self.orp = 200.0
        self._since = 0.0  # [s] since the last look at the salts

    def volume(self) -> float:
        """Return the slurry's volume [L]."""
        return litres(self.liquor) + self.solid_mass / self.p.density

    def step(self, sp: Mapping[str, float], dt: float, filtrate: FloatArray | None, passed: FloatArray | None, ledger: Ledger) -> None:
        """Advance by `dt` [s]; `filtrate` and the solids `passed` come from the leach press."""
        check_step(dt)
        p = self.p
        self.stirrer = approach(self.stirrer, within(sp["stirrer_speed_sp"], 0.0, p.stir_most), dt, 5.0)
        if filtrate is not None:
            self.liquor += filtrate
        if passed is not None:
            self.solids[_RESIDUE] += passed
        n = self.liquor
        self.lines.step(sp, dt, n, ledger, room=lambda: p.volume - self.volume())
        self.powder = approach(self.powder, within(sp["powder_rate_sp"], 0.0, p.powder_most), dt, 3.0)
        if self.powder > 0.0:
            kg = self.powder * dt / 3600.0
            new = vector({NI: kg / 0.0586934})
            new[HEAT] = self.heats.of[METAL, NI] * new[NI] + SOLID_HEAT * kg * (AMBIENT - 25.0)
            ledger.enter("nickel powder", new, METAL)
            self.solids[_METAL] += new
        self.hydrogen = 0.0
        volume = litres(n)
        if volume > 1.0:
            before = self._atoms()
            self._cement(volume, dt)
            self._precipitate(volume, dt)
            self._sorb(volume, dt)
            self._since += dt
            if self._since >= _LOOK:
                self._fall(self._since)
                self._since = 0.0
            # carbonate of the caustic leaves as CO2 from a sour liquor
            if self.chemistry.ph < 6.5 and n[C] > 0.0:
                gas = vector({C: float(n[C]), HEAT: self.heats.of[GAS, C] * float(n[C])})
                n -= gas
                before -= HO_GAS.dot(gas)
                ledger.leave("off-gas", gas, GAS)
            react(n, before, self._atoms(), self.hydrogen * dt, ledger, self.heats.p.hydrogen)
            n[BOUND] = bound(n, self.chemistry.heat, self.heats)
        if volume > 1.0 or self.solid_mass > 0.0:
            self.solid_mass = float((self.solids * _MASS).sum())
        inside = sum([float(of.dot(row)) for of, row in zip(self._heat_of, self.solids, strict=True)]) if self.solid_mass > 0.0 else 0.0
        warm = self.jacket.warming(sp["jacket_valve"], dt, ledger)
        self.temperature, heat = self.shell.even((n,), sum(self.solids[:, HEAT].tolist()), inside, self.solid_mass, warm)
        self.solids[:, HEAT] = 0.0
        self.solids[_HYDROXIDE, HEAT] = heat
        if self.temperature > 100.0:
            boil(n, self.temperature, self.heats.p.boiling, ledger)
        self._press(sp, dt, ledger)
        self.salts.step(sp, dt, self.clear, ledger, room=self._clear_room)

    def _atoms(self) -> FloatArray:
        """Return mol of H and O in the tank, shape (2,)."""
        out: FloatArray = HO_LIQUOR.dot(self.liquor)
        for take, row in zip(_ATOMS, self.solids, strict=True):
            out += take(row)
        return out

    def _cement(self, volume: float, dt: float) -> None:
        """Cu2+ + Ni = Cu + Ni2+; Fe(III) and acid take powder too; peroxide oxidises Fe(II)."""
        p = self.p
        n, metal = self.liquor, self.solids[_METAL]
        kelvin = self.temperature + 273.15
        powder = float(metal[NI])
        if powder > 0.0:
            stirred = min(p.stir_rest + self.stirrer / p.stir_full, 1.0)
            k = p.cementation * math.exp(p.cementation_activation / 8.314e-3 * (1.0 / 323.15 - 1.0 / kelvin)) * stirred
            share = 1.0 - math.exp(-k * dt * powder / (powder + p.powder_half * volume))
            cu = min(float(n[CU]) * share, powder)
            fe = min(float(n[FE3]) * share, 2.0 * (powder - cu))
            left = powder - cu - 0.5 * fe
            gas = left * (1.0 - math.exp(-p.powder_acid * min(10.0**-self.chemistry.ph, p.proton_most) * dt))
            metal[NI] = left - gas
            metal[CU] += cu
            n[NI] += powder - float(metal[NI])
            n[CU] -= cu
            n[FE3] -= fe
            n[FE2] += fe
            self.hydrogen = gas / dt
        peroxide = float(n[H2O2])
        if peroxide > 0.0:
            fe2 = float(n[FE2])
            turned = min(fe2 * (1.0 - math.exp(-p.fe_peroxide * peroxide / volume * dt)), 2.0 * peroxide)
            n[FE2] = fe2 - turned
            n[FE3] += turned
            peroxide = max(peroxide - 0.5 * turned, 0.0)
            n[H2O2] = peroxide * math.exp(-p.peroxide_loss * math.exp(p.peroxide_activation / 8.314e-3 * (1.0 / 333.15 - 1.0 / kelvin)) * dt)
        fe2, fe3 = float(n[FE2]) + 1e-6 * volume, float(n[FE3]) + 1e-6 * volume
        mixed = p.orp_peroxide * float(n[H2O2]) / (float(n[H2O2]) + p.orp_half * volume)
        held = p.orp_powder if powder > p.orp_powder_least * volume else 0.0
        self.orp = approach(self.orp, p.orp_iron + 0.0862 * kelvin * math.log(fe3 / fe2) + mixed - held, dt, p.orp_lag)

    def _precipitate(self, volume: float, dt: float) -> None:
        """Solve pH together with the hydroxides; then cryolite and silica."""
        p = self.p
        n, row = self.liquor, self.solids[_HYDROXIDE]
        water = float(n[WATER])
        if water <= 0.0:
            return
        inverse = 1.0 / water
        x, y = n.tolist(), row.tolist()
        bound = y[F] / 6.0  # Al of the cryolite is no hydroxide
        solids = [(y[place] - bound if place == AL else y[place]) * inverse for place in _METALS]
        solids = [amount if amount > 0.0 else 0.0 for amount in solids]
        stirred = min(p.stir_rest + self.stirrer / p.stir_full, 1.0)
        attack = 1.0 + 10.0**-self.chemistry.ph / p.aged_acid
        two = 1.0 - math.exp(-dt * stirred / p.divalent)
        three = 1.0 - math.exp(-dt * stirred / p.hydroxide)
        back = 1.0 - math.exp(-dt * stirred * attack / p.aged)
        self.chemistry.solve(
            self.temperature,
            molal(n),
            solids,
            ahead=[two if charge == 2 else three for charge in _CHARGE],
            back=[two if charge == 2 else back for charge in _CHARGE],
            surface=p.surface * (y[AL] + y[FE3]) * inverse,
        )
        trivalent = 0.0
        for place, charge, left in zip(_METALS, _CHARGE, self.chemistry.left, strict=True):
            moved = x[place] - left * water
            if moved == 0.0:
                continue
            moved = max(min(moved, x[place]), -y[place])
            n[place] = x[place] - moved
            row[place] = y[place] + moved
            if charge == 3:
                trivalent += moved
        cryolite = self.chemistry.saturation("cryolite") if x[F] > 0.0 and x[AL] > 0.0 and x[NA] > 0.0 else -9.0
        if cryolite > 0.0 and x[F] > 0.0:
            share = 1.0 - math.exp(-dt / p.fluoride)
            f = x[F] * (1.0 - 10.0 ** (-cryolite / 6.0)) * share
            f = min(f, 6.0 * 0.5 * float(n[AL]), 2.0 * 0.5 * float(n[NA]))
            for place, part in ((F, 1.0), (AL, 1.0 / 6.0), (NA, 0.5)):
                n[place] -= part * f
                row[place] += part * f
        elif cryolite < 0.0 and row[F] > 0.0:
            f = (
                min(float(row[F]), 2.0 * float(row[NA]), 6.0 * float(row[AL]))
                * (1.0 - 10.0 ** max(cryolite / 6.0, -6.0))
                * (1.0 - math.exp(-dt * attack / p.aged_fluoride))
            )
            for place, part in ((F, 1.0), (AL, 1.0 / 6.0), (NA, 0.5)):
                part = min(part * f, float(row[place]))
                n[place] += part
                row[place] -= part
        if trivalent > 0.0 and x[SI] > 0.0:
            silica = min(p.silica * x[SI] * trivalent / (trivalent + y[AL] + y[FE3] + 1.0), x[SI])
            n[SI] -= silica
            row[SI] += silica

    def _fall(self, dt: float) -> None:
        """Move phosphates, fluorides and gypsum towards their saturation, first order."""
        n, row = self.liquor, self.solids[_SALTS]
        share = 1.0 - math.exp(-dt / self.p.fluoride)
        least = 1e-7 * float(n[WATER])  # with which a dissolving solid begins
        for name, (cation, anion, count, hydrate) in _SPARSE.items():
            solid = float(row[cation])
            if cation == CA:  # what is not gypsum is fluoride
                solid = float(row[S]) if anion == S else max(solid - float(row[S]), 0.0)
            have, with_ = float(n[cation]), float(n[anion]) / count
            if solid <= 0.0 and (have <= 0.0 or with_ <= 0.0):
                continue
            index = min(max(self.chemistry.saturation(name), -3.0), 9.0)
            if index > 0.0:
                x = min(have * (1.0 - 10.0**-index), with_ * (1.0 - 10.0 ** (-index / count)), 0.9 * have, 0.9 * with_) * share
            elif solid > 0.0:
                x = -min((min(have, with_) + least) * (10.0 ** (-index / (1.0 + count)) - 1.0) * share, solid)
            else:
                continue
            for place, part in ((cation, 1.0), (anion, count), (WATER, hydrate)):
                moved = max(part * x, -float(row[place]))
                n[place] -= moved
                row[place] += moved

    def _sorb(self, volume: float, dt: float) -> None:
        """Move Ni, Co and Li between the liquor and the surface of the Al hydroxide."""
        p = self.p
        grams = 26.98 * float(self.solids[_HYDROXIDE, AL]) / volume  # [g/L]
        loose, fast = self.solids[_LOOSE], self.solids[_FAST]
        if grams < 1e-6 and loose[NI] <= 0.0:
            return
        share = (p.sorbed_base * min(grams, 1.0) + p.sorbed * grams) / (1.0 + 10.0 ** (p.edge_steepness * (p.edge - self.chemistry.ph)))
        step = 1.0 - math.exp(-dt / p.sorption)
        for place in _SORBS:
            free, held, stuck = float(self.liquor[place]), float(loose[place]), float(fast[place])
            want = share * (free + held + stuck)
            if want > held + stuck:
                move = min((want - held - stuck) * step, free)
                self.liquor[place] = free - move
                loose[place] = held + move * p.comes_off
                fast[place] = stuck + move * (1.0 - p.comes_off)
            else:
                move = max(held - share * (free + held), 0.0) * step
                self.liquor[place] = free + move
                loose[place] = held - move

    def _press(self, sp: Mapping[str, float], dt: float, ledger: Ledger) -> None:
        press = self.press
        press.pressure = press.flow = 0.0
        share = opening(sp["transfer_pump"])
        washes = sp["press_wash_flow_sp"] > 0.0 or press.wash_flow > 0.0
        room = self._clear_room() if share > 0.0 or washes else 0.0
        if share > 0.0 and room > 0.0 and (volume := self.volume()) > 0.0:
            moved = min(press.rate(share) * dt, volume, room)
            part = 1.0 if volume - moved < 1.0 else moved / volume
            liquor, solids = self.liquor * part, self.solids * part
            self.liquor = self.liquor - liquor if part < 1.0 else np.zeros(NC)
            self.solids = self.solids - solids if part < 1.0 else np.zeros((6, NC))
            self.solid_mass *= 1.0 - part
            out, bled = press.filter(liquor, solids)
            self._pass(out, bled, ledger)
            self.clear += out
            press.flow = litres(out) / dt * 60.0
        if washes and room > 0.0:
            washed = press.wash(sp["press_wash_flow_sp"], dt, ledger)
            if washed is not None:
                self.clear += washed
                press.flow += litres(washed) / dt * 60.0
                press.pressure = max(press.pressure, 1.0 + press.wash_flow * 0.02)
        elif share == 0.0 and press.dry > 0.0:
            if sp["repulp"] > 0.5:
                liquor, solids = press.drop()
                self.liquor += liquor
                self.solids += solids
                sorbed = self.solids[_LOOSE] + self.solids[_FAST]
                self.solids[_LOOSE], self.solids[_FAST] = self.p.comes_off * sorbed, (1.0 - self.p.comes_off) * sorbed
                self.solid_mass = float((self.solids * _MASS).sum())
            elif sp["press_discharge"] > 0.5:
                liquor, solids = press.drop()
                for form, row in zip(_ROWS, solids, strict=True):
                    ledger.leave("purification_cake", row, form)
                ledger.leave("purification_cake", liquor)

    def _pass(self, filtrate: FloatArray, bled: FloatArray, ledger: Ledger) -> None:
        """What passes the cloth dissolves behind it [A]; metal takes oxygen of the air for that."""
        solids = bled.sum(axis=0)
        before = sum((HO[form] @ row for form, row in zip(_ROWS, bled, strict=True)), np.zeros(2))
        solids[BOUND] = solids[HEAT]
        react(filtrate, before, HO_LIQUOR.dot(solids), 0.0, ledger, 0.0)
        filtrate += solids

    def _clear_room(self) -> float:
        return self.p.clear_volume - litres(self.clear)

    def draw(self, volume: float) -> FloatArray:
        """Take up to `volume` [L] of clear liquor."""
        there = litres(self.clear)
        part = 1.0 if there - volume < 0.5 else volume / there
        out = self.clear * part
        self.clear = self.clear - out if part < 1.0 else np.zeros(NC)
        return out

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        liquid = litres(self.liquor)
        flow, salt = self.lines.flow, self.salts.flow
        wet = liquid > 20.0
        return (
            self.temperature, self.chemistry.ph if wet else 7.0, self.orp if wet else 200.0, (liquid + self.solid_mass / self.p.density) * 1e-3,
            self.stirrer,
            flow["naoh_flow"], flow["acid_flow"], flow["peroxide_flow"], flow["water_flow"], self.powder, self.jacket.temperature,
            self.press.pressure, self.press.flow, self.press.wet, litres(self.clear) * 1e-3,
            salt["niso4_flow"], salt["coso4_flow"], salt["mnso4_flow"], 100.0 * self.hydrogen / self.p.offgas / 0.04,
        )  # fmt: skip

    def holds(self) -> Content:
        """Return all that the tank, its press and the clear-liquor tank hold."""
        out: Content = [(self.liquor, LIQUOR), (self.press.liquor, LIQUOR), (self.clear, LIQUOR), (vector({HEAT: self.shell.heat}), LIQUOR)]
        for place, form in enumerate(_ROWS):
            out += [(self.solids[place], form), (self.press.solids[place], form)]
        return out
