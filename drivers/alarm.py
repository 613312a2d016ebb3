"""A timer that rings when it should. Those of asyncio are up to a millisecond late, a twentieth of what a fast serial line needs for a request."""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["Alarm"]

# timerfd_create(2); elsewhere the timers of asyncio have to do
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == 8 else None
_MONOTONIC, _ABSOLUTE = 1, 1


class _Spec(ctypes.Structure):
    """What timerfd_settime takes: how often it repeats, 0 for never, and when it rings, 0 for never."""

    _fields_ = (("every_s", ctypes.c_long), ("every_ns", ctypes.c_long), ("s", ctypes.c_long), ("ns", ctypes.c_long))


class Alarm:
    """Calls `ring` in the running loop at the time that was set last, never before it. `close` it in the end."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.when = math.inf  # [s, monotonic]; infinite when it is not set
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        """Ring at `when` [s, monotonic], and no more at the time that was set before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.when = when
        if self._fd < 0 and _LIBC is not None:
            self._fd = _LIBC.timerfd_create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd >= 0:
                self._loop.add_reader(self._fd, self._readable)
        if self._fd >= 0:
            self._program(math.ceil(when * 1e9) + 1)
        else:  # none is there, or no more files may be open
            self._timer = self._loop.call_at(when, self._expired)

    def clear(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif self.when < math.inf:
            self._program(0)
        self.when = math.inf

    def close(self) -> None:
        """Give back what the system keeps for it; it may be set again."""
        self.clear()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _program(self, ns: int) -> None:
        assert _LIBC is not None
        _LIBC.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(_Spec(0, 0, *divmod(ns, 1_000_000_000))), None)

    def _readable(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set anew, or cleared, since the loop has seen it
        self._expired()

    def _expired(self) -> None:
        self._timer, self.when = None, math.inf
        self._ring()
