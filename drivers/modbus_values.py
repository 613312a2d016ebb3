"""How values stand in registers, and all those of one type and order at once. Pure.

Which word belongs where in a number depends only on the profile, so it is worked out once: neighbours are one view of the bytes as they came,
anything else one gather by an index array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from drivers.device import Signal, SignalType
from drivers.modbus_options import ByteOrder, ModbusOptions, WordOrder
from drivers.tags import FloatArray, IndexArray

__all__ = ["FORMAT", "Group", "Item", "Way", "codes_of", "places_of", "registers_of"]

FORMAT: Final[dict[SignalType, str]] = {
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
# places of the words on the wire, most significant first
_WORDS: Final[dict[WordOrder, dict[int, tuple[int, ...]]]] = {
    "big": {1: (0,), 2: (0, 1), 4: (0, 1, 2, 3)},
    "little": {1: (0,), 2: (1, 0), 4: (3, 2, 1, 0)},
    "mid_big": {1: (0,), 2: (1, 0), 4: (1, 0, 3, 2)},
    "mid_little": {1: (0,), 2: (0, 1), 4: (2, 3, 0, 1)},
}


_Table = tuple[IndexArray, NDArray[Any]]  # places, and the codes of each


def registers_of(type_: SignalType) -> int:
    """Return how many registers a value of this type takes.

    >>> registers_of("float32")
    2
    """
    return np.dtype(FORMAT[type_]).itemsize // 2


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


def places_of(numbers: Sequence[int] | IndexArray) -> slice | IndexArray:
    """Return a slice where the numbers follow each other, since that costs nothing, else an index array."""
    array: IndexArray = np.asarray(numbers, dtype=np.intp)
    first = int(array[0]) if len(array) else 0
    return slice(first, first + len(array)) if (np.diff(array) == 1).all() else array


@dataclass(eq=False)
class Group:
    """Values that stand in one type and order, in one block or in several behind each other."""

    type: np.dtype[Any]  # of the number, once its `words` are side by side
    boolean: bool
    words: IndexArray  # (n, words of a value) where they are, in registers
    place: IndexArray  # (n,) in the reading
    scale: FloatArray  # (n,)
    offset: FloatArray  # (n,)
    shift: NDArray[np.uint16]  # (n,) of a bool
    mask: NDArray[np.uint16]  # (n,) of a bool
    nan: _Table | None
    codes: _Table | None

    def __post_init__(self) -> None:
        self.n = len(self.place)
        self.places = places_of(self.place)
        self.flat = self.words.ravel()
        # neighbours are a view of the block as it came [byte of the first]; -1: they have to be gathered
        self.start = 2 * int(self.flat[0]) if (np.diff(self.flat) == 1).all() else -1
        self.plain = bool((self.scale == 1.0).all() and (self.offset == 0.0).all())
        self.wide = self.type.kind in "iu" and self.type.itemsize == 8
        self.direct = self.plain and not self.boolean and self.nan is None and self.codes is None

    @classmethod
    def of(cls, items: Sequence[Item], count: int) -> Group:
        """Return the group of items of a block of `count` registers."""
        way = items[0].way
        dtype, order = np.dtype(FORMAT[way.type]), _WORDS[way.word_order][registers_of(way.type)]
        if way.byte_order == "little":  # from its last word on it is a number whose lowest byte comes first
            dtype, order = dtype.newbyteorder("<"), order[::-1]
        words: IndexArray = np.array([item.start for item in items], dtype=np.intp)[:, np.newaxis] + np.array(order, dtype=np.intp)
        if words.max() >= count:
            raise ValueError(f"an item ends at register {int(words.max())}, outside a block of {count} registers")
        return cls(
            dtype,
            way.type == "bool",
            words,
            np.array([item.place for item in items], dtype=np.intp),
            np.array([item.way.scale for item in items]),
            np.array([item.way.offset for item in items]),
            np.array([max(item.way.bit, 0) for item in items], dtype=np.uint16),
            np.array([1 if item.way.bit >= 0 else 0xFFFF for item in items], dtype=np.uint16),
            _table({place: codes_of(item.way) for place, item in enumerate(items) if item.way.nan}),
            _table({place: np.array(item.way.codes) for place, item in enumerate(items) if item.way.codes}),
        )

    @classmethod
    def join(cls, parts: Sequence[tuple[int, Group]]) -> Group:
        """Return the groups of one type and order as one; each comes with the register at which its block begins."""
        groups = [group for _, group in parts]
        firsts = [0, *accumulate(group.n for group in groups)]
        return cls(
            groups[0].type,
            groups[0].boolean,
            np.concatenate([start + group.words for start, group in parts]),
            np.concatenate([group.place for group in groups]),
            np.concatenate([group.scale for group in groups]),
            np.concatenate([group.offset for group in groups]),
            np.concatenate([group.shift for group in groups]),
            np.concatenate([group.mask for group in groups]),
            _join_tables(firsts, [group.nan for group in groups]),
            _join_tables(firsts, [group.codes for group in groups]),
        )

    def decode(self, wire: bytes, raw: NDArray[np.uint16], out: FloatArray) -> None:
        """Put the values [eu of each] of a block as it came into `out` at their places; `raw` are its words, where some have to be gathered."""
        numbers = np.frombuffer(wire, self.type, self.n, self.start) if self.start >= 0 else raw.take(self.flat).view(self.type)
        if self.direct:
            out[self.places] = numbers
            return
        if self.boolean:
            values = ((numbers >> self.shift) & self.mask != 0).astype(np.float64)
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

    def encode(self, values: FloatArray, raw: NDArray[np.uint16]) -> None:
        """Put the values [eu of each] at their places into the words of a block."""
        numbers = values[self.places]
        absent = np.isnan(numbers)
        if self.boolean:
            bits = (np.nan_to_num(numbers) != 0).astype(np.uint16) << self.shift
            np.bitwise_or.at(raw, self.flat, bits.astype(self.type).view(np.uint16))
            return
        if self.type.kind != "f":
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
        raw[self.flat] = wire.view(np.uint16)


def _table(codes: dict[int, NDArray[Any]]) -> _Table | None:
    """Return the places that have codes and the codes of each, as long as the longest: the first one fills up."""
    if not codes:
        return None
    return np.array(list(codes), dtype=np.intp), _stacked([row[np.newaxis] for row in codes.values()])


def _join_tables(firsts: Sequence[int], tables: Sequence[_Table | None]) -> _Table | None:
    """Return the tables of groups as one; the places of each count from one of `firsts`."""
    found = [(first + table[0], table[1]) for first, table in zip(firsts, tables, strict=False) if table is not None]
    return (np.concatenate([at for at, _ in found]), _stacked([rows for _, rows in found])) if found else None


def _stacked(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    longest = max(part.shape[1] for part in rows)
    return np.concatenate([np.concatenate([part, np.repeat(part[:, :1], longest - part.shape[1], axis=1)], axis=1) for part in rows])


def codes_of(way: Way) -> NDArray[Any]:
    """Return the codes for "no value" as numbers of the type: 32768 and -32768 are the same int16."""
    dtype = np.dtype(FORMAT[way.type]).newbyteorder("=")
    if dtype.kind == "f":
        return np.array(way.nan, dtype=dtype)
    return np.array([int(code) % 2 ** (8 * dtype.itemsize) for code in way.nan], dtype=f"u{dtype.itemsize}").view(dtype)
