"""Files people write (TOML, YAML), read so that every mistake is named with file:line:column. Knows nothing of what they mean.

Errors
------
``BadInput`` holds every ``Problem`` that was found, each with its ``Position``.
"""

from __future__ import annotations

import bisect
import difflib
import re
import tomllib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

__all__ = ["BadInput", "Document", "KeyPath", "Mistakes", "Position", "Problem", "read_toml", "read_yaml", "validate"]

KeyPath = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
_TOO_LARGE = 4 * 1024 * 1024  # [bytes] no cell or recipe comes near; refuse before parsing


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake: where, and what was expected."""

    where: Position
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class BadInput(Exception):
    """A file that cannot be used; `problems` holds all that was found in it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: list[Problem] = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


class Mistakes(ValueError):
    """What a validator of a model found: sentences, each of which may begin with the keys below the model and a colon."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = list(sentences)
        super().__init__("; ".join(self.sentences))


@dataclass(slots=True)
class Document:
    """Plain data, and where each part of it stands in its file."""

    file: str
    data: Any
    text: str
    positions: dict[KeyPath, Position] = field(default_factory=dict)
    values: dict[KeyPath, Position] = field(default_factory=dict)  # where the value of a key begins, if the format tells

    def at(self, *path: str | int) -> Position:
        """Return where `path` stands; of what is absent, where its nearest parent does."""
        for end in range(len(path), -1, -1):
            if (found := self.positions.get(path[:end])) is not None:
                return found
        return Position(self.file)

    def value_at(self, *path: str | int) -> Position:
        """Return where the text of the value at `path` begins, inside its quotes; `at` gives its key."""
        return self.values.get(path) or self.at(*path)

    def problem(self, path: Sequence[str | int], what: str) -> Problem:
        """Return a `Problem` at `path`."""
        return Problem(self.at(*path), what)


def _text(path: Path) -> str:
    where = Position(str(path))
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput([Problem(where, f"cannot be read: {error.strerror}")]) from None
    if len(raw) > _TOO_LARGE:
        raise BadInput([Problem(where, f"{len(raw)} bytes; expected at most {_TOO_LARGE}")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput([Problem(Position(str(path), line), f"byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8")]) from None


# TOML ------------------------------------------------------------------------------------------------------------------

_TOML_ERROR = re.compile(r"\(at line (\d+), column (\d+)\)")


def read_toml(path: Path) -> Document:
    """Read a TOML file; raise `BadInput` if it is unreadable or not TOML."""
    text = _text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        if match := _TOML_ERROR.search(message):
            where = Position(str(path), int(match[1]), int(match[2]))
        else:  # "at end of document": a truncated file
            where = Position(str(path), text.count("\n") + 1, len(text) - text.rfind("\n"))
        raise BadInput([Problem(where, f"not valid TOML: {_TOML_ERROR.sub('', message).strip()}")]) from None
    except RecursionError:
        raise BadInput([Problem(Position(str(path)), "arrays or tables are nested too deeply")]) from None
    except ValueError as error:  # an integer of thousands of digits
        raise BadInput([Problem(Position(str(path)), f"not valid TOML: {error}")]) from None
    return Document(str(path), data, text, _TomlScan(str(path), text).positions)


class _TomlScan:
    """Where the keys of a TOML text stand. The text has been parsed by tomllib, so it is known to be valid."""

    _SKIP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
    _KEY = re.compile(r"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*""")
    _SCALAR = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'|[^,\]}#\n]+", re.S)

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text, self.at = file, text, 0
        self.positions: dict[KeyPath, Position] = {(): Position(file)}
        self.tables: dict[KeyPath, int] = {}  # how many elements each array of tables has
        self.starts = [0] + [match.end() for match in re.finditer("\n", text)]
        self._document()

    def _here(self, offset: int) -> Position:
        line = bisect.bisect_right(self.starts, offset) - 1
        return Position(self.file, line + 1, offset - self.starts[line] + 1)

    def _skip(self) -> None:
        self.at = self._SKIP.match(self.text, self.at).end()  # type: ignore[union-attr]  # matches the empty string too

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _keys(self) -> list[tuple[str, int]]:
        keys = []
        while True:
            match = self._KEY.match(self.text, self.at)
            if match is None:  # cannot be: tomllib has accepted this text
                raise BadInput([Problem(self._here(self.at), "expected a key")])
            start = self.at + len(match[0]) - len(match[0].lstrip())
            key = next(group for group in match.groups() if group is not None)
            if match[1] is not None and "\\" in key:
                key = str(tomllib.loads(f'key = "{key}"')["key"])
            keys.append((key, start))
            self.at = match.end()
            if self._peek() != ".":
                return keys
            self.at += 1

    def _note(self, path: KeyPath, offset: int) -> None:
        self.positions.setdefault(path, self._here(offset))

    def _resolve(self, path: KeyPath) -> KeyPath:
        """Return `path` with the index of the newest element after each array of tables on it."""
        done: KeyPath = ()
        for key in path:
            done = (*done, key)
            if done in self.tables:
                done = (*done, self.tables[done] - 1)
        return done

    def _document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip()
            if not self._peek():
                return
            if self._peek() != "[":
                self._pair(table)
                continue
            array = self.text.startswith("[[", self.at)
            self.at += 2 if array else 1
            keys = self._keys()
            self.at += 2 if array else 1
            table = self._resolve(tuple(key for key, _ in keys[:-1]))
            for depth in range(1, len(keys)):
                self._note(self._resolve(tuple(key for key, _ in keys[:depth])), keys[depth - 1][1])
            table = (*table, keys[-1][0])
            self._note(table, keys[-1][1])
            if array:
                self.tables[table] = self.tables.get(table, 0) + 1
                table = (*table, self.tables[table] - 1)
                self._note(table, keys[-1][1])

    def _pair(self, table: KeyPath) -> None:
        path = table
        for key, offset in self._keys():
            path = (*path, key)
            self._note(path, offset)
        self.at += 1  # "="
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip()
        opening = self._peek()
        if opening not in ("[", "{"):
            self.at = self._SCALAR.match(self.text, self.at).end()  # type: ignore[union-attr]  # tomllib accepted it
            return
        self.at += 1
        place = 0
        while True:
            self._skip()
            if self._peek() in "]}":
                self.at += 1
                return
            if self._peek() == ",":
                self.at += 1
            elif opening == "{":
                self._pair(path)
            else:
                self._note((*path, place), self.at)
                self._value((*path, place))
                place += 1


