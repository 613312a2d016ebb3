"""A cell as the scan needs it: names resolved to indices, eu converted, everything checked. Made by `controller.config` and never changed.

Array orders: *inputs* are the image's tags followed by the selectors; *outputs* are the writable tags; *points* are the
frame's: inputs, outputs (``.OUT``), loop setpoints (``.SP``) and modes (``.MODE``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from drivers.device import Device
from drivers.driver import ERROR_KINDS
from drivers.image import Freshness
from drivers.tags import BoolArray, FloatArray, IndexArray, TagTable

__all__ = ["LINK_POINTS", "AlarmRows", "CellPlan", "DeviceRows", "InterlockRows", "LoopRows", "Role", "SelectorRows", "UnitPlan"]

# what each device's link says of itself: point, eu, lowest and highest value, description with {} for the device
LINK_POINTS: Mapping[str, tuple[str, float, float, str]] = {
    "UP": ("", 0, 1, "Link to {}"),
    "RTT": ("s", 0, 1e3, "Round trip of the last read of {}"),
    "LOSSES": ("", 0, 1e9, "Times the link to {} was lost"),
    "UNTAKEN": ("", 0, 1e3, "Outputs that {} does not take"),
    "DROPS": ("", 0, 1e12, "Samples and events of {} that were lost on the way"),
    "CERT_DAYS": ("d", 0, 1e5, "Until a certificate of the link to {} expires; BAD where it has none"),
    "CLOCK": ("s", -1e10, 1e10, "Clock of {} ahead of ours; BAD where it gives no times"),
    **{f"ERRORS_{kind.upper()}": ("", 0, 1e12, f"Errors of the link to {{}} by kind: {kind}") for kind in ERROR_KINDS},
}


@dataclass(frozen=True, slots=True)
class DeviceRows:
    """One device and where its signals stand; -1 where a signal has no tag here."""

    device: Device
    poll: float  # [s] monotonic
    places: IndexArray  # (signals,) into the image
    outputs: IndexArray  # (k,) this device's outputs
    signals: tuple[str, ...]  # (k,) their names in the profile
    links: IndexArray  # image places of what the link says of itself, in the order of `LINK_POINTS`
    up: int  # three of them
    untaken: int
    certificate: int
    safe: int  # whether it says that it has fallen to its own safe state; -1 if it cannot say


@dataclass(frozen=True, slots=True)
class SelectorRows:
    """Redundant measurements: row i of `of` lists input places (padded with the first one)."""

    of: IndexArray  # (s, width)
    member: BoolArray  # (s, width)
    agree: FloatArray  # (s,) [eu]


@dataclass(frozen=True, slots=True)
class LoopRows:
    """n loops; shapes (n,). Gains are [eu of OUT per eu of PV], direct or reverse by their sign."""

    names: tuple[str, ...]
    pv: IndexArray  # into inputs
    out: IndexArray  # into outputs
    feed: IndexArray  # into inputs; its `feed_gain` is 0 where there is none
    gain: FloatArray
    reset: FloatArray  # [s]
    beta: FloatArray  # weight of the setpoint in P
    feed_gain: FloatArray
    sp_low: FloatArray
    sp_high: FloatArray
    out_low: FloatArray
    out_high: FloatArray


@dataclass(frozen=True, slots=True)
class Condition:
    """n comparisons of an input with a limit: true when ``sign * (value - limit) <= 0``; shapes (n,)."""

    place: IndexArray
    sign: FloatArray  # +1 for <=, -1 for >=
    limit: FloatArray
    strict: BoolArray
    least: FloatArray = field(init=False)  # [eu] the margin with which each is met: the smallest number above 0 where it is strict

    def __post_init__(self) -> None:
        object.__setattr__(self, "least", np.where(self.strict, np.nextafter(0.0, 1.0), 0.0))


@dataclass(frozen=True, slots=True)
class InterlockRows:
    """Cause and effect; k interlocks on m outputs."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    units: tuple[str, ...]
    permit: Condition
    hysteresis: FloatArray  # (k,) how far inside the limit the value must return
    delay: FloatArray  # (k,) [s] plant time
    latch: BoolArray  # (k,)
    affects: BoolArray  # (k, m)
    safe: FloatArray  # (k, m), NaN where it does not affect
    says: tuple[str, ...]  # the permit as text


@dataclass(frozen=True, slots=True)
class AlarmRows:
    """a alarms on measurements."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    priority: tuple[Literal[1, 2, 3], ...]
    texts: tuple[str, ...]
    causes: tuple[str, ...]
    consequences: tuple[str, ...]
    actions: tuple[str, ...]
    when: Condition
    enable: Condition  # `place` -1: always
    hysteresis: FloatArray
    delay: FloatArray


@dataclass(frozen=True, slots=True)
class Role:
    """What a role of a unit is bound to. `eu` is that of its class; -1 for what it has not."""

    name: str
    kind: Literal["measurement", "output", "loop"]
    eu: str
    measured: int = -1  # into inputs: the value that counts as the role's own
    output: int = -1  # into outputs
    loop: int = -1  # into loops


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """One ISA-88 unit."""

    name: str
    unit_class: str
    description: str
    roles: Mapping[str, Role]
    key: tuple[str, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellPlan:
    """A checked cell."""

    id: str
    description: str
    file: str
    scan: float  # [s] plant time
    simulated: bool
    devices: Mapping[str, DeviceRows]
    image: TagTable
    freshness: Freshness
    inputs: TagTable
    outputs: TagTable
    rest: FloatArray  # (m,) what an output is while nobody asks for anything; NaN: it stays as the device shows it
    safe: FloatArray  # (m,) what it is on abort; NaN likewise
    readback: IndexArray  # (m,) into the image
    points: TagTable
    selectors: SelectorRows
    loops: LoopRows
    interlocks: InterlockRows
    alarms: AlarmRows
    units: Mapping[str, UnitPlan]
    service: Mapping[str, int]  # image places of what the service says of itself
