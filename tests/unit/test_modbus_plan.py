"""Profiles to requests: few, within the limits, nothing lost and nothing split."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device import Profile, load_profile, profile_folder
from drivers.modbus_codec import registers_of
from drivers.modbus_frames import Question, read
from drivers.modbus_plan import PlanError, Request, halves, plan, probe, request_time, requests_for, spots, text_spots

PROFILES = [load_profile(path) for path in sorted(profile_folder().glob("*.toml"))]
MODBUS = [profile for profile in PROFILES if profile.protocol == "modbus"]


def profile(signals: dict[str, dict[str, Any]], identity: dict[str, Any] | None = None, **modbus: Any) -> Profile:
    return Profile.model_validate(
        {
            "id": "test",
            "description": "",
            "protocol": "modbus",
            "identity": {"at": "input:0", "value": 1, **(identity or {})},
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
        ({"a": {"at": "holding:3", "type": "bool", "bit": 2, "access": "write"}}, "function 22 writes one bit"),
        ({"a": {"at": "input:90"}}, "outside of modbus.readable or in modbus.forbidden"),
        ({"a": {"at": "holding:59"}}, "outside of modbus.readable or in modbus.forbidden"),
        ({"a": {"at": "holding:4", "type": "float64", "access": "write"}}, "more than max_write_registers, 2"),
        ({"a": {"at": "holding:4", "type": "float64"}}, "more than max_registers, 3"),
    ],
)
def test_profiles_that_cannot_be_read(signals: dict[str, dict[str, Any]], why: str) -> None:
    limits = {"max_registers": 3, "max_write_registers": 2} if "more than" in why else {}
    with pytest.raises(PlanError, match=why):
        plan(profile(signals, readable=["input:0-80"], forbidden=["holding:60-61"], **limits))


@given(st.data())
def test_every_plan_brings_everything_within_the_limits(data: st.DataObject) -> None:
    """Every value once and whole, in requests that keep to sizes, to what is readable and off what is forbidden, one period each."""
    signals, address, used = dict[str, dict[str, Any]](), 1, {("input", 0)}
    for number in range(data.draw(st.integers(0, 25))):
        address += data.draw(st.integers(0, 30))
        type_: Any = data.draw(st.sampled_from(["bool", "uint16", "float32", "float64"]))
        table = data.draw(st.sampled_from(["input", "holding", *(["coil"] if type_ == "bool" else [])]))
        signals[f"s{number}"] = {"at": f"{table}:{address}", "type": type_, "range": [0, data.draw(st.sampled_from([1, 2]))]}
        used |= {(table, address + place) for place in range(registers_of(type_))}
        address += registers_of(type_)
    free = [at for at in range(1, address) if not {("input", at), ("holding", at)} & used]
    forbidden = data.draw(st.lists(st.sampled_from(free), max_size=5, unique=True)) if free else []
    borders = sorted(data.draw(st.lists(st.integers(1, address), max_size=2)))
    ends = [0, *(at for at in borders if not any((table, at) in used and (table, at - 1) in used for table in ("input", "holding"))), address]
    most, bits, gap = data.draw(st.integers(4, 125)), data.draw(st.integers(1, 300)), data.draw(st.integers(0, 30))
    made = profile(
        signals,
        max_registers=most,
        max_bits=bits,
        gap=gap,
        forbidden=[f"{table}:{at}-{at}" for at in forbidden for table in ("input", "holding")],
        readable=[f"input:{low}-{high - 1}" for low, high in pairwise(ends) if low < high],
    )
    periods = np.array([5.0 if signal["range"][1] == 2 else 0.1 for signal in signals.values()])
    requests = plan(made, periods)
    assert sorted(place for request in requests for place in request.places) == list(range(len(signals) + 1))
    where = {spot.place: spot for spot in spots(made, periods)}
    assert len(signals) in requests[0].places, "the identity comes first"
    for request in requests:
        assert 1 <= request.count <= (bits if request.table == "coil" else most)
        if request.table != "coil":
            assert not {*range(request.address, request.address + request.count)} & {*forbidden}
        if request.table == "input":
            assert any(low <= request.address and request.address + request.count <= high for low, high in pairwise(ends))
        assert {where[place].period for place in request.places} == {request.period}
        for item in request.block.items:
            assert request.address + item.start == where[item.place].address
            assert item.start + where[item.place].count <= request.count
        parts = halves(request, list(where.values()))
        assert sorted(place for part in parts for place in part.places) == sorted(request.places)
        assert len(parts) == (1 if len(request.places) == 1 else 2)
    again = requests_for(made, [spot for spot in where.values() if spot.place != len(signals)], gap=0)
    assert sorted(place for request in again for place in request.places) == list(range(len(signals)))


def test_bits_of_one_register_stay_together() -> None:
    signals = {f"b{bit}": {"at": "input:5", "type": "bool", "bit": bit} for bit in range(4)} | {"c": {"at": "input:6", "type": "uint16"}}
    made = profile(signals, gap=0)
    request = plan(made)[1]
    assert (request.address, request.count, request.names) == (5, 2, ("b0", "b1", "b2", "b3", "c"))
    first, second = halves(request, spots(made))
    assert (first.names, second.names) == (("b0", "b1", "b2", "b3"), ("c",))
    assert halves(first, spots(made))[0].names == first.names
    with pytest.raises(PlanError, match="and w overlap in input 5"):
        plan(profile({**signals, "w": {"at": "input:5", "type": "uint16"}}))


def test_texts_and_an_identity_in_words() -> None:
    described = profile({"a": {"at": "input:20"}}).model_dump(exclude_unset=True)
    described |= {"identity": {"at": "input:0", "text": "AB-100"}, "texts": {"serial": {"at": "holding:4", "length": 9}}}
    made = Profile.model_validate(described)
    assert [(spot.name, spot.table, spot.address, spot.count) for spot in text_spots(made)] == [
        ("identity", "input", 0, 3),
        ("serial", "holding", 4, 5),
    ]
    assert shape(plan(made)) == [("input", 20, 2)]
    with pytest.raises(ValueError, match="expected a value, or a text"):
        Profile.model_validate(described | {"identity": {"at": "input:0"}})
    with pytest.raises(ValueError, match=r"texts.serial: expected at = holding\|input"):
        Profile.model_validate(described | {"texts": {"serial": {"at": "coil:4", "length": 9}}})


def test_time_on_a_serial_line() -> None:
    [request] = plan(profile({"a": {"at": "input:2"}}))
    # 8 bytes out, 5 + 8 back at 11 bits, and four silences of 3.5 bytes around the two frames
    assert request_time(request.question, 11 / 9600) == pytest.approx((8 + 13 + 7) * 11 / 9600)


def test_a_probe_is_as_long_as_no_read_of_its_table() -> None:
    def asked(signals: dict[str, dict[str, Any]], **modbus: Any) -> Question:
        made = profile(signals, **modbus)
        return probe(spots(made)[-1], plan(made))

    pair: dict[str, dict[str, Any]] = {"a": {"at": "input:2"}, "b": {"at": "input:4"}}
    far: dict[str, dict[str, Any]] = {"far": {"at": "input:200", "type": "uint16"}}
    assert asked(pair) == read("input", 0, 1), "the identity alone"
    assert asked(pair | far) == read("input", 0, 2), "something else is one register long, too"
    assert asked(pair | {"far": {"at": "holding:200", "type": "uint16"}}) == read("input", 0, 1), "another table has another function"
    assert asked(pair | far, gap=0) == asked(far) == read("input", 0, 1), "there is nothing that could be taken along"

    def wide(signals: dict[str, dict[str, Any]], **modbus: Any) -> Question:
        made = profile(signals, {"type": "uint32"}, **modbus)
        return probe(spots(made)[-1], plan(made))

    lone = {"lone": {"at": "input:300"}}
    assert wide(pair) == wide(pair | far) == read("input", 0, 2), "an identity of two registers"
    assert wide(pair | lone) == read("input", 0, 3), "as long as a lone float it is not"
    assert wide(lone) == wide(pair, gap=0, max_registers=2) == read("input", 0, 1), "a part of it, if there is nothing beside it"
    assert wide(lone | far) == read("input", 0, 2), "no length is left"
    behind = Profile.model_validate(
        {"id": "test", "description": "", "protocol": "modbus", "identity": {"at": "input:4", "value": 1}, "signals": {"a": {"at": "input:2"}, **far}}
    )
    assert probe(spots(behind)[-1], plan(behind)) == read("input", 3, 2), "the neighbour before it comes along"
