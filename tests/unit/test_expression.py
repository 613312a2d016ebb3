from __future__ import annotations

import contextlib
import math
import pickle
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drivers.source import BadInput, Position
from drivers.tags import Quality
from recipes.expression import Expression, Memory, compile_expression

EU = {
    "R1.ph": "pH", "R1.T": "degC", "R1.T.sp": "degC", "R1.oxygen": "%", "R1.flow": "L/min", "R1.volume": "m3",
    "set_T": "degC", "set_pH": "", "batch": "kg", "n": "", "m": "", "hold": "min", "liquor.ni": "mg/kg",
}  # fmt: skip


@dataclass
class Plant:
    """Names and scope in one: everything GOOD and 5 unless told otherwise."""

    values: dict[str, float] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    now: float = 1000.0

    def eu(self, name: str) -> str | None:
        return EU.get(name)

    def known(self) -> Iterable[str]:
        return EU

    def range(self, name: str) -> tuple[float, float]:
        return self.ranges.get(name, (0.0, 10.0))

    def step(self, name: str) -> str | None:
        if name == "never":
            raise ValueError("step never comes after this one")
        return f"leach/{name}" if name in ("acid", "dose/acid") else None

    def value(self, name: str) -> float:
        return math.nan if name in self.bad else self.values.get(name, 5.0)

    def quality(self, name: str) -> Quality:
        return Quality.BAD if name in self.bad else Quality.GOOD

    def done(self, step: str) -> bool:
        return step in self.finished


def compiled(text: str, want: str = "bool") -> Expression:
    return compile_expression(text, Plant(), want=want, where=Position("r.yaml", 7, 10))


def truth(text: str, plant: Plant | None = None, memory: Memory | None = None) -> bool | None:
    return compiled(text).truth(plant or Plant(), {} if memory is None else memory)


@pytest.mark.parametrize(
    ("text", "want", "expected"),
    [
        ("1 + 2 * 3", "", 7.0),
        ("(1 + 2) * 3", "", 9.0),
        ("2 - 3 - 4", "", -5.0),
        ("16 / 4 / 2", "", 2.0),
        ("-n + +m", "", 0.0),
        ("- -n", "", 5.0),
        ("1e3 kg", "t", 1.0),
        ("0.6 * batch", "kg", 3.0),
        ("0.6*batch", "g", 3000.0),
        ("R1.flow * 10 min", "L", 50.0),
        ("batch / 2 h", "kg/min", 5.0 / 120.0),
        ("(R1.T - set_T) / 10 min", "degC/min", 0.0),
        ("R1.T + 2 K", "degC", 7.0),
        ("2 K + R1.T", "degC", 7.0),
        ("R1.T - 2 K", "degC", 3.0),
        ("R1.T - set_T", "K", 0.0),
        ("R1.T.sp", "degC", 5.0),
        ("-5 degC", "degC", -5.0),
        ("11/n", "", 2.2),
        ("6 L / n", "L", 1.2),
        ("80 %", "", 0.8),
        ("0.5", "pH", 0.5),
        ("set_pH", "pH", 5.0),
        ("min(n, 3, m)", "", 3.0),
        ("max(R1.flow, 1 m3/h)", "L/min", 1000.0 / 60.0),
        ("abs(3 - n)", "", 2.0),
        ("min(3 L/min, R1.flow)", "L/min", 3.0),
        ("2 min", "s", 120.0),
        ("5 1/min", "1/s", 5.0 / 60.0),
    ],
)
def test_values(text: str, want: str, expected: float) -> None:
    expression = compiled(text, want)
    assert expression.value(Plant()) == pytest.approx(expected, rel=1e-11)
    assert expression.eu == want


def test_a_constant_is_exact() -> None:
    assert compiled("0.3 m3", "L").value(Plant()) == 300.0
    assert truth("R1.volume == 5000 L", Plant())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n < 6", True), ("n <= 5", True), ("n > 5", False), ("n >= 5", True), ("n == 5", True), ("n != 5", False),
        ("not n > 6", True), ("n > 6 or n < 6", True), ("n > 6 and n < 6", False), ("n > 6 or n < 6 and m > 6", False),
        ("(n > 6 or n < 6) and m < 6", True), ("R1.T within 1 K of set_T", True), ("R1.T within 0.5 K of 6 degC", False),
        ("R1.T within 1 K of 6 degC", True), ("R1.volume > 4000 L", True), ("300 L < R1.volume", True), ("true", True), ("not true", False),
        ("R1.T is bad", False), ("R1.T is good", True), ("R1.T is uncertain", False), ("acid done", False), ("not dose/acid done", True),
        ("abs(R1.ph - set_pH) > 0.3", False), ("R1.oxygen > 0.05", None),
    ],
)  # fmt: skip
def test_conditions(text: str, expected: bool | None) -> None:
    if expected is None:  # a bare number beside % would mean a hundred times as much
        with pytest.raises(BadInput, match=r"0\.05 has no eu; write '0\.05 %'"):
            truth(text)
    else:
        assert truth(text) is expected


