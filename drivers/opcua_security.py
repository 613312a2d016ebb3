"""How an OPC UA client is secured: the endpoint that was asked for or none, a server that is trusted, a password that is never sent in the clear."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies as policies
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from drivers.address import Policy, Security
from drivers.opcua_certificate import CertificateRefused, fingerprint
from drivers.opcua_channel import bound_frames, calm
from drivers.opcua_pki import Own, Pki, PkiError
from drivers.secret import SecretError, read_secret

__all__ = ["NotSecured", "SecuredClient"]

log = logging.getLogger(__name__)

_POLICIES: Final[dict[Policy, type[policies.SecurityPolicy]]] = {
    "Basic256Sha256": policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": policies.SecurityPolicyAes256Sha256RsaPss,
}
_STRONG: Final = frozenset(policy.URI for policy in _POLICIES.values())
_MODES: Final = {"sign": ua.MessageSecurityMode.Sign, "sign_and_encrypt": ua.MessageSecurityMode.SignAndEncrypt}
_MODE_NAMES: Final = {mode: name for name, mode in _MODES.items()} | {ua.MessageSecurityMode.None_: "none"}
_WRONG_USER: Final = frozenset({StatusCodes.BadUserAccessDenied, StatusCodes.BadIdentityTokenRejected, StatusCodes.BadIdentityTokenInvalid})
_WRONG_CHANNEL: Final = frozenset({StatusCodes.BadSecurityModeRejected, StatusCodes.BadSecurityPolicyRejected})
_SHOWN: Final = 12  # policies with their modes, of those that a server offers


class NotSecured(UaError):
    """The link is not secured as was asked, so it is not used: why, and what to do."""


class SecuredClient(Client):
    """asyncua's client with what it lacks: the server's certificate is checked before anything is sent under it, and passwords are not given away."""

    def __init__(self, url: str, timeout: float, **options: Any) -> None:
        super().__init__(url, timeout, **options)
        bound_frames(self.uaclient)
        calm(self)
        self._patience = timeout  # [s] of each request
        self.certificates: list[x509.Certificate] = []  # that this link depends on
        self._checked: tuple[bytes, str] | None = None  # the certificate with its chain, and the application that it is for
        self._pki: Pki | None = None
        self._own: Own | None = None
        self._host = ""

    async def guard(self, security: Security, data: Path, host: str) -> None:
        """Prepare for `connect`: find the endpoint, check its certificate, take our own; raise `NotSecured`."""
        if security.policy == "none" and not security.user:
            return
        self._host = host
        self._pki = pki = Pki(data)
        try:
            if security.user:
                self._username = security.user
                self._password = await asyncio.to_thread(read_secret, data / security.password_file, "password file")
            if security.policy == "none":
                self.certificate_validator = self._check  # it may encrypt the password with it
                return
            policy, mode = _POLICIES[security.policy], _MODES[security.mode]
            endpoint = await self._find(policy.URI, mode, f"{security.policy} with {security.mode}")
            self._own = own = await asyncio.to_thread(pki.own)
            self._checked = (endpoint.ServerCertificate or b"", endpoint.Server.ApplicationUri or "")
            trusted = await asyncio.to_thread(pki.check, *self._checked, host)
        except (CertificateRefused, PkiError, SecretError) as error:
            raise NotSecured(str(error)) from None
        self.certificates = [own.certificate, *trusted]
        self.application_uri = own.uri
        channel = policy(trusted[0], own.certificate, own.key, mode)
        self.security_policy = channel  # type: ignore[assignment]  # as its own `set_security` does
        self.uaclient.set_security(channel)
        said = endpoint.Server.ApplicationUri

        async def same(_certificate: x509.Certificate, application: ua.ApplicationDescription) -> None:
            if application.ApplicationUri != said:  # what was asked in the clear is now signed
                raise NotSecured(f"the server was {said} when it was asked, and is {application.ApplicationUri} now")

        self.certificate_validator = same

    async def _find(self, uri: str, mode: ua.MessageSecurityMode, asked: str) -> ua.EndpointDescription:
        """Return the endpoint that was asked for. There is no second choice."""
        scout = SecuredClient(self.server_url.geturl(), self._patience)
        try:
            offered: Sequence[ua.EndpointDescription] = await scout.connect_and_get_server_endpoints()
        except NotSecured:
            raise NotSecured("the server does not say what it offers (it refuses discovery without security); turn discovery on there") from None
        for endpoint in offered:
            if endpoint.SecurityMode == mode and endpoint.SecurityPolicyUri == uri and (endpoint.EndpointUrl or "").startswith("opc.tcp"):
                return endpoint
        raise NotSecured(
            f"the server does not offer {asked}, but {_words_of(offered) or 'nothing'}; turn it on there, the link is not weakened by itself"
        )

    async def _check(self, certificate: x509.Certificate, application: ua.ApplicationDescription) -> None:
        """Check the certificate with which a password is going to be encrypted on a channel without security."""
        assert self._pki is not None  # set with this
        self._checked = (self.security_policy.peer_certificate or b"", application.ApplicationUri or "")
        try:
            self.certificates = await asyncio.to_thread(self._pki.check, *self._checked, self._host)
        except CertificateRefused as error:
            raise NotSecured(str(error)) from None

    async def recheck(self) -> None:
        """Raise `NotSecured` when the server is trusted no more. A running link is not cut by the clock, nor for the age of a certificate.

        Of that there is an alarm, and no new connection.
        """
        if self._checked is None or self._pki is None:
            return
        try:
            await asyncio.to_thread(self._pki.check, *self._checked, self._host, running=True)
        except CertificateRefused as error:
            raise NotSecured(str(error)) from None

    async def open_secure_channel(self, renew: bool = False) -> None:
        """Open or renew the channel; a server that does not want us says so in words.

        One that could not be renewed is used until the server ends it, and then there is a new connection: nobody waits for a renewal to hear of it.
        """
        if renew:
            with contextlib.suppress(UaError, OSError, AssertionError):
                await super().open_secure_channel(renew=True)
            return
        try:
            await super().open_secure_channel()
        except (UaError, AssertionError) as error:  # the last is how asyncua takes a fault for an answer
            why = f"{type(error).__name__} {error}".strip().removeprefix("AssertionError").strip() or "by a fault"
            if self._own is None:
                raise NotSecured(f"the server refuses a channel without security ({why}); name the policy that it offers") from None
            raise NotSecured(f"the server refuses the secured channel ({why}); let it trust {self._our_certificate()}") from None
        except ConnectionError as error:  # by the network; or a server that hangs up on those whom it does not want, without a word
            why = f"the connection was lost while the channel was opened ({_lost(error)})"
            if self._own is None:
                raise ConnectionError(why) from None
            raise ConnectionError(f"{why}; if that happens each time, let it trust {self._our_certificate()}") from None

    def _our_certificate(self) -> str:
        assert self._own is not None
        assert self._pki is not None  # set with this
        return f"our certificate {self._pki.folder / 'own' / 'certificate.der'}, fingerprint {fingerprint(self._own.certificate)}"

    async def create_session(self) -> ua.CreateSessionResult:
        """Begin a session; raise `NotSecured` when the server takes none on this channel, or does not prove who it is."""
        try:
            return await super().create_session()
        except InvalidSignature:
            raise NotSecured(
                "the server's signature does not fit its certificate, so it need not be the one that it says it is; "
                "see who answers at this address, and which key the server there has"
            ) from None
        except x509.InvalidVersion as error:
            raise NotSecured(f"the server sent bytes that are no certificate: {error}; give the server another one") from None
        except UaError as error:
            if getattr(error, "code", None) not in _WRONG_CHANNEL:
                raise
            raise NotSecured(f"the server takes no session on this channel ({type(error).__name__}); {await self._advice()}") from None

    async def _advice(self) -> str:
        scout = SecuredClient(self.server_url.geturl(), self._patience)
        offered: Sequence[ua.EndpointDescription] = ()
        with contextlib.suppress(UaError, OSError):  # without it there is less to say
            offered = await scout.connect_and_get_server_endpoints()
        there = _words_of([endpoint for endpoint in offered if endpoint.SecurityMode in _MODE_NAMES and endpoint.SecurityPolicyUri in _STRONG])
        return "name the security policy that it offers" + (f": {there}" if there else "")

    async def activate_session(
        self, username: str | None = None, password: str | None = None, certificate: x509.Certificate | None = None
    ) -> ua.ActivateSessionResult:
        """Log on; raise `NotSecured` rather than send a password that others can read."""
        if username:
            self._guard_password()
        try:
            return await super().activate_session(username, password, certificate)
        except UaError as error:
            if getattr(error, "code", None) not in _WRONG_USER:
                raise
            who = f"user {username!r}; check the name and its password file" if username else "anonymous users; name a user and a password_file"
            raise NotSecured(f"the server refuses {who} ({type(error).__name__})") from None

    def _guard_password(self) -> None:
        offered = [token for token in self._policy_ids if token.TokenType == ua.UserTokenType.UserName]
        if not offered:
            raise NotSecured("the server takes no user names on this endpoint; leave out the user, or turn it on there")
        if self.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt:
            return
        encrypted = self.server_policy(ua.UserTokenType.UserName).SecurityPolicyUri in _STRONG and bool(self.certificates)
        if not encrypted:
            raise NotSecured(
                "the password would cross the network in the clear, so it was not sent: ask for a policy with security_mode sign_and_encrypt, "
                "or let the server encrypt user names with one"
            )


def _lost(error: ConnectionError) -> str:
    return error.strerror or "closed by the other side"


def _words_of(endpoints: Iterable[ua.EndpointDescription]) -> str:
    return ", ".join(sorted({_words(endpoint) for endpoint in endpoints})[:_SHOWN])


def _words(endpoint: ua.EndpointDescription) -> str:
    policy = str(endpoint.SecurityPolicyUri or "").rpartition("#")[2]
    mode = _MODE_NAMES.get(endpoint.SecurityMode, "an unknown mode")
    return "none" if mode == "none" else f"{policy[:40]} with {mode}"
