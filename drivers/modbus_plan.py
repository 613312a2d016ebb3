"""Which requests read a device: its profile turned into blocks, as few as its limits allow. Pure.

The identity is read along with everything else, as often as what is read most often, so another device at the same address is noticed in the
very read that brings its values.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from drivers.device import Profile
from drivers.modbus_codec import BitBlock, Item, RegisterBlock, Table, Way, registers_of, table_of
from drivers.modbus_frames import Question, read
from drivers.modbus_options import ModbusOptions, span_of
from drivers.tags import FloatArray

__all__ = [
    "IDENTITY",
    "TEXTS_EVERY",
    "PlanError",
    "Request",
    "Spot",
    "TextSpot",
    "char_silence",
    "halves",
    "plan",
    "probe",
    "request_time",
    "requests_for",
    "spots",
    "text_spots",
]

IDENTITY: Final = "identity"
TEXTS_EVERY: Final = 60.0  # [s] between two reads of what a device says of itself
_TABLES: Final[tuple[Table, ...]] = ("input", "discrete", "holding", "coil")
_BITS: Final = ("discrete", "coil")
_SHORTEST_SILENCE: Final = 0.00175  # [s] above 19200 baud; Modbus over serial line V1.02, 2.5.1


class PlanError(ValueError):
    """A profile that cannot be read or written: values overlap, or stand where their type cannot be or the device must not be asked.

    `keys` say where in the profile; empty when it is not about one value.
    """

    def __init__(self, what: str, keys: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.keys = keys


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one value is on the wire: address as sent (counted from 0) and how many registers or bits."""

    name: str
    table: Table
    address: int
    count: int
    way: Way
    place: int
    period: float = 0.0  # [s] how often it is wanted

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class TextSpot:
    """Where words stand: they are read alone and seldom. The identity may be one."""

    name: str
    table: Table
    address: int
    count: int


@dataclass(frozen=True)
class Request:
    """One read: `count` registers or bits of `table` from `address` on; `block` decodes the reply into places of the reading."""

    table: Table
    address: int
    count: int
    block: RegisterBlock | BitBlock
    names: tuple[str, ...]
    period: float  # [s]

    @property
    def places(self) -> tuple[int, ...]:
        """Indices in the reading, whose last, ``len(profile.signals)``, is the identity."""
        return tuple(item.place for item in self.block.items)

    @cached_property
    def question(self) -> Question:
        """What is sent for it."""
        return read(self.table, self.address, self.count)


class _Borders:
    """Where a block may be: inside one readable range, and nowhere near a forbidden address."""

    def __init__(self, profile: Profile) -> None:
        base = profile.modbus.address_base
        readable, forbidden = (
            {table: sorted((first - base, last + 1 - base) for of, first, last in map(span_of, spans) if of == table) for table in _TABLES}
            for spans in (profile.modbus.readable, profile.modbus.forbidden)
        )
        self._readable, self._forbidden = readable, forbidden

    def allow(self, table: Table, first: int, end: int) -> bool:
        """Whether the addresses from `first` to before `end` may be asked for in one request."""
        if readable := self._readable[table]:
            at = bisect_right(readable, (first, 1 << 20)) - 1
            # ranges may overlap, so any that begins before may hold it
            if not any(end <= last for _, last in readable[: at + 1]):
                return False
        return not any(first < last and begin < end for begin, last in self._forbidden[table])


