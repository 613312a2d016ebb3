"""Read a cell file and compile it into a `CellPlan`. Every mistake is named with file:line:column before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from controller.cell_file import CellFile, InfluxConfig, Part, WebConfig
from controller.cell_rows import compile_rows
from controller.cell_tags import SERVICE_POINTS, compile_tags
from controller.core.plan import CellPlan
from drivers.source import read_toml, validate
from recipes.classes import UnitClass, load_classes

__all__ = ["InfluxConfig", "LoadedCell", "WebConfig", "cell_path", "class_file", "load_cell"]


class LoadedCell(Part):
    """A cell file, compiled."""

    plan: CellPlan
    classes: dict[str, UnitClass]
    influx: InfluxConfig | None
    web: WebConfig
    descriptions: dict[str, str]  # of loops


def cell_path(name: str) -> Path:
    """Return the file of a cell given by its path, or by its name among those that come with the product."""
    shipped = Path(__file__).parent / "cells" / f"{name}.toml"
    return shipped if re.fullmatch(r"[A-Za-z0-9_-]+", name) and not Path(name).exists() and shipped.is_file() else Path(name)


def class_file() -> Path:
    """Return the file of the unit classes that come with the product."""
    import recipes

    return Path(recipes.__file__).parent / "library" / "classes.toml"


def load_cell(path: Path, *, addresses: Mapping[str, str] | None = None, speed: float = 1.0) -> LoadedCell:
    """Read and check a cell file; raise `BadInput` with every mistake.

    `addresses` replace those of devices in the file (a simulator on free ports). `speed` is plant seconds a second: the
    wires do not speed up with the plant, so polling periods are bounded below by ``FLOOR`` of real time.
    """
    document = read_toml(path)
    file = validate(document, CellFile)
    classes = load_classes(class_file())
    tags = compile_tags(document, file, path, dict(addresses or {}), speed)
    rows = compile_rows(document, file, tags, classes)
    plan = CellPlan(
        file.cell.id,
        file.cell.description,
        str(path),
        float(file.cell.scan),
        file.cell.simulated,
        tags.rows,
        tags.image,
        tags.freshness,
        tags.inputs,
        tags.outputs,
        tags.rest,
        tags.safe,
        tags.readback,
        rows.points,
        rows.selectors,
        rows.loops,
        rows.interlocks,
        rows.alarms,
        rows.units,
        {name: tags.image.place(name) for name in SERVICE_POINTS},
    )
    return LoadedCell(
        plan=plan,
        classes=classes,
        influx=file.influx,
        web=file.web,
        descriptions={name: loop.description for name, loop in file.loops.items()},
    )
