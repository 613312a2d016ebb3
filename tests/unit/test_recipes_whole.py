"""Every pCAM recipe of the library, whole, in lockstep on its nominal feed: released, at least 99 % pure, at least 97 % recovered."""

from __future__ import annotations

import re

import pytest

from controller.config import cell_path, load_cell
from controller.core.states import FINAL
from controller.runtime.batches import Library
from controller.runtime.lockstep import Lockstep
from simulators.feed import FEEDS
from simulators.plant import Plant

RATIO = {"nmc111": (1 / 3, 1 / 3, 1 / 3), "nmc532": (0.5, 0.2, 0.3), "nmc622": (0.6, 0.2, 0.2), "nmc811": (0.8, 0.1, 0.1)}
DT = 24.0  # [s] between scans, as in the accelerated demo


@pytest.mark.slow
@pytest.mark.parametrize(("feed", "seed"), [("nmc111", 1), ("nmc532", 2), ("nmc622", 3), ("nmc811", 1)])
def test_it_makes_its_hydroxide_from_its_black_mass(feed: str, seed: int) -> None:
    cell = load_cell(cell_path("demo"))
    library = Library(cell.classes)
    recipe = library.load(f"{feed}-pcam")
    plant = Plant({name: row.device.profile for name, row in cell.plan.devices.items()}, feed=FEEDS[feed], seed=seed)
    bed = Lockstep(cell.plan, plant, dt=DT)
    bed.step()
    bed.step([library.prepare(recipe, cell.plan, "whole-0001", bed.clock.plant(), {}, "", "op")])
    *_, last = bed.run(lambda scan: scan.frame.state in (*FINAL, "HELD"), at_most=60 * 3600.0)
    assert last.frame.state == "COMPLETE", last.frame.batch.why if last.frame.batch else ""
    assert bed.cell.procedure is not None
    state = bed.cell.procedure.state
    assert [text for record in state.steps.values() for text in record.progress.get("failed", [])] == []
    assert state.released is True
    truth = plant.truth()
    assert truth["purity"] >= 99.0
    assert truth["recovery"] >= 97.0
    moles = [truth[f"product.{metal}"] / mass for metal, mass in (("Ni", 58.693), ("Co", 58.933), ("Mn", 54.938))]
    for have, want in zip(moles, RATIO[feed], strict=True):
        assert have / sum(moles) == pytest.approx(want, abs=0.01)


def test_the_pcam_recipes_differ_in_their_ratio_alone() -> None:
    texts = {}
    for feed in RATIO:
        text = (Library({}).folder / f"{feed}-pcam.yaml").read_text(encoding="utf-8")
        text = text.replace(feed, "FEED").replace(feed.upper(), "FEED")
        text = re.sub(r"(Ni|Co|Mn)[\d./]+", r"\1", text)
        texts[feed] = re.sub(r"(ratio_\w+: \{value: )[\d.]+", r"\1", text)
    assert len(set(texts.values())) == 1
