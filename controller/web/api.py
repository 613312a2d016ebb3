"""The page's server: what it shows, what it takes, and over what. docs/reference/page-api.md is its reference.

It holds nothing of the core: frames come over a `Link`, and commands go back over it, typed and checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread
import numpy as np
import orjson
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError

from controller.core.commands import Command, Receipt, command_from_json
from controller.core.frame import as_json
from controller.runtime.link import Link
from controller.web import vendor
from controller.web.guard import Guard, why_foreign
from controller.web.hub import Hub
from controller.web.metrics import prometheus

__all__ = ["UVICORN", "HistoryReader", "create_app"]

STATIC = Path(__file__).parent / "static"
BODY = 64 * 1024  # [bytes] the longest command
PACE = 0.25  # [s] between two frames to one client
STALE = 3.0  # [s] without a frame, and commands are refused
PATIENCE = 2.0  # [s] for control to take a command
STUCK = 10.0  # [s] a client may leave a message unread
CLIENTS = 32
HISTORY_POINTS = 24
HISTORY_SAMPLES = 20_000
HISTORY_COLUMNS = 1_000  # steps, of a least and a greatest value each; without a step, longer windows are thinned to this

# what the service gives to uvicorn: a page sends nothing over its WebSocket, and one that has gone is noticed
UVICORN: Mapping[str, Any] = {
    "ws": "websockets-sansio",
    "ws_max_size": 4096,
    "ws_ping_interval": 10.0,
    "ws_ping_timeout": 10.0,
    "server_header": False,
    "access_log": False,
    "limit_concurrency": 200,
    "timeout_keep_alive": 15,
}


class HistoryReader(Protocol):
    """Reads the recorded past. It blocks, so the server calls it in a worker thread."""

    def read(self, names: Sequence[str], start: float, stop: float, step: float | None) -> Mapping[str, Any]:
        """Return ``time`` (t,) [s, plant clock, ascending], ``value`` (k, t) [eu of each point] and ``quality`` (k, t) of k points.

        NaN is BAD. Thinned to a few columns each `step` [s], every recorded sample if it is None; raise `KeyError` for a name that was
        never recorded.
        """


class _Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def _refusal(status: int, why: str, **more: Any) -> _Json:
    return _Json({"accepted": False, "why": why, **more}, status)


def _expected(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{"where": ".".join(map(str, part["loc"])) or "body", "expected": part["msg"]} for part in parts]


async def _body(request: Request) -> bytes | None:
    """Return the body, or None when it is longer than `BODY`; never reads more than that."""
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def create_app(link: Link, history: HistoryReader, *, static: Path | None = None, hosts: Collection[str] = ()) -> FastAPI:
    """Return the page's ASGI application; run it with the settings `UVICORN`.

    Parameters
    ----------
    static
        Where the page's files are; those of this package by default.
    hosts
        Names besides the loopback ones under which browsers may reach it. Whoever sets them has put TLS and users in front.
    """
    static = STATIC if static is None else static
    hub = Hub(link)
    reading = anyio.CapacityLimiter(2)  # two long reads must not starve the machine that controls a plant

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(hub.follow(), name="page follows control")
        try:
            yield
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    # no interactive API pages: they load scripts from elsewhere
    app = FastAPI(title="blackmass", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(Guard, hosts=hosts)

    @app.exception_handler(RequestValidationError)
    async def not_understood(_: Request, error: RequestValidationError) -> Response:
        parts = _expected(error.errors())
        return _refusal(400, f"not understood: {parts[0]['where']}: {parts[0]['expected']}", expected=parts)

    @app.get("/")
    async def page() -> Response:
        if lacking := vendor.missing(static):
            return HTMLResponse(_NO_LIBRARIES.format(files=html.escape(", ".join(lacking)), command=vendor.COMMAND), 503)
        return FileResponse(static / "index.html")

    @app.get("/api/cell")
    async def cell() -> Response:
        return _Json(hub.cell())

    @app.get("/api/frame")
    async def frame() -> Response:
        if hub.newest is None:
            return _refusal(503, f"control has given no frame in {hub.age:.1f} s; see the log of the service")
        return _Json({"age": hub.age, **as_json(hub.newest)})

    @app.get("/api/history")
    async def read_history(points: str, start: float, stop: float, step: float | None = None) -> Response:
        names = [name for name in points.split(",") if name]
        known = {point["name"] for point in hub.cell()["points"]}
        if unknown := [name for name in names if name not in known]:
            return _refusal(400, f"expected points of the cell, got {', '.join(unknown)[:200]}")
        if not 1 <= len(names) <= HISTORY_POINTS:
            return _refusal(400, f"expected 1 to {HISTORY_POINTS} points, got {len(names)}")
        if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
            return _refusal(400, f"expected start < stop [s, plant clock], got {start} and {stop}")
        if step is None and stop - start > HISTORY_COLUMNS * float(hub.cell()["scan"]):
            step = (stop - start) / HISTORY_COLUMNS
        if step is not None and not (step > 0.0 and (stop - start) / step <= HISTORY_SAMPLES):
            return _refusal(400, f"expected a step [s] that gives at most {HISTORY_SAMPLES} samples in {stop - start:g} s, got {step:g} s")

        def columns() -> bytes:
            past = history.read(names, start, stop, step)
            arrays = {name: np.ascontiguousarray(past[name]) for name in ("time", "value", "quality")}
            return orjson.dumps({"points": names, "start": start, "stop": stop, "step": step, **arrays}, option=orjson.OPT_SERIALIZE_NUMPY)

        try:
            body = await anyio.to_thread.run_sync(columns, limiter=reading)
        except KeyError as error:
            return _refusal(404, f"nothing is recorded of {error}")
        return Response(body, media_type="application/json")

    @app.post("/api/commands")
    async def command(request: Request) -> Response:
        if request.headers.get("x-blackmass") != "1":
            return _refusal(403, "expected the header X-Blackmass: 1, which only a script of this page sets")
        if why := why_foreign(request.headers):
            return _refusal(403, why)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _refusal(415, "expected a body of type application/json")
        body = await _body(request)
        if body is None:
            return _refusal(413, f"expected a command of at most {BODY} bytes")
        try:
            wish = command_from_json(body)
        except ValidationError as error:
            parts = _expected(error.errors(include_input=False, include_url=False))
            return _refusal(400, f"not a command: {parts[0]['where']}: {parts[0]['expected']}", expected=parts)
        return await _send(wish)

    async def _send(wish: Command) -> Response:
        about = hub.cell()
        if hub.newest is None or hub.age > max(STALE, 3.0 * float(about["scan"]) / float(about["speed"] or 1.0)):
            return _refusal(503, f"control has given no frame for {hub.age:.1f} s: the command was not sent. Try again when it is back")
        try:
            receipt: Receipt = await asyncio.wait_for(link.send(wish), PATIENCE)
        except TimeoutError:
            return _refusal(504, f"control did not answer in {PATIENCE:g} s: {_UNKNOWN}")
        except OSError as error:
            return _refusal(503, f"control cannot be reached ({error}): {_UNKNOWN}")
        return _Json(receipt.model_dump(), 202 if receipt.accepted else 409)

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(prometheus(hub.cell(), hub.newest, hub.age, hub.clients), media_type="text/plain; version=0.0.4")

    @app.websocket("/ws")
    async def frames(socket: WebSocket) -> None:
        if why_foreign(socket.headers):
            await socket.close(1008)
            return
        if hub.clients >= CLIENTS:
            await socket.close(1013)
            return
        hub.clients += 1
        try:
            await socket.accept()
            feeding = asyncio.create_task(_feed(socket, hub))
            listening = asyncio.create_task(_until_closed(socket))
            done, pending = await asyncio.wait({feeding, listening}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for task in done:
                task.result()
        finally:
            hub.clients -= 1

    app.mount("/static", StaticFiles(directory=static), name="static")
    return app


_UNKNOWN = "it is not known whether the command was taken. Look at the batch before you repeat it"


async def _feed(socket: WebSocket, hub: Hub) -> None:
    """Send the cell, then the newest frame again and again; what a client is too slow for, it does not get."""
    with contextlib.suppress(WebSocketDisconnect, TimeoutError):
        last, cell = hub.newest, hub.cell()
        await asyncio.wait_for(socket.send_text(hub.first()), STUCK)
        while True:
            await asyncio.sleep(PACE)
            newest = await hub.newer(last)
            known = last is not None and newest.boot == last.boot and hub.cell() is cell
            said = hub.message(newest) if known else hub.first()
            last, cell = newest, hub.cell()
            await asyncio.wait_for(socket.send_text(said), STUCK)


async def _until_closed(socket: WebSocket) -> None:
    """Wait until the client goes; what it says is not for us."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


_NO_LIBRARIES = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>blackmass: page not installed</title>
<h1>The operator page is not installed completely</h1>
<p>Control runs, but these libraries of the page are missing: {files}.</p>
<p>Install them once (needs Node.js and a network), then load this page again:</p>
<pre>{command}</pre>
<p>The API works meanwhile: <a href="/api/frame">/api/frame</a>, <a href="/metrics">/metrics</a>.</p>
</html>
"""
