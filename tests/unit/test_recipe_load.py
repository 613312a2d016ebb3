from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.eu import Quantity
from drivers.source import BadInput
from recipes.classes import RoleSpec, UnitClass
from recipes.expression import Expression
from recipes.load import load_recipe
from recipes.model import AskStep, Catalogue, Group, ParameterSpec, PhaseSpec, Recipe, RunStep

CLASSES = {
    "leach_tank": UnitClass(
        "leach_tank",
        "Leach tank",
        {
            "temperature": RoleSpec("loop", "degC", 0.0, 120.0),
            "ph": RoleSpec("measurement", "pH", 0.0, 14.0),
            "acid": RoleSpec("output", "L/min", 0.0, 20.0),
            "stirrer": RoleSpec("output", "rpm", 0.0, 200.0),
            "valve": RoleSpec("output", "", 0.0, 1.0),
        },
    ),
    "laboratory": UnitClass("laboratory", "Laboratory", {"request": RoleSpec("output", "", 0.0, 65535.0)}),
}
CATALOGUE: Catalogue = {
    spec.name: spec
    for spec in (
        PhaseSpec(
            "control",
            {
                "loop": ParameterSpec("role", roles=("loop",)),
                "sp": ParameterSpec("quantity", eu="role:loop"),
                "ramp": ParameterSpec("quantity", eu="rate:loop", required=False, low=0.0),
            },
            ends=False,
        ),
        PhaseSpec(
            "dose",
            {
                "flow": ParameterSpec("role", roles=("output",)),
                "rate": ParameterSpec("quantity", eu="role:flow", low=0.0),
                "total": ParameterSpec("quantity", eu="integral:flow", low=0.0),
            },
            records={"amount": "integral:flow"},
        ),
        PhaseSpec("wait", {"time": ParameterSpec("quantity", eu="s", low=0.0)}),
        PhaseSpec("assay", {"point": ParameterSpec("text", choices=("liquor", "cake"))}, needs=("request",), records={"ni": "mg/kg"}),
        PhaseSpec(
            "judge",
            {
                "assay": ParameterSpec("record"),
                "limit": ParameterSpec("quantity", eu="mg/kg", low=0.0, high=1e6, default=50.0),
                "strict": ParameterSpec("flag", default=True),
                "note": ParameterSpec("text", required=False),
            },
            classes=("laboratory",),
        ),
    )
}
HEAT = '{run: control, with: {loop: temperature, sp: warm, ramp: 1 degC/min}, until: "L1.temperature within 1 K of warm for 5 min", max: 3 h}'
GOOD = """\
recipe: {id: leach-1, version: 2, title: Leach, product: liquor, specification: none}
units: {L1: leach_tank, LAB: laboratory}
formula:
  batch: {value: 500 kg, range: [300 kg, 600 kg], say: black mass}
  acid: {value: 330 L, range: [150 L, 450 L], scale: batch}
  warm: {value: 70 degC, range: [50 degC, 80 degC]}
watch:
  - {if: "L1.temperature > 85 degC for 10 s", do: hold, say: too hot, while: leach}
  - {if: "L1.ph is bad or liquor.ni > 4 %", do: alarm}
procedure:
  - leach:
      unit: L1
      say: the leach
      steps:
        - heat: HEAT
        - dose:
            parallel:
              - acid:
                  run: dose
                  with: {flow: acid, rate: 8 L/min, total: acid}
                  record: dosed
                  on_hold: {acid: stop, stirrer: 60 rpm}
                  max_hold: 2 h
                  resume: {require: "L1.temperature > 60 degC"}
              - keep: {run: control, with: {loop: temperature, sp: "warm - 1 K"}, until: "acid done"}
            max: 2 h
        - assay: {run: assay, unit: LAB, with: {point: liquor}, record: liquor}
        - judge: {run: judge, unit: LAB, with: {assay: liquor}}
        - more: {run: dose, with: {flow: acid, rate: 1 L/min, total: "min(max(dosed.amount / 10, 0 L), 20 L)"}}
        - confirm: {ask: "Ammonia lot scanned?", record: nh3_lot}
        - sample: {ask: How much nickel?, kind: number, eu: mg/kg, record: x, role: chemist, pass_if: "x < 5 mg/kg and leach/heat done"}
""".replace("HEAT", HEAT)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Recipe]:
    def read(text: str) -> Recipe:
        path = tmp_path / "r.yaml"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, CLASSES, CATALOGUE)

    return read


