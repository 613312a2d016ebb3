"""ISA-88 on a running batch: every command, holds by lost devices and bad values, re-entry from progress, and the journal's events.

The plant here is an echo: a flow is what its setpoint is. What is tested is the cell and its procedure, not chemistry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from controller.batch.records import BatchState
from controller.config import cell_path, load_cell
from controller.core.cell import Begin, Scan
from controller.core.commands import Acknowledge, Command, Transition, Tune
from controller.core.states import State, Verb
from controller.runtime.batches import Library
from controller.runtime.lockstep import Lockstep
from drivers.device import Profile
from drivers.driver import Reading, WriteOutcome, WriteResult
from drivers.source import BadInput
from drivers.tags import FloatArray

RECIPE = """
recipe: {id: test-leach, version: 1, title: Test, product: none, specification: pcam-99}
units: {L1: leach_tank}
formula:
  acid: {value: 40 L, range: [10 L, 100 L]}
watch:
  - {if: "L1.temperature > 60 degC", do: hold, while: work, say: too hot}
procedure:
  - work:
      unit: L1
      parallel:
        - stir: {run: keep, with: {output: stirrer, at: 120 rpm}, until: "dosing done", on_hold: {stirrer: 60 rpm}}
        - heat: {run: control, with: {loop: temperature, sp: 50 degC}, until: "dosing done"}
        - dosing:
            steps:
              - acid: {run: dose, with: {flow: acid, rate: 10 L/min, total: acid}, max: 20 min, max_hold: 2 h}
              - rest: {run: wait, with: {time: 5 min}}
  - confirm: {ask: "Tank inspected?", role: operator}
