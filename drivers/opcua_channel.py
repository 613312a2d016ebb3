"""Requests as bytes through asyncua's secure channel, above its signing and encryption. The only file that knows private names of asyncua.

`tests/unit/test_opcua_channel.py` fails when a name has moved; the version of asyncua is pinned for that reason.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClient, UASocketProtocol
from asyncua.common.connection import SecureConnection
from asyncua.common.utils import Buffer
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.ua.ua_binary import nodeid_to_binary, struct_from_binary, uatcp_to_binary

from drivers import opcua_messages as messages

__all__ = ["Channel", "bound_frames", "calm"]

_CHUNK: Final = 2**16  # [B] the largest chunk that we take
_LEAST: Final = 8192  # [B] that each side takes at once (part 6, 7.1.2.3)
_HEADER: Final = struct.Struct("<4sIIIII")  # of a message in one chunk: type, size, channel, token, number, request (part 6, 6.7.2)
_NONE_ACKNOWLEDGED: Final = messages.publish_body([])
_MESSAGE: Final = 16 * 2**20  # [B] the largest message: 10,000 values are 0.3 MB
_AROUND: Final = 1024  # [B] that a chunk has at most besides what it brings: its headers, padding and signature
_UNBOUNDED: Final = 2**32
_AGELESS: Final = datetime(9000, 1, 1, tzinfo=UTC)


class Channel:
    """The secure channel and session of a connected client. Everything fails with `ConnectionError` once it is closed."""

    def __init__(self, client: Client) -> None:
        protocol = client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("connection lost")
        self._protocol: UASocketProtocol = protocol
        self._session = client.uaclient.session
        self._token = nodeid_to_binary(protocol.authentication_token)
        self._loop = asyncio.get_running_loop()
        self._asked: dict[int, tuple[float, asyncio.Future[Any]]] = {}  # by handle: until when [s, the loop's time], and the reply
        self._watch: asyncio.TimerHandle | None = None

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._protocol.transport is None or self._protocol.is_closed

    @property
    def largest(self) -> int:
        """The largest request [B] that the server takes."""
        return self._protocol.largest if isinstance(self._protocol, _BoundedProtocol) else _UNBOUNDED

    def send(self, kind: int, body: bytes, timeout: float, taker: Any) -> int:
        """Send a request and return its handle; `taker` is, or stands for, the future of the reply. 0 s of `timeout` is none."""
        transport = self._transport()
        transport.write(self._message(kind, body, timeout, taker))
        return self._protocol._request_handle

    def _transport(self) -> asyncio.Transport:
        protocol = self._protocol
        if protocol.transport is None or protocol.is_closed:
            raise ConnectionError("connection lost")
        return protocol.transport

    def _message(self, kind: int, body: bytes, timeout: float, taker: Any) -> bytes:
        """Return a request as it is to be sent, and expect its reply."""
        protocol = self._protocol
        handle = protocol._request_handle = protocol._request_handle + 1
        request = protocol._request_id = protocol._request_id + 1
        header = messages.request_header(kind, self._token, handle, time.time_ns(), timeout)
        protocol.revolve_security_token()
        message = _frame(protocol._connection, header + body, request)
        protocol._callbackmap[request] = taker
        return message

    async def ask(self, kind: int, body: bytes, timeout: float) -> tuple[bytes, int]:  # noqa: ASYNC109  # it goes on the wire as well
        """Return the reply to a request and the request's handle; raise `TimeoutError` or `ConnectionError`."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        handle = self.send(kind, body, timeout, reply)
        until = self._loop.time() + timeout
        self._asked[handle] = until, reply
        if self._watch is None or until < self._watch.when():
            self._watch_until(until)
        try:
            return _bytes(await reply), handle
        finally:
            del self._asked[handle]

    def _watch_until(self, until: float) -> None:
        """Look for replies that are late at `until`: a timer for all of them, since one for each would cost a twentieth of a request."""
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(until, self._expire)

    def _expire(self) -> None:
        self._watch = None
        now = self._loop.time()
        for until, reply in self._asked.values():
            if until <= now and not reply.done():
                reply.set_exception(TimeoutError("no answer"))
        if waiting := [until for until, reply in self._asked.values() if not reply.done()]:
            self._watch_until(min(waiting))

    def publish(
        self, acknowledged: list[tuple[int, int]], times: int, taken: Callable[[bytes, int], None], failed: Callable[[Exception], None]
    ) -> None:
        """Send some publish requests in one piece, the first with acknowledgements.

        For each of them, one of `taken` and `failed` is called once, from the callback of the socket.
        """
        transport = self._transport()
        bodies = [messages.publish_body(acknowledged), *[_NONE_ACKNOWLEDGED] * (times - 1)]
        transport.write(b"".join([self._message(messages.PUBLISH, body, 0.0, _Taker(taken, failed)) for body in bodies]))

    async def create_subscription(self, asked: ua.CreateSubscriptionParameters) -> ua.CreateSubscriptionResult:
        """Create a subscription that asyncua does not know of; raise `UaStatusCodeError`."""
        request = ua.CreateSubscriptionRequest(Parameters=asked)
        answer = struct_from_binary(ua.CreateSubscriptionResponse, await self._session._send_request(request))
        answer.ResponseHeader.ServiceResult.check()
        made: ua.CreateSubscriptionResult = answer.Parameters
        return made

    def own_publishing(self) -> None:
        """Keep asyncua from publishing beside us: each of its requests would take a message of ours."""
        self._session.ensure_publish_loop = lambda: None  # type: ignore[method-assign]

    def release_publishing(self) -> None:
        """Let asyncua publish as it does by itself."""
        vars(self._session).pop("ensure_publish_loop", None)

    def deliver(self, data: bytes, at: int) -> None:
        """Hand a publication to the callback, which is not async, of that subscription of asyncua's own which it is for."""
        found = struct_from_binary(ua.PublishResponse, Buffer(data, at)).Parameters
        callback = self._session._subscription_callbacks.get(found.SubscriptionId)
        if callback is not None:
            callback(found)


