"""Errors of the system in words: nothing of how they were found out, and no name twice."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import ssl
import termios
from pathlib import Path

import pytest
import serial

from drivers.failures import words_for


def test_several_addresses_of_a_host_that_fail_in_one_way_are_one() -> None:
    said = "Multiple exceptions: [Errno 111] Connect call failed ('::1', 5999, 0, 0), [Errno 111] Connect call failed ('127.0.0.1', 5999)"
    assert words_for(OSError(said)) == "the connection is refused, no server listens there"


def test_a_host_that_nobody_knows() -> None:
    assert words_for(socket.gaierror(socket.EAI_NONAME, "Name or service not known")) == "nobody knows a host of that name"


def test_a_serial_port_that_is_not_there_or_taken(tmp_path: Path) -> None:
    with pytest.raises(serial.SerialException) as gone:
        serial.Serial(str(tmp_path / "line"))
    assert words_for(gone.value) == "no such file or directory"
    end, other = os.openpty()
    path = os.ttyname(other)
    with os.fdopen(end), os.fdopen(other) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(serial.SerialException) as taken:
            serial.Serial(path, exclusive=True)
    assert words_for(taken.value) == "another program uses it"


def test_a_setting_that_a_port_refuses_is_no_error_of_the_system_but_has_its_number() -> None:
    with (Path(os.devnull)).open("rb") as none, pytest.raises(termios.error) as refused:
        termios.tcgetattr(none)
    assert words_for(refused.value) == "inappropriate ioctl for device"


def test_tls_that_is_none() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(b"220 ready\r\n")
    with pytest.raises(ssl.SSLError) as error:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname="there").do_handshake()
    assert words_for(error.value) == "wrong version number"


def test_what_has_no_number_keeps_its_words() -> None:
    assert words_for(ValueError("not a port")) == "ValueError: not a port"
    assert words_for(OSError(errno.EHOSTUNREACH, "")) == "no route to host"
    assert words_for(RuntimeError()) == "RuntimeError"
