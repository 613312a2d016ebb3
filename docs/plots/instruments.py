"""A pH probe against the true value: with its lag and noise, with a drift, and coated; by simulators/instruments.py."""

from __future__ import annotations

import math

import numpy as np
from style import COLOURS, canvas, save

from drivers.device import load_profile, profile_folder
from drivers.tags import FloatArray
from simulators.faults import Fault
from simulators.instruments import Transmitters, instrument

DT, HOURS = 1.0, 8.0  # [s], [h]
SIGNAL = load_profile(profile_folder() / "precipitation_reactor.toml").signals["ph_a"]
SEEN = (
    ("healthy", []),
    ("drift 0.05/h", [Fault("reactor", "ph_a", "drift", 0.05, 0.0, math.inf)]),
    ("coated", [Fault("reactor", "ph_a", "coated", 10.0, 0.0, math.inf)]),
)


def true(t: FloatArray) -> FloatArray:
    """Return the true pH at `t` [s]: a ramp from neutral to 11.0, then a loop that swings a little, and a dose too much at 6 h."""
    swing = 0.03 * np.sin(2.0 * np.pi * t / 2400.0)
    dose = np.where(t > 21600.0, 0.25 * np.exp(-(t - 21600.0) / 900.0), 0.0)
    return np.where(t < 3600.0, 7.0 + 4.0 * t / 3600.0, 11.0 + swing + dose)


def seen(faults: list[Fault], ph: FloatArray) -> FloatArray:
    """Return what a probe with `faults` shows of the true values `ph`, in steps of `DT`."""
    probe = Transmitters([instrument("ph_a", "precipitation_reactor")], [SIGNAL], DT, np.random.default_rng(1))
    probe.fail([(0, fault) for fault in faults], np.random.default_rng(2))
    return np.array([float(probe.step(np.array([value]), place * DT)[0]) for place, value in enumerate(ph)])


def main() -> None:
    t = np.arange(0.0, HOURS * 3600.0, DT)
    ph = true(t)
    figure, (whole, near) = canvas(2, height=4.2)
    shows = [(name, seen(faults, ph)) for name, faults in SEEN]
    for axis, start, stop, unit in ((whole, 0.0, HOURS, 3600.0), (near, 21480.0 / 60.0, 22200.0 / 60.0, 60.0)):
        part = (t >= start * unit) & (t < stop * unit)
        every = 20 if axis is whole else 1
        x = t[part][::every] / unit - (0.0 if axis is whole else 360.0)
        for (name, value), colour in zip(shows, COLOURS, strict=False):
            axis.plot(x, value[part][::every], color=colour, lw=1.0, label=name)
        axis.plot(x, ph[part][::every], color="black", lw=1.2, label="true")
    whole.set(ylim=(6.8, 11.7), xlabel="time [h]", ylabel="pH", title="From neutral to the precipitation, 8 h")
    whole.legend(loc="lower right")
    near.set(ylim=(10.5, 11.7), xlabel="time after a dose too much [min]", title="The same, near the dose at 6 h")
    save(figure, "instruments")


if __name__ == "__main__":
    main()
