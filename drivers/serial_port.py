"""A serial port that the event loop reads, in lines. Never blocks; an adapter that is pulled out is a loss."""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
from collections import deque
from pathlib import Path
from typing import Final

import serial

from drivers.address import Address
from drivers.dialogue_lines import Lines
from drivers.driver import ErrorKind
from drivers.failures import words_for
from drivers.serial_settings import CANNOT_OPEN, mark_errors, not_taken, refused_by

__all__ = ["PortLost", "SerialPort"]

_WAITING: Final = 64  # lines that may wait; older ones are dropped
_PIECE: Final = 4096  # [bytes]


class PortLost(Exception):
    """Nothing was or will be answered: no port, no answer in time, an adapter that was pulled out."""

    def __init__(self, kind: ErrorKind, why: str) -> None:
        super().__init__(why)
        self.kind = kind


class SerialPort:
    """The port of one instrument, opened for itself alone. Lines come with the time [s, monotonic] at which their ends came."""

    def __init__(self, path: Path, address: Address, lines: Lines) -> None:
        self.path = path
        self._address, self._lines = address, lines
        self._port: serial.Serial | None = None
        self._come: deque[tuple[float, bytes]] = deque(maxlen=_WAITING)
        self._wake = asyncio.Event()
        self._why = ""  # it was lost
        self.heard = 0.0  # [s] when the last byte came

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._port is not None and not self._why

    def open(self) -> bool:
        """Open it unless it is open; return whether it was not. Raise `PortLost`, also once when it has been lost since it was opened."""
        if self.is_open:
            return False
        if self._why:
            raise PortLost("drop", self._why)
        address = self._address
        try:
            port = serial.Serial(
                str(self.path),
                baudrate=address.baud,
                bytesize=address.bits,
                parity=address.parity,
                stopbits=address.stop,
                timeout=0,
                write_timeout=0,
                exclusive=True,
            )
            try:
                why = not_taken(port.fileno(), address)
                mark_errors(port.fileno())
            except termios.error:
                port.close()
                raise
        except CANNOT_OPEN as error:
            hint = "check that the serial port exists and that nobody else has it"
            why = refused_by(error, self.path, address) or f"{words_for(error)}; {hint}"
            raise PortLost("connect", f"cannot open {self.path}: {why}") from error
        if why:
            port.close()
            raise PortLost("connect", f"cannot open {self.path}: {why}")
        self._port, self._why = port, ""
        self._lines.begin()
        asyncio.get_running_loop().add_reader(port.fileno(), self._readable)
        return True

    def close(self) -> None:
        """Close it; what has come is forgotten."""
        port, self._port = self._port, None
        if port is not None:
            if not self._why:
                asyncio.get_running_loop().remove_reader(port.fileno())
            with contextlib.suppress(OSError):  # an adapter that is gone
                port.close()
        self._why = ""
        self._come.clear()

    def _readable(self) -> None:
        assert self._port is not None
        try:
            data = os.read(self._port.fileno(), _PIECE)
            if not data:
                self._port.in_waiting  # noqa: B018  # nothing has come, or it hung up: then this is an EIO
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(words_for(error))
            return
        self.heard = asyncio.get_running_loop().time()
        if lines := self._lines.feed(data):
            self._come.extend((self.heard, line) for line in lines)
            self._wake.set()

    def _lose(self, why: str) -> None:
        assert self._port is not None
        asyncio.get_running_loop().remove_reader(self._port.fileno())
        self._why = f"{self.path} was lost: {why}; check the adapter and its cable"
        self._wake.set()

    def send(self, data: bytes) -> None:
        """Put a command on the line; raise `PortLost` when it does not take it."""
        if self._port is None or self._why:
            raise PortLost("drop", self._why or f"{self.path} is not open")
        sent, why = 0, "its buffer is full"
        try:
            sent = os.write(self._port.fileno(), data)
        except BlockingIOError:
            pass
        except OSError as error:
            why = words_for(error)
        if sent < len(data):
            raise PortLost("drop", f"{self.path} does not take a command: {why}")

    def drain(self) -> bool:
        """Forget what has come, and what the system still holds of it; return whether it held something: then more may be on its way."""
        before = self.heard
        if self.is_open:
            self._readable()
        self._come.clear()
        self._lines.clear()
        return self.heard > before

    def take(self) -> list[tuple[float, bytes]]:
        """Return the lines that have come, oldest first; raise `PortLost`."""
        found = list(self._come)
        self._come.clear()
        if not found and not self.is_open:
            raise PortLost("drop", self._why or f"{self.path} is not open")
        return found

    async def line(self, deadline: float) -> tuple[float, bytes]:
        """Return the next line; raise `TimeoutError` at `deadline` [s, monotonic] and `PortLost`."""
        while not self._come:
            if not self.is_open:
                raise PortLost("drop", self._why or f"{self.path} is not open")
            self._wake.clear()
            async with asyncio.timeout_at(deadline):
                await self._wake.wait()
        return self._come.popleft()
