"""The commands for certificates and browsing, as far as they need no server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding

from controller.cli import main
from drivers.opcua_certificate import fingerprint
from drivers.opcua_pki import Pki
from tests.unit.test_opcua_pki import DAY, NOW, authority, make, odd


def blackmass(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_a_certificate_from_a_file_is_trusted_and_listed(tmp_path: Path) -> None:
    for name, made in [("press", make("press")), ("works", authority("works")), ("old", make("old", begins=NOW - 9 * DAY, ends=NOW - DAY))]:
        file = tmp_path / f"{name}.pem"
        file.write_bytes(made.certificate.public_bytes(Encoding.PEM))
        status, said = blackmass("trust", str(file), "--data", str(tmp_path))
        assert status == 0, said
        assert f"trusted from now on: CN={name}" in said
        assert ("and every certificate that it has issued" in said) == (name == "works")
        assert ("EXPIRED" in said) == (name == "old")
    status, said = blackmass("certificates", "--data", str(tmp_path))
    assert status == 0
    own = Pki(tmp_path).own()
    assert own.uri in said
    assert fingerprint(own.certificate) in said
    assert said.count("trusted ") == 3


def test_a_certificate_that_cannot_be_judged_is_not_trusted_and_spoils_no_list(tmp_path: Path) -> None:
    how = "Duplicate 2.5.29.15 extension found"
    (tmp_path / "pki" / "trusted").mkdir(parents=True)
    for file in (tmp_path / "odd.der", tmp_path / "pki" / "trusted" / "odd.der"):
        file.write_bytes(odd(how, make().certificate))
    status, said = blackmass("trust", str(tmp_path / "odd.der"), "--data", str(tmp_path))
    assert status == 3
    assert f"cannot be judged ({how}); have another one made" in said
    status, said = blackmass("certificates", "--data", str(tmp_path))
    assert status == 0, said
    assert "trusted " not in said


def test_the_newest_store_is_taken_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for age, cell in [(50, "old"), (0, "new")]:
        Pki(tmp_path / "blackmass" / cell).own()
        when = NOW.timestamp() - age
        os.utime(tmp_path / "blackmass" / cell / "pki", (when, when))
    status, said = blackmass("certificates")
    assert status == 0
    assert f"certificates in {tmp_path / 'blackmass' / 'new' / 'pki'};" in said


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("trust", "0123456789abcdef"), 3, "no certificates in"),
        (("trust", "nothing"), 3, "no file nothing, and not a fingerprint"),
        (("browse", "modbus-tcp://127.0.0.1:502"), 2, "expected opc.tcp://HOST:PORT"),
        (("browse", "opc.tcp://"), 2, "expected opc.tcp://HOST:PORT"),
        (("browse", "opc.tcp://127.0.0.1:1", "--user", "me"), 2, "needs a --password-file of mode 0600"),
        (("browse", "opc.tcp://127.0.0.1:1", "--security", "strong"), 2, "'strong' is not one of 'none', 'Basic256Sha256'"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[str, ...], status: int, says: str, tmp_path: Path) -> None:
    got, said = blackmass(*arguments, "--data", str(tmp_path))
    assert (got, says in said) == (status, True), said
