"""The links of this process: devices at one server, or on one serial port, share one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from drivers.address import Address
from drivers.modbus_line import Line

__all__ = ["release_line", "share_line"]

_Key = tuple[asyncio.AbstractEventLoop, object]
_lines: dict[_Key, Line] = {}


def _key(address: Address, data: Path) -> _Key:
    end: object = data / address.path if address.serial else (address.scheme, address.host, address.port)
    return asyncio.get_running_loop(), end


def share_line(address: Address, data: Path) -> Line:
    """Return the link to a device, shared with the other units at the same server or on the same serial port; `release_line` gives it back."""
    key = _key(address, data)
    line = _lines.get(key)
    if line is None:
        line = _lines[key] = Line(address, data)
    if address.serial and (line.address.baud, line.address.parity, line.address.stop) != (address.baud, address.parity, address.stop):
        raise ValueError(f"{line.where} is used as {line.address} already, not as {address}; devices on one line share its speed and parity")
    line.users += 1
    return line


async def release_line(line: Line) -> None:
    """Give a link back; the last user closes it."""
    line.users -= 1
    if line.users == 0:
        _lines.pop(_key(line.address, line.data), None)
        await line.close()
