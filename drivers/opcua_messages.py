"""Requests of OPC UA as bytes, and what their replies say (parts 4 and 6). Pure: no asyncio, no sockets, no asyncua.

A request body is what stands behind the request header; node ids come as the bytes that they are on the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import starmap
from typing import Final, NamedTuple

import numpy as np

from drivers.opcua_binary import Malformed, length, skip_diagnostic, skip_diagnostics, skip_extension, skip_node, skip_string, walked_length
from drivers.opcua_codec import Columns, Decoder, UInts

__all__ = [
    "DATA_CHANGE",
    "NO_DIAGNOSTICS",
    "PUBLISH",
    "READ",
    "SET_MONITORING_MODE",
    "STATUS_CHANGE",
    "TRANSLATE",
    "WRITE",
    "Publication",
    "Reply",
    "ServiceFault",
    "property_body",
    "property_reply",
    "publish_body",
    "publish_reply",
    "read_body",
    "read_item",
    "read_reply",
    "reply",
    "request_header",
    "set_reporting_body",
    "status_reply",
    "write_body",
    "write_item",
]

# numeric node ids of encodings, namespace 0
READ: Final = 631
WRITE: Final = 673
PUBLISH: Final = 826
SET_MONITORING_MODE: Final = 769
TRANSLATE: Final = 554
_REPLIES: Final = {READ: 634, WRITE: 676, PUBLISH: 829, SET_MONITORING_MODE: 772, TRANSLATE: 557}
_FAULT: Final = 397
DATA_CHANGE: Final = 811
STATUS_CHANGE: Final = 820
_VALUE: Final = 13  # attribute
_BOTH: Final = 2  # source and server timestamps
_1601: Final = 116_444_736_000_000_000  # [100 ns] from 1601 to 1970
_HEADER: Final = struct.Struct("<qIIB")
_USUAL: Final = struct.Struct("<HHqII8s")  # a reply's type, as most servers write it, and header
_NOTHING_MORE: Final = (b"\0\0\0\0\0\0\0\0", b"\0\xff\xff\xff\xff\0\0\0")  # in a header, in the two ways to say so
_CHANGES: Final = struct.pack("<HHB", 1, DATA_CHANGE, 1)  # the type of a data change, as most servers write it
NO_DIAGNOSTICS: Final = (b"\0\0\0\0", b"\xff\xff\xff\xff")
# a publication of one data change, as it mostly is: what is before the numbers of messages that can be had again, behind them, and behind the change
_PUBLISHED: Final = struct.Struct("<HHqII8sIi")
_MESSAGE: Final = struct.Struct("<BIqi5si")
_ACCEPTED: Final = tuple(
    codes + none for codes in (*NO_DIAGNOSTICS, *(struct.pack("<i", n) + bytes(4 * n) for n in (1, 2))) for none in NO_DIAGNOSTICS
)
_COUNT: Final = struct.Struct("<i")
_ACKNOWLEDGED: Final = struct.Struct("<II")
_TYPE: Final = struct.Struct("<HH")
_REQUEST: Final = struct.Struct("<qIIiIHB")
_PACK: Final = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d"}  # by type of variant


class ServiceFault(Exception):
    """The server did not do what it was asked for; `code` is a status code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"status code {code:#010x}")
        self.code = code


class Reply(NamedTuple):
    """The header of a reply: what it is, when it was sent on the server's clock [100 ns from 1601; 0: unknown], for which request."""

    kind: int
    time: int
    handle: int
    result: int
    body: int  # offset of what follows


class Publication(NamedTuple):
    """What a server publishes: for which subscription, the message's number, when it was sent [100 ns from 1601], and where its parts are."""

    subscription: int
    more: bool
    number: int
    time: int
    parts: tuple[tuple[int, int, int], ...]  # kind (0: unknown), start and end of each