class _Taker:
    """Stands where asyncua has the future of a reply, without a task that waits for it."""

    __slots__ = ("_done", "_failed", "_taken")

    def __init__(self, taken: Callable[[bytes, int], None], failed: Callable[[Exception], None]) -> None:
        self._taken, self._failed, self._done = taken, failed, False

    def done(self) -> bool:
        return self._done

    def set_result(self, body: Any) -> None:
        self.take(_bytes(body), 0)

    def take(self, data: bytes, at: int) -> None:
        """Take a reply that begins at some byte of a message: it is large, and not copied."""
        self._done = True
        self._taken(data, at)

    def set_exception(self, error: Exception) -> None:
        self._done = True
        self._failed(error)


class _Connection(SecureConnection):
    """asyncua's end of a secure channel, which would hold the age of a token by the server's clock against our own.

    A clock that is wrong or put forward would end the link at a renewal. The keys of a token end by the monotonic clock, in asyncua's policies.
    """

    def set_channel(self, params: Any, request_type: ua.SecurityTokenRequestType, client_nonce: bytes) -> None:
        params.SecurityToken.CreatedAt = _AGELESS
        super().set_channel(params, request_type, client_nonce)


class _BoundedProtocol(UASocketProtocol):
    """asyncua's protocol, which would collect what a peer announces, however much that is."""

    largest = _UNBOUNDED  # [B] request that the server takes

    async def send_hello(self, url: str, max_messagesize: int = 0, max_chunkcount: int = 0) -> ua.Acknowledge:
        """Say what we take, and send no larger chunk than the server takes: asyncua announces 2 GiB, and takes the server's sizes for ours."""
        if self.transport is None:
            raise ConnectionError("connection lost")
        chunk, message = ua.UInt32(_CHUNK), ua.UInt32(max_messagesize or _MESSAGE)
        hello = ua.Hello(
            ReceiveBufferSize=chunk, SendBufferSize=chunk, MaxMessageSize=message, MaxChunkCount=ua.UInt32(max_chunkcount), EndpointUrl=ua.String(url)
        )
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._callbackmap[0] = answer
        self.transport.write(uatcp_to_binary(ua.MessageType.Hello, hello))  # type: ignore[arg-type]
        async with asyncio.timeout(self.timeout):
            acknowledged: ua.Acknowledge = await answer
        if acknowledged.ReceiveBufferSize < _LEAST:
            raise ConnectionError(f"the server says that it takes {acknowledged.ReceiveBufferSize} bytes at once; the least allowed is {_LEAST}")
        self.largest = acknowledged.MaxMessageSize or _UNBOUNDED
        if acknowledged.MaxChunkCount:
            self.largest = min(self.largest, acknowledged.MaxChunkCount * (min(acknowledged.ReceiveBufferSize, _CHUNK) - _AROUND))
        limits = self._connection._limits
        limits.max_recv_buffer, limits.max_send_buffer = _CHUNK, min(acknowledged.ReceiveBufferSize, _CHUNK)
        limits.max_message_size, limits.max_chunk_count = _MESSAGE, 0  # of what we take; 0: as many as there are
        return acknowledged

    def data_received(self, data: bytes) -> None:
        if not self.receive_buffer and self._take_plain(data):
            return
        super().data_received(data)
        held = self.receive_buffer
        announced = int.from_bytes(held[4:8], "little") if held is not None and len(held) >= 8 else 0
        if announced > _CHUNK or self._connection._incoming_size > _MESSAGE:
            self._fail_all_pending(ConnectionError(f"a message larger than may be: {max(announced, self._connection._incoming_size)} bytes"))
            self.disconnect_socket()

    def _take_plain(self, data: bytes) -> bool:
        """Take what is one whole message without security, with the checks that asyncua makes; False for all else, and for what fails one."""
        connection = self._connection
        size = len(data)
        if not _HEADER.size <= size <= connection._limits.max_recv_buffer or type(connection.security_policy) is not SecurityPolicyNone:
            return False
        *head, number, request = _HEADER.unpack_from(data)
        last, known = connection._peer_sequence_number, connection.security_token
        if head != [b"MSGF", size, known.ChannelId, known.TokenId] or last is None or number != last + 1 or connection._incoming_parts:
            return False
        taker: Any = self._callbackmap.pop(request, None)
        if taker is None:
            return False
        connection._peer_sequence_number = number
        if type(taker) is _Taker:
            taker.take(data, _HEADER.size)
        elif not taker.done():
            taker.set_result(Buffer(data, _HEADER.size))
        return True


