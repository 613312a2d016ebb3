r"""The dialogue of a serial instrument as its profile declares it: what is sent, what the answer looks like, what its words mean. Pure.

Patterns are regular expressions for one whole line. They come from files that people write: each has an example that it must match, lines are
short, and a repetition inside of a repeated group is refused, since that can take for ever on a line that nearly fits.

>>> check_pattern(r"S S +(?P<value>-?\d+\.\d+) g")
'S S +(?P<value>-?\\d+\\.\\d+) g'
>>> check_pattern("(a+)+b")
Traceback (most recent call last):
ValueError: a group that repeats holds a repetition or alternatives, at character 5; that can take for ever: write it without one of them
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from drivers.shapes import STRICT, Eu, Seconds

__all__ = ["LONGEST", "Answer", "Dialogue", "Meaning", "Write", "check_pattern", "places"]

LONGEST: Final = 256  # [bytes] that a line may have at most
_REPEATED: Final = re.compile(r"\*|\+|\{\d*,\d*\}|\{\d+\}")
Meaning = Literal["good", "uncertain", "bad"]


def check_pattern(pattern: str) -> str:
    """Return `pattern` if it can be used; raise `ValueError` with where it cannot."""
    if len(pattern) > LONGEST:
        raise ValueError(f"expected a pattern of at most {LONGEST} characters, got {len(pattern)}")
    try:
        re.compile(pattern, re.ASCII)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error.msg} at character {(error.pos or 0) + 1}") from None
    groups = [False]  # whether each open group holds a repetition or alternatives
    place, inside = 0, False
    while place < len(pattern):
        letter = pattern[place]
        if letter == "\\":
            place += 1
        elif inside:
            inside = letter != "]" or pattern[place - 1] == "["
        elif letter == "[":
            inside = True
        elif letter == "(":
            groups.append(False)
        elif letter == ")":
            repeats = groups.pop()
            if repeats and _REPEATED.match(pattern, place + 1):
                what = "a group that repeats holds a repetition or alternatives"
                raise ValueError(f"{what}, at character {place + 2}; that can take for ever: write it without one of them")
            groups[-1] |= repeats
        elif letter == "|" or _REPEATED.match(pattern, place):
            groups[-1] = True
        place += 1
    return pattern


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


Pattern = Annotated[str, AfterValidator(check_pattern)]


class _Line(BaseModel):
    """What is sent, and the line that answers."""

    model_config = STRICT

    send: str = Field(default="", max_length=LONGEST)
    expect: Pattern
    example: str = Field(max_length=LONGEST)  # a line as the instrument sends it; the simulated one speaks by it

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """`expect`, compiled."""
        return re.compile(self.expect, re.ASCII)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.pattern.fullmatch(self.example):
            raise ValueError(f"example: {self.example!r} is not what expect describes, {self.expect!r}; take a line that the instrument sent")
        return self


class Answer(_Line):
    """A line that the instrument sends, and what makes it send it.

    The groups of `expect` carry the values: ``value``, ``unit`` and ``status``, or for a signal at ``REPLY:ph`` ``ph``, ``ph_unit`` and
    ``ph_status`` (else ``unit`` and ``status``).
    """

    status: dict[str, Meaning] = {}  # the words in the group `status`; any other word is bad
    units: dict[str, Eu] = {}  # the instrument's word for an eu, where it is not ours


class Write(_Line):
    """How a signal is written: the command, with ``{value}`` and its format, and how the instrument acknowledges it.

    A group ``value`` in `expect` has to be the value that was sent.
    """

    @cached_property
    def parts(self) -> tuple[str, str, str]:
        """What stands before the value, its format, and what stands behind it."""
        before, format_, after = re.split(r"\{value(?::([^{}]*))?\}", self.send)
        return before, format_ or "", after

    @model_validator(mode="after")
    def _consistent(self) -> Write:
        if len(re.findall(r"\{value(?::[^{}]*)?\}", self.send)) != 1 or self.send.count("{") != 1:
            raise ValueError(f"send: expected one {{value}} with its format, such as 'T {{value:.1f}}', got {self.send!r}")
        try:
            self.number(1)
        except ValueError as error:
            raise ValueError(f"send: {error} in {self.send!r}") from None
        match = self.pattern.fullmatch(self.example)
        if match is not None and not _is_number(match.groupdict().get("value", "0")):
            raise ValueError(f"expect: the group value is {match['value']!r} in the example, which is not a number")
        return self

    def number(self, value: float) -> str:
        """Return `value` as the command writes it."""
        return format(round(value) if self.parts[1].endswith("d") else value, self.parts[1])

    def command(self, value: float) -> str:
        """Return the command that writes `value` [eu of its signal]."""
        before, _, after = self.parts
        return before + self.number(value) + after


class Dialogue(BaseModel):
    """How a serial instrument is talked to, or what it says by itself."""

    model_config = STRICT

    terminator: str = Field(default="\r\n", min_length=1, max_length=4)
    encoding: Literal["ascii", "latin-1"] = "ascii"
    checksum: Literal["none", "xor", "sum"] = "none"  # two hexadecimal digits behind the line, of all bytes before them
    timeout: Seconds = 0.5  # for an answer; of a stream, for the next line
    pause: Seconds = 0.02  # of silence between an answer and the next command
    longest: int = Field(default=128, ge=4, le=LONGEST)  # [bytes] of a line
    echo: bool = False  # the instrument repeats each command before its answer
    stream: bool = False  # the instrument talks by itself
    identity: Answer | None = None
    refusal: Answer | None = None  # what it says to what it does not do
    replies: dict[str, Answer] = Field(min_length=1)
    writes: dict[str, Write] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Dialogue:
        asked = [name for name, answer in self.replies.items() if answer.send]
        if self.stream and (asked or self.writes):
            raise ValueError(f"stream: an instrument that talks by itself is not asked; take the command from {', '.join((*asked, *self.writes))}")
        if not self.stream and len(asked) < len(self.replies):
            raise ValueError("replies: expected what to send for each reply, or stream = true")
        if not self.stream and (self.identity is None or not self.identity.send):
            raise ValueError("identity: expected a command and its answer, by which the instrument is known and the line is brought into step")
        if self.identity is not None and not self.identity.send:
            raise ValueError("identity: expected what to send")
        if "\0" in self.terminator and self.checksum == "none":
            raise ValueError("terminator: a byte that came with a wrong parity bit is a NUL too, and would end a line; that takes a checksum")
        lines: list[_Line] = [
            *self.replies.values(),
            *(answer for answer in (self.identity, self.refusal) if answer is not None),
            *self.writes.values(),
        ]
        for line in lines:
            for text in (line.send, line.example):
                size = len(text.encode(self.encoding)) + 2 * (self.checksum != "none")  # a character that cannot be encoded is a ValueError
                if size > self.longest:
                    raise ValueError(f"longest: {text!r} has {size} bytes, more than {self.longest}")
                if self.terminator in text:
                    raise ValueError(f"terminator: stands in {text!r}; leave it out there, it is added to each line")
        return self


def places(dialogue: Dialogue) -> list[str]:
    """Return where the signals of a profile can be: each reply with a group ``value``, and ``REPLY:GROUP`` of its other groups."""
    found = []
    for name, answer in dialogue.replies.items():
        groups = answer.pattern.groupindex
        values = [group for group in groups if group != "status" and group != "unit" and not group.endswith(("_unit", "_status"))]
        found += [name if group == "value" else f"{name}:{group}" for group in values]
    return found
