"""Lithium crystalliser: feed tank, stripping and evaporation, Glauber salt by cooling, lithium carbonate by soda, its centrifuge and dryer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from drivers.tags import FloatArray
from simulators.components import (
    AMBIENT,
    BOUND,
    CA,
    GAS,
    H2O2,
    HEAT,
    HO_GAS,
    HO_LIQUOR,
    HO_SALT,
    LI,
    LIQUID_MASS,
    LIQUOR,
    NA,
    NAMES,
    NC,
    SALT,
    SI,
    WATER,
    WATER_HEAT,
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
from simulators.crystalliser_salts import (
    MOLAR,
    CrystalliserParameters,
    carbonate_share,
    carbonate_solubility,
    precipitates,
    sulfate_solubility,
    vapour_pressure,
)
from simulators.equilibrium import Equilibrium, Table, molal
from simulators.heats import Heats, bound
from simulators.vessels import (
    SOLID_HEAT,
    Content,
    Jacket,
    Ledger,
    Lines,
    Press,
    Shell,
    approach,
    check_step,
    opening,
    react,
    within,
)

__all__ = ["Crystalliser", "Crystals", "Source"]

_SULFATE, _CARBONATE, _MUD = range(3)  # rows of the solids: Na2SO4 with its water of crystallisation, Li2CO3, what else precipitates
_OUTLETS = ("glauber_salt", "lithium_carbonate", "crystalliser_mud")  # where a cake goes, by what it mostly is
_METALS = [NAMES.index(solid.metal) for solid in HYDROXIDES]
_CHARGE = [-solid.of["H"] for solid in HYDROXIDES]
_FORMS = [0.0 if place == CA else 1.0 for place in _METALS]  # calcium falls as carbonate
_MASS = np.tile(LIQUID_MASS, (3, 1))
_MASS[_MUD, _METALS] += 0.017007 * np.array(_CHARGE) * np.array(_FORMS)
_MASS[_MUD, WATER] = 0.0
_DENSITY = np.array([1.46, 2.11, 2.4])  # [kg/L] Glauber salt, Li2CO3 [T]; hydroxides and the rest [A]
_HYDRATE = 0.18015  # [kg/mol] water of Na2SO4 . 10 H2O
_TRANSITION = 32.38  # [degC] above which the anhydrous salt is the stable one [T]
_LOOK = 10.0  # [s] between two solutions of the chemistry, whose fastest step takes minutes


class Source(Protocol):
    """A tank of clear liquor that can be drawn from."""

    def draw(self, volume: float) -> FloatArray:
        """Take up to `volume` [L]."""


@dataclass(frozen=True)
class Crystals:
    """What lies in the centrifuge or was discharged last as product."""

    inventory: FloatArray  # with its liquor [mol; kg]
    dry: float  # [kg]
    moisture: float  # [%]


class Crystalliser:
    """The feed tank, the vessel and the centrifuge with its dryer.

    Filtrate of the wash filter runs into the feed tank while `collect` is open. The centrifuge's goes back there while `recycle` is
    open and is bled else. Everything that leaves is in the ledger; the last crystals stay for the laboratory.
    """

    measures = (
        "temperature", "ph", "density", "volume", "tank_volume", "feed_flow", "clear_flow", "naoh_flow", "acid_flow", "soda_flow", "air_flow",
        "condensate_flow", "jacket_temperature", "filtrate_flow", "wash_flow", "cake_weight", "cake_temperature", "moisture",
    )  # fmt: skip
    sets = (
        "feed_flow_sp", "clear_flow_sp", "naoh_flow_sp", "acid_flow_sp", "soda_flow_sp", "air_flow_sp", "jacket_valve", "transfer_pump",
        "wash_flow_sp", "heater", "collect", "recycle", "discharge",
    )  # fmt: skip

    def __init__(self, parameters: CrystalliserParameters | None = None, table: Table | None = None, heats: Heats | None = None) -> None:
        self.p = parameters or CrystalliserParameters()
        self.heats = heats or Heats()
        self.shell, self.basket = Shell(), Shell(self.p.dryer_capacity)
        self.tank: FloatArray = np.zeros(NC)
        self.liquor: FloatArray = np.zeros(NC)
        self.solids: FloatArray = np.zeros((3, NC))
        self.solid_volume = self.solid_mass = 0.0
        self.temperature = AMBIENT
        self.chemistry = Equilibrium(table)
        self.jacket = Jacket(self.p.coil)
        self.lines = Lines({"naoh_flow": "naoh", "acid_flow": "acid", "soda_flow": "soda"}, self.p.line)
        self.centrifuge = Press(self.p.centrifuge, _MASS)
        self.cake_temperature = AMBIENT
        self.feed = self.clear = self.air = self.vapour = self.heating = 0.0
        self.crystals: Crystals | None = None
        self._waited = self._since = 0.0
        self._carbonate_share = 1.0  # CO3 of all carbonate

    def volume(self) -> float:
        """Return the slurry's volume at rest [L]."""
        return litres(self.liquor) + self.solid_volume

    def level(self) -> float:
        """Return the volume [L] that the level shows: boiling lifts it."""
        return self.volume() * (1.0 + self.p.swell * self.vapour)

    def step(self, sp: Mapping[str, float], dt: float, filtrate: FloatArray | None, source: Source, ledger: Ledger) -> None:
        """Advance by `dt` [s]; `filtrate` comes from the wash filter, clear liquor from `source`."""
        check_step(dt)
        self._collect(sp, dt, filtrate, source, ledger)
        self._fill(sp, dt, ledger)
        if self.liquor[WATER] > 1.0:
            self._heat(sp, dt, ledger)
            self._since += dt
            if self._since >= _LOOK:
                self._react(self._since, ledger)
                self._since = 0.0
        else:
            self.vapour = 0.0
        self._spin(sp, dt, ledger)
        self._dry(sp, dt, ledger)

    def _collect(self, sp: Mapping[str, float], dt: float, filtrate: FloatArray | None, source: Source, ledger: Ledger) -> None:
        if filtrate is None and self.clear == sp["clear_flow_sp"] == 0.0:
            return
        room = self.p.tank - litres(self.tank)
        if filtrate is not None:
            if sp["collect"] > 0.5 and room > 0.0:
                self.tank += filtrate
            else:
                ledger.leave("mother_liquor", filtrate)
        self.clear = approach(self.clear, within(sp["clear_flow_sp"], 0.0, self.p.feed_most) if room > 0.0 else 0.0, dt, 3.0)
        if self.clear > 0.0:
            wanted = self.clear * dt / 60.0
            new = source.draw(wanted)
            if litres(new) < 0.5 * wanted:
                self.clear = litres(new) / dt * 60.0  # the clear-liquor tank has run dry
            self.tank += new

    def _fill(self, sp: Mapping[str, float], dt: float, ledger: Ledger) -> None:
        """Feed from the tank, and dose."""
        p = self.p
        room = p.volume - self.volume()
        there = litres(self.tank)
        self.feed = approach(self.feed, within(sp["feed_flow_sp"], 0.0, p.feed_most) if room > 0.0 and there > 0.0 else 0.0, dt, 3.0)
        fed = 0.0
        if self.feed > 0.0 and there > 0.0:
            wanted = min(self.feed * dt / 60.0, there)
            part = 1.0 if there - wanted < 0.5 else wanted / there
            new = self.tank * part
            self.tank = self.tank - new if part < 1.0 else np.zeros(NC)
            fed = litres(new)
            self.liquor += new
        self.lines.step(sp, dt, self.liquor, ledger, room=lambda: room - fed)

    def _heat(self, sp: Mapping[str, float], dt: float, ledger: Ledger) -> None:
        """Heat or cool; boil, strip ammonia with vapour and air; froth carries liquor over."""
        p, n = self.p, self.liquor
        warm = self.jacket.warming(sp["jacket_valve"], dt, ledger)
        self.temperature = self._share(n, self.shell, self.solids, self.solid_mass, warm)
        capacity = self.shell.capacity + SOLID_HEAT * self.solid_mass + WATER_HEAT * float(n[WATER])
        self.air = approach(self.air, within(sp["air_flow_sp"], 0.0, p.air_most), dt, 4.0)
        water = float(n[WATER])
        activity = max(1.0 - p.water_activity * float(n[:WATER].sum()) / water, 0.3)
        boiling = 100.0 - p.boiling_slope * math.log(activity)
        gone = 0.0  # [kg] of vapour
        if self.temperature > boiling:
            gone = min((self.temperature - boiling) * capacity / p.latent, 0.2 * water)
        steam = min(activity * vapour_pressure(self.temperature), 1.0)
        henry = p.henry * math.exp(-p.henry_turn * (1.0 / 298.15 - 1.0 / (self.temperature + 273.15)))
        ammonia = min(self.chemistry.ammonia / henry, 0.5) if n[N] > 0.0 else 0.0
        moles = gone / 0.018015
        if self.air > 0.0:
            dry = self.air / 3600.0 / 0.022414 * dt
            damp = min(dry * steam / max(1.0 - steam - ammonia, 0.1), 0.2 * (water - gone) / 0.018015)
            gone += 0.018015 * damp
            moles += dry + damp
        if gone > 0.0 or moles > 0.0:
            lost = min(moles * ammonia, 0.2 * float(n[N]))
            vapour = vector({N: lost, WATER: gone})
            vapour[HEAT] = gone * (p.latent + WATER_HEAT * (self.temperature - 25.0)) + lost * self.heats.of[GAS, N]
            n -= vapour
            ledger.leave("condensate", vapour, GAS)
        self.vapour = gone / dt
        over = self.level() - p.volume
        if over > 0.0:
            carried = n * min(over / self.level(), 0.2)
            self.liquor = n - carried
            ledger.leave("condensate", carried)

    def _react(self, dt: float, ledger: Ledger) -> None:
        """Move everything towards its solubility."""
        p, n, mud = self.p, self.liquor, self.solids[_MUD]
        before = HO_LIQUOR.dot(n) + HO_SALT.dot(self.solids.sum(axis=0))
        water = float(n[WATER])
        slow = 1.0 - math.exp(-dt / p.mud_time)
        shares = [slow * forms for forms in _FORMS]
        self.chemistry.solve(self.temperature, molal(n), [float(mud[place]) * forms / water for place, forms in zip(_METALS, _FORMS, strict=True)],
                             ahead=shares, back=shares)  # fmt: skip
        fallen = 0.0
        for place, forms, left in zip(_METALS, _FORMS, self.chemistry.left, strict=True):
            moved = max(min(float(n[place]) - left * water, float(n[place])), -float(mud[place])) if forms else 0.0
            n[place] -= moved
            mud[place] += moved
            fallen += max(moved, 0.0)
        if fallen > 0.0:
            silica = p.silica * float(n[SI]) * slow
            n[SI] -= silica
            mud[SI] += silica
        n[H2O2] *= math.exp(-dt / 600.0)
        if n[C] > 0.0:
            if self.chemistry.ph < p.sour:
                gas = vector({C: float(n[C]) * (1.0 - math.exp(-dt / p.carbon_dioxide))})
                gas[HEAT] = self.heats.of[GAS, C] * gas[C]
                n -= gas
                before -= HO_GAS.dot(gas)
                ledger.leave("off-gas", gas, GAS)
            self._carbonate_share = min(max(self.chemistry.free("C") * water / max(float(n[C]), 1e-12), 0.0), 1.0)
        self._fall(slow)
        self._sulfate(1.0 - math.exp(-dt / p.sulfate_time))
        self._carbonate(dt)
        self.solid_mass = float((self.solids * _MASS).sum())
        self.solid_volume = float(((self.solids * _MASS).sum(axis=1) / _DENSITY).sum())
        react(n, before, HO_LIQUOR.dot(n) + HO_SALT.dot(self.solids.sum(axis=0)), 0.0, ledger, 0.0)
        n[BOUND] = bound(n, self.chemistry.heat, self.heats)

    def _fall(self, share: float) -> None:
        """Let CaCO3, LiF and Li3PO4 fall or dissolve."""
        p, n, mud = self.p, self.liquor, self.solids[_MUD]
        water = float(n[WATER])
        calcium, carbon = float(n[CA]), float(n[C]) * self._carbonate_share
        if calcium > 0.0 or mud[CA] > 0.0:
            x = 0.5 * (calcium + carbon - math.sqrt((calcium - carbon) ** 2 + 4.0 * p.calcite * water * water))
            x = max(min(x * share, calcium, float(n[C])), -float(min(mud[CA], mud[C])))
            for place in (CA, C):
                n[place] -= x
                mud[place] += x
        if n[LI] <= 0.0:
            return
        if n[F] > 0.0:
            index = min(max(self.chemistry.saturation("LiF"), -6.0), 12.0)
            x = (float(n[F]) * (1.0 - 10.0**-index) if index > 0.0 else -float(mud[F]) * (1.0 - 10.0**index)) * share
            x = max(min(x, 0.5 * float(n[LI])), -float(min(mud[F], mud[LI])))
            for place in (LI, F):
                n[place] -= x
                mud[place] += x
        if n[P] > 0.0 or mud[P] > 0.0:
            stays = p.phosphate * water / (float(n[LI]) / water) ** 3
            x = max(min((float(n[P]) - stays) * share, 0.1 * float(n[LI])), -float(min(mud[P], mud[LI] / 3.0)))
            for place, count in ((LI, 3.0), (P, 1.0)):
                n[place] -= count * x
                mud[place] += count * x

    def _sulfate(self, share: float) -> None:
        """Crystallise or dissolve Na2SO4 by its solubility product; below 32.4 degC with ten waters."""
        p, n, row = self.p, self.liquor, self.solids[_SULFATE]
        water, solid = float(n[WATER]), float(row[S])
        binds = _HYDRATE if self.temperature < _TRANSITION else 0.0
        turned = max(min((binds * solid - float(row[WATER])) * share, 0.2 * water), -float(row[WATER]))
        row[WATER] += turned
        n[WATER] -= turned
        water -= turned
        two, one = float(n[NA]), float(n[S])
        high = min(0.5 * two, one, 0.9 * water / _HYDRATE if binds else math.inf)
        x = precipitates(two, one, 4.0 * sulfate_solubility(self.temperature, p) ** 3, water, binds, -solid, high) * share
        held = binds * x if x > 0.0 else (float(row[WATER]) * x / solid if solid > 0.0 else 0.0)
        for place, amount in ((NA, 2.0 * x), (S, x), (WATER, held)):
            n[place] -= amount
            row[place] += amount
        np.maximum(row[:HEAT], 0.0, out=row[:HEAT])

    def _carbonate(self, dt: float) -> None:
        """Precipitate or dissolve Li2CO3 by its solubility product: after an induction, then first order."""
        p, n, row = self.p, self.liquor, self.solids[_CARBONATE]
        water, solid = float(n[WATER]), float(row[C])
        two, one = float(n[LI]), float(n[C])
        if solid <= 0.0 and (two <= 0.0 or one <= 0.0):
            self._waited = 0.0
            return
        free = carbonate_share(self.temperature, p)
        product = 4.0 * carbonate_solubility(self.temperature, p) ** 3 * free / max(self._carbonate_share, 1e-6)
        x = precipitates(two, one, product, water, 0.0, -solid, min(0.5 * two, one))
        if x > 0.0 and solid <= 0.0:
            self._waited += dt * math.log(max(two * two * one / (product * water**3), 1.0))
            if self._waited < p.induction:
                return
        if solid > 0.0 and x < 0.0:
            self._waited = 0.0
        warm = math.exp(p.carbonate_activation / 8.314e-3 * (1.0 / 363.15 - 1.0 / (self.temperature + 273.15)))
        x *= 1.0 - math.exp(-dt / p.carbonate_time * warm)
        if x > 0.0:
            self._build_in(x * MOLAR["Li2CO3"] * 1e-3, water)
        elif solid > 0.0:
            for place in (NA, S, K):
                back = float(row[place]) * min(-x / solid, 1.0)
                n[place] += back
                row[place] -= back
        for place, count in ((LI, 2.0), (C, 1.0)):
            amount = count * x
            n[place] -= amount
            row[place] = max(float(row[place]) + amount, 0.0)

    def _build_in(self, kg: float, water: float) -> None:
        """Build sodium, potassium and sulfate into the lattice of `kg` of new Li2CO3, in proportion to the liquor's."""
        p, n, row = self.p, self.liquor, self.solids[_CARBONATE]
        sodium = p.lattice_sodium * 1e-6 * kg / 0.02299 / 5.0 / water  # per mol in the liquor
        sulfur = p.lattice_sulfur * 1e-6 * kg / 0.03206 / 2.5 / water
        for place, rate in ((NA, sodium), (K, p.lattice_potassium * sodium), (S, sulfur)):
            amount = float(n[place]) * min(rate, 0.1)
            n[place] -= amount
            row[place] += amount

    def _spin(self, sp: Mapping[str, float], dt: float, ledger: Ledger) -> None:
        """Pump slurry through the centrifuge, wash its cake, or drop it."""
        spin = self.centrifuge
        spin.flow = 0.0
        share = opening(sp["transfer_pump"])
        recycle = sp["recycle"] > 0.5
        room = self.p.tank - litres(self.tank) if recycle else math.inf
        if share > 0.0 and (volume := self.volume()) > 0.0 and room > 0.0 and spin.wet < self.p.basket:
            moved = min(spin.rate(share) * dt, volume)
            part = 1.0 if volume - moved < 1.0 else moved / volume
            liquor, solids = self.liquor * part, self.solids * part
            self.liquor = self.liquor - liquor if part < 1.0 else np.zeros(NC)
            self.solids = self.solids - solids if part < 1.0 else np.zeros((3, NC))
            self.solid_mass, self.solid_volume = self.solid_mass * (1.0 - part), self.solid_volume * (1.0 - part)
            out, bled = spin.filter(liquor, solids)
            self._take(out, bled.sum(axis=0), ledger)
            self._pass_on(out, recycle, dt, ledger)
        if sp["wash_flow_sp"] > 0.0 or spin.wash_flow > 0.0:
            washed = spin.wash(sp["wash_flow_sp"], dt, ledger)
            if washed is not None:
                heat = WATER_HEAT * self.centrifuge.wash_flow * dt / 60.0 * 0.992 * (self.p.wash_temperature - AMBIENT)  # through a heater
                washed[HEAT] += heat
                ledger.warm("wash water", heat)
                self._dissolve(washed, ledger)
                self._pass_on(washed, recycle and room > 0.0, dt, ledger)
        elif share == 0.0 and sp["discharge"] > 0.5 and spin.dry > 0.0:
            self.crystals = self.content()
            outlet = _OUTLETS[self._mostly()]
            liquor, solids = spin.drop()
            ledger.leave(outlet, solids.sum(axis=0), SALT)
            ledger.leave(outlet, liquor)

    def _inside(self, solids: FloatArray) -> float:
        """Return the enthalpy [kJ] of solids of shape (3, NC) that is not sensible."""
        p = self.p
        plain = float(self.heats.salt.dot(solids.sum(axis=0)))
        return plain - p.heat_hydrate / _HYDRATE * float(solids[_SULFATE, WATER]) + p.heat_carbonate * float(solids[_CARBONATE, C])

    @staticmethod
    def _take(liquor: FloatArray, solids: FloatArray, ledger: Ledger) -> None:
        """Let `solids` that were a precipitate dissolve in `liquor`."""
        solids = solids.copy()
        solids[BOUND] = solids[HEAT]
        react(liquor, HO_SALT.dot(solids), HO_LIQUOR.dot(solids), 0.0, ledger, 0.0)
        liquor += solids

    def _pass_on(self, filtrate: FloatArray, recycle: bool, dt: float, ledger: Ledger) -> None:
        self.centrifuge.flow += litres(filtrate) / dt * 60.0
        if recycle:
            self.tank += filtrate
        else:
            ledger.leave("crystalliser_bleed", filtrate)

    def _dissolve(self, washed: FloatArray, ledger: Ledger) -> None:
        """Wash water takes carbonate and sulfate of the cake along, short of its saturation."""
        p, spin = self.p, self.centrifuge
        water = float(washed[WATER])
        for row, main, most in (
            (_CARBONATE, C, carbonate_solubility(p.wash_temperature, p)),
            (_SULFATE, S, sulfate_solubility(p.wash_temperature, p)),
        ):
            solid = float(spin.solids[row, main])
            if solid <= 0.0:
                continue
            share = min(max(p.saturation * most * water - float(washed[main]), 0.0) / solid, 1.0)
            gone = spin.solids[row] * share
            spin.solids[row] -= gone
            spin.dry = max(spin.dry - float(_MASS[row].dot(gone)), 0.0)
            self._take(washed, gone, ledger)

    def _dry(self, sp: Mapping[str, float], dt: float, ledger: Ledger) -> None:
        p, spin = self.p, self.centrifuge
        self.heating = approach(self.heating, p.dryer * opening(sp["heater"]), dt, 5.0)
        if self.heating <= 0.0 and spin.dry <= 0.0 and abs(self.cake_temperature - AMBIENT) < 0.01:
            return
        self.cake_temperature = self._even(dt, ledger)
        pore = float(spin.liquor[WATER])
        above = self.cake_temperature - p.creep
        wet = pore - p.bound * spin.dry
        if above > 0.0 and wet > 0.0 and spin.dry > 0.0:
            capacity = self.basket.capacity + SOLID_HEAT * spin.dry + WATER_HEAT * pore
            falling = min(pore / spin.dry / p.critical, 1.0)
            gone = min(p.transfer * above * falling * dt, wet, 0.5 * above * capacity / p.latent)
            vapour = vector({WATER: gone, HEAT: gone * (p.latent + WATER_HEAT * (self.cake_temperature - 25.0))})
            spin.liquor -= vapour
            ledger.leave("off-gas", vapour, GAS)
            self.cake_temperature = self._even(0.0, ledger)

    def _even(self, dt: float, ledger: Ledger) -> float:
        """Return the one temperature [degC] of the centrifuge and its cake after `dt` [s] of heating, less what the room takes."""
        spin = self.centrifuge

        def warm(t: float, capacity: float) -> float:
            heat = (self.heating - self.p.dryer_loss * (t - AMBIENT)) * dt
            ledger.warm("dryer", heat)
            return t + heat / capacity

        return self._share(spin.liquor, self.basket, spin.solids, spin.dry, warm)

    def _share(self, liquor: FloatArray, shell: Shell, solids: FloatArray, mass: float, warm: Callable[[float, float], float]) -> float:
        """Bring a wall, its liquor and `mass` [kg] of solids of shape (3, NC) to one temperature and return it [degC]."""
        t, heat = shell.even((liquor,), sum(solids[:, HEAT].tolist()), self._inside(solids), mass, warm)
        solids[:, HEAT] = 0.0
        solids[_MUD, HEAT] = heat
        return t

    def _mostly(self) -> int:
        """Return the row of which the cake has most."""
        return int((self.centrifuge.solids * _MASS).sum(axis=1).argmax())

    def moisture(self) -> float:
        """Return water in the cake [% of the wet cake], without that of crystallisation."""
        pore, dry = float(self.centrifuge.liquor[WATER]), self.centrifuge.dry
        return 100.0 * pore / (pore + dry) if dry > 0.0 else 0.0

    def content(self) -> Crystals | None:
        """Return the lithium carbonate in the centrifuge, or the last that was dropped."""
        spin = self.centrifuge
        if spin.dry > 0.0 and self._mostly() == _CARBONATE:
            return Crystals(spin.solids.sum(axis=0) + spin.liquor, spin.dry, self.moisture())
        return self.crystals

    def measure(self) -> tuple[float, ...]:
        """Return the true values in the order of `measures`."""
        liquid = litres(self.liquor)
        wet = liquid > 20.0
        flow, spin = self.lines.flow, self.centrifuge
        whole = liquid + self.solid_volume
        density = (float(LIQUID_MASS.dot(self.liquor)) + self.solid_mass) / whole * 1e3 if wet else 998.0
        return (
            self.temperature, self.chemistry.ph if wet else 7.0, density, whole * (1.0 + self.p.swell * self.vapour) * 1e-3, litres(self.tank) * 1e-3,
            self.feed, self.clear, flow["naoh_flow"], flow["acid_flow"], flow["soda_flow"], self.air, self.vapour * 60.0,
            self.jacket.temperature, spin.flow, spin.wash_flow, spin.wet, self.cake_temperature, self.moisture(),
        )  # fmt: skip

    def holds(self) -> Content:
        """Return all that the feed tank, the vessel and the centrifuge hold."""
        spin = self.centrifuge
        walls = vector({HEAT: self.shell.heat + self.basket.heat})
        return [
            (walls, LIQUOR),
            (self.tank, LIQUOR),
            (self.liquor, LIQUOR),
            (spin.liquor, LIQUOR),
            *((row, SALT) for row in (*self.solids, *spin.solids)),
        ]
