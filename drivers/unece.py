"""Engineering units as OPC UA names them: common codes of UNECE recommendation 20, and the numbers made of them (OPC UA part 8, 5.6.3).

>>> common_code("degC"), unit_id("degC")
('CEL', 4408652)
>>> common_code("BV"), unit_id("BV")  # bed volumes have no code
('', -1)
>>> eu_of(4408652), eu_of(-1)
('degC', None)
"""

from __future__ import annotations

from typing import Final

__all__ = ["NAMESPACE", "code_of", "common_code", "eu_of", "unit_id"]

NAMESPACE: Final = "http://www.opcfoundation.org/UA/units/un/cefact"

_CODES: Final = {
    "": "C62", "1": "C62", "%": "P1", "ppm": "59", "wt%": "60", "mg/kg": "NA", "g/kg": "GK",
    "pH": "Q30", "degC": "CEL", "K": "KEL",
    "ms": "C26", "s": "SEC", "min": "MIN", "h": "HUR", "d": "DAY",
    "mg": "MGM", "g": "GRM", "kg": "KGM", "t": "TNE", "kg/h": "E93", "kg/min": "F31", "kg/s": "KGS", "t/h": "E18",
    "mol": "C34", "kmol": "B45", "mol/L": "C38", "mol/m3": "C36", "g/L": "GL", "mg/L": "M1",
    "kg/m3": "KMQ", "g/cm3": "23", "kg/L": "B35",
    "um": "4H", "mm": "MMT", "cm": "CMT", "m": "MTR", "m2": "MTK",
    "mL": "MLT", "cm3": "CMQ", "L": "LTR", "m3": "MTQ", "L/h": "E32", "L/min": "L2", "m3/h": "MQH", "Nm3": "NM3", "Nm3/h": "Q40",
    "Pa": "PAL", "kPa": "KPA", "MPa": "MPA", "mbar": "MBR", "bar": "BAR",
    "mV": "2Z", "V": "VLT", "mA": "4K", "A": "AMP", "uS/cm": "G42", "mS/cm": "H61", "S/m": "D10",
    "J": "JOU", "kJ": "KJO", "MJ": "3B", "kWh": "KWH", "W": "WTT", "kW": "KWT", "Hz": "HTZ", "rpm": "RPM",
}  # fmt: skip


def common_code(eu: str) -> str:
    """Return the common code of an eu; empty when UNECE has none for it."""
    return _CODES.get(eu, "")


def unit_id(eu: str) -> int:
    """Return the UnitId of an eu: the characters of its code as the bytes of a big-endian integer; -1 without a code."""
    return int.from_bytes(common_code(eu).encode("ascii"), "big") if common_code(eu) else -1


def eu_of(number: int) -> str | None:
    """Return the eu of a UnitId; None when it is none of ours."""
    return next((eu for eu in _CODES if unit_id(eu) == number), None)


def code_of(unit: int) -> str:
    """Return the common code that a UnitId is made of.

    >>> code_of(4408652)
    'CEL'
    """
    return unit.to_bytes(4, "big").lstrip(b"\0").decode("ascii", "replace") if unit > 0 else ""
