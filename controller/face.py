"""Serve the page beside a running service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from controller.web.api import UVICORN

__all__ = ["PortTakenError", "page"]


class PortTakenError(RuntimeError):
    """The page's port is in use."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the command that runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


@asynccontextmanager
async def page(app: FastAPI, host: str, port: int) -> AsyncIterator[str]:
    """Serve `app` while the context lasts; give its URL. Raise `PortTakenError` naming the setting to change."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTakenError(
            f"the page cannot be served on {host}:{port}: {error.strerror}; choose another port with --port, or [web] port in the cell file"
        ) from None
    server = _Server(uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=1, **UVICORN))
    task = asyncio.create_task(server.serve([listener]), name="page")
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            async with asyncio.timeout(3.0):
                await task
        listener.close()
