"""Peers over Modbus: a source that does not hold up its clients, clients on libmodbus and pymodbus, and a serial line as fast as a real one."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import Peer, once, program

__all__ = ["BLOCK", "FLOATS", "IDENTITY", "SerialBench", "bare", "libmodbus", "pymodbus", "source"]

BLOCK, FLOATS, IDENTITY = 125, 62, 4321
"""Each 125 registers of the source are 62 float32 and then the identity; number k of block b is 62 b + k + 0.25."""
HERE = Path(__file__).parent
REQUEST, REPLY = 8, 5 + 2 * BLOCK  # [bytes] on a serial line, to read one block


def source() -> Peer:
    """Return a Modbus TCP device; ``hello["port"]`` is where, `ask` says requests, writes and cpu_s since the last time."""
    return Peer([program("modbus_source"), "tcp", "0"])


def libmodbus(*where: object, requests: int) -> dict[str, Any]:
    """Let libmodbus read the first block again and again; ``("tcp", port)`` or ``("rtu", path, baud)``; return requests, cpu_s and wall_s."""
    return once([program("modbus_client"), *(str(part) for part in where), "1", str(requests)])


def pymodbus(*where: object, requests: int) -> dict[str, Any]:
    """Let the client of pymodbus, as it comes, do what `libmodbus` does."""
    return once([sys.executable, HERE / "modbus_stock.py", *(str(part) for part in where), "1", str(requests)])


def bare(port: int, *, requests: int, in_flight: int = 1) -> dict[str, Any]:
    """Let asyncio ask and receive as much over TCP without a look at it: what is left for whoever uses it."""
    return once([sys.executable, HERE / "modbus_bare.py", str(port), "1", str(requests), str(in_flight)])


class SerialBench:
    """A device on the far end of a paced serial line; `near` is the port for a client. Used as ``with SerialBench(19200) as bench:``."""

    def __init__(self, baud: int, *, bits: int = 10) -> None:
        self.baud, self.bits = baud, bits
        self._ends = ExitStack()
        self._line = self._ends.enter_context(Peer([program("paced_line"), str(baud), str(bits)]))
        self.near: str = self._line.hello["near"]
        try:
            self._device = self._ends.enter_context(Peer([program("modbus_source"), "rtu", self._line.hello["far"], str(baud), str(bits)]))
        except BaseException:
            self._ends.close()
            raise

    @property
    def silence(self) -> float:
        """t3.5 [s]: 3.5 characters, and 1.75 ms above 19,200 baud."""
        return 0.00175 if self.baud > 19200 else 3.5 * self.bits / self.baud

    @property
    def limit(self) -> float:
        """Reads of one block [requests/s] that the line can carry with t3.5 around each frame and nothing else."""
        return 1.0 / ((REQUEST + REPLY) * self.bits / self.baud + 2.0 * self.silence)

    def report(self) -> dict[str, Any]:
        """Return what paced_line.c says of the line since the last time, and the requests that the device has answered.

        `share` is the share of the limit: 1 when client and device lose no time at all, above it when one of them breaks t3.5.
        """
        line, device = self._line.ask(), self._device.ask()
        line["requests"] = device["requests"]
        # the last frame is not followed by t3.5, nor the first one preceded
        line["share"] = device["requests"] / (line["line_s"] + self.silence) / self.limit if line["line_s"] else 0.0
        return line

    def __enter__(self) -> SerialBench:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ends.close()
