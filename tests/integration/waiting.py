"""What tests on the wire wait for, and whom they talk to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from controller.core.frame import Frame
from controller.runtime.service import Service
from drivers.device import Device
from drivers.driver import Driver
from drivers.tags import Quality

__all__ = ["frame", "good", "until", "widened"]


async def until(what: Callable[[], Awaitable[bool]], within: float = 5.0) -> float:
    """Wait until something is so; return how long that took [s], and fail when it takes longer than `within` [s]."""
    begun = time.monotonic()
    while not await what():
        assert time.monotonic() - begun < within, "it did not happen in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def good(driver: Driver) -> bool:
    """Whether every signal of a device reads GOOD."""
    return bool((await driver.read()).quality.max() == Quality.GOOD)


def widened(device: Device, name: str, low: float, high: float) -> Device:
    """Return a device whose profile allows more of a signal than the device itself does: it is the device that refuses then."""
    signals = device.profile.signals
    wider = signals[name].model_copy(update={"range": (low, high)})
    return replace(device, profile=device.profile.model_copy(update={"signals": {**signals, name: wider}}))


async def frame(service: Service, wanted: Callable[[Frame], bool], within: float = 20.0) -> Frame:
    """Return the first frame that is `wanted`."""
    last: Frame | None = None
    try:
        async with asyncio.timeout(within):
            async for last in service.frames():
                if wanted(last):
                    return last
    except TimeoutError:
        batch = last.batch if last else None
        alarms = [alarm.name for alarm in last.alarms] if last else []
        raise AssertionError(f"not within {within} s: {last and last.state}, {batch and batch.why}, {alarms}, {last and last.commands}") from None
    raise AssertionError("no more frames")
