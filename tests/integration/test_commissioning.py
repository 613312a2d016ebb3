"""`blackmass plan` and `blackmass check --online`, against served devices as an engineer would meet them."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner, Result

from controller import commissioning
from controller.cli import main
from drivers.device import profile_folder
from tests.integration.test_serve import line, serving

pytestmark = pytest.mark.wire

CELL = """
[cell]
id = "small"
description = "A tank and a scale"
scan = "200 ms"
simulated = {simulated}

[devices.leach]
profile = "leach_tank"
address = "{leach}"
[devices.leach.tags]
"TT-201" = "temperature"
"AT-201" = "ph"

[devices.hopper]
profile = "weigh_hopper"
address = "modbus-rtu:lines/scale?unit=2&baud={baud}"
[devices.hopper.tags]
"WT-111" = "weight"
"FY-111" = "feeder_rate_sp"

[units.T-1]
class = "weigh_hopper"
[units.T-1.roles]
weight = "WT-111"
feeder = {{ output = "FY-111" }}
"""
DEVICES = [
    {"name": "leach", "profile": "leach_tank", "address": "modbus-tcp://127.0.0.1:0?unit=1"},
    {"name": "hopper", "profile": "weigh_hopper", "address": "modbus-rtu:lines/scale?unit=2&baud=19200"},
]


def written(folder: Path, *, leach: str = "modbus-tcp://127.0.0.1:5020?unit=1", baud: int = 19200, simulated: bool = False) -> Path:
    path = folder / "small.toml"
    path.write_text(CELL.format(leach=leach, baud=baud, simulated=str(simulated).lower()), encoding="utf-8")
    return path


def blackmass(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(main, [str(argument) for argument in arguments])


def test_plan_names_requests_and_headroom(tmp_path: Path) -> None:
    shown = blackmass("plan", written(tmp_path))
    assert shown.exit_code == 0, shown.output
    assert "lines/scale, 19200 baud: reads take 21% of its time, headroom 79%" in shown.stdout
    assert "unit 2 input 0 to 5: identity, weight, feeder_rate" in shown.stdout


def test_plan_of_groups_and_of_a_line_behind_a_socket(tmp_path: Path) -> None:
    """What is wanted seldom takes little of the line; a pause that leaves no time for all requests is refused."""
    profile = (profile_folder() / "weigh_hopper.toml").read_text(encoding="utf-8")
    slow = profile.replace('at = "input:4"', 'at = "input:4"\ngroup = "slow"') + '\n[groups.slow]\nperiod = "10 s"\n'
    (tmp_path / "slow_hopper.toml").write_text(slow, encoding="utf-8")
    address = "modbus-rtu-tcp://127.0.0.1:5000?unit=2&baud=19200"
    path = written(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace('"weigh_hopper"\naddress', '"slow_hopper"\naddress'), encoding="utf-8")
    shown = blackmass("plan", path, "--device", f"hopper={address}")
    assert shown.exit_code == 0, shown.output
    assert "modbus-rtu-tcp://127.0.0.1:5000, 19200 baud: reads take" in shown.stdout
    assert "unit 2 input 4 to 5: feeder_rate, every 10 s" in shown.stdout
    assert "unit 2 input 0 to 3: identity, weight" in shown.stdout
    (tmp_path / "slow_hopper.toml").write_text(slow.replace("[modbus]", '[modbus]\npause = "80 ms"'), encoding="utf-8")
    shown = blackmass("check", path)
    assert shown.exit_code != 0
    assert "requests and their pauses would take" in shown.output


LONE = """
id = "lone"
description = "Values that stand alone"
protocol = "modbus"
identity = { at = "input:0", IDENTITY }
[signals.a]
at = "input:100"
[signals.b]
at = "input:200"
"""


@pytest.mark.parametrize(
    ("identity", "address", "unclear"),
    [
        ('type = "uint32", value = 47110815', "modbus-rtu:line?unit=2", False),  # half of it is asked for
        ('text = "SCALE"', "modbus-rtu:line?unit=2", False),
        ('text = "ABC"', "modbus-rtu:line?unit=2", True),
        ('text = "ABC"', "modbus-rtu-tcp://127.0.0.1:9?unit=2", True),
        ('text = "ABC"', "modbus-tcp://127.0.0.1:9?unit=2", False),  # there the transaction tells
    ],
)
def test_plan_warns_of_an_identity_that_is_as_long_as_another_read(tmp_path: Path, identity: str, address: str, unclear: bool) -> None:
    (tmp_path / "lone.toml").write_text(LONE.replace("IDENTITY", identity))
    (tmp_path / "cell.toml").write_text(f'[cell]\nid = "c"\n[devices.d]\nprofile = "lone"\naddress = "{address}"\ntags = {{ "AT-1" = "a" }}\n')
    shown = blackmass("plan", tmp_path / "cell.toml")
    assert shown.exit_code == 0, shown.output
    assert ("warning: device d: alone, its identity is as long as another of its reads" in shown.stderr) == unclear, shown.stderr


def test_plan_counts_texts_once_and_an_identity_in_words_each_time(tmp_path: Path) -> None:
    profile = (profile_folder() / "weigh_hopper.toml").read_text(encoding="utf-8")
    told = profile + '\n[texts.serial]\nat = "input:100"\nlength = 40\n'
    path = written(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace('"weigh_hopper"\naddress', '"telling_hopper"\naddress'), encoding="utf-8")
    (tmp_path / "telling_hopper.toml").write_text(told, encoding="utf-8")
    shown = blackmass("plan", path)
    assert shown.exit_code == 0, shown.output
    assert "headroom 79%" in shown.stdout
    # 8 bytes out, 45 back, 10 bits each, and two silences of 3.5 bytes
    assert f"unit 2 texts: serial: once on connection, then every minute, {(8 + 45 + 7) * 10 / 19.2:.1f} ms" in shown.stdout
    words = re.sub(r"^identity = .*$", 'identity = { at = "input:200", text = "HOPPER-111-0123456789012" }', told, flags=re.MULTILINE)
    assert words != told
    (tmp_path / "telling_hopper.toml").write_text(words, encoding="utf-8")
    shown = blackmass("plan", path)
    assert shown.exit_code == 0, shown.output
    [found] = re.findall(r"lines/scale.*headroom (\d+)%", shown.stdout)
    assert 65 <= int(found) <= 69, "that is read each time: 24 ms of 200"


def test_plan_says_how_soon_a_unit_is_back_while_others_are_dead(tmp_path: Path) -> None:
    """Six units of a line are; of fourteen not when many are dead."""
    cell = written(tmp_path)
    tank = '[devices.h{0}]\nprofile = "weigh_hopper"\naddress = "modbus-rtu:lines/scale?unit={0}&baud=19200"\npoll = "1 s"\n'
    tank += 'tags = {{ "W-{0}" = "weight" }}\n'
    alone = blackmass("plan", cell)
    assert "others of the" not in alone.stdout
    for count, late in ((6, False), (14, True)):
        path = tmp_path / f"{count}.toml"
        text = cell.read_text(encoding="utf-8").replace("[units.T-1]", "".join(tank.format(unit) for unit in range(3, 2 + count)) + "[units.T-1]")
        path.write_text(text, encoding="utf-8")
        shown = blackmass("plan", path)
        assert shown.exit_code == 0, shown.output
        [found] = re.findall(r"data ([\d.]+) s and a poll after a unit's return at most, while others of the (\d+) are dead", shown.stdout)
        assert int(found[1]) == count
        assert (float(found[0]) > 4.0) is late
        assert ("warning: lines/scale, 19200 baud: when" in shown.stderr) is late


def test_a_plan_that_does_not_fit_is_refused_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, baud=2400)
    for command in (("plan", path), ("check", path), ("run", path)):
        shown = blackmass(*command)
        assert shown.exit_code != 0
        assert "small.toml:17:" in shown.output  # the device's address
        assert "reads would take" in shown.output
        assert "raise the baud rate" in shown.output
    assert blackmass("check", written(tmp_path, baud=2400, simulated=True)).exit_code == 0  # a pty has no baud rate


def test_check_online_reads_every_tag(tmp_path: Path) -> None:
    with serving(DEVICES, tmp_path) as process:
        path = written(tmp_path, leach=line(process)["endpoints"]["leach"])
        shown = blackmass("check", path, "--online", "--data", tmp_path)
        assert shown.exit_code == 0, shown.output
        rows = {row.split()[0]: row.split() for row in shown.stdout.splitlines() if row.strip().startswith(("TT", "AT", "WT", "FY"))}
        assert set(rows) == {"TT-201", "AT-201", "WT-111", "FY-111"}
        assert rows["TT-201"][1] == "leach.temperature"
        assert float(rows["TT-201"][2]) == pytest.approx(22.0, abs=2.0)
        assert rows["TT-201"][3:5] == ["degC", "GOOD"]
        assert rows["WT-111"][4] == "GOOD"
        assert "6 of 6 tags can be used" in shown.stdout


def test_check_online_says_what_does_not_answer(tmp_path: Path) -> None:
    with serving(DEVICES[1:], tmp_path) as process:
        line(process)
        shown = blackmass("check", written(tmp_path, leach="modbus-tcp://127.0.0.1:1?unit=1"), "--online", "--data", tmp_path)
    assert shown.exit_code == 1
    assert "3 of 6 tags can be used" in shown.stdout
    [lost] = [row for row in shown.stdout.splitlines() if row.strip().startswith("TT-201")]
    assert "BAD" in lost
    assert "—" in lost
    assert shown.stdout.count("cannot connect to 127.0.0.1:1") == 1  # of the device, not of each tag
    [there] = [row for row in shown.stdout.splitlines() if row.strip().startswith("WT-111")]
    assert float(there.split()[5]) < 1.0  # [s] nobody waits for the one that is lost


def test_check_online_says_why_a_single_tag_has_no_value(tmp_path: Path) -> None:
    """One address that the device does not have, in the middle of a block; nothing is cut off where the terminal is narrow."""
    profile = (profile_folder() / "leach_tank.toml").read_text(encoding="utf-8")
    name = "conductivity_of_a_place_that_is_not_there"
    (tmp_path / "other_tank.toml").write_text(f'{profile}\n[signals.{name}]\ntype = "uint16"\nat = "input:34"\n', encoding="utf-8")
    with serving(DEVICES, tmp_path) as process:
        path = written(tmp_path, leach=line(process)["endpoints"]["leach"])
        text = path.read_text(encoding="utf-8").replace('"leach_tank"\naddress', '"other_tank"\naddress')
        path.write_text(text.replace('"AT-201" = "ph"', f'"AT-201" = "ph"\n"AT-299" = "{name}"'), encoding="utf-8")
        shown = CliRunner(env={"COLUMNS": "60"}).invoke(main, ["check", str(path), "--online", "--data", str(tmp_path)])
    assert shown.exit_code == 1
    [row] = [row for row in shown.stdout.splitlines() if row.strip().startswith("AT-299")]
    assert f"leach.{name}" in row
    assert "exception 2 (illegal address); check `at` in the profile" in row
    assert "6 of 7 tags can be used" in shown.stdout


def test_probe_finds_a_float_and_says_what_is_not_there(tmp_path: Path) -> None:
    with serving(DEVICES, tmp_path) as process:
        path = written(tmp_path, leach=line(process)["endpoints"]["leach"])
        shown = blackmass("probe", "leach", "input:2", "--cell", path, "--data", tmp_path)
        assert shown.exit_code == 0, shown.output
        first, _, best, *_ = shown.stdout.splitlines()
        assert "declared as temperature [degC] float32" in first
        assert best.split()[1:] == ["degC", "float32", "big", "big", "1", "declared:", "temperature"]
        assert float(best.split()[0]) == pytest.approx(22.0, abs=2.0)
        assert sum("float32  big         big " in row for row in shown.stdout.splitlines()) == 1, "what is declared stands there twice"
        absent = blackmass("probe", "leach", "input:4000", "--cell", path, "--data", tmp_path)
        assert absent.exit_code != 0
        assert "exception 2 (illegal address)" in absent.output
        assert "did you mean 'leach'? it has leach, hopper" in blackmass("probe", "leech", "input:2", "--cell", path).output
        nothing = blackmass("probe", "leach", "input:2", "--range", "1e300", "2e300", "--cell", path, "--data", tmp_path)
        assert "nothing else that these words can mean lies in 1e+300 to 2e+300; give another --range, or --all" in nothing.stdout
        assert "declared: temperature" in nothing.stdout
        spare = blackmass("probe", "leach", "input:3", "--range", "1e300", "2e300", "--cell", path, "--data", tmp_path)
        assert "nothing that these words can mean lies in 1e+300" in spare.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("input:70000",), "with N from 0 to 65535, got input:70000"),
        (("coil:0",), "expected input:N or holding:N of a Modbus device"),
        (("temperature",), "expected input:N or holding:N of a Modbus device"),
        (("input:2", "--range", "30", "20"), "expected LOW below HIGH, got 30 20"),
        (("input:2", "--range", "nan", "20"), "expected LOW below HIGH, got nan 20"),
    ],
)
def test_probe_refuses_what_cannot_be_asked(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    shown = blackmass("probe", "leach", *arguments, "--cell", written(tmp_path))
    assert (shown.exit_code, says in shown.output) == (2, True), shown.output


SCALE = """
[cell]
id = "scale"
[devices.balance]
profile = "balance"
address = "serial:lines/scale?baud={baud}"
[devices.balance.tags]
"WT-120" = "weight"
"""


def test_check_online_shows_what_a_device_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "scale.toml"
    path.write_text(SCALE.format(baud=9600), encoding="utf-8")
    with serving([{"name": "balance", "profile": "balance", "address": "serial:lines/scale?baud=9600"}], tmp_path) as process:
        line(process)
        shown = blackmass("check", path, "--online", "--data", tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "balance says of itself: serial 0110080011" in shown.stdout


class AnHourLater:
    """The clocks of a machine whose wall clock is an hour ahead."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def time_ns() -> int:
        return time.time_ns() + 3_600_000_000_000


