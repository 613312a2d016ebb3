"""The tutorial of a new type of device, run as it stands: its files, its commands, what they show, and a real device of another make."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main

pytestmark = pytest.mark.wire

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "new-device-type.md"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def port() -> Iterator[int]:
    program = subprocess.run([ROOT / "tests/foreign/build", ROOT / "tests/foreign/modbus_server.c"], capture_output=True, text=True, check=True)
    with subprocess.Popen([program.stdout.strip(), "tcp", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as device:
        assert device.stdout is not None
        yield int(json.loads(device.stdout.readline())["port"])
        device.communicate()  # closing its input ends it


def shows(output: str, expected: str) -> bool:
    """Whether each line of `expected` stands in `output`, in order; ``...`` is anything."""
    lines = (r"[^\n]*".join(re.escape(part.strip()) for part in line.split("...")) for line in expected.splitlines())
    return re.search(".*".join(lines), output, re.S) is not None


def test_the_tutorial_is_true(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    ran = 0
    for language, options, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        text = text.replace("5502", str(port))
        if language == "toml" and (name := re.search(r"title=(\S+)", options)):
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
        elif language == "toml" and (name := re.search(r"append=(\S+)", options)):
            path = tmp_path / name[1]
            path.write_text(path.read_text(encoding="utf-8").replace("[signals.", f"{text}\n[signals.", 1), encoding="utf-8")
        elif language == "console":
            command, _, expected = text.partition("\n")
            done = CliRunner(env={"COLUMNS": "160"}).invoke(main, command.removeprefix("$ blackmass ").split())
            status = re.search(r"status=(\d)", options)
            assert done.exit_code == (int(status[1]) if status else 0), f"{command}\n{done.output}"
            assert shows(done.output, expected), f"{command} shows\n{done.output}"
            ran += 1
    assert ran == 5


def test_what_is_not_shown_is_noticed() -> None:
    assert shows("a  GOOD 1\nend", "a ... GOOD\nend")
    assert not shows("a BAD 1\nend", "a ... GOOD\nend")
    assert not shows("end\na GOOD", "a ... GOOD\nend")
