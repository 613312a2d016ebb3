"""What may stand in a register: its words decoded in every way, the likeliest first. For commissioning; a person decides."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from drivers.device import FLOATS, Device, Signal, SignalType
from drivers.modbus_codec import Table, Way, decode_one, registers_of, words_of
from drivers.modbus_frames import DeviceSaidNo, LinkDown, read
from drivers.modbus_links import release_line, share_line
from drivers.modbus_options import ModbusOptions, WordOrder

__all__ = ["Guess", "declared_guess", "guesses", "read_words"]

_TYPES: Final[tuple[SignalType, ...]] = ("float32", "float64", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16")
_ORDERS: Final[dict[int, tuple[WordOrder, ...]]] = {1: ("big",), 2: ("big", "little"), 4: ("big", "little", "mid_big", "mid_little")}
_SCALES: Final = (1.0, 0.1, 0.01, 0.001)
_LEAST: Final[dict[str, float]] = {type_: float(np.finfo(type_).smallest_normal) for type_ in FLOATS}  # smaller ones are other words by chance
_WITHIN: Final = 1.0  # [s]


@dataclass(frozen=True, slots=True)
class Guess:
    """One way to read the words; `inside` says whether the value lies within the range, and `signal` which one the profile declares so."""

    type: SignalType
    word_order: str
    byte_order: str
    scale: float
    value: float
    inside: bool
    offset: float = 0.0
    signal: str = ""


def declared_guess(words: Sequence[int], name: str, signal: Signal, options: ModbusOptions) -> Guess | None:
    """Return what `words` mean as the profile declares it, inside or not of the signal's own range; None if it takes more words. NaN: no value."""
    way = Way.of(signal, options)
    count = registers_of(way.type)
    if count > len(words):
        return None
    value = decode_one(words[:count], way)
    low, high = signal.range
    return Guess(way.type, way.word_order, way.byte_order, way.scale, value, low <= value <= high, way.offset, name)


def guesses(words: Sequence[int], low: float, high: float) -> list[Guess]:
    """Return every way to read `words` (16 bits each) as one number, the likeliest first.

    First come values inside `low` to `high` [eu]; among them those of a plausible magnitude, then what is common: no float16, and bytes in the order
    of the standard; then that order of words, a float, no scale. What is not finite comes last, and so does a subnormal float: few numbers are so
    small, and many words that mean something else are.
    """
    found: list[tuple[tuple[float, ...], Guess]] = []
    for place, type_ in enumerate(_TYPES):
        count = registers_of(type_)
        if count > len(words):
            continue
        for swapped_words, order in enumerate(_ORDERS[count]):
            for swapped_bytes in (False, True):
                way = Way(type_, "little" if swapped_bytes else "big", order)
                raw = decode_one(words[:count], way)
                for scale in _SCALES if "int" in type_ else (1.0,):
                    value = raw * scale
                    subnormal = 0.0 < abs(value) < _LEAST.get(type_, 0.0)
                    inside = low <= value <= high and not subnormal  # false for NaN
                    chance = not math.isfinite(value) or subnormal or 0.0 < abs(value) < 1e-6 * (high - low)
                    rare = float(swapped_bytes) + float(type_ == "float16")
                    odd = float(swapped_words) - math.log10(scale)
                    guess = Guess(type_, way.word_order, way.byte_order, scale, value, inside)
                    found.append(((float(not inside), float(chance), rare, odd, float(place)), guess))
    return [guess for _, guess in sorted(found, key=lambda row: row[0])]


async def read_words(device: Device, table: Table, address: int, data: Path) -> list[int]:
    """Return up to four registers from `address` (as sent, counted from 0) on, as many as the device gives.

    Raise `DeviceSaidNo` when it gives none, `LinkDown` or `BadReply` when it does not answer.
    """
    line = share_line(device.address, data)
    unit = line.unit(device.address.unit, device.profile.modbus.pause)
    reply: bytes | DeviceSaidNo | None = None
    try:
        for count in (4, 2, 1):
            now = asyncio.get_running_loop().time()
            asked = [line.frame(unit, read(table, address, count))]
            reply = (await line.ask(unit, asked, deadline=now, within=_WITHIN, until=now + _WITHIN)).replies[0]
            if isinstance(reply, bytes):
                return list(words_of(reply))
    finally:
        line.forget(unit)
        await release_line(line)
        await asyncio.sleep(0)
    if isinstance(reply, DeviceSaidNo):
        raise reply
    raise LinkDown("timeout", f"unit {unit.number} had no turn at {line.where}", sent=False)
