"""What a frame shows beside the numbers: units, the batch, alarms and what may be commanded. Views are made anew only when they change."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Final, Literal

from controller.batch.procedure import Procedure
from controller.batch.records import BatchState
from controller.core.frame import AlarmView, BatchView, PurityView, UnitView
from controller.core.plan import CellPlan
from controller.core.states import State, Verb, why_not
from controller.purity.estimator import estimate

__all__ = ["Views", "alarm_views", "verbs"]

_ORDER: Final[dict[Literal["unacknowledged", "acknowledged", "returned"], int]] = {"unacknowledged": 0, "acknowledged": 1, "returned": 2}
_IDLE = State.IDLE


@cache
def verbs(state: State) -> tuple[tuple[str, str], ...]:
    """Return every verb and why it is not valid in a state of a batch, empty where it is."""
    return tuple((str(verb), why_not(state, verb)) for verb in Verb)


def alarm_views(listed: Collection[AlarmView]) -> tuple[AlarmView, ...]:
    """Return the alarms in the list, the most urgent first."""
    return tuple(sorted(listed, key=lambda view: (_ORDER[view.state], view.priority, -view.since)))


class Views:
    """The views of a cell's units and batch."""

    def __init__(self, plan: CellPlan) -> None:
        self.plan = plan
        self._seen_units: tuple[object, ...] = ()
        self._shown_units: tuple[UnitView, ...] = ()
        self._known, self._estimate = -1, estimate({})
        self._left: float | None = None

    def begin(self) -> None:
        """Forget the last batch."""
        self._known, self._left = -1, None

    def units(self, procedure: Procedure | None, acting: Sequence[str]) -> tuple[UnitView, ...]:
        """Return the view of each unit; `acting` are the interlocks that hold."""
        # the list of the running steps is the same one until it changes; so are the views
        seen = (procedure, procedure and procedure.state.state, procedure and procedure.running(), acting)
        if len(seen) == len(self._seen_units) and all(new is old for new, old in zip(seen, self._seen_units, strict=True)):
            return self._shown_units
        self._seen_units = seen
        rows = self.plan.interlocks
        held: dict[str, list[str]] = {}
        for name in acting:
            held.setdefault(rows.units[rows.names.index(name)], []).append(name)
        mine = set(procedure.state.units.values()) if procedure else set()
        running: dict[str, list[str]] = {}
        if procedure is not None:
            for leaf in procedure.running():
                running.setdefault(procedure.state.units.get(leaf.unit, ""), []).append(leaf.path)
        idle = str(_IDLE)
        busy = str(procedure.state.state) if procedure else idle
        self._shown_units = tuple(
            UnitView(
                name,
                unit.unit_class,
                busy if name in mine else idle,
                running.get(name, [""])[-1],
                "",
                tuple(held.get(name, ())),
            )
            for name, unit in self.plan.units.items()
        )
        return self._shown_units

    def batch(self, procedure: Procedure | None, expected: Mapping[str, float], seq: int) -> BatchView | None:
        """Return the view of the batch in scan `seq`; `expected` says how long each step takes [s]."""
        if procedure is None:
            return None
        state = procedure.state
        steps, prompts = procedure.views()
        return BatchView(
            state.id,
            state.recipe,
            state.version,
            str(state.state),
            state.started,
            state.ended,
            state.why,
            steps,
            prompts,
            self._purity(state),
            self._remaining(procedure, expected, seq),
            len(state.deviations),
            state.released,
        )

    def _purity(self, state: BatchState) -> PurityView:
        if len(state.records) != self._known:  # records are only added
            self._known, self._estimate = len(state.records), estimate(state.records)
        return self._estimate

    def _remaining(self, procedure: Procedure, expected: Mapping[str, float], seq: int) -> float | None:
        """Return the plant time [s] that the steps still to come are expected to take, along the longest branch."""
        if procedure.over or not expected:
            return None
        if seq % 16 == 0 or self._left is None:  # it changes by the minute
            self._left = procedure.remaining(expected)
        return self._left
