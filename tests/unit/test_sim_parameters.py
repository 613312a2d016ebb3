"""The parameters of the simulated units, and the plant instances that draw the assumed ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from drivers.device import load_profile, profile_folder
from simulators import crystalliser, filtration, laboratory, leach, precipitation, purification, shredder, vessels
from simulators.components import HEAT, OXIDE
from simulators.constants import draw_shifts
from simulators.feed import FEEDS
from simulators.instance import PlantParameters, instance_parameters
from simulators.parameters import Note, Row, describe, draw, parameter
from simulators.plant import Plant
from simulators.vessels import held

PROFILES = {path.stem: load_profile(path) for path in sorted(profile_folder().glob("*.toml"))}
UNITS = (crystalliser, filtration, laboratory, leach, precipitation, purification, shredder, vessels)
NOMINAL = {row.name: row for row in describe(PlantParameters)}


def value(parameters: Any, name: str) -> Any:
    for part in name.split("."):
        parameters = getattr(parameters, part)
    return parameters


def factors(row: Row, parameters: Any) -> list[float]:
    """Return what a range speaks of: the value, or the factors of a tuple's members."""
    drawn = value(parameters, row.name)
    return [a / b for a, b in zip(drawn, row.value, strict=True)] if isinstance(row.value, tuple) else [drawn]


@dataclass(frozen=True)
class Part:
    wide: float = parameter(2.0, "m", "A", range=(1.0, 100.0))


@dataclass(frozen=True)
class Whole:
    known: float = parameter(1.0, "1", "T", "a book")
    uncertain: float = parameter(1.0, "1", "L", "a paper", range=(0.5, 2.0))
    plain: float = parameter(13.0, "s", "A")
    signed: float = parameter(0.0, "mV", "A", range=(-5.0, 15.0))
    together: tuple[float, float] = parameter((1.0, 10.0), "1", "A", range=(0.5, 2.0))
    part: Part = field(default_factory=lambda: Part(3.0))


@pytest.mark.parametrize("row", NOMINAL.values(), ids=NOMINAL)
def test_every_parameter_has_its_eu_and_a_source_or_a_range(row: Row) -> None:
    assert row.note.eu
    assert row.note.source or row.note.range
    assert row.note.kind in ("L", "T", "A", "size", "calibrated")
    if row.note.kind == "A":
        assert row.note.range is not None
    if row.note.range is not None:
        low, high = row.note.range
        assert low <= (1.0 if isinstance(row.value, tuple) else row.value) <= high


def test_every_unit_is_in_the_plant() -> None:
    """No class of parameters is left out of the instance, and no field of one is a bare number."""
    inside = {type(PlantParameters())}
    ahead: list[Any] = [PlantParameters()]
    while ahead:
        for part in vars(ahead.pop()).values():
            if hasattr(part, "__dataclass_fields__"):
                inside.add(type(part))
                ahead.append(part)
    found = {entry for unit in UNITS for name, entry in vars(unit).items() if name.endswith("Parameters") and isinstance(entry, type)}
    assert found
    assert found - inside == set()


def test_a_draw_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert instance_parameters(4) == instance_parameters(4)
    assert instance_parameters(4) != instance_parameters(5)


@pytest.mark.parametrize("seed", range(20))
def test_a_draw_stays_in_its_range_and_changes_only_what_is_assumed(seed: int) -> None:
    drawn = instance_parameters(seed)
    for row in NOMINAL.values():
        if row.note.kind == "A":
            assert value(drawn, row.name) != row.value, row.name
            low, high = row.note.range or (math.nan, math.nan)
            assert all(low * (1.0 - 1e-12) <= factor <= high * (1.0 + 1e-12) for factor in factors(row, drawn)), row.name
        else:
            assert value(drawn, row.name) == row.value, row.name


def test_draws_fill_their_ranges_evenly() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw(Whole, rng) for _ in range(2000)]
    # half of a log-uniform draw lies below the geometric mean of its range, half of a uniform one below the middle
    for samples, low, middle, high in (
        ([one.plain for one in drawn], 10.0, 13.0, 16.9),
        ([one.part.wide for one in drawn], 1.0, 10.0, 100.0),
        ([one.signed for one in drawn], -5.0, 5.0, 15.0),
    ):
        assert np.mean(np.array(samples) < middle) == pytest.approx(0.5, abs=0.05)
        assert min(samples) == pytest.approx(low, abs=0.02 * (high - low))
        assert max(samples) == pytest.approx(high, abs=0.02 * (high - low))
    assert all(one.together[1] == pytest.approx(10.0 * one.together[0]) for one in drawn)
    assert {(one.known, one.uncertain) for one in drawn} == {(1.0, 1.0)}


def test_parameters_and_equilibrium_constants_are_drawn_apart() -> None:
    """Of one stream the second of each would move together, in every instance."""
    name = [row.name for row in NOMINAL.values() if row.note.kind == "A"][1]
    drawn = [math.log(value(instance_parameters(seed), name)) for seed in range(100)]
    assert list(draw_shifts(0))[1] == "HSO4-"
    shifts = [draw_shifts(seed)["HSO4-"] for seed in range(100)]
    assert abs(np.corrcoef(drawn, shifts)[0, 1]) < 0.4


