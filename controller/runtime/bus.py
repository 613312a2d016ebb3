"""The bus: frames from the scan to the historian, through a bounded queue and a thread of its own. The scan never waits for a disk."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from controller.core.frame import Frame
from controller.historian.ledger import Gap
from controller.historian.store import HistorianError

__all__ = ["Bus", "FrameStore"]

log = logging.getLogger("blackmass.historian")


class FrameStore(Protocol):
    """What the bus writes to: a `Historian`."""

    def append(self, frames: Sequence[Frame], gaps: Sequence[Gap] = ()) -> None:
        """Store frames and gaps in one transaction, or raise `HistorianError` and store nothing."""


class Bus:
    """A bounded queue with one writer. A frame that finds it full is lost, counted and ledgered; nothing is lost silently.

    Parameters
    ----------
    capacity : frames that may wait
    batch : the most frames in one write
    gather : [s] how long the first frame of a write waits for more
    slowest : [s] the longest wait between two tries of a write that fails
    """

    def __init__(self, historian: FrameStore, *, capacity: int = 4096, batch: int = 256, gather: float = 0.5, slowest: float = 10.0) -> None:
        self.why = ""  # why frames cannot be written now, in one sentence; empty while they can
        self.dropped = 0  # frames lost since the start
        self._historian = historian
        self._batch, self._gather, self._slowest = batch, gather, slowest
        self._queue: queue.Queue[Frame] = queue.Queue(capacity)
        self._held: list[Frame] = []  # the batch that is being written
        self._accepted, self._settled = 0, 0  # frames taken by `put`, and written or given up by the writer; one thread each
        self._gap: Gap | None = None  # lost, and growing
        self._gaps: list[Gap] = []  # lost, and going with the next write; a new one needs a write in between, so it stays short
        self._lock = threading.Lock()  # of the two above, held for an instant
        self._closing = threading.Event()
        self._give_up = float("inf")  # [s] monotonic
        self._thread = threading.Thread(target=self._run, name="historian", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Frames that are not on disk yet."""
        return self._accepted - self._settled

    def put(self, frame: Frame) -> None:
        """Hand over a frame; never waits. Only one thread may call."""
        try:
            self._accepted += 1  # before the writer can have it: `depth` is never too small
            if self._closing.is_set():
                raise queue.Full
            self._queue.put_nowait(frame)
        except queue.Full:
            self._accepted -= 1
            self.dropped += 1
            with self._lock:
                gap = self._gap
                start = frame.time if gap is None else gap.start
                first = frame.seq if gap is None else gap.first_seq
                self._gap = Gap(frame.boot, first, frame.seq, start, frame.time, "overflow")
        else:
            if self._gap is not None:
                with self._lock:
                    self._gaps, self._gap = [*self._gaps, self._gap], None

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, for at most `timeout` [s]; then ledger what is left as lost."""
        self._give_up = time.monotonic() + timeout
        self._closing.set()
        self._thread.join(timeout + self._gather + 5.0)
        if self._thread.is_alive():
            log.error("historian: a write takes more than %g s; the service ends without it and %d frames are lost", timeout, self.depth)

    # the writer thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._closing.is_set() and self._queue.empty() and not self._gaps and self._gap is None):
                self._held = self._take()
                if not self._write(self._held):
                    break
                self._settled += len(self._held)
                self._held = []
            else:
                return
            self._lose()
        finally:
            if not self._closing.is_set():
                self.why = "the historian's writer thread ended by an error; nothing is recorded. Restart the service"

    def _take(self) -> list[Frame]:
        """Return frames to write together: those there are, and those that come within `gather`."""
        frames = list[Frame]()
        until = time.monotonic() + self._gather
        while len(frames) < self._batch:
            left = 0.0 if self._closing.is_set() else until - time.monotonic()
            try:
                frames.append(self._queue.get(timeout=left) if left > 0.0 else self._queue.get_nowait())
            except queue.Empty:
                break
        return frames

    def _write(self, frames: Sequence[Frame]) -> bool:
        """Write until it succeeds; False if the bus closes before."""
        pause = min(0.25, self._slowest)
        while True:
            with self._lock:
                gaps = [*self._gaps, *([self._gap] if self._gap is not None else [])]
            if not frames and not gaps:
                return True
            try:
                self._historian.append(frames, gaps)
            except HistorianError as error:
                if not self.why:
                    log.error("%s; %d frames wait, tried again until it succeeds", error, self.depth)
                self.why = str(error)
            else:
                with self._lock:
                    self._gaps = [gap for gap in self._gaps if gap not in gaps]
                    if self._gap in gaps:  # else it has grown, and replaces itself in the ledger
                        self._gap = None
                if self.why:
                    log.info("historian: written again; %d frames wait, %d were lost", self._queue.qsize(), self.dropped)
                self.why = ""
                return True
            if self._closing.wait(pause) and time.monotonic() >= self._give_up:
                return False
            if self._closing.is_set():
                time.sleep(min(pause, 0.1))
            pause = min(2.0 * pause, self._slowest)

    def _lose(self) -> None:
        """Ledger what could not be written before the end."""
        frames = [*self._held, *(self._queue.get_nowait() for _ in range(self._queue.qsize()))]
        self.dropped += len(frames)
        self._settled += len(frames)
        gaps = list(self._gaps)
        if frames:
            gaps.append(Gap(frames[0].boot, frames[0].seq, frames[-1].seq, frames[0].time, frames[-1].time, "unwritten"))
        try:
            self._historian.append((), gaps)
        except HistorianError as error:
            log.error("%s; %d frames are lost and not even the ledger could say so: the next start will", error, len(frames))
