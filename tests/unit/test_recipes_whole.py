"""Every recipe of the library, whole, in lockstep on its nominal feed.

pCAM: released, at least 99 % pure, at least 97 % recovered. Lithium carbonate, from LFP and from the mother liquor that an NMC batch leaves:
released, at least 99.5 % pure.
"""

from __future__ import annotations

import re

import pytest

from controller.batch.balance import Balance, balance
from controller.batch.records import BatchState
from controller.config import cell_path, load_cell
from controller.core.states import FINAL
from controller.purity.composition import CARBONATE
from controller.runtime.batches import Library
from controller.runtime.lockstep import Lockstep
from simulators.components import LI
from simulators.feed import FEEDS
from simulators.plant import Plant

RATIO = {"nmc111": (1 / 3, 1 / 3, 1 / 3), "nmc532": (0.5, 0.2, 0.3), "nmc622": (0.6, 0.2, 0.2), "nmc811": (0.8, 0.1, 0.1)}
DT = 24.0  # [s] between scans, as in the accelerated demo


def plant_of(feed: str, seed: int) -> Plant:
    cell = load_cell(cell_path("demo"))
    return Plant({name: row.device.profile for name, row in cell.plan.devices.items()}, feed=FEEDS[feed], seed=seed)


def run(name: str, plant: Plant) -> BatchState:
    """Run a recipe to its end, its lot released."""
    cell = load_cell(cell_path("demo"))
    library = Library(cell.classes)
    bed = Lockstep(cell.plan, plant, dt=DT)
    bed.step()
    bed.step([library.prepare(library.load(name), cell.plan, "whole-0001", bed.clock.plant(), {}, "", "op")])
    *_, last = bed.run(lambda scan: scan.frame.state in (*FINAL, "HELD"), at_most=60 * 3600.0)
    assert last.frame.state == "COMPLETE", last.frame.batch.why if last.frame.batch else ""
    assert bed.cell.procedure is not None
    state = bed.cell.procedure.state
    assert [text for record in state.steps.values() for text in record.progress.get("failed", [])] == []
    assert state.released is True
    return state


def carbonate(state: BatchState, plant: Plant) -> Balance:
    """Judge the true lithium carbonate, and return the batch's own balance of lithium."""
    crystals = plant.sample(9)
    true = {element.lower(): share for element, share in crystals.composition.items()}
    true |= {"pb": 0.0, "acid_insolubles": 0.0}
    assert CARBONATE.purity(true) >= 99.5
    assert CARBONATE.assay_purity(true) == pytest.approx(100.0, abs=0.5)
    assert true["p"] < 50.0  # no limit names it
    assert {name: error for name, error in plant.balance().items() if abs(error) > (1e-4 if name == "energy" else 1e-6)} == {}
    whole = balance(state.records)
    sold = float(plant.ledger.out["lithium_carbonate"][LI])
    assert whole.metals == "Li"
    assert whole.product == pytest.approx(sold, rel=0.08)  # an assay of 1.5 % and a load cell of 3 t
    return whole


@pytest.mark.slow
@pytest.mark.parametrize(("feed", "seed"), [("nmc111", 1), ("nmc532", 2), ("nmc622", 3), ("nmc811", 1)])
def test_it_makes_its_hydroxide_from_its_black_mass(feed: str, seed: int) -> None:
    plant = plant_of(feed, seed)
    run(f"{feed}-pcam", plant)
    truth = plant.truth()
    assert truth["purity"] >= 99.0
    assert truth["recovery"] >= 97.0
    moles = [truth[f"product.{metal}"] / mass for metal, mass in (("Ni", 58.693), ("Co", 58.933), ("Mn", 54.938))]
    for have, want in zip(moles, RATIO[feed], strict=True):
        assert have / sum(moles) == pytest.approx(want, abs=0.01)
    if feed == "nmc622":
        mother = float(plant.crystalliser.tank[LI])
        whole = carbonate(run("nmc-lithium-carbonate", plant), plant)
        assert whole.charged == pytest.approx(mother, rel=0.08)
        assert whole.recovery > 75.0
        assert float(plant.crystalliser.tank[LI]) > 0.03 * mother  # the rest, for the next batch


@pytest.mark.slow
def test_it_makes_lithium_carbonate_from_lfp() -> None:
    plant = plant_of("lfp", 3)
    whole = carbonate(run("lfp-lithium-carbonate", plant), plant)
    assert whole.source == "black mass"
    assert whole.recovery > 75.0


def test_the_pcam_recipes_differ_in_their_ratio_alone() -> None:
    texts = {}
    for feed in RATIO:
        text = (Library({}).folder / f"{feed}-pcam.yaml").read_text(encoding="utf-8")
        text = text.replace(feed, "FEED").replace(feed.upper(), "FEED")
        text = re.sub(r"(Ni|Co|Mn)[\d./]+", r"\1", text)
        texts[feed] = re.sub(r"(ratio_\w+: \{value: )[\d.]+", r"\1", text)
    assert len(set(texts.values())) == 1
