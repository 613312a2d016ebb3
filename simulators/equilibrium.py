"""Aqueous equilibrium of a liquor: pH by electroneutrality, complexes, and the hydroxides that precipitate while it is solved.

Unknowns are the activity of H+ and the free sulfate, ammonia and fluoride; every metal follows from them, since its species are linear
in its free ion. Newton on the four balances, with the Jacobian exact. `balances` is the table of constants as straight-line code,
for floats (one tank, fast in CPython) as well as arrays (many tanks at once). Davies activity coefficients,
ionic strength capped at 4 mol/kg; water activity 1 - 0.017 sum(m). All concentrations are molal [mol/kg of water].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from drivers.tags import FloatArray
from simulators.balances import FREE, PLACE, balances, balances_many, census
from simulators.components import NAMES, WATER
from simulators.constants import HYDROXIDES, MASTERS, ROWS, SOLIDS, SPECIES

__all__ = ["DISSOLVED", "Equilibrium", "Many", "Table", "davies", "molal"]

DISSOLVED: Final = MASTERS  # order of the totals that a solver takes [mol/kg of water]
_TINY: Final = 1e-12  # [mol/kg] total of a ligand that is not there: keeps its logarithm finite
_LN10: Final = math.log(10.0)
_LOW, _HIGH = -3.0, 16.0  # pH between which every liquor is looked for
_LEAST_H, _MOST_H = 10.0**-_HIGH, 10.0**-_LOW
_COLD, _HOT = -40.0, 350.0  # [degC] beyond which constants stay as they are: no liquor is there, but an absurd input must not overflow


_LIGANDS: Final = (PLACE["S"], PLACE["N"], PLACE["F"])
_CHLORIDE: Final = PLACE["Cl"]
_FREE_AT: Final = {name: place for place, name in enumerate(FREE)}
# of each of `SOLIDS`: the place of its constant, and how many of each master ion it has
_MADE_OF: Final = {
    solid.name: (place, tuple((of, count) for of, count in solid.of.items() if of != "w"))
    for place, solid in enumerate(SOLIDS, len(SPECIES) + len(HYDROXIDES))
}
_AT: Final = np.array([NAMES.index(name) for name in DISSOLVED])


def molal(inventory: FloatArray) -> list[float]:
    """Return the totals [mol/kg of water] that a solver takes, of an inventory [mol; kg of water] of shape (NC,)."""
    out: list[float] = (inventory[_AT] / inventory[WATER]).tolist()
    return out


def davies(t: float, ionic: float) -> float:
    """Return log10 gamma of a charge of one at `t` [degC] and ionic strength [mol/kg]; A = 0.509 + 0.001 (t - 25)."""
    i = min(max(ionic, 0.0), 4.0)
    root = math.sqrt(i)
    return -(0.509 + 0.001 * (t - 25.0)) * (root / (1.0 + root) - 0.3 * i)


class Table:
    """The constants of one plant instance. `shifts`: what is added to log K, by the name of species or solid."""

    def __init__(self, shifts: Mapping[str, float] | None = None) -> None:
        given = shifts or {}
        if unknown := set(given) - {row.name for row in ROWS}:
            raise ValueError(f"shifts: no species or solid {', '.join(sorted(unknown))}")
        self._log = np.array([row.log_k + given.get(row.name, 0.0) for row in ROWS]) * _LN10
        self._heat = np.array([row.heat for row in ROWS])
        self._power = np.array([float(row.power) for row in ROWS]) * _LN10
        # solids are written as dissolution: water is on the right there, so that it divides
        self._water = np.array([float(row.of.get("w", 0)) * (1.0 if place < len(SPECIES) else -1.0) for place, row in enumerate(ROWS)])
        self._at: tuple[float, FloatArray] = (math.nan, self._log)

    def conditional(self, t: float, log_gamma: float, log_water: float) -> list[float]:
        """Return K of all species, hydroxides and solids at `t` [degC], in concentrations and the activity of H+; `log_water` is natural."""
        if self._at[0] != t:
            turn = (1.0 / 298.15 - 1.0 / (t + 273.15)) / 8.314e-3
            self._at = (t, self._log + self._heat * turn)
        out: list[float] = np.exp(self._at[1] + self._power * log_gamma + self._water * log_water).tolist()
        return out

    def conditional_many(self, t: FloatArray, log_gamma: FloatArray, log_water: FloatArray) -> FloatArray:
        """Return the same for arrays of shape (n,); shape (K, n)."""
        turn = (1.0 / 298.15 - 1.0 / (t + 273.15)) / 8.314e-3
        out: FloatArray = np.exp(
            self._log[:, None] + self._heat[:, None] * turn + self._power[:, None] * log_gamma + self._water[:, None] * log_water
        )
        return out


def _eliminate(r: Sequence[Any], j: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Return x of J x = -r, 4 by 4, by elimination from ammonia and fluoride upwards: H and sulfate keep the strongest diagonals last."""
    a00, a01, a02, a03, a10, a11, a12, a13, a20, a21, a22, a23, a30, a31, a32, a33 = j
    r0, r1, r2, r3 = r
    b0, b1, b2, b3 = -r0, -r1, -r2, -r3
    q = a03 / a33
    a00, a01, a02, b0 = a00 - q * a30, a01 - q * a31, a02 - q * a32, b0 - q * b3
    q = a13 / a33
    a10, a11, a12, b1 = a10 - q * a30, a11 - q * a31, a12 - q * a32, b1 - q * b3
    q = a23 / a33
    a20, a21, a22, b2 = a20 - q * a30, a21 - q * a31, a22 - q * a32, b2 - q * b3
    q = a02 / a22
    a00, a01, b0 = a00 - q * a20, a01 - q * a21, b0 - q * b2
    q = a12 / a22
    a10, a11, b1 = a10 - q * a20, a11 - q * a21, b1 - q * b2
    q = a01 / a11
    x0 = (b0 - q * b1) / (a00 - q * a10)
    x1 = (b1 - a10 * x0) / a11
    x2 = (b2 - a20 * x0 - a21 * x1) / a22
    x3 = (b3 - a30 * x0 - a31 * x1 - a32 * x2) / a33
    return x0, x1, x2, x3


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


