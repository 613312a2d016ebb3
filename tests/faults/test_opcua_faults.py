"""The device part of the fault campaign on OPC UA. `Watch` looks at every reading: no value is ever another node's, or old and GOOD."""

from __future__ import annotations

import asyncio
import copy
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.common import connection
from asyncua.common.utils import ServiceError

from drivers.connect import open_driver
from drivers.device import Device, Policy, Profile, Security
from drivers.driver import Driver, WriteResult
from drivers.opcua_client import new_client
from drivers.opcua_security import SecuredClient
from simulators.serve import Servers
from tests.faults.bench import IDENTITY, MovingPlant, Watch, opcua_profile, served, until
from tests.faults.framing import Uacp, service
from tests.faults.proxy import Corrupt, Delay, Direction, Drop, Duplicate, Fault, Late, Proxy, Reset, Rewrite, Stale, Truncate

pytestmark = pytest.mark.wire

URL = "opc.tcp://127.0.0.1:0"
PROFILE = opcua_profile()
WRITE, WRITTEN = 673, 676  # WriteRequest, WriteResponse (part 6, A.3)
ENDPOINTS, OFFERED, SESSION = 428, 431, 461  # GetEndpointsRequest and its response, CreateSessionRequest


def is_written(message: bytes) -> bool:
    return service(message) == WRITTEN


def with_a_slow_signal() -> Profile:
    """Return the profile, and a setpoint that is wanted only each 10 s."""
    given = PROFILE.model_dump()
    given["signals"]["slow"] = {**given["signals"]["sp"], "at": "nsu=urn:bench;s=slow", "group": "slow"}
    return Profile.model_validate({**given, "groups": {"slow": {"period": "10 s"}}})


def behind(device: Device, proxy: Proxy) -> Device:
    return replace(device, address=replace(device.address, port=proxy.port))


@asynccontextmanager
async def bench(
    count: int = 1, *, within: float = 0.5, profile: Profile = PROFILE
) -> AsyncIterator[tuple[list[Watch], list[Proxy], MovingPlant, Servers]]:
    """Serve devices, each behind a proxy of its own, and watch them; a driver waits for `within` [s]."""
    async with AsyncExitStack() as stack:
        devices, plant, servers = await stack.enter_async_context(served(profile, URL, count))
        watches, proxies = [], []
        for number, device in enumerate(devices):
            proxy = await stack.enter_async_context(Proxy("127.0.0.1", device.address.port, Uacp, service))
            proxies.append(proxy)
            watches.append(await stack.enter_async_context(Watch(behind(device, proxy), number=number, timeout=within)))
        for watch in watches:
            await watch.lives(10.0)
        yield watches, proxies, plant, servers


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60.0))  # type: ignore[arg-type]


def test_twenty_resets_and_every_tag_lives() -> None:
    """After each the values really change again: a subscription that is there and silent is no life."""

    async def main() -> None:
        async with bench() as ([watch], [proxy], _, _):
            for _ in range(20):
                assert proxy.reset() == 1
                assert await watch.lives() < 5.0
            assert watch.driver.metrics.connects == 21

    run(main)


def test_silence_is_bad_within_three_seconds_and_costs_no_other_device() -> None:
    """Packets dropped (3 s for the campaign's 60: six time-outs), a half-open socket, replies 0.3 s late: one device each, one left alone."""

    async def main() -> None:
        async with bench(4) as (watches, proxies, _, _):
            dropped, half, slow, other = watches
            proxies[0].add(Drop(direction=Direction.BOTH))
            assert proxies[1].half_open() == 1
            proxies[2].add(Delay(0.3))
            other.longest = 0.0
            bad, back = await asyncio.gather(until(dropped.bad, 3.0, dropped.told), until(half.bad, 3.0, half.told))
            assert max(bad, back) < 3.0
            assert await half.lives() < 5.0
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                assert dropped.bad()
                assert other.good()
                await asyncio.sleep(0.05)
            assert other.longest < 0.2
            assert proxies[0].accepted <= 10
            for proxy in proxies:
                proxy.clear()
            assert await dropped.lives() < 5.0
            assert await slow.lives() < 5.0

    run(main)


def test_a_server_that_is_gone_is_bad_within_a_second_and_back_within_five() -> None:
    async def main() -> None:
        async with bench() as ([watch], [proxy], _, _):
            await proxy.refuse()
            assert await until(watch.bad, 1.0, watch.told) < 1.0
            await until(lambda: watch.driver.metrics.errors["connect"] >= 1, 3.0, watch.told)
            await proxy.accept()
            assert await watch.lives() < 5.0

    run(main)


