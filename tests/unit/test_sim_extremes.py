"""The units by themselves, with any finite setpoint: what they hold and measure stays finite, no amount is negative; what is no step is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from drivers.tags import FloatArray
from simulators.components import BOUND, CL, CO, HEAT, LI, MN, NA, NC, NI, WATER, WATER_HEAT, F, N, S, vector
from simulators.crystalliser import Crystalliser
from simulators.feed import FEEDS
from simulators.filtration import FilterDryer
from simulators.laboratory import Laboratory, Sample
from simulators.leach import LeachTank
from simulators.precipitation import Particles, Reactor, Slurry
from simulators.purification import PurificationTank
from simulators.shredder import Hopper, Shredder
from simulators.vessels import Ledger

Setpoints = Mapping[str, float]
Step = Callable[[Setpoints, float], object]
MATTER = [place for place in range(NC) if place not in (HEAT, BOUND)]
LIQUOR = vector({NI: 70.0, LI: 70.0, S: 120.0, F: 3.0, CL: 1.0, N: 10.0, WATER: 100.0, HEAT: WATER_HEAT * 100.0 * 30.0})
CAKE = vector({NI: 60.0, CO: 20.0, MN: 20.0, S: 2.0, NA: 0.1})


class Source:
    """Gives of the liquor as much as is asked for, but at most 100 L."""

    clear = LIQUOR

    def draw(self, volume: float) -> FloatArray:
        return LIQUOR * min(max(volume, 0.0), 100.0) / 100.0


def shredder() -> tuple[Any, Step]:
    unit, chance = Shredder(900.0), np.random.default_rng(1)
    return unit, lambda sp, dt: unit.step(sp, dt, chance)


def hopper() -> tuple[Any, Step]:
    unit = Hopper()
    return unit, lambda sp, dt: unit.step(sp, dt, 1.0)


def leach() -> tuple[Any, Step]:
    unit = LeachTank(FEEDS["nmc622"])
    return unit, lambda sp, dt: unit.step(sp, dt, 5.0, Ledger())


def purification() -> tuple[Any, Step]:
    unit = PurificationTank()  # with its press and the adjustment of the ratio
    return unit, lambda sp, dt: unit.step(sp, dt, LIQUOR.copy(), None, Ledger())


def reactor() -> tuple[Any, Step]:
    unit = Reactor(np.array([0.6, 0.2, 0.2]))
    source: Any = Source()
    return unit, lambda sp, dt: unit.step(sp, dt, source, lambda: 1e3, Ledger())


def filter_dryer() -> tuple[Any, Step]:
    unit = FilterDryer()

    def step(sp: Setpoints, dt: float) -> object:
        crystals = Particles()
        crystals.seed(9.5, 9.0, 0.2, 3953.0)
        slurry = Slurry(LIQUOR.copy(), CAKE.copy(), 0.8, crystals) if unit.room() > 120.0 else None
        return unit.step(sp, dt, slurry, Ledger())

    return unit, step


def crystalliser() -> tuple[Any, Step]:
    unit = Crystalliser()
    return unit, lambda sp, dt: unit.step(sp, dt, LIQUOR.copy(), Source(), Ledger())


def laboratory() -> tuple[Any, Step]:
    unit, chance = Laboratory(), np.random.default_rng(1)
    return unit, lambda sp, dt: unit.step(sp, dt, chance, lambda _: Sample({"Ni": 4e5, "Na": 200.0}))


UNITS = [shredder, hopper, leach, purification, reactor, filter_dryer, crystalliser, laboratory]
# mostly what a plant does, so that there is something in the vessels when an absurd setpoint comes
ANY = st.floats(allow_nan=False, allow_infinity=False)
SETPOINT = st.one_of(st.just(0.0), st.floats(0.0, 200.0), st.sampled_from([1.0, 100.0, 1e12, -1e12, 1.7e308, -1.7e308, 5e-324]), ANY)


def fail_unless_whole(unit: Any) -> None:
    """Fail unless what a unit holds and measures is finite, and no amount negative."""
    for part, _form in unit.holds() if hasattr(unit, "holds") else ():
        assert np.isfinite(part).all()
        assert part[MATTER].min() >= -1e-9 * max(1.0, np.abs(part[MATTER]).max())
    assert all(math.isfinite(measured) for measured in unit.measure())


@pytest.mark.parametrize("make", UNITS)
@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_setpoint_makes_amounts_negative_or_endless(make: Callable[[], tuple[Any, Step]], data: st.DataObject) -> None:
    unit, step = make()
    for _ in range(data.draw(st.integers(1, 8), "moves")):
        setpoints = {name: data.draw(SETPOINT, name) for name in unit.sets}
        dt = data.draw(st.one_of(st.sampled_from([1e-6, 1e-3, 1.0, 10.0, 60.0]), st.floats(1e-6, 60.0)), "dt [s]")
        for _ in range(3):
            step(setpoints, dt)
            fail_unless_whole(unit)


@pytest.mark.parametrize("make", [make for make in UNITS if make is not laboratory])  # which goes by the clock
@settings(max_examples=30, deadline=None, derandomize=True, phases=[Phase.generate])
@given(dt=st.one_of(st.sampled_from([0.0, -1.0, 5e-324, 61.0, math.nan, math.inf, -math.inf]), st.floats().filter(lambda dt: not 1e-6 <= dt <= 60.0)))
def test_what_is_no_time_step_is_refused_before_anything_moves(make: Callable[[], tuple[Any, Step]], dt: float) -> None:
    unit, step = make()
    resting = dict.fromkeys(unit.sets, 0.0)
    before = unit.measure()
    with pytest.raises(ValueError, match="dt: expected 1e-06 to 60 s"):
        step(resting, dt)
    assert unit.measure() == before


@pytest.mark.parametrize("kg", [-1.0, 1e5, 1.7e308, math.nan, math.inf])
def test_solids_that_cannot_fall_in_are_refused(kg: float) -> None:
    tank, bin_ = LeachTank(FEEDS["nmc622"]), Hopper()
    with pytest.raises(ValueError, match="solids: expected 0 to 10000 kg"):
        tank.step(dict.fromkeys(tank.sets, 0.0), 1.0, kg, Ledger())
    with pytest.raises(ValueError, match="solids: expected 0 to 10000 kg"):
        bin_.step(dict.fromkeys(bin_.sets, 0.0), 1.0, kg)


def test_crystals_with_no_surface_to_speak_of_do_not_grow_without_end() -> None:
    crystals = Particles()
    crystals.seed(1e-310, 3.0, 0.2, 3953.0)
    crystals.grow(0.5, 0.0, 0.1, 3953.0, 1.0)
    assert all(math.isfinite(moment) for moment in crystals.m)
    assert 0.0 < crystals.percentiles()[1] < 10.0
    assert crystals.m[3] == pytest.approx(0.5 / 3953.0 * 1e18 * 6.0 / math.pi)  # the mass is there, as new crystals
