"""Write the parts of the documentation that are made from the code: command line, state table, phases, unit classes, simulated plant.

``make docs`` writes them; a test fails when they are not what the code says.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from controller.batch.phase import CATALOGUE
from controller.cli import main
from controller.config import class_file
from controller.core.states import AUTOMATIC, COMMANDS, diagram
from controller.runtime.batches import catalogue
from recipes.classes import load_classes
from simulators.constants import HYDROXIDES, SOLIDS, SPECIES
from simulators.instance import PlantParameters
from simulators.parameters import describe

FOLDER = Path(__file__).parent / "reference"


def command_line() -> str:
    parts = ["# Command line\n"]

    def describe(command: click.Command, name: str, parent: click.Context | None = None) -> None:
        # a width of its own: the page must not depend on the terminal in which it is made
        context = click.Context(command, parent, info_name=name, terminal_width=100, color=False, **command.context_settings)
        parts.append(f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n")
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                found = command.get_command(context, sub)
                if found is not None:
                    describe(found, sub, context)

    describe(main, "blackmass")
    parts.append(
        "Exit status: 0 done (for `demo`, `run --leave` and `report`: the lot is released), 1 not released or a finding of `doctor` is not good, "
        "2 a file or an argument is wrong and nothing was started, 3 it could not be done (a taken port, a full disk, a second service). "
        "`call`: 0 confirmed, 1 refused, not sent or not asked for, so nothing has changed, 4 not known, so it may have happened.\n"
    )
    return "\n".join(parts)


def states() -> str:
    rows = [f"| {verb} | {', '.join(sources)} | {target} |" for verb, (sources, target) in COMMANDS.items()]
    rows += [f"| (by itself) | {source} | {target} |" for source, target in AUTOMATIC.items()]
    return "\n".join(
        [
            "# Batch states\n",
            "The ISA-88 state table; the code's own (`controller/core/states.py`).\n",
            "| Command | Allowed from | To |",
            "|---|---|---|",
            *rows,
            f"\n```mermaid\n{diagram()}\n```\n",
        ]
    )


def phases() -> str:
    catalogue()
    parts = ["# Phases\n", "What a step of a recipe can `run`.\n"]
    for name, phase in sorted(CATALOGUE.items()):
        spec = phase.spec
        parts.append(f"## {name}\n\n{(phase.__doc__ or '').strip()}\n")
        if spec.parameters:
            parts.append("| `with` | kind | eu | |\n|---|---|---|---|")
            for key, entry in spec.parameters.items():
                extra = f" ({', '.join(entry.choices)})" if entry.choices else ""
                parts.append(f"| {key}{'' if entry.required else ' (optional)'} | {entry.kind} | {entry.eu} | {entry.say}{extra} |")
            parts.append("")
        if spec.records:
            parts.append(f"Records: {', '.join(spec.records)}.\n")
        if not spec.ends:
            parts.append("Never ends by itself: its step needs an `until`.\n")
    return "\n".join(parts)


def classes() -> str:
    parts = ["# Unit classes\n", "The roles that recipes may use (`recipes/library/classes.toml`).\n"]
    for name, entry in load_classes(class_file()).items():
        parts.append(f"## {name}\n\n{entry.description}\n\n| role | kind | eu | range | |\n|---|---|---|---|---|")
        parts += [f"| {role} | {spec.kind} | {spec.eu} | {spec.low:g} to {spec.high:g} | {spec.say} |" for role, spec in entry.roles.items()]
        parts.append("")
    return "\n".join(parts)


def parameters() -> str:
    parts = [
        "# Parameters of the simulated plant\n",
        "Every constant of the simulators. A *plant instance* (`Plant(..., instance=SEED)`) draws each assumed value (A) from its range, "
        "log-uniformly, and shifts each log K within its spread; all others stay. The range of several values is that of one factor on all "
        "of them. Kinds: L literature, T textbook, A assumed, size of a machine, calibrated. `process.md` is the design basis.",
    ]
    unit = ""
    for row in describe(PlantParameters):
        owner, _, name = row.name.partition(".")
        if owner != unit:
            unit = owner
            parts.append(f"\n## {unit.capitalize()}\n\n| parameter | value | eu | kind | range | source |\n|---|---|---|---|---|---|")
        note = row.note
        values = ", ".join(f"{value:.4g}" for value in (row.value if isinstance(row.value, tuple) else (row.value,)))
        span = f"{'factor ' if isinstance(row.value, tuple) else ''}{note.range[0]:.4g} to {note.range[1]:.4g}" if note.range else ""
        parts.append(f"| {name} | {values} | {note.eu} | {note.kind} | {span} | {note.source} |")
    parts.append(
        "\n## Equilibrium constants\n\nAt 25 degC and zero ionic strength, molal; a species as its formation from ions, H+ and water, "
        "a solid as its dissolution; S is SO4, N is NH3, C is CO3, P is PO4. The log K of an instance lies within +- its spread."
    )
    for title, rows in (("Species", SPECIES), ("Hydroxides", HYDROXIDES), ("Other solids", SOLIDS)):
        parts.append(f"\n### {title}\n\n| | of | log K | heat [kJ/mol] | spread | source |\n|---|---|---|---|---|---|")
        for entry in rows:
            of = " ".join(f"{'H2O' if name == 'w' else name}{'' if count == 1 else f' {count}'}" for name, count in entry.of.items())
            parts.append(f"| {entry.name} | {of} | {entry.log_k:.5g} | {entry.heat:.4g} | {entry.spread:g} | {entry.source} |")
    return "\n".join(parts) + "\n"


PAGES = {"cli.md": command_line, "states.md": states, "phases.md": phases, "unit-classes.md": classes, "parameters.md": parameters}


def write() -> list[str]:
    """Write every page; return the names of those that changed."""
    changed = []
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed


if __name__ == "__main__":
    for page in write():
        sys.stdout.write(f"docs/reference/{page}\n")