LOST = Plant(bad={"n", "R1.T"})


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">=", "==", "!="])
def test_nothing_is_known_of_a_lost_input_nor_of_its_opposite(operator: str) -> None:
    assert truth(f"n {operator} 3", LOST) is None
    assert truth(f"not (n {operator} 3)", LOST) is None
    assert truth(f"n {operator} n", LOST) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n > 3 and m > 6", False),
        ("m > 6 and n > 3", False),
        ("n > 3 and m > 3", None),
        ("n > 3 or m > 3", True),
        ("m > 3 or n > 3", True),
        ("n > 3 or m > 6", None),
        ("not (n > 3 or m > 6)", None),
        ("R1.T within 1 K of set_T", None),
        ("R1.T is bad", True),
        ("R1.T is bad or R1.T > 3 degC", True),
        ("min(n, m) > 9", None),
        ("max(m, n) > 1", None),
        ("m / 0 > 1", "divides by zero"),
        ("m / (m - 5) > 1", None),
        ("n > 3 for 10 s", None),
    ],
)
def test_unknown_is_not_true_and_spreads_no_further_than_it_must(text: str, expected: bool | str | None) -> None:
    if isinstance(expected, str):
        with pytest.raises(BadInput, match=expected):
            truth(text, LOST)
    else:
        assert truth(text, LOST) is expected


def test_for_counts_on_the_plant_clock_and_a_break_begins_again() -> None:
    held, memory = compiled("n > 3 for 30 s"), Memory()
    plant = Plant()
    assert held.truth(plant, memory) is False
    plant.now += 29.0
    assert held.truth(plant, memory) is False
    plant.now += 1.0
    assert held.truth(plant, memory) is True
    plant.values["n"] = 2.0
    assert held.truth(plant, memory) is False
    assert memory == {}
    plant.values["n"] = 4.0
    plant.now += 100.0
    assert held.truth(plant, memory) is False
    plant.bad.add("n")
    plant.now += 100.0
    assert held.truth(plant, memory) is None
    plant.bad.clear()
    assert held.truth(plant, memory) is False


def test_for_after_a_restart_with_an_earlier_clock_begins_again() -> None:
    held, memory = compiled("n > 3 for 30 s"), Memory({"n > 3 for 30 s": 5000.0})
    assert held.truth(Plant(now=1000.0), memory) is False
    assert held.truth(Plant(now=1030.0), memory) is True


def test_for_counts_behind_a_condition_that_already_decides() -> None:
    both, memory, plant = compiled("m > 6 and n > 3 for 30 s"), Memory(), Plant()
    both.truth(plant, memory)
    plant.now += 15.0
    plant.values["n"] = 1.0
    both.truth(plant, memory)  # m > 6 is false already; the break in n > 3 must be seen all the same
    plant.values |= {"n": 4.0, "m": 7.0}
    plant.now += 15.0
    assert both.truth(plant, memory) is False


def test_for_takes_a_time_of_the_formula_and_keeps_each_clause_apart() -> None:
    memory, plant = Memory(), Plant(values={"hold": 2.0})
    expression = compiled("n > 3 for hold or (m > 3 or n > 9) for 1 h")
    assert expression.truth(plant, memory) is False
    plant.now += 120.0
    assert expression.truth(plant, memory) is True
    assert len(memory) == 2
    assert set(memory.values()) == {1000.0}


