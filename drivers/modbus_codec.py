"""Modbus registers and bits to values in eu and back. Pure, and the same for every transport.

A block of registers is `bytes` as they stand on the wire. Which byte of it belongs where in a big-endian number depends only
on the profile, so it is worked out once: a run of neighbours of one type is one view, anything else one gather by an index array.
An integer beyond 2**53 is the nearest float64: 16 digits, more than any instrument has.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from drivers.device import Signal, SignalType
from drivers.modbus_options import AT, ByteOrder, ModbusOptions, Table, WordOrder
from drivers.tags import BoolArray, FloatArray, IndexArray

__all__ = [
    "BitBlock",
    "Item",
    "RegisterBlock",
    "Table",
    "Way",
    "decode_one",
    "encode_one",
    "places_of",
    "quiet",
    "registers_of",
    "table_of",
    "text_of",
    "words_of",
]

_FORMAT: Final[dict[SignalType, str]] = {
    "bool": ">u2",  # in a register: anything but 0 is true
    "int16": ">i2",
    "uint16": ">u2",
    "int32": ">i4",
    "uint32": ">u4",
    "int64": ">i8",
    "uint64": ">u8",
    "float16": ">f2",
    "float32": ">f4",
    "float64": ">f8",
}
_NOTHING: Final[NDArray[np.uint8]] = np.zeros(0, dtype=np.uint8)
# places of the words on the wire, most significant first
_WORDS: Final[dict[WordOrder, dict[int, tuple[int, ...]]]] = {
    "big": {1: (0,), 2: (0, 1), 4: (0, 1, 2, 3)},
    "little": {1: (0,), 2: (1, 0), 4: (3, 2, 1, 0)},
    "mid_big": {1: (0,), 2: (1, 0), 4: (1, 0, 3, 2)},
    "mid_little": {1: (0,), 2: (0, 1), 4: (2, 3, 0, 1)},
}


def registers_of(type_: SignalType) -> int:
    """Return how many registers a value of this type takes.

    >>> registers_of("float32")
    2
    """
    return np.dtype(_FORMAT[type_]).itemsize // 2


def table_of(at: str) -> tuple[Table, int]:
    """Return the table and the number written in a profile's `at`; raise `ValueError` on anything else.

    >>> table_of("input:12")
    ('input', 12)
    """
    match = AT.fullmatch(at)
    if match is None:
        raise ValueError(f"expected coil|discrete|input|holding:<address>, got {at!r}")
    return match[1], int(match[2])  # type: ignore[return-value]  # the pattern allows nothing else


@dataclass(frozen=True, slots=True)
class Way:
    """How one value stands in registers: everything that its bytes depend on."""

    type: SignalType
    byte_order: ByteOrder = "big"
    word_order: WordOrder = "big"
    scale: float = 1.0
    offset: float = 0.0
    bit: int = -1  # of a bool: which bit of its register; -1: any
    nan: tuple[float, ...] = ()  # codes for "no value"
    codes: tuple[float, ...] = ()  # all that are allowed; none: any

    @classmethod
    def of(cls, signal: Signal, options: ModbusOptions) -> Way:
        """Return the way of a signal of a profile with these options."""
        return cls(
            signal.type,
            signal.byte_order or options.byte_order,
            signal.word_order or options.word_order,
            signal.scale,
            signal.offset,
            -1 if signal.bit is None else signal.bit,
            signal.nan,
            tuple(sorted(float(code) for code in signal.enum)),
        )

    @property
    def wire_bit(self) -> int:
        """Which bit of the register as it is sent."""
        return self.bit if self.byte_order == "big" else self.bit ^ 8

    def byteplaces_of(self) -> list[int]:
        """Return, for each byte of the big-endian number, which byte of its registers on the wire holds it."""
        pair = (0, 1) if self.byte_order == "big" else (1, 0)
        return [2 * word + byte for word in _WORDS[self.word_order][registers_of(self.type)] for byte in pair]


@dataclass(frozen=True, slots=True)
class Item:
    """One value in a block: where it starts there (registers, or bits), how it stands there, and its index in the reading."""

    start: int
    way: Way
    place: int


def places_of(numbers: Sequence[int]) -> slice | IndexArray:
    """Return a slice where the numbers follow each other, since that costs nothing, else an index array."""
    first = numbers[0]
    if list(numbers) == list(range(first, first + len(numbers))):
        return slice(first, first + len(numbers))
    return np.array(numbers, dtype=np.intp)


class _Group:
    """All items of a block that stand in one type and order."""

    def __init__(self, items: Sequence[Item], count: int) -> None:
        way = items[0].way
        self.type: np.dtype[Any] = np.dtype(_FORMAT[way.type])
        self.boolean = way.type == "bool"
        self.places = places_of([item.place for item in items])
        size, order = self.type.itemsize, way.byteplaces_of()
        self.index: IndexArray = np.array([[2 * item.start + byte for byte in order] for item in items], dtype=np.intp)
        if self.index.max() >= 2 * count:
            raise ValueError(f"an item ends at register {int(self.index.max()) // 2}, outside a block of {count} registers")
        # neighbours in big-endian or in wholly reversed order are a view of the block as it came
        starts = [2 * item.start for item in items]
        run = starts == list(range(starts[0], starts[0] + size * len(items), size))
        straight, reversed_ = order == list(range(size)), order == list(range(size))[::-1]
        self.view = (self.type if straight else self.type.newbyteorder("<"), starts[0]) if run and (straight or reversed_) else None
        self.n = len(items)
        scale, offset = np.array([item.way.scale for item in items]), np.array([item.way.offset for item in items])
        self.scale, self.offset = scale, offset
        self.plain = bool((scale == 1.0).all() and (offset == 0.0).all())
        self.shift: NDArray[np.uint16] | None = None
        if self.boolean and any(item.way.bit >= 0 for item in items):
            self.shift = np.array([max(item.way.bit, 0) for item in items], dtype=np.uint16)
            self.mask = np.array([1 if item.way.bit >= 0 else 0xFFFF for item in items], dtype=np.uint16)
        self.nan = _table({place: _codes(item.way) for place, item in enumerate(items) if item.way.nan})
        self.codes = _table({place: np.array(item.way.codes) for place, item in enumerate(items) if item.way.codes})
        self.wide = self.type.kind in "iu" and size == 8
        self.direct = self.plain and not self.boolean and self.nan is None and self.codes is None

    def decode(self, wire: bytes, raw: NDArray[np.uint8], out: FloatArray) -> None:
        view = self.view
        numbers = np.frombuffer(wire, view[0], self.n, view[1]) if view is not None else raw[self.index].view(self.type)[:, 0]
        if self.direct:
            out[self.places] = numbers
            return
        if self.boolean:
            flags = numbers if self.shift is None else (numbers >> self.shift) & self.mask
            values = (flags != 0).astype(np.float64)
        elif self.plain:
            values = numbers.astype(np.float64)
        else:
            values = numbers.astype(np.float64) * self.scale + self.offset
        if self.nan is not None:
            at, codes = self.nan
            values[at[(numbers[at, np.newaxis] == codes).any(axis=1)]] = np.nan
        if self.codes is not None:
            at, allowed = self.codes
            values[at[(values[at, np.newaxis] != allowed).all(axis=1)]] = np.nan
        out[self.places] = values

    def encode(self, values: FloatArray, raw: NDArray[np.uint8]) -> None:
        numbers = values[self.places]
        absent = np.isnan(numbers)
        if self.boolean:
            bits = np.nan_to_num(numbers) != 0
            if self.shift is not None:
                for (high, low), bit, shift in zip(self.index, bits, self.shift, strict=True):
                    raw[high if shift > 7 else low] |= np.uint8(int(bit) << (int(shift) & 7))
                return
            wire = bits.astype(self.type)
        elif self.type.kind != "f":
            limits = np.iinfo(self.type)
            whole = np.nan_to_num(np.rint((numbers - self.offset) / self.scale))
            inside = np.clip(whole, float(limits.min), np.nextafter(float(limits.max), 0.0) if self.wide else float(limits.max))
            wire = inside.astype(self.type)
        else:
            wire = (numbers - self.offset) / self.scale
            if self.type.itemsize < 8:
                limit = float(np.finfo(self.type).max)
                wire = np.clip(wire, -limit, limit)
            wire = wire.astype(self.type)
        if self.nan is not None:
            at, codes = self.nan
            wire[at[absent[at]]] = codes[absent[at], 0]
        raw[self.index] = wire.view(np.uint8).reshape(self.index.shape)


def _table(codes: dict[int, NDArray[Any]]) -> tuple[IndexArray, NDArray[Any]] | None:
    """Return the places that have codes and the codes of each, as long as the longest: the first one fills up."""
    if not codes:
        return None
    longest = max(map(len, codes.values()))
    rows = [np.concatenate([row, np.repeat(row[:1], longest - len(row))]) for row in codes.values()]
    return np.array(list(codes), dtype=np.intp), np.array(rows)


def _codes(way: Way) -> NDArray[Any]:
    """Return the codes for "no value" as numbers of the type: 32768 and -32768 are the same int16."""
    dtype = np.dtype(_FORMAT[way.type]).newbyteorder("=")
    if dtype.kind == "f":
        return np.array(way.nan, dtype=dtype)
    return np.array([int(code) % 2 ** (8 * dtype.itemsize) for code in way.nan], dtype=f"u{dtype.itemsize}").view(dtype)


def quiet() -> np.errstate:
    """Return the context in which a signalling NaN, or a float64 that its scale takes beyond the largest, is decoded without a word."""
    return np.errstate(invalid="ignore", over="ignore")


class RegisterBlock:
    """The values in a run of registers. `count` registers hold `items`; gaps between them read as 0 and are ignored."""

    def __init__(self, items: Iterable[Item], count: int) -> None:
        self.items = tuple(items)
        self.count = count
        same: dict[tuple[object, ...], list[Item]] = {}
        for item in self.items:
            same.setdefault((item.way.type, item.way.byte_order, item.way.word_order), []).append(item)
        self._groups = [_Group(group, count) for group in same.values()]
        self._gathers = any(group.view is None for group in self._groups)

    def decode(self, wire: bytes, out: FloatArray) -> None:
        """Put the values [eu of each] of a block as it came, `2 * count` bytes, into `out` (n,) at their places."""
        with quiet():
            self.put(wire, out)

    def put(self, wire: bytes, out: FloatArray) -> None:
        """Do as `decode` does, inside of a `quiet` that the caller has around many of them."""
        if len(wire) != 2 * self.count:
            raise ValueError(f"expected {self.count} registers ({2 * self.count} bytes), got {len(wire)} bytes")
        raw = np.frombuffer(wire, dtype=np.uint8) if self._gathers else _NOTHING
        for group in self._groups:
            group.decode(wire, raw, out)

    def encode(self, values: FloatArray) -> bytes:
        """Return the block, `2 * count` bytes, that holds `values` (n,) [eu of each]; what a type cannot hold is clipped.

        NaN is the declared code for "no value", a NaN of a float, else 0.
        """
        raw = np.zeros(2 * self.count, dtype=np.uint8)
        for group in self._groups:
            group.encode(values, raw)
        return raw.tobytes()


class BitBlock:
    """The values in a run of coils or discrete inputs."""

    def __init__(self, items: Iterable[Item], count: int) -> None:
        self.items = tuple(items)
        self.count = count
        self._index = np.array([item.start for item in self.items], dtype=np.intp)
        self._places = np.array([item.place for item in self.items], dtype=np.intp)
        if self._index.size and self._index.max() >= count:
            raise ValueError(f"an item is at bit {int(self._index.max())}, outside a block of {count} bits")

    def decode(self, wire: bytes, out: FloatArray) -> None:
        """Put 0 or 1 into `out` (n,) at each place; `wire` holds eight bits a byte, the first in the lowest place."""
        if len(wire) != (self.count + 7) // 8:
            raise ValueError(f"expected {self.count} bits ({(self.count + 7) // 8} bytes), got {len(wire)} bytes")
        out[self._places] = np.unpackbits(np.frombuffer(wire, dtype=np.uint8), bitorder="little")[self._index]

    def put(self, wire: bytes, out: FloatArray) -> None:
        """Do as `decode` does."""
        self.decode(wire, out)

    def encode(self, values: FloatArray) -> list[bool]:
        """Return the `count` bits that hold `values` (n,); NaN is false."""
        bits: BoolArray = np.zeros(self.count, dtype=np.bool_)
        bits[self._index] = np.nan_to_num(values[self._places]) != 0
        return [bool(bit) for bit in bits]


def encode_one(value: float, way: Way) -> list[int]:
    """Return the registers that hold `value` [eu]; raise `ValueError` for NaN, infinity and what the type cannot hold or the device not tell.

    >>> [hex(word) for word in encode_one(1.5, Way("float32"))]
    ['0x3fc0', '0x0']
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be written; write a finite number")
    if way.codes and value not in way.codes:
        raise ValueError(f"expected one of the codes {', '.join(f'{code:g}' for code in way.codes)}, got {value:g}")
    number = (value - way.offset) / way.scale
    if way.type == "bool":
        if value not in (0.0, 1.0):
            raise ValueError(f"expected 0 or 1 for a bool, got {value:g}")
        number = value
    dtype = np.dtype(_FORMAT[way.type])
    if dtype.kind == "f":
        if abs(number) > float(np.finfo(dtype).max):
            raise ValueError(f"{value:g} does not fit a {way.type}")
        one = np.array([number], dtype=dtype)
    else:
        limits = np.iinfo(dtype)
        if not limits.min <= round(number) <= limits.max:
            raise ValueError(f"{value:g} is {round(number)} on the wire and does not fit a {way.type} ({limits.min} to {limits.max})")
        one = np.array([round(number)], dtype=dtype)
    if way.nan and one[0] in _codes(way):
        raise ValueError(f"{value:g} is a code for no value; it cannot be written")
    wire = one.tobytes()
    raw = bytearray(len(wire))
    for byte, at in zip(wire, way.byteplaces_of(), strict=True):
        raw[at] = byte
    return list(words_of(bytes(raw)))


def decode_one(registers: Sequence[int], way: Way) -> float:
    """Return the value [eu] in `registers`, as many as the type takes.

    >>> decode_one([0x3FC0, 0], Way("float32"))
    1.5
    """
    out = np.empty(1)
    RegisterBlock([Item(0, way, 0)], registers_of(way.type)).decode(struct.pack(f">{len(registers)}H", *registers), out)
    return float(out[0])


def words_of(wire: bytes) -> tuple[int, ...]:
    """Return registers as numbers of 16 bits."""
    return struct.unpack(f">{len(wire) // 2}H", wire)


def text_of(wire: bytes, byte_order: ByteOrder, encoding: str) -> str:
    """Return the words in registers: up to the first 0, without blanks at the end; what cannot be read is shown as a question mark."""
    if byte_order == "little":
        wire = b"".join(wire[at + 1 : at + 2] + wire[at : at + 1] for at in range(0, len(wire), 2))
    return wire.partition(b"\0")[0].decode(encoding, "replace").rstrip()