def test_a_server_that_comes_back_with_other_namespace_indices_is_never_a_wrong_value() -> None:
    """In the second server our node ids, with the indices of the first, are other variables, in range; in the third our namespace is not there."""

    async def main() -> None:
        decoys = {f"decoy{place}": {"at": f"nsu=urn:decoy;s=m{place}", "type": "float64", "range": (0, 900_000)} for place in range(8)}
        ours = {"ours": {"at": "nsu=urn:bench;s=identity", "type": "float64", "range": (0, 900_000)}}
        signals = {**decoys, **ours, **PROFILE.model_dump()["signals"]}
        identity = {"at": "nsu=urn:decoy;s=identity", "type": "float64", "value": IDENTITY}
        shifted = PROFILE.model_validate({**PROFILE.model_dump(), "identity": identity, "signals": signals})
        async with (
            bench() as ([watch], [proxy], _, _),
            served(shifted, URL) as ([other], plant, servers),
            served(opcua_profile("urn:else"), URL) as (
                [missing],
                _,
                _,
            ),
        ):
            for place, name in enumerate(shifted.names):  # ours are there under our URI; the decoys are in windows of their own
                plant.base["d0"][place] = 100.0 * (PROFILE.place(name) + 1) if name in PROFILE.names else 60_000.0
            plant.fixed = {shifted.place("ours"): IDENTITY}
            first = proxy.target
            for target in (("127.0.0.1", other.address.port), ("127.0.0.1", missing.address.port), first, ("127.0.0.1", other.address.port)):
                proxy.target = target
                proxy.reset()
                if target[1] == missing.address.port:
                    await until(watch.bad, 3.0, watch.told)
                    end = time.monotonic() + 1.0
                    while time.monotonic() < end:
                        assert watch.bad()
                        await asyncio.sleep(0.02)
                    assert "urn:bench" in watch.driver.metrics.why
                else:
                    assert await watch.lives() < 5.0
            assert servers.endpoints["d0"].port == other.address.port

    run(main)


@pytest.mark.parametrize(("what", "slow"), [("items", False), ("items", True), ("subscriptions", False)])
def test_a_subscription_that_dies_on_a_live_link_is_noticed_within_three_seconds(what: str, slow: bool) -> None:
    """Also where one signal is wanted only each 10 s. The server forgets its subscriptions, or their items, and says nothing.

    It answers and publishes as before. `Watch` bears 3 s of standstill.
    """

    async def main() -> None:
        async with bench(profile=with_a_slow_signal() if slow else PROFILE) as ([watch], _, _, servers):
            service = servers._listeners["d0"]._server.iserver.subscription_service
            assert service.subscriptions
            for number, subscription in list(service.subscriptions.items()):
                if what == "items":
                    subscription.monitored_item_srv.delete_all_monitored_items()
                else:
                    await service.delete_subscriptions([number])
            begun = time.monotonic()
            await until(lambda: watch.driver.metrics.losses >= 1, 3.0, watch.told)
            assert await watch.lives() < 5.0
            assert time.monotonic() - begun < 5.0

    run(main)


@pytest.mark.parametrize("mode", ["poll", "subscribe"])
def test_a_server_that_is_not_at_work_gives_no_value(mode: str) -> None:
    """It says of itself that it is suspended, or tests with made-up numbers; its values are good by their own status."""

    async def main() -> None:
        options = PROFILE.opcua.model_copy(update={"mode": mode})
        async with bench(profile=PROFILE.model_copy(update={"opcua": options})) as ([watch], _, _, servers):
            state = servers._listeners["d0"]._server.get_node(ua.NodeId(ua.Int32(ua.ObjectIds.Server_ServerStatus_State)))
            for number, name in ((3, "Suspended"), (5, "Test")):
                await state.write_value(ua.Variant(number, ua.VariantType.Int32))
                await until(watch.bad, 3.0, watch.told)
                await until(lambda: watch.driver.metrics.errors["connect"] + watch.driver.metrics.errors["type"] >= 2, 3.0)
                assert watch.bad()  # as long as it lasts
                assert f"in state {name}" in watch.driver.metrics.why
                await state.write_value(ua.Variant(0, ua.VariantType.Int32))
                assert await watch.lives() < 5.0

    run(main)


def is_opening(message: bytes) -> bool:
    return message[:3] == b"OPN"


