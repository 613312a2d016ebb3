"""What the plots of the documentation have in common: size, colours, where they are written to, and batches with one parameter at a time moved."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no window

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "IMAGES", "Batch", "Parameters", "canvas", "save", "sweep"]

Parameters = Sequence[tuple[str, str, Sequence[float]]]  # of a formula: name, eu, values; the nominal one stands among them
Batch = Callable[[str, float, str], dict[str, str | float]]  # runs one with a parameter [eu] at a value, and returns what came of it

IMAGES = Path(__file__).parent.parent / "images"
# told apart in print and by the colour-blind (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#404040")


def canvas(columns: int = 1, rows: int = 1, *, height: float = 5.0) -> tuple[Figure, list[Axes]]:
    """Return a figure 900 px wide, 500 px high by default, and its axes, row by row."""
    plt.rcParams.update(
        {
            "font.size": 9.5, "axes.titlesize": 10.0, "axes.prop_cycle": mpl.cycler(color=COLOURS), "axes.grid": True, "grid.alpha": 0.25,
            "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 1.8,
        }
    )  # fmt: skip
    figure, axes = plt.subplots(rows, columns, figsize=(9.0, height), layout="constrained", squeeze=False)
    return figure, list(axes.flat)


def save(figure: Figure, name: str) -> Path:
    """Write docs/images/`name`.png and return its path; the same picture gives the same file."""
    path = IMAGES / f"{name}.png"
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
    return path


def sweep(table: Path, parameters: Parameters, nominal: Mapping[str, float], batch: Batch) -> list[dict[str, str]]:
    """Return what came of a batch for each value of each parameter: from a table, or run in two processes and written there."""
    if not table.is_file():
        rows = [(name, float(value), eu) for name, eu, values in parameters for value in values if value != nominal[name]]
        first, eu, _ = parameters[0]
        rows.append((first, float(nominal[first]), eu))
        with ProcessPoolExecutor(2) as pool:
            found = list(pool.map(batch, *zip(*rows, strict=True)))
        usual = found.pop()  # one batch stands for all
        found += [{**usual, "parameter": name, "value": float(nominal[name]), "eu": eu} for name, eu, _ in parameters]
        order = [name for name, *_ in parameters]
        found.sort(key=lambda row: (order.index(str(row["parameter"])), row["value"]))
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, found[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
