"""The fault proxy does what it says: else the campaign would test nothing."""

from __future__ import annotations

import asyncio
import os
import struct
import time
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.framing import Mbap, Rtu, Uacp, rtu, service
from tests.faults.proxy import (
    Corrupt,
    Delay,
    Direction,
    Drop,
    Duplicate,
    Late,
    Proxy,
    Reorder,
    Reset,
    SerialRelay,
    Stale,
    Truncate,
    wrong_transaction,
    wrong_unit,
)

pytestmark = pytest.mark.wire


def adu(transaction: int, body: bytes = b"\x01\x03\x02\x00\x2a") -> bytes:
    return struct.pack(">HHH", transaction, 0, len(body)) + body


class Peer:
    """A client of an echo behind the proxy."""

    def __init__(self, proxy: Proxy, got: list[bytes]) -> None:
        self.proxy, self.got = proxy, got
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        self.writers.append(self.writer)

    async def say(self, *messages: bytes) -> None:
        for message in messages:
            self.writer.write(message)
        await self.writer.drain()

    async def hear(self, size: int) -> bytes:
        async with asyncio.timeout(2.0):
            return await self.reader.readexactly(size)

    async def silent(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                raise AssertionError(await self.reader.read(1))


@asynccontextmanager
async def echo() -> AsyncIterator[Peer]:
    got: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                got.append(data)
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Proxy(*server.sockets[0].getsockname(), Mbap) as proxy:
        peer = Peer(proxy, got)
        await peer.connect()
        yield peer
        for writer in peer.writers:
            writer.close()
    await settled()


async def settled() -> None:
    """Wait until nothing runs but this test."""
    async with asyncio.timeout(2.0):
        while asyncio.all_tasks() != {asyncio.current_task()}:
            await asyncio.sleep(0.005)


def run(test: Callable[[Peer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with echo() as peer:
            await test(peer)

    asyncio.run(main())


ONE, TWO, THREE = adu(1), adu(2), adu(3, b"\x01\x04\x04\x01\x02\x03\x04")


def test_without_a_fault_everything_passes_and_is_counted() -> None:
    async def test(peer: Peer) -> None:
        await peer.say(ONE[:3])
        await peer.say(ONE[3:] + TWO)  # pieces are put together, messages taken apart
        assert await peer.hear(len(ONE + TWO)) == ONE + TWO
        assert {direction: count.total() for direction, count in peer.proxy.seen.items()} == {Direction.REQUESTS: 2, Direction.REPLIES: 2}

    run(test)


@pytest.mark.parametrize(
    ("fault", "comes"),
    [
        (lambda: Drop(times=1), TWO + THREE),
        (lambda: Duplicate(times=1), ONE + ONE + TWO + THREE),
        (lambda: Reorder(times=1), TWO + ONE + THREE),
        (lambda: Stale(times=1, match=lambda message: message == TWO), ONE + ONE + THREE),
        (lambda: Truncate(9, times=1), ONE[:9] + TWO + THREE),
        (lambda: Truncate(-1, times=2), ONE[:-1] + TWO[:-1] + THREE),
        (lambda: Corrupt(-1, times=1), ONE[:-1] + b"\xd5" + TWO + THREE),
        (lambda: Corrupt(7, 0x80, times=1), ONE[:7] + b"\x83" + ONE[8:] + TWO + THREE),
        (lambda: wrong_unit(9, times=1), ONE[:6] + b"\x09" + ONE[7:] + TWO + THREE),
        (lambda: wrong_transaction(-1, times=1), b"\x00\x00" + ONE[2:] + TWO + THREE),
        (lambda: Drop(match=lambda message: message[7] == 3), THREE),
        (lambda: Drop(times=0), ONE + TWO + THREE),
    ],
)
def test_a_fault_does_it_to_those_that_it_is_for(fault: Callable[[], Drop], comes: bytes) -> None:
    async def test(peer: Peer) -> None:
        peer.proxy.add(fault())
        await peer.say(ONE, TWO, THREE)
        assert await peer.hear(len(comes)) == comes
        await peer.silent()

    run(test)


def test_a_direction_is_one_and_both_are_two_and_a_lifted_fault_is_over() -> None:
    async def test(peer: Peer) -> None:
        up = peer.proxy.add(Drop(direction=Direction.REQUESTS))
        await peer.say(ONE)
        await peer.silent()
        assert (peer.got, up.done) == ([], 1)
        up.lift()
        down = peer.proxy.add(Drop())
        await peer.say(TWO)
        await peer.silent()
        assert (peer.got, down.done) == ([TWO], 1)
        peer.proxy.clear()
        both = peer.proxy.add(Duplicate(direction=Direction.BOTH))
        await peer.say(THREE)
        assert await peer.hear(4 * len(THREE)) == 4 * THREE
        assert both.done == 3  # the request, and each of two replies

    run(test)


def test_delayed_ones_come_in_order_and_late_ones_when_they_are_released() -> None:
    async def test(peer: Peer) -> None:
        delay = peer.proxy.add(Delay(0.1, times=1))
        begun = time.monotonic()
        await peer.say(ONE, TWO)
        assert await peer.hear(len(ONE + TWO)) == ONE + TWO
        assert time.monotonic() - begun >= 0.1
        delay.lift()
        late = Late(times=1)
        peer.proxy.add(late)
        await peer.say(ONE, TWO)
        assert await peer.hear(len(TWO)) == TWO
        assert late.release() == 1
        assert await peer.hear(len(ONE)) == ONE
        late.left = 1
        await peer.say(ONE)
        await asyncio.wait_for(late.happened.wait(), 2.0)
        peer.writer.close()
        await peer.connect()
        await peer.say(TWO)
        assert await peer.hear(len(TWO)) == TWO
        assert late.release() == 0  # whoever waited for it is gone

    run(test)


def test_reset_is_a_reset_and_a_half_open_connection_tells_nobody() -> None:
    async def test(peer: Peer) -> None:
        peer.proxy.add(Reset(times=1))
        await peer.say(ONE)
        with pytest.raises(ConnectionResetError):
            await peer.hear(1)
        await peer.connect()
        await peer.say(ONE)
        assert await peer.hear(len(ONE)) == ONE
        assert peer.proxy.half_open() == 1
        await peer.say(TWO)
        await peer.silent()
        assert TWO not in peer.got
        await peer.connect()  # new ones work
        await peer.say(THREE)
        assert await peer.hear(len(THREE)) == THREE
        assert len(peer.proxy.connections) == 2

    run(test)


def test_what_is_refused_is_refused_and_comes_back_at_the_same_port() -> None:
    async def test(peer: Peer) -> None:
        port = peer.proxy.port
        await peer.say(ONE)
        await peer.hear(len(ONE))
        await peer.proxy.refuse()
        with pytest.raises(ConnectionResetError):
            await peer.hear(1)
        with pytest.raises(ConnectionRefusedError):
            await peer.connect()
        await peer.proxy.accept()
        await peer.connect()
        assert peer.proxy.port == port
        await peer.say(TWO)
        assert await peer.hear(len(TWO)) == TWO

    run(test)


def test_nobody_behind_it_is_a_reset() -> None:
    async def test(peer: Peer) -> None:
        peer.proxy.target = ("127.0.0.1", 1)
        await peer.connect()
        with pytest.raises(ConnectionResetError):
            await peer.hear(1)

    run(test)


def test_a_relay_on_a_line_does_faults_to_frames_and_can_be_pulled_out(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        loop.add_reader(master, lambda: os.write(master, os.read(master, 4096)))  # an echo
        question, other = rtu(b"\x01\x03\x00\x00\x00\x01"), rtu(b"\x02\x03\x00\x00\x00\x01")
        async with SerialRelay(tmp_path / "a/line", Path(os.ttyname(slave))) as relay:
            file = os.open(relay.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            come = bytearray()
            heard = asyncio.Event()

            def readable() -> None:
                try:
                    data = os.read(file, 4096)
                except OSError:
                    data = b""
                if not data:  # it was pulled out
                    loop.remove_reader(file)
                come.extend(data or b"hung up")
                heard.set()

            async def hear(wanted: bytes) -> None:
                async with asyncio.timeout(2.0):
                    while bytes(come) != wanted:
                        heard.clear()
                        await heard.wait()
                come.clear()

            loop.add_reader(file, readable)
            os.write(file, question[:4])
            await asyncio.sleep(0)
            os.write(file, question[4:])
            await hear(question)
            relay.add(Corrupt(-1, times=1))
            os.write(file, question)
            await hear(question[:-1] + bytes([question[-1] ^ 0xFF]))
            late = relay.add(Late(times=1))
            os.write(file, question)
            await asyncio.wait_for(late.happened.wait(), 2.0)
            os.write(file, other)
            await hear(other)
            assert isinstance(late, Late)
            late.release()
            await hear(question)
            os.write(file, b"no frame at all")
            await hear(b"no frame at all")
            await relay.unplug()
            await hear(b"hung up")
            assert not relay.path.exists()
            os.close(file)
            relay.plug()
            file = os.open(relay.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            loop.add_reader(file, readable)
            os.write(file, other)
            await hear(other)
            loop.remove_reader(file)
            os.close(file)
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)
        await settled()

    asyncio.run(main())


def test_messages_are_found_in_whatever_pieces_they_come() -> None:
    message = b"MSGF" + struct.pack("<IIIII", 40, 7, 1, 5, 3) + b"\x01\x00" + struct.pack("<H", 673) + bytes(12)
    for framing, whole in ((Mbap(), THREE), (Uacp(), message)):
        for cut in range(len(whole) + 1):
            found = framing.feed(whole + whole[:cut]) + framing.feed(whole[cut:])
            assert found == [whole, whole]
            assert framing.flush() == b""
    assert service(message) == 673
    assert service(b"HELF" + message[4:]) == 0
    line = Rtu()
    frame = rtu(b"\x01\x06\x00\x01\x00\x05")
    assert frame.hex() == "010600010005" + "1809"  # by another implementation
    assert line.feed(frame[:5]) == []
    assert line.feed(frame[5:]) == [frame]
    assert line.feed(b"garbage") == []
    assert line.flush() == b"garbage"
