"""The page's server over a link that gives real frames: what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from controller.core.commands import Acknowledge, Command, Receipt, Start, Transition
from controller.core.frame import Frame
from controller.core.states import Verb
from controller.web import api, vendor
from controller.web.api import create_app
from controller.web.hub import Hub
from controller.web.metrics import prometheus
from drivers.tags import Quality

HOST = "127.0.0.1:8080"
OURS = {"X-Blackmass": "1", "Origin": f"http://{HOST}", "Content-Type": "application/json"}
NAMES = [
    "TT-201",
    "AT-201",
    "leach.UP",
    "leach.RTT",
    "leach.LOSSES",
    "leach.ERRORS_TIMEOUT",
    "SERVICE.SCAN_MS",
    "SERVICE.LATE_MS",
    "SERVICE.QUEUE",
    "SERVICE.DROPPED",
]
HOLD = b'{"do": "transition", "verb": "HOLD", "who": "Ada"}'


def frame(seq: int, boot: int = 1) -> Frame:
    value = np.array([70.5, np.nan, 1.0, 0.004, 2.0, 7.0, 1.5, 0.25, 3.0, 0.0])
    quality = np.where(np.isnan(value), Quality.BAD, Quality.GOOD).astype(np.uint8)
    stamp = np.full(len(value), 1_800_000_000_000_000_123, dtype=np.int64)
    return Frame(boot, seq, 1.8e9 + seq, 0, value, quality, stamp, stamp, "RUNNING", (("HOLD", ""), ("START", "the batch is RUNNING")))


@dataclass
class Control:
    """A link whose frames are given by hand."""

    news: asyncio.Queue[Frame] = field(default_factory=lambda: asyncio.Queue(8))
    got: list[Command] = field(default_factory=list)
    receipt: Receipt = field(default_factory=lambda: Receipt(accepted=True))
    answers: bool = True
    breaks: bool = False
    asked: list[tuple[list[str], float, float, float | None]] = field(default_factory=list)
    said: dict[str, dict[str, str]] = field(default_factory=dict)  # by devices of themselves

    def describe(self) -> dict[str, Any]:
        points = [{"name": name, "eu": "", "low": 0.0, "high": 1.0, "kind": "input"} for name in NAMES]
        return {
            "version": "1",
            "cell": 'de"mo',
            "mode": "SIMULATED",
            "speed": 60.0,
            "scan": 0.1,
            "points": points,
            "devices": [{"name": "leach"}],
        }

    def texts(self) -> dict[str, dict[str, str]]:
        return {name: dict(texts) for name, texts in self.said.items()}

    async def frames(self) -> AsyncIterator[Frame]:
        if self.breaks:
            self.breaks = False
            raise ConnectionResetError("control has gone")
        while True:
            yield await self.news.get()

    async def send(self, command: Command) -> Receipt:
        if not self.answers:
            await asyncio.Event().wait()
        self.got.append(command)
        return self.receipt

    def read(self, names: Sequence[str], start: float, stop: float, step: float | None) -> dict[str, Any]:
        self.asked.append((list(names), start, stop, step))
        if "AT-201" in names:
            raise KeyError("AT-201")
        value = np.array([[1.0, np.nan]] * len(names))
        return {"time": np.array([start, stop]), "value": value, "quality": np.array([[0, 2]] * len(names), dtype=np.uint8)}


@asynccontextmanager
async def served(control: Control, *, first: bool = True, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(control, control, **more)
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        if first:
            await control.news.put(frame(0))
            await until(lambda: _has_frame(client))
        yield client


async def _has_frame(client: httpx.AsyncClient) -> bool:
    return (await client.get("/api/frame")).status_code == 200


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5.0):
        while not await condition():  # the answer of a server is no event of ours
            await asyncio.sleep(0.01)


def test_gives_the_cell_the_newest_frame_and_metrics() -> None:
    async def main() -> None:
        async with served(Control()) as client:
            assert (await client.get("/api/cell")).json()["points"][0]["name"] == "TT-201"
            newest = (await client.get("/api/frame")).json()
            assert newest["value"][:2] == [70.5, None]  # BAD is null, never a number
            assert newest["source_time"][0] == 1_800_000_000_000_000_123
            text = (await client.get("/metrics")).text
            assert 'blackmass_device_up{device="leach"} 1' in text
            assert 'blackmass_device_errors_total{device="leach",kind="timeout"} 7' in text
            assert "blackmass_scan_seconds 0.0015" in text
            assert 'cell="de\\"mo"' in text

    asyncio.run(main())


def test_what_devices_say_of_themselves_stands_in_the_cell_as_soon_as_it_is_known() -> None:
    async def main() -> None:
        control = Control()
        async with served(control) as client:
            assert (await client.get("/api/cell")).json()["devices"] == [{"name": "leach", "texts": {}}]
            control.said["leach"] = {"serial": "A 17"}
            assert (await client.get("/api/cell")).json()["devices"] == [{"name": "leach", "texts": {"serial": "A 17"}}]

    asyncio.run(main())


def test_a_cell_is_the_same_until_something_in_it_changes() -> None:
    control = Control()
    hub = Hub(control)
    hub.newest = frame(0)
    cell = hub.cell()
    assert hub.cell() is cell
    control.said["leach"] = {"serial": "A 17"}
    assert hub.cell() is not cell
    assert hub.cell() is hub.cell()


@pytest.mark.parametrize(("days", "row"), [(31.5, 'blackmass_device_certificate_days{device="leach"} 31.5\n'), (np.nan, "")])
def test_a_link_without_a_certificate_has_no_row_of_its_days(days: float, row: str) -> None:
    cell = {**Control().describe(), "points": [{"name": "leach.CERT_DAYS"}, {"name": "leach.RTT"}]}
    value = np.array([days, np.nan])
    text = prometheus(cell, replace(frame(0), value=value), 0.1, 0)
    assert "".join(re.findall(r"^blackmass_device_certificate_days.*\n", text, re.M)) == row
    assert 'blackmass_device_round_trip_seconds{device="leach"} NaN' in text, "that of a link that is lost"


def test_without_a_frame_says_so_and_takes_no_command() -> None:
    async def main() -> None:
        control = Control()
        async with served(control, first=False) as client:
            assert (await client.get("/api/frame")).status_code == 503
            reply = await client.post("/api/commands", content=HOLD, headers=OURS)
            assert reply.status_code == 503
            assert "was not sent" in reply.json()["why"]
            assert "blackmass_frame_age_seconds" in (await client.get("/metrics")).text
        assert control.got == []

    asyncio.run(main())


def test_takes_a_typed_command_and_passes_on_a_refusal() -> None:
    async def main() -> None:
        control = Control()
        async with served(control) as client:
            reply = await client.post("/api/commands", content=HOLD, headers=OURS)
            assert (reply.status_code, reply.json()) == (202, {"accepted": True, "why": ""})
            control.receipt = Receipt(accepted=False, why="the batch is IDLE")
            reply = await client.post("/api/commands", content=b'{"do": "acknowledge", "alarm": "A", "who": "Ada"}', headers=OURS)
            assert (reply.status_code, reply.json()["why"]) == (409, "the batch is IDLE")
            start = b'{"do": "start", "recipe": "nmc", "who": "Ada", "parameters": {"charge": "120 kg"}}'
            await client.post("/api/commands", content=start, headers=OURS)
        wanted = [
            Transition(who="Ada", verb=Verb.HOLD),
            Acknowledge(who="Ada", alarm="A"),
            Start(who="Ada", recipe="nmc", parameters={"charge": "120 kg"}),
        ]
        assert control.got == wanted

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"X-Blackmass": None}, 403),
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": f"http://{HOST}.evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_refuses_commands_that_are_not_from_this_page(change: dict[str, str | None], status: int) -> None:
    async def main() -> None:
        control = Control()
        async with served(control) as client:
            headers = {name: value for name, value in (OURS | change).items() if value is not None}
            reply = await client.post("/api/commands", content=HOLD, headers=headers)
            assert reply.status_code == status
            assert reply.json()["why"].startswith("expected")
        assert control.got == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"", 400, "body"),
        (b"[1", 400, "body"),
        (b"\xff\xfe", 400, "body"),
        (b"[" * 60_000, 400, "body"),
        (b'{"do": "format", "who": "Ada"}', 400, "body"),
        (b'{"do": "transition", "verb": "EXPLODE", "who": "Ada"}', 400, "transition.verb"),
        (b'{"do": "transition", "verb": "HOLD"}', 400, "transition.who"),
        (b'{"do": "transition", "verb": "HOLD", "who": ""}', 400, "transition.who"),
        (b'{"do": "transition", "verb": "HOLD", "who": "Ada", "force": true}', 400, "transition.force"),
        (b'{"do": "tune", "loop": "TIC-201", "setpoint": NaN, "who": "Ada"}', 400, "tune.setpoint"),
        (b'{"do": "tune", "loop": "TIC-201", "setpoint": 1e999, "who": "Ada"}', 400, "tune.setpoint"),
        (b'"' + b"x" * 65_536 + b'"', 413, ""),
    ],
)
def test_says_what_it_expected_instead_of_a_bad_body(body: bytes, status: int, where: str) -> None:
    async def main() -> None:
        control = Control()
        async with served(control) as client:
            reply = await client.post("/api/commands", content=body, headers=OURS)
            assert reply.status_code == status, reply.text
            assert reply.json()["accepted"] is False
            if where:
                assert where in [part["where"] for part in reply.json()["expected"]]
        assert control.got == []

    asyncio.run(main())


def test_says_that_it_is_not_known_whether_a_command_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "PATIENCE", 0.05)

    async def main() -> None:
        async with served(Control(answers=False)) as client:
            reply = await client.post("/api/commands", content=HOLD, headers=OURS)
            assert reply.status_code == 504
            assert "not known whether the command was taken" in reply.json()["why"]

    asyncio.run(main())


def test_refuses_commands_when_frames_have_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "STALE", 0.05)

    async def main() -> None:
        control = Control()
        async with served(control) as client:

            async def refused() -> bool:
                return (await client.post("/api/commands", content=HOLD, headers=OURS)).status_code == 503

            await until(refused)
            taken = len(control.got)
            await control.news.put(frame(1))
            await until(lambda: _accepted(client))
            assert len(control.got) == taken + 1  # the refused one was not kept for later

    asyncio.run(main())


async def _accepted(client: httpx.AsyncClient) -> bool:
    return (await client.post("/api/commands", content=HOLD, headers=OURS)).status_code == 202


def test_reads_history_thinned_to_what_a_screen_shows() -> None:
    async def main() -> None:
        control = Control()
        async with served(control) as client:
            reply = await client.get("/api/history", params={"points": "TT-201,leach.UP", "start": 0, "stop": 36_000})
            assert reply.json() == {
                "points": ["TT-201", "leach.UP"], "start": 0, "stop": 36_000, "step": 36.0,
                "time": [0, 36_000], "value": [[1, None]] * 2, "quality": [[0, 2]] * 2,
            }  # fmt: skip
            await client.get("/api/history", params={"points": "TT-201", "start": 0, "stop": 60})
        assert control.asked == [(["TT-201", "leach.UP"], 0, 36_000, 36.0), (["TT-201"], 0, 60, None)]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("points=TT-201&start=5&stop=1", 400),
        ("points=TT-201&start=nan&stop=1", 400),
        ("points=TT-201&start=0&stop=inf", 400),
        ("points=TT-201&start=0&stop=1e9&step=0.1", 400),
        ("points=TT-201&start=0&stop=10&step=-1", 400),
        ("points=TT-201&start=x&stop=1", 400),
        ("points=TT-201", 400),
        ("points=&start=0&stop=1", 400),
        ("points=TT-999&start=0&stop=1", 400),
        ("points=" + "TT-201," * 25 + "&start=0&stop=1", 400),
        ("points=AT-201&start=0&stop=1", 404),
    ],
)
def test_refuses_a_history_that_makes_no_sense(query: str, status: int) -> None:
    async def main() -> None:
        async with served(Control()) as client:
            reply = await client.get(f"/api/history?{query}")
            assert reply.status_code == status
            assert reply.json()["why"]

    asyncio.run(main())


def test_every_answer_carries_the_security_headers() -> None:
    async def main() -> None:
        async with served(Control()) as client:
            for path in ("/", "/api/frame", "/static/app.js", "/api/nothing"):
                headers = (await client.get(path)).headers
                assert headers["content-security-policy"].startswith("default-src 'self'")
                assert headers["x-content-type-options"] == "nosniff"
            assert (await client.get("/docs")).status_code == 404

    asyncio.run(main())


def test_a_page_without_its_libraries_says_which_command_installs_them(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "index.html").write_text("page")
        async with served(Control(), static=tmp_path) as client:
            reply = await client.get("/")
            assert reply.status_code == 503
            assert vendor.COMMAND in reply.text
            assert "preact.js" in reply.text
            (tmp_path / "vendor").mkdir()
            for name in vendor.FILES:
                (tmp_path / "vendor" / name).touch()
            assert (await client.get("/")).text == "page"

    asyncio.run(main())


def test_follows_control_again_after_it_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.web.hub.RETRY", 0.01)

    async def main() -> None:
        async with served(Control(breaks=True)) as client:
            assert await _has_frame(client)

    asyncio.run(main())


def test_a_browser_at_a_configured_name_is_served() -> None:
    async def main() -> None:
        control = Control()
        async with served(control, hosts=["plant.example"]) as client:
            ours = OURS | {"Host": "plant.example", "Origin": "https://plant.example"}
            assert (await client.post("/api/commands", content=HOLD, headers=ours)).status_code == 202

    asyncio.run(main())


def test_a_frame_of_another_start_of_control_has_the_cell_described_anew() -> None:
    async def main() -> None:
        control = Control()
        async with served(control) as client:
            assert (await client.get("/api/cell")).json()["version"] == "1"
            described = control.describe()
            control.describe = lambda: described | {"version": "2"}  # type: ignore[method-assign]
            assert (await client.get("/api/cell")).json()["version"] == "1"
            await control.news.put(replace(frame(0), boot=2))

            async def anew() -> bool:
                return bool((await client.get("/api/cell")).json()["version"] == "2")

            await until(anew)

    asyncio.run(main())
