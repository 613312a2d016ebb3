"""Release: purity by the formula of the product, limits, and what was not measured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from controller.batch.balance import balance
from controller.purity.composition import CARBONATE, HYDROXIDE, MOLAR_MASS
from controller.purity.estimator import estimate
from controller.purity.specification import judge, specifications
from controller.runtime.batches import Library
from drivers.source import BadInput
from drivers.tags import Quality

SPECIFICATIONS = specifications(Library({}).folder / "specifications.toml")
CLEAN_HYDROXIDE = {**dict.fromkeys(HYDROXIDE.factors, 0.0), "ni": 380_000.0, "co": 127_200.0, "mn": 118_600.0}
CLEAN_HYDROXIDE |= {"moisture": 0.3, "d10": 6.0, "d50": 10.0, "d90": 15.0, "tap_density": 2.0}
CLEAN_CARBONATE = {**dict.fromkeys(CARBONATE.factors, 0.0), "li": 187_800.0, "c": 162_500.0, "moisture": 0.1}
TARGET = {"ni": 0.6, "co": 0.2, "mn": 0.2}


def failed(name: str, assay: dict[str, float], target: dict[str, float]) -> set[str]:
    return {finding.name for finding in judge(SPECIFICATIONS[name], assay, target) if not finding.passed}


def test_clean_products_are_released() -> None:
    assert failed("pcam-99", CLEAN_HYDROXIDE, TARGET) == set()
    assert failed("li2co3-battery", CLEAN_CARBONATE, {}) == set()


@pytest.mark.parametrize("name", sorted(SPECIFICATIONS["li2co3-battery"].at_most))
def test_an_element_above_its_limit_or_not_measured_fails(name: str) -> None:
    limit = SPECIFICATIONS["li2co3-battery"].at_most[name]
    above = failed("li2co3-battery", CLEAN_CARBONATE | {name: 1.01 * limit}, {})
    assert above == {name.capitalize()}
    missing = {key: value for key, value in CLEAN_CARBONATE.items() if key != name}
    assert name.capitalize() in failed("li2co3-battery", missing, {})


def test_the_limits_of_lithium_carbonate_are_those_of_battery_grade() -> None:
    """Design basis, section 4; sulfate 800 mg/kg stands as sulfur."""
    limits = dict(SPECIFICATIONS["li2co3-battery"].at_most)
    assert limits.pop("s") * 2.996 == pytest.approx(800.0, abs=1.0)
    assert limits == {"na": 250, "mg": 80, "ca": 50, "k": 10, "fe": 10, "zn": 3, "cu": 3, "pb": 3, "ni": 10, "al": 10, "si": 30, "cl": 30}


def test_sulfate_takes_three_times_its_sulfur_from_the_purity() -> None:
    """Design basis, section 1: 0.30 wt% S alone costs 0.9 points."""
    assert HYDROXIDE.purity(CLEAN_HYDROXIDE | {"s": 3000.0}) == pytest.approx(99.1, abs=0.01)
    assert CARBONATE.purity(CLEAN_CARBONATE | {"s": 3000.0}) == pytest.approx(99.1, abs=0.01)


def test_the_carbonate_counts_its_own_elements_as_no_impurity() -> None:
    assert CARBONATE.purity(CLEAN_CARBONATE) == 100.0
    assert CARBONATE.assay_purity(CLEAN_CARBONATE) == pytest.approx(100.0, abs=0.1)  # pure Li2CO3 holds 18.79 wt% Li
    assert math.isnan(CARBONATE.purity({"li": 187_800.0}))


@pytest.mark.parametrize("product", [HYDROXIDE, CARBONATE])
def test_a_factor_is_the_mass_of_a_compound_over_its_element(product: object) -> None:
    """Hydroxides and carbonates of the metals, SO4, SiO2, by IUPAC atomic masses."""
    carbonates = {"mg": (24.305, 60.009), "ca": (40.078, 60.009), "pb": (207.2, 34.015)}
    hydroxides = {"mg": (24.305, 34.015), "ca": (40.078, 34.015)}
    of = {**{m: (MOLAR_MASS[m], 34.015) for m in ("cu", "ni", "co", "mn")}, "al": (26.98, 51.02), "fe": (55.845, 51.02), "zn": (65.38, 34.015)}
    of |= {"s": (32.06, 63.996), "si": (28.085, 31.998)} | (carbonates if product is CARBONATE else hydroxides)
    for name, (element, rest) in of.items():
        if name in product.factors:  # type: ignore[attr-defined]
            assert product.factors[name] == pytest.approx((element + rest) / element, abs=0.012), name  # type: ignore[attr-defined]


def test_lithium_is_balanced_from_black_mass_or_from_mother_liquor() -> None:
    product = {"carbonate.li": 187_800.0, "carbonate.moisture": 0.0, "weighing.value": 36.95}
    liquor = balance({**product, "mother_liquor.li": 694.0, "mother_liquor.density": 1000.0, "tank_full.value": 12.0})
    assert (liquor.metals, liquor.source) == ("Li", "mother liquor")
    assert liquor.charged == pytest.approx(1200.0)
    assert liquor.recovery == pytest.approx(83.3, abs=0.1)
    solid = balance({**product, "feed.li": 26_000.0, "hopper_full.value": 400.0, "hopper_empty.value": 80.0, "cement.amount": 5.0})
    assert solid.source == "black mass"
    assert solid.charged == pytest.approx(320.0 * 26.0 / 6.94)
    assert solid.added == 0.0  # nickel powder is no lithium


def test_purity_so_far_is_that_of_the_product_that_is_made() -> None:
    assert estimate({"brine.li": 15_000.0}).quality is Quality.BAD
    final = estimate({f"carbonate.{name}": value for name, value in CLEAN_CARBONATE.items()})
    assert (final.value, final.quality) == (100.0, Quality.GOOD)


def test_a_specification_names_its_product(tmp_path: Path) -> None:
    path = tmp_path / "specifications.toml"
    path.write_text('[mine]\ntitle = "mine"\npurity = 99\nproduct = "alloy"\n[mine.at_most]\n[mine.size]\n', encoding="utf-8")
    with pytest.raises(BadInput, match="hydroxide"):
        specifications(path)
