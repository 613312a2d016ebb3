"""Certificates of OPC UA on disk and in themselves: made, trusted, refused with the reason and the next step. No sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from asyncua import ua
from asyncua.crypto.security_policies import SecurityPolicyBasic128Rsa15, SecurityPolicyNone
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from drivers.expiry import Expiry, endings
from drivers.opcua_certificate import (
    CertificateRefused,
    application_uri,
    days_left,
    der,
    fingerprint,
    names_host,
    split_chain,
    thumbprint,
)
from drivers.opcua_pki import Pki, PkiError
from drivers.opcua_security import NotSecured, SecuredClient
from drivers.secret import SecretError, read_secret

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
URI = "urn:plant:press"
HOST = "press.plant.example"


@cache
def key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "short" else 2048)


@dataclass(frozen=True)
class Made:
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def make(
    name: str = "press",
    *,
    uri: str = URI,
    hosts: Sequence[str] = (HOST,),
    begins: datetime = NOW - DAY,
    ends: datetime = NOW + 365 * DAY,
    by: Made | None = None,
    authority: bool = False,
    depth: int | None = None,
    signs: bool = True,
    purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
    own_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
    use: bool = True,
) -> Made:
    mine = own_key or key(name)
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = by.certificate.subject if by else who
    builder = x509.CertificateBuilder(issuer, who, mine.public_key(), x509.random_serial_number(), begins, ends)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)] if uri else []
    names += [x509.DNSName(host) for host in hosts]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if use:
        usage = x509.KeyUsage(
            digital_signature=signs, content_commitment=True, key_encipherment=True, data_encipherment=True, key_agreement=False,
            key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=depth if authority else None), critical=True)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return Made(builder.sign(by.key if by else mine, hashes.SHA256()), mine)


def authority(name: str = "works", by: Made | None = None, **options: object) -> Made:
    return make(name, uri="", hosts=(), authority=True, by=by, purpose=None, **options)  # type: ignore[arg-type]


# changes of bytes that make certificates odd in ways that are only met when that part of them is looked at, but for the last
ODD = {
    "Duplicate 2.5.29.15 extension found": (b"\x06\x03\x55\x1d\x25", b"\x06\x03\x55\x1d\x0f"),  # ExtendedKeyUsage: a second KeyUsage
    "EDIPartyName are not supported types": (b"\x86\x0f" + URI.encode(), b"\xa5\x0f" + URI.encode()),
    "Signature algorithm OID: 1.2.840.113549.1.1.99 not recognized": (bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010163")),
    "Unknown key type: 1.2.840.113549.1.1.99": (bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d010163")),
    "error parsing asn1 value": (b"\x0c\x05press", b"\x0c\x05\xff\xfe\xff\xfe\xff"),  # the subject
    "1 is not a valid X509 version": (bytes.fromhex("a003020102"), bytes.fromhex("a003020101")),
}


def odd(how: str, certificate: x509.Certificate) -> bytes:
    old, new = ODD[how]
    assert old in der(certificate)
    return der(certificate).replace(old, new)


def put(pki: Pki, kind: str, certificate: x509.Certificate) -> Path:
    folder = pki.folder / kind
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fingerprint(certificate)}.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path


def refused(pki: Pki, *certificates: x509.Certificate | bytes, uri: str = URI, host: str = HOST, running: bool = False) -> str:
    blob = b"".join(one if isinstance(one, bytes) else der(one) for one in certificates)
    with pytest.raises(CertificateRefused) as caught:
        pki.check(blob, uri, host, running=running)
    return str(caught.value)


def rejected(pki: Pki) -> list[Path]:
    return sorted((pki.folder / "rejected").glob("*"))


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def test_our_own_certificate_is_made_once_and_the_key_is_ours_alone(pki: Pki) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: Pki(pki.folder.parent).own(), range(4)))
    assert len({fingerprint(one.certificate) for one in made}) == 1
    own = pki.own()
    assert own.certificate == made[0].certificate
    assert own.uri.endswith(":blackmass")
    assert own.uri == application_uri(own.certificate)
    assert names_host(own.certificate, "localhost")
    assert own.key.key_size >= 2048
    assert 4.9 * 365 < days_left(own.certificate, NOW) < 5.1 * 365
    assert own.certificate.not_valid_before_utc < NOW
    assert stat.S_IMODE((pki.folder / "own" / "private" / "key.pem").stat().st_mode) == 0o600
    assert [path.name for path in pki.folder.iterdir()] == ["own"]


def test_a_key_that_others_can_read_or_that_fits_nothing_is_refused(pki: Pki) -> None:
    pki.own()
    place = pki.folder / "own" / "private" / "key.pem"
    place.chmod(0o640)
    with pytest.raises(PkiError, match=r"key\.pem can be used by others \(mode 0640\); chmod 600 it"):
        pki.own()
    place.chmod(0o600)
    certificate = pki.folder / "own" / "certificate.der"
    certificate.write_bytes(der(make().certificate))
    with pytest.raises(PkiError, match="does not belong to the certificate beside it; move"):
        pki.own()
    certificate.write_bytes(b"torn")
    with pytest.raises(PkiError, match="cannot be read"):
        pki.own()


def test_an_own_certificate_that_expired_says_how_to_renew_it(pki: Pki) -> None:
    own = pki.own()
    old = make("blackmass", ends=NOW - DAY, begins=NOW - 3 * DAY, own_key=own.key)
    (pki.folder / "own" / "certificate.der").write_bytes(der(old.certificate))
    with pytest.raises(PkiError, match=r"expired on .*; move .* away to have new ones made, and let each server trust them"):
        pki.own()


def test_an_own_certificate_that_is_gone_while_its_key_is_not_is_not_made_anew(pki: Pki) -> None:
    pki.own()
    key_file, certificate = pki.folder / "own" / "private" / "key.pem", pki.folder / "own" / "certificate.der"
    before = key_file.read_bytes()
    certificate.unlink()
    with pytest.raises(PkiError, match=r"certificate\.der is missing; put it back, or move .* away to have new ones made"):
        pki.own()
    assert key_file.read_bytes() == before
    assert [path.name for path in pki.folder.iterdir()] == ["own"]


def test_an_unknown_certificate_is_kept_and_the_error_says_how_to_trust_it(pki: Pki) -> None:
    certificate = make().certificate
    why = refused(pki, certificate)
    [kept] = rejected(pki)
    assert "CN=press is not trusted" in why
    assert str(kept) in why
    step = f"blackmass trust {fingerprint(certificate)[:16]} --data {pki.folder.parent}"
    assert step in why
    refused(pki, certificate)
    assert rejected(pki) == [kept]
    entry = pki.trust(fingerprint(certificate)[:16].upper())
    assert entry.path.parent.name == "trusted"
    assert rejected(pki) == []
    assert pki.check(der(certificate), URI, "another.name") == [certificate]  # a person has looked at this very one


def test_trust_takes_a_thumbprint_with_colons_a_file_and_nothing_doubtful(pki: Pki, tmp_path: Path) -> None:
    first, second = make("press").certificate, make("mill").certificate
    refused(pki, first)
    mark = thumbprint(first)
    pki.trust(":".join(mark[place : place + 2] for place in range(0, 40, 2)))
    file = tmp_path / "from-a-stick.pem"
    file.write_bytes(second.public_bytes(Encoding.PEM))
    pki.trust(str(file))
    assert file.exists()
    assert {fingerprint(entry.certificate) for entry in pki.entries("trusted")} == {fingerprint(first), fingerprint(second)}
    for what, says in [("abcd", "at least 8"), ("nowhere.der", "no file"), ("0123456789", "no certificates in")]:
        with pytest.raises(PkiError, match=says):
            pki.trust(what)
    file.write_text("no certificate")
    with pytest.raises(PkiError, match="not a certificate"):
        pki.trust(str(file))


def test_a_changed_certificate_is_said_to_have_changed(pki: Pki) -> None:
    put(pki, "trusted", make("press").certificate)
    why = refused(pki, make("other").certificate)
    assert "has changed: the one that is trusted for urn:plant:press has the fingerprint" in why
    assert len(rejected(pki)) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ends": NOW - timedelta(minutes=1)}, "expired on"),
        ({"begins": NOW + DAY}, "is not valid before"),
        ({"name": "short"}, "a key of 1024 bits"),
        ({"own_key": ec.generate_private_key(ec.SECP256R1())}, "a key of no RSA"),
        ({"uri": "urn:plant:other"}, "is for application urn:plant:other, but the server says it is urn:plant:press"),
        ({"uri": ""}, "is for application none"),
        ({"signs": False}, "may not be used to sign"),
        ({"use": False}, "does not say what its key may be used for"),
        ({"purpose": ExtendedKeyUsageOID.CLIENT_AUTH}, "may not be used by a server"),
    ],
)
def test_a_certificate_that_is_wrong_in_itself_is_refused_though_trusted(pki: Pki, options: dict[str, object], says: str) -> None:
    certificate = make(**options).certificate  # type: ignore[arg-type]
    put(pki, "trusted", certificate)
    assert says in refused(pki, certificate)
    assert rejected(pki) == []  # trusting it would not help


@pytest.mark.parametrize("how", ODD)
def test_a_certificate_that_cannot_be_judged_is_refused_and_costs_no_other(
    pki: Pki, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    works = authority()
    put(pki, "trusted", works.certificate)
    press = make(by=works).certificate
    strange = odd(how, make().certificate)
    assert how in refused(pki, strange)
    assert rejected(pki) == []  # trusting it would not help
    for folder in ("trusted", "issuers"):
        (pki.folder / folder).mkdir(exist_ok=True)
        (pki.folder / folder / "strange.der").write_bytes(strange)
    for _ in range(2):
        assert pki.check(der(press), URI, HOST) == [press, works.certificate]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, said  # of each file once
    assert all(
        str(pki.folder / folder / "strange.der") in line and how in line for folder, line in zip(("issuers", "trusted"), sorted(said), strict=True)
    )
    with pytest.raises(PkiError, match=re.escape(how)):
        pki.trust(str(pki.folder / "issuers" / "strange.der"))
    assert sorted(path.name for path in (pki.folder / "trusted").iterdir()) == sorted([f"{fingerprint(works.certificate)}.pem", "strange.der"])


@pytest.mark.parametrize("how", [how for how in ODD if "key type" not in how and "version" not in how])
def test_an_issuer_that_cannot_be_judged_vouches_for_nothing_and_does_no_harm(pki: Pki, how: str) -> None:
    issuer = make("press", authority=True)
    strange = odd(how, issuer.certificate)
    mill = make("mill", by=issuer).certificate
    assert "is not trusted" in refused(pki, mill, strange)
    put(pki, "trusted", mill)
    assert pki.check(der(mill) + strange, URI, HOST) == [mill]


def test_our_own_certificate_that_cannot_be_judged_says_so(pki: Pki) -> None:
    own = pki.own()
    (pki.folder / "own" / "certificate.der").write_bytes(odd("Duplicate 2.5.29.15 extension found", make(own_key=own.key).certificate))
    with pytest.raises(PkiError, match=r"cannot be read \(Duplicate 2\.5\.29\.15 extension found\); move"):
        pki.own()


def test_a_trusted_issuer_vouches_for_a_host_and_for_no_other(pki: Pki) -> None:
    works = authority()
    put(pki, "trusted", works.certificate)
    press = make(by=works).certificate
    assert pki.check(der(press), URI, HOST) == [press, works.certificate]
    why = refused(pki, press, host="mill.plant.example")
    assert "has a trusted issuer, but does not name mill.plant.example" in why
    stranger = make(by=authority("stranger")).certificate
    assert "is not trusted" in refused(pki, stranger)
    namesake = make(by=Made(works.certificate, key("stranger"))).certificate  # says it is of the works, signed by another
    assert "is not trusted" in refused(pki, namesake)


def test_issuers_between_are_taken_from_the_server_or_the_store_but_trusted_only_through_a_trusted_one(pki: Pki) -> None:
    root = authority("root", depth=1)
    between = authority("between", by=root, depth=0)
    press = make(by=between).certificate
    assert "is not trusted" in refused(pki, press, between.certificate, root.certificate)
    put(pki, "trusted", root.certificate)
    assert pki.check(der(press) + der(between.certificate), URI, HOST) == [press, between.certificate, root.certificate]
    assert "is not trusted" in refused(pki, press)
    place = put(pki, "issuers", between.certificate)
    assert pki.check(der(press), URI, HOST)[1:] == [between.certificate, root.certificate]
    place.unlink()
    old = authority("between", by=root, ends=NOW - timedelta(hours=1))
    assert "is not trusted" in refused(pki, press, old.certificate)
    deep = authority("deep", by=between)
    assert "is not trusted" in refused(pki, make(by=deep).certificate, deep.certificate, between.certificate)  # deeper than the root allows


@pytest.mark.parametrize("when", [{"begins": NOW - 9 * DAY, "ends": NOW - DAY}, {"begins": NOW + DAY}])
def test_a_running_link_is_judged_by_trust_and_revocation_and_not_by_the_time(pki: Pki, when: dict[str, datetime]) -> None:
    """Its certificates may have expired meanwhile, or the clock may have been put back."""
    works = authority(**when)  # type: ignore[arg-type]
    roots = put(pki, "trusted", works.certificate)
    press = make(by=works, **when).certificate  # type: ignore[arg-type]
    alone = make("mill", uri="urn:plant:mill", **when).certificate  # type: ignore[arg-type]
    direct = put(pki, "trusted", alone)
    assert pki.check(der(press), URI, HOST, running=True) == [press, works.certificate]
    assert pki.check(der(alone), "urn:plant:mill", HOST, running=True) == [alone]
    for certificate, uri in [(press, URI), (alone, "urn:plant:mill")]:
        assert any(says in refused(pki, certificate, uri=uri) for says in ("expired on", "is not valid before"))
    entry = x509.RevokedCertificateBuilder(press.serial_number, NOW - DAY).build()
    builder = x509.CertificateRevocationListBuilder(works.certificate.subject, NOW - DAY, NOW + DAY).add_revoked_certificate(entry)
    (pki.folder / "crl").mkdir()
    (pki.folder / "crl" / "works.crl").write_bytes(builder.sign(works.key, hashes.SHA256()).public_bytes(Encoding.DER))
    assert "is not trusted" in refused(pki, press, running=True)
    (pki.folder / "crl" / "works.crl").unlink()
    assert pki.check(der(press), URI, HOST, running=True)
    roots.unlink()
    direct.unlink()
    assert "is not trusted" in refused(pki, press, running=True)
    assert "is not trusted" in refused(pki, alone, uri="urn:plant:mill", running=True)


@pytest.mark.parametrize("running", [False, True])
def test_an_old_certificate_of_an_authority_does_not_hide_the_path_through_its_new_one(pki: Pki, running: bool) -> None:
    """Both have one key; the old one's issuer is trusted no more."""
    root = authority("root")
    new = authority("between", by=root)
    olds = [authority("between", by=authority("gone"), ends=ends) for ends in (NOW - timedelta(hours=1), NOW + DAY)]
    put(pki, "trusted", root.certificate)
    press = make(by=new).certificate
    for sent in ([new, *olds], [*olds, new]):
        blob = b"".join(map(der, [press, *(one.certificate for one in sent)]))
        assert pki.check(blob, URI, HOST, running=running) == [press, new.certificate, root.certificate]


