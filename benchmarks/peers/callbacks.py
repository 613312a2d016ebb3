"""How long the callbacks of an event loop take."""

from __future__ import annotations

import gc
import time
from asyncio import events

__all__ = ["LONGEST", "Callbacks", "settle"]

LONGEST = 0.002  # [s] of a callback at 10,000 changes a second


def settle() -> None:
    """Take what is there for good out of the garbage collector, as the service does when it has started."""
    gc.collect()
    gc.freeze()


class Callbacks:
    """Times every callback of the event loop: its CPU, since others have the machine as well."""

    def __init__(self) -> None:
        self.longest: list[float] = []

    def __enter__(self) -> Callbacks:
        run = self._run = events.Handle._run  # noqa: SLF001  # there is no public hook
        times = self.longest

        def timed(handle: events.Handle) -> None:
            begun = time.thread_time()
            run(handle)
            times.append(time.thread_time() - begun)

        events.Handle._run = timed  # type: ignore[method-assign]  # noqa: SLF001
        return self

    def __exit__(self, *exc_info: object) -> None:
        events.Handle._run = self._run  # type: ignore[method-assign]  # noqa: SLF001
