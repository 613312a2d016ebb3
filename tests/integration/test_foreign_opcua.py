"""Our OPC UA driver against a server of another make (node-opcua), over real sockets with security on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from drivers.connect import open_driver
from drivers.device import Address, OpcuaOptions, Policy, load_profile
from drivers.driver import DeviceEvent, Driver, WriteResult
from drivers.opcua_browse import Bounds, Survey, walk
from drivers.opcua_client import disconnect, new_client
from drivers.opcua_pki import Pki
from drivers.opcua_security import SecuredClient
from drivers.tags import Quality
from tests.faults.framing import Uacp, service
from tests.faults.proxy import Corrupt, Proxy, Rewrite
from tests.integration.foreign_opcua import PASSWORD, PROFILE, URI, USER, Foreign, foreign_server, good, reads
from tests.integration.waiting import widened
from tests.unit.test_opcua_pki import ODD, make

pytestmark = pytest.mark.wire

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with foreign_server(tmp_path_factory.mktemp("foreign")) as server:
        yield server


@pytest.fixture
def server(running: Foreign) -> Iterator[Foreign]:
    yield running
    running.usual()


async def refusal(driver: Driver, says: str, within: float = 8.0) -> str:
    """Read until the driver says why it is not connected in these words; no signal may be known but over the connection of before."""
    end = time.monotonic() + within
    while says not in driver.metrics.why:
        reading = await driver.read()
        assert driver.metrics.connected or reading.quality.min() == Quality.BAD
        assert time.monotonic() < end, driver.metrics.why
        await asyncio.sleep(0.02)
    return driver.metrics.why


def test_a_server_is_refused_until_a_person_trusts_it_and_it_us(server: Foreign, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        data = server.data(tmp_path, trusts=False, trusted=False)
        async with open_driver(server.device("Aes256_Sha256_RsaPss"), data=data, timeout=3.0) as driver:
            why = await refusal(driver, "is not trusted")
            pki = Pki(data)
            [entry] = pki.entries("rejected")
            assert str(entry.path) in why
            step = why.partition("blackmass trust ")[2].partition(" ")[0]
            pki.trust(step)  # while it runs
            why = await refusal(driver, "let it trust our certificate")
            assert str(data / "pki" / "own" / "certificate.der") in why
            server.trust_us()
            await good(driver)
            assert 360 < driver.metrics.certificate_days < 366
            assert driver.metrics.why == ""

    with caplog.at_level(logging.INFO, logger="drivers"):
        asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if record.name in ("drivers.driver", "drivers.opcua")]
    assert [words in line for words, line in zip(("is not trusted", "press is refused: ", "press answers at"), said, strict=True)] == [True] * 3, said


@pytest.mark.parametrize(
    ("policy", "mode"),
    [
        ("Basic256Sha256", "sign"),
        ("Basic256Sha256", "sign_and_encrypt"),
        ("Aes128_Sha256_RsaOaep", "sign_and_encrypt"),
        ("Aes256_Sha256_RsaPss", "sign_and_encrypt"),
    ],
)
def test_reads_changes_and_writes_through_each_policy(server: Foreign, tmp_path: Path, policy: Policy, mode: str) -> None:
    async def main() -> None:
        wide = widened(server.device(policy, mode=mode), "speed", 0.0, 1000.0)
        async with open_driver(wide, data=server.data(tmp_path), timeout=3.0) as driver:
            await good(driver)
            assert await reads(driver, "temperature") == 20.0
            assert await reads(driver, "pressure") == 1.5
            server.ask("set", name="Temperature", value=81.25)
            end = time.monotonic() + 3.0
            while await reads(driver, "temperature") != 81.25:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            server.ask("set", name="Temperature", value=20.0)
            changes = {"speed": 42.5, "level": -7.0, "steps": 12.0, "running": 0.0}
            outcomes = await driver.write(changes)
            assert [outcome.result for outcome in outcomes] == [WriteResult.CONFIRMED] * 4, outcomes
            assert server.ask("get", name="Speed")["value"] == 42.5
            assert server.ask("get", name="Running")["value"] is False
            [refused] = await driver.write({"speed": 130.0})
            assert (refused.result, refused.why) == (WriteResult.REFUSED, "BadOutOfRange")
            assert await reads(driver, "speed") == 42.5

    asyncio.run(main())


def test_a_policy_that_is_not_offered_is_not_replaced_by_a_weaker_one(server: Foreign, tmp_path: Path) -> None:
    async def main() -> None:
        data = server.data(tmp_path)
        server.restart(policies=["None", "Basic256Sha256"])
        async with open_driver(server.device("Aes256_Sha256_RsaPss"), data=data, timeout=3.0) as driver:
            why = await refusal(driver, "does not offer Aes256_Sha256_RsaPss with sign_and_encrypt, but ")
            assert "Basic256Sha256 with sign_and_encrypt" in why
        server.restart(policies=["None"], modes=["None"])
        async with open_driver(server.device("Basic256Sha256"), data=data, timeout=3.0) as driver:
            await refusal(driver, "does not offer Basic256Sha256 with sign_and_encrypt, but none;")

    asyncio.run(main())


def test_a_server_that_wants_security_says_so_to_a_client_without(server: Foreign, tmp_path: Path) -> None:
    async def main() -> None:
        server.restart(policies=["Basic256Sha256"], modes=["SignAndEncrypt"])
        async with open_driver(server.device("none"), data=tmp_path, timeout=3.0) as driver:
            await refusal(driver, "name the security policy that it offers: Basic256Sha256 with sign_and_encrypt")
            assert driver.metrics.connects == 0

    asyncio.run(main())


def put(path: Path, text: str, mode: int) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


MORE = """
[signals.curve_2]
at = "nsu=urn:foreign:press;s=Curve"
element = 2
type = "float64"
range = [0, 10]
access = "write"

