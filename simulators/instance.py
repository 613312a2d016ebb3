"""A plant instance: the parameters of all units in one, drawn by seed from their ranges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from simulators.crystalliser_salts import CrystalliserParameters
from simulators.filtration import FilterParameters
from simulators.heats import HeatParameters
from simulators.laboratory import LaboratoryParameters
from simulators.leach import LeachParameters
from simulators.parameters import draw
from simulators.precipitation import ReactorParameters
from simulators.purification import PurificationParameters
from simulators.shredder import ShredderParameters

__all__ = ["PlantParameters", "instance_parameters"]


@dataclass(frozen=True)
class PlantParameters:
    """The parameters of every unit; by default the nominal plant."""

    shredder: ShredderParameters = field(default_factory=ShredderParameters)
    leach: LeachParameters = field(default_factory=LeachParameters)
    purification: PurificationParameters = field(default_factory=PurificationParameters)
    reactor: ReactorParameters = field(default_factory=ReactorParameters)
    filter: FilterParameters = field(default_factory=FilterParameters)
    heats: HeatParameters = field(default_factory=HeatParameters)
    laboratory: LaboratoryParameters = field(default_factory=LaboratoryParameters)
    crystalliser: CrystalliserParameters = field(default_factory=CrystalliserParameters)


def instance_parameters(seed: int) -> PlantParameters:
    """Return the parameters of the plant instance `seed`; its equilibrium constants are `constants.draw_shifts(seed)`."""
    # a stream of its own: the constants are drawn from `seed` itself and would else move with the first parameters
    return draw(PlantParameters, np.random.default_rng((seed, 1)))