def test_a_good_recipe(load: Callable[[str], Recipe]) -> None:
    recipe = load(GOOD)
    assert (recipe.id, recipe.version, recipe.units) == ("leach-1", 2, {"L1": "leach_tank", "LAB": "laboratory"})
    assert recipe.text == GOOD
    assert recipe.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert recipe.formula["acid"].value == Quantity(330.0, "L")
    assert (recipe.formula["acid"].scale, recipe.formula["warm"].high) == ("batch", 80.0)
    assert [watch.during for watch in recipe.watches] == ["leach", None]
    assert recipe.watches[0].where.line == 8

    assert [leaf.path for leaf in recipe.leaves()] == [
        "leach/heat", "leach/dose/acid", "leach/dose/keep", "leach/assay", "leach/judge", "leach/more", "leach/confirm", "leach/sample",
    ]  # fmt: skip
    assert [(group.path, group.parallel, group.limit) for group in recipe.groups()] == [
        ("", False, None),
        ("leach", False, None),
        ("leach/dose", True, 7200.0),
    ]
    leach = recipe.procedure.steps[0]
    assert isinstance(leach, Group)
    heat, dose, assay, judge, _, confirm, sample = leach.steps
    assert isinstance(heat, RunStep)
    assert (heat.unit, heat.phase, heat.limit, heat.where.line) == ("L1", "control", 10800.0, 15)
    assert heat.arguments["loop"] == "temperature"
    ramp = heat.arguments["ramp"]
    assert isinstance(ramp, Expression)
    assert ramp.eu == "K/s"
    assert isinstance(dose, Group)
    acid, keep = dose.steps
    assert isinstance(acid, RunStep)
    assert isinstance(keep, RunStep)
    assert acid.on_hold == {"acid": "stop", "stirrer": 60.0}
    assert (acid.max_hold, acid.resume is not None) == (7200.0, True)
    assert keep.until is not None
    assert keep.until.steps == ("leach/dose/acid",)
    assert isinstance(assay, RunStep)
    assert assay.unit == "LAB"
    assert isinstance(judge, RunStep)
    assert {name: getattr(value, "text", value) for name, value in judge.arguments.items()} == {
        "assay": "liquor", "limit": "50.0 mg/kg", "strict": True,
    }  # fmt: skip
    assert isinstance(confirm, AskStep)
    assert (confirm.kind, confirm.role, confirm.unit, confirm.record) == ("confirm", "operator", "L1", "nh3_lot")
    assert isinstance(sample, AskStep)
    assert (sample.kind, sample.eu, sample.role) == ("number", "mg/kg", "chemist")


def test_a_recipe_survives_a_pickle(load: Callable[[str], Recipe]) -> None:
    recipe = load(GOOD)
    assert pickle.loads(pickle.dumps(recipe)) == recipe


