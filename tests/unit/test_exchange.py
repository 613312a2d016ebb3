"""What an exchange takes from a driver into the image, without a device."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from controller.batch.records import Event
from controller.config import cell_path, load_cell
from controller.runtime.clock import LiveClock, VirtualClock
from controller.runtime.device_clock import DeviceClock
from controller.runtime.exchange import Exchange
from drivers.device import Device
from drivers.driver import Driver, Reading, WriteOutcome, WriteResult
from drivers.image import ProcessImage
from drivers.tags import Quality, TimeArray


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


class Stamped(Scripted):
    """A device whose clock is 12 s behind."""

    def __init__(self, device: Device, clock: VirtualClock) -> None:
        super().__init__(device)
        self.clock = clock

    async def read(self) -> Reading:
        found = await super().read()
        return found._replace(source_time=np.full(len(found.values), round((self.clock.plant() - 12.0) * 1e9))) if self.up else found


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


def test_what_a_device_says_of_itself_goes_to_the_journal_once_and_again_when_it_is_another() -> None:
    async def main() -> None:
        plan = load_cell(cell_path("demo")).plan
        driver, image = Scripted(plan.devices["leach"].device), ProcessImage(plan.image, plan.freshness)
        exchange = Exchange(plan.devices["leach"], driver, image, plan, LiveClock.now(1.0))

        async def told() -> list[Event]:
            return [event for event in await exchange.read() if event.kind == "device"]

        assert await told() == []
        driver.texts = {"serial": "A\n17"}
        assert await told() == [Event("device", "leach.serial", "", "A 17", why="what it says of itself")]
        assert exchange.texts == {"serial": "A 17"}
        driver.texts = {}  # a driver may forget what it has not read in this connection
        assert await told() == []
        driver.texts = {"serial": "B 4"}
        assert await told() == [Event("device", "leach.serial", "A 17", "B 4", why="what it says of itself")]

    asyncio.run(main())


def reading(*times: float, server: bool = False) -> Reading:
    """Return a reading with these time stamps [s]."""
    stamps: TimeArray = np.array([round(time * 1e9) for time in times], dtype=np.int64)
    n = len(times)
    return Reading(np.zeros(n), np.zeros(n, dtype=np.uint8), np.zeros(n, dtype=np.int64) if server else stamps, None, stamps if server else None)


def test_the_clock_of_a_device_is_told_by_what_has_just_come_and_not_by_what_it_repeats() -> None:
    clock, device = VirtualClock(), DeviceClock()
    start = clock.start

    def look(*times: float) -> float:
        clock.time += 1.0
        device.look(reading(*times), clock, clock.monotonic())
        return device.ahead

    assert math.isnan(look(start - 500.0, start - 900.0)), "what was there at first may be old"
    assert math.isnan(look(start - 500.0, start - 900.0)), "nothing has come"
    assert look(start - 500.0, clock.plant() + 1.0 + 30.0) == 30.0
    for _ in range(4):
        assert look(start - 500.0, clock.plant() + 1.0 + 90.0) == 30.0, "it is looked at every 5 s"
    look(start - 500.0, clock.plant() + 1.0 - 7.0)
    assert look(start - 500.0, clock.plant() + 1.0 - 7.0) == -7.0, "it was put back"
    device.forget()
    assert math.isnan(device.ahead)


def test_a_servers_clock_is_held_against_that_of_this_machine_and_no_clock_is_none() -> None:
    clock, device = LiveClock(60.0, 0, 0), DeviceClock()  # a simulated plant whose clock is elsewhere
    for late in (0.0, 0.1):
        device.look(reading(clock.wall() / 1e9 - 3600.0 + late, server=True), clock, late)
    assert abs(device.ahead + 3600.0) < 1.0
    silent = DeviceClock()
    for late in (0.0, 0.1):
        silent.look(reading(0.0, 0.0), clock, late)
    assert math.isnan(silent.ahead)


def test_the_clock_of_a_device_is_a_point_of_the_frame_and_not_known_while_it_is_lost() -> None:
    async def main() -> None:
        plan = load_cell(cell_path("demo")).plan
        clock = VirtualClock()
        driver, image = Stamped(plan.devices["leach"].device, clock), ProcessImage(plan.image, plan.freshness)
        exchange = Exchange(plan.devices["leach"], driver, image, plan, clock)
        place = plan.image.place("leach.CLOCK")
        for _ in range(2):
            clock.time += 1.0
            await exchange.read()
        assert (image.value[place], image.quality[place]) == (-12.0, Quality.GOOD)
        driver.up = False
        await exchange.read()
        assert image.quality[place] == Quality.BAD

    asyncio.run(main())


class Stuck(Scripted):
    """A driver that comes back from a read, or a write, only when it is let."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.let = asyncio.Event()
        self.let.set()

    async def read(self) -> Reading:
        await self.let.wait()
        return await super().read()

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        await self.let.wait()
        return []


