"""Unit classes: the roles that a recipe may use at any unit of a class. A cell file binds each role to a tag or a loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, RootModel, field_validator, model_validator

from drivers import eu
from drivers.source import BadInput, Problem, read_toml, validate
from recipes.expression import is_name

__all__ = ["RoleKind", "RoleSpec", "UnitClass", "load_classes"]

RoleKind: TypeAlias = Literal["measurement", "output", "loop"]


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """What a unit of the class has under this role: its kind, and range `low` to `high` [eu]. A discrete output has eu ``""``, 0 to 1."""

    kind: RoleKind
    eu: str
    low: float
    high: float
    say: str = ""


@dataclass(frozen=True, slots=True)
class UnitClass:
    """A kind of unit, such as a leach tank."""

    name: str
    description: str
    roles: Mapping[str, RoleSpec]


class _Role(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: RoleKind
    eu: str
    range: list[float]
    say: str = ""

    @field_validator("eu")
    @classmethod
    def _known(cls, text: str) -> str:
        eu.parse(f"1 {text}")  # names the symbol that is not known
        return text

    @field_validator("range")
    @classmethod
    def _ordered(cls, given: list[float]) -> list[float]:
        if len(given) != 2 or not given[0] < given[1]:  # also false for nan
            raise ValueError(f"expected [low, high] with low below high, got {given}")
        return given

    @model_validator(mode="after")
    def _discrete(self) -> _Role:
        if self.kind == "loop" and not self.eu:
            raise ValueError("a loop needs the eu of what it controls")
        return self


class _Class(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    description: str = ""
    roles: dict[str, _Role]


class _File(RootModel[dict[str, _Class]]):
    pass


def load_classes(path: Path) -> dict[str, UnitClass]:
    """Return the unit classes of a TOML file by name; raise `BadInput` with every mistake.

    A class is a table with a ``description`` and a table ``roles``, whose rows are
    ``temperature = { kind = "loop", eu = "degC", range = [0, 120], say = "slurry temperature" }``.
    """
    document = read_toml(path)
    classes = validate(document, _File).root
    problems = list[Problem]()
    for name, entry in classes.items():
        for role in entry.roles:
            if not is_name(role) or role == "sp":
                problems.append(document.problem((name, "roles", role), f"role {role!r}: expected letters, digits and _, and no word of the grammar"))
    if problems:
        raise BadInput(problems)
    return {
        name: UnitClass(
            name,
            entry.description,
            {role: RoleSpec(given.kind, given.eu, given.range[0], given.range[1], given.say) for role, given in entry.roles.items()},
        )
        for name, entry in classes.items()
    }
