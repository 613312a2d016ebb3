"""Writes to an OPC UA server: the value alone, sent once, and read back."""

from __future__ import annotations

import math
import struct
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from asyncua import ua

from drivers import opcua_messages as messages
from drivers.device import Profile
from drivers.driver import WriteResult
from drivers.opcua_codec import array_element
from drivers.opcua_reader import Found
from drivers.opcua_session import Session
from drivers.opcua_table import KINDS
from drivers.opcua_value import UNSURE, plain

__all__ = ["Sent", "Writer"]

_SETTLING: Final = 0.5  # [s] at least in which samples from before a write may still come


@dataclass(frozen=True, slots=True)
class Sent:
    """What is known after a write: what reads back [eu] (NaN: not known), and why it failed."""

    result: WriteResult
    found: float = math.nan
    why: str = ""


_CONFIRMED: Final = Sent(WriteResult.CONFIRMED)


class Writer:
    """Writes signals in one session. What is sent, and what is read back, is made once for each signal."""

    def __init__(self, session: Session, profile: Profile) -> None:
        self._session, self._profile = session, profile
        self._items: dict[str, tuple[bytes, struct.Struct, bytes, int, int]] = {}
        for place, (name, signal) in enumerate(profile.signals.items()):
            if signal.access == "write":
                node = session.nodes[place]
                self._items[name] = (
                    *messages.write_item(node, KINDS[signal.type], signal.element),
                    messages.read_item(node),
                    place,
                    KINDS[signal.type],
                )

    def wire_value(self, name: str, value: float) -> float:
        """Return what is sent for a value [eu]; raise `ValueError` when it cannot be."""
        item = self._items.get(name)
        if item is None:
            what = "not a signal" if name not in self._profile.signals else "only read"
            raise ValueError(f"{name} is {what} in profile {self._profile.id}")
        if problem := self._session.wrong[item[3]]:
            raise ValueError(f"not sent: {problem}")
        signal = self._profile.signals[name]
        return plain((value - signal.offset) / signal.scale, signal.type)

    async def write(self, values: dict[str, float], done: dict[str, Sent]) -> None:
        """Write what `wire_value` has made, and note the outcome of each in `done`; raise what a channel raises: the rest is not known then."""
        session, reader = self._session, self._session.reader
        names = list(values)
        at_once = min(session.writes_at_once, reader.at_once)
        for begin in range(0, len(names), at_once):
            some = names[begin : begin + at_once]
            items = [self._items[name] for name in some]
            body = messages.write_body([head + packer.pack(values[name]) for name, (head, packer, *_) in zip(some, items, strict=True)])
            data, handle = await reader.channel.ask(messages.WRITE, body, reader.timeout)
            codes = messages.status_reply(data, messages.WRITE, len(some), handle)
            asked = time.monotonic()
            found = await reader.one(messages.read_body([item[2] for item in items]), len(some))
            self._show(found, np.array([item[3] for item in items]), asked)
            columns = found.columns
            equal = columns.value == np.array([values[name] for name in some], dtype=np.float64)
            fine = equal & ((codes | columns.status) >> 30 < 2) & (columns.kind == [item[4] for item in items])
            for place, (name, confirmed) in enumerate(zip(some, fine.tolist(), strict=True)):
                done[name] = _CONFIRMED if confirmed else self._judge(name, values[name], int(codes[place]), found, place)

    def _show(self, found: Found, places: object, asked: float) -> None:
        """Let the table know what was read back, before the next publication does; what was sampled before the write does not count."""
        table = self._session.table
        where = np.asarray(places)
        taken = table.take(table.item_of[where], found.columns, asked)
        for position in taken.odd:
            table.take_odd(int(table.item_of[where[position]]), position, found.columns, found.data, asked, taken)
        subscription = self._session.subscription
        if subscription is not None:
            table.hold(where, asked + max(_SETTLING, 3.0 * subscription.alive))

    def _judge(self, name: str, sent: float, code: int, found: Found, place: int) -> Sent:
        if code >> 30 >= 2:
            word = str(ua.StatusCode(ua.UInt32(code)).name)
            return Sent(WriteResult.UNKNOWN if word.removeprefix("Bad") in UNSURE else WriteResult.REFUSED, why=word)
        signal = self._profile.signals[name]
        kind, back = int(found.columns.kind[place]), float(found.columns.value[place])
        if signal.element is not None:
            kind, back = array_element(found.data, int(found.columns.start[place]), signal.element)
        if kind != KINDS[signal.type] or not math.isfinite(back) or int(found.columns.status[place]) >> 30 >= 2:
            return Sent(WriteResult.UNKNOWN, why="accepted, but could not be read back")
        if back == sent:
            return Sent(WriteResult.CONFIRMED)
        number = back * signal.scale + signal.offset
        return Sent(WriteResult.MISMATCH, number, f"accepted, but reads back as {number:g}")
