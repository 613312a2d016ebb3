"""Whose turn it is on a link, on a clock of our own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from drivers.modbus_frames import read, tcp_asked
from drivers.modbus_turns import DEAD_SHARE, Job, Turns, Unit

ASKED = tcp_asked(1, read("input", 0, 1))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def job(turns: Turns, loop: asyncio.AbstractEventLoop, number: int, deadline: float, *, questions: int = 1, urgent: bool = False) -> Job:
    made = Job(turns.units.setdefault(number, Unit(number)), [ASKED] * questions, deadline, 1.0, 1e9, loop.create_future())
    made.urgent = urgent
    turns.jobs.append(made)
    return made


def test_writes_go_first_then_the_earliest_deadline_one_request_a_turn(loop: asyncio.AbstractEventLoop) -> None:
    turns = Turns()
    late, soon = job(turns, loop, 1, 9.0, questions=2), job(turns, loop, 2, 5.0, questions=3)
    order = []
    for turn in range(6):
        if turn == 2:
            write = job(turns, loop, 1, 99.0, urgent=True)
        chosen = turns.next(0.0)
        assert chosen is not None
        turns.take(chosen)
        order.append(chosen)
    assert order == [soon, soon, write, soon, late, late]
    assert turns.next(0.0) is None
    assert turns.wake(0.0) == float("inf")


def test_a_unit_that_wants_a_pause_lets_others_go_before(loop: asyncio.AbstractEventLoop) -> None:
    turns = Turns()
    first, second = job(turns, loop, 1, 1.0), job(turns, loop, 2, 2.0)
    first.unit.pause = 0.5
    first.unit.answered(10.0, 0.01)
    assert turns.next(10.1) is second
    turns.take(second)
    assert turns.next(10.1) is None
    assert turns.wake(10.1) == 10.5
    assert turns.next(10.5) is first


def test_dead_units_share_an_eighth_of_the_time_whatever_their_number(loop: asyncio.AbstractEventLoop) -> None:
    """Six dead units whose probes take 0.25 s beside a living one that takes 10 ms each time, for ten minutes."""
    turns, now = Turns(), 0.0
    spent = Counter[int]()
    for number in range(7):
        turns.units[number] = Unit(number)
        turns.units[number].failures = 2 if number else 0
    while now < 600.0:
        for number in range(7):
            if not any(waiting.unit.number == number for waiting in turns.jobs):
                job(turns, loop, number, now)
        chosen = turns.next(now)
        assert chosen is not None
        turns.take(chosen)
        took = 0.25 if chosen.unit.dead else 0.01
        chosen.unit.tried_at = now
        now += took
        if chosen.unit.dead:
            turns.charge(took, now)
        spent[chosen.unit.number] += 1
    dead = [spent[number] for number in range(1, 7)]
    assert sum(dead) * 0.25 <= DEAD_SHARE * now + 0.25
    assert sum(dead) * 0.25 >= 0.9 * DEAD_SHARE * now
    assert max(dead) - min(dead) <= 1, "each in its turn"


def test_dead_units_have_all_of_a_link_on_which_nobody_lives(loop: asyncio.AbstractEventLoop) -> None:
    turns = Turns()
    one, other = job(turns, loop, 1, 1.0), job(turns, loop, 2, 2.0)
    one.unit.failures = other.unit.failures = 2
    turns.charge(10.0, 0.0)
    assert turns.next(0.0) in (one, other)
    one.unit.failures = 0
    assert turns.next(0.0) is one
    turns.take(one)
    assert turns.next(0.0) is None, "now somebody does"
    assert turns.wake(0.0) == pytest.approx(70.0), "seven times as long as the dead had the link"


def test_patience() -> None:
    unit = Unit(1)
    assert unit.patience(1.0, alone=False) == 1.0
    unit.failures = 1
    assert unit.patience(1.0, alone=True) == 1.0
    assert unit.patience(1.0, alone=False) == 0.5, "it has never answered and may be slow"
    unit.answered(0.0, 0.2)
    unit.failures = 1
    assert unit.patience(1.0, alone=False) == pytest.approx(0.6)
    for _ in range(50):
        unit.answered(0.0, 0.001)
    unit.failures = 1
    assert unit.patience(1.0, alone=False) == 0.25


def test_whoever_does_not_wait_any_more_is_not_asked_for(loop: asyncio.AbstractEventLoop) -> None:
    turns = Turns()
    gone, there = job(turns, loop, 1, 1.0), job(turns, loop, 2, 2.0)
    gone.future.cancel()
    assert turns.next(0.0) is there
    assert turns.jobs == [there]