# YAML ------------------------------------------------------------------------------------------------------------------

_YAML_INT = re.compile(r"[-+]?\d+$")
_YAML_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?$")


def read_yaml(path: Path) -> Document:
    """Read a YAML file with strict scalars: true, false, null, numbers, and everything else is text.

    Raise `BadInput` if it is unreadable, not YAML, holds a key twice, an alias or a tag.
    """
    text = _text(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)  # anchors are refused below, by place
            root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Position(str(path), mark.line + 1, mark.column + 1) if mark else Position(str(path))
        raise BadInput([Problem(where, f"not valid YAML: {error.problem or error.context}")]) from None
    except YAMLError as error:
        raise BadInput([Problem(Position(str(path)), f"not valid YAML: {str(error).splitlines()[0]}")]) from None
    except RecursionError:
        raise BadInput([Problem(Position(str(path)), "lists or keys are nested too deeply")]) from None
    except ValueError as error:  # of ruamel's own scanner: a number in an escape or a directive that is none
        raise BadInput([Problem(Position(str(path)), f"not valid YAML: {error}")]) from None
    if root is None:
        raise BadInput([Problem(Position(str(path)), "the file is empty")])
    document = Document(str(path), None, text)
    problems: list[Problem] = []
    seen: set[int] = set()

    def build(node: Node, at: KeyPath) -> Any:
        where = Position(str(path), node.start_mark.line + 1, node.start_mark.column + 1)
        document.positions.setdefault(at, where)
        document.values[at] = _inside(where, node, text)
        if id(node) in seen:
            problems.append(Problem(where, "aliases (*name) are not used here; write the value again"))
            return None
        seen.add(id(node))
        if text[node.start_mark.index : node.start_mark.index + 1] in ("!", "&"):
            problems.append(Problem(where, "tags (!name) and anchors (&name) are not used here; write plain text or a number"))
            return None
        if isinstance(node, MappingNode):
            result: dict[str, Any] = {}
            for key, value in node.value:
                key_at = Position(str(path), key.start_mark.line + 1, key.start_mark.column + 1)
                if not isinstance(key, ScalarNode):
                    problems.append(Problem(key_at, "a key must be plain text"))
                elif key.value in result:
                    problems.append(Problem(key_at, f"key {key.value!r} stands twice here"))
                else:
                    document.positions[(*at, key.value)] = key_at
                    result[key.value] = build(value, (*at, key.value))
            return result
        if isinstance(node, SequenceNode):
            return [build(value, (*at, place)) for place, value in enumerate(node.value)]
        if not isinstance(node, ScalarNode):
            return None
        try:
            return _scalar(node)
        except ValueError:  # an integer of thousands of digits
            problems.append(Problem(where, f"expected a number, got one of {len(node.value)} digits"))
            return None

    document.data = build(root, ())
    if problems:
        raise BadInput(problems)
    return document


