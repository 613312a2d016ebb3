"""Modbus registers and bits to values in eu and back. Pure, and the same for every transport.

A block of registers is `bytes` as they stand on the wire. An integer beyond 2**53 is the nearest float64: 16 digits, more than any instrument has.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from contextvars import Context, copy_context
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drivers.device import SignalType
from drivers.modbus_options import AT, ByteOrder, Table, WordOrder
from drivers.modbus_values import FORMAT, Group, Item, Way, codes_of, registers_of
from drivers.tags import BoolArray, FloatArray

__all__ = [
    "BitBlock",
    "Item",
    "RegisterBlock",
    "Table",
    "Way",
    "decode_one",
    "encode_one",
    "quiet",
    "registers_of",
    "table_of",
    "text_of",
    "words_of",
]

_NOTHING: Final[NDArray[np.uint16]] = np.zeros(0, dtype=np.uint16)
_Order = tuple[SignalType, ByteOrder, WordOrder]


def table_of(at: str) -> tuple[Table, int]:
    """Return the table and the number written in a profile's `at`; raise `ValueError` on anything else.

    >>> table_of("input:12")
    ('input', 12)
    """
    match = AT.fullmatch(at)
    if match is None:
        raise ValueError(f"expected coil|discrete|input|holding:<address>, got {at!r}")
    return match[1], int(match[2])  # type: ignore[return-value]  # the pattern allows nothing else


def quiet() -> Context:
    """Return a context to decode in: a signalling NaN, or a float64 that its scale takes beyond the largest, is decoded without a word.

    It costs a tenth of what ``with np.errstate(...)`` does. What runs in it must not run in it already.
    """
    made = copy_context()
    made.run(np.seterr, invalid="ignore", over="ignore")
    return made


class RegisterBlock:
    """The values in a run of registers. `count` registers hold `items`; gaps between them read as 0 and are ignored."""

    def __init__(self, items: Iterable[Item], count: int) -> None:
        self.items = tuple(items)
        self.count = count
        same: dict[_Order, list[Item]] = {}
        for item in self.items:
            same.setdefault((item.way.type, item.way.byte_order, item.way.word_order), []).append(item)
        self.groups = {order: Group.of(group, count) for order, group in same.items()}
        self._gathers = any(group.start < 0 for group in self.groups.values())

    @classmethod
    def join(cls, blocks: Sequence[RegisterBlock]) -> RegisterBlock:
        """Return what decodes the registers of all blocks, one behind the other, in as few calls of numpy as those of one; it has no `items`."""
        made = cls((), sum(block.count for block in blocks))
        parts: dict[_Order, list[tuple[int, Group]]] = {}
        for start, block in zip(accumulate((block.count for block in blocks), initial=0), blocks, strict=False):
            for order, group in block.groups.items():
                parts.setdefault(order, []).append((start, group))
        made.groups = {order: Group.join(groups) for order, groups in parts.items()}
        made._gathers = any(group.start < 0 for group in made.groups.values())
        return made

    def decode(self, wire: bytes, out: FloatArray) -> None:
        """Put the values [eu of each] of a block as it came, `2 * count` bytes, into `out` (n,) at their places."""
        quiet().run(self.put, wire, out)

    def put(self, wire: bytes, out: FloatArray) -> None:
        """Do as `decode` does, in a `quiet` context of the caller."""
        if len(wire) != 2 * self.count:
            raise ValueError(f"expected {self.count} registers ({2 * self.count} bytes), got {len(wire)} bytes")
        raw = np.frombuffer(wire, dtype=np.uint16) if self._gathers else _NOTHING
        for group in self.groups.values():
            group.decode(wire, raw, out)

    def encode(self, values: FloatArray) -> bytes:
        """Return the block, `2 * count` bytes, that holds `values` (n,) [eu of each]; what a type cannot hold is clipped.

        NaN is the declared code for "no value", a NaN of a float, else 0.
        """
        raw = np.zeros(self.count, dtype=np.uint16)
        for group in self.groups.values():
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
    dtype = np.dtype(FORMAT[way.type])
    if dtype.kind == "f":
        if abs(number) > float(np.finfo(dtype).max):
            raise ValueError(f"{value:g} does not fit a {way.type}")
        one = np.array([number], dtype=dtype)
    else:
        limits = np.iinfo(dtype)
        if not limits.min <= round(number) <= limits.max:
            raise ValueError(f"{value:g} is {round(number)} on the wire and does not fit a {way.type} ({limits.min} to {limits.max})")
        one = np.array([round(number)], dtype=dtype)
    if way.nan and one[0] in codes_of(way):
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
