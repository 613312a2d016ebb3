"""The command line: what it refuses, how it says so, and that nothing is left behind when it does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import controller
from controller.batch.journal import Journal
from controller.batch.records import BatchState
from controller.cli import main
from controller.config import cell_path, load_cell
from controller.core.frame import Frame, Point
from controller.historian.store import Historian
from controller.runtime.batches import Library
from controller.runtime.lockstep import Lockstep
from simulators.feed import FEEDS
from simulators.plant import Plant

COMMANDS = ("demo", "run", "check", "plan", "probe", "call", "batches", "report", "export", "doctor", "simulate", "command")
BAD_CELL = """\
[cell]
id = "pilot"
scan = "100 furlongs"

[devices.leach]
profile = "leech_tank"
address = "modbus-tcp://127.0.0.1:5020?unit=1"
colour = "red"
[devices.leach.tags]
"TT-201" = "temperature"

[units.L1]
class = "leach_tank"
roles = { temperature = "TT-201" }
"""
BAD_RECIPE = """\
recipe: {id: bad, version: 1, title: Bad, product: none, specification: pcam-99}
units: {L1: leach_tank}
procedure:
  - heat: {unit: L1, run: contrl, with: {loop: temperature, sp: 40 degC}, until: "L1.temperature within 2 K of 40 degC", max: 6 h}
  - stir: {unit: L1, run: keep, with: {output: stirrer, at: 120 furlongs}, until: "L1.nothing >= 3 degC"}
"""
SHORT = """\
recipe: {id: short, version: 3, title: Short, product: none, specification: pcam-99}
units: {L1: leach_tank}
formula:
  water: {value: 200 L, range: [10 L, 3000 L]}
procedure:
  - fill: {unit: L1, run: dose, with: {flow: water, rate: 100 L/min, total: water}, max: 3 h}
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Data go below `tmp_path`; what the command line does to the loggers of libraries is undone."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    before = {name: logging.getLogger(name).level for name in ("asyncua", "pymodbus", "influxdb_client")}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def blackmass(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="blackmass")
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)  # never a traceback
    return result


def refused(result: Result, status: int, *words: str) -> str:
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    return result.stderr


def problems(stderr: str, file: str) -> list[tuple[int, int]]:
    """Return line and column of each mistake; every line but the last must begin with file:line:column."""
    *lines, last = stderr.splitlines()
    assert last == f"{len(lines)} problem{'s' if len(lines) > 1 else ''}; nothing was started."
    places = []
    for line in lines:
        assert line.startswith(f"{file}:"), line
        row, column, what = line.removeprefix(f"{file}:").split(":", 2)
        assert what.strip()
        places.append((int(row), int(column)))
    return places


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


# what it says about itself ---------------------------------------------------------------------------------------------------


