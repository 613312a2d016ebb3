"""What nodes an OPC UA device is made of: arrays, structures, texts, data types under others; names and units that differ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asyncua import Server, ua
from asyncua.common.structures104 import new_struct, new_struct_field

from drivers import unece
from drivers.connect import open_driver
from drivers.device import Address, Device, Profile
from drivers.driver import Driver, WriteResult
from drivers.tags import Quality

pytestmark = pytest.mark.wire

URI = "urn:nodes"
V = ua.VariantType


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Server, dict[str, Any], str]]:
    """Yield a server, its nodes by name, and its endpoint."""
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    space = await server.register_namespace(URI)
    inner, _ = await new_struct(server, space, "Motor", [new_struct_field("Speed", V.Double), new_struct_field("Steps", V.Int32, array=True)])
    fields = [
        new_struct_field("Name", V.String),
        new_struct_field("Note", V.String, optional=True),
        new_struct_field("Motor", ua.NodeId(inner.nodeid.Identifier, inner.nodeid.NamespaceIndex)),
        new_struct_field("Weight", V.Float),
    ]
    await new_struct(server, space, "Scale", fields)
    await server.load_data_type_definitions()
    motor, scale = ua.Motor, ua.Scale  # type: ignore[attr-defined]
    values: dict[str, tuple[Any, V]] = {
        "identity": (7, V.UInt16),
        "array": ([1.5, 2.5, 3.5], V.Double),
        "scale": (scale(Name="left", Motor=motor(Speed=12.0, Steps=[4, 5, 6]), Weight=0.5), V.ExtensionObject),
        "serial": ("SN-\u00b5\n5", V.String),
        "plain": (5.0, V.Double),
        "pressure": (3.0, V.Double),
        "long": (2**40, V.Int64),
    }
    nodes = {}
    for name, (value, kind) in values.items():
        at = ua.NodeId(name, space)
        nodes[name] = await server.nodes.objects.add_variable(at, f"{space}:{name}", ua.Variant(value, kind))
        await nodes[name].set_writable()
    await nodes["plain"].write_attribute(ua.AttributeIds.DataType, ua.DataValue(ua.NodeId(ua.ObjectIds.Duration)))
    unit = ua.EUInformation(NamespaceUri=unece.NAMESPACE, UnitId=unece.unit_id("bar"), DisplayName=ua.LocalizedText("bar"))
    await nodes["pressure"].add_property(ua.NodeId(0, space), ua.QualifiedName("EngineeringUnits", 0), ua.Variant(unit, V.ExtensionObject))
    await server.start()
    try:
        yield server, nodes, f"opc.tcp://127.0.0.1:{server.bserver.port}"  # type: ignore[union-attr]
    finally:
        await server.stop()


def device(endpoint: str, mode: str, **signals: dict[str, Any]) -> Device:
    identity = {"at": f"nsu={URI};s=identity", "value": 7}
    placed = {name: {"range": (-1e15, 1e15), **signal, "at": f"nsu={URI};s={signal['at']}"} for name, signal in signals.items()}
    texts = {"serial": {"at": f"nsu={URI};s=serial"}}
    made = {"id": "nodes", "description": "", "protocol": "opcua", "identity": identity, "signals": placed, "texts": texts, "opcua": {"mode": mode}}
    return Device("nodes", Profile.model_validate(made), Address.parse(endpoint))


async def values(driver: Driver, expected: dict[str, float]) -> None:
    """Wait until the driver shows these."""
    end = time.monotonic() + 10.0
    while True:
        reading = await driver.read()
        shown = dict(zip(driver.device.profile.names, reading.values, strict=True))
        if all(np.isclose(shown[name], value) for name, value in expected.items()):
            return
        assert time.monotonic() < end, (shown, driver.metrics.why)
        await asyncio.sleep(0.02)


PARTS = {
    "first": {"at": "array", "type": "float64", "element": 0, "access": "write", "range": (0, 100)},
    "third": {"at": "array", "type": "float64", "element": 2},
    "beyond": {"at": "array", "type": "float64", "element": 3},
    "weight": {"at": "scale", "type": "float32", "field": "Weight"},
    "speed": {"at": "scale", "type": "float64", "field": "Motor.Speed"},
    "step": {"at": "scale", "type": "int32", "field": "Motor.Steps", "element": 1},
    "nothing": {"at": "scale", "type": "int32", "field": "Motor.Sneed"},
    "plain": {"at": "plain", "type": "float64", "browse_name": "plain"},
    "long": {"at": "long", "type": "int64"},
}


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
def test_arrays_structures_and_texts(mode: str) -> None:
    async def main() -> None:
        async with served() as (_, nodes, endpoint), open_driver(device(endpoint, mode, **PARTS), data=Path()) as driver:
            expected = {"first": 1.5, "third": 3.5, "weight": 0.5, "speed": 12.0, "step": 5.0, "plain": 5.0, "long": 2.0**40}
            await values(driver, expected)
            reading = await driver.read()
            good = dict(zip(driver.device.profile.names, reading.quality == Quality.GOOD, strict=True))
            assert good == {name: name not in ("beyond", "nothing") for name in PARTS}
            assert driver.texts == {"serial": "SN-\u00b5 5"}
            motor, scale = ua.Motor, ua.Scale  # type: ignore[attr-defined]
            await nodes["scale"].write_value(scale(Name="a longer name", Note="x", Motor=motor(Speed=-1.0, Steps=[7]), Weight=2.5))
            await nodes["array"].write_value([9.0, 8.0, 7.0, 6.0], V.Double)
            await values(driver, {"first": 9.0, "third": 7.0, "beyond": 6.0, "weight": 2.5, "speed": -1.0})
            reading = await driver.read()
            assert reading.quality[driver.device.profile.place("step")] == Quality.BAD  # there is no second step any more

    asyncio.run(main())


def test_what_is_another_node_or_in_another_eu_is_bad_and_says_both(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with served() as (_, _, endpoint):
            signals = {
                "mbar": {"at": "pressure", "type": "float64", "eu": "mbar"},
                "named": {"at": "plain", "type": "float64", "browse_name": "other"},
                "typed": {"at": "array", "type": "float32", "element": 0},
                "gone": {"at": "gone", "type": "float64"},
                "scalar": {"at": "long", "type": "int64"},
            }
            async with open_driver(device(endpoint, "subscribe", **signals), data=Path()) as driver:
                await values(driver, {"scalar": 2.0**40})
                reading = await driver.read()
                assert (reading.quality == Quality.BAD).tolist() == [True, True, True, True, False]
                assert np.isnan(reading.values[:4]).all()
                assert driver.metrics.errors["type"] == 4
                [outcome] = await driver.write({"mbar": 1.0})
                assert outcome.result is WriteResult.NOT_SENT
            async with open_driver(device(endpoint, "subscribe", bar={"at": "pressure", "type": "float64", "eu": "bar"}), data=Path()) as driver:
                await values(driver, {"bar": 3.0})

    asyncio.run(main())
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "nodes.mbar is not used: nsu=urn:nodes;s=pressure is in 'bar' at the server, and in 'mbar' in the profile" in said
    assert "nsu=urn:nodes;s=plain has browse name 'plain', expected 'other'" in said
    assert "nsu=urn:nodes;s=array has data type Double, expected Float" in said
    assert "nsu=urn:nodes;s=gone: BadNodeIdUnknown" in said
