from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from drivers.source import BadInput, Document, read_toml, read_yaml, validate


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str | bytes], Document]:
    return lambda text: read_toml(_write(tmp_path / "cell.toml", text))


@pytest.fixture
def yaml(tmp_path: Path) -> Callable[[str | bytes], Document]:
    return lambda text: read_yaml(_write(tmp_path / "recipe.yaml", text))


def _write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def at(document: Document, *path: str | int) -> tuple[int, int]:
    where = document.at(*path)
    return where.line, where.column


def complaint(read: Callable[[str | bytes], Document], text: str | bytes) -> str:
    with pytest.raises(BadInput) as caught:
        read(text)
    return str(caught.value).rpartition("/")[2]


TOML = '''\
# a comment with [brackets] and = signs
title = "a = [b]"   # another
[owner]
  name = 'it''s'
[devices.leach]
address = { host = "h", port = 502, nested = { deep = [1, { x = "}" }] } }
a.b."c d" = 3
text = """
[not.a.table]
key = "no"
"""
list = [
  1, # one
  [ "x", "]" ],
]
[[alarms]]
name = "first"
[[alarms]]
name = "second"
[alarms.extra]
deep = 2020-01-01T00:00:00Z
[[alarms.rows]]
v = 1
[[alarms.rows]]
v = 2
'''.replace("it''s", "its")


def test_toml_positions(toml: Callable[[str | bytes], Document]) -> None:
    document = toml(TOML)
    assert at(document, "title") == (2, 1)
    assert at(document, "owner") == (3, 2)
    assert at(document, "owner", "name") == (4, 3)
    assert at(document, "devices") == (5, 2)
    assert at(document, "devices", "leach") == (5, 10)
    assert at(document, "devices", "leach", "address", "port") == (6, 25)
    assert at(document, "devices", "leach", "address", "nested", "deep", 1, "x") == (6, 61)
    assert at(document, "devices", "leach", "a", "b", "c d") == (7, 5)
    assert at(document, "devices", "leach", "list", 1, 1) == (14, 10)
    assert at(document, "alarms", 0, "name") == (17, 1)
    assert at(document, "alarms", 1, "name") == (19, 1)
    assert at(document, "alarms", 1, "extra", "deep") == (21, 1)
    assert at(document, "alarms", 1, "rows", 1, "v") == (25, 1)


def test_what_is_absent_stands_where_its_parent_does(toml: Callable[[str | bytes], Document]) -> None:
    document = toml(TOML)
    assert at(document, "owner", "nothing", 3) == at(document, "owner")
    assert at(document, "nothing") == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        '"key" = 1\n',
        "'k' = 'v'\n",
        '"a\\u0062" = 1\n',
        "x = '''a'''''\n",
        'x = """a"""""\n',
        'x = """\\\n  a \\""" b"""\ny = 2\n',
        "x = 1 # c\r\n[t]\r\ny = 2\r\n",
        "[ a . 'b' ]\nx=1\n",
        "x = []\ny = {}\nz = [[],[{}]]\n",
        "\ufeffx = 1\n",
        "",
    ],
)
def test_every_key_has_its_position(toml: Callable[[str | bytes], Document], text: str) -> None:
    document = toml(text)
    assert missing(document.data, document) == []