[signals.high]
at = "nsu=urn:foreign:press;s=Limits"
field = "High"
type = "float64"
range = [0, 100]
"""


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
def test_one_number_of_an_array_and_of_a_structure(server: Foreign, tmp_path: Path, mode: str) -> None:
    put(tmp_path / "more.toml", PROFILE.replace("[opcua]", f'[opcua]\nmode = "{mode}"') + MORE, 0o644)
    profile = load_profile(tmp_path / "more.toml")

    async def main() -> None:
        async with open_driver(server.device(profile=profile), data=server.data(tmp_path / "data"), timeout=3.0) as driver:
            await good(driver)
            assert await reads(driver, "curve_2") == 3.0
            assert await reads(driver, "high") == 97.5
            [outcome] = await driver.write({"curve_2": 4.5})
            assert outcome.result is WriteResult.CONFIRMED, outcome
            assert list(server.ask("get", name="Curve")["value"].values()) == [1, 2, 4.5, 4]
            [outcome] = await driver.write({"curve_2": 3.0})
            assert outcome.result is WriteResult.CONFIRMED, outcome

    asyncio.run(main())


@pytest.fixture
def password(tmp_path: Path) -> Path:
    put(tmp_path / "password", PASSWORD + "\n", 0o600)
    return tmp_path / "password"


def test_a_user_logs_on_and_a_wrong_password_stays_secret(server: Foreign, tmp_path: Path, password: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        data = server.data(tmp_path)
        server.restart(anonymous=False)
        async with open_driver(server.device(), data=data, timeout=3.0) as driver:
            await refusal(driver, "the server refuses anonymous users; name a user and a password_file")
        named = server.device(user=USER, password_file="password")
        for mode in ("sign_and_encrypt", "sign"):  # where it is only signed, the server asks for the password to be encrypted
            async with open_driver(server.device(user=USER, password_file="password", mode=mode), data=data, timeout=3.0) as driver:
                await good(driver)
        put(password, "not it, s3cret", 0o600)
        async with open_driver(named, data=data, timeout=3.0) as driver:
            why = await refusal(driver, "the server refuses user 'operator'; check the name and its password file")
            assert "s3cret" not in why
        put(password, "not it, s3cret", 0o640)
        async with open_driver(named, data=data, timeout=3.0) as driver:
            await refusal(driver, "can be used by others (mode 0640); chmod 600 it")
        missing = server.device(user=USER, password_file="nowhere")
        async with open_driver(missing, data=data, timeout=3.0) as driver:
            await refusal(driver, f"password file {data / 'nowhere'} is not there; write the secret into it")

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert caplog.records
    assert not any(secret in record.getMessage() for record in caplog.records for secret in ("s3cret", PASSWORD))


def test_a_password_is_encrypted_for_a_trusted_server_or_not_sent(server: Foreign, tmp_path: Path, password: Path) -> None:
    """Without security on the channel the server offers to encrypt the password; with whose key, is checked first."""

    async def main() -> None:
        named = server.device("none", user=USER, password_file=password.name)
        async with open_driver(named, data=tmp_path, timeout=3.0) as driver:
            await refusal(driver, "is not trusted")
            Pki(tmp_path).trust(str(next(Pki(tmp_path).entries("rejected")).path))
            await good(driver)

    asyncio.run(main())


def test_a_password_is_not_sent_where_what_is_shown_is_no_certificate(server: Foreign, tmp_path: Path, password: Path) -> None:
    old, new = ODD["1 is not a valid X509 version"]

    async def main() -> None:
        named = server.device("none", user=USER, password_file=password.name)
        async with Proxy("127.0.0.1", named.address.port, Uacp, service) as proxy:
            proxy.add(Rewrite(lambda message: message.replace(old, new)))
            behind = replace(named, address=replace(named.address, port=proxy.port))
            async with open_driver(behind, data=tmp_path, timeout=3.0) as driver:
                await refusal(driver, "the server sent bytes that are no certificate: 1 is not a valid X509 version")

    asyncio.run(main())


def test_an_expired_and_another_certificate_are_refused(server: Foreign, tmp_path: Path) -> None:
    async def main() -> None:
        data = server.data(tmp_path)
        async with open_driver(server.device(), data=data, timeout=3.0) as driver:
            await good(driver)
            server.restart(**server.identity("other", make("another key", uri=URI)))
            await refusal(driver, f"has changed: the one that is trusted for {URI}")
            old = make("foreign press", uri=URI, begins=NOW - timedelta(days=9), ends=NOW - timedelta(days=1))
            server.restart(**server.identity("old", old))
            await refusal(driver, "expired on")
            server.usual()
            await good(driver)

    asyncio.run(main())


def test_trust_that_is_taken_away_ends_a_running_link(server: Foreign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        data = server.data(tmp_path)
        async with open_driver(server.device(), data=data, timeout=3.0) as driver:
            await good(driver)
            [trusted] = Pki(data).entries("trusted")
            trusted.path.unlink()
            await refusal(driver, "is not trusted; compare its fingerprint")
            assert driver.metrics.losses == 1
            Pki(data).trust(str(next(Pki(data).entries("rejected")).path))
            await good(driver)

    monkeypatch.setattr("drivers.opcua._RECHECK", 0.2)
    asyncio.run(main())


@pytest.mark.parametrize("step", [timedelta(days=-2), timedelta(days=400), timedelta(days=2200)])
def test_the_clock_neither_ends_a_running_link_nor_keeps_one_that_is_trusted_no_more(
    server: Foreign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    """It is put back before the server's certificate begins, or on to when that has expired, or our own too."""
    stepped = timedelta(0)
    looks = 0
    recheck = SecuredClient.recheck

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls.fromtimestamp((datetime.now(tz) + stepped).timestamp(), tz)

    async def looked(client: SecuredClient) -> None:
        nonlocal looks
        await recheck(client)
        looks += 1

    async def main() -> None:
        nonlocal stepped
        data = server.data(tmp_path)
        async with open_driver(server.device(), data=data, timeout=3.0) as driver:
            await good(driver)
            stepped, before = step, looks
            end = time.monotonic() + 8.0
            while looks < before + 3:
                await driver.read()
                assert driver.metrics.losses == 0, driver.metrics.why
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            [trusted] = Pki(data).entries("trusted")
            trusted.path.unlink()
            end = time.monotonic() + 8.0
            while driver.metrics.losses == 0:
                await driver.read()
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            assert "is not trusted; compare its fingerprint" in driver.metrics.why

    monkeypatch.setattr("drivers.opcua._RECHECK", 0.1)
    monkeypatch.setattr("drivers.opcua_pki.datetime", Clock)
    monkeypatch.setattr(SecuredClient, "recheck", looked)
    asyncio.run(main())


