"""What is read of a Modbus device, block by block: when each is due, what the replies bring, and which addresses it refuses. Pure."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Sequence
from typing import Final

import numpy as np

from drivers.device import FLOOR, Device
from drivers.modbus_batch import Batch, Block
from drivers.modbus_frames import Asked, DeviceSaidNo, Question
from drivers.modbus_plan import Request, halves, plan, probe, requests_for, spots
from drivers.tags import FloatArray

__all__ = ["Blocks", "Reply"]

log = logging.getLogger(__name__)

Reply = bytes | DeviceSaidNo | None  # None: there was no time to ask

_NO_SUCH: Final = (1, 2, 3)  # exceptions that are about the request, and will not pass by themselves
_NO_FUNCTION: Final = 1
_QUARANTINE: Final = 60.0  # [s]
_BATCHES: Final = 16  # selections of blocks that are kept


class Blocks:
    """The reads of one device, and what they brought.

    A block with an address that the device refuses is split in halves from read to read, until the refused value stands alone: it is in quarantine,
    asked for again after a minute, while its neighbours live. When the last one is read, the whole plan is used again.

    `found` (n + 1,) [eu of each] and `received` (n + 1,) [s, monotonic] are the values as read last and when, the identity behind the n signals.
    """

    def __init__(self, device: Device, wrong: dict[str, str]) -> None:
        """`wrong` is where to say of a signal why it is BAD."""
        profile = device.profile
        self._device, self._wrong = device, wrong
        self.spots = spots(profile, device.periods)  # of the signals, and of the identity unless that is a text
        self._plan = plan(profile, device.periods)
        self._n = n = len(profile.signals)
        self.often = min(map(float, device.periods), default=device.poll)  # [s] how often the quickest group is wanted
        self._poll = max(device.poll, FLOOR)
        # [s] what is wanted this often is asked for in each read; nothing is of a device that is polled more often than any group is wanted
        self._each = self.often if self.often <= self._poll else 0.0
        self.found: FloatArray = np.full(n + 1, np.nan)
        self.received: FloatArray = np.full(n + 1, -np.inf)
        self._blocks: list[Block] = []
        self._whole: Batch | None = None  # all of them, where all are asked for in each read
        self._alone: Block | None = None  # the identity without its neighbours, if it is a number
        self._batches: dict[tuple[Block, ...], Batch] = {}

    def begin(self, frame: Callable[[Question], Asked]) -> None:
        """Begin with the whole plan; `frame` makes what is sent of a question."""
        self._frame = frame
        self._begin_anew()
        if len(self.spots) > self._n:
            self._alone = self._block(requests_for(self._device.profile, self.spots[-1:])[0])

    def _begin_anew(self) -> None:
        self._blocks = [self._block(request) for request in self._plan]
        self._whole = self._batch(self._blocks) if all(block.request.period <= self._each for block in self._blocks) else None

    def _block(self, request: Request) -> Block:
        return Block(request, self._frame(request.question))

    def rests(self, now: float) -> bool:
        """Whether nothing is wanted at `now` [s]: the quickest group is not, the others come along with it, and none of them was missed."""
        if self._each:
            return False
        soon, missed = now + 0.5 * self._poll, now - 0.5 * self.often  # polls are not exact
        return all(block.due > (soon if block.request.period <= self.often else missed) or block.after > now for block in self._blocks)

    def due(self, now: float, seconds: float = math.inf, trip: float = 0.0) -> Batch:
        """Return the blocks to ask for at `now` [s], that with the identity first, and with it whatever is wanted soon.

        Of more than take `seconds` together, with `trip` [s] for each beside its bytes, the others are those read longest ago.
        """
        if self._whole is not None and seconds == math.inf:
            return self._whole
        limit = now + 0.5 * self.often
        due = [block for block in self._blocks if block.due <= limit and block.after <= now]
        if self._alone is not None and due[:1] != self._blocks[:1]:  # nothing is read without the identity
            due.insert(0, self._blocks[0])
        if seconds < math.inf and due:
            due = self._some(due, seconds, trip if trip >= 0.0 else 0.0)
        return self._batch(due)

    def _batch(self, blocks: Sequence[Block]) -> Batch:
        """Return what asks for these blocks; made once for each selection of them that is due together."""
        key = tuple(blocks)
        batch = self._batches.get(key)
        if batch is None:
            if len(self._batches) >= _BATCHES:
                self._batches.clear()
            batch = self._batches[key] = Batch(key, self._each)
        return batch

    def _some(self, blocks: list[Block], seconds: float, trip: float) -> list[Block]:
        chosen: list[Block] = []
        for block in [blocks[0], *sorted(blocks[1:], key=lambda block: self.received.item(block.request.places[0]))]:
            seconds -= block.asked.seconds + trip
            if chosen and seconds < 0.0:
                break
            chosen.append(block)
        return chosen

    def forget(self) -> None:
        """Know nothing any more, and ask for everything again."""
        self.found.fill(np.nan)
        for block in self._blocks:
            block.due = -math.inf

    def doubt(self, names: Collection[str]) -> None:
        """Ask for some signals in the next read, however seldom they are wanted: nobody knows whether they took what was written."""
        for block in self._blocks:
            if any(name in names for name in block.request.names):
                block.due = -math.inf

    # the identity ---------------------------------------------------------------------------------------------------------

    def probe(self) -> Asked:
        """Return the shortest question for the identity that no late reply to it is taken for a value; see `modbus_plan.probe`."""
        return self._frame(probe(self.spots[-1], [block.request for block in self._blocks]))

    def instead(self, batch: Batch, reply: Reply) -> Asked | None:
        """Return the question for the identity alone if the device refuses its block, maybe for another value in it; else None."""
        if self._alone is None or not (isinstance(reply, DeviceSaidNo) and reply.code in _NO_SUCH and len(batch.blocks[0].request.places) > 1):
            return None
        return self._alone.asked

    # replies --------------------------------------------------------------------------------------------------------------

    def put(self, batch: Batch, replies: Sequence[Reply], times: Sequence[float], begun: float, alone: Reply = None) -> list[str]:
        """Take the values of the blocks that were answered in a read that began at `begun` [s]; `times` [s] say when. The rest stays due.

        `alone` is the reply to the identity without its neighbours, if that was asked for. Return what the device said to what it refused.
        """
        self.found[-1] = np.nan
        good = [reply for reply in replies if type(reply) is bytes]
        refusals: list[str] = []
        if len(good) < len(replies):
            heard = list(zip(batch.blocks, replies, times, strict=True))
            for block, reply, time in heard:
                if isinstance(reply, DeviceSaidNo):
                    refusals.append(str(reply))
                    places = list(block.request.places)
                    self.found[places], self.received[places] = np.nan, time
                    if self._n not in block.request.places:  # whose values the others are is asked again at once
                        self._put_off(block, begun)
                    if reply.code in _NO_SUCH:
                        self._narrow(block, reply, time)
            batch = self._batch([block for block, reply, _ in heard if type(reply) is bytes])
            times = [time for _, reply, time in heard if type(reply) is bytes]
        batch.put(good, times, self.found, self.received)
        for block in batch.seldom:
            self._put_off(block, begun)
        if batch is not self._whole:
            for block in batch.blocks:
                if block.after > -math.inf:
                    self._release(block)
        if self._alone is not None and alone is not None:
            if isinstance(alone, bytes):
                self._alone.request.block.decode(alone, self.found)
            else:
                refusals.insert(0, str(alone))
        return refusals

    def _put_off(self, block: Block, begun: float) -> None:
        """Note that a block was answered in a read that began at `begun` [s]: when it is due again, if it was, and is not wanted in each read."""
        if (period := block.request.period) > self._each and block.due <= begun + 0.5 * self.often:
            block.due = max(block.due + period, begun + 0.5 * period) if block.due > -math.inf else begun + period

    # quarantine -----------------------------------------------------------------------------------------------------------

    def _narrow(self, block: Block, error: DeviceSaidNo, now: float) -> None:
        """Split a block that was refused, or put what cannot be split into quarantine; the identity is always asked for."""
        request, identity = block.request, self._n
        if block not in self._blocks:
            return  # the whole plan has just begun anew
        self._whole = None
        parts = halves(request, self.spots) if error.code != _NO_FUNCTION else ()
        if len(parts) > 1:
            place = self._blocks.index(block)
            made = [self._block(part) for part in parts]
            if identity not in parts[0].places and identity in parts[1].places:
                made.reverse()
            self._blocks[place : place + 1] = made
        elif identity not in request.places:
            if block.after == -math.inf:
                what = f"{request.names[0]} at {self._device.profile.signals[request.names[0]].at}"
                more = f" and {len(request.names) - 1} more" if len(request.names) > 1 else ""
                log.warning("%s refuses %s%s: %s; BAD, and asked for every %g s", self._device.name, what, more, error, _QUARANTINE)
            self._wrong |= dict.fromkeys(request.names, f"{error}; check `at` in the profile")
            block.after = now + _QUARANTINE

    def _release(self, block: Block) -> None:
        """Note that a value in quarantine was read; when it was the last, read by the whole plan again."""
        block.after = -math.inf
        for name in block.request.names:
            self._wrong.pop(name, None)
        log.info("%s gives %s again", self._device.name, block.request.names[0])
        if not self.quarantined:
            self._begin_anew()

    @property
    def quarantined(self) -> tuple[str, ...]:
        """The signals that the device refuses."""
        return tuple(name for block in self._blocks if block.after > -math.inf for name in block.request.names)
