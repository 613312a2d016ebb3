"""What is sent to write signals, and what an answer to it means. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from drivers.device import Profile
from drivers.driver import WriteResult
from drivers.modbus_codec import decode_one, encode_one, words_of
from drivers.modbus_frames import DeviceSaidNo, Question, mask_write, write_coil, write_coils, write_register, write_registers
from drivers.modbus_options import ModbusOptions
from drivers.modbus_plan import Request, Spot

__all__ = ["Order", "Refusal", "found_in", "orders", "refused"]

# the device says that it did not do it: illegal, busy, not now. Any other may have happened: it failed while it did it (4), will take long (5),
# its memory is doubtful (8), a gateway lost it or its reply (10, 11), or the standard does not know the code (9 and those above)
_NOT_DONE: Final = (1, 2, 3, 6, 7)
_MOST_COILS: Final = 1968  # of one request, Modbus application protocol V1.1b3, 6.11


@dataclass(frozen=True, slots=True)
class Order:
    """One write request: which signals it writes, and the words (or the one bit) that each must read back as."""

    question: Question
    spots: tuple[Spot, ...]
    words: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]  # [eu of each]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that is not sent, and why."""

    name: str
    value: float
    why: str


def orders(profile: Profile, where: Mapping[str, Spot], changes: Mapping[str, float]) -> list[Order | Refusal]:
    """Return what is to be sent for `changes` [eu of each], in order: one request each, or one a run of neighbours where the device takes it."""
    made: list[Order | Refusal] = []
    for name, value in changes.items():
        signal, spot = profile.signals.get(name), where.get(name)
        if signal is None or spot is None or signal.access != "write":
            made.append(Refusal(name, value, f"{name} is {'not a signal' if signal is None else 'only read'} in profile {profile.id}"))
            continue
        if why := signal.refusal(value):
            made.append(Refusal(name, value, why))
            continue
        try:
            words = tuple(encode_one(value, spot.way))
        except ValueError as error:
            made.append(Refusal(name, value, str(error)))
            continue
        last = made[-1] if made else None
        if isinstance(last, Order) and _joins(profile.modbus, last, spot):
            made[-1] = _order(profile.modbus, (*last.spots, spot), (*last.words, words), (*last.values, value))
        else:
            made.append(_order(profile.modbus, (spot,), (words,), (value,)))
    return made


def _joins(options: ModbusOptions, order: Order, spot: Spot) -> bool:
    """Whether `spot` may go along with the end of an order."""
    last = order.spots[-1]
    if not options.write_runs or spot.table != last.table or spot.address != last.end or spot.way.bit >= 0 or last.way.bit >= 0:
        return False
    most = _MOST_COILS if spot.table == "coil" else options.max_write_registers
    return spot.end - order.spots[0].address <= most


def _order(options: ModbusOptions, spots: tuple[Spot, ...], words: tuple[tuple[int, ...], ...], values: tuple[float, ...]) -> Order:
    first, flat = spots[0], [word for part in words for word in part]
    if first.table == "coil":
        question = write_coil(first.address, bool(flat[0])) if len(flat) == 1 else write_coils(first.address, [bool(word) for word in flat])
    elif first.way.bit >= 0:
        bit = 1 << first.way.wire_bit
        question = mask_write(first.address, 0xFFFF ^ bit, bit if values[0] else 0)
    elif len(flat) == 1 and options.write_single:
        question = write_register(first.address, flat[0])
    else:
        question = write_registers(first.address, flat)
    return Order(question, spots, words, values)


def refused(error: DeviceSaidNo) -> WriteResult:
    """Return what an exception reply to a write means: some say that it may have happened, and so do codes that the standard does not know."""
    return WriteResult.REFUSED if error.code in _NOT_DONE else WriteResult.UNKNOWN


def found_in(request: Request, wire: bytes, spot: Spot, words: Sequence[int]) -> float | None:
    """Return None if `spot` reads back as `words` in the reply to `request`, else the value [eu] that it reads back as."""
    at = spot.address - request.address
    if spot.table == "coil":
        bit = wire[at // 8] >> at % 8 & 1
        return None if bit == words[0] else float(bit)
    found = words_of(wire[2 * at : 2 * (at + spot.count)])
    if spot.way.bit >= 0:
        bit = found[0] >> spot.way.wire_bit & 1
        return None if bit == (words[0] != 0) else float(bit)
    return None if found == tuple(words) else decode_one(found, spot.way)
