"""What would make the values of a server wrong while it is connected, asked now and then: that it is not at work, or gives them in another eu."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_to_binary

from drivers import opcua_messages as messages
from drivers.opcua_lookup import Unit, unit_at
from drivers.opcua_reader import Reader

__all__ = ["Upkeep"]

_EVERY: Final = 2.0  # [s]
_AT_ONCE: Final = 31  # units that are looked at each time, in turn, so that none of it takes long
_STATE: Final = messages.read_item(nodeid_to_binary(ua.NodeId(ua.Int32(ObjectIds.Server_ServerStatus_State))))
# of ServerState (part 5, 12.6); one that will shut down, has a fault in its own links or does not know still gives values with a status each
_NOT_AT_WORK: Final = {1: "Failed", 2: "NoConfiguration", 3: "Suspended", 5: "Test"}


class Upkeep:
    """`units` are those of signals, by their address: the node of the property, and what it said when the connection was made."""

    def __init__(self, reader: Reader, units: Mapping[str, tuple[bytes, Unit]]) -> None:
        self._reader = reader
        self._units = [(at, messages.read_item(node), unit) for at, (node, unit) in units.items()]
        self._next = 0
        self.due = 0.0  # [s] monotonic, when to look again

    async def look(self) -> str:
        """Return why the values can no longer be used, empty when they can; raises what a reader raises."""
        some = self._units[self._next : self._next + _AT_ONCE]
        self._next = self._next + _AT_ONCE if self._next + _AT_ONCE < len(self._units) else 0
        (state, place), *found = await self._reader.values([_STATE, *(item for _, item, _ in some)])
        self.due = time.monotonic() + _EVERY
        number = state.value(place)
        if isinstance(number, int) and number in _NOT_AT_WORK:
            return f"the server says that it is in state {_NOT_AT_WORK[number]}: what it shows need not be the plant's"
        for (at, _, known), (reply, place) in zip(some, found, strict=True):
            unit = unit_at(reply, place)
            if unit is not None and unit != known:
                return (
                    f"the server gives {at} in another eu than before ({unit[2] or unit[1]}, not {known[2] or known[1]}); looking everything up again"
                )
        return ""