KEEP = '{run: control, with: {loop: temperature, sp: "warm - 1 K"}, until: "acid done"}'
TOTAL = '"min(max(dosed.amount / 10, 0 L), 20 L)"'
ACID = "with: {flow: acid, rate: 8 L/min, total: acid}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # head, units
        ("id: leach-1", "id: leach 1", "1:14: id: expected letters, digits, '.', '_' and '-', got 'leach 1'"),
        ("version: 2", "version: 2.5", "version: expected a whole number from 1, got 2.5"),
        ("version: 2, ", "", "1:1: recipe: missing key 'version'"),
        ("title:", "titel:", "1:35: recipe: unknown key 'titel'; did you mean title?"),
        ("units:", "unit:", "recipe file: missing key 'units'"),
        ("L1: leach_tank", "L1: leech_tank", "2:13: unit L1: no unit class 'leech_tank'; did you mean leach_tank?"),
        ("LAB: lab", "for: lab", "unit 'for': expected a name of letters, digits and _"),
        ("LAB: lab", "warm: lab", "'warm' is already the name of a unit"),
        # formula
        ("value: 500 kg", "value: 200 kg", "batch: 200 kg is outside its range, 300 to 600 kg"),
        ("[300 kg, 600 kg]", "[600 kg, 300 kg]", "batch: the range begins at 600 kg, above its end 300 kg"),
        ("[300 kg, 600 kg]", "[300 kg, 600]", "batch: 600 has no eu; write '600 kg'"),
        ("[300 kg, 600 kg]", "[300 kg, 600 L]", "batch: 600 L cannot be expressed in kg"),
        ("[300 kg, 600 kg]", "[300 kg]", "batch: expected range: [lowest, highest], got 1 values"),
        ("[300 kg, 600 kg]", "[300 kg, 700 kg]", "acid scaled over batch of 300 to 700 kg is 198 to 462 L; its range is 150 to 450 L"),
        ("scale: batch", "scale: batsh", "acid scales with 'batsh', which is not in the formula; did you mean batch?"),
        ("scale: batch", "scale: acid", "acid scales with itself"),
        ("[50 degC, 80 degC]", "[50 degC, 80 degC], scale: batch", "warm: a temperature [degC] cannot be scaled"),
        ("500 kg", "500 stone", "batch: eu 'stone' is not known"),
        ("[50 degC, 80 degC]", "[50 degC, 130 degC]", "sp: 50 to 130 degC, but L1.temperature takes 0 to 120 degC"),
        # watches
        ("do: hold", "do: holt", "do: expected one of hold, stop, abort, alarm, got 'holt'; did you mean hold?"),
        ("while: leach", "while: leech", "while: no step 'leech'; did you mean leach?"),
        ('"L1.temperature > 85 degC for', '"L1.temprature > 85 degC for', "8:11: if: unit L1 (leach_tank) has no 'temprature'"),
        ("85 degC for 10 s", "85 L/min for 10 s", "8:28: if: cannot compare degC with L/min"),
        # structure
        ("- heat: " + HEAT, "- heat: 3", "step heat: expected its keys, such as {run: control, ...}, got 3"),
        ("- heat: " + HEAT, "- {}", "step leach: expected one step such as '- heat: {run: control, ...}', got keys "),
        ("- heat: " + HEAT, "- 2nd: " + HEAT, "step '2nd': expected a name of letters, digits and _"),
        ("- judge:", "- assay:", "step 'assay' stands twice in leach; every step there has a name of its own"),
        ("- heat: {run: control", "- heat: {ask: x, run: control", "got run and ask"),
        ("run: dose\n", "rum: dose\n", "expected exactly one of run, ask, steps, parallel, got only rum"),
        ("max: 3 h", "maxx: 3 h", "step leach/heat: unknown key 'maxx'; did you mean max"),
        ("max: 3 h", "max: 3", "max: expected a time above 0 such as '30 min', got 3"),
        ("max: 3 h", "max: 3 L", "max: expected a time above 0 such as '30 min', got '3 L'"),
        ("max: 2 h", "max: -2 h", "max: expected a time above 0"),
        ("      unit: L1\n", "", "step leach/heat runs on no unit; give 'unit', here or at its group: L1, LAB"),
        ("unit: L1", "unit: L2", "no unit 'L2' in this recipe; it has L1, LAB"),
        # phases and arguments
        ("run: dose\n", "run: doze\n", "no phase 'doze'; did you mean dose?"),
        ("{run: assay, unit: LAB,", "{run: assay,", "phase assay needs request, which unit L1 (leach_tank) does not have"),
        ("{run: judge, unit: LAB,", "{run: judge,", "phase judge runs on laboratory; unit L1 is a leach_tank"),
        (ACID, "with: {flow: acid, rate: 8 L/min, totl: acid}", "phase dose: unknown key 'totl'; did you mean total?"),
        (ACID, "with: {flow: acid, rate: 8 L/min}", "phase dose: missing key 'total'"),
        (ACID, "with: {flow: asid, rate: 8 L/min, total: acid}", "flow: unit L1 (leach_tank) has no role 'asid'; did you mean acid?"),
        (ACID, "with: {flow: ph, rate: 8 L/min, total: acid}", "flow: L1.ph is of kind measurement; phase dose takes output"),
        (ACID, "with: {flow: valve, rate: 1, total: acid}", "total: L1.valve has no flow: its eu is none"),
        (ACID, "with: {flow: acid, rate: 25 L/min, total: acid}", "rate: 25 L/min, but L1.acid takes 0 to 20 L/min"),
        (ACID, "with: {flow: acid, rate: 8 L/min, total: 0 L - acid}", "total: -450 to -150 L, but it takes 0 L or more"),
        (ACID, "with: {flow: acid, rate: 8 L/min, total: batch}", "total: expected a value in L, but 'batch' is in kg"),
        (ACID, "with: {flow: acid, rate: 8 L/min, total: liquor.ni}", "'liquor.ni' is recorded by step leach/assay, after leach/dose/acid"),
        (ACID, "with: {flow: acid, rate: 8 L/min, total: dosed.amount}", "'dosed.amount' is recorded by step leach/dose/acid, only while"),
        (ACID, "with: {flow: acid, rate: true, total: acid}", "rate: expected a value in L/min, but 'true' is a condition"),
        (TOTAL, "dosed.amount", "total: any value L, but it takes 0 L or more; bound it with min() and max()"),
        ("point: liquor", "point: licuor", "point: expected one of liquor, cake, got 'licuor'; did you mean liquor?"),
        ("{assay: liquor}", "{assay: licuor}", "assay: no step records 'licuor'; did you mean liquor?"),
        ("{assay: liquor}", "{assay: liquor, strict: 3}", "strict: expected true or false, got 3"),
        ("{assay: liquor}", "{assay: liquor, limit: 200 %}", "limit: 2000000 mg/kg, but it takes 0 to 1000000 mg/kg"),
        ("record: dosed", "record: liquor", "record 'liquor' is also made by step leach/dose/acid; give one of them another 'record'"),
        ("record: nh3_lot", "record: warm", "record 'warm' is already the name of a unit or of the formula"),
        # conditions of steps
        ('until: "acid done"', 'until: "asid done"', "until: no step 'asid'; did you mean acid"),
        ('until: "acid done"', 'until: "assay done"', "step leach/assay comes after leach/dose/keep, so it is never done by then"),
        ('until: "acid done"', 'until: "leach done"', "step leach/dose/keep cannot wait for leach, which it is part of"),
        ('until: "acid done"', 'until: "keep done"', "step leach/dose/keep cannot wait for leach/dose/keep"),
        (', until: "acid done"', "", "step leach/dose/keep: phase control never ends by itself; give 'until'"),
        ('require: "L1', 'requires: "L1', "resume: unknown key 'requires'; did you mean require?"),
        ("acid: stop,", "acid: halt,", "on_hold: expected keep, stop or a value: expected a value with its eu"),
        ("acid: stop,", "ph: stop,", "on_hold: ph is only measured"),
        ("acid: stop,", "asid: stop,", "on_hold: asid is not a role of L1 (leach_tank); did you mean acid?"),
        ("stirrer: 60 rpm", "stirrer: 600 rpm", "on_hold: 600 rpm, but L1.stirrer takes 0 to 200 rpm"),
        # questions
        ("kind: number, eu: mg/kg,", "kind: number,", "step leach/sample: a number needs its 'eu', such as eu: mg/kg"),
        ("kind: number, eu: mg/kg,", "eu: mg/kg,", "only a number has an eu; write kind: number"),
        ("eu: mg/kg,", "eu: stones,", "eu 'stones' is not known"),
        ("kind: number", "kind: numeral", "kind: expected one of confirm, number, text, got 'numeral'"),
        ("x < 5 mg/kg and", "y < 5 mg/kg and", "no name 'y' here"),
        ("x < 5 mg/kg and", "x < 5 and", "5 has no eu; write '5 mg/kg'"),
        # at the same time
        (KEEP, "{run: dose, with: {flow: acid, rate: 1 L/min, total: 1 L}}", "drives L1.acid at the same time as step leach/dose/acid"),
    ],
)  # fmt: skip
def test_every_mistake_is_named(load: Callable[[str], Recipe], old: str, new: str, expected: str) -> None:
    assert GOOD.count(old) >= 1
    with pytest.raises(BadInput) as caught:
        load(GOOD.replace(old, new, 1))
    text = "\n".join(str(problem).rpartition("/r.yaml:")[2] for problem in caught.value.problems)
    assert expected in text


