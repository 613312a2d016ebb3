"""What the laboratory says of a liquor whose aluminium falls, and its error against the amount; by simulators/laboratory.py."""

from __future__ import annotations

import math

import numpy as np
from style import COLOURS, canvas, save

from simulators.laboratory import Laboratory, Sample

DT = 30.0  # [s]


def follow(hours: float) -> tuple[np.ndarray, np.ndarray]:
    """Return time [h], what is true, what the analyser shows and when it was sampled, shape (steps,) and (2, steps); asked anew at each answer."""
    analyser, rng = Laboratory(), np.random.default_rng(1)
    rows, request = [], 0.0
    for step in range(round(hours * 3600.0 / DT)):
        now = step * DT
        true = 300.0 * math.exp(-now / 5000.0) + 2.0
        if analyser.answer["sample_done"] == request:
            request += 1.0
        analyser.step({"sample_point": 3.0, "sample_request": request}, now, rng, lambda _point, true=true: Sample({"Al": true}, solid=False))
        shown = analyser.answer["al"] if analyser.answer["sample_done"] else math.nan
        rows.append((now / 3600.0, true, shown))
    time, *values = np.array(rows).T
    return time, np.array(values)


def error(element: str, true: float, *, solid: bool, count: int = 1500) -> float:
    """Return two standard deviations of the answer over the true amount [%]."""
    analyser, rng = Laboratory(), np.random.default_rng(2)
    found = []
    for number in range(1, count + 1):
        now = number * 1e4
        setpoints = {"sample_point": 0.0, "sample_request": float(number)}
        for moment in (now, now + 9e3):
            analyser.step(setpoints, moment, rng, lambda _point: Sample({element: true}, solid=solid))
        found.append(analyser.answer[element.lower()])
    return 200.0 * float(np.std(found)) / true


def main() -> None:
    figure, (delay, size) = canvas(2)
    time, (true, shown) = follow(7.0)
    delay.plot(time, true, color="0.6", label="in the liquor")
    delay.plot(time, shown, color=COLOURS[1], drawstyle="steps-post", label="last answer")
    delay.set(xlabel="time [h]", ylabel="Al [mg/kg]", yscale="log", title="an answer tells of 45 to 60 minutes ago")
    amounts = np.geomspace(2.0, 500_000.0, 14)
    for element, solid, name in (
        ("Ni", False, "any element, by ICP"),
        ("Ni", True, "Ni, Co, Mn in a solid, by titration"),
    ):
        size.plot(amounts, [error(element, float(amount), solid=solid) for amount in amounts], "--" if solid else "o-", ms=4, label=name)
    size.set(xscale="log", yscale="log", xlabel="true amount [mg/kg]", ylabel="error, 2 sigma [%]")
    for axis in (delay, size):
        axis.legend()
    save(figure, "laboratory")


if __name__ == "__main__":
    main()
