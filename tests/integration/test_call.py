"""`blackmass call`, against a server of asyncua's own and against a simulated device that may be in its safe state."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Server, ua
from click.testing import CliRunner, Result

from controller.batch.journal import JournalReader
from controller.batch.records import Event
from controller.cli import main
from controller.runtime.lock import lock
from drivers.connect import open_driver
from drivers.device import Address, Device, Security, load_profile, profile_folder
from tests.integration.test_serve import line, serving

pytestmark = pytest.mark.wire

URI = "urn:test:press"
PROFILE = f"""
id = "pressed"
description = "A press"
protocol = "opcua"
identity = {{ at = "nsu={URI};s=identity", type = "uint32", value = 4711 }}
[signals.speed]
at = "nsu={URI};s=speed"
type = "float64"
eu = "%"
range = [0, 100]
access = "write"
[methods.dose]
at = "nsu={URI};s=dose"
description = "Doses as it turns"
inputs.speed = {{ writes = "speed", type = "float64", eu = "1" }}
inputs.steps = {{ type = "int32" }}
outputs.total = {{ eu = "kg" }}
[methods.hang]
at = "nsu={URI};s=hang"
"""
CELL = """
[cell]
id = "works"
[devices.press]
profile = "pressed"
address = "{address}"
security = "none"
[devices.press.tags]
"SC-1" = "speed"
"""


class Press:
    """A server with two methods; `calls` holds what each was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.address = ""
        self.ready, self.end = threading.Event(), asyncio.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        server = Server()
        await server.init()
        server.disable_clock()
        server.set_endpoint("opc.tcp://127.0.0.1:0")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        space = await server.register_namespace(URI)

        def node(name: str) -> ua.NodeId:
            return ua.NodeId(ua.String(name), ua.Int16(space))

        press = await server.nodes.objects.add_object(node("press"), ua.QualifiedName("Press", ua.UInt16(space)))
        await press.add_variable(node("identity"), "identity", 4711, ua.VariantType.UInt32)
        speed = await press.add_variable(node("speed"), "speed", 0.0, ua.VariantType.Double)
        await speed.set_writable()
        taken = [
            ua.Argument(Name="Speed", DataType=ua.NodeId(ua.Int32(ua.ObjectIds.Double)), ValueRank=ua.Int32(-1)),
            ua.Argument(Name="Steps", DataType=ua.NodeId(ua.Int32(ua.ObjectIds.Int32)), ValueRank=ua.Int32(-1)),
        ]
        await press.add_method(node("dose"), ua.QualifiedName("dose", ua.UInt16(space)), self._dose, taken, [])
        await press.add_method(node("hang"), ua.QualifiedName("hang", ua.UInt16(space)), self._hang, [], [])
        await server.start()
        self.address = f"opc.tcp://127.0.0.1:{server.bserver.port}"
        self.ready.set()
        await self.end.wait()
        await server.stop()

    async def _dose(self, _parent: ua.NodeId, speed: ua.Variant, steps: ua.Variant) -> Any:
        self.calls.append((speed.Value, steps.Value))
        if steps.Value < 0:
            return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadOutOfRange))
        return [ua.Variant(speed.Value * steps.Value, ua.VariantType.Double)]

    async def _hang(self, _parent: ua.NodeId) -> Any:
        self.calls.append(())
        await self.end.wait()
        return []


@pytest.fixture(scope="module")
def press() -> Iterator[Press]:
    made = Press()
    made.thread.start()
    try:
        assert made.ready.wait(30.0)
        yield made
    finally:
        made.loop.call_soon_threadsafe(made.end.set)
        made.thread.join(30.0)


@pytest.fixture
def cell(press: Press, tmp_path: Path) -> Path:
    (tmp_path / "pressed.toml").write_text(PROFILE, encoding="utf-8")
    path = tmp_path / "works.toml"
    path.write_text(CELL.format(address=press.address), encoding="utf-8")
    press.calls.clear()
    return path


