"""Modbus registers and bits to values in eu and back. Pure, and the same for every transport.

A block of registers is `bytes` as they stand on the wire. Which byte of it belongs where in a big-endian number depends only
on the profile, so it is worked out once, as an index array; a whole block is then one gather and one view for each type.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from drivers.device import ModbusOptions, SignalType
from drivers.tags import FloatArray, IndexArray

__all__ = ["BitBlock", "Item", "RegisterBlock", "Table", "decode_one", "encode_one", "registers_of", "table_of"]

Table = Literal["input", "discrete", "holding", "coil"]

_AT: Final = re.compile(r"(coil|discrete|input|holding):(\d+)$")
_FORMAT: Final[dict[SignalType, str]] = {
    "bool": ">u2",  # in a register: anything but 0 is true
    "int16": ">i2",
    "uint16": ">u2",
    "int32": ">i4",
    "uint32": ">u4",
    "float32": ">f4",
    "float64": ">f8",
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
    match = _AT.fullmatch(at)
    if match is None:
        raise ValueError(f"expected coil|discrete|input|holding:<address>, got {at!r}")
    return match[1], int(match[2])  # type: ignore[return-value]  # the pattern allows nothing else


@dataclass(frozen=True, slots=True)
class Item:
    """One value in a block: where it starts there (registers, or bits), its type, and its index in the reading."""

    start: int
    type: SignalType
    place: int
    scale: float = 1.0
    offset: float = 0.0


def _byte_order(type_: SignalType, options: ModbusOptions) -> list[int]:
    """Return, for each byte of the big-endian number, which byte of its registers on the wire holds it."""
    words = list(range(registers_of(type_)))
    if options.word_order == "little":
        words.reverse()
    pair = (0, 1) if options.byte_order == "big" else (1, 0)
    return [2 * word + byte for word in words for byte in pair]


@dataclass(frozen=True, slots=True)
class _Group:
    """All items of one type: `index` (k, bytes) picks them from the block, `places` (k,) puts them into the reading."""

    type: np.dtype[Any]  # of the numbers on the wire, big-endian
    boolean: bool
    index: IndexArray
    places: IndexArray
    scale: FloatArray
    offset: FloatArray


class RegisterBlock:
    """The values in a run of registers. `count` registers hold `items`; gaps between them read as 0 and are ignored."""

    def __init__(self, items: Iterable[Item], count: int, options: ModbusOptions) -> None:
        self.items = tuple(items)
        self.count = count
        self._groups: list[_Group] = []
        for type_ in dict.fromkeys(item.type for item in self.items):
            same = [item for item in self.items if item.type == type_]
            order = _byte_order(type_, options)
            index = np.array([[2 * item.start + byte for byte in order] for item in same], dtype=np.intp)
            if index.size and index.max() >= 2 * count:
                raise ValueError(f"an item ends at register {int(index.max()) // 2}, outside a block of {count} registers")
            self._groups.append(
                _Group(
                    np.dtype(_FORMAT[type_]),
                    type_ == "bool",
                    index,
                    np.array([item.place for item in same], dtype=np.intp),
                    np.array([item.scale for item in same]),
                    np.array([item.offset for item in same]),
                )
            )

    def decode(self, wire: bytes, out: FloatArray) -> None:
        """Put the values [eu of each] of a block as it came, `2 * count` bytes, into `out` (n,) at their places."""
        if len(wire) != 2 * self.count:
            raise ValueError(f"expected {self.count} registers ({2 * self.count} bytes), got {len(wire)} bytes")
        raw = np.frombuffer(wire, dtype=np.uint8)
        with np.errstate(invalid="ignore", over="ignore"):  # a signalling NaN, or a float64 that its scale takes beyond the largest
            for group in self._groups:
                numbers = raw[group.index].view(group.type)[:, 0]
                out[group.places] = (numbers != 0) if group.boolean else numbers.astype(np.float64) * group.scale + group.offset

    def encode(self, values: FloatArray) -> bytes:
        """Return the block, `2 * count` bytes, that holds `values` (n,) [eu of each]; what an integer cannot hold is clipped, NaN is 0."""
        raw = np.zeros(2 * self.count, dtype=np.uint8)
        for group in self._groups:
            numbers = values[group.places]
            if group.boolean:
                numbers = np.nan_to_num(numbers) != 0
            elif group.type.kind != "f":
                limits = np.iinfo(group.type)
                numbers = np.clip(np.nan_to_num(np.rint((numbers - group.offset) / group.scale)), limits.min, limits.max)
            elif group.type.itemsize == 4:
                limit = float(np.finfo(np.float32).max)
                numbers = np.clip((numbers - group.offset) / group.scale, -limit, limit)
            else:
                numbers = (numbers - group.offset) / group.scale
            raw[group.index] = numbers.astype(group.type).view(np.uint8).reshape(group.index.shape)
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

    def decode(self, bits: Sequence[bool], out: FloatArray) -> None:
        """Put 0 or 1 into `out` (n,) at each place; `bits` are at least `count`, since replies are padded to whole bytes."""
        if not self.count <= len(bits) < self.count + 8:
            raise ValueError(f"expected {self.count} bits, got {len(bits)}")
        out[self._places] = np.asarray(bits, dtype=np.bool_)[self._index]

    def encode(self, values: FloatArray) -> list[bool]:
        """Return the `count` bits that hold `values` (n,); NaN is false."""
        bits: NDArray[np.bool_] = np.zeros(self.count, dtype=np.bool_)
        bits[self._index] = np.nan_to_num(values[self._places]) != 0
        return [bool(bit) for bit in bits]


def encode_one(value: float, type_: SignalType, options: ModbusOptions, scale: float = 1.0, offset: float = 0.0) -> list[int]:
    """Return the registers that hold `value` [eu]; raise `ValueError` for NaN, infinity and what the type cannot hold.

    >>> [hex(word) for word in encode_one(1.5, "float32", ModbusOptions())]
    ['0x3fc0', '0x0']
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be written; write a finite number")
    number = (value - offset) / scale
    if type_ == "bool":
        if value not in (0.0, 1.0):
            raise ValueError(f"expected 0 or 1 for a bool, got {value:g}")
        number = value
    dtype = np.dtype(_FORMAT[type_])
    if dtype.kind == "f":
        if abs(number) > float(np.finfo(dtype).max):
            raise ValueError(f"{value:g} does not fit a {type_}")
        wire = np.array([number], dtype=dtype).tobytes()
    else:
        limits = np.iinfo(dtype)
        if not limits.min <= round(number) <= limits.max:
            raise ValueError(f"{value:g} is {round(number)} on the wire and does not fit a {type_} ({limits.min} to {limits.max})")
        wire = np.array([round(number)], dtype=dtype).tobytes()
    raw = bytearray(len(wire))
    for byte, at in zip(wire, _byte_order(type_, options), strict=True):
        raw[at] = byte
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def decode_one(registers: Sequence[int], type_: SignalType, options: ModbusOptions, scale: float = 1.0, offset: float = 0.0) -> float:
    """Return the value [eu] in `registers`, as many as the type takes.

    >>> decode_one([0x3FC0, 0], "float32", ModbusOptions())
    1.5
    """
    out = np.empty(1)
    block = RegisterBlock([Item(0, type_, 0, scale, offset)], registers_of(type_), options)
    block.decode(struct.pack(f">{len(registers)}H", *registers), out)
    return float(out[0])
