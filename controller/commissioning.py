"""Before a cell runs: what its plan asks of the wires, and one look at every tag over the real link."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from controller.core.plan import CellPlan, DeviceRows
from controller.runtime.device_clock import stamps
from drivers.address import Address
from drivers.connect import open_driver
from drivers.device import Device
from drivers.dialogue_lines import Turn, turns
from drivers.modbus_frames import Question, read
from drivers.modbus_orders import unseen_orders, widest
from drivers.modbus_plan import IDENTITY, TEXTS_EVERY, PlanError, Request, char_silence, plan, probe, request_time, spots, text_spots
from drivers.modbus_turns import TURNAROUND, probe_wait, time_to_probe
from drivers.pause import LONGEST_PAUSE
from drivers.tags import Quality

__all__ = ["DeviceLook", "DevicePlan", "LinePlan", "TagLook", "crowded", "line_plans", "look", "slow_returns", "unclear_probes", "unnoticed_orders"]

_LINK_WITHIN = 5.0  # [s]
_MORE = 8  # reads of a device that answers: a block with one refused address is split from read to read
_NAMED = 4  # devices in a sentence
MOST_BUSY = 0.9  # of a serial line's time: writes, a retry and a slow reply need the rest
RETURN_WITHIN = 5.0  # [s] of a unit's return its data should be there
_TIMEOUT = 1.0  # [s] of a Modbus request
_TELLS_ORDER = {  # registers of the widest value -> what has another order when they have
    1: "one register, with unlike bytes",
    2: "two registers (a uint32 or a float32), with unlike words and bytes",
    4: "four registers (a uint64 or a float64), with unlike words and bytes",
}


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """The reads of one device: requests (turns, of a serial instrument), and how long they occupy its serial line [s], 0 on a network.

    `busy` is the share of the line's time that they take, each at its own period, and `own` that of the device's, with the pauses that it needs.
    `texts` are what it says of itself, read on connection and every minute, which takes `once` [s] more. `probe` [s] is how long asking it in vain
    holds the link; 0 where it has one of its own. `unclear`: on a serial line nothing tells the reply to a probe from that to another read.
    """

    device: str
    unit: int
    period: float  # [s] between two polls
    requests: tuple[Request, ...]
    turns: tuple[Turn, ...]
    signals: int
    time: float
    busy: float
    own: float
    texts: tuple[str, ...] = ()
    once: float = 0.0
    probe: float = 0.0
    unclear: bool = False


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

    @property
    def returns(self) -> list[float]:
        """How long [s] after its return a unit's data are there at most, but for its poll, while 1, 2, ... all but one of the units are dead.

        Each time those whose probes take longest, and at the worst moment: one of them has just been asked, and the probe in 20 s that is waited for
        longer comes before it. For a unit that answers about as quickly as it used to; on a serial line one that never did, within 0.1 s.
        """
        slowest = sorted(self.devices, key=lambda one: (-one.probe, one.busy))
        found = []
        for count in range(1, len(slowest) if slowest[0].probe else 1):
            dead, living = slowest[:count], slowest[count:]
            asked = time_to_probe([one.probe for one in dead], 1.0 - sum(one.busy for one in living), LONGEST_PAUSE)
            found.append(asked + 0.5 * _TIMEOUT + TURNAROUND + max(one.time + one.once for one in dead))
        return found


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
        said = tuple(turns(device))
        share = sum(turn.time / turn.period for turn in said)
        return DevicePlan(device.name, address.unit, poll, (), said, len(profile.signals), sum(turn.time for turn in said), share, share)
    requests = plan(profile, device.periods)
    serial = address.scheme in ("modbus-rtu", "modbus-rtu-tcp")
    byte = address.character_time if serial else 0.0
    pause = max(0.0, profile.modbus.pause - (char_silence(byte) if serial else 0.0))
    texts = text_spots(profile)
    words = [read(spot.table, spot.address, spot.count) for spot in texts if spot.name == IDENTITY and profile.identity.text]
    # nothing is asked for more often than the device is polled; an identity in words comes with each read
    often = max(min(map(float, device.periods), default=poll), poll)
    asked = [*((question, often) for question in words), *((request.question, max(request.period, poll)) for request in requests)]
    told = [read(spot.table, spot.address, spot.count) for spot in texts[len(words) :]]
    first = words[0] if words else probe(spots(profile)[-1], requests)

    def spent(question: Question) -> float:
        return request_time(question, byte) if serial else 0.0

    all_of_it = [*asked, *((question, max(TEXTS_EVERY, often)) for question in told)]
    return DevicePlan(
        device.name,
        address.unit,
        poll,
        requests,
        (),
        len(profile.signals),
        sum(spent(question) for question, _ in asked),
        sum(spent(question) / every for question, every in all_of_it),
        sum((spent(question) + pause) / every for question, every in all_of_it),
        tuple(profile.texts),
        sum(map(spent, told)),
        probe_wait(_TIMEOUT, 0.0, serial=serial) + (TURNAROUND + 2.0 * spent(first) if serial else 0.0),
        serial and any(question.head == first.head and question.pdu != first.pdu for question, _ in asked),
    )


def unnoticed_orders(rows: Iterable[DeviceRows]) -> list[str]:
    """Return a sentence for each Modbus profile whose identity is the same in a wrong order of words or bytes, in which its values are others."""
    said = []
    for profile in {row.device.profile.id: row.device.profile for row in rows if row.device.profile.protocol == "modbus"}.values():
        if orders := unseen_orders(profile):
            said.append(
                f"warning: profile {profile.id}: its identity reads the same with {', or '.join(orders)}, so that a wrong order is not noticed "
                f"and wrong values are GOOD; take a constant of {_TELLS_ORDER[widest(profile)]}"
            )
    return said


def unclear_probes(lines: Iterable[LinePlan]) -> list[str]:
    """Return a sentence for each device on a serial line whose identity, asked for alone, has a reply that could be that to another read."""
    return [
        f"warning: device {one.device}: alone, its identity is as long as another of its reads, so that after a time-out a late reply on {line.link} "
        f"may be taken for the other's value; take an identity of another length, or have other values stand beside it"
        for line in lines
        for one in line.devices
        if one.unclear
    ]


def slow_returns(lines: Iterable[LinePlan]) -> list[str]:
    """Return a sentence for each link on which a unit's data may come later than 5 s after its return, while others are dead, too."""
    said = []
    for line in lines:
        poll = min(max(one.period for one in line.devices), 1.0)  # one that is polled more slowly is not expected so soon
        late = [(count, after + poll) for count, after in enumerate(line.returns, 1) if after + poll > RETURN_WITHIN]
        if late:
            said.append(
                f"warning: {line.link}: when {late[0][0]} or more of its {len(line.devices)} units are dead, data may come {late[0][1]:.1f} s after "
                f"a return, with {late[-1][0]} of them {late[-1][1]:.1f} s, instead of {RETURN_WITHIN:g} s; poll the others more slowly, "
                f"raise the baud rate, or give some a line of their own"
            )
    return said


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
            most = sorted(line.devices, key=lambda one: -one.busy)
            names = ", ".join(f"{one.device} {one.busy:.0%}" for one in most[:_NAMED]) + (f" and {len(most) - _NAMED} more" if most[_NAMED:] else "")
            sentence = (
                f"line {line.link}: reads would take {line.busy:.0%} of its time, at most {MOST_BUSY:.0%} ({names}); "
                f"{_slower(line)}, raise the baud rate, or give a device a line of its own"
            )
            said.append((line.devices[-1].device, sentence))
    return said


