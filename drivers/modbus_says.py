"""What people are told of a Modbus link, and what to look at next. Pure."""

from __future__ import annotations

from typing import Final

from drivers.address import Address

__all__ = ["check", "foreign", "shown"]

_MOST: Final = 16  # [bytes] that are shown


def check(address: Address, *, speaks: bool) -> str:
    """Return what to look at when a unit gives no answer, or one that is none; `speaks` is whether Modbus was ever heard on the link."""
    if address.serial:
        return "check that it is on, its wiring, and unit, baud and parity in its address"
    return "check that it is on, and unit in its address" + ("" if speaks else ", and that this port speaks Modbus and no other protocol")


def foreign(data: bytes) -> str:
    """Return what it means that these bytes came instead of a reply, and no reply ever."""
    return f"what answers there does not speak Modbus, it sent {shown(data)}; check host and port"


def shown(data: bytes) -> str:
    r"""Return the first bytes as people can read them.

    >>> shown(b"SSH-2.0-Server\r\n"), shown(b"\x00\x01")
    ("'SSH-2.0-Server'", '00 01')
    """
    text = data[:_MOST].strip()
    if text and all(0x20 <= byte < 0x7F for byte in text):
        return repr(text.decode("ascii") + ("..." if len(data) > _MOST else ""))
    return data[:_MOST].hex(" ") + ("..." if len(data) > _MOST else "")
