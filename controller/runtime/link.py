"""The seam between control (drivers, scan, journal) and its face (page, terminal, forwarder): frames come out, commands go in.

Nothing on the face's side holds a reference into the core, so that it can move to a process of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from controller.core.commands import Command, Receipt
from controller.core.frame import Frame

__all__ = ["Link"]


class Link(Protocol):
    """What the face sees of control."""

    def describe(self) -> dict[str, Any]:
        """Return what does not change while the service runs, ready for JSON; see docs/reference/page-api.md for its keys."""

    def texts(self) -> dict[str, dict[str, str]]:
        """Return what each device says of itself in words, by its name: a serial number, a version. They come with its connection."""

    def frames(self) -> AsyncIterator[Frame]:
        """Yield the newest frame whenever there is a new one; a slow reader skips, it never queues."""

    async def send(self, command: Command) -> Receipt:
        """Journal a command and hand it to the next scan; return at once with a refusal, or when it is on disk."""
