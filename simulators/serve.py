"""The simulated plant on the wire: every device at its own address, as a process of its own.

``python -m simulators.serve --devices FILE.json --speed F --epoch MONOTONIC_NS --start UTC_NS`` prints one JSON line when all is served,
takes commands as JSON lines (``{"do": "stop", "device": NAME}``, ``start``, ``truth``), and ends at the end of its input or by a signal.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from drivers.device import Address, AddressError, Device, Profile, find_profile, load_profile
from drivers.source import BadInput, Position
from simulators.station import PlantLike, Station

if TYPE_CHECKING:
    from simulators.serve_modbus import ModbusSlave

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

                listeners[name] = OpcuaListener(station, self._now)
                continue
            from simulators.serve_modbus import ModbusSlave, RtuLine, TcpListener

            tcp = address.scheme == "modbus-tcp"
            key = (address.host, address.port or -len(made)) if tcp else self._data / address.path
            units = shared.setdefault(key, {})
            if address.unit in units:
                taken = units[address.unit].station.device.name
                raise CannotServe(f"device {name}: unit {address.unit} at {address} is already {taken}; change unit= in its address")
            units[address.unit] = ModbusSlave(station)
            if key not in made:
                made[key] = RtuLine(key, units) if isinstance(key, Path) else TcpListener(address.host, address.port, units)
            listeners[name] = made[key]
        return listeners

    async def _open(self, name: str) -> None:
        asked = self.stations[name].device.address
        try:
            await self._listeners[name].open()
        except OSError as error:
            if asked.scheme == "modbus-rtu":
                what = f"no pseudo-terminal for it ({error}); give it a modbus-tcp:// address"
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


def _devices(path: Path) -> list[Device]:
    """Read the list of devices; raise `CannotServe`."""
    try:
        entries: list[dict[str, str]] = json.loads(path.read_text())
        devices = []
        for entry in entries:
            name = entry["profile"]
            profile: Profile = load_profile(Path(name)) if name.endswith(".toml") else find_profile(name, Position(str(path)))
            devices.append(Device(entry["name"], profile, Address.parse(entry["address"])))
    except (OSError, ValueError, KeyError, TypeError, AddressError, BadInput) as error:
        raise CannotServe(f"{path}: cannot read the list of devices: {type(error).__name__} {error}") from error
    return devices


def _plant(devices: Sequence[Device], feed: str, seed: int) -> PlantLike:
    """Return the simulated plant; raise `CannotServe` for an unknown feed."""
    from simulators.feed import FEEDS
    from simulators.plant import Plant

    if feed not in FEEDS:
        raise CannotServe(f"feed {feed!r} is not known; known: {', '.join(FEEDS)}")
    return Plant({device.name: device.profile for device in devices}, feed=FEEDS[feed], seed=seed)


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


async def _obey(servers: Servers, line: bytes) -> dict[str, Any]:
    """Carry out one command; return the answer."""
    try:
        command = json.loads(line)
        do, name = command["do"], command.get("device")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"error": f"expected a JSON object with 'do': {error}"}
    if do == "truth":
        return {"truth": _truth(servers.plant)}
    if do not in ("stop", "start"):
        return {"error": f"unknown command {do!r}; known: stop, start, truth"}
    if name not in servers.stations:
        return {"error": f"no device {name!r}; known: {', '.join(servers.stations)}"}
    try:
        await (servers.stop_device(name) if do == "stop" else servers.start_device(name))
    except OSError as error:
        return {"error": f"device {name}: {error}"}
    return {"done": do, "device": name}


async def _serve(servers: Servers) -> None:
    """Serve until the input ends or a signal comes."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await servers.__aenter__()
    gc.freeze()  # address spaces and modules stay for good: nothing to look for among them
    gc.enable()
    try:
        _say({"ready": True, "endpoints": {name: str(address) for name, address in servers.endpoints.items()}})
        commands = _Commands(stop)
        stopped = asyncio.create_task(stop.wait())
        while not stop.is_set():
            line = asyncio.create_task(commands.lines.get())
            await asyncio.wait({line, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if line.done() and line.result().strip():
                _say(await _obey(servers, line.result()))
            line.cancel()
        stopped.cancel()
    finally:
        try:
            async with asyncio.timeout(_ENDING):
                await servers.__aexit__(None, None, None)
        except TimeoutError:
            log.warning("closing the links took longer than %g s; they end with the process", _ENDING)
        _say({"final": _truth(servers.plant)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a simulated plant; return 0, or 2 when it cannot be served."""
    parser = argparse.ArgumentParser(prog="simulators.serve", description="Serve a simulated plant on the wire.")
    parser.add_argument("--devices", type=Path, required=True, help='JSON list of {"name", "profile", "address"}')
    parser.add_argument("--speed", type=float, default=1.0, help="plant seconds in a second")
    parser.add_argument("--epoch", type=int, default=None, help="monotonic clock [ns] at plant time 0; now if left out")
    parser.add_argument("--start", type=int, default=None, help="UTC [ns] at plant time 0; now if left out")
    parser.add_argument("--seed", type=int, default=0, help="of the sensors' noise")
    parser.add_argument("--feed", default="nmc622", help="what is fed to the shredder")
    parser.add_argument("--data", type=Path, default=Path(), help="folder for relative serial ports")
    options = parser.parse_args(arguments)
    gc.disable()  # until all is served: it takes half of the time that large address spaces need
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    epoch = time.monotonic_ns() if options.epoch is None else options.epoch
    start = time.time_ns() if options.start is None else options.start
    try:
        devices = _devices(options.devices)
        servers = Servers(
            devices,
            _plant(devices, options.feed, options.seed),
            data=options.data,
            clock=lambda: (time.monotonic_ns() - epoch) * options.speed / 1e9,
            start=start,
            speed=options.speed,
        )
        asyncio.run(_serve(servers))
    except CannotServe as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
