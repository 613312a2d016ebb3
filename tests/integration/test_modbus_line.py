"""What a link does when a step of its own goes wrong, and what people are told when something else than a Modbus device is there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers import modbus_line, modbus_wire
from drivers.connect import open_driver
from drivers.device import Address, Device
from drivers.driver import WriteResult
from drivers.modbus_turns import Turns, Unit
from drivers.modbus_wire import RtuWire, TcpWire
from simulators.bench import StaticPlant
from simulators.serve import Servers
from tests.integration.test_modbus_schedule import Gateway, profile, until

pytestmark = pytest.mark.wire

MADE = profile({"level": {"at": "input:10"}, "sp": {"at": "holding:1", "range": [0, 300], "access": "write"}})


class Mistake:
    """Makes a step of the program fail, each time that it is done while `left` is not 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.left = self.made = 0
        right = getattr(owner, name)

        def wrong(*args: Any, **more: Any) -> Any:
            if not self.left:
                return right(*args, **more)
            self.left -= 1
            self.made += 1
            raise KeyError("a step that went wrong")

        monkeypatch.setattr(owner, name, wrong)


STEPS: dict[str, tuple[object, str, str]] = {
    "whose turn it is": (Turns, "next", "modbus-tcp"),
    "to send": (TcpWire, "send", "modbus-tcp"),
    "a reply": (modbus_line.Line, "replied", "modbus-tcp"),
    "a good reply": (Unit, "answered", "modbus-tcp"),
    "to connect": (modbus_line, "connect", "modbus-tcp"),
    "to send on a line": (RtuWire, "send", "modbus-rtu"),
    "a reply on a line": (modbus_wire, "rtu_reply", "modbus-rtu"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_the_link_that_goes_wrong_costs_a_connection_and_is_told_once(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits gets it as a failure at once, not when its time is over; the next connection brings values again."""
    owner, name, scheme = STEPS[step]
    address = "modbus-tcp://127.0.0.1:0?unit=1" if scheme == "modbus-tcp" else "modbus-rtu:line?unit=1&baud=115200"

    async def main() -> None:
        device, plant = Device("d", MADE, Address.parse(address)), StaticPlant({"d": MADE})
        async with Servers([device], plant, data=tmp_path) as servers:
            device = Device("d", MADE, servers.endpoints["d"])
            mistake = Mistake(monkeypatch, owner, name)
            async with open_driver(device, data=tmp_path) as driver:
                for times in (1, 2):
                    if step != "to connect":
                        await until(lambda: driver.metrics.connected, driver)
                    lost, mistake.left = driver.metrics.errors["drop"], 1
                    begun = time.monotonic()
                    reading = await asyncio.wait_for(driver.read(), 5.0)
                    if mistake.made < times:  # it connects only when the pause is over
                        await until(lambda times=times: mistake.made == times, driver)  # type: ignore[misc]
                    else:
                        assert np.isnan(reading.values).all()
                        assert time.monotonic() - begun < 0.5 * driver.timeout, "its time was waited for"
                    assert driver.metrics.errors["drop"] == lost + 1
                    assert "a mistake in this program, KeyError('a step that went wrong')" in driver.metrics.why
                await until(lambda: driver.metrics.connected, driver)
                np.testing.assert_allclose((await driver.read()).values, plant.values["d"])
                if step == "a reply":
                    mistake.left = 1
                    [outcome] = await driver.write({"sp": 20.0})
                    assert outcome.result is WriteResult.UNKNOWN, "it had been sent"
                    begun = time.monotonic()
                    while (await driver.read()).values[1] != 20.0:
                        assert time.monotonic() - begun < 5.0, driver.metrics
                        await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [(record.name, bool(record.exc_info)) for record in errors] == [("drivers.modbus_line", True)]
    assert "please report it" in errors[0].getMessage()


@pytest.mark.parametrize("step", ["silent", "patience"])
def test_a_mistake_when_a_timer_rings_costs_a_connection(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One when a reply is late, one when a unit that wants a pause may be asked again."""

    async def main() -> None:
        options: dict[str, Any] = {"pause": "30 ms"} if step == "patience" else {}
        async with Gateway().serve() as gateway, open_driver(gateway.device(1, **options), data=tmp_path, timeout=0.3) as driver:
            await until(lambda: driver.metrics.connected, driver)
            mistake = Mistake(monkeypatch, Turns, step)
            if step == "silent":
                gateway.silent.add(1)
            else:
                driver._unit.failures = 1  # type: ignore[attr-defined]  # else its patience is not asked for
            mistake.left = 1
            assert np.isnan((await asyncio.wait_for(driver.read(), 5.0)).values).all()
            assert mistake.made == 1
            assert driver.metrics.errors["drop"] == 1
            gateway.silent.clear()
            await until(lambda: driver.metrics.connected, driver)

    asyncio.run(main())


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """Serve what is not Modbus; yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(answer(b""))
            while data := await reader.read(1000):
                if (said := answer(data)) == b"bye":
                    break
                writer.write(said)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


ERROR = b"ERRF" + (8 + 4 + 4).to_bytes(4, "little") + (0x807E0000).to_bytes(4, "little") + bytes(4)  # OPC UA part 6, 7.1.2.5
NO_MODBUS = "what answers there does not speak Modbus, it sent"
STRANGERS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "OPC UA": ("modbus-tcp", lambda data: ERROR if data else b"", f"{NO_MODBUS} 45 52 52 46 10 00 00 00"),
    "greets": ("modbus-tcp", lambda data: b"" if data else b"SSH-2.0-Server\r\n", f"{NO_MODBUS} 'SSH-2.0-Server'"),
    "prompts": ("modbus-tcp", lambda data: b"" if data else b"$ ", f"{NO_MODBUS} '$'"),
    "hangs up": (
        "modbus-tcp",
        lambda data: b"bye" if data else b"",
        "closed by the other end, before any reply; check that it is on, and unit in its address",
    ),
    "silent": (
        "modbus-tcp",
        lambda data: b"",
        "does not answer within 0.30 s; check that it is on, and unit in its address, and that this port speaks Modbus",
    ),
    "prompts on a line": ("modbus-rtu-tcp", lambda data: b"login: " if data else b"", "gave a reply that is none: asked function 4 of unit 1, got"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_does_not_speak_modbus_is_told_so(stranger: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scheme, answer, says = STRANGERS[stranger]

    async def main() -> None:
        async with answering(answer) as port:
            device = Device("d", MADE, Address.parse(f"{scheme}://127.0.0.1:{port}?unit=1"))
            async with open_driver(device, data=tmp_path, timeout=0.3) as driver:
                await until(lambda: driver.metrics.why != "not connected yet", driver)
                assert f"127.0.0.1:{port}" in driver.metrics.why
                assert says in driver.metrics.why
                assert "; check" in driver.metrics.why

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    [told] = [record.getMessage() for record in caplog.records if record.name.startswith("drivers")]
    assert says in told


def test_a_device_that_was_there_is_not_taken_for_another_protocol(tmp_path: Path) -> None:
    async def main() -> None:
        async with Gateway().serve() as gateway, open_driver(gateway.device(1), data=tmp_path, timeout=0.2) as driver:
            await until(lambda: driver.metrics.connected, driver)
            gateway.behave = lambda request, reply: [b"noise on the way"]
            await until(lambda: not driver.metrics.connected, driver)
            assert "it sent 'noise on the way', which is no Modbus" in driver.metrics.why
            gateway.behave = lambda request, reply: [reply]
            await until(lambda: driver.metrics.connected, driver)
            gateway.silent.add(1)
            await until(lambda: not driver.metrics.connected, driver)
            assert driver.metrics.why.endswith("; check that it is on, and unit in its address")

    asyncio.run(main())
