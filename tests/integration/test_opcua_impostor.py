"""A server that shows the certificate that is trusted and does not have its key, or shows an odd one."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.server.uaprocessor import UaProcessor
from asyncua.server.user_managers import UserManager

from drivers.connect import open_driver
from drivers.device import Address, Device, Security, load_profile, profile_folder
from drivers.opcua_pki import Pki
from drivers.tags import Quality
from simulators.opcua_space import DeviceServer
from tests.faults.framing import Uacp, service
from tests.faults.proxy import Proxy, Rewrite
from tests.integration.foreign_opcua import write_pem
from tests.unit.test_opcua_pki import ODD, URI, Made, key, make

pytestmark = pytest.mark.wire

OFFERED = 431  # GetEndpointsResponse (part 6, A.3)


class Anybody(UserManager):
    def get_user(self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None) -> User | None:
        return User(role=UserRole.User)


@asynccontextmanager
async def secured_server(made: Made, data: Path) -> AsyncIterator[Device]:
    """Run a server with this certificate, which is trusted in `data`, and no nodes of its own."""
    certificate, secret = write_pem(made, data, "server")
    Pki(data).trust(str(certificate))
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
        yield Device("press", load_profile(profile_folder() / "shredder.toml"), address, security=Security("Basic256Sha256"))
    finally:
        await server.stop()


def real() -> Made:
    return make("press", uri=URI, hosts=("localhost",))


async def refused(device: Device, data: Path, says: str, times: int = 1) -> None:
    """Wait until a driver has been refused so often, with a pause after each, for this reason."""
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: unheard.append(about))
    async with open_driver(device, data=data, timeout=1.0) as driver:
        begun = time.monotonic()
        while says not in driver.metrics.why or driver.metrics.errors["connect"] + driver.metrics.errors["identity"] < times:
            assert (await driver.read()).quality.min() == Quality.BAD
            assert time.monotonic() < begun + 8.0, driver.metrics
            await asyncio.sleep(0.02)
        assert time.monotonic() - begun > sum(0.1 * 2**pause for pause in range(times - 1)) / 2
        assert driver.metrics.connects == 0
        assert "mistake" not in driver.metrics.why  # it is the server's
    gc.collect()
    await asyncio.sleep(0)
    assert unheard == []


@pytest.mark.parametrize(("whose", "says"), [("its own", "offers no namespace urn:blackmass:shredder"), ("a thief's", "cannot connect to")])
def test_a_trusted_certificate_is_worth_nothing_without_its_key(tmp_path: Path, whose: str, says: str) -> None:
    """With its key the server gets as far as to be asked what it is."""

    async def main() -> None:
        async with secured_server(real() if whose == "its own" else Made(real().certificate, key("thief")), tmp_path) as device:
            await refused(device, tmp_path, says)

    asyncio.run(main())


def test_a_server_that_signs_wrongly_when_a_session_begins_is_refused_with_that_as_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = UaProcessor.send_response

    def wrongly(self: UaProcessor, header: object, number: object, response: object, *more: object, **named: object) -> object:
        if isinstance(response, ua.CreateSessionResponse):
            response.Parameters.ServerSignature.Signature = bytes(256)
        return send(self, header, number, response, *more, **named)

    async def main() -> None:
        async with secured_server(real(), tmp_path) as device:
            await refused(device, tmp_path, "the server's signature does not fit its certificate", times=4)

    monkeypatch.setattr(UaProcessor, "send_response", wrongly)
    asyncio.run(main())


@pytest.mark.parametrize("how", ODD)
def test_a_server_whose_certificate_cannot_be_judged_is_refused_with_what_is_odd(tmp_path: Path, how: str) -> None:
    """As it says what it offers, which is not secured yet, its certificate is made odd."""
    old, new = ODD[how]

    async def main() -> None:
        async with (
            secured_server(real(), tmp_path) as device,
            Proxy("127.0.0.1", device.address.port, Uacp, service) as proxy,
        ):
            proxy.add(Rewrite(lambda message: message.replace(old, new), match=lambda message: service(message) == OFFERED))
            await refused(replace(device, address=replace(device.address, port=proxy.port)), tmp_path, how, times=3)

    asyncio.run(main())
