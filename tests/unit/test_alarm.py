"""A timer that is never early, hardly late, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import math
import os
import time

import pytest

from drivers import alarm
from drivers.alarm import Alarm


@pytest.fixture(params=["of the system", "of asyncio"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "of asyncio":
        monkeypatch.setattr(alarm, "_LIBC", None)


def test_it_rings_at_the_time_that_was_set_last_and_not_before() -> None:
    async def main() -> None:
        rang: list[float] = []
        done = asyncio.Event()

        def ring() -> None:
            rang.append(time.monotonic())
            done.set()

        made = Alarm(ring)
        for after in (0.0005, 0.003, 0.0201, -1.0, 0.0):  # a time that is over already rings at once
            done.clear()
            made.set(time.monotonic() + 0.001)
            made.set(time.monotonic() + 60.0)
            when = time.monotonic() + after
            made.set(when)
            assert made.when == when
            async with asyncio.timeout(10.0):
                await done.wait()
            assert rang[-1] >= when
            assert made.when == math.inf
        assert len(rang) == 5
        made.close()

    asyncio.run(main())


def test_one_that_is_cleared_does_not_ring_and_may_be_set_again_after_it_was_closed() -> None:
    async def main() -> None:
        rang: list[str] = []
        before = set(os.listdir("/proc/self/fd"))
        one, other = Alarm(lambda: rang.append("one")), Alarm(lambda: rang.append("other"))
        soon = time.monotonic() + 0.001
        one.set(soon)
        one.clear()
        other.set(soon)
        other.close()
        done = asyncio.Event()
        last = Alarm(done.set)
        last.set(soon + 0.01)
        async with asyncio.timeout(10.0):
            await done.wait()
        assert rang == []
        other.set(time.monotonic())
        async with asyncio.timeout(10.0):
            while not rang:
                await asyncio.sleep(0.001)
        assert rang == ["other"]
        for made in (one, other, last):
            made.close()
        assert set(os.listdir("/proc/self/fd")) <= before

    asyncio.run(main())


def test_one_that_is_set_anew_by_another_callback_when_it_was_about_to_ring_waits() -> None:
    async def main() -> None:
        rang: list[float] = []
        first = Alarm(lambda: rang.append(time.monotonic()))
        when = time.monotonic() + 0.001
        first.set(when)
        while time.monotonic() < when + 0.002:
            pass  # the loop is held up, and finds it due
        later = time.monotonic() + 0.03
        first.set(later)
        async with asyncio.timeout(10.0):
            while not rang:
                await asyncio.sleep(0.001)
        assert rang[0] >= later
        first.close()

    asyncio.run(main())
