"""Any bytes at both wires, in any pieces: no crash, no reply but the one asked for, nothing kept for ever."""

from __future__ import annotations

import asyncio
import math
import os
import random
import struct
import time
import tty
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import modbus_wire
from drivers.modbus_frames import Asked, BadReply, DeviceSaidNo, crc16, read, rtu_asked, rtu_frame, tcp_asked
from drivers.modbus_wire import Result, RtuWire, TcpWire

QUESTION = read("input", 3, 2)
REPLY = bytes.fromhex("04 04 00 01 00 02")


class Transport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def abort(self) -> None:
        self.closed = True


class Owner:
    def __init__(self) -> None:
        self.replies: list[tuple[int, Result]] = []
        self.stales = 0
        self.drops: list[str] = []

    def replied(self, replies: Sequence[tuple[int, Result]]) -> None:
        self.replies += replies

    def stale(self, unit: int, *, noise: bool = False) -> None:
        self.stales += 1

    def dropped(self, why: str) -> None:
        self.drops.append(why)

    def foreign(self, data: bytes) -> None:
        self.drops.append(data.hex())

    def broken(self, error: Exception) -> None:
        raise error


def feed(wire: TcpWire, data: bytes, cuts: list[int]) -> None:
    """Bring bytes as sockets do, in pieces of some sizes, until it closes."""
    transport = cast(Any, wire)._transport
    at = 0
    for size in (*cuts, len(data)):
        while at < len(data) and not transport.closed:
            piece = data[at : at + max(size, 1)]
            room = wire.get_buffer(-1)
            assert len(room) >= len(piece)
            room[: len(piece)] = piece
            wire.buffer_updated(len(piece))
            at += len(piece)
            if size != len(data):
                break


def framed(transaction: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.builds(framed, st.integers(0, 0xFFFF), st.integers(0, 255), st.binary(min_size=2, max_size=250)),
        st.just("reply"),
        st.just("other unit"),
        st.just("short"),
    ),
    max_size=12,
)


@given(pieces=PIECES, cuts=st.lists(st.integers(1, 400), max_size=20))
def test_over_tcp(pieces: list[bytes | str], cuts: list[int]) -> None:
    transport, owner = Transport(), Owner()
    wire = TcpWire(cast(asyncio.Transport, transport), owner)
    transaction = wire.send(tcp_asked(7, QUESTION))
    assert transport.sent == [framed(transaction, 7, QUESTION.pdu)]
    known = {"reply": framed(transaction, 7, REPLY), "other unit": framed(transaction, 8, REPLY), "short": framed(transaction, 7, REPLY[:4])}
    feed(wire, b"".join(piece if isinstance(piece, bytes) else known[piece] for piece in pieces), cuts)
    assert len(owner.replies) <= 1
    for found, result in owner.replies:
        assert found == transaction
        assert isinstance(result, DeviceSaidNo | BadReply) or result == REPLY[2:]
    assert len(owner.drops) == transport.closed
    assert transport.closed or len(wire.get_buffer(-1)) >= 8192 - 261


def test_the_transaction_of_a_reply_that_never_came_is_not_used_again() -> None:
    """However late it is, and though there are only 65,536 of them: it could be taken for the reply to another question of the same length."""
    wire = TcpWire(cast(asyncio.Transport, Transport()), Owner())
    asked = tcp_asked(7, QUESTION)
    late = [wire.send(asked) for _ in range(2)]
    for transaction in late:
        wire.forget(transaction)

    def used() -> set[int]:
        found = {wire.send(asked) for _ in range(0x8000)}
        for transaction in found:
            wire.data_received(framed(transaction, 7, REPLY))
        return found

    assert not set(late) & (used() | used() | used())
    wire.data_received(framed(late[0], 7, REPLY))
    assert set(late) & (used() | used() | used()) == {late[0]}, "it has come at last"


def test_replies_in_pieces_and_in_one_piece() -> None:
    for size in (1, 7, 8, 13, 1000):
        transport, owner = Transport(), Owner()
        wire = TcpWire(cast(asyncio.Transport, transport), owner)
        sent = [wire.send(tcp_asked(7, QUESTION)) for _ in range(5)]
        assert transport.sent == [framed(transaction, 7, QUESTION.pdu) for transaction in sent], "each in a segment of its own"
        feed(wire, b"".join(framed(transaction, 7, REPLY) for transaction in reversed(sent)), [size] * 200)
        assert owner.replies == [(transaction, REPLY[2:]) for transaction in reversed(sent)]
        wire.data_received(framed(sent[0], 7, REPLY) * 1000)  # far more than its buffer holds
        assert owner.stales == 1000


@pytest.mark.parametrize("first", [True, False])
@given(pieces=st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from(["reply", "cut", "other"])), max_size=8))
def test_on_a_line(first: bool, pieces: list[bytes | str]) -> None:
    async def main() -> None:
        transport, owner = Transport(), Owner()
        wire = RtuWire(cast(asyncio.Transport, transport), owner, 11 / 19200, None)
        if first:
            wire.send(rtu_asked(7, QUESTION, 11 / 19200))
        good = bytes((7,)) + REPLY
        good += crc16(good).to_bytes(2, "little")
        known = {"reply": good, "cut": good[:5], "other": b"\x08" + good[1:]}
        heard = [piece if isinstance(piece, bytes) else known[piece] for piece in pieces]
        for data in heard:
            wire.data_received(data)
        assert len(owner.replies) <= first
        if owner.replies and isinstance(owner.replies[0][1], bytes):
            assert owner.replies[0][1] == REPLY[2:]
            assert b"".join(heard).startswith(good)
        assert owner.stales >= (0 if first else len(heard))

    asyncio.run(main())


