"""One simulated device as a Modbus slave: a request in bytes, its reply in bytes (Modbus application protocol V1.1b3). No sockets.

Functions 1 to 6, 15, 16, 22 and 23 on its coils, discrete inputs, input and holding registers, and 43/14, its identification. A value is
written whole or not at all: half of a float is no address.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from drivers.modbus_codec import BitBlock, Item, RegisterBlock, decode_one
from drivers.modbus_options import ByteOrder, Table
from drivers.modbus_plan import IDENTITY, Spot, spots, text_spots
from drivers.tags import FloatArray
from simulators.instruments import BAD
from simulators.station import Locked, Refused, Station

__all__ = ["ModbusSlave"]

_ILLEGAL_FUNCTION: Final = 1
_ILLEGAL_ADDRESS: Final = 2
_ILLEGAL_VALUE: Final = 3
_BUSY: Final = 6

_READS: Final[dict[int, Table]] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_MOST_READ: Final[dict[Table, int]] = {"coil": 2000, "discrete": 2000, "holding": 125, "input": 125}
_MOST_BITS_WRITTEN: Final = 1968
_MOST_WRITTEN: Final = 123
_MOST_WRITTEN_AND_READ: Final = 121

_IDENTIFICATION: Final = 14  # the MEI type of 43/14
_REGULAR: Final = 0x82  # what it offers: basic and regular objects, in a stream and one by one
_ROOM: Final = 253 - 7  # [bytes] for objects in a reply


class _Wrong(Exception):
    """A request that is answered with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ModbusSlave:
    """The registers and bits of one device, encoded when they are asked for; `answer` is the whole of its behaviour."""

    def __init__(self, station: Station) -> None:
        self.station = station
        profile = station.device.profile
        self._identity = profile.identity.value
        self._tables: dict[Table, tuple[int, RegisterBlock | BitBlock]] = {}
        self._spots: dict[Table, list[Spot]] = {"coil": [], "discrete": [], "holding": [], "input": []}
        for spot in sorted(spots(profile), key=lambda spot: spot.address):
            self._spots[spot.table].append(spot)
        self._texts: dict[Table, list[tuple[int, bytes]]] = {"coil": [], "discrete": [], "holding": [], "input": []}
        for text in text_spots(profile):
            words = profile.identity.text if text.name == IDENTITY else f"{station.device.name} {text.name}"
            self._texts[text.table].append((text.address, _words_of(words, text.count, profile.modbus.byte_order)))
        for table, found in self._spots.items():
            if ends := [(spot.address, spot.end) for spot in found] + [(at, at + len(wire) // 2) for at, wire in self._texts[table]]:
                first, count = min(ends)[0], max(end for _, end in ends) - min(ends)[0]
                items = [Item(spot.address - first, spot.way, spot.place) for spot in found]
                bits = table in ("coil", "discrete")
                self._tables[table] = (first, BitBlock(items, count) if bits else RegisterBlock(items, count))
        # vendor, product code, revision, URL, product name, model, application
        texts = ("blackmass", profile.id, "1.0", "", profile.description, profile.id, station.device.name)
        self._objects = {number: text.encode("ascii", "replace")[: _ROOM - 2] for number, text in enumerate(texts)}
        self._functions: dict[int, Callable[[int, bytes], bytes]] = {
            **dict.fromkeys(_READS, self._read),
            5: self._write_coil,
            6: self._write_register,
            15: self._write_coils,
            16: self._write_registers,
            22: self._mask,
            23: self._write_and_read,
            43: self._identify,
        }

    def answer(self, request: bytes) -> bytes:
        """Return the reply to a request, both from the function code on.

        Exception 1 is for an unknown function, 2 for an address that it does not have or that is only read, 3 for a bad count, length or
        value, 6 in the safe state; after an exception nothing has changed.
        """
        function = request[0]
        try:
            if function not in self._functions:
                raise _Wrong(_ILLEGAL_FUNCTION)
            return bytes([function]) + self._functions[function](function, request[1:])
        except _Wrong as error:
            code = error.code
        except Locked:
            code = _BUSY
        except (Refused, struct.error):  # a bad value, or a request too short or too long
            code = _ILLEGAL_VALUE
        return bytes([function | 0x80, code])

    def _values(self) -> FloatArray:
        """Return all signals and, last, the identity."""
        # a device that knows its instrument has failed has no number for it; registers of integers then hold 0
        values = np.where(self.station.status() == BAD, np.nan, self.station.values())
        return np.append(values, self._identity)

    def _read(self, function: int, data: bytes) -> bytes:
        address, count = struct.unpack(">HH", data)
        wire = self._wire(_READS[function], address, count)
        return bytes([len(wire)]) + wire

    def _wire(self, table: Table, address: int, count: int) -> bytes:
        """Return registers, or bits eight to a byte, the first in the lowest place."""
        if not 1 <= count <= _MOST_READ[table]:
            raise _Wrong(_ILLEGAL_VALUE)
        first, block = self._tables.get(table, (0, None))
        start = address - first
        if block is None or start < 0 or start + count > block.count:
            raise _Wrong(_ILLEGAL_ADDRESS)
        if isinstance(block, BitBlock):
            return np.packbits(block.encode(self._values())[start : start + count], bitorder="little").tobytes()
        wire = bytearray(block.encode(self._values()))
        for at, words in self._texts[table]:
            wire[2 * (at - first) : 2 * (at - first) + len(words)] = words
        return bytes(wire[2 * start : 2 * (start + count)])

    def _write_coil(self, _: int, data: bytes) -> bytes:
        address, value = struct.unpack(">HH", data)
        if value not in (0x0000, 0xFF00):
            raise _Wrong(_ILLEGAL_VALUE)
        self._write("coil", address, [int(value != 0)])
        return data

    def _write_register(self, _: int, data: bytes) -> bytes:
        address, value = struct.unpack(">HH", data)
        self._write("holding", address, [value])
        return data

    def _write_coils(self, _: int, data: bytes) -> bytes:
        address, count, length = struct.unpack_from(">HHB", data)
        bits = np.unpackbits(np.frombuffer(data[5:], dtype=np.uint8), bitorder="little")
        if not 1 <= count <= _MOST_BITS_WRITTEN or length != (count + 7) // 8 or len(data) != 5 + length:
            raise _Wrong(_ILLEGAL_VALUE)
        self._write("coil", address, [int(bit) for bit in bits[:count]])
        return data[:4]

    def _write_registers(self, _: int, data: bytes) -> bytes:
        [address] = struct.unpack_from(">H", data)
        self._write("holding", address, _registers(data[2:], _MOST_WRITTEN))
        return data[:4]

    def _mask(self, _: int, data: bytes) -> bytes:
        address, both, either = struct.unpack(">HHH", data)
        [now] = struct.unpack(">H", self._wire("holding", address, 1))
        self._write("holding", address, [(now & both) | (either & ~both & 0xFFFF)], touched=~both & 0xFFFF)
        return data

    def _write_and_read(self, _: int, data: bytes) -> bytes:
        address, count, to = struct.unpack_from(">HHH", data)
        words = _registers(data[6:], _MOST_WRITTEN_AND_READ)
        self._wire("holding", address, count)  # what cannot be read is not written either
        self._write("holding", to, words)
        wire = self._wire("holding", address, count)
        return bytes([len(wire)]) + wire

    def _write(self, table: Table, address: int, sent: Sequence[int], touched: int = 0xFFFF) -> None:
        """Write whole values only (and of bits in a register those that are `touched`), and all or none of them; raise `Refused` for a value."""
        end = address + len(sent)
        inside = [spot for spot in self._spots[table] if spot.address >= address and spot.end <= end]
        inside = [spot for spot in inside if spot.way.bit < 0 or touched >> spot.way.wire_bit & 1]
        signals = self.station.device.profile.signals
        writable = all(spot.name in signals and signals[spot.name].access == "write" for spot in inside)
        if not writable or len({at for spot in inside for at in range(spot.address, spot.end)}) != len(sent):
            raise _Wrong(_ILLEGAL_ADDRESS)
        changes: list[tuple[str, float]] = []
        for spot in inside:
            words = sent[spot.address - address : spot.end - address]
            value = float(words[0]) if table == "coil" else decode_one(words, spot.way)
            changes.append((spot.name, value))
        self.station.write_all(changes)

    def _identify(self, _: int, data: bytes) -> bytes:
        if not data or data[0] != _IDENTIFICATION:
            raise _Wrong(_ILLEGAL_FUNCTION)
        _, code, first = struct.unpack(">BBB", data)
        if code == 4 and first not in self._objects:
            raise _Wrong(_ILLEGAL_ADDRESS)
        last = {1: 2, 2: 6, 3: 6, 4: first}.get(code)
        if last is None:
            raise _Wrong(_ILLEGAL_VALUE)
        first = first if first <= last else 0  # a stream that begins at an object it does not have begins anew
        found, count = b"", 0
        for number in range(first, last + 1):
            entry = bytes([number, len(self._objects[number])]) + self._objects[number]
            if len(found) + len(entry) > _ROOM:
                return bytes([_IDENTIFICATION, code, _REGULAR, 0xFF, number, count]) + found  # more follows, from `number` on
            found, count = found + entry, count + 1
        return bytes([_IDENTIFICATION, code, _REGULAR, 0, 0, count]) + found


def _words_of(text: str, count: int, byte_order: ByteOrder) -> bytes:
    """Return `count` registers that hold a text, filled up with 0."""
    raw = text.encode("ascii", "replace")[: 2 * count].ljust(2 * count, b"\0")
    return raw if byte_order == "big" else b"".join(raw[at : at + 2][::-1] for at in range(0, len(raw), 2))


def _registers(data: bytes, most: int) -> list[int]:
    """Return the registers in count, length and words, as a request has them; raise `_Wrong`."""
    count, length = struct.unpack_from(">HB", data)
    if not 1 <= count <= most or length != 2 * count or len(data) != 3 + length:
        raise _Wrong(_ILLEGAL_VALUE)
    return list(struct.unpack_from(f">{count}H", data, 3))
