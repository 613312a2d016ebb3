"""The driver for a device, chosen by its address. A protocol's library is loaded only when a device speaks it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Final

from drivers.device import AddressError, Device
from drivers.driver import Driver

__all__ = ["load_drivers", "open_driver"]

_MODULES: Final = {"opcua": "drivers.opcua", "ascii": "drivers.serial_ascii", "modbus": "drivers.modbus"}


def load_drivers(devices: Iterable[Device]) -> None:
    """Load the libraries of these devices' protocols: it takes up to a second, which nobody should wait for who talks to a device already."""
    for name in sorted({_MODULES[device.profile.protocol] for device in devices}):
        import_module(name)


def open_driver(device: Device, *, data: Path, timeout: float = 1.0) -> Driver:
    """Return the driver of `device`, not entered yet; `timeout` [s] bounds the wait for each answer.

    A relative serial port is relative to `data`. Raises `AddressError` when the profile speaks another protocol than the address.
    """
    address, profile = device.address, device.profile
    if address.protocol != profile.protocol:
        raise AddressError(
            f"device {device.name}: profile {profile.id} speaks {profile.protocol}, but {address} is an address for {address.protocol}"
        )
    if profile.protocol == "opcua":
        from drivers.opcua import OpcuaDriver

        return OpcuaDriver(device, data=data, timeout=timeout)
    if profile.protocol == "ascii":
        from drivers.serial_ascii import SerialAsciiDriver

        return SerialAsciiDriver(device, data=data, timeout=timeout)
    from drivers.modbus import ModbusDriver

    return ModbusDriver(device, data=data, timeout=timeout)
