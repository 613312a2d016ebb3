"""Simulated devices on Modbus TCP and on pseudo-terminals (RTU), with pymodbus's frames and messages.

The loop around them is ours: pymodbus's server needs a task and a system call more for each request, answers for a unit that is
switched off, and keeps its own copy of the registers, while here each reply is encoded from the plant as it is in that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusIOException
from pymodbus.framer import FramerBase, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsResponse,
    ReadDiscreteInputsResponse,
    WriteMultipleCoilsResponse,
    WriteSingleCoilResponse,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersResponse,
    ReadInputRegistersResponse,
    WriteMultipleRegistersResponse,
    WriteSingleRegisterResponse,
)

from drivers.device import Address
from drivers.modbus_codec import BitBlock, Item, RegisterBlock, Table, decode_one
from drivers.modbus_plan import Spot, spots
from drivers.tags import FloatArray
from simulators.instruments import BAD
from simulators.station import Locked, Refused, Station

__all__ = ["ModbusSlave", "RtuLine", "TcpListener"]

logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)

_READS: Final[dict[int, Table]] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_TABLE_OF: Final[dict[int, Table]] = _READS | {5: "coil", 6: "holding", 15: "coil", 16: "holding"}
_MOST_CONNECTIONS: Final = 32
_MOST_WAITING: Final = 2048  # [bytes] a client that sends more without a complete request is cut off
_STALE: Final = 0.1  # [s] after which the rest of a broken frame on a line is dropped


class ModbusSlave:
    """The registers and bits of one device, encoded when they are asked for; `answer` is the whole of its behaviour."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self._identity = station.device.profile.identity.value
        self._options = station.device.profile.modbus
        self._tables: dict[Table, tuple[int, RegisterBlock | BitBlock]] = {}
        self._spots: dict[Table, list[Spot]] = {"coil": [], "discrete": [], "holding": [], "input": []}
        for spot in sorted(spots(station.device.profile), key=lambda spot: spot.address):
            self._spots[spot.table].append(spot)
        for table, found in self._spots.items():
            if found:
                first, count = found[0].address, found[-1].end - found[0].address
                items = [Item(spot.address - first, spot.type, spot.place, spot.scale, spot.offset) for spot in found]
                bits = table in ("coil", "discrete")
                self._tables[table] = (first, BitBlock(items, count) if bits else RegisterBlock(items, count, self._options))

    def _values(self) -> FloatArray:
        """Return all signals and, last, the identity."""
        # a device that knows its instrument has failed has no number for it; registers of integers then hold 0
        values = np.where(self.station.status() == BAD, np.nan, self.station.values())
        return np.append(values, self._identity)

    def answer(self, request: ModbusPDU) -> ModbusPDU:
        """Return the reply: exception 1 for an unknown function, 2 for a bad address, 3 for a bad value, 6 in the safe state."""
        function = request.function_code
        table = _TABLE_OF.get(function)
        if table is None:
            return ExceptionResponse(function, ExcCodes.ILLEGAL_FUNCTION)
        if table not in self._tables:
            return ExceptionResponse(function, ExcCodes.ILLEGAL_ADDRESS)
        if function in _READS:
            return self._read(function, table, request.address, request.count)
        try:
            return self._write(function, table, request)
        except Locked:
            return ExceptionResponse(function, ExcCodes.DEVICE_BUSY)
        except Refused:
            return ExceptionResponse(function, ExcCodes.ILLEGAL_VALUE)

    def _read(self, function: int, table: Table, address: int, count: int) -> ModbusPDU:
        first, block = self._tables[table]
        start = address - first
        if start < 0 or start + count > block.count:
            return ExceptionResponse(function, ExcCodes.ILLEGAL_ADDRESS)
        if isinstance(block, BitBlock):
            bits = block.encode(self._values())[start : start + count]
            return ReadCoilsResponse(bits=bits) if function == 1 else ReadDiscreteInputsResponse(bits=bits)
        wire = block.encode(self._values())[2 * start : 2 * (start + count)]
        registers = struct.unpack(f">{count}H", wire)
        return ReadHoldingRegistersResponse(registers=registers) if function == 3 else ReadInputRegistersResponse(registers=registers)

    def _write(self, function: int, table: Table, request: ModbusPDU) -> ModbusPDU:
        """Write whole values only, and all or none of them; raise `Refused`."""
        sent = [int(bit) for bit in request.bits] if table == "coil" else list(request.registers)
        if function in (15, 16) and len(sent) < request.count:
            raise Refused(f"announced {request.count}, sent {len(sent)}")
        if function == 15:
            sent = sent[: request.count]
        end = request.address + len(sent)
        inside = [spot for spot in self._spots[table] if spot.address >= request.address and spot.end <= end]
        if not sent or sum(spot.count for spot in inside) != len(sent):
            return ExceptionResponse(function, ExcCodes.ILLEGAL_ADDRESS)
        for commit in (False, True):
            for spot in inside:
                words = sent[spot.address - request.address : spot.end - request.address]
                value = float(words[0]) if table == "coil" else decode_one(words, spot.type, self._options, spot.scale, spot.offset)
                (self.station.write if commit else self.station.check)(spot.name, value)
        if function == 5:
            return WriteSingleCoilResponse(address=request.address, bits=request.bits)
        if function == 6:
            return WriteSingleRegisterResponse(address=request.address, registers=request.registers)
        response = WriteMultipleCoilsResponse if function == 15 else WriteMultipleRegistersResponse
        return response(address=request.address, count=len(sent))


