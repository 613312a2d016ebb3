"""Where a device is, and how the way there is secured."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

__all__ = ["NO_SECURITY", "Address", "AddressError", "Policy", "Security"]

Scheme = Literal["modbus-tcp", "modbus-tls", "modbus-rtu-tcp", "modbus-rtu", "opc.tcp", "serial"]
Policy = Literal["none", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
_NETWORK: Final = ("modbus-tcp", "modbus-tls", "modbus-rtu-tcp", "opc.tcp")
_TCP: Final = ("modbus-tcp", "modbus-tls")
_SERIAL: Final = ("modbus-rtu", "serial")
_FASTEST: Final = 100_000_000  # [baud] more than any serial port; a system has no room for just any number
_EXPECTED: Final = (
    "expected opc.tcp://HOST:PORT, modbus-tcp://HOST:PORT?unit=N, modbus-tls://HOST:PORT?unit=N, modbus-rtu-tcp://HOST:PORT?unit=N&baud=19200, "
    "modbus-rtu:PATH?unit=N&baud=19200&parity=E or serial:PATH?baud=9600"
)


class AddressError(ValueError):
    """An address that no driver understands."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device is.

    >>> Address.parse("modbus-tcp://127.0.0.1:5020?unit=1")
    Address(scheme='modbus-tcp', host='127.0.0.1', port=5020, path='', unit=1, baud=19200, parity='N', bits=8, stop=1)
    >>> Address.parse("modbus-rtu:lines/wash?unit=2&baud=38400&parity=E").path
    'lines/wash'
    """

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""  # the serial port; relative to the data directory
    unit: int = 1
    baud: int = 19200
    parity: Literal["N", "E", "O"] = "N"
    bits: Literal[7, 8] = 8
    stop: Literal[1, 2] = 1

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address written as a URL; raise `AddressError` with what was expected."""
        url = urlsplit(text)
        options = dict(parse_qsl(url.query))
        try:
            port = url.port
            unit, baud = int(options.pop("unit", 1)), int(options.pop("baud", 9600 if url.scheme == "serial" else 19200))
            bits, stop = int(options.pop("bits", 8)), int(options.pop("stop", 1))
        except ValueError:
            raise AddressError(f"{text!r}: {_EXPECTED}") from None
        parity = options.pop("parity", "N")
        if url.scheme not in get_args(Scheme):
            near = difflib.get_close_matches(url.scheme, get_args(Scheme), 1)
            raise AddressError(f"{text!r}: " + (f"no scheme {url.scheme!r}; did you mean {near[0]!r}?" if near else _EXPECTED))
        if options:
            raise AddressError(f"{text!r}: no option {next(iter(options))!r}; there are unit, baud, parity, bits and stop")
        if not (0 if url.scheme in _TCP else 1) <= unit <= (255 if url.scheme in _TCP else 247):
            what = "0 to 255" if url.scheme in _TCP else "1 to 247 on a serial line, where 0 is for all and never answers"
            raise AddressError(f"{text!r}: expected unit {what}, got {unit}")
        if not 0 < baud <= _FASTEST:
            raise AddressError(f"{text!r}: expected baud 1 to {_FASTEST}, got {baud}")
        if parity not in ("N", "E", "O") or bits not in (7, 8) or stop not in (1, 2) or (bits == 7 and url.scheme != "serial"):
            raise AddressError(f"{text!r}: expected parity N, E or O, stop 1 or 2, and bits 8 (7 on serial: only)")
        line = {"unit": unit, "baud": baud, "parity": parity, "bits": bits, "stop": stop}
        if url.scheme in _SERIAL and url.path and not url.netloc:
            return cls(url.scheme, path=url.path, **line)  # type: ignore[arg-type]  # narrowed above
        if url.scheme in _NETWORK and url.hostname and port is not None:
            return cls(url.scheme, url.hostname, port, url.path, **line)  # type: ignore[arg-type]
        raise AddressError(f"{text!r}: {_EXPECTED}")

    @property
    def protocol(self) -> str:
        """The protocol that a profile must have to be used at this address."""
        return {"opc.tcp": "opcua", "serial": "ascii"}.get(self.scheme, "modbus")

    @property
    def serial(self) -> bool:
        """Whether it is a serial port of this machine."""
        return self.scheme in _SERIAL

    @property
    def character_time(self) -> float:
        """The time [s] that one byte takes on the line, with its start, parity and stop bits."""
        return (1 + self.bits + (self.parity != "N") + self.stop) / self.baud

    def __str__(self) -> str:
        options = [] if self.scheme in ("opc.tcp", "serial") else [f"unit={self.unit}"]
        if self.serial or self.scheme == "modbus-rtu-tcp":
            options.append(f"baud={self.baud}")
            options += [f"{key}={value}" for key, value, usual in self._framing() if value != usual]
        where = f"{self.scheme}:{self.path}" if self.serial else f"{self.scheme}://{self.host}:{self.port}{self.path}"
        return where + ("?" + "&".join(options) if options else "")

    def _framing(self) -> tuple[tuple[str, object, object], ...]:
        return (("parity", self.parity, "N"), ("bits", self.bits, 8), ("stop", self.stop, 1))


@dataclass(frozen=True, slots=True)
class Security:
    """How a link is secured. A password is named by its file and never held here.

    `policy` ``none`` has to be asked for in a cell file: it is for loopback and closed networks. Paths are relative to the data directory.
    """

    policy: Policy = "none"
    mode: Literal["sign", "sign_and_encrypt"] = "sign_and_encrypt"
    user: str = ""  # empty: anonymous
    password_file: str = ""  # of mode 0600


NO_SECURITY: Final = Security()
