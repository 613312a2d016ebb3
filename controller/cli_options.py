"""What the commands share: their options, and errors as a message and an exit status."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table

from controller.batch.journal import JournalError
from controller.config import cell_path
from controller.core.plan import CellPlan
from controller.demo import SimulatorError, SimulatorRefusedError
from drivers.device import Device
from drivers.source import BadInput, Position, Problem

__all__ = [
    "BAD_INPUT",
    "NOT_KNOWN",
    "NOT_POSSIBLE",
    "cell_file",
    "data_home",
    "data_option",
    "device_of",
    "device_option",
    "explained",
    "meant",
    "pairs",
    "show",
]

P = ParamSpec("P")
R = TypeVar("R")

BAD_INPUT, NOT_POSSIBLE, NOT_KNOWN = 2, 3, 4  # exit statuses
_WIDEST = 1000  # [characters] of a table
_CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}


def data_home() -> Path:
    """Return where data directories are kept unless ``--data`` says otherwise."""
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "blackmass"


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that a person can mend into one message and an exit status."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # imported late: the drivers and the page are not needed by `check` and `batches`
        from controller.face import PortTakenError
        from controller.historian.reader import HistorianError
        from controller.runtime.lock import DataInUseError

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


def show(table: Table) -> None:
    """Print a table: folded to a terminal's width, else as wide as it is, so that what is piped elsewhere has a row a line."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, console.measure(table, options=console.options.update(width=_WIDEST)).maximum))
    console.print(table, highlight=False)


def pairs(texts: Iterable[str], what: str) -> dict[str, str]:
    """Return texts of the form KEY=VALUE as a dict; raise `click.BadParameter` with `what` was expected."""
    found = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key.strip() or not value.strip():
            raise click.BadParameter(f"expected {what}, got {text!r}")
        found[key.strip()] = value.strip()
    return found


def cell_file(name: str) -> Path:
    """Return the file of CELL; raise `BadInput` that names the known ones if it is neither a file nor one of them."""
    path = cell_path(name)
    if not path.suffix and not path.exists():
        known = ", ".join(sorted(file.stem for file in cell_path("demo").parent.glob("*.toml")))
        raise BadInput([Problem(Position(name), f"no such file, and no such cell; with the product come {known}")])
    return path


def device_of(plan: CellPlan, name: str) -> Device:
    """Return a device of a cell; raise `click.BadParameter` with the likeliest if there is none of this name."""
    if name not in plan.devices:
        raise click.BadParameter(f"no device {name!r} in this cell; {meant(name, plan.devices)}", param_hint="DEVICE")
    return plan.devices[name].device


def meant(name: str, known: Iterable[str]) -> str:
    """Return what was likely meant by a name that is not there, and what there is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"it has {', '.join(names) or 'none'}"


data_option = click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Data directory (journal, telemetry, reports).")
device_option = click.option("--device", multiple=True, metavar="NAME=ADDRESS", help="Address of a device instead of the one in the cell file.")
