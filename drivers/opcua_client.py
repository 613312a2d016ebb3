"""How the OPC UA client of one connection is made and closed. asyncua's own reconnection is not used."""

from __future__ import annotations

import asyncio
import logging
import struct
from pathlib import Path
from typing import Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError

from drivers.device import Device
from drivers.failures import words_for
from drivers.opcua_messages import ServiceFault
from drivers.opcua_security import NotSecured, SecuredClient

__all__ = ["FAILURES", "connect", "disconnect", "new_client", "why_of"]

# what asyncua reports is counted and reported here, once for each change
logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)

# what asyncua and our codec raise for a peer's fault; the last ones for replies that are not what asyncua takes for granted
FAILURES: Final = (UaError, OSError, ValueError, TypeError, struct.error, ServiceFault, LookupError, AttributeError, AssertionError, RecursionError)
_CLOSING: Final = 0.5  # [s] that a disconnect may take
_SESSION: Final = 60_000  # [ms] after which a server forgets a session that was cut off
_NEVER: Final = 1e6  # [s] asyncua's watchdog is not needed: the driver has a heartbeat of its own


def new_client(device: Device, timeout: float) -> SecuredClient:
    """Return a client of `device`, not connected yet; each request may take `timeout` [s]."""
    address = device.address
    url = f"opc.tcp://{address.host}:{address.port}{address.path}"
    client = SecuredClient(url, timeout, watchdog_intervall=_NEVER, auto_reconnect=False)
    client.session_timeout = _SESSION
    client.name = client.description = "blackmass"
    return client


async def connect(client: SecuredClient, device: Device, data: Path) -> None:
    """Connect as the device's `security` asks for, or not at all; its paths, and the certificates, are in the data directory."""
    await client.guard(device.security, data, device.address.host)
    await client.connect()


async def disconnect(client: Client) -> None:
    """Close a client within 0.5 s, whatever state it is in."""
    try:
        async with asyncio.timeout(_CLOSING):
            await client.disconnect()
    except FAILURES:
        pass
    finally:  # asyncua leaves the socket open when it is cancelled before
        client.disconnect_socket()


def why_of(error: Exception, timeout: float) -> str:
    """Return what a failure of asyncua means, in words; `timeout` [s] is how long was waited."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:.2f} s"
    if isinstance(error, NotSecured) or (type(error) is ConnectionError and str(error)):
        return str(error)
    if isinstance(error, ServiceFault):
        return f"the server answers {ua.StatusCode(ua.UInt32(error.code)).name}"
    return words_for(error)
