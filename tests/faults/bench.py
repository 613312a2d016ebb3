"""What the device part of the campaign shares: devices whose values say which signal they are, and a driver used as the service uses it.

A signal at place k of device number d reads 10,000 d + 100 (k + 1) plus a count of 0 to 49 that moves ten times a second: a value that is another
tag's, another device's or another register's is outside of its own window, and one that stands still has an old count.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from drivers.connect import open_driver
from drivers.device import Address, Device, Profile
from drivers.driver import Driver, Reading
from drivers.image import Freshness, ProcessImage, Snapshot
from drivers.tags import FloatArray, Quality, Tag, TagTable
from simulators.bench import StaticPlant
from simulators.serve import Servers

__all__ = ["IDENTITY", "MovingPlant", "Watch", "modbus_profile", "opcua_profile", "served", "until"]

IDENTITY = 4711.25
POLL = 0.05  # [s]
COUNTS = 50
MEASURED = 8


def _signals(at: Callable[[int], str], kind: str, set_at: str, **more: dict[str, object]) -> dict[str, dict[str, object]]:
    measured = {f"m{place}": {"at": at(place), "type": kind, "range": (0, 900_000)} for place in range(MEASURED)}
    return {**measured, "sp": {"at": set_at, "type": kind, "range": (0, 900_000), "access": "write"}, **more}


def modbus_profile(**options: object) -> Profile:
    """Return a device with two blocks of measurements, a setpoint, a counter and a coil."""
    more: dict[str, dict[str, object]] = {
        "steps": {"at": "holding:4", "type": "uint16", "range": (0, 60_000), "access": "write"},
        "valve": {"at": "coil:0", "type": "bool", "access": "write"},
    }
    signals = _signals(lambda place: f"input:{2 + 2 * place + 200 * (place >= 5)}", "float32", "holding:2", **more)
    identity = {"at": "input:0", "type": "float32", "value": IDENTITY}
    return Profile.model_validate(
        {"id": "bench", "description": "", "protocol": "modbus", "identity": identity, "modbus": options, "signals": signals}
    )


def opcua_profile(uri: str = "urn:bench", **more: dict[str, object]) -> Profile:
    """Return the like on OPC UA."""
    signals = _signals(lambda place: f"nsu={uri};s=m{place}", "float64", f"nsu={uri};s=sp", **more)
    identity = {"at": f"nsu={uri};s=identity", "type": "float64", "value": IDENTITY}
    return Profile.model_validate({"id": "bench", "description": "", "protocol": "opcua", "identity": identity, "signals": signals})


class MovingPlant(StaticPlant):
    """Devices as above. `executed` are the writes that were taken; with `deaf` they are taken and nothing comes of it."""

    def __init__(self, profiles: dict[str, Profile]) -> None:
        super().__init__(profiles)
        self.executed: list[tuple[str, str, float]] = []
        self.deaf = False
        self.fixed: dict[int, float] = {}  # places that do not move, of every device
        self.base = {name: base(number, profile) for number, (name, profile) in enumerate(self.profiles.items())}

    def read(self, device: str) -> FloatArray:
        """Return the setpoints as they were written, and the rest as it moves."""
        found: FloatArray = np.where(self.profiles[device].writable, self.values[device], self.base[device] + int(self.time * 10.0) % COUNTS)
        for place, value in self.fixed.items():
            found[place] = value
        return found

    def write(self, device: str, signal: str, value: float) -> None:
        """Take a write."""
        self.executed.append((device, signal, value))
        if not self.deaf:
            super().write(device, signal, value)


def base(number: int, profile: Profile) -> FloatArray:
    """Return the lower ends of the windows of a device's signals."""
    return 10_000.0 * number + 100.0 * (np.arange(len(profile.signals)) + 1.0)


async def until(what: Callable[[], object | Awaitable[object]], within: float = 5.0, told: Callable[[], object] = str) -> float:
    """Wait until something is so; return how long it took [s]."""
    begun = time.monotonic()
    while True:
        found = what()
        if found if not isinstance(found, Awaitable) else await found:
            return time.monotonic() - begun
        assert time.monotonic() - begun < within, f"not within {within} s: {told()}"
        await asyncio.sleep(0.005)


