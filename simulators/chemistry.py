"""Aqueous equilibria: pH by electroneutrality, with hydroxides that precipitate while it is solved.

log K and heats from the table of the design basis (ammines: van Bommel and Dahn 2009); what it does not give, and how far that was
checked, is listed in docs/explanation/physics.md. Davies activity coefficients, ionic strength capped at 4.
Concentrations in mol/L of liquor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Acid", "Alkaline", "Constants", "constants"]

_LN10 = math.log(10.0)
_R = 8.314e-3  # [kJ/mol/K]

# name: log K at 25 degC, heat [kJ/mol], power of gamma(1) in the conditional constant; activities of H+, concentrations of all else
_TABLE: dict[str, tuple[float, float, float]] = {
    "kw": (-13.997, 55.8, -1.0), "nh4": (9.244, -52.0, -1.0), "hso4": (1.99, 22.0, 3.0), "hf": (3.17, 13.0, 1.0),
    "ni_so4": (2.30, 0.0, 8.0), "co_so4": (2.30, 0.0, 8.0), "mn_so4": (2.25, 0.0, 8.0), "cu_so4": (2.31, 0.0, 8.0),
    "na_so4": (0.73, 0.0, 4.0), "li_so4": (0.64, 0.0, 4.0), "nh4_so4": (1.03, 0.0, 4.0),
    "ni_oh": (-9.90, 50.0, 3.0), "co_oh": (-9.70, 50.0, 3.0), "mn_oh": (-10.60, 60.0, 3.0), "cu_oh": (-7.50, 43.0, 3.0),
    "ni_s": (12.77, -96.0, -4.0), "co_s": (13.10, -93.6, -4.0), "mn_s": (15.29, -97.0, -4.0), "cu_s": (8.67, -56.0, -4.0),
    "fe_s": (3.19, -73.0, -9.0), "al_s": (9.35, -102.0, -9.0),
    "al_oh": (-5.0, 48.1, 5.0), "al_oh2": (-10.1, 112.5, 8.0), "al_oh4": (-22.7, 177.0, 8.0),
    "al_so4": (3.5, 9.6, 12.0), "al_so42": (5.0, 13.0, 16.0),
    "fe_oh": (-2.19, 43.5, 5.0), "fe_oh2": (-5.67, 71.5, 8.0), "fe_so4": (4.04, 16.4, 12.0),
    "alf1": (7.0, 4.4, 6.0), "alf2": (12.6, 8.3, 10.0), "alf3": (16.7, 9.1, 12.0), "alf4": (19.4, 9.2, 12.0),
    "cryolite": (-33.84, 38.0, -18.0),
}  # fmt: skip
_NI_NH3 = (2.81, 5.08, 6.85, 8.12, 8.93, 9.08)
_CO_NH3 = (2.10, 3.67, 4.78, 5.53, 5.75, 5.14)
_MN_NH3 = (1.00, 1.54, 1.70, 1.30)
_DH_NH3 = (-14.8, -13.0, -11.0)  # [kJ per mol NH3] Ni; Co [A], Mn [A]


@dataclass(frozen=True, slots=True)
class Constants:
    """Conditional constants at one temperature and ionic strength."""

    k: dict[str, float]
    g: float  # gamma of a charge of one
    ammines: tuple[tuple[float, ...], ...]  # beta of Ni, Co, Mn


_cache: dict[tuple[int, int], Constants] = {}


def constants(t: float, ionic: float) -> Constants:
    """Return the constants at `t` [degC] and ionic strength `ionic` [mol/L], kept in steps of 0.05 K and 0.0005 in log gamma."""
    i = min(max(ionic, 0.0), 4.0)
    root = math.sqrt(i)
    lg = -(0.509 + 0.001 * (t - 25.0)) * (root / (1.0 + root) - 0.3 * i)
    key = (round(t * 20.0), round(lg * 2000.0))
    found = _cache.get(key)
    if found is None:
        if len(_cache) > 5000:
            _cache.clear()
        t, lg = key[0] / 20.0, key[1] / 2000.0
        turn = (1.0 / 298.15 - 1.0 / (t + 273.15)) / (_R * _LN10)
        k = {name: 10.0 ** (log + heat * turn + power * lg) for name, (log, heat, power) in _TABLE.items()}
        ammines = tuple(
            tuple(10.0 ** (log + (n + 1) * heat * turn) for n, log in enumerate(logs))
            for logs, heat in zip((_NI_NH3, _CO_NH3, _MN_NH3), _DH_NH3, strict=True)
        )
        found = _cache[key] = Constants(k, 10.0**lg, ammines)
    return found


@dataclass(slots=True)
class _Root:
    """A warm-started root of a monotone falling charge(pH): secant steps inside a bracket."""

    ph: float = 7.0
    slope: float = -1.0

    def find(self, charge: object) -> float:
        """Return the pH between -1.5 and 14.5 where charge is zero."""
        assert callable(charge)
        low, high = -1.5, 14.5  # charge(low) > 0 > charge(high)
        x = min(max(self.ph, low), high)
        y = charge(x)
        slope = self.slope
        for _ in range(60):
            if y > 0.0:
                low = x
            else:
                high = x
            new = x - y / slope if slope < 0.0 else 0.5 * (low + high)
            if not low < new < high:
                new = 0.5 * (low + high)
            elif abs(new - x) > 1.0:
                new = x + math.copysign(1.0, new - x)
            move = new - x
            if abs(move) < 2e-6 or high - low < 1e-9:
                x = new
                break
            before = y
            x, y = new, charge(new)
            if y == 0.0:
                break
            slope = (y - before) / move
        self.ph = x
        if slope < 0.0:
            self.slope = slope
        return x


@dataclass(slots=True)
class Acid:
    """pH of the leach and purification liquors: Ni, Co, Mn, Cu, Al, Fe(III) with hydroxides, bisulfate, HF and the fluorides of Al."""

    root: _Root = field(default_factory=lambda: _Root(2.0, -0.01))
    ionic: float = 1.0
    pairs: float = 30.0  # sulfate bound in pairs per free sulfate
    f: float = 1e-6  # free fluoride [mol/L]
    so4: float = 0.01  # free sulfate [mol/L]
    al: float = 0.0  # free Al3+ [mol/L]
    ph: float = 7.0
    cryolite: float = -9.0  # log of ion product over solubility product

    def solve(
        self, t: float, strong: float, cations: float, sulfate: float, sodium: float, lithium: float, fluoride: float,
        metals: list[float], solids: list[float], two: float, three: float, back: float, surface: float,
    ) -> list[float]:  # fmt: skip
        """Return what stays dissolved [mol/L] of Ni, Co, Mn, Cu, Al, Fe(III), and set `ph`.

        `strong`: charge of all but those metals [mol/L]; `cations`: concentration of other divalent ones; `metals`, `solids`: dissolved and
        in hydroxides [mol/L]; `two`, `three`: share of the way to equilibrium in this step (0: nothing precipitates), `back`: the same
        for Al and Fe that dissolve; `surface`: protons that
        the hydroxides' surface gives up [mol/L per pH].
        """
        ni, co, mn, cu, al, fe = metals
        sni, sco, smn, scu, sal, sfe = solids
        c = constants(t, self.ionic)
        k, g = c.k, c.g
        kw, hso4, hf = k["kw"], k["hso4"], k["hf"] * self.f
        f = self.f
        fluoro = f * (k["alf1"] + f * (k["alf2"] + f * (k["alf3"] + f * k["alf4"])))
        rows = (
            (ni, sni, k["ni_so4"], k["ni_oh"], k["ni_s"]),
            (co, sco, k["co_so4"], k["co_oh"], k["co_s"]),
            (mn, smn, k["mn_so4"], k["mn_oh"], k["mn_s"]),
            (cu, scu, k["cu_so4"], k["cu_oh"], k["cu_s"]),
        )
        a1, a2, a4, as1, as2, asol = k["al_oh"], k["al_oh2"], k["al_oh4"], k["al_so4"], k["al_so42"], k["al_s"]
        f1, f2, fs1, fsol = k["fe_oh"], k["fe_oh2"], k["fe_so4"], k["fe_s"]
        pairs = 1.0 + self.pairs
        ig = 1.0 / g
        dal = dfe = 0.0
        exp = math.exp

        def charge(ph: float) -> float:
            nonlocal dal, dfe
            ah = exp(-_LN10 * ph)
            s = sulfate / (pairs + hso4 * ah)
            q = strong + ah * ig - kw / ah + ah * (hso4 * s + hf) - surface * (ph - 5.5)
            for total, solid, pair, oh, sol in rows:
                hydro = oh / ah
                d = 1.0 + pair * s + hydro
                left = total
                if two:
                    cap = sol * ah * ah * d
                    if solid or total > cap:
                        left += two * (min(total + solid, cap) - total)
                q += left * (2.0 - hydro / d)
            if al or sal:
                h1, h2, h4 = a1 / ah, a2 / (ah * ah), a4 / (ah * ah * ah * ah)
                dal = 1.0 + h1 + h2 + h4 + s * (as1 + s * as2) + fluoro
                left = al
                if three:
                    cap = asol * ah * ah * ah * dal
                    if sal or al > cap:
                        left += (three if cap < al else back) * (min(al + sal, cap) - al)
                q += left * (3.0 - (h1 + 2.0 * h2 + 4.0 * h4) / dal)
            if fe or sfe:
                h1, h2 = f1 / ah, f2 / (ah * ah)
                dfe = 1.0 + h1 + h2 + s * fs1
                left = fe
                if three:
                    cap = fsol * ah * ah * ah * dfe
                    if sfe or fe > cap:
                        left += (three if cap < fe else back) * (min(fe + sfe, cap) - fe)
                q += left * (3.0 - (h1 + 2.0 * h2) / dfe)
            return q

        ph = self.ph = self.root.find(charge)
        ah = exp(-_LN10 * ph)
        s = self.so4 = sulfate / (pairs + hso4 * ah)
        out = []
        bound, free = 0.0, cations
        for total, solid, pair, oh, sol in rows:
            d = 1.0 + pair * s + oh / ah
            cap = sol * ah * ah * d
            left = total + two * (min(total + solid, cap) - total) if two and (solid or total > cap) else total
            out.append(left)
            bound += pair * left / d
            free += left / d
        left_al, left_fe = al, fe
        if three:
            cap = asol * ah * ah * ah * dal
            if sal or al > cap:
                left_al += (three if cap < al else back) * (min(al + sal, cap) - al)
            cap = fsol * ah * ah * ah * dfe
            if sfe or fe > cap:
                left_fe += (three if cap < fe else back) * (min(fe + sfe, cap) - fe)
        out += [left_al, left_fe]
        other = k["ni_so4"] * cations / (1.0 + k["ni_so4"] * s)  # Mg, Ca, Zn and Fe(II) pair like Ni
        pairs_now = bound + other + k["na_so4"] * sodium / (1.0 + k["na_so4"] * s) + k["li_so4"] * lithium / (1.0 + k["li_so4"] * s)
        self.pairs += 0.5 * (pairs_now - self.pairs)
        ionic = 0.5 * (sodium + lithium + ah * ig * (1.0 + hso4 * g * s) + 4.0 * free + 4.0 * s)
        self.ionic += 0.5 * (min(ionic, 6.0) - self.ionic)
        bare = dal - fluoro if dal else 1.0
        self._fluoride(k, ah, bare, left_al, fluoride, sodium)
        return out

    def _fluoride(self, k: dict[str, float], ah: float, bare: float, al: float, fluoride: float, sodium: float) -> None:
        """Set free fluoride, free Al and the saturation of cryolite from the dissolved totals; Newton in the logarithm."""
        if fluoride < 1e-12:
            self.f, self.al, self.cryolite = 1e-12, al / bare, -9.0
            return
        proton = 1.0 + k["hf"] * ah
        b1, b2, b3, b4 = k["alf1"], k["alf2"], k["alf3"], k["alf4"]
        low, high = 1e-16, fluoride / proton
        f = min(max(self.f, low), high)
        for _ in range(40):
            t1, t2, t3, t4 = b1 * f, b2 * f * f, b3 * f**3, b4 * f**4
            d = bare + t1 + t2 + t3 + t4
            nbar = (t1 + 2 * t2 + 3 * t3 + 4 * t4) / d
            err = f * proton + al * nbar - fluoride
            if err > 0.0:
                high = f
            else:
                low = f
            grow = f * proton + al * ((t1 + 4 * t2 + 9 * t3 + 16 * t4) / d - nbar * nbar)
            new = f * math.exp(max(min(-err / grow, 2.0), -2.0)) if grow > 0 else math.sqrt(low * high)
            if not low < new < high:
                new = math.sqrt(low * high)
            if abs(new - f) < 1e-4 * f:
                f = new
                break
            f = new
        self.f = f
        t = bare + f * (b1 + f * (b2 + f * (b3 + f * b4)))
        self.al = al / t
        product = max(sodium, 1e-9) ** 3 * max(self.al, 1e-30) * f**6
        self.cryolite = math.log10(max(product, 1e-60) / k["cryolite"])


@dataclass(slots=True)
class Alkaline:
    """pH of the precipitation reactor: Ni, Co, Mn as ammines and hydroxide solid solution; ammonia and its ion."""

    root: _Root = field(default_factory=lambda: _Root(10.0, -0.1))
    ionic: float = 0.5
    pairs: float = 1.0
    bound: float = 0.0  # ammonia in ammines per free ammonia
    so4: float = 0.1
    nh3: float = 0.1  # free [mol/L]
    ph: float = 7.0

    def solve(
        self, t: float, strong: float, cations: float, sulfate: float, sodium: float, lithium: float, ammonia: float,
        totals: list[float], solid: list[float],
    ) -> list[float]:  # fmt: skip
        """Return what stays dissolved [mol/L] of Ni, Co, Mn at equilibrium with a solid of the mole fractions `solid`, and set `ph`."""
        c = constants(t, self.ionic)
        k, g = c.k, c.g
        kw, nh4, hso4 = k["kw"], k["nh4"], k["hso4"]
        pairs = 1.0 + self.pairs
        ig = 1.0 / g
        exp = math.exp
        n1, n2, n3, n4, n5, n6 = c.ammines[0]
        c1, c2, c3, c4, c5, c6 = c.ammines[1]
        m1, m2, m3, m4 = c.ammines[2]
        tni, tco, tmn = totals
        pn, pc, pm = k["ni_so4"], k["co_so4"], k["mn_so4"]
        on, oc, om = k["ni_oh"], k["co_oh"], k["mn_oh"]
        xn, xc, xm = k["ni_s"] * solid[0], k["co_s"] * solid[1], k["mn_s"] * solid[2]
        bound = self.bound
        out = [0.0, 0.0, 0.0]
        dn = dc = dm = 1.0

        def charge(ph: float) -> float:
            nonlocal dn, dc, dm
            ah = exp(-_LN10 * ph)
            a2 = ah * ah
            a = ammonia / (1.0 + ah * nh4 + bound)
            s = sulfate / (pairs + hso4 * ah)
            dn = 1.0 + pn * s + on / ah + a * (n1 + a * (n2 + a * (n3 + a * (n4 + a * (n5 + a * n6)))))
            dc = 1.0 + pc * s + oc / ah + a * (c1 + a * (c2 + a * (c3 + a * (c4 + a * (c5 + a * c6)))))
            dm = 1.0 + pm * s + om / ah + a * (m1 + a * (m2 + a * (m3 + a * m4)))
            ni, co, mn = min(tni, xn * a2 * dn), min(tco, xc * a2 * dc), min(tmn, xm * a2 * dm)
            out[0], out[1], out[2] = ni, co, mn
            metals = ni * (2.0 - on / ah / dn) + co * (2.0 - oc / ah / dc) + mn * (2.0 - om / ah / dm)
            return strong + ah * ig - kw / ah + ah * (a * nh4 + hso4 * s) + metals

        for _ in range(4):
            ph = self.root.find(charge)
            charge(ph)
            ah = exp(-_LN10 * ph)
            a = ammonia / (1.0 + ah * nh4 + bound)
            fn, fc, fm = out[0] / dn, out[1] / dc, out[2] / dm
            now = (
                fn * (n1 + a * (2 * n2 + a * (3 * n3 + a * (4 * n4 + a * (5 * n5 + a * 6 * n6)))))
                + fc * (c1 + a * (2 * c2 + a * (3 * c3 + a * (4 * c4 + a * (5 * c5 + a * 6 * c6)))))
                + fm * (m1 + a * (2 * m2 + a * (3 * m3 + a * 4 * m4)))
            )
            new = 0.5 * (now + bound)
            near = abs(new - bound) < 0.003 * (1.0 + bound)
            bound = new
            if near:
                break
        self.bound, self.ph, self.nh3 = bound, ph, a
        s = self.so4 = sulfate / (pairs + hso4 * ah)
        pairs_now = (
            pn * fn + pc * fc + pm * fm + pn * cations / (1.0 + pn * s) + k["nh4_so4"] * a * ah * nh4
            + k["na_so4"] * sodium / (1.0 + k["na_so4"] * s) + k["li_so4"] * lithium / (1.0 + k["li_so4"] * s)
        )  # fmt: skip
        self.pairs += 0.5 * (pairs_now - self.pairs)
        ionic = 0.5 * (sodium + lithium + a * ah * nh4 + kw / ah + 4.0 * (s + cations + sum(out)))
        self.ionic += 0.5 * (min(ionic, 6.0) - self.ionic)
        return out
