"""Transmitters: what they do to a true value, alone and all together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from drivers.device import Signal
from drivers.tags import FloatArray
from simulators.faults import Fault
from simulators.instruments import BAD, GOOD, UNCERTAIN, Instrument, Transmitters, instrument, sodium_error

STEAM = Signal(eu="degC", range=(0.0, 160.0), at="input:0")
PH = Signal(eu="pH", range=(0.0, 14.0), at="input:2")


def one(kind: Instrument, signal: Signal = STEAM, *, dt: float = 1.0, seed: int = 1, errors: int | None = None) -> Transmitters:
    return Transmitters([kind], [signal], dt, np.random.default_rng(seed), None if errors is None else np.random.default_rng(errors))


def run(subject: Transmitters, true: Callable[[float], float], until: float, start: float = 0.0) -> FloatArray:
    """Return what is measured at each second."""
    return np.array([float(subject.step(np.array([true(now)]), now)[0]) for now in np.arange(start, until)])


def broken(subject: Transmitters, kind: str, size: float = math.nan) -> Transmitters:
    subject.fail([(0, Fault("kiln", "t", kind, size))], np.random.default_rng(0))
    return subject


def test_a_lag_reaches_63_percent_after_its_time_constant() -> None:
    seen = run(one(Instrument(lag=20.0)), lambda now: 0.0 if now == 0.0 else 100.0, 60.0)
    assert seen[20] == pytest.approx(100.0 * (1.0 - math.exp(-1.0)), rel=1e-9)


def test_nothing_is_seen_before_the_dead_time() -> None:
    seen = run(one(Instrument(dead=7.0)), lambda now: 100.0 if now >= 5.0 else 0.0, 30.0)
    assert seen.tolist() == [0.0] * 12 + [100.0] * 18


def test_dead_time_is_counted_in_seconds_whatever_the_step() -> None:
    subject = one(Instrument(dead=10.0), dt=5.0)
    seen = [float(subject.step(np.array([now]), now)[0]) for now in (0.0, 5.0, 10.0, 15.0, 20.0)]
    assert seen == [0.0, 0.0, 0.0, 5.0, 10.0]


def test_noise_has_its_sigma() -> None:
    seen = run(one(Instrument(noise=0.5, relative=0.01)), lambda _: 50.0, 4000.0)
    assert seen.std() == pytest.approx(1.0, rel=0.05)
    assert seen.mean() == pytest.approx(50.0, abs=0.06)


def test_a_bias_that_walks_spreads_with_the_root_of_time() -> None:
    day = Transmitters([Instrument(walk=0.02)] * 400, [PH] * 400, 10.0, np.random.default_rng(3))
    for now in range(8640):
        day.step(np.full(400, 7.0), now * 10.0)
    assert (day.value - 7.0).std() == pytest.approx(0.02, rel=0.1)


def test_resolution_is_a_grid() -> None:
    seen = run(one(Instrument(noise=0.3, resolution=0.25)), lambda _: 50.0, 200.0)
    assert np.unique(seen % 0.25).tolist() == [0.0]
    assert len(np.unique(seen)) > 3


def test_accuracy_is_two_sigma_of_many_instances_and_the_same_for_the_same() -> None:
    kind = Instrument(accuracy=0.3, share=0.02)
    errors = [float(one(kind, errors=seed).step(np.array([100.0]), 0.0)[0]) - 100.0 for seed in range(1500)]
    assert np.std(errors) == pytest.approx(0.5 * math.hypot(0.3, 2.0), rel=0.06)
    assert errors[7] == float(one(kind, errors=7, seed=99).step(np.array([100.0]), 0.0)[0]) - 100.0
    assert float(one(kind).step(np.array([100.0]), 0.0)[0]) == 100.0


def test_glass_reads_low_in_strong_alkali() -> None:
    assert sodium_error(np.array([12.5, 13.0])) == pytest.approx([0.10, 0.18], abs=0.003)
    assert sodium_error(np.array([5.0]))[0] < 1e-4
    seen = run(one(Instrument(glass=True), PH), lambda _: 13.0, 2.0)
    assert seen[-1] == pytest.approx(12.82, abs=0.003)


def test_a_healthy_transmitter_stays_in_its_range() -> None:
    for true in (-50.0, 500.0):
        seen = run(one(Instrument(noise=5.0)), lambda _, true=true: true, 50.0)  # type: ignore[misc]
        assert (seen >= 0.0).all()
        assert (seen <= 160.0).all()


@pytest.mark.parametrize(
    ("kind", "size", "current", "status"),
    [("low", math.nan, 3.8, UNCERTAIN), ("high", math.nan, 20.5, UNCERTAIN), ("ne43", -1.0, 3.6, BAD), ("ne43", 1.0, 21.0, BAD)],
)
def test_ne_43_currents_say_what_is_wrong(kind: str, size: float, current: float, status: int) -> None:
    subject = broken(one(Instrument(noise=1.0)), kind, size)
    seen = run(subject, lambda _: 80.0, 5.0)
    assert 4.0 + 16.0 * seen / 160.0 == pytest.approx(np.full(5, current))
    assert subject.status[0] == status


def test_a_frozen_one_stands_still_and_says_nothing_of_it() -> None:
    subject = one(Instrument(noise=1.0))
    last = run(subject, lambda _: 80.0, 5.0)[-1]
    broken(subject, "frozen")
    assert run(subject, lambda now: now, 20.0).tolist() == [last] * 20
    subject.fail([(0, Fault("kiln", "t", "frozen")), (0, Fault("kiln", "t", "bias", 3.0))], np.random.default_rng(0))
    assert run(subject, lambda now: now, 5.0).tolist() == [last] * 5  # another fault does not thaw it
    assert subject.status[0] == GOOD


def test_bias_drift_and_slope_add_up_and_go_away() -> None:
    subject = broken(one(Instrument()), "bias", 2.0)
    assert run(subject, lambda _: 80.0, 2.0).tolist() == [82.0, 82.0]
    broken(subject, "drift", 1.5)
    assert run(subject, lambda _: 80.0, 7201.0)[-1] == pytest.approx(83.0)
    subject.fail([], np.random.default_rng(0))
    assert run(subject, lambda _: 80.0, 2.0).tolist() == [80.0, 80.0]


def test_a_coated_probe_is_slow_and_flat() -> None:
    fresh, coated = one(Instrument(lag=8.0), PH), broken(one(Instrument(lag=8.0), PH), "coated", 10.0)
    rise = lambda now: 7.0 if now == 0.0 else 11.0  # noqa: E731
    assert run(coated, rise, 21.0)[-1] < run(fresh, rise, 21.0)[-1] - 2.0
    assert run(coated, lambda _: 11.0, 2000.0)[-1] == pytest.approx(7.0 + 0.9 * 4.0)


def test_spikes_are_single_and_about_one_a_minute() -> None:
    seen = run(broken(one(Instrument()), "spike", 30.0), lambda _: 80.0, 6000.0)
    off = np.flatnonzero(seen != 80.0)
    assert 60 <= len(off) <= 150
    assert np.abs(seen - 80.0).max() <= 30.0


def test_the_noise_of_one_does_not_move_the_others() -> None:
    pair = [Transmitters([Instrument(noise=1.0)] * 2, [STEAM] * 2, 1.0, np.random.default_rng(4)) for _ in range(2)]
    pair[0].fail([(0, Fault("kiln", "t", "spike", 30.0)), (0, Fault("kiln", "t", "noisy", 9.0))], np.random.default_rng(0))
    for now in range(50):
        left, right = (subject.step(np.array([50.0, 60.0]), float(now)) for subject in pair)
        assert left[1] == right[1]
        assert left[0] != right[0]


def test_every_signal_of_a_unit_has_an_instrument_of_its_design_basis() -> None:
    assert instrument("ph", "leach_tank").glass
    assert instrument("temperature", "filter_dryer").accuracy == 0.3
    assert instrument("acid_flow", "leach_tank").share == 0.002
    assert instrument("hydrogen", "shredder").accuracy < instrument("hydrogen", "leach_tank").accuracy  # % of gas, % of the explosive limit
    assert instrument("ni", "icp_analyser") == Instrument()  # its error is the laboratory's
