"""A service with its faces: page, terminal, forwarder. What ``blackmass run`` and ``blackmass demo`` do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live

from controller.batch.journal import JournalReader
from controller.batch.report import Report, Trend, build, html
from controller.config import LoadedCell
from controller.core.commands import Start
from controller.core.frame import Frame
from controller.core.plan import CellPlan
from controller.core.states import FINAL
from controller.face import page
from controller.historian.influx import InfluxForwarder, InfluxSettings
from controller.historian.reader import HistorianReader
from controller.runtime.clock import LiveClock
from controller.runtime.service import Service
from controller.terminal import Screen, report_text
from controller.web.api import create_app

__all__ = ["Request", "make_report", "run_cell", "safe_words"]

TREND_TAGS = (
    "TT-201",
    "AT-201",
    "AT-202",
    "LT-201",
    "TT-301",
    "AT-301",
    "LT-301",
    "LT-311",
    "TT-401",
    "AT-401",
    "AT-402",
    "AT-404",
    "LT-401",
)
_TREND_POINTS = 600


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked ``run`` or ``demo`` for."""

    cell: LoadedCell
    data: Path
    clock: LiveClock
    recipe: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    influx: InfluxSettings | None = None
    leave: bool = False  # end when the batch does
    period: float = 0.05


async def run_cell(request: Request, console: Console) -> int:
    """Run a cell until a signal or, with `leave`, until its batch has ended; return the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    last: Frame | None = None
    async with AsyncExitStack() as stack:
        reader = HistorianReader(request.data)
        if request.influx is not None:  # entered first, left last: the bus has drained when it sends the rest
            forwarder = InfluxForwarder(reader, request.influx, request.data)
            forwarder.__enter__()
            stack.push_async_callback(asyncio.to_thread, forwarder.__exit__, None, None, None)  # it may send for a while: not in the loop
        service = Service(request.cell, request.data, request.clock, period=request.period)
        app = create_app(service, reader)
        await service.prepare()
        gc.collect()
        gc.freeze()  # a full collection over the imports alone takes 100 ms: before a device is talked to, and never again
        await stack.enter_async_context(service)
        web = request.cell.web
        url = await stack.enter_async_context(page(app, web.host, web.port if request.port is None else request.port))
        console.print(f"Page: [bold]{url}[/]   data: {request.data}   stop with Ctrl-C", highlight=False)
        stack.enter_context(contextlib.suppress(asyncio.CancelledError))
        face = asyncio.create_task(_follow(service, request, console, stop), name="terminal")
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(service.stopped.wait()), face]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        results = await asyncio.gather(*waits, return_exceptions=True)
        last = service.frame
        why = service.why_stopped
        failed = next((result for result in results if isinstance(result, Exception)), None)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
    if failed is not None:
        raise failed
    return _conclude(request, console, last, why, service.unsafe)


async def _follow(service: Service, request: Request, console: Console, stop: asyncio.Event) -> None:
    """Start the recipe when the cell is ready, show frames, and end with the batch if asked to."""
    screen = Screen(service.describe())
    started = request.recipe is None
    shown = -1.0
    loop = asyncio.get_running_loop()
    refused = said = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        async for frame in service.frames():
            if not started and frame.batch is None and not dict(frame.commands)["START"]:
                receipt = await service.send(
                    Start(
                        who="operator",
                        why="asked for on the command line",
                        recipe=request.recipe or "",
                        parameters=dict(request.parameters),
                    )
                )
                if not receipt.accepted:
                    raise ValueError(receipt.why)
                started = True
            elif not started and (why := dict(frame.commands)["START"]) != refused:
                refused = why
                console.print(f"Waiting: {why}", highlight=False)
            if loop.time() - shown >= 0.25 and console.is_terminal:
                shown = loop.time()
                live.update(screen.draw(frame), refresh=True)
            elif not console.is_terminal and loop.time() - shown >= 10.0:
                shown = loop.time()
                if (line := screen.line(frame)) != said:
                    said = line
                    console.print(line, highlight=False)
            if request.leave and started and frame.batch is not None and frame.state in FINAL:
                return


def _conclude(request: Request, console: Console, last: Frame | None, why: str, unsafe: set[str]) -> int:
    safe = safe_words(request.cell.plan, unsafe)
    if why:
        console.print(f"[bold red]The service stopped by itself:[/] {why}", highlight=False)
    if last is None or last.batch is None:
        console.print(f"Stopped; {safe}. Telemetry and journal are kept in {request.data}.", highlight=False)
        return 1 if why or request.recipe is not None else 0
    report = make_report(request.data, last.batch.id, request.cell)
    path = request.data / f"{last.batch.id}.html"
    path.write_text(html(report), encoding="utf-8")
    console.print(report_text(report), highlight=False)
    if last.state not in FINAL:
        running = ", ".join(step.path for step in last.batch.steps if step.state in ("running", "held"))
        console.print(
            f"Stopped in mid-batch ({last.state}, in {running}); {safe}. The batch is kept: a service on {request.data} finds it in HELD.",
            highlight=False,
        )
    console.print(f"Report: {path}   journal and telemetry: {request.data}", highlight=False)
    return 0 if last.batch.released and not why else 1


def safe_words(plan: CellPlan, unsafe: Iterable[str]) -> str:
    """Return what is known of the outputs at the end; `unsafe` are the devices that did not confirm their safe values."""
    names = sorted(unsafe)
    if not names:
        return "devices have their safe values" if len(plan.outputs) else "nothing was written"
    beats = {name: plan.devices[name].device.profile.heartbeat for name in names}
    watched = [f"{name} falls to them by itself within {beat.timeout:g} s" for name, beat in beats.items() if beat is not None]
    alone = [name for name, beat in beats.items() if beat is None]
    left = [f"{', '.join(alone)}: no heartbeat in the profile, so what was written last may still stand: go and look"] if alone else []
    return f"NOT every device has confirmed its safe values: {'; '.join(watched + left)}"


def make_report(data: Path, batch: str, cell: LoadedCell) -> Report:
    """Return the report of a batch, with the trends of its key measurements."""
    journal = JournalReader(data / "journal.sqlite")
    state, _, _ = journal.batch(batch)
    plan = cell.plan
    tags = [tag for tag in TREND_TAGS if tag in plan.points] or [
        plan.inputs[unit.roles[role].measured].name for unit in plan.units.values() for role in unit.key
    ]
    trends = []
    reader = HistorianReader(data)
    stop = state.ended if state.ended is not None else max((entry.plant for entry in journal.entries(batch)), default=state.started)
    span = max(stop - state.started, 1.0)
    history = reader.read(tags, state.started, stop, span / _TREND_POINTS)
    for place, tag in enumerate(tags):
        point = plan.points[plan.points.place(tag)]
        trends.append(Trend.of(tag, point.eu, point.description, state.started, history.time, history.value[place], history.quality[place]))
    eus = {
        f"{name}.{role.name}": plan.inputs[role.measured].eu if role.kind == "output" else plan.outputs[role.output].eu
        for name, unit in plan.units.items()
        for role in unit.roles.values()
        if role.output >= 0
    }
    return build(journal, batch, eus, simulated=plan.simulated, trends=trends)


def quiet_console() -> Console:
    """Return the console that commands write to."""
    return Console(file=sys.stdout)
