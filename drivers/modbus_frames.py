"""Modbus requests and replies as bytes: what is asked, how long the answer must be and how it must begin. Pure.

Modbus application protocol V1.1b3, Modbus messaging on TCP/IP V1.0b, Modbus over serial line V1.02. Nothing is decoded here but the frame: a
reply is either the one that belongs to its question, byte by byte, or an error with its reason.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from drivers.driver import ErrorKind
from drivers.modbus_options import Table

__all__ = [
    "EXCEPTIONS",
    "LONGEST_FRAME",
    "Asked",
    "BadReply",
    "DeviceSaidNo",
    "LinkDown",
    "Question",
    "crc16",
    "mask_write",
    "read",
    "rtu_asked",
    "rtu_frame",
    "rtu_reply",
    "tcp_asked",
    "tcp_tail",
    "write_coil",
    "write_coils",
    "write_register",
    "write_registers",
]

EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledged, not done yet",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    9: "reserved",
    10: "gateway path unavailable",
    11: "gateway target does not answer",
}
LONGEST_FRAME: Final = 256  # [bytes] on a serial line, 2.5.1
_READS: Final[dict[Table, int]] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_REST: Final = struct.Struct(">HHB")  # protocol, length, unit: the header of TCP behind the transaction


class LinkDown(Exception):
    """Nothing was or will be answered: no connection, a timeout, a drop. `sent` is whether the request had gone out; `kind` None: it only waits."""

    def __init__(self, kind: ErrorKind | None, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.kind, self.sent = kind, sent


class DeviceSaidNo(Exception):
    """A Modbus exception reply; `code` is one of `EXCEPTIONS`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code} ({EXCEPTIONS.get(code, 'unknown to the standard')})")
        self.code = code


class BadReply(Exception):
    """A reply that does not belong to the request, or is none."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request from its function code on, and what tells its reply: how long it is [bytes], and how it begins.

    What follows `head` in a reply is the data: registers or bits of a read, nothing of a write, whose reply is an echo.
    """

    pdu: bytes
    head: bytes
    size: int

    def check(self, reply: bytes) -> bytes:
        """Return the data of `reply`, from its function code on; raise `DeviceSaidNo` or `BadReply`."""
        if len(reply) == self.size and reply.startswith(self.head):
            return reply[len(self.head) :]
        if len(reply) == 2 and reply[0] == self.pdu[0] | 0x80:
            raise DeviceSaidNo(reply[1])
        raise BadReply(f"function {self.pdu[0]} {self.pdu[1:5].hex(' ')}: expected {self.size} bytes {self.head.hex(' ')}..., got {_shown(reply)}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to one unit, ready to be sent: made once for all times that it is asked.

    `frame` is what is sent, on TCP behind the transaction. `head` is how the reply goes on there behind its transaction, up to its data: protocol,
    length, unit, function and what the question wants, so that one comparison is all checks; the data are in the frame from `starts` to `ends`
    [bytes]. `seconds` is how long both take on a serial line.
    """

    unit: int
    question: Question
    frame: bytes
    head: bytes = b""
    starts: int = 0
    ends: int = 0
    seconds: float = 0.0


def _shown(data: bytes) -> str:
    return f"{len(data)} bytes {data[:8].hex(' ')}" + ("..." if len(data) > 8 else "")


def read(table: Table, address: int, count: int) -> Question:
    """Return the question for `count` registers or bits.

    >>> read("holding", 2, 2).pdu.hex(" ")
    '03 00 02 00 02'
    """
    function = _READS[table]
    size = (count + 7) // 8 if function < 3 else 2 * count
    return Question(struct.pack(">BHH", function, address, count), bytes((function, size)), size + 2)


def write_coil(address: int, on: bool) -> Question:
    """Return the question that sets one coil, function 5."""
    return _echoed(struct.pack(">BHH", 5, address, 0xFF00 if on else 0))


def write_register(address: int, word: int) -> Question:
    """Return the question that writes one register, function 6."""
    return _echoed(struct.pack(">BHH", 6, address, word))


def write_coils(address: int, bits: Sequence[bool]) -> Question:
    """Return the question that sets a run of coils, function 15."""
    data = sum(bit << place for place, bit in enumerate(bits)).to_bytes((len(bits) + 7) // 8, "little")
    head = struct.pack(">BHH", 15, address, len(bits))
    return Question(head + bytes((len(data),)) + data, head, 5)


def write_registers(address: int, words: Sequence[int]) -> Question:
    """Return the question that writes a run of registers, function 16."""
    head = struct.pack(">BHH", 16, address, len(words))
    return Question(head + struct.pack(f">B{len(words)}H", 2 * len(words), *words), head, 5)


def mask_write(address: int, keep: int, put: int) -> Question:
    """Return the question that makes a register ``(now & keep) | (put & ~keep)``, function 22."""
    return _echoed(struct.pack(">BHHH", 22, address, keep, put))


def _echoed(pdu: bytes) -> Question:
    return Question(pdu, pdu, len(pdu))


# TCP -------------------------------------------------------------------------------------------------------------------


def tcp_tail(unit: int, question: Question) -> bytes:
    """Return all of a TCP frame but its transaction, which comes before: the same for every time it is asked."""
    return _REST.pack(0, len(question.pdu) + 1, unit) + question.pdu


def tcp_asked(unit: int, question: Question) -> Asked:
    """Return a question to a unit over TCP."""
    head = _REST.pack(0, question.size + 1, unit) + question.head
    return Asked(unit, question, tcp_tail(unit, question), head, 2 + len(head), 7 + question.size)


# RTU -------------------------------------------------------------------------------------------------------------------


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC: Final = _crc_table()


def crc16(data: bytes) -> int:
    """Return the checksum of serial lines, V1.02, 6.2.2; 0 for a frame that ends in its own, low byte first.

    >>> hex(crc16(bytes([0x02, 0x07])))
    '0x1241'
    """
    table, value = _CRC, 0xFFFF
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value


def rtu_frame(unit: int, question: Question) -> bytes:
    """Return the whole frame of a serial line."""
    frame = bytes((unit,)) + question.pdu
    return frame + crc16(frame).to_bytes(2, "little")


def rtu_asked(unit: int, question: Question, byte: float) -> Asked:
    """Return a question to a unit on a line whose bytes take `byte` [s]."""
    frame = rtu_frame(unit, question)
    return Asked(unit, question, frame, seconds=(len(frame) + question.size + 3) * byte)


def rtu_reply(unit: int, question: Question, heard: bytes) -> bytes | None:
    """Return the data of the reply in `heard`, all bytes since the request; None while it is not complete.

    Raise `DeviceSaidNo` for an exception, `BadReply` as soon as it can no longer be the reply: another unit, function or echo, a wrong
    checksum, or more bytes than a reply has.
    """
    function = question.pdu[0]
    if heard and (heard[0] != unit or (len(heard) > 1 and heard[1] & 0x7F != function)):
        raise BadReply(f"asked function {function} of unit {unit}, got {_shown(heard)}")
    size = 5 if len(heard) > 1 and heard[1] & 0x80 else question.size + 3
    if len(heard) < size:
        return None
    if len(heard) > size:
        raise BadReply(f"function {function} of unit {unit}: expected {size} bytes, got {_shown(heard)}")
    if crc16(heard) != 0:
        raise BadReply(f"function {function} of unit {unit}: wrong checksum in {_shown(heard)}")
    return question.check(heard[1:-2])