_ALL = (1.0,) * len(HYDROXIDES)
_NONE = (0.0,) * len(HYDROXIDES)


@dataclass(slots=True)
class _State:
    """What a solve leaves for the next one."""

    h: float = 1e-7
    s: float = 0.1
    a: float = 1e-12
    f: float = 1e-12
    log_gamma: float = -0.2
    log_water: float = -0.01
    share: float = 0.6  # of the way that log gamma is moved in each round


class Equilibrium:
    """One liquor, warm-started from its last solution. Results stand in the attributes after `solve`.

    ``ph`` at the liquor's own temperature; ``left`` [mol/kg] dissolved of each hydroxide's metal in the order of `HYDROXIDES`; ``ammonia``
    free NH3 [mol/kg]; ``heat`` [kJ per kg of water] of forming the species from the master ions; ``ionic`` [mol/kg].
    """

    def __init__(self, table: Table | None = None) -> None:
        self.table = table or Table()
        self.state = _State()
        self._free: tuple[float, ...] = ()
        self._k: list[float] = []
        self._totals: list[float] = []
        self.ph = 7.0
        self.left: tuple[float, ...] = _NONE
        self.ammonia = self.heat = self.ionic = 0.0

    def solve(
        self,
        t: float,
        totals: Sequence[float],
        solids: Sequence[float] = _NONE,
        *,
        ahead: Sequence[float] = _ALL,
        back: Sequence[float] = _ALL,
        surface: float = 0.0,
    ) -> float:
        """Return the pH of a liquor with dissolved `totals` [mol/kg] in the order of `DISSOLVED` at `t` [degC].

        `solids` [mol/kg of water] in the order of `HYDROXIDES`, Ni, Co and Mn of them as one solid solution. `ahead`, `back`: shares
        of the way to equilibrium that precipitation and dissolution go in this step (1: all of it, 0: none). `surface`: protons
        that the hydroxides' surface gives up [mol/kg per pH above 5.5].
        """
        t = min(max(t, _COLD), _HOT)
        total = [value if value > 0.0 else 0.0 for value in totals]
        for place in _LIGANDS:
            if total[place] < _TINY:
                total[place] = _TINY
        state = self.state
        chloride = total[_CHLORIDE]
        strong = -chloride
        before = 0.0
        for _ in range(40):
            k = self.table.conditional(t, state.log_gamma, state.log_water)
            gamma = 10.0**state.log_gamma
            problem = (total, solids, ahead, back, strong, surface, gamma, k)
            if not (self._newton(*problem) or self._start(*problem)):
                self._search(*problem)
            ionic, whole, heat = census(state.h, state.s, state.a, state.f, self._free, chloride, gamma, k)
            log_gamma = davies(t, ionic)
            log_water = math.log(max(1.0 - 0.017 * whole, 0.3))
            move, drift = log_gamma - state.log_gamma, log_water - state.log_water
            if abs(before) > 1e-6 and abs(before - move) > 1e-12:  # secant: pairs weaken as ions shield each other, which may swing
                state.share = min(max(state.share * before / (before - move), 0.2), 1.5)
            before = move
            state.log_gamma += state.share * move
            state.log_water += drift
            if abs(move) < 1e-5 and abs(drift) < 1e-5:
                break
        self._k, self._totals = k, total
        self.ph = -math.log10(state.h)
        self.ammonia, self.heat, self.ionic = state.a, heat, ionic
        return self.ph

    def _newton(
        self, total: Sequence[float], solids: Sequence[float], ahead: Sequence[float], back: Sequence[float], strong: float, surface: float,
        gamma: float, k: Sequence[float],
    ) -> bool:  # fmt: skip
        """Go to the solution from the last one; return whether it was reached, else the state is as it was."""
        state = self.state
        h, s, a, f = state.h, state.s, state.a, state.f
        slope = surface / _LN10
        for _ in range(25):
            shift = surface * (math.log10(h) + 5.5) if surface else 0.0
            r, j, left, free, _ = balances(h, s, a, f, total, solids, ahead, back, strong, slope, shift, gamma, k)
            try:
                x = _eliminate(r, j)
            except ZeroDivisionError:
                return False
            worst = max(x[0], x[1], x[2], x[3], -x[0], -x[1], -x[2], -x[3])
            if not worst < 1e12:  # false for NaN
                return False
            if worst > 1.0:
                x = tuple(min(max(step, -2.0), 2.0) for step in x)
            h, s, a, f = h * math.exp(x[0]), s * math.exp(x[1]), a * math.exp(x[2]), f * math.exp(x[3])
            if not _LEAST_H < h < _MOST_H:
                return False
            if worst < 1e-6:
                state.h, state.s, state.a, state.f = h, s, a, f
                self.left, self._free = left, free
                return True
        return False

    def _start(self, total: Sequence[float], *problem: Any) -> bool:
        """Try Newton from a sour, a nearly neutral and an alkaline liquor; return whether one of them led to the solution."""
        state = self.state
        for ph in (2.0, 6.5, 10.0, 13.0):
            state.h, state.s, state.a, state.f = 10.0**-ph, 0.3 * total[PLACE["S"]], 0.3 * total[PLACE["N"]], 1e-3 * total[PLACE["F"]]
            if self._newton(total, *problem):
                return True
        return False

    def _search(
        self, total: Sequence[float], solids: Sequence[float], ahead: Sequence[float], back: Sequence[float], strong: float, surface: float,
        gamma: float, k: Sequence[float],
    ) -> None:  # fmt: skip
        """Find pH inside a bracket; at each pH the three ligands by Newton with a search along its line. Always converges: the charge falls
        as pH rises, and at one pH the balances of the ligands are the gradient of a convex function of their logarithms.
        """
        state = self.state
        slope = surface / _LN10
        given = [total[place] for place in _LIGANDS]
        at = [math.log(max(0.3 * amount, _TINY)) for amount in given]

        def charge(ph: float) -> float:
            """Return the charge at `ph` with the ligands in balance."""
            nonlocal at
            h = 10.0**-ph
            shift = -surface * (ph - 5.5)
            r: Sequence[float] = ()
            j: Sequence[float] = ()

            def gaps(at: Sequence[float]) -> list[float]:
                """Return what is too much of each ligand [mol/kg] with the logarithms `at` of their free parts."""
                nonlocal r, j
                r, j, self.left, self._free, found = balances(h, *map(math.exp, at), total, solids, ahead, back, strong, slope, shift, gamma, k)
                return [here - there for here, there in zip(found, given, strict=True)]

            def newton(right: Sequence[float]) -> tuple[list[float], float]:
                """Return the step, at most 2 in any logarithm, and how steeply the convex function goes along it."""
                # with H+ given, its row and column fall out
                x = _eliminate((0.0, *right), (1.0, 0.0, 0.0, 0.0, 0.0, *j[5:8], 0.0, *j[9:12], 0.0, *j[13:16]))[1:]
                most = max(*map(abs, x), 2.0)
                step = [2.0 * part / most for part in x]
                return step, _dot(step, gap)

            gap = gaps(at)
            for _ in range(100):
                if all(abs(part) < 1e-10 * amount for part, amount in zip(gap, given, strict=True)):
                    break
                step, steep = newton(r[1:])
                if not steep < 0.0:  # the logarithms of the balances point uphill here; the balances themselves never do
                    step, steep = newton(gap)
                    if not steep < 0.0:
                        break
                way = 1.0
                there = list(map(sum, zip(at, step, strict=True)))
                gap = gaps(there)
                # too far: Newton alone would swing for ever about the point where a hydroxide has dissolved whole in its complexes
                while (now := _dot(step, gap)) > -0.5 * steep and way > 1e-9:
                    way *= min(max(steep / (steep - now), 0.05), 0.7)
                    there = [here + way * part for here, part in zip(at, step, strict=True)]
                    gap = gaps(there)
                at = there
            return float(r[0])

        low, high = _LOW, _HIGH
        y_low, y_high = charge(low), charge(high)
        if y_low <= 0.0 or y_high >= 0.0:  # more acid or base than any liquor can hold: the end of the scale
            ph = low if y_low <= 0.0 else high
            charge(ph)
        else:
            side = 0
            for turn in range(100):
                # halving first, then false position that halves the weight of an end which stays (Illinois)
                ph = 0.5 * (low + high) if turn < 8 else low + (high - low) * y_low / (y_low - y_high)
                y = charge(ph)
                if y > 0.0:
                    low, y_low = ph, y
                    y_high *= 0.5 if side > 0 and turn > 8 else 1.0
                    side = 1
                else:
                    high, y_high = ph, y
                    y_low *= 0.5 if side < 0 and turn > 8 else 1.0
                    side = -1
                if high - low < 1e-9 or abs(y) < 1e-11:
                    break
        state.h = 10.0**-ph
        state.s, state.a, state.f = map(math.exp, at)

    def saturation(self, name: str) -> float:
        """Return log10 of ion product over solubility product of one of `SOLIDS` after a `solve`."""
        place, made_of = _MADE_OF[name]
        product = sum([count * math.log10(max(self.free(of), 1e-30)) for of, count in made_of])
        return product - math.log10(self._k[place])

    def free(self, name: str) -> float:
        """Return the concentration of a free master ion after a `solve` [mol/kg]."""
        place = _FREE_AT.get(name)
        if place is not None:
            return self._free[place]
        state = self.state
        return {"S": state.s, "N": state.a, "F": state.f, "Cl": self._totals[_CHLORIDE]}[name]


