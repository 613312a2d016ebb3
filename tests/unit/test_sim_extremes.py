"""The units by themselves, with setpoints far beyond what an actuator can give: what they hold and measure stays finite, no amount is negative."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from drivers.tags import FloatArray
from simulators.components import BOUND, CL, HEAT, LI, NC, NI, WATER, WATER_HEAT, F, N, S, vector
from simulators.crystalliser import Crystalliser
from simulators.feed import FEEDS
from simulators.leach import LeachTank
from simulators.precipitation import Reactor
from simulators.purification import PurificationTank
from simulators.vessels import Ledger

Setpoints = Mapping[str, float]
Step = Callable[[Setpoints, float], object]
MATTER = [place for place in range(NC) if place not in (HEAT, BOUND)]
LIQUOR = vector({NI: 70.0, LI: 70.0, S: 120.0, F: 3.0, CL: 1.0, N: 10.0, WATER: 100.0, HEAT: WATER_HEAT * 100.0 * 30.0})


class Source:
    """Gives of the liquor as much as is asked for, but at most 100 L."""

    clear = LIQUOR

    def draw(self, volume: float) -> FloatArray:
        return LIQUOR * min(max(volume, 0.0), 100.0) / 100.0


def leach() -> tuple[Any, Step]:
    unit = LeachTank(FEEDS["nmc622"])
    return unit, lambda sp, dt: unit.step(sp, dt, 5.0, Ledger())


def purification() -> tuple[Any, Step]:
    unit = PurificationTank()
    return unit, lambda sp, dt: unit.step(sp, dt, LIQUOR.copy(), None, Ledger())


def reactor() -> tuple[Any, Step]:
    unit = Reactor(np.array([0.6, 0.2, 0.2]))
    source: Any = Source()
    return unit, lambda sp, dt: unit.step(sp, dt, source, 1e3, Ledger())


def crystalliser() -> tuple[Any, Step]:
    unit = Crystalliser()
    return unit, lambda sp, dt: unit.step(sp, dt, LIQUOR.copy(), Source(), Ledger())


@pytest.mark.parametrize("make", [leach, purification, reactor, crystalliser])
@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_setpoint_makes_amounts_negative_or_endless(make: Callable[[], tuple[Any, Step]], data: st.DataObject) -> None:
    unit, step = make()
    value = st.one_of(st.just(0.0), st.floats(0.0, 200.0), st.sampled_from([1e6, -1e6]), st.floats(-1e6, 1e6))
    for _ in range(data.draw(st.integers(1, 8), "moves")):
        setpoints = {name: data.draw(value, name) for name in unit.sets}
        dt = data.draw(st.sampled_from([1e-3, 1.0, 10.0]), "dt [s]")
        for _ in range(3):
            step(setpoints, dt)
            for part, _form in unit.holds():
                assert np.isfinite(part).all()
                assert part[MATTER].min() >= -1e-9 * max(1.0, np.abs(part[MATTER]).max())
            assert all(math.isfinite(measured) for measured in unit.measure())