class PacedPort(Transport):
    """A serial port whose reply comes in byte by byte, `begins` [s] after the request, or all at once."""

    def __init__(self, byte: float, begins: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.byte, self.begins, self.clock = byte, begins, clock
        self.wire: RtuWire | None = None
        self.looks, self.read, self.due = 0, 0, 0.0

    def ask(self, asked: Asked) -> None:
        assert self.wire is not None
        self.looks = self.read = 0
        self.due = self.clock() + len(asked.frame) * self.byte + self.begins
        self.wire.send(asked)

    @property
    def waiting(self) -> bytes:
        """What has come and was not read yet."""
        there = len(LINE_REPLY) if not self.byte else int((self.clock() - self.due) / self.byte)
        return LINE_REPLY[self.read : max(there, 0)]

    def intern_read_ready(self) -> None:
        self.looks += 1
        if data := self.waiting:
            self.read += len(data)
            assert self.wire is not None
            self.wire.data_received(data)


LINE_REPLY = bytes((7,)) + REPLY + crc16(bytes((7,)) + REPLY).to_bytes(2, "little")


class Bell:
    """An alarm on a clock that is set by hand."""

    hung: ClassVar[list[Bell]] = []

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring, self.when = ring, math.inf
        self.hung.append(self)

    def set(self, when: float) -> None:
        self.when = when

    def clear(self) -> None:
        self.when = math.inf

    close = clear


@pytest.mark.parametrize("stall", [0.0, 0.05])
@pytest.mark.parametrize("keeps", [True, False])
def test_a_port_is_looked_at_when_the_reply_is_due_if_the_line_keeps_its_speed(keeps: bool, stall: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a busy machine, where every fourth look comes `stall` [s] too late. On a clock of its own, as that of this machine may stall, too."""
    now, chance = [1000.0], random.Random(1)
    monkeypatch.setattr(modbus_wire, "monotonic", lambda: now[0])
    monkeypatch.setattr(modbus_wire, "Alarm", Bell)
    Bell.hung.clear()

    async def main() -> list[int]:
        fd, end = os.openpty()  # what the loop watches: nothing comes in there
        tty.setraw(fd)
        byte, looks = 0.0005, []
        owner, port = Owner(), PacedPort(byte if keeps else 0.0, 0.004, lambda: now[0])
        wire = port.wire = RtuWire(cast(asyncio.Transport, port), owner, byte, end)
        [bell] = Bell.hung
        for count in range(1, 41):
            port.ask(rtu_asked(7, QUESTION, byte))
            assert os.read(fd, 100) == rtu_frame(7, QUESTION)
            for _ in range(1000):
                if len(owner.replies) == count:
                    break
                late = chance.uniform(0.0, 0.0002) + (stall if count % 4 == 0 else 0.0)
                if bell.when < math.inf:
                    now[0] = max(now[0], bell.when) + late
                    bell.clear()
                    bell.ring()
                else:
                    now[0] += 0.0001 + late
                    if port.waiting:
                        port.intern_read_ready()  # as the loop does when a piece comes
            assert owner.replies[count - 1 :] == [(0, REPLY[2:])]
            looks.append(port.looks)
            now[0] += 0.01
        wire.close()
        os.close(fd)
        os.close(end)
        return looks

    looks = asyncio.run(main())
    if keeps:
        assert looks[0] > 1, "nothing is known of the line"
        assert sum(looks[1:]) <= 1.5 * len(looks[1:]), f"looked for too often: {looks}"
    else:
        assert set(looks) == {1}, "nobody waits for what is there"


def test_a_port_that_is_lost_leaves_nothing_behind() -> None:
    async def main() -> None:
        fd, end = os.openpty()
        before = len(os.listdir("/proc/self/fd"))
        for closes in (True, False):
            wire = RtuWire(cast(asyncio.Transport, PacedPort(0.0005, 0.004)), Owner(), 0.0005, end)
            wire.send(rtu_asked(7, QUESTION, 0.0005))
            wire.data_received(LINE_REPLY[:4])  # the rest is waited for
            assert len(os.listdir("/proc/self/fd")) == before + 1
            if closes:
                wire.close()
            else:
                wire.connection_lost(OSError("unplugged"))
            assert len(os.listdir("/proc/self/fd")) == before
        os.close(fd)
        os.close(end)

    asyncio.run(main())


def test_a_serial_line_in_a_socket_has_no_speed_to_learn_from() -> None:
    async def main() -> None:
        transport, owner = Transport(), Owner()
        wire = RtuWire(cast(asyncio.Transport, transport), owner, 1e-5, None)
        for _ in range(3):
            wire.send(rtu_asked(7, QUESTION, 1e-5))
            await asyncio.sleep(0.005)  # far longer than the line takes
            wire.data_received(LINE_REPLY[:4])
            wire.data_received(LINE_REPLY[4:])
        assert owner.replies == [(0, REPLY[2:])] * 3
        assert transport.sent == [rtu_frame(7, QUESTION)] * 3

    asyncio.run(main())