def test_check_online_says_when_a_clock_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = '[cell]\nid = "p"\n[devices.press]\nprofile = "shredder"\naddress = "{}"\nsecurity = "none"\ntags = {{ "AT-1" = "oxygen" }}\n'
    with serving([{"name": "press", "profile": "shredder", "address": "opc.tcp://127.0.0.1:0/press"}], tmp_path) as process:
        (tmp_path / "p.toml").write_text(cell.format(line(process)["endpoints"]["press"]), encoding="utf-8")
        asked = ("check", tmp_path / "p.toml", "--online", "--data", tmp_path)
        assert "time stamp" not in blackmass(*asked).stdout
        monkeypatch.setattr(commissioning, "time", AnHourLater)
        said = re.findall(r"press: its newest time stamp is ([0-9.]+) s behind this machine's clock", blackmass(*asked).stdout)
        assert [round(float(behind) / 10.0) for behind in said] == [360]


def test_plan_of_a_dialogue_names_each_line_and_how_often_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "scale.toml"
    path.write_text(SCALE.format(baud=9600), encoding="utf-8")
    shown = blackmass("plan", path)
    assert shown.exit_code == 0, shown.output
    assert "'SI': weight, every 0.5 s" in shown.stdout
    assert "'TA': tare, every 5 s" in shown.stdout
    path.write_text(SCALE.format(baud=300), encoding="utf-8")
    shown = blackmass("plan", path)
    assert shown.exit_code != 0
    assert "each period of a group, 2 times as long" in shown.output


