"""Extraction against time, with and without peroxide: black mass at two temperatures, and LFP; by simulators/leach.py."""

from __future__ import annotations

import numpy as np
from style import COLOURS, canvas, save

from drivers.tags import FloatArray
from simulators.components import FE2, FE3, H2O2, LI, WATER, P, S, vector
from simulators.feed import FEEDS
from simulators.leach import LeachTank
from simulators.vessels import Ledger

DT, MINUTES = 5.0, 180
STIRRED = dict.fromkeys(LeachTank.sets, 0.0) | {"stirrer_speed_sp": 120.0}


def leach(feed: str, *, acid: float, peroxide: float, solids: float, t: float) -> tuple[FloatArray, FloatArray]:
    """Leach `solids` [g/L] held at `t` [degC] with all `acid` and `peroxide` [mol/L] there from the start.

    Return the share of Ni+Co+Mn dissolved, shape (steps,), and those of Li, Fe and P, shape (3, steps).
    """
    tank, ledger = LeachTank(FEEDS[feed]), Ledger()
    tank.liquor = vector({S: acid * 1e3, H2O2: peroxide * 1e3, WATER: 970.0})
    tank.stirrer = 120.0
    metals, others = [], []
    brought = FEEDS[feed].per_kg() * solids
    for step in range(int(MINUTES * 60.0 / DT)):
        tank.temperature = tank.jacket.temperature = t
        tank.step(STIRRED, DT, solids if step == 0 else 0.0, ledger)
        n = tank.liquor
        metals.append(1.0 - sum(tank.left) / sum(tank.fed) if sum(tank.fed) > 0.0 else 0.0)
        others.append((n[LI] / brought[LI], (n[FE2] + n[FE3]) / brought[FE2], n[P] / brought[P] if brought[P] > 0.0 else 0.0))
    return np.array(metals), np.array(others).T


def main() -> None:
    time = np.arange(1, int(MINUTES * 60.0 / DT) + 1) * DT / 60.0
    figure, (oxides, lfp) = canvas(2)
    for colour, t in zip(COLOURS, (40.0, 70.0), strict=False):
        for line, peroxide in (("-", 0.75), ("--", 0.0)):
            metals, _ = leach("nmc622", acid=2.2, peroxide=peroxide, solids=140.0, t=t)
            oxides.plot(time, 100.0 * metals, line, color=colour, label=f"{t:g} °C, {peroxide:g} mol/L H₂O₂")
    oxides.set(title="NMC622 black mass, 140 g/L in 2.2 M H₂SO₄", ylabel="dissolved [%]")
    for line, peroxide in (("-", 1.3), ("--", 0.0)):
        _, shares = leach("lfp", acid=0.4, peroxide=peroxide, solids=50.0, t=25.0)
        for colour, name, share in zip(COLOURS, ("Li", "Fe", "P"), shares, strict=False):
            lfp.plot(time, 100.0 * share, line, color=colour, label=f"{name}, {peroxide:g} mol/L H₂O₂")
    lfp.set(title="LFP black mass, 50 g/L in 0.4 M H₂SO₄, 25 °C")
    for axis in (oxides, lfp):
        axis.set(xlabel="time [min]", xlim=(0.0, MINUTES), ylim=(0.0, 102.0))
    oxides.legend(loc="lower right")
    lfp.legend(loc="center right")
    save(figure, "leach")


if __name__ == "__main__":
    main()