def spots(profile: Profile, periods: FloatArray | None = None) -> list[Spot]:
    """Return where each signal is, in the order of the profile, and the identity last unless it is a text; raise `PlanError` if one cannot be there.

    `periods` (n,) says how often each signal is wanted [s]; the identity comes along with the most frequent ones.
    """
    base, options = profile.modbus.address_base, profile.modbus
    wanted = [0.0] * len(profile.signals) if periods is None else [float(period) for period in periods]
    found: list[Spot] = []
    borders = _Borders(profile)
    for place, (name, signal) in enumerate(profile.signals.items()):
        table, number = table_of(signal.at)
        way, count = (Way(signal.type), 1) if table in _BITS else (Way.of(signal, options), registers_of(signal.type))  # a bit has no order
        spot = Spot(name, table, number - base, count, way, place, wanted[place])
        found.append(spot)
        if signal.access == "write":
            _check_write(profile, spot)
    if not profile.identity.text:
        table, number = table_of(profile.identity.at)
        way = Way(profile.identity.type, options.byte_order, options.word_order)
        count = 1 if table in _BITS else registers_of(way.type)
        found.append(Spot(IDENTITY, table, number - base, count, way, len(profile.signals), min(wanted, default=0.0)))
    for spot in found:
        at = _at(profile, spot)
        if spot.table in _BITS and spot.way.type != "bool":
            raise at.error(f"a {spot.table} holds a bool, not a {spot.way.type}; use an input or holding register")
        _check_place(profile, spot.table, spot.address, spot.count, at, borders)
    for table in _TABLES:
        ordered = sorted((spot for spot in found if spot.table == table), key=lambda spot: spot.address)
        for one, other in pairwise(ordered):
            if other.address < one.end and not (one.way.bit >= 0 and other.way.bit >= 0):  # bits of one register stand side by side
                raise PlanError(
                    f"profile {profile.id}: {one.name} and {other.name} overlap in {table} {other.address + base}", _at(profile, other).keys
                )
    return found