@pytest.mark.parametrize("how", ["kept", "lost", "server an hour behind", "server an hour ahead"])
def test_a_channel_is_renewed_without_a_loss_and_made_anew_when_that_fails(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server gives a channel for an hour, here for a second: what is framed and read by ourselves goes on under the next token.

    A server whose clock is wrong, by which it dates its tokens, is as good; one behind is the same as our own clock put forward.
    """
    lost, wrong = how == "lost", timedelta(hours={"server an hour behind": -1, "server an hour ahead": 1}.get(how, 0))
    given = connection.SecureConnection.open

    def dated(self: connection.SecureConnection, params: Any, server: Any) -> ua.OpenSecureChannelResult:
        result = given(self, params, server)
        result.SecurityToken = copy.copy(result.SecurityToken)  # the server itself knows better
        result.SecurityToken.CreatedAt += wrong
        return result

    monkeypatch.setattr(connection.SecureConnection, "open", dated)

    def brief(device: Device, timeout: float) -> SecuredClient:
        client = new_client(device, timeout)
        client.secure_channel_timeout = 1000  # [ms]
        return client

    async def main() -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        async with bench() as ([watch], [proxy], _, _):
            fault = proxy.add(Drop(match=is_opening, times=3 if lost else 0))
            asked = proxy.add(Delay(0.0, match=is_opening, direction=Direction.REQUESTS))
            await until(lambda: asked.done >= 4, 12.0, watch.told)
            assert await watch.lives() < 5.0
            assert fault.done == (3 if lost else 0)
            assert (watch.driver.metrics.losses > 0) is lost
        assert problems == []

    monkeypatch.setattr("drivers.opcua.new_client", brief)
    run(main)


WAY_UP: dict[str, Callable[[bytes], bool]] = {
    "hello": lambda message: message[:3] == b"HEL",
    "channel": lambda message: message[:3] == b"OPN",
    "endpoints": lambda message: service(message) == ENDPOINTS,
    "session": lambda message: service(message) == SESSION,
}


@pytest.mark.parametrize(
    ("policy", "step"),
    [
        ("none", "hello"),
        ("none", "channel"),
        ("none", "session"),
        ("Basic256Sha256", "hello"),
        ("Basic256Sha256", "channel"),
        ("Basic256Sha256", "endpoints"),
    ],
)
def test_a_connection_that_is_lost_on_the_way_up_is_told_as_lost(tmp_path: Path, policy: Policy, step: str) -> None:
    """Not as a server that refuses us, for which there would be something to set. With a policy the first look is at what it offers."""

    async def main() -> None:
        async with served(PROFILE, URL) as ([device], _, _), Proxy("127.0.0.1", device.address.port, Uacp, service) as proxy:
            fault = proxy.add(Reset(match=WAY_UP[step], direction=Direction.REQUESTS))
            async with open_driver(replace(behind(device, proxy), security=Security(policy)), data=tmp_path, timeout=0.5) as driver:
                await driver.read()
                why = driver.metrics.why
                assert fault.done == 1, why
                assert why.startswith(f"cannot connect to {driver.device.address}: "), why
                assert any(word in why.lower() for word in ("reset", "closed")), why
                assert not any(word in why for word in ("refuse", "policy", "trust")), why

    run(main)


@pytest.mark.parametrize("how", ["none", "rarely"])
def test_a_server_without_a_subscription_to_spare_is_polled_until_it_has_one(
    how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Watch` looks at every value meanwhile: none stands still, none is another's."""

    async def main() -> None:
        async with served(PROFILE, URL) as ([device], _, servers):
            service = servers._listeners["d0"]._server.iserver.subscription_service
            create = service.create_subscription
            tries = 0

            async def unfit(*given: object, **named: object) -> ua.CreateSubscriptionResult:
                nonlocal tries
                tries += 1
                if how == "none":
                    raise ServiceError(ua.StatusCodes.BadTooManySubscriptions)
                made = await create(*given, **named)
                made.RevisedPublishingInterval = ua.Double(5000.0)
                return made

            service.create_subscription = unfit
            async with Watch(device, timeout=0.5) as watch:
                assert await watch.lives() < 5.0
                assert await watch.lives() < 1.0
                await until(lambda: tries > 3, 3.0, watch.told)
                await until(lambda: not service.subscriptions, 1.0)  # none is left behind
                service.create_subscription = create
                await until(lambda: len(service.subscriptions) == 1, 3.0, watch.told)
                assert await watch.lives() < 1.0
                reads = watch.driver.metrics.reads
                await until(lambda: watch.driver.metrics.reads > reads + 5)
                assert len(service.subscriptions) == 1
                assert (watch.driver.metrics.losses, watch.driver.metrics.errors) == (0, dict.fromkeys(watch.driver.metrics.errors, 0))

    monkeypatch.setattr("drivers.opcua_session._AGAIN", 0.2)
    with caplog.at_level("INFO", logger="drivers"):
        run(main)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("drivers")]
    assert [word in line for word, line in zip(("polled, not subscribed to", "answers at", "is subscribed to from now on"), said, strict=True)] == [
        True
    ] * 3, said


