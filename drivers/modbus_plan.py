"""Which requests read a device: its profile turned into blocks, as few as its limits allow. Pure.

The identity register is read along with everything else, so another device at the same address is noticed in the very read
that brings its values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from drivers.device import Profile, SignalType
from drivers.modbus_codec import BitBlock, Item, RegisterBlock, Table, registers_of, table_of

__all__ = ["PlanError", "Request", "Spot", "halves", "line_time", "plan", "spots"]

_TABLES: Final[tuple[Table, ...]] = ("input", "discrete", "holding", "coil")
_BITS: Final = ("discrete", "coil")
_MOST_BITS: Final = 2000  # of one request, by the Modbus application protocol V1.1b3, 6.1


class PlanError(ValueError):
    """A profile that cannot be read: values overlap, or stand where their type cannot be."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one value is on the wire: address as sent (counted from 0) and how many registers or bits."""

    name: str
    table: Table
    address: int
    count: int
    type: SignalType
    place: int
    scale: float = 1.0
    offset: float = 0.0

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class Request:
    """One read: `count` registers or bits of `table` from `address` on; `block` decodes the reply into places of the reading."""

    table: Table
    address: int
    count: int
    block: RegisterBlock | BitBlock
    names: tuple[str, ...]

    @property
    def places(self) -> tuple[int, ...]:
        """Indices in the reading, whose last, ``len(profile.signals)``, is the identity."""
        return tuple(item.place for item in self.block.items)


def spots(profile: Profile) -> list[Spot]:
    """Return where each signal is, in the order of the profile, and the identity last; raise `PlanError` if one cannot be there."""
    base = profile.modbus.address_base
    found: list[Spot] = []
    parts = [(name, s.at, s.type, s.scale, s.offset, s.access) for name, s in profile.signals.items()]
    parts.append(("identity", profile.identity.at, profile.identity.type, 1.0, 0.0, "read"))
    for place, (name, at, type_, scale, offset, access) in enumerate(parts):
        table, number = table_of(at)
        where = f"profile {profile.id}, {name} at {at}"
        if table in _BITS and type_ != "bool":
            raise PlanError(f"{where}: a {table} holds a bool, not a {type_}; use an input or holding register")
        if access == "write" and table in ("input", "discrete"):
            raise PlanError(f"{where}: {table} cannot be written; use a holding register or a coil")
        count = 1 if table in _BITS else registers_of(type_)
        if not 0 <= number - base <= 65536 - count:
            raise PlanError(f"{where}: addresses go from {base} to {65535 + base}")
        found.append(Spot(name, table, number - base, count, type_, place, scale, offset))
    for table in _TABLES:
        ordered = sorted((spot for spot in found if spot.table == table), key=lambda spot: spot.address)
        for one, other in pairwise(ordered):
            if other.address < one.end:
                raise PlanError(f"profile {profile.id}: {one.name} and {other.name} overlap in {table} {other.address + base}")
    return found


def plan(profile: Profile) -> tuple[Request, ...]:
    """Return the reads that bring every signal and the identity; raise `PlanError`.

    Neighbours share a request while at most `gap` unused registers lie between them and it stays within `max_registers`;
    a value is never split, since its halves could come from different moments.
    """
    found = spots(profile)
    return tuple(_request(profile, run) for table in _TABLES for run in _runs(profile, [spot for spot in found if spot.table == table]))


def halves(profile: Profile, request: Request) -> tuple[Request, ...]:
    """Return two reads in place of one whose block the device refused, or one for a value that cannot be split any further.

    A gap between the halves is read no longer, since it may be what was refused.
    """
    run = sorted((spot for spot in spots(profile) if spot.name in request.names), key=lambda spot: spot.address)
    middle = len(run) // 2
    return tuple(_request(profile, part) for part in (run[:middle], run[middle:]) if part)


def _runs(profile: Profile, found: Iterable[Spot]) -> list[list[Spot]]:
    runs: list[list[Spot]] = []
    for spot in sorted(found, key=lambda spot: spot.address):
        bits = spot.table in _BITS
        gap = profile.modbus.gap * 16 if bits else profile.modbus.gap
        most = min(profile.modbus.max_registers * 16, _MOST_BITS) if bits else profile.modbus.max_registers
        if runs and spot.address - runs[-1][-1].end <= gap and spot.end - runs[-1][0].address <= most:
            runs[-1].append(spot)
        else:
            runs.append([spot])
    return runs


def _request(profile: Profile, run: list[Spot]) -> Request:
    first, count = run[0].address, run[-1].end - run[0].address
    items = [Item(spot.address - first, spot.type, spot.place, spot.scale, spot.offset) for spot in run]
    block = BitBlock(items, count) if run[0].table in _BITS else RegisterBlock(items, count, profile.modbus)
    return Request(run[0].table, first, count, block, tuple(spot.name for spot in run))


def line_time(requests: Iterable[Request], baud: int) -> float:
    """Return how long the requests and their replies occupy a serial line [s]: 11 bits a byte, 3.5 bytes of silence around each frame.

    Modbus over serial line V1.02, 2.5.1: above 19200 baud the silence is 1.75 ms.
    """
    byte = 11.0 / baud
    silence = max(3.5 * byte, 0.00175)
    total = 0.0
    for request in requests:
        data = (request.count + 7) // 8 if request.table in _BITS else 2 * request.count
        total += (8 + 5 + data) * byte + 2 * silence
    return total
