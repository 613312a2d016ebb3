"""Before a cell runs: what its plan asks of the wires, and one look at every tag over the real link."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from controller.core.plan import CellPlan, DeviceRows
from drivers.address import Address
from drivers.connect import open_driver
from drivers.device import Device
from drivers.dialogue_lines import line_share
from drivers.driver import Reading
from drivers.modbus_plan import PlanError, Request, char_silence, line_time, plan, request_time, text_spots
from drivers.tags import Quality

__all__ = ["DevicePlan", "LinePlan", "TagLook", "crowded", "line_plans", "look"]

_LINK_WITHIN = 5.0  # [s]
MOST_BUSY = 0.9  # of a serial line's time: writes, a retry and a slow reply need the rest


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """The reads of one device: requests, and how long they occupy its serial line [s] (0 where bytes cost next to nothing).

    `busy` is the share of the line's time that they take, each at its own period, and `own` that of the device's, with the pauses that it needs.
    """

    device: str
    unit: int
    period: float  # [s] between two polls
    requests: tuple[Request, ...]
    signals: int
    time: float
    busy: float
    own: float


@dataclass(frozen=True, slots=True)
class LinePlan:
    """All devices on one link; `busy` is the share of its time that reads take, 0 on a network."""

    link: str
    devices: tuple[DevicePlan, ...]
    busy: float

    @property
    def headroom(self) -> float:
        """The share of the time that is left."""
        return 1.0 - self.busy


def line_plans(rows: Iterable[DeviceRows]) -> list[LinePlan]:
    """Return the plan of each link of a cell's devices, in their order; raise `PlanError`. An OPC UA device is read in one request."""
    links: dict[str, list[DevicePlan]] = {}
    ends: dict[str, Address] = {}
    for row in rows:
        device = row.device
        address = device.address
        where = address.path if address.serial else f"{address.scheme}://{address.host}:{address.port}"
        first = ends.setdefault(where, address)
        if address.serial and (first.baud, first.parity, first.bits, first.stop) != (address.baud, address.parity, address.bits, address.stop):
            raise PlanError(f"device {device.name}: {address} shares a serial port with {first}; devices on one line have its speed and parity")
        link = f"{where}, {address.baud} baud" if address.serial or address.scheme == "modbus-rtu-tcp" else where
        links.setdefault(link, []).append(_device_plan(device, row.poll))
    return [LinePlan(link, tuple(devices), sum(one.busy for one in devices)) for link, devices in links.items()]


def _device_plan(device: Device, poll: float) -> DevicePlan:
    address, profile = device.address, device.profile
    if address.protocol != "modbus":
        share = line_share(device) if address.protocol == "ascii" else 0.0
        return DevicePlan(device.name, address.unit, poll, (), len(profile.signals), share * poll, share, share)
    requests = plan(profile, device.periods)
    text_spots(profile)  # refused here, too, where one cannot be
    serial = address.scheme in ("modbus-rtu", "modbus-rtu-tcp")
    byte = address.character_time if serial else 0.0
    pause = profile.modbus.pause
    busy = own = 0.0
    for request in requests:
        every = max(request.period, poll)  # nothing is asked for more often than the device is polled
        spent = request_time(request.question, byte) if serial else 0.0
        busy += spent / every
        own += (spent + max(0.0, pause - (char_silence(byte) if serial else 0.0))) / every
    return DevicePlan(device.name, address.unit, poll, requests, len(profile.signals), line_time(requests, byte) if serial else 0.0, busy, own)


def crowded(lines: Iterable[LinePlan]) -> list[tuple[str, str]]:
    """Return, for each line whose reads do not fit, its last device and a sentence with what would."""
    said = []
    for line in lines:
        for one in line.devices:
            if one.own > MOST_BUSY and line.busy <= MOST_BUSY:
                sentence = (
                    f"device {one.device}: its {len(one.requests)} requests and their pauses would take {one.own:.0%} of its time, at most "
                    f"{MOST_BUSY:.0%}; poll it more slowly, give signals groups of their own, or shorten modbus.pause of its profile"
                )
                said.append((one.device, sentence))
        if line.busy > MOST_BUSY:
            names = ", ".join(f"{one.device} {one.time * 1e3:.0f} ms every {one.period * 1e3:.0f} ms" for one in line.devices)
            slower = line.busy / MOST_BUSY * max(one.period for one in line.devices)
            sentence = (
                f"line {line.link}: reads would take {line.busy:.0%} of its time, at most {MOST_BUSY:.0%} ({names}); "
                f"poll each device no faster than every {math.ceil(slower * 100) * 10} ms, raise the baud rate, or give a device a line of its own"
            )
            said.append((line.devices[-1].device, sentence))
    return said


@dataclass(frozen=True, slots=True)
class TagLook:
    """One tag as it was read; `value` is NaN unless known, `age` [s] on the device's clock where it gives one, else since the reply."""

    tag: str
    signal: str
    device: str
    value: float
    eu: str
    quality: Quality
    age: float
    round_trip: float  # [s]
    why: str


async def look(cell: CellPlan, data: Path) -> list[TagLook]:
    """Read every tag once, by device. Nothing is written. Takes at most some seconds, whatever the devices do."""
    answers = await asyncio.gather(*(_read(row.device, data) for row in cell.devices.values()))
    rows = []
    for row, (reading, at, trip, why) in zip(cell.devices.values(), answers, strict=True):
        for place, (signal, image) in enumerate(zip(row.device.profile.names, row.places.tolist(), strict=True)):
            if image < 0:
                continue  # a signal that this cell gives no tag
            low, high, eu = float(cell.image.low[image]), float(cell.image.high[image]), row.device.profile.signals[signal].eu
            value, quality, says = float(reading.values[place]), Quality(int(reading.quality[place])), why
            if quality is not Quality.BAD and not low <= value <= high:
                quality, says = Quality.BAD, f"{value:g} {eu} is outside of its range, {low:g} to {high:g} {eu}"
            source = int(reading.source_time[place])
            age = (time.time_ns() - source) / 1e9 if source > 0 else time.monotonic() - at
            rows.append(TagLook(cell.image.names[image], signal, row.device.name, value, eu, quality, age, trip, says))
    return rows


async def _read(device: Device, data: Path) -> tuple[Reading, float, float, str]:
    """Return a reading, when it came [s, monotonic], its round trip [s], and why the device did not answer."""
    driver = open_driver(device, data=data)
    async with driver:
        end = time.monotonic() + _LINK_WITHIN
        reading = await driver.read()
        while not driver.metrics.connected and time.monotonic() < end:
            await asyncio.sleep(0.1)
            reading = await driver.read()
        return reading, time.monotonic(), driver.metrics.round_trip, driver.metrics.why
