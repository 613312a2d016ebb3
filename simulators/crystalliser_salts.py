"""Constants of the lithium crystalliser, and what they say of its salts: solubilities, vapour pressure, and how much of a salt falls."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from simulators.parameters import parameter
from simulators.vessels import JacketParameters, PressParameters

__all__ = [
    "MOLAR",
    "CentrifugeParameters",
    "CoilParameters",
    "CrystalliserParameters",
    "carbonate_share",
    "carbonate_solubility",
    "precipitates",
    "sulfate_solubility",
    "vapour_pressure",
]

MOLAR = {"Na2SO4": 142.04, "Li2CO3": 73.89}  # [g/mol]


@dataclass(frozen=True)
class CoilParameters(JacketParameters):
    """The heat exchanger of the vessel, with forced circulation; brine cools."""

    ua: float = parameter(14.0, "kW/K", "A", "14 m2 of heat exchanger at 1 kW/m2K", range=(10.0, 18.0))
    coolant: float = parameter(-8.0, "degC", "size", "brine")


@dataclass(frozen=True)
class CentrifugeParameters(PressParameters):
    """The centrifuge, as a press whose cake passes its liquor easily."""

    resistance: float = parameter(1e9, "m/kg", "A", "coarse crystals")
    holds: float = parameter(0.1, "L/kg", "A", "liquor in the spun cake", range=(0.06, 0.15))
    bleed: float = parameter(1e-3, "kg/kg", "A", "fines that pass the screen", range=(0.3e-3, 3e-3))


@dataclass(frozen=True)
class CrystalliserParameters:
    """Constants of the crystalliser."""

    tank: float = parameter(12000.0, "L", "size", "feed tank, a batch of mother liquor with its wash water")
    volume: float = parameter(4500.0, "L", "size", "of the vessel")
    feed_most: float = parameter(150.0, "L/min", "size", "of the feed pump, and of the one for clear liquor")
    line: float = parameter(50.0, "L/min", "size", "of a dosing line")
    air_most: float = parameter(1000.0, "Nm3/h", "size", "of the blower")
    basket: float = parameter(2500.0, "kg", "size", "wet cake that the centrifuge with its box takes")
    sulfate: tuple[float, ...] = parameter(
        (4.5, 6.4, 9.6, 13.2, 19.5, 28.0, 40.8, 49.7, 48.8, 46.7, 45.3, 43.7, 42.0, 42.0),
        "g/100 g",
        "T",
        "Na2SO4 at 0, 5, 10, 15, 20, 25, 30, 32.4, 40, 50, 60, 80, 90, 110 degC; process.md section 3 at 90",
    )
    carbonate: tuple[float, ...] = parameter(
        (1.54, 1.27, 1.01, 0.85, 0.72), "g/100 g", "T", "Li2CO3 at 0, 25, 50, 75, 100 degC; process.md section 3"
    )
    carbonate_free: tuple[float, ...] = parameter(
        (0.99, 0.975, 0.948, 0.906, 0.84), "1", "T", "share of CO3-- in those solutions, the rest HCO3-; by the constants of H2CO3"
    )
    sulfate_time: float = parameter(1200.0, "s", "A", "crystals of Na2SO4 and their water, first order")
    carbonate_time: float = parameter(600.0, "s", "A", "Li2CO3 at 90 degC, first order; 1 h is enough (process.md section 2)")
    carbonate_activation: float = parameter(30.0, "kJ/mol", "A", "of that rate")
    induction: float = parameter(300.0, "s", "A", "without crystals, at a logarithm of supersaturation of 1")
    mud_time: float = parameter(1200.0, "s", "A", "hydroxides, CaCO3, LiF, Li3PO4")
    calcite: float = parameter(
        2e-8, "mol2/kg2", "A", "CaCO3 in a strong sulfate liquor, log Ksp -8.5 at gamma of 2 charges near 0.4", range=(0.5e-8, 8e-8)
    )
    phosphate: float = parameter(3.6e-9, "mol4/kg4", "T", "Li3PO4, from its solubility of 0.39 g/L")
    silica: float = parameter(0.9, "1", "A", "share that falls with the hydroxides", range=(0.7, 0.97))
    lattice_sodium: float = parameter(80.0, "mg/kg", "A", "in Li2CO3, at 5 mol/kg Na in the liquor", range=(40.0, 130.0))
    lattice_sulfur: float = parameter(60.0, "mg/kg", "A", "in Li2CO3, at 2.5 mol/kg sulfate in the liquor", range=(30.0, 90.0))
    lattice_potassium: float = parameter(0.02, "1", "A", "K of the lattice against its Na, at equal molality")
    henry: float = parameter(59.0, "mol/(L atm)", "T", "process.md section 3: NH3 at 25 degC")
    henry_turn: float = parameter(4256.0, "K", "T", "process.md section 3: 16 at 55 degC")
    carbon_dioxide: float = parameter(300.0, "s", "A", "CO2 out of a sour liquor")
    sour: float = parameter(6.5, "1", "T", "pH below which carbonate is CO2")
    latent: float = parameter(2257.0, "kJ/kg", "T", "of water at 100 degC")
    boiling_slope: float = parameter(28.0, "K", "T", "boiling point per natural logarithm of the pressure")
    water_activity: float = parameter(0.017, "kg/mol", "T", "process.md section 3")
    swell: float = parameter(0.15, "s/kg", "A", "share by which boiling lifts the level, per vapour")
    heat_carbonate: float = parameter(18.0, "kJ/mol", "T", "taken up when Li2CO3 falls: its dissolution gives that off")
    heat_hydrate: float = parameter(78.0, "kJ/mol", "T", "of crystallisation, Na2SO4 . 10 H2O")
    wash_temperature: float = parameter(95.0, "degC", "size", "process.md section 2: hot wash")
    saturation: float = parameter(0.7, "1", "A", "of the wash water as it leaves the cake", range=(0.4, 1.0))
    dryer: float = parameter(20.0, "kW", "size", "at 100 %")
    dryer_capacity: float = parameter(120.0, "kJ/K", "size", "of the basket")
    dryer_loss: float = parameter(0.05, "kW/K", "A", "to the room")
    transfer: float = parameter(0.0006, "kg/(s K)", "A", "evaporation from the cake per K above `creep`")
    creep: float = parameter(70.0, "degC", "A", "where that begins", range=(60.0, 80.0))
    critical: float = parameter(0.05, "kg/kg", "A", "moisture where the rate begins to fall")
    bound: float = parameter(0.0005, "kg/kg", "A", "moisture that stays")
    coil: CoilParameters = field(default_factory=CoilParameters)
    centrifuge: CentrifugeParameters = field(default_factory=CentrifugeParameters)


_SULFATE_AT = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 32.4, 40.0, 50.0, 60.0, 80.0, 90.0, 110.0)
_CARBONATE_AT = (0.0, 25.0, 50.0, 75.0, 100.0)


def _between(t: float, at: Sequence[float], values: Sequence[float]) -> float:
    place = min(max(bisect_right(at, t) - 1, 0), len(at) - 2)
    share = min(max((t - at[place]) / (at[place + 1] - at[place]), 0.0), 1.0)
    return values[place] + share * (values[place + 1] - values[place])


def sulfate_solubility(t: float, p: CrystalliserParameters) -> float:
    """Return the molality of a saturated solution of Na2SO4 in water at `t` [degC], counted as the anhydrous salt [mol/kg]."""
    return 10.0 * _between(t, _SULFATE_AT, p.sulfate) / MOLAR["Na2SO4"]


def carbonate_solubility(t: float, p: CrystalliserParameters) -> float:
    """Return the molality of a saturated solution of Li2CO3 in water at `t` [degC] [mol/kg]; it falls with T."""
    return 10.0 * _between(t, _CARBONATE_AT, p.carbonate) / MOLAR["Li2CO3"]


def carbonate_share(t: float, p: CrystalliserParameters) -> float:
    """Return the share of CO3-- of all carbonate in that solution; the rest is HCO3-."""
    return _between(t, _CARBONATE_AT, p.carbonate_free)


def vapour_pressure(t: float) -> float:
    """Return that of water [atm] at `t` [degC], by Antoine."""
    return float(10.0 ** (8.07131 - 1730.63 / (233.426 + t)) / 760.0)


def precipitates(two: float, one: float, product: float, water: float, binds: float, low: float, high: float) -> float:
    """Return the x [mol] that leaves (two - 2x)^2 (one - x) = product (water - binds x)^3, within `low` and `high`."""

    def over(x: float) -> float:
        return (two - 2.0 * x) ** 2 * (one - x) - product * (water - binds * x) ** 3

    if over(low) <= 0.0:
        return low
    if over(high) >= 0.0:
        return high
    for _ in range(48):
        middle = 0.5 * (low + high)
        if over(middle) > 0.0:
            low = middle
        else:
            high = middle
    return low
