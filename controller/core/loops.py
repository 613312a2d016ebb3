"""Loops: n PI controllers as arrays, one law for all of them.

    u = Kc (beta r - y) + FF + I          I += Kc dt/Ti e + kt (u_applied - u)          kt = 1 - exp(-dt/Ti)

With ``kt`` the integral follows what was really applied: an interlock, a limit or a person (external reset), so nothing winds up
and every change of mode is bumpless. A measurement that is NaN never enters: its loop stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from controller.core.plan import LoopRows
from drivers.tags import BoolArray, FloatArray

__all__ = ["LoopState", "Mode", "advance", "initial"]


class Mode(IntEnum):
    """Who decides: a person sets OUT, a person sets SP, or the recipe sets SP."""

    MAN = 0
    AUTO = 1
    REMOTE = 2


@dataclass(slots=True)
class LoopState:
    """What loops remember; all shape (n,)."""

    mode: np.ndarray  # values of Mode
    setpoint: FloatArray  # [eu of PV] the working setpoint
    out: FloatArray  # [eu of OUT] asked for by the last scan
    integral: FloatArray  # [eu of OUT]
    running: BoolArray  # whether the last scan computed it


def initial(rows: LoopRows) -> LoopState:
    """Return loops at rest in REMOTE, waiting for a recipe."""
    n = len(rows.names)
    rest = np.clip(np.zeros(n), rows.out_low, rows.out_high)
    return LoopState(np.full(n, Mode.REMOTE, dtype=np.int8), np.full(n, np.nan), rest, rest.copy(), np.zeros(n, dtype=np.bool_))


def advance(
    rows: LoopRows, last: LoopState, pv: FloatArray, feed: FloatArray, sp: FloatArray, active: BoolArray, applied: FloatArray, dt: float
) -> LoopState:
    """Return the loops after one scan of `dt` [s].

    Parameters
    ----------
    pv, sp : (n,) measurement and setpoint [eu of PV]; NaN where unknown
    feed : (n,) what feed-forward follows [its eu]; NaN counts as what the integral already covers
    active : (n,) which loops control; the others track `applied`
    applied : (n,) what was really put out since the last scan [eu of OUT], after interlocks
    """
    error = sp - pv
    known = active & np.isfinite(error)
    error = np.where(known, error, 0.0)
    p = np.where(known, rows.gain * (rows.beta * sp - pv), 0.0)
    ff = rows.feed_gain * np.where(np.isfinite(feed), feed, 0.0)
    kt = -np.expm1(-dt / rows.reset)
    # external reset: what an interlock or a person put out instead of the last output pulls the integral along
    integral = last.integral + rows.gain * np.minimum(dt / rows.reset, 1.0) * error + kt * (applied - last.out)
    asked = p + ff + integral
    out = np.where(known, np.minimum(np.maximum(asked, rows.out_low), rows.out_high), np.where(active, last.out, applied))
    # a loop that starts or does not control: its integral is what makes `out` equal to what is there, so nothing jumps
    fresh = known & ~last.running
    goes_on = known
    if np.count_nonzero(fresh):
        out = np.where(fresh, np.minimum(np.maximum(applied, rows.out_low), rows.out_high), out)
        goes_on = known & last.running
    integral = np.where(goes_on, integral + kt * (out - asked), out - p - ff)
    return LoopState(last.mode, sp, out, integral, known)
