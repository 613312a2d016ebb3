"""One number of a structure, by the definition that the server gives in each epoch (part 5, 12.2.12 and part 6, 5.2.6). Pure.

asyncua makes classes of definitions that are shared by all connections of a process, under namespace indices that may shift; here each epoch
has its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.opcua_binary import FIXED, Malformed, length, skip_node, skip_value
from drivers.opcua_codec import NUMBERS, number_at

__all__ = ["NodeKey", "Part", "Structure", "find_number", "node_key"]

NodeKey = tuple[int, int | bytes]  # namespace index and identifier, however long it is encoded
_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class Part:
    """A field: of a built-in type, or a structure inside its own."""

    name: str
    kind: int  # of a built-in type; 0 for a structure
    inner: Structure | None = None
    array: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Structure:
    """What a structure is made of, and the id of its binary encoding."""

    encoding: NodeKey
    parts: tuple[Part, ...]

    def find(self, path: Sequence[str]) -> Part | None:
        """Return the field at a path; None when there is none."""
        for part in self.parts:
            if part.name == path[0]:
                return part if len(path) == 1 else part.inner.find(path[1:]) if part.inner is not None else None
        return None


def node_key(data: bytes, at: int) -> tuple[NodeKey, int]:
    """Return a node id, the same for each of its encodings, and where it ends."""
    end = skip_node(data, at)
    form = data[at] & 0x3F
    if form == 0:
        return (0, data[at + 1]), end
    if form == 1:
        return (data[at + 1], int.from_bytes(data[at + 2 : at + 4], "little")), end
    space = int.from_bytes(data[at + 1 : at + 3], "little")
    if form == 2:
        return (space, int.from_bytes(data[at + 3 : at + 7], "little")), end
    return (space, bytes([form]) + data[at + 3 : end]), end


def find_number(data: bytes, start: int, structure: Structure, path: Sequence[str], element: int | None) -> tuple[int, float]:
    """Return the type and the number at `path` of the structure in the DataValue at `start`; 0 and NaN when it is not there.

    `element` is of an array of structures, or of the array that is the field. Raises `Malformed`.
    """
    if not data[start] & 1 or data[start + 1] not in (22, 22 | 0x80):
        return 0, math.nan
    at = start + 2
    if data[start + 1] & 0x80:
        n, at = length(data, at)
        if element is None or element >= n:
            return 0, math.nan
        for _ in range(element):
            at = skip_value(data, at, 22)
        element = None
    key, at = node_key(data, at)
    if key != structure.encoding or data[at] != 1:
        return 0, math.nan
    n, at = length(data, at + 1)
    found, end = _walk(data, at, structure, path, element, 0)
    if end > at + n:
        raise Malformed(f"a structure of {n} bytes that needs {end - at}")
    return found if end == at + n else (0, math.nan)  # it has more parts than were told, and where they are is not known


def _walk(data: bytes, at: int, structure: Structure, path: Sequence[str], element: int | None, depth: int) -> tuple[tuple[int, float], int]:
    """Return the number at `path` (empty: none is looked for) and where the structure ends."""
    if depth > _DEEPEST:
        raise Malformed(f"more than {_DEEPEST} structures inside each other at byte {at}")
    found = (0, math.nan)
    there, optional = 0, 0
    if any(part.optional for part in structure.parts):
        there, at = int.from_bytes(data[at : at + 4], "little"), at + 4
    for part in structure.parts:
        if part.optional:
            optional += 1
            if not there >> (optional - 1) & 1:
                continue
        wanted = bool(path) and part.name == path[0]
        if part.inner is not None:
            n, at = length(data, at) if part.array else (1, at)
            for index in range(n):
                inside = path[1:] if wanted and (not part.array or index == element) else ()
                number, at = _walk(data, at, part.inner, inside, None if part.array else element, depth + 1)
                found = number if inside else found
            continue
        n, at = length(data, at, FIXED.get(part.kind, 1)) if part.array else (1, at)
        for index in range(n):
            if wanted and part.kind in NUMBERS and len(path) == 1 and (index == element if part.array else element is None):
                end = skip_value(data, at, part.kind)
                found = (part.kind, number_at(data, at, part.kind))
                at = end
            else:
                at = skip_value(data, at, part.kind)
    return found, at
