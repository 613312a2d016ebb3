"""DataValues of OPC UA as arrays, and requests as bytes made once (part 6, 5.2). Pure: no asyncio, no sockets, no asyncua.

A reply mostly holds DataValues of the same types and masks as the last one. Its layout is learned in one pass and verified on each
use by the masks and types themselves, so that values are views of the message; where it does not fit, it is learned again. What is no
scalar number is left for who can decode it: `Columns.start` and `Columns.end` say where it is.
"""

from __future__ import annotations

import functools
import math
import struct
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from drivers.opcua_binary import FIXED, Malformed, length, skip_data_value, value_end
from drivers.tags import FloatArray, IndexArray, TimeArray

__all__ = ["NUMBERS", "Columns", "Decoder", "UInts", "array_element", "nanoseconds", "number_at"]

UInts = NDArray[np.uint32]
NUMBERS: Final = {1: "u1", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8", 10: "<f4", 11: "<f8"}
_TAIL: Final = ((2, "status", "<u4"), (4, "source", "<i8"), (16, "source10ps", "<u2"), (8, "server", "<i8"), (32, "server10ps", "<u2"))  # wire order
_TAILS: Final = tuple(sum(np.dtype(kind).itemsize for bit, _, kind in _TAIL if mask & bit) for mask in range(64))
_1970: Final = 116_444_736_000_000_000  # [100 ns] from 1601
_MOST: Final = (2**63 - 1) // 100  # [100 ns] what nanoseconds can say, until 2262
_LEARNED: Final = 32  # layouts that are kept


def _sizes() -> list[int]:
    """Return the bytes of a DataValue by mask * 256 + type; 0 where its value brings its own length."""
    sizes = [0] * 64 * 256
    for mask in range(64):
        for kind in range(256) if mask & 1 else (0,):
            if not mask & 1 or kind in FIXED or kind == 0:
                sizes[mask << 8 | kind] = 1 + (1 + FIXED.get(kind, 0) if mask & 1 else 0) + _TAILS[mask]
    return sizes


_SIZES: Final = _sizes()


@dataclass(frozen=True, slots=True)
class Columns:
    """DataValues as arrays of shape (n,), in the order of the message."""

    handle: UInts  # the client's handle of each; empty in what is read
    kind: NDArray[np.uint8]  # the first byte of its variant: type, and 128 for an array; 0 where it brings no value
    value: FloatArray  # NaN for what is no scalar number
    status: UInts
    source: TimeArray  # [ns] since 1970; 0 where the device gives none
    server: TimeArray  # [ns] since 1970; 0 where the server gives none
    start: IndexArray  # where each DataValue is in the message
    end: int  # where all of them end
    one_kind: int = -1  # the type of all; -1 where they differ

    def first(self, n: int) -> Columns:
        """Return the first `n`."""
        if n == len(self.kind):
            return self
        end = int(self.start[n])
        return Columns(
            self.handle[:n], self.kind[:n], self.value[:n], self.status[:n], self.source[:n], self.server[:n], self.start[:n], end, self.one_kind
        )

    def at(self, places: IndexArray) -> Columns:
        """Return those at some positions."""
        handle = self.handle[places] if len(self.handle) else self.handle
        start = self.start[places]
        return Columns(handle, self.kind[places], self.value[places], self.status[places], self.source[places], self.server[places], start, self.end)

    def with_number(self, place: int, kind: int, number: float) -> Columns:
        """Return the one at a position as a number that was found inside of it."""
        one = self.at(np.array([place]))
        return replace(one, kind=np.array([kind], dtype=np.uint8), value=np.array([number]))


def nanoseconds(ticks: TimeArray, tens: NDArray[np.uint16] | None = None) -> TimeArray:
    """Return times [ns] since 1970 of those in 100 ns since 1601 and their picoseconds in tens; 0 for none and for what ns cannot say."""
    since: TimeArray = ticks.astype(np.int64)  # its own, and aligned
    since -= _1970  # what does not fit wraps to what is out of range
    if tens is None and since.size and since.min() > 0 and since.max() < _MOST:
        since *= 100
        return since
    known = (since > 0) & (since < _MOST)
    times = np.where(known, np.where(known, since, 0) * 100, 0)
    if tens is not None:
        times += np.where(known, np.minimum(tens, 9999) // 100, 0).astype(np.int64)
    return times


@functools.cache
def _row(code: int, lead: int) -> np.dtype[Any]:
    """Return the layout of one DataValue of fixed size behind `lead` bytes (0, or 4 of a handle)."""
    mask, kind = code >> 8, code & 0xFF
    fields = [("handle", "<u4")] if lead else []
    fields.append(("mask", "u1"))
    if mask & 1:
        fields.append(("kind", "u1"))
        if FIXED.get(kind):
            fields.append(("value", NUMBERS.get(kind, f"V{FIXED[kind]}")))
    fields += [(name, type_) for bit, name, type_ in _TAIL if mask & bit]
    return np.dtype(fields)


class _Group:
    """The DataValues of one mask and type in a layout: where in the message, and at which places of its arrays."""

    __slots__ = ("bytes", "code", "places", "row")

    def __init__(self, code: int, lead: int, places: IndexArray, starts: IndexArray) -> None:
        self.code, self.places = code, places
        self.row = _row(code, lead)
        self.bytes = (starts - lead)[:, None] + np.arange(self.row.itemsize)


class _Layout:
    """Where `n` DataValues of fixed size are behind `at`."""

    __slots__ = ("groups", "size", "starts")

    def __init__(self, starts: IndexArray, codes: IndexArray, size: int, lead: int) -> None:
        self.starts, self.size = starts, size
        self.groups = [_Group(int(code), lead, places, starts[places]) for code in np.unique(codes) for places in (np.flatnonzero(codes == code),)]


class _Filling:
    """Columns in the making."""

    __slots__ = ("handle", "kind", "server", "source", "status", "value")

    def __init__(self, n: int, lead: int) -> None:
        self.handle: UInts = np.empty(n if lead else 0, dtype=np.uint32)
        self.kind: NDArray[np.uint8] = np.zeros(n, dtype=np.uint8)
        self.value: FloatArray = np.full(n, np.nan)
        self.status: UInts = np.zeros(n, dtype=np.uint32)
        self.source: TimeArray = np.zeros(n, dtype=np.int64)
        self.server: TimeArray = np.zeros(n, dtype=np.int64)

    def take(self, places: IndexArray | slice, rows: Any, code: int) -> bool:
        """Take rows of one mask and type; False when they are not."""
        names = rows.dtype.names
        if (rows["mask"] != code >> 8).any():
            return False
        if "kind" in names:
            if (rows["kind"] != code & 0xFF).any():
                return False
            self.kind[places] = code & 0xFF
            if (code & 0xFF) in NUMBERS:
                with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
                    self.value[places] = rows["value"] if code & 0xFF != 1 else rows["value"] != 0
        if len(self.handle):
            self.handle[places] = rows["handle"]
        self.take_tail(places, rows)
        return True

    def take_tail(self, places: IndexArray | slice, rows: Any) -> None:
        """Take the status and times of rows."""
        names = rows.dtype.names
        if "status" in names:
            self.status[places] = rows["status"]
        if "source" in names:
            self.source[places] = nanoseconds(rows["source"], rows["source10ps"] if "source10ps" in names else None)
        if "server" in names:
            self.server[places] = nanoseconds(rows["server"], rows["server10ps"] if "server10ps" in names else None)

    def columns(self, starts: IndexArray, end: int) -> Columns:
        return Columns(self.handle, self.kind, self.value, self.status, self.source, self.server, starts, end)


class Decoder:
    """Decodes arrays of DataValues; keeps the layouts that it has learned."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[int, int], _Layout] = {}
        self.learned = 0  # how often a layout had to be learned

    def decode(self, data: bytes, at: int, n: int, lead: int = 0) -> Columns:
        """Return the `n` DataValues at `at`, each behind `lead` bytes (4 of a client's handle, or 0); raise `Malformed`."""
        if n * (lead + 1) > len(data) - at:
            raise Malformed(f"{n} values in {len(data) - at} bytes")
        if n == 0:
            return _Filling(0, lead).columns(np.empty(0, dtype=np.intp), at)
        if (columns := _uniform(data, at, n, lead)) is not None:
            return columns
        layout = self._layouts.get((n, lead))
        if layout is not None and (columns := _mixed(data, at, n, lead, layout)) is not None:
            return columns
        return self._learn(data, at, n, lead)

    def _learn(self, data: bytes, at: int, n: int, lead: int) -> Columns:
        """Return the values by one pass over the message, and keep their layout where all are of fixed size."""
        self.learned += 1
        begin, starts, codes, odd = at, [], [], []
        for place in range(n):
            at += lead
            try:
                mask = data[at]
                code = mask << 8 | (data[at + 1] if mask & 1 else 0)
                size = _SIZES[code]
            except IndexError:
                raise Malformed(f"ends inside a DataValue, or one with an unknown mask, at byte {at} of {len(data)}") from None
            starts.append(at)
            if size:
                at += size
            else:
                odd.append(place)
                at = skip_data_value(data, at)
            codes.append(code)
        if at > len(data):
            raise Malformed(f"{n} values end {at - len(data)} bytes behind the message")
        offsets = np.array(starts, dtype=np.intp)
        known = np.array(codes, dtype=np.intp)
        if odd:
            return _with_odd(data, offsets, known, np.array(odd, dtype=np.intp), at, lead)
        layout = _Layout(offsets - begin, known, at - begin, lead)
        if len(self._layouts) >= _LEARNED:
            self._layouts.clear()
        self._layouts[n, lead] = layout
        columns = _mixed(data, begin, n, lead, layout)
        assert columns is not None  # it was made from this message
        return columns


def _uniform(data: bytes, at: int, n: int, lead: int) -> Columns | None:
    """Return the values when all have the mask and type of the first; None when they do not."""
    first = at + lead
    if first >= len(data) or (mask := data[first]) > 63:
        return None
    if not mask & 1:
        code = mask << 8
    elif first + 1 < len(data):
        code = mask << 8 | data[first + 1]
    else:
        return None
    step = _SIZES[code] + lead
    if not _SIZES[code] or at + n * step > len(data):
        return None
    end = at + n * step
    if data[first:end:step] != bytes((mask,)) * n:
        return None
    kind = code & 0xFF
    if mask & 1 and data[first + 1 : end : step] != bytes((kind,)) * n:
        return None
    rows = np.frombuffer(data, _row(code, lead), n, at)
    if not mask & 1 or kind not in NUMBERS:
        value = np.full(n, np.nan)
    elif kind == 10:
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            value = rows["value"].astype(np.float64)
    else:
        value = rows["value"].astype(np.float64) if kind != 1 else (rows["value"] != 0).astype(np.float64)
    none = _nothing(n)
    return Columns(
        rows["handle"].astype(np.uint32) if lead else _NO_HANDLES,
        _of_one_kind(kind if mask & 1 else 0, n),
        value,
        rows["status"].astype(np.uint32) if mask & 2 else _nothing_said(n),
        nanoseconds(rows["source"], rows["source10ps"] if mask & 16 else None) if mask & 4 else none,
        nanoseconds(rows["server"], rows["server10ps"] if mask & 32 else None) if mask & 8 else none,
        np.arange(first, end, step),
        end,
        kind if mask & 1 else 0,
    )


_NO_HANDLES: Final[UInts] = np.empty(0, dtype=np.uint32)


@functools.lru_cache(_LEARNED)
def _nothing(n: int) -> TimeArray:
    return np.broadcast_to(np.int64(0), n)


@functools.lru_cache(_LEARNED)
def _of_one_kind(kind: int, n: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.uint8(kind), n)


@functools.lru_cache(_LEARNED)
def _nothing_said(n: int) -> UInts:
    return np.broadcast_to(np.uint32(0), n)


def _mixed(data: bytes, at: int, n: int, lead: int, layout: _Layout) -> Columns | None:
    """Return the values by a learned layout; None when the message has another one."""
    if at + layout.size > len(data):
        return None
    message = np.frombuffer(data, np.uint8, layout.size, at)
    filling = _Filling(n, lead)
    for group in layout.groups:
        if not filling.take(group.places, message[group.bytes].view(group.row)[:, 0], group.code):
            return None
    return filling.columns(layout.starts + at, at + layout.size)


def _with_odd(data: bytes, starts: IndexArray, codes: IndexArray, odd: IndexArray, end: int, lead: int) -> Columns:
    """Return the values of a message in which some bring their own length: their status and times one by one."""
    filling = _Filling(len(starts), lead)
    message = np.frombuffer(data, np.uint8)
    fixed = np.ones(len(starts), dtype=np.bool_)
    fixed[odd] = False
    for code in np.unique(codes[fixed]):
        places = np.flatnonzero(fixed & (codes == code))
        group = _Group(int(code), lead, places, starts[places])
        filling.take(places, message[group.bytes].view(group.row)[:, 0], int(code))
    for place in odd.tolist():
        start = int(starts[place])
        filling.kind[place] = data[start + 1]
        if lead:
            (filling.handle[place],) = struct.unpack_from("<I", data, start - lead)
        # as a row whose mask is the last byte of the value
        filling.take_tail(slice(place, place + 1), np.frombuffer(data, _row((data[start] & ~1) << 8, 0), 1, value_end(data, start) - 1))
    return filling.columns(starts, end)


def number_at(data: bytes, at: int, kind: int) -> float:
    """Return the number of a type of `NUMBERS` at a place of a message."""
    (value,) = np.frombuffer(data, NUMBERS[kind], 1, at)
    with np.errstate(invalid="ignore"):
        return float(value) if kind != 1 else float(value != 0)


def array_element(data: bytes, start: int, element: int) -> tuple[int, float]:
    """Return the type of the array in the DataValue at `start`, and one element of it; 0 and NaN when it is none or has no such element."""
    if not data[start] & 1 or not data[start + 1] & 0x80 or (kind := data[start + 1] & 0x3F) not in NUMBERS:
        return 0, math.nan
    n, at = length(data, start + 2, FIXED[kind])
    return (kind, number_at(data, at + element * FIXED[kind], kind)) if element < n else (0, math.nan)
