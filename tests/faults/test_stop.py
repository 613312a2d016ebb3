"""An orderly stop loses nothing: what happened last is in the journal too."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controller.batch.journal import JournalReader
from controller.batch.records import Event
from controller.config import cell_path, load_cell
from controller.runtime.clock import LiveClock
from controller.runtime.service import Service

pytestmark = pytest.mark.wire


def test_events_whose_write_waits_for_a_thread_when_the_service_stops_are_in_the_journal(tmp_path: Path) -> None:
    cell = load_cell(cell_path("demo"))
    nobody = {}  # port 1: nobody listens there
    for number, (name, row) in enumerate(cell.plan.devices.items(), 1):
        if row.device.address.scheme == "opc.tcp":
            nobody[name] = f"opc.tcp://127.0.0.1:1/{number}"
        elif row.device.address.scheme == "modbus-tcp":
            nobody[name] = f"modbus-tcp://127.0.0.1:1?unit={number}"
    cell = load_cell(cell_path("demo"), addresses=nobody)
    release = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))  # the one thread is busy, as any may be for an instant
        async with Service(cell, tmp_path, LiveClock.now(1.0)) as service:
            async with asyncio.timeout(20.0):
                async for frame in service.frames():
                    if frame.seq >= 5 and not service._events:  # the first scans, with their alarms, are over
                        break
            await loop.run_in_executor(None, int)  # no write waits
            busy = loop.run_in_executor(None, release.wait, 30.0)
            service._happen([Event("service", "last")])
            async with asyncio.timeout(10.0):
                async for _ in service.frames():  # until the journal's task has taken it
                    if all(event.name != "last" for event in service._events):
                        break
            loop.call_later(0.2, release.set)
        await busy

    asyncio.run(main())
    journal = JournalReader(tmp_path / "journal.sqlite")
    assert journal.verify() == ""
    names = [(entry.event.kind, entry.event.name) for entry in journal.entries()]
    assert names.count(("service", "last")) == 1
    assert names.index(("service", "last")) < len(names) - 1  # before the stop itself
