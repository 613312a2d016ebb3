"""The WebSocket of the page, over a real socket: conftest.py serves it."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

pytestmark = pytest.mark.wire


def opened(served: Any, origin: str | None = None) -> ClientConnection:
    own = Origin(origin or f"http://127.0.0.1:{served.port}")
    return connect(f"ws://127.0.0.1:{served.port}/ws", origin=own, open_timeout=5, close_timeout=1, proxy=None)


def test_the_first_message_is_the_cell_and_then_frames_come_at_a_pace_a_screen_can_show(served: Any) -> None:
    with opened(served) as socket:
        first = json.loads(socket.recv(5))
        assert (first["type"], first["cell"]["cell"]) == ("cell", "demo")
        began = time.monotonic()
        frames = [json.loads(socket.recv(5)) for _ in range(6)]
        took = time.monotonic() - began
    assert {one["type"] for one in frames} == {"frame"}
    assert len(frames[0]["value"]) == len(frames[0]["quality"]) == len(first["cell"]["points"])
    assert took + 0.05 >= 6 * 0.25
    # the plant gives ten frames a second: those between are skipped, and what comes is new
    steps = [later["seq"] - sooner["seq"] for sooner, later in itertools.pairwise(frames)]
    assert min(steps) >= 2
    assert max(one["age"] for one in frames) < 0.25


def test_a_page_of_another_site_gets_nothing(served: Any) -> None:
    with pytest.raises((InvalidStatus, ConnectionClosed)), opened(served, "http://evil.example") as socket:
        socket.recv(5)


def test_a_client_that_joins_late_is_told_how_old_the_newest_frame_is(served: Any) -> None:
    with opened(served) as socket:
        while json.loads(socket.recv(5))["type"] != "frame":
            pass
        served.plant.mute = True
    deadline = time.monotonic() + 5.0
    age = 0.0
    while age < 0.5:
        assert time.monotonic() < deadline
        with opened(served) as socket:
            age = json.loads(socket.recv(5))["age"]
    assert age < 5.0
