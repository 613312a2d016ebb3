"""One number of a structure: where it is by the definition, and that anything else gives none."""

from __future__ import annotations

import math
import struct

import pytest

from drivers.opcua_binary import Malformed
from drivers.opcua_structure import Part, Structure, find_number

DOUBLE, INT32, STRING = 11, 6, 12
POINT = Structure((2, 7), (Part("X", DOUBLE), Part("Y", DOUBLE)))
WHOLE = Structure((2, 5), (Part("Name", STRING), Part("Turns", INT32), Part("Path", 0, POINT, array=True), Part("Load", DOUBLE, optional=True)))


def body(
    *, name: bytes = b"mill", turns: int = 3, path: tuple[tuple[float, float], ...] = ((1.0, 2.0), (3.0, 4.0)), load: float | None = 0.5
) -> bytes:
    points = b"".join(struct.pack("<dd", *point) for point in path)
    rest = struct.pack("<d", load) if load is not None else b""
    return struct.pack("<Ii", load is not None, len(name)) + name + struct.pack("<ii", turns, len(path)) + points + rest


def value(content: bytes, encoding: bytes = b"\x01\x02\x05\x00", size: int | None = None) -> bytes:
    """Return a DataValue with an ExtensionObject, behind some other bytes."""
    return b"....." + b"\x01\x16" + encoding + b"\x01" + struct.pack("<i", len(content) if size is None else size) + content


def found(data: bytes, path: str, element: int | None = None) -> float:
    return find_number(data, 5, WHOLE, path.split("."), element)[1]


def test_a_number_is_found_where_it_is() -> None:
    data = value(body())
    assert find_number(data, 5, WHOLE, ["Turns"], None) == (INT32, 3.0)
    assert [found(data, "Path.X", 1), found(data, "Path.Y", 0), found(data, "Load")] == [3.0, 2.0, 0.5]
    assert found(value(body(name=b"a longer name")), "Turns") == 3.0


@pytest.mark.parametrize(
    ("data", "path", "element"),
    [
        (value(body(load=None)), "Load", None),  # left out
        (value(body()), "Path.X", 2),  # not so many
        (value(body()), "Path.X", None),
        (value(body()), "Name", None),  # no number
        (value(body(), b"\x01\x02\x06\x00"), "Turns", None),  # another structure
        (value(body() + struct.pack("<d", 7.0)), "Turns", None),  # it has got one more part since it was defined, and not necessarily at its end
        (b"....." + b"\x01\x0b" + struct.pack("<d", 3.0), "Turns", None),
    ],
)
def test_what_is_not_there_is_no_number(data: bytes, path: str, element: int | None) -> None:
    kind, number = find_number(data, 5, WHOLE, path.split("."), element)
    assert kind == 0
    assert math.isnan(number)


def test_one_that_is_cut_short_is_malformed() -> None:
    with pytest.raises(Malformed):
        find_number(value(body(), size=len(body()) - 4), 5, WHOLE, ["Turns"], None)
