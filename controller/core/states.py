"""The ISA-88 state table of a procedure. This table is the specification: the docs' diagram and the tests are made from it.

>>> State.RUNNING in allowed_from(Verb.HOLD)
True
>>> why_not(State.IDLE, Verb.HOLD)
'HOLD is valid from RUNNING, PAUSING, PAUSED, RESTARTING; the batch is IDLE'
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["AUTOMATIC", "COMMANDS", "FINAL", "State", "Verb", "allowed_from", "diagram", "why_not"]


class State(StrEnum):
    """Procedural states, ISA-88:2010."""

    IDLE = "IDLE"
    RUNNING = "RUNNING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
    HOLDING = "HOLDING"
    HELD = "HELD"
    RESTARTING = "RESTARTING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    ABORTING = "ABORTING"
    ABORTED = "ABORTED"
    COMPLETE = "COMPLETE"


class Verb(StrEnum):
    """Commands to a procedure."""

    START = "START"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    HOLD = "HOLD"
    RESTART = "RESTART"
    STOP = "STOP"
    ABORT = "ABORT"
    RESET = "RESET"


_S = State
_QUIET = {_S.IDLE, _S.COMPLETE, _S.ABORTING, _S.ABORTED}

# verb: (where it is allowed, where it leads)
COMMANDS: dict[Verb, tuple[tuple[State, ...], State]] = {
    Verb.START: ((_S.IDLE,), _S.RUNNING),
    Verb.PAUSE: ((_S.RUNNING,), _S.PAUSING),
    Verb.RESUME: ((_S.PAUSED,), _S.RUNNING),
    Verb.HOLD: ((_S.RUNNING, _S.PAUSING, _S.PAUSED, _S.RESTARTING), _S.HOLDING),
    Verb.RESTART: ((_S.HELD,), _S.RESTARTING),
    Verb.STOP: ((_S.RUNNING, _S.PAUSING, _S.PAUSED, _S.HOLDING, _S.HELD, _S.RESTARTING), _S.STOPPING),
    Verb.ABORT: (tuple(state for state in State if state not in _QUIET), _S.ABORTING),
    Verb.RESET: ((_S.COMPLETE, _S.STOPPED, _S.ABORTED), _S.IDLE),
}

# what happens by itself when a state's own work is done
AUTOMATIC: dict[State, State] = {
    _S.RUNNING: _S.COMPLETE,
    _S.PAUSING: _S.PAUSED,
    _S.HOLDING: _S.HELD,
    _S.RESTARTING: _S.RUNNING,
    _S.STOPPING: _S.STOPPED,
    _S.ABORTING: _S.ABORTED,
}

FINAL = frozenset({_S.COMPLETE, _S.STOPPED, _S.ABORTED})


def allowed_from(verb: Verb) -> tuple[State, ...]:
    """Return the states in which `verb` is valid."""
    return COMMANDS[verb][0]


def why_not(state: State, verb: Verb) -> str:
    """Return why `verb` is not valid in `state`; empty if it is."""
    if state in allowed_from(verb):
        return ""
    return f"{verb} is valid from {', '.join(allowed_from(verb))}; the batch is {state}"


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> IDLE"]
    lines += [f"    {source} --> {target}: {verb}" for verb, (sources, target) in COMMANDS.items() for source in sources]
    lines += [f"    {source} --> {target}" for source, target in AUTOMATIC.items()]
    return "\n".join(lines)
