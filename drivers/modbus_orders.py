"""Which orders of bytes and words the identity of a profile tells from the right one. Pure.

A float whose words are exchanged is some other number, and often one inside of the signal's range. Nothing in it says so: only a constant that is
known can, and only one that itself is another number then.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import product
from typing import Final, get_args

from drivers.device import Profile
from drivers.modbus_codec import Way, encode_one, registers_of, table_of
from drivers.modbus_options import ByteOrder, WordOrder

__all__ = ["order_found", "unseen_orders", "widest"]

Order = tuple[ByteOrder, WordOrder]
_ORDERS: Final[tuple[Order, ...]] = tuple(product(get_args(ByteOrder), get_args(WordOrder)))
_BITS: Final = ("coil", "discrete")


def unseen_orders(profile: Profile) -> list[str]:
    """Return the other orders in which values of the profile are other numbers and its identity is the same, as the keys that say so.

    They are those of the profile. A signal with an order of its own has told it, and nothing but that signal can show whether it is right.
    """
    right = _right(profile)
    same = _identity(profile, profile.identity.value, right)
    known = {_values(profile, right)}
    unseen: list[str] = []
    for order in _others(right):
        values = _values(profile, order)
        if values not in known and _identity(profile, profile.identity.value, order) == same:
            known.add(values)  # of two values of two words the middle orders are no others
            unseen.append(_named(order, right))
    return unseen


def order_found(profile: Profile, found: float) -> str:
    """Return the order in which the words of an identity that was read as `found` are the right one, as the keys that say so; empty if in none."""
    right = _right(profile)
    words = _identity(profile, found, right)
    return next((_named(order, right) for order in _others(right) if words and words == _identity(profile, profile.identity.value, order)), "")


def widest(profile: Profile) -> int:
    """Return how many registers the widest value takes that stands in the order of the profile."""
    own = (signal for signal in profile.signals.values() if signal.byte_order is None or signal.word_order is None)
    return max((registers_of(signal.type) for signal in own if table_of(signal.at)[0] not in _BITS), default=0)


def _right(profile: Profile) -> Order:
    return profile.modbus.byte_order, profile.modbus.word_order


def _others(right: Order) -> list[Order]:
    """Return all orders but the right one, the likeliest first: standard bytes are common, and one thing wrong is commoner than two."""
    return sorted((order for order in _ORDERS if order != right), key=lambda order: (order[0] != right[0], order[1] != right[1]))


def _named(order: Order, right: Order) -> str:
    keys = zip(("byte_order", "word_order"), order, right, strict=True)
    return " and ".join(f'{key} = "{its}"' for key, its, other in keys if its != other)


def _values(profile: Profile, order: Order) -> Hashable:
    """Return where each byte of each value stands that depends on it."""
    options = profile.modbus.model_copy(update={"byte_order": order[0], "word_order": order[1]})
    found = []
    for signal in profile.signals.values():
        if table_of(signal.at)[0] in _BITS or (signal.type == "bool" and signal.bit is None):
            continue  # a bit has no order, and a register that is true whatever stands in it neither
        found.append(tuple(Way.of(signal, options).byteplaces_of()))
    return tuple(found)


def _identity(profile: Profile, value: float, order: Order) -> tuple[int, ...]:
    """Return the words on the wire of an identity that is `value` (of one in words: of its text) in an order; empty if it cannot be."""
    identity = profile.identity
    if identity.text:
        raw = identity.text.encode("ascii").ljust(len(identity.text) + len(identity.text) % 2, b"\0")
        return tuple(int.from_bytes(raw[at : at + 2], order[0]) for at in range(0, len(raw), 2))  # their order is never another
    if table_of(identity.at)[0] in _BITS:
        return (int(value),)
    try:
        return tuple(encode_one(value, Way(identity.type, *order)))
    except ValueError:
        return ()
