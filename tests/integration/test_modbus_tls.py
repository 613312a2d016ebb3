"""Modbus/TCP Security against a server that is not ours: pymodbus's own, with certificates of an authority made here."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymodbus.server import ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.connect import open_driver
from drivers.device import Address, Device, Profile
from drivers.driver import Driver, WriteResult
from tests.faults.bench import until

pytestmark = pytest.mark.wire

PROFILE: Final = Profile.model_validate(
    {
        "id": "thing",
        "description": "",
        "protocol": "modbus",
        "identity": {"at": "holding:0", "value": 7},
        "signals": {"level": {"at": "holding:1", "range": [0, 100]}, "sp": {"at": "holding:3", "range": [0, 100], "access": "write"}},
    }
)
LEVEL: Final = 42.5
DAY: Final = datetime.timedelta(days=1)
HERE: Final = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.pem = folder / f"{name}.pem"
        self._write(self.pem, self.name, self.key, x509.BasicConstraints(ca=True, path_length=0), 100.0, -1.0)

    def issue(self, name: str, days: float = 30.0, *, of: x509.GeneralName = HERE, begins: float = -60.0) -> tuple[Path, Path]:
        """Return a certificate and its key, valid from `begins` to `days` [d] from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        at, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._write(at, subject, key, x509.SubjectAlternativeName([of]), days, begins)
        form = serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return at, private

    def _write(self, at: Path, subject: x509.Name, key: ec.EllipticCurvePrivateKey, more: x509.ExtensionType, days: float, begins: float) -> None:
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now + begins * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(more, critical=isinstance(more, x509.BasicConstraints))
            .sign(self.key, hashes.SHA256())
        )
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(made.public_bytes(serialization.Encoding.PEM))