def test_an_application_issues_nothing_though_its_certificate_says_it_may(pki: Pki) -> None:
    device = make("device", authority=True)  # as many servers sign themselves
    put(pki, "trusted", device.certificate)
    assert pki.check(der(device.certificate), URI, HOST) == [device.certificate]
    assert "is not trusted" in refused(pki, make("press", by=device, uri="urn:plant:forged").certificate, uri="urn:plant:forged")


def test_a_revoked_certificate_is_refused_and_so_is_all_under_a_forged_list(pki: Pki) -> None:
    works = authority()
    put(pki, "trusted", works.certificate)
    good, lost = make(by=works).certificate, make("mill", by=works).certificate
    folder = pki.folder / "crl"
    folder.mkdir()

    def revoke(signer: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
        entry = x509.RevokedCertificateBuilder(lost.serial_number, NOW - DAY).build()
        builder = x509.CertificateRevocationListBuilder(works.certificate.subject, NOW - DAY, NOW + DAY).add_revoked_certificate(entry)
        return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)

    (folder / "works.crl").write_bytes(revoke(works.key))
    assert pki.check(der(good), URI, HOST)
    assert "is not trusted" in refused(pki, lost)
    (folder / "works.crl").write_bytes(revoke(key("stranger")))
    assert "is not trusted" in refused(pki, good)
    ours = revoke(works.key)
    (folder / "works.crl").write_bytes(ours.replace(b"\x02\x01\x01", b"\x02\x01\x05", 1))
    assert "works.crl cannot be read (5 is not a valid CRL version); replace or delete it" in refused(pki, good)
    (folder / "works.crl").write_bytes(ours.replace(b"\x0c\x05works", b"\x0c\x05" + b"\xff" * 5))
    assert "works.crl cannot be read" in refused(pki, good)
    (folder / "works.crl").write_bytes(b"torn")
    assert "revocation list" in refused(pki, good)
    (folder / "works.crl").unlink()
    (folder / "works.crl").mkdir()
    assert "works.crl cannot be read (Is a directory); replace or delete it" in refused(pki, good)


