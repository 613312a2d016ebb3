"""Writes to an OPC UA server: the value alone, sent once, and read back."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from drivers import opcua_messages as messages
from drivers.device import Profile, Signal
from drivers.driver import WriteResult
from drivers.opcua_codec import array_element
from drivers.opcua_reader import Found
from drivers.opcua_session import Session
from drivers.opcua_table import KINDS, Table
from drivers.opcua_value import no_to_action, plain
from drivers.tags import FloatArray

__all__ = ["Part", "Sent", "Writer"]

_BATCHES: Final = 16  # sets of signals written together that are kept
_SETTLING: Final = 0.5  # [s] at least in which samples from before a write may still come


@dataclass(frozen=True, slots=True)
class Sent:
    """What is known after a write that is not confirmed: what reads back [eu] (NaN: not known), and why it failed."""

    result: WriteResult
    found: float = math.nan
    why: str = ""


_Item = tuple[bytes, struct.Struct, bytes, int, int]  # before the value, what packs it, to read it back; the signal and its type


class _Batch:
    """Some signals that are written together: the request with room for the values, and the request that reads them back."""

    __slots__ = ("_items", "_room", "_template", "high", "kinds", "low", "names", "offset", "places", "quick", "readback", "scale", "signals")

    def __init__(self, names: tuple[str, ...], items: Sequence[_Item], signals: Sequence[Signal], table: Table, *, usable: bool) -> None:
        self.names = names
        self._items = items
        self.signals = np.array([item[3] for item in items], dtype=np.intp)
        self.places = table.places(table.item_of[self.signals], lasting=True)
        self.kinds = np.array([item[4] for item in items], dtype=np.uint8)
        self.scale = np.array([signal.scale for signal in signals])
        self.offset = np.array([signal.offset for signal in signals])
        self.low, self.high = np.array([signal.range for signal in signals]).T
        self.readback = messages.read_body([item[2] for item in items])
        self.quick = usable and bool((self.kinds == KINDS["float64"]).all())
        parts = [head + b"\0" * packer.size for head, packer, *_ in items]
        ends = np.cumsum([4, *(len(part) for part in parts)])[1:]
        self._template = np.frombuffer(messages.write_body(parts), np.uint8)
        self._room = (ends - 8)[:, None] + np.arange(8)

    def body(self, values: FloatArray) -> bytes:
        """Return the request for values as they are on the wire."""
        if self.quick:
            request = self._template.copy()
            request[self._room] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
            return request.tobytes()
        return messages.write_body(
            [head + packer.pack(_plain(value, packer)) for (head, packer, *_), value in zip(self._items, values.tolist(), strict=True)]
        )


class Part(NamedTuple):
    """What is written by one request: values as they are on the wire."""

    batch: _Batch
    values: FloatArray


def _plain(value: float, packer: struct.Struct) -> float:
    return value if packer.format in ("<d", "<f") else int(value)


class Writer:
    """Writes signals in one session. What is sent, and what is read back, is made once for each signal."""

    def __init__(self, session: Session, profile: Profile) -> None:
        self._session, self._profile = session, profile
        self._at_once = min(session.limits.write, session.reader.at_once)
        self._items: dict[str, _Item] = {}
        self._batches: dict[tuple[str, ...], _Batch] = {}
        for place, (name, signal) in enumerate(profile.signals.items()):
            if signal.access == "write":
                node = session.nodes.signals[place]
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
            raise ValueError(problem)
        signal = self._profile.signals[name]
        if why := signal.refusal(value):
            raise ValueError(why)
        return plain((value - signal.offset) / signal.scale, signal.type)

    def parts(self, changes: dict[str, float], missed: dict[str, Sent]) -> list[Part]:
        """Return what is sent for `changes` [eu of each], a part for each request; note in `missed` what cannot be sent."""
        if self._items.keys() >= changes.keys() and (batch := self._batch(tuple(changes))).quick:
            asked = np.fromiter(changes.values(), np.float64, len(changes))
            if np.logical_and.reduce((asked >= batch.low) & (asked <= batch.high)):
                values = (asked - batch.offset) / batch.scale
                return [Part(batch, values)] if len(values) <= self._at_once else self._split(batch.names, values)
        sent = {}
        for name, value in changes.items():
            try:
                sent[name] = self.wire_value(name, value)
            except ValueError as error:
                missed[name] = Sent(WriteResult.NOT_SENT, why=str(error))
        return self._split(tuple(sent), np.array(list(sent.values())))

    def _split(self, names: tuple[str, ...], values: FloatArray) -> list[Part]:
        cuts = range(0, len(names), self._at_once)
        return [Part(self._batch(names[cut : cut + self._at_once]), values[cut : cut + self._at_once]) for cut in cuts]

    def _batch(self, names: tuple[str, ...]) -> _Batch:
        """Return what writes of these signals have in common, made once."""
        batch = self._batches.get(names)
        if batch is None:
            if len(self._batches) >= _BATCHES:
                self._batches.clear()
            signals = [self._profile.signals[name] for name in names]
            usable = not any(self._session.wrong[self._items[name][3]] for name in names)
            batch = self._batches[names] = _Batch(names, [self._items[name] for name in names], signals, self._session.table, usable=usable)
        return batch

    async def write(self, part: Part) -> dict[str, Sent]:
        """Write a part and read it back; return what is not as it was written. Raises what a channel raises: nothing is known then."""
        reader, batch, n = self._session.reader, part.batch, len(part.batch.names)
        data, handle = await reader.channel.ask(messages.WRITE, batch.body(part.values), reader.timeout)
        codes = messages.status_reply(data, messages.WRITE, n, handle)
        asked = time.monotonic()  # not together with the write: servers do requests in any order, and some really do
        found = await reader.one(batch.readback, n)
        self._show(found, batch, asked)
        columns = found.columns
        fine = (columns.value == part.values) & ((codes | columns.status) >> 30 < 2) & (columns.kind == batch.kinds)
        if np.logical_and.reduce(fine):
            return {}
        judged = ((batch.names[place], self._judge(part, place, int(codes[place]), found)) for place in np.flatnonzero(~fine).tolist())
        return {name: sent for name, sent in judged if sent is not None}

    def _show(self, found: Found, batch: _Batch, asked: float) -> None:
        """Let the table know what was read back, before the next publication does; what was sampled before the write does not count."""
        table = self._session.table
        before = table.value[batch.signals]
        taken = table.take(batch.places, found.columns, asked, written=True)
        for item, position in batch.places.odd:
            table.take_odd(item, position, found.columns, found.data, asked, taken, written=True)
        subscription = self._session.subscription
        if subscription is not None:
            table.hold(batch.signals, asked + max(_SETTLING, 3.0 * subscription.alive), before)

    def _judge(self, part: Part, place: int, code: int, found: Found) -> Sent | None:
        if code >> 30 >= 2:
            result, why = no_to_action(code)
            return Sent(result, why=why)
        signal, sent = self._profile.signals[part.batch.names[place]], float(part.values[place])
        kind, back = int(found.columns.kind[place]), float(found.columns.value[place])
        if signal.element is not None:
            kind, back = array_element(found.data, int(found.columns.start[place]), signal.element)
        if kind != KINDS[signal.type] or not math.isfinite(back) or int(found.columns.status[place]) >> 30 >= 2:
            return Sent(WriteResult.UNKNOWN, why="accepted, but could not be read back")
        if back == sent:
            return None
        number = back * signal.scale + signal.offset
        return Sent(WriteResult.MISMATCH, number, f"accepted, but reads back as {number:g}")
