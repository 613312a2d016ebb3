"""One Modbus connection: a TCP socket, or a serial line that several devices share. One request at a time, each reply checked.

pymodbus does frames and sockets. What it leaves open is closed here: retries (none: a write could be executed again), reconnection (a new
client for each *epoch*), a request pending when the link drops (failed at once), late replies (after any timeout or cancel
the link is closed, left silent for the longest reply, and opened again) and replies that do not belong to the request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from drivers.device import Address
from drivers.driver import ErrorKind
from drivers.modbus_codec import Table
from drivers.pause import Pause

__all__ = ["EXCEPTIONS", "BadReply", "DeviceSaidNo", "Line", "LinkDown", "release_line", "share_line"]

# what pymodbus reports is counted and reported by the drivers, once for each change
logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)

EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledged, not done yet",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not answer",
}
_TURNAROUND: Final = 0.1  # [s] that a device on a serial line may take before it starts to reply
_LONGEST_FRAME: Final = 256  # [bytes] Modbus over serial line V1.02, 2.5.1

_READ: Final[dict[Table, type[ModbusPDU]]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}


class LinkDown(Exception):
    """Nothing was or will be answered: no connection, a timeout, a drop. `sent` is whether the request had gone out."""

    def __init__(self, kind: ErrorKind, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.kind, self.sent = kind, sent


class DeviceSaidNo(Exception):
    """A Modbus exception reply; `code` is one of `EXCEPTIONS`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code} ({EXCEPTIONS.get(code, 'unknown to the standard')})")
        self.code = code


class BadReply(Exception):
    """A reply that does not belong to the request; the link has been closed."""


