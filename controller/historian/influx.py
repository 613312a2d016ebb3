"""The forwarder: from the historian to an InfluxDB 2, exactly once, for as long as it takes.

It reads the historian from an acknowledged cursor, so there is no second queue: while InfluxDB is away, the backlog is the historian.
A request that may or may not have arrived is sent again; its lines replace themselves.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from controller.historian.line_protocol import LineEncoder
from controller.historian.reader import Chunk, Cursor, HistorianError, HistorianReader

__all__ = ["ForwarderState", "InfluxError", "InfluxForwarder", "InfluxSettings", "setup"]

log = logging.getLogger("blackmass.influx")

_LEAST, _MOST = 5_000, 20_000  # lines in a request
_MEASURE = 1.0  # [s] how often the backlog is counted while it is sent
_QUARANTINE = 10_000_000  # [bytes] that the file of refused lines may have; more are counted only


class InfluxError(RuntimeError):
    """InfluxDB refuses or is away; says what to change."""

    def __init__(self, why: str, *, status: int = 0, wait: float = 0.0) -> None:
        super().__init__(why)
        self.status = status  # of HTTP; 0 if there was no answer
        self.wait = wait  # [s] that InfluxDB asks to wait


@dataclass(frozen=True, slots=True)
class InfluxSettings:
    """Where to, and as whom. The token comes from `token`, or from `token_file`, which nobody else may read (mode 0600)."""

    url: str
    org: str
    bucket: str
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    timeout: float = 10.0  # [s] of one request
    cell: str = ""  # tag `cell` of every line
    classes: Mapping[str, str] = field(default_factory=dict)  # unit: its class, which is the measurement

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError(f"InfluxDB url {parts.hostname or self.url!r}: expected http://host:8086 or https://host:8086, without a user")
        if not self.token and self.token_file is None:
            raise ValueError("InfluxDB needs a token: give token or token_file")

    def secret(self) -> str:
        """Return the token; raise `InfluxError` if its file cannot be read, or can be read by others."""
        if self.token:
            return self.token
        assert self.token_file is not None
        try:
            mode = stat.S_IMODE(self.token_file.stat().st_mode)
            if mode & 0o077:
                raise InfluxError(f"token file {self.token_file} has mode {mode:04o}, so others may read it; chmod 600 it")
            text = self.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InfluxError(f"token file {self.token_file}: {error.strerror}") from error
        if not text:
            raise InfluxError(f"token file {self.token_file} is empty; write the token into it")
        return text

    @property
    def target(self) -> str:
        """Which bucket of which InfluxDB: a cursor belongs to one."""
        return f"{self.url.rstrip('/')} {self.org}/{self.bucket}"


@dataclass(frozen=True, slots=True)
class ForwarderState:
    """How forwarding goes."""

    backlog: int = 0  # frames stored but not acknowledged
    lag: float = 0.0  # [s] plant clock, how far the newest acknowledged frame is behind
    sent: int = 0  # lines acknowledged
    dropped: int = 0  # lines that InfluxDB dropped from requests it took (422: outside retention, type of a field)
    quarantined: int = 0  # lines it can not parse; they are in influx-quarantine.lp
    errors: int = 0  # requests that failed and are repeated
    why: str = ""  # why nothing is sent now; empty while it works


def client(settings: InfluxSettings) -> InfluxDBClient:
    """Return a client of influxdb-client; it does not connect yet and never retries by itself."""
    return InfluxDBClient(settings.url, settings.secret(), org=settings.org, timeout=round(settings.timeout * 1e3), enable_gzip=True, retries=False)


def _explain(error: Exception, settings: InfluxSettings) -> InfluxError:
    """Return what a failed request means and what to do, without a word of the token."""
    if not isinstance(error, ApiException):
        return InfluxError(f"InfluxDB at {settings.url} does not answer ({type(error).__name__}); is it running, and is the url right?")
    status = int(error.status or 0)
    said = _said(error)
    advice = {
        401: f"the token is not valid there; make one that may write to bucket {settings.bucket!r}",
        403: f"the token may not do this; give it write access to bucket {settings.bucket!r}",
        404: f"no organization {settings.org!r} or no bucket {settings.bucket!r}; correct the name under [influx], or create it there",
    }.get(status, "tried again until it succeeds" if status == 429 or status >= 500 else "")
    asked = str(error.headers.get("Retry-After", "")) if error.headers is not None else ""
    text = f"InfluxDB at {settings.url} answered {status} ({said})" + (f": {advice}" if advice else "")
    return InfluxError(text, status=status, wait=float(asked) if asked.isdigit() else 0.0)


def _said(error: ApiException) -> str:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        message = json.loads(body).get("message", "")
    except (json.JSONDecodeError, AttributeError):
        message = body
    return " ".join(str(message or error.reason).split())[:300]


def setup(settings: InfluxSettings, *, retention: float = 0.0) -> bool:
    """Create the bucket if there is none, keeping points for `retention` [s] (0: for ever); return whether it was created.

    Raises `InfluxError` with what to change.
    """
    with client(settings) as db:
        try:
            buckets = db.buckets_api()
            if any(bucket.name == settings.bucket for bucket in buckets.find_buckets(name=settings.bucket).buckets or []):
                return False
            rules = BucketRetentionRules(type="expire", every_seconds=round(retention))  # type: ignore[no-untyped-call]
            buckets.create_bucket(bucket_name=settings.bucket, retention_rules=rules, org=settings.org)
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _explain(error, settings) from error
    return True


@dataclass(frozen=True, slots=True)
class _Request:
    """Some whole frames as lines, and the cursor after them."""

    body: bytes
    lines: int
    end: Cursor


class InfluxForwarder:
    """Forwards a historian from its own thread; entering starts it, leaving stops it. `state` says how it goes.

    Parameters
    ----------
    folder : data directory; the cursor (``influx.json``) and refused lines (``influx-quarantine.lp``) are kept there
    slowest : [s] the longest wait between two tries
    poll : [s] how often to look for new frames
    linger : [s] how long leaving may go on sending what is stored already
    """

    def __init__(
        self,
        reader: HistorianReader,
        settings: InfluxSettings,
        folder: Path,
        *,
        slowest: float = 30.0,
        poll: float = 0.5,
        linger: float = 2.0,
    ) -> None:
        self.settings = settings
        self.state = ForwarderState()
        self._reader = reader
        self._folder = folder
        self._slowest, self._poll, self._linger = slowest, poll, linger
        self._cursor = _load(folder / "influx.json").get(settings.target, Cursor())
        self._before: Chunk | None = None  # ends with the cursor's frame
        self._encoder: LineEncoder | None = None
        self._measured = float("-inf")  # [s] monotonic, when `state` was last brought up to date
        self._stopping = threading.Event()
        self._random = random.Random()
        self._thread = threading.Thread(target=self._run, name="influx", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join(self._linger + self.settings.timeout + 5.0)

    @property
    def cursor(self) -> Cursor:
        """The newest frame that InfluxDB has acknowledged."""
        return self._cursor

    # the thread ---------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            tries = 0
            until = float("inf")
            while time.monotonic() < until:
                try:
                    moved = self._forward()
                except (InfluxError, HistorianError) as error:
                    self._trouble(error)
                    tries += 1
                    if self._stopping.wait(self._pause(error, tries)):
                        break
                else:
                    tries = 0
                    self._well()
                    if not moved and self._stopping.wait(self._poll):
                        break
                if self._stopping.is_set():
                    until = min(until, time.monotonic() + self._linger)
        finally:
            if not self._stopping.is_set():
                self.state = replace(self.state, why="the forwarder's thread ended by an error; restart the service")

    def _pause(self, error: Exception, tries: int) -> float:
        if isinstance(error, InfluxError) and 400 <= error.status < 500 and error.status != 429:
            longest = self._slowest  # only a person can help
        else:
            longest = min(0.25 * 2.0 ** min(tries, 10), self._slowest)
        asked = min(error.wait, self._slowest) if isinstance(error, InfluxError) else 0.0
        return max(longest * self._random.uniform(0.5, 1.0), asked)  # many cells must not come back in step

    def _trouble(self, error: Exception) -> None:
        if not self.state.why:
            log.warning("%s", error)
        self._measure(errors=self.state.errors + 1, why=str(error))

    def _well(self) -> None:
        if self.state.why:
            log.info("InfluxDB at %s takes telemetry again; %d frames are waiting", self.settings.url, self.state.backlog)
        self._measure(why="")

    def _measure(self, **changes: Any) -> None:
        try:
            backlog, lag = self._reader.behind(self._cursor)
        except HistorianError:
            backlog, lag = self.state.backlog, self.state.lag
        self._measured = time.monotonic()
        self.state = replace(self.state, backlog=backlog, lag=lag, **changes)

    # from the cursor on -------------------------------------------------------------------------------------------------

    def _forward(self) -> bool:
        """Send what is stored after the cursor; return whether there was anything."""
        cursor = self._cursor
        if self._before is None or self._before.end != cursor:
            self._before = self._reader.frame(cursor)  # also right when an earlier try failed half way
        with client(self.settings) as db:
            for request in self._requests():
                if request.lines:
                    self._send(db, request)
                self._cursor = request.end
                _save(self._folder / "influx.json", self.settings.target, self._cursor)
                if time.monotonic() - self._measured > _MEASURE:  # catching up takes long; it must be seen to go on
                    self._measure()
                if self._stopping.is_set():
                    break
        return self._cursor != cursor

    def _requests(self) -> Iterator[_Request]:
        """Gather whole frames into requests of `_LEAST` to `_MOST` lines."""
        bodies, lines, end = list[bytes](), 0, self._cursor
        for chunk in self._reader.after(self._cursor):
            most = max(_MOST // max(len(chunk.points), 1), 1)  # frames
            for start in range(0, len(chunk), most):
                part = chunk.part(start, start + most)
                body, count = self._encode(part)
                if lines and lines + count > _MOST:
                    yield _Request(b"".join(bodies), lines, end)
                    bodies, lines = [], 0
                bodies.append(body)
                lines, end = lines + count, part.end
                if lines >= _LEAST:
                    yield _Request(b"".join(bodies), lines, end)
                    bodies, lines = [], 0
        if bodies:
            yield _Request(b"".join(bodies), lines, end)

    def _encode(self, part: Chunk) -> tuple[bytes, int]:
        if self._encoder is None or self._encoder.points != part.points:
            self._encoder = LineEncoder(part.points, cell=self.settings.cell, classes=self.settings.classes)
        before = self._before
        self._before = part
        return self._encoder.encode(part, before if before is not None and before.boot == part.boot else None)

    # one request --------------------------------------------------------------------------------------------------------

    def _send(self, db: InfluxDBClient, request: _Request) -> None:
        refused: list[tuple[bytes, str]] = []
        dropped = self._write(db, request.body, refused)
        if refused:
            self._quarantine(refused)
        lost = dropped + len(refused)
        self.state = replace(self.state, sent=self.state.sent + request.lines - lost, dropped=self.state.dropped + dropped)

    def _write(self, db: InfluxDBClient, body: bytes, refused: list[tuple[bytes, str]]) -> int:
        """Send lines, halving what cannot be parsed down to the line at fault; return how many were dropped. `InfluxError` means: wait."""
        try:
            with db.write_api(write_options=SYNCHRONOUS) as api:
                api.write(self.settings.bucket, self.settings.org, body, write_precision=WritePrecision.NS)
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            trouble = _explain(error, self.settings)
            if trouble.status == 422:
                dropped = _dropped(str(trouble))
                if not self.state.dropped:
                    log.warning("%s; the rest is stored, further ones are only counted", trouble)
                return dropped
            if trouble.status not in (400, 413):
                raise trouble from error
            lines = body.splitlines(keepends=True)
            if len(lines) > 1:
                half = len(lines) // 2
                return sum(self._write(db, b"".join(some), refused) for some in (lines[:half], lines[half:]))
            refused.append((body, str(trouble)))
        return 0

    def _quarantine(self, refused: list[tuple[bytes, str]]) -> None:
        path = self._folder / "influx-quarantine.lp"
        if not self.state.quarantined:
            log.warning("%s; %d lines are in %s", refused[0][1], len(refused), path)
        try:
            with path.open("ab") as file:
                for line, why in refused:
                    if file.tell() < _QUARANTINE:
                        file.write(b"# " + why.encode() + b"\n" + line.rstrip(b"\n") + b"\n")
        except OSError as error:
            raise InfluxError(f"{path}: {error.strerror}; free some disk, or choose another data directory with --data") from error
        self.state = replace(self.state, quarantined=self.state.quarantined + len(refused))


def _dropped(said: str) -> int:
    """Return how many lines an answer says it dropped; it has two ways to say so."""
    found = re.search(r"dropped[= ](\d+)", said)
    return int(found[1]) if found else 1


# the cursor's file ------------------------------------------------------------------------------------------------------


def _load(path: Path) -> dict[str, Cursor]:
    """Return the cursor of every target; nothing if there is no file. One that cannot be read sends all again, which does no harm."""
    try:
        return {target: Cursor(int(boot), int(seq)) for target, (boot, seq) in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s); everything is sent again from the beginning", path, error)
        return {}


def _save(path: Path, target: str, cursor: Cursor) -> None:
    """Write the cursor so that a power cut leaves the old file or the new one."""
    fresh = path.with_suffix(".tmp")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({**_load(path), target: cursor}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise InfluxError(f"{path}: {error.strerror}; free some disk, or choose another data directory with --data") from error
