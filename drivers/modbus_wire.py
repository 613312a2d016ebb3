"""Frames over a connection that pymodbus has made: bytes out, replies in. One class for TCP and TLS, one for RTU on a port or in a socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final, Protocol, cast

from drivers.alarm import Alarm
from drivers.failures import words_for
from drivers.modbus_frames import Asked, BadReply, DeviceSaidNo, rtu_reply

__all__ = ["Owner", "Result", "RtuWire", "TcpWire"]

Result = bytes | DeviceSaidNo | BadReply  # the data of a reply, or what is wrong with it

_ROOM: Final = 8192  # [bytes] eight of the longest replies and more
_MOST_UNANSWERED: Final = 0x8000
_NOISE: Final = b"\x00\xff"  # what a line that is switched over brings
_HEADER: Final = 7  # [bytes] of a TCP frame, with its unit
# A reply that is there when it is looked for may have been there before, so the next one is looked for sooner; one that is not, later, but not
# by all of its delay: to look too soon costs a wake-up, to look too late the time of the line.
_SOONER, _LATER = 0.98, 1.05  # of the time that the device takes until it replies


class Owner(Protocol):
    """Who is told what came."""

    def replied(self, replies: Sequence[tuple[int, Result]]) -> None:
        """Take the replies that came together, each with its transaction."""

    def stale(self, unit: int, *, noise: bool = False) -> None:
        """Note a reply to a question that is no longer waited for; it is dropped. `unit` is -1 where it is not known; `noise` can be none."""

    def dropped(self, why: str) -> None:
        """Note that the connection has ended by itself."""

    def foreign(self, data: bytes) -> None:
        """Note that what came is no Modbus; the connection is closed."""

    def broken(self, error: Exception) -> None:
        """Note that what was to be done with the bytes that came went wrong, by a mistake in this program."""


class _Wire(asyncio.BufferedProtocol):
    """What both have: an owner, who hears of the end of the connection unless it closed it itself."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._closed = False

    def eof_received(self) -> bool:
        """Let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, unless it closed the connection itself."""
        if not self._closed:
            self._closed = True
            try:
                self._owner.dropped(f"the connection dropped: {words_for(exc)}" if exc else "the connection was closed by the other end")
            except Exception as error:  # noqa: BLE001  # the owner tells it, and opens another connection
                self._owner.broken(error)


