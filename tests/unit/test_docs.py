"""The documentation: made from the code where it can be, held to it where it cannot, and its links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from pydantic import BaseModel

import controller
from controller.cell_file import CellFile
from controller.cli import main
from drivers.device import Argument, Dialogue, Heartbeat, Identity, Method, ModbusOptions, OpcuaOptions, Output, Profile, Signal
from drivers.dialogue import Answer, Write

ROOT = Path(controller.__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^()\s]+)\)")


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "states.md", "phases.md", "unit-classes.md", "parameters.md"])
def test_a_made_page_is_what_the_code_says(make: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "57")  # nor does it depend on the terminal
    assert (REFERENCE / name).read_text(encoding="utf-8") == make.PAGES[name](), f"docs/reference/{name} is old: run make docs"
    assert len(make.PAGES) == 5, "name the new page here"


PLOTS = sorted(path for path in (ROOT / "docs" / "plots").glob("*.py") if path.stem != "style")


@pytest.mark.parametrize("script", PLOTS, ids=lambda path: path.stem)
def test_a_plot_is_made_by_its_script_and_stands_in_a_page(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(importlib.import_module("style"), "IMAGES", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script)])
    runpy.run_path(str(script), run_name="__main__")
    assert (tmp_path / f"{script.stem}.png").stat().st_size > 10_000
    picture = f"images/{script.stem}.png)"
    assert any(picture in page.read_text(encoding="utf-8") for page in PAGES), f"no page shows docs/{picture[:-1]}: run make plots"


def test_every_picture_has_its_script() -> None:
    by_hand = {"page"}  # a screenshot
    assert {path.stem for path in (ROOT / "docs" / "images").glob("*.png")} == {path.stem for path in PLOTS} | by_hand


def slug(heading: str) -> str:
    """Return the anchor of a heading as the usual renderers make it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-")


def prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.relative_to(ROOT)}: no {target}"
        assert found.is_relative_to(ROOT), f"{page.relative_to(ROOT)}: {target} is outside the project"
        if anchor:
            anchors = [slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(found), re.M)]
            assert anchor in anchors, f"{page.relative_to(ROOT)}: no heading {target}"


def test_every_page_can_be_reached() -> None:
    """From the README, link by link; reference and how-to pages may be reached through their folder."""
    if not (ROOT / "README.md").read_text(encoding="utf-8").strip():
        return
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or not page.exists():
            continue
        seen.add(page)
        if page.is_dir():
            ahead += page.glob("*.md")
        elif page.suffix == ".md":
            ahead += [(page.parent / target.partition("#")[0]).resolve() for target in LINK.findall(prose(page)) if ":" not in target]
    left = [str(page.relative_to(ROOT)) for page in PAGES if page not in seen]
    assert left == [], "no link leads to these"


def test_every_command_and_option_is_in_the_manual() -> None:
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    assert isinstance(main, click.Group)
    for name, command in main.commands.items():
        section = page.partition(f"## blackmass {name}\n")[2].partition("\n## ")[0]
        assert section, f"command {name} is not in docs/reference/cli.md"
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert re.search(rf"^  .*{option}\b", section, re.M), f"{name} {option} is not in docs/reference/cli.md"
    for status in (0, 1, 2, 3, 4):
        assert re.search(rf"\b{status}\b", page.rpartition("Exit status:")[2])


def words(text: str) -> set[str]:
    """Return the words that stand in code marks."""
    return {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", code)}


def models(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation names."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models(part)


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Yield the keys of a part of a file and of all parts below it."""
    for name, info in model.model_fields.items():
        yield info.alias or name
        for inner in models(info.annotation):
            yield from keys(inner)


@pytest.mark.parametrize("table", list(CellFile.model_fields))
def test_every_key_of_a_cell_file_is_in_the_manual(table: str) -> None:
    page = (REFERENCE / "cell.md").read_text(encoding="utf-8")
    rows = "\n".join(re.findall(rf"^\| `\[+{table}\b.*$", page, re.M))
    assert rows, f"[{table}] is not in docs/reference/cell.md"
    wanted = {key for inner in models(CellFile.model_fields[table].annotation) for key in keys(inner)}
    assert wanted - words(rows) == set(), f"keys of [{table}] that docs/reference/cell.md does not name"


def test_every_key_of_a_profile_is_in_the_manual() -> None:
    page = (REFERENCE / "profile.md").read_text(encoding="utf-8")
    top, _, below = page.partition("| signal |")
    assert set(Profile.model_fields) - words(top) == set()
    for part in (Method, Argument, Output):
        assert set(part.model_fields) - words(below.partition("| method |")[2]) == set(), part.__name__
    for part in (Identity, Heartbeat, ModbusOptions, OpcuaOptions):
        assert set(part.model_fields) - words(top) == set(), part.__name__
    dialogue = page.partition("| dialogue |")[2]
    for part in (Dialogue, Answer, Write):
        assert set(part.model_fields) - words(dialogue) == set(), part.__name__
    assert set(Signal.model_fields) - words(below) == set()
    for name in ("type", "access"):
        assert set(typing.get_args(Signal.model_fields[name].annotation)) - words(below) == set(), name


def test_every_environment_variable_is_in_the_documentation() -> None:
    said = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    code = [path for package in ("controller", "drivers", "recipes", "simulators") for path in (ROOT / package).rglob("*.py")]
    names = {name for path in code for name in re.findall(r"\bBLACKMASS_[A-Z_]+\b", path.read_text(encoding="utf-8"))}
    assert names >= {"BLACKMASS_INFLUX_TOKEN"}
    assert {name for name in names if name not in said} == set()


def test_every_test_that_the_table_of_faults_names_exists() -> None:
    """A test stands there as `test_file.py`, as its name, or as a part of its name between dots, in the last file that the row has named."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    names = {file: set(re.findall(r"^(?:async )?def (\w+)", text, re.M)) for file, text in sources.items()}
    rows = [row for row in (REFERENCE / "driver-faults.md").read_text(encoding="utf-8").splitlines() if row.startswith("| ") and "`" in row]
    named = 0
    for row in rows:
        file = ""
        cell = row.rstrip("| ").rpartition("|")[2]
        assert "`" in cell, f"no test shows it: {row}"
        for said in re.findall(r"`([^`]+)`", cell):
            named += 1
            if said.endswith(".py"):
                file = said
                assert file in names, f"no {file}: {row}"
                continue
            pattern = re.compile(re.escape(said).replace("…", r"\w*"))
            among = names[file] if file else set().union(*names.values())
            assert any(pattern.fullmatch(name) for name in among), f"no test {said} in {file or 'the tests'}: {row}"
    assert named > 60
