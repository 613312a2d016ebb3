"""A server of asyncua with and without security, for what encryption costs a client; it serves what opcua_source does, at a rate that it keeps.

usage: python opcua_secured.py ITEMS CHANGES FOLDER; makes its certificate in FOLDER, server.pem, and takes every client. The value of a variable is
the number of all changes before. Prints {"port": N} when ready, and ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path

from asyncua import Server, ua
from asyncua.crypto.cert_gen import dump_private_key_as_pem, generate_private_key, generate_self_signed_app_certificate
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

URI, IDENTITY, WRITABLE = "urn:blackmass:bench", 4321, 100
APPLICATION = "urn:blackmass:bench:server"
TICK = 0.02  # [s]


class Anybody(UserManager):
    """Lets everybody in."""

    def get_user(self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None) -> User | None:
        return User(role=UserRole.User)


async def secure(server: Server, folder: Path) -> None:
    """Give the server a certificate of its own."""
    key = generate_private_key()
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(APPLICATION), x509.DNSName("localhost")]
    certificate = generate_self_signed_app_certificate(key, "bench", {}, names, [ExtendedKeyUsageOID.SERVER_AUTH], days=2)
    files = {"server.pem": certificate.public_bytes(Encoding.PEM), "server-key.pem": dump_private_key_as_pem(key)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    await server.set_application_uri(APPLICATION)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(str(folder / "server.pem"))
    await server.load_private_key(str(folder / "server-key.pem"))


async def main(items: int, changes: float, folder: Path) -> None:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    server = Server(user_manager=Anybody())
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    await secure(server, folder)
    space = await server.register_namespace(URI)
    objects = server.nodes.objects
    nodes = [await objects.add_variable(ua.NodeId(f"v{place}", space), f"v{place}", 0.0) for place in range(items)]
    for place in range(WRITABLE):
        node = await objects.add_variable(ua.NodeId(f"w{place}", space), f"w{place}", 0.0)
        await node.set_writable()
    await objects.add_variable(ua.NodeId("identity", space), "identity", IDENTITY, ua.VariantType.UInt16)
    done = 0

    async def change() -> None:
        nonlocal done
        begun = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            while done < (time.monotonic() - begun) * changes:
                value = ua.DataValue(ua.Variant(float(done), ua.VariantType.Double), SourceTimestamp=None)
                await server.write_attribute_value(nodes[done % items].nodeid, value)
                done += 1

    async with server:
        sys.stdout.write(json.dumps({"port": server.bserver.port}) + "\n")
        sys.stdout.flush()
        changing = asyncio.create_task(change())
        await asyncio.to_thread(sys.stdin.read)
        changing.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])))
