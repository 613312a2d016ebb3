"""Columns of numbers as bytes and back, without loss: differences along time, bytes of equal weight together, zlib where it pays."""

from __future__ import annotations

import zlib
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "unpack"]

_RAW, _ZLIB = b"r", b"z"
_WORTH = 128  # [bytes] below this a compressor costs more than it saves
_LEVEL = 1  # most of what can be gained, at a third of the time of the default

Number = TypeVar("Number", np.float64, np.int64, np.uint8)


def pack(column: NDArray[Any]) -> bytes:
    """Return float64, int64 or uint8 numbers of shape (t,) or (n, t) as bytes; every bit comes back, that of a NaN too.

    A value that stays is a zero after the difference (of bits for floats, of numbers for times), and zeros cost nothing.
    """
    rows = np.ascontiguousarray(column).reshape(-1, column.shape[-1])
    size = rows.dtype.itemsize
    bits = rows.view(f"u{size}")
    change = bits.copy()
    if rows.dtype.kind == "f":
        change[:, 1:] ^= bits[:, :-1]
    else:
        change[:, 1:] -= bits[:, :-1]  # wraps, and wraps back
    raw = change.view(np.uint8).reshape(-1, size).T.tobytes()
    if len(raw) >= _WORTH and len(small := zlib.compress(raw, _LEVEL)) < 0.9 * len(raw):
        return _ZLIB + small
    return _RAW + raw


def unpack(blob: bytes, kind: type[Number], shape: tuple[int, ...]) -> NDArray[Number]:
    """Return what was packed; raise `ValueError` or `zlib.error` if the bytes cannot be that."""
    raw = zlib.decompress(blob[1:]) if blob[:1] == _ZLIB else blob[1:]
    size = np.dtype(kind).itemsize
    change = np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(size, -1).T).view(f"u{size}").reshape(-1, shape[-1])
    whole = np.bitwise_xor if np.dtype(kind).kind == "f" else np.add
    bits = np.ascontiguousarray(whole.accumulate(change, axis=1, dtype=change.dtype))
    return bits.view(kind).reshape(shape)