@pytest.mark.parametrize("at", ["read", "write"])
def test_a_device_whose_driver_does_not_come_back_is_lost_until_it_does(at: str) -> None:
    async def main() -> None:
        plan = load_cell(cell_path("demo")).plan
        clock, driver = VirtualClock(), Stuck(plan.devices["leach"].device)
        image = ProcessImage(plan.image, plan.freshness)
        exchange = Exchange(plan.devices["leach"], driver, image, plan, clock)
        up = plan.image.place("leach.UP")
        [event] = await exchange.read()
        assert (event.new, image.value[up], image.lost) == ("up", 1.0, {})
        clock.time += 100.0
        assert exchange.watch() == [], "it is not at work"
        driver.let.clear()
        task = asyncio.create_task(exchange.read() if at == "read" else exchange.write(plan.safe, 1))
        await asyncio.sleep(0)
        clock.time += 3600.0
        assert exchange.watch() == [], "this process was held up itself"
        for _ in range(19):
            clock.time += 1.0
            assert exchange.watch() == []
        clock.time += 2.0
        [event] = exchange.watch()
        assert (event.kind, event.name, event.old, event.new) == ("link", "leach", "up", "down")
        assert "has not come back for 30 s" in event.why
        assert (image.value[up], image.lost) == (0.0, {"leach": event.why})
        assert exchange.watch() == [], "it is told once"
        driver.let.set()
        await task
        found = await exchange.read() if at == "write" else task.result()
        assert [(event.old, event.new) for event in found] == [("", "up")]
        assert (image.value[up], image.lost, exchange.watch()) == (1.0, {}, [])

    asyncio.run(main())


