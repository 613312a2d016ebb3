"""Phases: what a step of a recipe does, as a generator that yields once a scan with the reason why it is not done yet.

A phase may be entered again from the top at any scan: all that it has achieved stands in its `progress`, which is plain
data and survives a hold, a restart of the service and a crash.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from controller.core.equipment import UnitView
from recipes.model import PhaseSpec

__all__ = ["CATALOGUE", "Phase", "PhaseFailed", "Records", "Steps", "register"]

Steps: TypeAlias = Iterator[str]
Records: TypeAlias = dict[str, float]


class PhaseFailed(Exception):
    """A phase cannot reach its end; the batch is held with this reason."""


@dataclass
class Phase(ABC):
    """One phase. Subclasses are dataclasses whose fields are the parameters of their `spec` [eu given there]."""

    spec: ClassVar[PhaseSpec]

    progress: dict[str, Any] = field(default_factory=dict, kw_only=True)
    records: Records = field(default_factory=dict, kw_only=True)  # of the whole batch, by "record.name"; written under `record`
    record: str = field(default="", kw_only=True)
    context: Mapping[str, Any] = field(default_factory=dict, kw_only=True)  # batch-wide facts, such as the specification

    @abstractmethod
    def running(self, unit: UnitView) -> Steps:
        """Ask for outputs and yield why it waits, once a scan; return when done."""

    def count(self, unit: UnitView) -> None:  # noqa: B027  most phases have nothing to count
        """Add to `progress` what has passed since the last scan; called in every scan from its start to its end, in a hold too."""

    def keep(self, name: str, value: float) -> None:
        """Record a result under this step's record name; a step without one records nothing."""
        if self.record:
            self.records[f"{self.record}.{name}"] = value


CATALOGUE: dict[str, type[Phase]] = {}


def register(phase: type[Phase]) -> type[Phase]:
    """Make a phase known to recipes under its spec's name."""
    CATALOGUE[phase.spec.name] = phase
    return phase