class _Endpoint:
    """What listens, on TCP or on a line: the units behind it, those that are switched off being silent."""

    def __init__(self, units: dict[int, ModbusSlave]) -> None:
        self.units = units

    def respond(self, framer: FramerBase, data: bytes, send: Callable[[bytes], None]) -> int:
        """Answer every complete request in `data`; return how many bytes are done with."""
        done = 0
        while done < len(data):
            try:
                used, request = framer.handleFrame(data[done:], 0, 0)
            except ModbusIOException as error:
                header = 7 if isinstance(framer, FramerSocket) else 1
                bad = ExceptionResponse(data[done + header] & 0x7F, ExcCodes.ILLEGAL_FUNCTION, error.dev_id, error.transaction_id)
                if error.dev_id in self.units and self.units[error.dev_id].station.serving:
                    send(framer.buildFrame(bad))
                return len(data)
            done += used
            if request is None:
                break
            slave = self.units.get(request.dev_id)
            if slave is not None and slave.station.serving:
                reply = slave.answer(request)
                reply.dev_id, reply.transaction_id = request.dev_id, request.transaction_id
                send(framer.buildFrame(reply))
            if not used:
                break
        return done


class _Connection(asyncio.Protocol):
    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._framer = FramerSocket(DecodePDU(True))
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
        done = self._listener.respond(self._framer, self._waiting, self.transport.write)
        self._waiting = self._waiting[done:]
        if len(self._waiting) > _MOST_WAITING:
            self.transport.abort()


class TcpListener(_Endpoint):
    """Modbus TCP at one host and port; `open` picks a free port for port 0 and keeps it."""

    def __init__(self, host: str, port: int, units: dict[int, ModbusSlave]) -> None:
        super().__init__(units)
        self.host, self.port = host, port
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; raise `OSError` when the port is taken."""
        if self._server is None:
            self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), self.host, self.port)
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
        return Address(asked.scheme, asked.host, self.port, asked.path, asked.unit, asked.baud)


class RtuLine(_Endpoint):
    """Modbus RTU on a pseudo-terminal, with a link to it at `path`; all units of a path share the line."""

    def __init__(self, path: Path, units: dict[int, ModbusSlave]) -> None:
        super().__init__(units)
        self.path = path
        self._framer = FramerRTU(DecodePDU(True))
        self._waiting = b""
        self._heard = 0.0
        self._ends: tuple[int, int] | None = None

    async def open(self) -> None:
        """Make the pseudo-terminal and the link; raise `OSError` when the machine has none or the path is taken."""
        if self._ends is not None:
            return
        if self.path.exists() and not self.path.is_symlink():
            raise FileExistsError(f"{self.path} exists and is no link of a simulator")
        master, slave = os.openpty()
        self._ends = (master, slave)  # its own end stays open, else the line would hang up whenever a client closes
        tty.setraw(slave)
        os.set_blocking(master, False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(slave))
        asyncio.get_running_loop().add_reader(master, self._readable, master)

    async def close(self) -> None:
        """Hang up and remove the link."""
        ends, self._ends = self._ends, None
        if ends is None:
            return
        asyncio.get_running_loop().remove_reader(ends[0])
        if self.path.is_symlink() and os.readlink(self.path) == os.ttyname(ends[1]):
            self.path.unlink()
        for end in ends:
            os.close(end)

    async def changed(self) -> None:
        """A unit that is switched off is silent; the line stays."""

    def address(self, asked: Address) -> Address:
        """Return the address as it was asked for."""
        return asked

    def _readable(self, master: int) -> None:
        try:
            data = os.read(master, 4096)
        except BlockingIOError:
            return
        now = asyncio.get_running_loop().time()
        if now - self._heard > _STALE:
            self._waiting = b""
        self._heard = now
        self._waiting += data
        done = self.respond(self._framer, self._waiting, lambda reply: self._send(master, reply))
        self._waiting = self._waiting[done:][-_MOST_WAITING:]

    def _send(self, master: int, reply: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # nobody reads the line: a reply into a full buffer is lost, as on a wire
            os.write(master, reply)
