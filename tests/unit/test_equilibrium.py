"""Aqueous equilibrium against PHREEQC with the same constants, against itself (one and many), and against what chemists expect."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import phreeqc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.constants import HYDROXIDES, MASTERS, SOLIDS, SPECIES, Solid, Species, draw_shifts
from simulators.equilibrium import DISSOLVED, Equilibrium, Many, Table

# --- our table as a database of the other program: the same species, solids and activity model --------------------------------------

# our master -> (PHREEQC element, master species, molar mass [g/mol]); S, N, C and P are elements of their own here, without redox
_MASTER: Mapping[str, tuple[str, str, float]] = {
    "Na": ("Na", "Na+", 22.99), "Li": ("Li", "Li+", 6.94), "K": ("K", "K+", 39.10), "Ni": ("Ni", "Ni+2", 58.69), "Co": ("Co", "Co+2", 58.93),
    "Mn": ("Mn", "Mn+2", 54.94), "Cu": ("Cu", "Cu+2", 63.55), "Zn": ("Zn", "Zn+2", 65.38), "Fe2": ("Fe", "Fe+2", 55.85), "Fe3": ("Fi", "Fi+3", 55.85),
    "Mg": ("Mg", "Mg+2", 24.31), "Ca": ("Ca", "Ca+2", 40.08), "Al": ("Al", "Al+3", 26.98), "S": ("Sf", "Sf-2", 96.06), "N": ("Am", "Am", 17.03),
    "F": ("F", "F-", 19.0), "C": ("Cb", "Cb-2", 60.01), "P": ("Pf", "Pf-3", 94.97), "Cl": ("Cl", "Cl-", 35.45),
}  # fmt: skip


def _charge(z: int) -> str:
    return "" if z == 0 else f"{'+' if z > 0 else '-'}{abs(z) if abs(z) > 1 else ''}"


def _formula(row: Species) -> str:
    """Return a formula that PHREEQC reads: elements with counts, then the charge."""
    water = row.of.get("w", 0)
    hydrogen, oxygen = row.of.get("H", 0) + 2 * water, water
    text = "".join(f"{_MASTER[name][0]}{count if count > 1 else ''}" for name, count in row.of.items() if name in _MASTER)
    if oxygen:
        text += f"O{oxygen if oxygen > 1 else ''}"
    if hydrogen:
        text += f"H{hydrogen if hydrogen > 1 else ''}"
    return text + _charge(row.charge)


def _side(parts: list[tuple[int, str]]) -> str:
    return " + ".join(f"{count} {name}" if count > 1 else name for count, name in parts)


def _species(row: Species) -> list[str]:
    left = [(count, _MASTER[name][1]) for name, count in row.of.items() if name in _MASTER]
    right = [(1, _formula(row))]
    for name, symbol in (("H", "H+"), ("w", "H2O")):
        count = row.of.get(name, 0)
        if count:
            (left if count > 0 else right).append((abs(count), symbol))
    gamma = ["    -gamma 0.0 0.0"] if row.charge == 0 else []  # gamma of a neutral is 1; the program's own default is 10^0.1 I
    return [f"{_side(left)} = {_side(right)}", f"    log_k {row.log_k}", f"    delta_h {row.heat} kJ", *gamma]


def _phase(row: Solid) -> list[str]:
    parts = [(count, _MASTER[name][1]) for name, count in row.of.items() if name in _MASTER]
    water, protons = row.of.get("w", 0), row.of.get("H", 0)
    formula = "".join(f"{_MASTER[name][0]}{count if count > 1 else ''}" for name, count in row.of.items() if name in _MASTER)
    hydrogen = protons + 2 * water
    formula += f"H{hydrogen if hydrogen > 1 else ''}" if hydrogen else ""
    formula += f"O{water if water > 1 else ''}" if water else ""
    left = [(1, formula)] + ([(-protons, "H+")] if protons < 0 else [])
    right = parts + ([(water, "H2O")] if water else [])
    return [_phase_name(row.name), f"    {_side(left)} = {_side(right)}", f"    log_k {row.log_k}", f"    delta_h {row.heat} kJ"]


def database() -> str:
    """Return the database as text."""
    lines = ["SOLUTION_MASTER_SPECIES", "H H+ 0 H 1.008", "H(1) H+ 0 0", "E e- 0 0 0", "O H2O 0 O 16.0", "O(-2) H2O 0 0"]
    lines += [f"{element} {species} 0 {mass} {mass}" for element, species, mass in _MASTER.values()]
    lines += ["SOLUTION_SPECIES", "H+ = H+", "    log_k 0", "e- = e-", "    log_k 0", "H2O = H2O", "    log_k 0"]
    # the program asks for these two; without a redox couple they stay far below anything that matters
    lines += ["2 H+ + 2 e- = H2", "    log_k -3.15", "2 H2O = O2 + 4 H+ + 4 e-", "    log_k -86.08"]
    for name, (_, species, _) in _MASTER.items():
        lines += [f"{species} = {species}", "    log_k 0", *(["    -gamma 0.0 0.0"] if name == "N" else [])]
    for row in SPECIES:
        lines += _species(row)
    lines.append("PHASES")
    for solid in (*HYDROXIDES, *SOLIDS):
        lines += _phase(solid)
    lines.append("END")
    return "\n".join(lines)


def solution(t: float, totals: Mapping[str, float], *, phases: tuple[str, ...] = (), together: tuple[str, ...] = ()) -> str:
    """Return the input for one liquor: `totals` [mol/kg] at `t` [degC], pH by charge, with `phases` and a solid solution of `together`."""
    lines = ["SOLUTION 1", f"    temp {t}", "    pH 7 charge", "    units mol/kgw"]
    lines += [f"    {_MASTER[name][0]} {amount!r}" for name, amount in totals.items() if amount > 0.0]
    lines.append("SAVE solution 1")
    lines.append("END")
    lines += ["USE solution 1", "REACTION_TEMPERATURE 1", f"    {t}"]
    if phases:
        lines.append("EQUILIBRIUM_PHASES 1")
        lines += [f"    {_phase_name(name)} 0 0" for name in phases]
    if together:
        lines.append("SOLID_SOLUTIONS 1")
        lines.append("    mixed")
        lines += [f"        -comp {_phase_name(name)} 0" for name in together]
    names = " ".join(_MASTER[name][0] for name in totals)
    lines += ["SELECTED_OUTPUT 1", "    -reset false", "    -pH true", f"    -totals {names}", "    -ionic_strength true", "END"]
    return "\n".join(lines)


def _phase_name(name: str) -> str:
    return name.replace("(", "_").replace(")", "_")


# --- tests ---------------------------------------------------------------------------------------------------------------------------

MOLAR = {"Ni": 58.69, "Co": 58.93, "Mn": 54.94, "Cu": 63.55, "Zn": 65.38, "Fe2": 55.85, "Mg": 24.31, "Ca": 40.08, "Al": 26.98, "Fe3": 55.85}
NAMES = {"Fe2": "Fe", "Fe3": "Fi"}  # what the other program calls them
DATABASE = database()
TOGETHER = ("Ni(OH)2", "Co(OH)2", "Mn(OH)2")
ALONE = tuple(solid.name for solid in HYDROXIDES if solid.name not in TOGETHER)
LIQUOR = {"Ni": 0.45, "Co": 0.15, "Mn": 0.15, "Li": 0.75, "S": 1.2, "Al": 0.02, "Fe3": 0.004, "Cu": 0.003, "Zn": 0.0005, "Mg": 0.001}


def totals(amounts: Mapping[str, float]) -> list[float]:
    return [amounts.get(name, 0.0) for name in DISSOLVED]


def other(t: float, amounts: Mapping[str, float]) -> dict[str, float]:
    """Return pH and dissolved totals [mol/kg] as PHREEQC finds them."""
    program = phreeqc.Phreeqc()
    assert program.LoadDatabaseString(DATABASE) == 0, program.GetErrorString()
    assert program.RunString(solution(t, amounts, phases=ALONE, together=TOGETHER)) == 0, program.GetErrorString()
    table = program.GetSelectedOutput()
    return {name: float(column[-1]) for name, column in table.items()}


def compare(t: float, amounts: Mapping[str, float], *, ph: float = 0.05, share: float = 0.2) -> None:
    """Assert that residuals above 1 mg/kg agree within `share`, and pH within `ph`."""
    ours = Equilibrium()
    found = ours.solve(t, totals(amounts))
    theirs = other(t, amounts)
    assert found == pytest.approx(theirs["pH"], abs=ph)
    for solid, left in zip(HYDROXIDES, ours.left, strict=True):
        if solid.metal not in amounts:
            continue
        right = theirs[f"{NAMES.get(solid.metal, solid.metal)}(mol/kgw)"]
        if right * MOLAR[solid.metal] * 1e3 > 1.0:
            assert left == pytest.approx(right, rel=share), solid.metal


@pytest.mark.parametrize("t", [25.0, 50.0, 70.0])
@pytest.mark.parametrize("ammonia", [0.0, 0.5])
def test_titration_of_mixed_sulfates_with_caustic_agrees_with_phreeqc(t: float, ammonia: float) -> None:
    for soda in (0.0, 0.3, 0.6, 0.78, 0.9, 1.2, 1.5, 1.62, 1.7, 1.8, 2.0):
        compare(t, {**LIQUOR, "Na": soda, "N": ammonia}, ph=0.02, share=0.05)


@pytest.mark.parametrize("strength", [0.003, 0.05, 1.6])
def test_titration_of_thin_and_strong_liquors_agrees(strength: float) -> None:
    scaled = {name: amount * strength for name, amount in LIQUOR.items()}
    for soda in (0.1, 0.7, 1.4, 1.75):
        compare(40.0, {**scaled, "Na": soda * strength, "N": 0.3 * strength})


@pytest.mark.parametrize("soda", [0.27, 0.44])
@pytest.mark.parametrize("fluoride", [0.1, 0.12])
def test_fluoride_that_keeps_aluminium_in_an_ammoniacal_liquor_is_found_from_a_cold_start(fluoride: float, soda: float) -> None:
    """Newton swings here between all Al dissolved and hardly any, from every start: only the search along its line arrives."""
    liquor = {"Ni": 0.64, "Co": 0.08, "Mn": 0.08, "Li": 0.8, "Al": 0.05, "S": 1.35, "N": 1.0}
    compare(90.0, {**liquor, "F": fluoride, "Na": soda}, ph=0.02, share=0.05)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_liquor_agrees_with_phreeqc(data: st.DataObject) -> None:
    amounts = {
        name: data.draw(st.one_of(st.just(0.0), st.floats(1e-6, top)), name)
        for name, top in {
            "Ni": 0.8, "Co": 0.4, "Mn": 0.4, "Li": 1.0, "Na": 2.0, "Al": 0.05, "Fe3": 0.02, "Fe2": 0.02, "Cu": 0.02, "Zn": 0.01, "Mg": 0.02,
            "Ca": 0.01, "F": 0.05, "N": 0.6, "Cl": 0.2, "C": 0.02, "P": 0.01, "K": 0.05,
        }.items()
    }  # fmt: skip
    charge = {
        "Li": 1,
        "Na": 1,
        "K": 1,
        "Ni": 2,
        "Co": 2,
        "Mn": 2,
        "Cu": 2,
        "Zn": 2,
        "Fe2": 2,
        "Mg": 2,
        "Ca": 2,
        "Al": 3,
        "Fe3": 3,
        "F": -1,
        "Cl": -1,
        "C": -2,
        "P": -3,
    }
    whole = sum(z * amounts[name] for name, z in charge.items())
    amounts["S"] = max(0.5 * whole + data.draw(st.floats(-0.4, 0.4), "sulfate beside balance"), 1e-4)
    amounts = {name: amount for name, amount in amounts.items() if amount > 0.0}
    compare(data.draw(st.sampled_from([20.0, 25.0, 50.0, 60.0, 80.0])), amounts)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(0.0, 20.0), st.floats(-1e3, 1e3)), min_size=len(DISSOLVED), max_size=len(DISSOLVED)),
    st.floats(0.0, 110.0),
)
def test_whatever_is_in_the_tank_pH_is_a_number_and_nothing_is_negative(amounts: list[float], t: float) -> None:
    water = Equilibrium()
    ph = water.solve(t, amounts)
    assert -3.0 <= ph <= 16.0
    assert all(
        0.0 <= left <= max(amounts[MASTERS.index(solid.metal)], 0.0) * (1.0 + 1e-9) + 1e-15
        for solid, left in zip(HYDROXIDES, water.left, strict=True)
    )
    assert math.isfinite(water.heat)
    assert math.isfinite(water.ionic)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.0, 1.5), st.floats(0.0, 0.3), st.floats(0.05, 2.5), st.floats(0.0, 0.05), st.floats(0.0, 2.0), st.floats(5.0, 95.0),
    st.lists(st.floats(0.0, 6.0), min_size=2, max_size=6, unique=True),
)  # fmt: skip
def test_ph_rises_with_base(ni: float, al: float, so4: float, f: float, ammonia: float, t: float, base: list[float]) -> None:
    found = [
        Equilibrium().solve(
            t, totals({"Ni": ni, "Co": 0.1, "Mn": 0.1, "Cu": 0.01, "Al": al, "Fe3": 0.01, "S": so4, "F": f, "N": ammonia, "Na": soda})
        )
        for soda in sorted(base)
    ]
    assert all(later >= earlier - 2e-3 for earlier, later in itertools.pairwise(found))


def test_many_is_the_same_as_one() -> None:
    rng = np.random.default_rng(5)
    n = 30
    base = np.array(totals({**LIQUOR, "Na": 1.4, "N": 0.4, "F": 0.01, "Cl": 0.02}))
    amounts = base[:, None] * rng.uniform(0.8, 1.2, (len(base), n))
    t = rng.uniform(20.0, 70.0, n)
    many = Many(n)
    many.solve(t, amounts)
    moved = amounts * rng.uniform(0.995, 1.005, amounts.shape)
    ph = many.solve(t, moved)
    for place in range(n):
        one = Equilibrium()
        assert ph[place] == pytest.approx(one.solve(float(t[place]), moved[:, place].tolist()), abs=1e-3)
        assert many.left[:, place] == pytest.approx(one.left, rel=1e-2, abs=1e-12)


def test_a_warm_start_ends_where_a_cold_one_does() -> None:
    warm = Equilibrium()
    for soda in np.linspace(0.0, 2.0, 81):
        amounts = totals({**LIQUOR, "Na": float(soda), "N": 0.4})
        assert warm.solve(50.0, amounts) == pytest.approx(Equilibrium().solve(50.0, amounts), abs=2e-4)


def test_nickel_left_with_ammonia_is_650_mg_at_25_and_7_at_50_degrees() -> None:
    """Design basis, section 1: at 0.5 M NH3, NMC622 and pH 11 in the vessel."""
    for t, expected in ((25.0, 650.0), (50.0, 7.5)):
        low, high = 1.5, 3.0  # soda for pH 11
        for _ in range(50):
            soda = 0.5 * (low + high)
            water = Equilibrium()
            ph = water.solve(t, totals({"Ni": 0.48, "Co": 0.16, "Mn": 0.16, "Li": 0.8, "S": 1.2, "N": 0.5, "Na": soda}))
            low, high = (soda, high) if ph < 11.0 else (low, soda)
        assert water.left[0] * 58.69e3 == pytest.approx(expected, rel=0.35)


def test_aluminium_left_falls_by_the_table_of_levers() -> None:
    """Design basis, section 5: Al 79, 2.5 and 0.09 mg/kg at pH 5.0, 5.5 and 6.0; here without fluoride and at 60 degC, within a factor of 3."""
    for ph, expected in ((5.0, 79.0), (5.5, 2.5), (6.0, 0.09)):
        low, high = 0.0, 1.0
        for _ in range(60):
            soda = 0.5 * (low + high)
            water = Equilibrium()
            found = water.solve(25.0, totals({"Ni": 0.48, "Co": 0.16, "Mn": 0.16, "Li": 0.8, "S": 1.35, "Al": 0.05, "Na": soda}))
            low, high = (soda, high) if found < ph else (low, soda)
        assert expected / 3.0 < water.left[8] * 26.98e3 < expected * 3.0


def test_solids_know_their_saturation() -> None:
    water = Equilibrium()
    water.solve(25.0, totals({"Ca": 0.0151, "S": 0.0151}))  # gypsum dissolves to about 15 mmol/kg in water
    assert water.saturation("gypsum") == pytest.approx(0.0, abs=0.05)


def test_every_constant_has_a_source_and_a_shift_that_stays_in_its_spread() -> None:
    rows = (*SPECIES, *HYDROXIDES, *SOLIDS)
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.source for row in rows)
    shifts = draw_shifts(3)
    assert all(abs(shifts[row.name]) <= row.spread for row in rows)
    assert shifts == draw_shifts(3) != draw_shifts(4)
    assert Equilibrium(Table(shifts)).solve(25.0, totals(LIQUOR)) != Equilibrium().solve(25.0, totals(LIQUOR))
    with pytest.raises(ValueError, match="no species or solid"):
        Table({"NaCl": 0.1})