@asynccontextmanager
async def serving(
    certificate: tuple[Path, Path], clients: Path | None = None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> AsyncIterator[Device]:
    """Serve with pymodbus; `clients` is the authority whose certificates clients must show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.maximum_version = newest
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    words = [7, *struct.unpack(">HHHH", struct.pack(">ff", LEVEL, 0.0))]
    server = ModbusTlsServer(SimDevice(1, [SimData(0, values=words, datatype=DataType.REGISTERS)]), address=("127.0.0.1", 0), sslctx=context)
    await server.serve_forever(background=True)
    try:
        port = server.transport.sockets[0].getsockname()[1]
        yield Device("d", PROFILE, Address.parse(f"modbus-tls://127.0.0.1:{port}?unit=1"), 0.1)
    finally:
        await server.shutdown()


def trust(data: Path, *certificates: Path) -> None:
    trusted = data / "tls" / "trusted"
    trusted.mkdir(parents=True, exist_ok=True)
    for certificate in certificates:
        (trusted / certificate.name).write_bytes(certificate.read_bytes())


def show(data: Path, certificate: tuple[Path, Path]) -> None:
    """Put our own certificate where the driver looks for it."""
    for at, name in zip(certificate, ("own.pem", "own.key"), strict=True):
        (data / "tls" / name).write_bytes(at.read_bytes())


async def works(device: Device, data: Path) -> None:
    async with open_driver(device, data=data) as driver:
        reading = await driver.read()
        assert driver.metrics.connected, driver.metrics.why
        assert reading.values[0] == LEVEL
        [outcome] = await driver.write({"sp": 12.5})
        assert outcome.result is WriteResult.CONFIRMED, outcome
        assert (await driver.read()).values[1] == 12.5


async def refused(device: Device, data: Path) -> str:
    """Return why there is no link; nothing is read before."""

    async def tried(driver: Driver) -> bool:
        assert np.isnan((await driver.read()).values).all()
        return driver.metrics.errors["connect"] + driver.metrics.errors["drop"] > 0

    async with open_driver(device, data=data) as driver:
        await until(lambda: tried(driver), 5.0, lambda: (driver.metrics.why, driver.metrics.errors))
        assert not driver.metrics.connected
        return driver.metrics.why


def test_reads_and_writes_with_an_authority_that_is_trusted_or_the_devices_own_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "plant-ca")
    certificate = authority.issue("device")

    async def main() -> None:
        async with serving(certificate) as device:
            trust(tmp_path / "by-authority", authority.pem)
            await works(device, tmp_path / "by-authority")
            trust(tmp_path / "itself", certificate[0])
            await works(device, tmp_path / "itself")

    asyncio.run(main())


REFUSED: Final[dict[str, tuple[Callable[[Authority, Authority], tuple[Path, Path]], list[str]]]] = {
    "wrong name": (lambda known, _: known.issue("device", of=x509.DNSName("pump.plant")), ["is not one for 127.0.0.1", "write the name that it has"]),
    "wrong address": (lambda known, _: known.issue("device", of=x509.IPAddress(ipaddress.ip_address("10.0.0.9"))), ["is not one for 127.0.0.1"]),
    "expired": (lambda known, _: known.issue("device", -1.5), ["has expired", "give the device another one"]),
    "not yet": (lambda known, _: known.issue("device", begins=2.0), ["not yet valid", "this computer's clock"]),
    "unknown authority": (lambda _, other: other.issue("device"), ["is not trusted", "tls/trusted"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_certificate_that_is_not_right_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    known, other = Authority(tmp_path / "ca", "plant-ca"), Authority(tmp_path / "other", "other-ca")
    make, expected = REFUSED[case]
    trust(tmp_path / "data", known.pem)

    async def main() -> None:
        async with serving(make(known, other)) as device:
            why = await refused(device, tmp_path / "data")
            for part in expected:
                assert part in why

    asyncio.run(main())


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_asks_for_a_certificate_gets_ours(tmp_path: Path, newest: ssl.TLSVersion) -> None:
    """With TLS 1.3 the server refuses us when the link stands already."""
    known, other, data = Authority(tmp_path / "ca", "plant-ca"), Authority(tmp_path / "other", "other-ca"), tmp_path / "data"
    own = data / "tls" / "own.pem"
    trust(data, known.pem)

    async def main() -> None:
        async with serving(known.issue("device"), known.pem, newest) as device:
            assert f"put one that it trusts into {own}" in await refused(device, data)
            show(data, other.issue("stranger"))
            assert f"check that it trusts {own}" in await refused(device, data)
            show(data, known.issue("expired", -1.0))
            assert f"{own} expired on" in await refused(device, data)
            show(data, known.issue("controller"))
            await works(device, data)

    asyncio.run(main())


def test_a_server_without_tls_is_said_to_be_one(tmp_path: Path) -> None:
    trust(tmp_path, Authority(tmp_path / "ca", "plant-ca").pem)

    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(bytes.fromhex("000100000003018302"))
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            device = Device("d", PROFILE, Address.parse(f"modbus-tls://127.0.0.1:{port}?unit=1"), 0.1)
            assert "check that it speaks TLS at this port" in await refused(device, tmp_path)

    asyncio.run(main())


@pytest.mark.parametrize(("days", "warns"), [(30.05, False), (30.0, True)], ids=["a tenth of a day", "the warning"])
def test_a_certificate_comes_nearer_to_its_end_while_its_link_stays_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, days: float, warns: bool
) -> None:
    """It is shown to a tenth of a day, so it begins some seconds before the step from 30.1 to 30.0; the warning is told once."""
    authority = Authority(tmp_path / "ca", "plant-ca")
    trust(tmp_path, authority.pem)
    certificate = authority.issue("device", days + 6.0 / 86400.0)

    def told() -> list[str]:
        return [record.message for record in caplog.records if "expires in" in record.message]

    async def main() -> None:
        async with serving(certificate) as device, open_driver(device, data=tmp_path) as driver:
            await driver.read()
            assert (driver.metrics.certificate_days, told()) == (round(days + 1e-5, 1), [])

            async def nearer() -> bool:
                await driver.read()
                return bool(told()) if warns else driver.metrics.certificate_days == 30.0

            await until(nearer, 12.0, lambda: driver.metrics)
            assert (driver.metrics.connects, driver.metrics.losses) == (1, 0)
            await driver.read()
            assert told() == ([f"127.0.0.1:{device.address.port}: the certificate of commonName=device expires in 30.0 days"] if warns else [])

    asyncio.run(main())