def call(cell: Path, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(main, ["call", "press", *arguments, "--cell", str(cell), "--data", str(cell.parent)])


def test_it_is_shown_called_once_journaled_and_its_outputs_have_their_eu(press: Press, cell: Path) -> None:
    said = call(cell, "dose", "speed=50 %", "steps=3", "--yes", "--who", "Ada", "--why", "after a new cloth")
    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines() == [
        f"press.dose at {press.address}, nsu={URI};s=dose: Doses as it turns",
        "  speed = 50 %, for speed (0 to 100 %), sent as 0.5",
        "  steps = 3",
        "confirmed",
        "  total = 1.5 kg",
    ]
    assert press.calls == [(0.5, 3)]
    before, after = [entry.event for entry in JournalReader(cell.parent / "journal.sqlite").entries("")]
    assert before == Event("command", "call", "", "press.dose(speed 50 %, steps 3)", "Ada", "after a new cloth")
    assert after == Event("device", "press.dose", "", "confirmed")


def test_its_exit_status_tells_what_is_known(press: Press, cell: Path) -> None:
    refused = call(cell, "dose", "speed=5", "steps=-1", "--yes")
    assert refused.exit_code == 1, refused.output
    assert "refused: BadOutOfRange" in refused.stdout
    assert press.calls == [(0.05, -1)]
    unknown = call(cell, "hang", "--yes", "--within", "0.5")
    assert unknown.exit_code == 4, unknown.output
    assert "unknown: the call may or may not be done" in unknown.stdout
    assert "look at the device before you call again" in unknown.stderr
    assert press.calls == [(0.05, -1), ()], "it was called again"
    gone = call(cell, "dose", "speed=5", "steps=1", "--yes", "--within", "0.5", "--device", "press=opc.tcp://127.0.0.1:1")
    assert gone.exit_code == 1
    assert "not sent: " in gone.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("does", "speed=5", "steps=1"), 2, "has no method 'does'; did you mean 'dose'? it has dose, hang"),
        (("dose", "sped=5", "steps=1"), 2, "has no input 'sped'; did you mean 'speed'? it has speed, steps"),
        (("dose", "steps=1"), 2, "it also takes speed='VALUE %'"),
        (("dose", "speed=150", "steps=1"), 2, "speed 150 % is outside of the range of speed, 0 to 100 %"),
        (("dose", "speed=5 kg", "steps=1"), 2, "5 kg cannot be expressed in %"),
        (("dose", "speed=5", "steps=1e12"), 2, "does not fit a int32"),
        (("dose", "speed", "steps=1"), 2, "expected INPUT=VALUE, got 'speed'"),
        (("dose", "speed=5", "steps=1", "--heartbeat"), 2, "profile pressed has no heartbeat"),
    ],
)
def test_what_cannot_be_called_is_refused_before_anything_is_sent(
    press: Press, cell: Path, arguments: tuple[str, ...], status: int, says: str
) -> None:
    said = call(cell, *arguments, "--yes")
    assert (said.exit_code, says in said.output) == (status, True), said.output
    assert press.calls == []
    assert not (cell.parent / "journal.sqlite").exists()


def test_nobody_calls_without_a_yes(press: Press, cell: Path) -> None:
    said = call(cell, "dose", "speed=5", "steps=1")
    assert said.exit_code == 2
    assert "this is no terminal; a script gives --yes" in said.output
    for answer, status in (("n", 1), ("y", 0)):
        command = [sys.executable, "-m", "controller.cli", "call", "press", "dose", "speed=5", "steps=2", "--cell", str(cell)]
        ours, theirs = pty.openpty()
        with subprocess.Popen([*command, "--data", str(cell.parent)], stdin=theirs, stdout=subprocess.PIPE, text=True) as process:
            os.close(theirs)
            os.write(ours, f"{answer}\n".encode())
            shown, _ = process.communicate(timeout=30.0)
        os.close(ours)
        assert process.returncode == status, shown
        assert shown.index("speed = 5 %") < shown.index("Call dose of press now?")
        assert press.calls == ([(0.05, 2)] if answer == "y" else [])


def test_it_is_refused_while_a_service_runs_the_cell(press: Press, cell: Path) -> None:
    with lock(cell.parent):
        said = call(cell, "dose", "speed=5", "steps=1", "--yes")
    assert said.exit_code == 3
    assert f"process {os.getpid()} runs cell works, and would not know of this call; stop it first" in said.output
    assert press.calls == []


def test_a_device_in_its_safe_state_takes_it_after_a_heartbeat(tmp_path: Path) -> None:
    """As every device is for which no service runs any more."""
    cell = '[cell]\nid = "p"\n[devices.press]\nprofile = "shredder"\naddress = "{}"\nsecurity = "none"\ntags = {{ "AT-1" = "oxygen" }}\n'
    with serving([{"name": "press", "profile": "shredder", "address": "opc.tcp://127.0.0.1:0/press"}], tmp_path) as process:
        address = line(process)["endpoints"]["press"]
        path = tmp_path / "p.toml"
        path.write_text(cell.format(address), encoding="utf-8")

        async def leave_it_alone() -> None:
            profile = load_profile(profile_folder() / "shredder.toml")
            device = Device("press", profile, Address.parse(address), security=Security("none"))
            async with open_driver(device, data=tmp_path) as driver:
                end = time.monotonic() + 15.0
                place = profile.place("safe_state")
                while not driver.metrics.connected:
                    await driver.read()
                    assert time.monotonic() < end, driver.metrics.why
                    await asyncio.sleep(0.02)
                await driver.write({"heartbeat": 7.0})
                while (await driver.read()).values[place] != 1.0:
                    assert time.monotonic() < end, "it does not fall to its safe state"
                    await asyncio.sleep(0.05)

        asyncio.run(leave_it_alone())
        said = call(path, "reset_drive", "--yes")
        assert said.exit_code == 1, said.output
        assert "refused: BadInvalidState" in said.stdout
        assert "see --heartbeat" in said.stderr
        said = call(path, "reset_drive", "--yes", "--heartbeat")
        assert said.exit_code == 0, said.output
        assert "first its heartbeat is written once: if it is in its safe state, it leaves that for 5 s" in said.stdout
