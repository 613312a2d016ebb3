"""Application certificates of OPC UA (part 6, 6.2.2): made for ourselves, and judged when a server shows one. No files, no sockets."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "UNREADABLE",
    "CertificateRefused",
    "application_uri",
    "check_certificate",
    "days_left",
    "der",
    "fingerprint",
    "issued_by",
    "make_certificate",
    "may_issue",
    "names_host",
    "oddity",
    "split_chain",
    "subject",
    "thumbprint",
]

_YEARS: Final = 5
_DAY: Final = timedelta(days=1)
_KEY_BITS: Final = (2048, 4096)  # of the three policies (OPC UA part 7, 6.6.161 to 6.6.163)
_WEAK: Final = ("md5", "sha1")
_LONGEST_CHAIN: Final = 6

# what cryptography raises for bytes that are no certificate or no revocation list, or that it does not know; often only when a part is asked for
UNREADABLE: Final = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)


class CertificateRefused(Exception):
    """A certificate that is not accepted, and what to do about it."""


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate in hex: what two people compare over the telephone."""
    return hashlib.sha256(der(certificate)).hexdigest()


def thumbprint(certificate: x509.Certificate) -> str:
    """Return the SHA-1 of the certificate in hex, as tools of OPC UA show it; nothing is trusted by it."""
    return hashlib.sha1(der(certificate), usedforsecurity=False).hexdigest()


def der(certificate: x509.Certificate) -> bytes:
    """Return the certificate as bytes."""
    return certificate.public_bytes(Encoding.DER)


def subject(certificate: x509.Certificate) -> str:
    """Return whom it names, on one line and without control characters: a stranger has written it."""
    try:
        text = certificate.subject.rfc4514_string() or "no subject"
    except ValueError:
        text = "a subject that cannot be read"
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]


def oddity(certificate: x509.Certificate) -> str:
    """Return why it cannot be judged, empty if it can: then all that is asked of it here can be read.

    A certificate is taken apart only as it is asked. One that is not looked at by this before may raise any of `UNREADABLE` in the midst of it.
    """
    try:
        _ = certificate.subject, certificate.issuer, certificate.extensions, certificate.signature_hash_algorithm, certificate.public_key()
    except UNREADABLE as error:
        return str(error) or type(error).__name__
    return ""


def days_left(certificate: x509.Certificate, now: datetime) -> float:
    """Return the days until it expires; negative when it has."""
    return (certificate.not_valid_after_utc - now) / _DAY


def application_uri(certificate: x509.Certificate) -> str:
    """Return the ApplicationUri that it names; empty without one that can be read."""
    found = _alternative(certificate, x509.UniformResourceIdentifier)
    return found[0] if found else ""


