"""Soda for the lithium of an assay: the amount, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.batch.phases.carbonate import SODA
from controller.config import cell_path, load_cell
from controller.runtime.batches import Library
from controller.runtime.lockstep import Lockstep
from simulators.components import HEAT, LI, WATER, WATER_HEAT, S, vector
from simulators.feed import FEEDS
from simulators.plant import Plant

RECIPE = """
recipe: {id: soda, version: 1, title: Soda, product: Li2CO3, specification: li2co3-battery}
units: {C1: crystalliser, LAB: laboratory}
formula:
  excess: {value: 1.1, range: [1.0, 1.2]}
procedure:
  - sample: {unit: LAB, run: assay, with: {point: crystalliser}, record: brine, max: 4 h}
  - soda: {unit: C1, run: dose_soda, with: {assay: brine, excess: excess, rate: 15 L/min}, record: soda, max: 4 h}
"""


def run(folder: Path, lithium: float) -> tuple[Lockstep, Plant, str]:
    """Run the recipe on 1 t of sulfate liquor with so much lithium [mol]."""
    path = folder / "soda.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    cell = load_cell(cell_path("demo"))
    library = Library(cell.classes)
    plant = Plant({name: row.device.profile for name, row in cell.plan.devices.items()}, feed=FEEDS["lfp"], seed=1)
    plant.crystalliser.liquor = vector({LI: lithium, S: 0.5 * lithium, WATER: 1000.0, HEAT: WATER_HEAT * 1000.0 * 60.0})
    bed = Lockstep(cell.plan, plant, dt=10.0)
    bed.step()
    bed.step([library.prepare(library.load(str(path)), cell.plan, "soda-0001", bed.clock.plant(), {}, "", "op")])
    *_, last = bed.run(lambda scan: scan.frame.state in ("COMPLETE", "HELD", "STOPPED"), at_most=8 * 3600.0)
    return bed, plant, f"{last.frame.state}: {last.frame.batch.why if last.frame.batch else ''}"


def test_it_doses_what_the_lithium_of_the_assay_needs(tmp_path: Path) -> None:
    _, plant, end = run(tmp_path, 2400.0)
    assert end.startswith("COMPLETE"), end
    assert plant.ledger.dosed["soda"] == pytest.approx(1.1 * 0.5 * 2400.0 / SODA, rel=0.04)  # an assay of 5 %, 2 sigma


def test_a_liquor_without_lithium_is_refused_and_nothing_is_dosed(tmp_path: Path) -> None:
    _, plant, end = run(tmp_path, 0.0)
    assert end.startswith("HELD"), end
    assert "holds no Ni, Co, Mn or Li" in end
    assert plant.ledger.dosed.get("soda", 0.0) == 0.0
