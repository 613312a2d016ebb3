"""Commands of the command line for OPC UA: certificates, and a profile drafted from a server's address space."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.cli_options import data_home, explained, show
from drivers.device import Address, AddressError, Device, Policy, Profile, Security, load_profile
from drivers.source import BadInput

if TYPE_CHECKING:
    from drivers.opcua_browse import Survey

__all__ = ["OPCUA_COMMANDS"]

_PATIENCE = 5.0  # [s] for each request of a browse
_TOPS = 8  # paths in a sentence
_SHOWN = 200  # rows of a table; all are in the profile

store_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Data directory of the cell; if left out, the one whose certificates changed last.",
)


def _store(data: Path | None) -> Path:
    """Return the data directory that was named, or the newest one with certificates."""
    if data is not None:
        return data
    found = sorted(data_home().glob("**/pki"), key=lambda path: path.stat().st_mtime, reverse=True)
    return found[0].parent if found else data_home()


@click.command()
@store_option
@explained
def certificates(data: Path | None) -> None:
    """List the OPC UA certificates of a data directory: our own (made if there is none), those that are trusted, those that were refused."""
    from drivers.opcua_certificate import days_left, fingerprint, subject
    from drivers.opcua_pki import Entry, Pki, PkiError

    pki = Pki(_store(data))
    try:
        own = pki.own()
    except PkiError as error:
        raise ValueError(str(error)) from None
    rows = [Entry("own", pki.folder / "own" / "certificate.der", own.certificate)]
    rows += [entry for kind in ("trusted", "issuers", "rejected") for entry in pki.entries(kind)]
    table = Table("", "subject", "expires", "days", "fingerprint (SHA-256)", box=None)
    now = datetime.now(UTC)
    for entry in rows:
        left = days_left(entry.certificate, now)
        style = "bold red" if left < 0 else "yellow" if left < 30 else ""
        mark = fingerprint(entry.certificate)
        ends = f"{entry.certificate.not_valid_after_utc:%Y-%m-%d}"
        table.add_row(entry.kind, Text(subject(entry.certificate)), ends, f"{left:.0f}", mark, style=style)
    click.echo(f"certificates in {pki.folder}; our application is {own.uri}")
    Console(width=max(Console().width, 150)).print(table, highlight=False)


@click.command()
@click.argument("what", metavar="FINGERPRINT|FILE")
@store_option
@explained
def trust(what: str, data: Path | None) -> None:
    """Trust the OPC UA server whose certificate was refused (by the start of its fingerprint), or whose certificate, or issuer, is in FILE."""
    from drivers.opcua_certificate import days_left, fingerprint, may_issue, subject
    from drivers.opcua_pki import Pki, PkiError

    try:
        entry = Pki(_store(data)).trust(what)
    except PkiError as error:
        raise ValueError(str(error)) from None
    left = days_left(entry.certificate, datetime.now(UTC))
    issuer = ", and every certificate that it has issued for the host at which it is used" if may_issue(entry.certificate) else ""
    click.echo(f"trusted from now on: {subject(entry.certificate)}{issuer}")
    click.echo(
        f"fingerprint {fingerprint(entry.certificate)}, "
        + (f"expires in {left:.0f} days" if left > 0 else "but it has EXPIRED, so it will be refused")
    )
    click.echo(f"kept as {entry.path}; a running service takes it within seconds")


@click.command()
@click.argument("url")
@click.option("--include", multiple=True, metavar="GLOB", help="Only browse paths like this, such as 'Press/*'; may be given several times.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="No browse paths like this.")
@click.option(
    "--security", type=click.Choice(get_args(Policy)), default="Basic256Sha256", show_default=True, help="Security policy; none has to be asked for."
)
@click.option("--mode", type=click.Choice(["sign", "sign_and_encrypt"]), default="sign_and_encrypt", show_default=True)
@click.option("--user", default="", help="User name; anonymous if left out.")
@click.option("--password-file", type=click.Path(path_type=Path), help="File of mode 0600 with the password.")
@click.option("--write", "to", type=click.Path(dir_okay=False, path_type=Path), help="Draft a profile into this new file.")
@click.option("--writable", is_flag=True, help="Draft what can be written as outputs, instead of as comments.")
@click.option("--depth", type=click.IntRange(1, 100), default=12, show_default=True, help="Levels below Objects.")
@click.option("--nodes", type=click.IntRange(1, 1_000_000), default=20_000, show_default=True, help="Nodes at most.")
@click.option("--seconds", type=click.FloatRange(1, 3600), default=60.0, show_default=True, help="Time at most.")
@store_option
@explained
def browse(
    url: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    security: Policy,
    mode: str,
    user: str,
    password_file: Path | None,
    to: Path | None,
    writable: bool,
    depth: int,
    nodes: int,
    seconds: float,
    data: Path | None,
) -> None:
    """Walk through the address space of the OPC UA server at URL, and draft a device profile from it. Nothing is written to the server."""
    from drivers.opcua_browse import Bounds
    from drivers.opcua_draft import draft_profile

    try:
        address = Address.parse(url)
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="URL") from None
    if address.protocol != "opcua":
        raise click.BadParameter(f"expected opc.tcp://HOST:PORT, got {url}", param_hint="URL")
    if user and password_file is None:
        raise click.BadParameter(f"user {user!r} needs a --password-file of mode 0600", param_hint="--user")
    if to is not None and to.exists():
        raise click.BadParameter(f"{to} is there already; choose another name, or move it away", param_hint="--write")
    secret = "" if password_file is None else str(password_file.absolute())
    how = Security(security, "sign" if mode == "sign" else "sign_and_encrypt", user, secret)
    survey = asyncio.run(_survey(address, how, _store(data), Bounds(depth, nodes, seconds)))
    draft = draft_profile(survey, _name(to, address), include=include or ("*",), exclude=exclude, writable=writable)
    if survey.variables and not (draft.signals or draft.methods or draft.left):
        tops = dict.fromkeys("/".join(one.path[:2]) for one in survey.variables)
        few = ", ".join(list(tops)[:_TOPS]) + (f" and {len(tops) - _TOPS} more" if len(tops) > _TOPS else "")
        raise click.BadParameter(f"nothing here is like that; there are {few}", param_hint="--include, --exclude")
    if to is None:
        _show(survey, include or ("*",), exclude)
    click.echo(f"{survey.server or url}: {draft.signals} signals, {draft.methods} methods, {len(draft.left)} left out")
    if survey.cut:
        click.echo(f"not all was seen: {survey.cut}; see --depth, --nodes and --seconds")
        unseen = sum(not one.seen for one in survey.variables)
        untold = sum(one.seen and not one.told for one in survey.variables)
        if unseen or untold:
            click.echo(f"and of what was seen, {unseen} variables could not be read in time, and of {untold} eu and range were not asked for")
    if to is not None:
        to.write_text(draft.text, encoding="utf-8")
        sys.exit(_judge(to))


async def _survey(address: Address, security: Security, data: Path, bounds: object) -> Survey:
    from drivers.opcua_browse import Bounds, walk
    from drivers.opcua_client import FAILURES, connect, disconnect, new_client, why_of

    assert isinstance(bounds, Bounds)
    nothing = Profile.model_construct(id="", description="", protocol="opcua", signals={}, methods={})  # a server is all that is known
    device = Device("server", nothing, address, security=security)
    client = new_client(device, _PATIENCE)
    try:
        await connect(client, device, data)
        return await walk(client, bounds)
    except FAILURES as error:
        hint = "; check the address and that the server is on" if isinstance(error, OSError) else ""
        raise ValueError(f"{address}: {why_of(error, _PATIENCE)}{hint}") from None
    finally:
        await disconnect(client)


def _name(to: Path | None, address: Address) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", to.stem if to is not None else address.host).strip("_") or "device"


def _show(survey: Survey, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
    from drivers.opcua_draft import choose, signal_type, unit_of

    table = Table("browse path", "type", "eu", "range", "access", "value", box=None)
    chosen = [one for one in survey.variables if choose(include, one.path) and not choose(exclude, one.path)]
    for one in chosen[:_SHOWN]:
        kind = signal_type(one) or f"{one.type}{'[]' if one.rank >= 0 else ''}"
        limits = f"{one.range[0]:g} to {one.range[1]:g}" if one.range is not None else "" if one.told else "?"
        unit = unit_of(one)
        access = ("read" if one.readable else "") + (" write" if one.writable else "")
        table.add_row(
            Text("/".join(one.path)),
            kind,
            Text("?" if not one.told else unit if unit is not None else one.unit[1] if one.unit else ""),
            limits,
            access,
            Text("" if one.value is None else f"{one.value}"[:40]),
            style="" if signal_type(one) is not None and one.readable else "dim",
        )
    show(table)
    if len(chosen) > _SHOWN:
        click.echo(f"and {len(chosen) - _SHOWN} more variables")
    for method in survey.methods:
        if choose(include, method.path) and not choose(exclude, method.path):
            taken = ", ".join(f"{one.name}: {one.type}" for one in method.inputs or ())
            click.echo(f"method {'/'.join(method.path)}({taken})")


def _judge(path: Path) -> int:
    """Say what is still to do with a drafted profile; return the exit status."""
    try:
        profile = load_profile(path)
    except BadInput as error:
        click.echo(f"{path} is drafted, and is not complete yet:")
        for problem in error.problems:
            click.echo(f"  {problem}")
        click.echo("Look at every line that has a comment, then: blackmass check on a cell file that uses it.")
        return 1
    click.echo(f"{path} is drafted: profile {profile.id}. Look at every line that has a comment before a cell uses it.")
    return 0


OPCUA_COMMANDS = (browse, certificates, trust)