"""


class Echo:
    """A plant whose measurements follow its setpoints at once; `fixed` holds what a test sets."""

    MEASURED: ClassVar = {"acid_flow": "acid_flow_sp", "stirrer_speed": "stirrer_speed_sp"}

    def __init__(self, profiles: dict[str, Profile]) -> None:
        self.time = 0.0
        self._profiles = profiles
        self.values = {name: np.clip(np.full(len(profile.signals), 20.0), profile.low, profile.high) for name, profile in profiles.items()}
        for name, profile in profiles.items():
            self.values[name][profile.writable] = profile.safe[profile.writable]
            self.set(name, safe_state=0.0)
        self.set("leach", volume=3.0, pressure=0.0, hydrogen=0.0, press_pressure=0.0)
        self.set("reactor", ph_a=11.0, ph_b=11.0, room_ammonia=0.0, oxygen=0.0)

    def set(self, device: str, **signals: float) -> None:
        for signal, value in signals.items():
            self.values[device][self._profiles[device].place(signal)] = value

    def get(self, device: str, signal: str) -> float:
        return float(self.values[device][self._profiles[device].place(signal)])

    def advance(self, dt: float) -> None:
        self.time += dt
        for measured, setpoint in self.MEASURED.items():
            self.set("leach", **{measured: self.get("leach", setpoint)})

    def read(self, device: str) -> FloatArray:
        return self.values[device].copy()

    def write(self, device: str, signal: str, value: float) -> None:
        self.set(device, **{signal: value})


class Bed:
    """A cell in lockstep with an echo plant, and a recipe that has been started."""

    def __init__(self, folder: Path, text: str = RECIPE, dt: float = 5.0) -> None:
        cell = load_cell(cell_path("demo"))
        self.plant = Echo({name: row.device.profile for name, row in cell.plan.devices.items()})
        self.step = Lockstep(cell.plan, self.plant, dt=dt)
        self.library = Library(cell.classes)
        path = folder / "recipe.yaml"
        path.write_text(text)
        self.recipe = self.library.load(str(path))
        self.scan: Scan = self.step.step()
        self.do(self.library.prepare(self.recipe, cell.plan, "demo-0001", self.step.clock.plant(), {}, "lot", "op"))

    def do(self, *commands: Command | Begin) -> Scan:
        self.scan = self.step.step(commands)
        return self.scan

    def send(self, verb: Verb) -> str:
        """Send one command; return the state after it has been worked off."""
        self.do(Transition(who="op", verb=verb))
        return self.run(lambda scan: scan.frame.state not in ("HOLDING", "STOPPING", "ABORTING", "RESTARTING"))

    def run(self, until: Callable[[Scan], bool], at_most: float = 7200.0) -> str:
        for scan in self.step.run(until, at_most=at_most):
            self.scan = scan
        return self.scan.frame.state

    def for_minutes(self, minutes: float) -> None:
        end = self.step.clock.time + minutes * 60.0
        self.run(lambda _: self.step.clock.time >= end)

    def output(self, tag: str) -> float:
        return float(self.scan.outputs[self.step.plan.outputs.place(tag)])

    @property
    def state(self) -> BatchState:
        assert self.step.cell.procedure is not None
        return self.step.cell.procedure.state

    def dosed(self) -> float:
        return float(self.state.steps["work/dosing/acid"].progress["dosed"])


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def answer(bed: Bed) -> None:
    from controller.core.commands import Answer

    bed.run(lambda scan: bool(scan.frame.batch and scan.frame.batch.prompts))
    bed.do(Answer(who="op", prompt="confirm", value=True))


def test_it_runs_to_its_end_and_says_why_it_waits(bed: Bed) -> None:
    bed.for_minutes(1)
    assert bed.output("FY-201") == 10.0
    assert bed.output("SY-201") == 120.0
    waiting = next(step for step in bed.scan.frame.batch.steps if step.path == "work/dosing/acid")  # type: ignore[union-attr]
    assert "of 40 L" in waiting.why
    answer(bed)
    assert bed.run(lambda scan: scan.frame.state == "COMPLETE") == "COMPLETE"
    assert bed.dosed() == pytest.approx(40.0, rel=2e-3)
    assert bed.output("FY-201") == 0.0


def test_hold_takes_outputs_to_their_safe_values_and_restart_goes_on_where_it_was(bed: Bed) -> None:
    bed.for_minutes(2)
    before = bed.dosed()
    assert bed.send(Verb.HOLD) == "HELD"
    bed.for_minutes(10)
    assert bed.output("FY-201") == 0.0
    assert bed.output("SY-201") == 60.0  # as the recipe's on_hold says
    assert bed.dosed() == pytest.approx(before, abs=1.0)
    assert bed.send(Verb.RESTART) == "RUNNING"
    answer(bed)
    assert bed.dosed() == pytest.approx(40.0, rel=2e-3)


def test_pause_lets_a_running_step_end_and_starts_no_other(bed: Bed) -> None:
    bed.for_minutes(1)
    bed.do(Transition(who="op", verb=Verb.PAUSE))
    assert bed.scan.frame.state == "PAUSING"
    assert bed.run(lambda scan: scan.frame.state == "PAUSED") == "PAUSED"
    bed.for_minutes(10)
    assert bed.state.steps["work/dosing/acid"].state == "done"
    assert bed.state.steps["work/dosing/rest"].state == "idle"
    assert bed.output("SY-201") == 120.0  # what runs in the background goes on
    assert bed.send(Verb.RESUME) == "RUNNING"
    answer(bed)
    assert bed.run(lambda scan: scan.frame.state == "COMPLETE") == "COMPLETE"


def test_pause_waits_for_every_branch_that_still_runs(tmp_path: Path) -> None:
    slow = """        - water: {run: dose, with: {flow: water, rate: 10 L/min, total: 400 L}}
        - dosing:"""
    bed = Bed(tmp_path, RECIPE.replace("        - dosing:", slow))
    bed.plant.MEASURED = {**Echo.MEASURED, "water_flow": "water_flow_sp"}
    bed.for_minutes(1)
    bed.do(Transition(who="op", verb=Verb.PAUSE))
    bed.for_minutes(20)  # acid is done and its next step may not start; water still runs
    assert bed.state.steps["work/dosing/acid"].state == "done"
    assert bed.scan.frame.state == "PAUSING"
    assert bed.run(lambda scan: scan.frame.state == "PAUSED") == "PAUSED"
    assert bed.state.steps["work/water"].state == "done"


@pytest.mark.parametrize(("verb", "end"), [(Verb.STOP, "STOPPED"), (Verb.ABORT, "ABORTED")])
def test_stop_and_abort_end_the_batch_and_reset_frees_the_cell(bed: Bed, verb: Verb, end: str) -> None:
    bed.for_minutes(1)
    assert bed.send(verb) == end
    assert bed.output("FY-201") == 0.0
    assert bed.output("SY-201") == (100.0 if verb is Verb.ABORT else 0.0)  # abort: the device's safe value
    assert bed.send(Verb.RESET) == "IDLE"
    assert bed.scan.frame.batch is None


def test_a_command_that_is_not_valid_changes_nothing_and_is_journaled_as_refused(bed: Bed) -> None:
    bed.for_minutes(1)
    bed.do(Transition(who="op", verb=Verb.RESTART))
    assert bed.scan.frame.state == "RUNNING"
    refused = [event for _, event in bed.step.events if event.kind == "command" and event.new.startswith("refused")]
    assert "RESTART is valid from HELD" in refused[-1].new


def test_a_lost_device_holds_the_batch_until_it_is_back_and_restarted(bed: Bed) -> None:
    bed.for_minutes(1)
    bed.step.drivers["leach"].fail = True
    assert bed.run(lambda scan: scan.frame.state == "HELD", at_most=60.0) == "HELD"
    frame = bed.scan.frame
    assert frame.quality[bed.step.plan.points.place("TT-201")] == 2
    assert np.isnan(frame.point(bed.step.plan.points, "TT-201"))
    assert {"LINK-leach", "BATCH-HELD"} <= {alarm.name for alarm in frame.alarms}
    bed.step.drivers["leach"].fail = False
    bed.for_minutes(1)
    assert bed.scan.frame.state == "HELD"  # it never restarts by itself
    assert bed.send(Verb.RESTART) == "RUNNING"
    answer(bed)
    assert bed.dosed() == pytest.approx(40.0, rel=2e-3)


class Unwilling:
    """A device that does not take the stirrer's setpoint, and says `result` to it; all else it takes."""

    def __init__(self, bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bed, self.result = bed, WriteResult.CONFIRMED
        self.tried: list[float] = []  # [s, monotonic] when the setpoint was written
        self._driver = bed.step.drivers["leach"]
        self._take = self._driver.write
        monkeypatch.setattr(self._driver, "write", self._write)

    async def _write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        outcomes = []
        for signal, value in changes.items():
            if signal != "stirrer_speed_sp" or self.result is WriteResult.CONFIRMED:
                outcomes += await self._take({signal: value})
                continue
            self.tried.append(self.bed.step.clock.monotonic())
            outcomes.append(WriteOutcome(signal, value, self.bed.plant.get("leach", signal), self.result, "in local"))
        return outcomes

    def lose(self, result: WriteResult) -> None:
        """Let somebody at the device put the setpoint elsewhere, and the device say `result` from now on."""
        self.result = result
        self.tried.clear()
        self.bed.plant.set("leach", stirrer_speed_sp=90.0)


@pytest.mark.parametrize("result", [WriteResult.REFUSED, WriteResult.MISMATCH, WriteResult.UNKNOWN, WriteResult.NOT_SENT])
def test_a_setpoint_that_is_not_taken_for_two_seconds_holds_until_it_is_mended_and_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: WriteResult
) -> None:
    """It is tried again each half second, never in a hurry. A device that wakes up, and takes nothing for a moment, holds nothing."""
    bed = Bed(tmp_path, dt=0.1)
    device = Unwilling(bed, monkeypatch)
    bed.for_minutes(0.1)
    assert bed.plant.get("leach", "stirrer_speed_sp") == 120.0

    def alarms() -> dict[str, str]:
        mine = ("DEVICE-leach", "LINK-leach", "BATCH-HELD")
        return {alarm.name: alarm.text for alarm in bed.scan.frame.alarms if alarm.name in mine and alarm.state != "returned"}

    def untaken() -> float:
        return bed.scan.frame.point(bed.step.plan.points, "leach.UNTAKEN")

    device.lose(result)
    for _ in range(14):
        bed.do()
        assert (bed.scan.frame.state, untaken()) == ("RUNNING", 0.0)
    device.result = WriteResult.CONFIRMED
    bed.for_minutes(0.1)
    assert (bed.scan.frame.state, bed.plant.get("leach", "stirrer_speed_sp"), alarms()) == ("RUNNING", 120.0, {})

    device.lose(result)
    begun = bed.step.clock.monotonic()
    assert bed.run(lambda scan: scan.frame.state == "HELD", at_most=10.0) == "HELD"
    assert 2.0 < bed.step.clock.monotonic() - begun < 2.5
    says = "cannot use device leach: it does not take 1 of its outputs"
    assert alarms()["DEVICE-leach"] == f"The cell {says}"
    assert "BATCH-HELD" in alarms()
    assert says in bed.state.why
    bed.for_minutes(0.1)
    assert (untaken(), bed.output("SY-201"), bed.plant.get("leach", "stirrer_speed_sp")) == (1.0, 60.0, 90.0)
    assert bed.output("FY-201") == bed.plant.get("leach", "acid_flow_sp") == 0.0, "the others are taken"
    spacing = np.diff(device.tried)
    assert len(spacing) > 10
    assert spacing.min() > 0.5 - 1e-9
    assert spacing.max() < 0.7, "and it is tried again"
    told = [event.new for _, event in bed.step.events if (event.kind, event.name) == ("write", "leach.stirrer_speed_sp")]
    assert told == ["put back", result.value] * 2, "once each time"

    device.result = WriteResult.CONFIRMED
    bed.for_minutes(0.1)
    assert (bed.scan.frame.state, untaken(), bed.plant.get("leach", "stirrer_speed_sp")) == ("HELD", 0.0, 60.0)
    assert "DEVICE-leach" not in alarms()
    assert bed.send(Verb.RESTART) == "RUNNING"
    bed.for_minutes(0.1)
    assert (bed.plant.get("leach", "stirrer_speed_sp"), bed.plant.get("leach", "acid_flow_sp")) == (120.0, 10.0)
    assert (bed.scan.frame.state, alarms()) == ("RUNNING", {})


