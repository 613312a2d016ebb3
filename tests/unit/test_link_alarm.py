"""The alarm of a lost device carries its driver's own reason, and does not flap. No sockets."""

from __future__ import annotations

import pytest

from controller.batch.records import Event
from controller.config import cell_path, load_cell
from controller.core.commands import Acknowledge
from controller.core.frame import AlarmView
from controller.runtime.lockstep import Lockstep
from drivers.driver import NOT_YET
from simulators.bench import StaticPlant


class Plant(StaticPlant):
    def advance(self, dt: float) -> None:
        self.time += dt


class Bench:
    """The demo cell without physics, at one scan a second; the device is the shredder."""

    def __init__(self) -> None:
        plan = load_cell(cell_path("demo")).plan
        self.step = Lockstep(plan, Plant({name: row.device.profile for name, row in plan.devices.items()}), dt=1.0)
        self.driver = self.step.drivers["shredder"]

    def scan(self, why: str | None, *commands: Acknowledge) -> AlarmView | None:
        """Scan with the driver's reason, None while it answers; return the alarm."""
        self.driver.fail, self.driver.why = why is not None, why or ""
        frame = self.step.step(commands).frame
        return next((view for view in frame.alarms if view.name == "LINK-shredder"), None)

    def journal(self, kind: str) -> list[tuple[str, str]]:
        """Return what was journaled of the link: the new state, and why."""
        name = {"link": "shredder", "alarm": "LINK-shredder"}[kind]
        return [(event.new, event.why) for _, event in self.step.events if isinstance(event, Event) and (event.kind, event.name) == (kind, name)]


@pytest.fixture
def bench() -> Bench:
    found = Bench()
    assert found.scan(None) is None
    return found


def text(view: AlarmView | None) -> str:
    assert view is not None
    return view.text


def test_it_says_what_the_driver_says(bench: Bench) -> None:
    address = bench.driver.device.address
    assert text(bench.scan("connection reset")) == f"Device shredder does not answer at {address}: connection reset"
    assert bench.journal("alarm")[-1] == ("alarm", f"Device shredder does not answer at {address}: connection reset")
    back = bench.scan(None)
    assert back is not None
    assert back.state == "returned"
    assert text(bench.scan(f"cannot connect to {address}: refused")) == f"Device shredder does not answer: cannot connect to {address}: refused"
    assert bench.journal("link") == [
        ("up", str(address)), ("down", "connection reset"), ("up", ""), ("down", f"cannot connect to {address}: refused")
    ]  # fmt: skip


def test_another_reason_takes_its_place_only_when_it_lasts(bench: Bench) -> None:
    bench.scan("reset")
    for _ in range(20):  # as with each attempt to connect
        assert text(bench.scan("refused")).endswith(": reset")
        assert text(bench.scan("no answer")).endswith(": reset")
    assert [view[0] for view in bench.journal("alarm")] == ["alarm"]
    bench.scan("its certificate is not trusted", Acknowledge(who="op", alarm="LINK-shredder"))
    for _ in range(6):
        view = bench.scan("its certificate is not trusted")
    assert view is not None
    assert (view.state, text(view).rpartition(": ")[2]) == ("acknowledged", "its certificate is not trusted")
    assert [view[0] for view in bench.journal("alarm")] == ["alarm"]  # it has not come again
    assert bench.journal("link")[1:] == [("down", "reset"), ("down", "its certificate is not trusted")]
    lasted = 0
    while text(bench.scan("refused")).endswith("not trusted"):
        lasted += 1
    assert 9 <= lasted <= 11  # the next one must last for twice as long


def test_before_the_first_attempt_has_ended_nothing_is_made_up() -> None:
    bench = Bench()
    address = bench.driver.device.address
    assert text(bench.scan(NOT_YET)) == f"Device shredder does not answer at {address}"
    assert text(bench.scan("no route")) == f"Device shredder does not answer at {address}: no route"  # at once
    assert bench.journal("link") == [("down", "no route")]


def test_a_strangers_words_are_one_line_and_end(bench: Bench) -> None:
    view = text(bench.scan("it says\n\x1b[31m" + "x" * 5000))
    assert view.isprintable()
    assert len(view) < 500
