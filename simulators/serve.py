"""The simulated plant on the wire: every device at its own address, as a process of its own.

``python -m simulators.serve --devices FILE.json --speed F --epoch MONOTONIC_NS --start UTC_NS`` prints one JSON line when all is served,
takes commands as JSON lines (``{"do": "stop", "device": NAME}``, ``start``, ``truth``, ``{"do": "fault", "text": TEXT}``, ``clear``, ``faults``),
and ends at the end of its input or by a signal. With ``--text`` it prints for people and takes no commands.
Plant time is (monotonic - epoch) x speed; nothing here knows physics.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from drivers.device import Address, AddressError, Device, Profile, find_profile, load_profile
from drivers.source import BadInput, Position
from simulators.station import PlantLike, Station

if TYPE_CHECKING:
    from simulators.faults import Faults
    from simulators.feed import Feed
    from simulators.modbus_slave import ModbusSlave
    from simulators.plant import Plant
    from simulators.serve_opcua import OpcuaListener

__all__ = ["CannotServe", "Servers", "main"]

log = logging.getLogger(__name__)

_TICK: Final = 0.02  # [s] wall time between two moves of the plant
_BEHIND: Final = 1.0  # [s] wall time that the physics may lag before it is said
_CATCH_UP: Final = 5.0  # [s] wall time after the start in which nothing is said: opening the links has taken its time
_ENDING: Final = 1.5  # [s] that closing all links may take


class CannotServe(Exception):
    """A device whose address cannot be used: which, and what to change."""


class _Listener(Protocol):
    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def changed(self) -> None: ...
    def address(self, asked: Address) -> Address: ...


class Servers:
    """All devices of a plant, each served at its address. ``async with Servers(devices, plant) as servers: servers.endpoints[name]``.

    `clock` returns the plant time [s] to follow; without one the plant moves only when its owner moves it. `start` is the
    UTC time [ns] of plant time 0. Raises `CannotServe` when an address cannot be used.
    """

    def __init__(
        self,
        devices: Iterable[Device],
        plant: PlantLike,
        *,
        data: Path = Path(),
        clock: Callable[[], float] | None = None,
        start: int = 0,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plant = plant
        self.stations = {device.name: Station(device, plant, monotonic) for device in devices}
        self.endpoints: dict[str, Address] = {}
        self._data, self._clock, self._start, self._speed = data, clock, start, speed
        self._listeners: dict[str, _Listener] = {}
        self._monitored: list[OpcuaListener] = []
        self._ticker: asyncio.Task[None] | None = None
        self._late = False
        self._began = 0.0

    async def __aenter__(self) -> Servers:
        self._listeners = self._make_listeners()
        results = await asyncio.gather(*(self._open(name) for name in self.stations), return_exceptions=True)
        problems = [result for result in results if isinstance(result, BaseException)]
        if problems:
            await self._close()
            raise problems[0]
        self._began = time.perf_counter()
        self._ticker = asyncio.create_task(self._run(), name="plant clock")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
        for name in self.stations:
            self.plant.safe(name)
        await self._close()

    def _make_listeners(self) -> dict[str, _Listener]:
        """Return what serves each device; devices at one port, or on one line, share it."""
        listeners: dict[str, _Listener] = {}
        shared: dict[tuple[str, int] | Path, dict[int, ModbusSlave]] = {}
        made: dict[tuple[str, int] | Path, _Listener] = {}
        for name, station in self.stations.items():
            address = station.device.address
            if address.protocol != station.device.profile.protocol:
                raise CannotServe(f"device {name}: profile {station.device.profile.id} cannot be served at {address}; change its address")
            if address.scheme == "opc.tcp":
                from simulators.serve_opcua import OpcuaListener

                opcua = listeners[name] = OpcuaListener(station, self._now)
                self._monitored.append(opcua)
                continue
            if address.scheme == "serial":
                from simulators.serve_ascii import AsciiInstrument, AsciiLine

                path = self._data / address.path
                if path in made:
                    raise CannotServe(f"device {name}: {address} is already used; a serial instrument has a line of its own")
                period = float(station.device.periods.min()) / self._speed
                made[path] = listeners[name] = AsciiLine(path, AsciiInstrument(station), max(period, _TICK))
                continue
            from simulators.modbus_slave import ModbusSlave
            from simulators.serve_modbus import RtuLine, TcpListener, server_context

            key = self._data / address.path if address.serial else (address.host, address.port or -len(made))
            units = shared.setdefault(key, {})
            if address.unit in units:
                taken = units[address.unit].station.device.name
                raise CannotServe(f"device {name}: unit {address.unit} at {address} is already {taken}; change unit= in its address")
            units[address.unit] = ModbusSlave(station)
            if key not in made:
                tls = server_context(self._data) if address.scheme == "modbus-tls" else None
                rtu = address.scheme == "modbus-rtu-tcp"
                made[key] = RtuLine(key, units) if isinstance(key, Path) else TcpListener(address.host, address.port, units, rtu=rtu, tls=tls)
            listeners[name] = made[key]
        return listeners

    async def _open(self, name: str) -> None:
        asked = self.stations[name].device.address
        try:
            await self._listeners[name].open()
        except OSError as error:
            if asked.serial:
                what = f"no pseudo-terminal for it ({error}); give it another path" + (
                    ", or a modbus-tcp:// address" if asked.protocol == "modbus" else ""
                )
            else:
                what = f"{error.strerror or error}; is another process using the port? Change its address"
            raise CannotServe(f"device {name}: cannot serve {asked}: {what}") from error
        self.endpoints[name] = self._listeners[name].address(asked)

    async def _close(self) -> None:
        listeners = set(self._listeners.values())
        await asyncio.gather(*((listener.end() if hasattr(listener, "end") else listener.close()) for listener in listeners))

    async def stop_device(self, name: str) -> None:
        """Switch a device off on the wire: its port closes, or its unit falls silent. The plant goes on."""
        self.stations[name].serving = False
        await self._listeners[name].changed()

    async def start_device(self, name: str) -> None:
        """Serve a device again, at the same address."""
        self.stations[name].serving = True
        await self._listeners[name].changed()

    def _now(self) -> int:
        return self._start + round(self.plant.time * 1e9)

    async def _run(self) -> None:
        """Move the plant to its clock, and let each device watch its heartbeat."""
        while True:
            if self._clock is not None:
                self._follow(self._clock())
            for station in self.stations.values():
                station.moved()
                station.watch()
            for listener in self._monitored:
                await listener.look()
            await asyncio.sleep(_TICK)

    def _follow(self, now: float) -> None:
        """Advance the plant towards `now` [s], for one tick at most, so that the wire is not held up."""
        until = time.perf_counter() + _TICK
        stride = max(1.0, _TICK * self._speed)
        while (left := now - self.plant.time) > 0.0:
            self.plant.advance(min(left, stride))
            if time.perf_counter() > until:
                break
        late = now - self.plant.time > _BEHIND * self._speed and until - self._began > _CATCH_UP
        if late != self._late:
            self._late = late
            if late:
                log.warning("the physics is more than %g s behind the clock at speed %g; use a lower speed", _BEHIND, self._speed)
            else:
                log.info("the physics keeps up with the clock again")


@dataclass(frozen=True, slots=True)
class _Listed:
    """What the list of devices says."""

    devices: list[Device]
    tags: dict[str, tuple[str, str]]  # tag of the cell -> device, signal

    @property
    def profiles(self) -> dict[str, Profile]:
        """Device -> profile."""
        return {device.name: device.profile for device in self.devices}


def _devices(path: Path) -> _Listed:
    """Read the list of devices; raise `CannotServe`."""
    tags: dict[str, tuple[str, str]] = {}
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text())
        devices = []
        for entry in entries:
            name = entry["profile"]
            profile: Profile = load_profile(Path(name)) if name.endswith(".toml") else find_profile(name, Position(str(path)))
            devices.append(Device(entry["name"], profile, Address.parse(entry["address"])))
            tags.update({tag: (entry["name"], signal) for tag, signal in entry.get("tags", {}).items()})
    except (OSError, ValueError, KeyError, TypeError, AddressError, BadInput) as error:
        raise CannotServe(f"{path}: cannot read the list of devices: {type(error).__name__} {error}") from error
    return _Listed(devices, tags)


def _plant(listed: _Listed, options: argparse.Namespace) -> Plant:
    """Return the simulated plant; raise `CannotServe` for a feed or a fault that is not one."""
    from simulators.faults import Faults, parse
    from simulators.feed import find_feed
    from simulators.plant import Plant

    profiles = listed.profiles
    try:
        faults = Faults.random(profiles, options.seed, options.random_faults)
        faults.add(*(parse(text, listed.tags, profiles) for text in options.fault))
        return Plant(profiles, feed=find_feed(options.feed), seed=options.seed, instance=options.instance, faults=faults)
    except ValueError as error:
        raise CannotServe(str(error)) from error


class _Watch:
    """Tells of faults as they begin and end, and takes a device off the wire while it is offline."""

    def __init__(self, servers: Servers, faults: Faults) -> None:
        self._servers, self._faults = servers, faults

    async def run(self) -> None:
        """Look each tick until cancelled."""
        while True:
            for event in self._faults.events():
                sys.stderr.write(f"{event}\n")
                if event.fault.kind == "offline":
                    await (self._servers.stop_device if event.began else self._servers.start_device)(event.fault.device)
            await asyncio.sleep(_TICK)


class _Commands:
    """Lines of standard input, read by a thread: not every kind of input can be watched by a loop."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.lines: asyncio.Queue[bytes] = asyncio.Queue(maxsize=100)
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def _read(self) -> None:
        waiting = b""
        with contextlib.suppress(RuntimeError):  # the loop has ended before the input
            while data := os.read(0, 4096):
                *lines, waiting = (waiting + data).split(b"\n")
                for line in lines:
                    self._loop.call_soon_threadsafe(self._take, line)
            self._loop.call_soon_threadsafe(self._stop.set)

    def _take(self, line: bytes) -> None:
        if not self.lines.full():  # whoever sends a hundred commands without reading an answer loses the rest
            self.lines.put_nowait(line)


