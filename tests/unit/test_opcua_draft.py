"""A profile drafted from what a server says of itself, whatever that is. No sockets."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.device import Profile, load_profile
from drivers.opcua_browse import Argument, FoundMethod, FoundVariable, Survey
from drivers.opcua_draft import Draft, draft_profile, unit_of
from drivers.source import BadInput


def variable(*path: str, **more: Any) -> FoundVariable:
    usual: dict[str, Any] = {"type": "Double", "readable": True, "value": 1.5}
    return FoundVariable(path, "nsu=urn:t;s=" + ".".join(path), property=False, browse_name=path[-1], **usual | more)


SERIAL = variable("Press", "SerialNumber", type="UInt32", value=4711)


def load(draft: Draft) -> Profile:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draft.toml"
        path.write_text(draft.text, encoding="utf-8")
        return load_profile(path)


def test_names_come_from_the_end_of_the_path_and_are_told_apart_where_they_must() -> None:
    paths = [("Press", "TT-101"), ("Press", "Pump", "Speed"), ("Mill", "Pump", "Speed"), ("Füllstand",), ("Press", "PumpSpeed", "Value")]
    survey = Survey("make", [SERIAL, *(variable(*path) for path in paths)])
    assert load(draft_profile(survey, "press")).names == ("tt_101", "press_pump_speed", "mill_pump_speed", "fullstand", "value")


def test_what_the_server_tells_of_eu_range_and_access_is_taken() -> None:
    told = variable("T", unit=(4408652, "°C"), range=(0.0, 250.0), writable=True, description="Heater")
    named = variable("P", unit=(-1, "kPa"), type="Float")
    strange = variable("Q", unit=(99, "furlong"), range=(5.0, 5.0), type="Int16")
    survey = Survey("make", [SERIAL, told, named, strange])
    draft = draft_profile(survey, "press")
    signals = load(draft).signals
    assert (signals["t"].eu, signals["t"].range, signals["t"].access, signals["t"].description) == ("degC", (0.0, 250.0), "read", "Heater")
    assert (signals["p"].eu, signals["p"].type) == ("kPa", "float32")
    assert (signals["q"].eu, signals["q"].range) == ("", (-32768.0, 32767.0))
    assert "the server says furlong, which is not known here" in draft.text
    assert draft.text.count("the server does not tell: narrow it") == 2
    assert load(draft_profile(survey, "press", writable=True)).signals["t"].access == "write"


@pytest.mark.parametrize(
    ("written", "eu"),
    [("°C", "degC"), ("m³/h", "m3/h"), ("µS/cm", "uS/cm"), ("l/min", "L/min"), ("ml", "mL"), ("", ""), ("Stück", None)],
)
def test_an_eu_without_a_code_of_ours_is_read_as_people_write_it(written: str, eu: str | None) -> None:
    assert unit_of(variable("T", unit=(-1, written))) == eu


@pytest.mark.parametrize("kind", ["Boolean", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double"])
def test_every_number_of_a_profile_can_be_drafted(kind: str) -> None:
    assert load(draft_profile(Survey("make", [SERIAL, variable("T", type=kind)]), "press")).names == ("t",)


def test_an_output_whose_range_has_no_zero_gets_a_safe_value_inside_it() -> None:
    survey = Survey("make", [SERIAL, variable("T", range=(40.0, 90.0), writable=True)])
    assert load(draft_profile(survey, "press", writable=True)).signals["t"].safe == 40.0


def test_what_a_profile_cannot_read_is_left_out_and_said() -> None:
    survey = Survey(
        "make",
        [SERIAL, variable("Text", type="String"), variable("Curve", rank=1), variable("Secret", readable=False), variable("T")],
        [FoundMethod(("Odd",), "nsu=urn:t;s=odd", [], (Argument("Name", "String", True, ""),)), FoundMethod(("Dark",), "nsu=urn:t;s=dark", [], None)],
    )
    draft = draft_profile(survey, "press")
    assert load(draft).names == ("t",)
    assert draft.left == (
        "Text: data type String",
        'Curve: an array of Double; one number of it: at = "nsu=urn:t;s=Curve", type = "float64", element = 0',
        "Secret: cannot be read by this user",
        "Odd: takes Name (String)",
        "Dark: what it takes cannot be read",
    )
    for line in draft.left:
        assert f"# {line}" in draft.text


def test_a_method_with_its_inputs_and_one_of_its_objects() -> None:
    inputs = (Argument("Set Point", "Float", True, "in bar"), Argument("set_point", "Boolean", True, ""))
    start = FoundMethod(("Press", "Start"), "nsu=urn:t;s=start", ["nsu=urn:t;s=a", "nsu=urn:t;s=b"], inputs)
    method = load(draft_profile(Survey("make", [SERIAL, variable("T")], [start]), "press")).methods["start"]
    assert method.object == "nsu=urn:t;s=a"
    taken = [(name, one.type, one.description) for name, one in method.inputs.items()]
    assert taken == [("set_point", "float32", "in bar"), ("set_point_2", "bool", "")]


def test_globs_choose_by_browse_path() -> None:
    survey = Survey("make", [SERIAL, variable("Press", "T"), variable("Press", "Raw", "T"), variable("Mill", "T")])
    draft = draft_profile(survey, "press", include=("Press/*",), exclude=("*/Raw/*",))
    assert load(draft).names == ("t",)
    assert "Mill" not in draft.text


def test_without_a_constant_the_profile_says_what_a_person_must_name() -> None:
    survey = Survey("make", [variable("Press", "SerialNumber", type="String", value="A-7\n"), variable("T")], cut="more than 9 nodes")
    draft = draft_profile(survey, "press")
    assert draft.identity == ""
    assert "# a text cannot be one yet: Press/SerialNumber = A-7" in draft.text
    assert "# not all was seen: more than 9 nodes" in draft.text
    with pytest.raises(BadInput, match="identity"):
        load(draft)


def test_what_the_walk_was_too_short_for_is_said_and_not_made_up() -> None:
    untold = variable("T", told=False)
    unseen = variable("P", type="", readable=False, seen=False, told=False)
    survey = Survey("make", [SERIAL, untold, unseen], cut="it took more than 1 s")
    draft = draft_profile(survey, "press")
    assert load(draft).names == ("t",)
    assert "# eu and range were not asked for, since the walk ended before" in draft.text
    assert "  # not asked for: anything that the type holds" in draft.text
    assert "the server does not tell" not in draft.text
    assert "# P: not looked at, since the walk ended before" in draft.text
    assert "cannot be read by this user" not in draft.text


@pytest.mark.parametrize("changed", [{"writable": True}, {"value": 0}, {"type": "Double", "value": float("nan")}, {"type": "Boolean", "value": True}])
def test_what_changes_or_says_nothing_is_no_identity(changed: dict[str, Any]) -> None:
    survey = Survey("make", [variable("Serial", **({"type": "UInt32", "value": 7} | changed)), variable("T")])
    assert draft_profile(survey, "press").identity == ""


@settings(max_examples=60)
@given(st.lists(st.lists(st.text(max_size=12), min_size=1, max_size=3), min_size=1, max_size=8), st.text(max_size=30))
def test_no_name_that_a_stranger_gives_breaks_the_file(paths: list[list[str]], text: str) -> None:
    found = [
        FoundVariable(("x", *path), f"nsu=urn:t;s={place}{text}", False, path[-1], "Double", -1, True, True, text, text, None, (-1, text))
        for place, path in enumerate(paths)
    ]
    draft = draft_profile(Survey(text, [SERIAL, *found]), "press", writable=True)
    profile = load(draft)
    assert len(profile.signals) == len(paths)
    assert [signal.at for signal in profile.signals.values()] == [one.at for one in found]
