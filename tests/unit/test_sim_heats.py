"""Heats of the simulated liquors: what a calorimeter would find, and that oxygen and water come out of reactions by their atoms."""

from __future__ import annotations

import pytest

from simulators.components import AL, BALANCED, BOUND, FE2, FE3, H2, H2O2, HEAT, HO, LIQUOR, NA, NI, O2, REAGENTS, SALT, WATER, F, P, S, atoms, vector
from simulators.equilibrium import Equilibrium, molal
from simulators.feed import Feed
from simulators.heats import HeatParameters, Heats, bound
from simulators.leach import LeachParameters, LeachTank
from simulators.vessels import JacketParameters, Ledger, temperature

HEATS = Heats()
ADIABATIC = JacketParameters(ua=1e-9, loss=1e-9)
RESTING = dict.fromkeys(LeachTank.sets, 0.0)


def settled(amounts: dict[int, float], t: float = 25.0) -> float:
    """Return the enthalpy [kJ] of a liquor that is not sensible."""
    liquor = vector(amounts)
    chemistry = Equilibrium()
    chemistry.solve(t, molal(liquor))
    return bound(liquor, chemistry.heat, HEATS)


def test_sulfuric_acid_gives_its_heat_of_dilution() -> None:
    """H2SO4 of 96 % to 1 mol/kg: 60 to 72 kJ/mol, from what 4 % of water and 55 mol of it leave of 74.7 n/(n + 1.8) and of HSO4- [T]."""
    moles = 1000.0
    acid = REAGENTS["acid"] * (moles / 18.0)
    given = float(acid[BOUND]) - settled({S: moles, WATER: 1000.0 + float(acid[WATER])})
    assert 60.0 < given / moles < 75.0


def test_neutralising_sulfuric_acid_gives_133_kilojoules() -> None:
    """H2SO4 (aq) + 2 NaOH (aq): 2 x 66 kJ per mol of acid in dilute liquors [T], within 8 %."""
    moles = 50.0
    caustic = REAGENTS["naoh"] * (2.0 * moles / 10.0)
    caustic[[place for place in range(HEAT) if place not in (NA, WATER)]] = 0.0
    before = settled({S: moles, WATER: 1000.0}) + float(caustic[BOUND])
    after = settled({S: moles, NA: 2.0 * moles, WATER: 1000.0 + float(caustic[WATER])})
    assert (before - after) / moles == pytest.approx(133.0, rel=0.08)


def test_nickel_hydroxide_that_falls_takes_what_its_dissolution_gives() -> None:
    """Ni2+ + 2 OH- = Ni(OH)2: 2 x 55.8 - 96 = 16 kJ/mol given off, by the constants of the table."""
    given = 2.0 * 55.8 + float(HEATS.of[LIQUOR, NI] - HEATS.of[SALT, NI])
    assert given == pytest.approx(15.6, abs=0.1)


def test_a_tank_warms_by_the_heat_of_dilution() -> None:
    tank = LeachTank(Feed("nothing", {"C": 100.0}), LeachParameters(jacket=ADIABATIC))
    tank.liquor = vector({WATER: 1000.0})
    tank.heat_to(25.0)
    ledger = Ledger()
    for _ in range(300):
        tank.step({**RESTING, "acid_flow_sp": 10.0}, 1.0, 0.0, ledger)
    moles = 18.0 * ledger.dosed["acid"]
    capacity = tank.shell.capacity + 4.18 * float(tank.liquor[WATER])
    per_mol = (tank.temperature - 25.0) * capacity / moles
    assert 60.0 < per_mol < 75.0
    assert float(tank.liquor[HEAT]) + tank.shell.heat == pytest.approx(float(ledger.total_in()[HEAT]) + sum(ledger.warmed.values()), rel=1e-6)


