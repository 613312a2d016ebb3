"""Look at the machine a service is to run on, and at its devices, without changing anything but one temporary file."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import pty
import shutil
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import controller
from controller.config import LoadedCell
from drivers.connect import open_driver
from drivers.tags import Quality

__all__ = ["Finding", "examine"]

_LEAST_FREE = 1 << 30  # [bytes] about two months of telemetry of the demo cell
_LINK_WITHIN = 5.0  # [s]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    says: str
    good: bool = True


async def examine(cell: LoadedCell | None, data: Path) -> list[Finding]:
    """Return every finding; takes at most some seconds, whatever the devices do."""
    findings = [*_versions(), _clock(), *_disk(data), _sqlite(data), _ptys()]
    if cell is not None:
        rows = cell.plan.devices.values()
        findings += await asyncio.gather(*(_link(row.device.name, cell, data) for row in rows))
    return findings


def _versions() -> list[Finding]:
    python = Finding("Python", sys.version.split()[0], sys.version_info >= (3, 11))
    parts = ("asyncua", "pymodbus", "pyserial", "numpy", "influxdb-client", "fastapi")
    return [
        Finding("blackmass", controller.__version__),
        python,
        Finding("libraries", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in parts)),
    ]


def _clock() -> Finding:
    wall, monotonic = time.time(), time.monotonic()
    resolution = time.get_clock_info("monotonic").resolution
    good = wall > 1_700_000_000 and resolution <= 1e-6
    return Finding(
        "clock",
        f"wall {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(wall))} UTC, monotonic {monotonic:.0f} s, resolution {resolution:g} s",
        good,
    )


def _disk(data: Path) -> list[Finding]:
    there = next(path for path in (data, *data.parents) if path.exists())
    free = shutil.disk_usage(there).free
    low = f"; free some, or choose another data directory with --data (at least {_LEAST_FREE / 2**30:.0f} GiB)" if free < _LEAST_FREE else ""
    writable = there.is_dir() and os.access(there, os.W_OK)
    return [
        Finding("disk", f"{free / 2**30:.1f} GiB free at {there}{low}", free >= _LEAST_FREE),
        Finding("data directory", f"{data}" + ("" if writable else f": {there} cannot be written; choose another with --data"), writable),
    ]


def _sqlite(data: Path) -> Finding:
    """Time a commit with synchronous=FULL where the data will be: what acknowledging a command costs."""
    there = next(path for path in (data, *data.parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix="doctor-") as folder:
            db = sqlite3.connect(Path(folder) / "probe.sqlite", isolation_level=None)
            mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            db.execute("PRAGMA synchronous=FULL")
            db.execute("CREATE TABLE probe (value REAL)")
            begun = time.perf_counter()
            for value in range(20):
                db.execute("INSERT INTO probe VALUES (?)", (value,))
            spent = (time.perf_counter() - begun) / 20 * 1e3
            db.close()
    except (OSError, sqlite3.Error) as error:
        return Finding("SQLite", f"{sqlite3.sqlite_version}: cannot write at {there}: {error}", good=False)
    return Finding("SQLite", f"{sqlite3.sqlite_version}, journal mode {mode}, {spent:.1f} ms a commit at {there}", mode == "wal")


def _ptys() -> Finding:
    try:
        for end in pty.openpty():
            os.close(end)
    except OSError as error:
        return Finding("pseudo-terminals", f"none: {error}; simulated Modbus RTU devices need one. Give them a TCP address with --device", good=False)
    return Finding("pseudo-terminals", "there (for simulated Modbus RTU devices)")


async def _link(name: str, cell: LoadedCell, data: Path) -> Finding:
    device = cell.plan.devices[name].device
    driver = open_driver(device, data=data)
    async with driver:
        end = time.monotonic() + _LINK_WITHIN
        reading = await driver.read()
        while not driver.metrics.connected and time.monotonic() < end:
            await asyncio.sleep(0.1)
            reading = await driver.read()
        why = driver.metrics.why  # before it is closed
    bad = int((reading.quality == Quality.BAD).sum())
    if not driver.metrics.connects:
        return Finding(f"device {name}", f"{device.address}: {why}", good=False)
    trip = driver.metrics.round_trip * 1e3
    return Finding(
        f"device {name}",
        f"{device.address}: {len(reading.values) - bad} of {len(reading.values)} signals good, round trip {trip:.1f} ms",
        bad == 0,
    )
