"""What may stand in a register: its words decoded in every way, the likeliest first. For commissioning; a person decides."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drivers.device import Device, ModbusOptions, SignalType
from drivers.modbus_codec import Table, decode_one, registers_of
from drivers.modbus_line import DeviceSaidNo, release_line, share_line

__all__ = ["Guess", "guesses", "read_words"]

_TYPES: Final[tuple[SignalType, ...]] = ("float32", "float64", "int16", "uint16", "int32", "uint32")
_SCALES: Final = (1.0, 0.1, 0.01, 0.001)
_WITHIN: Final = 1.0  # [s]


@dataclass(frozen=True, slots=True)
class Guess:
    """One way to read the words; `inside` says whether the value lies within the range."""

    type: SignalType
    word_order: str
    byte_order: str
    scale: float
    value: float
    inside: bool


def guesses(words: Sequence[int], low: float, high: float) -> list[Guess]:
    """Return every way to read `words` (16 bits each) as one number, the likeliest first.

    First come values inside `low` to `high` [eu]; among them those of a plausible magnitude, then the commonest way: the order of the standard,
    a float, no scale. What is not finite, or a float so small that it can only be chance, comes last.
    """
    found: list[tuple[tuple[float, ...], Guess]] = []
    for place, type_ in enumerate(_TYPES):
        count = registers_of(type_)
        if count > len(words):
            continue
        for swapped_words in (False, True) if count > 1 else (False,):
            for swapped_bytes in (False, True):
                options = ModbusOptions(word_order="little" if swapped_words else "big", byte_order="little" if swapped_bytes else "big")
                raw = decode_one(words[:count], type_, options)
                for scale in _SCALES if type_ in ("int16", "uint16", "int32", "uint32") else (1.0,):
                    value = raw * scale
                    inside = low <= value <= high  # false for NaN
                    chance = not math.isfinite(value) or (value != 0.0 and abs(value) < 1e-6 * (high - low))
                    odd = float(swapped_words) + 2.0 * swapped_bytes - math.log10(scale)
                    guess = Guess(type_, options.word_order, options.byte_order, scale, value, inside)
                    found.append(((float(not inside), float(chance), odd, float(place)), guess))
    return [guess for _, guess in sorted(found, key=lambda row: row[0])]


async def read_words(device: Device, table: Table, address: int, data: Path) -> list[int]:
    """Return up to four registers from `address` (as sent, counted from 0) on, as many as the device gives.

    Raise `DeviceSaidNo` when it gives none, `LinkDown` or `BadReply` when it does not answer.
    """
    line = share_line(device.address, data)
    try:
        async with line.lock:
            await line.open(_WITHIN)
            for count in (4, 2):
                try:
                    reply = await line.read(device.address.unit, table, address, count, _WITHIN)
                except DeviceSaidNo:
                    continue
                return list(reply.registers)
            return list((await line.read(device.address.unit, table, address, 1, _WITHIN)).registers)
    finally:
        release_line(line)
        await asyncio.sleep(0)
