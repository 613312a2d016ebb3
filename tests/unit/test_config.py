"""Cell files: every mistake is named with file:line:column and what was expected, and nothing starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.app import safe_words
from controller.config import cell_path, load_cell
from drivers.device import load_profile
from drivers.source import BadInput

DEMO = cell_path("demo")


def broken(folder: Path, old: str, new: str) -> list[str]:
    """Return the problems of the demo cell with one text replaced; each is checked to point into the file."""
    text = DEMO.read_text()
    assert old in text
    path = folder / "cell.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput) as caught:
        load_cell(path)
    for problem in caught.value.problems:
        assert problem.where.file == str(path)
        assert 1 <= problem.where.line <= text.count("\n") + 1
    return [str(problem) for problem in caught.value.problems]


def line_of(text: str) -> int:
    return DEMO.read_text()[: DEMO.read_text().index(text)].count("\n") + 1


def test_the_demo_cell_is_good() -> None:
    plan = load_cell(DEMO).plan
    assert set(plan.devices) == {"shredder", "hopper", "leach", "purification", "reactor", "filter", "lithium", "laboratory"}
    rest = np.where(np.isnan(plan.rest), plan.outputs.low, plan.rest)  # a counter rests where it is
    assert np.all((rest >= plan.outputs.low) & (rest <= plan.outputs.high))
    assert [plan.outputs[int(place)].name for place in np.flatnonzero(np.isnan(plan.rest))] == ["QY-601.POINT", "QY-601.REQUEST"]
    assert len(plan.points) == len(plan.inputs) + len(plan.outputs) + 2 * len(plan.loops.names)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('scan = "100 ms"', 'scam = "100 ms"', "unknown key 'scam'; did you mean 'scan'?"),
        ('scan = "100 ms"', 'scan = "100 furlongs"', "eu 'furlongs' is not known"),
        ('scan = "100 ms"', 'scan = "100 L"', "100 L cannot be expressed in s"),
        ('profile = "shredder"', 'profile = "shreder"', "no device profile 'shreder'; did you mean 'shredder'?"),
        ('profile = "shredder"', 'profile = "my_pump"', "one of your own is my_pump.toml beside the cell file"),
        ("lines/wash?unit=1", "lines/wash?unti=1", "no option 'unti'; there are unit, baud, parity, bits and stop"),
        ("lines/wash?unit=1", "lines/wash?unit=1&baud=9600000000", "expected baud 1 to 100000000, got 9600000000"),
        ('"modbus-rtu:lines/wash?unit=1', '"modbus-rut:lines/wash?unit=1', "no scheme 'modbus-rut'; did you mean 'modbus-rtu'?"),
        ('"modbus-rtu:lines/wash?unit=1', '"modbus-rtu:lines/wash?unit=300', "expected unit 1 to 247 on a serial line, where 0 is for all"),
        ('address = "opc.tcp://127.0.0.1:4841"', 'address = "modbus-tcp://127.0.0.1:502"', "speaks modbus, but profile shredder is opcua"),
        ('address = "opc.tcp://127.0.0.1:4841"', 'address = "opc.tcp://"', "expected opc.tcp://HOST:PORT"),
        ('security = "none"', 'security_mode = "sign"', "name the security policy (Basic256Sha256, Aes128_Sha256_RsaOaep, Aes256_Sha256_RsaPss)"),
        ('security = "none"', 'security = "Basic128Rsa15"', "security"),
        ('security = "none"', 'security = "none"\nuser = "op"', "user 'op' needs a password_file of mode 0600"),
        ('security = "none"', 'security = "none"\npassword_file = "secret"', "a password needs the user whose it is"),
        ('poll = "250 ms"', 'security = "Basic256Sha256"', "has no security policies; use modbus-tls://"),
        ('address = "modbus-tcp://127.0.0.1:5021?unit=1"', 'address = "modbus-tcp://127.0.0.1:5020?unit=1"', "already that of device leach"),
        ('"modbus-rtu:lines/wash?unit=1"', '"modbus-rtu:lines/wash?unit=2&baud=38400"', "already that of device hopper"),
        ('"TT-201" = "temperature"', '"TT-201" = "temperatur"', "no signal 'temperatur'; did you mean 'temperature'?"),
        ('"TT-201" = "temperature"', '"AT-101" = "temperature"', "already a signal of device shredder"),
        ('pv = "TT-201"', 'pv = "TT-2O1"', "no tag 'TT-2O1' in this cell; did you mean"),
        ('out = "TY-201"', 'out = "TT-202"', "only read; expected a writable one"),
        ('out = "TY-301"', 'out = "TY-201"', "already driven by loop TIC-201"),
        ('reset = "25 min"', 'reset = "0 min"', "expected a time above 0"),
        ('class = "leach_tank"', 'class = "leach_tonk"', "no unit class 'leach_tonk'"),
        ('ph = "AT-201"\n', "", "role 'ph' of class leach_tank is not bound"),
        ('ph = "AT-201"', 'ph = "TT-202"', "TT-202 is in degC, but the role is in pH"),
        ('permit = "TT-201 <= 85 degC"', 'permit = "TT-201 <= 85 bar"', "85 bar cannot be expressed in degC"),
        ('permit = "TT-201 <= 85 degC"', 'permit = "TT-201 = 85 degC"', "expected a comparison such as"),
        ('permit = "TT-201 <= 85 degC"', 'permit = "TT-201 <= 850 degC"', "outside the range of TT-201, 0 to 120 degC"),
        ('name = "I-102"', 'name = "I-101"', "'I-101' is used twice"),
        ('"FY-202" = 0.0, "FY-111" = 0.0, "TY-201" = -100.0', '"FY-202" = 99.0', "99 is outside the range of FY-202"),
        ("priority = 2", "priority = 9", "priority"),
        ("simulated = true", 'simulated = "perhaps"', "simulated"),
        ('of = ["AT-401A", "AT-401B"]', 'of = ["AT-401A"]', "at least 2 items"),
    ],
)
def test_a_mistake_is_named_where_it_stands(tmp_path: Path, old: str, new: str, says: str) -> None:
    problems = broken(tmp_path, old, new)
    assert any(says in problem for problem in problems), problems


PROFILE = """
id = "scale"
description = "A scale"
protocol = "modbus"
identity = { at = "input:0", value = 7 }
[groups.slow]
period = "2 s"
deadband = 1
[signals.weight]
range = [0, 500]
eu = "kg"
at = "input:2"
group = "slow"
[signals.tare]
range = [0, 50]
eu = "kg"
at = "input:4"
group = "slow"
deadband = 0.1
[signals.flow]
range = [0, 10]
eu = "kg/h"
at = "input:6"
"""
# what is written, and what is 0 or 1: no deadband holds it
EXACT = """
[signals.flow_sp]
range = [0, 10]
eu = "kg/h"
at = "holding:6"
access = "write"
group = "slow"
deadband = 0.1
[signals.full]
type = "bool"
at = "discrete:0"
group = "slow"
deadband = 1
"""


def test_groups_say_how_often_a_signal_is_wanted_and_when_it_is_old(tmp_path: Path) -> None:
    (tmp_path / "scale.toml").write_text(PROFILE + EXACT)
    path = tmp_path / "cell.toml"
    path.write_text(
        DEMO.read_text().replace(
            "[selectors", '[devices.scale]\nprofile = "scale"\naddress = "modbus-tcp://127.0.0.1:1"\npoll = "200 ms"\n'
            '[devices.scale.tags]\n"WT-1" = "weight"\n"WT-2" = "tare"\n"FT-1" = "flow"\n\n[selectors', 1
        )
    )  # fmt: skip
    plan = load_cell(path).plan
    rows = plan.devices["scale"]
    np.testing.assert_allclose(rows.device.periods, [2.0, 2.0, 0.2, 2.0, 2.0])
    np.testing.assert_array_equal(rows.device.deadbands, [5.0, 0.1, 0.0, 0.0, 0.0])
    assert rows.poll == 0.2
    places = plan.image.places(["WT-1", "WT-2", "FT-1"])
    np.testing.assert_allclose(np.asarray(plan.freshness.uncertain_after)[places], [6.0, 6.0, 0.6])
    np.testing.assert_allclose(np.asarray(plan.freshness.bad_after)[places], [20.0, 20.0, 2.5])
    np.testing.assert_allclose(load_cell(path, speed=10.0).plan.devices["scale"].device.periods, [0.2, 0.2, 0.05, 0.2, 0.2])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('period = "2 s"', "period = 2", "expected a time with its eu, such as '100 ms'"),
        ('period = "2 s"', 'period = "0 s"', "expected a time above 0 s"),
        ('period = "2 s"', 'period = "2 kg"', "2 kg cannot be expressed in s"),
        ("deadband = 1\n", "deadband = 101\n", "less than or equal to 100"),
        ('group = "slow"', 'group = "slaw"', "no group 'slaw'; this profile has slow"),
    ],
)
def test_a_mistake_in_a_group_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "scale.toml"
    path.write_text(PROFILE.replace(old, new, 1))
    with pytest.raises(BadInput) as caught:
        load_profile(path)
    assert any(says in str(problem) for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('at = "input:2"', 'at = "imput:2"', 'at = "imput:2"', "signals.weight.at: expected coil|discrete|input|holding:<address>, got 'imput:2'"),
        ('at = "input:2"', 'at = "input:65535"', 'at = "input:65535"', "weight at input:65535: addresses go from 0 to 65535"),
        ('at = "input:4"', 'at = "input:3"', 'at = "input:3"', "weight and tare overlap in input 3"),
        ('at = "input:2"', 'at = "coil:2"', 'at = "coil:2"', "a coil holds a bool, not a float32"),
        ("range = [0, 500]", "range = [500, 0]", "range = [500, 0]", "signals.weight.range: expected low < high, got [500, 0]"),
        ("range = [0, 500]", "range = [0, 500]\nscale = 0", "scale = 0", "expected greater than 0, got 0"),
        ("value = 7", "value = 70000", "identity =", "identity.value: 70000 is no uint16, so no device could ever show it"),
        ('at = "input:2"', 'at = "input:2"\ntype = "int16"\nnan = 65536', "nan =", "nan: 65536 is no int16, so it never comes"),
        ('at = "input:2"', 'at = "input:2"\ntype = "uint16"\nnan = [1, -1]', "nan =", "nan: -1 is no uint16, so it never comes"),
        ('at = "input:2"', 'at = "input:2"\ntype = "bool"\nenum = { "2" = "both" }', "enum =", "enum: 2 is no bool, so it never comes"),
        ('at = "input:2"', 'at = "input:2"\nelement = 3', "element =", "element: only a signal on OPC UA has one"),
        ("value = 7", "value = 0.5", "identity =", "identity.value: 0.5 is no uint16"),
        (
            "value = 7",
            'type = "float32", value = 0.1',
            "identity =",
            "identity.value: no device could ever show 0.1 in a float32; the nearest that it can is 0.10000000149011612",
        ),
        ('at = "input:0"', 'at = "inputs:0"', "identity =", "identity.at: expected coil|discrete|input|holding:<address>"),
        ('eu = "kg/h"', 'eu = "kg/hr"', 'eu = "kg/hr"', "eu 'kg/hr' is not known; did you mean 'kg/h'?"),
        ('eu = "kg/h"', 'eu = "stone"', 'eu = "stone"', "known symbols: % "),
    ],
)
def test_a_mistake_of_a_profile_is_named_in_its_file(tmp_path: Path, old: str, new: str, line: str, says: str) -> None:
    """However many devices have the profile, it is named once."""
    text = PROFILE.replace(old, new, 1)
    (tmp_path / "scale.toml").write_text(text)
    device = '[devices.{}]\nprofile = "scale"\naddress = "modbus-tcp://127.0.0.1:{}"\ntags = {{}}\n'
    path = tmp_path / "cell.toml"
    path.write_text('[cell]\nid = "two"\n' + device.format("a", 1) + device.format("b", 2))
    with pytest.raises(BadInput) as caught:
        load_cell(path)
    number = next(place for place, it in enumerate(text.splitlines(), 1) if it.startswith(line))
    [problem] = map(str, caught.value.problems)
    assert problem.startswith(f"{tmp_path}/scale.toml:{number}:"), problem
    assert says in problem


def test_every_mistake_of_a_profile_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scale.toml"
    path.write_text(PROFILE.replace('"slow"', '"slaw"').replace('at = "input:2"', 'at = "imput:2"'))
    with pytest.raises(BadInput) as caught:
        load_profile(path)
    assert [problem.what.partition(":")[0] for problem in caught.value.problems] == [
        "signals.weight.at",
        "signals.weight.group",
        "signals.tare.group",
    ]


def test_an_output_that_is_not_there_is_one_mistake(tmp_path: Path) -> None:
    """In a cell without any output, and in one where the first tag is in another eu."""
    (tmp_path / "scale.toml").write_text(PROFILE)
    unit = '[units.H-1]\nclass = "weigh_hopper"\n[units.H-1.roles]\nweight = "WT-1"\nfeeder = { output = "FY-111" }\n'
    device = '[devices.a]\nprofile = "scale"\naddress = "modbus-tcp://127.0.0.1:1"\n[devices.a.tags]\n"FT-1" = "flow"\n"WT-1" = "weight"\n'
    path = tmp_path / "cell.toml"
    path.write_text(f'[cell]\nid = "one"\n{device}{unit}')
    with pytest.raises(BadInput) as caught:
        load_cell(path)
    assert [problem.what for problem in caught.value.problems] == ["no tag 'FY-111' in this cell; did you mean FT-1?"]
    assert [problem.partition(": ")[2] for problem in broken(tmp_path, 'weight = "WT-111"', 'weight = "WX-111"')] == [
        "no tag 'WX-111' in this cell; did you mean WT-111 or WY-101?"
    ]


def test_a_poll_or_a_scan_that_lets_a_device_fall_to_its_safe_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cell.toml"
    cell = '[cell]\nid = "one"\nscan = "{}"\n[devices.b]\nprofile = "leach_tank"\naddress = "modbus-tcp://127.0.0.1:2"\npoll = "{}"\n'
    writes, looks = '[devices.b.tags]\n"FY-2" = "acid_flow_sp"\n', '[devices.b.tags]\n"TT-2" = "temperature"\n'
    for scan, poll, at in (("100 ms", "6 s", "poll"), ("6 s", "100 ms", "scan")):
        path.write_text(cell.format(scan, poll) + writes)
        with pytest.raises(BadInput) as caught:
            load_cell(path)
        [problem] = caught.value.problems
        assert problem.what == f"b falls to its safe state 5 s after a heartbeat, and the next would come after 6 s; {at} at least every 2.5 s"
        assert path.read_text().splitlines()[problem.where.line - 1].startswith(at)
        path.write_text(cell.format(scan, poll) + looks)
        load_cell(path)  # who only looks does not depend on it
    path.write_text(cell.format("2.5 s", "2.5 s") + writes)
    load_cell(path)


def test_the_end_says_which_outputs_may_still_stand(tmp_path: Path) -> None:
    (tmp_path / "scale.toml").write_text(
        PROFILE.replace("range = [0, 10]", 'range = [0, 10]\naccess = "write"').replace('at = "input:6"', 'at = "holding:6"')
    )
    path = tmp_path / "cell.toml"
    both = '[devices.{}]\nprofile = "{}"\naddress = "modbus-tcp://127.0.0.1:{}"\n[devices.{}.tags]\n"{}" = "{}"\n'
    path.write_text(
        '[cell]\nid = "two"\n' + both.format("a", "scale", 1, "a", "FY-1", "flow") + both.format("b", "leach_tank", 2, "b", "FY-2", "acid_flow_sp")
    )
    plan = load_cell(path).plan
    assert safe_words(plan, ()) == "devices have their safe values"
    said = safe_words(plan, {"a", "b"})
    assert "b falls to them by itself within 5 s" in said
    assert "a: no heartbeat in the profile, so what was written last may still stand" in said


def test_the_place_is_exact(tmp_path: Path) -> None:
    problems = broken(tmp_path, 'permit = "TT-201 <= 85 degC"', 'permit = "TT-2O1 <= 85 degC"')
    line = line_of('permit = "TT-201 <= 85')
    assert f"cell.toml:{line}:1:" in problems[0]


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = DEMO.read_text().replace('pv = "TT-201"', 'pv = "XX-1"').replace('permit = "AT-101 <= 4 %"', 'permit = "AT-101 <= 4 bar"')
    path = tmp_path / "cell.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        load_cell(path)
    assert len(caught.value.problems) >= 2


def test_a_file_that_is_not_there_or_cut_short(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        load_cell(tmp_path / "no.toml")
    path = tmp_path / "cell.toml"
    path.write_text(DEMO.read_text()[:5000].rsplit('"', 1)[0])
    with pytest.raises(BadInput, match="not valid TOML"):
        load_cell(path)
    path.write_bytes(b"\xff\xfe\x00[cell]")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_cell(path)


def test_an_address_for_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="no such device"):
        load_cell(DEMO, addresses={"nothing": "opc.tcp://127.0.0.1:1"})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20_000), st.integers(1, 40), st.text(max_size=8))
def test_whatever_is_done_to_the_file_it_loads_or_says_where(tmp_path_factory: pytest.TempPathFactory, start: int, length: int, put: str) -> None:
    text = DEMO.read_text()
    start %= len(text)
    path = tmp_path_factory.getbasetemp() / "mangled.toml"
    path.write_text(text[:start] + put + text[start + length :], encoding="utf-8", errors="replace", newline="")
    try:
        load_cell(path)
    except BadInput as error:
        problems = error.problems
    else:
        problems = []
    assert all(problem.where.line >= 1 and problem.what for problem in problems)
