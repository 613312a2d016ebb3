"""A device of a cell and its exchange, as a service has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from controller.batch.records import Event
from controller.config import load_cell
from controller.core.plan import CellPlan
from controller.runtime.clock import LiveClock
from controller.runtime.exchange import Exchange
from drivers.driver import Driver
from drivers.image import ProcessImage
from drivers.tags import FloatArray, Quality

__all__ = ["Exchanging", "plan_of"]


def plan_of(folder: Path, profile: str, address: str, tags: dict[str, str]) -> CellPlan:
    """Return the plan of a cell with one device, `d`; `profile` is the name of one that is in `folder` or comes with the product."""
    names = ", ".join(f'"{tag}" = "{signal}"' for tag, signal in tags.items())
    cell = folder / "cell.toml"
    cell.write_text(f'[cell]\nid = "c"\nsimulated = true\n[devices.d]\nprofile = "{profile}"\naddress = "{address}"\ntags = {{ {names} }}\n')
    return load_cell(cell).plan


class Exchanging:
    """The exchange of device `d` over a driver; `turn` does what the service does in each poll."""

    def __init__(self, plan: CellPlan, driver: Driver) -> None:
        self.plan, self.clock = plan, LiveClock.now(1.0)
        self.image = ProcessImage(plan.image, plan.freshness)
        self.exchange = Exchange(plan.devices["d"], driver, self.image, plan, self.clock)
        self.outputs: FloatArray = np.full(len(plan.outputs), np.nan)
        self.events: list[Event] = []

    async def turn(self) -> None:
        """Read, and write what differs."""
        self.events += await self.exchange.read()
        self.events += await self.exchange.write(self.outputs, 1)

    def shown(self, tag: str) -> tuple[float, Quality]:
        """Return a tag as a scan would see it now: value [its eu] and quality."""
        now, place = self.image.snapshot(self.clock.monotonic()), self.plan.image.place(tag)
        return float(now.value[place]), Quality(int(now.quality[place]))
