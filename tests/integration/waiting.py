"""What tests on the wire wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from drivers.driver import Driver
from drivers.tags import Quality

__all__ = ["good", "until"]


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
