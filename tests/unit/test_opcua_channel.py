"""The private names of asyncua that `drivers/opcua_channel.py` uses are where it expects them, and used nowhere else."""

import ast
import asyncio
import re
from importlib.metadata import version
from pathlib import Path

import asyncua
import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.utils import Buffer
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.ua.ua_binary import struct_from_binary, uatcp_to_binary

from drivers import opcua_channel

DRIVERS = Path(__file__).parents[2] / "drivers"
CHANNEL = DRIVERS / "opcua_channel.py"
PROTOCOL = {"_request_handle", "_request_id", "_callbackmap", "_connection", "_fail_all_pending"}
CLIENT = {"_timeout", "_pre_request_hook", "_on_transport_lost", "_is_session_closing", "_make_protocol"}
WHOLE = {"_stale_check_interval"}
SESSION = {"_send_request", "_subscription_callbacks"}
CONNECTION = {"_incoming_size", "_incoming_parts", "_peer_sequence_number", "_sequence_number", "_limits"}
BUFFER = {"_data", "_cur_pos", "_size"}


def private_names(path: Path) -> set[str]:
    """Return the private attributes that are taken of anything but `self` and `cls`."""
    tree = ast.parse(path.read_text())
    taken = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr))
    own = {node.attr for node in taken if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))}
    return own - {"_replace"}  # of a named tuple, whose public methods begin so


def test_the_private_names_are_those_that_are_checked_here() -> None:
    assert private_names(CHANNEL) | {"_fail_all_pending"} == PROTOCOL | CLIENT | WHOLE | SESSION | CONNECTION | BUFFER  # that one is called on itself


@pytest.mark.parametrize("path", sorted(set(DRIVERS.glob("opcua*.py")) - {CHANNEL}), ids=lambda path: path.name)
def test_no_other_file_uses_any(path: Path) -> None:
    assert private_names(path) == set()


def test_they_are_where_they_are_expected() -> None:
    assert re.match(r"2\.1\.", version("asyncua")), f"asyncua {version('asyncua')}: look at every name here, then pin it anew"
    client = Client("opc.tcp://127.0.0.1:1")
    assert asyncua.__file__
    assert all(hasattr(client.uaclient, name) for name in CLIENT)
    assert all(hasattr(client, name) for name in WHOLE)
    assert all(hasattr(client.uaclient.session, name) for name in SESSION)
    protocol = UASocketProtocol()
    assert all(hasattr(protocol, name) for name in PROTOCOL)
    assert all(hasattr(protocol._connection, name) for name in CONNECTION)
    assert isinstance(protocol._connection, SecureConnection)
    assert all(hasattr(Buffer(b""), name) for name in BUFFER)
    assert (protocol._request_id, protocol._request_handle, protocol._callbackmap) == (0, 0, {})


def test_a_reply_is_handed_to_whoever_stands_for_its_future() -> None:
    class Stand:
        got: object = None

        def set_result(self, body: object) -> None:
            self.got = body

        def set_exception(self, error: Exception) -> None:
            self.got = error

        def done(self) -> bool:
            return self.got is not None

    protocol, first, second = UASocketProtocol(), Stand(), Stand()
    protocol._callbackmap.update({1: first, 2: second})
    body = Buffer(b"abc", 1)
    protocol._call_callback(1, body)
    assert first.got is body
    assert (body._data, body._cur_pos, body._size) == (b"abc", 1, 2)
    error = ConnectionError("cut")
    protocol._fail_all_pending(error)
    assert second.got is error


def test_a_header_says_how_large_its_chunk_is_in_its_second_word() -> None:
    from asyncua.ua.ua_binary import header_to_binary

    header = ua.Header(ua.MessageType.SecureMessage, ua.ChunkType.Single)
    header.body_size = 100
    assert int.from_bytes(header_to_binary(header)[4:8], "little") in (108, 112)


@pytest.mark.parametrize("size", [1, 100, 65_000, 70_000, 200_000])
def test_a_message_is_framed_as_asyncua_frames_it(size: int) -> None:
    made = []
    for frame in (opcua_channel._frame, lambda connection, body, request: connection.message_to_binary(body, request_id=request)):
        connection = SecureConnection(SecurityPolicyNone(), TransportLimits(65535, 65535, 0, 0))
        connection.security_token.ChannelId, connection.security_token.TokenId = 7, 13
        made.append([frame(connection, b"x" * size, 40 + place) for place in range(3)])
    assert made[0] == made[1]


def replies(sizes: list[int]) -> bytes:
    server = SecureConnection(SecurityPolicyNone(), TransportLimits(65535, 65535, 0, 0))
    server.security_token.ChannelId, server.security_token.TokenId = 7, 13
    return b"".join(server.message_to_binary(bytes([place]) * size, request_id=place) for place, size in enumerate(sizes))


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def wired() -> tuple[UASocketProtocol, Wire]:
    """Return a protocol of ours that is connected, as far as it knows."""
    uaclient = Client("opc.tcp://127.0.0.1:1").uaclient
    opcua_channel.bound_frames(uaclient)
    protocol, wire = uaclient._make_protocol(), Wire()
    protocol.connection_made(wire)  # type: ignore[arg-type]
    return protocol, wire


