"""A proxy between a driver and its device that does to messages what wires, gateways and firmware do: the faults of the campaign.

``async with Proxy(host, port, Mbap) as proxy: fault = proxy.add(Drop(times=1))``. A `SerialRelay` does the same on a pseudo-terminal.
A fault is done to the next `times` messages of its `direction` that `match`, or until `lift`; the first fault that wants a message has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import termios
import tty
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from tests.faults.framing import Framing, Raw, Rtu

__all__ = [
    "Corrupt",
    "Delay",
    "Direction",
    "Drop",
    "Duplicate",
    "Fault",
    "Late",
    "Pipe",
    "Proxy",
    "Reorder",
    "Reset",
    "Rewrite",
    "SerialRelay",
    "Stale",
    "Truncate",
    "wrong_transaction",
    "wrong_unit",
]

_SILENCE = 0.02  # [s] after which the beginning of a message on a line passes as it came


class Direction(Enum):
    """Which messages."""

    REQUESTS = "to the device"
    REPLIES = "to the driver"
    BOTH = "both"


class Fault:
    """What happens to a message. `done` counts how often it did."""

    def __init__(
        self, *, direction: Direction = Direction.REPLIES, times: int | None = None, match: Callable[[bytes], bool] = lambda message: True
    ) -> None:
        self.direction, self.match = direction, match
        self.left = times
        self.done = 0
        self.happened = asyncio.Event()  # set when it has been done for the first time

    def wants(self, message: bytes, direction: Direction) -> bool:
        return self.left != 0 and self.direction in (direction, Direction.BOTH) and self.match(message)

    def lift(self) -> None:
        """End it."""
        self.left = 0

    async def take(self, message: bytes, pipe: Pipe) -> None:
        if self.left is not None:
            self.left -= 1
        self.done += 1
        self.happened.set()
        await self.do(message, pipe)

    async def do(self, message: bytes, pipe: Pipe) -> None:
        """Send into `pipe` what comes out on its other side."""
        raise NotImplementedError


class Drop(Fault):
    """It is swallowed."""

    async def do(self, message: bytes, pipe: Pipe) -> None:
        pass


class Delay(Fault):
    """It and all behind it come `seconds` later."""

    def __init__(self, seconds: float, **about: object) -> None:
        super().__init__(**about)  # type: ignore[arg-type]
        self.seconds = seconds

    async def do(self, message: bytes, pipe: Pipe) -> None:
        await asyncio.sleep(self.seconds)
        pipe.send(message)


class Late(Fault):
    """It is held until `release`; what comes behind it overtakes it."""

    def __init__(self, **about: object) -> None:
        super().__init__(**about)  # type: ignore[arg-type]
        self.held: list[tuple[bytes, Pipe]] = []

    async def do(self, message: bytes, pipe: Pipe) -> None:
        self.held.append((message, pipe))

    def release(self) -> int:
        """Let what was held come now; return how many were still wanted by somebody."""
        held, self.held = self.held, []
        return sum(pipe.send(message) for message, pipe in held)


class Reorder(Fault):
    """It comes behind the next one."""

    async def do(self, message: bytes, pipe: Pipe) -> None:
        pipe.behind.append(message)


class Duplicate(Fault):
    """It comes twice."""

    async def do(self, message: bytes, pipe: Pipe) -> None:
        pipe.send(message)
        pipe.send(message)


class Stale(Fault):
    """The one before it comes again in its place."""

    async def do(self, message: bytes, pipe: Pipe) -> None:
        pipe.send(pipe.last or message)


class Reset(Fault):
    """The connection is reset in its place (RST)."""

    async def do(self, message: bytes, pipe: Pipe) -> None:
        pipe.connection.reset()


class Rewrite(Fault):
    """It comes as `how` makes it."""

    def __init__(self, how: Callable[[bytes], bytes], **about: object) -> None:
        super().__init__(**about)  # type: ignore[arg-type]
        self.how = how

    async def do(self, message: bytes, pipe: Pipe) -> None:
        pipe.send(self.how(message))


class Truncate(Rewrite):
    """Only its first `size` bytes come; negative: all but the last."""

    def __init__(self, size: int, **about: object) -> None:
        super().__init__(lambda message: message[:size], **about)


class Corrupt(Rewrite):
    """The byte at `at` has its bits flipped by `mask`."""

    def __init__(self, at: int, mask: int = 0xFF, **about: object) -> None:
        def flip(message: bytes) -> bytes:
            spoiled = bytearray(message)
            spoiled[at] ^= mask
            return bytes(spoiled)

        super().__init__(flip, **about)


def wrong_unit(unit: int, **about: object) -> Rewrite:
    """A reply on Modbus TCP that says it is of another unit."""
    return Rewrite(lambda message: message[:6] + bytes([unit]) + message[7:], **about)


def wrong_transaction(by: int, **about: object) -> Rewrite:
    """A reply on Modbus TCP to another transaction, `by` away from its own."""

    def shift(message: bytes) -> bytes:
        return struct.pack(">H", (int.from_bytes(message[:2], "big") + by) & 0xFFFF) + message[2:]

    return Rewrite(shift, **about)


class End(ABC):
    """One end of a connection through the proxy."""

    @abstractmethod
    async def read(self) -> bytes:
        """Return what has come, b"" at the end."""

    @abstractmethod
    def write(self, data: bytes) -> bool:
        """Send; return whether there is still somebody."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def reset(self) -> None: ...