class TcpWire(_Wire):
    """Modbus TCP: replies are told apart by their transaction, so several may be awaited."""

    def __init__(self, transport: asyncio.Transport, owner: Owner) -> None:
        super().__init__(owner)
        self._transport = transport
        self._pending: dict[int, Asked] = {}
        self._unanswered: dict[int, None] = {}  # transactions whose replies may still come, the oldest first
        self._transaction = secrets.randbelow(0x10000)  # not that of an earlier connection
        self._buffer = bytearray(_ROOM)
        self._view = memoryview(self._buffer)
        self._end = 0

    def send(self, asked: Asked) -> int:
        """Send a question; return its transaction.

        Each is written by itself, since some devices answer only the first of two in one segment (Modbus messaging on TCP/IP V1.0b, 4.2.1.1: one
        frame a segment).
        """
        transaction = (self._transaction + 1) & 0xFFFF
        while transaction in self._unanswered:
            transaction = (transaction + 1) & 0xFFFF
        self._transaction = transaction
        self._pending[transaction] = asked
        self._transport.write(transaction.to_bytes(2, "big") + asked.frame)
        return transaction

    def forget(self, transaction: int) -> None:
        """Wait no longer for a reply. Its transaction is not used again before it comes, however late: there are only 65,536 of them."""
        del self._pending[transaction]
        if len(self._unanswered) >= _MOST_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
        self._unanswered[transaction] = None

    def close(self) -> None:
        """Close the connection; nothing is reported any more."""
        self._closed = True
        self._transport.abort()

    @property
    def part(self) -> bytes:
        """What has come and is no whole frame yet."""
        return bytes(self._view[: self._end])

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return self._view[self._end :] if self._end else self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Take `nbytes` more: whole frames are replies, the rest waits."""
        if self._closed:
            return
        try:
            buffer, view, pending, at, end = self._buffer, self._view, self._pending, 0, self._end + nbytes
            replies: list[tuple[int, Result]] = []
            while end - at > _HEADER:
                transaction = buffer[at] << 8 | buffer[at + 1]
                asked = pending.get(transaction)
                if asked is None or not buffer.startswith(asked.head, at + 2):
                    stop = self._other(transaction, asked, at, end, replies)
                else:
                    stop = at + asked.ends
                    if stop <= end:
                        del pending[transaction]
                        replies.append((transaction, bytes(view[at + asked.starts : stop])))
                if stop > end:
                    break
                at = stop
            self._end = rest = end - at
            if rest and at:
                buffer[:rest] = buffer[at:end]
            if replies:
                self._owner.replied(replies)
        except Exception as error:  # noqa: BLE001  # the owner tells it, and opens another connection
            self._owner.broken(error)

    def _other(self, transaction: int, asked: Asked | None, at: int, end: int, replies: list[tuple[int, Result]]) -> int:
        """Take what does not begin as the reply that is waited for, if any is; return where it ends, which may not have come yet."""
        buffer, view = self._buffer, self._view
        size = buffer[at + 4] << 8 | buffer[at + 5]
        if buffer[at + 2] or buffer[at + 3] or not 3 <= size <= 254:
            if replies:  # they came before
                self._owner.replied(replies)
                replies.clear()
            if not self._closed:
                self.close()
                self._owner.foreign(bytes(view[at:end]))
            return end + 1
        stop = at + 6 + size
        if stop > end:
            return stop
        if asked is None:
            self._unanswered.pop(transaction, None)
            self._owner.stale(buffer[at + 6])
        else:
            del self._pending[transaction]
            replies.append((transaction, _amiss(asked, buffer[at + 6], bytes(view[at + _HEADER : stop]))))
        return stop

    def data_received(self, data: bytes) -> None:
        """Take bytes from a transport that has no buffer."""
        for start in range(0, len(data), _ROOM // 2):
            part = data[start : start + _ROOM // 2]
            self._view[self._end : self._end + len(part)] = part
            self.buffer_updated(len(part))


def _amiss(asked: Asked, unit: int, reply: bytes) -> bytes | DeviceSaidNo | BadReply:
    """Return what is wrong with a reply, from its function code on, that does not begin as it should."""
    if unit != asked.unit:
        return BadReply(f"asked unit {asked.unit}, unit {unit} answers")
    try:
        return asked.question.check(reply)
    except (DeviceSaidNo, BadReply) as error:
        return error


class RtuWire(_Wire):
    """Modbus RTU: one question at a time; what comes while none is open is dropped and told.

    On a serial port (`fd`) a reply comes in many pieces. Its length is known, so nothing is looked at until the last byte can be there: on a line
    that keeps its speed, from the request on and with the time in mind that the device took to begin with its last replies; else (a pseudo-terminal
    has no speed) after the first piece.
    """

    def __init__(self, transport: asyncio.Transport, owner: Owner, byte: float, fd: int | None) -> None:
        super().__init__(owner)
        self._transport, self._byte, self._fd = cast(Any, transport), byte, fd
        self._loop = asyncio.get_running_loop()
        self._asked: Asked | None = None
        self._heard = b""
        self._view = memoryview(bytearray(512))
        self._listens = True
        self._alarm = Alarm(self._listen)
        self._sent = 0.0  # [s]
        self._begins: float | None = None  # [s] how long the device takes until it replies; None on a line that does not keep its speed
        self._came = False  # whether the loop has seen the reply come

    def send(self, asked: Asked) -> int:
        """Send a question; return 0, since a serial line has no transactions."""
        self._asked, self._heard = asked, b""
        frame = asked.frame
        if self._fd is not None:  # at once, not in the next turn of the loop
            with contextlib.suppress(OSError):  # the transport will meet it, too, and says what is wrong
                frame = frame[os.write(self._fd, frame) :]
        if frame:
            self._transport.write(frame)
        self._sent, self._came = monotonic(), self._begins is None
        if self._begins is not None:
            self._rest(self._sent + asked.seconds + self._begins)
        return 0

    def forget(self, transaction: int) -> None:
        """Wait no longer for the reply."""
        self._asked = None

    def close(self) -> None:
        """Close the connection; nothing is reported any more."""
        self._closed = True
        self._alarm.close()
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that have come."""
        self.data_received(bytes(self._view[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take bytes; a whole reply, or what cannot be one, ends the question."""
        if self._closed:
            return
        try:
            self._take(data)
        except Exception as error:  # noqa: BLE001  # the owner tells it, and opens another connection
            self._owner.broken(error)

    def _take(self, data: bytes) -> None:
        if self._asked is None:
            self._owner.stale(-1, noise=not data.strip(_NOISE))
            return
        self._heard += data
        question = self._asked.question
        result: bytes | DeviceSaidNo | BadReply | None
        try:
            result = rtu_reply(self._asked.unit, question, self._heard)
        except (DeviceSaidNo, BadReply) as error:
            result = error
        if result is not None:
            if self._fd is not None:
                self._learn(self._asked)
            self._asked = None
            self._owner.replied([(0, result)])
        else:
            self._came = True
            if self._fd is not None and len(self._heard) > 1:
                missing = (question.size + 3 if not self._heard[1] & 0x80 else 5) - len(self._heard)
                self._rest(monotonic() + missing * self._byte)

    def _learn(self, asked: Asked) -> None:
        """Note how long the device took until it replied."""
        begins = monotonic() - self._sent - (len(asked.frame) + len(self._heard)) * self._byte
        if begins < 0.0:
            self._begins = None
        elif self._begins is None:
            self._begins = begins
        else:
            self._begins = min(begins, _LATER * self._begins + self._byte) if self._came else _SOONER * self._begins

    def _rest(self, until: float) -> None:
        """Do not look at the port until some time [s]; there is one."""
        if self._listens:
            self._loop.remove_reader(self._fd)  # type: ignore[arg-type]  # only on a port
            self._listens = False
        self._alarm.set(until)

    def _listen(self) -> None:
        if not self._closed:
            self._listens = True
            self._loop.add_reader(self._fd, self._transport.intern_read_ready)  # type: ignore[arg-type]
            self._transport.intern_read_ready()
            self._came = True  # what was not there by now

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, unless it closed the connection itself."""
        self._alarm.close()
        super().connection_lost(exc)
