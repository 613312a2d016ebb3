"""Faults: their text, their times, chance, and that a plant under any of them stays a plant."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simulators
from drivers.device import load_profile, profile_folder
from simulators.faults import KINDS, Fault, Faults, parse
from simulators.feed import FEEDS
from simulators.plant import Plant

PROFILES = {path.stem: load_profile(path) for path in sorted(profile_folder().glob("*.toml"))}
TAGS = {
    "AT-201": ("leach_tank", "ph"), "TT-201": ("leach_tank", "temperature"), "FY-201": ("leach_tank", "acid_flow_sp"),
    "TY-201": ("leach_tank", "jacket_valve"), "LT-201": ("leach_tank", "volume"), "QT-601.NI": ("icp_analyser", "ni"),
}  # fmt: skip
PAGE = Path(simulators.__file__).parent.parent / "docs" / "reference" / "faults.md"


def read(text: str) -> Fault:
    return parse(text, TAGS, PROFILES)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("AT-201:drift=0.05/h@2h", Fault("leach_tank", "ph", "drift", 0.05, 7200.0)),
        ("TT-201:bias=2K@90min+30s", Fault("leach_tank", "temperature", "bias", 2.0, 5400.0, 30.0)),
        ("leach_tank.volume:bias=-200 L", Fault("leach_tank", "volume", "bias", -0.2)),
        ("QT-601.NI:bias=5000", Fault("icp_analyser", "ni", "bias", 5000.0)),
        ("TT-201:ne43=low", Fault("leach_tank", "temperature", "ne43", -1.0)),
        ("TT-201:ne43", Fault("leach_tank", "temperature", "ne43", 1.0)),
        ("AT-201:coated", Fault("leach_tank", "ph", "coated", 10.0)),
        ("FY-201:stiction=0.5 L/min", Fault("leach_tank", "acid_flow_sp", "stiction", 0.5)),
        ("TY-201:slow=3", Fault("leach_tank", "jacket_valve", "slow", 3.0)),
        ("shredder:trip@1h", Fault("shredder", "rotor_speed_sp", "trip", start=3600.0)),
        ("leach_tank:offline@10min+1min", Fault("leach_tank", "", "offline", start=600.0, duration=60.0)),
        ("TT-201:noisy", Fault("leach_tank", "temperature", "noisy", 2.4)),
    ],
)
def test_a_fault_is_read(text: str, fault: Fault) -> None:
    got = read(text)
    assert repr(got) == repr(fault)  # NaN is not itself
    assert repr(read(str(got))) == repr(fault)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("AT-201", "expected TARGET:KIND"),
        ("AT-201:dirft=1/h", "kind 'dirft' is not known; known: frozen, bias"),
        ("AT-210:frozen", "did you mean AT-201"),
        ("kiln.door:frozen", "known devices: "),
        ("AT-201:drift=0.05", "a drift an hour"),
        ("AT-201:drift=2 K/h", "cannot be expressed in pH"),
        ("TT-201:bias=2 degC", "cannot be expressed in K"),
        ("TT-201:bias=hot", "expected a value with its eu"),
        ("TT-201:frozen=3", "frozen has no size"),
        ("TT-201:ne43=up", "ne43=high or ne43=low"),
        ("TT-201:noisy=-1", "more than 0 K"),
        ("TY-201:slow=1", "more than 1"),
        ("TT-201:coated", "is of a pH probe"),
        ("TT-201:stuck", "is of an output"),
        ("FY-201:frozen", "is of a measurement"),
        ("leach_tank.drive_tripped:nan", "is of a measurement"),
        ("leach_tank.heartbeat:stuck", "is of an output"),
        ("FY-201:trip", "is of a motor"),
        ("weigh_hopper:trip", "without a motor that trips"),
        ("leach_tank:bias=1", "write device.signal or a tag"),
        ("TT-201:offline", "write leach_tank:offline"),
        ("TT-201:frozen@2", "expected a plant time such as 2h"),
        ("TT-201:frozen@2h+0s", "duration: expected a time ahead"),
        ("TT-201:frozen@-2h", "start: expected a time ahead"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        read(text)
    assert text in str(refused.value)


def test_faults_begin_and_end_and_say_so() -> None:
    faults = Faults([read("TT-201:frozen@10s+20s"), read("AT-201:bias=1@15s")])
    assert faults.active(0.0) == ()
    assert [fault.kind for fault in faults.active(10.0)] == ["frozen"]
    assert [fault.kind for fault in faults.active(29.9)] == ["frozen", "bias"]
    assert [fault.kind for fault in faults.active(30.0)] == ["bias"]
    assert [str(event) for event in faults.events()] == [
        "10 s: leach_tank.temperature:frozen@10s+20s has begun",
        "30 s: leach_tank.ph:bias=1@15s has begun",
        "30 s: leach_tank.temperature:frozen@10s+20s has ended",
    ]


def test_the_same_tuple_until_something_changes() -> None:
    faults = Faults([read("TT-201:frozen@10s")])
    first = faults.active(11.0)
    assert faults.active(12.0) is first
    faults.add(read("AT-201:nan@5s"))
    assert len(faults.active(13.0)) == 2
    faults.clear("leach_tank", "ph")
    assert [fault.kind for fault in faults.active(14.0)] == ["frozen"]
    faults.clear()
    assert faults.active(15.0) == ()
    assert list(faults) == []


def test_chance_is_the_same_for_the_same_seed() -> None:
    one, same, other = (list(Faults.random(PROFILES, seed, 2.0, hours=100.0)) for seed in (3, 3, 4))
    assert repr(one) == repr(same)
    assert repr(one) != repr(other)
    assert 150 <= len(one) <= 250
    assert {fault.kind for fault in one} == set(KINDS)
    for fault in one:
        assert repr(parse(f"{fault.device}{'.' * bool(fault.signal)}{fault.signal}:{fault.kind}", {}, PROFILES).kind) == repr(fault.kind)
    assert list(Faults.random(PROFILES, 3, 0.0)) == []
    with pytest.raises(ValueError, match="a rate of at least 0 1/h"):
        Faults.random(PROFILES, 3, -1.0)


def test_a_fault_of_another_plant_is_refused() -> None:
    subject = Plant(PROFILES, feed=FEEDS["nmc622"])
    subject.faults.add(Fault("kiln", "door", "stuck"))
    with pytest.raises(ValueError, match=r"this plant has no kiln\.door"):
        subject.advance(1.0)


def test_a_fault_moves_nothing_but_its_target() -> None:
    sound, faulty = (Plant(PROFILES, feed=FEEDS["nmc622"], seed=5, faults=faults) for faults in (None, Faults([read("TT-201:noisy@20s")])))
    for subject in (sound, faulty):
        subject.write("leach_tank", "water_flow_sp", 100.0)
        subject.advance(120.0)
    place = PROFILES["leach_tank"].place("temperature")
    assert sound.read("leach_tank")[place] != faulty.read("leach_tank")[place]
    for device in PROFILES:
        left, right = sound.read(device), faulty.read(device)
        if device == "leach_tank":
            left[place] = right[place]
        assert np.array_equal(left, right)


def test_status_is_in_the_order_of_the_profile() -> None:
    subject = Plant(PROFILES, feed=FEEDS["nmc622"], faults=Faults([read("TT-201:ne43@10s"), read("AT-201:high@10s"), read("LT-201:frozen@10s")]))
    assert not subject.status("leach_tank").any()
    subject.advance(12.0)
    bad = {name: int(status) for name, status in zip(PROFILES["leach_tank"].names, subject.status("leach_tank"), strict=True) if status}
    assert bad == {"temperature": 2, "ph": 1}
    assert not subject.status("purification_tank").any()


TARGETS = [(device, name) for device, profile in PROFILES.items() for name in profile.signals]
OUTSIDE = {"nan", "ne43", "high", "low"}


@st.composite
def any_fault(draw: st.DrawFn) -> Fault:
    while True:
        device, name = draw(st.sampled_from(TARGETS))
        kind = draw(st.sampled_from([kind for kind, entry in KINDS.items() if entry.of != "device"]))
        try:
            fault = parse(f"{device}.{name}:{kind}", {}, PROFILES)
        except ValueError:
            continue
        size = fault.size
        if KINDS[kind].size in ("eu", "rate"):
            size *= draw(st.sampled_from([0.01, 1.0, 1e3])) * (draw(st.sampled_from([-1.0, 1.0])) if kind in ("bias", "drift") else 1.0)
        elif KINDS[kind].size == "end":
            size = draw(st.sampled_from([-1.0, 1.0]))
        return Fault(device, name, kind, size, draw(st.floats(0.0, 200.0)), draw(st.sampled_from([5.0, 60.0, math.inf])))


WRITABLE = [(device, name) for device, name in TARGETS if PROFILES[device].signals[name].access == "write"]


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    faults=st.lists(any_fault(), max_size=12),
    moves=st.lists(st.tuples(st.sampled_from(WRITABLE), st.floats(0.0, 1.0), st.sampled_from([1.0, 30.0])), max_size=15),
    step=st.sampled_from([0.5, 1.0, 10.0]),
    instance=st.sampled_from([None, 1, 2]),
)
def test_what_is_read_is_finite_and_in_range_but_for_declared_failures(
    faults: list[Fault], moves: list[tuple[tuple[str, str], float, float]], step: float, instance: int | None
) -> None:
    subject = Plant(PROFILES, feed=FEEDS["nmc622"], seed=2, step=step, instance=instance, faults=Faults(faults, 2))
    excused = {(fault.device, fault.signal) for fault in faults if fault.kind in OUTSIDE}
    for (device, name), share, seconds in [*moves, (("leach_tank", "water_flow_sp"), 0.5, 60.0)]:
        low, high = PROFILES[device].signals[name].range
        subject.write(device, name, low + share * (high - low))
        subject.advance(seconds)
        for other, profile in PROFILES.items():
            reading = subject.read(other)
            fine = np.isfinite(reading) & (reading >= profile.low) & (reading <= profile.high)
            outside = {(other, profile.names[place]) for place in np.flatnonzero(~fine)}
            assert outside <= excused
    assert max(abs(error) for error in subject.balance().values()) < 1e-6


def test_the_page_lists_every_kind_with_an_example_that_is_read() -> None:
    rows = [
        [cell.strip() for cell in line.strip("| \n").split("|")] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == list(KINDS)
    cell = {"FY-201": ("leach_tank", "acid_flow_sp"), **TAGS}
    devices = {"leach": PROFILES["leach_tank"], **PROFILES}
    for row in rows:
        assert parse(row[-1].strip("`"), cell, devices).kind == row[0].strip("`")
