"""One scan of a process cell: a pure function of (state, now, image, commands), and nothing here reads a clock or waits.

``Cell`` holds the state. The same `scan` runs a real plant, a simulated one in lockstep, and a recording.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.batch.procedure import Procedure
from controller.batch.records import BatchState, Event
from controller.core import alarms, interlocks, loops
from controller.core.commands import Acknowledge, Answer, Command, ResetInterlock, Start, Transition, Tune
from controller.core.diagnosis import Diagnosis
from controller.core.equipment import Bench
from controller.core.frame import Frame
from controller.core.loops import Mode
from controller.core.plan import CellPlan, Role, UnitPlan
from controller.core.states import State, Verb, why_not
from controller.core.views import Views, alarm_views, verbs
from drivers.image import Snapshot
from drivers.tags import FloatArray, Quality, QualityArray
from recipes.model import Recipe

__all__ = ["Begin", "Cell", "Scan"]


_GOOD, _UNCERTAIN, _BAD = (np.uint8(quality) for quality in (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD))
# looked up once: an enum's attribute costs as much as an operation on a small array
_MAN, _AUTO, _REMOTE = (int(mode) for mode in (Mode.MAN, Mode.AUTO, Mode.REMOTE))
_IDLE, _AT_WORK = State.IDLE, (State.RUNNING, State.PAUSING, State.PAUSED, State.RESTARTING)
_ABORT = (State.ABORTING, State.ABORTED)
_NONE = np.zeros(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Begin:
    """A START that has been read, checked and journaled: the recipe, and the batch in the state in which it begins or goes on."""

    recipe: Recipe
    state: BatchState
    who: str
    context: Mapping[str, Any]
    expected: Mapping[str, float]  # [s] how long each step takes, from earlier batches or the recipe


@dataclass(frozen=True, slots=True)
class Scan:
    """What one scan gives: outputs (m,) [eu of each], the frame, and what has to go to the journal."""

    outputs: FloatArray
    frame: Frame
    events: tuple[Event, ...]


class Cell:
    """The state of a cell between scans."""

    def __init__(self, plan: CellPlan, *, boot: int = 0) -> None:
        self.plan = plan
        self.boot = boot
        self.seq = 0
        self.procedure: Procedure | None = None
        self.expected: Mapping[str, float] = {}
        self.bench = Bench(plan)
        self._diagnosis = Diagnosis(plan)
        self._views = Views(plan)
        self._last: float | None = None
        self._outputs = np.where(np.isnan(plan.rest), plan.outputs.low, plan.rest)
        self._loops = loops.initial(plan.loops)
        n = len(plan.loops.names)
        self._manual_sp: FloatArray = np.full(n, np.nan)
        self._manual_out: FloatArray = np.full(n, np.nan)
        self._interlocks = interlocks.initial(plan.interlocks)
        self._acting: tuple[str, ...] = ()
        self._aborted = False
        rows = plan.selectors
        self._redundant = [(of[member].tolist(), float(agree)) for of, member, agree in zip(rows.of, rows.member, rows.agree, strict=True)]
        self._doubted: list[int] = []  # selectors whose measurements disagree or are not all there
        self._remote = True  # whether every loop is in REMOTE
        self._stays = np.isnan(plan.rest)
        self._alarms = alarms.initial(plan.alarms)
        self._lost: Mapping[str, str] = {}  # devices that do not answer, and why
        # roles with a flow behind them: what went through is counted for the report
        self._flows = {name: self._flows_of(unit) for name, unit in plan.units.items()}

    # the scan -----------------------------------------------------------------------------------------------------------

    def scan(self, now: float, image: Snapshot, commands: Sequence[Command | Begin] = (), *, wall: int = 0) -> Scan:
        """Advance the cell to `now` [s, plant clock] with what is known of the plant and what people asked for."""
        plan = self.plan
        dt = plan.scan if self._last is None else now - self._last
        if not 0.0 <= dt < math.inf:
            dt = 0.0  # the plant clock was set back: process timers stand still until it moves on
        self._last = now
        self._lost = image.lost
        values, quality = self._inputs(image)
        self.bench.begin(now, dt, values, quality, self._loops.setpoint, self._loops.running)
        events: list[Event] = []
        for command in commands:
            events += self._obey(command)
        if self.procedure is not None:
            self._guard()
            self.procedure.scan()
            self._count(dt)
            events += self.procedure.events
            self.procedure.events = []
        asked = self._control(values, dt)
        self._interlocks = interlocks.judge(plan.interlocks, self._interlocks, values, dt)
        outputs, acting = interlocks.apply(plan.interlocks, self._interlocks, asked)
        self._outputs = outputs
        events += self._trips([row for row in acting if self._tells(row, asked, values)])
        events += self._alarm(values, now, dt)
        frame = self._frame(now, wall, image, values, quality, outputs)
        self.seq += 1
        return Scan(outputs, frame, tuple(events))

    def _inputs(self, image: Snapshot) -> tuple[FloatArray, QualityArray]:
        """Return all inputs: the image, and behind it what the selectors make of their measurements; shapes (n,)."""
        if not self._redundant:
            return image.value, image.quality
        n = len(image.value)
        values, quality = np.empty(n + len(self._redundant)), np.empty(n + len(self._redundant), dtype=np.uint8)
        values[:n], quality[:n] = image.value, image.quality
        self._doubted = []
        for row, (places, agree) in enumerate(self._redundant):
            known = [(value, place) for place in places if math.isfinite(value := float(image.value[place]))]
            members = [value for value, _ in known]
            total = 0.0
            for value in members:
                total += value
            doubt = len(known) < len(places) or max(members) - min(members) > agree
            if doubt:
                self._doubted.append(row)
            values[n + row] = total / len(known) if known else math.nan
            quality[n + row] = _BAD if not known else _UNCERTAIN if doubt else max(image.quality[place] for _, place in known)
        return values, quality

    def _guard(self) -> None:
        """Hold a batch whose active units have lost a device."""
        if self.procedure is None or self.procedure.state.state not in _AT_WORK:
            return
        unfit = self._diagnosis.unfit(self.bench.values)
        if not unfit:
            return
        for unit in sorted(self.procedure.active_units()):
            if mine := unfit.keys() & set(self.plan.units[unit].devices):
                self.procedure.hold(f"unit {unit} {unfit[min(mine)]}; restart when that is mended")
                return

    def _flows_of(self, unit: UnitPlan) -> list[tuple[str, int]]:
        """Return (name, input) of everything that flows through a unit; an output that a loop shares with a role counts once."""
        driven: dict[int, Role] = {}
        for role in sorted(unit.roles.values(), key=lambda role: role.kind == "loop"):
            if role.kind != "measurement":
                driven.setdefault(role.output, role)
        return [(f"{unit.name}.{role.name}", self._flow(role)) for role in driven.values() if self._flow(role) >= 0]

    def _flow(self, role: Role) -> int:
        """Return the input that measures what passes through a role; -1 if nothing does."""
        place = role.measured if role.kind == "output" else self.plan.readback[role.output]
        return int(place) if "/" in self.plan.inputs[int(place)].eu else -1

    def _count(self, dt: float) -> None:
        """Integrate what went through the active units, for the reagents of the report."""
        if self.procedure is None:
            return
        counters = self.procedure.state.counters
        for unit in self.procedure.active_units():
            for key, place in self._flows[unit]:
                if (value := self.bench.values[place]) > 0.0:  # false for NaN
                    counters[key] = counters.get(key, 0.0) + float(value) * dt

    def _control(self, values: FloatArray, dt: float) -> FloatArray:
        """Return what is asked of the outputs (m,), by priority: manual > remote > automatic > rest."""
        plan, bench, state = self.plan, self.bench, self._loops
        rows = plan.loops
        aborted = self.procedure is not None and self.procedure.state.state in _ABORT
        if aborted and not self._aborted:
            # abort means everything: a loop that a person had taken is let go too; it can be taken again afterwards
            state.mode = np.full_like(state.mode, _REMOTE)
        self._aborted = aborted
        remote = state.mode == _REMOTE
        self._remote = np.count_nonzero(remote) == len(remote)  # nearly always
        sp = bench.setpoints()
        if not self._remote:
            sp = np.where(remote, sp, np.where(state.mode == _AUTO, self._manual_sp, np.nan))
        active = np.isfinite(sp)
        if not self._remote:
            active &= state.mode != _MAN
        self._loops = loops.advance(rows, state, values[rows.pv], values[rows.feed], sp, active, self._outputs[rows.out], dt)
        # a counter has no rest value: it stays as the device shows it, or as it was last put out
        shown = values[plan.readback]
        shown = np.where(np.isnan(shown), self._outputs, shown)
        asked = np.where(np.isnan(bench.asked), np.where(self._stays, shown, plan.rest), bench.asked)
        if aborted:
            asked = np.where(np.isnan(plan.safe), shown, plan.safe)
        asked[rows.out[active]] = self._loops.out[active]
        if not self._remote:
            manual = (state.mode == _MAN) & np.isfinite(self._manual_out)
            asked[rows.out[manual]] = self._manual_out[manual]
        known = np.isfinite(asked)
        if np.count_nonzero(known) < len(known):
            asked = np.where(known, asked, np.where(np.isfinite(plan.safe), plan.safe, plan.outputs.low))
        limited: FloatArray = np.minimum(np.maximum(asked, plan.outputs.low), plan.outputs.high)
        return limited

    def _tells(self, row: int, asked: FloatArray, values: FloatArray) -> bool:
        """Whether an interlock that changed something is news: a value that is only lost has its device's alarm, unless somebody asks."""
        rows = self.plan.interlocks
        wanted = asked[rows.affects[row]] != self.plan.rest[rows.affects[row]]
        return bool(np.isfinite(values[rows.permit.place[row]]) or wanted.any())

    def _trips(self, acting: list[int]) -> list[Event]:
        rows = self.plan.interlocks
        names = tuple(rows.names[row] for row in acting)
        if names == self._acting:
            return []
        came = [
            Event("interlock", name, "given", "holds", why=self._diagnosis.first_out(name, self.bench.values))
            for name in names
            if name not in self._acting
        ]
        went = [Event("interlock", name, "holds", "given") for name in self._acting if name not in names]
        self._acting = names
        return came + went

    def _alarm(self, values: FloatArray, now: float, dt: float) -> list[Event]:
        rows, state = self.plan.loops, self._loops
        blind = _NONE if self._remote else ((state.mode == _AUTO) & ~np.isfinite(values[rows.pv])).nonzero()[0]
        raised = self._diagnosis.alarms(values, self._lost, self._acting, blind, self._doubted, self.procedure)
        self._alarms, changed = alarms.update(self.plan.alarms, self._alarms, values, self.plan.inputs, raised, now, dt)
        return [self._alarm_event(name) for name in changed]

    def _alarm_event(self, name: str) -> Event:
        view = self._alarms.listed.get(name)
        comes = name in self._alarms.active
        return Event("alarm", name, "normal" if comes else "alarm", "alarm" if comes else "normal", why=view.text if view else "")

    # commands -----------------------------------------------------------------------------------------------------------

    def refuses(self, command: Command) -> str:
        """Return why a command would be refused now, empty if it would not. Changes nothing."""
        if isinstance(command, Transition):
            return why_not(self.procedure.state.state if self.procedure else State.IDLE, command.verb)
        if isinstance(command, Start):
            return self.not_ready()
        if isinstance(command, Tune):
            return self._tune_refused(command)
        if isinstance(command, Acknowledge):
            return "" if command.alarm in self._alarms.listed else f"alarm {command.alarm!r} is not in the list"
        if isinstance(command, ResetInterlock):
            return "" if command.interlock in self.plan.interlocks.names else f"no interlock {command.interlock!r} in this cell"
        return "" if self.procedure is not None else "no batch is running"

    def not_ready(self) -> str:
        """Return why no batch can start now, empty if one can."""
        if self.procedure is not None:
            return why_not(self.procedure.state.state, Verb.START)
        if len(self.bench.values) == 0:
            return "START waits for the first scan"
        lost = [f"{name} ({row.device.address})" for name, row in self.plan.devices.items() if self.bench.values[row.up] != 1.0]
        if lost:
            return f"START needs every device of the cell; lost: {', '.join(lost)}"
        if unfit := self._diagnosis.unfit(self.bench.values):
            return "START: the cell " + "; ".join(unfit.values())
        manual = [self.plan.loops.names[row] for row in np.flatnonzero(self._loops.mode != Mode.REMOTE)]
        return f"START needs every loop in REMOTE; not so: {', '.join(manual)}" if manual else ""

    def _obey(self, command: Command | Begin) -> list[Event]:
        refused, done = "", list[Event]()
        if isinstance(command, Begin):
            return self._begin(command)
        if isinstance(command, Transition):
            refused, done = self._transition(command)
        elif isinstance(command, Answer):
            refused = self.procedure.answer(command.prompt, command.value, command.who) if self.procedure else "no batch is running"
        elif isinstance(command, Acknowledge):
            refused = alarms.acknowledge(self._alarms, command.alarm)
        elif isinstance(command, ResetInterlock):
            refused = interlocks.release(self.plan.interlocks, self._interlocks, command.interlock, self.bench.values)
        elif isinstance(command, Tune):
            refused = self._tune(command)
        return [Event("command", command.do, "", f"refused: {refused}" if refused else "done", command.who, command.why), *done]

    def _begin(self, begin: Begin) -> list[Event]:
        if self.procedure is not None:
            return [Event("command", "start", "", f"refused: {why_not(self.procedure.state.state, Verb.START)}", begin.who)]
        self.procedure = Procedure(begin.recipe, begin.state, self.bench, begin.context)
        self.expected = begin.expected
        self._views.begin()
        return [Event("batch", begin.state.id, State.IDLE, begin.state.state, begin.who, begin.state.why)]

    def _transition(self, command: Transition) -> tuple[str, list[Event]]:
        if self.procedure is None:
            return why_not(State.IDLE, command.verb), []
        refused = self.procedure.command(command.verb, command.who, command.why)
        events, self.procedure.events = self.procedure.events, []
        if not refused and command.verb is Verb.RESET:
            self.procedure = None
        return refused, events

    def _tune_refused(self, command: Tune) -> str:
        rows = self.plan.loops
        if command.loop not in rows.names:
            return f"no loop {command.loop!r} in this cell; known: {', '.join(rows.names)}"
        row = rows.names.index(command.loop)
        mode = self._loops.mode[row] if command.mode is None else Mode[command.mode]
        pv, out = self.plan.inputs[int(rows.pv[row])], self.plan.outputs[int(rows.out[row])]
        if command.setpoint is not None and not rows.sp_low[row] <= command.setpoint <= rows.sp_high[row]:
            return f"{command.loop}: setpoint {command.setpoint:g} {pv.eu} is outside {rows.sp_low[row]:g} to {rows.sp_high[row]:g} {pv.eu}"
        if command.output is not None and not rows.out_low[row] <= command.output <= rows.out_high[row]:
            return f"{command.loop}: output {command.output:g} {out.eu} is outside {rows.out_low[row]:g} to {rows.out_high[row]:g} {out.eu}"
        if command.setpoint is not None and mode != Mode.AUTO:
            return f"{command.loop}: a setpoint can be set in AUTO; it is in {Mode(mode).name}"
        if command.output is not None and mode != Mode.MAN:
            return f"{command.loop}: an output can be set in MAN; it is in {Mode(mode).name}"
        return ""

    def _tune(self, command: Tune) -> str:
        if refused := self._tune_refused(command):
            return refused
        row = self.plan.loops.names.index(command.loop)
        if command.mode is not None:
            mode = Mode[command.mode]
            self._loops.mode = self._loops.mode.copy()
            self._loops.mode[row] = mode
            if mode is Mode.MAN:  # bumpless: what is there stays until the person changes it
                self._manual_out[row] = self._outputs[self.plan.loops.out[row]]
            if mode is Mode.AUTO:
                last, pv = self._loops.setpoint[row], self.bench.values[self.plan.loops.pv[row]]
                self._manual_sp[row] = last if np.isfinite(last) else pv
        if command.setpoint is not None:
            self._manual_sp[row] = command.setpoint
        if command.output is not None:
            self._manual_out[row] = command.output
        return ""

    # the frame ----------------------------------------------------------------------------------------------------------

    def _frame(self, now: float, wall: int, image: Snapshot, values: FloatArray, quality: QualityArray, outputs: FloatArray) -> Frame:
        extra = len(self.plan.points) - len(values)
        when = round(now * 1e9)
        selected = len(values) - len(image.value)
        value = np.concatenate((values, outputs, self._loops.setpoint, self._loops.mode.astype(np.float64)))
        own = np.where(np.isnan(value[len(values) :]), _BAD, _GOOD)
        state = self.procedure.state.state if self.procedure else _IDLE
        stamp = np.full(selected + extra, when, dtype=np.int64)
        return Frame(
            self.boot,
            self.seq,
            now,
            wall,
            value,
            np.concatenate((quality, own)),
            np.concatenate((image.source_time, stamp)),
            np.concatenate((image.receive_time, stamp)),
            str(state),
            verbs(state) if self.procedure is not None else tuple((str(verb), self._why_not(verb)) for verb in Verb),
            self._views.batch(self.procedure, self.expected, self.seq),
            self._views.units(self.procedure, self._acting),
            alarm_views(self._alarms.listed.values()),
        )

    def _why_not(self, verb: Verb) -> str:
        return self.not_ready() if verb is Verb.START else why_not(_IDLE, verb)
