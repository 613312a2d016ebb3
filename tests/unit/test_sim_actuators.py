"""Actuators: travel, stiction, what breaks them, and motors that trip; then the shredder's drive on the plant."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device import Signal, load_profile, profile_folder
from simulators.actuators import Actuator, Actuators, Output
from simulators.faults import Fault, Faults
from simulators.feed import FEEDS
from simulators.plant import Plant

PROFILES = {path.stem: load_profile(path) for path in sorted(profile_folder().glob("*.toml"))}
MOTORS = ["shredder", "leach_tank", "purification_tank", "precipitation_reactor"]
VALVE = Signal(eu="%", range=(0.0, 100.0), at="holding:0", access="write")


def one(kind: Actuator, dt: float = 1.0) -> Actuators:
    return Actuators([Output("kiln", "valve", VALVE, kind)], {}, dt)


def moved(subject: Actuators, asked: float, steps: int = 1) -> float:
    subject.asked[0] = asked
    for _ in range(steps):
        felt = subject.step({})
    return float(felt[0])


def broken(kind: str, size: float = math.nan, of: Actuator = Actuator(20.0)) -> Actuators:  # noqa: B008
    subject = one(of)
    subject.fail([(0, Fault("kiln", "valve", kind, size))])
    return subject


def test_a_valve_takes_its_time() -> None:
    subject = one(Actuator(20.0))
    assert moved(subject, 100.0) == pytest.approx(5.0)
    assert moved(subject, 100.0, 18) == pytest.approx(95.0)
    assert moved(subject, 100.0, 1) == pytest.approx(100.0)
    assert moved(subject, 40.0, 4) == pytest.approx(80.0)


def test_one_without_travel_is_there_at_once() -> None:
    assert moved(one(Actuator()), 73.0) == 73.0


def test_a_valve_that_sticks_follows_only_a_large_change_and_then_all_of_it() -> None:
    subject = one(Actuator(10.0, stick=0.02))
    assert moved(subject, 2.0, 50) == 0.0
    assert moved(subject, 2.1, 50) == pytest.approx(2.1)
    assert moved(subject, 0.2, 50) == pytest.approx(2.1)


def test_stiction_of_a_fault_adds_to_none() -> None:
    subject = broken("stiction", 10.0)
    assert moved(subject, 9.0, 50) == 0.0
    assert moved(subject, 11.0, 50) == pytest.approx(11.0)


def test_a_slow_one_needs_so_much_longer() -> None:
    assert moved(broken("slow", 4.0), 100.0, 20) == pytest.approx(25.0)
    assert moved(broken("slow", 50.0, Actuator()), 100.0) == pytest.approx(2.0)  # one without travel: range in SIZE steps


def test_a_stuck_one_stays_and_goes_on_when_it_is_free() -> None:
    subject = one(Actuator(10.0))
    moved(subject, 50.0, 3)
    subject.fail([(0, Fault("kiln", "valve", "stuck"))])
    assert moved(subject, 80.0, 20) == pytest.approx(30.0)
    subject.fail([])
    assert moved(subject, 80.0, 20) == pytest.approx(80.0)


def test_a_loss_moves_but_does_nothing() -> None:
    subject = broken("loss")
    assert moved(subject, 60.0, 30) == 0.0
    assert subject.position[0] == pytest.approx(60.0)


def test_an_interlock_is_stronger_than_what_was_asked() -> None:
    subject = one(Actuator(10.0))
    moved(subject, 80.0, 20)
    subject.step({0: 0.0})
    assert subject.position[0] == pytest.approx(70.0)
    assert subject.asked[0] == 80.0


@given(
    st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(1, 30)), max_size=20),
    st.sampled_from([0.1, 1.0, 10.0]),
    st.sampled_from([0.0, 0.5, 7.0, 60.0]),
)
def test_it_never_moves_faster_than_it_can_nor_out_of_its_range(moves: list[tuple[float, int]], dt: float, travel: float) -> None:
    subject = one(Actuator(travel, stick=0.01), dt)
    reach = 100.0 * dt / travel if travel > 0.0 else math.inf
    for asked, steps in moves:
        for _ in range(steps):
            before = float(subject.position[0])
            now = moved(subject, asked)
            assert abs(now - before) <= reach * (1.0 + 1e-9)
            assert 0.0 <= now <= 100.0


def plant(**options: object) -> Plant:
    return Plant(PROFILES, feed=FEEDS["nmc622"], seed=1, **options)  # type: ignore[arg-type]


def value(subject: Plant, device: str, signal: str) -> float:
    return float(subject.read(device)[PROFILES[device].place(signal)])


@pytest.mark.parametrize("device", MOTORS)
def test_a_tripped_motor_is_locked_until_reset_and_started_anew(device: str) -> None:
    speed = "rotor_speed" if device == "shredder" else "stirrer_speed"
    subject = plant()
    subject.write("shredder", "nitrogen_flow_sp", 100.0)  # its rotor has to be let run
    subject.advance(900.0)
    subject.write(device, f"{speed}_sp", 50.0)
    subject.advance(120.0)
    assert value(subject, device, speed) == pytest.approx(50.0, abs=1.0)
    subject.faults.add(Fault(device, f"{speed}_sp", "trip", start=subject.time, duration=10.0))
    subject.advance(2.0)
    assert value(subject, device, "drive_tripped") == 1.0
    assert value(subject, device, speed) > 20.0
    subject.write(device, "drive_reset", 1.0)  # it still turns
    subject.advance(60.0)
    assert value(subject, device, "drive_tripped") == 1.0
    assert value(subject, device, speed) < 1.0
    subject.write(device, "drive_reset", 0.0)
    subject.write(device, "drive_reset", 1.0)
    subject.advance(60.0)
    assert value(subject, device, "drive_tripped") == 0.0
    assert value(subject, device, speed) < 1.0  # a reset starts nothing
    subject.write(device, f"{speed}_sp", 0.0)
    subject.advance(2.0)
    subject.write(device, f"{speed}_sp", 50.0)
    subject.advance(120.0)
    assert value(subject, device, speed) == pytest.approx(50.0, abs=1.0)


def shredding() -> Plant:
    subject = plant()
    subject.write("shredder", "nitrogen_flow_sp", 80.0)
    subject.advance(1200.0)
    subject.write("shredder", "rotor_speed_sp", 30.0)
    subject.write("shredder", "feed_rate_sp", 900.0)
    subject.advance(300.0)
    return subject


def test_a_jam_is_reversed_out() -> None:
    subject = shredding()
    before = subject.hopper.weight
    subject.shredder.jammed = True
    seen = []
    for _ in range(120):
        subject.advance(1.0)
        seen.append((value(subject, "shredder", "torque"), value(subject, "shredder", "rotor_speed")))
    torque, speed = np.array(seen).T
    assert torque.max() > 200.0
    assert speed.min() < 5.0
    assert not subject.shredder.jammed
    subject.advance(300.0)
    assert value(subject, "shredder", "drive_tripped") == 0.0
    assert subject.hopper.weight > before + 20.0


def test_a_jam_that_stays_trips_the_drive_after_three_reversals() -> None:
    subject = shredding()
    for _ in range(120):
        subject.shredder.jammed = not value(subject, "shredder", "drive_tripped")
        subject.advance(1.0)
    assert value(subject, "shredder", "drive_tripped") == 1.0
    assert value(subject, "shredder", "rotor_speed") < 0.5
    assert value(subject, "shredder", "feed_rate") == pytest.approx(0.0, abs=1e-6)
    subject.write("shredder", "rotor_speed_sp", 0.0)
    subject.write("shredder", "drive_reset", 1.0)
    subject.advance(2.0)
    subject.write("shredder", "rotor_speed_sp", 30.0)
    subject.advance(200.0)
    assert value(subject, "shredder", "feed_rate") > 850.0


def test_a_blocked_line_brings_nothing_and_its_feedback_follows() -> None:
    subject = plant(faults=Faults([Fault("leach_tank", "water_flow_sp", "loss", start=300.0)]))
    subject.write("leach_tank", "water_flow_sp", 100.0)
    subject.advance(320.0)
    volume = subject.leach.volume()
    assert volume > 450.0
    subject.advance(300.0)
    assert value(subject, "leach_tank", "water_flow") == pytest.approx(100.0, rel=0.02)
    assert subject.leach.volume() == pytest.approx(volume, rel=0.02)
