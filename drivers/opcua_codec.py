"""DataValues of OPC UA as arrays, and requests as bytes made once (part 6, 5.2). Pure: no asyncio, no sockets, no asyncua.

A reply mostly holds DataValues of the same types and masks as the last one. Its layout is learned in one pass and verified on each
use by the masks and types themselves, so that values are views of the message; where it does not fit, it is learned again. What is no
scalar number is left for who can decode it: `Columns.start` and `Columns.end` say where it is.
"""

from __future__ import annotations

import functools
import math
import struct
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.opcua_binary import FIXED, Malformed, length, skip_data_value, value_end
from drivers.tags import FloatArray, IndexArray, TimeArray

__all__ = ["NUMBERS", "Columns", "Decoder", "UInts", "array_element", "nanoseconds", "number_at"]

UInts = NDArray[np.uint32]
NUMBERS: Final = {1: "u1", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8", 10: "<f4", 11: "<f8"}
_TAIL: Final = ((2, "status", "<u4"), (4, "source", "<i8"), (16, "source10ps", "<u2"), (8, "server", "<i8"), (32, "server10ps", "<u2"))  # wire order
_TAILS: Final = tuple(sum(np.dtype(kind).itemsize for bit, _, kind in _TAIL if mask & bit) for mask in range(64))
_STATUS: Final = 2
_SOURCE: Final = 4
_SERVER: Final = 8
_DOUBLE: Final = 11
_NO_HANDLES: Final[UInts] = np.empty(0, dtype=np.uint32)
_1970: Final = 116_444_736_000_000_000  # [100 ns] from 1601
_EPOCH: Final = np.array(_1970)  # as arrays, since numbers would be made into some on each use
_TICK: Final = np.array(100)  # [ns]
_MOST: Final = (2**63 - 1) // 100  # [100 ns] what nanoseconds can say, until 2262
# the two highest bytes of times from 1971 to 2261, as they are in a message
_YEARS: Final = frozenset(high.to_bytes(2, "little") for high in range((_1970 >> 48) + 1, _1970 + _MOST >> 48))
_UINT: Final = np.dtype("<u4")
_LONG: Final = np.dtype("<i8")
_IN_TENS: Final = (np.minimum(np.arange(2**16), 9999) // 100).astype(np.int8)  # [ns] of 10 ps; more than 9,999 count as that (part 6, 5.2.2.17)
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


class Columns(NamedTuple):
    """DataValues as arrays of shape (n,), in the order of the message. They are not to be changed: several messages can share one."""

    handle: UInts  # the client's handle of each; empty in what is read
    kind: NDArray[np.uint8]  # the first byte of its variant: type, and 128 for an array; 0 where it brings no value
    value: FloatArray  # NaN for what is no scalar number
    status: UInts
    source: TimeArray  # [ns] since 1970; 0 where the device gives none
    server: TimeArray  # [ns] since 1970; 0 where the server gives none
    start: IndexArray | range  # where each DataValue is in the message
    end: int  # where all of them end
    one_kind: int = -1  # the type of all; -1 where they may differ
    good: bool = False  # whether all are known to have status 0
    finite: bool = False  # whether all values are known to be finite

    def at(self, places: IndexArray) -> Columns:
        """Return those at some positions."""
        return self._replace(
            handle=self.handle[places] if len(self.handle) else self.handle,
            kind=self.kind[places],
            value=self.value[places],
            status=self.status[places],
            source=self.source[places],
            server=self.server[places],
            start=np.asarray(self.start)[places],
        )

    def with_number(self, place: int, kind: int, number: float) -> Columns:
        """Return the one at a position as a number that was found inside of it."""
        one = self.at(np.array([place]))
        return one._replace(kind=np.array([kind], dtype=np.uint8), value=np.array([number]), one_kind=kind, finite=False)


def nanoseconds(ticks: TimeArray, tens: NDArray[np.uint16] | None = None) -> TimeArray:
    """Return times [ns] since 1970 of those in 100 ns since 1601 and their picoseconds in tens; 0 for none and for what ns cannot say."""
    since: TimeArray = ticks.astype(np.int64, order="C")  # its own, and aligned
    since -= _1970  # what does not fit wraps to what is out of range
    odd = np.maximum.reduce(since.view(np.uint64), axis=None, initial=0) >= _MOST  # as such, what is before 1970 is beyond all
    known = (since > 0) & (since < _MOST) if odd else None
    if known is not None:
        since[~known] = 0
    since *= 100
    if tens is not None:
        since += _IN_TENS[tens] if known is None else np.where(known, _IN_TENS[tens], 0)
    return since


@functools.cache
def _row(code: int, lead: int) -> np.dtype[Any]:
    """Return the layout of one DataValue of fixed size behind `lead` bytes (0, or 4 of a handle)."""
    mask, kind = code >> 8, code & 0xFF
    fields: list[tuple[str, str]] = [("handle", "<u4")] if lead else []
    fields.append(("mask", "u1"))
    if mask & 1:
        fields.append(("kind", "u1"))
        if FIXED.get(kind):
            fields.append(("value", NUMBERS.get(kind, f"V{FIXED[kind]}")))
    return np.dtype(fields + [(name, type_) for bit, name, type_ in _TAIL if mask & bit])


class _Uniform:
    """How DataValues of one mask and type are decoded: made once, since with cold caches each step costs, and not each value.

    For the same reason, what values mostly are (good, finite, of these years) is told by looking at the same byte of all of them.
    """

    def __init__(self, mask: int, kind: int, lead: int) -> None:
        row = _row(mask << 8 | kind, lead)
        places = {name: field[1] for name, field in (row.fields or {}).items()}
        self._lead, self._mask, self._kind, self._step = lead, mask, kind, row.itemsize
        self._typed = bool(mask & 1)
        self._value = places["value"] if kind in NUMBERS else 0
        self._type = np.dtype(NUMBERS.get(kind, "V0"))
        # the byte of a value that has most of its exponent
        self._top = self._value + self._type.itemsize - 1 if self._type.kind == "f" else 0
        self._status = places.get("status", 0)
        self._sourced, self._served = "source" in places, "server" in places
        clocks = [name for name in ("source", "server") if name in places]
        self._clocks = tuple(places[name] for name in clocks)
        tens = {f"{name}10ps" in places for name in clocks}
        self._tens = True in tens
        self.alike = len(tens) < 2  # whether both clocks have picoseconds, or neither

    def columns(self, data: bytes, at: int, n: int) -> Columns | None:
        """Return `n` values in a message; None when they are not of this mask and type."""
        step, first, kind = self._step, at + self._lead, self._kind
        end = at + n * step
        if end > len(data) or data[first:end:step].count(self._mask) != n:
            return None
        if self._typed and data[first + 1 : end : step].count(kind) != n:
            return None
        if self._value:
            numbers = np.ndarray((n,), self._type, data, at + self._value, (step,))
            value = numbers.copy() if kind == _DOUBLE else _numbers(numbers, kind)
            tops = data[at + self._top : end : step] if self._top else b""
            finite = 0x7F not in tops and 0xFF not in tops
        else:
            value, finite = _same(math.nan, "f8", n), False
        good = not self._status or _zero(data, at + self._status, end, step, n, 4)
        status = _same(0, "u4", n) if good else np.ndarray((n,), _UINT, data, at + self._status, (step,)).astype(np.uint32)
        times = self._times(data, at, n, end) if self._clocks else _same(0, "i8", n)[None]
        source = times[0] if self._sourced else _same(0, "i8", n)
        server = times[-1] if self._served else _same(0, "i8", n)
        handle = np.ndarray((n,), _UINT, data, at, (step,)) if self._lead else _NO_HANDLES
        return Columns(handle, _same(kind, "u1", n), value, status, source, server, range(first, end, step), end, kind, good, finite)

    def _times(self, data: bytes, at: int, n: int, end: int) -> TimeArray:
        """Return the times of each clock [ns] since 1970 as `nanoseconds` does, shape (clocks, n)."""
        step, clocks = self._step, self._clocks
        ticks: TimeArray = np.ndarray((len(clocks), n), _LONG, data, at + clocks[0], (clocks[-1] - clocks[0], step))
        for clock in clocks:
            high = at + clock + 6
            tops = data[high : high + 2]
            if tops not in _YEARS or data[high:end:step].count(tops[0]) != n or data[high + 1 : end : step].count(tops[1]) != n:
                break
            if self._tens and not _zero(data, high + 2, end, step, n, 2):
                break
        else:
            since = ticks.copy()
            since -= _EPOCH
            since *= _TICK
            return since
        return nanoseconds(ticks, np.ndarray(ticks.shape, "<u2", data, at + clocks[0] + 8, ticks.strides) if self._tens else None)


@functools.lru_cache(256)
def _uniform(mask: int, kind: int, lead: int) -> _Uniform | None:
    """Return how DataValues of one mask and type are decoded; None when they have no fixed size.

    None as well where one clock has picoseconds and the other has not: too rare to be quick at.
    """
    if mask > 63 or not _SIZES[mask << 8 | kind]:
        return None
    uniform = _Uniform(mask, kind, lead)
    return uniform if uniform.alike else None


def _zero(data: bytes, start: int, end: int, step: int, n: int, size: int) -> bool:
    """Whether `size` bytes are 0 in all `n` rows."""
    return all(data[byte:end:step].count(0) == n for byte in range(start, start + size))


def _same(value: float, kind: str, n: int) -> NDArray[Any]:
    """Return `n` times the same."""
    return _block(value, kind, n.bit_length())[:n]


@functools.cache
def _block(value: float, kind: str, bits: int) -> NDArray[Any]:
    block = np.full(1 << bits, value, dtype=kind)
    block.flags.writeable = False  # many share it
    return block


def _numbers(values: Any, kind: int) -> FloatArray:
    """Return values of a type of `NUMBERS` as numbers."""
    if kind == 1:
        values = values != 0
    elif kind == 10:
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            widened: FloatArray = values.astype(np.float64)
            return widened
    numbers: FloatArray = values.astype(np.float64)
    return numbers


class _Group:
    """The DataValues of one mask and type in a layout: where in the message, and at which places of its arrays."""

    def __init__(self, code: int, lead: int, places: IndexArray, starts: IndexArray) -> None:
        self.code = code
        self._row = _row(code, lead)
        self.places: IndexArray | slice = places
        self._begin = int(starts[0]) - lead
        self._bytes: IndexArray | None = None
        if places[-1] - places[0] == len(places) - 1:  # one behind the other
            self.places = slice(int(places[0]), int(places[-1]) + 1)
        else:
            self._bytes = (starts - lead)[:, None] + np.arange(self._row.itemsize)
        self._n = len(places)

    def rows(self, message: NDArray[np.uint8]) -> Any:
        """Return the values in a message that begins where the layout does."""
        if self._bytes is None:
            return np.frombuffer(message, self._row, self._n, self._begin)
        return message[self._bytes].view(self._row)[:, 0]


class _Layout:
    """Where DataValues of fixed size are behind some place."""

    def __init__(self, starts: IndexArray, codes: IndexArray, size: int, lead: int) -> None:
        self._starts, self._size, self._lead = starts, size, lead
        self._groups = [_Group(int(code), lead, places, starts[places]) for code in np.unique(codes) for places in (np.flatnonzero(codes == code),)]

    def columns(self, data: bytes, at: int) -> Columns | None:
        """Return the values of a message; None when it has another layout."""
        if at + self._size > len(data):
            return None
        message = np.frombuffer(data, np.uint8, self._size, at)
        filling = _Filling(len(self._starts), self._lead)
        for group in self._groups:
            if not filling.take(group.places, group.rows(message), group.code):
                return None
        return filling.columns(self._starts + at, at + self._size)


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
        if (rows["mask"] != code >> 8).any():
            return False
        if code >> 8 & 1:
            kind = code & 0xFF
            if (rows["kind"] != kind).any():
                return False
            self.kind[places] = kind
            if kind in NUMBERS:
                self.value[places] = _numbers(rows["value"], kind)
        if len(self.handle):
            self.handle[places] = rows["handle"]
        self.take_tail(places, rows, code >> 8)
        return True

    def take_tail(self, places: IndexArray | slice, rows: Any, mask: int) -> None:
        """Take the status and times of rows."""
        if mask & _STATUS:
            self.status[places] = rows["status"]
        if mask & _SOURCE:
            self.source[places] = nanoseconds(rows["source"], rows["source10ps"] if mask & 16 else None)
        if mask & _SERVER:
            self.server[places] = nanoseconds(rows["server"], rows["server10ps"] if mask & 32 else None)

    def columns(self, starts: IndexArray | range, end: int) -> Columns:
        return Columns(self.handle, self.kind, self.value, self.status, self.source, self.server, starts, end)


_NOTHING: Final = _Filling(0, 0).columns(range(0), 0)


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
            return _NOTHING._replace(end=at)
        first = at + lead
        mask = data[first]
        uniform = _uniform(mask, data[first + 1] if mask & 1 and first + 1 < len(data) else 0, lead)
        if uniform is not None and (columns := uniform.columns(data, at, n)) is not None:
            return columns
        layout = self._layouts.get((n, lead))
        if layout is not None and (columns := layout.columns(data, at)) is not None:
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
        columns = layout.columns(data, begin)
        assert columns is not None  # it was made from this message
        return columns


def _with_odd(data: bytes, starts: IndexArray, codes: IndexArray, odd: IndexArray, end: int, lead: int) -> Columns:
    """Return the values of a message in which some bring their own length: their status and times one by one."""
    filling = _Filling(len(starts), lead)
    message = np.frombuffer(data, np.uint8)
    fixed = np.ones(len(starts), dtype=np.bool_)
    fixed[odd] = False
    for code in np.unique(codes[fixed]):
        places = np.flatnonzero(fixed & (codes == code))
        group = _Group(int(code), lead, places, starts[places])
        filling.take(group.places, group.rows(message), group.code)
    for place in odd.tolist():
        start = int(starts[place])
        filling.kind[place] = data[start + 1]
        if lead:
            (filling.handle[place],) = struct.unpack_from("<I", data, start - lead)
        # as a row whose mask is the last byte of the value
        filling.take_tail(slice(place, place + 1), np.frombuffer(data, _row((data[start] & ~1) << 8, 0), 1, value_end(data, start) - 1), data[start])
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
