"""The forwarder against an HTTP server that refuses: it waits, sends the same again, and never shows its token."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from controller.core.frame import Frame, Point
from controller.historian.influx import InfluxError, InfluxForwarder, InfluxSettings
from controller.historian.store import Historian, HistorianReader

pytestmark = pytest.mark.wire
TOKEN = "do-not-show-me-anywhere"


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


class Refusing(ThreadingHTTPServer):
    """Answers each request with the next of `answers` (status, headers, message), and 204 when there are no more."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self.bodies: list[bytes] = []
        self.poison = b""
        self.at: list[float] = []


class Handler(BaseHTTPRequestHandler):
    server: Refusing
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Authorization"] == f"Token {TOKEN}"
        self.server.bodies.append(body)
        self.server.at.append(time.monotonic())
        status, headers, message = self.server.answers.pop(0) if self.server.answers else (204, {}, "")
        if self.server.poison and self.server.poison in body:
            status, message = 400, "unable to parse"
        answer = json.dumps({"code": "x", "message": message}).encode() if status != 204 else b""
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Refusing]:
    with Refusing() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def reader(tmp_path: Path) -> HistorianReader:
    historian = Historian.open(tmp_path, [Point(f"P-{place}", "", 0, 1) for place in range(40)])
    frames = []
    for seq in range(500):
        stamp = np.full(40, seq + 1, dtype=np.int64)
        frames.append(Frame(1, seq, float(seq), 0, np.full(40, float(seq)), np.zeros(40, dtype=np.uint8), stamp, stamp))
    historian.append(frames)
    historian.close()
    return HistorianReader(tmp_path)


def forwarder(server: Refusing, reader: HistorianReader, slowest: float = 0.1) -> InfluxForwarder:
    settings = InfluxSettings(f"http://127.0.0.1:{server.server_port}", "o", "b", token=TOKEN)
    return InfluxForwarder(reader, settings, reader.path.parent, slowest=slowest, poll=0.01)


def test_refused_requests_are_repeated_until_they_are_taken(server: Refusing, reader: HistorianReader, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers = [(503, {}, "compacting"), (500, {}, ""), (429, {}, "slow down"), (302, {"Location": "http://127.0.0.1:9/"}, "")]
    with forwarder(server, reader) as running:
        until(lambda: running.state.backlog == 500)
        until(lambda: running.state.backlog == 0 and running.state.sent == 20_000)
    assert running.state.errors == 4
    assert running.state.why == ""
    assert len(set(server.bodies[:5])) == 1  # the very same request, five times
    assert b"".join(server.bodies[4:]).count(b"\n") == 20_000
    mine = [record for record in caplog.records if record.name == "blackmass.influx"]
    assert [record.levelname for record in mine] == ["WARNING", "INFO"]
    assert "answered 503 (compacting): tried again until it succeeds" in mine[0].getMessage()
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(running.settings)


def test_server_that_asks_for_time_gets_it(server: Refusing, reader: HistorianReader) -> None:
    server.answers = [(429, {"Retry-After": "1"}, "slow down")]
    with forwarder(server, reader, slowest=5.0) as running:
        until(lambda: running.state.sent == 20_000)
    assert server.at[1] - server.at[0] >= 1.0


def test_one_bad_line_costs_a_handful_of_requests_and_only_itself(server: Refusing, reader: HistorianReader) -> None:
    server.poison = b"tag=P-7 value=123.0,"
    with forwarder(server, reader) as running:
        until(lambda: running.state.backlog == 0 and running.state.quarantined)
    assert (running.state.quarantined, running.state.sent) == (1, 19_999)
    assert len(server.bodies) < 40
    taken = {line for body in server.bodies if server.poison not in body for line in body.splitlines()}
    assert len(taken) == 19_999


@pytest.mark.parametrize("said", ["partial write: field type conflict: x dropped=17", "partial write: dropped 17 points outside retention"])
def test_partial_write_is_counted_and_goes_on(server: Refusing, reader: HistorianReader, said: str) -> None:
    server.answers = [(422, {}, said)]
    with forwarder(server, reader) as running:
        until(lambda: running.state.backlog == 0 and running.state.dropped)
    assert (running.state.dropped, running.state.sent) == (17, 19_983)


def test_another_bucket_has_a_cursor_of_its_own(server: Refusing, reader: HistorianReader) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    for bucket in ("a", "b", "a"):
        with InfluxForwarder(reader, InfluxSettings(url, "o", bucket, token=TOKEN), reader.path.parent, poll=0.01) as running:
            until(lambda: running.cursor == (1, 499))
    assert sum(body.count(b"\n") for body in server.bodies) == 40_000
    (reader.path.parent / "influx.json").write_text("{torn")
    with forwarder(server, reader) as running:
        until(lambda: running.cursor == (1, 499))
    assert sum(body.count(b"\n") for body in server.bodies) == 60_000


def test_token_file_is_read_only_if_nobody_else_can(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = InfluxSettings("http://127.0.0.1:8086", "o", "b", token_file=file)
    with pytest.raises(InfluxError, match=r"token file .*: No such file"):
        settings.secret()
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o644)
    with pytest.raises(InfluxError, match="has mode 0644, so others may read it; chmod 600 it"):
        settings.secret()
    file.chmod(0o600)
    assert settings.secret() == TOKEN
    file.write_text("\n")
    with pytest.raises(InfluxError, match="is empty"):
        settings.secret()


@pytest.mark.parametrize("url", ["localhost:8086", "ftp://host", "http://", "http://user:word@host:8086"])
def test_url_that_cannot_be_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected http://host:8086") as refused:
        InfluxSettings(url, "o", "b", token=TOKEN)
    assert "word" not in str(refused.value)
