"""Connections of a Modbus link, made by pymodbus: TCP, TLS, a serial port, or a socket with serial frames in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient, AsyncModbusTlsClient

from drivers.address import Address
from drivers.expiry import Ending, endings
from drivers.failures import words_for
from drivers.modbus_frames import LinkDown
from drivers.serial_settings import CANNOT_OPEN, not_taken, refused_by

__all__ = ["Connection", "client_context", "connect", "own_certificate"]

# what pymodbus reports is counted and reported by the drivers, once for each change
logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)

_FOLDER: Final = "tls"  # below the data directory
_OTHER_NAME: Final = (62, 64)  # of OpenSSL's X509_V_ERR: the host name, the address differs
_OTHER_TIME: Final = (9, 10)  # not valid yet, has expired


@dataclass(frozen=True, slots=True)
class Connection:
    """A transport, the file descriptor of a serial port, and when the certificates of the link expire."""

    transport: asyncio.Transport
    fd: int | None = None
    ends: tuple[Ending, ...] = ()


async def connect(address: Address, data: Path, within: float) -> Connection:
    """Return a connection made within `within` [s]; raise `LinkDown` with what to look at. A relative serial port is relative to `data`."""
    where = str(data / address.path) if address.serial else f"{address.host}:{address.port}"
    hint = "check that the serial port exists and is free" if address.serial else "check the address and that the device is on"
    ends: list[Ending] = []
    client: AsyncModbusTcpClient | AsyncModbusSerialClient
    if address.scheme == "modbus-rtu":
        client = AsyncModbusSerialClient(
            where, baudrate=address.baud, bytesize=address.bits, parity=address.parity, stopbits=address.stop, reconnect_delay=0, retries=0
        )
    elif address.scheme == "modbus-tls":
        context, ends = client_context(data)
        client = AsyncModbusTlsClient(address.host, port=address.port, sslctx=context, reconnect_delay=0, retries=0)
    else:
        framer = FramerType.RTU if address.scheme == "modbus-rtu-tcp" else FramerType.SOCKET
        client = AsyncModbusTcpClient(address.host, port=address.port, framer=framer, reconnect_delay=0, retries=0)
    try:
        async with asyncio.timeout(within):
            transport, _ = await client.ctx.call_create()  # not connect(): it hides why it fails
    except ssl.SSLCertVerificationError as error:
        raise LinkDown("connect", f"{where} shows a certificate that {_wrong_with(error, address, data)}", sent=False) from error
    except TimeoutError as error:
        raise LinkDown("connect", f"cannot connect to {where} within {within:.2f} s; {hint}", sent=False) from error
    except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
        if address.scheme != "modbus-tls":
            raise LinkDown("connect", f"cannot connect to {where}: {words_for(error)}; {hint}", sent=False) from error
        told = words_for(error) if error.errno else "it ends the handshake"
        why = f"no TLS with {where}: {told}; check that it speaks TLS at this port; {own_certificate(data)}"
        raise LinkDown("connect", why, sent=False) from error
    except CANNOT_OPEN as error:
        told = refused_by(error, Path(where), address) or f"{words_for(error)}; {hint}"
        raise LinkDown("connect", f"cannot connect to {where}: {told}", sent=False) from error
    if address.serial:
        try:
            await asyncio.sleep(0)  # its transport starts to listen in the loop's next turns
            await asyncio.sleep(0)
            fd: int = transport.sync_serial.fileno()
            if why := not_taken(fd, address):
                raise LinkDown("connect", f"cannot connect to {where}: {why}", sent=False)
        except termios.error as error:  # it was pulled out at once
            transport.close()
            raise LinkDown("connect", f"cannot connect to {where}: {words_for(error)}; {hint}", sent=False) from error
        except (LinkDown, asyncio.CancelledError):
            transport.close()
            raise
        return Connection(transport, fd)
    if tls := transport.get_extra_info("ssl_object"):
        shown = tls.getpeercert()
        subject = ",".join(f"{key}={value}" for part in shown["subject"] for key, value in part)
        ends.append(Ending(ssl.cert_time_to_seconds(shown["notAfter"]), subject))
    return Connection(transport, None, tuple(ends))


def _wrong_with(error: ssl.SSLCertVerificationError, address: Address, data: Path) -> str:
    """Return what is wrong with the certificate of a device, and what to do about it."""
    says = error.verify_message.rstrip(".")
    if error.verify_code in _OTHER_NAME:
        return f"is not one for {address.host} ({says}); write the name that it has into the address, or give the device another certificate"
    if error.verify_code in _OTHER_TIME:
        return f"cannot be used now ({says}); give the device another one, or check this computer's clock"
    return f"is not trusted ({says}); if it is the device's, put it, or that of its authority, into {data / _FOLDER / 'trusted'}"


def own_certificate(data: Path) -> str:
    """Return what to look at when a device ends a TLS connection: it may ask for a certificate, and not take the one that it is shown."""
    own = data / _FOLDER / "own.pem"
    if not own.exists():
        return f"if it asks for a certificate, put one that it trusts into {own}, its key beside it into own.key"
    with contextlib.suppress(OSError, ValueError):
        expires = x509.load_pem_x509_certificate(own.read_bytes()).not_valid_after_utc
        if expires.timestamp() < time.time():
            return f"{own} expired on {expires:%Y-%m-%d}"
    return f"check that it trusts {own}"


def client_context(data: Path) -> tuple[ssl.SSLContext, list[Ending]]:
    """Return what TLS checks and shows, from files in ``DATA/tls``, and when our own certificate expires, if there is one.

    ``trusted/*.pem`` are certificates of devices, or of their authorities; without any there is no link. ``own.pem`` and ``own.key`` are shown to
    devices that ask for them. Raise `LinkDown` when a file cannot be used.
    """
    folder = data / _FOLDER
    trusted = sorted((folder / "trusted").glob("*.pem"))
    if not trusted:
        why = f"no trusted certificate: put the device's, or its authority's, into {folder / 'trusted'} as a .pem file"
        raise LinkDown("connect", why, sent=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a device's own certificate can be trusted without its authority
    ends: list[Ending] = []
    at = folder
    try:
        for at in trusted:
            context.load_verify_locations(at)
        if (at := folder / "own.pem").exists():
            context.load_cert_chain(at, folder / "own.key")
            ends = endings([x509.load_pem_x509_certificate(at.read_bytes())])
    except (OSError, ValueError) as error:  # a bad certificate is an SSLError, which is an OSError
        raise LinkDown("connect", f"{at} cannot be used: {words_for(error)}", sent=False) from error
    return context, ends
