"""The wheel: complete, without what is not for users, and it runs from another directory, not from the checkout.

Built and installed without the network. The clean environment takes third-party libraries from the one that runs the tests.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import controller

ROOT = Path(controller.__file__).parent.parent
PACKAGES = ("controller", "drivers", "recipes", "simulators")


def run(*command: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | more
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd=cwd, env=env, timeout=60.0)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None and os.environ.get("CI") != "true":
        pytest.skip("hatchling is not installed here: make .venv/.dev")
    to = tmp_path_factory.mktemp("wheel")
    path = os.pathsep.join(part for part in sys.path if part)  # hatchling may be anywhere on it
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", to, cwd=ROOT, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    (built,) = to.glob("*.whl")
    return built


def test_everything_that_a_user_needs_is_in_it_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    data = {
        *(ROOT / "drivers" / "profiles").glob("*.toml"),
        *(path for path in (ROOT / "recipes" / "library").iterdir() if path.is_file()),
        *(ROOT / "controller" / "cells").glob("*.toml"),
        *(path for path in (ROOT / "controller" / "web" / "static").rglob("*") if path.is_file() and not path.name.startswith(".")),
        ROOT / "recipes" / "grammar.lark",
        ROOT / "controller" / "batch" / "templates" / "report.html",
        *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "node_modules" not in path.parts),
    }
    assert len([path for path in data if path.suffix == ".toml"]) >= 10
    assert {str(path.relative_to(ROOT)) for path in data} - names == set()
    top = {name.partition("/")[0] for name in names}
    assert top == {*PACKAGES, f"blackmass-{controller.__version__}.dist-info"}
    assert [name for name in names if "node_modules" in name or "__pycache__" in name or "test" in name.lower()] == []
    assert f"blackmass-{controller.__version__}.dist-info/licenses/LICENSE" in names


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it, and a directory far from the checkout."""

    root: Path
    elsewhere: Path

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        program = self.root / "bin" / str(command[0])
        return run(program, *command[1:], cwd=self.elsewhere, XDG_DATA_HOME=str(self.elsewhere / "data"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("venv")
    venv.create(root, with_pip=False, symlinks=True)
    python = root / "bin" / "python"
    done = run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=root)
    assert done.returncode == 0, done.stderr
    (site,) = root.glob("lib/python*/site-packages")
    # As a line of a .pth the folder is only searched: its own .pth files, so the editable install, are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return Installed(root, tmp_path_factory.mktemp("elsewhere"))


def test_what_is_imported_is_the_wheel(installed: Installed) -> None:
    code = f"import {', '.join(PACKAGES)}\nfor package in ({', '.join(PACKAGES)}): print(package.__file__)"
    done = installed.run("python", "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert Path(line).is_relative_to(installed.root), line


def test_it_runs_from_another_directory(installed: Installed) -> None:
    version = installed.run("blackmass", "--version")
    assert (version.returncode, version.stdout) == (0, f"blackmass, version {controller.__version__}\n")
    cell = installed.run("blackmass", "check", "demo")
    assert cell.returncode == 0, cell.stderr
    assert "cell demo is good: 8 devices" in cell.stdout
    assert str(installed.root) in cell.stdout
    recipe = installed.run("python", "-m", "controller.cli", "check", "nmc622-pcam")
    assert recipe.returncode == 0, recipe.stderr
    assert "recipe nmc622-pcam version" in recipe.stdout
    assert list(installed.elsewhere.iterdir()) == []


def test_every_module_can_be_imported(installed: Installed) -> None:
    code = (
        "import importlib, pkgutil\n"
        f"for name in {PACKAGES}:\n"
        "    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + '.'):\n"
        "        importlib.import_module(module.name)\n"
    )
    done = installed.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
