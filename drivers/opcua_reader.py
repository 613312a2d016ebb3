"""Attributes of nodes read in as many requests as the server's limits ask for, and looked at where the arrays of the codec do not say enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import variant_from_binary

from drivers import opcua_messages as messages
from drivers.opcua_binary import value_end
from drivers.opcua_channel import Channel
from drivers.opcua_codec import Columns, Decoder
from drivers.opcua_messages import Reply

__all__ = ["AT_ONCE", "Found", "Reader"]

AT_ONCE: Final = 1024  # values in one request, so that none takes long to decode


class Found(NamedTuple):
    """One reply: the whole message, and its values, of which the last may be apart."""

    data: bytes
    columns: Columns
    last: Columns
    header: Reply

    def good(self, place: int) -> bool:
        """Whether a value is there and is not bad."""
        return bool(self.columns.kind[place] and self.columns.status[place] >> 30 < 2)

    def start(self, place: int) -> int:
        """Return where in the message the content of a value is, behind its type."""
        return int(self.columns.start[place]) + 2

    def value(self, place: int) -> Any:
        """Return a value of any type as asyncua decodes it; None when it is bad or not there."""
        if not self.good(place):
            return None
        start = int(self.columns.start[place])
        return variant_from_binary(Buffer(self.data[start + 1 : value_end(self.data, start)])).Value


class Reader:
    """Reads attributes through a channel; each request may take `timeout` [s]."""

    def __init__(self, channel: Channel, timeout: float) -> None:
        self.channel, self.timeout = channel, timeout
        self.at_once = AT_ONCE
        self.decoder = Decoder()

    def parcels(self, items: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Return requests, made once, for items of `read_item`: the body and how many it reads."""
        groups = [items[begin : begin + self.at_once] for begin in range(0, len(items), self.at_once)]
        return [(messages.read_body(group), len(group)) for group in groups]

    async def one(self, body: bytes, n: int, apart: int = 0) -> Found:
        """Return the `n` values of one request, the last `apart` by themselves."""
        data, handle = await self.channel.ask(messages.READ, body, self.timeout)
        return Found(data, *messages.read_reply(data, n, self.decoder, handle, apart))

    async def values(self, items: Sequence[bytes]) -> list[tuple[Found, int]]:
        """Return, for each of `items`, the reply and the place in it."""
        found: list[tuple[Found, int]] = []
        for body, n in self.parcels(items):
            reply = await self.one(body, n)
            found += ((reply, place) for place in range(n))
        return found
