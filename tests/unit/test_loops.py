"""Loops: the vectorised law against the same law written plainly, and what a control engineer expects of it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core import loops
from controller.core.loops import LoopState
from controller.core.plan import LoopRows
from drivers.tags import FloatArray


def rows(
    n: int = 1, gain: float = 2.0, reset: float = 60.0, beta: float = 1.0, feed_gain: float = 0.0, out: tuple[float, float] = (0.0, 100.0)
) -> LoopRows:
    index = np.zeros(n, dtype=np.intp)
    full = lambda value: np.full(n, float(value))  # noqa: E731
    names = tuple(f"L-{place}" for place in range(n))
    return LoopRows(
        names, index, index, index, full(gain), full(reset), full(beta), full(feed_gain), full(-1e9), full(1e9), full(out[0]), full(out[1])
    )


def run(law: LoopRows, state: LoopState, pv: float, sp: float, applied: float, dt: float = 1.0, active: bool = True, feed: float = 0.0) -> LoopState:
    one = lambda value: np.array([value], dtype=float)  # noqa: E731
    return loops.advance(law, state, one(pv), one(feed), one(sp), np.array([active]), one(applied), dt)


def test_it_brings_a_first_order_process_to_its_setpoint() -> None:
    law, pv = rows(gain=4.0, reset=100.0), 20.0
    state = loops.initial(law)
    for _ in range(3000):
        state = run(law, state, pv, 60.0, float(state.out[0]))
        pv += (20.0 + 0.6 * float(state.out[0]) - pv) / 100.0
    assert pv == pytest.approx(60.0, abs=0.01)


def test_it_starts_where_the_output_is() -> None:
    law = rows()
    state = run(law, loops.initial(law), pv=50.0, sp=80.0, applied=37.0)
    assert state.out[0] == 37.0


def test_it_does_not_wind_up_behind_a_limit_or_an_interlock() -> None:
    law, state = rows(gain=1.0, reset=10.0), None
    state = run(law, loops.initial(law), 0.0, 50.0, 0.0)
    for _ in range(10_000):  # an interlock holds the output at 0 with an error of 50
        state = run(law, state, 0.0, 50.0, 0.0)
    assert state.out[0] <= 100.0
    for _ in range(60):  # the error turns: it must come off at once
        state = run(law, state, 60.0, 50.0, float(state.out[0]))
    assert state.out[0] == 0.0


def test_a_lost_measurement_leaves_the_output_and_its_return_does_not_kick() -> None:
    law = rows()
    state = run(law, loops.initial(law), 50.0, 55.0, 20.0)
    state = run(law, state, 50.0, 55.0, float(state.out[0]))
    before = float(state.out[0])
    for _ in range(100):
        state = run(law, state, math.nan, 55.0, before)
        assert state.out[0] == before
    state = run(law, state, 50.0, 55.0, before)
    assert state.out[0] == pytest.approx(before)
    assert np.isfinite(state.integral).all()


def test_the_integral_error_of_a_load_step_is_exact() -> None:
    """IE = d Ti / Kc for every stable loop with integral action (from u = Kc/Ti * integral of e at rest)."""
    kc, ti, load = 3.0, 50.0, 7.0
    law, pv, error = rows(gain=kc, reset=ti, out=(-1e6, 1e6)), 0.0, 0.0
    state = run(law, loops.initial(law), pv, 0.0, 0.0)
    for _ in range(20_000):
        state = run(law, state, pv, 0.0, float(state.out[0]))
        error += 0.0 - pv
        pv += (float(state.out[0]) + load - pv) / 30.0
    assert -error == pytest.approx(load * ti / kc, rel=1e-6)


values = st.one_of(st.just(math.nan), st.floats(-100.0, 100.0))


def oracle(law: LoopRows, last: LoopState, pv: float, sp: float, feed: float, active: bool, applied: float, dt: float) -> tuple[float, float, bool]:
    """One loop by plain ifs."""
    kc, ti, low, high = law.gain[0], law.reset[0], law.out_low[0], law.out_high[0]
    ff = law.feed_gain[0] * (0.0 if math.isnan(feed) else feed)
    if not active:
        return applied, applied - ff, False
    if math.isnan(sp - pv):
        return last.out[0], last.out[0] - ff, False
    p = kc * (law.beta[0] * sp - pv)
    if not last.running[0]:
        out = min(max(applied, low), high)
        return out, out - p - ff, True
    kt = -math.expm1(-dt / ti)
    integral = last.integral[0] + kc * min(dt / ti, 1.0) * (sp - pv) + kt * (applied - last.out[0])
    asked = p + ff + integral
    out = min(max(asked, low), high)
    return out, integral + kt * (out - asked), True


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(values, values, values, st.booleans(), st.floats(0, 100), st.floats(0.0, 200.0)), min_size=1, max_size=60))
def test_it_agrees_with_the_plain_law(moves: list[tuple[float, float, float, bool, float, float]]) -> None:
    law = rows(gain=1.7, reset=40.0, beta=0.8, feed_gain=0.3)
    state = loops.initial(law)
    for pv, sp, feed, active, applied, dt in moves:
        expected = oracle(law, state, pv, sp, feed, active, applied, dt)
        state = run(law, state, pv, sp, applied, dt, active, feed)
        found: FloatArray = np.array([state.out[0], state.integral[0]])
        np.testing.assert_allclose(found, expected[:2], rtol=1e-12, atol=1e-9)
        assert bool(state.running[0]) is expected[2]
        assert np.isfinite(found).all()
