"""Profiles to requests: few, within the limits, nothing lost and nothing split."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device import Profile, load_profile, profile_folder
from drivers.modbus_codec import registers_of
from drivers.modbus_plan import PlanError, Request, line_time, plan, spots

PROFILES = [load_profile(path) for path in sorted(profile_folder().glob("*.toml"))]
MODBUS = [profile for profile in PROFILES if profile.protocol == "modbus"]


def profile(signals: dict[str, dict[str, Any]], **modbus: Any) -> Profile:
    return Profile.model_validate(
        {
            "id": "test",
            "description": "",
            "protocol": "modbus",
            "identity": {"at": "input:0", "value": 1},
            "modbus": modbus,
            "signals": signals,
        }
    )


def shape(requests: tuple[Request, ...]) -> list[tuple[str, int, int]]:
    return [(request.table, request.address, request.count) for request in requests]


@pytest.mark.parametrize("of", MODBUS, ids=lambda of: of.id)
def test_shipped_profiles_need_one_request_a_table(of: Profile) -> None:
    requests = plan(of)
    assert len({request.table for request in requests}) == len(requests)
    assert sorted(place for request in requests for place in request.places) == list(range(len(of.signals) + 1))


def test_gaps_are_read_when_cheaper_and_skipped_when_not() -> None:
    signals = {"a": {"at": "input:2"}, "b": {"at": "input:12"}, "c": {"at": "input:23"}}
    assert shape(plan(profile(signals, gap=8))) == [("input", 0, 14), ("input", 23, 2)]
    assert shape(plan(profile(signals, gap=9))) == [("input", 0, 25)]
    assert shape(plan(profile(signals, gap=0))) == [("input", 0, 1), ("input", 2, 2), ("input", 12, 2), ("input", 23, 2)]


def test_a_value_is_never_split_by_the_limit() -> None:
    signals = {f"s{number}": {"at": f"input:{1 + 2 * number}"} for number in range(4)}
    assert shape(plan(profile(signals, max_registers=4))) == [("input", 0, 3), ("input", 3, 4), ("input", 7, 2)]


def test_addresses_count_from_the_base() -> None:
    first = MODBUS[0].identity.model_copy(update={"at": "input:1"})
    made = profile({"a": {"at": "input:3"}}, address_base=1).model_copy(update={"identity": first})
    assert shape(plan(made)) == [("input", 0, 4)]
    with pytest.raises(PlanError, match="addresses go from 1 to 65536"):
        plan(profile({"a": {"at": "input:3"}}, address_base=1))


@pytest.mark.parametrize(
    ("signals", "why"),
    [
        ({"a": {"at": "input:2"}, "b": {"at": "input:3"}}, "a and b overlap in input 3"),
        ({"a": {"at": "coil:0", "access": "write"}}, "a coil holds a bool, not a float32"),
        ({"a": {"at": "input:2", "access": "write"}}, "input cannot be written"),
        ({"a": {"at": "holding:65535"}}, "addresses go from 0 to 65535"),
        ({"a": {"at": "input:0", "type": "uint16"}}, "a and identity overlap|identity and a overlap"),
    ],
)
def test_profiles_that_cannot_be_read(signals: dict[str, dict[str, Any]], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        plan(profile(signals))


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["uint16", "float32", "float64"])), max_size=20),
    st.integers(4, 125),
    st.integers(0, 30),
)
def test_every_plan_brings_everything_within_the_limits(parts: list[tuple[int, Any]], most: int, gap: int) -> None:
    signals, address = {}, 1
    for number, (skip, type_) in enumerate(parts):
        address += skip
        signals[f"s{number}"] = {"at": f"input:{address}", "type": type_}
        address += registers_of(type_)
    made = profile(signals, max_registers=most, gap=gap)
    requests = plan(made)
    assert sorted(place for request in requests for place in request.places) == list(range(len(signals) + 1))
    where = {spot.place: spot for spot in spots(made)}
    for request in requests:
        assert 1 <= request.count <= most
        for item in request.block.items:
            assert request.address + item.start == where[item.place].address
            assert item.start + where[item.place].count <= request.count


def test_time_on_a_serial_line() -> None:
    requests = plan(profile({"a": {"at": "input:2"}}))
    # 8 bytes out, 5 + 8 back at 11 bits, and four silences of 3.5 bytes around the two frames
    assert line_time(requests, 11 / 9600) == pytest.approx((8 + 13 + 7) * 11 / 9600)
