"""The manual page of recipes: its example loads, its keys are those of the loader, its errors are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import recipes
from controller.batch.phase import CATALOGUE
from recipes import load
from recipes.classes import load_classes
from recipes.expression import RESERVED

ROOT = Path(recipes.__file__).parent.parent
PAGE = (ROOT / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")
CODE = "\n".join(path.read_text(encoding="utf-8") for path in [*(ROOT / "recipes").glob("*.py"), *(ROOT / "drivers").glob("*.py")])


def test_the_example_loads(tmp_path: Path) -> None:
    match = re.search(r"```yaml\n(.*?)```", PAGE, re.S)
    assert match
    path = tmp_path / "example.yaml"
    path.write_text(match[1], encoding="utf-8")
    import controller.batch.phases  # noqa: F401  makes the phases known

    classes = load_classes(ROOT / "recipes" / "library" / "classes.toml")
    recipe = load.load_recipe(path, classes, {name: phase.spec for name, phase in CATALOGUE.items()})
    assert [leaf.name for leaf in recipe.leaves()] == ["heat", "acid", "keep", "assay", "confirm", "copper"]


def test_every_key_is_in_the_manual() -> None:
    keys = PAGE.partition("## Keys")[2].partition("## Names")[0]
    for key in (*load._RUN, *load._ASK, "run", "ask", "steps", "parallel", "if", "do", "while", "scale", "range", "value", "require"):
        assert re.search(rf"\b{key}\b", keys), f"key {key!r} is not in docs/reference/recipe.md"


def test_every_word_of_the_grammar_is_in_the_manual() -> None:
    grammar = PAGE.partition("## Grammar")[2].partition("## Errors")[0]
    assert [word for word in RESERVED if not re.search(rf"\b{word}\b", grammar)] == []


ROWS = re.findall(r"^\| (`.*?) \|", PAGE.partition("## Errors")[2], re.M)


@pytest.mark.parametrize("row", ROWS)
def test_every_error_of_the_manual_is_one_of_the_code(row: str) -> None:
    for message in re.findall(r"`([^`]+)`", row):
        for part in message.split("…"):
            text = part.strip()
            known = text in CODE
            if text.startswith("cannot ") and len(text.split()) == 2:  # the verb is filled in: "cannot {verb} degC with L/min"
                known = f'"{text.split()[1]}"' in CODE
            assert known, f"no error says {text!r}"
