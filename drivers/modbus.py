"""A Modbus device over TCP or on a serial line. A failed read is BAD quality, never an exception."""

from __future__ import annotations

import asyncio
import logging
import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from drivers.device import Device
from drivers.driver import Driver, Reading, WriteOutcome, WriteResult
from drivers.modbus_codec import BitBlock, decode_one, encode_one
from drivers.modbus_line import BadReply, DeviceSaidNo, Line, LinkDown, release_line, share_line
from drivers.modbus_plan import Request, Spot, halves, plan, spots
from drivers.pause import Pause
from drivers.tags import FloatArray, Quality, QualityArray

__all__ = ["ModbusDriver"]

log = logging.getLogger(__name__)

_PROBE: Final = 0.25  # [s] that a unit which was silent last time may hold up a line shared with others
_NO_SUCH: Final = (2, 3)  # exceptions that are about an address, and will not pass by themselves
_QUARANTINE: Final = 60.0  # [s]
_DONE_OR_NOT: Final = (4, 5, 11)  # exceptions after which a write may have happened


@dataclass(slots=True)
class _Block:
    """One read, and when it may be asked for again [s, monotonic]: a refused value waits in quarantine."""

    request: Request
    after: float = -math.inf


class ModbusDriver(Driver):
    """One Modbus device: the blocks of its plan, read one after the other.

    A block with an address that the device refuses is split in halves from read to read, until the refused value stands alone: it is BAD and
    in quarantine, asked for again after a minute, while its neighbours live. Any timeout ends the read, since the link must be opened again.
    """

    def __init__(self, device: Device, *, data: Path, timeout: float = 1.0) -> None:
        super().__init__(device, timeout=min(timeout, 1.0))
        self._data = data
        self._blocks = [_Block(request) for request in plan(device.profile)]
        self._spots: dict[str, Spot] = {spot.name: spot for spot in spots(device.profile)}
        self._n = len(device.profile.signals)
        self._line: Line | None = None
        self._unit = device.address.unit
        self._identified = 0  # epoch of the line in which the identity was right
        self._pause = Pause()  # for a unit that is silent on a line that works

    async def __aenter__(self) -> ModbusDriver:
        self._line = share_line(self.device.address, self._data)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        line, self._line = self._line, None
        if line is not None:
            release_line(line)
        self.metrics.connected, self.metrics.why = False, "closed"

    async def read(self) -> Reading:
        """Return all signals, in the order of the profile; NaN and BAD for what could not be read. Modbus gives no source times."""
        line = self._line
        if line is None:
            return self._lost(None, "closed")
        loop = asyncio.get_running_loop()
        values: FloatArray = np.full(self._n + 1, np.nan)
        refused: Counter[str] = Counter()
        async with line.lock:
            if not self._pause.over(loop.time()):
                return self._lost(None, self.metrics.why)
            begun = loop.time()
            allowed = _PROBE if line.path is not None and self._told is False else self.timeout
            try:
                await line.open(self.timeout)
                for block in list(self._blocks):
                    if loop.time() < block.after:
                        continue
                    try:
                        await self._read_block(line, block.request, values, begun + max(self.timeout, allowed), allowed)
                    except DeviceSaidNo as error:
                        refused[str(error)] += 1
                        if error.code in _NO_SUCH:
                            self._narrow(block, error, loop.time())
                    else:
                        self._release(block)
            except LinkDown as error:
                if error.sent:
                    self._pause.failed(loop.time())
                return self._lost(error.kind, str(error))
            except BadReply as error:
                self._pause.failed(loop.time())
                return self._lost("reply", str(error))
            trip = loop.time() - begun
        return self._judge(line, values, refused, trip)

    def _narrow(self, block: _Block, error: DeviceSaidNo, now: float) -> None:
        """Split a block that was refused, or put its only value into quarantine; the identity is always asked for."""
        request = block.request
        if len(request.names) > 1:
            place = self._blocks.index(block)
            self._blocks[place : place + 1] = [_Block(part) for part in halves(self.device.profile, request)]
        elif request.names != ("identity",):
            if block.after == -math.inf:
                at = self.device.profile.signals[request.names[0]].at
                log.warning("%s refuses %s at %s: %s; it is BAD and asked for every %g s", self.device.name, request.names[0], at, error, _QUARANTINE)
            block.after = now + _QUARANTINE

    def _release(self, block: _Block) -> None:
        """Note that a value in quarantine was read; when it was the last, read by the whole plan again."""
        if block.after == -math.inf:
            return
        block.after = -math.inf
        log.info("%s gives %s again", self.device.name, block.request.names[0])
        if not self.quarantined:
            self._blocks = [_Block(request) for request in plan(self.device.profile)]

    @property
    def quarantined(self) -> tuple[str, ...]:
        """The signals that the device refuses, each of them alone."""
        return tuple(block.request.names[0] for block in self._blocks if block.after > -math.inf)

    async def _read_block(self, line: Line, request: Request, out: FloatArray, deadline: float, allowed: float) -> None:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0.0:
            raise LinkDown("timeout", f"a scan of {line.where} takes longer than {self.timeout:.2f} s", sent=False)
        reply = await line.read(self._unit, request.table, request.address, request.count, min(left, allowed))
        if isinstance(request.block, BitBlock):
            request.block.decode(reply.bits, out)
        else:
            request.block.decode(struct.pack(f">{request.count}H", *reply.registers), out)

    def _judge(self, line: Line, values: FloatArray, refused: Counter[str], trip: float) -> Reading:
        """Turn what came into a reading, if it came from the right device."""
        identity, found = self.device.profile.identity, values[-1]
        self._count("exception", refused.total())
        if math.isnan(found) and self._identified != line.epoch:
            why = f"identity at {identity.at} could not be read: {', '.join(refused)}; check the profile {self.device.profile.id}"
            return self._lost("identity", why)
        if not math.isnan(found) and found != identity.value:
            self._identified = 0
            expected = f"expected {identity.value:g}: another device answers at {self.device.address}"
            return self._lost("identity", f"identity is {found:g} at {identity.at}, {expected}")
        self._identified = line.epoch
        self._pause.succeeded()
        self.metrics.reads += 1
        self.metrics.read_errors += bool(refused)
        self.metrics.round_trip = trip
        self._tell(up=True)
        good = np.isfinite(values[:-1])
        quality: QualityArray = np.where(good, Quality.GOOD, Quality.BAD).astype(np.uint8)
        return Reading(np.where(good, values[:-1], np.nan), quality, np.zeros(self._n, dtype=np.int64))

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        """Write signals [eu of each], one request each, and read them back; nothing is repeated.

        What was not sent, since the device is not connected or the value cannot be, is refused: nothing changed there.
        """
        line = self._line
        if line is None:
            return [self._outcome(name, value, WriteResult.REFUSED, "not sent: closed") for name, value in changes.items()]
        async with line.lock:
            deadline = asyncio.get_running_loop().time() + self.timeout
            return [await self._write(line, name, value, deadline) for name, value in changes.items()]

    async def _write(self, line: Line, name: str, value: float, deadline: float) -> WriteOutcome:
        signal, spot = self.device.profile.signals.get(name), self._spots.get(name)
        if signal is None or spot is None or signal.access != "write":
            what = "not a signal" if signal is None else "only read"
            return self._outcome(name, value, WriteResult.REFUSED, f"{name} is {what} in profile {self.device.profile.id}")
        left = deadline - asyncio.get_running_loop().time()
        if not line.is_open or line.epoch != self._identified or left <= 0.0:
            return self._outcome(name, value, WriteResult.REFUSED, f"not sent: {self.metrics.why or 'no read since the link came back'}")
        try:
            words = encode_one(value, signal.type, self.device.profile.modbus, signal.scale, signal.offset)
        except ValueError as error:
            return self._outcome(name, value, WriteResult.REFUSED, f"not sent: {error}")
        try:
            if spot.table == "coil":
                await line.write_coil(self._unit, spot.address, bool(words[0]), left)
            else:
                await line.write_registers(self._unit, spot.address, words, left)
        except DeviceSaidNo as error:
            result = WriteResult.UNKNOWN if error.code in _DONE_OR_NOT else WriteResult.REFUSED
            return self._outcome(name, value, result, str(error))
        except LinkDown as error:
            return self._outcome(name, value, WriteResult.UNKNOWN if error.sent else WriteResult.REFUSED, str(error))
        except BadReply as error:
            return self._outcome(name, value, WriteResult.UNKNOWN, str(error))
        return await self._read_back(line, spot, value, words, deadline)

    async def _read_back(self, line: Line, spot: Spot, value: float, words: list[int], deadline: float) -> WriteOutcome:
        try:
            left = deadline - asyncio.get_running_loop().time()
            reply = await line.read(self._unit, spot.table, spot.address, spot.count, left)
        except (DeviceSaidNo, LinkDown, BadReply) as error:
            return self._outcome(spot.name, value, WriteResult.UNKNOWN, f"accepted, but could not be read back: {error}")
        found = [int(reply.bits[0])] if spot.table == "coil" else list(reply.registers)
        if found == words:
            return self._outcome(spot.name, value, WriteResult.CONFIRMED, "", value)
        number = decode_one(found, spot.type, self.device.profile.modbus, spot.scale, spot.offset)
        return self._outcome(spot.name, value, WriteResult.MISMATCH, f"accepted, but reads back as {number:g}", number)
