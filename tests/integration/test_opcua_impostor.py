"""A server that shows the certificate that is trusted, and does not have its key."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager

from drivers.connect import open_driver
from drivers.device import Address, Device, Security, load_profile, profile_folder
from drivers.opcua_pki import Pki
from simulators.opcua_space import DeviceServer
from tests.integration.foreign_opcua import write_pem
from tests.unit.test_opcua_pki import Made, key, make

pytestmark = pytest.mark.wire

URI = "urn:impostor"


class Anybody(UserManager):
    def get_user(self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None) -> User | None:
        return User(role=UserRole.User)


@pytest.mark.parametrize(("whose", "says"), [("its own", "offers no namespace urn:blackmass:shredder"), ("a thief's", "cannot connect to")])
def test_a_trusted_certificate_is_worth_nothing_without_its_key(tmp_path: Path, whose: str, says: str) -> None:
    """With its key the server gets as far as to be asked what it is."""

    async def main() -> None:
        real = make("press", uri=URI, hosts=("localhost",))
        certificate, secret = write_pem(real if whose == "its own" else Made(real.certificate, key("thief")), tmp_path, "server")
        Pki(tmp_path).trust(str(certificate))
        server = Server(DeviceServer(Anybody()))
        await server.init()
        await server.set_application_uri(URI)
        server.disable_clock()
        server.set_endpoint("opc.tcp://127.0.0.1:0")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
        await server.load_certificate(str(certificate))
        await server.load_private_key(str(secret))
        await server.start()
        try:
            address = Address.parse(f"opc.tcp://127.0.0.1:{server.bserver.port}")
            device = Device("press", load_profile(profile_folder() / "shredder.toml"), address, security=Security("Basic256Sha256"))
            async with open_driver(device, data=tmp_path, timeout=1.0) as driver:
                end = time.monotonic() + 8.0
                while says not in driver.metrics.why:
                    await driver.read()
                    assert time.monotonic() < end, driver.metrics.why
                    await asyncio.sleep(0.02)
                assert driver.metrics.connects == 0
        finally:
            await server.stop()

    asyncio.run(main())