def test_peroxide_gives_95_kilojoules_and_half_its_oxygen() -> None:
    tank = LeachTank(Feed("nothing", {"C": 100.0}), LeachParameters(jacket=ADIABATIC, peroxide_loss=(1e-2, 0.0, 0.0)))
    tank.liquor = vector({WATER: 1000.0, H2O2: 200.0, S: 10.0})
    tank.heat_to(40.0)
    ledger = Ledger()
    for _ in range(7200):
        tank.step(RESTING, 1.0, 0.0, ledger)
    assert float(tank.liquor[H2O2]) < 0.1
    assert (tank.temperature - 40.0) * (tank.shell.capacity + 4.18 * 1003.6) / 200.0 == pytest.approx(95.0, rel=0.02)
    assert float(ledger.out["off-gas"][O2]) == pytest.approx(100.0, rel=1e-3)
    assert float(tank.liquor[WATER]) == pytest.approx(1000.0 + 200.0 * 0.018015, rel=1e-4)


@pytest.mark.parametrize(("peroxide", "oxygen"), [(0.0, 0.25), (800.0, 0.5)])
def test_layered_oxide_gives_its_oxygen_by_the_equation(peroxide: float, oxygen: float) -> None:
    """LiMO2 + 3 H+ = Li+ + M2+ + 3/2 H2O + 1/4 O2, and with 1/2 H2O2 as much as 1/2 O2."""
    clean = Feed("clean NMC622 cathode", {"Ni": 36.33, "Co": 12.16, "Mn": 11.34, "Li": 7.16, "C": 0.0})
    tank = LeachTank(clean, LeachParameters(diffusion=0.0, activation=65.0, peroxide_loss=(0.0, 0.0, 0.0), jacket=ADIABATIC))
    tank.liquor = vector({S: 2200.0, H2O2: peroxide, WATER: 970.0})
    tank.heat_to(60.0)
    tank.stirrer, ledger = 120.0, Ledger()
    for second in range(2400):
        tank.step({**RESTING, "stirrer_speed_sp": 120.0}, 1.0, 50.0 if second == 0 else 0.0, ledger)
    dissolved = tank.charged - sum(tank.left)
    free = 0.35 * tank.charged  # needs no reductant
    made = float(ledger.out["off-gas"][O2])
    assert dissolved > free
    whole = 0.25 * dissolved + (oxygen - 0.25) * (dissolved - free)
    assert made == pytest.approx(whole, rel=0.04)


def test_iron_is_oxidised_with_water_for_oxygen() -> None:
    """Fe2+ + H+ + 1/2 H2O2 = Fe3+ + H2O: 150 kJ per mol, from 102 by oxygen and half of 95."""
    p = HeatParameters()
    assert float(HEATS.of[LIQUOR, FE2] - HEATS.of[LIQUOR, FE3]) + 0.5 * p.peroxide == pytest.approx(149.5, abs=0.1)
    before = HO[LIQUOR] @ vector({FE2: 2.0, H2O2: 1.0})
    after = HO[LIQUOR] @ vector({FE3: 2.0, WATER: 2.0 * 0.018015})
    assert before == pytest.approx(after)


def test_the_atoms_of_known_compounds() -> None:
    """Ni(OH)2, FePO4 and Na3AlF6 as precipitates; H2 and O2 of the gas."""
    names = ("Ni", "Fe", "P", "Al", "Na", "F", "H", "O")

    def of(amounts: dict[int, float], form: int) -> tuple[float, ...]:
        counted = dict(zip(BALANCED, atoms(vector(amounts), form).tolist(), strict=True))
        return tuple(round(counted[name], 9) for name in names)

    assert of({NI: 1.0}, SALT) == (1, 0, 0, 0, 0, 0, 2, 2)
    assert of({FE3: 1.0, P: 1.0}, SALT) == (0, 1, 1, 0, 0, 0, 0, 4)
    assert of({NA: 3.0, AL: 1.0, F: 6.0}, SALT) == (0, 0, 0, 1, 3, 6, 0, 0)
    assert of({H2: 1.0, O2: 2.0}, LIQUOR) == (0, 0, 0, 0, 0, 0, 2, 4)


def test_mixing_hot_and_cold_finds_the_middle() -> None:
    hot, cold = REAGENTS["water"] * 10.0, REAGENTS["water"] * 10.0
    hot[HEAT] += 4.18 * hot[WATER] * 40.0
    assert temperature(hot + cold) == pytest.approx(42.0)