def text_spots(profile: Profile) -> list[TextSpot]:
    """Return where the texts of a profile stand, and the identity first if it is one; raise `PlanError` if one cannot be there."""
    base, borders = profile.modbus.address_base, _Borders(profile)
    parts = [(IDENTITY, profile.identity.at, len(profile.identity.text))] if profile.identity.text else []
    parts += [(name, text.at, text.length) for name, text in profile.texts.items()]
    found: list[TextSpot] = []
    for name, at, length in parts:
        table, number = table_of(at)
        keys = ("identity", "at") if profile.identity.text and not found else ("texts", name, "at")
        where = _Where(f"profile {profile.id}, {name} at {at}", keys)
        if table in _BITS:
            raise where.error(f"a {table} holds no text; use an input or holding register")
        spot = TextSpot(name, table, number - base, (length + 1) // 2)
        _check_place(profile, table, spot.address, spot.count, where, borders)
        found.append(spot)
    return found


@dataclass(frozen=True, slots=True)
class _Where:
    """A value of a profile, in words, and the keys of its address there."""

    words: str
    keys: tuple[str, ...]

    def error(self, what: str) -> PlanError:
        return PlanError(f"{self.words}: {what}", self.keys)


def _at(profile: Profile, spot: Spot) -> _Where:
    identity = spot.place == len(profile.signals)
    at = profile.identity.at if identity else profile.signals[spot.name].at
    return _Where(f"profile {profile.id}, {spot.name} at {at}", (IDENTITY, "at") if identity else ("signals", spot.name, "at"))


def _check_place(profile: Profile, table: Table, address: int, count: int, where: _Where, borders: _Borders) -> None:
    base, options = profile.modbus.address_base, profile.modbus
    if not 0 <= address <= 65536 - count:
        raise where.error(f"addresses go from {base} to {65535 + base}")
    if table not in _BITS and count > options.max_registers:
        raise where.error(f"{count} registers are more than max_registers, {options.max_registers}, and a value is never split")
    if not borders.allow(table, address, address + count):
        raise where.error("outside of modbus.readable or in modbus.forbidden of the profile")


def _check_write(profile: Profile, spot: Spot) -> None:
    where, options = _at(profile, spot), profile.modbus
    if spot.table in ("input", "discrete"):
        raise where.error(f"{spot.table} cannot be written; use a holding register or a coil")
    if spot.way.bit >= 0 and not options.mask_write:
        raise where.error("function 22 writes one bit of a register; set modbus.mask_write if the device has it, or write the register")
    if spot.table == "holding" and spot.count > options.max_write_registers:
        raise where.error(f"{spot.count} registers are more than max_write_registers, {options.max_write_registers}; a value is never split")


def plan(profile: Profile, periods: FloatArray | None = None) -> tuple[Request, ...]:
    """Return the reads that bring every signal and the identity, that of the identity first; raise `PlanError`.

    Neighbours that are wanted equally often share a request while at most `gap` unused registers lie between them, it stays within
    `max_registers` (`max_bits`), within what is readable and off what is forbidden; a value is never split, since its halves could come from
    different moments.
    """
    requests = requests_for(profile, spots(profile, periods))
    identity = len(profile.signals)
    return tuple(sorted(requests, key=lambda request: identity not in request.places))  # stable: the others stay in order


def requests_for(profile: Profile, found: Iterable[Spot], gap: int | None = None) -> list[Request]:
    """Return the reads that bring some of the spots of a profile; `gap` may be another one than the profile's."""
    options = profile.modbus if gap is None else profile.modbus.model_copy(update={"gap": gap})
    runs: dict[tuple[Table, float], list[Spot]] = {}
    for spot in found:
        runs.setdefault((spot.table, spot.period), []).append(spot)
    ordered = sorted(runs, key=lambda key: (_TABLES.index(key[0]), key[1]))
    borders = _Borders(profile)
    return [_request(run) for key in ordered for run in _runs(options, runs[key], borders)]


def probe(identity: Spot, requests: Sequence[Request]) -> Question:
    """Return the shortest question for a unit that may be silent: its identity, within the first of `requests`, which has it.

    It is none that is as long as a read of the same table, by taking neighbours along where it must, or a part of the identity where it has none:
    so the late reply to a probe is never taken for that to a read, not even on a serial line, where nothing else tells them apart. Where no such
    length is left it is the first of `requests` itself, of which `blackmass plan` warns.
    """
    first = requests[0]
    if identity.table in _BITS:
        return first.question
    taken = {request.count for request in requests if request.table == identity.table}
    counts = (*range(identity.count, first.count), *range(identity.count - 1, 0, -1))
    count = next((count for count in counts if count not in taken), first.count)
    return read(identity.table, min(identity.address, first.address + first.count - count), count)


def halves(request: Request, found: Iterable[Spot]) -> tuple[Request, ...]:
    """Return two reads in place of one whose block the device refused, or one for what stands in one place and cannot be split any further.

    `found` are all spots of the profile. A gap between the halves is read no longer, since it may be what was refused.
    """
    names = set(request.names)
    run = sorted((spot for spot in found if spot.name in names and spot.place in request.places), key=lambda spot: spot.address)
    middle = len(run) // 2
    while 0 < middle < len(run) and run[middle].address < run[middle - 1].end:  # bits of one register stay together
        middle += 1
    return tuple(_request(part) for part in (run[:middle], run[middle:]) if part)


def _runs(options: ModbusOptions, found: Iterable[Spot], borders: _Borders) -> list[list[Spot]]:
    runs: list[list[Spot]] = []
    for spot in sorted(found, key=lambda spot: (spot.address, spot.way.bit)):
        bits = spot.table in _BITS
        gap = options.gap * 16 if bits else options.gap
        most = options.max_bits if bits else options.max_registers
        if runs and spot.address - runs[-1][-1].end <= gap:
            first = runs[-1][0].address
            if spot.end - first <= most and borders.allow(spot.table, first, spot.end):
                runs[-1].append(spot)
                continue
        runs.append([spot])
    return runs


def _request(run: Sequence[Spot]) -> Request:
    first, count = run[0].address, run[-1].end - run[0].address
    items = [Item(spot.address - first, spot.way, spot.place) for spot in run]
    block = BitBlock(items, count) if run[0].table in _BITS else RegisterBlock(items, count)
    return Request(run[0].table, first, count, block, tuple(spot.name for spot in run), run[0].period)


# Time on a line --------------------------------------------------------------------------------------------------------


def char_silence(byte: float) -> float:
    """Return the silence [s] between two frames on a line whose bytes take `byte` [s]: 3.5 of them, and 1.75 ms at least."""
    return max(3.5 * byte, _SHORTEST_SILENCE)


def request_time(question: Question, byte: float) -> float:
    """Return how long a request and its reply occupy a serial line [s], with the silence around both; `byte` is the time of one byte [s]."""
    return (len(question.pdu) + 3 + question.size + 3) * byte + 2 * char_silence(byte)