def test_all_mistakes_come_at_once_with_their_columns(load: Callable[[str], Recipe]) -> None:
    text = GOOD.replace("leach_tank, LAB", "leach_tank, lab").replace("rate: 8 L/min", "rate: 8 kg/min").replace("do: alarm", "do: nothing")
    with pytest.raises(BadInput) as caught:
        load(text)
    lines = [(problem.where.line, problem.where.column) for problem in caught.value.problems]
    assert len(lines) >= 4
    rate = next(problem for problem in caught.value.problems if problem.what.startswith("rate:"))
    row = text.splitlines()[rate.where.line - 1]
    assert row[rate.where.column - 1 :].startswith("8 kg/min")


def test_names_of_steps_are_looked_up_from_the_inside(load: Callable[[str], Recipe]) -> None:
    steps = """\
procedure:
  - a:
      unit: L1
      parallel:
        - x: {run: wait, with: {time: 1 s}}
        - b:
            parallel:
              - x: {run: wait, with: {time: 1 s}}
              - here: {run: wait, with: {time: 1 h}, until: "x done"}
              - there: {run: wait, with: {time: 1 h}, until: "a/x done"}
              - nested: {steps: [{deep: {run: wait, with: {time: 1 h}, until: "b/x done or a/x done"}}]}
"""
    recipe = load(GOOD[: GOOD.index("watch:")] + steps)
    found = {leaf.name: leaf.until.steps for leaf in recipe.leaves() if isinstance(leaf, RunStep) and leaf.until}
    assert found == {"here": ("a/b/x",), "there": ("a/x",), "deep": ("a/b/x", "a/x")}
    with pytest.raises(BadInput, match="step 'x' is one of a/x, a/b/x; write the path"):
        load(GOOD[: GOOD.index("watch:")] + 'watch: [{if: "x done", do: hold}]\n' + steps)