class _Tcp(End):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(65536)
        except OSError:
            return b""

    def write(self, data: bytes) -> bool:
        if self._writer.is_closing():
            return False
        self._writer.write(data)
        return True

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        found = self._writer.get_extra_info("socket")
        if found is not None and not self._writer.is_closing():
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close at once, with RST
        self._writer.transport.abort()


class Pipe:
    """One direction of one connection."""

    def __init__(self, connection: Connection, direction: Direction, source: End, target: End, framing: Framing) -> None:
        self.connection, self.direction = connection, direction
        self.source, self.target, self.framing = source, target, framing
        self.behind: list[bytes] = []  # messages that come after the next
        self.last = b""  # the message that came before

    def send(self, message: bytes) -> bool:
        """Let `message` out; return whether there is still somebody."""
        return not self.connection.dead and self.target.write(message)

    async def run(self) -> None:
        while True:
            quiet = _SILENCE if self.framing.rest and isinstance(self.framing, Rtu) else None
            try:
                data = await asyncio.wait_for(self.source.read(), quiet) if quiet else await self.source.read()
            except TimeoutError:
                self.send(self.framing.flush())
                continue
            if not data:
                return
            for message in self.framing.feed(data):
                await self._pass(message)

    async def _pass(self, message: bytes) -> None:
        if self.connection.dead:
            return
        proxy = self.connection.proxy
        proxy.count(message, self.direction)
        behind, self.behind = self.behind, []
        fault = next((fault for fault in proxy.faults if fault.wants(message, self.direction)), None)
        if fault is None:
            self.send(message)
        else:
            await fault.take(message, self)
        for held in behind:
            self.send(held)
        self.last = message


class Connection:
    """A driver's end and a device's end."""

    def __init__(self, proxy: _Relay, driver: End, device: End) -> None:
        self.proxy, self.driver, self.device = proxy, driver, device
        self.dead = False  # half-open: both ends are held and nothing passes
        self._pipes = (
            Pipe(self, Direction.REQUESTS, driver, device, proxy.framing()),
            Pipe(self, Direction.REPLIES, device, driver, proxy.framing()),
        )

    async def run(self) -> None:
        """Carry messages until either end closes."""
        pipes = [asyncio.create_task(pipe.run()) for pipe in self._pipes]
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            if self.dead:  # neither end hears that the other has closed
                await pipes[0]
        finally:
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)
            self.driver.close()
            self.device.close()

    def reset(self) -> None:
        """Cut both ends at once."""
        self.driver.reset()
        self.device.reset()


