"""`blackmass call`: a method of a device, called once by a person."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from controller.cli_options import NOT_KNOWN, cell_file, data_home, data_option, device_of, device_option, explained, meant, pairs
from controller.config import load_cell
from drivers import eu
from drivers.device import Argument, Device, Method
from drivers.driver import CallOutcome, Driver, WriteResult

__all__ = ["call"]

_LINK_WITHIN = 3.0  # [s] for the link to come up
_STATUS = {WriteResult.CONFIRMED: 0, WriteResult.UNKNOWN: NOT_KNOWN}  # anything else: nothing has changed


@click.command()
@click.argument("name", metavar="DEVICE")
@click.argument("method")
@click.argument("inputs", nargs=-1, metavar="[INPUT=VALUE]...")
@click.option("--cell", default="demo", show_default=True, help="The cell file that names the device.")
@click.option("--yes", is_flag=True, help="Do not ask: for scripts.")
@click.option("--heartbeat", is_flag=True, help="Write the device's heartbeat once before: in its safe state a device takes no call.")
@click.option("--within", type=click.FloatRange(0.1, 600), default=5.0, show_default=True, help="Seconds that the answer may take.")
@click.option("--why", default="", help="Goes to the journal.")
@click.option("--who", default=lambda: os.environ.get("USER", "operator"), help="Goes to the journal.")
@device_option
@data_option
@explained
def call(
    name: str,
    method: str,
    inputs: tuple[str, ...],
    cell: str,
    yes: bool,
    heartbeat: bool,
    within: float,
    why: str,
    who: str,
    device: tuple[str, ...],
    data: Path | None,
) -> None:
    """Call METHOD of an OPC UA DEVICE once, with inputs such as speed='50 %', and print what came of it.

    It is shown first, and asked for a yes. Not while a service runs the cell. Never repeated.
    Exit status 0 confirmed, 1 refused or not sent, 4 not known.
    """
    from controller.batch.journal import Journal
    from controller.batch.records import Event
    from controller.runtime.clock import LiveClock
    from controller.runtime.lock import DataInUseError, lock

    plan = load_cell(cell_file(cell), addresses=pairs(device, "NAME=ADDRESS")).plan
    found = device_of(plan, name)
    methods = found.profile.methods
    if method not in methods:
        raise click.BadParameter(f"profile {found.profile.id} has no method {method!r}; {meant(method, methods)}", param_hint="METHOD")
    if heartbeat and found.profile.heartbeat is None:
        raise click.BadParameter(f"profile {found.profile.id} has no heartbeat", param_hint="--heartbeat")
    values = _values(found, methods[method], pairs(inputs, "INPUT=VALUE"))
    sent = _sent(found, methods[method], values)
    folder = data or data_home() / plan.id
    try:
        held = lock(folder)
    except DataInUseError as error:
        raise ValueError(
            f"{error.owner} runs cell {plan.id}, and would not know of this call; stop it first, or write the signals of {name}"
        ) from None
    with held:
        _show(found, method, values, sent, heartbeat=heartbeat)
        if not yes and not _asked(name, method):
            click.echo("Not called.")
            sys.exit(1)
        journal = Journal(folder / "journal.sqlite")
        try:
            intent = Event("command", "call", "", _said(found, method, values), who, why)
            clock = LiveClock.now(1.0)
            journal.append("", clock.plant(), clock.wall(), [intent])
            outcome = asyncio.run(_call(found, method, values, folder, within, heartbeat=heartbeat))
            journal.append("", clock.plant(), clock.wall(), [Event("device", f"{name}.{method}", "", outcome.result.value, why=outcome.why)])
        finally:
            journal.close()
    _tell(found, methods[method], outcome)
    sys.exit(_STATUS.get(outcome.result, 1))


def _eu(device: Device, argument: Argument) -> str:
    """Return the eu in which a person gives an input."""
    return device.profile.signals[argument.writes].eu if argument.writes else argument.eu


def _values(device: Device, method: Method, texts: Mapping[str, str]) -> dict[str, float]:
    """Return the inputs [eu of the signal that each is for, else its own], in the order of the profile; raise `click.BadParameter`."""
    for label in texts:
        if label not in method.inputs:
            raise click.BadParameter(f"the method has no input {label!r}; {meant(label, method.inputs)}", param_hint="INPUT")
    if missing := [label for label in method.inputs if label not in texts]:
        wanted = ", ".join(f"{label}={_example(device, method.inputs[label])}" for label in missing)
        raise click.BadParameter(f"it also takes {wanted}", param_hint="INPUT")
    values = {}
    for label, argument in method.inputs.items():
        unit, text = _eu(device, argument), texts[label]
        try:
            given = {"true": eu.Quantity(1.0, ""), "false": eu.Quantity(0.0, "")}.get(text.lower()) if argument.type == "bool" else None
            given = given or eu.parse(text)
            values[label] = given.to(unit) if given.eu else given.value
        except eu.EuError as error:
            raise click.BadParameter(f"{label}: {error}", param_hint="INPUT") from None
    return values


def _example(device: Device, argument: Argument) -> str:
    if argument.type == "bool":
        return "true|false"
    unit = _eu(device, argument)
    return f"'VALUE {unit}'" if unit else "VALUE"


def _sent(device: Device, method: Method, values: Mapping[str, float]) -> list[object]:
    """Return what stands on the wire for the inputs; raise `click.BadParameter` for what is out of range or does not fit its type."""
    from drivers.opcua_method import wire_inputs

    try:
        return [one.Value for one in wire_inputs(device.profile, method, values)]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="INPUT") from None


def _said(device: Device, method: str, values: Mapping[str, float]) -> str:
    inputs = device.profile.methods[method].inputs
    parts = (f"{label} {value:.6g} {_eu(device, inputs[label])}".rstrip() for label, value in values.items())
    return f"{device.name}.{method}({', '.join(parts)})"


def _show(device: Device, name: str, values: Mapping[str, float], sent: Iterable[object], *, heartbeat: bool) -> None:
    method = device.profile.methods[name]
    click.echo(f"{device.name}.{name} at {device.address}, {method.at}" + (f": {method.description}" if method.description else ""))
    for (label, argument), wire in zip(method.inputs.items(), sent, strict=True):
        unit = _eu(device, argument)
        line = f"  {label} = {values[label]:.6g} {unit}".rstrip()
        if argument.writes:
            low, high = device.profile.signals[argument.writes].range
            line += f", for {argument.writes} ({low:g} to {high:g}{f' {unit}' if unit else ''})"
        click.echo(line + (f", sent as {wire} {'' if argument.eu == '1' else argument.eu}".rstrip() if argument.eu != unit else ""))
    if heartbeat and (beat := device.profile.heartbeat):
        click.echo(f"  first its heartbeat is written once: if it is in its safe state, it leaves that for {beat.timeout:g} s")


def _asked(device: str, method: str) -> bool:
    """Ask a person; raise `click.UsageError` where there is none."""
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to say yes: this is no terminal; a script gives --yes")
    return click.confirm(f"Call {method} of {device} now?")


async def _call(device: Device, method: str, values: dict[str, float], data: Path, within: float, *, heartbeat: bool) -> CallOutcome:
    from drivers.connect import open_driver

    driver = open_driver(device, data=data, timeout=within)
    async with driver:
        end = time.monotonic() + max(_LINK_WITHIN, within)
        reading = await driver.read()
        while not driver.metrics.connected and time.monotonic() < end:
            await asyncio.sleep(0.05)
            reading = await driver.read()
        if not driver.metrics.connected:
            return CallOutcome(method, WriteResult.NOT_SENT, why=driver.metrics.why)
        if heartbeat and device.profile.heartbeat is not None:
            beat = device.profile.heartbeat.signal
            if why := await _beat(driver, beat, float(reading.values[device.profile.place(beat)])):
                return CallOutcome(method, WriteResult.NOT_SENT, why=f"its heartbeat {beat} was not taken: {why}")
        return await driver.call(method, values)


async def _beat(driver: Driver, signal: str, before: float) -> str:
    """Write another heartbeat than `before`; return why it was not taken."""
    one, other = map(driver.device.profile.beat, (1, 2))
    [outcome] = await driver.write({signal: other if one == before else one})
    return "" if outcome.result is WriteResult.CONFIRMED else outcome.why or outcome.result.value


def _tell(device: Device, method: Method, outcome: CallOutcome) -> None:
    """Print what is known, and the outputs with their eu as far as the profile names them."""
    click.echo(f"{outcome.result.value}" + (f": {outcome.why}" if outcome.why else ""))
    declared = list(method.outputs.items())
    for place, value in enumerate(outcome.outputs):
        label, unit = (declared[place][0], declared[place][1].eu) if place < len(declared) else (f"output {place + 1}", "")
        click.echo(f"  {label} = {'no number' if math.isnan(value) else f'{value:.6g}'} {unit}".rstrip())
    if outcome.result is WriteResult.CONFIRMED and len(outcome.outputs) != len(declared):
        click.echo(f"  the profile names {len(declared)} outputs, and the device gave {len(outcome.outputs)}")
    if outcome.result is WriteResult.UNKNOWN:
        click.echo("It may or may not have happened: look at the device before you call again.", err=True)
    elif "BadInvalidState" in outcome.why and device.profile.heartbeat is not None:
        click.echo("A device whose heartbeat stands still is in its safe state, and takes nothing there; see --heartbeat.", err=True)
