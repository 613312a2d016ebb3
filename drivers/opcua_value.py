"""Values and names of OPC UA on their way to and from a profile's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from drivers.device import SignalType
from drivers.driver import WriteResult
from drivers.opcua_table import KINDS

__all__ = ["VARIANT", "local_node", "no_to_action", "plain", "portable_node"]

VARIANT: Final[dict[SignalType, ua.VariantType]] = {type_: ua.VariantType(kind) for type_, kind in KINDS.items()}
# by these a server says that it did not begin (part 4, tables of the write and call results, and 7.39.2); after any other bad code it may have
_REFUSALS: Final = frozenset(
    int(getattr(StatusCodes, f"Bad{name}"))
    for name in (
        "ArgumentsMissing", "AttributeIdInvalid", "DataEncodingInvalid", "DataEncodingUnsupported", "DecodingError", "IndexRangeDataMismatch",
        "IndexRangeInvalid", "IndexRangeNoData", "InvalidArgument", "InvalidState", "LocaleNotSupported", "Locked", "MethodInvalid",
        "NodeClassInvalid", "NodeIdInvalid", "NodeIdUnknown", "NotExecutable", "NotImplemented", "NotSupported", "NotWritable", "OutOfRange",
        "RequiresLock", "SecurityModeInsufficient", "StateNotActive", "TooManyArguments", "TypeMismatch", "UserAccessDenied", "WriteNotSupported",
    )
)  # fmt: skip


def no_to_action(code: int) -> tuple[WriteResult, str]:
    """Return what is known of a write or a call that ended with a bad status code, and its name.

    Only the code itself counts, not the information in its lower half. One that is not known to be a refusal, such as a vendor's own, tells
    nothing of what the device did.
    """
    plain_code = code & 0xFFFF0000
    known = ua.StatusCode(ua.UInt32(plain_code)).name
    name = f"0x{code:08X}" if known == "Bad" and plain_code != 0x80000000 else known
    return (WriteResult.REFUSED if plain_code in _REFUSALS else WriteResult.UNKNOWN), name


def plain(value: float, type_: SignalType) -> bool | int | float:
    """Return `value` as what a variant of `type_` carries; raise `ValueError` if it cannot."""
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be written; write a finite number")
    if type_ == "bool":
        if value not in (0.0, 1.0):
            raise ValueError(f"expected 0 or 1 for a bool, got {value:g}")
        return bool(value)
    if type_ == "float64":
        return value
    if type_ == "float32":
        if abs(value) > float(np.finfo(np.float32).max):
            raise ValueError(f"{value:g} does not fit a float32")
        return float(np.float32(value))
    limits = np.iinfo(type_)
    if not limits.min <= round(value) <= limits.max:
        raise ValueError(f"{value:g} does not fit a {type_} ({limits.min} to {limits.max})")
    return round(value)


def local_node(at: str, spaces: Sequence[str]) -> ua.NodeId | None:
    """Return the node id with the namespace index that it has among `spaces` now; None when the server does not have the namespace."""
    uri, _, rest = at.removeprefix("nsu=").partition(";")
    found = next((index for index, space in enumerate(spaces) if uri in (space, _escaped(space))), None)
    return None if found is None else ua.NodeId.from_string(f"ns={found};{rest}")


def portable_node(node: ua.NodeId, spaces: Sequence[str]) -> str:
    """Return a node id as profiles have it, with its namespace's URI; raise `ValueError` when the server names no such namespace."""
    if not 0 <= node.NamespaceIndex < len(spaces):
        raise ValueError(f"the server has no namespace {node.NamespaceIndex}")
    rest = ua.NodeId(node.Identifier, ua.Int16(0), node.NodeIdType).to_string()
    return f"nsu={_escaped(spaces[node.NamespaceIndex])};{rest}"


def _escaped(uri: str) -> str:
    """Return a namespace URI as it stands in a node id (OPC UA part 6, 5.1.12)."""
    return uri.replace("%", "%25").replace(";", "%3B")
