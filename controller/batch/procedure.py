"""Run a recipe: walk its steps, obey the ISA-88 table, and say of every step why it waits.

A `Procedure` is driven by the scan: `scan` once per scan, `command` for what people ask. All that it knows stands in its
`BatchState`; generators only hold the place, and are made anew whenever a step is entered again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import controller.batch.phases  # noqa: F401  makes the phases known
from controller.batch.phase import CATALOGUE, Phase, PhaseFailed, Steps
from controller.batch.records import BatchState, Event, StepRecord
from controller.core.equipment import Bench, NotGood, UnitView
from controller.core.frame import PromptView, StepView
from controller.core.states import AUTOMATIC, COMMANDS, FINAL, State, Verb, why_not
from drivers.tags import Quality
from recipes.expression import Expression
from recipes.model import AskStep, Group, Recipe, RunStep, Step, Watch

__all__ = ["Procedure", "expected_durations"]

# looked up once: an enum's attribute costs as much as what a scan does with it
_RUNNING, _PAUSING, _PAUSED = _AT_WORK = (State.RUNNING, State.PAUSING, State.PAUSED)
_ON_HOLD, _ENDING = (State.HOLDING, State.HELD, State.RESTARTING), (State.STOPPING, State.ABORTING)


@dataclass(slots=True)
class _Entered:
    """A step that has been entered: its generator and what it said last."""

    steps: Steps
    view: UnitView
    says: str = ""
    finished: bool = False


class Procedure:
    """One batch of one recipe on the units it has been given."""

    def __init__(self, recipe: Recipe, state: BatchState, bench: Bench, context: Mapping[str, Any]) -> None:
        self.recipe = recipe
        self.state = state
        self.bench = bench
        self.context = context
        self.events: list[Event] = []
        self._units = {alias: UnitView(bench.plan.units[name], bench) for alias, name in state.units.items()}
        self._entered: dict[str, _Entered] = {}
        self._phases: dict[str, tuple[Phase, UnitView]] = {}  # of steps that have begun: they count in a hold too
        self._watching: dict[int, str] = {}  # watches that are true now, and what they say
        self._leaves = list(recipe.leaves())
        self._groups = {group.path: group for group in recipe.groups()}
        self._finished: set[str] = set()
        self._active: list[RunStep | AskStep] | None = None  # forgotten whenever a step begins, ends, is held or goes on
        self._shown: dict[str, StepView] = {}  # in the order of the leaves
        self._viewed: list[RunStep | AskStep] | None = None  # what ran when they were all made
        self._places: dict[str, tuple[int, bool] | None] = {}  # of the names that have been looked up
        for leaf in self._leaves:
            state.steps.setdefault(leaf.path, StepRecord())

    # the scope of expressions -------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Plant clock [s]."""
        return self.bench.now

    def _place(self, name: str) -> tuple[int, bool] | None:
        """Return (place, is a loop's setpoint) of ``L1.pH`` or ``L1.pH.sp``; None if it is not a role."""
        if name not in self._places:
            self._places[name] = self._look_up(name)
        return self._places[name]

    def _look_up(self, name: str) -> tuple[int, bool] | None:
        alias, _, role = name.partition(".")
        view = self._units.get(alias)
        if view is None:
            return None
        role, _, field = role.partition(".")
        bound = view.unit.roles.get(role)
        if bound is None:
            return None
        return (bound.loop, True) if field == "sp" else (bound.measured, False)

    def value(self, name: str) -> float:
        """Return the value of a name in an expression [its eu]; NaN while it is not known."""
        place = self._place(name)
        if place is not None:
            return float(self.bench.loop_sp[place[0]] if place[1] else self.bench.values[place[0]])
        if name in self.state.formula:
            return self.state.formula[name]
        return self.state.records.get(name, math.nan)

    def quality(self, name: str) -> Quality:
        """Return the quality of a name in an expression."""
        place = self._place(name)
        if place is not None and not place[1]:
            return Quality(int(self.bench.quality[place[0]]))
        return Quality.BAD if math.isnan(self.value(name)) else Quality.GOOD

    def done(self, step: str) -> bool:
        """Return whether a step, or every step of a group, is done."""
        if step in self.state.steps:
            return self.state.steps[step].state == "done"
        return all(self.state.steps[leaf.path].state == "done" for leaf in self._groups[step].leaves())

    # commands -----------------------------------------------------------------------------------------------------------

    def command(self, verb: Verb, who: str, why: str) -> str:
        """Obey one command; return why it is refused, empty if it is not."""
        if refused := why_not(self.state.state, verb):
            return refused
        if verb is Verb.RESET:  # frees the cell; the batch itself stays what it has become
            self.events.append(Event("batch", self.state.id, self.state.state, State.IDLE, who, why or f"{verb} by {who}"))
            return ""
        if verb is Verb.RESTART:
            self.state.confirmed = True
            self.state.watches.clear()
            for leaf in self.running():
                record = self.state.steps[leaf.path]
                record.extended = record.active
                record.resume.clear()
                record.memory.clear()  # nobody has looked during the hold: a condition that lasts begins anew
        self._go(COMMANDS[verb][1], why or f"{verb} by {who}", who)
        return ""

    def answer(self, prompt: str, value: bool | float | str, who: str) -> str:
        """Take the answer to a prompt; return why it is refused, empty if it is not."""
        leaf = next((leaf for leaf in self._leaves if leaf.path == prompt and isinstance(leaf, AskStep)), None)
        if leaf is None or self.state.steps[prompt].state != "running":
            return f"no prompt {prompt!r} waits for an answer"
        if not isinstance(leaf, AskStep):
            return f"{prompt!r} is not a prompt"
        if leaf.kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
            return f"prompt {prompt}: expected a number [{leaf.eu}], got {value!r}"
        if leaf.kind == "confirm" and value is not True:
            return f"prompt {prompt}: expected a confirmation; HOLD or STOP the batch if it cannot be given"
        if leaf.kind == "text" and (not isinstance(value, str) or not value.strip()):
            return f"prompt {prompt}: expected some text"
        name = leaf.record or prompt
        if isinstance(value, str):
            self.state.texts[name] = value
        else:
            self.state.records[name] = float(value)
        self.events.append(Event("prompt", prompt, leaf.text, str(value), who))
        if leaf.pass_if is not None and leaf.pass_if.truth(self, {}) is not True:
            self._deviate(prompt, f"{prompt}: {leaf.pass_if.explain(self, {})}: not passed")
            return ""
        self._end(leaf, "done")
        return ""

    # the scan -----------------------------------------------------------------------------------------------------------

    def scan(self) -> None:
        """Advance by one scan; requests go to the bench."""
        state = self.state
        for view in self._units.values():
            view.issued = {}
        for path, (phase, view) in self._phases.items():
            if state.steps[path].state in ("running", "held"):
                phase.count(view)
        if state.state in _AT_WORK:
            self._watch(("hold", "stop", "abort", "alarm"))
        elif state.state in _ON_HOLD:
            self._watch(("stop", "abort", "alarm"))
        if state.state in _AT_WORK:
            progressed = self._walk(self.recipe.procedure, may_start=state.state is _RUNNING)
            if state.state is _PAUSING and self._at_rest():
                self._automatic("every running step has come to a point where the next would start")
            elif state.state is _RUNNING and progressed:
                self._finish()
        elif state.state in _ON_HOLD:
            self._hold()
        elif state.state in _ENDING:
            for leaf in self.running():
                self._end(leaf, "stopped")
            state.ended = self.now
            self._automatic(state.why)

    def hold(self, why: str, *, deviation: bool = True) -> None:
        """Hold the batch for a reason of its own."""
        if self.state.state in COMMANDS[Verb.HOLD][0]:
            if deviation:
                self._deviate("batch", why)
            self._go(State.HOLDING, why)

    def _deviate(self, name: str, what: str) -> None:
        self.state.deviations.append(what)
        self.events.append(Event("deviation", name, "", what))

    def _go(self, state: State, why: str, who: str = "blackmass") -> None:
        self.events.append(Event("batch", self.state.id, self.state.state, state, who, why))
        self.state.state, self.state.why = state, why
        if state not in _AT_WORK:
            for entered in self._entered.values():
                entered.steps.close() if hasattr(entered.steps, "close") else None
            self._entered.clear()

    def _automatic(self, why: str) -> None:
        self._go(AUTOMATIC[self.state.state], why)

    def _finish(self) -> None:
        self.state.ended = self.now
        released = self.state.records.get("release.released")
        self.state.released = None if released is None else released == 1.0
        says = {None: "the procedure has ended", True: "the lot is released", False: "the lot is not released"}[self.state.released]
        self._automatic(says)

    def running(self) -> list[RunStep | AskStep]:
        """Return the steps that have begun and not ended."""
        if self._active is None:
            self._active = [leaf for leaf in self._leaves if self.state.steps[leaf.path].state in ("running", "held")]
        return self._active

    def _at_rest(self) -> bool:
        """Whether all that still runs waits for other steps, or for a person: then nothing more comes to an end by itself."""
        return all(isinstance(leaf, AskStep) or (leaf.until is not None and bool(leaf.until.steps)) for leaf in self.running())

    def _walk(self, group: Group, *, may_start: bool) -> bool:
        """Advance every step that may run; return whether the group is done."""
        finished = True
        for step in group.steps:
            if not self._step(step, may_start=may_start):
                finished = False
                if not group.parallel:
                    break
        if group.limit is not None and not finished and self.state.state is not _PAUSED:
            taken = self.state.groups[group.path] = self.state.groups.get(group.path, 0.0) + self.bench.dt
            if taken > group.limit:
                self.state.groups[group.path] = 0.0  # a restart gives it the whole time again
                self.hold(f"{group.path} has taken {_time(taken)}, at most {_time(group.limit)}")
        return finished

    def _step(self, step: Step, *, may_start: bool) -> bool:
        if isinstance(step, Group):
            if step.path in self._finished:
                return True
            if self._walk(step, may_start=may_start):
                self._finished.add(step.path)  # a step that is done stays done
                return True
            return False
        record = self.state.steps[step.path]
        if record.state == "done":
            return True
        if record.state == "idle":
            if not may_start:
                return False
            record.state, record.started = "running", self.now
            self._active = None
            self.events.append(Event("step", step.path, "idle", "running", why=step.say if isinstance(step, RunStep) else step.text))
        if self.state.state not in _AT_WORK:
            return False  # a step before this one has just held the batch
        record.active += self.bench.dt
        if isinstance(step, AskStep):
            return record.state == "done"  # type: ignore[comparison-overlap]  # `answer` may have ended it
        try:
            self._run(step, record)
        except NotGood as lost:
            self.hold(str(lost))
        except PhaseFailed as failed:
            self.hold(f"{step.path}: {failed}")
        except ValueError as refused:
            self.hold(f"{step.path}: {refused}")
        return record.state == "done"  # type: ignore[comparison-overlap]

    def _run(self, step: RunStep, record: StepRecord) -> None:
        entered = self._entered.get(step.path)
        if entered is None:
            entered = self._entered[step.path] = self._enter(step, record)
        view = entered.view
        view.issued = {}
        if not entered.finished:
            try:
                entered.says = next(entered.steps)
            except StopIteration:
                entered.finished = True
                entered.says = ""
            record.issued = {role: (value, None if math.isinf(ramp) else ramp) for role, (value, ramp) in view.issued.items()}
        truth = None if step.until is None else step.until.truth(self, record.memory)
        if truth is True or (entered.finished and step.until is None):
            self._end(step, "done")
        elif step.until is not None and truth is None and (lost := self._lost(step.until)):
            self.hold(f"{step.path} waits for '{step.until.text}', but {lost}")
        elif step.limit is not None and record.active - record.extended > step.limit:
            self.hold(f"{step.path} has taken {_time(record.active)}, at most {_time(step.limit)}: {self.says(step)}")

    def _enter(self, step: RunStep, record: StepRecord) -> _Entered:
        kind = CATALOGUE[step.phase]
        arguments = {name: given.value(self) if isinstance(given, Expression) else given for name, given in step.arguments.items()}
        for name, given in arguments.items():
            if isinstance(given, float) and not math.isfinite(given):
                raise PhaseFailed(f"parameter {name} is not known yet; check that the step it comes from has run")
        phase = kind(**arguments, progress=record.progress, records=self.state.records, record=step.record or "", context=self.context)
        view = UnitView(self._units[step.unit].unit, self.bench)
        self._phases[step.path] = phase, view
        return _Entered(phase.running(view), view)

    def _lost(self, condition: Expression) -> str:
        lost = [name for name in condition.names if self._place(name) is not None and self.quality(name) is Quality.BAD]
        return f"{', '.join(lost)} is BAD; check its device" if lost else ""

    def _end(self, step: RunStep | AskStep, state: str) -> None:
        record = self.state.steps[step.path]
        if state == "done" and isinstance(step, RunStep) and step.record:
            for name, value in self.state.records.items():
                if name.startswith(f"{step.record}."):
                    self.events.append(Event("record", name, "", f"{value:.6g}"))
        self.events.append(Event("step", step.path, record.state, state))
        record.state, record.ended = state, self.now  # type: ignore[assignment]
        self._active = None
        self._entered.pop(step.path, None)
        self._phases.pop(step.path, None)

    # hold and watches ---------------------------------------------------------------------------------------------------

    def _hold(self) -> None:
        state = self.state
        for leaf in self.running():
            record = self.state.steps[leaf.path]
            record.state, record.held = "held", record.held + self.bench.dt
            if isinstance(leaf, RunStep):
                self._keep(leaf, record)
                if leaf.max_hold is not None and record.held > leaf.max_hold:
                    self._deviate(leaf.path, f"{leaf.path} was held for {_time(record.held)}, at most {_time(leaf.max_hold)}: stopped")
                    self._go(State.STOPPING, f"{leaf.path} may be held for at most {_time(leaf.max_hold)}")
                    return
        if state.state is State.HOLDING:
            self._automatic(state.why)
        elif state.state is State.RESTARTING and (waits := self._not_ready()) is None:
            for leaf in self.running():
                record = self.state.steps[leaf.path]
                record.state, record.held = "running", 0.0
            self._automatic("restarted")
        elif state.state is State.RESTARTING:
            state.why = f"waits for {waits}"

    def _keep(self, step: RunStep, record: StepRecord) -> None:
        """Ask for what a held step keeps: loops stay, outputs go to their device's safe value, unless the recipe says otherwise."""
        view = self._units[step.unit]
        for role, (value, ramp) in record.issued.items():
            loop = view.role(role).kind == "loop"
            wish = step.on_hold.get(role, "keep" if loop else "stop") if self.state.confirmed else "stop"
            if loop:
                if wish != "stop" and math.isfinite(view.value(role)):  # a loop that sees nothing is let go
                    view.control(role, value if wish == "keep" else float(wish), math.inf if ramp is None else ramp)
            else:
                view.request(role, value if wish == "keep" else view.rest(role) if wish == "stop" else float(wish))

    def _not_ready(self) -> str | None:
        for leaf in self.running():
            if isinstance(leaf, RunStep) and leaf.resume is not None:
                record = self.state.steps[leaf.path]
                if leaf.resume.truth(self, record.resume) is not True:
                    return leaf.resume.explain(self, record.resume)
        return None

    def _watch(self, actions: Collection[str]) -> None:
        """Judge the watches whose action means something now; the first that reacts ends it, so that none undoes another."""
        before = self.state.state
        for place, watch in enumerate(self.recipe.watches):
            if watch.during is not None and not self._during(watch.during):
                self.state.watches.pop(str(place), None)  # a timed condition begins anew with its step
                self._watching.pop(place, None)
                continue
            if watch.action not in actions or self.state.state is not before:
                continue
            memory = self.state.watches.setdefault(str(place), {})
            truth = watch.condition.truth(self, memory)
            if truth is True:
                self._react(place, watch, f"{watch.say or watch.condition.text}: {watch.condition.explain(self, memory)}")
            elif truth is None and (lost := self._lost(watch.condition)):
                self._react(place, watch, f"{watch.say or watch.condition.text} cannot be judged: {lost}")
            else:
                self._watching.pop(place, None)

    def _during(self, path: str) -> bool:
        return any(leaf.path == path or leaf.path.startswith(f"{path}/") for leaf in self.running())

    def _react(self, place: int, watch: Watch, why: str) -> None:
        new = place not in self._watching
        self._watching[place] = why
        if watch.action == "hold":
            self.hold(why)
        elif watch.action in ("stop", "abort"):
            self._deviate("watch", why)
            self._go(State.STOPPING if watch.action == "stop" else State.ABORTING, why)
        elif new:
            self._deviate("watch", why)

    def warnings(self) -> dict[str, str]:
        """Return what the watches that only alarm say now, by name."""
        return {f"WATCH-{place + 1}": why for place, why in self._watching.items() if self.recipe.watches[place].action == "alarm"}

    # what people see ----------------------------------------------------------------------------------------------------

    def active_units(self) -> set[str]:
        """Return the units (of the cell) on which a step runs or is held."""
        return {self.state.units[leaf.unit] for leaf in self.running() if leaf.unit in self.state.units}

    def says(self, step: RunStep | AskStep) -> str:
        """Return why a step waits, in one sentence with the live value."""
        record = self.state.steps[step.path]
        if record.state not in ("running", "held"):
            return ""
        if isinstance(step, AskStep):
            return f"waits for {step.role}: {step.text}"
        if step.until is not None:
            limit = "" if step.limit is None else f", {_time(record.active)} of {_time(step.limit)}"
            return f"waits for {step.until.explain(self, dict(record.memory))}{limit}"
        entered = self._entered.get(step.path)
        return entered.says if entered is not None else ""

    def views(self) -> tuple[tuple[StepView, ...], tuple[PromptView, ...]]:
        """Return every step and every prompt as the frame shows them; only those that run are looked at anew."""
        active = self.running()
        for leaf in active if active is self._viewed else self._leaves:
            self._shown[leaf.path] = self._view(leaf, self.state.steps[leaf.path])
        self._viewed = active
        prompts = tuple(
            PromptView(leaf.path, leaf.path, leaf.text, leaf.role, leaf.kind, leaf.eu, self.state.steps[leaf.path].started or 0.0)
            for leaf in active
            if isinstance(leaf, AskStep)
        )
        return tuple(self._shown.values()), prompts

    def _view(self, leaf: RunStep | AskStep, record: StepRecord) -> StepView:
        phase = leaf.phase if isinstance(leaf, RunStep) else "ask"
        limit = leaf.limit if isinstance(leaf, RunStep) else None
        unit = self.state.units.get(leaf.unit, leaf.unit)
        return StepView(leaf.path, unit, phase, record.state, self.says(leaf), record.started, record.ended, limit)

    def remaining(self, expected: Mapping[str, float]) -> float:
        """Return the plant time [s] still to come, along the longest branch; `expected` [s] by step."""
        return self._remaining(self.recipe.procedure, expected)

    def _remaining(self, step: Step, expected: Mapping[str, float]) -> float:
        if isinstance(step, Group):
            if step.path in self._finished:
                return 0.0
            parts = [self._remaining(child, expected) for child in step.steps]
            return max(parts, default=0.0) if step.parallel else sum(parts)
        record = self.state.steps[step.path]
        return 0.0 if record.state == "done" else max(expected.get(step.path, 0.0) - record.active, 0.0)

    @property
    def over(self) -> bool:
        """Whether the batch has come to an end of any kind."""
        return self.state.state in FINAL


def expected_durations(recipe: Recipe) -> dict[str, float]:
    """Return how long each step is expected to take [s], as far as the recipe says."""
    return {leaf.path: leaf.expect for leaf in recipe.leaves() if isinstance(leaf, RunStep) and leaf.expect is not None}


def _time(seconds: float) -> str:
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200.0 else f"{seconds / 3600:.1f} h"