def _say(message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more; the end of the input says the rest
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def _truth(plant: PlantLike) -> dict[str, Any]:
    """Return the plant's truth as JSON can hold it: what is not known is null."""
    return {name: value if not isinstance(value, float) or math.isfinite(value) else None for name, value in plant.truth().items()}


async def _obey(servers: Servers, listed: _Listed, faults: Faults, line: bytes) -> dict[str, Any]:
    """Carry out one command; return the answer."""
    from simulators.faults import parse

    try:
        command = json.loads(line)
        do, name = command["do"], command.get("device")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"error": f"expected a JSON object with 'do': {error}"}
    if do == "truth":
        return {"truth": _truth(servers.plant)}
    if do == "fault":
        try:
            fault = parse(str(command.get("text", "")), listed.tags, listed.profiles)
        except ValueError as error:
            return {"error": str(error)}
        # its times count from now
        faults.add(replace(fault, start=servers.plant.time + fault.start))
        return {"done": do, "fault": str(fault)}
    if do == "clear":
        faults.clear()
        return {"done": do}
    if do == "faults":
        return {"faults": [str(fault) for fault in faults]}
    if do not in ("stop", "start"):
        return {"error": f"unknown command {do!r}; known: stop, start, truth, fault, clear, faults"}
    if name not in servers.stations:
        return {"error": f"no device {name!r}; known: {', '.join(servers.stations)}"}
    try:
        await (servers.stop_device(name) if do == "stop" else servers.start_device(name))
    except OSError as error:
        return {"error": f"device {name}: {error}"}
    return {"done": do, "device": name}