def test_a_certificate_for_another_application_is_refused(server: Foreign, tmp_path: Path) -> None:
    async def main() -> None:
        data = server.data(tmp_path)
        server.restart(uri="urn:foreign:impostor")
        async with open_driver(server.device(), data=data, timeout=3.0) as driver:
            await refusal(driver, f"is for application {URI}, but the server says it is urn:foreign:impostor")

    asyncio.run(main())


def test_shifted_namespaces_never_bring_another_nodes_value(server: Foreign, tmp_path: Path) -> None:
    async def main() -> None:
        seen = set()
        async with open_driver(server.device(), data=server.data(tmp_path), timeout=3.0) as driver:
            await good(driver)
            for spaces in (["urn:foreign:press", "urn:foreign:other"], ["urn:foreign:new", "urn:foreign:other", "urn:foreign:press"]):
                server.changed = True
                server.tell("restart", spaces=spaces)
                answer = asyncio.create_task(asyncio.to_thread(server.heard))
                connects = driver.metrics.connects
                end = time.monotonic() + 20.0
                while driver.metrics.connects == connects or not driver.metrics.connected:
                    seen.add(await reads(driver, "temperature"))
                    assert time.monotonic() < end, driver.metrics.why
                    await asyncio.sleep(0.01)
                await answer
                await good(driver)
                seen.add(await reads(driver, "temperature"))
        assert {value for value in seen if value == value} == {20.0}  # NaN while it is away

    asyncio.run(main())


