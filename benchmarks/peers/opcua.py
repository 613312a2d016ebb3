"""Peers over OPC UA: a source that does not hold up its clients, a client on node-opcua, and asyncua's client as it comes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import Peer, built, node_folder, once

__all__ = ["IDENTITY", "URI", "WRITABLE", "asyncua", "node_opcua", "source"]

Measured = dict[str, dict[str, Any]]
URI = "urn:blackmass:bench"
WRITABLE, IDENTITY = 100, 4321
"""``w0`` to ``w99`` can be written; ``identity`` is this. ``v<k>`` is its number of changes + k / 1e6 where it is a Double."""
HERE = Path(__file__).parent


def source(items: int = 1000, changes: float = 10_000.0, *, mixed: int = 0) -> Peer:
    """Return a server of ``v0`` to ``v<items - 1>``, `changes` of them changing a second, every `mixed`-th an Int32 and the others Double.

    ``hello["port"]`` is where. `ask` says changes, and notifications sent, since the last time; ``ask("rate 5000")`` changes the rate as well. It
    samples each ``items / 200`` ms at best, and sends what has changed by number, backwards where sampling and publishing interval are the same.
    Raises `Missing`. Built when it has to be, which takes half a minute.
    """
    program = built(HERE / "opcua_source/build", slow="opcua_source, an OPC UA server; half a minute")
    return Peer([program, str(items), f"{changes:g}", str(mixed)])


def _client(command: Sequence[str | Path], bench: Peer, seconds: float, calls: int, items: int, folder: Path | None = None) -> Measured:
    with bench:
        arguments = [str(bench.hello["port"]), str(items), f"{seconds:g}", str(calls)]
        return once([*command, *arguments], within=60.0 + 2.0 * seconds, folder=folder)


def node_opcua(*, items: int = 1000, changes: float = 10_000.0, seconds: float = 5.0, calls: int = 50) -> Measured:
    """Let node-opcua monitor the variables of a source for `seconds`, then read them all `calls` times and write 100 `calls` times.

    Returns count, cpu_s and wall_s of ``monitor`` (count of notifications), ``read`` and ``write`` (count of calls). Raises `Missing`.
    """
    folder = node_folder()
    return _client(["node", HERE / "opcua_client.mjs"], source(items, changes), seconds, calls, items, folder)


def asyncua(*, items: int = 1000, changes: float = 10_000.0, seconds: float = 5.0, calls: int = 20) -> Measured:
    """Let the client of asyncua do what `node_opcua` does."""
    return _client([sys.executable, HERE / "opcua_stock.py"], source(items, changes), seconds, calls, items)