def test_browse_feeds_a_cell_and_says_what_there_is_when_nothing_is_like_the_glob(tmp_path: Path) -> None:
    with serving([{"name": "press", "profile": "shredder", "address": "opc.tcp://127.0.0.1:0/press"}], tmp_path) as process:
        url = line(process)["endpoints"]["press"]
        asked = ("browse", url, "--security", "none", "--data", tmp_path)
        nothing = blackmass(*asked, "--include", "Shredder/*")
        assert nothing.exit_code == 2
        assert "nothing here is like that; there are press/identity, press/heartbeat" in nothing.output
        few = blackmass(*asked, "--nodes", "9")
        assert few.exit_code == 0, few.output
        assert "not all was seen: more than 9 nodes; see --depth, --nodes and --seconds" in few.stdout
        assert "were not asked for" not in few.stdout
        [row] = [row for row in few.stdout.splitlines() if row.strip().startswith("press/temperature")]
        assert "degC" in row, "what tells of it was not read"
        drafted = blackmass(*asked, "--include", "press/*", "--exclude", "*_sp", "--write", tmp_path / "press.toml")
        assert drafted.exit_code == 0, drafted.output
        cell = '[cell]\nid = "p"\n[devices.p]\nprofile = "press"\naddress = "{}"\nsecurity = "none"\ntags = {{ "AT-1" = "oxygen" }}\n'
        (tmp_path / "p.toml").write_text(cell.format(url), encoding="utf-8")
        shown = blackmass("check", tmp_path / "p.toml", "--online", "--data", tmp_path)
        assert shown.exit_code == 0, shown.output
        assert "p.oxygen" in shown.stdout


