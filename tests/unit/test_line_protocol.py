"""Line protocol: the same text as the client's own `Point`, one line for each new sample, the same lines in whatever pieces."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from influxdb_client.client.write.point import Point as InfluxPoint
from influxdb_client.domain.write_precision import WritePrecision

from controller.core.frame import Point
from controller.historian.line_protocol import LineEncoder, escape
from controller.historian.reader import Chunk

EPOCH = 1_767_225_600_000_000_000  # [ns]
POINTS = (
    Point("TT-1", "degC", 0, 150, unit="leach"),
    Point("tank 2, left=a", "%", 0, 100, unit="purify"),
    Point("SERVICE.QUEUE", "", 0, 1),
)
CLASSES = {"leach": "leach_tank"}


def chunk(value: np.ndarray, quality: np.ndarray, source: np.ndarray, batches: list[str] | None = None) -> Chunk:
    frames = value.shape[1]
    time = EPOCH * 1e-9 + 1.0 + np.arange(frames)
    receive = np.broadcast_to(EPOCH + np.arange(frames), value.shape)
    text = tuple((batch, "RUNNING") for batch in (batches or ["demo-0001"] * frames))
    return Chunk(1, POINTS, np.arange(frames), time, np.zeros(frames, dtype=np.int64), value, quality, source, receive, text)


def steady(frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames in which every sample is new."""
    value = np.arange(3.0 * frames).reshape(3, frames)
    return value, np.zeros((3, frames), dtype=np.uint8), np.tile(EPOCH + 1_000_000 * np.arange(frames), (3, 1))


def fields(line: str) -> tuple[str, dict[str, str], int]:
    series, given, time = re.split(r"(?<!\\) ", line)
    return series, dict(pair.split("=") for pair in given.split(",")), int(time)


def lines(body: bytes) -> list[str]:
    return body.decode().splitlines()


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_the_same_text_as_the_client_makes(value: np.ndarray) -> None:
    _, quality, source = steady(4)
    body, count = LineEncoder(POINTS, cell="demo", classes=CLASSES).encode(chunk(value, quality, source))
    ours = [fields(line) for line in lines(body)]
    theirs = []
    for frame in range(4):
        for measurement, place, point in zip(("leach_tank", "purify", "cell"), range(3), POINTS, strict=True):
            made = InfluxPoint(measurement).tag("batch", "demo-0001").tag("cell", "demo").tag("tag", point.name).tag("unit", point.unit or None)
            made = made.field("value", float(value[place, frame])).field("quality", 0).time(int(source[place, frame]), WritePrecision.NS)
            theirs.append(fields(made.to_line_protocol()))
    assert count == len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine[0] == other[0]
        assert mine[2] == other[2]
        assert float(mine[1]["value"]) == float(other[1]["value"])
        assert mine[1]["quality"] == other[1]["quality"]


def test_the_very_same_sample_is_sent_once() -> None:
    value, quality, source = steady(4)
    source[0], value[0] = EPOCH, 7.0
    body, count = LineEncoder(POINTS).encode(chunk(value, quality, source))
    assert count == 9
    assert sum("tag=TT-1" in line for line in lines(body)) == 1


def test_lost_quality_is_a_line_of_its_own_and_leaves_the_good_sample_alone() -> None:
    value, quality, source = steady(4)
    source[0], value[0, :2], value[0, 2:], quality[0, 2:] = EPOCH, 7.0, np.nan, 2
    body, _ = LineEncoder(POINTS).encode(chunk(value, quality, source))
    mine = [fields(line) for line in lines(body) if "tag=TT-1" in line]
    assert [(given, time) for _, given, time in sorted(mine, key=lambda entry: entry[2])] == [
        ({"value": "7.0", "quality": "0i"}, EPOCH),
        ({"quality": "2i"}, EPOCH + 3_000_000_000),
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_only_finite_values_are_encoded(bad: float) -> None:
    value, quality, source = steady(2)
    value[1, 1] = bad
    body, count = LineEncoder(POINTS).encode(chunk(value, quality, source))
    assert count == 6
    assert not re.search(r"(?i)nan|inf|null", body.decode())


def test_receive_time_and_then_frame_time_stand_in_for_a_source_that_has_no_clock() -> None:
    value, quality, source = steady(2)
    source[:] = 0
    body, _ = LineEncoder(POINTS).encode(chunk(value, quality, source))
    assert {fields(line)[2] for line in lines(body)} == {EPOCH, EPOCH + 1}
    never = chunk(np.full((3, 2), np.nan), np.full((3, 2), 2, dtype=np.uint8), source)
    never = dataclasses.replace(never, receive_time=np.zeros((3, 2), dtype=np.int64))
    body, count = LineEncoder(POINTS).encode(never)
    assert count == 3  # BAD once, not in every frame
    assert {fields(line)[2] for line in lines(body)} == {EPOCH + 1_000_000_000}


def test_batch_is_a_tag_and_may_change_in_mid_chunk() -> None:
    body, _ = LineEncoder(POINTS[:3]).encode(chunk(*steady(3), ["", "demo-0001", "demo-0001"]))
    assert [("batch=demo-0001" in line) for line in lines(body)] == [False] * 3 + [True] * 6


@given(st.data())
def test_pieces_do_not_matter(data: st.DataObject) -> None:
    frames = 8
    few = st.sampled_from([0.0, 1.5, np.nan])
    value = data.draw(hnp.arrays(np.float64, (3, frames), elements=few))
    quality = data.draw(hnp.arrays(np.uint8, (3, frames), elements=st.integers(0, 2)))
    source = EPOCH + data.draw(hnp.arrays(np.int64, (3, frames), elements=st.integers(0, 3)))
    whole = chunk(value, quality, source)
    cut = data.draw(st.integers(1, frames - 1))
    first, second = whole.part(0, cut), whole.part(cut, frames)
    together = LineEncoder(POINTS).encode(whole)[0]
    pieces = LineEncoder(POINTS).encode(first)[0] + LineEncoder(POINTS).encode(second, first)[0]
    assert sorted(together.splitlines()) == sorted(pieces.splitlines())
    bits = value.view(np.int64)
    new = [(column[:, 1:] != column[:, :-1]) for column in (bits, quality, source)]
    assert len(together.splitlines()) == 3 + np.logical_or.reduce(new).sum()  # no sample is lost


def test_names_that_line_protocol_has_no_form_for() -> None:
    assert escape("a\\") == "a"
    assert escape("two\nlines") == "two\\ lines"