class _Relay:
    """What a proxy on TCP and one on a line have in common."""

    def __init__(self, framing: type[Framing], key: Callable[[bytes], object] | None) -> None:
        self.framing = framing
        self.faults: list[Fault] = []
        self.connections: set[Connection] = set()
        self.seen: dict[Direction, Counter[object]] = {Direction.REQUESTS: Counter(), Direction.REPLIES: Counter()}
        self._key = key or (lambda message: "message")

    def add(self, fault: Fault) -> Fault:
        """Begin a fault; return it, to be lifted."""
        self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """End all faults."""
        for fault in self.faults:
            fault.lift()
        self.faults.clear()

    def count(self, message: bytes, direction: Direction) -> None:
        self.seen[direction][self._key(message)] += 1

    def reset(self) -> int:
        """Reset all connections (RST at both ends); return how many."""
        for connection in (found := list(self.connections)):
            connection.reset()
        return len(found)

    def half_open(self) -> int:
        """Let nothing pass on the connections of now, and tell neither end; new ones are as usual. Return how many."""
        for connection in (found := list(self.connections)):
            connection.dead = True
        return len(found)

    def inject(self, data: bytes) -> None:
        """Send `data` to the driver on every connection, out of the blue."""
        for connection in self.connections:
            connection.driver.write(data)


class Proxy(_Relay):
    """A proxy on TCP, at 127.0.0.1 and `port`; behind it is `target`, which may be changed for connections to come.

    `key` tells what a message is, for the counters in `seen`.
    """

    def __init__(self, host: str, port: int, framing: type[Framing] = Raw, key: Callable[[bytes], object] | None = None) -> None:
        super().__init__(framing, key)
        self.target = (host, port)
        self.port = 0
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        await self.accept()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.refuse()

    async def accept(self) -> None:
        """Take connections, again at the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse connections, and reset those of now: what a killed process does."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        driver = _Tcp(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            try:
                device = _Tcp(*await asyncio.open_connection(*self.target))
            except OSError:
                driver.reset()
                return
            connection = Connection(self, driver, device)
            self.connections.add(connection)
            try:
                await connection.run()
            finally:
                self.connections.discard(connection)
        except asyncio.CancelledError:
            driver.reset()  # asked for by `refuse`; a server of streams logs a task that ends so
        finally:
            self._tasks.discard(task)


class _Tty(End):
    """The far end of a serial line: whoever opens the pseudo-terminal is on the other."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._come: asyncio.Queue[bytes] = asyncio.Queue()
        os.set_blocking(file, False)
        asyncio.get_running_loop().add_reader(file, self._readable)
        self._open = True

    def _readable(self) -> None:
        try:
            data = os.read(self._file, 4096)
        except BlockingIOError:
            return
        except OSError:  # hung up
            data = b""
            asyncio.get_running_loop().remove_reader(self._file)
        self._come.put_nowait(data)

    async def read(self) -> bytes:
        return await self._come.get()

    def write(self, data: bytes) -> bool:
        if self._open:
            with contextlib.suppress(BlockingIOError):
                os.write(self._file, data)
        return self._open

    def close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._file)
            os.close(self._file)

    reset = close


class SerialRelay(_Relay):
    """A relay between the line at `path`, which it makes, and the device's own at `device`."""

    def __init__(self, path: Path, device: Path, framing: type[Framing] = Rtu, key: Callable[[bytes], object] | None = None) -> None:
        super().__init__(framing, key)
        self.path, self.device = path, device
        self._task: asyncio.Task[None] | None = None
        self._slave = -1

    async def __aenter__(self) -> SerialRelay:
        self.plug()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.unplug()

    def plug(self) -> None:
        """Put the adapter in."""
        device = os.open(self.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(device, termios.TCSANOW)
        master, self._slave = os.openpty()
        tty.setraw(self._slave)  # held open, so that the line lives while nobody uses it
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))
        connection = Connection(self, _Tty(master), _Tty(device))
        self.connections.add(connection)
        self._task = asyncio.create_task(connection.run(), name=f"relay {self.path}")

    async def unplug(self) -> None:
        """Pull the adapter out: whoever has it open gets a hang-up, and its file is gone."""
        task, self._task = self._task, None
        if task is None:
            return
        self.path.unlink()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.connections.clear()
        os.close(self._slave)
