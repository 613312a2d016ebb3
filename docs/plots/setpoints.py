"""Where the recipe nmc622-pcam fails: one formula parameter at a time away from its nominal value, a whole batch each.

Draws from setpoints.csv; without that file it runs the batches first (half a minute each, in two processes).
"""

from __future__ import annotations

import math
from pathlib import Path

from style import COLOURS, canvas, save, sweep

TABLE = Path(__file__).with_suffix(".csv")
# parameter, eu, values; the nominal one stands among them
SCAN = (
    ("acid", "L", (230, 280, 345, 400)),
    ("peroxide", "L", (120, 200, 330, 450)),
    ("leach_temp", "degC", (50, 70, 78)),
    ("leach_time", "h", (1, 3, 5)),
    ("purify_pH", "pH", (4.7, 5.3, 5.8, 6.1)),
    ("reactor_pH", "pH", (10.6, 11.0, 11.3, 11.6)),
    ("reactor_temp", "degC", (40, 50, 60)),
    ("ammonia", "mol/L", (0.2, 0.42, 0.8)),
    ("feed_rate", "L/h", (300, 480, 700)),
    ("wash_end", "mS/cm", (0.3, 0.4, 5, 100)),
)
NOMINAL = {
    "acid": 345, "peroxide": 330, "leach_temp": 70, "leach_time": 3, "purify_pH": 5.8, "reactor_pH": 11.0, "reactor_temp": 50, "ammonia": 0.42,
    "feed_rate": 480, "wash_end": 0.4,
}  # fmt: skip


def batch(parameter: str, value: float, eu: str) -> dict[str, str | float]:
    """Return what came of a batch: state, P, recovery, S, Na (true), and the findings that failed (by the assay)."""
    from controller.config import cell_path, load_cell
    from controller.core.states import FINAL
    from controller.runtime.batches import Library
    from controller.runtime.lockstep import Lockstep
    from simulators.feed import FEEDS
    from simulators.plant import Plant

    cell = load_cell(cell_path("demo"))
    library = Library(cell.classes)
    plant = Plant({name: row.device.profile for name, row in cell.plan.devices.items()}, feed=FEEDS["nmc622"], seed=1)
    bed = Lockstep(cell.plan, plant, dt=24.0)
    bed.step()
    given = {} if value == NOMINAL[parameter] else {parameter: f"{value} {eu}"}
    bed.step([library.prepare(library.load("nmc622-pcam"), cell.plan, "scan-0001", bed.clock.plant(), given, "", "scan")])
    *_, last = bed.run(lambda scan: scan.frame.state in (*FINAL, "HELD"), at_most=70 * 3600.0)
    truth = plant.truth()
    assert bed.cell.procedure is not None
    state = bed.cell.procedure.state
    failed = [text.split(" ")[0] for record in state.steps.values() for text in record.progress.get("failed", [])]
    why = last.frame.batch.why if last.frame.state == "HELD" and last.frame.batch else ""
    return {
        "parameter": parameter, "value": value, "eu": eu, "state": last.frame.state, "released": int(bool(state.released)),
        "purity": round(truth.get("purity", math.nan), 3), "recovery": round(truth["recovery"], 2),
        "sulfur": round(1e4 * truth.get("product.S", math.nan), 0), "sodium": round(1e4 * truth.get("product.Na", math.nan), 0),
        "failed": " ".join(failed) or why.split(",")[0],
    }  # fmt: skip


def main() -> None:
    rows = sweep(TABLE, SCAN, NOMINAL, batch)
    figure, axes = canvas(4, 3, height=7.6)
    floor = 90.0  # [%] what lies below stands on it, and so does a batch that was held: it has no product
    for axis, (parameter, eu, _) in zip(axes, SCAN, strict=False):
        mine = [row for row in rows if row["parameter"] == parameter]
        value = [float(row["value"]) for row in mine]
        axis.axhline(98.0, color="0.75", lw=0.8, ls=":")
        axis.axhline(99.0, color="0.75", lw=0.8, ls=":")
        for column, colour in (("purity", COLOURS[0]), ("recovery", COLOURS[1])):
            axis.plot(value, [float(row[column]) for row in mine], color=colour, lw=1.2)
            for at, row in zip(value, mine, strict=True):
                if row["state"] == "COMPLETE":
                    marker, size = ("o", 5) if row["released"] == "1" else ("x", 7)
                    axis.plot(at, max(float(row[column]), floor), marker, color=colour, ms=size, clip_on=False)
        for at in (at for at, row in zip(value, mine, strict=True) if row["state"] != "COMPLETE"):
            axis.plot(at, floor, "x", color="black", ms=9, mew=2.0, clip_on=False)
        axis.axvline(NOMINAL[parameter], color="0.6", lw=0.8)
        axis.set(title=f"{parameter} [{eu}]", ylim=(floor, 100.4))
        if parameter == "wash_end":
            axis.set_xscale("log")
    legend, *spare = axes[len(SCAN) :]
    legend.axis("off")
    legend.plot([], [], color=COLOURS[0], label="purity P [%]")
    legend.plot([], [], color=COLOURS[1], label="recovery [%]")
    legend.plot([], [], "o", color="0.3", label="released")
    legend.plot([], [], "x", color="0.3", ms=7, label="not released")
    legend.plot([], [], "x", color="black", ms=9, mew=2.0, label="held, no product")
    legend.plot([], [], color="0.6", lw=0.8, label="nominal")
    legend.legend(loc="center")
    for axis in spare:
        axis.axis("off")
    save(figure, "setpoints")


if __name__ == "__main__":
    main()