class Line:
    """A connection to one Modbus TCP server or serial port. Hold `lock` around `open` and the requests that belong together."""

    def __init__(self, address: Address, path: Path | None) -> None:
        self.address, self.path = address, path
        self.lock = asyncio.Lock()
        self.users = 0
        self.epoch = 0  # counts connections; 0 is none so far
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._pending = False
        self._why = ""  # of the last attempt to connect
        self._silent_until = 0.0
        self._pause = Pause()

    @property
    def where(self) -> str:
        """The endpoint as people write it."""
        return f"{self.address.host}:{self.address.port}" if self.path is None else str(self.path)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        return self._client is not None and self._client.connected

    async def open(self, within: float) -> None:
        """Connect unless connected, `within` [s]; raise `LinkDown`. A new connection is a new epoch."""
        if self.is_open:
            return
        loop = asyncio.get_running_loop()
        if not self._pause.over(loop.time()):
            raise LinkDown("connect", self._why, sent=False)
        deadline = loop.time() + within
        self.close()
        if self._silent_until > loop.time():
            await asyncio.sleep(self._silent_until - loop.time())
        client = self._new_client(max(deadline - loop.time(), 0.05))
        cancellation = _Cancellation()
        try:
            connected = await client.connect()
            cancellation.check()
            if connected and self.path is not None:
                await asyncio.sleep(0)  # a serial transport starts to listen in the loop's next turn
        except BaseException:
            client.close()
            raise
        if not connected:
            client.close()
            self._pause.failed(loop.time())
            hint = "check the address and that the device is on" if self.path is None else "check that the serial port exists and is free"
            self._why = f"cannot connect to {self.where}; {hint}"
            raise LinkDown("connect", self._why, sent=False)
        self._pause.succeeded()
        self._client = client
        self.epoch += 1

    def _new_client(self, within: float) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        if self.path is None:
            return AsyncModbusTcpClient(
                self.address.host,
                port=self.address.port,
                timeout=within,
                retries=0,
                reconnect_delay=0,
                trace_connect=self._connection_changed,
            )
        return AsyncModbusSerialClient(
            str(self.path),
            baudrate=self.address.baud,
            timeout=within,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._connection_changed,
        )

    def _connection_changed(self, up: bool) -> None:
        if not up and self._client is not None and self._pending and not self._client.ctx.response_future.done():
            self._client.ctx.response_future.set_exception(ConnectionException("the link dropped"))

    def close(self) -> None:
        """Close the connection, if any; a pending request fails with `LinkDown`."""
        client, self._client = self._client, None
        if client is not None:
            if self._pending and not client.ctx.response_future.done():
                client.ctx.response_future.set_exception(ConnectionException("the link was closed"))
            client.close()

    def _break(self) -> None:
        """Close, and on a serial line keep silent until a late reply can no longer be taken for the next one's."""
        self.close()
        if self.path is not None:
            self._silent_until = asyncio.get_running_loop().time() + _TURNAROUND + 11.0 * _LONGEST_FRAME / self.address.baud

    async def read(self, unit: int, table: Table, address: int, count: int, within: float) -> ModbusPDU:
        """Read registers or bits; raise `LinkDown`, `DeviceSaidNo` or `BadReply`. `within` is in [s]."""
        reply = await self._request(_READ[table](address=address, count=count, dev_id=unit), within)
        if table in ("coil", "discrete"):
            found, expected = len(reply.bits), (count + 7) // 8 * 8
        else:
            found, expected = len(reply.registers), count
        if found != expected:
            self._break()
            raise BadReply(f"asked for {count} of {table} {address}, got {found}")
        return reply

    async def write_coil(self, unit: int, address: int, value: bool, within: float) -> None:
        """Write one coil and check the echo; raise as `read` does."""
        reply = await self._request(WriteSingleCoilRequest(address=address, bits=[value], dev_id=unit), within)
        self._check_echo(address, (reply.address, list(reply.bits)), (address, [value]))

    async def write_registers(self, unit: int, address: int, words: Sequence[int], within: float) -> None:
        """Write holding registers in one request, whole values only, and check the echo; raise as `read` does."""
        if len(words) == 1:
            reply = await self._request(WriteSingleRegisterRequest(address=address, registers=list(words), dev_id=unit), within)
            self._check_echo(address, (reply.address, list(reply.registers)), (address, list(words)))
            return
        reply = await self._request(WriteMultipleRegistersRequest(address=address, registers=list(words), dev_id=unit), within)
        self._check_echo(address, (reply.address, reply.count), (address, len(words)))

    def _check_echo(self, address: int, found: object, expected: object) -> None:
        if found != expected:
            self._break()
            raise BadReply(f"the echo of a write to {address} is {found}, expected {expected}")

    async def _request(self, request: ModbusPDU, within: float) -> ModbusPDU:
        client = self._client
        if client is None or not client.connected:
            raise LinkDown("connect", f"no connection to {self.where}", sent=False)
        client.ctx.comm_params.timeout_connect = max(within, 0.01)
        self._pending = True
        cancellation = _Cancellation()
        try:
            reply: ModbusPDU = await client.execute(False, request)
            cancellation.check()
        except asyncio.CancelledError:
            self._break()
            raise
        except ConnectionException as error:
            self._break()
            raise LinkDown("drop", f"the connection to {self.where} dropped: {error.string}", sent=True) from error
        except (ModbusException, OSError) as error:
            self._break()
            raise LinkDown("timeout", f"unit {request.dev_id} at {self.where} does not answer within {within:.2f} s", sent=True) from error
        finally:
            self._pending = False
        expected = request.transaction_id  # 0 on a serial line
        if (reply.dev_id, reply.transaction_id) != (request.dev_id, expected) or reply.function_code & 0x7F != request.function_code:
            self._break()
            raise BadReply(f"function {request.function_code} to unit {request.dev_id} got function {reply.function_code} of unit {reply.dev_id}")
        if reply.isError():
            raise DeviceSaidNo(reply.exception_code)
        return reply


class _Cancellation:
    """Whether the task was asked to end while it waited: ``asyncio.wait_for`` of Python 3.11 loses that when a reply comes with it."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._before = self._asked()

    def _asked(self) -> int:
        return self._task.cancelling() if self._task is not None else 0

    def check(self) -> None:
        """Raise the `CancelledError` that was lost."""
        if self._asked() > self._before:
            raise asyncio.CancelledError


_lines: dict[tuple[asyncio.AbstractEventLoop, Path], Line] = {}


def share_line(address: Address, data: Path) -> Line:
    """Return the line to a device, shared with the other devices on the same serial port; `release_line` gives it back."""
    if address.scheme == "modbus-tcp":
        line = Line(address, None)
        line.users = 1
        return line
    path = data / address.path
    key = (asyncio.get_running_loop(), path)
    line = _lines.setdefault(key, Line(address, path))
    if line.address.baud != address.baud:
        raise ValueError(f"{path} is used at {line.address.baud} baud already, not {address.baud}; devices on one line share its speed")
    line.users += 1
    return line


def release_line(line: Line) -> None:
    """Give a line back; the last user closes it."""
    line.users -= 1
    if line.users == 0:
        line.close()
        if line.path is not None:
            del _lines[(asyncio.get_running_loop(), line.path)]
