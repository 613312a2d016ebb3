"""The ISA-88 table: every command in every state, from the table itself."""

import pytest

from controller.core.states import AUTOMATIC, COMMANDS, FINAL, State, Verb, allowed_from, diagram, why_not


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("state", State)
def test_a_command_is_refused_with_its_reason_wherever_the_table_does_not_allow_it(state: State, verb: Verb) -> None:
    refused = why_not(state, verb)
    assert (refused == "") == (state in COMMANDS[verb][0])
    if refused:
        assert str(state) in refused
        assert str(verb) in refused


def test_every_state_can_be_reached_and_left() -> None:
    reached = {target for _, target in COMMANDS.values()} | set(AUTOMATIC.values())
    assert reached == set(State)
    left = {source for sources, _ in COMMANDS.values() for source in sources} | set(AUTOMATIC)
    assert left == set(State)


def test_abort_is_allowed_wherever_something_may_move() -> None:
    assert set(allowed_from(Verb.ABORT)) == set(State) - {State.IDLE, State.COMPLETE, State.ABORTING, State.ABORTED}


def test_only_reset_leaves_a_final_state_but_abort_from_stopped() -> None:
    for state in FINAL:
        verbs = {verb for verb in Verb if not why_not(state, verb)}
        assert verbs == ({Verb.RESET, Verb.ABORT} if state is State.STOPPED else {Verb.RESET})


def test_the_diagram_holds_every_row() -> None:
    drawn = diagram()
    assert all(f"{source} --> {target}: {verb}" in drawn for verb, (sources, target) in COMMANDS.items() for source in sources)
    assert all(f"{source} --> {target}" in drawn for source, target in AUTOMATIC.items())
