"""The command line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import controller
from controller.batch.journal import JournalError, JournalReader
from controller.cli_call import call
from controller.cli_devices import COMMANDS
from controller.cli_opcua import OPCUA_COMMANDS
from controller.cli_options import cell_file, data_home, data_option, device_option, explained, pairs
from controller.config import LoadedCell, cell_path, load_cell
from controller.core.states import Verb
from controller.demo import command_line, simulated_cell
from controller.runtime.batches import Library
from controller.runtime.clock import LiveClock
from recipes.formula import BadFormula, bind_formula

DEMO_SPEED = 540.0  # see docs/explanation/decisions/0004-time-in-the-demo.md


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(controller.__version__, prog_name="blackmass")
@click.option("--verbose", is_flag=True, help="Log every transition of links and services, as run and demo always do.")
def main(verbose: bool) -> None:
    """Process control and telemetry for a modular battery-recycling unit. Not a safety system."""
    handler = _AboveTheScreen() if sys.stderr.isatty() else logging.StreamHandler()
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=[handler])
    for noisy in ("asyncua", "pymodbus", "influxdb_client"):  # they log what our drivers report once, in their words
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


class _AboveTheScreen(logging.Handler):
    """Writes to what ``sys.stderr`` is now: while the terminal's face is shown, that prints above it instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def _log_transitions() -> None:
    """Let a service that runs say when a link is lost and when it is back, whether or not it was asked to be verbose."""
    for ours in ("blackmass", "controller", "drivers"):
        logging.getLogger(ours).setLevel(logging.INFO)


for entry in (call, *COMMANDS, *OPCUA_COMMANDS):
    main.add_command(entry)


def _check_recipe(cell: LoadedCell, recipe: str, parameters: Mapping[str, str]) -> None:
    """Refuse a bad recipe, or parameters that do not fit it, before anything starts."""
    loaded = Library(cell.classes).load(recipe)
    try:
        bind_formula(loaded, parameters)
    except BadFormula as error:
        raise click.BadParameter(str(error), param_hint="--param") from None


def _influx(url: str | None, cell: LoadedCell) -> Any:
    from controller.historian.influx import InfluxSettings

    config = cell.influx
    if url is None and config is None:
        return None
    token = os.environ.get(config.token_env if config else "BLACKMASS_INFLUX_TOKEN", "")
    token_file = Path(config.token_file) if config and config.token_file else None
    if not token and token_file is None:
        raise ValueError("InfluxDB needs a token: set BLACKMASS_INFLUX_TOKEN, or token_file under [influx] in the cell file")
    org = os.environ.get("BLACKMASS_INFLUX_ORG", config.org if config else "blackmass")
    bucket = os.environ.get("BLACKMASS_INFLUX_BUCKET", config.bucket if config else "blackmass")
    classes = {name: unit.unit_class for name, unit in cell.plan.units.items()}
    address = url or (config.url if config else "")
    return InfluxSettings(address, org, bucket, token or None, token_file, cell=cell.plan.id, classes=classes)


port_option = click.option("--port", type=click.IntRange(0, 65535), help="Port of the page on 127.0.0.1; 0 takes a free one.")
influx_option = click.option("--influx", metavar="URL", help="Stream telemetry to this InfluxDB 2; the token is read from BLACKMASS_INFLUX_TOKEN.")
feed_option = click.option(
    "--feed", default="nmc622", show_default=True, metavar="NAME|FILE", help="Black mass: a name, random:SEED, or a TOML file with its composition."
)
param_option = click.option("--param", multiple=True, metavar="NAME=VALUE", help="Formula parameter, with its eu: batch_size='450 kg'.")


@main.command()
@click.option("--recipe", default="nmc622-pcam", show_default=True)
@param_option
@click.option("--speed", type=click.FloatRange(1, 2000), default=DEMO_SPEED, show_default=True, help="Plant seconds per second.")
@feed_option
@click.option("--seed", type=int, default=1, show_default=True, help="Of the simulated noise and plant constants.")
@port_option
@influx_option
@data_option
@explained
def demo(recipe: str, param: tuple[str, ...], speed: float, feed: str, seed: int, port: int | None, influx: str | None, data: Path | None) -> None:
    """Run a whole batch on the simulated cell: eight devices over OPC UA, Modbus TCP and Modbus RTU."""
    from controller.app import Request, quiet_console, run_cell

    _log_transitions()
    if data is None:
        data = data_home() / "demo" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    console = quiet_console()
    path = cell_path("demo")
    cell = load_cell(path, speed=speed)
    parameters = pairs(param, "NAME=VALUE")
    _check_recipe(cell, recipe, parameters)
    forward = _influx(influx, cell)
    clock = LiveClock.now(speed)
    free = {name: str(replace(row.device.address, port=0)) for name, row in cell.plan.devices.items() if row.device.address.port}
    console.print(f"Starting the simulated cell {cell.plan.id} ({len(cell.plan.devices)} devices) at {speed:g} x plant time ...", highlight=False)
    with simulated_cell(cell, data, clock, seed=seed, feed=feed, addresses=free) as simulator:
        for name, address in simulator.endpoints.items():
            console.print(f"  {name:14} {address}", highlight=False)
        cell = load_cell(path, addresses=simulator.endpoints, speed=speed)
        request = Request(cell, data, clock, recipe, parameters, port, forward, leave=True)
        status = asyncio.run(run_cell(request, console))
        truth = simulator.ask(do="truth").get("truth", {})
    if truth:
        known = {name: truth[name] for name in ("purity", "recovery") if name in truth}
        if known:
            console.print(f"The simulator's own ledger (not known to the service): {json.dumps(known)}", highlight=False)
    sys.exit(status)