def test_a_file_of_the_wrong_shape(load: Callable[[str], Recipe]) -> None:
    for text in (
        "[1, 2]",
        "recipe",
        "recipe: 3\nunits: 4\nprocedure: 5\nformula: 6\nwatch: 7\n",
        "procedure: []\n",
        "recipe:\nunits:\nprocedure:\n",
    ):
        with pytest.raises(BadInput):
            load(text)


def test_sixty_steps_load_in_half_a_second(load: Callable[[str], Recipe]) -> None:
    head, _, _ = GOOD.partition("procedure:")
    steps = "".join(f"        - s{place}: {HEAT}\n" for place in range(60))
    text = f"{head}procedure:\n  - leach:\n      unit: L1\n      steps:\n{steps}".replace(" or liquor.ni > 4 %", "")
    load(text)  # builds the grammar's tables
    start = time.perf_counter()
    assert len(list(load(text).leaves())) == 60
    assert time.perf_counter() - start < 0.5


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, len(GOOD) - 1),
    st.integers(0, 40),
    st.sampled_from(["", "{", "]", '"', ": ", "3", "x", "null", "[]", "{}", "true", "\n"]),
)
def test_a_damaged_recipe_is_refused_or_loaded_but_never_breaks(load: Callable[[str], Recipe], at: int, cut: int, patch: str) -> None:
    try:
        recipe = load(GOOD[:at] + patch + GOOD[at + cut :])
    except BadInput as error:
        str(error)
        return
    assert recipe.procedure.steps