def test_a_method_is_called_once_with_converted_inputs(server: Foreign, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with open_driver(server.device(), data=server.data(tmp_path), timeout=3.0) as driver:
            outcome = await driver.call("dose", {"speed": 50.0, "steps": 3.0})
            assert (outcome.result, outcome.why) == (WriteResult.NOT_SENT, "not connected yet")
            await good(driver)
            outcome = await driver.call("dose", {"speed": 50.0, "steps": 3.0})  # 50 % is 0.5, which is what it takes
            assert (outcome.result, outcome.outputs, outcome.why) == (WriteResult.CONFIRMED, (1.5,), "")
            outcome = await driver.call("dose", {"speed": 50.0, "steps": -3.0})
            assert (outcome.result, outcome.why) == (WriteResult.REFUSED, "BadInvalidArgument; steps: BadOutOfRange")
            before = server.ask("get")["calls"]
            for inputs, says in [
                ({"speed": 50.0}, "wrong or missing: steps"),
                ({"speed": 50.0, "steps": 1.0, "more": 1.0}, "wrong or missing: more"),
                ({"speed": 150.0, "steps": 1.0}, "speed 150 % is outside of the range of speed, 0 to 100 %"),
                ({"speed": float("nan"), "steps": 1.0}, "speed nan % is outside"),
                ({"speed": 5.0, "steps": 1e12}, "does not fit a int32"),
            ]:
                outcome = await driver.call("dose", inputs)
                assert outcome.result is WriteResult.NOT_SENT
                assert says in outcome.why
            for name, says in [("typed", "it takes 1 inputs (Word), and the profile has 0"), ("gone", "is not a method"), ("no", "it has dose, ")]:
                outcome = await driver.call(name, {})
                assert outcome.result is WriteResult.NOT_SENT
                assert says in outcome.why
            assert server.ask("get")["calls"] == before
            outcome = await driver.call("dose", {"speed": 50.0, "steps": 13.0})  # done, and the answer is lost
            assert outcome.result is WriteResult.UNKNOWN
            await good(driver)
            assert server.ask("get")["calls"] == before + 1

    with caplog.at_level(logging.ERROR, logger="drivers"):
        asyncio.run(main())
    assert "press.typed cannot be called: it takes 1 inputs" in caplog.text


def test_events_of_the_device_arrive_with_severity_source_and_words(server: Foreign, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_driver(server.device(), data=server.data(tmp_path), timeout=3.0) as driver:
            await good(driver)
            assert driver.take_events() == []
            server.ask("event", severity=100, message="of no interest")
            server.ask("event", severity=700, message="Filter cloth\ntorn")
            events: list[DeviceEvent] = []
            end = time.monotonic() + 5.0
            while not events:
                await driver.read()
                events = driver.take_events()
                assert time.monotonic() < end, "no event came"
                await asyncio.sleep(0.02)
            [event] = events
            assert (event.severity, event.source, event.text) == (700, "Press", "Filter cloth torn")
            assert abs(event.time / 1e9 - time.time()) < 60.0
            assert driver.metrics.drops == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("node", "capabilities", "says"),
    [
        ("nothing", {}, "BadNodeIdUnknown of nsu=urn:foreign:press;s=nothing"),
        ("press", {"maxSubscriptionsPerSession": 1}, "BadTooManySubscriptions"),
    ],
)
def test_values_go_on_where_events_cannot_be_had(
    server: Foreign, tmp_path: Path, caplog: pytest.LogCaptureFixture, node: str, capabilities: dict[str, int], says: str
) -> None:
    profile = server.profile.model_copy(update={"opcua": OpcuaOptions(events=f"nsu=urn:foreign:press;s={node}")})

    async def main() -> None:
        if capabilities:
            server.restart(capabilities=capabilities)
        async with open_driver(server.device(profile=profile), data=server.data(tmp_path), timeout=3.0) as driver:
            await good(driver)
            count = await reads(driver, "count")
            end = time.monotonic() + 3.0
            while await reads(driver, "count") == count:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)

    with caplog.at_level(logging.ERROR, logger="drivers"):
        asyncio.run(main())
    assert f"press: no events: {says}" in caplog.text