@main.command()
@click.argument("cell")
@click.option("--recipe", help="Start this recipe (a name in the library, or a file) when every device answers.")
@param_option
@device_option
@click.option(
    "--speed",
    type=click.FloatRange(1, 2000),
    default=1.0,
    show_default=True,
    help="Plant seconds per second; above 1 only with simulators that share the clock.",
)
@click.option("--epoch", type=int, help="Monotonic ns at which a simulator's plant clock began (simulate prints it).")
@click.option("--start", type=int, help="Plant clock at that moment, ns UTC.")
@click.option("--leave", is_flag=True, help="End when the batch does; exit status 0 only if its lot is released.")
@port_option
@influx_option
@data_option
@explained
def run(
    cell: str,
    recipe: str | None,
    param: tuple[str, ...],
    device: tuple[str, ...],
    speed: float,
    epoch: int | None,
    start: int | None,
    leave: bool,
    port: int | None,
    influx: str | None,
    data: Path | None,
) -> None:
    """Run the service on CELL (a file, or the name of a cell that comes with the product)."""
    from controller.app import Request, quiet_console, run_cell

    _log_transitions()
    loaded = load_cell(cell_file(cell), addresses=pairs(device, "NAME=ADDRESS"), speed=speed)
    parameters = pairs(param, "NAME=VALUE")
    if speed != 1.0 and not loaded.plan.simulated:
        raise click.BadParameter(f"cell {loaded.plan.id} is not simulated; a real plant runs at speed 1, got {speed:g}", param_hint="--speed")
    if recipe is not None:
        _check_recipe(loaded, recipe, parameters)
    clock = LiveClock.now(speed)
    if epoch is not None and start is not None:
        clock = LiveClock(speed, epoch, start)
    folder = data or data_home() / loaded.plan.id
    request = Request(loaded, folder, clock, recipe, parameters, port, _influx(influx, loaded), leave)
    sys.exit(asyncio.run(run_cell(request, quiet_console())))


@main.command()
@click.argument("cell", default="demo")
@click.option("--speed", type=click.FloatRange(0.1, 2000), default=1.0, show_default=True, help="Plant seconds per second.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the simulated noise, jams and random faults.")
@click.option("--instance", type=int, help="Seed of a plant instance: assumed constants drawn from their ranges. The nominal plant if left out.")
@feed_option
@click.option(
    "--fault", multiple=True, metavar="FAULT", help="TAG:KIND[=SIZE][@START[+DURATION]], such as AT-201:drift=0.05/h@2h; see the page on faults."
)
@click.option("--random-faults", type=click.FloatRange(0, 1000), default=0.0, show_default=True, help="Faults that begin in an hour of plant time.")
@data_option
@explained
def simulate(
    cell: str, speed: float, seed: int, instance: int | None, feed: str, fault: tuple[str, ...], random_faults: float, data: Path | None
) -> None:
    """Serve the simulated devices of CELL alone, at the addresses of the cell file, until Ctrl-C."""
    loaded = load_cell(cell_file(cell))
    folder = data or data_home() / loaded.plan.id
    folder.mkdir(parents=True, exist_ok=True)
    clock = LiveClock.now(speed)
    click.echo(f"blackmass run {cell} --speed {speed:g} --epoch {clock.epoch} --start {clock.start} --data {folder}", err=True)
    more = ["--text", "--random-faults", str(random_faults), *(part for text in fault for part in ("--fault", text))]
    if instance is not None:
        more += ["--instance", str(instance)]
    arguments = command_line(loaded, folder, clock, seed=seed, feed=feed, addresses={}, more=more)
    os.execv(arguments[0], arguments)


