"""The service: one cell, its drivers, its batches, its telemetry. Reads from top to bottom; the page and the terminal see only its `Link`.

async with Service(cell, data, clock) as service:
    await service.stopped.wait()
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np

import controller
from controller.batch.journal import Journal, JournalError, JournalReader
from controller.batch.records import BatchState, Event
from controller.config import LoadedCell
from controller.core.cell import Begin, Cell
from controller.core.commands import Command, Receipt, Start, Transition
from controller.core.frame import Frame, Point, as_json
from controller.core.plan import CellPlan, UnitPlan
from controller.core.states import State, Verb, allowed_from
from controller.historian.store import Historian
from controller.runtime.batches import Library, unfinished
from controller.runtime.bus import Bus
from controller.runtime.clock import LiveClock
from controller.runtime.exchange import Exchange
from controller.runtime.lock import DataInUseError, lock
from drivers.connect import load_drivers, open_driver
from drivers.driver import Driver
from drivers.image import ProcessImage
from drivers.source import BadInput

__all__ = ["DataInUseError", "Service"]

log = logging.getLogger("blackmass.service")
_CHECKPOINT = 5.0  # [s] a batch without events is still written this often
_STOP_WITHIN = 3.0  # [s] for the devices to take their safe values at the end
_FIRST_CONTACT = 3.0  # [s] for the devices to be read once before the first scan
_SETTLE = 0.02  # [s] between two looks at a device that is to take its safe values
_RETRY = 1.0  # [s] between two tries to write the journal
_KEPT = 10_000  # events that wait for a journal that cannot be written
_WAITING = 64  # commands that may wait for one scan


class Service:
    """A running cell. Entering it connects and scans; leaving it puts the outputs to their safe values and closes everything."""

    def __init__(self, cell: LoadedCell, data: Path, clock: LiveClock, *, period: float = 0.05) -> None:
        self.plan = cell.plan
        self.loaded = cell
        self.data = data
        self.clock = clock
        self.period = max(self.plan.scan / clock.speed, period)  # [s] real time between scans
        self.library = Library(cell.classes)
        self.image = ProcessImage(self.plan.image, self.plan.freshness)
        self.frame: Frame | None = None
        self.stopped = asyncio.Event()
        self.why_stopped = ""
        self._new = asyncio.Condition()
        self._outputs = np.where(np.isnan(cell.plan.rest), cell.plan.outputs.low, cell.plan.rest)  # of the last scan
        self._commands: asyncio.Queue[Command | Begin] = asyncio.Queue(_WAITING)
        self._events: list[Event] = []
        self._stack = AsyncExitStack()
        self._happened = asyncio.Event()
        self._writing: asyncio.Task[bool] | None = None
        self._turn = asyncio.Lock()  # one command at a time
        self._sending: set[asyncio.Task[Receipt]] = set()
        self.unsafe: set[str] = set()  # devices that did not confirm their safe values at the end
        self._left: BatchState | None = None  # a batch that was reset, until its last state is on disk
        self._journal_why = ""
        self._prepared = False
        self._recipes: list[dict[str, Any]] = []  # what a person chooses from

    # lifecycle ----------------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Do what takes long and needs no device: the time-outs of devices run from the moment in which one is talked to."""
        if not self._prepared:
            await asyncio.to_thread(load_drivers, [row.device for row in self.plan.devices.values()])
            self._recipes = await asyncio.to_thread(self.library.summaries)
            self._prepared = True

    async def __aenter__(self) -> Service:
        async with AsyncExitStack() as stack:
            stack.callback(lock(self.data).close)
            await self.prepare()
            self.journal = Journal(self.data / "journal.sqlite")
            stack.callback(self.journal.close)
            points = [point for point in self.plan.points if isinstance(point, Point)]
            self.historian = Historian.open(self.data, points)
            stack.callback(self.historian.close)
            self.bus = Bus(self.historian)
            stack.callback(self.bus.close)
            self.cell = Cell(self.plan, boot=self.historian.boot)
            self._events.append(Event("service", self.plan.id, "", "started", why=f"blackmass {controller.__version__}, boot {self.cell.boot}"))
            kept = unfinished(JournalReader(self.journal.path), self.library, self.plan)
            if isinstance(kept, BatchState):
                self.journal.append(
                    kept.id, self.clock.plant(), self.clock.wall(), [Event("batch", kept.id, "", "ABORTED", why=kept.why)], state=kept
                )
            elif kept is not None:
                self._commands.put_nowait(kept)
            self._exchanges = [await self._connect(stack, name) for name in self.plan.devices]
            self._tasks = [asyncio.create_task(self._serve(exchange), name=f"device {exchange.name}") for exchange in self._exchanges]
            self._tasks += [asyncio.create_task(self._scan(), name="scan"), asyncio.create_task(self._keep(), name="journal")]
            for task in self._tasks:
                task.add_done_callback(self._ended)
            stack.push_async_callback(self._stop)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def _connect(self, stack: AsyncExitStack, name: str) -> Exchange:
        rows = self.plan.devices[name]
        driver: Driver = open_driver(rows.device, data=self.data)
        await stack.enter_async_context(driver)
        return Exchange(rows, driver, self.image, self.plan, self.clock)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop the service when one of its tasks ends by an error: a controller that limps is worse than one that stops safely."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s ended: %r; the service stops", task.get_name(), error, exc_info=error)
            self.why_stopped = f"{task.get_name()}: {error!r}"
            self.stopped.set()

    async def _stop(self) -> None:
        self.stopped.set()
        for task in (*self._tasks, *self._sending):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._sending, return_exceptions=True)
        try:
            async with asyncio.timeout(_STOP_WITHIN):
                await asyncio.gather(*(self._make_safe(exchange) for exchange in self._exchanges))
        except TimeoutError:
            log.warning("not every device took its safe values within %g s; their own heartbeat watch will", _STOP_WITHIN)
        self._events.append(Event("service", self.plan.id, "started", "stopped", why=self.why_stopped or "asked to"))
        if self._writing is not None:
            await self._writing
        await self._flush()

    async def _make_safe(self, exchange: Exchange) -> None:
        if not len(exchange.rows.outputs):
            return  # there is nothing that it could be asked for
        safe = np.where(np.isnan(self.plan.safe), self._outputs, self.plan.safe)
        self.unsafe.add(exchange.name)
        self._happen(await exchange.read())
        while exchange.driver.metrics.connected and exchange.differs(safe):
            self._happen(await exchange.write(safe, self.cell.seq))
            self._happen(await exchange.read())
            await asyncio.sleep(_SETTLE)
        if exchange.driver.metrics.connected:
            self.unsafe.discard(exchange.name)

    # devices ------------------------------------------------------------------------------------------------------------

    async def _serve(self, exchange: Exchange) -> None:
        """Read one device, write to it, wait for the rest of its period; a slow device delays only itself."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._happen(await exchange.read())
            if self.frame is not None and not self.stopped.is_set():  # without a scan there is nothing to ask for
                self._happen(await exchange.write(self._outputs, self.cell.seq))
            due = max(due + exchange.rows.poll, loop.time())
            if await exchange.driver.due(due - loop.time(), exchange.rows.poll):
                due = loop.time()  # what a device tells does not wait for a period's end

    # the scan -----------------------------------------------------------------------------------------------------------

    async def _scan(self) -> None:
        """Scan at absolute deadlines; a missed one is skipped, never caught up with two scans back to back."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):  # a device that is there is not lost: nothing is judged before it could answer
            async with asyncio.timeout(_FIRST_CONTACT):
                await asyncio.gather(*(exchange.first.wait() for exchange in self._exchanges))
        due = loop.time() + self.period
        while True:
            await asyncio.sleep(max(due - loop.time(), 0.0))
            started = loop.time()
            self._say(started - due)
            for exchange in self._exchanges:
                for event in (stuck := exchange.watch()):
                    log.error("%s is lost: %s", event.name, event.why)
                self._happen(stuck)
            commands = [self._commands.get_nowait() for _ in range(self._commands.qsize())]
            before = self._state()
            scan = self.cell.scan(self.clock.plant(), self.image.snapshot(self.clock.monotonic()), commands, wall=self.clock.wall())
            self._outputs = scan.outputs
            if before is not None and self._state() is None:
                self._left = before  # RESET has taken it away, perhaps before its end was written
            self._happen(scan.events)
            self.bus.put(scan.frame)
            if self._journal_why and State(scan.frame.state) in allowed_from(Verb.HOLD) and not self._commands.full():
                self._commands.put_nowait(Transition(who="blackmass", verb=Verb.HOLD, why=self._journal_why[:500]))
            self._set("SERVICE.SCAN_MS", (loop.time() - started) * 1e3)
            async with self._new:
                self.frame = scan.frame
                self._new.notify_all()
            due += self.period
            if (behind := loop.time() - due) > 0.0:
                due += (behind // self.period + 1) * self.period

    def _say(self, late: float) -> None:
        self._set("SERVICE.LATE_MS", max(late, 0.0) * 1e3)
        self._set("SERVICE.QUEUE", float(self.bus.depth))
        self._set("SERVICE.DROPPED", float(self.bus.dropped))
        self._set("SERVICE.UNSTORED", float(bool(self.bus.why)))

    def _set(self, name: str, value: float) -> None:
        place = self.plan.service[name]
        self.image.value[place], self.image.quality[place] = value, 0
        self.image.source_time[place] = self.image.receive_time[place] = round(self.clock.plant() * 1e9)
        self.image.received[place] = self.clock.monotonic()

    # the journal --------------------------------------------------------------------------------------------------------

    def _state(self) -> BatchState | None:
        return self.cell.procedure.state if self.cell.procedure is not None else None

    def _happen(self, events: Sequence[Event]) -> None:
        """Queue events for the journal. Never ``self._events += await ...``: that would put back a list taken in the meantime."""
        if events:
            self._events.extend(events)
            self._happened.set()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    async def _keep(self) -> None:
        """Write what happened, with the batch's state, as soon as it happens; the scan does not wait for the disk."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECKPOINT):
                    await self._happened.wait()
            self._happened.clear()
            if self._events or self._state() is not None or self._left is not None:
                # shielded: what has been taken for a write is written, also when the service is told to stop meanwhile
                self._writing = asyncio.create_task(self._flush(), name="journal write")
                if not await asyncio.shield(self._writing):
                    await asyncio.sleep(_RETRY)

    async def _flush(self) -> bool:
        """Write the events so far, and the batch's state with them; return whether they are on disk. If not they stay queued."""
        state = self._left or self._state()
        copy = BatchState.from_json(state.to_json()) if state is not None else None
        events = self._take_events()
        written = await asyncio.to_thread(self._write_journal, events, copy)
        if not written:
            self._events[:0] = events
            del self._events[_KEPT:]  # a full disk must not fill the memory too
        elif state is self._left:
            self._left = None
        return written

    def _write_journal(self, events: list[Event], state: BatchState | None) -> bool:
        try:
            self.journal.append(state.id if state else "", self.clock.plant(), self.clock.wall(), events, state=state)
        except JournalError as error:
            if not self._journal_why:
                log.error("%s", error)
            self._journal_why = str(error)
            return False
        self._journal_why = ""
        return True

    # the link to the face -----------------------------------------------------------------------------------------------

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield the newest frame whenever there is a new one."""
        last: Frame | None = None
        while True:
            async with self._new:
                while self.frame is last:
                    await self._new.wait()
                last = self.frame
            if last is not None:
                yield last

    async def send(self, command: Command) -> Receipt:
        """Journal a command and hand it to the next scan.

        Once begun it is finished, whether or not the caller still waits: a journaled command that no scan gets would be a lie.
        """
        task = asyncio.create_task(self._send_in_turn(command), name="command")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return await asyncio.shield(task)

    async def _send_in_turn(self, command: Command) -> Receipt:
        async with self._turn:
            return await self._send(command)

    async def _send(self, command: Command) -> Receipt:
        if self.stopped.is_set():
            return Receipt(
                accepted=False, why=f"the service has stopped: {self.why_stopped or 'asked to'}; devices fall to their safe state by themselves"
            )
        toward_safety = isinstance(command, Transition) and command.verb in (Verb.HOLD, Verb.STOP, Verb.ABORT)
        if self._journal_why and not toward_safety:
            return Receipt(accepted=False, why=self._journal_why)
        if refused := self.cell.refuses(command):
            return Receipt(accepted=False, why=refused)
        if self._commands.full():
            return Receipt(accepted=False, why=f"{_WAITING} commands wait already; try again")
        if isinstance(command, Start):
            return await self._begin(command)
        state = self._state()
        intent = Event("command", command.do, "", command.model_dump_json(exclude={"who", "why", "do"}), command.who, command.why)
        try:
            await asyncio.to_thread(self.journal.append, state.id if state else "", self.clock.plant(), self.clock.wall(), [intent])
        except JournalError as error:
            if not toward_safety:
                return Receipt(accepted=False, why=str(error))
            self._happen([intent])  # nobody waits for a disk to stop a plant: it is journaled as soon as that is possible
            self._commands.put_nowait(command)
            return Receipt(accepted=True, why=f"done, but not in the journal yet: {error}")
        self._commands.put_nowait(command)
        return Receipt(accepted=True)

    async def _begin(self, command: Start) -> Receipt:
        try:
            ready = await asyncio.to_thread(self._prepare, command)
        except (BadInput, ValueError) as error:
            return Receipt(accepted=False, why=str(error))
        except JournalError as error:
            return Receipt(accepted=False, why=str(error))
        self._commands.put_nowait(ready)
        while self.cell.procedure is None and not self.stopped.is_set():  # the next START must see this one
            async with self._new:
                await self._new.wait()
        return Receipt(accepted=True)

    def _prepare(self, command: Start) -> Begin:
        recipe = self.library.load(command.recipe)
        batch, number = self.journal.next_id(self.plan.id)
        plant = self.clock.plant()
        begin = self.library.prepare(recipe, self.plan, batch, plant, command.parameters, command.lot, command.who)
        intent = Event("command", command.do, "", command.model_dump_json(exclude={"who", "why", "do"}), command.who, command.why)
        self.journal.begin(begin.state, number, recipe.text, recipe.file, self.plan.id, plant=plant, wall=self.clock.wall(), events=[intent])
        return begin

    def texts(self) -> dict[str, dict[str, str]]:
        """Return what each device says of itself in words, by its name."""
        return {exchange.name: exchange.texts for exchange in self._exchanges}

    def describe(self) -> dict[str, Any]:
        """Return what does not change while the service runs, ready for JSON."""
        plan = self.plan
        rows = plan.loops
        return {
            "version": controller.__version__,
            "cell": plan.id,
            "description": plan.description,
            "simulated": plan.simulated,
            "mode": "SIMULATED" if plan.simulated else "LIVE",
            "speed": self.clock.speed,
            "scan": plan.scan,
            "boot": self.cell.boot,
            "points": [as_json(point) for point in plan.points],
            "units": [
                {
                    "name": unit.name,
                    "unit_class": unit.unit_class,
                    "description": unit.description,
                    "roles": _roles(plan, unit),
                    "key": [plan.inputs[unit.roles[role].measured].name for role in unit.key],
                }
                for unit in plan.units.values()
            ],
            "loops": [
                {
                    "name": name,
                    "description": self.loaded.descriptions.get(name, ""),
                    "unit": getattr(plan.points[int(rows.pv[place])], "unit", ""),
                    "pv": plan.inputs[int(rows.pv[place])].name,
                    "sp": f"{name}.SP",
                    "out": f"{plan.outputs[int(rows.out[place])].name}.OUT",
                    "mode": f"{name}.MODE",
                }
                for place, name in enumerate(rows.names)
            ],
            "devices": [
                {
                    "name": name,
                    "profile": row.device.profile.id,
                    "address": str(row.device.address),
                    "description": row.device.profile.description,
                }
                for name, row in plan.devices.items()
            ],
            "interlocks": [
                {
                    "name": name,
                    "unit": plan.interlocks.units[place],
                    "text": f"{plan.interlocks.texts[place]} (permit {plan.interlocks.says[place]})",
                }
                for place, name in enumerate(plan.interlocks.names)
            ],
            "recipes": self._recipes,
        }


def _roles(plan: CellPlan, unit: UnitPlan) -> dict[str, str]:
    """Return the point of each role; of two loops on one measurement the first names it."""
    points: dict[str, str] = {}
    for name, role in unit.roles.items():
        if (point := plan.inputs[role.measured].name) not in points.values():
            points[name] = point
    return points
