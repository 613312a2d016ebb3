"""What is known of an OPC UA device now, as arrays. Pure: no asyncio, no sockets, no asyncua.

An *item* is a node that is read or monitored; mostly it is one signal, but an array or a structure can be several.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from drivers.device import Device, SignalType
from drivers.driver import Reading
from drivers.opcua_codec import Columns, UInts, array_element
from drivers.tags import BoolArray, FloatArray, IndexArray, Quality, QualityArray, TimeArray

__all__ = ["KINDS", "OVERFLOW", "Places", "Table", "Taken"]

# types of variants (part 6, 5.1.2)
KINDS: Final[dict[SignalType, int]] = {
    "bool": 1,
    "int16": 4,
    "uint16": 5,
    "int32": 6,
    "uint32": 7,
    "int64": 8,
    "uint64": 9,
    "float32": 10,
    "float64": 11,
}
OVERFLOW: Final = 0x0480  # info bits of a data value, and that its queue has lost some (part 4, 7.39)
_SEMANTICS: Final = 0xC000  # the structure or the meaning of the value has changed: its eu, its range
_REPORTS: Final = 64  # that wait to be noted
_BAD: Final = np.uint8(Quality.BAD)
_GOOD: Final = np.uint8(Quality.GOOD)
_DOUBLE: Final = struct.Struct("=d")
_Field = Callable[[bytes, int], tuple[int, float]]  # of a message, and where a DataValue is in it: type and number


@dataclass(slots=True)
class Taken:
    """What was found in values besides the values."""

    overflows: int = 0  # values whose queue has lost some
    types: int = 0  # values that are not of the signal's type
    changed: bool = False  # what a value means has changed: look it up again

    @property
    def anything(self) -> bool:
        """Whether something was."""
        return bool(self.overflows or self.types or self.changed)


class Places(NamedTuple):
    """Where in a table the values of some items go."""

    at: IndexArray | slice  # of those that are one signal each
    positions: IndexArray | None  # of those, among the values; None: all are
    odd: tuple[tuple[int, int], ...]  # item, and position among the values, of each array and structure
    whole: IndexArray | slice | None = None  # which of the values are those of the table, in its order; None: not known to be all of them


class Table:
    """The latest value of each signal, shape (n,), in the order of the profile."""

    def __init__(self, device: Device, usable: BoolArray, fields: Mapping[int, _Field] | None = None) -> None:
        signals = tuple(device.profile.signals.values())
        n = len(signals)
        self.usable = usable
        self.items: tuple[str, ...] = tuple(dict.fromkeys(signal.at for signal in signals))
        numbers = {at: item for item, at in enumerate(self.items)}
        self.item_of: IndexArray = np.array([numbers[signal.at] for signal in signals], dtype=np.intp)
        self._place: IndexArray = np.full(len(self.items), -1, dtype=np.intp)  # the signal of an item that is one
        self._parts: dict[int, list[tuple[int, _Field]]] = {}
        for place, signal in enumerate(signals):
            item = int(self.item_of[place])
            if fields is not None and place in fields:
                self._parts.setdefault(item, []).append((place, fields[place]))
            elif signal.element is not None:
                self._parts.setdefault(item, []).append((place, _element(signal.element)))
            else:
                self._place[item] = place
        self._kind = np.array([KINDS[signal.type] for signal in signals], dtype=np.uint8)
        self._one_kind = int(self._kind[0]) if (self._kind == self._kind[0]).all() else -2
        self._all_usable = bool(usable.all())
        self._all_good: QualityArray = np.full(n, _GOOD, dtype=np.uint8)
        self._scale = np.array([signal.scale for signal in signals])
        self._offset = np.array([signal.offset for signal in signals])
        self._scaled = bool((self._scale != 1.0).any() or (self._offset != 0.0).any())
        self._wanted = device.deadbands  # [eu]
        self._deadband: FloatArray = np.zeros(n)  # [eu] that the server does not see to
        self._banded = False
        self._held_until: FloatArray = np.zeros(n)
        self._held: TimeArray = np.zeros(n, dtype=np.int64)
        self._before: FloatArray = np.full(n, np.nan)  # [eu]
        self._holding = 0.0
        self._reported: FloatArray = np.full(n, np.nan)
        self._reported_in: IndexArray = np.full(n, -1, dtype=np.intp)  # the round, from one comparison to the next, of its last report
        self._round = 0
        self.doubt: IndexArray = np.zeros(n, dtype=np.intp)  # how often in a row a change was found that was not reported
        self._doubts = False
        self._unlike: IndexArray = np.zeros(n, dtype=np.intp)  # comparisons in a row
        self._differ = False  # whether any was in the last one
        # how many of them make a doubt: slow signals are sampled more rarely than they are read
        self.patience: IndexArray = np.ones(n, dtype=np.intp)
        # what was reported, where and when [s, monotonic], and is not in `_reported_in` and `_received` yet
        self._reports: list[tuple[IndexArray | slice, float]] = []
        self._lent = False  # others see the arrays below: copied before they are changed, and those of qualities always
        self.value: FloatArray = np.full(n, np.nan)
        self.quality: QualityArray = np.full(n, _BAD, dtype=np.uint8)
        self.source: TimeArray = np.zeros(n, dtype=np.int64)
        self.server: TimeArray = np.zeros(n, dtype=np.int64)
        self._received: FloatArray = np.full(n, -math.inf)  # [s] monotonic
        self._received_lent = False
        self._latest = -math.inf  # [s] monotonic, of all that was received

    def of_items(self, of_signals: FloatArray) -> FloatArray:
        """Return the least of the signals in each item."""
        least = np.full(len(self.items), np.inf)
        np.minimum.at(least, self.item_of, of_signals)
        return least

    def deadbands_of_items(self) -> FloatArray:
        """Return by how much each item must change on the wire; 0 for those that are no plain measured number."""
        bands = np.zeros(len(self.items))
        plain = np.flatnonzero(self._place >= 0)
        places = self._place[plain]
        bands[plain] = self._wanted[places] / self._scale[places]
        return bands

    def band_item(self, item: int) -> None:
        """Keep the deadband of an item here: the server does not."""
        place = int(self._place[item])
        self._deadband[place] = self._wanted[place]
        self._banded = True

    def band_all(self) -> None:
        """Keep all deadbands here."""
        self._deadband[:] = self._wanted
        self._banded = bool((self._deadband > 0.0).any())

    def unband(self) -> None:
        """Leave all deadbands to the server."""
        self._deadband[:] = 0.0
        self._banded = False

    def usable_item(self, item: int) -> bool:
        """Whether any signal of an item can be used."""
        return bool(self.usable[self.item_of == item].any())

    def hold(self, places: IndexArray, until: float, before: FloatArray) -> None:
        """Take nothing older than what is known now for signals just written, until `until` [s, monotonic]: it was sampled before.

        `before`: the value [eu] that each had then.
        """
        self._held_until[places], self._before[places] = until, before
        self._held[places] = self.source[places]
        self._holding = max(self._holding, until)

    def places(self, items: IndexArray | UInts, *, lasting: bool = False) -> Places:
        """Return where the values of items go, as quick to use as can be when it is `lasting`; raise `IndexError` for one that there is not."""
        at = self._place[items]
        if self._parts:
            odd = tuple((item, position) for position, item in enumerate(items.tolist()) if item in self._parts)
            if odd:
                return Places(at[at >= 0], np.flatnonzero(at >= 0), odd)
        return self._lasting(at) if lasting else Places(at, None, ())

    def _lasting(self, at: IndexArray) -> Places:
        """Return places as quick to use as can be: in one piece, if they are, forwards or backwards; and whether they are all of them."""
        n = len(at)
        step = int(at[1] - at[0]) if n > 1 else 1
        order = np.argsort(at)
        whole = n == len(self.value) and bool((at[order] == np.arange(n)).all())
        if n == 0 or step not in (1, -1) or (at[1:] - at[:-1] != step).any():
            return Places(at, None, (), order if whole else None)
        last = int(at[-1]) + step
        run = slice(int(at[0]), last if last >= 0 else None, step)
        return Places(run, None, (), slice(None, None, step) if whole else None)

    def take(self, places: Places, columns: Columns, received: float, *, report: bool = False, written: bool = False) -> Taken:
        """Take the values for some places, known to be current at `received` [s, monotonic]; `report`: a subscription has reported them.

        `written`: they were read after a write to them had been answered. What is odd is left for `take_odd`.
        """
        taken = Taken()
        self._latest = max(self._latest, received)
        good = columns.good or not np.logical_or.reduce(columns.status)
        if not good:
            taken.overflows = int(((columns.status & OVERFLOW) == OVERFLOW).sum())
            taken.changed = bool((columns.status & _SEMANTICS).any())
        if places.positions is not None:
            columns = columns.at(places.positions)
        newest = received >= self._latest and (written or received >= self._holding)
        simple = good and newest and columns.one_kind == self._one_kind and self._all_usable and not self._banded
        if not simple or not self._put_simple(places, columns):
            self._put(places.at, columns, received, taken, written=written)
            if report:
                self._reported_in[places.at] = self._round
        elif report:
            if places.whole is not None:
                self._reports.clear()  # this one says all that they said
            self._reports.append((places.at, received))
            if len(self._reports) >= _REPORTS:
                self._settle()
        elif places.whole is not None:
            self._settle()
            self._received, self._received_lent = _everywhere(received, self.value.shape), True
        else:
            self._settle(writing=True)
            self._received[places.at] = received
        return taken

    def _settle(self, *, writing: bool = False) -> None:
        """Note all reports in `_reported_in` and `_received`, and let the latter be written to: nobody needs them while all goes well."""
        if self._received_lent and (writing or self._reports):
            self._received, self._received_lent = self._received.copy(), False
        for at, received in self._reports:
            self._received[at] = received
            self._reported_in[at] = self._round
        self._reports.clear()

    def _put_simple(self, places: Places, columns: Columns) -> bool:
        """Put what is good, of the only type that the profile has, and kept back by nothing; False when a value is not finite."""
        value, at = columns.value, places.at
        if self._scaled:
            value = value * self._scale[at] + self._offset[at]
        if (self._scaled or not columns.finite) and not np.logical_and.reduce(np.isfinite(value)):
            return False
        if (order := places.whole) is not None:  # nothing of what was known remains
            self.value, self.source, self.server = value[order], columns.source[order], columns.server[order]
            self.quality, self._lent = self._all_good, True
            return True
        self._own()
        self.value[at] = value
        self.source[at] = columns.source
        self.server[at] = columns.server
        if self.quality is not self._all_good:
            self._qualify(at, _GOOD)
        return True

    def remember(self) -> None:
        """Note what was reported, before everything is read: see `compare`."""
        self._settle()
        self._reported = np.where(self._reported_in == self._round, self.value, self._reported)

    def _own(self) -> None:
        """Make sure that nobody else sees the arrays that will be changed."""
        if self._lent:
            self.value, self.source, self.server = self.value.copy(), self.source.copy(), self.server.copy()
            self._lent = False

    def _qualify(self, places: IndexArray | slice, quality: QualityArray | np.uint8) -> None:
        """Replace the qualities, which others see, by new ones."""
        changed = self.quality.copy()
        changed[places] = quality
        self.quality = changed

    def compare(self) -> None:
        """Note which signals, as just read, differ from what was reported last by more than is kept back, and were not reported since the last time.

        Those in doubt are as current as they were read, whatever the subscription says.
        """
        self._settle()
        known = self.value == self._reported
        known |= self._reported_in == self._round
        if not self._differ and known.all():  # as nearly always
            self._round += 1
            return
        with np.errstate(invalid="ignore"):
            other = np.abs(self.value - self._reported) > self._wanted
        other |= np.isnan(self.value) != np.isnan(self._reported)
        silent = (other | (self._reported_in < 0)) & (self._reported_in < self._round) & self.usable
        self._unlike = np.where(silent, self._unlike + 1, 0)
        self._differ = bool(silent.any())
        self.doubt = self._unlike // self.patience
        self._doubts = bool(self.doubt.any())
        self._round += 1

    def take_odd(
        self, item: int, position: int, columns: Columns, data: bytes, received: float, taken: Taken, *, report: bool = False, written: bool = False
    ) -> None:
        """Take the signals in an array or a structure, as `take` does; raise `Malformed`."""
        start = int(columns.start[position])
        for place, part in self._parts[item]:
            kind, number = part(data, start)
            self._put(np.array([place]), columns.with_number(position, kind, number), received, taken, written=written)
            if report:
                self._reported_in[place] = self._round

    def _put(self, places: IndexArray | slice, columns: Columns, received: float, taken: Taken, *, written: bool) -> None:
        self._own()
        self._settle(writing=True)
        number = columns.value * self._scale[places] + self._offset[places] if self._scaled else columns.value
        source, server = columns.source, columns.server
        quality = np.minimum(columns.status >> 30, 2).astype(np.uint8)
        usable = self.usable[places]
        other = usable & (columns.kind != self._kind[places]) & (quality != _BAD)
        taken.types += int(other.sum())
        quality[other | ~usable | ~np.isfinite(number)] = _BAD
        number = np.where(quality == _BAD, np.nan, number)
        if received < self._latest or received < self._holding or self._banded:
            where = np.arange(len(self.value))[places]
            keep = self._counts(where, number, quality, source, received, written=written)
            places, number, quality, source, server = where[keep], number[keep], quality[keep], source[keep], server[keep]
        self.value[places] = number
        self._qualify(places, quality)
        self.source[places] = source
        self.server[places] = server
        self._received[places] = received

    def _counts(
        self, places: IndexArray, number: FloatArray, quality: QualityArray, source: TimeArray, received: float, *, written: bool
    ) -> BoolArray:
        """Return what is taken: neither sampled before a write or before what came while it was on its way, nor too small a change.

        The last is current all the same. Source times can be coarse, or missing. Of two values of one time that counts which was read back after
        a write, or else which came last; what a signal had before a write does not come back by it. A bad value counts unless it is older. Of several
        samples of one signal the last one counts.
        """
        older, alike = _against(source, self.source[places])
        overtaken = older if written else older | (alike & (quality != _BAD))
        late = (received < self._received[places]) & overtaken
        if not written:
            older, alike = _against(source, self._held[places])
            late |= (received < self._held_until[places]) & (older | (alike & (number == self._before[places])))  # never equal for NaN
        near = np.abs(number - self.value[places]) <= self._deadband[places]  # false for NaN
        near &= (self._deadband[places] > 0.0) & (quality == self.quality[places]) & ~late
        self._received[places[near]] = received
        order = np.arange(len(places))
        last = np.empty(len(self.value), dtype=np.intp)
        last[places] = order
        counts: BoolArray = (last[places] == order) & ~(late | near)
        return counts

    def reading(self, current: float) -> Reading:
        """Return all signals; those that a subscription reports were current at `current` [s, monotonic] at least."""
        self._lent = True
        if current >= self._latest and not self._doubts:
            return Reading(self.value, self.quality, self.source, _everywhere(current, self.value.shape), self.server)
        self._settle()
        received = self._received
        if current > -math.inf:
            later = np.maximum(received, current)
            received = np.where(self.doubt == 0, later, received) if self._doubts else later
        else:
            self._received_lent = True
        return Reading(self.value, self.quality, self.source, received, self.server)


def _everywhere(value: float, shape: tuple[int, ...]) -> FloatArray:
    """Return the same number for all, at the cost of one; it cannot be written to."""
    return np.ndarray(shape, np.float64, _DOUBLE.pack(value), 0, (0,))


def _against(source: TimeArray, other: TimeArray) -> tuple[BoolArray, BoolArray]:
    """Return which source times are before others, and which tell nothing: they are the same, or there is none."""
    return (source > 0) & (source < other), (source == 0) | (source == other)


def _element(element: int) -> _Field:
    return lambda data, start: array_element(data, start, element)
