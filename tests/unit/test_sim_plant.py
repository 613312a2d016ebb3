"""The simulated plant under any inputs: what it refuses, what it never does, and that it is the same every time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.device import load_profile, profile_folder
from drivers.tags import FloatArray
from simulators.components import HEAT, MN, NI, OXIDE, WATER, S, litres, vector
from simulators.feed import FEEDS
from simulators.plant import Plant
from simulators.vessels import Ledger, Press, PressParameters

PROFILES = {path.stem: load_profile(path) for path in sorted(profile_folder().glob("*.toml"))}
WRITABLE = [
    (device, name, signal.range)
    for device, profile in PROFILES.items()
    for name, signal in profile.signals.items()
    if signal.access == "write" and device != "icp_analyser" and not (profile.heartbeat and name == profile.heartbeat.signal)
]


def plant(seed: int = 0, step: float = 1.0, feed: str = "nmc622") -> Plant:
    return Plant(PROFILES, feed=FEEDS[feed], seed=seed, step=step)


def value(subject: Plant, device: str, signal: str) -> float:
    return float(subject.read(device)[PROFILES[device].place(signal)])


def inventories(subject: Plant) -> list[FloatArray]:
    leach, purify, reactor, dryer = subject.leach, subject.purification, subject.reactor, subject.filter
    return [
        leach.liquor, leach.solids, leach.press.liquor, leach.press.solids, purify.liquor, purify.solids, purify.press.liquor,
        purify.press.solids,
        purify.clear, reactor.liquor, reactor.solids, dryer.free, dryer.pore, dryer.solids,
    ]  # fmt: skip


def primed(step: float) -> Plant:
    """A plant with something in every vessel, so that random inputs meet matter."""
    subject = plant(step=step)
    for device, signals in {
        "shredder": {"nitrogen_flow_sp": 100.0}, "leach_tank": {"water_flow_sp": 100.0, "acid_flow_sp": 18.0, "stirrer_speed_sp": 100.0},
        "precipitation_reactor": {"water_flow_sp": 3000.0, "ammonia_flow_sp": 200.0, "naoh_flow_sp": 100.0, "seed_rate_sp": 30.0},
    }.items():  # fmt: skip
        for signal, number in signals.items():
            subject.write(device, signal, number)
    subject.hopper.weight = 300.0
    subject.ledger.enter("black mass", subject.leach.per_kg * 300.0, OXIDE)
    subject.write("weigh_hopper", "feeder_rate_sp", 800.0)
    subject.advance(900.0)
    subject.write("leach_tank", "transfer_pump", 50.0)
    subject.write("purification_tank", "naoh_flow_sp", 10.0)
    subject.advance(600.0)
    subject.write("purification_tank", "transfer_pump", 50.0)
    subject.advance(300.0)
    return subject


Move = tuple[tuple[str, str, tuple[float, float]], float, float]  # signal, share of its range, time to the next [s]
MOVES = st.lists(st.tuples(st.sampled_from(WRITABLE), st.floats(0.0, 1.0), st.sampled_from([5.0, 40.0, 300.0])), min_size=5, max_size=40)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(moves=MOVES, step=st.sampled_from([1.0, 5.0]))
def test_any_inputs_leave_amounts_finite_and_closed(moves: list[Move], step: float) -> None:
    subject = primed(step)
    for (device, signal, (low, high)), share, seconds in moves:
        subject.write(device, signal, low + share * (high - low))
        subject.advance(seconds)
        for inventory in inventories(subject):
            assert np.isfinite(inventory).all()
            assert inventory[..., :HEAT].min() > -1e-6, (device, signal, inventory)
    errors = subject.balance()
    assert abs(errors.pop("energy")) < 1e-4
    assert max(map(abs, errors.values())) < 1e-6, errors
    for device, profile in PROFILES.items():
        reading = subject.read(device)
        assert np.isfinite(reading).all()
        assert (reading >= profile.low).all()
        assert (reading <= profile.high).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 20.1])
def test_a_setpoint_out_of_range_is_refused(bad: float) -> None:
    subject = plant()
    subject.write("leach_tank", "acid_flow_sp", 3.0)
    with pytest.raises(ValueError, match=r"leach_tank\.acid_flow_sp: expected 0 to 20 L/min"):
        subject.write("leach_tank", "acid_flow_sp", bad)
    assert value(subject, "leach_tank", "acid_flow_sp") == 3.0


def test_what_is_measured_cannot_be_written() -> None:
    subject = plant()
    with pytest.raises(ValueError, match=r"leach_tank\.temperature: expected a writable signal"):
        subject.write("leach_tank", "temperature", 20.0)
    with pytest.raises(ValueError, match="no device 'kiln'"):
        subject.write("kiln", "temperature", 20.0)


def test_safe_state_holds_until_the_heartbeat_returns() -> None:
    subject = plant()
    subject.write("leach_tank", "acid_flow_sp", 10.0)
    subject.write("leach_tank", "heartbeat", 41)
    subject.advance(30.0)
    assert value(subject, "leach_tank", "acid_flow") > 9.0
    subject.safe("leach_tank")
    assert value(subject, "leach_tank", "safe_state") == 1.0
    assert value(subject, "leach_tank", "acid_flow_sp") == 0.0
    assert value(subject, "leach_tank", "stirrer_speed_sp") == PROFILES["leach_tank"].signals["stirrer_speed_sp"].safe
    assert value(subject, "leach_tank", "heartbeat") == 41
    subject.advance(60.0)
    assert value(subject, "leach_tank", "acid_flow") == pytest.approx(0.0, abs=0.01)
    subject.write("leach_tank", "heartbeat", 42)
    assert value(subject, "leach_tank", "safe_state") == 0.0


def test_the_shredder_stops_its_own_feed_in_air() -> None:
    subject = plant()
    subject.write("shredder", "rotor_speed_sp", 30.0)
    subject.write("shredder", "feed_rate_sp", 900.0)
    subject.advance(300.0)
    assert value(subject, "shredder", "feed_rate") == pytest.approx(0.0, abs=1e-6)
    subject.write("shredder", "nitrogen_flow_sp", 60.0)
    subject.advance(1800.0)
    assert value(subject, "shredder", "oxygen") < 2.0
    assert value(subject, "shredder", "feed_rate") > 850.0
    subject.write("shredder", "rotor_speed_sp", 0.0)
    subject.advance(60.0)
    assert value(subject, "shredder", "feed_rate") == pytest.approx(0.0, abs=1e-6)


def test_an_assay_takes_45_to_60_minutes() -> None:
    subject = plant()
    subject.write("icp_analyser", "sample_point", 1)
    subject.write("icp_analyser", "sample_request", 3)
    subject.advance(2690.0)
    assert value(subject, "icp_analyser", "sample_done") == 0
    subject.advance(920.0)
    assert value(subject, "icp_analyser", "sample_done") == 3
    assert value(subject, "icp_analyser", "sample_source") == 1
    assert value(subject, "icp_analyser", "ni") == pytest.approx(FEEDS["nmc622"].composition["Ni"] * 1e4, rel=0.01)


def test_the_same_calls_give_the_same_plant_and_reading_changes_nothing() -> None:
    one, other, third = plant(seed=5), plant(seed=5), plant(seed=6)
    for subject in (one, other, third):
        subject.write("leach_tank", "water_flow_sp", 100.0)
        subject.write("shredder", "nitrogen_flow_sp", 60.0)
    for _ in range(50):
        one.advance(7.0)
        third.advance(7.0)
        for _ in range(70):
            other.advance(0.1)
            other.read("leach_tank")
    assert np.array_equal(one.read("leach_tank"), other.read("leach_tank"))
    assert np.array_equal(one.read("shredder"), other.read("shredder"))
    assert not np.array_equal(one.read("leach_tank"), third.read("leach_tank"))


def test_full_steam_heats_the_leach_tank_by_about_one_degree_a_minute() -> None:
    subject = plant()
    subject.write("leach_tank", "water_flow_sp", 150.0)
    subject.advance(24 * 60.0)
    subject.write("leach_tank", "water_flow_sp", 0.0)
    subject.write("leach_tank", "jacket_valve", 100.0)
    subject.advance(300.0)
    before = subject.leach.temperature
    subject.advance(1200.0)
    assert 0.7 < (subject.leach.temperature - before) / 20.0 < 1.6


def test_a_cake_is_washed_by_the_wash_law() -> None:
    mass = np.ones((1, len(vector({}))))
    press = Press(PressParameters(bleed=0.0), mass)
    solids = vector({NI: 100.0})[None, :]
    liquor = vector({NI: 80.0, MN: 80.0, S: 160.0, WATER: 200.0})
    press.filter(liquor, solids)
    pore, before = litres(press.liquor), float(press.liquor[NI])
    press.wash_flow = 60.0
    for _ in range(100):
        press.wash(60.0, 2.0 * pore / 100.0, Ledger())
    assert litres(press.liquor) == pytest.approx(pore, rel=1e-6)
    assert float(press.liquor[NI]) / before == pytest.approx(math.exp(-0.7 * 2.0), rel=0.01)


def test_a_profile_that_no_unit_serves_is_refused() -> None:
    stranger = PROFILES["leach_tank"].model_copy(update={"id": "kiln"})
    with pytest.raises(ValueError, match="no simulated unit for profile 'kiln'"):
        Plant({"kiln": stranger}, feed=FEEDS["nmc622"])
