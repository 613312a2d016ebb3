"""The newest frame, for any number of readers: none of them queues, and a slow one skips."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import orjson

from controller.core.frame import Frame, as_json
from controller.runtime.link import Link

__all__ = ["Hub"]

log = logging.getLogger(__name__)

RETRY = 1.0  # [s] between two tries to reach control again
LARGE = ("source_time", "receive_time")  # [ns], more digits than a browser's number holds; GET /api/frame has them


class Hub:
    """Follows the link and keeps its newest frame, with the time it came [s, monotonic]."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._changed = asyncio.Event()
        self._wire: tuple[Frame, dict[str, Any]] | None = None
        self._described: tuple[int, dict[str, Any]] | None = None
        self._cell: tuple[int, dict[str, dict[str, str]], dict[str, Any]] | None = None
        self.newest: Frame | None = None
        self.came = time.monotonic()
        self.clients = 0

    async def follow(self) -> None:
        """Take frames for as long as the service runs; a link that ends or breaks is tried again."""
        lost = False
        while True:
            try:
                async for frame in self._link.frames():
                    if lost:
                        log.info("control gives frames again")
                        lost = False
                    self.newest, self.came = frame, time.monotonic()
                    self._changed.set()
                    self._changed = asyncio.Event()
                why = "it ended"
            except (OSError, EOFError) as error:
                why = str(error)
            if not lost:
                log.warning("control gives no more frames: %s; trying again every %g s", why, RETRY)
                lost = True
            await asyncio.sleep(RETRY)

    async def newer(self, last: Frame | None) -> Frame:
        """Return the newest frame as soon as it is not `last`."""
        while self.newest is None or self.newest is last:
            await self._changed.wait()
        return self.newest

    @property
    def age(self) -> float:
        """How long ago the newest frame came [s]; since the start while there is none."""
        return time.monotonic() - self.came

    def cell(self) -> dict[str, Any]:
        """Return what the link says of the cell, asked anew after each start of control, with what its devices say of themselves.

        It is the same object until something in it changes.
        """
        boot, texts = -1 if self.newest is None else self.newest.boot, self._link.texts()
        if self._described is None or self._described[0] != boot:
            self._described = (boot, as_json(self._link.describe()))
        if self._cell is None or self._cell[:2] != (boot, texts):
            about = self._described[1]
            devices = [{**device, "texts": texts.get(device["name"], {})} for device in about["devices"]]
            self._cell = (boot, texts, {**about, "devices": devices})
        return self._cell[2]

    def _frame(self, frame: Frame) -> dict[str, Any]:
        if self._wire is None or self._wire[0] is not frame:
            form = as_json(frame)
            for name in LARGE:
                del form[name]
            self._wire = (frame, form)
        return self._wire[1]

    def first(self) -> str:
        """Return the first message of a client: the cell, and the newest frame if there is one."""
        frame = None if self.newest is None else self._frame(self.newest)
        return orjson.dumps({"type": "cell", "cell": self.cell(), "frame": frame, "age": self.age}).decode()

    def message(self, frame: Frame) -> str:
        """Return the message for one frame; `age` [s] tells a client that joins late how old it is."""
        return orjson.dumps({"type": "frame", "age": self.age, **self._frame(frame)}).decode()