def missing(data: object, document: Document, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths in the data that have no position."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    own = [] if path in document.positions else [path]
    return own + [lost for key, value in inner for lost in missing(value, document, (*path, key))]


def test_toml_mistakes(toml: Callable[[str | bytes], Document]) -> None:
    assert complaint(toml, "a = 1\nb = = 2\n").startswith("cell.toml:2:5: not valid TOML")
    assert complaint(toml, 'a = 1\nb = "x').startswith("cell.toml:2:")
    assert complaint(toml, "[a]\nx = [1,").startswith("cell.toml:2:")
    assert "not valid TOML" in complaint(toml, "a = 1\na = 2\n")
    assert "nested too deeply" in complaint(toml, "a = " + "[" * 5000 + "]" * 5000)
    assert "not valid TOML" in complaint(toml, "a = " + "9" * 5000)


def test_files_that_cannot_be_read(toml: Callable[[str | bytes], Document], yaml: Callable[[str | bytes], Document], tmp_path: Path) -> None:
    for read in (read_toml, read_yaml):
        with pytest.raises(BadInput, match=r"nowhere:1:1: cannot be read: No such file"):
            read(tmp_path / "nowhere")
        with pytest.raises(BadInput, match="cannot be read: Is a directory"):
            read(tmp_path)
    for reader in (toml, yaml):
        assert ":2:1: byte 0xe9 is not UTF-8; save the file as UTF-8" in complaint(reader, b"a = 1\nb\xe9 = 2")
        assert "expected at most" in complaint(reader, b"#" * (4 * 1024 * 1024 + 1))


def test_yaml_positions_of_keys_and_values(yaml: Callable[[str | bytes], Document]) -> None:
    document = yaml("a: {b: \"x > 1\", c: [p, q]}\nd:\n  - e: plain\n  - f:\n      g: 's'\nh: >\n  folded\n  text\n")
    assert at(document, "a", "b") == (1, 5)
    assert str(document.value_at("a", "b")).endswith(":1:9")  # inside the quotes
    assert at(document, "a", "c", 1) == (1, 24)
    assert str(document.value_at("d", 0, "e")).endswith(":3:8")
    assert at(document, "d", 1, "f", "g") == (5, 7)
    assert str(document.value_at("d", 1, "f", "g")).endswith(":5:11")
    assert str(document.value_at("h")).endswith(":7:3")
    assert document.value_at("d", 7) == document.at("d")


def test_yaml_scalars_are_strict(yaml: Callable[[str | bytes], Document]) -> None:
    text = 'a: no\nb: yes\nc: on\nd: 1_000\ne: 0x10\nf: 1:30\ng: 2020-01-01\nh: "3"\ni: 3\nj: 3.5\nk: true\n'
    text += "l:\nm: ~\nn: .inf\no: 5 L\np: 010\nq: 1e3\n"
    expected = {"a": "no", "b": "yes", "c": "on", "d": "1_000", "e": "0x10", "f": "1:30", "g": "2020-01-01", "h": "3", "i": 3, "j": 3.5}
    expected |= {"k": True, "l": None, "m": None, "n": ".inf", "o": "5 L", "p": 10, "q": 1000.0}
    assert yaml(text).data == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "recipe.yaml:3:1: key 'a' stands twice here"),
        ("a: &x 1\nb: *x\n", "recipe.yaml:1:4: tags (!name) and anchors (&name) are not used here"),
        ("a: !!python/object:os.system x\n", "recipe.yaml:1:4: tags"),
        ("a: &x 1\nb: &x 2\n", "recipe.yaml:2:4: tags (!name) and anchors (&name) are not used here"),
        ("a: *x\n", "recipe.yaml:1:4: not valid YAML: found undefined alias"),
        ("? [a, b]\n: 1\n", "a key must be plain text"),
        ("a: [1, 2\nb: 3\n", "not valid YAML"),
        ("a: 1\n\tb: 2\n", "recipe.yaml:2:1: not valid YAML"),
        ("", "recipe.yaml:1:1: the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
        ("a: " + "9" * 5000, "expected a number, got one of 5000 digits"),
        ("a: " + "[" * 4000, "nested too deeply"),
    ],
)
def test_yaml_mistakes(yaml: Callable[[str | bytes], Document], text: str, expected: str) -> None:
    assert expected in complaint(yaml, text)


def test_every_yaml_problem_is_named_at_once(yaml: Callable[[str | bytes], Document]) -> None:
    with pytest.raises(BadInput) as caught:
        yaml("a: !x 1\nb: 2\nb: 3\n")
    assert [problem.where.line for problem in caught.value.problems] == [1, 3]


class Port(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int
    name: str = ""


class Box(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ports: dict[str, Port] = {}
    rows: list[Port] = []
    mode: Port | str = ""


def test_validate_names_file_line_and_column(toml: Callable[[str | bytes], Document]) -> None:
    document = toml('[ports.a]\nnumbr = 1\n[[rows]]\nnumber = 1\n[[rows]]\nnumber = "many"\n[extra]\nx = 1\n')
    with pytest.raises(BadInput) as caught:
        validate(document, Box)
    lines = [str(problem).rpartition("/")[2] for problem in caught.value.problems]
    assert lines == [
        "cell.toml:1:8: missing key 'number' in ports.a",
        "cell.toml:2:1: unknown key 'numbr'; did you mean 'number'?",
        "cell.toml:6:1: rows.1.number: expected a valid integer, unable to parse string as an integer, got 'many'",
        "cell.toml:7:2: unknown key 'extra'; known keys: ports, rows, mode",
    ]


def test_validate_a_part_of_a_document(yaml: Callable[[str | bytes], Document]) -> None:
    document = yaml("deep:\n  port: {number: x}\n")
    with pytest.raises(BadInput, match=r"2:10: deep\.port\.number"):
        validate(document, Port, document.data["deep"]["port"], ("deep", "port"))
    assert validate(document, Port, {"number": 3}) == Port(number=3)


quiet = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
tomlish = st.text(alphabet="ab.=[]{}\"'\\#\n\r\t ,1-+eE_:TZ", max_size=60)
yamlish = st.text(alphabet="ab:-[]{}\"'#\n\t ,1&*!|>%?~<.\\x", max_size=60)


@quiet
@given(st.one_of(st.binary(max_size=80), tomlish.map(str.encode), st.text(max_size=40).map(str.encode)))
def test_no_bytes_break_the_toml_reader(tmp_path: Path, raw: bytes) -> None:
    try:
        document = read_toml(_write(tmp_path / "random.toml", raw))
    except BadInput:
        return
    assert missing(document.data, document) == []
    for where in document.positions.values():
        assert 1 <= where.line <= document.text.count("\n") + 1


@quiet
@given(st.one_of(st.binary(max_size=80), yamlish.map(str.encode), st.text(max_size=40).map(str.encode)))
def test_no_bytes_break_the_yaml_reader(tmp_path: Path, raw: bytes) -> None:
    try:
        document = read_yaml(_write(tmp_path / "random.yaml", raw))
    except BadInput:
        return
    assert missing(document.data, document) == []
