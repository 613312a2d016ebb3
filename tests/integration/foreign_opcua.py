"""A node-opcua server as a device of another make, for tests: started once, told what to do by lines of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from drivers.device import Address, Device, Policy, Profile, Security, load_profile
from drivers.driver import Driver
from drivers.opcua_pki import Pki
from drivers.tags import Quality
from tests.unit.test_opcua_pki import Made, make

__all__ = ["PASSWORD", "PROFILE", "URI", "USER", "Foreign", "foreign_server", "good", "reads"]

SERVER = Path(__file__).parent.parent / "foreign" / "server.mjs"
URI = "urn:foreign:press:application"
SPACES = ["urn:foreign:other", "urn:foreign:press"]
USER, PASSWORD = "operator", "grün & 7 Wörter"
PROFILE = """
id = "foreign_press"
description = "Press of another make"
protocol = "opcua"
identity = { at = "nsu=urn:foreign:press;s=Serial", type = "uint32", value = 471100 }

[opcua]
events = "nsu=urn:foreign:press;s=press"
min_severity = 300

[signals.temperature]
at = "nsu=urn:foreign:press;s=Temperature"
type = "float64"
eu = "degC"
range = [0, 200]

[signals.pressure]
at = "nsu=urn:foreign:press;s=Pressure"
type = "float32"
eu = "bar"
range = [0, 16]

[signals.count]
at = "nsu=urn:foreign:press;s=Count"
type = "uint32"
range = [0, 4e9]

[signals.speed]
at = "nsu=urn:foreign:press;s=Speed"
type = "float32"
eu = "%"
range = [0, 100]
access = "write"

[signals.level]
at = "nsu=urn:foreign:press;s=Level"
type = "int16"
range = [-100, 100]
access = "write"

[signals.steps]
at = "nsu=urn:foreign:press;s=Steps"
type = "int32"
range = [-10, 1000]
access = "write"

[signals.running]
at = "nsu=urn:foreign:press;s=Running"
type = "bool"
access = "write"

[methods.dose]
at = "nsu=urn:foreign:press;s=dose"
inputs.speed = { writes = "speed", eu = "", type = "float32" }
inputs.steps = { type = "int32" }

[methods.typed]
at = "nsu=urn:foreign:press;s=dose2"

[methods.gone]
at = "nsu=urn:foreign:press;s=nothing"
"""


def write_pem(made: Made, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate and its key for the server; return both files."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    certificate.write_bytes(made.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


class Foreign:
    """The running server."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, usual: dict[str, Any]) -> None:
        self._process, self.folder, self._usual = process, folder, usual
        self.endpoint = self._answer()["endpoint"]
        self.changed = False
        (folder / "press.toml").write_text(PROFILE, encoding="utf-8")
        self.profile = load_profile(folder / "press.toml")
        self.own = Pki(folder / "client")  # one certificate of ours for all tests
        self.own.own()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # its library logs there too
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                assert "error" not in said, said["error"]
                return said
        raise AssertionError(f"the foreign server ended with {self._process.wait()}")

    def tell(self, verb: str, **asked: Any) -> None:
        """Tell it to do something without waiting for its answer; `heard` waits."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": verb, **asked}) + "\n")
        self._process.stdin.flush()

    def heard(self) -> dict[str, Any]:
        """Return its next answer."""
        return self._answer()

    def ask(self, verb: str, **asked: Any) -> dict[str, Any]:
        """Tell it to do something and return its answer."""
        self.tell(verb, **asked)
        return self._answer()

    def restart(self, **changes: Any) -> None:
        """Start it again at the same port with other settings."""
        self.changed = True
        self.ask("restart", **changes)

    def usual(self) -> None:
        """Undo what a test has changed."""
        if self.changed:
            self.ask("restart", **self._usual)
            self.changed = False

    def identity(self, name: str, made: Made) -> dict[str, str]:
        """Return the settings for another certificate."""
        certificate, key = write_pem(made, self.folder, name)
        return {"certificate": str(certificate), "key": str(key)}

    def device(self, policy: Policy = "Basic256Sha256", profile: Profile | None = None, **security: Any) -> Device:
        """Return the press at its address."""
        return Device("press", profile or self.profile, Address.parse(self.endpoint), security=Security(policy, **security))

    def data(self, folder: Path, *, trusts: bool = True, trusted: bool = True) -> Path:
        """Return a data directory with our certificate: whether it `trusts` the server, and whether it is `trusted` by it."""
        shutil.copytree(self.own.folder / "own", folder / "pki" / "own")
        if trusts:
            Pki(folder).trust(self._usual["certificate"])
        if trusted:
            self.trust_us()
        return folder

    def trust_us(self) -> None:
        """Let it trust our certificate."""
        self.ask("trust", certificate=str(self.own.folder / "own" / "certificate.der"))


@contextmanager
def foreign_server(folder: Path) -> Iterator[Foreign]:
    """Run the server; skip without node, fail in CI."""
    there = shutil.which("node") is not None and (SERVER.parent / "node_modules" / "node-opcua-server").is_dir()
    if not there and os.environ.get("CI") == "true":
        pytest.fail("CI must not skip this: no node-opcua-server")
    if not there:
        pytest.skip("no node-opcua-server: make tests/foreign/node_modules/.done")
    certificate, key = write_pem(make("foreign press", uri=URI, hosts=("localhost",)), folder, "server")
    usual = {
        "folder": str(folder / "server-pki"), "certificate": str(certificate), "key": str(key), "port": 0, "uri": URI, "spaces": SPACES,
        "capabilities": {}, "sampling": 50, "more": 0, "message": 0, "user": USER, "password": PASSWORD, "anonymous": True,
        "policies": ["None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"], "modes": ["None", "Sign", "SignAndEncrypt"],
    }  # fmt: skip
    command = ["node", str(SERVER), json.dumps(usual)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            usual.pop("port")  # it keeps the one that it has found
            yield Foreign(process, folder, usual)
        finally:
            process.kill()


async def reads(driver: Driver, signal: str) -> float:
    """Return a signal [eu] as it is read now."""
    reading = await driver.read()
    return float(reading.values[driver.device.profile.place(signal)])


async def good(driver: Driver, within: float = 8.0) -> None:
    """Read until every signal is good."""
    end = time.monotonic() + within
    while (await driver.read()).quality.max() != Quality.GOOD:
        assert time.monotonic() < end, driver.metrics.why
        await asyncio.sleep(0.02)
