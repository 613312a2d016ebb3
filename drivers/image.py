"""The process image: what is known of the plant now, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from drivers.tags import FloatArray, IndexArray, Quality, QualityArray, TagTable, TimeArray

__all__ = ["Freshness", "ImagePart", "ProcessImage", "Snapshot", "dense"]

NEVER = -np.inf
_BAD, _UNCERTAIN = np.uint8(Quality.BAD), np.uint8(Quality.UNCERTAIN)  # an enum's attribute costs more than the comparison


def dense(places: IndexArray) -> IndexArray | slice:
    """Return places that follow each other as a slice, which numpy reads without copying; others as they are."""
    first = int(places[0]) if len(places) else 0
    return slice(first, first + len(places)) if np.array_equal(places, np.arange(first, first + len(places))) else places


@dataclass(frozen=True, slots=True)
class Freshness:
    """When an age lowers quality, in monotonic seconds; both shape (n,) or scalar."""

    uncertain_after: FloatArray | float
    bad_after: FloatArray | float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The image as one scan sees it; arrays are shape (n,), tag order, and never change afterwards.

    A BAD value is NaN: a comparison with it is false, so a permit on it is not given.
    """

    value: FloatArray
    quality: QualityArray
    source_time: TimeArray
    receive_time: TimeArray
    lost: Mapping[str, str] = field(default_factory=dict)  # devices that do not answer, and their drivers' reasons; never changed


@dataclass(frozen=True, slots=True)
class ImagePart:
    """The places of one device in the image, and the ranges [eu] there; all shape (k,)."""

    places: IndexArray | slice
    low: FloatArray
    high: FloatArray


class ProcessImage:
    """Struct of arrays over a `TagTable`: value [eu], quality, source and receive time [ns, plant clock], and age.

    Only drivers' pollers write to it; the scan takes a `Snapshot`. Ages count on the monotonic clock, since neither the
    plant clock of an accelerated simulation nor a stepped wall clock says how long a wire has been silent.
    """

    def __init__(self, tags: TagTable, freshness: Freshness) -> None:
        n = len(tags)
        self.tags = tags
        self.freshness = freshness
        self.value: FloatArray = np.full(n, np.nan)
        self.quality: QualityArray = np.full(n, Quality.BAD, dtype=np.uint8)
        self.source_time: TimeArray = np.zeros(n, dtype=np.int64)
        self.receive_time: TimeArray = np.zeros(n, dtype=np.int64)
        self.received: FloatArray = np.full(n, NEVER)  # [s] monotonic
        self.lost: Mapping[str, str] = {}

    def part(self, places: IndexArray) -> ImagePart:
        """Return some places of the image as one part, to be updated together."""
        return ImagePart(dense(places), self.tags.low[places], self.tags.high[places])

    def update(
        self,
        part: ImagePart,
        value: FloatArray,
        quality: QualityArray,
        source_time: TimeArray | int,
        receive_time: TimeArray | int,
        monotonic: FloatArray | float,
    ) -> None:
        """Take the reading of one device; `value` [eu of each] and `quality` are shape (k,), in the order of its part, and so are times that differ.

        A value outside its tag's range is BAD, and so is one that is not finite: a sensor cannot measure outside its range.
        """
        places = part.places
        inside = (value >= part.low) & (value <= part.high)  # false for NaN
        self.value[places] = value
        self.quality[places] = quality if np.count_nonzero(inside) == len(inside) else np.where(inside, quality, _BAD)
        self.source_time[places] = source_time
        self.receive_time[places] = receive_time
        self.received[places] = monotonic

    def lose(self, device: str, why: str) -> None:
        """Note why a device does not answer; with an empty reason, that it does."""
        others = {name: told for name, told in self.lost.items() if name != device}
        self.lost = {**others, device: why} if why else others  # a new one: snapshots keep the old

    def snapshot(self, monotonic: float) -> Snapshot:
        """Return the image as of `monotonic` [s]: age lowers quality, BAD becomes NaN."""
        age = monotonic - self.received
        quality = self.quality.copy()
        np.maximum(quality, _UNCERTAIN, out=quality, where=age > self.freshness.uncertain_after)
        quality[age > self.freshness.bad_after] = _BAD
        value = self.value.copy()
        value[quality == _BAD] = np.nan
        return Snapshot(value, quality, self.source_time.copy(), self.receive_time.copy(), self.lost)
