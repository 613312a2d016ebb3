"""The demo: the simulated cell as a process of its own, and a service that knows it only by its addresses."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.config import LoadedCell
from controller.runtime.clock import LiveClock

__all__ = ["Simulator", "SimulatorError", "SimulatorRefusedError", "simulated_cell"]

_READY = 60.0  # [s] for all simulated devices to be served
_REFUSED = 2  # its status when it does
_END = 5.0  # [s] for them to stop


class SimulatorError(RuntimeError):
    """The simulated cell could not be started or has ended; holds what it said."""


class SimulatorRefusedError(SimulatorError):
    """The simulated cell has refused what it was asked for, and said why; nothing was served."""


@dataclass(slots=True)
class Simulator:
    """A running simulated cell."""

    process: subprocess.Popen[str]
    endpoints: dict[str, str]
    final: dict[str, Any] | None = None

    def ask(self, **command: str) -> dict[str, Any]:
        """Send one command (``do="stop", device=...``) and return the answer."""
        if self.process.stdin is None or self.process.stdout is None:
            raise SimulatorError("the simulated cell has no pipes")
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return _answer(self.process)


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        process.wait(_END)
        if process.returncode == _REFUSED:
            raise SimulatorRefusedError("nothing was started")
        raise SimulatorError(f"the simulated cell ended with status {process.returncode}; see what it said above")
    return json.loads(line)  # type: ignore[no-any-return]


def command_line(
    cell: LoadedCell, data: Path, clock: LiveClock, *, seed: int, feed: str, addresses: Mapping[str, str], more: Sequence[str] = ()
) -> list[str]:
    """Return the command that serves the devices of a cell, with `more` options of the simulator; writes their list to `data`."""
    rows = [
        {
            "name": name,
            "profile": row.device.profile.id,
            "address": addresses.get(name, str(row.device.address)),
            "tags": {cell.plan.image.names[place]: signal for signal, place in zip(row.device.profile.names, row.places, strict=True) if place >= 0},
        }
        for name, row in cell.plan.devices.items()
    ]
    listed = data / "simulated-devices.json"
    listed.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    options = {
        "devices": listed,
        "speed": clock.speed,
        "epoch": clock.epoch,
        "start": clock.start,
        "seed": seed,
        "feed": feed,
        "data": data,
    }
    return [sys.executable, "-m", "simulators.serve", *(part for name, value in options.items() for part in (f"--{name}", str(value))), *more]


@contextlib.contextmanager
def simulated_cell(
    cell: LoadedCell, data: Path, clock: LiveClock, *, seed: int = 0, feed: str = "nmc622", addresses: Mapping[str, str] | None = None
) -> Iterator[Simulator]:
    """Run the simulated devices of a cell while the context lasts. They end, in their safe state, when it does."""
    data.mkdir(parents=True, exist_ok=True)
    # a session of its own: Ctrl-C is for the service, which then stops the devices after it has made them safe
    process = subprocess.Popen(
        command_line(cell, data, clock, seed=seed, feed=feed, addresses=addresses or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        watchdog = threading.Timer(_READY, process.kill)
        watchdog.start()
        try:
            ready = _answer(process)
        finally:
            watchdog.cancel()
        simulator = Simulator(process, ready["endpoints"])
        yield simulator
    finally:
        with contextlib.suppress(BrokenPipeError):
            if process.stdin is not None:
                process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END)
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
