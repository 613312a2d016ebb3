"""What is sent for a change, what is not, and what answers mean."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.device import Profile
from drivers.driver import WriteResult
from drivers.modbus_frames import DeviceSaidNo
from drivers.modbus_plan import requests_for, spots
from drivers.modbus_writes import Order, found_in, orders, refused

SIGNALS: dict[str, dict[str, Any]] = {
    "a": {"at": "holding:10", "type": "uint16", "range": [0, 65535], "access": "write"},
    "b": {"at": "holding:11", "range": [0, 100], "access": "write"},
    "c": {"at": "holding:13", "type": "uint16", "range": [0, 65535], "access": "write"},
    "bit": {"at": "holding:20", "type": "bool", "bit": 3, "access": "write"},
    "x": {"at": "coil:0", "type": "bool", "access": "write"},
    "y": {"at": "coil:1", "type": "bool", "access": "write"},
    "r": {"at": "input:4"},
    "wide": {"at": "holding:30", "type": "uint16", "range": [-10, 10], "access": "write"},
}


def profile(**modbus: Any) -> Profile:
    options = {"mask_write": True, **modbus}
    known = {"id": "t", "description": "", "protocol": "modbus", "identity": {"at": "input:0", "value": 1}}
    return Profile.model_validate({**known, "modbus": options, "signals": SIGNALS})


def sent(changes: dict[str, float], **modbus: Any) -> list[str]:
    made = profile(**modbus)
    where = {spot.name: spot for spot in spots(made)}
    return [order.question.pdu.hex(" ") if isinstance(order, Order) else order.why for order in orders(made, where, changes)]


def test_one_request_each() -> None:
    assert sent({"a": 5.0, "b": 1.5, "c": 7.0, "x": 1.0, "y": 0.0}) == [
        "06 00 0a 00 05",
        "10 00 0b 00 02 04 3f c0 00 00",
        "06 00 0d 00 07",
        "05 00 00 ff 00",
        "05 00 01 00 00",
    ]


def test_runs_where_the_device_takes_them() -> None:
    assert sent({"a": 5.0, "b": 1.5, "c": 7.0, "x": 0.0, "y": 1.0}, write_runs=True) == [
        "10 00 0a 00 04 08 00 05 3f c0 00 00 00 07",
        "0f 00 00 00 02 01 02",
    ]
    assert sent({"a": 5.0, "b": 1.5, "c": 7.0}, write_runs=True, max_write_registers=3) == ["10 00 0a 00 03 06 00 05 3f c0 00 00", "06 00 0d 00 07"]
    assert sent({"b": 1.5, "a": 5.0}, write_runs=True) == ["10 00 0b 00 02 04 3f c0 00 00", "06 00 0a 00 05"], "in the order asked for"
    assert sent({"a": 5.0}, write_single=False) == ["10 00 0a 00 01 02 00 05"]


def test_a_bit_alone() -> None:
    assert sent({"bit": 1.0}) == ["16 00 14 ff f7 00 08"]
    assert sent({"bit": 0.0}) == ["16 00 14 ff f7 00 00"]
    assert sent({"bit": 1.0}, byte_order="little") == ["16 00 14 f7 ff 08 00"]


def test_what_is_not_sent() -> None:
    assert sent({"r": 1.0, "z": 1.0, "a": -1.0, "b": float("nan"), "x": 0.5, "wide": -1.0}) == [
        "r is only read in profile t",
        "z is not a signal in profile t",
        "expected 0 to 65535, got -1",
        "expected 0 to 100, got nan",
        "expected 0 or 1, got 0.5",
        "-1 is -1 on the wire and does not fit a uint16 (0 to 65535)",
    ]


@pytest.mark.parametrize("code", range(1, 13))
def test_what_an_exception_means(code: int) -> None:
    assert refused(DeviceSaidNo(code)) is (WriteResult.UNKNOWN if code in (4, 5, 8, 9, 10, 11, 12) else WriteResult.REFUSED)


def test_what_is_read_back() -> None:
    made = profile()
    where = {spot.name: spot for spot in spots(made)}
    [request] = requests_for(made, [where["a"], where["b"]], gap=0)
    wire = bytes.fromhex("00053fc00000")
    assert found_in(request, wire, where["a"], (5,)) is None
    assert found_in(request, wire, where["a"], (6,)) == 5.0
    assert found_in(request, wire, where["b"], (0x3FC0, 0)) is None
    assert found_in(request, wire, where["b"], (0x4000, 0)) == 1.5
    [request] = requests_for(made, [where["bit"]])
    assert found_in(request, bytes.fromhex("0008"), where["bit"], (1,)) is None
    assert found_in(request, bytes.fromhex("fff7"), where["bit"], (1,)) == 0.0
    [request] = requests_for(made, [where["x"], where["y"]])
    assert found_in(request, b"\x02", where["y"], (1,)) is None
    assert found_in(request, b"\x02", where["x"], (1,)) == 0.0
