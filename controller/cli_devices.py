"""Commands of the command line for those who connect devices."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from controller.cli_options import cell_file, data_home, data_option, device_of, device_option, explained, pairs, show
from controller.config import LoadedCell, class_file, load_cell
from controller.runtime.batches import Library
from recipes.classes import UnitClass, load_classes

__all__ = ["COMMANDS"]

_NAMED = 4  # signals of a request
_CLOCK_OFF = 1.0  # [s] of a device's clock that is told


@click.command()
@click.argument("file")
@click.option("--online", is_flag=True, help="Read every tag of the cell once from its devices, too; nothing is written.")
@device_option
@data_option
@explained
def check(file: str, online: bool, device: tuple[str, ...], data: Path | None) -> None:
    """Check a cell file or a recipe; name every mistake with file:line:column."""
    path, addresses = Path(file), pairs(device, "NAME=ADDRESS")
    if online:
        _check_online(load_cell(cell_file(file), addresses=addresses), data)
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
    from controller.commissioning import unnoticed_orders

    plan = load_cell(cell_file(file), addresses=addresses).plan
    for sentence in unnoticed_orders(plan.devices.values()):
        click.echo(sentence, err=True)
    click.echo(
        f"{plan.file}: cell {plan.id} is good: {len(plan.devices)} devices, {len(plan.inputs)} inputs, {len(plan.outputs)} outputs, "
        f"{len(plan.loops.names)} loops, {len(plan.interlocks.names)} interlocks, {len(plan.alarms.names)} alarms, {len(plan.units)} units"
    )


def _check_online(cell: LoadedCell, data: Path | None) -> None:
    from controller.commissioning import look, unnoticed_orders
    from drivers.tags import Quality

    found = asyncio.run(look(cell.plan, data or data_home() / cell.plan.id))
    table = Table(box=None)
    for title in ("tag", "signal", "value", "eu", "quality", "age", "round trip", ""):
        table.add_column(title, overflow="fold")
    for device in found:
        trip = f"{device.round_trip * 1e3:.1f} ms" if math.isfinite(device.round_trip) else "—"
        for row in device.tags:
            bad = row.quality is Quality.BAD
            value = "—" if math.isnan(row.value) else f"{row.value:.6g}"
            timing = ("", "") if bad else (f"{row.age:.1f} s", trip)
            style = "bold red" if bad else ""
            table.add_row(row.tag, f"{device.device}.{row.signal}", value, row.eu, row.quality.name, *timing, row.why, style=style)
    show(table)
    for sentence in unnoticed_orders(cell.plan.devices.values()):
        click.echo(sentence, err=True)
    for device in found:
        if device.lost:
            click.echo(f"{device.device} is lost: {device.lost}")
        elif device.texts:
            click.echo(f"{device.device} says of itself: {', '.join(f'{name} {text}' for name, text in device.texts.items())}")
        if abs(device.ahead) >= _CLOCK_OFF:  # false for NaN
            where = f"{abs(device.ahead):.1f} s {'ahead of' if device.ahead > 0 else 'behind'}"
            click.echo(f"{device.device}: its newest time stamp is {where} this machine's clock; look at its clock, unless nothing changes there")
    qualities = [row.quality for device in found for row in device.tags]
    lost = qualities.count(Quality.BAD)
    click.echo(f"{len(qualities) - lost} of {len(qualities)} tags can be used")
    sys.exit(1 if lost else 0)


@click.command()
@click.argument("cell")
@device_option
@explained
def plan(cell: str, device: tuple[str, ...]) -> None:
    """Show what polling CELL asks of its wires: requests, time on serial lines, headroom, how soon a dead unit is back.

    Exit status 1 if it does not fit.
    """
    from controller.commissioning import crowded, line_plans, slow_returns, unclear_probes, unnoticed_orders

    rows = load_cell(cell_file(cell), addresses=pairs(device, "NAME=ADDRESS")).plan.devices.values()
    lines = line_plans(rows)
    for line in lines:
        serial = any(one.time for one in line.devices)
        click.echo(f"{line.link}" + (f": reads take {line.busy:.0%} of its time, headroom {line.headroom:.0%}" if serial else ""))
        for one in line.devices:
            spent = f", {one.time * 1e3:.1f} ms" if one.time else ""
            if one.turns:
                click.echo(f"  {one.device}: {one.signals} signals in {len(one.turns)} lines{spent}")
                for turn in one.turns:
                    said = f"{turn.send!r}" if turn.send else "sent by itself"
                    click.echo(f"    {said}: {_named(turn.signals)}, every {turn.period:g} s, {turn.time * 1e3:.1f} ms")
                continue
            asked = f"{len(one.requests)} requests" if one.requests else "one read"
            click.echo(f"  {one.device}: {one.signals} signals in {asked} every {one.period * 1e3:.0f} ms{spent}")
            for request in one.requests:
                last = request.address + request.count - 1
                click.echo(
                    f"    unit {one.unit} {request.table} {request.address} to {last}: {_named(request.names)}"
                    + (f", every {request.period:g} s" if request.period > one.period else "")
                )
            if one.texts:
                spent = f", {one.once * 1e3:.1f} ms" if one.once else ""
                click.echo(f"    unit {one.unit} texts: {', '.join(one.texts)}: once on connection, then every minute{spent}")
        if returns := line.returns:
            click.echo(f"  data {max(returns):.1f} s and a poll after a unit's return at most, while others of the {len(line.devices)} are dead")
    for sentence in [*unnoticed_orders(rows), *unclear_probes(lines), *slow_returns(lines)]:
        click.echo(sentence, err=True)
    problems = [sentence for _, sentence in crowded(lines)]
    for sentence in problems:
        click.echo(sentence, err=True)
    sys.exit(1 if problems else 0)


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


@click.command()
@click.argument("name", metavar="DEVICE")
@click.argument("register")
@click.option("--cell", default="demo", show_default=True, help="The cell file that names the device.")
@click.option("--range", "limits", type=(float, float), metavar="LOW HIGH", help="Values expected; those of the signal declared there if left out.")
@click.option("--all", "every", is_flag=True, help="Show values outside of the range, too.")
@device_option
@data_option
@explained
def probe(name: str, register: str, cell: str, limits: tuple[float, float] | None, every: bool, device: tuple[str, ...], data: Path | None) -> None:
    """Read REGISTER (input:12, holding:3) of a Modbus DEVICE and decode it in every way: as the profile declares it, then the likeliest first.

    Nothing is written.
    """
    from drivers.modbus_codec import registers_of, table_of
    from drivers.modbus_frames import BadReply, DeviceSaidNo, LinkDown
    from drivers.modbus_options import AT
    from drivers.modbus_probe import declared_guess, guesses, read_words

    rows = load_cell(cell_file(cell), addresses=pairs(device, "NAME=ADDRESS")).plan
    found = device_of(rows, name)
    base = found.profile.modbus.address_base
    table, number = table_of(register) if AT.fullmatch(register) else ("coil", 0)
    if found.address.protocol != "modbus" or table not in ("input", "holding") or not base <= number <= 65535 + base:
        what = f"expected input:N or holding:N of a Modbus device, with N from {base} to {65535 + base}"
        raise click.BadParameter(f"{what}, got {register} of {found.address}", param_hint="REGISTER")
    declared = {signal: its for signal, its in found.profile.signals.items() if table_of(its.at) == (table, number)}
    low, high = limits or next((its.range for its in declared.values()), (-1e4, 1e4))
    if not low < high:  # NaN is not
        raise click.BadParameter(f"expected LOW below HIGH, got {low:g} {high:g}", param_hint="--range")
    try:
        words = asyncio.run(read_words(found, table, number - base, data or data_home() / rows.id))
    except LinkDown as error:
        raise ValueError(f"{name} {register}: {error}" + ("; check the unit, and that nobody else polls the line" if error.sent else "")) from None
    except (BadReply, DeviceSaidNo) as error:
        raise ValueError(f"{name} {register}: {error}; check the address, the unit and the table") from None
    about = "".join(f", declared as {signal} [{its.eu}] {its.type}" for signal, its in declared.items())
    click.echo(f"{name} {register}: words {' '.join(f'{word:04X}' for word in words)}{about}; looked for {low:g} to {high:g}")
    shown = Table("value", "type", "word order", "byte order", "scale", "", box=None)
    taken = set()
    for signal, its in declared.items():
        guess = declared_guess(words, signal, its, found.profile.modbus)
        if guess is None:
            click.echo(f"{signal}, a {its.type}, takes {registers_of(its.type)} registers, and the device gave {len(words)}")
            continue
        if not guess.offset:
            taken.add((guess.type, guess.word_order, guess.byte_order, guess.scale))
        value = "no value" if math.isnan(guess.value) else f"{guess.value:.6g} {its.eu}".rstrip()
        scale = f"{guess.scale:g}" + (f" {guess.offset:+g}" if guess.offset else "")
        says = f"declared: {signal}" + ("" if guess.inside else f", outside of its range, {its.range[0]:g} to {its.range[1]:g} {its.eu}".rstrip())
        shown.add_row(value, guess.type, guess.word_order, guess.byte_order, scale, says, style="bold" if guess.inside else "bold red")
    known = shown.row_count
    for guess in guesses(words, low, high):
        if (guess.inside or every) and (guess.type, guess.word_order, guess.byte_order, guess.scale) not in taken:
            style = "" if guess.inside else "dim"
            shown.add_row(f"{guess.value:.6g}", guess.type, guess.word_order, guess.byte_order, f"{guess.scale:g}", "", style=style)
    if shown.row_count:
        show(shown)
    if shown.row_count == known:
        click.echo(f"nothing{' else' if known else ''} that these words can mean lies in {low:g} to {high:g}; give another --range, or --all")


def _classes() -> dict[str, UnitClass]:
    return load_classes(class_file())


COMMANDS = (check, plan, probe)
