"""Registers to values and back, in every type and order; held to pymodbus's own conversion."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin

from drivers.device import Profile, Signal, SignalType
from drivers.modbus_codec import BitBlock, Item, RegisterBlock, Way, decode_one, encode_one, registers_of, text_of
from drivers.modbus_options import ModbusOptions, WordOrder

TYPES: tuple[SignalType, ...] = get_args(SignalType)
WORDS: tuple[WordOrder, ...] = get_args(WordOrder)
THEIRS = {type_: getattr(ModbusClientMixin.DATATYPE, type_.upper()) for type_ in TYPES if type_ not in ("bool", "float16")}


def wire(words: list[int]) -> bytes:
    return struct.pack(f">{len(words)}H", *words)


def swapped(word: int) -> int:
    return (word & 0xFF) << 8 | word >> 8


@st.composite
def values(draw: st.DrawFn, type_: SignalType) -> float:
    if type_ == "bool":
        return float(draw(st.booleans()))
    if type_.startswith("float"):
        return draw(st.floats(width=int(type_[5:]), allow_nan=False, allow_infinity=False))  # type: ignore[arg-type]
    limits = np.iinfo(type_)
    return float(draw(st.integers(max(int(limits.min), -(2**53)), min(int(limits.max), 2**53))))


@pytest.mark.parametrize(
    ("type_", "value", "words"),
    [
        ("uint16", 1201.0, [0x04B1]),
        ("int16", -2.0, [0xFFFE]),
        ("uint32", 305419896.0, [0x1234, 0x5678]),
        ("int32", -2.0, [0xFFFF, 0xFFFE]),
        ("int64", -2.0, [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE]),
        ("uint64", 2.0**63, [0x8000, 0, 0, 0]),
        ("float16", -1.5, [0xBE00]),
        ("float32", 25.0, [0x41C8, 0x0000]),
        ("float64", -118.625, [0xC05D, 0xA800, 0x0000, 0x0000]),
        ("bool", 1.0, [0x0001]),
    ],
)
def test_words_of_known_values(type_: SignalType, value: float, words: list[int]) -> None:
    assert encode_one(value, Way(type_)) == words
    assert decode_one(words, Way(type_)) == value


@pytest.mark.parametrize(
    ("word_order", "words"),
    [
        ("big", [0x0102, 0x0304, 0x0506, 0x0708]),
        ("little", [0x0708, 0x0506, 0x0304, 0x0102]),
        ("mid_big", [0x0304, 0x0102, 0x0708, 0x0506]),
        ("mid_little", [0x0506, 0x0708, 0x0102, 0x0304]),
    ],
)
def test_orders_of_bytes_and_words(word_order: WordOrder, words: list[int]) -> None:
    [number] = struct.unpack(">d", bytes(range(1, 9)))
    for byte_order, sent in (("big", words), ("little", [swapped(word) for word in words])):
        way = Way("float64", byte_order, word_order)  # type: ignore[arg-type]
        assert encode_one(number, way) == sent
        assert decode_one(sent, way) == number
    half = Way("uint32", "big", word_order)
    assert encode_one(0x12345678, half) == ([0x1234, 0x5678] if word_order in ("big", "mid_little") else [0x5678, 0x1234])


@given(data=st.data(), type_=st.sampled_from(sorted(THEIRS)), order=st.sampled_from(["big", "little"]))
def test_the_same_as_pymodbus(data: st.DataObject, type_: Any, order: Any) -> None:
    words = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=registers_of(type_), max_size=registers_of(type_)))
    theirs = float(ModbusClientMixin.convert_from_registers(words, THEIRS[type_], word_order=order))  # type: ignore[arg-type]
    ours = decode_one(words, Way(type_, "big", order))
    assert ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def test_a_block_decodes_all_types_around_its_gaps() -> None:
    items = [Item(0, Way("uint16"), 2), Item(2, Way("float32"), 0), Item(5, Way("int16", scale=0.1, offset=-40.0), 1), Item(6, Way("float64"), 3)]
    out = np.full(4, np.nan)
    RegisterBlock(items, 10).decode(wire([7, 0xDEAD, 0x41C8, 0, 0xBEEF, 650, 0xC05D, 0xA800, 0, 0]), out)
    np.testing.assert_allclose(out, [25.0, 25.0, 7.0, -118.625])


@given(data=st.data())
def test_a_block_comes_back_as_it_went(data: st.DataObject) -> None:
    """Runs of one type, mixtures, gaps and every order: the fast ways and the general one."""
    items, given_, start = list[Item](), list[float](), 0
    for place in range(data.draw(st.integers(1, 12))):
        if not items or data.draw(st.booleans()):
            way = Way(data.draw(st.sampled_from(TYPES)), data.draw(st.sampled_from(["big", "little"])), data.draw(st.sampled_from(WORDS)))
        items.append(Item(start, way, place))
        given_.append(data.draw(values(way.type)))
        start += registers_of(way.type) + data.draw(st.sampled_from([0, 0, 1]))
    block = RegisterBlock(items, start)
    out = np.empty(len(given_))
    raw = block.encode(np.array(given_))
    block.decode(raw, out)
    np.testing.assert_array_equal(out, given_)
    words = list(struct.unpack(f">{start}H", raw))
    for item, value in zip(items, given_, strict=True):
        assert words[item.start : item.start + registers_of(item.way.type)] == encode_one(value, item.way)


def test_bits_of_a_register() -> None:
    for byte_order, word in (("big", 0x8009), ("little", 0x0980)):
        items = [Item(0, Way("bool", byte_order, bit=bit), place) for place, bit in enumerate((0, 1, 3, 15))]  # type: ignore[arg-type]
        block = RegisterBlock(items, 1)
        out = np.empty(4)
        block.decode(wire([word]), out)
        np.testing.assert_array_equal(out, [1, 0, 1, 1])
        assert block.encode(np.array([1.0, 0.0, 1.0, 1.0])) == wire([word])


def test_no_value_and_codes_that_nobody_knows_are_bad() -> None:
    items = [
        Item(0, Way("int16", nan=(32768.0, 32767.0), scale=0.1), 0),
        Item(1, Way("uint16", codes=(0.0, 1.0, 5.0)), 1),
        Item(2, Way("float32", nan=(-9999.0,)), 2),
        Item(4, Way("int16"), 3),
        Item(5, Way("uint16", codes=(7.0,)), 4),
    ]
    block = RegisterBlock(items, 6)
    out = np.empty(5)
    block.decode(wire([0x8000, 5, 0xC61C, 0x3C00, 0x8000, 7]), out)
    np.testing.assert_array_equal(out, [np.nan, 5.0, np.nan, -32768.0, 7.0])
    block.decode(wire([0x7FFF, 2, 0x41C8, 0, 1, 8]), out)
    np.testing.assert_array_equal(out, [np.nan, np.nan, 25.0, 1.0, np.nan])
    assert block.encode(np.array([np.nan, 1.0, np.nan, np.nan, 7.0])) == wire([0x8000, 1, 0xC61C, 0x3C00, 0, 7])


def test_a_wide_integer_is_the_nearest_number() -> None:
    assert decode_one([0x0020, 0, 0, 1], Way("uint64")) == 2.0**53  # 2**53 + 1
    assert decode_one([0xFFFF] * 4, Way("uint64")) == 2.0**64


def test_scale_and_offset() -> None:
    assert encode_one(25.0, Way("uint16", scale=0.1, offset=-40.0)) == [650]
    assert decode_one([650], Way("uint16", scale=0.1, offset=-40.0)) == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("way", "value", "why"),
    [
        (Way("float32"), math.nan, "finite"),
        (Way("float64"), math.inf, "finite"),
        (Way("float32"), 1e39, "does not fit a float32"),
        (Way("float16"), 7e4, "does not fit a float16"),
        (Way("uint16"), -1.0, "0 to 65535"),
        (Way("uint16"), 65536.0, "0 to 65535"),
        (Way("uint64"), 2.0**64, "does not fit"),
        (Way("int16", scale=0.1), 4000.0, "40000 on the wire"),
        (Way("bool"), 2.0, "expected 0 or 1"),
        (Way("int16", nan=(32768.0,)), -32768.0, "a code for no value"),
        (Way("uint16", codes=(1.0, 2.0)), 3.0, "one of the codes 1, 2"),
    ],
)
def test_what_cannot_be_written(way: Way, value: float, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        encode_one(value, way)


def test_a_block_of_another_size_is_refused() -> None:
    block = RegisterBlock([Item(0, Way("float32"), 0)], 2)
    with pytest.raises(ValueError, match="expected 2 registers"):
        block.decode(b"\0" * 6, np.empty(1))
    with pytest.raises(ValueError, match="outside a block of 1"):
        RegisterBlock([Item(0, Way("float32"), 0)], 1)


def test_a_simulated_register_clips_and_has_no_nan_in_integers() -> None:
    items = [Item(0, Way("uint16"), 0), Item(1, Way("int16"), 1), Item(2, Way("float32"), 2), Item(4, Way("uint64"), 3), Item(8, Way("float16"), 4)]
    block = RegisterBlock(items, 9)
    out = np.empty(5)
    raw = block.encode(np.array([1e9, np.nan, np.nan, 1e30, 1e30]))
    assert raw[:8] == wire([0xFFFF, 0, 0x7FC0, 0])
    block.decode(raw, out)
    assert out[3] == pytest.approx(2.0**64)
    assert out[4] == 65504.0


def test_bits() -> None:
    block = BitBlock([Item(0, Way("bool"), 1), Item(3, Way("bool"), 0), Item(9, Way("bool"), 2)], 10)
    out = np.full(3, np.nan)
    block.decode(bytes([0b0001, 0b10]), out)
    np.testing.assert_array_equal(out, [0.0, 1.0, 1.0])
    assert block.encode(np.array([1.0, np.nan, 0.0])) == [False, False, False, True, *[False] * 6]
    for wrong in (b"\1", b"\1\2\3"):
        with pytest.raises(ValueError, match="expected 10 bits"):
            block.decode(wrong, out)


def test_a_signalling_nan_is_a_nan_without_a_word() -> None:
    """Warnings are errors in these tests; 7FA0 0001 is a float32 whose conversion raises the invalid flag."""
    assert math.isnan(decode_one([0x7FA0, 0x0001], Way("float32")))
    assert math.isinf(decode_one([0x7FE0, 0, 0, 0], Way("float64", scale=10.0)))


def test_texts() -> None:
    assert text_of(b"AB-100\0\0", "big", "ascii") == "AB-100"
    assert text_of(b"BA1-00  ", "little", "ascii") == "AB-100"
    assert text_of(b"A\xb5  ", "big", "latin-1") == "Aµ"
    assert text_of(b"A\xb5", "big", "ascii") == "A\N{REPLACEMENT CHARACTER}"


def signal(**keys: Any) -> Signal:
    return Signal.model_validate({"at": "holding:1", "type": "uint16", **keys})


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"bit": 3}, "only a bool in a holding or input register"),
        ({"bit": 3, "type": "bool", "at": "coil:1"}, "only a bool in a holding or input register"),
        ({"bit": 16, "type": "bool"}, "less than or equal to 15"),
        ({"enum": {"on": "runs"}}, "whole numbers as codes"),
        ({"enum": {"1": "runs"}, "type": "float32"}, "only an integer"),
        ({"enum": {"1": "runs"}, "scale": 0.1}, "only an integer"),
    ],
)
def test_signals_that_cannot_be(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        signal(**keys)


def test_a_signal_says_how_it_stands_there() -> None:
    way = Way.of(signal(nan=7, enum={"2": "b", "1": "a"}, word_order="little"), ModbusOptions(byte_order="little"))
    assert way == Way("uint16", "little", "little", nan=(7.0,), codes=(1.0, 2.0))
    only = {"id": "x", "description": "", "protocol": "opcua", "identity": {"at": "nsu=urn:x;s=i", "value": 1}}
    with pytest.raises(ValueError, match="only a signal on Modbus has one"):
        Profile.model_validate({**only, "signals": {"a": {"at": "nsu=urn:x;s=a", "nan": 1}}})
    with pytest.raises(ValueError, match="has no float16"):
        Profile.model_validate({**only, "signals": {"a": {"at": "nsu=urn:x;s=a", "type": "float16"}}})


@given(st.data())
def test_blocks_behind_each_other_decode_as_each_alone(data: st.DataObject) -> None:
    """Types, orders, scales, bits, codes of any number and gaps, mixed; the places of the blocks interleave."""
    ways = st.builds(
        Way,
        st.sampled_from(TYPES),
        st.sampled_from(["big", "little"]),
        st.sampled_from(WORDS),
        st.sampled_from([1.0, 0.1]),
        st.sampled_from([0.0, -5.0]),
        nan=st.sampled_from([(), (0.0,), (1.0, 2.0, 3.0)]),
        codes=st.sampled_from([(), (0.0,), (0.0, 1.0, 256.0)]),
    )
    rows = data.draw(st.lists(st.lists(ways, min_size=1, max_size=5), min_size=1, max_size=4))
    places = iter(data.draw(st.permutations(range(sum(map(len, rows))))))
    blocks = []
    for row in rows:
        start, items = 0, []
        for way in row:
            way = replace(way, bit=data.draw(st.integers(-1, 15)), scale=1.0, offset=0.0, nan=(), codes=()) if way.type == "bool" else way
            start += data.draw(st.integers(0, 2))
            items.append(Item(start, way, next(places)))
            start += registers_of(way.type)
        blocks.append(RegisterBlock(items, start + data.draw(st.integers(0, 2))))
    wires = [data.draw(st.one_of(st.binary(min_size=2 * block.count, max_size=2 * block.count), st.just(bytes(2 * block.count)))) for block in blocks]
    alone, together = np.full((2, sum(map(len, rows))), 99.0)
    for block, one in zip(blocks, wires, strict=True):
        block.decode(one, alone)
    RegisterBlock.join(blocks).decode(b"".join(wires), together)
    np.testing.assert_array_equal(together, alone)
