from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import eu

SYMBOLS = sorted(eu._SYMBOLS)


def test_a_temperature_is_not_a_difference() -> None:
    with pytest.raises(eu.EuError, match="20 degC cannot be expressed in K"):
        eu.convert(20.0, "degC", "K")
    assert eu.difference("degC") == "K"
    assert eu.compatible("degC/min", "K/s")
    assert eu.convert(60.0, "degC/min", "K/s") == 1.0


def test_normal_cubic_metres_are_an_amount() -> None:
    assert not eu.compatible("Nm3/h", "m3/h")


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (20.0, "L/min", "m3/h", 1.2),
        (0.5, "%", "ppm", 5000.0),
        (60.0, "rpm", "rpm", 60.0),
        (1.0, "mg/kg", "ppm", 1.0),
        (1.0, "kWh", "MJ", 3.6),
        (3.0, "h", "s", 10800.0),
        (1.0, "mS/cm", "S/m", 0.1),
        (1.0, "L/min*h", "L", 60.0),
    ],
)
def test_conversions(value: float, source: str, target: str, expected: float) -> None:
    assert eu.convert(value, source, target) == expected


@pytest.mark.parametrize("bad", ["furlong", "L/", "/min", "L//min", "L min", "degF", "L/fortnight", "*", "L*"])
def test_an_eu_that_is_not_listed_is_refused_by_name(bad: str) -> None:
    assert not eu.known(bad)
    with pytest.raises(eu.EuError, match="not known"):
        eu.parse(f"3 {bad}")


@pytest.mark.parametrize("bad", ["", "L/min", "three kg", "nan", "inf kg", "1e999 kg", "--3 kg", True, math.nan, math.inf])
def test_what_is_no_quantity(bad: str | float) -> None:
    with pytest.raises(eu.EuError, match="expected a"):
        eu.parse(bad)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_symbol_reads_back(symbol: str) -> None:
    quantity = eu.parse(f"2.5 {symbol}")
    assert quantity == eu.Quantity(2.5, symbol)
    assert eu.parse(str(quantity)) == quantity
    assert quantity.to(symbol) == 2.5


def test_product_and_quotient() -> None:
    assert eu.product("L/min", "min") == "L"
    assert eu.product("mol/L", "L/min") == "mol/min"
    assert eu.quotient("mol", "mol/L") == "L"
    assert eu.quotient("", "s") == "1/s"
    assert eu.convert(1.0, eu.product("L/min", "h"), "L") == 60.0
    assert eu.compatible(eu.quotient("K", "min"), "degC/s")


def test_a_temperature_is_not_multiplied() -> None:
    for operation in (eu.product, eu.quotient):
        with pytest.raises(eu.EuError, match="cannot be multiplied"):
            operation("degC", "")


kinds = st.sampled_from([symbol for symbol in SYMBOLS if symbol != "degC"])
compounds = st.lists(kinds.filter(bool), min_size=1, max_size=3).map("/".join)


@given(compounds, compounds)
def test_a_product_and_its_quotient_cancel(a: str, b: str) -> None:
    back = eu.quotient(eu.product(a, b), b)
    assert eu.compatible(back, a)
    assert eu.factor(back, a) == pytest.approx(1.0, rel=1e-9)
    whole = eu.product(a, b)
    assert eu.known(whole)


@given(st.floats(-1e6, 1e6), kinds, kinds)
def test_there_and_back(value: float, a: str, b: str) -> None:
    if not eu.compatible(a, b):
        with pytest.raises(eu.EuError):
            eu.convert(value, a, b)
        return
    assert eu.convert(eu.convert(value, a, b), b, a) == pytest.approx(value, rel=1e-9, abs=1e-300)


@given(st.text(max_size=30))
def test_parse_raises_nothing_but_eu_errors(text: str) -> None:
    with contextlib.suppress(eu.EuError):
        assert math.isfinite(eu.parse(text).value)
