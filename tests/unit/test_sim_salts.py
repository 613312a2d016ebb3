"""Sparingly soluble salts of the purification, and what shredding does to the black mass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulators.components import AL, CA, FE3, HEAT, LIQUOR, NA, WATER, WATER_HEAT, F, P, S, vector
from simulators.feed import FEEDS
from simulators.purification import PurificationTank
from simulators.shredder import ShredderParameters, carry_over
from simulators.vessels import Ledger

SALTS = 5  # their row


def stirred(amounts: dict[int, float], hours: float, **setpoints: float) -> tuple[PurificationTank, Ledger]:
    """Return a tank of 1 t of water at 60 degC after so long."""
    tank, ledger = PurificationTank(), Ledger()
    walls = vector({HEAT: -tank.shell.heat})
    tank.liquor = vector({**amounts, WATER: 1000.0, HEAT: WATER_HEAT * 1000.0 * 35.0})
    ledger.enter("start", tank.liquor, LIQUOR)
    for _ in range(round(hours * 360)):
        held = dict.fromkeys(tank.sets, 0.0) | {"stirrer_speed_sp": 100.0} | setpoints
        held["jacket_valve"] = min(max(20.0 * (60.0 - tank.temperature), -100.0), 100.0)
        tank.step(held, 10.0, None, None, ledger)
    errors = ledger.error([*tank.holds(), (walls, LIQUOR)])
    assert abs(errors.pop("energy")) < 1e-4
    assert max(map(abs, errors.values())) < 1e-6, errors
    return tank, ledger


def test_iron_takes_phosphate_out_of_a_sour_liquor() -> None:
    """Strengite: log Ksp -26.4. At pH near 2 an excess of Fe(III) leaves some milligrams of P in a litre."""
    tank, _ = stirred({FE3: 30.0, P: 20.0, S: 60.0, NA: 60.0}, 3.0)
    assert 1.0 < tank.chemistry.ph < 3.0
    assert float(tank.solids[SALTS, P]) == pytest.approx(20.0, rel=0.05)
    assert float(tank.solids[SALTS, FE3]) == pytest.approx(float(tank.solids[SALTS, P]))
    assert tank.chemistry.saturation("FePO4") == pytest.approx(0.0, abs=0.15)


def test_aluminium_holds_phosphate_at_the_end_point_of_the_purification() -> None:
    tank, _ = stirred({AL: 60.0, P: 10.0, S: 100.0, NA: 20.0}, 1.0)
    for _ in range(720):
        held = dict.fromkeys(tank.sets, 0.0) | {"stirrer_speed_sp": 100.0, "naoh_flow_sp": 0.3 if tank.chemistry.ph < 5.5 else 0.0}
        tank.step(held, 10.0, None, None, Ledger())
    assert 5.3 < tank.chemistry.ph < 6.2
    assert 31.0 * float(tank.liquor[P]) < 50.0  # mg/kg
    assert float(tank.solids[SALTS, AL]) > 9.0


def test_gypsum_stays_at_its_solubility_and_dissolves_again() -> None:
    """log Ksp -4.61: a sulfate liquor cannot hold 50 mmol/kg of calcium; water that comes takes it up again."""
    tank, _ = stirred({CA: 50.0, S: 250.0, NA: 400.0}, 6.0)
    gypsum = float(tank.solids[SALTS, S])
    assert gypsum > 20.0
    assert float(tank.solids[SALTS, WATER]) == pytest.approx(0.03603 * gypsum)
    assert tank.chemistry.saturation("gypsum") == pytest.approx(0.0, abs=0.1)
    more, _ = stirred({CA: 50.0, S: 250.0, NA: 400.0}, 10.0, water_flow_sp=8.0)
    assert float(more.solids[SALTS, S]) < 0.7 * gypsum


def test_fluoride_takes_calcium_as_fluorite() -> None:
    tank, _ = stirred({CA: 4.0, F: 20.0, S: 20.0, NA: 56.0}, 6.0)
    row = tank.solids[SALTS]
    assert float(row[CA]) > 3.5
    assert float(row[F]) == pytest.approx(2.0 * (float(row[CA]) - float(row[S])), rel=1e-6)
    assert np.all(row[:WATER] >= 0.0)


def test_harder_blows_and_a_coarser_sieve_carry_more_foil_over() -> None:
    """Process design basis, section 5. At the nominal cut and energy the feed is what its name says."""
    nominal = ShredderParameters()
    assert carry_over(nominal) == 1.0
    assert FEEDS["nmc622"].with_foil(carry_over(nominal)) is FEEDS["nmc622"]
    factors = [carry_over(replace(nominal, energy=energy, cut=cut)) for energy, cut in ((15.0, 0.25), (15.0, 0.5), (60.0, 0.5), (60.0, 1.0))]
    assert factors == sorted(factors)
    assert factors[1] < 1.0 < factors[2]
    before = FEEDS["nmc622"].composition
    after = FEEDS["nmc622"].with_foil(2.0).composition
    assert after["Cu"] / after["Ni"] == pytest.approx(2.0 * before["Cu"] / before["Ni"])
    assert after["Ni"] / after["Co"] == pytest.approx(before["Ni"] / before["Co"])
    assert sum(after.values()) == pytest.approx(sum(before.values()), rel=0.01)
