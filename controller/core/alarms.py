"""Alarms (ISA-18.2): measured conditions as arrays, and those that the cell raises about itself, in one list.

States: normal, unacknowledged, acknowledged, returned (gone before anybody acknowledged it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from controller.core.conditions import margin, met
from controller.core.frame import AlarmView
from controller.core.plan import AlarmRows
from drivers.tags import BoolArray, FloatArray, TagTable

__all__ = ["AlarmState", "Raised", "acknowledge", "initial", "update"]


@dataclass(frozen=True, slots=True)
class Raised:
    """What the cell says of itself as long as it is so: a lost device, an acting interlock, a held batch."""

    unit: str
    priority: Literal[1, 2, 3]
    text: str
    cause: str
    consequence: str
    action: str
    follows: bool = False  # its text is kept up to date while it lasts; others keep what was so when they came


@dataclass(slots=True)
class AlarmState:
    """What alarms remember: arrays (a,) of the measured ones, and the list as people see it."""

    on: BoolArray
    pending: FloatArray  # [s] how long the condition has been met
    listed: dict[str, AlarmView] = field(default_factory=dict)
    active: frozenset[str] = frozenset()


def initial(rows: AlarmRows) -> AlarmState:
    """Return an empty alarm list."""
    n = len(rows.names)
    return AlarmState(np.zeros(n, dtype=np.bool_), np.zeros(n))


def update(
    rows: AlarmRows, last: AlarmState, values: FloatArray, inputs: TagTable, raised: Mapping[str, Raised], now: float, dt: float
) -> tuple[AlarmState, list[str]]:
    """Return the alarms after one scan and the names of those that came or went.

    A BAD value neither raises nor clears a measured alarm: its device's alarm says that it is not known.
    """
    over = margin(rows.when, values)
    allowed = margin(rows.enable, values)
    always = rows.enable.place < 0
    enabled = always | met(rows.enable, allowed)
    with np.errstate(invalid="ignore"):
        comes = met(rows.when, over) & enabled
        stays = last.on & (enabled | np.isnan(allowed)) & ((over >= -rows.hysteresis) | np.isnan(over))
    pending = np.where(comes, last.pending + dt, 0.0)
    on = (comes & (pending >= rows.delay)) | stays
    current = {rows.names[row] for row in np.flatnonzero(on)} | raised.keys()
    if current == last.active:
        return AlarmState(on, pending, _retold(last.listed, raised), last.active), []
    listed = dict(last.listed)
    changed = sorted(current ^ last.active)
    for name in changed:
        view = listed.get(name)
        if name in current:
            listed[name] = _view(name, rows, values, inputs, raised, now)
        elif view is not None and view.state == "acknowledged":
            del listed[name]
        elif view is not None:
            listed[name] = replace(view, state="returned")
    return AlarmState(on, pending, _retold(listed, raised), frozenset(current)), changed


def _retold(listed: dict[str, AlarmView], raised: Mapping[str, Raised]) -> dict[str, AlarmView]:
    """Return the list with the texts of those alarms that follow; nobody has to acknowledge them again for that."""
    told = {name: own.text for name, own in raised.items() if own.follows and name in listed and listed[name].text != own.text}
    return {name: replace(view, text=told[name]) if name in told else view for name, view in listed.items()} if told else listed


def _view(name: str, rows: AlarmRows, values: FloatArray, inputs: TagTable, raised: Mapping[str, Raised], now: float) -> AlarmView:
    if (own := raised.get(name)) is not None:
        return AlarmView(name, own.unit, own.priority, "unacknowledged", own.text, own.cause, own.consequence, own.action, now)
    row = rows.names.index(name)
    tag = inputs[int(rows.when.place[row])]
    limit = f"{rows.when.limit[row]:g} {tag.eu}"
    text = f"{rows.texts[row]}: {tag.name} {values[rows.when.place[row]]:.4g} {tag.eu}, limit {limit}"
    return AlarmView(
        name, rows.units[row], rows.priority[row], "unacknowledged", text, rows.causes[row], rows.consequences[row], rows.actions[row], now
    )


def acknowledge(state: AlarmState, name: str) -> str:
    """Acknowledge one alarm; return why it could not be, empty if it was."""
    view = state.listed.get(name)
    if view is None:
        return f"alarm {name!r} is not in the list"
    if view.state == "acknowledged":
        return f"alarm {name} is already acknowledged"
    listed = dict(state.listed)
    if view.state == "returned":
        del listed[name]
    else:
        listed[name] = replace(view, state="acknowledged")
    state.listed = listed
    return ""
