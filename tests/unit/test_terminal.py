"""The terminal's face of a cell that only watches: no units, so no recipe can run on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from controller.config import LoadedCell, load_cell
from controller.core.frame import Frame, Point, as_json
from controller.runtime.lockstep import Lockstep
from controller.terminal import Screen
from simulators.bench import StaticPlant

CELL = """
[cell]
id = "watch"
simulated = true
[devices.leach]
profile = "leach_tank"
address = "modbus-tcp://127.0.0.1:502?unit=1"
[devices.leach.tags]
"TT-201" = "temperature"
"AT-201" = "ph"
"""


class Plant(StaticPlant):
    def advance(self, dt: float) -> None:
        self.time += dt


@pytest.fixture
def cell(tmp_path: Path) -> LoadedCell:
    path = tmp_path / "watch.toml"
    path.write_text(CELL, encoding="utf-8")
    return load_cell(path)


def watched(cell: LoadedCell) -> tuple[Lockstep, Screen]:
    step = Lockstep(cell.plan, Plant({name: row.device.profile for name, row in cell.plan.devices.items()}), dt=1.0)
    points = [as_json(point) for point in cell.plan.points if isinstance(point, Point)]
    said = {"cell": cell.plan.id, "simulated": True, "speed": 1.0, "points": points, "devices": [{"name": "leach"}], "units": []}
    return step, Screen(said)


def drawn(screen: Screen, frame: Frame) -> str:
    console = Console(width=100, file=None)
    with console.capture() as captured:
        console.print(screen.draw(frame))
    return captured.get()


def test_it_shows_its_tags_instead_of_units(cell: LoadedCell) -> None:
    step, screen = watched(cell)
    shown = drawn(screen, step.step().frame)
    assert "Unit" not in shown
    rows = {row.split()[0]: row for row in shown.splitlines() if row.startswith(("TT-", "AT-"))}
    assert set(rows) == {"TT-201", "AT-201"}
    assert "leach.SAFE" in shown
    assert "leach.DROPS" not in shown, "what a link says of itself is no tag of the cell"
    assert "degC" in rows["TT-201"]
    assert cell.plan.inputs[cell.plan.inputs.place("TT-201")].description in rows["TT-201"]


def test_its_line_tells_of_tags_and_devices_and_not_of_recipes_that_cannot_run(cell: LoadedCell) -> None:
    step, screen = watched(cell)
    line = screen.line(step.step().frame)
    tags = 3  # with leach.SAFE
    assert line == f"{tags} tags, none BAD; every device answers; no alarms"
    step.drivers["leach"].fail = True
    line = screen.line(step.step().frame)
    assert line == f"{tags} tags, {tags} of them BAD; lost: leach; 1 alarm"
