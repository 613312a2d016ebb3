"""Trends from samples, pure: put the pieces in a row, show what is missing, thin out without losing a spike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controller.historian.ledger import Gap
from drivers.tags import FloatArray, Quality, QualityArray, TimeArray

__all__ = ["History", "Samples", "join", "thin"]

_FIRST, _SECOND, _BAD = 0.25, 0.75, 0.95  # where in its step a column stands


class Samples(NamedTuple):
    """f samples of k points, in the order in which they came."""

    boot: NDArray[np.int64]  # (f,)
    seq: TimeArray  # (f,)
    time: FloatArray  # (f,) [s]
    value: FloatArray  # (k, f)
    quality: QualityArray  # (k, f)


@dataclass(frozen=True, eq=False)
class History(Mapping[str, Any]):
    """What is known of k points over time, NaN and BAD where nothing is; also a mapping of its columns by name."""

    time: FloatArray  # (t,) [s] plant clock, ascending
    value: FloatArray  # (k, t) [eu of each point]
    quality: QualityArray  # (k, t)
    gaps: tuple[Gap, ...] = ()

    def __getitem__(self, name: str) -> Any:
        if name not in ("time", "value", "quality", "gaps"):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(("time", "value", "quality", "gaps"))

    def __len__(self) -> int:
        return 4


def join(parts: Sequence[Samples], k: int, start: float, stop: float, gaps: tuple[Gap, ...] = (), before: Samples | None = None) -> History:
    """Return the samples of `parts` in a span of time [s], in the order of time; a NaN column wherever frames are missing between two.

    `before` holds samples of which the last one before `start` is shown at `start`.
    """
    if parts:
        boot, seq, time = (np.concatenate([part[place] for part in parts]) for place in range(3))
        value, quality = np.concatenate([part.value for part in parts], axis=1), np.concatenate([part.quality for part in parts], axis=1)
    else:
        boot, seq, time, value, quality = _nothing(k)
    broken = np.flatnonzero((np.diff(boot) != 0) | (np.diff(seq) != 1)) + 1
    middle = (time[broken - 1] + time[broken]) / 2.0
    time = np.insert(time, broken, middle)
    value = np.insert(value, broken, np.nan, axis=1)
    quality = np.insert(quality, broken, np.uint8(Quality.BAD), axis=1)
    inside = (time >= start) & (time <= stop)
    time, value, quality = time[inside], value[:, inside], quality[:, inside]
    if before is not None and (earlier := np.flatnonzero(before.time < start)).size and not (time.size and time.min() == start):
        edge = earlier[-1]
        time = np.insert(time, 0, start)
        value = np.insert(value, 0, before.value[:, edge], axis=1)
        quality = np.insert(quality, 0, before.quality[:, edge], axis=1)
    order = np.argsort(time, kind="stable")
    return History(time[order], value[:, order], quality[:, order], gaps)


def _nothing(k: int) -> Samples:
    none = np.zeros(0, dtype=np.int64)
    return Samples(none, none, np.zeros(0), np.zeros((k, 0)), np.zeros((k, 0), dtype=np.uint8))


def thin(history: History, start: float, step: float) -> History:
    """Return two columns for every `step` [s] that has samples: least and greatest value of each point, in the order in which they came.

    A step in which some point has both values and none gets a third column, in which that point is NaN and BAD and the others have
    their last sample. Empty steps get none: what is missing is a NaN column in `history` already. Never returns more columns than samples.
    """
    time, value, quality = history.time, history.value, history.quality
    bucket = np.floor((time - start) / step)
    edge = np.concatenate(([0], np.flatnonzero(np.diff(bucket)) + 1)) if time.size else np.zeros(0, dtype=np.intp)
    if time.size <= 2 * edge.size or value.shape[0] == 0:
        return history
    length = np.diff(np.append(edge, time.size))
    owner = np.repeat(np.arange(edge.size), length)
    known = np.isfinite(value)
    low, high = (pick.reduceat(value, edge, axis=1) for pick in (np.fmin, np.fmax))
    at = np.arange(time.size)
    last = edge + length - 1
    where_low, where_high = (np.minimum.reduceat(np.where(value == extreme[:, owner], at, last[owner]), edge, axis=1) for extreme in (low, high))
    first, second = np.minimum(where_low, where_high), np.maximum(where_low, where_high)
    base = start + bucket[edge] * step
    some = np.logical_or.reduceat(known, edge, axis=1)
    holes = some & ~np.logical_and.reduceat(known, edge, axis=1)
    third = np.flatnonzero(holes.any(axis=0))
    times = np.concatenate((base + _FIRST * step, base + _SECOND * step, base[third] + _BAD * step))
    values = np.concatenate((*(np.take_along_axis(value, place, 1) for place in (first, second)), value[:, last[third]]), axis=1)
    marks = np.concatenate((*(np.take_along_axis(quality, place, 1) for place in (first, second)), quality[:, last[third]]), axis=1)
    values[:, 2 * edge.size :][holes[:, third]] = np.nan
    marks[:, 2 * edge.size :][holes[:, third]] = Quality.BAD
    order = np.argsort(times, kind="stable")
    return History(times[order], values[:, order], marks[:, order], history.gaps)