LOOK = """
[cell]
id = "look"
[devices.leach]
profile = "leach_tank"
address = "{address}"
[devices.leach.tags]
"TT-201" = "temperature"
"""


UP_DOWN_UP = [
    "INFO drivers.driver: leach answers",
    "WARNING drivers.driver: leach is",
    "INFO drivers.driver: leach answers",
]


def until(log: IO[str], says: str) -> list[str]:
    """Return the lines of a log up to the first that says so; fail if it ends before."""
    lines = []
    for text in log:
        lines.append(text)
        if says in text:
            return lines
    raise AssertionError("".join(lines))


def test_a_service_logs_one_line_when_a_device_is_lost_and_one_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "look.toml"
    with serving(DEVICES[:1], tmp_path) as process:
        address = line(process)["endpoints"]["leach"]
        path.write_text(LOOK.format(address=address), encoding="utf-8")
        command = [sys.executable, "-m", "controller.cli", "run", str(path), "--data", str(tmp_path / "data"), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as service:
            assert service.stderr is not None
            patience = threading.Timer(30.0, service.kill)  # ends what `until` waits for
            patience.start()
            try:
                said = until(service.stderr, "leach answers at")
                process.kill()
                process.wait()
                said += until(service.stderr, "leach is lost: ")
                with serving([{**DEVICES[0], "address": address}], tmp_path):
                    said += until(service.stderr, "leach answers at")
                    service.terminate()
                    rest = service.stderr.read()
            finally:
                patience.cancel()
                service.kill()
    assert [" ".join(text.split()[2:6]) for text in said] == UP_DOWN_UP
    assert rest == ""
