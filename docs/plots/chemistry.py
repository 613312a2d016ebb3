"""What stays dissolved as caustic runs into a mixed sulfate liquor, by the solver of simulators/equilibrium.py."""

from __future__ import annotations

import numpy as np
from style import canvas, save

from simulators.components import ATOMIC
from simulators.constants import HYDROXIDES
from simulators.equilibrium import DISSOLVED, Equilibrium

PURIFIED = {"Ni": 0.45, "Co": 0.15, "Mn": 0.15, "Li": 0.75, "S": 1.125}  # [mol/kg] liquor of NMC622
LEACHED = PURIFIED | {"Al": 0.05, "Fe3": 0.01, "Cu": 0.01, "S": 1.325}  # with 0.1 mol/kg of free acid
STEP = 2e-3  # [mol/kg] of NaOH


def titrate(liquor: dict[str, float], t: float, most: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return pH and what is dissolved of each metal [mg/kg of water] while up to `most` [mol/kg] of NaOH runs in at `t` [degC]."""
    totals = np.array([liquor.get(name, 0.0) for name in DISSOLVED])
    water = Equilibrium()
    ph, left = [], []
    for _ in range(int(most / STEP)):
        ph.append(water.solve(t, totals.tolist()))
        left.append(water.left)
        totals[DISSOLVED.index("Na")] += STEP
    masses = [ATOMIC[solid.metal.rstrip("23")] * 1e3 for solid in HYDROXIDES]
    dissolved = np.array(left).T * np.array(masses)[:, None]
    return np.array(ph), {solid.metal: row for solid, row in zip(HYDROXIDES, dissolved, strict=True)}


def main() -> None:
    figure, (acid, alkaline) = canvas(2)
    ph, left = titrate(LEACHED, 60.0, 2.3)
    for metal, name in (("Fe3", "Fe(III)"), ("Al", "Al"), ("Cu", "Cu"), ("Ni", "Ni"), ("Co", "Co"), ("Mn", "Mn")):
        acid.plot(ph, left[metal], label=name)
    acid.set(xlim=(1.4, 10.0), title="No ammonia, 60 °C", ylabel="dissolved [mg/kg of water]")
    acid.legend(loc="lower left")
    for ammonia, t, style in ((0.0, 50.0, "k--"), (0.5, 50.0, "-"), (0.5, 25.0, "-")):
        ph, left = titrate(PURIFIED | {"N": ammonia}, t, 2.4)
        alkaline.plot(ph, left["Ni"], style, label=f"{ammonia:g} mol/kg NH₃, {t:g} °C")
    alkaline.set(xlim=(6.0, 13.0), title="Nickel: ammonia and temperature")
    alkaline.legend(loc="lower left")
    for axis in (acid, alkaline):
        axis.set(yscale="log", ylim=(1e-3, 1e5), xlabel="pH at the liquor's temperature")
    save(figure, "chemistry")


if __name__ == "__main__":
    main()
