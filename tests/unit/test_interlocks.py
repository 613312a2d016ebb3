"""Interlocks: permits that a bad value does not give."""

import math

import numpy as np
import pytest

from controller.core import interlocks
from controller.core.plan import Condition, InterlockRows


def row(limit: float = 85.0, sign: float = 1.0, hysteresis: float = 2.0, delay: float = 0.0, latch: bool = False) -> InterlockRows:
    permit = Condition(np.array([0]), np.array([sign]), np.array([limit]), np.array([False]))
    affects = np.array([[False, True]])
    safe = np.array([[math.nan, 5.0]])
    return InterlockRows(
        ("I-1",), ("too hot",), ("T-1",), permit, np.array([hysteresis]), np.array([delay]), np.array([latch]), affects, safe, ("TT-1 <= 85 degC",)
    )


def judge(rows: InterlockRows, *values: float, dt: float = 1.0) -> interlocks.InterlockState:
    state = interlocks.initial(rows)
    for value in values:
        state = interlocks.judge(rows, state, np.array([value]), dt)
    return state


def test_it_is_tripped_until_a_good_value_gives_the_permit() -> None:
    rows = row()
    assert interlocks.initial(rows).tripped[0]
    assert not judge(rows, 20.0).tripped[0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, 85.1])
def test_a_value_that_is_bad_or_over_its_limit_trips(bad: float) -> None:
    assert judge(row(), 20.0, bad).tripped[0]


def test_a_lower_limit_trips_below_it() -> None:
    rows = row(limit=20.0, sign=-1.0, hysteresis=0.0)
    assert not judge(rows, 30.0).tripped[0]
    assert judge(rows, 30.0, 19.9).tripped[0]


def test_it_returns_only_inside_its_hysteresis() -> None:
    assert judge(row(), 20.0, 86.0, 84.0).tripped[0]
    assert not judge(row(), 20.0, 86.0, 83.0).tripped[0]


def test_a_delay_waits_and_starts_again_when_the_value_was_good() -> None:
    rows = row(delay=2.0)
    assert not judge(rows, 20.0, 90.0).tripped[0]
    assert judge(rows, 20.0, 90.0, 90.0).tripped[0]
    assert not judge(rows, 20.0, 90.0, 20.0, 90.0).tripped[0]


def test_a_latch_stays_until_it_is_released_and_only_then_if_the_cause_is_gone() -> None:
    rows = row(latch=True)
    state = judge(rows, 20.0, 90.0, 20.0)
    assert state.tripped[0]
    assert "not given yet" in interlocks.release(rows, state, "I-1", np.array([90.0]))
    assert interlocks.release(rows, state, "I-1", np.array([20.0])) == ""
    assert not interlocks.judge(rows, state, np.array([20.0]), 1.0).tripped[0]


def test_a_lost_value_trips_but_does_not_latch() -> None:
    rows = row(latch=True)
    assert judge(rows, 20.0, math.nan).tripped[0]
    assert not judge(rows, 20.0, math.nan, 20.0).tripped[0]


def test_it_is_applied_last_and_says_when_it_changed_something() -> None:
    rows = row()
    tripped = judge(rows, 90.0)
    outputs, acting = interlocks.apply(rows, tripped, np.array([7.0, 9.0]))
    assert outputs.tolist() == [7.0, 5.0]
    assert acting == [0]
    _, acting = interlocks.apply(rows, tripped, np.array([7.0, 5.0]))
    assert acting == []
