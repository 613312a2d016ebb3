"""Registers to values and back, in every type and order."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device import ModbusOptions, SignalType
from drivers.modbus_codec import BitBlock, Item, RegisterBlock, decode_one, encode_one, registers_of

BIG = ModbusOptions()
ORDERS = [ModbusOptions(byte_order=byte, word_order=word) for byte in ("big", "little") for word in ("big", "little")]
TYPES: list[SignalType] = ["bool", "int16", "uint16", "int32", "uint32", "float32", "float64"]


def wire(words: list[int]) -> bytes:
    return struct.pack(f">{len(words)}H", *words)


@pytest.mark.parametrize(
    ("type_", "value", "words"),
    [
        ("uint16", 1201.0, [0x04B1]),
        ("int16", -2.0, [0xFFFE]),
        ("uint32", 305419896.0, [0x1234, 0x5678]),
        ("int32", -2.0, [0xFFFF, 0xFFFE]),
        ("float32", 25.0, [0x41C8, 0x0000]),
        ("float64", -118.625, [0xC05D, 0xA800, 0x0000, 0x0000]),
        ("bool", 1.0, [0x0001]),
    ],
)
def test_words_of_known_values(type_: SignalType, value: float, words: list[int]) -> None:
    assert encode_one(value, type_, BIG) == words
    assert decode_one(words, type_, BIG) == value


@pytest.mark.parametrize(
    ("byte", "word", "words"),
    [
        ("big", "big", [0x1234, 0x5678]),
        ("big", "little", [0x5678, 0x1234]),
        ("little", "big", [0x3412, 0x7856]),
        ("little", "little", [0x7856, 0x3412]),
    ],
)
def test_orders_of_bytes_and_words(byte: str, word: str, words: list[int]) -> None:
    options = ModbusOptions.model_validate({"byte_order": byte, "word_order": word})
    assert encode_one(0x12345678, "uint32", options) == words
    assert decode_one(words, "uint32", options) == 0x12345678


def test_a_block_decodes_all_types_around_its_gaps() -> None:
    items = [Item(0, "uint16", 2), Item(2, "float32", 0), Item(5, "int16", 1, scale=0.1, offset=-40.0), Item(6, "float64", 3)]
    out = np.full(4, np.nan)
    RegisterBlock(items, 10, BIG).decode(wire([7, 0xDEAD, 0x41C8, 0, 0xBEEF, 650, 0xC05D, 0xA800, 0, 0]), out)
    np.testing.assert_allclose(out, [25.0, 25.0, 7.0, -118.625])


@pytest.mark.parametrize("options", ORDERS)
@given(data=st.data())
def test_a_block_comes_back_as_it_went(options: ModbusOptions, data: st.DataObject) -> None:
    types = data.draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=8))
    items, values, start = [], [], 0
    for place, type_ in enumerate(types):
        if type_ == "bool":
            value = float(data.draw(st.booleans()))
        elif type_.startswith("float"):
            value = data.draw(st.floats(width=32 if type_ == "float32" else 64, allow_nan=False, allow_infinity=False))
        else:
            limits = np.iinfo(type_)
            value = float(data.draw(st.integers(int(limits.min), int(limits.max))))
        items.append(Item(start, type_, place))
        values.append(value)
        start += registers_of(type_) + data.draw(st.integers(0, 2))
    block = RegisterBlock(items, start, options)
    out = np.empty(len(values))
    raw = block.encode(np.array(values))
    block.decode(raw, out)
    np.testing.assert_array_equal(out, values)
    words = list(struct.unpack(f">{start}H", raw))
    for item, value in zip(items, values, strict=True):
        assert words[item.start : item.start + registers_of(item.type)] == encode_one(value, item.type, options)


def test_scale_and_offset() -> None:
    assert encode_one(25.0, "uint16", BIG, scale=0.1, offset=-40.0) == [650]
    assert decode_one([650], "uint16", BIG, scale=0.1, offset=-40.0) == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("type_", "value", "why"),
    [
        ("float32", math.nan, "finite"),
        ("float64", math.inf, "finite"),
        ("float32", 1e39, "does not fit a float32"),
        ("uint16", -1.0, "0 to 65535"),
        ("uint16", 65536.0, "0 to 65535"),
        ("int16", 32768.0, "-32768 to 32767"),
        ("bool", 0.5, "expected 0 or 1"),
    ],
)
def test_what_cannot_be_written(type_: SignalType, value: float, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        encode_one(value, type_, BIG)


def test_a_reply_of_another_length_is_refused() -> None:
    block = RegisterBlock([Item(0, "float32", 0)], 2, BIG)
    with pytest.raises(ValueError, match="expected 2 registers"):
        block.decode(b"\0" * 6, np.empty(1))
    with pytest.raises(ValueError, match="outside a block of 1"):
        RegisterBlock([Item(0, "float32", 0)], 1, BIG)


def test_a_simulated_register_clips_and_has_no_nan_in_integers() -> None:
    block = RegisterBlock([Item(0, "uint16", 0), Item(1, "int16", 1), Item(2, "float32", 2)], 4, BIG)
    assert block.encode(np.array([1e9, np.nan, np.nan])) == wire([0xFFFF, 0, 0x7FC0, 0])


def test_bits() -> None:
    block = BitBlock([Item(0, "bool", 1), Item(3, "bool", 0)], 4)
    out = np.full(2, np.nan)
    block.decode([True, False, False, False, False, False, False, False], out)
    np.testing.assert_array_equal(out, [0.0, 1.0])
    assert block.encode(np.array([1.0, np.nan])) == [False, False, False, True]
    with pytest.raises(ValueError, match="expected 4 bits, got 3"):
        block.decode([True] * 3, out)
    with pytest.raises(ValueError, match="expected 4 bits, got 16"):
        block.decode([True] * 16, out)


def test_a_signalling_nan_is_a_nan_without_a_word() -> None:
    """Warnings are errors in these tests; 7FA0 0001 is a float32 whose conversion raises the invalid flag."""
    assert math.isnan(decode_one([0x7FA0, 0x0001], "float32", ModbusOptions()))
    assert math.isinf(decode_one([0x7FE0, 0, 0, 0], "float64", ModbusOptions(), scale=10.0))
