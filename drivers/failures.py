"""What an error of the system means, in the words of every driver. Pure."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import termios
from typing import Final

__all__ = ["words_for"]

_NUMBER: Final = re.compile(r"\[Errno (\d+)\]")
_IN_USE: Final = (errno.EAGAIN, errno.EBUSY)  # of a serial port that is locked


def words_for(error: Exception) -> str:
    """Return why something could not be opened, connected, read or written, without the name of it, which the caller has.

    >>> words_for(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 5999)"))
    'the connection is refused, no server listens there'
    >>> words_for(OSError("Multiple exceptions: [Errno 113] Connect call failed (...), [Errno 101] Connect call failed (...)"))
    'no route to host, network is unreachable'
    """
    if isinstance(error, ssl.SSLError):  # its number is none of the system's
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, socket.gaierror):
        return "nobody knows a host of that name"
    if isinstance(error, termios.error) and error.args and isinstance(error.args[0], int):  # no OSError, but it has its number
        return _words(error.args[0])
    if isinstance(error, OSError):
        # a host with several addresses has an error for each, and only their words
        numbers = [error.errno] if error.errno else [int(number) for number in _NUMBER.findall(str(error))]
        if numbers:
            return ", ".join(dict.fromkeys(map(_words, numbers)))
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _words(number: int) -> str:
    if number == errno.ECONNREFUSED:
        return "the connection is refused, no server listens there"
    return "another program uses it" if number in _IN_USE else os.strerror(number).lower()
