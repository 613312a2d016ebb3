"""Decoding a register in every way: what was meant is among the ways, and first where the range tells it from the rest."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus_codec import Way, encode_one
from drivers.modbus_probe import guesses

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
