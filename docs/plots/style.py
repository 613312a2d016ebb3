"""What the plots of the documentation have in common: size, colours, and the place they are written to."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no window

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "IMAGES", "canvas", "save"]

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
