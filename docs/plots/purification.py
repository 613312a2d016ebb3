"""What stays in the liquor and what the cake takes with it, against the pH at which Fe and Al are removed; by simulators/purification.py."""

from __future__ import annotations

import numpy as np
from style import COLOURS, canvas, save

from drivers.tags import FloatArray
from simulators.components import AL, ATOMIC, CO, CU, FE2, FE3, HEAT, MN, NI, SI, WATER, WATER_HEAT, C, F, S, litres
from simulators.feed import FEEDS
from simulators.purification import PurificationTank
from simulators.vessels import Ledger

DT, T = 10.0, 60.0  # [s], [degC]
METALS = [NI, CO, MN]


def leached() -> FloatArray:
    """Return the liquor of 500 kg of black mass, cemented and oxidised, with 1.3 of the acid that it needs."""
    n = FEEDS["nmc622"].per_kg() * 500.0
    n[NI] += n[CU]
    n[F], n[SI], n[FE3] = 0.3 * n[F], 0.1 * n[SI], n[FE2]
    n[[C, CU, FE2]] = 0.0
    n[S], n[WATER] = 6200.0, 4000.0
    n[HEAT] = WATER_HEAT * n[WATER] * (T - 25.0)
    return n


class Tank(PurificationTank):
    """The tank, worked by hand."""

    def work(self, minutes: float, **setpoints: float) -> None:
        """Go on for so long with these setpoints, the rest at 0, held at temperature."""
        held = dict.fromkeys(self.sets, 0.0) | {"stirrer_speed_sp": 100.0} | setpoints
        for _ in range(round(60.0 * minutes / DT)):
            held["jacket_valve"] = min(max(20.0 * (T - self.temperature), -100.0), 100.0)
            self.step(held, DT, None, None, Ledger())

    def bring(self, ph: float, minutes: float, reagent: str) -> None:
        """Dose caustic or acid towards `ph`, the nearer the slower, for so long."""
        for _ in range(round(60.0 * minutes / DT)):
            gap = abs(self.chemistry.ph - ph)
            over = self.chemistry.ph > ph if reagent == "naoh" else self.chemistry.ph < ph
            flow = 0.0 if over else 8.0 if gap > 4.0 else 3.0 if gap > 1.0 else max(gap, 0.02)
            self.work(DT / 60.0, **{f"{reagent}_flow_sp": flow})

    def press_out(self) -> None:
        """Pump all through the press and wash the cake with 300 L."""
        while self.volume() > 0.0:
            self.work(1.0, transfer_pump=80.0)
        self.work(15.0, press_wash_flow_sp=20.0)


def run(ph: float) -> tuple[FloatArray, list[float]]:
    """Return Al, Fe and F left [mg/L], shape (3,), and the share of Ni+Co+Mn in the cake before and after a repulp [%]."""
    tank = Tank()
    tank.liquor = leached()
    charged = float(tank.liquor[METALS].sum())
    tank.bring(ph, 180.0, "naoh")
    molar = np.array([ATOMIC["Al"], ATOMIC["Fe"], ATOMIC["F"]]) * 1e3
    left = tank.liquor[[AL, FE3, F]] * molar / litres(tank.liquor)
    lost = []
    for turn in range(2):
        if turn:
            tank.work(1.0, repulp=1.0)
            tank.work(10.0, water_flow_sp=50.0)
            tank.bring(5.4, 45.0, "acid")
        tank.press_out()
        lost.append(100.0 * float(tank.press.liquor[METALS].sum() + tank.press.solids[:, METALS].sum()) / charged)
    return left, lost


def main() -> None:
    points = np.array([4.2, 4.5, 4.8, 5.1, 5.4, 5.6, 5.8, 6.0, 6.2, 6.4])
    left, lost = zip(*(run(ph) for ph in points.tolist()), strict=True)
    figure, (liquor, cake) = canvas(2)
    for values, name in zip(np.array(left).T, ("Al", "Fe", "F"), strict=True):
        liquor.plot(points, values, "o-", ms=4, label=name)
    liquor.set(yscale="log", ylim=(1e-3, 5e3), ylabel="left in the liquor [mg/L]", title="After 3 h at 60 °C")
    for values, name, colour in zip(
        np.array(lost).T, ("cake pressed and washed", "after one repulp at pH 5.4"), (COLOURS[1], COLOURS[2]), strict=True
    ):
        cake.plot(points, values, "o-", ms=4, label=name, color=colour)
    cake.set(ylabel="Ni+Co+Mn in the Fe/Al cake [% of charged]", title="Lost with the cake", ylim=(0.0, None))
    for axis in (liquor, cake):
        axis.set(xlabel="pH of Fe and Al removal")
        axis.legend()
    save(figure, "purification")


if __name__ == "__main__":
    main()
