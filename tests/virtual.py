"""A loop on a clock of its own, for tests of what takes long."""

from __future__ import annotations

import asyncio
import selectors

__all__ = ["Later"]


class Later(asyncio.SelectorEventLoop):
    """A loop whose time passes only while nothing happens, and then at once."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Skipping(self))

    def time(self) -> float:
        return self.now


class _Skipping(selectors.SelectSelector):
    def __init__(self, loop: Later) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen"
        self.loop.now += max(timeout, 0.0)
        return super().select(0.0)
