"""What asyncio itself costs: it sends N requests for 125 input registers and counts the bytes that come, no more. Nobody who uses it can be quicker.

usage: python modbus_bare.py PORT UNIT REQUESTS IN_FLIGHT; prints what modbus_client.c prints.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from typing import cast

REQUEST, REPLY = struct.Struct(">HHHBBHH"), 9 + 250


class Bare(asyncio.BufferedProtocol):
    """Sends `requests`, some at a time, each in a segment of its own, as ours does."""

    def __init__(self, unit: int, requests: int, in_flight: int) -> None:
        self.request = REQUEST.pack(1, 0, 6, unit, 4, 0, 125)
        self.left, self.in_flight, self.missing = requests, in_flight, 0
        self.view = memoryview(bytearray(65536))
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.ask()

    def ask(self) -> None:
        count = min(self.left, self.in_flight)
        self.left -= count
        self.missing = count * REPLY
        for _ in range(count):
            self.transport.write(self.request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.view

    def buffer_updated(self, nbytes: int) -> None:
        self.missing -= nbytes
        if not self.missing:
            if self.left:
                self.ask()
            else:
                self.done.set_result(None)


async def main(port: int, unit: int, requests: int, in_flight: int) -> None:
    cpu, begun = time.process_time(), time.perf_counter()
    transport, bare = await asyncio.get_running_loop().create_connection(lambda: Bare(unit, requests, in_flight), "127.0.0.1", port)
    await bare.done
    used, passed = time.process_time() - cpu, time.perf_counter() - begun
    transport.close()
    sys.stdout.write(json.dumps({"requests": requests, "cpu_s": used, "wall_s": passed}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*(int(word) for word in sys.argv[1:])))
