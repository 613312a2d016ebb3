"""The dialogue of a serial instrument, without a line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device import Address, Device, Profile, load_profile, profile_folder
from drivers.dialogue import Write, check_pattern
from drivers.dialogue_lines import BadLine, Lines, frame, read_value, turns, unframe
from drivers.source import BadInput
from drivers.tags import Quality

BALANCE = (profile_folder() / "balance.toml").read_text(encoding="utf-8")
TRANSMITTER = (profile_folder() / "ph_transmitter.toml").read_text(encoding="utf-8")


def load(tmp_path: Path, text: str) -> Profile:
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    return load_profile(path)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def line_of(text: str, start: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(start))


CHANGES = [
    # where the mistake is told (the line that begins so), what is put for what, what is said
    ("expect = 'S (", r"(?: +(?P<value>", r"((?: +(?P<value>", "not a regular expression"),
    ("expect = 'S (", r"(?P<value>-?[0-9]+\.[0-9]+)", r"(?P<value>(-?[0-9.]+)+)", "can take for ever"),
    ('example = "S X', "S S     123.45 kg", "S X     123.45 kg", "is not what expect describes"),
    ("status =", '"bad", "+"', '"broken", "+"', "expected 'good', 'uncertain' or 'bad', got 'broken'"),
    ('send = "TA {value', "{value:.2f}", "{value:.2q}", "send"),
    ('send = "TA {other', "TA {value:.2f}", "TA {other}", "expected one {value} with its format"),
    ("longest =", "longest = 64", "longest = 16", "more than 16"),
    ("terminator =", r'terminator = "\r\n"', r'terminator = "\u0000"', "would end a line; that takes a checksum"),
    ("longest =", "longest = 64", "longest = 300", "less than or equal to 256"),
    ("[dialogue.replies.weight]", 'send = "SI"', 'send = ""', "what to send for each reply, or stream = true"),
    ("timeout =", '"500 ms"', '"500"', "a time with its eu"),
    ("at =", 'at = "weight"', 'at = "wait"', "no such reply or group: 'wait'; this dialogue has weight, tare"),
    ("[signals.tare]", 'access = "write"', "", "a writable signal, and no other, has a command: dialogue.writes.tare"),
    ("[dialogue.writes.tar]", "[dialogue.writes.tare]", "[dialogue.writes.tar]", "no signal 'tar'"),
    ("speed =", "longest = 64", "longest = 64\nspeed = 9600", "unknown key 'speed'"),
]


@pytest.mark.parametrize(("start", "what", "by", "said"), CHANGES, ids=[change[3][:30] for change in CHANGES])
def test_every_mistake_is_named_with_its_place(start: str, what: str, by: str, said: str, tmp_path: Path) -> None:
    assert what in BALANCE
    text = BALANCE.replace(what, by)
    found = mistakes(tmp_path, text)
    assert any(told.startswith(f"p.toml:{line_of(text, start)}:") and said in told for told in found), found


def test_a_dialogue_belongs_to_ascii_and_an_instrument_that_talks_by_itself_takes_nothing(tmp_path: Path) -> None:
    assert "only with it" in "".join(mistakes(tmp_path, BALANCE.replace('"ascii"', '"modbus"')))
    assert "identity: expected" in mistakes(tmp_path, BALANCE.replace("[groups.slow]", '[identity]\nat = "x"\nvalue = 1\n[groups.slow]'))[0]
    assert "talks by itself is not asked" in mistakes(tmp_path, BALANCE.replace("longest = 64", "longest = 64\nstream = true"))[0]
    assert "texts.serial: only on Modbus and OPC UA" in mistakes(tmp_path, BALANCE + '[texts.serial]\nat = "serial"\n')[0]
    assert (
        "by which the instrument is known"
        in mistakes(tmp_path, TRANSMITTER.replace("stream = true", "").replace("expect =", 'send = "M"\nexpect ='))[0]
    )


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a*)*", "((a|b+)c)*", "(?:x{2,})+", "(?:[ab]+c?)*d", "([^)]+)+", r"(\d+\)?)*", "(a|a)*b"])
def test_a_repetition_of_a_repetition_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="can take for ever"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", [r"S +(?P<v>\d+)(?: +\w+)?", "[(+*)]+x", r"(\+)+", "(ab)+", "(a+)b+", "x{3}", r"[]+)]+(a|b)?[a|b]*"])
def test_other_patterns_are_taken(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


def test_the_longest_line_against_the_patterns_that_ship_comes_to_an_end() -> None:
    """A pattern that backtracks without end would take years."""
    hostile = ["S " + " " * 252, "S S" + " " * 200 + "1" * 50, "PH" + " " * 250, "TA A " + "9" * 250, "S S 1." + "1" * 240 + " kg!", "(" * 256]
    for name in ("balance", "ph_transmitter"):
        dialogue = load_profile(profile_folder() / f"{name}.toml").dialogue
        assert dialogue is not None
        patterns = [answer.pattern for answer in (*dialogue.replies.values(), *dialogue.writes.values())]
        assert not any(pattern.fullmatch(line) for pattern in patterns for line in hostile)


@given(st.lists(st.binary(max_size=12)), st.integers(1, 7))
def test_lines_are_the_same_in_whatever_pieces_they_come(said: list[bytes], size: int) -> None:
    whole = b"".join(line + b"\r\n" for line in said)
    lines = Lines(b"\r\n", 16)
    found = [line for place in range(0, len(whole), size) for line in lines.feed(whole[place : place + size])]
    assert found == [line for line in whole.split(b"\r\n")[:-1] if line and len(line) <= 16]


@given(st.binary(max_size=2000), st.integers(1, 300))
def test_whatever_comes_a_line_is_bounded_and_so_is_what_is_kept(noise: bytes, size: int) -> None:
    lines = Lines(b"\r\n", 64)
    for place in range(0, len(noise), size):
        assert all(0 < len(line) <= 64 for line in lines.feed(noise[place : place + size]))
        assert len(lines._rest) <= 64 + 2
    lines.feed(b"\r\n")
    assert lines.feed(b"S S 1.00 kg\r\n") == [b"S S 1.00 kg"]  # and it finds its way back


def test_a_line_that_is_too_long_is_dropped_to_its_end_and_counted() -> None:
    lines = Lines(b"\r\n", 8)
    assert lines.feed(b"123456789" * 5) == []
    assert lines.feed(b"tail\r") == []
    assert lines.feed(b"\ngood\r\n") == [b"good"]
    assert lines.feed(b"123456789\r\ngood\r\n") == [b"good"]
    assert lines.dropped == 2


@given(st.integers(0, 30), st.integers(1, 7))
def test_of_a_stream_nothing_counts_before_the_first_terminator(start: int, size: int) -> None:
    line = b"  -123.45 kg\r\n"
    come = (3 * line)[start:]
    lines = Lines(b"\r\n", 16, stream=True)
    for _ in range(2):
        assert not lines.begun
        found = [line for place in range(0, len(come), size) for line in lines.feed(come[place : place + size])]
        assert found == [line.removesuffix(b"\r\n")] * (come.count(b"\r\n") - 1)
        assert (lines.begun, lines.dropped) == (True, 0)
        lines.begin()


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_what_is_framed_is_unframed(text: str) -> None:
    for name in ("balance", "ph_transmitter"):
        dialogue = load_profile(profile_folder() / f"{name}.toml").dialogue
        assert dialogue is not None
        assert unframe(dialogue, frame(dialogue, text).removesuffix(b"\r\n")) == text


@given(st.binary(max_size=64))
def test_noise_is_a_bad_line_or_text_and_never_a_good_value_by_accident(noise: bytes) -> None:
    profile = load_profile(profile_folder() / "ph_transmitter.toml")
    assert profile.dialogue is not None
    answer = profile.dialogue.replies["measured"]
    try:
        text = unframe(profile.dialogue, noise)
    except BadLine:
        return
    if match := answer.pattern.fullmatch(text):
        found = read_value(profile.signals["ph"], answer, match)
        assert found.quality is not Quality.GOOD or found.value == float(match["ph"])


def test_a_number_that_is_none_is_bad() -> None:
    profile = load_profile(profile_folder() / "balance.toml")
    assert profile.dialogue is not None
    answer = profile.dialogue.replies["weight"].model_copy(update={"expect": "S (?P<status>S) (?P<value>.*?) (?P<unit>kg)"})
    answer.__dict__.pop("pattern", None)
    for text in ("nan", "inf", "1e999", "", "one", "1.2.3", "0x10"):
        match = answer.pattern.fullmatch(f"S S {text} kg")
        assert match is not None
        found = read_value(profile.signals["weight"], answer, match)
        assert (math.isnan(found.value), found.quality) == (True, Quality.BAD), text
        assert found.why
    match = answer.pattern.fullmatch("S S - 1.25 kg")  # a blank behind the sign, as many balances write it
    assert match is not None
    assert read_value(profile.signals["weight"], answer, match).value == -1.25


def test_a_command_holds_its_value_in_its_format() -> None:
    assert Write(send="TA {value:.2f} kg", expect="OK", example="OK").command(7.5) == "TA 7.50 kg"
    assert Write(send="R{value:d}", expect="OK", example="OK").command(1.0) == "R1"
    assert Write(send="{value:+06.1f}", expect="OK", example="OK").command(-2.25) == "-002.2"


def test_a_line_in_which_a_byte_came_wrong_says_nothing_of_any_kind() -> None:
    """With the parity checked such a byte is a NUL, which many a pattern would pass over, and no checksum is needed to see it."""
    dialogue = load_profile(profile_folder() / "balance.toml").dialogue
    assert dialogue is not None
    for encoding in ("ascii", "latin-1"):
        profiled = dialogue.model_copy(update={"encoding": encoding})
        for line in (b"S S    \x0023.45 kg", b"\x00S S     123.45 kg", b"S S     123.45 kg\x00", b"\x00", b'I4 A "01\x0080011"'):
            with pytest.raises(BadLine, match="a byte with a wrong parity or stop bit"):
                unframe(profiled, line)
    summed = dialogue.model_copy(update={"checksum": "sum"})
    with pytest.raises(BadLine, match="a byte with a wrong parity or stop bit"):
        unframe(summed, b"A\x0041")


def test_what_a_dialogue_takes_of_its_line() -> None:
    balance = load_profile(profile_folder() / "balance.toml")
    slow, fast = (Device("b", balance, Address.parse(f"serial:x?baud={baud}")) for baud in (1200, 9600))
    # SI and its answer: 4 + 19 bytes of 10 bits, and 20 ms, each 0.5 s; TA: 4 + 19 bytes each 5 s
    assert [(turn.send, turn.signals, turn.period) for turn in turns(fast)] == [("SI", ("weight",), 0.5), ("TA", ("tare",), 5.0)]
    assert [turn.time for turn in turns(fast)] == pytest.approx([23 * 10 / 9600 + 0.02] * 2, rel=0.05)
    assert [turn.time for turn in turns(slow)] == pytest.approx([23 * 10 / 1200 + 0.02] * 2, rel=0.05)