def test_a_setpoint_that_the_device_puts_back_each_time_holds_though_each_write_is_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one in local mode does. It is tried again each half second; once is nothing."""
    bed = Bed(tmp_path, dt=0.1)
    driver = bed.step.drivers["leach"]
    take, read = driver.write, driver.read
    local, tried = False, list[float]()

    async def write(changes: dict[str, float]) -> list[WriteOutcome]:
        if "stirrer_speed_sp" in changes:
            tried.append(bed.step.clock.monotonic())
        return await take(changes)

    async def put_back() -> Reading:
        if local:
            bed.plant.set("leach", stirrer_speed_sp=90.0)
        return await read()

    monkeypatch.setattr(driver, "write", write)
    monkeypatch.setattr(driver, "read", put_back)
    bed.for_minutes(0.1)
    tried.clear()
    bed.plant.set("leach", stirrer_speed_sp=90.0)
    bed.for_minutes(0.1)
    assert (bed.scan.frame.state, bed.plant.get("leach", "stirrer_speed_sp"), len(tried)) == ("RUNNING", 120.0, 1)
    local = True
    begun = bed.step.clock.monotonic()
    assert bed.run(lambda scan: scan.frame.state == "HELD", at_most=10.0) == "HELD"
    assert 2.0 < bed.step.clock.monotonic() - begun < 2.5
    assert "cannot use device leach: it does not take 1 of its outputs" in bed.state.why
    bed.for_minutes(0.1)
    assert np.diff(tried[1:]).min() > 0.5 - 1e-9
    told = [event for _, event in bed.step.events if (event.kind, event.name) == ("write", "leach.stirrer_speed_sp")]
    assert [(event.old, event.new) for event in told] == [("120, found 90", "put back")] * 2, "once each time"
    local = False
    bed.for_minutes(0.1)
    assert (bed.scan.frame.point(bed.step.plan.points, "leach.UNTAKEN"), bed.plant.get("leach", "stirrer_speed_sp")) == (0.0, 60.0)
    assert bed.send(Verb.RESTART) == "RUNNING"
    bed.for_minutes(0.1)
    assert (bed.scan.frame.state, bed.plant.get("leach", "stirrer_speed_sp")) == ("RUNNING", 120.0)


def test_a_device_that_no_running_step_needs_does_not_hold(bed: Bed) -> None:
    bed.for_minutes(1)
    bed.step.drivers["filter"].fail = True
    bed.for_minutes(1)
    assert bed.scan.frame.state == "RUNNING"


def test_a_watch_holds_and_names_the_value(bed: Bed) -> None:
    bed.for_minutes(1)
    bed.plant.set("leach", temperature=70.0)
    assert bed.run(lambda scan: scan.frame.state == "HELD", at_most=60.0) == "HELD"
    assert "70" in bed.state.why
    assert "too hot" in bed.state.why


def test_a_step_that_takes_too_long_holds_and_restart_extends_it(bed: Bed) -> None:
    bed.plant.MEASURED = {**bed.plant.MEASURED, "acid_flow": "press_discharge"}  # the valve does not open
    bed.run(lambda scan: scan.frame.state == "HELD", at_most=3600.0)
    assert "at most 20 min" in bed.state.why
    assert "of 40 L" in bed.state.why
    bed.plant.MEASURED = Echo.MEASURED
    assert bed.send(Verb.RESTART) == "RUNNING"
    answer(bed)
    assert bed.state.deviations


def test_a_group_that_takes_too_long_holds(tmp_path: Path) -> None:
    bed = Bed(tmp_path, RECIPE.replace("        - dosing:\n", "        - dosing:\n            max: 6 min\n"))
    assert bed.run(lambda scan: scan.frame.state == "HELD", at_most=3600.0) == "HELD"
    assert "work/dosing has taken" in bed.state.why
    assert "at most 6 min" in bed.state.why


def test_held_for_too_long_it_stops(bed: Bed) -> None:
    bed.for_minutes(1)
    bed.send(Verb.HOLD)
    assert bed.run(lambda scan: scan.frame.state == "STOPPED", at_most=3 * 3600.0) == "STOPPED"
    assert "at most" in bed.state.deviations[-1]


def test_an_interlock_overrides_the_phase_and_raises_its_alarm(bed: Bed) -> None:
    bed.for_minutes(1)
    bed.plant.set("leach", hydrogen=30.0)
    bed.for_minutes(0.5)
    assert bed.output("FY-201") == 0.0
    assert "I-202" in {alarm.name for alarm in bed.scan.frame.alarms}
    bed.plant.set("leach", hydrogen=0.0)
    bed.for_minutes(0.5)
    assert bed.output("FY-201") == 10.0
    bed.do(Acknowledge(who="op", alarm="I-202"))
    assert "I-202" not in {alarm.name for alarm in bed.scan.frame.alarms}


def test_a_batch_that_was_written_down_goes_on_in_held_with_its_progress(bed: Bed, tmp_path: Path) -> None:
    bed.for_minutes(2)
    written = json.dumps(bed.state.to_json())
    dosed = bed.dosed()
    other = Bed(tmp_path)
    state = BatchState.from_json(json.loads(written))
    state.state = State.HELD
    other.send(Verb.ABORT)
    other.send(Verb.RESET)
    other.do(Begin(other.recipe, state, "blackmass", other.library.context(other.recipe), {}))
    other.for_minutes(5)
    assert other.scan.frame.state == "HELD"
    assert other.output("FY-201") == 0.0
    assert other.dosed() == dosed
    assert other.send(Verb.RESTART) == "RUNNING"
    answer(other)
    assert other.dosed() == pytest.approx(40.0, rel=2e-3)


def test_a_person_may_take_a_loop_and_give_it_back_without_a_bump(bed: Bed) -> None:
    bed.for_minutes(2)
    before = bed.output("TY-201")
    bed.do(Tune(who="op", loop="TIC-201", mode="MAN"))
    assert bed.output("TY-201") == pytest.approx(before, abs=5.0)
    held = bed.output("TY-201")
    bed.for_minutes(5)
    assert bed.output("TY-201") == held
    bed.do(Tune(who="op", loop="TIC-201", output=12.0))
    assert bed.output("TY-201") == 12.0
    bed.do(Tune(who="op", loop="TIC-201", mode="REMOTE"))
    assert bed.output("TY-201") == pytest.approx(12.0, abs=1.0)


@pytest.mark.parametrize(
    ("tune", "why"),
    [
        (Tune(who="op", loop="TIC-999"), "no loop"),
        (Tune(who="op", loop="TIC-201", setpoint=50.0), "in AUTO"),
        (Tune(who="op", loop="TIC-201", mode="AUTO", setpoint=900.0), "outside"),
        (Tune(who="op", loop="TIC-201", mode="MAN", output=900.0), "outside"),
    ],
)
def test_a_loop_refuses_what_it_cannot_do(bed: Bed, tune: Tune, why: str) -> None:
    assert why in bed.step.cell.refuses(tune)


def test_the_same_commands_give_the_same_scans(tmp_path: Path) -> None:
    def outputs() -> Sequence[bytes]:
        bed = Bed(tmp_path)
        seen = [bed.step.step().outputs.tobytes() for _ in range(40)]
        bed.do(Transition(who="op", verb=Verb.HOLD))
        return [*seen, *(bed.step.step().frame.value.tobytes() for _ in range(40))]

    assert outputs() == outputs()


def test_a_start_is_refused_while_a_device_is_lost(tmp_path: Path) -> None:
    bed = Bed(tmp_path)
    bed.send(Verb.ABORT)
    bed.send(Verb.RESET)
    bed.step.drivers["reactor"].fail = True
    bed.do()
    assert "reactor" in bed.step.cell.not_ready()


def test_a_recipe_for_a_unit_that_the_cell_has_not_is_refused(tmp_path: Path) -> None:
    text = RECIPE.replace("units: {L1: leach_tank}", "units: {L1: leach_tank, L2: leach_tank}")
    with pytest.raises((ValueError, BadInput), match="leach_tank"):
        Bed(tmp_path, text)
