"""The client of asyncua as it comes, to be measured against: it monitors, reads and writes what opcua_source serves.

usage: python opcua_stock.py PORT ITEMS SECONDS CALLS [FOLDER]; prints what opcua_client.mjs prints. With FOLDER, a data directory of the driver, it
signs and encrypts with the certificate there, to a server that shows server.pem.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from asyncua import Client, Node, ua
from asyncua.common.subscription import DataChangeNotif
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from drivers.opcua_pki import Pki

URI = "urn:blackmass:bench"
SIGN_AND_ENCRYPT = ua.MessageSecurityMode.SignAndEncrypt
WARM = 20  # calls that are not counted


class Counter:
    """Counts what comes."""

    def __init__(self) -> None:
        self.count = 0

    def datachange_notification(self, node: Node, value: object, data: DataChangeNotif) -> None:
        self.count += 1


async def measured(work: Callable[[], Awaitable[int]]) -> dict[str, float]:
    cpu, begun = time.process_time(), time.perf_counter()
    count = await work()
    return {"count": count, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - begun}


async def main(port: int, items: int, seconds: float, calls: int, folder: Path | None) -> None:
    found = {}
    client = Client(f"opc.tcp://127.0.0.1:{port}/")
    if folder is not None:
        own = Pki(folder).own()
        client.application_uri = own.uri
        files = {"certificate": folder / "pki/own/certificate.der", "private_key": folder / "pki/own/private/key.pem"}
        await client.set_security(SecurityPolicyBasic256Sha256, **files, server_certificate=folder / "server.pem", mode=SIGN_AND_ENCRYPT)
    async with client:
        namespace = await client.get_namespace_index(URI)
        nodes = [client.get_node(ua.NodeId(f"v{place}", namespace)) for place in range(items)]
        written = [client.get_node(ua.NodeId(f"w{place}", namespace)) for place in range(100)]
        counter = Counter()
        subscription = await client.create_subscription(100, counter)
        await subscription.subscribe_data_change(nodes, queuesize=10, sampling_interval=1)
        await asyncio.sleep(1.5)

        async def monitor() -> int:
            counter.count = 0
            await asyncio.sleep(seconds)
            return counter.count

        async def read(calls: int = calls) -> int:
            for _ in range(calls):
                await client.read_values(nodes)
            return calls

        async def write(calls: int = calls) -> int:
            for call in range(calls):
                await client.write_values(written, [float(call)] * len(written))
            return calls

        found["monitor"] = await measured(monitor)
        await subscription.delete()
        await read(WARM)
        found["read"] = await measured(read)
        await write(WARM)
        found["write"] = await measured(write)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]) if len(sys.argv) > 5 else None))