def request_header(kind: int, token: bytes, handle: int, now: int, timeout: float) -> bytes:
    """Return the type and header of a request sent at `now` [ns since 1970] by the session `token`; 0 s of `timeout` is none."""
    return _TYPE.pack(1, kind) + token + _REQUEST.pack(now // 100 + _1601, handle, 0, -1, round(timeout * 1e3), 0, 0)


def read_item(node: bytes, attribute: int = _VALUE) -> bytes:
    """Return a ReadValueId."""
    return node + struct.pack("<IiHi", attribute, -1, 0, -1)


def read_body(items: Sequence[bytes]) -> bytes:
    """Return a request for some values as they are now, with source and server times; `items` are of `read_item`."""
    return struct.pack("<dIi", 0.0, _BOTH, len(items)) + b"".join(items)


def write_item(node: bytes, kind: int, element: int | None = None) -> tuple[bytes, struct.Struct]:
    """Return the bytes before a value to be written, without status and times, and what packs the value; `element` is of an array."""
    head = node + struct.pack("<I", _VALUE)
    if element is None:
        return head + struct.pack("<iBB", -1, 1, kind), struct.Struct("<" + _PACK[kind])
    where = str(element).encode()
    return head + struct.pack("<i", len(where)) + where + struct.pack("<BBi", 1, kind | 128, 1), struct.Struct("<" + _PACK[kind])


def write_body(items: Sequence[bytes]) -> bytes:
    """Return a request to write; `each of `items` is the head of `write_item` and the packed value behind it."""
    return struct.pack("<i", len(items)) + b"".join(items)


def publish_body(acknowledged: Sequence[tuple[int, int]]) -> bytes:
    """Return a request to be told of changes that acknowledges messages (subscription, number)."""
    return _COUNT.pack(len(acknowledged)) + b"".join(starmap(_ACKNOWLEDGED.pack, acknowledged))


def set_reporting_body(subscription: int, items: Sequence[int]) -> bytes:
    """Return a request that lets monitored items report, as they do already: it tells which of them exist."""
    return struct.pack("<IIi", subscription, 2, len(items)) + np.array(items, dtype="<u4").tobytes()


def property_body(nodes: Sequence[bytes], name: str) -> bytes:
    """Return a request for the property called `name` in namespace 0 of each node."""
    label = name.encode()
    path = struct.pack("<iBBBBHi", 1, 0, 46, 0, 1, 0, len(label)) + label  # one step along HasProperty
    return struct.pack("<i", len(nodes)) + b"".join(node + path for node in nodes)


def property_reply(data: bytes, n: int, handle: int) -> list[bytes]:
    """Return the node id of the property of each node, empty where there is none; raise `ServiceFault` or `Malformed`."""
    found = _expect(data, TRANSLATE, handle)
    got, at = length(data, found.body, 8)
    if got != n:
        raise Malformed(f"asked for {n} paths, got {got}")
    properties = []
    for _ in range(n):
        if at + 4 > len(data):
            raise Malformed("a path without its status")
        good = data[at + 3] >> 6 == 0
        targets, at = walked_length(data, at + 4, 6)
        node = b""
        for _ in range(targets):
            end = skip_node(data, at)
            node, at = node or data[at:end], end + 4
        properties.append(node if good and node and not node[0] & 0xC0 else b"")
    _end(data, at)
    return properties


def reply(data: bytes, start: int = 0) -> Reply:
    """Return the header of a reply, which begins at some byte; raise `Malformed`."""
    if len(data) >= start + _USUAL.size:
        form, kind, time, handle, result, more = _USUAL.unpack_from(data, start)
        if form == 1 and more in _NOTHING_MORE:
            return Reply(kind, time, handle, result, start + _USUAL.size)
    try:
        if data[start] == 1 and data[start + 1] == 0:
            kind, at = data[start + 2] | data[start + 3] << 8, start + 4
        else:
            at = skip_node(data, start)
            if data[start] != 2 or data[start + 1 : start + 3] != b"\0\0":
                raise Malformed("a reply of a kind that is not in the standard")
            (kind,) = struct.unpack_from("<I", data, start + 3)
        time, handle, result, _ = _HEADER.unpack_from(data, at)
    except (struct.error, IndexError):
        raise Malformed(f"a reply of {len(data) - start} bytes") from None
    at += 16
    if data[at : at + 8] in _NOTHING_MORE:
        return Reply(kind, time, handle, result, at + 8)
    at = skip_diagnostic(data, at)
    n, at = walked_length(data, at, 4)
    for _ in range(n):
        at = skip_string(data, at)
    return Reply(kind, time, handle, result, skip_extension(data, at))


def _expect(data: bytes, asked: int, handle: int | None, start: int = 0) -> Reply:
    """Return the header of the reply to a request of kind `asked`; raise `ServiceFault` or `Malformed`."""
    found = reply(data, start)
    if handle is not None and found.handle != handle:
        raise Malformed(f"a reply to request {found.handle}, not to {handle}")
    if found.kind == _FAULT or found.result >> 30 >= 2:
        raise ServiceFault(found.result)
    if found.kind != _REPLIES[asked]:
        raise Malformed(f"a reply of kind {found.kind} to a request of kind {asked}")
    return found


def _end(data: bytes, at: int) -> None:
    if data[at:] not in NO_DIAGNOSTICS and (end := skip_diagnostics(data, at)) != len(data):
        raise Malformed(f"{len(data) - end} bytes behind the end of a reply")


def read_reply(data: bytes, n: int, decoder: Decoder, handle: int | None = None, apart: int = 0) -> tuple[Columns, Columns, Reply]:
    """Return the `n` values of a reply to a read request, the last `apart` by themselves, and its header; raise `ServiceFault` or `Malformed`."""
    found = _expect(data, READ, handle)
    got, at = length(data, found.body)
    if got != n:
        raise Malformed(f"asked for {n} values, got {got}")
    columns = decoder.decode(data, at, n - apart)
    last = decoder.decode(data, columns.end, apart)
    _end(data, last.end)
    return columns, last, found


def status_reply(data: bytes, asked: int, n: int, handle: int | None = None) -> UInts:
    """Return the `n` status codes of a reply to a request of kind `asked`; raise `ServiceFault` or `Malformed`."""
    found = _expect(data, asked, handle)
    got, at = length(data, found.body, 4)
    if got != n:
        raise Malformed(f"asked for {n}, got {got} status codes")
    _end(data, at + 4 * n)
    return np.frombuffer(data, "<u4", n, at)


def publish_reply(data: bytes, start: int = 0) -> Publication:
    """Return what a server publishes, in a reply that begins at some byte; raise `ServiceFault` or `Malformed`."""
    if (usual := _one_change(data, start)) is not None:
        return usual
    at = _expect(data, PUBLISH, None, start).body
    try:
        (subscription,) = struct.unpack_from("<I", data, at)
        n, at = length(data, at + 4, 4)
        more, number, time = struct.unpack_from("<BIq", data, at + 4 * n)
    except struct.error:
        raise Malformed(f"a publication of {len(data) - start} bytes") from None
    n, at = walked_length(data, at + 4 * n + 13)
    parts = []
    for _ in range(n):
        kind, at = _part(data, at)
        size, at = length(data, at)
        parts.append((kind, at, at + size))
        at += size
    n, at = length(data, at, 4)
    _end(data, at + 4 * n)
    return Publication(subscription, bool(more), number, time, tuple(parts))


def _one_change(data: bytes, start: int) -> Publication | None:
    """Return a publication of one data change, with nothing said besides, in four steps; None when it is another."""
    try:
        form, kind, _, _, result, nothing, subscription, available = _PUBLISHED.unpack_from(data, start)
        at = start + _PUBLISHED.size + 4 * max(available, 0)
        more, number, time, parts, type_, size = _MESSAGE.unpack_from(data, at)
    except struct.error:
        return None
    at += _MESSAGE.size
    if size < 0 or data[at + size :] not in _ACCEPTED:
        return None
    if (form, kind, result, parts, type_) != (1, _REPLIES[PUBLISH], 0, 1, _CHANGES) or available < -1 or nothing not in _NOTHING_MORE:
        return None
    return Publication(subscription, bool(more), number, time, ((DATA_CHANGE, at, at + size),))


def _part(data: bytes, at: int) -> tuple[int, int]:
    """Return the kind of an extension object with a binary body, and where its length is."""
    if data[at : at + 5] == _CHANGES:
        return DATA_CHANGE, at + 5
    start, at = at, skip_node(data, at)
    if at >= len(data) or data[at] != 1:
        raise Malformed(f"a notification without its bytes at byte {at}")
    if data[start] == 1 and data[start + 1] == 0:
        return data[start + 2] | data[start + 3] << 8, at + 1
    if data[start] == 2 and data[start + 1 : start + 3] == b"\0\0":
        return int.from_bytes(data[start + 3 : start + 7], "little"), at + 1
    return 0, at + 1
