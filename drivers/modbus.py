"""A Modbus device: over TCP or TLS, on a serial line, or on a serial line behind a socket. A failed read is BAD quality, never an exception."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import numpy as np

from drivers.device import Device
from drivers.driver import NOT_YET, Driver, ErrorKind, Reading, WriteOutcome, WriteResult
from drivers.modbus_batch import Batch
from drivers.modbus_blocks import Blocks, Reply
from drivers.modbus_codec import encode_one
from drivers.modbus_frames import Asked, BadReply, DeviceSaidNo, LinkDown
from drivers.modbus_line import Line
from drivers.modbus_links import release_line, share_line
from drivers.modbus_orders import order_found
from drivers.modbus_plan import requests_for
from drivers.modbus_texts import Text, Texts
from drivers.modbus_turns import Job, Unit
from drivers.modbus_writes import Order, Refusal, found_in, orders, refused
from drivers.pause import Pause
from drivers.tags import BoolArray, FloatArray, Quality, QualityArray, TimeArray

__all__ = ["ModbusDriver"]

_NO_TURN: Final = 3.0  # [s] without any reply, or three reads, after which a link that is busy with others counts as lost


class ModbusDriver(Driver):
    """One Modbus device: the blocks of its plan, each asked for when it is due, one request a turn of the link.

    A read in which nothing is due asks for nothing, unless the link has dropped or failed: then for the identity, so that a loss is seen, and a
    write need not wait.

    An address that the device refuses costs its own signal only; see `Blocks`. One reply that fails leaves the values to age by themselves; after
    two in a row, or when the link drops, the device is lost and everything is BAD.
    """

    def __init__(self, device: Device, *, data: Path, timeout: float = 1.0) -> None:
        super().__init__(device, timeout=min(timeout, 1.0))
        self._data = data
        self._n = n = len(device.profile.signals)
        self._blocks = Blocks(device, self.wrong)
        self._where = {spot.name: spot for spot in self._blocks.spots[:n]}
        self._patience = max(_NO_TURN, 3.0 * self._blocks.often)  # [s]
        self._texts = Texts(device.profile)
        self._line: Line | None = None
        self._unit = Unit(device.address.unit)
        self._identified = 0  # epoch of the line in which the identity was right
        self._pause = Pause()  # for a unit that is silent on a link that works
        self._shown: FloatArray = self._blocks.found[:n]
        self._heard = -math.inf  # [s] when the device was, with the right identity; at first since when it is waited for
        self._zeros: FloatArray = np.zeros(n)
        self._good: QualityArray = np.full(n, Quality.GOOD, dtype=np.uint8)
        self._good.flags.writeable = False  # all readings without a fault share it
        self._times: TimeArray = np.zeros(n, dtype=np.int64)  # Modbus gives none
        self._deadbands: FloatArray | None = device.deadbands if device.deadbands.any() else None

    async def __aenter__(self) -> ModbusDriver:
        profile = self.device.profile
        line = self._line = share_line(self.device.address, self._data)
        unit = self._unit = line.unit(self.device.address.unit, profile.modbus.pause, profile.modbus.in_flight)
        self._blocks.begin(lambda question: line.frame(unit, question))
        self._texts.begin(lambda question: line.frame(unit, question))
        self._heard = monotonic()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.forget(self._unit)
            await release_line(line)
        self.metrics.connected, self.metrics.why = False, "closed"

    @property
    def quarantined(self) -> tuple[str, ...]:
        """The signals that the device refuses."""
        return self._blocks.quarantined

    # reading ------------------------------------------------------------------------------------------------------------

    async def read(self) -> Reading:
        """Return all signals, in the order of the profile; NaN and BAD for what is not known. What was not due keeps its value and its time."""
        line, words, unit, now = self._line, self._texts, self._unit, monotonic()
        if line is None:
            return self._lost(None, "closed")
        if not self._pause.over(now):
            return self._lost(None, self.metrics.why)
        if self._blocks.rests(now) and self._stands(line):
            return self._reading()
        until = now + self.timeout
        try:
            if unit.dead and await self._ask_one(line, self._probe(), until) is None:
                return self._lost(None, self.metrics.why)  # it got no turn
            doubted = now < unit.doubted_until
            batch = self._blocks.due(now, 0.5 * self.timeout if doubted else math.inf, unit.trip)
            texts = () if doubted else words.due(now)
            asked = batch.asked
            if words.identity is not None:  # the identity comes first, as a text or in the first block
                asked = [words.identity, *asked]
            if texts:
                asked = [*asked, *(text.asked for text in texts)]
            if doubted:  # a late reply would shift those behind it: then this one is not the identity
                asked = [*asked, self._probe()]
                unit.strays = 0
            job = await line.ask(unit, asked, deadline=now + batch.period, within=self.timeout, until=until)
            if doubted and (type(job.replies[-1]) is not bytes or unit.strays):
                return self._reading() if self.metrics.connected else self._lost(None, self.metrics.why)
            alone: Reply = None
            if type(job.replies[0]) is not bytes and (question := self._blocks.instead(batch, job.replies[0])) is not None:
                alone = await self._ask_one(line, question, until)
        except (LinkDown, BadReply) as error:
            return self._failed(error)
        finally:
            if unit.stale:
                self._count("reply", unit.stale)
                unit.stale = 0
        return self._take(line, job, batch, texts, alone, now)

    def _stands(self, line: Line) -> bool:
        """Whether the link is that of the last good read, and nothing has failed since."""
        return line.is_open and line.epoch == self._identified and not self._unit.failures

    async def _ask_one(self, line: Line, asked: Asked, until: float) -> Reply:
        return (await line.ask(self._unit, [asked], deadline=until, within=self.timeout, until=until)).replies[0]

    def _probe(self) -> Asked:
        """Return the question for the identity alone."""
        return self._texts.identity or self._blocks.probe()

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
        self._blocks.forget()
        self._shown = self._blocks.found[: self._n]
        self._texts.forget()
        return self._lost(kind, why)

    def _no_turn(self, line: Line, now: float) -> Reading:
        """Return the reading when others held the link all the time: for a while that is no loss, and at first no news."""
        metrics = self.metrics
        waited = now - self._heard > (self._patience if metrics.connected else _NO_TURN)
        if metrics.connected and not waited:
            return self._reading()
        why = metrics.why
        if waited and (metrics.connected or why == NOT_YET):
            why = f"no turn on the link to {line.where}; see blackmass plan" if line.is_open else line.why
        return self._gone("timeout" if metrics.connected else None, why)

    def _take(self, line: Line, job: Job, batch: Batch, texts: Sequence[Text], alone: Reply, begun: float) -> Reading:
        """Decode what came, and turn it into a reading if it came from the right device; `alone` is the identity's reply if its block was refused."""
        now, metrics, blocks = monotonic(), self.metrics, self._blocks
        replies, times = job.replies, job.times
        first = replies[0]
        if first is None:
            return self._no_turn(line, now)
        said, known, unsaid = "", type(first) is bytes or type(alone) is bytes, False
        if self._texts.identity is not None:
            said, known = self._texts.identity_in(first), True
            replies, times = replies[1:], times[1:]
        n = len(batch.blocks)
        of_blocks = replies if len(replies) == n else replies[:n]
        if not known:  # nothing says whose values the others are
            unsaid = alone is None and blocks.instead(batch, first) is not None
            of_blocks = [reply if isinstance(reply, DeviceSaidNo) else None for reply in of_blocks]
        refusals = blocks.put(batch, of_blocks, times[:n], begun, alone)
        if refusals:
            self._count("exception", len(refusals))
        if (why := self._impostor(said, refusals)) is not None:
            if not known and self._identified == line.epoch and now - self._heard <= self._patience:
                metrics.read_errors += 1
                return self._reading()
            return self._no_turn(line, now) if unsaid else self._gone("identity", why)
        self._identified = line.epoch
        self._heard = now
        if texts:
            self._count("exception", self._texts.take(texts, replies[n : n + len(texts)], begun, self.texts))
        metrics.reads += 1
        metrics.read_errors += bool(refusals)
        metrics.round_trip = now - begun
        metrics.certificate_days = line.days
        if not metrics.connected:
            self._pause.succeeded()
            self._tell(up=True)
        return self._reading()

    def _impostor(self, said: str, refusals: Sequence[str]) -> str | None:
        """Return why it is not the device that the profile describes; None if it is. `said` is its identity where that is a text."""
        profile, found = self.device.profile, self._blocks.found.item(-1)
        identity = profile.identity
        if said == identity.text if identity.text else found == identity.value:
            return None
        other = f"another device answers at {self.device.address}"
        if identity.text:
            return f"identity is {said!r} at {identity.at}, expected {identity.text!r}: {other}"
        if math.isnan(found):
            return f"identity at {identity.at} could not be read: {', '.join(refusals[:3]) or 'not a number'}; check the profile {profile.id}"
        difference = f"identity is {found:.16g} at {identity.at}, expected {identity.value:.16g}"
        if order := order_found(profile, found):
            return f"{difference}, which is what it reads as with {order}; check the order in the profile {profile.id}"
        return f"{difference}: {other}"

    def _reading(self) -> Reading:
        found, known = self._blocks.found[: self._n], self._blocks.received[: self._n].copy()
        if self._deadbands is not None:
            within = np.abs(found - self._shown) <= self._deadbands  # false for NaN
            values = self._shown = np.where(within, self._shown, found)
        else:
            values = found.copy()
        if math.isfinite(values.dot(self._zeros)):  # the quickest way to see that all are finite
            return Reading(values, self._good, self._times, known)
        good: BoolArray = np.isfinite(values)
        quality: QualityArray = np.where(good, np.uint8(Quality.GOOD), np.uint8(Quality.BAD))
        return Reading(np.where(good, values, np.nan), quality, self._times, known)

    # writing ------------------------------------------------------------------------------------------------------------

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        """Write signals [eu of each], then read them back; nothing is repeated.

        What is not sent, since the device is not connected or the value cannot be, changes nothing there. What may or may not be done is BAD until
        the next read says what is there.
        """
        line = self._line
        if line is None:
            return [self._outcome(name, value, WriteResult.NOT_SENT, "closed") for name, value in changes.items()]
        until = monotonic() + self.timeout
        outcomes: dict[str, WriteOutcome] = {}
        accepted: list[Order] = []
        for order in orders(self.device.profile, self._where, changes):
            if isinstance(order, Refusal):
                outcomes[order.name] = self._outcome(order.name, order.value, WriteResult.NOT_SENT, order.why)
            elif (failed := await self._send(line, order, until)) is None:
                accepted.append(order)
            else:
                for spot, value in zip(order.spots, order.values, strict=True):
                    outcomes[spot.name] = self._outcome(spot.name, value, *failed)
        if accepted:
            await self._read_back(line, accepted, until, outcomes)
        if doubtful := {name for name, outcome in outcomes.items() if outcome.result.doubtful}:
            self._blocks.doubt(doubtful)
            for name in doubtful:
                if math.isnan(outcomes[name].found):  # what was there may be there no longer
                    self._blocks.found[self._where[name].place] = np.nan
        return [outcomes[name] for name in changes]

    def same(self, signal: str, one: float, other: float) -> bool:
        """Whether two values of a signal [its eu] are the same registers."""
        way = self._where[signal].way
        try:
            return encode_one(one, way) == encode_one(other, way)
        except ValueError:  # one of them is none that can be written
            return False

    async def _send(self, line: Line, order: Order, until: float) -> tuple[WriteResult, str] | None:
        """Send one write; return None if the device took it, else what is known of it."""
        now, unit = monotonic(), self._unit
        if until <= now:
            return WriteResult.NOT_SENT, "no time is left in this write; write it again"
        if not self._stands(line):
            return WriteResult.NOT_SENT, self.metrics.why or "no good read since the last failure"
        try:
            job = await line.ask(unit, [line.frame(unit, order.question)], deadline=now, within=until - now, until=until, urgent=True)
        except LinkDown as error:
            return (WriteResult.UNKNOWN, str(error)) if error.sent else (WriteResult.NOT_SENT, str(error))
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
                self._blocks.found[spot.place], self._blocks.received[spot.place] = value if found is None else found, now
                if found is None:
                    outcomes[spot.name] = self._outcome(spot.name, value, WriteResult.CONFIRMED, "", value)
                else:
                    said = f"accepted, but reads back as {found:g}"
                    outcomes[spot.name] = self._outcome(spot.name, value, WriteResult.MISMATCH, said, found)
