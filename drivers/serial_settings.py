"""What a serial port is set to, looked at after it was opened: a system takes what its port can do, and may say nothing of the rest."""

from __future__ import annotations

import contextlib
import os
import termios
from pathlib import Path
from typing import Final

from drivers.address import Address

__all__ = ["CANNOT_OPEN", "mark_errors", "not_taken", "refused_by"]

CANNOT_OPEN: Final = (OSError, ValueError, termios.error)  # what pyserial raises: its own is an OSError, a setting that is refused is none
_IFLAG, _CFLAG = 0, 2  # of what tcgetattr returns
_PARITY: Final = {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}
_BITS: Final = {7: termios.CS7, 8: termios.CS8}
_STOP: Final = {1: 0, 2: termios.CSTOPB}


def not_taken(fd: int, address: Address) -> str:
    """Return which settings of `address` an open port does not have, and what to do; empty when it has all. Raise `termios.error`."""
    there = termios.tcgetattr(fd)[_CFLAG]
    parity = termios.PARENB | (termios.PARODD if address.parity != "N" else 0)  # which one, of none, does not matter
    wanted = (
        ("parity", address.parity, parity, _PARITY[address.parity]),
        ("bits", address.bits, termios.CSIZE, _BITS[address.bits]),
        ("stop", address.stop, termios.CSTOPB, _STOP[address.stop]),
    )
    refused = [f"{name}={value}" for name, value, mask, flags in wanted if there & mask != flags]
    if not refused:
        return ""
    return f"it does not take {' and '.join(refused)}; use an adapter that does, or set the device and its address to what this one takes"


def refused_by(error: Exception, path: Path, address: Address) -> str:
    """Return which settings of `address` a port refused as it was opened, and what to do; empty when `error` says something else."""
    if isinstance(error, termios.error):
        with contextlib.suppress(OSError, termios.error):
            fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                return not_taken(fd, address)
            finally:
                os.close(fd)
    return ""


def mark_errors(fd: int) -> None:
    """Let each byte with a wrong parity bit or stop bit, and each break of the line, come as a NUL. Raise `termios.error`.

    pyserial has the check off, and so such a byte comes as if it were right. With what others may have left on, it would be taken out of
    its line (IGNPAR), or a break would take all that came before it (BRKINT).
    """
    settings = termios.tcgetattr(fd)
    settings[_IFLAG] |= termios.INPCK
    settings[_IFLAG] &= ~(termios.IGNPAR | termios.PARMRK | termios.IGNBRK | termios.BRKINT | termios.ISTRIP)
    termios.tcsetattr(fd, termios.TCSANOW, settings)
