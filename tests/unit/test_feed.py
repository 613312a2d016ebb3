"""Feeds: the named ones against the design basis, random ones within it, files taken whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.components import ATOMIC, FE2, LI, NAMES, NI
from simulators.feed import CHEMISTRIES, FEEDS, MOST_ADDED, PRODUCTS, Feed, draw, find_feed, nearest_product, share_to_add

# the example of the page, as it stands there
GOOD = (Path(__file__).parents[2] / "docs/explanation/physics/feed.md").read_text(encoding="utf-8").partition("```toml")[2].partition("```")[0]


@pytest.mark.parametrize(
    ("name", "ni", "co", "mn", "li"),
    [
        ("nmc111", 11.8, 11.8, 11.0, 4.2),
        ("nmc532", 17.6, 7.1, 9.9, 4.2),
        ("nmc622", 21.0, 7.1, 6.6, 4.2),
        ("nmc811", 28.0, 3.5, 3.3, 4.1),
        ("lco", 0.0, 35.0, 0.0, 4.1),
    ],
)
def test_the_named_feeds_hold_what_the_design_basis_says(name: str, ni: float, co: float, mn: float, li: float) -> None:
    shares = FEEDS[name].composition
    assert [shares[element] for element in ("Ni", "Co", "Mn", "Li")] == pytest.approx([ni, co, mn, li], abs=0.15)


def test_lfp_brings_its_lithium_iron_and_phosphorus_beside_the_iron_metal() -> None:
    feed = FEEDS["lfp"]
    part = feed.lfp_per_kg()
    assert part[LI] * ATOMIC["Li"] * 0.1 == pytest.approx(2.6, abs=0.06)
    assert part[FE2] * ATOMIC["Fe"] * 0.1 == pytest.approx(20.5, abs=0.1)
    if "P" in NAMES:
        assert part[NAMES.index("P")] * 30.974 * 0.1 == pytest.approx(11.4, abs=0.1)
    metal = (feed.per_kg() - part)[FE2] * ATOMIC["Fe"] * 0.1
    assert metal == pytest.approx(feed.composition["Fe"])
    assert not FEEDS["nmc622"].lfp_per_kg().any()


def test_a_mixture_with_lfp_holds_as_much_active_material() -> None:
    plain, mixed = FEEDS["nmc622"], FEEDS["nmc622-lfp10"]
    assert mixed.metals == pytest.approx(plain.metals * 48.0 / 58.0)
    assert mixed.composition["C"] == plain.composition["C"]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31))
def test_a_random_feed_is_within_the_design_basis(seed: int) -> None:
    feed = draw(seed)
    assert draw(seed) == feed
    shares = feed.composition
    assert 0.2 <= shares["Cu"] <= 5.0
    assert 0.2 <= shares["Al"] <= 6.0
    assert 0.05 <= shares["Fe"] <= 3.0
    assert 0.5 <= shares["F"] <= 4.0
    assert 0.0 <= feed.lfp <= 12.0
    assert sum(shares.values()) + feed.lfp < 100.0
    assert min(shares.values()) >= 0.0
    assert 2.5 < feed.metals < 8.5


def test_random_feeds_spread_as_the_design_basis_says() -> None:
    feeds = [draw(seed) for seed in range(2000)]
    main = [feed.name.rsplit("-", 1)[0] for feed in feeds]
    for name, share in zip(CHEMISTRIES, (0.10, 0.25, 0.30, 0.22, 0.13), strict=True):
        assert main.count(name) / len(feeds) == pytest.approx(share, abs=0.04)
    for element, median, sigma in (("Ca", 0.03, 0.6), ("Mg", 0.004, 0.6), ("Zn", 0.002, 0.6), ("Al", 1.3, 0.6), ("Fe", 0.35, 0.7)):
        logs = np.log([feed.composition[element] for feed in feeds])
        assert np.exp(np.median(logs)) == pytest.approx(median, rel=0.07)
        assert np.std(logs) == pytest.approx(sigma, rel=0.08)
    lfp = np.array([feed.lfp for feed in feeds])
    assert np.median(lfp) < 2.0 < np.quantile(lfp, 0.95) < 12.0


def test_the_main_chemistry_can_be_given_and_is_three_quarters() -> None:
    feed = draw(5, "lco")
    assert 0.75 < feed.ratio[1] < 0.84
    with pytest.raises(ValueError, match=r"chemistry: expected one of nmc111.*'nca'"):
        draw(1, "nca")


def test_a_feed_is_found_by_name_by_seed_and_by_file(tmp_path: Path) -> None:
    assert find_feed("nmc811") is FEEDS["nmc811"]
    assert find_feed("random:7") == draw(7)
    path = tmp_path / "trial.toml"
    path.write_text(GOOD)
    feed = find_feed(str(path))
    assert (feed.name, feed.reactivity, feed.lfp) == ("trial", 0.9, 4.0)
    assert feed.per_kg()[NI] == pytest.approx(200.0 / ATOMIC["Ni"])
    assert feed.per_kg()[FE2] == pytest.approx(5.0 / ATOMIC["Fe"] + 40.0 / 157.76)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nmc999", "feed 'nmc999' is not known; known: nmc111, .*lfp, random:SEED, or a TOML file"),
        ("", "feed '' is not known"),
        ("random:", "whole number from 0"),
        ("random:-1", "whole number from 0"),
        ("random:²", "whole number from 0"),
        ("nowhere/feed.toml", "cannot be read: No such file"),
    ],
)
def test_a_feed_that_is_not_known_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_feed(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Ni = 20.0", "Xx = 20.0", "composition.Xx: not an element of a feed; known: Li, Ni"),
        ("Ni = 20.0", "P = 1.0", "composition.P: .*give lfp"),
        ("Ni = 20.0", "Ni = -3", "composition.Ni: expected 0 to 100 wt%, got -3 wt%"),
        ("Ni = 20.0", "Ni = nan", "composition.Ni: .*got nan wt%"),
        ("Ni = 20.0", "Ni = inf", "composition.Ni: .*got inf wt%"),
        ("Ni = 20.0", "Ni = true", "composition.Ni: expected a number from 0 to 100 wt%, got True"),
        ("Ni = 20.0", 'Ni = "20"', "composition.Ni: expected a number"),
        ("Ni = 20.0", "Ni = 80.0", "at most 100 wt% together, got 101.5 wt%"),
        ("lfp = 4.0", "lfp = 66", "at most 100 wt% together, got 103.5 wt%"),
        ("lfp = 4.0", "lfp = -1", "lfp: expected 0 to 100 wt%, got -1 wt%"),
        ("reactivity = 0.9", "reactivity = 0", "reactivity: expected 0.1 to 3"),
        ('name = "trial"', "", "name: expected a name, got None"),
        ('name = "trial"', 'name = " "', "name: expected a name"),
        ("lfp = 4.0", "lpf = 4.0", "unknown key 'lpf'; known: name, reactivity, lfp, composition"),
        ("[composition]", "[compositions]", "unknown key 'compositions'"),
        (GOOD, 'name = "x"', r"expected a table \[composition\]"),
        (GOOD, 'name = "x"\ncomposition = 3', r"expected a table \[composition\]"),
        ("Ni = 20.0", "Ni = ", "not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_and_says_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "feed.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=f"feed file .*feed.toml: .*{message}"):
        find_feed(str(path))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "feed.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ValueError, match=r"feed file .*feed.toml: not valid TOML"):
        find_feed(str(path))


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_pure_feed_is_its_own_product(name: str) -> None:
    product, added = nearest_product(FEEDS[name])
    assert product == name
    assert added == pytest.approx(0.0, abs=1e-9)


def test_salts_to_add_bring_the_ratio_to_the_target_exactly() -> None:
    assert share_to_add(FEEDS["nmc111"], "nmc622") == pytest.approx(2 / 3)
    product, added = nearest_product(FEEDS["nmc-mixed"])
    assert product == "nmc532"
    want = np.array(CHEMISTRIES[product]) * (1.0 + added)
    missing = want - np.array(FEEDS["nmc-mixed"].ratio)
    assert missing.min() == pytest.approx(0.0, abs=1e-9)  # one metal is the limit, none is taken away
    assert missing.sum() == pytest.approx(added)
    assert 0.0 < added <= MOST_ADDED


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ("lco", "feed lco .Ni 0.00 Co 1.00 Mn 0.00.: its nearest product, nmc111, needs 200 % .* at most 25 %"),
        ("lfp", "feed lfp: it holds no Ni, Co or Mn"),
    ],
)
def test_a_feed_that_would_need_more_salts_than_a_quarter_is_refused(feed: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_product(FEEDS[feed])


@given(st.tuples(*[st.floats(0.01, 30.0)] * 3))
def test_the_nearest_product_is_never_beaten(shares: tuple[float, float, float]) -> None:
    feed = Feed("any", dict(zip(("Ni", "Co", "Mn"), shares, strict=True)))
    needs = {name: share_to_add(feed, name) for name in PRODUCTS}
    assert min(needs.values()) >= -1e-12
    try:
        name, added = nearest_product(feed)
    except ValueError:
        assert min(needs.values()) > MOST_ADDED
    else:
        assert added == pytest.approx(needs[name])
        assert added <= min(needs.values()) + 1e-12
