"""Two solubilities that part sodium sulfate from lithium carbonate, and what a pass recovers; by simulators/crystalliser.py."""

from __future__ import annotations

import numpy as np
from style import COLOURS, canvas, save

from drivers.tags import FloatArray
from simulators.components import HEAT, LI, NC, WATER, WATER_HEAT, S, vector
from simulators.crystalliser import Crystalliser
from simulators.crystalliser_salts import CrystalliserParameters, carbonate_solubility, sulfate_solubility
from simulators.vessels import Ledger

DT, HOT = 5.0, 92.0  # [s], [degC]


class Nothing:
    """A clear-liquor tank that is empty."""

    def draw(self, volume: float) -> FloatArray:
        return np.zeros(NC)


def recovered(lithium: float, excess: float) -> float:
    """Return the share of lithium [%] that falls from a sulfate liquor of `lithium` [g/L] with so much soda, after an hour."""
    moles = lithium / 6.94 * 1e3
    unit, ledger = Crystalliser(), Ledger()
    unit.liquor = vector({LI: moles, S: 0.5 * moles, WATER: 1000.0, HEAT: WATER_HEAT * 1000.0 * (HOT - 25.0)})
    dosing = excess * 0.5 * moles / 3.7 / 15.0  # [min]
    for step in range(round((dosing + 60.0) * 60.0 / DT)):
        valve = min(max(10.0 * (HOT - unit.temperature), -100.0), 100.0)
        soda = 15.0 if step * DT < 60.0 * dosing else 0.0
        unit.step({**dict.fromkeys(unit.sets, 0.0), "jacket_valve": valve, "soda_flow_sp": soda}, DT, None, Nothing(), ledger)
    return 100.0 * float(unit.solids[1, LI]) / moles


def main() -> None:
    p = CrystalliserParameters()
    figure, (solubility, one_pass) = canvas(2)
    t = np.linspace(0.0, 105.0, 211)
    solubility.plot(t, [14.204 * sulfate_solubility(float(at), p) for at in t], label="Na$_2$SO$_4$")
    solubility.plot(t, [7.389 * carbonate_solubility(float(at), p) for at in t], label="Li$_2$CO$_3$")
    solubility.axvline(32.4, color="0.7", lw=0.8)
    solubility.text(31.0, 0.45, "with 10 H$_2$O", ha="right", fontsize=9)
    solubility.text(34.0, 0.45, "anhydrous", fontsize=9)
    solubility.set(yscale="log", ylim=(0.4, 80.0), xlabel="temperature [°C]", ylabel="soluble [g/100 g of water]")
    lithium = (2.0, 4.0, 7.0, 12.0, 20.0)
    for excess, colour in ((1.0, COLOURS[2]), (1.1, COLOURS[0]), (1.2, COLOURS[1])):
        one_pass.plot(lithium, [recovered(grams, excess) for grams in lithium], "o-", ms=4, color=colour, label=f"{excess:g} of the soda")
    one_pass.set(xlabel="lithium before the soda [g/L]", ylabel="recovered in a pass at 92 °C [%]", ylim=(0.0, 100.0))
    for axis in (solubility, one_pass):
        axis.legend(loc="lower right")
    save(figure, "crystalliser")


if __name__ == "__main__":
    main()
