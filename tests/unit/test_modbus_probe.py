"""Decoding a register in every way: what was meant is among the ways, and first where the range tells it from the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device import Signal
from drivers.modbus_codec import Way, encode_one
from drivers.modbus_options import ModbusOptions
from drivers.modbus_probe import Guess, declared_guess, guesses

ORDERS = [(byte, word) for word in ("big", "little", "mid_big", "mid_little") for byte in ("big", "little")]


@given(value=st.floats(-300.0, 300.0).filter(lambda x: abs(x) > 0.01), type_=st.sampled_from(["float32", "float64"]), order=st.sampled_from(ORDERS))
def test_what_was_meant_is_among_the_ways(value: float, type_: str, order: tuple[Any, Any]) -> None:
    words = encode_one(value, Way(type_, *order))  # type: ignore[arg-type]
    ways = {(guess.type, guess.word_order, guess.byte_order): guess for guess in guesses([*words, 0, 0][:4], -400.0, 400.0)}
    byte, word = order
    if type_ == "float32":  # of two words there are two orders
        word = {"mid_big": "little", "mid_little": "big"}.get(word, word)
    meant = ways[type_, word, byte]
    assert meant.inside
    assert abs(meant.value - value) <= 1e-6 * abs(value)


def test_a_temperature_as_a_plain_float_is_first() -> None:
    best = guesses(encode_one(71.5, Way("float32")), 0.0, 150.0)[0]
    assert (best.type, best.word_order, best.byte_order, best.value) == ("float32", "big", "big", 71.5)


def test_a_scaled_integer_is_found_when_nothing_else_fits() -> None:
    best = guesses([0x01F4], 40.0, 60.0)[0]  # 500
    assert (best.type, best.scale, best.value) == ("int16", 0.1, 50.0)


@given(words=st.lists(st.integers(0, 65535), min_size=1, max_size=4))
def test_any_words_give_guesses_inside_first(words: list[int]) -> None:
    inside = [guess.inside for guess in guesses(words, -100.0, 100.0)]
    assert inside == sorted(inside, reverse=True)
    assert len(inside) >= 8


@given(words=st.lists(st.integers(0, 65535), min_size=1, max_size=4))
def test_what_is_rare_comes_behind_what_is_common_and_fits_as_well(words: list[int]) -> None:
    def rare(guess: Guess) -> bool:
        return guess.type == "float16" or guess.byte_order == "little"

    def chance(guess: Guess) -> bool:
        return 0.0 < abs(guess.value) < 1e-6 * 200.0

    fits = [rare(guess) for guess in guesses(words, -100.0, 100.0) if guess.inside and not chance(guess)]
    assert fits == sorted(fits)


@given(words=st.lists(st.integers(0, 65535), min_size=4, max_size=4))
def test_a_subnormal_float_is_never_inside(words: list[int]) -> None:
    for guess in guesses(words, -100.0, 100.0):
        if guess.type.startswith("float") and guess.inside and guess.value:
            assert abs(guess.value) >= np.finfo(guess.type).smallest_normal


def test_an_integer_that_is_a_subnormal_as_float64_is_not_shown_as_one() -> None:
    words = [0x0000, 0x4223, 0x0000, 0x0001]  # 3.6e-310 as float64
    found = {(guess.type, guess.word_order, guess.byte_order): guess for guess in guesses(words, 0.0, 150.0)}
    assert not found["float64", "big", "big"].inside
    assert found["float64", "big", "big"].value == pytest.approx(3.6e-310, rel=0.1)


def test_what_the_profile_declares_is_read_as_it_says_with_its_scale_its_orders_and_its_codes() -> None:
    options = ModbusOptions(word_order="little")
    signal = Signal(eu="degC", range=(-40.0, 150.0), type="int32", at="input:3", scale=0.1, offset=-40.0)
    words = encode_one(22.5, Way.of(signal, options))
    found = declared_guess([*words, 7, 7], "temperature", signal, options)
    assert found is not None
    assert (found.value, found.inside, found.signal, found.word_order) == (pytest.approx(22.5), True, "temperature", "little")
    assert declared_guess(words[:1], "temperature", signal, options) is None, "it takes two registers"
    bit = Signal(type="bool", at="input:3", bit=9)
    found = declared_guess([0x0200], "pump", bit, options)
    assert found is not None
    assert (found.value, found.inside) == (1.0, True)
    none = Signal(range=(0.0, 100.0), type="int16", at="input:3", nan=(-32768,))
    found = declared_guess([0x8000], "level", none, options)
    assert found is not None
    assert np.isnan(found.value)
    assert not found.inside
