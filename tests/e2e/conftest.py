"""The real server of the page over a small synthetic cell that gives real frames, and a real browser."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from controller.core.commands import Acknowledge, Answer, Command, Receipt, Start, Transition
from controller.core.frame import AlarmView, BatchView, BudgetLine, Frame, PromptView, PurityView, StepView, UnitView
from controller.core.states import State, Verb, why_not
from controller.web import vendor
from controller.web.api import UVICORN, create_app
from drivers.tags import Quality

CI = os.environ.get("CI") == "true"
EPOCH = 1_800_000_000.0  # [s] plant clock at the start of a test
SPEED = 60.0
STARTED = EPOCH - 3 * 3600.0

# by name: eu, range, description, unit, mean and swing of the signal
MEASURED: dict[str, tuple[str, float, float, str, str, float, float]] = {
    "AT-101": ("%", 0, 25, "O2 in the chamber", "SH-101", 1.6, 0.3),
    "WT-102": ("%", 0, 250, "Rotor torque", "SH-101", 12, 4),
    "WT-111": ("kg", 0, 1200, "Black mass in the hopper", "H-111", 214, 0),
    "TT-201": ("degC", 0, 120, "Slurry temperature", "T-201", 70, 1.2),
    "AT-201": ("pH", -1, 14, "pH at the slurry's temperature", "T-201", 1.62, 0.1),
    "AT-202": ("mV", -500, 1500, "Redox potential", "T-201", 512, 20),
    "LT-201": ("m3", 0, 5, "Slurry volume, from level", "T-201", 3.12, 0.05),
    "TT-301": ("degC", 0, 120, "Slurry temperature", "T-301", 58.3, 0.4),
    "AT-301": ("pH", -1, 14, "pH", "T-301", 4.71, 0.06),
    "AT-302": ("mV", -500, 1500, "Redox potential", "T-301", 402, 9),
    "LT-301": ("m3", 0, 8, "Slurry volume", "T-301", 4.4, 0.02),
    "LT-311": ("m3", 0, 8, "Clear liquor", "T-311", 2.9, 0),
    "AT-401": ("pH", 0, 14, "pH in the reactor, both probes", "R-401", 11.02, 0.05),
    "TT-401": ("degC", 0, 100, "Reactor temperature", "R-401", 55.1, 0.2),
    "AT-402": ("mol/L", 0, 3, "Dissolved ammonia", "R-401", 0.62, 0.03),
    "AT-404": ("um", 0, 50, "Median particle size", "R-401", 9.4, 0.2),
    "LT-401": ("m3", 0, 7, "Volume", "R-401", 3.9, 0.1),
    "TT-501": ("degC", 0, 200, "Cake temperature", "F-501", 24.5, 0.1),
    "AT-503": ("%", 0, 100, "Moisture", "F-501", 38, 0),
    "AT-501": ("uS/cm", 0, 20000, "Conductivity of the filtrate", "F-501", 88, 2),
    "WT-501": ("kg", 0, 3000, "Vessel weight", "F-501", 620, 1),
    "QT-601.DONE": ("", 0, 1000, "Number of the last sample answered", "LAB", 14, 0),
}
NORMAL = {"TT-201": (65.0, 75.0), "AT-201": (1.2, 2.0), "AT-301": (4.4, 5.0), "AT-401": (10.8, 11.3), "AT-101": (0.0, 3.0)}
# name, class, description, roles, key
UNITS: list[tuple[str, str, str, dict[str, str], list[str]]] = [
    ("SH-101", "shredder", "Inerted shredder", {"oxygen": "AT-101", "torque": "WT-102"}, ["AT-101", "WT-102"]),
    ("H-111", "weigh_hopper", "Black-mass hopper", {"weight": "WT-111"}, ["WT-111"]),
    (
        "T-201",
        "leach_tank",
        "Leach tank",
        {"temperature": "TT-201", "ph": "AT-201", "orp": "AT-202", "volume": "LT-201", "acid": "FY-201.OUT"},
        ["TT-201", "AT-201", "AT-202", "LT-201"],
    ),
    (
        "T-301",
        "purification_tank",
        "Purification tank",
        {"temperature": "TT-301", "ph": "AT-301", "orp": "AT-302", "volume": "LT-301"},
        ["TT-301", "AT-301", "AT-302", "LT-301"],
    ),
    ("T-311", "liquor_tank", "Clear-liquor tank", {"volume": "LT-311"}, ["LT-311"]),
    (
        "R-401",
        "precipitator",
        "Precipitation reactor",
        {"temperature": "TT-401", "ph": "AT-401", "ammonia": "AT-402", "d50": "AT-404", "volume": "LT-401"},
        ["AT-401", "TT-401", "AT-402", "AT-404", "LT-401"],
    ),
    (
        "F-501",
        "filter_dryer",
        "Filter-dryer",
        {"temperature": "TT-501", "moisture": "AT-503", "conductivity": "AT-501", "weight": "WT-501"},
        ["TT-501", "AT-503", "AT-501", "WT-501"],
    ),
    ("LAB", "laboratory", "Laboratory", {"done": "QT-601.DONE"}, ["QT-601.DONE"]),
]
LOOPS = [
    ("TIC-201", "Leach temperature", "TT-201", 70.0, "TY-201", 31.0),
    ("AIC-401", "Reactor pH by NaOH", "AT-401", 11.0, "FY-402", 84.0),
]
DEVICES = [
    ("shredder", "opc.tcp://127.0.0.1:4841"),
    ("leach", "modbus-tcp://127.0.0.1:5020?unit=1"),
    ("purification", "modbus-tcp://127.0.0.1:5021?unit=1"),
    ("reactor", "opc.tcp://127.0.0.1:4842"),
    ("filter", "modbus-rtu:lines/wash?unit=1"),
]
RECIPE: dict[str, Any] = {
    "id": "nmc",
    "version": 3,
    "title": "NMC hydroxide from black mass",
    "path": "library/nmc.yaml",
    "formula": {
        "charge": {"value": "500 kg", "low": "50 kg", "high": "900 kg", "description": "black mass charged"},
        "leach_temperature": {"value": "70 degC", "low": "50 degC", "high": "80 degC", "description": "in the leach tank"},
        "ph_end": {"value": "11 pH", "low": "10.6 pH", "high": "11.4 pH", "description": "precipitation"},
    },
}


def _points() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(name: str, eu: str, low: float, high: float, description: str, kind: str, unit: str = "", device: str = "") -> None:
        normal = NORMAL.get(name)
        rows.append(
            {
                "name": name,
                "eu": eu,
                "low": low,
                "high": high,
                "description": description,
                "kind": kind,
                "unit": unit,
                "device": device,
                "normal": normal,
            }
        )

    for name, (eu, low, high, description, unit, _, _) in MEASURED.items():
        add(name, eu, low, high, description, "input", unit)
    add("FY-201.OUT", "L/min", 0, 20, "Setpoint of acid", "output", "T-201")
    for name, description, pv, _, out, _ in LOOPS:
        eu, low, high, _, unit, _, _ = MEASURED[pv]
        add(f"{name}.SP", eu, low, high, f"Setpoint of {name}", "setpoint", unit)
        add(f"{out}.OUT", "%", -100, 100, description, "output", unit)
        add(f"{name}.MODE", "", 0, 2, f"Mode of {name}", "mode", unit)
    for name, _ in DEVICES:
        add(f"{name}.UP", "", 0, 1, f"Link to {name}", "device", "", name)
        add(f"{name}.RTT", "s", 0, 1000, f"Round trip of {name}", "device", "", name)
        add(f"{name}.LOSSES", "", 0, 1e9, f"Losses of {name}", "device", "", name)
        add(f"{name}.ERRORS_TIMEOUT", "", 0, 1e12, f"Timeouts of {name}", "device", "", name)
        add(f"{name}.CLOCK", "s", -1e10, 1e10, f"Clock of {name} ahead of ours", "device", "", name)
        add(f"{name}.DROPS", "", 0, 1e12, f"Samples of {name} that were lost", "device", "", name)
    for name, eu in (("SERVICE.SCAN_MS", "ms"), ("SERVICE.LATE_MS", "ms"), ("SERVICE.QUEUE", ""), ("SERVICE.DROPPED", "")):
        add(name, eu, 0, 1e6, name, "service")
    return rows


POINTS = _points()
NAMES = [point["name"] for point in POINTS]


def signal(name: str, at: float) -> float:
    """Return what a point is at `at` [s, plant clock]; a leach tank that heats, a pH that comes down."""
    if name in MEASURED:
        *_, mean, swing = MEASURED[name]
        phase = sum(map(ord, name)) % 7
        past = max(0.0, at - STARTED) / 3600.0
        rise = {"TT-201": -45.0 * math.exp(-2.0 * past), "AT-201": 4.5 * math.exp(-1.5 * past), "LT-201": -1.2 * math.exp(-past)}.get(name, 0.0)
        return mean + rise + swing * math.sin(at / 613.0 + phase)
    for loop, _, _, sp, out, moved in LOOPS:
        if name == f"{loop}.SP":
            return sp
        if name == f"{out}.OUT":
            return moved
        if name == f"{loop}.MODE":
            return 2.0
    known = {
        "reactor.CLOCK": -3600.2,
        "leach.ERRORS_TIMEOUT": 3.0,
        "leach.DROPS": 1.0,
        "FY-201.OUT": 2.4,
        "SERVICE.SCAN_MS": 1.7,
        "SERVICE.LATE_MS": 0.2,
    }
    return known.get(name, 1.0 if name.endswith(".UP") else 0.0042 if name.endswith(".RTT") else 0.0)


ALARMS = (
    AlarmView(
        "TAH-201",
        "T-201",
        2,
        "unacknowledged",
        "Leach temperature high: TT-201 82.4 degC, limit 82 degC",
        "peroxide or black mass too fast",
        "peroxide decomposes; interlock at 85 degC",
        "check the jacket, lower the peroxide rate",
        EPOCH - 1500.0,
    ),
    AlarmView(
        "AAH-301",
        "T-301",
        3,
        "acknowledged",
        "Purification pH high: AT-301 6.1 pH, limit 6 pH",
        "NaOH overdosed",
        "nickel and cobalt are lost to the cake",
        "wait, or add acid",
        EPOCH - 5000.0,
    ),
)


@dataclass
class Plant:
    """A `Link` and a history: what the page needs of control, and nothing more. Set its fields to make something happen."""

    state: State = State.RUNNING
    mute: bool = False  # control gives no frames
    has_batch: bool = True
    prompts: tuple[PromptView, ...] = ()
    alarms: tuple[AlarmView, ...] = ALARMS
    quality: dict[str, Quality] = field(default_factory=dict)
    got: list[Command] = field(default_factory=list)
    refuse: str = ""
    born: float = field(default_factory=time.monotonic)

    def describe(self) -> dict[str, Any]:
        return {
            "version": "0.1.0",
            "cell": "demo",
            "description": "Modular recycling unit",
            "simulated": True,
            "mode": "SIMULATED",
            "speed": SPEED,
            "scan": 0.1,
            "boot": 7,
            "points": POINTS,
            "units": [{"name": name, "unit_class": kind, "description": text, "roles": roles, "key": key} for name, kind, text, roles, key in UNITS],
            "loops": [
                {
                    "name": name,
                    "description": text,
                    "unit": MEASURED[pv][4],
                    "pv": pv,
                    "sp": f"{name}.SP",
                    "out": f"{out}.OUT",
                    "mode": f"{name}.MODE",
                }
                for name, text, pv, _, out, _ in LOOPS
            ],
            "devices": [{"name": name, "profile": name, "address": address, "description": f"{name} controller"} for name, address in DEVICES],
            "interlocks": [
                {"name": "I-201", "unit": "T-201", "text": "Leach too hot: peroxide and black mass stop, jacket cools"},
                {"name": "I-203", "unit": "T-201", "text": "Leach stirrer stands: dosing stops"},
            ],
            "recipes": [RECIPE],
        }

    @property
    def now(self) -> float:
        return EPOCH + (time.monotonic() - self.born) * SPEED

    def _batch(self, now: float) -> BatchView:
        steps = (
            StepView("charge/fill_water", "T-201", "Fill", "done", "", STARTED, STARTED + 900, 3600),
            StepView("leach/heat", "T-201", "Heat", "done", "", STARTED + 900, STARTED + 5200, 7200),
            StepView(
                "leach/work/digest",
                "T-201",
                "DigestOxidative",
                "running",
                f"ORP {signal('AT-202', now):.0f} mV, waits for 550 mV over 20 min",
                STARTED + 5200,
                None,
                14400,
            ),
            StepView(
                "purify/neutralise",
                "T-301",
                "RaisePh",
                "running",
                f"pH {signal('AT-301', now):.2f}, waits for 4.80",
                STARTED + 7000,
                None,
                3600,
            ),
            StepView("purify/filter", "T-301", "FilterPress", "idle", "", None, None, 5400),
            StepView("precipitate/feed", "R-401", "CoPrecipitate", "idle", "", None, None, 54000),
            StepView("wash/displace", "F-501", "WashDisplace", "idle", "", None, None, 14400),
            StepView("dry/dry", "F-501", "Dry", "idle", "", None, None, 28800),
        )
        budget = (
            BudgetLine("Na", 0.021, "estimate"),
            BudgetLine("S", 0.114, "estimate"),
            BudgetLine("Li", 0.018, "assay"),
            BudgetLine("Al", 0.009, "assay"),
            BudgetLine("Fe", 0.002, "assay"),
        )
        says = "estimated from the liquor's last assay; no assay of the product yet"
        purity = PurityView(99.41, Quality.UNCERTAIN, says, budget, 96.2)
        why = "two units work; next: filter of T-301"
        return BatchView("B-2027-0012", "nmc", 3, self.state, STARTED, None, why, steps, self.prompts, purity, 41000.0, 1)

    def _frame(self, seq: int) -> Frame:
        now = self.now
        quality = np.array([self.quality.get(name, Quality.GOOD) for name in NAMES], dtype=np.uint8)
        value = np.where(quality == Quality.BAD, np.nan, np.array([signal(name, now) for name in NAMES]))
        stamp = np.full(len(NAMES), int(now * 1e9), dtype=np.int64)
        busy = {"T-201": ("leach/work/digest", "waits for 550 mV"), "T-301": ("purify/neutralise", "waits for pH 4.80")} if self.has_batch else {}
        units = tuple(UnitView(name, kind, self.state if name in busy else "IDLE", *busy.get(name, ("", ""))) for name, kind, *_ in UNITS)
        batch = self._batch(now) if self.has_batch else None
        commands = tuple((verb.value, why_not(self.state, verb)) for verb in Verb)
        return Frame(7, seq, now, int(time.time() * 1e9), value, quality, stamp, stamp, self.state, commands, batch, units, self.alarms)

    def texts(self) -> dict[str, dict[str, str]]:
        return {"reactor": {"serial": "R-17", "version": "2.4"}}

    async def frames(self) -> AsyncIterator[Frame]:
        seq = 0
        while True:
            if not self.mute:
                yield self._frame(seq)
                seq += 1
            await asyncio.sleep(0.1)

    async def send(self, command: Command) -> Receipt:
        self.got.append(command)
        if self.refuse:
            return Receipt(accepted=False, why=self.refuse)
        match command:
            case Transition(verb=verb):
                if why := why_not(self.state, verb):
                    return Receipt(accepted=False, why=why)
                self.state = {Verb.HOLD: State.HELD, Verb.RESTART: State.RUNNING, Verb.STOP: State.STOPPED, Verb.RESET: State.IDLE}.get(
                    verb, self.state
                )
                self.has_batch = self.state is not State.IDLE
            case Answer(prompt=prompt):
                self.prompts = tuple(one for one in self.prompts if one.id != prompt)
            case Acknowledge(alarm=alarm):
                self.alarms = tuple(replace(one, state="acknowledged") if one.name == alarm else one for one in self.alarms)
            case Start():
                self.state, self.has_batch = State.RUNNING, True
            case _:
                pass
        return Receipt(accepted=True)

    def read(self, names: Sequence[str], start: float, stop: float, step: float | None) -> dict[str, Any]:
        grid = np.arange(max(start, STARTED), stop, step or 0.1)
        hole = (grid > EPOCH - 2000.0) & (grid < EPOCH - 1700.0)  # the historian was down: no samples
        grid = grid[~hole]
        value = np.array([[signal(name, at) for at in grid] for name in names])
        return {"time": grid, "value": value, "quality": np.zeros(value.shape, dtype=np.uint8)}


def _absent(what: str) -> None:
    if CI:
        pytest.fail(what)
    pytest.skip(what)


# not for the session: while playwright's synchronous face is open, no other test can run an event loop in this thread
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = "/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else shutil.which("chromium")
    if chromium is None:
        _absent("Chromium is not installed; Debian: apt install chromium")
    if vendor.missing(Path(vendor.__file__).parent / "static"):
        _absent(f"the page's libraries are not installed; run {vendor.COMMAND}")
    quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu", *quiet])
        yield browser
        browser.close()


class Served:
    """The page's server in a thread, on a port of its own; `stop` kills it, `start` serves the same plant on the same port again."""

    def __init__(self, plant: Plant) -> None:
        self.plant, self.port = plant, 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(create_app(self.plant, self.plant), log_level="warning", timeout_graceful_shutdown=1, **UVICORN)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 10.0
        while not self.server.started:
            assert self.thread.is_alive(), "the page's server has ended"
            assert time.monotonic() < deadline, "the page's server did not start in 10 s"
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10.0)
        assert not self.thread.is_alive()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served(Plant())
    yield served
    served.stop()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page, opened; fails if the browser said that something is wrong with it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(10_000)
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda line: said.append(line.text) if "Content Security Policy" in line.text else None)
    page.goto(served.url)
    expect(page.locator("[data-test=batch-state]")).to_be_visible()
    yield page
    context.close()
    assert said == []
