"""What a server publishes, taken in the order in which it comes, in steps that hold nobody up; nothing unbounded, no task for each message."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from drivers.driver import ErrorKind
from drivers.opcua_binary import Malformed
from drivers.opcua_channel import Channel
from drivers.opcua_client import FAILURES
from drivers.opcua_messages import Publication, ServiceFault, publish_reply

__all__ = ["Publishing"]

_STEP: Final = 0.001  # [s] of work at a time
_IN_FLIGHT: Final = 4  # publish requests: two are with the server while the answers to others are under way, and two are sent at a time
_TIMED_OUT: Final = 0x800A0000  # Bad_Timeout: the server had nothing to say in the time that it gives a request
_TOO_MANY: Final = 0x80780000  # Bad_TooManyPublishRequests: it keeps fewer

Handler = Callable[[bytes, Publication], Iterator[None]]  # takes a publication in steps


class Publishing:
    """The publish requests of a session. A message is acknowledged, and the next one asked for, when it has been taken."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._handlers: dict[int, Handler] = {}
        self._inbox: deque[tuple[bytes, int, Publication]] = deque()
        self._work: Iterator[None] | None = None
        self._acknowledged: list[tuple[int, int]] = []
        self._waiting = 0  # requests that are with the server
        self._most = _IN_FLIGHT
        self._closed = False
        self.unread = False  # whether something was published since the last reading
        self._news: asyncio.Future[bool] | None = None  # who waits for a publication
        self._soonest = 0.0  # [s, the loop's time] when the wait may end
        self._timer: asyncio.TimerHandle | None = None  # that ends it
        self.failure: tuple[ErrorKind, str] | None = None  # why nothing is published any more
        self.step = _STEP

    def start(self, subscription: int, handler: Handler) -> None:
        """Ask for what is published to a subscription of ours."""
        self._handlers[subscription] = handler
        self._ask()

    def close(self) -> None:
        """Take nothing more."""
        self._closed = True
        self._inbox.clear()
        self._handlers.clear()
        self._work = None
        _tell(self._news, True)

    async def news(self, earliest: float, latest: float) -> bool:
        """Wait until something has been published that was not read yet, `earliest` to `latest` [s] from now, or nothing will be any more.

        Returns whether it is so.
        """
        loop = self._loop
        now = loop.time()
        self._soonest = now + earliest
        news: asyncio.Future[bool] = loop.create_future()
        self._news = news
        ends = 0.0 if self._closed else earliest if self.unread else latest
        self._timer = loop.call_at(now + ends, _tell, news, self._closed or self.unread)
        try:
            return await news
        finally:
            self._timer.cancel()
            self._news = None

    def _published(self) -> None:
        """Note that something can be read, and end the wait for it, now or when it is time."""
        self.unread = True
        if self._news is None or self._timer is None:
            return
        if self._loop.time() >= self._soonest:
            _tell(self._news, True)
        else:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._soonest, _tell, self._news, True)

    def fail(self, kind: ErrorKind, why: str) -> None:
        """Stop; the first reason counts."""
        if self.failure is None and not self._closed:
            self.failure = (kind, why)
        self.close()

    def _ask(self) -> None:
        """Send the publish requests that are missing, with what is to be acknowledged; a message that waits for its turn is not missing."""
        times = self._most - self._waiting - len(self._inbox)
        if times <= 0:
            return
        acknowledged, self._acknowledged = self._acknowledged, []
        try:
            self._channel.publish(acknowledged, times, self._taken, self._failed)
        except FAILURES as error:
            self.fail("drop", str(error))
        else:
            self._waiting += times

    def _failed(self, error: Exception) -> None:
        self.fail("drop", f"{type(error).__name__}: {error}")

    def _taken(self, data: bytes, at: int) -> None:
        """Take a reply, which begins at some byte, from the callback of the socket."""
        if self._closed:
            return
        self._waiting -= 1
        try:
            publication = publish_reply(data, at)
        except Malformed as error:
            self.fail("reply", f"what it publishes cannot be understood: {error}")
        except ServiceFault as error:
            if error.code == _TOO_MANY and self._most > 1:
                self._most -= 1
                if not self._waiting and not self._inbox:
                    self._ask()
            elif error.code == _TIMED_OUT:
                self._ask()
            else:
                self.fail("exception", f"it publishes nothing any more: {error}")
        else:
            self._inbox.append((data, at, publication))
            if len(self._inbox) == 1:  # else it waits for its turn
                self._step()

    def _step(self) -> None:
        """Work for a millisecond; the rest has to wait for its turn."""
        begun = time.perf_counter()
        try:
            while True:
                data, at, publication = self._inbox[0]
                if self._work is None:
                    self._work = self._begin(data, at, publication)
                for _ in self._work:
                    if time.perf_counter() - begun > self.step:
                        self._loop.call_soon(self._resume)
                        return
                self._work = None
                if self._closed:
                    return
                self._inbox.popleft()
                self._end(publication)
                if not self._inbox:
                    return
                if time.perf_counter() - begun > self.step:
                    self._loop.call_soon(self._resume)
                    return
        except Malformed as error:
            self.fail("reply", f"what it publishes cannot be understood: {error}")

    def _resume(self) -> None:
        if not self._closed:
            self._step()

    def _begin(self, data: bytes, at: int, publication: Publication) -> Iterator[None]:
        handler = self._handlers.get(publication.subscription)
        if handler is not None:
            return handler(data, publication)
        try:
            self._channel.deliver(data, at)
        except FAILURES as error:
            self.fail("reply", f"an event cannot be understood: {type(error).__name__} {error}")
        return iter(())

    def _end(self, publication: Publication) -> None:
        if publication.parts:
            self._acknowledged.append((publication.subscription, publication.number))
        left = self._waiting + len(self._inbox)
        if left <= max(self._most - 2, min(self._most - 1, 1)):  # 2, 1, 1, 0 of 4, 3, 2, 1: two at a time while one is left
            self._ask()
        if not publication.more and publication.subscription in self._handlers:
            self._published()


def _tell(news: asyncio.Future[bool] | None, published: bool) -> None:
    """End the wait for a publication, if somebody waits."""
    if news is not None and not news.done():
        news.set_result(published)
