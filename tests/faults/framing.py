"""Where messages begin and end on a wire, so that a fault can be done to a whole one. Pure: bytes in, messages out."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod

from drivers.modbus_frames import crc16

__all__ = ["Framing", "Line", "Mbap", "Raw", "Rtu", "Uacp", "rtu", "service"]

_HOLD = 1 << 24  # [bytes] that an unfinished message may have; beyond it passes as it came


class Framing(ABC):
    """Cuts one direction of one connection into messages. Nothing is ever lost: what is not understood passes as it came."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are complete with `data`."""
        self.rest += data
        messages = []
        while self.rest and (size := self.size(self.rest)):
            messages.append(self.rest[:size])
            self.rest = self.rest[size:]
        return messages

    def flush(self) -> bytes:
        """Return what has come of an unfinished message, and forget it."""
        rest, self.rest = self.rest, b""
        return rest

    @abstractmethod
    def size(self, data: bytes) -> int:
        """Return how many bytes of `data` are its first message; 0 while it is not complete."""


class Raw(Framing):
    """Every piece is a message."""

    def size(self, data: bytes) -> int:
        return len(data)


class Mbap(Framing):
    """Modbus TCP: transaction, protocol, length, unit (Modbus messaging on TCP/IP V1.0b, 3.1.3)."""

    def size(self, data: bytes) -> int:
        if len(data) < 6:
            return 0
        size = 6 + int.from_bytes(data[4:6], "big")
        return size if len(data) >= size else 0


class Line(Framing):
    """Text: a line with its end."""

    def size(self, data: bytes) -> int:
        return data.find(b"\n") + 1


class Rtu(Framing):
    """Modbus RTU: what has come ends in its own checksum. The owner flushes after a silence."""

    def size(self, data: bytes) -> int:
        return len(data) if len(data) >= 4 and crc16(data) == 0 else 0


class Uacp(Framing):
    """OPC UA TCP: type, chunk, size (OPC UA part 6, 7.1.2)."""

    def size(self, data: bytes) -> int:
        if len(data) < 8:
            return 0
        size = struct.unpack_from("<I", data, 4)[0]
        if not 8 <= size <= _HOLD:
            return len(data)
        return size if len(data) >= size else 0


def rtu(body: bytes) -> bytes:
    """Return a frame of a line: unit, function and data with their checksum."""
    return body + struct.pack("<H", crc16(body))


def service(message: bytes) -> int:
    """Return the numeric type of the service in an unencrypted OPC UA message, such as 673 (WriteRequest) or 829 (PublishResponse); 0 if none.

    Part 6, 7.2: header 8, channel 4, token 4, sequence 4, request 4, then the node id of the type in its four-byte form.
    """
    if message[:3] != b"MSG" or len(message) < 28 or message[24:26] != b"\x01\x00":
        return 0
    return int.from_bytes(message[26:28], "little")
