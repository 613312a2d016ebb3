"""The forwarder against a real InfluxDB 2 that is stopped, killed, filled with nonsense and asked with wrong tokens."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import urllib3

from controller.core.frame import Frame, Point
from controller.historian.influx import ForwarderState, InfluxError, InfluxForwarder, InfluxSettings, setup
from controller.historian.store import Historian, HistorianReader

pytestmark = pytest.mark.influx

ORG = "plant"
POINTS = [Point("TT-1", "degC", 0, 150, unit="T-100"), Point("LT-1", "%", 0, 100, unit="T-100"), Point("SERVICE.QUEUE", "", 0, 1e9)]
BUILD = Path(__file__).parents[1] / "influxd" / "build"


def until(condition: Callable[[], object], seconds: float = 60.0, what: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what()}"
        time.sleep(0.02)


class Influxd:
    """An influxd of its own, on a port that it keeps when it is started again."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = urllib3.PoolManager(retries=False, timeout=30.0)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()
        given = {"username": "tests", "password": "only-for-tests", "org": ORG, "bucket": "first"}
        self.token = str(self.post("/api/v2/setup", given)["auth"]["token"])

    def start(self) -> None:
        arguments = ["--http-bind-address", f"127.0.0.1:{self.port}", "--reporting-disabled", "--log-level", "error"]
        for name in ("bolt", "engine", "sqlite"):
            arguments += [f"--{name}-path", str(self.folder / name)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.program, *arguments], stdout=log, stderr=log, env={"HOME": str(self.folder)})
        until(self.healthy, what=lambda: (self.folder / "log").read_text()[-2000:])

    def healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            return self.http.request("GET", f"{self.url}/health").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60.0)
            self.process = None

    def post(self, path: str, body: object) -> dict[str, dict[str, str]]:
        reply = self.http.request("POST", f"{self.url}{path}", body=json.dumps(body))
        assert reply.status < 300, reply.data
        return dict(json.loads(reply.data))

    def flux(self, query: str) -> list[dict[str, str]]:
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/vnd.flux", "Accept": "application/csv"}
        reply = self.http.request("POST", f"{self.url}/api/v2/query?org={ORG}", body=query, headers=headers)
        assert reply.status == 200, reply.data
        return [row for table in reply.data.decode().split("\r\n\r\n") for row in csv.DictReader(io.StringIO(table))]

    def samples(self, bucket: str, tag: str, field: str = "value") -> dict[int, float]:
        """Return the points of one series by their time [ns]."""
        query = f'from(bucket: "{bucket}") |> range(start: 0) |> filter(fn: (r) => r.tag == "{tag}" and r._field == "{field}")'
        rows = self.flux(f"{query} |> map(fn: (r) => ({{t: int(v: r._time), v: r._value}}))")
        found = {int(row["t"]): float(row["v"]) for row in rows}
        assert len(found) == len(rows), "InfluxDB holds a time twice"
        return found

    def settings(self, bucket: str) -> InfluxSettings:
        return InfluxSettings(self.url, ORG, bucket, token=self.token, cell="demo", classes={"T-100": "leach_tank"}, timeout=10.0)


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    on_ci = os.environ.get("CI") == "true"
    found = subprocess.run([BUILD, *([] if on_ci else ["--find"])], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        why = found.stderr.strip().splitlines()[-1]
        if on_ci:
            pytest.fail(why)
        pytest.skip(f"forwarding to a real InfluxDB not run: {why}")
    server = Influxd(Path(found.stdout.strip()), tmp_path_factory.mktemp("influxd"))
    yield server
    server.stop(signal.SIGKILL)
    server.http.clear()


class Plant:
    """Frames once a second of plant time, into a historian."""

    def __init__(self, folder: Path, start: float | None = None) -> None:
        self.folder = folder
        self.start = 1_767_225_600.0 if start is None else start
        self.historian = Historian.open(folder, POINTS)
        self.seq = 0
        self.random = np.random.default_rng(3)
        self.value: list[list[float]] = []
        self.time: list[int] = []

    def frame(self, source: int | None = None) -> Frame:
        """Return the next frame; `source` [ns] is what the device of TT-1 says of its clock."""
        stamp = round((self.start + self.seq) * 1e9)
        value = self.random.normal(50.0, 20.0, 3)
        times = np.full(3, stamp, dtype=np.int64)
        times[0] = stamp if source is None else source
        self.seq += 1
        self.value.append(value.tolist())
        self.time.append(int(times[0]))
        return Frame(1, self.seq - 1, stamp * 1e-9, stamp, value, np.zeros(3, dtype=np.uint8), times, np.full(3, stamp, dtype=np.int64))

    def run(self, frames: int) -> None:
        for _ in range(frames // 50):
            self.historian.append([self.frame() for _ in range(50)])

    def expected(self, place: int) -> dict[int, float]:
        return {time: row[place] for time, row in zip(self.time, self.value, strict=True)}

    def forwarder(self, settings: InfluxSettings) -> InfluxForwarder:
        return InfluxForwarder(HistorianReader(self.folder), settings, self.folder, slowest=0.5, poll=0.02)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.historian.close()


def arrived(forwarder: InfluxForwarder, plant: Plant) -> Callable[[], bool]:
    return lambda: forwarder.cursor == (1, plant.seq - 1) and forwarder.state.backlog == 0 and not forwarder.state.why


def test_nothing_is_missing_and_nothing_is_there_twice_after_a_stop_and_a_kill(influxd: Influxd, plant: Plant) -> None:
    settings = influxd.settings("outage")
    assert setup(settings)
    assert not setup(settings)
    with plant.forwarder(settings) as forwarder:
        plant.run(1000)
        until(arrived(forwarder, plant), what=lambda: forwarder.state)
        influxd.stop()
        plant.run(1000)
        until(lambda: "does not answer" in forwarder.state.why, what=lambda: forwarder.state)
        until(lambda: forwarder.state.backlog == 1000, what=lambda: forwarder.state)
        assert forwarder.state.lag > 900.0
        influxd.start()
        plant.run(2000)
        until(lambda: forwarder.cursor.seq >= 1000, what=lambda: forwarder.state)
        influxd.stop(signal.SIGKILL)  # maybe in mid-request
        plant.run(1000)
    with plant.forwarder(settings) as forwarder:  # and the service was started again as well, while it was away
        until(lambda: forwarder.state.why, what=lambda: forwarder.state)
        influxd.start()
        until(arrived(forwarder, plant), what=lambda: forwarder.state)
    assert plant.seq == 5000
    for place, point in enumerate(POINTS):
        assert influxd.samples("outage", point.name) == plant.expected(place)
        assert influxd.samples("outage", point.name, "quality") == dict.fromkeys(plant.time, 0.0)
    (row,) = influxd.flux('import "influxdata/influxdb/schema" schema.measurements(bucket: "outage") |> count()')
    assert row["_value"] == "2"  # leach_tank and cell
    assert influxd.flux('from(bucket: "outage") |> range(start: 0) |> filter(fn: (r) => r.cell != "demo")') == []


def test_cursor_that_is_lost_sends_all_again_and_changes_nothing(influxd: Influxd, plant: Plant) -> None:
    setup(settings := influxd.settings("again"))
    plant.run(500)
    for _ in range(2):
        (plant.folder / "influx.json").unlink(missing_ok=True)
        with plant.forwarder(settings) as forwarder:
            until(arrived(forwarder, plant), what=lambda: forwarder.state)
            assert forwarder.state.sent == 1500
    assert influxd.samples("again", "TT-1") == plant.expected(0)


def test_poison_line_is_quarantined_and_its_neighbours_arrive(influxd: Influxd, plant: Plant) -> None:
    setup(settings := influxd.settings("poison"))
    plant.run(100)
    plant.historian.append([plant.frame(source=2**63 - 1)])  # a device whose clock has lost its mind
    poison = plant.time[-1]
    plant.run(100)
    with plant.forwarder(settings) as forwarder:
        until(arrived(forwarder, plant), what=lambda: forwarder.state)
        assert forwarder.state.quarantined == 1
        assert forwarder.state.sent == 602
    expected = plant.expected(0)
    del expected[poison]
    assert influxd.samples("poison", "TT-1") == expected
    assert len(influxd.samples("poison", "LT-1")) == 201
    said, line = (plant.folder / "influx-quarantine.lp").read_text().splitlines()
    assert "answered 400" in said
    assert line.startswith("leach_tank,cell=demo,tag=TT-1,unit=T-100 value=")


def test_what_is_older_than_retention_is_counted_as_dropped_and_the_rest_arrives(influxd: Influxd, tmp_path: Path) -> None:
    plant = Plant(tmp_path, start=time.time() - 36_000.0)
    setup(settings := influxd.settings("short"), retention=3600.0)
    plant.run(500)
    plant.start += 35_000.0
    plant.run(500)
    with plant.forwarder(settings) as forwarder:
        until(arrived(forwarder, plant), what=lambda: forwarder.state)
        state = forwarder.state
    plant.historian.close()
    assert influxd.samples("short", "TT-1") == dict(list(plant.expected(0).items())[500:])
    assert (state.dropped, state.sent, state.quarantined) == (1500, 1500, 0)


def test_wrong_token_and_wrong_bucket_say_what_to_do_and_are_cured_without_a_restart(influxd: Influxd, plant: Plant) -> None:
    setup(influxd.settings("secret"))
    file = plant.folder / "token"
    file.touch(mode=0o600)
    file.write_text("wrong-" + influxd.token[:20])
    settings = InfluxSettings(influxd.url, ORG, "secret", token_file=file)
    plant.run(100)
    with plant.forwarder(settings) as forwarder:
        until(lambda: forwarder.state.why, what=lambda: forwarder.state)
        assert "answered 401" in forwarder.state.why
        assert "make one that may write to bucket 'secret'" in forwarder.state.why
        assert influxd.token[:20] not in forwarder.state.why
        file.write_text(influxd.token + "\n")
        until(arrived(forwarder, plant), what=lambda: forwarder.state)
    with plant.forwarder(influxd.settings("nowhere")) as forwarder:
        until(lambda: forwarder.state.why, what=lambda: forwarder.state)
        assert "answered 404" in forwarder.state.why
        assert "no bucket 'nowhere'; correct the name under [influx], or create it there" in forwarder.state.why
        setup(influxd.settings("nowhere"))
        until(arrived(forwarder, plant), what=lambda: forwarder.state)
    with pytest.raises(InfluxError, match="answered 401"):
        setup(InfluxSettings(influxd.url, ORG, "other", token="no"))
    assert forwarder.state != ForwarderState()