class Many:
    """The same for n liquors at once, at equilibrium with their hydroxides; arrays of shape (n,) and (len(DISSOLVED), n)."""

    def __init__(self, n: int, table: Table | None = None) -> None:
        self.table = table or Table()
        self.n = n
        self._h, self._s = np.full(n, 1e-7), np.full(n, 0.1)
        self._a, self._f = np.full(n, _TINY), np.full(n, _TINY)
        self._log_gamma, self._log_water = np.full(n, -0.2), np.full(n, -0.01)
        self._share = np.full(n, 0.6)
        self._cold = True
        self.left: FloatArray = np.zeros((len(HYDROXIDES), n))

    def solve(self, t: FloatArray, totals: FloatArray, solids: FloatArray | None = None) -> FloatArray:
        """Return pH, shape (n,), of dissolved `totals` [mol/kg] and `solids` [mol/kg], shapes (len(DISSOLVED), n) and (len(HYDROXIDES), n)."""
        t = np.clip(t, _COLD, _HOT)
        total = np.maximum(totals, 0.0)
        for ligand in _LIGANDS:
            total[ligand] = np.maximum(total[ligand], _TINY)
        solid = np.zeros((len(HYDROXIDES), self.n)) if solids is None else solids
        chloride = total[_CHLORIDE]
        left_over = np.arange(self.n) if self._cold else self._rounds(t, total, solid, chloride)
        for place in left_over:  # cold, or too far from the last solution: one by one, with the bracket
            one = Equilibrium(self.table)
            one.solve(float(t[place]), total[:, place].tolist(), solid[:, place].tolist())
            state = one.state
            self._h[place], self._s[place], self._a[place], self._f[place] = state.h, state.s, state.a, state.f
            self._log_gamma[place], self._log_water[place] = state.log_gamma, state.log_water
            self.left[:, place] = one.left
        self._cold = False
        out: FloatArray = -np.log10(self._h)
        return out

    def _rounds(self, t: FloatArray, total: FloatArray, solid: FloatArray, chloride: FloatArray) -> np.ndarray:
        """Do Newton on all; return the places of those that did not arrive."""
        h, s, a, f = self._h.copy(), self._s.copy(), self._a.copy(), self._f.copy()
        done = np.zeros(self.n, dtype=bool)
        before = np.zeros(self.n)
        with np.errstate(all="ignore"):
            for _ in range(12):
                k = self.table.conditional_many(t, self._log_gamma, self._log_water)
                gamma = 10.0**self._log_gamma
                args = (total, solid, _ALL, _ALL, -chloride, 0.0, 0.0, gamma, k)
                r, j, left, free, _ = balances_many(h, s, a, f, *args)
                x = np.stack(np.broadcast_arrays(*_eliminate(r, j)))
                worst = np.abs(x).max(axis=0)
                scale = 1.0 / np.maximum(worst, 1.0)
                h, s, a, f = h * np.exp(scale * x[0]), s * np.exp(scale * x[1]), a * np.exp(scale * x[2]), f * np.exp(scale * x[3])
                ionic, whole, _ = census(h, s, a, f, free, chloride, gamma, k)
                i = np.clip(ionic, 0.0, 4.0)
                root = np.sqrt(i)
                log_gamma = -(0.509 + 0.001 * (t - 25.0)) * (root / (1.0 + root) - 0.3 * i)
                log_water = np.log(np.maximum(1.0 - 0.017 * whole, 0.3))
                move = log_gamma - self._log_gamma
                done = (worst < 1e-4) & (np.abs(move) < 1e-4) & (np.abs(log_water - self._log_water) < 1e-4)  # Newton squares it
                told = (np.abs(before) > 1e-6) & (np.abs(before - move) > 1e-12)
                self._share = np.where(told, np.clip(self._share * before / (before - move), 0.2, 1.5), self._share)
                before = move
                self._log_gamma, self._log_water = self._log_gamma + self._share * move, log_water
                if done.all():
                    break
        good = done & np.isfinite(h)
        for mine, new in ((self._h, h), (self._s, s), (self._a, a), (self._f, f)):
            mine[good] = new[good]
        self._log_gamma[~good], self._log_water[~good] = -0.2, -0.01
        self.left = np.stack(np.broadcast_arrays(*left))
        return np.flatnonzero(~good)