@pytest.mark.parametrize("where", ["watch_events", "Writer", "disconnect"])
def test_a_mistake_of_this_program_in_making_a_connection_is_told_and_tried_again_after_pauses(
    where: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has foreseen: in making a session, in taking it, and in closing what was left of it when it is refused."""
    unheard = []

    def mistaken(*_: object) -> None:
        raise ZeroDivisionError("of a test")

    async def tried(driver: Driver, times: int) -> bool:
        await driver.read()
        return driver.metrics.errors["connect"] >= times

    async def up(driver: Driver) -> bool:
        await driver.read()
        return driver.metrics.connected

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: unheard.append(about))
        async with served(PROFILE, URL) as ([device], _, servers), Proxy("127.0.0.1", device.address.port, Uacp, service) as proxy:
            if where == "disconnect":
                await proxy.refuse()
            async with open_driver(behind(device, proxy), data=Path(), timeout=0.5) as driver:
                with monkeypatch.context() as patch:
                    patch.setattr(f"drivers.opcua.{where}", mistaken)
                    begun = time.monotonic()
                    await until(lambda: tried(driver, 6 if where == "disconnect" else 4), 5.0, lambda: driver.metrics)  # two in each try
                    assert time.monotonic() - begun > (0.1 + 0.2 + 0.4 * (where != "disconnect")) / 2
                    if where != "disconnect":
                        says = f"{driver.device.address}: a mistake in this program, ZeroDivisionError('of a test'); please report it"
                        assert driver.metrics.why.startswith(says)
                await until(lambda: len(servers._listeners["d0"]._server.iserver._external_sessions) == 0, 2.0)  # none is left behind
                await proxy.accept()
                await until(lambda: up(driver), 5.0, lambda: driver.metrics.why)
            with monkeypatch.context() as patch:  # and as it is left
                await proxy.refuse()
                patch.setattr(f"drivers.opcua.{where}", mistaken)
                async with open_driver(behind(device, proxy), data=Path(), timeout=0.5) as driver:
                    await until(lambda: tried(driver, 1), 2.0, lambda: driver.metrics)
        gc.collect()
        await asyncio.sleep(0)

    with caplog.at_level("ERROR"):
        run(main)
    assert unheard == []
    said = [record for record in caplog.records if record.name == "drivers.opcua"]
    assert len(said) == (2 if where == "disconnect" else 1), said  # once for each driver, not at each try
    assert said[0].getMessage() == "d0 is tried again after a mistake in this program; please report it"
    assert said[0].exc_info is not None


def test_a_server_that_announces_gigabytes_before_it_is_trusted_is_not_listened_to(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(PROFILE, URL) as ([device], _, _), Proxy("127.0.0.1", device.address.port, Uacp, service) as proxy:
            proxy.add(
                Rewrite(lambda message: message[:4] + (2**31).to_bytes(4, "little") + message[8:], match=lambda message: service(message) == OFFERED)
            )
            async with open_driver(replace(behind(device, proxy), security=Security("Basic256Sha256")), data=tmp_path, timeout=0.5) as driver:
                await driver.read()
                assert "Connection is closed" in driver.metrics.why  # at once, and nothing is collected

    run(main)


def test_what_is_wrong_with_a_device_is_told_once_and_not_in_each_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        given = PROFILE.model_dump()
        given["signals"]["m0"]["type"] = "float32"
        methods = {"start": {"at": "nsu=urn:bench;s=start"}}
        profile = Profile.model_validate({**given, "methods": methods, "opcua": {"events": "nsu=urn:nowhere;s=x"}})
        async with (
            served(PROFILE, URL) as ([device], _, _),
            Proxy("127.0.0.1", device.address.port, Uacp, service) as proxy,
            open_driver(replace(behind(device, proxy), profile=profile), data=Path(), timeout=0.5) as driver,
        ):
            for times in (1, 2, 3):
                await until(lambda times=times: reads(driver, times), 8.0, lambda: driver.metrics.why)
                proxy.reset()

    async def reads(driver: Driver, times: int) -> bool:
        reading = await driver.read()
        return driver.metrics.connects == times and reading.quality[0] == 2 and reading.quality[1] == 0

    with caplog.at_level("WARNING", logger="drivers"):
        run(main)
    said = [record.getMessage() for record in caplog.records if record.name == "drivers.opcua_told"]
    assert len(said) == 3, said
    for line, words in zip(said, ("d0.m0 is not used: ", "d0.start cannot be called: ", "d0: no events: "), strict=True):
        assert line.startswith(words)


ANSWERS: dict[str, Callable[[], Fault]] = {
    "cut off": lambda: Truncate(-5, times=1),
    "a request number that nobody has": lambda: Corrupt(20, 0x40, times=1, match=lambda message: message[:3] == b"MSG"),
    "a sequence number out of order": lambda: Corrupt(17, 0x40, times=1, match=lambda message: message[:3] == b"MSG"),
    "another channel": lambda: Corrupt(8, times=1, match=lambda message: message[:3] == b"MSG"),
    "another service": lambda: Corrupt(26, 0x08, times=1, match=lambda message: message[:3] == b"MSG"),
    "a status that is bad": lambda: Corrupt(43, 0x80, times=1, match=lambda message: message[:3] == b"MSG"),
    "another size": lambda: Corrupt(4, 0x10, times=1),
    "no chunk there is": lambda: Corrupt(3, 0x20, times=1),
    "no message there is": lambda: Corrupt(0, 0x20, times=1),
    "twice": lambda: Duplicate(times=3),
    "the one before": lambda: Stale(times=3),
    "late": lambda: Late(times=1),
}


def test_an_answer_that_does_not_belong_is_never_a_value_and_passes() -> None:
    async def one(name: str, watch: Watch, proxy: Proxy) -> None:
        fault = proxy.add(ANSWERS[name]())
        await asyncio.wait_for(fault.happened.wait(), 3.0)
        if isinstance(fault, Late):
            await until(lambda: watch.driver.metrics.errors["timeout"] > 0 or watch.driver.metrics.losses > 0, 3.0, watch.told)
            fault.release()
        reads = watch.reads
        await until(lambda: watch.reads >= reads + 4)  # what it leads to is seen by them
        assert await watch.lives(10.0) < 5.0, name

    async def main() -> None:
        async with bench(len(ANSWERS)) as (watches, proxies, _, _):
            await asyncio.gather(*map(one, ANSWERS, watches, proxies))

    run(main)


LOSSES: dict[str, Callable[[], Fault]] = {
    "lost": lambda: Drop(times=1, match=is_written),
    "late": lambda: Late(times=1, match=is_written),
    "cut off with the connection": lambda: Reset(times=1, match=is_written),
    "of a request that nobody made": lambda: Corrupt(20, 0x40, times=1, match=is_written),
}


def test_a_write_whose_reply_is_lost_is_executed_once_and_unknown() -> None:
    """The device counts what it executes, the proxy what was sent."""

    async def one(name: str, watch: Watch, proxy: Proxy, plant: MovingPlant) -> None:
        fault, device = proxy.add(LOSSES[name]()), watch.driver.device.name
        [outcome] = await watch.driver.write({"sp": 42.5})
        assert outcome.result is WriteResult.UNKNOWN, (name, outcome)
        assert fault.done == 1
        if isinstance(fault, Late):
            fault.release()
        assert await watch.lives(8.0) < 5.0, name
        assert [entry for entry in plant.executed if entry[0] == device] == [(device, "sp", 42.5)], name
        assert proxy.seen[Direction.REQUESTS][WRITE] == 1, name
        await until(lambda: watch.shown().value[PROFILE.place("sp")] == 42.5)

    async def main() -> None:
        async with bench(len(LOSSES)) as (watches, proxies, plant, _):
            await asyncio.gather(*(one(name, watch, proxy, plant) for name, watch, proxy in zip(LOSSES, watches, proxies, strict=True)))

    run(main)


def test_accepted_and_nothing_comes_of_it_is_a_mismatch() -> None:
    async def main() -> None:
        async with bench() as ([watch], _, plant, _):
            plant.deaf = True
            [outcome] = await watch.driver.write({"sp": 42.5})
            assert (outcome.result, outcome.found) == (WriteResult.MISMATCH, 0.0)
            plant.deaf = False
            [outcome] = await watch.driver.write({"sp": 42.5})
            assert outcome.result is WriteResult.CONFIRMED

    run(main)
