"""An OPC UA device, read as one service call. A failed read is BAD quality, never an exception.

asyncua does the protocol. Its own reconnection is not used: each connection is a new client, an *epoch*, in which namespace
indices, data types and the identity are looked up again, since a server that restarts with other indices would
otherwise bring another node's value as ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Coroutine
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from drivers.device import Device
from drivers.driver import NOT_YET, CallOutcome, Driver, ErrorKind, Reading, WriteOutcome, WriteResult
from drivers.expiry import Expiry, endings
from drivers.opcua_client import FAILURES, connect, disconnect, new_client, why_of
from drivers.opcua_events import EventFeed, watch_events
from drivers.opcua_messages import ServiceFault
from drivers.opcua_method import call_method, wire_inputs
from drivers.opcua_security import NotSecured, SecuredClient
from drivers.opcua_session import Lost, Session, WrongDevice, open_session
from drivers.opcua_told import Told
from drivers.opcua_value import plain
from drivers.opcua_write import Sent, Writer
from drivers.pause import Pause

__all__ = ["OpcuaDriver"]

log = logging.getLogger(__name__)

_CONFIRMED: Final = partial(tuple.__new__, WriteOutcome)  # of all fields in one step: one by one they cost a tenth of a write of many

_RECHECK = 10.0  # [s] between two looks at whether a server is still trusted


class OpcuaDriver(Driver):
    """One OPC UA server and its nodes, secured as the device's `security` says."""

    def __init__(self, device: Device, *, data: Path, timeout: float = 1.0) -> None:
        super().__init__(device, timeout=timeout)
        self._data = data
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None  # makes the next session, or closes the last
        self._ending: asyncio.Task[None] | None = None  # that closes the last
        self._pause = Pause()
        self._why = NOT_YET
        self._refused = ""  # why the link was not secured as asked
        self._faults: set[tuple[str, int | None]] = set()  # places of mistakes in this program that the log has been told
        self._open = False
        self._expiry = Expiry(device.name, ())
        self._client: SecuredClient | None = None  # of the session
        self._recheck_due = 0.0  # [s] monotonic
        self._feed: EventFeed | None = None
        self._writer: Writer | None = None
        self._news = Told()

    async def __aenter__(self) -> OpcuaDriver:
        self._open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._open = False
        task, self._task = self._task, None
        if task is not None:
            if task is not self._ending:  # that one closes a socket, and takes no longer than is allowed here
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)
            self._look_at(task)
        session, self._session = self._session, None
        if session is not None:
            session.close()
            await disconnect(session.client)
        self.metrics.connected, self.metrics.why = False, "closed"

    async def read(self) -> Reading:
        """Return all signals, in the order of the profile, with the device's own quality and source times."""
        if not self._open:
            return self._lost(None, "closed")
        session = self._session
        if session is None or self._task is not None:
            session = await self._ready()
        if session is None:
            return self._lost(None, self._why)
        where = self.device.address
        if self._feed is not None and self._feed.problem:
            return self._give_up(session, "drop", f"{where}: {self._feed.problem}")
        try:
            if session.closed:
                raise ConnectionError("connection lost")
            await session.refresh()
            if time.monotonic() >= self._recheck_due:
                await self._recheck()
        except WrongDevice as error:
            return self._give_up(session, "identity", str(error))
        except Lost as error:
            return self._give_up(session, error.kind, f"{where}: {error}")
        except FAILURES as error:
            return self._give_up(session, _kind(error), f"{where}: {why_of(error, self.timeout)}")
        if self._session is not session:  # a write has found out in the meantime that it is over
            return self._lost(None, self._why)
        self._pause.succeeded()
        self.metrics.reads += 1
        self.metrics.certificate_days = self._expiry.days()
        self._tell(up=True)
        return session.reading()

    def due(self, left: float, period: float) -> Coroutine[Any, Any, bool]:
        """Wait for a publication around the end of a period, see `Subscription.due`; where nothing is published, for its end."""
        session = self._session
        if session is None or session.subscription is None:
            return super().due(left, period)
        return session.subscription.due(left, period)

    async def _recheck(self) -> None:
        """Raise `NotSecured` when somebody has taken away the trust in the server meanwhile."""
        self._recheck_due = time.monotonic() + _RECHECK
        if self._client is not None:
            await self._client.recheck()

    def _lose(self, events: int) -> None:
        self.metrics.drops += events
        self._count("overflow", events)

    async def _ready(self) -> Session | None:
        """Return the session; while there is none, start to connect and wait for it at most `timeout`."""
        if self._task is not None and self._task.done():
            self._look_at(self._task)
            self._task = None
        if self._session is None and self._task is None and self._pause.over(time.monotonic()):
            self._task = asyncio.create_task(self._connect(), name=f"connect {self.device.name}")
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self.timeout)
        return self._session

    def _look_at(self, task: asyncio.Task[None]) -> None:
        """Look at a task that is over: what went wrong in it, nobody else would hear of."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)

    def _broken(self, error: BaseException) -> None:
        """Note that a connection was not made, or not closed, by a mistake in this program. Each place is told once."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        if (key := (place.filename, place.lineno)) not in self._faults:
            self._faults.add(key)
            log.error("%s is tried again after a mistake in this program; please report it", self.device.name, exc_info=error)
        self._count("connect")
        self._why = f"{self.device.address}: a mistake in this program, {error!r}; please report it with the lines in the log"

    def _give_up(self, session: Session, kind: ErrorKind, why: str) -> Reading:
        """End the epoch: what it may still bring is dropped with its client."""
        if self._session is session:
            self._session = None
            self._why = why
            self._pause.failed(time.monotonic())
            session.close()
            self._task = self._ending = asyncio.create_task(disconnect(session.client), name=f"disconnect {self.device.name}")
        return self._lost(kind, why)

    async def _connect(self) -> None:
        """Make a new session; `_why` tells why there is none."""
        address = self.device.address
        client = new_client(self.device, self.timeout)
        try:
            await connect(client, self.device, self._data)
            session = await open_session(client, self.device, self.metrics, self.timeout, self._news)
            feed = await watch_events(client, self.device, session.limits.spaces, self._report, self._lose, self._news)
            self._begin(client, session, feed)
            return
        except asyncio.CancelledError:
            await disconnect(client)
            raise
        except WrongDevice as error:
            self._count("identity")
            self._why = str(error)
        except Lost as error:
            self._count(error.kind)
            self._why = f"{address}: {error}"
        except NotSecured as error:
            self._count("connect")
            self._why = f"not connected to {address}: {error}"
            if self._told is False and self._refused != self._why:  # lost for another reason; this one needs a person
                log.warning("%s is refused: %s", self.device.name, self._why)
            self._refused = self._why
        except FAILURES as error:
            self._count("connect")
            self._why = f"cannot connect to {address}: {why_of(error, self.timeout)}; check the address and that the device is on"
        except Exception as error:  # noqa: BLE001  # the last one to hear of it: told with its place, and tried again after a pause
            self._broken(error)
        self._news.ended(made=False)
        self._pause.failed(time.monotonic())
        await disconnect(client)

    def _begin(self, client: SecuredClient, session: Session, feed: EventFeed | None) -> None:
        """Take a new session. It is there only when all about it is."""
        self._news.ended(made=True)
        self._refused = ""
        self.texts = session.texts
        self.wrong = {name: why for name, why in zip(self.device.profile.names, session.wrong, strict=True) if why}
        self._expiry = Expiry(self.device.name, endings(client.certificates))
        self._client, self._recheck_due = client, time.monotonic() + _RECHECK
        self._count("type", sum(map(bool, session.wrong)))
        self._feed, self._writer = feed, Writer(session, self.device.profile)
        self._session, self._why = session, ""

    async def write(self, changes: dict[str, float]) -> list[WriteOutcome]:
        """Write signals [eu of each] in one request and read them back in another; nothing is repeated.

        What is not sent, since the device is not connected or the value cannot be, changes nothing there.
        """
        session, writer = self._session, self._writer
        if session is None or writer is None:
            why = self._why or "not connected"
            return [self._outcome(name, value, WriteResult.NOT_SENT, why) for name, value in changes.items()]
        missed: dict[str, Sent] = {}
        parts = writer.parts(changes, missed)
        for position, part in enumerate(parts):
            try:
                missed |= await writer.write(part)
            except FAILURES as error:
                reason = why_of(error, self.timeout)
                why = f"the write may or may not be done: {reason}"
                self._give_up(session, _kind(error), why)
                missed |= dict.fromkeys(part.batch.names, Sent(WriteResult.UNKNOWN, why=why))
                for later in parts[position + 1 :]:
                    missed |= dict.fromkeys(later.batch.names, Sent(WriteResult.NOT_SENT, why=f"a request before it failed: {reason}"))
                break
        self.metrics.writes += len(changes)
        self.metrics.write_errors += len(missed)
        if not missed:
            fields = zip(changes, changes.values(), changes.values(), repeat(WriteResult.CONFIRMED), repeat(""))
            return list(map(_CONFIRMED, fields))
        outcomes = []
        for name, asked in changes.items():
            sent = missed.get(name, Sent(WriteResult.CONFIRMED, asked))
            outcomes.append(WriteOutcome(name, asked, sent.found, sent.result, sent.why))
        return outcomes

    def same(self, signal: str, one: float, other: float) -> bool:
        """Whether two values of a signal [its eu] are one in the type of its node."""
        its = self.device.profile.signals[signal]
        try:
            return plain((one - its.offset) / its.scale, its.type) == plain((other - its.offset) / its.scale, its.type)
        except ValueError:  # one of them is none that can be written
            return False

    async def call(self, method: str, inputs: dict[str, float]) -> CallOutcome:
        """Call a method once, with inputs [eu of the signal that each is for, else its own]; never repeated."""
        session = self._session
        try:
            if session is None:
                raise ValueError(self._why or "not connected")
            if method not in session.methods:
                raise ValueError(f"profile {self.device.profile.id} has no such method; it has {', '.join(session.methods) or 'none'}")
            bound = session.methods[method]
            if bound.problem:
                raise ValueError(bound.problem)
            sent = wire_inputs(self.device.profile, bound.method, inputs)
        except ValueError as error:
            return self._called(method, WriteResult.NOT_SENT, why=str(error))
        try:
            return self._called(method, *await call_method(session.client, bound, sent))
        except FAILURES as error:
            why = f"the call may or may not be done: {why_of(error, self.timeout)}"
            self._give_up(session, _kind(error), why)
            return self._called(method, WriteResult.UNKNOWN, why=why)

    def _called(self, method: str, result: WriteResult, outputs: tuple[float, ...] = (), why: str = "") -> CallOutcome:
        self.metrics.writes += 1
        self.metrics.write_errors += result is not WriteResult.CONFIRMED
        return CallOutcome(method, result, outputs, why)


def _kind(error: Exception) -> ErrorKind:
    """Return how a failure is counted."""
    if isinstance(error, NotSecured):
        return "connect"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError):
        return "drop"
    return "exception" if isinstance(error, ServiceFault) else "reply"
