"""The recipe of the demo, whole, in lockstep with the simulated plant: a good lot is released, and a bad recipe gives a bad lot.

No sockets, no sleeping: 37 h of plant time in seconds. The scan is 24 s here, as in the accelerated demo.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from controller.batch.balance import balance
from controller.batch.records import BatchState
from controller.config import cell_path, load_cell
from controller.core.states import FINAL
from controller.runtime.batches import Library
from controller.runtime.lockstep import Lockstep
from simulators.feed import FEEDS
from simulators.plant import Plant

DT = 24.0  # [s]


@dataclass(frozen=True)
class Outcome:
    state: BatchState
    truth: dict[str, float]
    balance: dict[str, float]
    digest: str
    alarms: frozenset[str]
    interlocks: frozenset[str]

    @property
    def failed(self) -> list[str]:
        return [text for record in self.state.steps.values() for text in record.progress.get("failed", [])]


@functools.cache
def run(*, without_interlock: str = "", wider: bool = False, seed: int = 1, dt: float = DT, **formula: str) -> Outcome:
    """Run the recipe to its end; return what came out, by the service's assays and by the plant's own ledger."""
    path = cell_path("demo")
    if without_interlock:
        import tempfile

        text = path.read_text()
        start = text.index(f'[[interlocks]]\nname = "{without_interlock}"')
        folder = Path(tempfile.mkdtemp())
        path = folder / "cell.toml"
        path.write_text(text[:start] + text[text.index("\n\n", start) :])
    cell = load_cell(path)
    library = Library(cell.classes)
    recipe = library.load("nmc622-pcam")
    profiles = {name: row.device.profile for name, row in cell.plan.devices.items()}
    plant = Plant(profiles, feed=FEEDS["nmc622"], seed=seed)
    bed = Lockstep(cell.plan, plant, dt=dt)
    bed.step()
    scan = bed.step([library.prepare(recipe, cell.plan, "demo-0001", bed.clock.plant(), formula, "lot", "op")])
    digest = hashlib.sha256()
    alarms = set[str]()
    for scan in bed.run(lambda scan: scan.frame.state in (*FINAL, "HELD"), at_most=60 * 3600.0):
        digest.update(scan.outputs.tobytes())
        alarms |= {alarm.name for alarm in scan.frame.alarms}
    assert scan.frame.state == "COMPLETE", scan.frame.batch.why if scan.frame.batch else ""
    procedure = bed.cell.procedure
    assert procedure is not None
    held = frozenset(event.name for _, event in bed.events if event.kind == "interlock" and event.new == "holds")
    closure = {name: float(error) for name, error in plant.balance().items()}
    return Outcome(procedure.state, plant.truth(), closure, digest.hexdigest(), frozenset(alarms), held)


def test_the_nominal_recipe_makes_a_lot_that_is_released() -> None:
    good = run()
    assert good.failed == []
    assert good.state.released is True
    assert good.state.deviations == []
    assert good.interlocks == frozenset()
    assert good.truth["purity"] >= 99.0
    assert good.truth["recovery"] >= 96.0


def test_what_the_service_reports_is_what_the_plant_made() -> None:
    good = run()
    assert good.state.records["release.purity"] == pytest.approx(good.truth["purity"], abs=0.15)
    assert good.state.records["release.purity_by_metals"] == pytest.approx(good.state.records["release.purity"], abs=1.0)
    assert balance(good.state.records).recovery == pytest.approx(good.truth["recovery"], abs=3.0)  # two assays of 1.5 % each


def test_matter_is_neither_made_nor_lost() -> None:
    assert max(abs(error) for error in run().balance.values()) < 1e-6


def test_the_same_batch_gives_the_same_outputs_bit_for_bit() -> None:
    first = run()
    run.cache_clear()
    again = run()
    assert again.digest == first.digest
    assert again.state.to_json() == first.state.to_json()


def test_too_little_peroxide_leaves_metal_in_the_cake() -> None:
    poor = run(peroxide="0 L")
    assert poor.truth["recovery"] < run().truth["recovery"] - 10.0
    assert balance(poor.state.records).recovery < 90.0


def test_without_a_wash_the_lot_is_not_released() -> None:
    dirty = run(wash_end="500 mS/cm")
    assert dirty.state.released is False
    assert dirty.truth["purity"] < run().truth["purity"] - 0.5
    assert any(text.startswith(("Na", "S ", "P ")) for text in dirty.failed)


def test_purification_at_ph_6_5_loses_nickel_where_the_interlock_does_not_stop_it() -> None:
    lossy = run(without_interlock="I-301", purify_pH="6.5 pH")
    assert lossy.truth["recovery"] < run().truth["recovery"] - 0.7
    assert lossy.truth["recovery"] < 98.0


def test_purification_at_too_low_a_ph_leaves_aluminium_in_the_product() -> None:
    poor = run(purify_pH="4.6 pH", repulp_pH="4.5 pH")
    assert poor.state.released is False
    assert any(text.startswith("Al") for text in poor.failed)


def test_another_scan_period_makes_the_same_product() -> None:
    fine, coarse = run(dt=8.0), run()
    assert fine.state.released is True
    assert fine.truth["purity"] == pytest.approx(coarse.truth["purity"], abs=0.05)
    assert fine.truth["recovery"] == pytest.approx(coarse.truth["recovery"], abs=1.0)
    assert np.isfinite(fine.truth["purity"])
