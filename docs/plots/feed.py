"""Black masses by name, and what a random draw gives; by simulators/feed.py."""

from __future__ import annotations

import numpy as np
from style import COLOURS, canvas, save

from simulators.components import ATOMIC, by_element
from simulators.components import ELEMENTS as ELEMENTS_ALL
from simulators.feed import FEEDS, draw

ELEMENTS = ("Ni", "Co", "Mn", "Li", "Fe", "P", "Cu", "Al")
DRAWS = 500


def main() -> None:
    figure, (named, drawn) = canvas(2)
    names = list(FEEDS)
    bottom = np.zeros(len(names))
    shades = (*COLOURS, "#999999")
    for element, colour in zip(ELEMENTS, shades, strict=True):
        place = ELEMENTS_ALL.index(element)
        share = np.array([0.1 * by_element(FEEDS[name].per_kg())[place] * ATOMIC[element] for name in names])
        named.barh(names, share, left=bottom, color=colour, label=element)
        bottom += share
    named.invert_yaxis()
    named.set(xlabel="of the black mass [wt%]; the rest is O, C, F and traces", xlim=(0.0, 62.0))
    named.legend(loc="center right", fontsize=8)
    feeds = [draw(seed) for seed in range(DRAWS)]
    for element, colour in (("Cu", COLOURS[0]), ("Al", COLOURS[1]), ("F", COLOURS[2]), ("Fe", COLOURS[3])):
        share = np.sort([feed.composition[element] for feed in feeds])
        drawn.plot(share, np.linspace(0.0, 100.0, DRAWS), color=colour, label=element)
    lfp = np.sort([feed.lfp for feed in feeds])
    drawn.plot(np.maximum(lfp, 0.03), np.linspace(0.0, 100.0, DRAWS), color=COLOURS[4], ls="--", label="LFP")
    drawn.set(xscale="log", xlabel="in the black mass [wt%]", ylabel=f"of {DRAWS} draws, below it [%]", xlim=(0.03, 15.0))
    drawn.legend()
    save(figure, "feed")


if __name__ == "__main__":
    main()
