"""From a START to the first scan of a batch, and from a journal back to a batch that was cut short."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import recipes
from controller.batch.journal import JournalReader
from controller.batch.phase import CATALOGUE
from controller.batch.procedure import expected_durations
from controller.batch.records import BatchState
from controller.core.cell import Begin
from controller.core.plan import CellPlan
from controller.core.states import FINAL, State, Verb
from controller.purity.specification import specifications
from drivers.source import BadInput, Position, Problem
from recipes.classes import UnitClass
from recipes.load import bind_formula, load_recipe
from recipes.model import PhaseSpec, Recipe

__all__ = ["Library", "unfinished"]


def catalogue() -> Mapping[str, PhaseSpec]:
    """Return what recipes may run."""
    import controller.batch.phases  # noqa: F401  makes the phases known

    return {name: phase.spec for name, phase in CATALOGUE.items()}


@dataclass(frozen=True, slots=True)
class Library:
    """The recipes, unit classes and specifications that a service works with."""

    classes: Mapping[str, UnitClass]
    folder: Path = Path(recipes.__file__).parent / "library"

    def find(self, name: str) -> Path:
        """Return the file of a recipe given by its path or by its name in the library."""
        named = self.folder / f"{name}.yaml"
        return named if named.is_file() else Path(name)

    def load(self, name: str) -> Recipe:
        """Return a checked recipe; raise `BadInput` with every mistake."""
        path = self.find(name)
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in self.folder.glob("*.yaml")))
            raise BadInput([Problem(Position(name), f"no such recipe; in the library are {known}")])
        recipe = load_recipe(path, self.classes, catalogue())
        if recipe.specification and recipe.specification not in self.specifications():
            raise BadInput([Problem(Position(str(path)), f"no specification {recipe.specification!r}; known: {', '.join(self.specifications())}")])
        return recipe

    def specifications(self) -> Mapping[str, Any]:
        """Return the release specifications."""
        return specifications(self.folder / "specifications.toml")

    def context(self, recipe: Recipe) -> dict[str, Any]:
        """Return the facts that phases may need beside their parameters."""
        return {"specification": self.specifications().get(recipe.specification or "")}

    def summaries(self) -> list[dict[str, Any]]:
        """Return what a person chooses from; a recipe with mistakes is left out (``blackmass check`` names them)."""
        rows = []
        for path in sorted(self.folder.glob("*.yaml")):
            try:
                recipe = self.load(str(path))
            except BadInput:
                continue
            formula = {
                name: {"value": str(entry.value), "low": entry.low, "high": entry.high, "eu": entry.value.eu, "description": entry.say}
                for name, entry in recipe.formula.items()
            }
            rows.append({"id": recipe.id, "version": recipe.version, "title": recipe.title, "path": path.stem, "formula": formula})
        return rows

    def prepare(self, recipe: Recipe, plan: CellPlan, batch: str, now: float, parameters: Mapping[str, str], lot: str, who: str) -> Begin:
        """Return a batch that is ready for its first scan; raise `ValueError` for parameters or units that do not fit."""
        state = BatchState(
            batch,
            recipe.id,
            recipe.version,
            recipe.sha256,
            bind_formula(recipe, parameters),
            assign(recipe, plan),
            now,
            lot,
            why=f"started by {who}",
        )
        return Begin(recipe, state, who, self.context(recipe), expected_durations(recipe))


def assign(recipe: Recipe, plan: CellPlan) -> dict[str, str]:
    """Return the unit of the cell for each unit of the recipe; raise `ValueError` if the cell has none free of that class."""
    taken: dict[str, str] = {}
    for alias, unit_class in recipe.units.items():
        free = [name for name, unit in plan.units.items() if unit.unit_class == unit_class and name not in taken.values()]
        if not free:
            raise ValueError(f"recipe {recipe.id} needs a {unit_class} as {alias}; cell {plan.id} has none (left)")
        taken[alias] = free[0]
    return taken


def unfinished(reader: JournalReader, library: Library, plan: CellPlan) -> Begin | BatchState | None:
    """Return the batch that was running when the service last ended, in HELD and with nothing kept running; None if there is none.

    It is run from the recipe text in the journal, not from the file, which may have changed since. A STOP or ABORT that was accepted
    and not worked off is worked off now. A batch that cannot be gone on with on this cell is returned as its closed state.
    """
    states = [state for state in reader.batches() if state.state not in FINAL]
    if not states:
        return None
    state, text, file = reader.batch(states[0].id)
    if missing := sorted(set(state.units.values()) - plan.units.keys()):
        return _closed(state, f"this cell has no unit {', '.join(missing)}; the batch ran on another cell or on another version of its file")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(file).name
        path.write_text(text, encoding="utf-8")
        try:
            recipe = replace(load_recipe(path, library.classes, catalogue()), file=file)
        except BadInput as error:
            return _closed(state, f"its recipe cannot be loaded by this version: {error.problems[0].what}")
    was, pending = state.state, _pending(reader, state.id)
    state.confirmed = False
    if was in (State.STOPPING, State.ABORTING) or pending:
        state.state = State.ABORTING if State.ABORTING in (was, pending) else State.STOPPING
        state.why = f"the service was restarted before it had worked off {state.state}"
    else:
        state.state = State.HELD
        state.why = f"the service was restarted while the batch was {was}; compare the plant with the journal, then RESTART"
    return Begin(recipe, state, "blackmass", library.context(recipe), expected_durations(recipe))


def _closed(state: BatchState, why: str) -> BatchState:
    state.state, state.why = State.ABORTED, why
    return state


def _pending(reader: JournalReader, batch: str) -> State | None:
    """Return where a STOP or ABORT leads that was accepted and that no scan has answered."""
    pending: State | None = None
    for entry in reader.entries(batch):
        if entry.event.kind == "command" and entry.event.name == "transition":
            asked = entry.event.new if entry.event.new.startswith("{") else "{}"
            verb = json.loads(asked).get("verb")
            pending = {Verb.STOP: State.STOPPING, Verb.ABORT: State.ABORTING}.get(verb)
    return pending
