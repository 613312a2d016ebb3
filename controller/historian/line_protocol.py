"""Frames as InfluxDB line protocol, from columns: orjson writes whole arrays of numbers, one join puts the lines together. Pure.

A line is one new sample of one point::

    leach_tank,batch=demo-0001,cell=demo,tag=TT-201.PV,unit=leach value=64.96,quality=0i 1767225600000000000

Measurement: the class of the point's unit, ``cell`` where it has none. Which samples are lines, and with which time:

- source time changed (receive time, where a device gives none): a line at that time;
- it did not, but value or quality did (a link was lost and age made the value BAD): a line at the time of the frame, so that it does not
  replace the sample that was good when it was taken;
- neither: the very same sample as in the frame before, so no line.

That depends on nothing but a frame and the one before it: the same frames give the same lines however often and in whatever pieces they are
sent, and InfluxDB replaces a line of the same series and time by itself. Line protocol has no NaN: a value that is not finite
leaves out the field ``value`` and sends ``quality`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise, repeat

import numpy as np
import orjson
from numpy.typing import NDArray

from controller.core.frame import Point
from controller.historian.reader import Chunk

__all__ = ["LineEncoder", "escape"]

CELL = "cell"  # measurement of points that belong to no unit
_QUALITY = tuple(b",quality=%di " % code for code in range(256))
_ALONE = tuple(b"%di " % code for code in range(256))


def escape(text: str, special: str = ",= ") -> str:
    r"""Return a tag value (measurement: `special` is comma and space) as line protocol wants it.

    >>> escape("tank 2, left")
    'tank\\ 2\\,\\ left'
    """
    # A backslash at the end would escape what follows, and nothing can escape it; a line break would end the line.
    text = " ".join(text.splitlines()).rstrip("\\")
    return "".join(f"\\{letter}" if letter in special else letter for letter in text)


class LineEncoder:
    """Encodes frames of one list of points.

    Parameters
    ----------
    cell : tag ``cell`` of every line; none if empty
    classes : unit class of each unit; the name of the unit stands in for a class that is not given
    """

    def __init__(self, points: Sequence[Point], *, cell: str = "", classes: Mapping[str, str] | None = None) -> None:
        self.points = tuple(points)
        self._cell = cell
        self._classes = dict(classes or {})
        self._batch: str | None = None
        self._value: list[bytes] = []
        self._alone: list[bytes] = []

    def encode(self, chunk: Chunk, before: Chunk | None = None) -> tuple[bytes, int]:
        """Return the lines of a chunk, and how many they are.

        `before` ends with the frame before the chunk's first one; None if that is the first of its start, whose samples are all new.
        """
        stamp = _stamps(chunk)
        frame = np.rint(chunk.time * 1e9).astype(np.int64)  # [ns]
        value = np.ascontiguousarray(chunk.value)
        bits = value.view(np.int64)  # NaN is not equal to itself, its bits are
        fresh = _changed(stamp, None if before is None else _stamps(before))
        other = _changed(bits, None if before is None else np.ascontiguousarray(before.value).view(np.int64))
        other |= _changed(chunk.quality, None if before is None else before.quality)
        wanted = fresh | other
        time = np.where(fresh & (stamp != 0), stamp, frame)
        at, place = np.nonzero(wanted.T)  # frame by frame
        values, marks, times = value.T[wanted.T], chunk.quality.T[wanted.T], time.T[wanted.T]
        parts = []
        for start, stop, batch in _runs(chunk.batches):
            low, high = np.searchsorted(at, (start, stop))
            if low < high:
                self._turn_to(batch)
                parts.append(self._lines(place[low:high], values[low:high], marks[low:high], times[low:high]))
        return b"".join(parts), at.size

    def _turn_to(self, batch: str) -> None:
        if batch != self._batch:
            heads = [self._head(point, batch) for point in self.points]
            self._value = [head + b" value=" for head in heads]
            self._alone = [head + b" quality=" for head in heads]
            self._batch = batch

    def _head(self, point: Point, batch: str) -> bytes:
        measurement = self._classes.get(point.unit, point.unit) or CELL
        tags = {"batch": batch, "cell": self._cell, "tag": point.name, "unit": point.unit}  # in order: InfluxDB need not sort them
        texts = [escape(measurement, ", "), *(f"{name}={escape(text)}" for name, text in tags.items() if escape(text))]
        return ",".join(texts).encode()

    def _lines(self, place: NDArray[np.intp], value: NDArray[np.float64], quality: NDArray[np.uint8], time: NDArray[np.int64]) -> bytes:
        finite = np.isfinite(value)
        return b"".join(
            chain(
                _join(self._value, place[finite], _numbers(value[finite]), _QUALITY, quality[finite], time[finite]),
                _join(self._alone, place[~finite], repeat(b""), _ALONE, quality[~finite], time[~finite]),
            )
        )


def _stamps(chunk: Chunk) -> NDArray[np.int64]:
    return np.where(chunk.source_time != 0, chunk.source_time, chunk.receive_time)


def _changed(column: NDArray[np.generic], before: NDArray[np.generic] | None) -> NDArray[np.bool_]:
    """Return where a column (n, f) is not what it was one frame earlier; everything is new after nothing."""
    first = np.ones((column.shape[0], 1), dtype=np.bool_) if before is None else column[:, :1] != before[:, -1:]
    return np.concatenate((first, column[:, 1:] != column[:, :-1]), axis=1)


def _runs(texts: Sequence[str]) -> list[tuple[int, int, str]]:
    edges = [0, *(place for place in range(1, len(texts)) if texts[place] != texts[place - 1]), len(texts)]
    return [(start, stop, texts[start]) for start, stop in pairwise(edges) if start < stop]


def _numbers(column: NDArray[np.generic]) -> list[bytes]:
    return orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",") if column.size else []


def _join(
    heads: list[bytes],
    place: NDArray[np.intp],
    values: list[bytes] | repeat[bytes],
    marks: tuple[bytes, ...],
    quality: NDArray[np.uint8],
    time: NDArray[np.int64],
) -> chain[bytes]:
    """Return the pieces of lines: head, value, quality, time, line break."""
    pick, mark = map(heads.__getitem__, place.tolist()), map(marks.__getitem__, quality.tolist())
    return chain.from_iterable(zip(pick, values, mark, _numbers(time), repeat(b"\n"), strict=False))
