"""Where the recipe nmc-lithium-carbonate fails: one formula parameter at a time away from its nominal value, on the liquor of one NMC622 batch.

Draws from setpoints_lithium.csv; without that file it runs the batches first (some ten seconds each, in two processes).
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from style import COLOURS, canvas, save, sweep

if TYPE_CHECKING:
    from drivers.tags import FloatArray
    from simulators.plant import Plant

TABLE = Path(__file__).with_suffix(".csv")
# parameter, eu, values; the nominal one stands among them
SCAN = (
    ("excess", "", (1.0, 1.05, 1.1, 1.15, 1.2)),
    ("hot", "degC", (85, 92, 96)),
    ("wash", "L", (20, 60, 150, 400)),
    ("rinse", "L", (0, 120, 300)),
    ("soften", "L", (0, 3, 6, 20, 40)),
    ("strip_pH", "pH", (10.5, 11.0, 11.5, 12.0)),
    ("strip_air", "Nm3/h", (0, 100, 300, 500)),
    ("strong", "m3", (1.2, 1.7, 2.2, 2.8, 3.2)),
    ("cold", "degC", (2, 5, 8, 12)),
)
NOMINAL = {"excess": 1.1, "hot": 92, "wash": 150, "rinse": 120, "soften": 6, "strip_pH": 11.0, "strip_air": 300, "strong": 2.2, "cold": 5}
LIMITS = {"Na": 250.0, "S": 800.0 / 2.996, "Ca": 50.0, "Mg": 80.0, "Cl": 30.0, "K": 10.0}  # [mg/kg] of battery grade; sulfate as S


def run(name: str, given: dict[str, str], plant: Plant) -> Any:
    """Run a recipe on a plant in lockstep; return the last scan and the state of its batch."""
    from controller.config import cell_path, load_cell
    from controller.core.states import FINAL
    from controller.runtime.batches import Library
    from controller.runtime.lockstep import Lockstep

    cell = load_cell(cell_path("demo"))
    library = Library(cell.classes)
    bed = Lockstep(cell.plan, plant, dt=24.0)
    bed.step()
    bed.step([library.prepare(library.load(name), cell.plan, "scan-0001", bed.clock.plant(), given, "", "scan")])
    *_, last = bed.run(lambda scan: scan.frame.state in (*FINAL, "HELD"), at_most=90 * 3600.0)
    assert bed.cell.procedure is not None
    return last, bed.cell.procedure.state


def fresh() -> Plant:
    """Return the plant of the demo's cell."""
    from controller.config import cell_path, load_cell
    from simulators.feed import FEEDS
    from simulators.plant import Plant

    cell = load_cell(cell_path("demo"))
    return Plant({name: row.device.profile for name, row in cell.plan.devices.items()}, feed=FEEDS["nmc622"], seed=3)


@cache
def mother_liquor() -> FloatArray:
    """Return what one NMC622 batch leaves in the feed tank of the crystalliser [mol; kg of water]."""
    plant = fresh()
    run("nmc622-pcam", {}, plant)
    return plant.crystalliser.tank


def batch(parameter: str, value: float, eu: str) -> dict[str, str | float]:
    """Return what came of a batch: state, purity, recovery in one pass, impurities (all true), and the findings that failed (by the assay)."""
    from controller.purity.composition import CARBONATE
    from simulators.components import LI

    plant = fresh()
    plant.crystalliser.tank = mother_liquor().copy()
    mother = float(plant.crystalliser.tank[LI])
    given = {} if value == NOMINAL[parameter] else {parameter: f"{value} {eu}".strip()}
    last, state = run("nmc-lithium-carbonate", given, plant)
    true = {element.lower(): share for element, share in plant.sample(9).composition.items()} | {"pb": 0.0, "acid_insolubles": 0.0}
    sold = plant.ledger.out.get("lithium_carbonate")
    failed = [text.split(" ")[0] for record in state.steps.values() for text in record.progress.get("failed", [])]
    why = last.frame.batch.why if last.frame.state == "HELD" and last.frame.batch else ""
    made = sold is not None
    return {
        "parameter": parameter, "value": value, "eu": eu, "state": last.frame.state, "released": int(bool(state.released)),
        "purity": round(CARBONATE.purity(true), 3) if made else math.nan,
        "recovery": round(100.0 * float(sold[LI]) / mother, 2) if sold is not None else math.nan,
        **{element: round(true[element.lower()], 1) if made else math.nan for element in LIMITS},
        "failed": " ".join(failed) or why.split(",")[0],
    }  # fmt: skip


def main() -> None:
    rows = sweep(TABLE, SCAN, NOMINAL, batch)
    figure, axes = canvas(5, 2, height=5.4)
    for axis, (parameter, eu, _) in zip(axes, SCAN, strict=False):
        mine = [row for row in rows if row["parameter"] == parameter]
        value = [float(row["value"]) for row in mine]
        axis.axhline(1.0, color="0.6", lw=0.8, ls=":")
        for (element, limit), colour in zip(LIMITS.items(), COLOURS, strict=False):
            axis.semilogy(value, [max(float(row[element]) / limit, 0.01) for row in mine], color=colour, lw=1.2)
        for at, row in zip(value, mine, strict=True):
            axis.plot(at, 0.012, "o" if row["released"] == "1" else "x", color="0.2", ms=5 if row["released"] == "1" else 7, clip_on=False)
        axis.axvline(NOMINAL[parameter], color="0.6", lw=0.8)
        axis.set(title=f"{parameter} [{eu}]" if eu else parameter, ylim=(0.01, 30.0))
    for axis in (axes[0], axes[5]):
        axis.set_ylabel("share of the limit")
    legend = axes[len(SCAN)]
    legend.axis("off")
    for element, colour in zip(LIMITS, COLOURS, strict=False):
        legend.plot([], [], color=colour, label="SO₄" if element == "S" else element)
    legend.plot([], [], "o", color="0.2", label="released")
    legend.plot([], [], "x", color="0.2", ms=7, label="not released")
    legend.plot([], [], color="0.6", lw=0.8, label="nominal")
    legend.legend(loc="center")
    save(figure, "setpoints_lithium")


if __name__ == "__main__":
    main()
