"""Where values of the OPC UA binary encoding end (part 6, 5.2), without making objects of them. Pure: no asyncio, no sockets.

Every length is checked against the message, so that what a peer sends cannot make anyone allocate or loop for more than it sent.
`data` is a whole message, `at` an offset in it; each function returns the offset behind what it skipped and raises `Malformed`.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = [
    "FIXED",
    "Malformed",
    "length",
    "skip_data_value",
    "skip_diagnostic",
    "skip_diagnostics",
    "skip_extension",
    "skip_node",
    "skip_string",
    "skip_value",
    "skip_variant",
    "value_end",
    "walked_length",
]

# bytes of the built-in types that have a fixed size; all others bring their length
FIXED: Final = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8, 13: 8, 14: 16, 19: 4}
_STRINGS: Final = (12, 15, 16)
_DEEPEST: Final = 16  # variants in variants; nothing real is that deep
_LONGEST: Final = 50_000  # elements that are walked one by one, which takes some 40 ms; numbers are not
_TAIL: Final = ((2, 4), (4, 8), (16, 2), (8, 8), (32, 2))  # status, source time and its picoseconds, server time and its own: bit, bytes
_TAILS: Final = tuple(sum(size for bit, size in _TAIL if mask & bit) for mask in range(64))
_INT: Final = struct.Struct("<i")


class Malformed(ValueError):
    """A message that is not what the standard says."""


def length(data: bytes, at: int, least: int = 1) -> tuple[int, int]:
    """Return a length (0 for a null) and the offset behind it; each of what follows takes at least `least` bytes."""
    if at + 4 > len(data):
        raise Malformed(f"ends inside a length at byte {at} of {len(data)}")
    (n,) = _INT.unpack_from(data, at)
    if n < -1 or n * least > len(data) - at - 4:
        raise Malformed(f"length {n} at byte {at} of {len(data)}")
    return (n if n > 0 else 0), at + 4


def walked_length(data: bytes, at: int, least: int = 1) -> tuple[int, int]:
    """Return a `length` of what is walked one by one; the loop must not stand still for it."""
    n, end = length(data, at, least)
    if n > _LONGEST:
        raise Malformed(f"{n} elements at byte {at}; at most {_LONGEST} that are no numbers are looked at")
    return n, end


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise Malformed(f"ends at byte {len(data)}")
    return data[at]


def _past(data: bytes, at: int) -> int:
    if at > len(data):
        raise Malformed(f"ends at byte {len(data)}, {at - len(data)} too early")
    return at


def skip_string(data: bytes, at: int) -> int:
    """Skip a String, ByteString or XmlElement."""
    n, at = length(data, at)
    return at + n


def skip_node(data: bytes, at: int) -> int:
    """Skip a NodeId or ExpandedNodeId."""
    first = _byte(data, at)
    form = first & 0x3F
    if form in (3, 5):
        at = skip_string(data, at + 3)
    elif form in (0, 1, 2, 4):
        at = _past(data, at + (2, 4, 7, 0, 19)[form])
    else:
        raise Malformed(f"node id of form {form} at byte {at}")
    if first & 0x80:
        at = skip_string(data, at)
    return _past(data, at + 4) if first & 0x40 else at


def skip_extension(data: bytes, at: int) -> int:
    """Skip an ExtensionObject, whatever is in it."""
    at = skip_node(data, at)
    form = _byte(data, at)
    if form not in (0, 1, 2):
        raise Malformed(f"extension object of form {form} at byte {at}")
    return skip_string(data, at + 1) if form else at + 1


def _skip_localized(data: bytes, at: int) -> int:
    mask = _byte(data, at)
    at += 1
    for bit in (1, 2):
        if mask & bit:
            at = skip_string(data, at)
    return at


def skip_diagnostic(data: bytes, at: int, depth: int = 0) -> int:
    """Skip a DiagnosticInfo."""
    mask = _byte(data, at)
    at = _past(data, at + 1 + 4 * (mask & 15).bit_count())
    if mask & 16:
        at = skip_string(data, at)
    if mask & 32:
        at = _past(data, at + 4)
    return skip_diagnostic(data, at, _deeper(depth, at)) if mask & 64 else at


def skip_diagnostics(data: bytes, at: int) -> int:
    """Skip an array of DiagnosticInfo."""
    n, at = walked_length(data, at)
    for _ in range(n):
        at = skip_diagnostic(data, at)
    return at


def _deeper(depth: int, at: int) -> int:
    if depth >= _DEEPEST:
        raise Malformed(f"more than {_DEEPEST} values inside each other at byte {at}")
    return depth + 1


def skip_value(data: bytes, at: int, kind: int, depth: int = 0) -> int:
    """Skip a value of a built-in type, without what a Variant has before it."""
    if kind in _STRINGS or kind > 25:
        return skip_string(data, at)
    if kind == 0:
        return at
    if kind in (17, 18):
        return skip_node(data, at)
    if kind == 20:
        return skip_string(data, _past(data, at + 2))
    if kind == 21:
        return _skip_localized(data, at)
    if kind == 22:
        return skip_extension(data, at)
    if kind == 23:
        return skip_data_value(data, at, _deeper(depth, at))
    if kind == 24:
        return skip_variant(data, at, _deeper(depth, at))
    if kind == 25:
        return skip_diagnostic(data, at, _deeper(depth, at))
    return _past(data, at + FIXED[kind])


def skip_variant(data: bytes, at: int, depth: int = 0) -> int:
    """Skip a Variant: a scalar, an array or a matrix."""
    first = _byte(data, at)
    kind = first & 0x3F
    at += 1
    if not first & 0x80:
        if first & 0x40:
            raise Malformed(f"dimensions of a scalar at byte {at}")
        return skip_value(data, at, kind, depth)
    if kind == 0:
        raise Malformed(f"an array of nothing at byte {at}")
    if kind in FIXED:
        n, at = length(data, at, FIXED[kind])
        at += n * FIXED[kind]
    else:
        n, at = walked_length(data, at)
        for _ in range(n):
            at = skip_value(data, at, kind, depth)
    if not first & 0x40:
        return at
    ranks, at = length(data, at, 4)
    sizes = struct.unpack_from(f"<{ranks}i", data, at)
    product = 1 if ranks else n
    for size in sizes:
        product *= max(size, 0)
    if product != n:
        raise Malformed(f"dimensions {sizes} of {n} values at byte {at}")
    return at + 4 * ranks


def value_end(data: bytes, at: int, depth: int = 0) -> int:
    """Return where the value of the DataValue at `at` ends and its status and times begin."""
    mask = _byte(data, at)
    if mask > 63:
        raise Malformed(f"DataValue with mask {mask:#x} at byte {at}")
    return skip_variant(data, at + 1, depth) if mask & 1 else at + 1


def skip_data_value(data: bytes, at: int, depth: int = 0) -> int:
    """Skip a DataValue."""
    end = value_end(data, at, depth)
    return _past(data, end + _TAILS[data[at]])
