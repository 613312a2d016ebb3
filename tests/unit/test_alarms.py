"""Alarms (ISA-18.2): delay, hysteresis, enabling, acknowledgement, and what a bad value does not do."""

import math

import numpy as np

from controller.core import alarms
from controller.core.alarms import AlarmState, Raised
from controller.core.plan import AlarmRows, Condition
from drivers.tags import Tag, TagTable

INPUTS = TagTable([Tag("TT-1", "degC", 0, 200), Tag("ST-1", "rpm", 0, 100)])


def rows(delay: float = 0.0, enabled_by_rotor: bool = False) -> AlarmRows:
    when = Condition(np.array([0]), np.array([-1.0]), np.array([80.0]), np.array([True]))
    enable = Condition(np.array([1 if enabled_by_rotor else -1]), np.array([-1.0]), np.array([1.0]), np.array([True]))
    return AlarmRows(("TAH-1",), ("T-1",), (2,), ("too hot",), ("steam",), ("boils",), ("cool",), when, enable, np.array([3.0]), np.array([delay]))


def step(law: AlarmRows, state: AlarmState, value: float, rotor: float = 0.0, raised: dict[str, Raised] | None = None) -> AlarmState:
    return alarms.update(law, state, np.array([value, rotor]), INPUTS, raised or {}, now=0.0, dt=1.0)[0]


def test_it_comes_and_goes_with_hysteresis() -> None:
    law = rows()
    state = step(law, alarms.initial(law), 81.0)
    assert "81" in state.listed["TAH-1"].text
    state = step(law, state, 78.0)
    assert state.active == {"TAH-1"}
    state = step(law, state, 76.0)
    assert state.active == set()
    assert state.listed["TAH-1"].state == "returned"


def test_it_waits_for_its_delay() -> None:
    law = rows(delay=2.0)
    state = step(law, alarms.initial(law), 81.0)
    assert not state.active
    assert step(law, state, 81.0).active


def test_it_is_suppressed_while_it_means_nothing() -> None:
    law = rows(enabled_by_rotor=True)
    assert not step(law, alarms.initial(law), 90.0, rotor=0.0).active
    assert step(law, alarms.initial(law), 90.0, rotor=30.0).active


def test_a_bad_value_neither_raises_nor_clears_it() -> None:
    law = rows()
    assert not step(law, alarms.initial(law), math.nan).active
    state = step(law, alarms.initial(law), 90.0)
    assert step(law, state, math.nan).active


def test_acknowledged_and_gone_leaves_the_list_in_either_order() -> None:
    law = rows()
    state = step(law, alarms.initial(law), 90.0)
    assert alarms.acknowledge(state, "TAH-1") == ""
    assert "already" in alarms.acknowledge(state, "TAH-1")
    assert not step(law, state, 20.0).listed
    state = step(law, step(law, alarms.initial(law), 90.0), 20.0)
    assert alarms.acknowledge(state, "TAH-1") == ""
    assert not state.listed
    assert "not in the list" in alarms.acknowledge(state, "TAH-1")


def test_what_the_cell_says_of_itself_stands_in_the_same_list() -> None:
    law = rows()
    lost = {"LINK-leach": Raised("", 1, "lost", "cable", "holds", "mend")}
    state = step(law, alarms.initial(law), 20.0, raised=lost)
    assert state.listed["LINK-leach"].priority == 1
    assert step(law, state, 20.0).listed["LINK-leach"].state == "returned"
