"""Tags, their quality, and the I/O list. No protocol."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoolArray", "FloatArray", "IndexArray", "Quality", "QualityArray", "Tag", "TagTable", "TimeArray"]

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
IndexArray: TypeAlias = NDArray[np.intp]
QualityArray: TypeAlias = NDArray[np.uint8]  # values of Quality
TimeArray: TypeAlias = NDArray[np.int64]  # ns since 1970-01-01 UTC on the plant clock


class Quality(IntEnum):
    """How far a value can be trusted. The worst of several is their `max`."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


@dataclass(frozen=True, slots=True)
class Tag:
    """One point of the cell: an ISA-5.1 name, its eu, its range [eu] and what it is.

    A discrete tag has eu ``""`` and range 0 to 1.
    """

    name: str
    eu: str
    low: float
    high: float
    description: str = ""


class TagTable:
    """An ordered list of tags with unique names; the order is that of every array beside it."""

    def __init__(self, tags: Iterable[Tag] = ()) -> None:
        self._tags = tuple(tags)
        self._index = {tag.name: place for place, tag in enumerate(self._tags)}
        if len(self._index) != len(self._tags):
            names = [tag.name for tag in self._tags]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"tag names must be unique; used more than once: {', '.join(twice)}")
        self.low: FloatArray = np.array([tag.low for tag in self._tags], dtype=np.float64)
        self.high: FloatArray = np.array([tag.high for tag in self._tags], dtype=np.float64)

    def __len__(self) -> int:
        return len(self._tags)

    def __getitem__(self, place: int) -> Tag:
        return self._tags[place]

    def __iter__(self) -> Iterator[Tag]:
        return iter(self._tags)

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def place(self, name: str) -> int:
        """Return the index of a tag; raise `KeyError` with the nearest names."""
        try:
            return self._index[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._index, 3)
            raise KeyError(f"no tag {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")) from None

    def places(self, names: Iterable[str]) -> IndexArray:
        """Return the indices of several tags, in the order given; shape (k,)."""
        return np.array([self.place(name) for name in names], dtype=np.intp)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in order."""
        return tuple(self._index)