def _frame(connection: SecureConnection, body: bytes, request: int) -> bytes:
    """Return a message as asyncua frames it; one without security that fits one chunk is put together at once."""
    size, number = _HEADER.size + len(body), connection._sequence_number + 1
    if type(connection.security_policy) is not SecurityPolicyNone or size > connection._limits.max_send_buffer or number >= 2**32:
        return bytes(connection.message_to_binary(body, request_id=request))
    connection._sequence_number = number
    token = connection.security_token
    return _HEADER.pack(b"MSGF", size, token.ChannelId, token.TokenId, number, request) + body


def calm(client: Client) -> None:
    """Keep asyncua from waking up twice a second to look after subscriptions that it made for others: we ask for none of those."""
    client._stale_check_interval = 1e6  # [s]


def bound_frames(uaclient: UaClient) -> None:
    """Let the connections of a client end when the peer announces more than it may send."""

    def made() -> UASocketProtocol:
        protocol = _BoundedProtocol(uaclient._timeout, security_policy=uaclient.security_policy)
        protocol._connection = _Connection(uaclient.security_policy, protocol._connection._limits)
        protocol.pre_request_hook = uaclient._pre_request_hook
        protocol.on_connection_lost = uaclient._on_transport_lost
        protocol.is_session_closing = uaclient._is_session_closing
        uaclient.protocol = protocol
        return protocol

    uaclient._make_protocol = made  # type: ignore[method-assign]


def _bytes(body: Any) -> bytes:
    """Return what is in asyncua's buffer."""
    data: bytes = body._data
    return data if body._cur_pos == 0 and body._size == len(data) else data[body._cur_pos : body._cur_pos + body._size]