def _slower(line: LinePlan) -> str:
    """Return how much more seldom the devices of a line that is too busy may be read."""
    times = line.busy / MOST_BUSY
    if any(period != one.period for one in line.devices for period in (*(t.period for t in one.turns), *(r.period for r in one.requests))):
        return f"make each poll, and each period of a group, {math.ceil(times * 10) / 10:g} times as long"
    return f"poll each device no faster than every {math.ceil(times * max(one.period for one in line.devices) * 100) * 10} ms"


@dataclass(frozen=True, slots=True)
class TagLook:
    """One tag as it was read; `value` is NaN unless known, `age` [s] on the device's clock where it gives one, else since the reply."""

    tag: str
    signal: str
    value: float
    eu: str
    quality: Quality
    age: float
    why: str  # it is BAD, as far as that is known of this tag alone


@dataclass(frozen=True, slots=True)
class DeviceLook:
    """One device as it was read; `lost` says why it does not answer, empty when it does. The round trip [s] is NaN of one that is not asked.

    `texts` is what it says of itself in words, by name; `ahead` [s] is how far its newest time stamp is before this machine's clock, NaN without any.
    """

    device: str
    address: Address
    lost: str
    round_trip: float
    tags: tuple[TagLook, ...]
    texts: dict[str, str]
    ahead: float


async def look(cell: CellPlan, data: Path) -> list[DeviceLook]:
    """Read every tag, by device. Nothing is written. Takes at most some seconds, whatever the devices do."""
    return await asyncio.gather(*(_look(cell, row, data) for row in cell.devices.values()))


async def _look(cell: CellPlan, row: DeviceRows, data: Path) -> DeviceLook:
    device = row.device
    driver = open_driver(device, data=data)
    async with driver:
        end = time.monotonic() + _LINK_WITHIN
        reading = await driver.read()
        while not driver.metrics.connected and time.monotonic() < end:
            await asyncio.sleep(0.1)
            reading = await driver.read()
        for _ in range(_MORE):
            if not driver.metrics.connected or reading.quality.max(initial=0) < Quality.BAD or time.monotonic() > end:
                break
            await asyncio.sleep(0.02)
            reading = await driver.read()
        lost = "" if driver.metrics.connected else driver.metrics.why
        wall, monotonic = time.time_ns(), time.monotonic()
        tags = []
        for place, (signal, image) in enumerate(zip(device.profile.names, row.places.tolist(), strict=True)):
            if image < 0:
                continue  # a signal that this cell gives no tag
            low, high, eu = float(cell.image.low[image]), float(cell.image.high[image]), device.profile.signals[signal].eu
            value, quality, why = float(reading.values[place]), Quality(int(reading.quality[place])), ""
            if quality is Quality.BAD and not lost:
                why = driver.wrong.get(signal, "the device gives no value for it")
            elif quality is not Quality.BAD and not low <= value <= high:
                quality, why = Quality.BAD, f"{value:g} {eu} is outside of its range, {low:g} to {high:g} {eu}"
            source = int(reading.source_time[place])
            received = monotonic if reading.received is None else float(reading.received[place])
            age = (wall - source) / 1e9 if source > 0 else monotonic - received
            tags.append(TagLook(cell.image.names[image], signal, value, eu, quality, age, why))
        newest = int(stamps(reading)[0].max(initial=0))
        ahead = (newest - wall) / 1e9 if newest > 0 else math.nan
        return DeviceLook(device.name, device.address, lost, driver.metrics.round_trip, tuple(tags), dict(driver.texts), ahead)
