"""Simulated devices on Modbus TCP and on pseudo-terminals (RTU): frames and links. What a device answers is in modbus_slave.py.

Ours and not pymodbus's server: that needs a task and a system call more for each request, answers for a unit that is switched off, takes
requests that the standard refuses, and would be the driver's own code at both ends of the wire.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from dataclasses import replace
from pathlib import Path
from typing import Final

from drivers.device import Address
from drivers.modbus_frames import crc16
from simulators.modbus_slave import ModbusSlave
from simulators.pty_line import PtyLine

__all__ = ["RtuLine", "TcpListener", "server_context"]

_MOST_CONNECTIONS: Final = 32
_STALE: Final = 0.1  # [s] after which the rest of a broken frame on a line is dropped
_SHORTEST: Final = 4  # [bytes] of a frame on a line: unit, function, checksum
_LONGEST: Final = 256
_SIZES: Final = {**dict.fromkeys(range(1, 7), 8), 22: 10, 43: 7}  # [bytes] function -> frame on a line
_COUNTED: Final = {15: 6, 16: 6, 23: 10}  # function -> where the count of the bytes stands that come between it and the checksum


def with_crc(frame: bytes) -> bytes:
    """Return a frame of a line with its checksum."""
    return frame + struct.pack("<H", crc16(frame))


def frame_size(data: bytes) -> int:
    """Return how many bytes of `data` are the first frame of a line; 0 while there is none.

    A function that is not known tells no length: then the frame is what came together.
    """
    if len(data) < _SHORTEST:
        return 0
    at = _COUNTED.get(data[1])
    size = _SIZES.get(data[1], 0) if at is None else at + 3 + data[at] if len(data) > at else 0
    if size and len(data) >= size and crc16(data[:size]) == 0:
        return size
    return len(data) if crc16(data) == 0 else 0


def server_context(data: Path) -> ssl.SSLContext:
    """Return what a device shows and checks over TLS: ``DATA/tls/device.pem`` and ``device.key``, and ``clients.pem`` if clients must show one."""
    folder = data / "tls"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "device.pem", folder / "device.key")
    if (clients := folder / "clients.pem").exists():
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class _Endpoint:
    """What listens, on TCP or on a line: the units behind it, those that are switched off being silent."""

    def __init__(self, units: dict[int, ModbusSlave]) -> None:
        self.units = units

    def answer(self, unit: int, request: bytes) -> bytes:
        """Return the unit's reply; nothing for a unit that is not there or switched off."""
        slave = self.units.get(unit)
        return slave.answer(request) if slave is not None and slave.station.serving else b""


class _Connection(asyncio.Protocol):
    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._waiting = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if len(self._listener.connections) >= _MOST_CONNECTIONS:
            transport.abort()
            return
        self._listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self._waiting += data
        while len(self._waiting) >= 8:  # the header and a function code
            transaction, protocol, length, unit = struct.unpack_from(">HHHB", self._waiting)
            if protocol != 0 or not 2 <= length <= 254:
                self.transport.abort()  # not Modbus: nothing tells where the next request would begin
                return
            if len(self._waiting) < 6 + length:
                return
            request, self._waiting = self._waiting[7 : 6 + length], self._waiting[6 + length :]
            if reply := self._listener.answer(unit, request):
                self.transport.write(struct.pack(">HHHB", transaction, 0, len(reply) + 1, unit) + reply)


class _RtuConnection(_Connection):
    """Frames of a serial line in a socket, as a device server of RS-485 passes them on."""

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self._waiting = (self._waiting + data)[-2 * _LONGEST :]
        while size := frame_size(self._waiting):
            frame, self._waiting = self._waiting[:size], self._waiting[size:]
            if reply := self._listener.answer(frame[0], frame[1:-2]):
                self.transport.write(with_crc(frame[:1] + reply))


class TcpListener(_Endpoint):
    """Modbus TCP at one host and port, or RTU in a socket, or TLS; `open` picks a free port for port 0 and keeps it."""

    def __init__(self, host: str, port: int, units: dict[int, ModbusSlave], *, rtu: bool = False, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(units)
        self._connection = _RtuConnection if rtu else _Connection
        self._tls = tls
        self.host, self.port = host, port
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; raise `OSError` when the port is taken."""
        if self._server is None:
            self._server = await asyncio.get_running_loop().create_server(lambda: self._connection(self), self.host, self.port, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await server.wait_closed()

    async def changed(self) -> None:
        """Listen while any unit is switched on."""
        await (self.open() if any(slave.station.serving for slave in self.units.values()) else self.close())

    def address(self, asked: Address) -> Address:
        """Return the address with the real port."""
        return replace(asked, port=self.port)


class RtuLine(_Endpoint, PtyLine):
    """Modbus RTU on a pseudo-terminal, with a link to it at `path`; all units of a path share the line."""

    def __init__(self, path: Path, units: dict[int, ModbusSlave]) -> None:
        _Endpoint.__init__(self, units)
        PtyLine.__init__(self, path)
        self._waiting = b""
        self._heard = 0.0

    def come(self, data: bytes) -> None:
        """Answer each whole frame."""
        now = asyncio.get_running_loop().time()
        if now - self._heard > _STALE:
            self._waiting = b""
        self._heard = now
        self._waiting = (self._waiting + data)[-2 * _LONGEST :]
        while size := frame_size(self._waiting):
            frame, self._waiting = self._waiting[:size], self._waiting[size:]
            if reply := self.answer(frame[0], frame[1:-2]):
                self.send(with_crc(frame[:1] + reply))