class Doubtful(Scripted):
    """A device whose writes are all unknown, and whose setpoint reads as `held` [its eu], NaN when it does not say."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.held = 0.0
        self.sent: list[float] = []

    async def read(self) -> Reading:
        found = await super().read()
        if not self.up:
            return found
        values = np.full(len(found.values), self.held)
        return Reading(values, np.where(np.isnan(values), np.uint8(2), np.uint8(0)), found.source_time)

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        sent = {name: value for name, value in changes.items() if name == "acid_flow_sp"}
        self.sent += sent.values()
        return [WriteOutcome(name, value, math.nan, WriteResult.UNKNOWN, "no answer") for name, value in sent.items()]


def test_what_is_unknown_is_not_written_again_before_it_has_been_read() -> None:
    """Not even after a loss, from which the first reads may not bring all; another value may be, since that is no repetition."""

    async def main() -> None:
        plan, clock = load_cell(cell_path("demo")).plan, VirtualClock()
        rows = plan.devices["leach"]
        driver, image = Doubtful(rows.device), ProcessImage(plan.image, plan.freshness)
        exchange = Exchange(rows, driver, image, plan, clock)
        outputs = np.full(len(plan.outputs), np.nan)
        place, untaken = rows.outputs[rows.signals.index("acid_flow_sp")], plan.image.place("leach.UNTAKEN")

        async def turn(wanted: float, held: float, up: bool = True) -> list[float]:
            clock.time += 3.0
            outputs[place], driver.held, driver.up = wanted, held, up
            before = len(driver.sent)
            await exchange.read()
            await exchange.write(outputs, 1)
            return driver.sent[before:]

        assert await turn(2.0, 0.0) == [2.0]
        assert await turn(2.0, math.nan) == [], "nobody has looked"
        assert await turn(2.0, math.nan, up=False) == []
        assert await turn(2.0, math.nan) == [], "nobody has looked since it is back"
        await turn(2.0, math.nan)
        assert image.value[untaken] == 1.0, "it counts as not taken meanwhile"
        assert await turn(3.0, math.nan) == [3.0], "another value is no repetition"
        assert await turn(3.0, math.nan) == []
        assert await turn(3.0, 0.0) == [3.0], "it is not there: now it is known"
        assert await turn(3.0, 3.0) == []
        await turn(3.0, 3.0)
        assert image.value[untaken] == 0.0
        assert await turn(3.0, 0.0) == [3.0], "the device has lost it"

    asyncio.run(main())


class Settable(Scripted):
    """A device that confirms each write. One that is `local` shows its own setpoints again by the next read."""

    def __init__(self, device: Device, clock: VirtualClock) -> None:
        super().__init__(device)
        self.clock, self.local = clock, False
        self.own = np.array([signal.safe for signal in device.profile.signals.values()])
        self.values = self.own.copy()
        self.tried: list[float] = []  # [s, monotonic]

    async def read(self) -> Reading:
        self._tell(up=True)
        if self.local:
            self.values = self.own.copy()
        n = len(self.values)
        return Reading(self.values.copy(), np.zeros(n, dtype=np.uint8), np.zeros(n, dtype=np.int64), np.full(n, self.clock.monotonic()))

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        if "stirrer_speed_sp" in changes:
            self.tried.append(self.clock.monotonic())
        for signal, value in changes.items():
            self.values[self.device.profile.place(signal)] = value
        return [WriteOutcome(signal, value, value, WriteResult.CONFIRMED) for signal, value in changes.items()]


def test_a_setpoint_that_moves_is_untaken_only_where_the_device_puts_back_what_it_confirmed() -> None:
    """What it shows is held against what was confirmed: what is asked has moved on by then, and it never shows that."""

    async def main() -> None:
        plan, clock = load_cell(cell_path("demo")).plan, VirtualClock()
        driver = Settable(plan.devices["leach"].device, clock)
        exchange = Exchange(plan.devices["leach"], driver, ProcessImage(plan.image, plan.freshness), plan, clock)
        outputs, place = np.zeros(len(plan.outputs)), plan.outputs.place("SY-201")
        untaken = plan.image.place("leach.UNTAKEN")

        async def turns(seconds: float) -> tuple[float, list[str]]:
            most, told = 0.0, list[str]()
            for _ in range(round(seconds * 10.0)):
                clock.time += 0.1
                await exchange.read()
                outputs[place] += 0.1  # [rpm]
                told += [event.new for event in await exchange.write(outputs, 0) if event.kind == "write"]
                most = max(most, float(exchange.image.value[untaken]))
            return most, told

        outputs[place] = 60.0
        assert await turns(5.0) == (0.0, [])
        driver.values = driver.own.copy()  # it was restarted
        driver.tried.clear()
        assert await turns(5.0) == (0.0, ["put back"])
        assert len(driver.tried) > 40, "and then it is written at each turn as before"
        driver.local = True
        driver.tried.clear()
        assert await turns(5.0) == (1.0, ["put back"])
        assert np.diff(driver.tried).min() > 0.5 - 1e-9
        driver.local = False
        await turns(1.0)
        assert exchange.image.value[untaken] == 0.0
        assert (await turns(5.0))[0] == 0.0

    asyncio.run(main())