async def greeted(receives: int, sends: int, *limits: int) -> tuple[UASocketProtocol, Wire, asyncio.Task[ua.Acknowledge]]:
    """Return a protocol that has said hello and got an answer, and the task that has yet to look at that."""
    protocol, wire = wired()
    asked = asyncio.create_task(protocol.send_hello("opc.tcp://127.0.0.1:1"))
    await asyncio.sleep(0)
    protocol.data_received(uatcp_to_binary(ua.MessageType.Acknowledge, ua.Acknowledge(0, receives, sends, *limits)))
    return protocol, wire, asked


def opened(protocol: UASocketProtocol) -> SecureConnection:
    """Open its channel, as far as it knows, to a server whose first message is number 1."""
    connection = protocol._connection
    connection.security_token.ChannelId, connection.security_token.TokenId = 7, 13
    connection._peer_sequence_number = 0
    return connection


@pytest.mark.parametrize("step", [1, 7, 100, 1_000, 66_000, 10**6])
def test_messages_are_taken_alike_however_they_are_cut(step: int) -> None:
    sizes = [10, 100, 70_000, 500, 24] if step > 7 else [10, 100, 24]
    data = replies(sizes)

    async def main() -> None:
        protocol, _ = wired()
        opened(protocol)
        futures = [asyncio.get_running_loop().create_future() for _ in sizes]
        protocol._callbackmap.update(enumerate(futures))
        for begin in range(0, len(data), step):
            protocol.data_received(data[begin : begin + step])
        got = [opcua_channel._bytes(await future) for future in futures]
        assert got == [bytes([place]) * size for place, size in enumerate(sizes)]
        assert protocol._callbackmap == {}

    asyncio.run(main())


@pytest.mark.parametrize("spoil", [8, 12, 16], ids=["channel", "token", "number"])
def test_a_message_that_is_not_of_this_channel_ends_it(spoil: int) -> None:
    data = bytearray(replies([50]))
    data[spoil] ^= 1

    async def main() -> None:
        protocol, wire = wired()
        opened(protocol)
        future = asyncio.get_running_loop().create_future()
        protocol._callbackmap[0] = future
        protocol.data_received(bytes(data))
        assert wire.closed
        assert not future.done()

    asyncio.run(main())


@pytest.mark.parametrize("size", [8_192, 65_536])
def test_the_sizes_that_both_sides_announce_are_kept_to(size: int) -> None:
    """A chunk of just what we said, in pieces, is taken; none larger than the server takes is sent, and one byte more than we take ends it."""

    async def main() -> None:
        # the last two are of what the server takes, as the first is
        protocol, wire, asked = await greeted(size, 65_536, 8_192, 1)
        await asked
        [sent] = wire.written
        hello = struct_from_binary(ua.Hello, Buffer(sent[8:]))
        connection = opened(protocol)
        server = SecureConnection(SecurityPolicyNone(), TransportLimits(hello.ReceiveBufferSize, hello.ReceiveBufferSize, 0, 0))
        server.security_token.ChannelId, server.security_token.TokenId = 7, 13
        body = b"v" * 200_000
        reply = protocol._callbackmap[1] = asyncio.get_running_loop().create_future()
        protocol.data_received(server.message_to_binary(body, request_id=1))
        assert opcua_channel._bytes(await reply) == body
        body = b"x" * (hello.ReceiveBufferSize - 24)
        data = server.message_to_binary(body, request_id=1)
        assert len(data) == hello.ReceiveBufferSize
        reply = protocol._callbackmap[1] = asyncio.get_running_loop().create_future()
        protocol.data_received(data[:40_000])
        protocol.data_received(data[40_000:])
        assert opcua_channel._bytes(await reply) == body
        large = opcua_channel._frame(connection, b"y" * 100_000, 5)
        assert int.from_bytes(large[4:8], "little") == size
        assert not wire.closed
        protocol.data_received(b"MSGF" + (hello.ReceiveBufferSize + 1).to_bytes(4, "little") + b"z" * 40_000)
        assert wire.closed

    asyncio.run(main())


@pytest.mark.parametrize("size", [0, 24, 8_191])
def test_a_server_that_takes_less_than_is_allowed_is_told_of(size: int) -> None:
    async def main() -> None:
        _, _, asked = await greeted(size, 65_536, 0, 0)
        with pytest.raises(ConnectionError, match=f"takes {size} bytes at once; the least allowed is 8192"):
            await asked

    asyncio.run(main())


@pytest.mark.parametrize(
    ("message", "chunks", "largest"),
    [(0, 0, 2**32), (20_000, 0, 20_000), (0, 3, 3 * (10_000 - 1_024)), (50_000, 3, 3 * (10_000 - 1_024)), (20_000, 3, 20_000)],
)
def test_what_a_server_takes_bounds_the_requests(message: int, chunks: int, largest: int) -> None:
    async def main() -> None:
        protocol, _, asked = await greeted(10_000, 65_536, message, chunks)
        await asked
        assert protocol.largest == largest

    asyncio.run(main())


def test_a_connection_that_is_given_up_while_it_is_made_is_given_up() -> None:
    async def main() -> None:
        _, _, asked = await greeted(65_536, 65_536, 0, 0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(main())