def test_strangers_cannot_fill_the_disk_nor_leave_the_folder(pki: Pki) -> None:
    for number in range(40):
        refused(pki, make("../../" + "x" * 30 + f"\n{number}", own_key=key("press")).certificate)
    kept = rejected(pki)
    assert len(kept) == 32
    assert all("/" not in path.name and path.name.isprintable() and path.suffix == ".der" for path in kept)
    assert sorted(path.name for path in pki.folder.parent.iterdir()) == ["pki"]


def test_a_full_disk_is_told_and_left_as_it_was(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for _ in range(3):
        assert "cannot be kept as rejected" in refused(pki, make().certificate)
    assert list((pki.folder / "rejected").iterdir()) == []


@given(st.binary(max_size=400) | st.binary(max_size=40).map(lambda tail: der(make().certificate) + tail))
def test_no_bytes_of_a_server_are_more_than_refused(blob: bytes) -> None:
    try:
        chain = split_chain(blob)
    except CertificateRefused:
        return
    assert b"".join(map(der, chain)) == blob


def test_the_log_warns_once_30_days_ahead(caplog: pytest.LogCaptureFixture) -> None:
    late, soon = make(ends=NOW + 400 * DAY).certificate, make("mill", ends=NOW + 29 * DAY).certificate
    expiry = Expiry("press", endings([late, soon]))
    with caplog.at_level("WARNING"):
        assert [round(expiry.days()) for _ in range(3)] == [29, 29, 29]
        assert round(Expiry("press", endings([late])).days()) == 400
        assert Expiry("press", []).days() == float("inf")
    assert [record.message for record in caplog.records] == ["press: the certificate of CN=mill expires in 29.0 days"]


def test_a_password_is_read_from_a_file_that_nobody_else_can_read(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("s3cret of ours\n")
    path.chmod(0o644)
    with pytest.raises(SecretError, match=r"password file .*/password can be used by others \(mode 0644\); chmod 600 it") as caught:
        read_secret(path, "password file")
    assert "s3cret" not in str(caught.value)
    path.chmod(0o600)
    assert read_secret(path, "password file") == "s3cret of ours"
    path.write_bytes(b"\n")
    with pytest.raises(SecretError, match="is empty"):
        read_secret(path, "password file")
    path.write_bytes(b"x" * 5000)
    with pytest.raises(SecretError, match="more than 4096 bytes"):
        read_secret(path, "password file")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SecretError, match="UTF-8") as caught:
        read_secret(path, "password file")
    assert caught.value.__cause__ is None
    with pytest.raises(SecretError, match="is not there; write the secret into it"):
        read_secret(tmp_path / "none", "password file")
    with pytest.raises(SecretError, match="is not a file"):
        read_secret(tmp_path, "password file")


@pytest.mark.parametrize("mode", [ua.MessageSecurityMode.None_, ua.MessageSecurityMode.Sign])
@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ([ua.UserTokenPolicy(TokenType=ua.UserTokenType.Anonymous)], "takes no user names"),
        ([ua.UserTokenPolicy(TokenType=ua.UserTokenType.UserName, SecurityPolicyUri=SecurityPolicyNone.URI)], "in the clear, so it was not sent"),
        ([ua.UserTokenPolicy(TokenType=ua.UserTokenType.UserName, SecurityPolicyUri=SecurityPolicyBasic128Rsa15.URI)], "in the clear, so it was not"),
        ([ua.UserTokenPolicy(TokenType=ua.UserTokenType.UserName)], "in the clear, so it was not sent"),
    ],
)
def test_a_password_is_not_sent_where_others_can_read_it(mode: ua.MessageSecurityMode, tokens: list[ua.UserTokenPolicy], says: str) -> None:
    client = SecuredClient("opc.tcp://127.0.0.1:1", 1.0)
    client.security_policy.Mode = mode
    client._policy_ids = tokens
    with pytest.raises(NotSecured, match=says):
        asyncio.run(client.activate_session("operator", "s3cret"))
