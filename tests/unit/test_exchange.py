"""What an exchange takes from a driver into the image, without a device."""

from __future__ import annotations

import asyncio
import math

import numpy as np

from controller.config import cell_path, load_cell
from controller.runtime.clock import LiveClock
from controller.runtime.exchange import Exchange
from drivers.driver import Driver, Reading, WriteOutcome
from drivers.image import ProcessImage
from drivers.tags import Quality


class Scripted(Driver):
    """A device whose first signal alone was ever read; `up` says whether it answers."""

    up = True

    async def __aenter__(self) -> Driver:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def read(self) -> Reading:
        if not self.up:
            return self._lost("drop", "the cable was cut")
        self._tell(up=True)
        self.metrics.round_trip = 0.004
        n = len(self.device.profile.signals)
        values, received = np.full(n, np.nan), np.full(n, -np.inf)
        values[0], received[0] = 1.0, asyncio.get_running_loop().time()
        return Reading(values, np.where(np.isnan(values), np.uint8(2), np.uint8(0)), np.zeros(n, dtype=np.int64), received)

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        return []


def test_no_round_trip_of_a_link_that_is_lost_and_a_time_for_what_never_came() -> None:
    async def main() -> None:
        plan = load_cell(cell_path("demo")).plan
        rows = plan.devices["leach"]
        driver, image = Scripted(rows.device), ProcessImage(plan.image, plan.freshness)
        exchange = Exchange(rows, driver, image, plan, LiveClock.now(1.0))
        trip = plan.image.place("leach.RTT")
        await exchange.read()
        assert (image.value[trip], image.quality[trip]) == (0.004, Quality.GOOD)
        days = plan.image.place("leach.CERT_DAYS")
        assert image.quality[days] == Quality.BAD, "it has no certificate"
        driver.metrics.certificate_days = 12.5
        await exchange.read()
        assert (image.value[days], image.quality[days]) == (12.5, Quality.GOOD)
        never = image.receive_time[plan.image.place("TT-201")]
        assert abs(int(never) - exchange.clock.plant() * 1e9) < 60e9
        assert image.quality[plan.image.place("TT-201")] == Quality.BAD
        driver.up = False
        await exchange.read()
        assert math.isnan(image.value[trip])
        assert image.quality[trip] == Quality.BAD

    asyncio.run(main())
