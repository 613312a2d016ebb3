"""Commands: what people ask for, as typed and recorded inputs of the scan."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from controller.core.states import Verb

__all__ = ["Acknowledge", "Answer", "Command", "Receipt", "ResetInterlock", "Start", "Transition", "Tune", "command_from_json"]


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=2000)

    who: str = Field(min_length=1, max_length=80)
    why: str = Field(default="", max_length=500)


class Start(_Command):
    """Start a batch of a recipe in the library; `parameters` are formula values as text with their eu ("120 kg")."""

    do: Literal["start"] = "start"
    recipe: str = Field(min_length=1, max_length=200)
    parameters: dict[str, str] = {}
    lot: str = ""  # the black-mass lot that is charged


class Transition(_Command):
    """HOLD, RESTART, PAUSE, RESUME, STOP, ABORT or RESET the running batch."""

    do: Literal["transition"] = "transition"
    verb: Verb


class Answer(_Command):
    """Answer a prompt."""

    do: Literal["answer"] = "answer"
    prompt: str
    value: bool | float | str


class Acknowledge(_Command):
    """Acknowledge one alarm."""

    do: Literal["acknowledge"] = "acknowledge"
    alarm: str


class Tune(_Command):
    """Take a loop to MAN or AUTO, give it back to the recipe (REMOTE), or change its SP or OUT [their eu]; what is None stays."""

    do: Literal["tune"] = "tune"
    loop: str
    mode: Literal["MAN", "AUTO", "REMOTE"] | None = None
    setpoint: float | None = None
    output: float | None = None


class ResetInterlock(_Command):
    """Release a latched interlock whose cause is gone."""

    do: Literal["reset_interlock"] = "reset_interlock"
    interlock: str


Command = Annotated[Start | Transition | Answer | Acknowledge | Tune | ResetInterlock, Field(discriminator="do")]
_ADAPTER: TypeAdapter[Start | Transition | Answer | Acknowledge | Tune | ResetInterlock] = TypeAdapter(Command)


def command_from_json(data: str | bytes | dict[str, object]) -> Start | Transition | Answer | Acknowledge | Tune | ResetInterlock:
    """Return the command in `data`; raise pydantic's `ValidationError` for anything else."""
    return _ADAPTER.validate_python(data) if isinstance(data, dict) else _ADAPTER.validate_json(data)


class Receipt(BaseModel):
    """The answer to a command. Accepted means: written to the journal on disk, and applied by the next scan if still valid there."""

    model_config = ConfigDict(frozen=True)

    accepted: bool
    why: str = ""  # why not, in one sentence