class Watch:
    """A driver as the service uses it: polled into an image whose ages lower quality, as a cell file's do.

    Every reading is checked: a value that is not BAD is its own signal's, and moved within the last 3 s.
    """

    def __init__(self, device: Device, data: Path = Path(), *, number: int = 0, timeout: float = 0.3, poll: float = POLL) -> None:
        self.driver: Driver = open_driver(device, data=data, timeout=timeout)
        profile = device.profile
        tags = TagTable(Tag(name, signal.eu, *signal.range) for name, signal in profile.signals.items())
        self.image = ProcessImage(tags, Freshness(max(3 * poll, 0.3), max(10 * poll, 2.5)))
        self._poll = poll
        self._part = self.image.part(np.arange(len(tags)))
        self.measured = ~profile.writable
        self._base = base(number, profile)
        self.reads = 0
        self.longest = 0.0  # [s] that a read took
        self.known: FloatArray | float = -np.inf  # [s, monotonic] when each value was known to be current
        self.wrong: list[str] = []
        self.seen: set[float] = set()  # values of the first signal
        self._last = np.full(len(tags), np.nan)
        self._moved = np.full(len(tags), -np.inf)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watch:
        await self.driver.__aenter__()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        task = self._task
        if task.done():
            task.result()  # it never raises
        task.cancel()
        if not (await asyncio.wait({task}, timeout=2.0))[0]:
            self.wrong.append("a read that is cancelled does not end its task")
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        begun = time.monotonic()
        await self.driver.__aexit__(None, None, None)
        assert time.monotonic() - begun < 1.0
        assert not self.wrong, self.wrong[:5]

    async def _run(self) -> None:
        while True:
            begun = time.monotonic()
            self.take(await self.driver.read())
            self.longest = max(self.longest, time.monotonic() - begun)
            await asyncio.sleep(max(self._poll - (time.monotonic() - begun), 0.0))

    def take(self, reading: Reading) -> None:
        """Take a reading into the image and look at it."""
        now = time.monotonic()
        self.reads += 1
        self.known = now if reading.received is None else reading.received
        self.image.update(self._part, reading.values, reading.quality, 0, 0, self.known)
        shown = self.image.snapshot(now)
        there = (shown.quality != Quality.BAD) & self.measured
        inside = (shown.value >= self._base) & (shown.value < self._base + COUNTS)
        moved = shown.value != self._last
        self._moved[moved & there] = now
        self._last = np.where(there, shown.value, np.nan)
        self.seen |= set(shown.value[:1][there[:1]].tolist())
        for place in np.flatnonzero(there & ~inside):
            self.wrong.append(f"{self.image.tags.names[place]} shows {shown.value[place]}, expected {self._base[place]} and a count: {reading}")
        for place in np.flatnonzero(there & (now - self._moved > 3.0)):
            self.wrong.append(f"{self.image.tags.names[place]} stands still and is not BAD")

    def shown(self) -> Snapshot:
        return self.image.snapshot(time.monotonic())

    def age(self) -> float:
        """Return how long ago [s] the oldest measurement was current."""
        return time.monotonic() - float(np.min(np.broadcast_to(self.known, self.measured.shape)[self.measured]))

    def good(self) -> bool:
        """Whether all measurements are GOOD now."""
        return bool((self.shown().quality[self.measured] == Quality.GOOD).all())

    def bad(self) -> bool:
        """Whether all measurements are BAD now."""
        return bool((self.shown().quality[self.measured] == Quality.BAD).all())

    def any_bad(self) -> bool:
        return bool((self.shown().quality[self.measured] == Quality.BAD).any())

    async def lives(self, within: float = 5.0) -> float:
        """Wait until every measurement is GOOD and has changed since now; return how long it took [s]."""
        begun = time.monotonic()
        return await until(lambda: self.good() and (self._moved[self.measured] > begun).all(), within, self.told)

    def told(self) -> object:
        metrics = self.driver.metrics
        return metrics.why, metrics.errors, self.shown().quality


@asynccontextmanager
async def served(profile: Profile, address: str, count: int = 1, data: Path = Path()) -> AsyncIterator[tuple[list[Device], MovingPlant, Servers]]:
    """Serve `count` devices (named d0, d1, ...; of `address`, ``{}`` is their number + 1) whose plant moves with the clock."""
    devices = [Device(f"d{place}", profile, Address.parse(address.format(place + 1)), poll=POLL) for place in range(count)]
    plant = MovingPlant({device.name: profile for device in devices})
    async with Servers(devices, plant, data=data, clock=time.monotonic) as servers:
        yield [Device(device.name, profile, servers.endpoints[device.name], poll=POLL) for device in devices], plant, servers
