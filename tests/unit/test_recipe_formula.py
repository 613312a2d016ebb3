from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.eu import Quantity
from drivers.source import BadInput, Position
from recipes.classes import load_classes
from recipes.load import BadFormula, bind_formula
from recipes.model import Group, Parameter, Recipe

FORMULA = (
    Parameter("batch", Quantity(500.0, "kg"), 300.0, 600.0),
    Parameter("acid", Quantity(330.0, "L"), 150.0, 450.0, scale="batch"),
    Parameter("ph", Quantity(11.0, "pH"), 10.6, 11.6),
    Parameter("ratio", Quantity(0.6, ""), 0.3, 0.9),
)
NOTHING = Group("", "", False, (), None, "", Position("r.yaml"))
RECIPE = Recipe("r", 1, "", "", "", {}, {each.name: each for each in FORMULA}, (), NOTHING, "", "", "r.yaml")


def test_without_anything_given_it_is_the_recipe_s() -> None:
    assert bind_formula(RECIPE, {}) == {"batch": 500.0, "acid": 330.0, "ph": 11.0, "ratio": 0.6}


def test_what_scales_follows_unless_it_is_given() -> None:
    assert bind_formula(RECIPE, {"batch": "400 kg"})["acid"] == pytest.approx(264.0)
    assert bind_formula(RECIPE, {"batch": "400 kg", "acid": "300 L"})["acid"] == 300.0


def test_any_eu_of_the_same_kind_will_do() -> None:
    bound = bind_formula(RECIPE, {"batch": "0.4 t", "ph": "11.2", "ratio": "70 %"})
    assert bound["batch"] == pytest.approx(400.0)
    assert bound["ph"] == 11.2
    assert bound["ratio"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"batch": "700 kg"}, ["batch takes 300 to 600 kg, got 700 kg"]),
        ({"batch": "700"}, ["batch takes 300 to 600 kg, got '700': it has no eu; write 700 kg"]),
        ({"batch": "400 L"}, ["batch takes 300 to 600 kg, got '400 L': 400 L cannot be expressed in kg"]),
        ({"batch": "much"}, ["batch takes 300 to 600 kg, got 'much': expected a value with its eu"]),
        ({"batch": "nan kg"}, ["batch takes 300 to 600 kg, got 'nan kg': expected a value"]),
        ({"bach": "400 kg"}, ["no parameter 'bach' in the formula of r; did you mean batch?"]),
        ({"ratio": "2", "acid": "9 L"}, ["ratio takes 0.3 to 0.9, got 2", "acid takes 150 to 450 L, got 9 L"]),
    ],
)
def test_every_bad_value_is_named(given: dict[str, str], expected: list[str]) -> None:
    with pytest.raises(BadFormula) as caught:
        bind_formula(RECIPE, given)
    assert len(caught.value.problems) == len(expected)
    assert all(problem.startswith(start) for problem, start in zip(caught.value.problems, expected, strict=True))
    assert isinstance(caught.value, ValueError)


@given(st.floats(300.0, 600.0))
def test_no_batch_size_takes_a_scaled_value_out_of_the_range_that_was_proven(size: float) -> None:
    bound = bind_formula(RECIPE, {"batch": f"{size!r} kg"})
    assert 150.0 <= bound["acid"] <= 450.0


CLASS = """\
[leach_tank]
description = "Leach tank"
[leach_tank.roles]
temperature = { kind = "loop", eu = "degC", range = [0, 120], say = "slurry" }
drain = { kind = "output", eu = "", range = [0, 1] }
"""


def test_unit_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.toml"
    path.write_text(CLASS)
    tank = load_classes(path)["leach_tank"]
    assert tank.description == "Leach tank"
    assert (tank.roles["temperature"].kind, tank.roles["temperature"].eu, tank.roles["temperature"].high) == ("loop", "degC", 120.0)
    assert tank.roles["drain"].eu == ""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"degC"', '"degF"', ":4:32: leach_tank.roles.temperature.eu: eu 'degF' is not known"),
        ("[0, 120]", "[120, 0]", "expected [low, high] with low below high"),
        ("[0, 120]", "[0, nan]", "expected [low, high] with low below high"),
        ("[0, 120]", "[0]", "expected [low, high] with low below high"),
        ('"loop"', '"lop"', "expected 'measurement', 'output' or 'loop', got 'lop'"),
        ('kind = "loop", ', "", "missing key 'kind'"),
        ("say =", "says =", "unknown key 'says'; did you mean 'say'?"),
        ('eu = "degC"', 'eu = ""', "a loop needs the eu of what it controls"),
        ("drain", '"the drain"', "role 'the drain': expected letters, digits and _"),
        ("drain", "for", "role 'for': expected letters, digits and _, and no word of the grammar"),
    ],
)
def test_mistakes_in_unit_classes(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = tmp_path / "classes.toml"
    path.write_text(CLASS.replace(old, new, 1))
    with pytest.raises(BadInput) as caught:
        load_classes(path)
    assert expected in str(caught.value)


def test_the_library_s_unit_classes_load() -> None:
    import recipes

    classes = load_classes(Path(recipes.__file__).parent / "library" / "classes.toml")
    assert classes["leach_tank"].roles["temperature"].kind == "loop"
