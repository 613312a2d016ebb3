"""Whose turn it is on a link, on a clock of our own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest

from drivers.modbus_frames import read, tcp_asked
from drivers.modbus_turns import DEAD_SHARE, MOST_SHARE, Job, Turns, Unit, time_to_probe

ASKED = tcp_asked(1, read("input", 0, 1))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def living(number: int) -> Unit:
    """Return a unit that has answered."""
    unit = Unit(number)
    unit.answered(0.0, 0.01)
    return unit


def job(turns: Turns, loop: asyncio.AbstractEventLoop, number: int, deadline: float, *, questions: int = 1, urgent: bool = False) -> Job:
    made = Job(turns.units.setdefault(number, living(number)), [ASKED] * questions, deadline, 1.0, 1e9, loop.create_future(), urgent)
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
        turns.units[number] = living(number)
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
            turns.charge(chosen.unit, now, now)
        spent[chosen.unit.number] += 1
    dead = [spent[number] for number in range(1, 7)]
    assert sum(dead) * 0.25 <= DEAD_SHARE * now + 0.25
    assert sum(dead) * 0.25 >= 0.9 * DEAD_SHARE * now
    assert max(dead) - min(dead) <= 1, "each in its turn"


def test_dead_units_have_all_of_a_link_on_which_nobody_lives_and_owe_nothing_for_it(loop: asyncio.AbstractEventLoop) -> None:
    turns = Turns()
    one, other = job(turns, loop, 1, 1.0), job(turns, loop, 2, 2.0)
    one.unit.failures = other.unit.failures = 2
    other.unit.tried_at = -10.0
    turns.charge(other.unit, 0.0, 0.0)
    assert turns.next(0.0) in (one, other)
    one.unit.failures = 0
    assert turns.next(0.0) is other, "the first that is back does not keep the others waiting"
    turns.charge(other.unit, 0.0, 0.0)
    assert turns.next(0.0) is one
    turns.take(one)
    assert turns.next(0.0) is None, "now somebody lives"
    assert turns.wake(0.0) == pytest.approx(10.0), "as long as the dead had the link"
    third = job(turns, loop, 3, 1.0)
    third.unit.pause = 1e3
    third.unit.answered(0.0, 0.01)
    assert turns.next(10.1) is other, "of idle time it has half"
    fourth = job(turns, loop, 4, 1.0)
    assert turns.next(10.1) is fourth, "of the others' time an eighth"
    assert turns.next(70.1) is other


@pytest.mark.parametrize("number", [1, 2, 4, 6, 12])
def test_dead_units_are_asked_as_often_as_idle_time_allows(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Beside a living unit that takes 20 ms of each 100 ms: each as often as `time_to_probe` says, and the living in its time."""
    turns, now, cost = Turns(serial=True), 0.0, 0.22
    due, late = 0.0, 0.0
    asked: dict[int, list[float]] = {}
    for dead in range(1, number + 1):
        turns.units[dead] = Unit(dead)
        turns.units[dead].failures = 2
    turns.units[0] = living(0)
    while now < 120.0:
        waiting = {job.unit.number for job in turns.jobs}
        for dead in range(1, number + 1):
            if dead not in waiting:
                job(turns, loop, dead, now)
        if now >= due and 0 not in waiting:
            job(turns, loop, 0, due)
        chosen = turns.next(now)
        if chosen is None:
            now = max(min(turns.wake(now), due), now + 0.001)  # as a link does
            continue
        turns.take(chosen)
        chosen.unit.tried_at = now
        if chosen.unit.dead:
            now += cost
            turns.charge(chosen.unit, now, now)
            asked.setdefault(chosen.unit.number, []).append(now)
        else:
            late = max(late, now - due)
            now += 0.02
            due = max(due + 0.1, now)
    often = time_to_probe([cost] * number, 0.8, 0.0)
    gaps = [after - before for times in asked.values() for before, after in pairwise(times[3:])]
    assert len(asked) == number
    assert max(gaps) <= often + 0.3
    assert late <= cost + 1e-6, "the living wait for one probe at most"
    assert sum(map(len, asked.values())) * cost <= MOST_SHARE * now + cost
    assert often <= 3.001 or number == 12