def test_a_binary_clock_of_seconds_since_1970_loses_no_scan() -> None:
    held, memory = compiled("n > 3 for 0.3 s"), Memory()
    start = 1_753_000_000.1
    results = [held.truth(Plant(now=start + 0.1 * scan), memory) for scan in range(4)]
    assert results == [False, False, False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R1.oxygen < 0.5 %", "R1.oxygen < 0.5 %, now 1.3 %"),
        ("R1.T within 1 K of set_T", "R1.T within 1 K of set_T, now 72.3 degC, set_T 80 degC"),
        ("R1.T > 60 degC for 5 min", "R1.T > 60 degC for 5 min, now 72.3 degC, held 3 of 5 min"),
        ("R1.oxygen < 0.5 % and R1.T > 60 degC", "R1.oxygen < 0.5 %, now 1.3 %"),
        ("R1.flow > 3 L/min", "R1.flow > 3 L/min, now not known"),
        ("R1.flow is good", "R1.flow is good, now bad"),
        ("acid done", "leach/acid to be done"),
        ("not R1.T > 90 degC", "not (R1.T > 90 degC, now 72.3 degC)"),
        ("R1.oxygen < 0.5 % or R1.T > 90 degC", "R1.oxygen < 0.5 %, now 1.3 % or R1.T > 90 degC, now 72.3 degC"),
        ("n > 3", "n > 3, now 5"),
    ],
)
def test_it_says_what_it_waits_for(text: str, expected: str) -> None:
    plant = Plant(values={"R1.oxygen": 1.3, "R1.T": 72.3, "set_T": 80.0}, bad={"R1.flow"})
    memory = {"R1.T > 60 degC for 5 min": plant.now - 180.0}
    before = dict(memory)
    said = compiled(text).explain(plant, memory)
    assert said.replace(" for 5 min, now", ", now") == expected.replace(" for 5 min, now", ", now")
    assert memory == before


def test_a_value_says_itself() -> None:
    assert compiled("0.6 * batch", "kg").explain(Plant(values={"batch": 20000.0}), {}) == "0.6 * batch = 12000 kg"


