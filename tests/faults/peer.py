"""The devices of the campaign in a process of their own: ``python -m tests.faults.peer``. Prints its addresses; ends at the end of its input."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drivers.device import Address, Device
from tests.faults.bench import POLL, modbus_profile, opcua_profile, served

__all__ = ["peer"]


async def main() -> None:
    async with (
        served(modbus_profile(), "modbus-tcp://127.0.0.1:0") as ([modbus], _, _),
        served(opcua_profile(), "opc.tcp://127.0.0.1:0") as ([opcua], _, _),
    ):
        sys.stdout.write(json.dumps({"modbus": str(modbus.address), "opcua": str(opcua.address)}) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def peer() -> Iterator[dict[str, Device]]:
    """Run it; yield a device of each protocol."""
    command = [sys.executable, "-m", "tests.faults.peer"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            addresses = json.loads(process.stdout.readline())
            profiles = {"modbus": modbus_profile(), "opcua": opcua_profile()}
            yield {name: Device(name, profiles[name], Address.parse(text), poll=POLL) for name, text in addresses.items()}
            process.stdin.close()
            process.wait(10.0)
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(main())