def _find(data: Path | None, batch: str | None = None) -> Path:
    """Return the data directory that holds a batch, the newest first; raise `JournalError` if there is none."""
    if data is not None:
        return data
    found = sorted(data_home().glob("**/journal.sqlite"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        if batch is None or any(state.id == batch for state in JournalReader(path).batches()):
            return path.parent
    raise JournalError(f"no journal{f' with batch {batch}' if batch else ''} below {data_home()}; give the data directory of the service with --data")


@main.command()
@data_option
@explained
def batches(data: Path | None) -> None:
    """List the batches of a data directory (the newest one unless --data says which)."""
    folder = _find(data)
    table = Table(title=str(folder), title_justify="left")
    for name in ("Batch", "Recipe", "State", "Started (plant)", "Plant time", "Purity", "Released"):
        table.add_column(name)
    for state in JournalReader(folder / "journal.sqlite").batches():
        begun = datetime.fromtimestamp(state.started, UTC).strftime("%Y-%m-%d %H:%M")
        hours = "" if state.ended is None else f"{(state.ended - state.started) / 3600:.1f} h"
        purity = state.records.get("release.purity")
        released = {None: "", True: "yes", False: "NO"}[state.released]
        table.add_row(
            state.id,
            f"{state.recipe} v{state.version}",
            str(state.state),
            begun,
            hours,
            "" if purity is None else f"{purity:.2f} %",
            released,
        )
    Console().print(table)


@main.command()
@click.argument("batch")
@click.option("--cell", default="demo", show_default=True, help="The cell file that the batch ran on.")
@click.option("--html", "to", type=click.Path(dir_okay=False, path_type=Path), help="Write the report with its trends here too.")
@data_option
@explained
def report(batch: str, cell: str, to: Path | None, data: Path | None) -> None:
    """Print the report of BATCH."""
    from controller.app import make_report
    from controller.batch.report import html
    from controller.terminal import report_text

    made = make_report(_find(data, batch), batch, load_cell(cell_file(cell)))
    if to is not None:
        to.write_text(html(made), encoding="utf-8")
    Console().print(report_text(made), highlight=False)
    sys.exit(0 if made.state.released else 1)


@main.command()
@click.argument("batch")
@click.option("--to", required=True, type=click.Path(file_okay=False, path_type=Path), help="A folder that does not exist yet, or is empty.")
@data_option
@explained
def export(batch: str, to: Path, data: Path | None) -> None:
    """Export BATCH: telemetry, events, recipe, and a manifest with their hashes."""
    from dataclasses import asdict

    from controller.historian.export import export_batch
    from controller.historian.reader import HistorianReader

    folder = _find(data, batch)
    journal = JournalReader(folder / "journal.sqlite")
    state, text, _ = journal.batch(batch)
    entries = journal.entries(batch)
    rows = [asdict(entry) for entry in entries]
    stop = state.ended if state.ended is not None else max((entry.plant for entry in entries), default=state.started)
    export_batch(HistorianReader(folder), rows, text, to, state.started, stop)
    click.echo(f"{batch} is in {to}: {', '.join(sorted(path.name for path in to.iterdir()))}")


@main.command("influx-setup")
@click.argument("cell", default="demo")
@click.option("--retention", type=click.FloatRange(0), default=0.0, show_default=True, help="Days that the bucket keeps; 0 keeps all.")
@influx_option
@explained
def influx_setup(cell: str, retention: float, influx: str | None) -> None:
    """Create the bucket that CELL is streamed to, if it is missing."""
    from controller.historian.influx import setup

    settings = _influx(influx, load_cell(cell_path(cell)))
    if settings is None:
        raise ValueError(f"cell {cell} has no [influx] table; give the URL with --influx")
    made = setup(settings, retention=retention * 86400.0)
    click.echo(f"bucket {settings.bucket} at {settings.url}: {'created' if made else 'is there already'}")


@main.command()
@click.argument("verb", type=click.Choice([str(verb) for verb in Verb if verb is not Verb.START], case_sensitive=False))
@click.option("--why", default="", help="Goes to the journal.")
@click.option("--who", default=lambda: os.environ.get("USER", "operator"), help="Goes to the journal.")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The page of the running service.")
@explained
def command(verb: str, why: str, who: str, url: str) -> None:
    """Send HOLD, RESTART, PAUSE, RESUME, STOP, ABORT or RESET to the running batch."""
    _post(url, {"do": "transition", "verb": verb.upper(), "who": who, "why": why})
    click.echo(f"{verb.upper()} accepted and journaled.")


def _post(url: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{url.rstrip('/')}/api/commands",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Blackmass": "1", "Origin": url.rstrip("/")},
    )
    try:
        with urllib.request.urlopen(request, timeout=5.0):
            return
    except urllib.error.HTTPError as error:
        try:
            why = json.loads(error.read()).get("why") or f"HTTP {error.code}"
        except ValueError:
            why = f"HTTP {error.code}"
        raise ValueError(f"refused: {why}") from None
    except urllib.error.URLError as error:
        raise ValueError(f"no service answers at {url}: {error.reason}; give its page with --url") from None


@main.command()
@click.argument("cell", required=False)
@device_option
@data_option
@explained
def doctor(cell: str | None, device: tuple[str, ...], data: Path | None) -> None:
    """Check this machine: versions, clock, disk, SQLite, and the link to each device of CELL."""
    from controller.doctor import examine

    loaded = load_cell(cell_file(cell), addresses=pairs(device, "NAME=ADDRESS")) if cell else None
    folder = data or data_home() / (loaded.plan.id if loaded else "")
    findings = asyncio.run(examine(loaded, folder))
    table = Table(show_header=False, box=None)
    for finding in findings:
        table.add_row("ok" if finding.good else "[bold red]NOT OK[/]", finding.what, finding.says)
    Console().print(table, highlight=False)
    sys.exit(0 if all(finding.good for finding in findings) else 1)


if __name__ == "__main__":
    main()
