"""The balances of a liquor as straight-line code, written once from the table of constants: see `equilibrium`, which solves them.

`balances` gives their residuals and the exact Jacobian, for floats (one tank, fast in CPython); `balances_many` the same for arrays (many tanks at
once). `census` takes both and gives the ionic strength, the sum of molalities and the heat of speciation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from drivers.tags import FloatArray
from simulators.constants import CHARGE, HYDROXIDES, MASTERS, SOLIDS, SPECIES

__all__ = ["FREE", "PLACE", "balances", "balances_many", "census"]

_HYDROXIDE: Final = {solid.metal: place for place, solid in enumerate(HYDROXIDES)}
_METALS: Final = ("Na", "Li", "K", "Ni", "Co", "Mn", "Cu", "Zn", "Fe2", "Mg", "Ca", "Al", "Fe3")
FREE: Final = (*_METALS, "C", "P")  # order of the free ions [mol/kg] that `balances` gives and `census` takes
PLACE: Final = {name: place for place, name in enumerate(MASTERS)}  # of a total
_TOGETHER: Final = ("Ni", "Co", "Mn")  # metals of the solid solution
_UNKNOWNS: Final = ("H", "S", "N", "F")


def _product(k: str, of: Mapping[str, int]) -> str:
    """Return the source of K times powers of the unknowns (`h` with its inverse `o`, `s`, `a`, `f`)."""
    parts = [k]
    for name, letter in (("H", "h"), ("S", "s"), ("N", "a"), ("F", "f")):
        count = of.get(name, 0)
        if count:
            parts.append(_power(letter if count > 0 else "o", abs(count)))
    return "*".join(parts)


def _power(letter: str, count: int) -> str:
    return letter if count == 1 else f"{letter}{count}"


def _powers() -> list[str]:
    """Return the source of the powers of the unknowns that species and hydroxides need."""
    most = {"h": max(-solid.of["H"] for solid in HYDROXIDES), "o": 1, "s": 1, "a": 1, "f": 1}
    for row in SPECIES:
        for name, letter in (("H", "h"), ("S", "s"), ("N", "a"), ("F", "f")):
            count = row.of.get(name, 0)
            most[letter if count > 0 else "o"] = max(most[letter if count > 0 else "o"], abs(count))
    return [f"    {letter}{n} = {_power(letter, n - 1)}*{letter}" for letter, highest in most.items() for n in range(2, highest + 1)]


def _sum(terms: list[str]) -> str:
    return " + ".join(terms).replace(" + -", " - ") if terms else "0.0"


def _times(count: float, name: str) -> str:
    if abs(count) == 1:
        return name if count > 0 else f"-{name}"
    return f"{float(count)!r}*{name}"  # CPython multiplies float by float much faster than by int


def _species_of(metal: str) -> list[tuple[int, Mapping[str, int], int]]:
    return [(place, row.of, row.charge) for place, row in enumerate(SPECIES) if metal in row.of]


def _moved(metal: str, touched: set[str]) -> set[str]:
    """Return the unknowns that change what stays dissolved of a metal beside its own hydroxide."""
    return touched | {"H"} if metal in _HYDROXIDE else set()


class _Dialect(NamedTuple):
    """How a choice is written; a call for each would cost floats more than all that they choose from."""

    pick: str  # of test, yes, no
    least: str  # of two


_FLOATS: Final = _Dialect("({1} if {0} else {2})", "({1} if {1} < {0} else {0})")
_ARRAYS: Final = _Dialect("where({0}, {1}, {2})", "minimum({0}, {1})")
_OFFSET: Final = len(SPECIES)
_CONSTANTS: Final = ", ".join(f"k{place}" for place in range(_OFFSET + len(HYDROXIDES) + len(SOLIDS)))


def _write_balances(dialect: _Dialect) -> str:
    """Return the source of `balances` or `balances_many`."""
    offset, pick, least = _OFFSET, dialect.pick.format, dialect.least.format
    lines = [
        "def balances(h, s, a, f, total, solid, ahead, back, strong, surface, shift, gamma, K):",
        f"    {_CONSTANTS} = K",
        "    o = 1.0/h",
        "    proton = h/gamma",
        *_powers(),
    ]
    for metal in FREE:
        lines.append(f"    t_{metal} = total[{PLACE[metal]}]")
    # free ion and sums of every metal: u_* are the species per free ion
    derivs: dict[str, set[str]] = {}
    for metal in FREE:
        rows = _species_of(metal)
        label = metal
        for place, of, _ in rows:
            lines.append(f"    u{place} = {_product(f'k{place}', of)}")
        lines.append(f"    d_{label} = 1.0 + {_sum([f'u{place}' for place, _, _ in rows])}")
        touched = {name for _, of, _ in rows for name in of if name in _UNKNOWNS}
        derivs[metal] = touched
        for name in _UNKNOWNS:
            if name in touched:
                lines.append(f"    n_{label}_{name} = {_sum([_times(of[name], f'u{place}') for place, of, _ in rows if name in of])}")
        charge = CHARGE[metal]
        lines.append(f"    q_{label} = {charge:.1f} + {_sum([_times(z, f'u{place}') for place, _, z in rows if z])}")
        lines.append(f"    i_{label} = 1.0/d_{label}")
        lines += [f"    g_{label}_{name} = n_{label}_{name}*i_{label}" for name in _UNKNOWNS if name in touched]  # d ln d / d ln(unknown)
    # what stays dissolved, and its derivatives by the logarithms of the unknowns
    for metal in _TOGETHER:
        j = _HYDROXIDE[metal]
        lines += [f"    cap_{metal} = k{offset + j}*h2*d_{metal}", f"    w_{metal} = t_{metal} + solid[{j}]"]
    lines.append(f"    x = mixed({', '.join(f'w_{metal}, cap_{metal}' for metal in _TOGETHER)})")
    lines.append(f"    on = {pick('x > 0.0', '1.0', '0.0')}")
    lines += [f"    e_{metal} = w_{metal}/(cap_{metal} + x + 1e-300)**2" for metal in _TOGETHER]
    lines.append(f"    e_sum = {_sum([f'e_{metal}' for metal in _TOGETHER])} + 1e-300")
    shared = [name for name in _UNKNOWNS if name == "H" or any(name in derivs[metal] for metal in _TOGETHER)]
    for name in shared:
        for metal in _TOGETHER:
            terms = ["2.0"] if name == "H" else []
            terms += [f"g_{metal}_{name}"] if name in derivs[metal] else []
            lines.append(f"    c_{metal}_{name} = cap_{metal}*({_sum(terms)})")
        lines.append(f"    x_{name} = -on*({_sum([f'e_{metal}*c_{metal}_{name}' for metal in _TOGETHER])})/e_sum")
    for metal in _TOGETHER:
        j = _HYDROXIDE[metal]
        lines += [
            f"    y = w_{metal}*cap_{metal}/(cap_{metal} + x + 1e-300)",
            f"    y = {pick('x > 0.0', 'y', f'w_{metal}')}",
            f"    r = {pick(f'y < t_{metal}', f'ahead[{j}]', f'back[{j}]')}",
            f"    l_{metal} = t_{metal} + r*(y - t_{metal})",
            f"    r = r*on*e_{metal}",
        ]
        for name in shared:
            lines.append(f"    l_{metal}_{name} = r*(x*c_{metal}_{name} - cap_{metal}*x_{name})")
    for solid in HYDROXIDES:
        metal = solid.metal
        if metal in _TOGETHER:
            continue
        j = _HYDROXIDE[metal]
        z = -solid.of["H"]
        lines += [
            f"    cap = k{offset + j}*{_power('h', z)}*d_{metal}",
            f"    w = t_{metal} + solid[{j}]",
            f"    y = {least('w', 'cap')}",
            f"    r = {pick(f'y < t_{metal}', f'ahead[{j}]', f'back[{j}]')}",
            f"    l_{metal} = t_{metal} + r*(y - t_{metal})",
            f"    r = {pick('cap < w', 'r*cap', '0.0')}",
        ]
        for name in _UNKNOWNS:
            terms = [f"{float(z)}"] if name == "H" else []
            terms += [f"g_{metal}_{name}"] if name in derivs[metal] else []
            if terms:
                lines.append(f"    l_{metal}_{name} = r*({_sum(terms)})")
    # the ligands' own species and water
    alone = [(place, row.of, row.charge) for place, row in enumerate(SPECIES) if not any(metal in row.of for metal in FREE)]
    for place, of, _ in alone:
        lines.append(f"    v{place} = {_product(f'k{place}', of)}")
    free = {"S": "s", "N": "a", "F": "f", "H": "proton"}
    # residuals
    for number, name in enumerate(_UNKNOWNS):
        if name == "H":
            terms = ["proton", "strong", "-2.0*s", "-f", "shift"]
            terms += [_times(z, f"v{place}") for place, _, z in alone if z]
        else:
            terms = [free[name]] + [_times(of[name], f"v{place}") for place, of, _ in alone if name in of]
        for metal in FREE:
            if name == "H":
                terms.append(f"m_{metal}*q_{metal}")
            elif name in derivs[metal]:
                terms.append(f"m_{metal}*n_{metal}_{name}")
        if number == 0:
            for metal in FREE:
                left = f"l_{metal}" if metal in _HYDROXIDE else f"t_{metal}"
                lines.append(f"    m_{metal} = {left}*i_{metal}")
        if name == "H":
            lines.append(f"    r0 = {_sum(terms)}")
        else:  # the balance in logarithms: nearly linear in those of the unknowns, even far away
            lines += [f"    y{number} = {_sum(terms)}", f"    r{number} = y{number}*log(y{number}/total[{PLACE[name]}])"]
    # how the free ion changes with the unknowns: d m / d ln(unknown)
    moves: dict[str, list[str]] = {}
    for metal in FREE:
        moves[metal] = []
        for name in _UNKNOWNS:
            own = f"l_{metal}_{name}" if name in (shared if metal in _TOGETHER else _moved(metal, derivs[metal])) else ""
            dilutes = f"m_{metal}*g_{metal}_{name}" if name in derivs[metal] else ""
            if own or dilutes:
                moves[metal].append(name)
                gain = f"{own}*i_{metal}" if own else ""
                lines.append(f"    p_{metal}_{name} = {gain}{' - ' if dilutes else ''}{dilutes}")
    # Jacobian: d r_i / d ln(unknown_j)
    for i, row_name in enumerate(_UNKNOWNS):
        for j, name in enumerate(_UNKNOWNS):
            terms = []
            if row_name == "H":
                if name == "H":
                    terms += ["proton", "surface"]
                elif name in ("S", "F"):
                    terms.append("-2.0*s" if name == "S" else "-f")
                terms += [_times(z * of[name], f"v{place}") for place, of, z in alone if z and name in of]
            else:
                if row_name == name:
                    terms.append(free[name])
                terms += [_times(of[row_name] * of[name], f"v{place}") for place, of, _ in alone if row_name in of and name in of]
            for metal in FREE:
                rows = _species_of(metal)
                weights = [(place, (z if row_name == "H" else of.get(row_name, 0)), of.get(name, 0)) for place, of, z in rows]
                second = [_times(w * c, f"u{place}") for place, w, c in weights if w * c]
                first = f"q_{metal}" if row_name == "H" else f"n_{metal}_{row_name}" if row_name in derivs[metal] else ""
                if not first:
                    continue
                if second:
                    terms.append(f"m_{metal}*({_sum(second)})")
                if name in moves[metal]:
                    terms.append(f"p_{metal}_{name}*{first}")
            lines.append(f"    j{i}{j} = {_sum(terms)}")
    lines.append("    return (r0, r1, r2, r3), (" + ", ".join(f"j{i}{j}" for i in range(4) for j in range(4)) + "), (")
    lines.append("        " + ", ".join(f"l_{solid.metal}" for solid in HYDROXIDES) + ",), (")
    lines.append("        " + ", ".join(f"m_{metal}" for metal in FREE) + ",), (y1, y2, y3)")
    return "\n".join(lines) + "\n"


def _write_census() -> str:
    """Return the source of `census`."""
    lines = [
        "def census(h, s, a, f, free, chloride, gamma, K):",
        f"    {_CONSTANTS} = K",
        f"    {', '.join(f'm_{metal}' for metal in (*_METALS, 'C', 'P'))} = free",
        "    o = 1.0/h",
        *_powers(),
    ]
    ionic = ["h/gamma", "4.0*s", "f", "chloride"] + [_times(CHARGE[metal] ** 2, f"m_{metal}") for metal in FREE]
    whole = ["h/gamma", "s", "a", "f", "chloride"] + [f"m_{metal}" for metal in FREE]
    heat = []
    for place, row in enumerate(SPECIES):
        metal = next((name for name in row.of if name in FREE), "")
        lines.append(f"    c{place} = {_product(f'k{place}', row.of)}" + (f"*m_{metal}" if metal else ""))
        if row.charge:
            ionic.append(_times(row.charge**2, f"c{place}"))
        whole.append(f"c{place}")
        if row.heat:
            heat.append(f"{row.heat!r}*c{place}")
    lines.append(f"    return 0.5*({_sum(ionic)}), {_sum(whole)}, {_sum(heat)}")
    return "\n".join(lines) + "\n"


def _mixed(t1: float, c1: float, t2: float, c2: float, t3: float, c3: float) -> float:
    """Return the moles of an ideal solid solution: sum of t / (c + x) = 1, or 0 where it does not form. Newton on the inverse."""
    x = t1 + t2 + t3
    if x <= 0.0 or t1 / (c1 + 1e-300) + t2 / (c2 + 1e-300) + t3 / (c3 + 1e-300) <= 1.0:
        return 0.0
    for _ in range(30):
        a, b, c = c1 + x, c2 + x, c3 + x
        p = t1 / a + t2 / b + t3 / c
        move = (p - 1.0) * p / (t1 / (a * a) + t2 / (b * b) + t3 / (c * c))
        x = max(x + move, 0.0)
        if -1e-13 * x < move < 1e-13 * x:
            break
    return x


def _mixed_many(t1: FloatArray, c1: FloatArray, t2: FloatArray, c2: FloatArray, t3: FloatArray, c3: FloatArray) -> FloatArray:
    c1, c2, c3 = c1 + 1e-300, c2 + 1e-300, c3 + 1e-300
    forms = t1 / c1 + t2 / c2 + t3 / c3 > 1.0
    x = t1 + t2 + t3
    for _ in range(6):
        a, b, c = c1 + x, c2 + x, c3 + x
        p = t1 / a + t2 / b + t3 / c
        x = np.maximum(x + (p - 1.0) * p / (t1 / (a * a) + t2 / (b * b) + t3 / (c * c) + 1e-300), 0.0)
    out: FloatArray = np.where(forms, x, 0.0)
    return out


def _made(source: str, **known: Any) -> Callable[..., Any]:
    """Return the one function of `source`, which may use what is `known`."""
    space = dict(known)
    exec(compile(source, "<balances>", "exec"), space)  # our own table, written once at import
    made: Callable[..., Any] = space[source[4 : source.index("(")]]
    return made


balances: Final = _made(_write_balances(_FLOATS), mixed=_mixed, log=math.log)
balances_many: Final = _made(_write_balances(_ARRAYS), mixed=_mixed_many, log=np.log, where=np.where, minimum=np.minimum)
census: Final = _made(_write_census())