def test_rows_name_the_parts_and_show_their_own_values() -> None:
    rows = describe(Whole)
    assert [row.name for row in rows] == ["known", "uncertain", "plain", "signed", "together", "part.wide"]
    assert rows[-1] == Row("part.wide", 3.0, Note("m", "A", "", (1.0, 100.0)))
    assert rows[2].note.range == pytest.approx((10.0, 16.9))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((1.0, "", "A"), "expected an eu"),
        ((1.0, "s", "T"), "kind 'T' needs a source"),
        ((0.0, "s", "A"), "expected a value within its range"),
    ],
)
def test_a_parameter_that_says_too_little_is_refused(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parameter(*arguments)


def test_a_value_out_of_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="got 2 to 3 s"):
        parameter(1.0, "s", "A", range=(2.0, 3.0))


def primed(instance: int) -> Plant:
    """A plant instance in which every vessel holds something, with the liquor of one on its way to the next."""
    subject = Plant(PROFILES, feed=FEEDS["nmc622"], seed=1, step=5.0, instance=instance)

    def put(device: str, **setpoints: float) -> None:
        for signal, setpoint in setpoints.items():
            subject.write(device, signal, setpoint)

    subject.hopper.weight = 300.0
    subject.ledger.enter("black mass", subject.leach.per_kg * 300.0, OXIDE)
    put("weigh_hopper", feeder_rate_sp=800.0)
    put("shredder", nitrogen_flow_sp=100.0, rotor_speed_sp=30.0, feed_rate_sp=300.0)
    put("leach_tank", water_flow_sp=100.0, acid_flow_sp=14.0, peroxide_flow_sp=4.0, stirrer_speed_sp=100.0, jacket_valve=40.0)
    put("precipitation_reactor", water_flow_sp=3000.0, ammonia_flow_sp=200.0, naoh_flow_sp=100.0, seed_rate_sp=30.0, stirrer_speed_sp=200.0)
    subject.advance(900.0)
    put("leach_tank", water_flow_sp=0.0, acid_flow_sp=0.0, peroxide_flow_sp=0.0, transfer_pump=50.0)
    put("purification_tank", naoh_flow_sp=6.0, stirrer_speed_sp=100.0, powder_rate_sp=5.0, jacket_valve=30.0)
    put("precipitation_reactor", water_flow_sp=0.0, ammonia_flow_sp=0.0, naoh_flow_sp=0.0, seed_rate_sp=0.0, nitrogen_flow_sp=10.0)
    subject.advance(900.0)
    put("purification_tank", naoh_flow_sp=0.5, powder_rate_sp=0.0, transfer_pump=50.0)
    return subject


@pytest.mark.parametrize("instance", range(20))
def test_a_plant_instance_runs_with_closed_balances(instance: int) -> None:
    subject = primed(instance)

    def put(device: str, **setpoints: float) -> None:
        for signal, setpoint in setpoints.items():
            subject.write(device, signal, setpoint)

    put("precipitation_reactor", feed_flow_sp=600.0, naoh_flow_sp=90.0, ammonia_flow_sp=30.0, jacket_valve=30.0)
    subject.advance(3600.0)
    put("precipitation_reactor", feed_flow_sp=0.0, naoh_flow_sp=0.0, ammonia_flow_sp=0.0, transfer_pump=60.0)
    put("filter_dryer", drain=1.0, pressure_sp=3.0, wash_flow_sp=10.0)
    subject.advance(1800.0)
    assert subject.time == 7200.0
    vessels = (subject.leach, subject.purification, subject.reactor, subject.filter)
    for vessel in vessels:
        content = held(vessel.holds())
        assert np.isfinite(content).all()
        assert content[:HEAT].min() > -1e-6
        assert np.isfinite(vessel.measure()).all()
    assert subject.filter.solid_mass > 1.0, "nothing was precipitated, or it did not come through"
    errors = subject.balance()
    assert abs(errors.pop("energy")) < 1e-4
    assert max(map(abs, errors.values())) < 1e-6, errors
    for device, profile in PROFILES.items():
        reading = subject.read(device)
        assert np.isfinite(reading).all()
        assert (reading >= profile.low).all()
        assert (reading <= profile.high).all()


def test_instances_differ_and_the_nominal_plant_is_none_of_them() -> None:
    ends = set()
    for instance in (None, 0, 1):
        subject = Plant(PROFILES, feed=FEEDS["nmc622"], seed=1, step=5.0, instance=instance)
        subject.hopper.weight = 300.0
        for signal, setpoint in (("water_flow_sp", 100.0), ("acid_flow_sp", 14.0), ("stirrer_speed_sp", 100.0)):
            subject.write("leach_tank", signal, setpoint)
        subject.write("weigh_hopper", "feeder_rate_sp", 800.0)
        subject.advance(900.0)
        ends.add((subject.truth()["leached"], subject.leach.chemistry.ph))
    assert len({leached for leached, _ in ends}) == len({ph for _, ph in ends}) == 3
