"""A Modbus device: over TCP or TLS, on a serial line, or on a serial line behind a socket. A failed read is BAD quality, never an exception."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

import numpy as np

from drivers.device import Device
from drivers.driver import Driver, ErrorKind, Reading, WriteOutcome, WriteResult
from drivers.modbus_batch import Batch, Block
from drivers.modbus_codec import text_of
from drivers.modbus_frames import Asked, BadReply, DeviceSaidNo, LinkDown, read
from drivers.modbus_line import Line, release_line, share_line
from drivers.modbus_plan import IDENTITY, TEXTS_EVERY, Request, TextSpot, halves, plan, probe, requests_for, spots, text_spots
from drivers.modbus_turns import Job, Unit
from drivers.modbus_writes import Order, Refusal, found_in, orders, refused
from drivers.pause import Pause
from drivers.tags import BoolArray, FloatArray, Quality, QualityArray, TimeArray

__all__ = ["ModbusDriver"]

log = logging.getLogger(__name__)

_NO_SUCH: Final = (1, 2, 3)  # exceptions that are about the request, and will not pass by themselves
_NO_FUNCTION: Final = 1
_QUARANTINE: Final = 60.0  # [s]
_BATCHES: Final = 16  # selections of blocks that are kept
_NO_TURN: Final = 3.0  # [s] without any reply after which a link that is busy with others counts as lost


@dataclass(slots=True, eq=False)
class _Text:
    spot: TextSpot
    asked: Asked
    due: float = -math.inf


class ModbusDriver(Driver):
    """One Modbus device: the blocks of its plan, each asked for when it is due, one request a turn of the link.

    A block with an address that the device refuses is split in halves from read to read, until the refused value stands alone: it is BAD and
    in quarantine, asked for again after a minute, while its neighbours live. One reply that fails leaves the values to age by themselves; after two
    in a row, or when the link drops, the device is lost and everything is BAD.
    """

    def __init__(self, device: Device, *, data: Path, timeout: float = 1.0) -> None:
        super().__init__(device, timeout=min(timeout, 1.0))
        profile = device.profile
        self._data = data
        self._all = spots(profile, device.periods)
        self._where = {spot.name: spot for spot in self._all[: len(profile.signals)]}
        self._plan = plan(profile, device.periods)
        self._n = n = len(profile.signals)
        self._often = float(device.periods.min(initial=math.inf))  # [s] what is wanted this often is asked for in each read
        self._blocks: list[Block] = []
        self._batches: dict[tuple[Block, ...], Batch] = {}
        self._texts: list[_Text] = []
        self._line: Line | None = None
        self._unit = Unit(device.address.unit)
        self._identity = device.profile.identity.value  # NaN for a text
        self._words = bool(device.profile.identity.text)
        self._identified = 0  # epoch of the line in which the identity was right
        self._pause = Pause()  # for a unit that is silent on a link that works
        self._found: FloatArray = np.full(n + 1, np.nan)  # as read last, the identity behind the signals
        self._shown: FloatArray = self._found[:n]
        self._received: FloatArray = np.full(n + 1, -np.inf)  # [s]
        self._heard = -math.inf  # [s] when anything was
        self._zeros: FloatArray = np.zeros(n)
        self._good: QualityArray = np.full(n, Quality.GOOD, dtype=np.uint8)
        self._good.flags.writeable = False  # all readings without a fault share it
        self._times: TimeArray = np.zeros(n, dtype=np.int64)  # Modbus gives none
        self._deadbands: FloatArray | None = device.deadbands if device.deadbands.any() else None

    async def __aenter__(self) -> ModbusDriver:
        options = self.device.profile.modbus
        line = self._line = share_line(self.device.address, self._data)
        self._unit = line.unit(self.device.address.unit, options.pause, options.in_flight)
        self._blocks = [self._block(line, request) for request in self._plan]
        self._texts = [_Text(spot, line.frame(self._unit, read(spot.table, spot.address, spot.count))) for spot in text_spots(self.device.profile)]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.forget(self._unit)
            await release_line(line)
        self.metrics.connected, self.metrics.why = False, "closed"

    def _block(self, line: Line, request: Request) -> Block:
        return Block(request, line.frame(self._unit, request.question))

    def _batch(self, blocks: Sequence[Block]) -> Batch:
        """Return what asks for these blocks; made once for each selection of them that is due together."""
        key = tuple(blocks)
        batch = self._batches.get(key)
        if batch is None:
            if len(self._batches) >= _BATCHES:
                self._batches.clear()
            batch = self._batches[key] = Batch(key, self._often)
        return batch

    # reading ------------------------------------------------------------------------------------------------------------

    async def read(self) -> Reading:
        """Return all signals, in the order of the profile; NaN and BAD for what is not known. What was not due keeps its value and its time."""
        line, unit, now = self._line, self._unit, monotonic()
        if line is None:
            return self._lost(None, "closed")
        if not self._pause.over(now):
            return self._lost(None, self.metrics.why)
        until = now + self.timeout
        try:
            if unit.dead and not await self._answers(line, until):
                return self._lost(None, self.metrics.why)
            limit = now + 0.5 * self._often
            due = [block for block in self._blocks if block.due <= limit and block.after <= now]
            doubted = now < unit.doubted_until
            batch = self._batch(self._some(due) if doubted and due else due)
            texts = [text for text in self._texts if text.due <= now or text.spot.name == IDENTITY] if self._texts else ()
            # the identity comes first, as a text or in the first block
            asked = [*(text.asked for text in texts), *batch.asked] if texts else batch.asked
            if doubted:  # a late reply would shift those behind it: then this one is not the identity
                asked = [*asked, self._probe(line)]
                unit.strays = 0
            job = await line.ask(unit, asked, deadline=now + batch.period, within=self.timeout, until=until)
        except (LinkDown, BadReply) as error:
            return self._failed(error)
        finally:
            if unit.stale:
                self._count("reply", unit.stale)
                unit.stale = 0
        if doubted:
            if type(job.replies[-1]) is not bytes or unit.strays:
                return self._reading() if self.metrics.connected else self._lost(None, self.metrics.why)
            del job.replies[-1], job.times[-1]
        return self._take(line, job, texts, batch, now)

    async def _answers(self, line: Line, until: float) -> bool:
        """Whether a unit that was silent answers for its identity; False if it got no turn."""
        job = await line.ask(self._unit, [self._probe(line)], deadline=until, within=self.timeout, until=until)
        return job.replies[0] is not None

    def _some(self, blocks: list[Block]) -> list[Block]:
        """Return the first of the blocks, which has the identity, and of the others those read longest ago, as many as fit into half of the time."""
        left, trip = 0.5 * self.timeout, self._unit.trip if self._unit.trip >= 0.0 else 0.0
        chosen: list[Block] = []
        for block in [blocks[0], *sorted(blocks[1:], key=lambda block: self._received.item(block.request.places[0]))]:
            left -= block.asked.seconds + trip
            if chosen and left < 0.0:
                break
            chosen.append(block)
        return chosen

    def _probe(self, line: Line) -> Asked:
        """Return the question for the identity alone."""
        if self.device.profile.identity.text:
            return self._texts[0].asked
        return line.frame(self._unit, probe(self._all[-1], [block.request for block in self._blocks]))

    def _failed(self, error: LinkDown | BadReply) -> Reading:
        """Return the reading after a failure: the first one of a device that answers leaves its values to age."""
        now = monotonic()
        kind = "reply" if isinstance(error, BadReply) else error.kind
        if (isinstance(error, LinkDown) and not error.sent) or kind in ("connect", "drop", None):
            return self._gone(kind, str(error))
        if self._unit.dead or not self.metrics.connected:
            self._pause.failed(now)
            return self._gone(kind, str(error))
        assert kind is not None
        self._count(kind)
        self.metrics.read_errors += 1
        return self._reading()

    def _gone(self, kind: ErrorKind | None, why: str) -> Reading:
        self._identified = 0
        self._found.fill(np.nan)
        self._shown = self._found[: self._n]
        for block in self._blocks:
            block.due = -math.inf
        for text in self._texts:
            text.due = -math.inf
        return self._lost(kind, why)

    def _take(self, line: Line, job: Job, texts: Sequence[_Text], batch: Batch, begun: float) -> Reading:
        """Decode what came, and turn it into a reading if it came from the right device."""
        now = monotonic()
        replies, times = job.replies, job.times
        if replies[0] is None:  # no turn, since others hold the link
            if not self.metrics.connected or now - self._heard > _NO_TURN:
                says = f"no turn on the link to {line.where}; see blackmass plan" if line.is_open else line.why
                return self._gone(None if not self.metrics.connected else "timeout", says)
            return self._reading()
        told = ""
        if texts:
            told = self._take_texts(texts, replies, begun)
            replies, times = replies[len(texts) :], times[len(texts) :]
        self._found[-1] = np.nan
        named = self._words or type(replies[0]) is bytes
        if not named:  # the identity was refused: nothing says whose values the others are
            replies = [reply if isinstance(reply, DeviceSaidNo) else None for reply in replies]
        refusals = self._put(line, batch, replies, times, begun)
        if self._found.item(-1) != self._identity:
            patient = not named and self._identified == line.epoch and now - self._heard <= max(_NO_TURN, 3.0 * self._often)
            if patient:
                self.metrics.read_errors += 1
                return self._reading()
            if (why := self._impostor(told, refusals)) is not None:
                return self._gone("identity", why)
        self._identified = line.epoch
        self._heard = now
        metrics = self.metrics
        metrics.reads += 1
        metrics.read_errors += bool(refusals)
        metrics.round_trip = now - begun
        metrics.certificate_days = line.days
        if not metrics.connected:
            self._pause.succeeded()
            self._tell(up=True)
        return self._reading()

    def _put(self, line: Line, batch: Batch, replies: Sequence[bytes | DeviceSaidNo | None], times: Sequence[float], begun: float) -> list[str]:
        """Take the values of the blocks that were answered; return what the device said to those that it refused. The rest stays due."""
        good = [reply for reply in replies if type(reply) is bytes]
        refusals: list[str] = []
        if len(good) < len(replies):
            heard = list(zip(batch.blocks, replies, times, strict=True))
            for block, reply, time in heard:
                if isinstance(reply, DeviceSaidNo):
                    refusals.append(str(reply))
                    places = list(block.request.places)
                    self._found[places], self._received[places] = np.nan, time
                    self._put_off(block, begun)
                    if reply.code in _NO_SUCH:
                        self._narrow(line, block, reply, time)
            self._count("exception", len(refusals))
            batch = self._batch([block for block, reply, _ in heard if isinstance(reply, bytes)])
            times = [time for _, reply, time in heard if isinstance(reply, bytes)]
        batch.put(good, times, self._found, self._received)
        for block in batch.seldom:
            self._put_off(block, begun)
        for block in batch.blocks:
            if block.after > -math.inf:
                self._release(line, block)
        return refusals

    def _put_off(self, block: Block, begun: float) -> None:
        """Note that a block was answered in a read that began at `begun` [s]: when it is due again, if it is not wanted in each read."""
        if (period := block.request.period) > self._often:
            block.due = max(block.due + period, begun + 0.5 * period)

    def _take_texts(self, texts: Sequence[_Text], replies: Sequence[bytes | DeviceSaidNo | None], begun: float) -> str:
        """Take what the device says of itself; return its identity if that is a text."""
        profile, told = self.device.profile, ""
        for one, reply in zip(texts, replies, strict=False):
            if reply is None:
                continue
            name = one.spot.name
            if name == IDENTITY and profile.identity.text:
                told = str(reply) if isinstance(reply, DeviceSaidNo) else text_of(reply, profile.modbus.byte_order, "ascii")
                continue
            one.due = begun + TEXTS_EVERY
            if isinstance(reply, DeviceSaidNo):
                self._count("exception")
                self.texts.pop(name, None)
            else:
                text = profile.texts[name]
                self.texts[name] = text_of(reply[: text.length], text.byte_order or profile.modbus.byte_order, text.encoding)
        return told

    def _impostor(self, told: str, refusals: Sequence[str]) -> str | None:
        """Return why it is not the device that the profile describes; None if it is."""
        profile, found = self.device.profile, float(self._found[-1])
        identity = profile.identity
        if identity.text and told == identity.text:
            return None
        other = f"another device answers at {self.device.address}"
        if identity.text:
            return f"identity is {told!r} at {identity.at}, expected {identity.text!r}: {other}"
        if math.isnan(found):
            return f"identity at {identity.at} could not be read: {', '.join(refusals[:3]) or 'not a number'}; check the profile {profile.id}"
        return f"identity is {found:g} at {identity.at}, expected {identity.value:g}: {other}"

    def _reading(self) -> Reading:
        found = self._found[: self._n]
        if self._deadbands is not None:
            within = np.abs(found - self._shown) <= self._deadbands  # false for NaN
            self._shown = np.where(within, self._shown, found)
            values = self._shown
        else:
            values = found.copy()
        received = self._received[: self._n].copy()
        if math.isfinite(values.dot(self._zeros)):  # the quickest way to see that all are finite
            return Reading(values, self._good, self._times, received)
        good: BoolArray = np.isfinite(values)
        quality: QualityArray = np.where(good, np.uint8(Quality.GOOD), np.uint8(Quality.BAD))
        return Reading(np.where(good, values, np.nan), quality, self._times, received)

    # quarantine ---------------------------------------------------------------------------------------------------------

    def _narrow(self, line: Line, block: Block, error: DeviceSaidNo, now: float) -> None:
        """Split a block that was refused, or put what cannot be split into quarantine; the identity is always asked for."""
        request = block.request
        if block not in self._blocks:
            return  # the whole plan has just begun anew
        parts = halves(request, self._all) if error.code != _NO_FUNCTION else ()
        if len(parts) > 1:
            place = self._blocks.index(block)
            made = [self._block(line, part) for part in parts]
            if self._n not in parts[0].places and self._n in parts[1].places:
                made.reverse()
            self._blocks[place : place + 1] = made
        elif self._n not in request.places:
            if block.after == -math.inf:
                what = f"{request.names[0]} at {self.device.profile.signals[request.names[0]].at}"
                more = f" and {len(request.names) - 1} more" if len(request.names) > 1 else ""
                log.warning("%s refuses %s%s: %s; BAD, and asked for every %g s", self.device.name, what, more, error, _QUARANTINE)
            self.wrong |= dict.fromkeys(request.names, f"{error}; check `at` in the profile")
            block.after = now + _QUARANTINE

    def _release(self, line: Line, block: Block) -> None:
        """Note that a value in quarantine was read; when it was the last, read by the whole plan again."""
        block.after = -math.inf
        for name in block.request.names:
            self.wrong.pop(name, None)
        log.info("%s gives %s again", self.device.name, block.request.names[0])
        if not self.quarantined:
            self._blocks = [self._block(line, request) for request in self._plan]

    @property
    def quarantined(self) -> tuple[str, ...]:
        """The signals that the device refuses."""
        return tuple(name for block in self._blocks if block.after > -math.inf for name in block.request.names)

    # writing ------------------------------------------------------------------------------------------------------------

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        """Write signals [eu of each], then read them back; nothing is repeated.

        What was not sent, since the device is not connected or the value cannot be, is refused: nothing changed there.
        """
        line = self._line
        if line is None:
            return [self._outcome(name, value, WriteResult.REFUSED, "not sent: closed") for name, value in changes.items()]
        until = monotonic() + self.timeout
        outcomes: dict[str, WriteOutcome] = {}
        accepted: list[Order] = []
        for order in orders(self.device.profile, self._where, changes):
            if isinstance(order, Refusal):
                outcomes[order.name] = self._outcome(order.name, order.value, WriteResult.REFUSED, order.why)
            elif (failed := await self._send(line, order, until)) is None:
                accepted.append(order)
            else:
                for spot, value in zip(order.spots, order.values, strict=True):
                    outcomes[spot.name] = self._outcome(spot.name, value, *failed)
        if accepted:
            await self._read_back(line, accepted, until, outcomes)
        return [outcomes[name] for name in changes]

    async def _send(self, line: Line, order: Order, until: float) -> tuple[WriteResult, str] | None:
        """Send one write; return None if the device took it, else what is known of it."""
        now, unit = monotonic(), self._unit
        if not line.is_open or line.epoch != self._identified or unit.failures or until <= now:
            return WriteResult.REFUSED, f"not sent: {self.metrics.why or 'no good read since the last failure'}"
        try:
            job = await line.ask(unit, [line.frame(unit, order.question)], deadline=now, within=until - now, until=until, urgent=True)
        except LinkDown as error:
            return WriteResult.UNKNOWN if error.sent else WriteResult.REFUSED, str(error)
        except BadReply as error:
            return WriteResult.UNKNOWN, str(error)
        if isinstance(reply := job.replies[0], DeviceSaidNo):
            self._count("exception")
            return refused(reply), str(reply)
        return None

    async def _read_back(self, line: Line, accepted: Sequence[Order], until: float, outcomes: dict[str, WriteOutcome]) -> None:
        """Add the outcome of each order that the device took: what is there now."""
        now, unit = monotonic(), self._unit
        # without gaps: what lies between may be what the device refuses
        requests = requests_for(self.device.profile, [spot for order in accepted for spot in order.spots], gap=0)
        why = ""
        replies: list[bytes | DeviceSaidNo | None] = [None] * len(requests)
        try:
            asked = [line.frame(unit, request.question) for request in requests]
            job = await line.ask(unit, asked, deadline=now, within=until - now, until=until, urgent=True)
        except (LinkDown, BadReply) as error:
            why = str(error)
        else:
            replies = job.replies
        now = monotonic()
        held = {name: (request, reply) for request, reply in zip(requests, replies, strict=True) for name in request.names}
        for order in accepted:
            for spot, words, value in zip(order.spots, order.words, order.values, strict=True):
                request, reply = held[spot.name]
                if not isinstance(reply, bytes):
                    said = f"accepted, but could not be read back: {reply or why or 'no time left'}"
                    outcomes[spot.name] = self._outcome(spot.name, value, WriteResult.UNKNOWN, said)
                    continue
                found = found_in(request, reply, spot, words)
                self._found[spot.place], self._received[spot.place] = value if found is None else found, now
                if found is None:
                    outcomes[spot.name] = self._outcome(spot.name, value, WriteResult.CONFIRMED, "", value)
                else:
                    said = f"accepted, but reads back as {found:g}"
                    outcomes[spot.name] = self._outcome(spot.name, value, WriteResult.MISMATCH, said, found)