def test_a_profile_is_drafted_by_the_command_once_both_sides_trust(server: Foreign, tmp_path: Path) -> None:
    data, to = server.data(tmp_path / "data", trusts=False), tmp_path / "drafted.toml"

    def blackmass(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*arguments, "--data", str(data)])
        return result.exit_code, result.output

    status, said = blackmass("browse", server.endpoint, "--write", str(to))
    assert (status, to.exists()) == (3, False)
    assert "is not trusted" in said
    step = said.partition("blackmass trust ")[2].partition(" ")[0]
    status, said = blackmass("certificates")
    assert status == 0
    assert "rejected" in said
    assert step in said
    status, said = blackmass("trust", step)
    assert status == 0, said
    assert "trusted from now on: CN=foreign press" in said
    status, said = blackmass("browse", server.endpoint)
    assert status == 0, said
    assert "Press/Temperature" in said
    assert "method Press/Dose(Speed: Float, Steps: Int32)" in said
    status, said = blackmass("browse", server.endpoint, "--write", str(to), "--include", "Press/*", "--writable")
    assert status == 0, said
    assert "8 signals, 1 methods, 4 left out" in said
    drafted = load_profile(to)
    for name, signal in server.profile.signals.items():
        there = drafted.signals[name]
        assert (there.at, there.type, there.eu, there.access) == (signal.at, signal.type, signal.eu, signal.access)
        assert there.browse_name == signal.at.rpartition("=")[2]
    assert (drafted.identity, list(drafted.methods)) == (server.profile.identity, ["dose"])
    status, said = blackmass("browse", server.endpoint, "--write", str(to))
    assert status == 2
    assert "is there already" in said

    async def main_() -> None:
        async with open_driver(server.device(profile=drafted), data=data, timeout=3.0) as driver:
            await good(driver)

    asyncio.run(main_())


