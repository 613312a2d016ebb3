"""Who may speak to the page's server: Host and Origin, and the headers that every answer carries. Deny by default.

A page of another site that the operator's browser has open can send requests here. The Host check stops a name that has been
rebound to this machine; the Origin check and a header that only a script of the same origin can set stop forged commands.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "why_foreign"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")

# connect-src names nothing but this origin, the WebSocket included
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def why_foreign(headers: Headers) -> str:
    """Return why a request is not from a page of this server; empty if it is."""
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is None:
        return f"expected the header Origin: http://{host}, got none; a program sets it itself"
    try:
        parts = urlsplit(origin)
    except ValueError:
        return f"expected the header Origin: http://{host}, got one that is no address"
    if parts.scheme not in ("http", "https") or parts.netloc.lower() != host.lower():
        return f"expected the header Origin: http://{host}, got {origin[:200]!r}: commands are taken from this page only"
    return ""


class Guard:
    """ASGI middleware: refuses a Host that is not this machine's, and adds the security headers."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] = ()) -> None:
        self.app = app
        self.hosts = frozenset((*LOOPBACK, *(host.lower() for host in hosts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what names this machine."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        named = Headers(scope=scope).getlist("host")
        if len(named) != 1 or _name(named[0]) not in self.hosts:
            await self._refuse(scope, receive, send)
            return

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for key, value in _HEADERS.items():
                    headers[key] = value
                headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        await self.app(scope, receive, adding)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "Host is not this machine"})
            return
        why = f"expected the header Host to name this machine ({', '.join(sorted(self.hosts))}); other names must be configured"
        await JSONResponse({"accepted": False, "why": why}, 421)(scope, receive, send)