def _inside(where: Position, node: Node, text: str) -> Position:
    """Return where the text of a scalar begins: after its quote, or on the line after ``|`` or ``>``."""
    style = node.style if isinstance(node, ScalarNode) else None
    if style in ("'", '"'):
        return Position(where.file, where.line, where.column + 1)
    if style in ("|", ">"):
        line = text[node.start_mark.index :].partition("\n")[2].partition("\n")[0]
        return Position(where.file, where.line + 1, len(line) - len(line.lstrip()) + 1)
    return where


def _scalar(node: ScalarNode) -> Any:
    text: str = node.value
    if node.style is not None:  # quoted or block: text as it stands
        return text
    if text in ("true", "false"):
        return text == "true"
    if text in ("", "null", "~"):
        return None
    if _YAML_INT.match(text):
        return int(text)
    if _YAML_FLOAT.match(text):
        return float(text)
    return text


_BELOW = re.compile(r"([A-Za-z_][\w-]*(?:\.[\w-]+)*): ")


# Models ----------------------------------------------------------------------------------------------------------------


def validate(document: Document, model: type[Model], data: Any = None, base: KeyPath = ()) -> Model:
    """Return `model` built from the document (or from `data`, which stands at `base` in it); raise `BadInput` with every mistake."""
    try:
        return model.model_validate(document.data if data is None else data)
    except ValidationError as error:
        entries = [one for entry in error.errors(include_url=False) for one in _each(dict(entry))]
        raise BadInput(_problem(document, model, base, entry) for entry in entries) from None


def _each(entry: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Return the mistakes that one validator has found one by one."""
    raised = entry.get("ctx", {}).get("error")
    return [{**entry, "msg": sentence} for sentence in raised.sentences] if isinstance(raised, Mistakes) else [entry]


def _problem(document: Document, model: type[BaseModel], base: KeyPath, entry: dict[str, Any]) -> Problem:
    path: KeyPath = (*base, *entry["loc"])
    name = ".".join(str(part) for part in path)
    got, kind = entry["input"], entry["type"]
    if kind == "extra_forbidden":
        known = _fields(model, entry["loc"][:-1])
        near = difflib.get_close_matches(str(path[-1]), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else (f"; known keys: {', '.join(known)}" if known else "")
        return document.problem(path, f"unknown key {path[-1]!r}{hint}")
    if kind == "missing":
        return document.problem(path, f"missing key {path[-1]!r}" + (f" in {'.'.join(map(str, path[:-1]))}" if path[:-1] else ""))
    message = entry["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be", "expected")
    if isinstance(got, str | int | float | bool) and "got " not in message and not (isinstance(got, str) and repr(got) in message):
        message += f", got {got!r}"
    if (below := _BELOW.match(message)) and (deeper := (*path, *below[1].split("."))) and deeper[: len(path) + 1] in document.positions:
        # a check of a whole table has found it in one of its keys
        return document.problem(deeper, f"{'.'.join(map(str, deeper))}: {message[below.end() :]}")
    return document.problem(path, f"{name}: {message}" if name else message)


def _fields(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Return the keys that the model nested at `path` knows, as far as annotations tell."""
    kinds: list[Any] = [model]
    for part in path:
        kinds = [inner for kind in kinds for inner in _inner(kind, part)]
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return list(dict.fromkeys(info.alias or name for kind in models for name, info in kind.model_fields.items()))


def _inner(kind: Any, part: str | int) -> Iterable[Any]:
    if isinstance(kind, type) and issubclass(kind, RootModel):  # a bare mapping or list: its parts are the root's
        return _inner(kind.model_fields["root"].annotation, part)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found = [info.annotation for name, info in kind.model_fields.items() if part in (name, info.alias)]
        return [leaf for annotation in found for leaf in _unwrap(annotation)]
    args = getattr(kind, "__args__", ())
    return [leaf for arg in args[-1:] for leaf in _unwrap(arg)]


def _unwrap(annotation: Any) -> list[Any]:
    """Return the members of a union, or the annotation itself."""
    import types
    import typing

    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return list(typing.get_args(annotation))
    return [annotation]