def test_a_unit_that_has_not_answered_yet_lets_those_go_first_that_do(loop: asyncio.AbstractEventLoop) -> None:
    """On a link that has just begun nobody has; then a silent one is asked when the others are served, and only asked once at length."""
    turns = Turns(serial=True)
    first, second = (job(turns, loop, number, 1.0) for number in (1, 2))
    for waiting in (first, second):
        waiting.unit.trip = float("nan")
    assert turns.next(0.0) is first
    first.unit.answered(0.0, 0.01)
    first.unit.tried_at = second.unit.tried_at = -1.0
    assert turns.silent(second.unit, 0.0), "to be charged"
    turns.charge(second.unit, 0.0, 0.0)
    assert second.unit.dead
    assert turns.next(0.0) is first
    turns.take(first)
    assert turns.next(0.0) is second, "in idle time"
    turns.silent(second.unit, 0.0)
    turns.charge(second.unit, 0.0, 0.0)
    third = job(turns, loop, 3, 1.0)
    third.unit.ready_at = 5.0
    assert turns.next(0.0) is None
    assert turns.next(1.01 * 3.0) is second


def test_several_units_that_fall_silent_at_once_are_not_waited_for_as_long(loop: asyncio.AbstractEventLoop) -> None:
    turns = Turns(serial=True)
    first, second = (job(turns, loop, number, 1.0) for number in (1, 2))
    assert patience(turns, 1) == patience(turns, 2) == 1.0
    assert not turns.silent(first.unit, 0.0)
    assert (patience(turns, 1), patience(turns, 2)) == (0.25, 0.1)
    assert patience(turns, 2, 2.1) == 1.0
    turns.silent(first.unit, 0.0)
    assert patience(turns, 1, 19.0) == 0.1, "that is no time for a long probe"
    second.unit.trip = float("nan")
    assert patience(turns, 2) == 1.0, "it has never answered and may be slow"


def test_a_dead_unit_waits_for_the_others_and_for_its_drivers_pause() -> None:
    assert time_to_probe([0.2] * 5, 0.5, 0.0) == pytest.approx(3.0)
    assert time_to_probe([0.2], 0.5, 2.0) == pytest.approx(2.0 + 0.2 / 0.25)
    assert time_to_probe([0.2] * 20, 0.9, 2.0) == pytest.approx(4.0 / MOST_SHARE), "never more than half of the link"
    assert time_to_probe([0.2] * 5, 0.02, 0.0) == pytest.approx(1.0 / DEAD_SHARE), "never less than an eighth"


def patience(turns: Turns, number: int, now: float = 0.0, left: float = 1.0) -> float:
    unit = turns.units[number]
    return turns.patience(Job(unit, [ASKED], now, 1.0, now + left, None), now)  # type: ignore[arg-type]  # nobody waits for it


def test_patience() -> None:
    turns = Turns()
    unit = turns.units[1] = Unit(1)
    unit.failures = 1
    assert patience(turns, 1) == 1.0, "nobody else is on the link"
    turns.units[2] = Unit(2)
    assert patience(turns, 2) == 1.0
    assert patience(turns, 1) == 0.5, "it has never answered and may be slow"
    unit.answered(0.0, 0.2)
    assert patience(turns, 1) == 1.0
    unit.failures = 1
    assert patience(turns, 1) == pytest.approx(0.6)
    for _ in range(50):
        unit.answered(0.0, 0.001)
    unit.failures = 1
    assert patience(turns, 1) == 0.25


def test_probes_on_a_serial_line_are_short_and_one_in_twenty_seconds_is_long() -> None:
    turns = Turns(serial=True)
    for number in (1, 2, 3):
        turns.units[number] = Unit(number)
    for number in (1, 2):
        turns.units[number].failures = 2
    assert patience(turns, 1, 100.0, left=0.4) == 0.1, "there is no time for a long one"
    assert patience(turns, 1, 100.0) == 0.5
    assert patience(turns, 1, 119.0) == patience(turns, 2, 119.0) == 0.1
    assert patience(turns, 1, 120.0) == 0.1, "it has had one"
    assert patience(turns, 2, 121.0) == 0.5
    turns.units[1].answered(122.0, 0.06)
    turns.units[1].failures = 2
    assert patience(turns, 1, 123.0) == pytest.approx(0.18), "three times its usual reply"


def test_whoever_does_not_wait_any_more_is_not_asked_for(loop: asyncio.AbstractEventLoop) -> None:
    turns = Turns()
    gone, there = job(turns, loop, 1, 1.0), job(turns, loop, 2, 2.0)
    gone.future.cancel()
    assert turns.next(0.0) is there
    assert turns.jobs == [there]
