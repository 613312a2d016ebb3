"""Between a driver and the cell: readings into the image, outputs to the device. One `Exchange` a device, live or in lockstep."""

from __future__ import annotations

import asyncio
import math

import numpy as np

from controller.batch.records import Event
from controller.core.plan import CellPlan, DeviceRows
from controller.runtime.clock import Clock
from controller.runtime.device_clock import DeviceClock
from drivers.device import FLOATS, Signal
from drivers.driver import ERROR_KINDS, NOT_YET, DeviceEvent, Driver, WriteOutcome, WriteResult
from drivers.image import ProcessImage, dense
from drivers.tags import FloatArray, TimeArray

__all__ = ["Exchange"]

_PATIENCE = 2.0  # [s] monotonic until an output that is not taken counts; a device that wakes up refuses for a moment
_AGAIN = 0.5  # [s] monotonic between two writes of an output that is not taken
_LASTS, _LASTS_AT_MOST = 5.0, 300.0  # [s] monotonic that a reason must last until it takes another one's place; doubled each time
_LONGEST = 400  # characters of a reason
_STUCK = 30.0  # [s] monotonic after which a driver that has not come back counts as lost; each of its requests ends long before
_HEARTBEAT = 0.5  # [s] monotonic between two heartbeats; devices fall to their safe state after 5 s


def _near(signal: Signal, span: float) -> float:
    """Return up to which difference [eu] a signal shows what was written: a float32 holds 7 digits of the range, a float16 3, an integer its step."""
    if signal.type in FLOATS:
        return (1e-3 if signal.type == "float16" else 1e-5) * span
    return 0.0 if signal.discrete else 0.5 * signal.scale


def _plain(why: str) -> str:
    """Return a driver's reason on one line and not endless: some of its words may be the device's."""
    return "".join(letter if letter.isprintable() else " " for letter in why[:_LONGEST])


class _Reason:
    """Why a device does not answer, as it is told: it does not change with each attempt to connect."""

    def __init__(self, told: str) -> None:
        self.told = told
        self._next, self._since = told, 0.0
        self._lasts = _LASTS

    def another(self, why: str, monotonic: float) -> bool:
        """Take what the driver says now; return whether it is told from now on, since it has lasted."""
        if why == self.told:
            self._next = self.told
            return False
        if why != self._next:
            self._next, self._since = why, monotonic
        if monotonic - self._since < self._lasts:
            return False
        self._lasts = min(2.0 * self._lasts, _LASTS_AT_MOST)
        self.told = why
        return True


