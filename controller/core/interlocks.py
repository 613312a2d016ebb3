"""Interlocks as permits, applied last. A permit on a BAD value is not given: NaN compares false."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from controller.core.conditions import margin, met
from controller.core.plan import InterlockRows
from drivers.tags import BoolArray, FloatArray, IndexArray

__all__ = ["InterlockState", "apply", "initial", "judge", "release"]


@dataclass(slots=True)
class InterlockState:
    """What interlocks remember; all shape (k,)."""

    tripped: BoolArray
    latched: BoolArray  # a limit was passed by a good value: stays until a person releases it
    outside_for: FloatArray  # [s] how long the permit has not been met
    effect: Effect | None = field(default=None, compare=False)  # of those that are tripped, once it is known


@dataclass(frozen=True, slots=True)
class Effect:
    """What the tripped rows do: which they are (t,), what each takes and to which value (t, m), and what comes of it (m,)."""

    rows: IndexArray
    affects: BoolArray
    safe: FloatArray
    takes: BoolArray
    value: FloatArray


def initial(rows: InterlockRows) -> InterlockState:
    """Return interlocks that are tripped until a first good value gives their permit."""
    k = len(rows.names)
    return InterlockState(np.ones(k, dtype=np.bool_), np.zeros(k, dtype=np.bool_), rows.delay.copy())


def judge(rows: InterlockRows, last: InterlockState, values: FloatArray, dt: float) -> InterlockState:
    """Return the interlocks after one scan of `dt` [s] with the inputs `values`.

    A trip needs the permit unmet for the row's delay; the way back needs the value inside by the hysteresis. A lost value trips
    too, but only a limit that a good value has passed latches: a cable that was out for a moment is not a plant that was hot.
    """
    inside = margin(rows.permit, values)
    given = met(rows.permit, inside)
    outside_for = np.where(given, 0.0, last.outside_for + dt)
    trips = ~given & (outside_for >= rows.delay)
    latched = last.latched | (trips & rows.latch & np.isfinite(inside))
    tripped = trips | latched | (last.tripped & ~met(rows.permit, inside, rows.hysteresis))
    return InterlockState(tripped, latched, outside_for, last.effect if np.array_equal(tripped, last.tripped) else None)


def release(rows: InterlockRows, state: InterlockState, name: str, values: FloatArray) -> str:
    """Release a latched interlock; return why it could not be, empty if it was."""
    if name not in rows.names:
        return f"no interlock {name!r} in this cell"
    row = rows.names.index(name)
    if not state.latched[row]:
        return f"interlock {name} is not latched"
    if not met(rows.permit, margin(rows.permit, values), rows.hysteresis)[row]:
        return f"interlock {name}: its permit '{rows.says[row]}' is not given yet; the value is {values[rows.permit.place[row]]:g}"
    state.latched = state.latched.copy()
    state.latched[row] = False
    return ""


def apply(rows: InterlockRows, state: InterlockState, asked: FloatArray) -> tuple[FloatArray, list[int]]:
    """Return the outputs (m,) with the safe values of every tripped row, and the rows that changed something.

    Where two rows want one output the first in the cell file wins.
    """
    effect = state.effect
    if effect is None:
        effect = state.effect = _effect(rows, state.tripped.nonzero()[0])
    if not len(effect.rows):
        return asked, []
    acting = effect.rows[np.logical_or.reduce(effect.affects & (effect.safe != asked), axis=1)]
    return np.where(effect.takes, effect.value, asked), acting.tolist()


def _effect(rows: InterlockRows, tripped: IndexArray) -> Effect:
    affects, safe = rows.affects[tripped], rows.safe[tripped]
    m = affects.shape[1]
    if not len(tripped):
        return Effect(tripped, affects, safe, np.zeros(m, dtype=np.bool_), np.zeros(m))
    first = affects.argmax(axis=0)  # the first tripped row that wants an output; meaningless where none does
    return Effect(tripped, affects, safe, np.logical_or.reduce(affects, axis=0), safe[first, np.arange(m)])
