"""What a recipe is once it has been loaded, and what a phase says of itself. Frozen data; nothing here runs.

A step's `path` joins the names from the top: ``leach/dose/acid``. Times are [s] on the plant clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from drivers.eu import Quantity
from drivers.source import Position
from recipes.expression import Expression

__all__ = [
    "Action",
    "Argument",
    "AskKind",
    "AskStep",
    "Catalogue",
    "Group",
    "OnHold",
    "Parameter",
    "ParameterSpec",
    "PhaseSpec",
    "Recipe",
    "RunStep",
    "Step",
    "Watch",
]

Action: TypeAlias = Literal["hold", "stop", "abort", "alarm"]
AskKind: TypeAlias = Literal["confirm", "number", "text"]
OnHold: TypeAlias = "Literal['keep', 'stop'] | float"
Argument: TypeAlias = "Expression | str | bool"


# What a phase says of itself --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One parameter of a phase.

    A ``quantity`` has an `eu`, or takes it from the role that another parameter names: ``role:flow`` is the eu of that role
    (and its range), ``integral:flow`` that eu times time (L for L/min, kg for kg/h), ``rate:loop`` the eu of a change per second.
    A ``role`` names a role of the step's unit, of one of the kinds in `roles`; one that also takes a measurement is only read.
    A ``record`` names the record of an earlier step.
    """

    kind: Literal["quantity", "role", "text", "flag", "record"]
    eu: str = ""
    roles: tuple[str, ...] = ()  # of measurement, output, loop; empty: any
    required: bool = True
    default: str | float | bool | None = None  # None: the phase has its own
    low: float | None = None  # [eu]
    high: float | None = None  # [eu]
    choices: tuple[str, ...] = ()
    say: str = ""


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """One phase that recipes can run: its parameters, what its unit must have, and the records [eu] it leaves."""

    name: str
    parameters: Mapping[str, ParameterSpec] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # roles that the unit's class must have
    classes: tuple[str, ...] = ()  # unit classes that it runs on; empty: any
    records: Mapping[str, str] = field(default_factory=dict)
    say: str = ""
    ends: bool = True  # False: goes on until the step's `until`, which must then be given


Catalogue: TypeAlias = Mapping[str, PhaseSpec]


# A recipe ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value of the formula, and the range `low` to `high` [eu of value] in which the recipe is proven.

    With `scale`, the value goes linearly with that other parameter, unless the operator gives it.
    """

    name: str
    value: Quantity
    low: float
    high: float
    scale: str | None = None
    say: str = ""

    @property
    def eu(self) -> str:
        """The eu of value and range."""
        return self.value.eu


@dataclass(frozen=True, slots=True)
class Watch:
    """A condition that is judged in every scan while the step or group `during` runs (None: the whole batch)."""

    condition: Expression
    action: Action
    say: str
    during: str | None
    where: Position


@dataclass(frozen=True, slots=True)
class RunStep:
    """A phase on a unit. `record` is the name its results get (None: they are not kept); `expect` says how long it usually takes."""

    name: str
    path: str
    unit: str
    phase: str
    arguments: Mapping[str, Argument]
    until: Expression | None
    limit: float | None  # [s]
    on_hold: Mapping[str, OnHold]  # by role; a number is [eu of the role]
    max_hold: float | None  # [s]
    resume: Expression | None
    record: str | None
    expect: float | None  # [s]
    say: str
    where: Position


@dataclass(frozen=True, slots=True)
class AskStep:
    """A question to a person. The answer to a ``number`` is in `eu`; `unit` is empty if it stands for none."""

    name: str
    path: str
    unit: str
    text: str
    role: str
    kind: AskKind
    eu: str
    record: str | None
    pass_if: Expression | None
    where: Position


@dataclass(frozen=True, slots=True)
class Group:
    """Steps that run one after the other, or all at once. The procedure itself is the group with the empty path."""

    name: str
    path: str
    parallel: bool
    steps: tuple[Step, ...]
    limit: float | None  # [s]
    say: str
    where: Position

    def leaves(self) -> Iterator[RunStep | AskStep]:
        """Yield every step below, in the order of the file."""
        for step in self.steps:
            if isinstance(step, Group):
                yield from step.leaves()
            else:
                yield step

    def groups(self) -> Iterator[Group]:
        """Yield this group and every group below."""
        yield self
        for step in self.steps:
            if isinstance(step, Group):
                yield from step.groups()


Step: TypeAlias = "Group | RunStep | AskStep"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe that has been checked. `sha256` is that of `text`, the file as it stood when it was read."""

    id: str
    version: int
    title: str
    product: str
    specification: str
    units: Mapping[str, str]  # the recipe's name of a unit: its class
    formula: Mapping[str, Parameter]
    watches: tuple[Watch, ...]
    procedure: Group
    text: str
    sha256: str
    file: str

    def leaves(self) -> Iterator[RunStep | AskStep]:
        """Yield every step of the procedure, in the order of the file."""
        return self.procedure.leaves()

    def groups(self) -> Iterator[Group]:
        """Yield the procedure and every group in it."""
        return self.procedure.groups()
