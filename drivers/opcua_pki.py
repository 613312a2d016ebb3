"""The certificates of a data directory, laid out as tools of OPC UA do: our own, those that are trusted, those that were refused.

``pki/own/certificate.der`` and ``pki/own/private/key.pem`` (mode 0600), ``pki/trusted/``, ``pki/issuers/`` (authorities that only lead to
a trusted one), ``pki/crl/`` (revocation lists), ``pki/rejected/``. Files are DER or PEM; a person may copy and delete them at any time.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from drivers.opcua_certificate import (
    UNREADABLE,
    CertificateRefused,
    application_uri,
    check_certificate,
    der,
    fingerprint,
    issued_by,
    make_certificate,
    names_host,
    oddity,
    split_chain,
    subject,
    thumbprint,
)

__all__ = ["Entry", "Own", "Pki", "PkiError"]

log = logging.getLogger(__name__)

Kind = Literal["own", "trusted", "issuers", "rejected"]
_MOST_REJECTED: Final = 32  # files; the oldest go first
_MOST_BYTES: Final = 65536  # of a file
_ENDINGS: Final = (".der", ".pem", ".crt", ".cer")
_making = threading.Lock()  # devices that connect at once share one certificate
_told = set[str]()  # of files that are passed over, what the log has been told: each connection has a store of its own


class PkiError(Exception):
    """The store cannot be used: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Own:
    """Our application certificate, its key and the ApplicationUri in it."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    uri: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate in the store."""

    kind: Kind
    path: Path
    certificate: x509.Certificate


