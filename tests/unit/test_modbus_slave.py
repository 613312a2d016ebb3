"""What a simulated Modbus device answers, byte for byte (Modbus application protocol V1.1b3): functions, exceptions, write protection."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device import Address, Device, Profile
from drivers.modbus_frames import crc16
from simulators.bench import StaticPlant
from simulators.modbus_slave import ModbusSlave
from simulators.serve_modbus import frame_size
from simulators.station import Station

PROFILE = Profile.model_validate(
    {
        "id": "thing",
        "description": "A thing " + 200 * "x",
        "protocol": "modbus",
        "identity": {"at": "input:0", "value": 7},
        "heartbeat": {"signal": "beat"},
        "signals": {
            "beat": {"at": "holding:0", "type": "uint16", "range": [0, 65535], "access": "write"},
            "setpoint": {"at": "holding:1", "type": "float32", "range": [0, 100], "access": "write"},
            "mode": {"at": "holding:3", "type": "uint16", "range": [0, 4095], "access": "write"},
            "serial": {"at": "holding:4", "type": "uint16", "range": [0, 65535]},
            "level": {"at": "input:1", "type": "float32", "range": [0, 100]},
            **{f"valve_{number}": {"at": f"coil:{number}", "type": "bool", "access": "write"} for number in range(9)},
            "tripped": {"at": "coil:9", "type": "bool"},
            "closed": {"at": "discrete:4", "type": "bool"},
        },
    }
)


class Bench:
    def __init__(self) -> None:
        self.plant = StaticPlant({"thing": PROFILE})
        self.clock = 0.0
        self.station = Station(Device("thing", PROFILE, Address.parse("modbus-tcp://127.0.0.1:0")), self.plant, lambda: self.clock)
        self.slave = ModbusSlave(self.station)

    def ask(self, *parts: str) -> str:
        return self.slave.answer(bytes.fromhex("".join(parts))).hex(" ").upper()

    def set(self, **values: float) -> None:
        for name, value in values.items():
            self.plant.values["thing"][PROFILE.place(name)] = value
        self.station.moved()

    def get(self, name: str) -> float:
        return float(self.plant.values["thing"][PROFILE.place(name)])


FLOAT_1_5 = "3F C0 00 00"


def test_it_reads_all_four_tables() -> None:
    bench = Bench()
    bench.set(level=1.5, mode=0x1234, valve_0=1, valve_2=1, valve_8=1, closed=1)
    assert bench.ask("01 0000 000A") == "01 02 05 01"
    assert bench.ask("02 0004 0001") == "02 01 01"
    assert bench.ask("03 0003 0001") == "03 02 12 34"
    assert bench.ask("04 0000 0003") == f"04 06 00 07 {FLOAT_1_5}"


def test_it_writes_and_echoes() -> None:
    bench = Bench()
    assert bench.ask("05 0002 FF00") == "05 00 02 FF 00"
    assert bench.ask("06 0003 0011") == "06 00 03 00 11"
    assert bench.ask("0F 0000 0009 02 01 01") == "0F 00 00 00 09"
    assert bench.ask("10 0001 0003 06", FLOAT_1_5, "0012") == "10 00 01 00 03"
    assert [bench.get(f"valve_{number}") for number in range(9)] == [1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert (bench.get("setpoint"), bench.get("mode")) == (1.5, 18.0)
    # the example of the standard, 6.16: (0x12 and 0xF2) or (0x25 and not 0xF2)
    assert bench.ask("16 0003 00F2 0025") == "16 00 03 00 F2 00 25"
    assert bench.get("mode") == 0x17
    # it writes before it reads
    assert bench.ask("17 0003 0001 0003 0001 02 0099") == "17 02 00 99"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("07", 1),
        ("08 0000 0000", 1),
        ("2B 0D 00 00", 1),
        ("03 0005 0001", 2),
        ("03 0004 0002", 2),
        ("04 FFFF 0002", 2),
        ("02 0000 0001", 2),
        ("05 000A FF00", 2),
        ("05 0009 FF00", 2),  # only read
        ("06 0004 0001", 2),  # only read
        ("06 0001 3FC0", 2),  # half of a float
        ("0F 0008 0002 01 03", 2),  # the second is only read
        ("10 0003 0002 04 0001 0002", 2),
        ("16 0004 0000 0001", 2),
        ("17 0005 0001 0003 0001 02 0099", 2),
        ("2B 0E 04 09", 2),
        ("01 0000 0000", 3),
        ("01 0000 07D1", 3),
        ("03 0000 0000", 3),
        ("03 0000 007E", 3),
        ("03 0000", 3),
        ("03 0000 0001 00", 3),
        ("05 0002 0001", 3),
        ("06 0003 1000", 3),  # above the range
        ("10 0001 0002 04 42CA 0000", 3),  # 101
        ("10 0001 0002 04 7FC0 0000", 3),  # NaN
        ("10 0001 0002 03 3FC0 00", 3),
        ("10 0001 0002 04 3FC0", 3),
        ("0F 0000 0009 01 FF", 3),
        ("0F 0000 0000 00", 3),
        ("17 0003 0000 0003 0001 02 0099", 3),
        ("17 0003 0001 0003 0001 01 99", 3),
        ("2B 0E 05 00", 3),
    ],
)
def test_an_exception_changes_nothing(request_: str, code: int) -> None:
    bench = Bench()
    before = bench.plant.values["thing"].copy()
    function = int(request_[:2], 16)
    assert bench.ask(request_) == f"{function | 0x80:02X} {code:02X}"
    np.testing.assert_array_equal(bench.plant.values["thing"], before)


def test_the_second_of_two_values_out_of_range_stops_the_first() -> None:
    bench = Bench()
    assert bench.ask("10 0001 0003 06", FLOAT_1_5, "FFFF") == "90 03"
    assert (bench.get("setpoint"), bench.get("mode")) == (0.0, 0.0)


def test_a_device_in_its_safe_state_is_busy() -> None:
    bench = Bench()
    bench.ask("06 0000 0001")
    bench.clock = 6.0
    bench.station.watch()
    assert bench.ask("06 0003 0001") == "86 06"
    assert bench.ask("06 0000 0002") == "06 00 00 00 02"
    assert bench.ask("06 0003 0001") == "06 00 03 00 01"


def test_it_identifies_itself() -> None:
    bench = Bench()
    basic = bench.slave.answer(bytes.fromhex("2B0E0100"))
    assert basic == bytes.fromhex("2B0E01820000030009") + b"blackmass" + b"\x01\x05thing" + b"\x02\x031.0"
    assert bench.slave.answer(bytes.fromhex("2B0E0401")) == bytes.fromhex("2B0E04820000010105") + b"thing"
    found: dict[int, str] = {}
    number = 0
    for _ in range(9):  # more follows, since the description is long
        reply = bench.slave.answer(bytes([0x2B, 14, 2, number]))
        assert len(reply) <= 253
        more, number, count, at = reply[4], reply[5], reply[6], 7
        for _ in range(count):
            found[reply[at]] = reply[at + 2 : at + 2 + reply[at + 1]].decode()
            at += 2 + reply[at + 1]
        assert at == len(reply)
        if not more:
            break
    assert found == {0: "blackmass", 1: "thing", 2: "1.0", 3: "", 4: PROFILE.description, 5: "thing", 6: "thing"}


@given(st.binary(min_size=1, max_size=60))
def test_it_answers_whatever_comes(request_: bytes) -> None:
    reply = Bench().slave.answer(request_)
    assert 2 <= len(reply) <= 253
    assert reply[0] & 0x7F == request_[0] & 0x7F


@given(st.sampled_from([1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43, 7, 99]), st.binary(max_size=40), st.binary(max_size=20))
def test_a_frame_on_a_line_is_found_whole(function: int, payload: bytes, behind: bytes) -> None:
    if function in (15, 16, 23):
        body = bytes(8 if function == 23 else 4) + bytes([len(payload)]) + payload
    elif function in (7, 99):
        body, behind = payload, b""  # unknown: it tells no length
    else:
        body = payload[:3].ljust({22: 6, 43: 3}.get(function, 4), b"\0")
    frame = bytes([1, function]) + body
    frame += struct.pack("<H", crc16(frame))
    assert frame_size(frame + behind) == len(frame)
    assert frame_size(frame[:3]) == 0
    broken = bytes([frame[0] ^ 0x40]) + frame[1:]
    assert frame_size(broken) == 0
