"""What a Modbus device says of itself in words: asked for seldom. Its identity may be words, too: they are asked for first in each read. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drivers.device import Profile
from drivers.modbus_codec import text_of
from drivers.modbus_frames import Asked, DeviceSaidNo, Question, read
from drivers.modbus_plan import TEXTS_EVERY, text_spots

__all__ = ["Text", "Texts"]


@dataclass(slots=True, eq=False)
class Text:
    """One text of a profile, and when it is due [s, monotonic]."""

    name: str
    asked: Asked
    due: float = -math.inf


class Texts:
    """The texts of a device. `identity` asks for the one that is its identity, None where that is a number."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._spots = text_spots(profile)
        self.identity: Asked | None = None
        self._texts: list[Text] = []

    def begin(self, frame: Callable[[Question], Asked]) -> None:
        """Begin with all of them due; `frame` makes what is sent of a question."""
        made = [Text(spot.name, frame(read(spot.table, spot.address, spot.count))) for spot in self._spots]
        self.identity = made.pop(0).asked if self._profile.identity.text else None
        self._texts = made

    def due(self, now: float) -> list[Text]:
        """Return those that are to be asked for at `now` [s]."""
        return [text for text in self._texts if text.due <= now] if self._texts else []

    def forget(self) -> None:
        """Ask for all of them again: another device may have come."""
        for text in self._texts:
            text.due = -math.inf

    def identity_in(self, reply: bytes | DeviceSaidNo) -> str:
        """Return what the device says that it is."""
        return text_of(reply, self._profile.modbus.byte_order, "ascii") if isinstance(reply, bytes) else str(reply)

    def take(self, texts: Sequence[Text], replies: Sequence[bytes | DeviceSaidNo | None], begun: float, known: dict[str, str]) -> int:
        """Put the replies of a read that began at `begun` [s] into `known`; return how many the device refused. Those without a reply stay due."""
        refused = 0
        for text, reply in zip(texts, replies, strict=True):
            if reply is None:
                continue
            text.due = begun + TEXTS_EVERY
            if isinstance(reply, DeviceSaidNo):
                refused += 1
                known.pop(text.name, None)
            else:
                how = self._profile.texts[text.name]
                known[text.name] = text_of(reply[: how.length], how.byte_order or self._profile.modbus.byte_order, how.encoding)
        return refused
