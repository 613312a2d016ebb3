"""The command line."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import math
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table

import controller
from controller.batch.journal import JournalError, JournalReader
from controller.config import LoadedCell, cell_path, load_cell
from controller.core.states import Verb
from controller.demo import SimulatorError, SimulatorRefusedError, command_line, simulated_cell
from controller.runtime.batches import Library
from controller.runtime.clock import LiveClock
from drivers.source import BadInput, Position, Problem
from recipes.formula import BadFormula, bind_formula

P = ParamSpec("P")
R = TypeVar("R")

DEMO_SPEED = 540.0  # see docs/explanation/decisions/0004-time-in-the-demo.md
BAD_INPUT, NOT_POSSIBLE = 2, 3  # exit statuses
_CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}


def data_home() -> Path:
    """Return where data directories are kept unless ``--data`` says otherwise."""
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "blackmass"


def _explained(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that a person can mend into one message and an exit status."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # imported late: the drivers and the page are not needed by `check` and `batches`
        from controller.face import PortTakenError
        from controller.historian.reader import HistorianError
        from controller.runtime.service import DataInUseError

        try:
            return function(*args, **kwargs)
        except BadInput as error:
            for problem in error.problems:
                click.echo(str(problem), err=True)
            click.echo(f"{len(error.problems)} problem{'s' if len(error.problems) > 1 else ''}; nothing was started.", err=True)
            sys.exit(BAD_INPUT)
        except SimulatorRefusedError as error:  # it has said on standard error what it does not take
            click.echo(f"blackmass: {error}", err=True)
            sys.exit(BAD_INPUT)
        except (JournalError, DataInUseError, PortTakenError, SimulatorError, HistorianError, ValueError, OSError) as error:
            click.echo(f"blackmass: {error}", err=True)
            if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
                click.echo("Free some disk, see who may write there, or choose another place (--data, --to, --html).", err=True)
            sys.exit(NOT_POSSIBLE)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(controller.__version__, prog_name="blackmass")
@click.option("--verbose", is_flag=True, help="Log every transition of links and services.")
def main(verbose: bool) -> None:
    """Process control and telemetry for a modular battery-recycling unit. Not a safety system."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("asyncua", "pymodbus", "influxdb_client"):  # they log what our drivers report once, in their words
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def _pairs(texts: Iterable[str], what: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key.strip() or not value.strip():
            raise click.BadParameter(f"expected {what}, got {text!r}")
        pairs[key.strip()] = value.strip()
    return pairs


def _cell_file(name: str) -> Path:
    """Return the file of CELL; raise `BadInput` that names the known ones if it is neither a file nor one of them."""
    path = cell_path(name)
    if not path.suffix and not path.exists():
        known = ", ".join(sorted(file.stem for file in cell_path("demo").parent.glob("*.toml")))
        raise BadInput([Problem(Position(name), f"no such file, and no such cell; with the product come {known}")])
    return path


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


data_option = click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Data directory (journal, telemetry, reports).")
port_option = click.option("--port", type=click.IntRange(0, 65535), help="Port of the page on 127.0.0.1; 0 takes a free one.")
influx_option = click.option("--influx", metavar="URL", help="Stream telemetry to this InfluxDB 2; the token is read from BLACKMASS_INFLUX_TOKEN.")
device_option = click.option("--device", multiple=True, metavar="NAME=ADDRESS", help="Address of a device instead of the one in the cell file.")
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
@_explained
def demo(recipe: str, param: tuple[str, ...], speed: float, feed: str, seed: int, port: int | None, influx: str | None, data: Path | None) -> None:
    """Run a whole batch on the simulated cell: eight devices over OPC UA, Modbus TCP and Modbus RTU."""
    from controller.app import Request, quiet_console, run_cell

    if data is None:
        data = data_home() / "demo" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    console = quiet_console()
    path = cell_path("demo")
    cell = load_cell(path, speed=speed)
    parameters = _pairs(param, "NAME=VALUE")
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
@_explained
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

    loaded = load_cell(_cell_file(cell), addresses=_pairs(device, "NAME=ADDRESS"), speed=speed)
    parameters = _pairs(param, "NAME=VALUE")
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
@_explained
def simulate(
    cell: str, speed: float, seed: int, instance: int | None, feed: str, fault: tuple[str, ...], random_faults: float, data: Path | None
) -> None:
    """Serve the simulated devices of CELL alone, at the addresses of the cell file, until Ctrl-C."""
    loaded = load_cell(_cell_file(cell))
    folder = data or data_home() / loaded.plan.id
    folder.mkdir(parents=True, exist_ok=True)
    clock = LiveClock.now(speed)
    click.echo(f"blackmass run {cell} --speed {speed:g} --epoch {clock.epoch} --start {clock.start} --data {folder}", err=True)
    more = ["--text", "--random-faults", str(random_faults), *(part for text in fault for part in ("--fault", text))]
    if instance is not None:
        more += ["--instance", str(instance)]
    arguments = command_line(loaded, folder, clock, seed=seed, feed=feed, addresses={}, more=more)
    os.execv(arguments[0], arguments)


@main.command()
@click.argument("file")
@click.option("--online", is_flag=True, help="Read every tag of the cell once from its devices, too; nothing is written.")
@device_option
@data_option
@_explained
def check(file: str, online: bool, device: tuple[str, ...], data: Path | None) -> None:
    """Check a cell file or a recipe; name every mistake with file:line:column."""
    path = Path(file)
    if online:
        _check_online(load_cell(_cell_file(file), addresses=_pairs(device, "NAME=ADDRESS")), data)
        return
    if path.suffix in (".yaml", ".yml"):
        recipe = Library(_classes()).load(file)
        click.echo(
            f"{path}: recipe {recipe.id} version {recipe.version} is good: {sum(1 for _ in recipe.leaves())} steps on {len(recipe.units)} units"
        )
        return
    if not path.suffix and not path.exists() and (named := Library(_classes()).find(file)).is_file():
        recipe = Library(_classes()).load(str(named))
        click.echo(
            f"{named.name}: recipe {recipe.id} version {recipe.version} is good: {sum(1 for _ in recipe.leaves())} steps on {len(recipe.units)} units"
        )
        return
    plan = load_cell(_cell_file(file)).plan
    click.echo(
        f"{plan.file}: cell {plan.id} is good: {len(plan.devices)} devices, {len(plan.inputs)} inputs, {len(plan.outputs)} outputs, "
        f"{len(plan.loops.names)} loops, {len(plan.interlocks.names)} interlocks, {len(plan.alarms.names)} alarms, {len(plan.units)} units"
    )


def _check_online(cell: LoadedCell, data: Path | None) -> None:
    from controller.commissioning import look
    from drivers.tags import Quality

    rows = asyncio.run(look(cell.plan, data or data_home() / cell.plan.id))
    table = Table("tag", "signal", "value", "eu", "quality", "age", "round trip", "", box=None)
    for row in rows:
        bad = row.quality is Quality.BAD
        value = "—" if math.isnan(row.value) else f"{row.value:.6g}"
        timing = ("", "") if bad else (f"{row.age:.1f} s", f"{row.round_trip * 1e3:.1f} ms")
        table.add_row(row.tag, f"{row.device}.{row.signal}", value, row.eu, row.quality.name, *timing, row.why, style="bold red" if bad else "")
    Console().print(table, highlight=False)
    lost = sum(row.quality is Quality.BAD for row in rows)
    click.echo(f"{len(rows) - lost} of {len(rows)} tags can be used")
    sys.exit(1 if lost else 0)


@main.command()
@click.argument("cell")
@device_option
@_explained
def plan(cell: str, device: tuple[str, ...]) -> None:
    """Show what polling CELL asks of its wires: requests, time on serial lines, headroom. Exit status 1 if it does not fit."""
    from controller.commissioning import crowded, line_plans

    lines = line_plans(load_cell(_cell_file(cell), addresses=_pairs(device, "NAME=ADDRESS")).plan.devices.values())
    for line in lines:
        serial = any(one.time for one in line.devices)
        click.echo(f"{line.link}" + (f": reads take {line.busy:.0%} of its time, headroom {line.headroom:.0%}" if serial else ""))
        for one in line.devices:
            asked = f"{len(one.requests)} requests" if one.requests else "one read"
            spent = f", {one.time * 1e3:.1f} ms" if one.time else ""
            click.echo(f"  {one.device}: {one.signals} signals in {asked} every {one.period * 1e3:.0f} ms{spent}")
            for request in one.requests:
                last = request.address + request.count - 1
                click.echo(
                    f"    unit {one.unit} {request.table} {request.address} to {last}: {', '.join(request.names[:4])}"
                    + (f" and {len(request.names) - 4} more" if len(request.names) > 4 else "")
                )
    problems = [sentence for _, sentence in crowded(lines)]
    for sentence in problems:
        click.echo(sentence, err=True)
    sys.exit(1 if problems else 0)


@main.command()
@click.argument("name", metavar="DEVICE")
@click.argument("register")
@click.option("--cell", default="demo", show_default=True, help="The cell file that names the device.")
@click.option("--range", "limits", type=(float, float), metavar="LOW HIGH", help="Values expected; those of the signal declared there if left out.")
@click.option("--all", "every", is_flag=True, help="Show values outside of the range, too.")
@device_option
@data_option
@_explained
def probe(name: str, register: str, cell: str, limits: tuple[float, float] | None, every: bool, device: tuple[str, ...], data: Path | None) -> None:
    """Read REGISTER (input:12, holding:3) of a Modbus DEVICE and decode it in every way, the likeliest first. Nothing is written."""
    from drivers.modbus_codec import table_of
    from drivers.modbus_line import BadReply, DeviceSaidNo, LinkDown
    from drivers.modbus_probe import guesses, read_words

    rows = load_cell(_cell_file(cell), addresses=_pairs(device, "NAME=ADDRESS")).plan
    if name not in rows.devices:
        raise click.BadParameter(f"no device {name!r} in this cell; it has {', '.join(rows.devices)}", param_hint="DEVICE")
    found = rows.devices[name].device
    table, number = table_of(register)
    if found.address.protocol != "modbus" or table not in ("input", "holding"):
        raise click.BadParameter(f"expected input:N or holding:N of a Modbus device, got {register} of {found.address}", param_hint="REGISTER")
    declared = next(((signal, its) for signal, its in found.profile.signals.items() if its.at == register), None)
    low, high = limits or (declared[1].range if declared else (-1e4, 1e4))
    try:
        words = asyncio.run(read_words(found, table, number - found.profile.modbus.address_base, data or data_home() / rows.id))
    except (BadReply, DeviceSaidNo, LinkDown) as error:
        raise ValueError(f"{name} {register}: {error}; check the address, the unit and the table") from None
    about = f", declared as {declared[0]} [{declared[1].eu}] {declared[1].type}" if declared else ""
    click.echo(f"{name} {register}: words {' '.join(f'{word:04X}' for word in words)}{about}; looked for {low:g} to {high:g}")
    shown = Table("value", "type", "word order", "byte order", "scale", box=None)
    for guess in guesses(words, low, high):
        if guess.inside or every:
            shown.add_row(
                f"{guess.value:.6g}", guess.type, guess.word_order, guess.byte_order, f"{guess.scale:g}", style="" if guess.inside else "dim"
            )
    Console().print(shown, highlight=False)


def _classes() -> Any:
    from controller.config import class_file
    from recipes.classes import load_classes

    return load_classes(class_file())


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
@_explained
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
@_explained
def report(batch: str, cell: str, to: Path | None, data: Path | None) -> None:
    """Print the report of BATCH."""
    from controller.app import make_report
    from controller.batch.report import html
    from controller.terminal import report_text

    made = make_report(_find(data, batch), batch, load_cell(_cell_file(cell)))
    if to is not None:
        to.write_text(html(made), encoding="utf-8")
    Console().print(report_text(made), highlight=False)
    sys.exit(0 if made.state.released else 1)


@main.command()
@click.argument("batch")
@click.option("--to", required=True, type=click.Path(file_okay=False, path_type=Path), help="A folder that does not exist yet, or is empty.")
@data_option
@_explained
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
@_explained
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
@_explained
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
@_explained
def doctor(cell: str | None, device: tuple[str, ...], data: Path | None) -> None:
    """Check this machine: versions, clock, disk, SQLite, and the link to each device of CELL."""
    from controller.doctor import examine

    loaded = load_cell(_cell_file(cell), addresses=_pairs(device, "NAME=ADDRESS")) if cell else None
    folder = data or data_home() / (loaded.plan.id if loaded else "")
    findings = asyncio.run(examine(loaded, folder))
    table = Table(show_header=False, box=None)
    for finding in findings:
        table.add_row("ok" if finding.good else "[bold red]NOT OK[/]", finding.what, finding.says)
    Console().print(table, highlight=False)
    sys.exit(0 if all(finding.good for finding in findings) else 1)


if __name__ == "__main__":
    main()
