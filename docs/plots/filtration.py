"""A cake of hydroxide washed with water, with and without a caustic reslurry first, and dried; by simulators/filtration.py."""

from __future__ import annotations

import numpy as np
from style import COLOURS, canvas, save

from drivers.tags import FloatArray
from simulators.components import CO, LI, MN, NA, NI, WATER, N, S, litres, vector
from simulators.filtration import FilterDryer
from simulators.precipitation import Particles, Slurry
from simulators.vessels import Ledger

DT = 5.0  # [s]
MOTHER = vector({NA: 0.9, LI: 0.25, S: 0.58, N: 0.25, WATER: 1.0})  # [mol; kg] in 1 L
METALS = vector({NI: 1750.0, CO: 583.0, MN: 583.0, NA: 1.4, S: 13.6})  # 270 kg with what is in its lattice


class Filter(FilterDryer):
    """The filter, worked by hand."""

    def work(self, minutes: float, **setpoints: float) -> None:
        """Go on for so long with these setpoints, the rest at 0."""
        held = dict.fromkeys(self.sets, 0.0) | setpoints
        for _ in range(round(60.0 * minutes / DT)):
            self.step(held, DT, None, Ledger())

    def traces(self) -> tuple[float, float]:
        """Return what a dried cake would hold of Na and S [mg/kg]."""
        held = self.solids + self.pore
        return float(held[NA]) * 22.99e3 / self.solid_mass, float(held[S]) * 32.06e3 / self.solid_mass


def filled() -> Filter:
    """Return a filter with 270 kg of hydroxide in its mother liquor, drained."""
    tank = Filter()
    tank.step(dict.fromkeys(tank.sets, 0.0), DT, Slurry(MOTHER * 1500.0, METALS.copy(), 0.42 * float(METALS[S]), Particles()), Ledger())
    while litres(tank.free) > 1e-3:
        tank.work(1.0, drain=1.0, pressure_sp=3.0)
    return tank


def washed(tank: Filter) -> FloatArray:
    """Wash with 20 L/min and return bed volumes, Na and S [mg/kg], shape (3, steps)."""
    rows = [(0.0, *tank.traces())]
    bed = tank.p.pores * tank.solid_mass
    minutes = 0
    while rows[-1][0] < 10.0:
        tank.work(1.0, drain=1.0, pressure_sp=3.0, wash_flow_sp=20.0)
        minutes += 1
        rows.append((20.0 * minutes / bed, *tank.traces()))
    return np.array(rows).T


def main() -> None:
    figure, (wash, dry) = canvas(2)
    plain, treated = filled(), filled()
    treated.work(16.0, caustic_flow_sp=50.0, stirrer_speed_sp=40.0)
    treated.work(60.0, stirrer_speed_sp=40.0)
    while litres(treated.free) > 1e-3:
        treated.work(1.0, drain=1.0, pressure_sp=3.0)
    for tank, line, name in ((plain, "--", "water only"), (treated, "-", "caustic reslurry first")):
        volumes, sodium, sulfur = washed(tank)
        wash.plot(volumes, sodium, line, color=COLOURS[0], label=f"Na, {name}")
        wash.plot(volumes, sulfur, line, color=COLOURS[1], label=f"S, {name}")
    for limit, name, colour in ((300.0, "Na", COLOURS[0]), (1800.0, "S", COLOURS[1])):
        wash.axhline(limit, color=colour, lw=0.9, ls=":")
        wash.text(10.0, limit * 1.04, f"limit {name}", ha="right", color=colour, fontsize=8.5)
    wash.set(yscale="log", xlabel="wash water [bed volumes]", ylabel="in the dried cake [mg/kg]", xlim=(0.0, 10.0))
    wash.legend()
    rows = []
    for minute in range(300):
        setpoints = {"pressure_sp": -0.5, "heater": min(max(10.0 * (118.0 - treated.temperature), 0.0), 100.0)}
        treated.work(1.0, **setpoints)
        rows.append((minute / 60.0, 100.0 * treated.moisture() / (1.0 + treated.moisture()), treated.temperature))
    time, moisture, temperature = np.array(rows).T
    dry.plot(time, moisture, label="moisture [%]")
    dry.plot(time, temperature, label="cake [°C]")
    dry.set(xlabel="drying time [h], −0.5 bar", ylim=(0.0, None), ylabel="[%], [°C]")
    dry.legend()
    save(figure, "filtration")


if __name__ == "__main__":
    main()
