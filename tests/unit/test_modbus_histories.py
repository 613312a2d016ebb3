"""Random histories of a link, in time that passes at once: whoever asks gets an end, in time, and never the reply to another question."""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from drivers import alarm, modbus_line, modbus_wire
from drivers.device import Address
from drivers.modbus_connect import Connection
from drivers.modbus_frames import BadReply, DeviceSaidNo, LinkDown, crc16, read, write_register
from drivers.modbus_line import Line
from drivers.modbus_turns import Unit
from tests.virtual import Later

WITHIN = 0.4  # [s] for each reply
WAYS = {  # what a device does with a question, and how likely
    "good": 60, "slow": 10, "silent": 6, "late": 5, "busy": 6, "no such": 4, "gateway": 3, "other unit": 2, "cut": 1, "drop": 1, "twice": 2,
}  # fmt: skip


class Devices:
    """Everything behind a link. A register holds its unit and address; what it does is by chance, and worse in some hours than in others."""

    def __init__(self, chance: random.Random, *, rtu: bool) -> None:
        self.chance, self.rtu = chance, rtu
        self.executed: Counter[tuple[int, int]] = Counter()  # writes, by unit and value

    async def connect(self, *_: object) -> Connection:
        if self.chance.random() < 0.05:
            raise LinkDown("connect", "nobody is there", sent=False)
        await asyncio.sleep(self.chance.uniform(0.0, 0.02))
        return Connection(Wire(self))  # type: ignore[arg-type]

    def answer(self, pdu: bytes, unit: int) -> bytes:
        function, address, count = struct.unpack_from(">BHH", pdu)
        if function == 6:
            self.executed[unit, count] += 1
            return pdu
        return bytes((function, 2 * count)) + b"".join(struct.pack(">H", 1000 * unit + address + place) for place in range(count))


class Wire:
    """A transport to them: each reply comes later, alone, in two pieces, or together with others."""

    def __init__(self, devices: Devices) -> None:
        self.devices, self.loop, self.open = devices, asyncio.get_running_loop(), True
        self.protocol: Any = None
        self.kept = b""  # what comes along with the next reply

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def abort(self) -> None:
        self.open = False

    def write(self, data: bytes) -> None:
        devices, chance = self.devices, self.devices.chance
        if devices.rtu:
            assert crc16(data) == 0
            unit, pdu = data[0], data[1:-2]
        else:
            unit, pdu = data[6], data[7:]
            assert int.from_bytes(data[4:6], "big") == len(pdu) + 1, "one frame is written at a time"
        [way] = chance.choices(list(WAYS), list(WAYS.values()))
        if way == "drop":
            self.loop.call_soon(self.end)
            return
        if way == "silent":
            return
        codes = {"busy": 6, "no such": 2, "gateway": 11}
        reply = bytes((pdu[0] | 0x80, codes[way])) if way in codes else devices.answer(pdu, unit)
        if way == "cut":
            reply = reply[:-1]
        who = unit ^ 16 if way == "other unit" else unit
        if devices.rtu:
            frame = bytes((who,)) + reply
            frame += crc16(frame).to_bytes(2, "little")
        else:
            frame = data[:4] + struct.pack(">HB", len(reply) + 1, who) + reply
        delay = chance.uniform(0.0, 0.02) + {"slow": 0.6 * WITHIN, "late": 1.5 * WITHIN}.get(way, 0.0)
        for _ in range(2 if way == "twice" else 1):
            self.loop.call_later(delay, self.come, frame)

    def come(self, frame: bytes) -> None:
        frame = self.kept + frame
        self.kept = b""
        if self.devices.chance.random() < 0.15 and not self.devices.rtu:
            self.kept = frame
            self.loop.call_later(0.03, self.rest)
        elif self.devices.chance.random() < 0.2:
            self.bring(frame[:5])
            self.loop.call_later(0.001, self.bring, frame[5:])
        else:
            self.bring(frame)

    def rest(self) -> None:
        frame, self.kept = self.kept, b""
        self.bring(frame)

    def bring(self, data: bytes) -> None:
        if self.open and data:
            self.protocol.data_received(data)

    def end(self) -> None:
        if self.open:
            self.open = False
            self.protocol.connection_lost(None)


