"""Which blocks of a device are asked for together, and their replies decoded at once. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivers.modbus_codec import RegisterBlock, quiet
from drivers.modbus_frames import Asked
from drivers.modbus_plan import Request
from drivers.modbus_values import places_of
from drivers.tags import FloatArray, IndexArray

__all__ = ["Batch", "Block"]


@dataclass(slots=True, eq=False)
class Block:
    """One read, and when it is due and may be asked for again [s, monotonic]: a refused value waits in quarantine."""

    request: Request
    asked: Asked
    due: float = -math.inf
    after: float = -math.inf


class Batch:
    """Blocks that are asked for together, none twice.

    `asked` is what is asked, `period` how often the most urgent of them is wanted [s], and `seldom` those wanted less often than every `often` [s].
    """

    def __init__(self, blocks: Sequence[Block], often: float) -> None:
        self.blocks = tuple(blocks)
        self.asked = [block.asked for block in blocks]
        self.period = min((block.request.period for block in blocks), default=0.0)
        self.seldom = [block for block in blocks if block.request.period > often]
        parts = [block.request.block for block in blocks]
        self._bits = [(place, part) for place, part in enumerate(parts) if not isinstance(part, RegisterBlock)]
        self._registers = RegisterBlock.join([part for part in parts if isinstance(part, RegisterBlock)])
        self._quiet = quiet()
        places: IndexArray = np.array([place for block in blocks for place in block.request.places], dtype=np.intp)
        order = np.argsort(places)
        self._places = places_of(places[order])
        counts: IndexArray = np.array([len(block.request.places) for block in blocks], dtype=np.intp)
        self._from: IndexArray = np.repeat(np.arange(len(blocks)), counts)[order]

    def put(self, replies: Sequence[bytes], times: Sequence[float], found: FloatArray, received: FloatArray) -> None:
        """Put the values [eu of each] of the replies to all blocks into `found` (n,) at their places, and when each came [s] into `received` (n,)."""
        received[self._places] = times[0] if len(times) == 1 else np.array(times).take(self._from)
        if self._bits:
            for place, block in self._bits:
                block.decode(replies[place], found)
            bits = {place for place, _ in self._bits}
            replies = [reply for place, reply in enumerate(replies) if place not in bits]
        self._quiet.run(self._registers.put, b"".join(replies), found)