class Exchange:
    """Read one device into the image; write to it what the cell asks for and the device does not show yet.

    A write is never repeated blindly: what is written next is decided from what was read last. So an *unknown* outcome is resolved by the
    following read, and as long as none brings the signal it is not sent that value again; a device that has lost its setpoints gets them again.
    """

    def __init__(self, rows: DeviceRows, driver: Driver, image: ProcessImage, plan: CellPlan, clock: Clock) -> None:
        self.rows, self.driver, self.image, self.clock = rows, driver, image, clock
        self.name = rows.device.name
        profile = rows.device.profile
        bound = np.flatnonzero(rows.places >= 0)
        self._bound = dense(bound)
        self._part = image.part(rows.places[bound])
        self._links = image.part(rows.links)
        self._outputs, self._readback = dense(rows.outputs), dense(plan.readback[rows.outputs])
        self._places = {signal: place for place, signal in enumerate(rows.signals)}
        self._readback_at = plan.readback[rows.outputs].tolist()
        self._span = plan.outputs.high[rows.outputs] - plan.outputs.low[rows.outputs]
        # a cell that only watches writes nothing: the heart of another's devices would beat on when that other one is dead
        self._heartbeat = profile.heartbeat.signal if profile.heartbeat and len(plan.outputs) else None
        self._beaten = -math.inf
        self._beats, self._beat_of = 0, -1  # how often the heartbeat has moved, and for which scan it did last
        self._link: tuple[float, ...] | None = None
        self._seen: tuple[float, ...] = ()  # what `_link` was made of
        self._failing: dict[str, float] = {}  # signal: since when [s, monotonic] its writes do not take
        self._tried: dict[str, float] = {}  # signal: when one that does not take was written last
        self._confirmed: dict[str, tuple[float, float]] = {}  # signal: what the last write confirmed [its eu], and when [s, monotonic]
        self._put_back: set[str] = set()  # signals that no longer showed that, and were not seen to show it since
        self._doubted: dict[str, tuple[float, float]] = {}  # signal: what may have been written to it [its eu], and when [s, monotonic]
        self._near = np.array([_near(profile.signals[name], span) for name, span in zip(rows.signals, self._span.tolist(), strict=True)])
        self._reported: dict[str, WriteResult] = {}
        self._was_up: bool | None = None
        self._reason = _Reason("")
        self._ticks = DeviceClock()
        self._texts: dict[str, str] = {}  # as the journal knows them
        self._waits: float | None = None  # [s] how long the driver has been seen at work; None: it is not
        self._looked = clock.monotonic()  # [s, monotonic]
        self.first = asyncio.Event()  # set when the device has answered once

    async def read(self) -> list[Event]:
        """Read the device into the image; return what the journal should know."""
        self._waits = 0.0
        reading = await self.driver.read()
        self._waits = None
        monotonic = self.clock.monotonic()
        now = round(self.clock.plant() * 1e9)
        bound = self._bound
        known: FloatArray | float = monotonic  # when the values were current, on two clocks
        receive: TimeArray | int = now
        if reading.received is not None:
            known = reading.received[bound]
            # what never came has no time
            receive = np.rint(self.clock.plant_at(np.where(np.isfinite(known), known, monotonic)) * 1e9).astype(np.int64)
        source = reading.source_time[bound]
        told = source > 0
        if np.count_nonzero(told) < len(told):
            source = np.where(told, source, receive)
        self.image.update(self._part, reading.values[bound], reading.quality[bound], source, receive, known)
        metrics, ticks = self.driver.metrics, self._ticks
        if metrics.connected:
            ticks.look(reading, self.clock, monotonic)
        else:
            ticks.forget()
        failing = len(self._failing)
        counts = (metrics.losses, metrics.drops, failing, *metrics.errors.values())
        seen = (metrics.connected, metrics.round_trip, metrics.certificate_days, ticks.ahead, *counts)
        if failing or seen != self._seen:  # an output that is not taken counts by its age, which moves by itself
            self._seen = seen
            if (link := self._about_link(monotonic)) != self._link:
                self._link = link
                self.image.update(self._links, np.array(link), np.zeros(len(link), dtype=np.uint8), now, now, monotonic)
        if metrics.connected:
            self.first.set()
        events = [self._reported_event(event) for event in self.driver.take_events()]
        if self.driver.texts != self._texts:
            events += self._text_events()
        return [*self._link_event(metrics.connected, metrics.why, monotonic), *events]

    def watch(self) -> list[Event]:
        """Return what the journal should know when the driver has not come back, which none should do: the device is lost until it does.

        Its values are BAD by their age then, and by this the cell knows why; nobody else would tell.
        """
        now = self.clock.monotonic()
        passed, self._looked = now - self._looked, now
        if self._waits is None:
            return []
        self._waits += min(passed, _STUCK / 3.0)  # longer: this process was held up itself, and nobody could come back
        if self._waits < _STUCK:
            return []
        self._seen = ()  # when it comes back, all is told again
        if (link := (0.0, math.nan, *self._about_link(now)[2:])) != self._link:
            self._link = link
            plant = round(self.clock.plant() * 1e9)
            self.image.update(self._links, np.array(link), np.zeros(len(link), dtype=np.uint8), plant, plant, now)
        why = f"its driver has not come back for {_STUCK:g} s, by a mistake in this program; please report it, and start the service again"
        return self._link_event(False, why, now)

    @property
    def texts(self) -> dict[str, str]:
        """What the device says of itself in words, each on one line."""
        return {name: _plain(text) for name, text in self.driver.texts.items()}

    def _text_events(self) -> list[Event]:
        """Return what the device says of itself now and did not before, for the journal: which one it was may matter later."""
        told = [
            Event("device", f"{self.name}.{name}", _plain(self._texts.get(name, "")), _plain(text), why="what it says of itself")
            for name, text in self.driver.texts.items()
            if self._texts.get(name) != text
        ]
        self._texts |= self.driver.texts
        return told

    def _about_link(self, monotonic: float) -> tuple[float, ...]:
        """Return what the link says of itself, in the order of `LINK_POINTS`."""
        metrics = self.driver.metrics
        trip = metrics.round_trip if metrics.connected else math.nan  # that of a link that is lost is not known, whatever it was before
        untaken = sum(monotonic - since > _PATIENCE for since in self._failing.values())
        days = min(max(metrics.certificate_days, 0.0), 1e5) if math.isfinite(metrics.certificate_days) else math.nan
        counts = (float(metrics.errors[kind]) for kind in ERROR_KINDS)
        return (float(metrics.connected), trip, float(metrics.losses), float(untaken), float(metrics.drops), days, self._ticks.ahead, *counts)

    def _reported_event(self, event: DeviceEvent) -> Event:
        """Return a device's own event for the journal: its severity (1 to 1000) as the new state, its words as the reason."""
        return Event("device", f"{self.name}.{event.source}" if event.source else self.name, "", f"severity {event.severity}", why=event.text)

    def _link_event(self, up: bool, why: str, monotonic: float) -> list[Event]:
        """Journal a loss, a return, and why a device stays away; say the same to the cell."""
        if up == self._was_up:
            return [] if up else self._still_down(why, monotonic)
        if self._was_up is None and why == NOT_YET:
            return []  # nothing is known of it yet, so nothing is lost
        before, self._was_up = self._was_up, up
        told = "" if up else _plain(why)
        self._reason = _Reason(told)
        self.image.lose(self.name, told)
        if before is None and up:
            return [Event("link", self.name, "", "up", why=str(self.rows.device.address))]
        return [Event("link", self.name, "up" if before else "", "up" if up else "down", why=told)]

    def _still_down(self, why: str, monotonic: float) -> list[Event]:
        """Note another reason for the same loss, when it has lasted: drivers that try and try again may have two in turn."""
        if not self._reason.another(_plain(why), monotonic):
            return []
        self.image.lose(self.name, self._reason.told)
        return [Event("link", self.name, "down", "down", why=self._reason.told)]

    async def write(self, outputs: FloatArray, scan: int) -> list[Event]:
        """Write what differs from the last read, and a heartbeat that moves only when `scan`, the number of the last, does; return what happened."""
        if not self.driver.metrics.connected:
            self._failing.clear()  # a lost device has an alarm of its own
            self._put_back.clear()
            self._confirmed.clear()  # it may come back with other values, and nobody is told twice
            return []
        now = self.clock.monotonic()
        differing = self._changes(outputs)
        events = self._judge_confirmed(differing, now)
        changes = {
            signal: value
            for signal, value in differing.items()
            if now - self._tried.get(signal, -math.inf) >= _AGAIN and not (self._doubted and self._is_blind(signal, value, now))
        }
        if self._heartbeat is not None and now - self._beaten >= _HEARTBEAT:
            self._beaten = now
            if scan != self._beat_of:
                self._beats, self._beat_of = self._beats + 1, scan
            changes[self._heartbeat] = self.rows.device.profile.beat(self._beats)
        if not changes:
            return events
        self._waits = 0.0
        outcomes = await self.driver.write(changes)
        self._waits = None
        return events + [event for outcome in outcomes if self._matters(outcome) for event in self._note(outcome)]

    def _judge_confirmed(self, differing: dict[str, float], now: float) -> list[Event]:
        """Note of the signals that differ from what is asked which no longer show what was confirmed; journal each once until it does again.

        A device in local mode puts its own values back. Each write is confirmed, and only by this it counts as one that does not take its outputs.
        What is asked now does not matter: it may have moved on meanwhile.
        """
        events = []
        for signal in differing:
            confirmed, when = self._confirmed.get(signal, (math.nan, math.inf))
            place = self._places[signal]
            at = self._readback_at[place]
            found = float(self.image.value[at])
            if not (math.isfinite(found) and self.image.received[at] > when):
                continue
            if abs(found - confirmed) <= self._near[place] or self.driver.same(signal, confirmed, found):
                if signal in self._put_back:
                    self._takes(signal)
            elif signal not in self._put_back:
                self._put_back.add(signal)
                self._failing.setdefault(signal, now)
                asked = f"{confirmed:.6g}, found {found:.6g}"
                why = "the device confirmed it, and shows another value since; look whether it was restarted, or is in local mode"
                events.append(Event("write", f"{self.name}.{signal}", asked, "put back", why=why))
        return events

    def _takes(self, signal: str) -> None:
        """Note that a signal shows what was written."""
        self._failing.pop(signal, None)
        self._tried.pop(signal, None)
        self._put_back.discard(signal)

    def _matters(self, outcome: WriteOutcome) -> bool:
        """Whether an outcome is one to journal: of a heartbeat only that the device itself says no to it, and that it no longer does."""
        return outcome.signal != self._heartbeat or outcome.result in (WriteResult.CONFIRMED, WriteResult.REFUSED)

    def _changes(self, outputs: FloatArray) -> dict[str, float]:
        """Return the signals that do not read as what is asked for [eu of each]: as another number, or as none."""
        wanted, found = outputs[self._outputs], self.image.value[self._readback]
        same = np.abs(found - wanted) <= self._near  # false for NaN
        if not self._failing and np.count_nonzero(same) == len(same):  # nearly always
            return {}
        differs = np.isfinite(wanted) & ~same
        for place in (differs & np.isfinite(found)).nonzero()[0]:  # what the device cannot tell apart is not written again and again
            if self.driver.same(self.rows.signals[place], float(wanted[place]), float(found[place])):
                same[place], differs[place] = True, False
        for place in same.nonzero()[0] if self._failing else ():
            self._takes(self.rows.signals[place])
        return {self.rows.signals[place]: float(wanted[place]) for place in differs.nonzero()[0]}

    def _is_blind(self, signal: str, value: float, now: float) -> bool:
        """Whether to write `value` [its eu] would repeat a write of which nobody knows whether it took: the signal was not read since."""
        if signal not in self._doubted:
            return False
        sent, when = self._doubted[signal]
        at = self._readback_at[self._places[signal]]
        if math.isfinite(self.image.value[at]) and self.image.received[at] > when:
            del self._doubted[signal]
            return False
        self._failing.setdefault(signal, now)  # a loss may have made it forgotten
        return value == sent

    def differs(self, outputs: FloatArray) -> bool:
        """Whether the device shows anything else than `outputs`."""
        return bool(self._changes(outputs))

    def _note(self, outcome: WriteOutcome) -> list[Event]:
        """Journal a write that did not go well, once until it does; note since when, and do not hurry to write it again."""
        if outcome.result is WriteResult.CONFIRMED:
            self._confirmed[outcome.signal] = outcome.asked, self.clock.monotonic()
            self._doubted.pop(outcome.signal, None)
            if outcome.signal in self._put_back:  # whether it stays is seen by the next read
                self._tried[outcome.signal] = self.clock.monotonic()
            else:
                self._takes(outcome.signal)
        else:
            self._confirmed.pop(outcome.signal, None)
            if outcome.result.doubtful:
                self._doubted[outcome.signal] = outcome.asked, self.clock.monotonic()
            self._tried[outcome.signal] = self.clock.monotonic()
            self._failing.setdefault(outcome.signal, self._tried[outcome.signal])
        if self._reported.get(outcome.signal, WriteResult.CONFIRMED) is outcome.result:
            return []
        self._reported[outcome.signal] = outcome.result
        if outcome.result is WriteResult.CONFIRMED:
            return []
        asked = f"{outcome.asked:.6g}, found {outcome.found:.6g}"
        return [Event("write", f"{self.name}.{outcome.signal}", asked, outcome.result.value, why=outcome.why)]
