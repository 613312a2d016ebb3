"""A fed-batch co-precipitation: size against time, and what pH and ammonia do to sulfate, yield and tap density; by simulators/precipitation.py."""

from __future__ import annotations

import numpy as np
from style import COLOURS, canvas, save

from drivers.tags import FloatArray
from simulators.components import CO, LI, MN, NA, NI, WATER, N, S, litres, vector
from simulators.precipitation import Reactor
from simulators.purification import PurificationTank
from simulators.vessels import Ledger

DT, T, HOURS = 30.0, 50.0, 10.0  # [s], [degC], of feed
CLEAR = vector({NI: 1800.0, CO: 600.0, MN: 600.0, LI: 3060.0, NA: 1500.0, S: 5280.0, WATER: 4200.0})
METALS = [NI, CO, MN]


def run(ph: float, ammonia: float) -> tuple[FloatArray, float, float, float]:
    """Feed the clear liquor of a batch in `HOURS` at `ph` and `ammonia` [mol/L].

    Return time [h] with D10, D50 and D90 [um], shape (4, steps), lattice S [mg/kg], metals left in the liquor [% of fed], tap density [g/cm3].
    """
    tank, source, ledger = Reactor(np.array([0.6, 0.2, 0.2])), PurificationTank(), Ledger()
    tank.liquor = vector({WATER: 600.0, N: 600.0 * ammonia})
    tank.stirrer, tank.nitrogen = 200.0, 10.0
    source.clear, source.clear_temperature = CLEAR.copy(), T
    feed = litres(CLEAR) / HOURS
    whole = sum(float(CLEAR[place]) for place in METALS)
    setpoints = dict.fromkeys(tank.sets, 0.0) | {"stirrer_speed_sp": 200.0, "nitrogen_flow_sp": 10.0}
    rows = []
    for step in range(round((HOURS + 1.5) * 3600.0 / DT)):
        seconds = step * DT
        tank.temperature = tank.jacket.temperature = T
        volume = tank.volume() * 1e-3
        base = 2.0 * whole / HOURS / 10.0 if tank.feed > 1.0 else 0.0  # what the metals need [L/h]
        lack = ammonia - float(tank.liquor[N]) / litres(tank.liquor)
        setpoints |= {
            "naoh_flow_sp": max(base + 120.0 * volume * (ph - tank.chemistry.ph), 0.0),
            "ammonia_flow_sp": max(feed * ammonia / 13.0 * 1.12 + 400.0 * lack, 0.0) if seconds > 1200.0 and tank.feed > 1.0 else 0.0,
            "seed_rate_sp": 44.4 if 600.0 <= seconds < 1200.0 else 0.0,
            "feed_flow_sp": feed if seconds >= 1200.0 and litres(source.clear) > 1.0 else 0.0,
        }
        tank.step(setpoints, DT, source, lambda: 0.0, ledger)
        if seconds > 1300.0:
            rows.append(((seconds - 1200.0) / 3600.0, *tank.particles.percentiles()))
    sulfur = float(tank.solids[S]) * 32.06e3 / tank.solid_mass
    lost = 100.0 * sum(float(tank.liquor[place]) for place in METALS) / whole
    return np.array(rows).T, sulfur, lost, tank.particles.tap(tank.p)


def main() -> None:
    figure, (size, sulfate, yield_, tap) = canvas(2, 2)
    (time, *percentiles), *_ = run(11.0, 0.42)
    for values, name in zip(percentiles, ("D10", "D50", "D90"), strict=True):
        size.plot(time, values, label=name)
    size.set(xlabel="time of feed [h]", ylabel="size by volume [µm]", ylim=(0.0, None), title="pH 11.0, 0.42 mol/L NH₃, seed of 3 µm")
    size.legend()
    points = np.array([10.6, 10.8, 11.0, 11.4, 11.6])
    for ammonia, colour in zip((0.25, 0.42, 0.7), COLOURS, strict=False):
        _, sulfur, lost, density = zip(*(run(ph, ammonia) for ph in points.tolist()), strict=True)
        for axis, values in ((yield_, lost), (tap, density)):
            axis.plot(points, values, "o-", ms=4, color=colour, label=f"{ammonia:g} mol/L NH₃")
    sulfate.plot(points, sulfur, "o-", ms=4)
    sulfate.set(ylabel="lattice S [mg/kg]", title="before the reslurry; the same at any NH₃", ylim=(0.0, None))
    yield_.set(ylabel="Ni+Co+Mn left dissolved [%]", yscale="log", ylim=(1e-6, 3.0))
    tap.set(ylabel="tap density [g/cm³]")
    tap.axhline(1.8, color="k", lw=0.9, ls="--")
    for axis in (sulfate, yield_, tap):
        axis.set_xlabel("pH of co-precipitation, 50 °C")
    yield_.legend()
    save(figure, "precipitation")


if __name__ == "__main__":
    main()