class Pki:
    """The store below ``data / "pki"``. Everything here reads and writes files, so call it from a thread."""

    def __init__(self, data: Path) -> None:
        self.folder = data / "pki"

    def own(self) -> Own:
        """Return our certificate and key; made on first use, for 5 years. Raise `PkiError`."""
        folder = self.folder / "own"
        with _making:
            try:
                if not (folder / "certificate.der").exists():
                    self._make(folder)
                return self._read_own(folder)
            except OSError as error:
                raise PkiError(f"own certificate: {error.filename or folder}: {error.strerror}") from None

    def _make(self, folder: Path) -> None:
        host = socket.gethostname() or "localhost"
        certificate, key = make_certificate(f"urn:{host}:blackmass", f"blackmass@{host}"[:64], sorted({host, "localhost"}), datetime.now(UTC))
        self.folder.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=self.folder, prefix=".own-"))
        try:
            (new / "private").mkdir(mode=0o700)
            content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            with open(os.open(new / "private" / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                os.fsync(file.fileno())
            _write(new / "certificate.der", der(certificate))
            new.chmod(0o755)
            new.rename(folder)  # both or none
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            if not (folder / "certificate.der").exists():  # else another process has just made them
                raise PkiError(f"own certificate {folder / 'certificate.der'} is missing; put it back, or {_renew(folder)}") from None
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @staticmethod
    def _read_own(folder: Path) -> Own:
        place = folder / "private" / "key.pem"
        renew = _renew(folder)
        if (mode := stat.S_IMODE(place.stat().st_mode)) & 0o077:
            raise PkiError(f"own key {place} can be used by others (mode {mode:04o}); chmod 600 it")
        try:
            certificate = x509.load_der_x509_certificate((folder / "certificate.der").read_bytes())
            key = load_pem_private_key(place.read_bytes(), password=None)
            if odd := oddity(certificate):
                raise ValueError(odd)
        except (*UNREADABLE, TypeError) as error:
            raise PkiError(f"own certificate or key in {folder} cannot be read ({error}); {renew}") from None
        if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
            raise PkiError(f"own key {place} does not belong to the certificate beside it; {renew}")
        if datetime.now(UTC) > certificate.not_valid_after_utc:
            raise PkiError(f"own certificate {folder / 'certificate.der'} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; {renew}")
        return Own(certificate, key, application_uri(certificate))

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """Yield the certificates of one kind, by file name. What is none, or cannot be judged, is passed over; the log is told once."""
        for path in sorted((self.folder / kind).glob("*")):
            if path.suffix.lower() not in _ENDINGS:
                continue
            try:
                yield Entry(kind, path, _load(path))
            except CertificateRefused as error:
                if (line := f"{error}; it is passed over") not in _told:
                    _told.add(line)
                    log.warning("%s", line)

    def check(self, blob: bytes, uri: str, host: str, *, running: bool = False) -> list[x509.Certificate]:
        """Check what a server at `host` that says it is application `uri` has sent; return its certificate and those it is trusted by.

        A certificate that is in ``trusted`` itself was looked at by a person, who knows where it stands; one that is trusted by its issuer has to
        name the host, else any device of that issuer could stand in for any other. For a `running` link the times of certificates do not matter.
        Raise `CertificateRefused`; a certificate that is only not known is then in ``rejected``.
        """
        now = None if running else datetime.now(UTC)
        certificate, *sent = split_chain(blob)
        check_certificate(certificate, uri, now)
        trusted = [entry.certificate for entry in self.entries("trusted")]
        if certificate in trusted:
            return [certificate]
        issuers = issued_by(certificate, trusted, [*(entry.certificate for entry in self.entries("issuers")), *sent], self._revocations(), now)
        if issuers and names_host(certificate, host):
            return [certificate, *issuers]
        rejected = self._reject(certificate)
        why = "is not trusted"
        if issuers:
            why = f"has a trusted issuer, but does not name {host}"
        elif earlier := [one for one in trusted if uri and application_uri(one) == uri]:
            why = f"has changed: the one that is trusted for {uri} has the fingerprint {fingerprint(earlier[0])[:16]}"
        mark = fingerprint(certificate)
        raise CertificateRefused(
            f"the certificate of {subject(certificate)} {why}; compare its fingerprint {mark} at the server, then: "
            f"blackmass trust {mark[:16]} --data {self.folder.parent} (it is in {rejected})"
        )

    def _revocations(self) -> list[x509.CertificateRevocationList]:
        lists = []
        for path in sorted((self.folder / "crl").glob("*")):
            try:
                content = path.read_bytes()
                lists.append(x509.load_pem_x509_crl(content) if content.startswith(b"-----") else x509.load_der_x509_crl(content))
                _ = lists[-1].issuer
            except (*UNREADABLE, OSError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                raise CertificateRefused(f"revocation list {path} cannot be read ({why}); replace or delete it") from None
        return lists

    def _reject(self, certificate: x509.Certificate) -> Path:
        folder = self.folder / "rejected"
        path = folder / f"{_label(certificate)}.der"
        try:
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                old = sorted(folder.glob("*.der"), key=lambda one: one.stat().st_mtime_ns)
                for one in old[: max(len(old) - _MOST_REJECTED + 1, 0)]:
                    one.unlink(missing_ok=True)
                _write(path, der(certificate))
        except OSError as error:
            raise CertificateRefused(f"the certificate of {subject(certificate)} cannot be kept as rejected: {path}: {error.strerror}") from None
        return path

    def trust(self, what: str) -> Entry:
        """Trust a refused certificate by the start of its fingerprint or thumbprint, or one in a file; raise `PkiError`."""
        place = Path(what)
        if place.is_file():
            try:
                certificate = _load(place)
            except CertificateRefused as error:
                raise PkiError(str(error)) from None
        else:
            mark = what.replace(":", "").replace(" ", "").lower()
            if not re.fullmatch(r"[0-9a-f]{8,64}", mark):
                raise PkiError(f"no file {what}, and not a fingerprint; expected at least 8 of its hexadecimal digits")
            found = [entry for entry in self.entries("rejected") if _begins(entry.certificate, mark)]
            if len(found) != 1:
                raise PkiError(f"{len(found) or 'no'} certificates in {self.folder / 'rejected'} begin with {what}; see blackmass certificates")
            place, certificate = found[0].path, found[0].certificate
        path = self.folder / "trusted" / f"{_label(certificate)}.der"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, der(certificate))
        if place.resolve().parent == (self.folder / "rejected").resolve():
            place.unlink()
        return Entry("trusted", path, certificate)


def _renew(folder: Path) -> str:
    return f"move {folder} away to have new ones made, and let each server trust them"


def _begins(certificate: x509.Certificate, mark: str) -> bool:
    return any(hexadecimal.startswith(mark) for hexadecimal in (fingerprint(certificate), thumbprint(certificate)))


def _label(certificate: x509.Certificate) -> str:
    """Return a file name that tells which it is; the fingerprint keeps it unique, whatever a stranger wrote into the subject."""
    said = re.search(r"CN=([^,+]*)", subject(certificate))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", said[1] if said else "").strip("-")[:40]
    return f"{name or 'certificate'}-{fingerprint(certificate)[:32]}"


def _load(path: Path) -> x509.Certificate:
    """Return the certificate in a file; raise `CertificateRefused` if there is none, or one that cannot be judged."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CertificateRefused(f"{path} is not a certificate: it has more than {_MOST_BYTES} bytes")
        content = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(content) if content.startswith(b"-----") else x509.load_der_x509_certificate(content)
    except OSError as error:
        raise CertificateRefused(f"{path} cannot be read ({error.strerror})") from None
    except UNREADABLE as error:
        raise CertificateRefused(f"{path} is not a certificate in DER or PEM ({error})") from None
    if odd := oddity(certificate):
        raise CertificateRefused(f"the certificate of {subject(certificate)} in {path} cannot be judged ({odd}); have another one made")
    return certificate


def _write(path: Path, content: bytes) -> None:
    """Write a whole file or none."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(handle, 0o644)
            os.fsync(handle)
        Path(name).replace(path)
    finally:  # a full disk, met again at each try to connect, must not get a file of each
        Path(name).unlink(missing_ok=True)
