"""The process image: what is known of the plant now, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivers.tags import FloatArray, IndexArray, Quality, QualityArray, TagTable, TimeArray

__all__ = ["Freshness", "ProcessImage", "Snapshot"]

NEVER = -np.inf


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

    def update(
        self,
        places: IndexArray,
        value: FloatArray,
        quality: QualityArray,
        source_time: TimeArray | int,
        receive_time: int,
        monotonic: float,
    ) -> None:
        """Take the reading of one device; `places` (k,) are its tags here, `value` and `quality` are (k,).

        A value outside its tag's range is BAD, and so is one that is not finite: a sensor cannot measure outside its range.
        """
        low, high = self.tags.low[places], self.tags.high[places]
        with np.errstate(invalid="ignore"):
            inside = (value >= low) & (value <= high)  # false for NaN
        self.value[places] = value
        self.quality[places] = np.where(inside, quality, np.uint8(Quality.BAD))
        self.source_time[places] = source_time
        self.receive_time[places] = receive_time
        self.received[places] = monotonic

    def snapshot(self, monotonic: float) -> Snapshot:
        """Return the image as of `monotonic` [s]: age lowers quality, BAD becomes NaN."""
        age = monotonic - self.received
        quality = np.maximum(
            self.quality,
            np.where(age > self.freshness.bad_after, Quality.BAD, np.where(age > self.freshness.uncertain_after, Quality.UNCERTAIN, 0)),
        ).astype(np.uint8)
        value = np.where(quality == Quality.BAD, np.nan, self.value)
        return Snapshot(value, quality, self.source_time.copy(), self.receive_time.copy())