def test_it_runs_as_a_program_and_tells_its_version() -> None:
    for program in ([sys.executable, "-m", "controller.cli"], [str(Path(sys.executable).parent / "blackmass")]):
        if not Path(program[0]).exists():
            continue  # not installed, only importable
        done = subprocess.run([*program, "--version"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"blackmass, version {controller.__version__}\n", "")


def test_help_names_every_command_and_each_has_help() -> None:
    text = blackmass("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in text
        assert blackmass(name, "-h").exit_code == 0


def test_an_unknown_command_or_option_is_refused() -> None:
    refused(blackmass("dance"), 2, "No such command 'dance'")
    refused(blackmass("run", "demo", "--sped", "2"), 2, "No such option")
    refused(blackmass("demo", "--speed", "0.5"), 2, "--speed", "0.5 is not in the range")


# check ---------------------------------------------------------------------------------------------------------------------


def test_what_comes_with_the_product_is_good(tmp_path: Path) -> None:
    cell = blackmass("check", "demo")
    assert cell.exit_code == 0, cell.output
    assert "cell demo is good: 8 devices" in cell.stdout
    recipe = blackmass("check", "nmc622-pcam")
    assert recipe.exit_code == 0, recipe.output
    assert "recipe nmc622-pcam version" in recipe.stdout
    assert list(tmp_path.iterdir()) == []


def test_every_mistake_of_a_bad_cell_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(BAD_CELL)
    found = problems(refused(blackmass("check", "bad.toml"), 2, "furlongs", "colour"), "bad.toml")
    assert [line for line, _ in found] == [3, 8]
    (tmp_path / "bad.toml").write_text(BAD_CELL.replace("furlongs", "ms").replace('colour = "red"\n', ""))
    said = refused(blackmass("check", "bad.toml"), 2, "no device profile 'leech_tank'", "leach_tank")
    assert problems(said, "bad.toml") == [(6, 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


def test_every_mistake_of_a_bad_recipe_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD_RECIPE)
    found = problems(refused(blackmass("check", "bad.yaml"), 2, "contrl", "furlongs"), "bad.yaml")
    assert {line for line, _ in found} == {4, 5}
    assert all(column > 1 for _, column in found)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize(
    ("text", "suffix"),
    [("[cell\n", "toml"), ("", "toml"), ("a: [", "yaml"), ("", "yaml"), ("\x00\x01", "toml"), ("a: \x07", "yaml")],
)
def test_a_file_that_is_no_toml_or_yaml_is_one_message(tmp_path: Path, text: str, suffix: str) -> None:
    (tmp_path / f"bad.{suffix}").write_text(text)
    assert problems(refused(blackmass("check", f"bad.{suffix}"), 2), f"bad.{suffix}")


def test_an_unknown_cell_or_recipe_names_the_known_ones() -> None:
    assert problems(refused(blackmass("check", "pilot"), 2, "no such cell", "demo"), "pilot") == [(1, 1)]
    assert problems(refused(blackmass("check", "pilot.toml"), 2, "No such file"), "pilot.toml") == [(1, 1)]
    assert problems(refused(blackmass("check", "pilot.yaml"), 2, "no such recipe", "nmc622-pcam"), "pilot.yaml") == [(1, 1)]
    refused(blackmass("check"), 2, "Missing argument")
    for command in ("run", "doctor", "simulate"):
        refused(blackmass(command, "pilot"), 2, "no such cell", "nothing was started")


# run, demo and simulate: refused before anything starts ------------------------------------------------------------------------


def test_running_a_bad_cell_changes_nothing_on_disk(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(BAD_CELL)
    before = tree(tmp_path)
    for command in ("run", "simulate", "doctor"):
        for data in ((), ("--data", tmp_path / "data")):
            problems(refused(blackmass(command, "bad.toml", *data), 2), "bad.toml")
    assert tree(tmp_path) == before


def test_a_bad_recipe_or_parameter_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD_RECIPE)
    (tmp_path / "short.yaml").write_text(SHORT)
    before = tree(tmp_path)
    for command in (("demo",), ("run", "demo")):
        refused(blackmass(*command, "--recipe", "bad.yaml"), 2, "nothing was started")
        refused(blackmass(*command, "--recipe", "nmc999"), 2, "no such recipe", "nmc622-pcam")
        for param, says in (
            ("water", "expected NAME=VALUE, got 'water'"),
            ("=3 L", "expected NAME=VALUE"),
            ("water=", "expected NAME=VALUE"),
            ("watr=30 L", "no parameter 'watr'"),
            ("water=30 furlongs", "furlongs"),
            ("water=5 L", "water takes"),
            ("water=30", "water takes"),
        ):
            refused(blackmass(*command, "--recipe", "short.yaml", "--param", param), 2, says)
    refused(blackmass("run", "demo", "--device", "leach"), 2, "expected NAME=ADDRESS")
    refused(blackmass("run", "demo", "--device", "leech=opc.tcp://127.0.0.1:1"), 2, "no such device", "leach")
    refused(blackmass("run", "demo", "--device", "leach=telnet://127.0.0.1:1"), 2, "telnet", "nothing was started")
    assert tree(tmp_path) == before


def test_a_real_plant_runs_at_speed_1(tmp_path: Path) -> None:
    text = cell_path("demo").read_text(encoding="utf-8")
    assert "simulated = true" in text
    (tmp_path / "plant.toml").write_text(text.replace("simulated = true", "simulated = false"), encoding="utf-8")
    refused(blackmass("run", "plant.toml", "--speed", "10"), 2, "--speed", "cell demo is not simulated", "got 10")
    assert [path.name for path in tmp_path.iterdir()] == ["plant.toml"]


def test_influx_without_a_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLACKMASS_INFLUX_TOKEN", raising=False)
    refused(blackmass("demo", "--influx", "http://127.0.0.1:1"), 3, "BLACKMASS_INFLUX_TOKEN")
    refused(blackmass("run", "demo", "--influx", "http://127.0.0.1:1"), 3, "BLACKMASS_INFLUX_TOKEN")
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_that_cannot_be_made_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for command in ("run", "simulate"):
        refused(blackmass(command, "demo", "--data", tmp_path / "file" / "data"), 3, str(tmp_path / "file"), "--data")


# batches, report, export ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("batches",), ("report", "demo-0001"), ("export", "demo-0001", "--to", "out")])
def test_without_a_journal_it_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    refused(blackmass(*arguments), 3, "no journal", str(tmp_path / "home" / "blackmass"), "--data")
    refused(blackmass(*arguments, "--data", tmp_path / "none"), 3, "no journal", str(tmp_path / "none"), "--data")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "journal.sqlite").write_text("this is not a database, and long enough to be told from an empty one" * 20)
    refused(blackmass(*arguments, "--data", tmp_path / "none"), 3, "journal.sqlite", "not a database")


def play(folder: Path) -> tuple[BatchState, list[tuple[float, object]], list[Frame], list[Point]]:
    """Run the short recipe on the simulated plant, in lockstep."""
    cell = load_cell(cell_path("demo"))
    path = folder / "short.yaml"
    path.write_text(SHORT)
    library = Library(cell.classes)
    profiles = {name: row.device.profile for name, row in cell.plan.devices.items()}
    bed = Lockstep(cell.plan, Plant(profiles, feed=FEEDS["nmc622"], seed=1), dt=10.0)
    frames = [bed.step().frame]
    frames.append(bed.step([library.prepare(library.load(str(path)), cell.plan, "demo-0001", bed.clock.plant(), {}, "lot", "op")]).frame)
    frames += [scan.frame for scan in bed.run(lambda scan: scan.frame.state == "COMPLETE", at_most=3600.0)]
    assert bed.cell.procedure is not None
    return bed.cell.procedure.state, list(bed.events), frames, [point for point in cell.plan.points if isinstance(point, Point)]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a batch that was played, and a second one that was released."""
    folder = tmp_path_factory.mktemp("batch") / "blackmass" / "demo"
    folder.mkdir(parents=True)
    state, events, frames, points = play(folder)
    journal = Journal(folder / "journal.sqlite")
    first = dataclasses.replace(state, state=type(state.state)("RUNNING"), ended=None)
    journal.begin(first, 1, SHORT, "short.yaml", "demo")
    for plant, event in events:
        journal.append(state.id, plant, 0, [event])  # type: ignore[list-item]
    journal.append(state.id, frames[-1].time, 0, [], state=state)
    records = {**state.records, "release.purity": 99.21}
    journal.begin(dataclasses.replace(state, id="demo-0002", released=True, records=records), 2, SHORT, "short.yaml", "demo")
    journal.close()
    historian = Historian.open(folder, points)
    historian.append([dataclasses.replace(frame, boot=historian.boot) for frame in frames])
    historian.close()
    return folder


def test_batches_are_listed_with_state_and_release(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = blackmass("batches", "--data", batch)
    monkeypatch.setenv("XDG_DATA_HOME", str(batch.parent.parent))
    found = blackmass("batches")  # the newest journal below XDG_DATA_HOME
    assert given.exit_code == found.exit_code == 0
    assert given.stdout == found.stdout
    rows = [line for line in given.stdout.splitlines() if "demo-000" in line]
    assert "short v3" in rows[0]
    assert "COMPLETE" in rows[0]
    assert "99.21 %" in rows[1]
    assert "yes" in rows[1]


def test_the_report_says_what_became_of_the_lot_and_ends_with_it(batch: Path, tmp_path: Path) -> None:
    open_ = blackmass("report", "demo-0001", "--data", batch, "--html", tmp_path / "report.html")
    assert open_.exit_code == 1, open_.output  # not released
    assert "Batch demo-0001: short version 3" in open_.stdout
    assert "no release decision" in open_.stdout
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "demo-0001" in page
    assert "TT-201" in page
    released = blackmass("report", "demo-0002", "--data", batch)
    assert released.exit_code == 0, released.output
    assert "RELEASED" in released.stdout
    refused(blackmass("report", "demo-0009", "--data", batch), 3, "no batch 'demo-0009'", "demo-0002, demo-0001")
    refused(blackmass("report", "demo-0001", "--data", batch, "--html", tmp_path / "no" / "report.html"), 3, "No such file or directory")
    refused(blackmass("report", "demo-0001", "--data", batch, "--cell", "pilot"), 2, "no such cell")


def test_an_export_proves_itself_and_overwrites_nothing(batch: Path, tmp_path: Path) -> None:
    to = tmp_path / "exports" / "one"
    done = blackmass("export", "demo-0001", "--to", to, "--data", batch)
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in to.iterdir())
    assert names == ["events.jsonl", "manifest.json", "recipe.yaml", "telemetry.csv"]
    assert ", ".join(names) in done.stdout
    manifest = json.loads((to / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["files"]) == set(names) - {"manifest.json"}
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256((to / name).read_bytes()).hexdigest()
    telemetry = (to / "telemetry.csv").read_text(encoding="utf-8").splitlines()
    assert len(telemetry) - 1 == manifest["frames"] > 10
    assert "TT-201" in telemetry[0].split(",")
    assert (to / "recipe.yaml").read_text(encoding="utf-8") == SHORT
    events = [json.loads(line) for line in (to / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert "fill" in {event["event"]["name"] for event in events if event["event"]["kind"] == "step"}
    before = tree(tmp_path)
    refused(blackmass("export", "demo-0001", "--to", to, "--data", batch), 3, "never overwrites", "--to")
    refused(blackmass("export", "demo-0009", "--to", tmp_path / "other", "--data", batch), 3, "no batch 'demo-0009'")
    assert tree(tmp_path) == before


# doctor and command -----------------------------------------------------------------------------------------------------------


def test_doctor_looks_at_the_machine_and_leaves_no_trace(tmp_path: Path) -> None:
    result = blackmass("doctor")
    lines = [line.strip() for line in result.stdout.splitlines()]
    for line, what in zip(lines, ("blackmass", "Python", "libraries", "clock", "disk", "data directory", "SQLite", "pseudo-terminals"), strict=True):
        verdict, _, rest = line.partition("  ")
        assert verdict in ("ok", "NOT OK"), line
        assert rest.strip().startswith(f"{what} "), line
    assert result.exit_code == (1 if "NOT OK" in result.stdout else 0)  # a small disk is a finding too
    assert controller.__version__ in result.stdout
    assert str(tmp_path / "home" / "blackmass") in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_doctor_names_every_device_that_does_not_answer(tmp_path: Path) -> None:
    cell = load_cell(cell_path("demo"))
    addresses = []
    with socket.socket() as bound:  # bound and not listening: nobody answers, and nobody else can take it
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        for unit, (name, row) in enumerate(cell.plan.devices.items(), 1):
            address = row.device.address
            if address.scheme == "modbus-tcp":
                addresses += ["--device", f"{name}=modbus-tcp://127.0.0.1:{port}?unit={unit}"]
            elif address.scheme == "opc.tcp":
                addresses += ["--device", f"{name}=opc.tcp://127.0.0.1:{port}/{unit}"]
        result = blackmass("doctor", "demo", *addresses)
    assert result.exit_code == 1, result.output
    for name in cell.plan.devices:
        assert any(f"device {name} " in line and "NOT OK" in line for line in result.stdout.splitlines()), result.stdout
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_that_a_data_directory_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = blackmass("doctor", "--data", tmp_path / "file" / "data")
    assert result.exit_code == 1
    bad = [line for line in result.stdout.splitlines() if "NOT OK" in line]
    assert any("data directory" in line and "--data" in line for line in bad), result.stdout


def test_a_command_without_a_service_says_where_it_looked() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        refused(blackmass("command", "hold", "--url", url), 3, f"no service answers at {url}", "--url")
    refused(blackmass("command", "dance"), 2, "'dance' is not one of")
    refused(blackmass("command", "start"), 2, "'start' is not one of")  # a start needs a recipe; `run --recipe` or the page


def test_data_are_kept_below_the_home_directory_by_default(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "XDG_DATA_HOME"} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "controller.cli", "batches"], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 3
    assert str(tmp_path / ".local" / "share" / "blackmass") in done.stderr
