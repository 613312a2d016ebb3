"""Local interlocks: each device stops its own outputs on its own measurements, without a controller."""

from __future__ import annotations

import pytest

from drivers.device import load_profile, profile_folder
from simulators.faults import Fault, Faults
from simulators.feed import FEEDS
from simulators.plant import Plant
from simulators.protection import INTERLOCKS, Interlock

PROFILES = {path.stem: load_profile(path) for path in sorted(profile_folder().glob("*.toml"))}


def plant(*faults: Fault) -> Plant:
    subject = Plant(PROFILES, feed=FEEDS["nmc622"], seed=1, faults=Faults(faults))
    subject.write("shredder", "nitrogen_flow_sp", 60.0)
    subject.write("precipitation_reactor", "nitrogen_flow_sp", 50.0)
    subject.write("precipitation_reactor", "water_flow_sp", 2000.0)
    subject.write("precipitation_reactor", "ammonia_flow_sp", 60.0)
    subject.advance(1800.0)
    subject.write("precipitation_reactor", "water_flow_sp", 0.0)
    subject.write("precipitation_reactor", "ammonia_flow_sp", 0.0)
    subject.advance(1800.0)
    return subject


def name(interlock: Interlock) -> str:
    return f"{interlock.profile}: {interlock.name}"


def test_every_interlock_names_signals_of_its_profile() -> None:
    for interlock in INTERLOCKS:
        signals = PROFILES[interlock.profile].signals
        assert signals[interlock.signal].access == "read"
        low, high = signals[interlock.signal].range
        assert low < interlock.limit < high
        for output, value in interlock.effects.items():
            assert signals[output].access == "write"
            assert signals[output].range[0] <= value <= signals[output].range[1]
    assert len({name(interlock) for interlock in INTERLOCKS}) == len(INTERLOCKS)


def test_a_plant_at_rest_under_nitrogen_stands_under_none_but_a_dry_probe() -> None:
    assert set(plant().protections()) <= {"purification_tank: pH high", "precipitation_reactor: pH A low", "precipitation_reactor: pH B low"}


@pytest.mark.parametrize("interlock", INTERLOCKS, ids=name)
def test_a_value_beyond_its_limit_stops_the_outputs_and_a_good_one_lets_them_go(interlock: Interlock) -> None:
    subject = plant()
    device = interlock.profile
    signal = PROFILES[device].signals[interlock.signal]
    far = (interlock.limit - signal.range[0]) if interlock.least else (signal.range[1] - interlock.limit)
    before = float(subject.read(device)[PROFILES[device].place(interlock.signal)])
    stood = name(interlock) in subject.protections()
    target = interlock.limit + (-0.5 if interlock.least else 0.5) * far
    subject.faults.add(Fault(device, interlock.signal, "bias", target - before))
    for output in interlock.effects:
        subject.write(device, output, 0.2 * PROFILES[device].signals[output].range[1])
    subject.advance(80.0)
    assert name(interlock) in subject.protections()
    rows = subject._actuators.rows
    for output, value in interlock.effects.items():
        assert subject._actuators.position[rows[device, output]] == pytest.approx(value), output
        assert subject.read(device)[PROFILES[device].place(output)] != value  # what was asked stays on the wire
    subject.faults.clear()
    subject.advance(120.0)
    assert (name(interlock) in subject.protections()) is stood


@pytest.mark.parametrize("kind", ["nan", "ne43"])
def test_a_failed_instrument_gives_no_permit(kind: str) -> None:
    subject = plant()
    assert "leach_tank: T high" not in subject.protections()
    subject.faults.add(Fault("leach_tank", "temperature", kind, -1.0, start=subject.time, duration=60.0))
    subject.advance(5.0)
    assert "leach_tank: T high" in subject.protections()
    subject.advance(120.0)
    assert "leach_tank: T high" not in subject.protections()


def boiling(subject: Plant) -> None:
    for _ in range(30):
        subject.leach.heat_to(95.0)
        subject.advance(5.0)


def test_a_device_judges_by_what_it_measures() -> None:
    subject = plant(Fault("leach_tank", "temperature", "frozen"))
    boiling(subject)
    assert "leach_tank: T high" not in subject.protections()
    subject.faults.clear()
    boiling(subject)
    assert "leach_tank: T high" in subject.protections()


def test_dosing_stops_with_the_stirrer_and_comes_back_with_it() -> None:
    subject = plant()
    subject.write("leach_tank", "stirrer_speed_sp", 120.0)
    subject.write("leach_tank", "acid_flow_sp", 10.0)
    subject.advance(120.0)
    place = PROFILES["leach_tank"].place("acid_flow")
    assert subject.read("leach_tank")[place] == pytest.approx(10.0, rel=0.02)
    subject.faults.add(Fault("leach_tank", "stirrer_speed_sp", "loss", start=subject.time, duration=120.0))
    subject.advance(60.0)
    # the feedback of the drive goes on: a sheared shaft is not seen by this interlock
    assert subject.read("leach_tank")[place] == pytest.approx(10.0, rel=0.02)
    subject.advance(120.0)
    subject.write("leach_tank", "stirrer_speed_sp", 0.0)
    subject.advance(90.0)
    assert subject.read("leach_tank")[place] == pytest.approx(0.0, abs=0.01)
    assert "leach_tank: stirrer stands" in subject.protections()
    subject.write("leach_tank", "stirrer_speed_sp", 120.0)
    subject.advance(120.0)
    assert subject.read("leach_tank")[place] == pytest.approx(10.0, rel=0.02)


def test_a_short_disturbance_does_not_trip_one_with_a_delay() -> None:
    subject = plant()
    subject.write("purification_tank", "naoh_flow_sp", 1.0)
    delay = next(interlock.delay for interlock in INTERLOCKS if interlock.signal == "ph")
    subject.faults.add(Fault("purification_tank", "ph", "bias", -3.0))  # a dry probe shows 7
    subject.advance(60.0)
    assert "purification_tank: pH high" not in subject.protections()
    subject.faults.clear()
    subject.advance(delay - 1.0)
    assert "purification_tank: pH high" not in subject.protections()
    subject.advance(5.0)
    assert "purification_tank: pH high" in subject.protections()