def test_a_walk_ends_where_it_is_bounded(server: Foreign) -> None:
    async def walked(bounds: Bounds) -> Survey:
        client = new_client(server.device("none"), 3.0)
        await client.connect()
        try:
            return await walk(client, bounds)
        finally:
            await disconnect(client)

    whole = asyncio.run(walked(Bounds()))
    assert whole.cut == ""
    assert [path for path, _ in whole.notifiers] == [("Press",)]
    few = asyncio.run(walked(Bounds(nodes=6)))
    assert few.cut == "more than 6 nodes"
    assert 0 < len(few.variables) < len(whole.variables)
    flat = asyncio.run(walked(Bounds(depth=1)))
    assert flat.cut == "deeper than 1 levels"
    assert {"/".join(one.path) for one in flat.variables} == {"Temperature", "Serial"}
    assert asyncio.run(walked(Bounds(seconds=0.0))).cut == "it took more than 0 s"


def test_what_is_changed_on_the_wire_is_never_a_value(server: Foreign, tmp_path: Path) -> None:
    """On a channel that is only signed everybody can read, and nobody can change a byte."""

    async def main_() -> None:
        data, seen, spoiled = server.data(tmp_path), set(), 0
        async with Proxy("127.0.0.1", Address.parse(server.endpoint).port, Uacp) as proxy:
            device = replace(server.device(mode="sign"), address=Address.parse(f"opc.tcp://127.0.0.1:{proxy.port}"))
            async with open_driver(device, data=data, timeout=1.0) as driver:
                for at in (-1, -33, 30, 60, 100):  # the signature, what it signs, and its headers
                    await good(driver)
                    fault = proxy.add(Corrupt(at, 0x01, times=1, match=lambda message, at=at: message.startswith(b"MSG") and len(message) > abs(at)))
                    end = time.monotonic() + 5.0
                    while driver.metrics.connected:
                        reading = await driver.read()
                        seen |= {float(reading.values[0])} if reading.quality[0] == Quality.GOOD else set()
                        assert time.monotonic() < end, f"byte {at} was changed, and nobody minded"
                        await asyncio.sleep(0.02)
                    spoiled += fault.done
        assert (seen <= {20.0}, spoiled) == (True, 5)

    asyncio.run(main_())


CELL = """
[cell]
id = "foreign"

[devices.press]
profile = "press"
address = "{address}"
security = "Aes256_Sha256_RsaPss"
user = "operator"
password_file = "press.password"
tags = {{ "TT-101" = "temperature", "SY-101" = "speed" }}
"""


def test_the_steps_of_the_how_to(server: Foreign, tmp_path: Path) -> None:
    """A cell file asks for security; check --online says what to do, until every tag is read."""
    data = server.data(tmp_path / "data", trusts=False)
    put(data / "press.password", PASSWORD, 0o600)
    put(tmp_path / "press.toml", PROFILE, 0o644)
    put(tmp_path / "cell.toml", CELL.format(address=server.endpoint), 0o644)

    def blackmass(*arguments: str) -> tuple[int, str]:
        result = CliRunner(env={"COLUMNS": "900"}).invoke(main, [*arguments, "--data", str(data)])
        return result.exit_code, result.output

    status, said = blackmass("check", str(tmp_path / "cell.toml"), "--online")
    assert (status, "0 of 2 tags can be used" in said) == (1, True), said
    assert blackmass("trust", said.partition("blackmass trust ")[2].partition(" ")[0])[0] == 0
    status, said = blackmass("check", str(tmp_path / "cell.toml"), "--online")
    assert (status, "2 of 2 tags can be used" in said) == (0, True), said
    assert PASSWORD not in said