def _table(servers: Servers, feed: Feed, faults: Faults) -> str:
    """Return what is served, what is fed (with the foil that the shredder lets through) and what will fail, for people."""
    rows = [(name, str(address), servers.stations[name].device.profile.id) for name, address in servers.endpoints.items()]
    widths = [max(len(row[place]) for row in rows) for place in range(2)] if rows else [0, 0]
    lines = [f"  {name:{widths[0]}}  {address:{widths[1]}}  {profile}" for name, address, profile in rows]
    parts = sorted(((share, element) for element, share in feed.composition.items() if share >= 0.1), reverse=True)
    lfp = f", LFP {feed.lfp:.3g}" if feed.lfp > 0.0 else ""
    lines.append(f"  feed {feed.name}: {', '.join(f'{element} {share:.3g}' for share, element in parts)}{lfp} wt%")
    lines += [f"  fault {fault}" for fault in faults]
    return "\n".join(lines)


async def _serve(servers: Servers, listed: _Listed, feed: Feed, faults: Faults, *, text: bool) -> None:
    """Serve until the input ends or a signal comes."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await servers.__aenter__()
    gc.freeze()  # address spaces and modules stay for good: nothing to look for among them
    gc.enable()
    watch = asyncio.create_task(_Watch(servers, faults).run(), name="faults")
    try:
        if text:
            sys.stdout.write(_table(servers, feed, faults) + "\n")
            sys.stdout.flush()
            await stop.wait()
            return
        _say({"ready": True, "endpoints": {name: str(address) for name, address in servers.endpoints.items()}})
        commands = _Commands(stop)
        stopped = asyncio.create_task(stop.wait())
        while not stop.is_set():
            line = asyncio.create_task(commands.lines.get())
            await asyncio.wait({line, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if line.done() and line.result().strip():
                _say(await _obey(servers, listed, faults, line.result()))
            line.cancel()
        stopped.cancel()
    finally:
        watch.cancel()
        try:
            async with asyncio.timeout(_ENDING):
                await servers.__aexit__(None, None, None)
        except TimeoutError:
            log.warning("closing the links took longer than %g s; they end with the process", _ENDING)
        if not text:
            _say({"final": _truth(servers.plant)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a simulated plant; return 0, or 2 when it cannot be served."""
    parser = argparse.ArgumentParser(prog="simulators.serve", description="Serve a simulated plant on the wire.")
    parser.add_argument("--devices", type=Path, required=True, help='JSON list of {"name", "profile", "address"}')
    parser.add_argument("--speed", type=float, default=1.0, help="plant seconds in a second")
    parser.add_argument("--epoch", type=int, default=None, help="monotonic clock [ns] at plant time 0; now if left out")
    parser.add_argument("--start", type=int, default=None, help="UTC [ns] at plant time 0; now if left out")
    parser.add_argument("--seed", type=int, default=0, help="of the sensors' noise")
    parser.add_argument("--feed", default="nmc622", help="what is fed to the shredder: a name, random:SEED or a TOML file")
    parser.add_argument("--instance", type=int, default=None, help="seed of a plant instance; the nominal plant if left out")
    parser.add_argument("--fault", action="append", default=[], help="TARGET:KIND[=SIZE][@START[+DURATION]]; may be repeated")
    parser.add_argument("--random-faults", type=float, default=0.0, help="faults that begin in an hour")
    parser.add_argument("--text", action="store_true", help="print for people, take no commands")
    parser.add_argument("--data", type=Path, default=Path(), help="folder for relative serial ports")
    options = parser.parse_args(arguments)
    gc.disable()  # until all is served: it takes half of the time that large address spaces need
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    epoch = time.monotonic_ns() if options.epoch is None else options.epoch
    start = time.time_ns() if options.start is None else options.start
    try:
        listed = _devices(options.devices)
        plant = _plant(listed, options)
        servers = Servers(
            listed.devices,
            plant,
            data=options.data,
            clock=lambda: (time.monotonic_ns() - epoch) * options.speed / 1e9,
            start=start,
            speed=options.speed,
        )
        asyncio.run(_serve(servers, listed, plant.feed, plant.faults, text=options.text))
    except CannotServe as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