@pytest.mark.parametrize(
    ("text", "want", "column", "message"),
    [
        ("R1.T > 3 L/min", "bool", 8, "cannot compare degC with L/min"),
        ("R1.T < R1.flow", "bool", 8, "cannot compare degC with L/min"),
        ("R1.T + set_T", "degC", 8, "cannot add two temperatures; a difference is written in K"),
        ("n + 3 kg", "kg", 5, "cannot add a plain number with kg"),
        ("R1.T > 5 K", "bool", 8, "a difference of temperatures is in K"),
        ("5 K - R1.T", "degC", 7, "cannot subtract K with degC"),
        ("2 * R1.T", "degC", 5, "a temperature [degC] cannot be multiplied or divided"),
        ("R1.T within 1 degC of set_T", "bool", 13, "a distance between values in degC is in K, not in degC"),
        ("liquor.ni < 5", "bool", 13, "5 has no eu; write '5 mg/kg'"),
        ("1 - R1.oxygen", "%", 1, "1 has no eu; write '1 %'"),
        ("n > 3 for 5 kg", "bool", 11, "expected a time such as '30 s' after 'for', got a value in kg"),
        ("n > 3 for 0 s", "bool", 11, "expected a time above 0 after 'for'"),
        ("R1.T", "bool", 1, "expected a condition, but 'R1.T' is a value (degC); compare it with something"),
        ("n > 3 and R1.T", "bool", 11, "expected a condition, but 'R1.T' is a value (degC)"),
        ("n > 3", "kg", 1, "expected a value in kg, but 'n > 3' is a condition"),
        ("(n > 3) + 1", "", 1, "expected a value, but '(n > 3)' is a condition"),
        ("batch", "L", 1, "expected a value in L, but 'batch' is in kg"),
        ("5", "degC", 1, "expected a value in degC, but '5' is a plain number"),
        ("5", "%", 1, "5 has no eu; write '5 %'"),
        ("n > R1.oxigen", "bool", 5, "no name 'R1.oxigen' here; did you mean R1.oxygen?"),
        ("n > 3 and acit done", "bool", 11, "no step 'acit' here"),
        ("never done", "bool", 1, "step never comes after this one"),
        ("n > 6 foo", "bool", 5, "eu 'foo' is not known"),
        ("6 L/n", "L", 1, "to divide by a name, put spaces around the /"),
        ("1 < n < 3", "bool", 7, "'<' cannot follow a comparison; write 'a < b and b < c'"),
        ("n = 3", "bool", 3, "'=' is not part of an expression; to compare write =="),
        ("n > 3 && m > 3", "bool", 7, "write and"),
        ("(n > 3", "bool", 7, "the expression ends too soon; expected ')'"),
        ("n >", "bool", 4, "the expression ends too soon; expected a value or a name"),
        ("n is hot", "bool", 6, "did not expect 'hot' here; expected good, bad or uncertain"),
        ("n within 1", "bool", 11, "expected 'of'"),
        ("n m", "", 3, "did not expect 'm' here; expected an operator such as < or and"),
        ("n.real.imag()", "", 1, "did not expect"),
        ("__import__('os')", "", 11, "did not expect '('"),
        ("n[0]", "", 2, "'[' is not part of an expression"),
        ("n ** 2", "", 4, "did not expect '*' here"),
        ("abs(n, m)", "", 8, "abs takes one value, got 2"),
        ("max(n)", "", 1, "max takes two values or more"),
        ("max(n, batch)", "", 5, "cannot compare kg with a plain number"),
        ("1e999", "", 1, "1e999 is too large a number"),
        ("n / (2 - 2)", "", 5, "divides by zero"),
        ("", "bool", 1, "expected a condition, got nothing"),
        ("   ", "kg", 1, "expected a value with its eu, got nothing"),
        ("(" * 60 + "n" + ")" * 60, "", 1, "too long or nested too deeply"),
        ("n + " * 200 + "n", "", 1, "too long or nested too deeply"),
    ],
)
def test_mistakes_have_their_column(text: str, want: str, column: int, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        compiled(text, want)
    (problem,) = caught.value.problems
    assert message in problem.what
    assert problem.where.file == "r.yaml"
    assert problem.where.line == 7
    if message != "did not expect":
        assert problem.where.column == 9 + column


def test_a_mistake_on_a_later_line() -> None:
    with pytest.raises(BadInput, match=r"r\.yaml:8:5: no name 'nope' here"):
        compiled("n > 3\n or nope > 3")


def test_what_it_reads() -> None:
    expression = compiled("n > 3 and (R1.T is bad or n < m) and acid done")
    assert expression.names == ("n", "R1.T", "m")
    assert expression.steps == ("leach/acid",)


def test_a_value_has_no_truth_and_a_condition_no_value() -> None:
    with pytest.raises(TypeError):
        compiled("n", "").truth(Plant(), {})
    with pytest.raises(TypeError):
        compiled("n > 3").value(Plant())


def test_it_survives_a_pickle() -> None:
    expression = pickle.loads(pickle.dumps(compiled("R1.T within 1 K of set_T for 5 min and n > 3")))
    assert expression.truth(Plant(), {}) is False


def test_it_is_fast() -> None:
    expression, plant, memory = compiled("abs(R1.ph - set_pH) > 0.3 for 30 s or R1.T is bad"), Plant(), Memory()
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            expression.truth(plant, memory)
        best = min(best, (time.perf_counter() - start) / 200)
    assert best < 20e-6  # [s]; 2 us on the machine of record


# properties -------------------------------------------------------------------------------------------------------------

numbers = st.integers(1, 9).map(str)
names = st.sampled_from(["n", "m"])
values = st.recursive(
    numbers | names,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda text: f"abs({text})"),
        inner.map(lambda text: f"(-{text})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(values, st.floats(-9, 9), st.floats(-9, 9), st.floats(0, 5), st.floats(0, 5))
def test_no_value_leaves_its_bounds(text: str, n: float, m: float, wide: float, wider: float) -> None:
    plant = Plant(values={"n": n, "m": m}, ranges={"n": (n - wide, n + wider), "m": (m - wider, m + wide)})
    try:
        expression = compiled(text, "")
    except BadInput:
        assume(False)
    value, (low, high) = expression.value(plant), expression.bounds(plant)
    slack = 1e-9 * (1.0 + abs(value))
    assert math.isnan(value) or low - slack <= value <= high + slack


@settings(max_examples=200, deadline=None)
@given(values, st.floats(-9, 9), st.floats(-9, 9))
def test_arithmetic_is_python_s(text: str, n: float, m: float) -> None:
    try:
        expected = eval(text, {"abs": abs, "min": min, "max": max}, {"n": n, "m": m})
        expression = compiled(text, "")
    except (ZeroDivisionError, BadInput):
        assume(False)
    got = expression.value(Plant(values={"n": n, "m": m}))
    assert math.isnan(got) or got == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(values, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.booleans())
def test_a_condition_on_a_lost_input_is_never_true(text: str, operator: str, negated: bool) -> None:
    plant = Plant(bad={"n"})
    with contextlib.suppress(BadInput):
        condition = compiled(f"{'not ' if negated else ''}(n + {text} {operator} 1)")
        assert condition.truth(plant, {}) is None


WORDS = "n m R1.T 3 5 kg L/min degC % ( ) , + - * / < > == and or not for within of is bad good done true abs min . ' 1e9 30 s"
tokens = st.sampled_from(re.split(" ", WORDS))


@settings(max_examples=400, deadline=None)
@given(st.lists(tokens, max_size=12).map(" ".join) | st.text(max_size=30), st.sampled_from(["bool", "", "kg", "degC"]))
def test_nothing_but_bad_input_comes_out_of_any_text(text: str, want: str) -> None:
    with contextlib.suppress(BadInput):
        expression = compiled(text, want)
        plant = Plant()
        if want == "bool":
            assert expression.truth(plant, {}) in (True, False, None)
        else:
            assert isinstance(expression.value(plant), float)
        assert expression.explain(plant, {})