def _alternative(certificate: x509.Certificate, kind: type[x509.GeneralName]) -> list[str]:
    """Return its alternative names of one kind, as far as they can be read."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return []
    return [str(name.value) for name in names if isinstance(name, kind)]


def names_host(certificate: x509.Certificate, host: str) -> bool:
    """Whether it names `host`, a DNS name or an IP address."""
    try:
        wanted = str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower() in (name.lower() for name in _alternative(certificate, x509.DNSName))
    return wanted in _alternative(certificate, x509.IPAddress)


def split_chain(blob: bytes) -> list[x509.Certificate]:
    """Return the certificates that a server sent in one ByteString, its own first (part 6, 6.2.6); raise `CertificateRefused`."""
    chain = list[x509.Certificate]()
    while blob and len(chain) < _LONGEST_CHAIN:
        size = _length(blob)
        try:
            chain.append(x509.load_der_x509_certificate(blob[:size]))
            chain[-1].public_key()
        except UNREADABLE as error:
            raise CertificateRefused(f"the server sent bytes that are no certificate: {error}") from None
        blob = blob[size:]
    if not chain or blob:
        raise CertificateRefused("the server sent no certificate" if not chain else f"the server sent more than {_LONGEST_CHAIN} certificates")
    return chain


def _length(blob: bytes) -> int:
    """Return how many bytes the DER element at the start of `blob` has, by its own word."""
    if len(blob) < 2 or blob[1] < 0x80:
        return len(blob)
    width = blob[1] & 0x7F
    return 2 + width + int.from_bytes(blob[2 : 2 + width], "big")


def check_certificate(certificate: x509.Certificate, uri: str, now: datetime | None) -> None:
    """Check a server's certificate in itself: its time, unless `now` is None, key, use and ApplicationUri. Says nothing of trust.

    Raise `CertificateRefused`, also for one that cannot be judged.
    """
    who = f"the certificate of {subject(certificate)}"
    if odd := oddity(certificate):
        raise CertificateRefused(f"{who} cannot be judged ({odd}); give the server another one, then trust that")
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now is not None and now > ends:
        raise CertificateRefused(f"{who} expired on {ends:%Y-%m-%d %H:%M} UTC; give the server a new one, then trust that")
    if now is not None and now < begins:
        raise CertificateRefused(f"{who} is not valid before {begins:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}; check both clocks")
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or not _KEY_BITS[0] <= key.key_size <= _KEY_BITS[1]:
        what = f"{key.key_size} bits" if isinstance(key, rsa.RSAPublicKey) else "no RSA"
        raise CertificateRefused(f"{who} has a key of {what}; expected RSA of {_KEY_BITS[0]} to {_KEY_BITS[1]} bits")
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or algorithm.name in _WEAK:
        raise CertificateRefused(f"{who} is signed with {algorithm.name if algorithm else 'no hash'}; expected SHA-256 or better")
    if problem := _use_problem(certificate):
        raise CertificateRefused(f"{who} {problem}")
    if uri not in _alternative(certificate, x509.UniformResourceIdentifier):
        raise CertificateRefused(f"{who} is for application {application_uri(certificate) or 'none'}, but the server says it is {uri or 'none'}")


def _use_problem(certificate: x509.Certificate) -> str:
    """Return why it may not be used by a server, empty if it may."""
    extensions = certificate.extensions
    try:
        use = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return "does not say what its key may be used for (KeyUsage)"
    if not use.digital_signature or not (use.key_encipherment or use.data_encipherment):
        return "may not be used to sign and to encipher (KeyUsage)"
    try:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    return "" if ExtendedKeyUsageOID.SERVER_AUTH in purposes else "may not be used by a server (ExtendedKeyUsage)"


def may_issue(certificate: x509.Certificate) -> bool:
    """Whether it may sign others. An application's own certificate never does, though many carry the flag of an authority.

    One that cannot be judged may not.
    """
    if oddity(certificate):
        return False
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        use = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return use.key_cert_sign and not application_uri(certificate)


def issued_by(
    certificate: x509.Certificate,
    trusted: Iterable[x509.Certificate],
    known: Sequence[x509.Certificate],
    revoked: Iterable[x509.CertificateRevocationList],
    now: datetime | None,
) -> list[x509.Certificate]:
    """Return the issuers from a certificate up to one that is trusted; empty when no such path is valid, in its time and not revoked.

    Times do not matter if `now` is None. `known` issuers may stand on the path, but it ends at a `trusted` one. An issuer whose revocation
    list is here has to have signed it.
    """
    roots, between = [one for one in trusted if may_issue(one)], [one for one in known if may_issue(one)]
    lists = tuple(revoked)
    tried = [certificate]
    paths = [[certificate]]
    for path in paths:  # the shortest first; an authority may have several certificates for one key, and only some of them lead on
        below = path[-1]
        for issuer in (*roots, *between):
            if issuer in tried or issuer.subject != below.issuer or not _signed(below, issuer):
                continue
            if not _in_time(issuer, now) or _revoked(below, issuer, lists):
                continue
            if issuer not in roots:
                tried.append(issuer)
                if len(path) < _LONGEST_CHAIN:
                    paths.append([*path, issuer])
            elif _short_enough([*path[1:], issuer]):
                return [*path[1:], issuer]
    return []


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, TypeError, InvalidSignature):
        return False
    algorithm = certificate.signature_hash_algorithm
    return algorithm is not None and algorithm.name not in _WEAK


def _in_time(certificate: x509.Certificate, now: datetime | None) -> bool:
    return now is None or certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _short_enough(path: Sequence[x509.Certificate]) -> bool:
    """Whether each issuer allows as many issuers below it as there are (RFC 5280, 4.2.1.9)."""
    for below, issuer in enumerate(path):
        allowed = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if allowed is not None and below > allowed:
            return False
    return True


def _revoked(certificate: x509.Certificate, issuer: x509.Certificate, lists: Iterable[x509.CertificateRevocationList]) -> bool:
    key = issuer.public_key()
    mine = [one for one in lists if one.issuer == issuer.subject]
    return any(
        not isinstance(key, rsa.RSAPublicKey)
        or not one.is_signature_valid(key)
        or one.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
        for one in mine
    )


def make_certificate(uri: str, name: str, hosts: Sequence[str], now: datetime) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """Return a self-signed application certificate for `uri`, valid for 5 years, and its key; takes some tenths of a second.

    It begins a day before `now`, since the clocks of devices are often late. It signs itself and nothing else (keyCertSign without the
    flag of an authority), which is what servers of every make accept.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS[0])
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "blackmass")])
    builder = x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number(), now - _DAY, now + _YEARS * 365 * _DAY)
    alternatives = [x509.UniformResourceIdentifier(uri), *map(_general_name, hosts)]
    use = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True, key_agreement=False,
        key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(use, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
