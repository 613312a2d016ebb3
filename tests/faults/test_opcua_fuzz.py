"""Malformed messages at the OPC UA driver over a real socket: no crash, no value, no stall, and it lives afterwards."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers import opcua_channel, opcua_messages, opcua_publishing
from drivers.connect import open_driver
from drivers.tags import Quality
from tests.faults.bench import served, until
from tests.faults.framing import Uacp, service
from tests.faults.proxy import Direction, Proxy, Rewrite
from tests.faults.test_opcua_faults import PROFILE, URL, behind, bench, run

pytestmark = pytest.mark.wire

HEAD = 24  # [B] of a message without security, before its body
STALL = 0.05  # [s]


def sized(message: bytes) -> bytes:
    """Return a message whose header says how long it is."""
    return message[:4] + struct.pack("<I", len(message)) + message[8:]


def shorter(message: bytes, dice: random.Random) -> bytes:
    return sized(message[: dice.randrange(HEAD, len(message))])


def longer(message: bytes, dice: random.Random) -> bytes:
    return sized(message + dice.randbytes(dice.randrange(1, 200)))


def noise(message: bytes, dice: random.Random) -> bytes:
    return sized(message[:HEAD] + dice.randbytes(dice.randrange(1, 400)))


def noise_in_a_known_reply(message: bytes, dice: random.Random) -> bytes:
    """The header of the reply stays, and what it carries is noise."""
    keep = min(HEAD + 24 + 4, len(message))
    return sized(message[:keep] + dice.randbytes(dice.randrange(1, 400)))


def huge_counts(message: bytes, dice: random.Random) -> bytes:
    """Every count is a great many."""
    body = message[HEAD:]
    place = dice.randrange(0, max(len(body) - 4, 1))
    return message[:HEAD] + body[:place] + b"\xff\xff\xff\x7f" + body[place + 4 :]


def announced(message: bytes, dice: random.Random) -> bytes:
    """A chunk of two gigabytes begins."""
    return message[:4] + struct.pack("<I", 2**31) + message[8:]


def chunk_kind(message: bytes, dice: random.Random) -> bytes:
    """It is only a part, is given up, or is of a kind that does not exist."""
    return message[:3] + dice.choice([b"C", b"A", b"X"]) + message[4:]


def not_even_a_message(message: bytes, dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(1, 500))


KINDS = [shorter, longer, noise, noise_in_a_known_reply, announced, chunk_kind, not_even_a_message]


class Stopwatch:
    """Measures the CPU that the driver spends at a time on what comes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.longest = 0.0
        for owner, name in (
            (opcua_channel._BoundedProtocol, "data_received"),
            (opcua_publishing.Publishing, "_step"),
            (opcua_messages, "read_reply"),
            (opcua_messages, "status_reply"),
        ):
            monkeypatch.setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            begun = time.thread_time()
            try:
                return work(*args, **named)
            finally:
                self.longest = max(self.longest, time.thread_time() - begun)

        return timed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_malformed_replies_are_no_value_and_no_stall(kind: Callable[[bytes, random.Random], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(kind.__name__)
    stopwatch = Stopwatch(monkeypatch)

    async def main() -> None:
        async with bench() as ([watch], [proxy], _, _):
            problems: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
            for times in (1, 3):
                fault = proxy.add(
                    Rewrite(
                        lambda message: kind(message, dice), direction=Direction.REPLIES, times=times, match=lambda message: message[:3] == b"MSG"
                    )
                )
                end = time.monotonic() + 5.0
                while fault.done < times and time.monotonic() < end:
                    await asyncio.sleep(0.01)
                assert fault.done == times
                await watch.lives(10.0)
            assert problems == []

    run(main)
    assert stopwatch.longest < STALL


def test_counts_that_are_huge_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count somewhere in a reply is 2,147,483,647. A value may be hit instead, which nobody could tell: so only the time counts, and its return."""
    dice = random.Random(1)
    stopwatch = Stopwatch(monkeypatch)

    async def main() -> None:
        async with (
            served(PROFILE, URL) as ([device], _, _),
            Proxy("127.0.0.1", device.address.port, Uacp, service) as proxy,
            open_driver(behind(device, proxy), data=Path(), timeout=0.3) as driver,
        ):
            for _ in range(25):
                proxy.add(Rewrite(lambda message: huge_counts(message, dice), direction=Direction.REPLIES, times=1))
                end = time.monotonic() + 0.2
                while time.monotonic() < end:
                    await driver.read()
                    await asyncio.sleep(0.02)
            proxy.clear()

            async def lives() -> bool:
                return bool((await driver.read()).quality.max() == Quality.GOOD)

            await until(lives, 10.0, lambda: driver.metrics.why)

    run(main)
    assert stopwatch.longest < STALL