async def reader(line: Line, unit: Unit, chance: random.Random, faults: list[str]) -> int:
    """Ask for several blocks again and again, and sometimes give up; return how many replies were right."""
    loop, right = asyncio.get_running_loop(), 0
    for _ in range(12):
        asked = [line.frame(unit, read("holding", 10 * chance.randrange(8), chance.randrange(1, 5))) for _ in range(chance.randrange(1, 7))]
        begun = loop.time()
        job = line.ask(unit, asked, deadline=begun + chance.uniform(0.0, 1.0), within=WITHIN, until=begun + WITHIN)
        try:
            if chance.random() < 0.05:
                await asyncio.wait_for(job, chance.uniform(0.0, WITHIN))
            else:
                done = await asyncio.wait_for(job, 60.0)
                for question, reply in zip(asked, done.replies, strict=True):
                    if isinstance(reply, bytes):
                        address, count = struct.unpack_from(">HH", question.question.pdu, 1)
                        expected = b"".join(struct.pack(">H", 1000 * unit.number + address + place) for place in range(count))
                        right += reply == expected
                        if reply != expected:
                            faults.append(f"unit {unit.number} at {address}: {reply.hex()}")
                longest = WITHIN + 0.01 + (max(one.seconds for one in asked) if done.sent else 0.0)
                if loop.time() - begun > longest:
                    faults.append(f"{loop.time() - begun:.3f} s, at most {longest:.3f}")
        except TimeoutError:
            if loop.time() - begun > 50.0:
                faults.append("a reader waits for ever")
        except (LinkDown, BadReply):
            pass
        await asyncio.sleep(chance.choice((0.0, 0.01, 0.2)))
    return right


async def writer(line: Line, unit: Unit, chance: random.Random, faults: list[str]) -> None:
    """Write a number that is never written again."""
    loop = asyncio.get_running_loop()
    for number in range(6):
        now = loop.time()
        asked = [line.frame(unit, write_register(500, number))]
        job = line.ask(unit, asked, deadline=now, within=WITHIN, until=now + WITHIN, urgent=True)
        try:
            done = await asyncio.wait_for(job, 60.0)
            if not isinstance(done.replies[0], bytes | DeviceSaidNo):
                faults.append(f"a write ended with {done.replies[0]}")
        except TimeoutError:
            faults.append("a writer waits for ever")
        except (LinkDown, BadReply):
            pass
        await asyncio.sleep(chance.uniform(0.0, 0.5))


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("scheme", ["modbus-tcp", "modbus-rtu-tcp"])
def test_whoever_asks_gets_an_end_in_time_and_its_own_reply(scheme: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, faults = random.Random(f"{scheme} {seed}"), list[str]()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        devices = Devices(chance, rtu=scheme != "modbus-tcp")
        monkeypatch.setattr(alarm, "_LIBC", None)
        monkeypatch.setattr(modbus_line, "monotonic", loop.time)
        monkeypatch.setattr(modbus_wire, "monotonic", loop.time)
        monkeypatch.setattr(modbus_line, "connect", devices.connect)
        monkeypatch.setattr(modbus_wire.secrets, "randbelow", chance.randrange)
        line = Line(Address.parse(f"{scheme}://127.0.0.1:1?unit=1" + (f"&baud={chance.choice((4800, 9600, 19200))}" if devices.rtu else "")), Path())
        in_flight = chance.choice((1, 2, 4, 8))
        units = [line.unit(number, chance.choice((0.0, 0.0, 0.01)), in_flight) for number in range(1, chance.randrange(2, 5))]
        users = [reader(line, unit, chance, faults) for unit in units for _ in range(chance.randrange(1, 3))]
        writes = asyncio.create_task(writer(line, units[0], chance, faults))
        assert sum(await asyncio.gather(*users)) > 0, "nobody has read anything"
        await writes
        await asyncio.sleep(2.0 * WITHIN)
        assert line._flight.out == {}
        assert line._turns.jobs == []
        assert line._faults == set(), "a mistake in this program"
        assert all(times == 1 for times in devices.executed.values()), "a write was sent twice"
        await line.close()

    with asyncio.Runner(loop_factory=Later) as runner:
        runner.run(main())
    assert faults == []
