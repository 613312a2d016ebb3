"""A start of the shredder: purge to 2 % O2, rotor and feed on, one jam; by simulators/shredder.py."""

from __future__ import annotations

import numpy as np
from style import COLOURS, canvas, save

from simulators.shredder import Shredder

DT = 1.0  # [s]
SEED = 26  # brings a jam within the hour


def main() -> None:
    shredder = Shredder(scrap=926.0)  # gives 500 kg of black mass
    rng = np.random.default_rng(SEED)
    setpoints = {"nitrogen_flow_sp": 60.0, "rotor_speed_sp": 0.0, "feed_rate_sp": 0.0}
    rows = []
    for second in range(90 * 60):
        if shredder.oxygen < 2.0:
            setpoints |= {"rotor_speed_sp": 40.0, "feed_rate_sp": 900.0}
        fines = shredder.step(setpoints, DT, rng)
        rows.append((second / 60.0, shredder.oxygen, shredder.torque, fines / DT * 3600.0, shredder.temperature))
    time, oxygen, torque, fines, temperature = np.array(rows).T
    figure, axes = canvas(2, 2)
    labels = ("O₂ in the chamber [%]", "torque [% of rated]", "black mass [kg/h]", "temperature [°C]")
    for axis, values, label in zip(axes, (oxygen, torque, fines, temperature), labels, strict=True):
        axis.plot(time, values, lw=1.3)
        axis.set(ylabel=label, ylim=(0.0, None), xlim=(0.0, time[-1]))
    axes[3].set_ylim(20.0, None)
    for limit, what in ((2.0, "feed allowed"), (4.3, "local interlock")):
        axes[0].axhline(limit, color=COLOURS[1], lw=0.9, ls="--")
        axes[0].text(time[-1], limit + 0.2, what, ha="right", color=COLOURS[1], fontsize=8.5)
    axes[1].axhline(180.0, color=COLOURS[1], lw=0.9, ls="--")
    axes[1].text(1.0, 185.0, "above 180 % for 2 s: reverse", color=COLOURS[1], fontsize=8.5)
    for axis in axes[2:]:
        axis.set_xlabel("time [min]")
    save(figure, "shredder")


if __name__ == "__main__":
    main()
