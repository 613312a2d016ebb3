"""What stands on the line of each serial instrument, byte by byte.

Driver and simulator read the same profile, so a wrong pattern or checksum in it would go unnoticed between the two. Nothing here is computed from
it: change these only together with the instrument.
"""

from __future__ import annotations

import math

import pytest

from drivers.device import Address, Device, load_profile, profile_folder
from drivers.dialogue_lines import BadLine, frame, read_value, unframe
from drivers.tags import Quality
from simulators.bench import StaticPlant
from simulators.serve_ascii import AsciiInstrument
from simulators.station import Station

PROFILES = {path.stem: load_profile(path) for path in sorted(profile_folder().glob("*.toml"))}
GOOD, UNCERTAIN, BAD = Quality.GOOD, Quality.UNCERTAIN, Quality.BAD

# what the controller sends, what the instrument answers, and its signals then [eu of each]
BALANCE = [
    (b"I4\r\n", b'I4 A "0110080011"\r\n', {}),
    (b"SI\r\n", b"S S     123.45 kg\r\n", {"weight": 123.45}),
    (b"SI\r\n", b"S S       0.00 kg\r\n", {"weight": 0.0}),
    (b"SI\r\n", b"S S      -0.35 kg\r\n", {"weight": -0.35}),
    (b"SI\r\n", b"S S    1012.50 kg\r\n", {"weight": 1012.5}),
    (b"TA\r\n", b"TA A     12.25 kg\r\n", {"tare": 12.25}),
    (b"TA 7.50 kg\r\n", b"TA A      7.50 kg\r\n", {}),
    (b"TA\r\n", b"TA A      7.50 kg\r\n", {"tare": 7.5}),
    (b"TA 1000.01 kg\r\n", b"ES\r\n", {}),
    (b"ZZ\r\n", b"ES\r\n", {}),
]
# lines that a real one sends and the simulated one does not
BALANCE_HEARD = [
    (b"S D     123.46 kg\r\n", {"weight": (123.46, UNCERTAIN)}),
    (b"S S   123460.0 g\r\n", {"weight": (123.46, GOOD)}),
    (b"S S     272.15 lb\r\n", {"weight": (math.nan, BAD)}),
    (b"S I\r\n", {"weight": (math.nan, BAD)}),
    (b"S +\r\n", {"weight": (math.nan, BAD)}),
    (b"S -\r\n", {"weight": (math.nan, BAD)}),
]
TRANSMITTER = [
    (b"PH  6.98;T  25.3 C;OK;13\r\n", {"ph": 6.98, "temperature": 25.3}),
    (b"PH 11.02;T 101.7 C;OK;15\r\n", {"ph": 11.02, "temperature": 101.7}),
    (b"PH  0.00;T  -9.9 C;OK;0D\r\n", {"ph": 0.0, "temperature": -9.9}),
]
TRANSMITTER_HEARD = [
    (b"PH  6.98;T  25.3 C;HLD;57\r\n", {"ph": (6.98, UNCERTAIN), "temperature": (25.3, UNCERTAIN)}),
    (b"PH  6.98;T  25.3 C;ERR;52\r\n", {"ph": (math.nan, BAD), "temperature": (math.nan, BAD)}),
    (b"PH  6.98;T  25.3 C;NEW;4B\r\n", {"ph": (math.nan, BAD), "temperature": (math.nan, BAD)}),
    (b"PH  6.98;T  77.5 F;OK;17\r\n", {"ph": (6.98, GOOD), "temperature": (math.nan, BAD)}),
]
TRANSCRIPTS = {"balance": BALANCE_HEARD, "ph_transmitter": TRANSMITTER_HEARD}


def test_every_shipped_instrument_is_pinned() -> None:
    assert sorted(TRANSCRIPTS) == [name for name, profile in PROFILES.items() if profile.protocol == "ascii"]


def bench(name: str) -> tuple[StaticPlant, AsciiInstrument]:
    plant = StaticPlant({name: PROFILES[name]})
    device = Device(name, PROFILES[name], Address.parse("serial:lines/golden"))
    return plant, AsciiInstrument(Station(device, plant, lambda: 0.0))


def understood(name: str, line: bytes) -> dict[str, tuple[float, Quality]]:
    """Return what the driver finds in a line, by signal."""
    profile = PROFILES[name]
    assert profile.dialogue is not None
    assert line.endswith(b"\r\n")
    text = unframe(profile.dialogue, line[:-2])
    found = {}
    for reply, answer in profile.dialogue.replies.items():
        if match := answer.pattern.fullmatch(text):
            for label, signal in profile.signals.items():
                if signal.at.partition(":")[0] == reply:
                    read = read_value(signal, answer, match)
                    found[label] = (read.value, read.quality)
    return found


def test_the_balance_speaks_so_and_is_understood_so() -> None:
    plant, instrument = bench("balance")
    for command, answer, values in BALANCE:
        for signal, value in values.items():
            plant.values["balance"][PROFILES["balance"].place(signal)] = value
        instrument.station.moved()
        asked = unframe(instrument.dialogue, command[:-2])
        assert frame(instrument.dialogue, asked) == command
        assert frame(instrument.dialogue, instrument.answer(asked)) == answer
        if values:
            assert understood("balance", answer) == {signal: (pytest.approx(value), GOOD) for signal, value in values.items()}


def test_the_transmitter_speaks_so_and_is_understood_so() -> None:
    plant, instrument = bench("ph_transmitter")
    for line, values in TRANSMITTER:
        for signal, value in values.items():
            plant.values["ph_transmitter"][PROFILES["ph_transmitter"].place(signal)] = value
        instrument.station.moved()
        assert [frame(instrument.dialogue, text) for text in instrument.lines()] == [line]
        assert understood("ph_transmitter", line) == {signal: (pytest.approx(value), GOOD) for signal, value in values.items()}


@pytest.mark.parametrize(("name", "line", "expected"), [(name, line, values) for name, heard in TRANSCRIPTS.items() for line, values in heard])
def test_what_the_words_of_an_instrument_mean(name: str, line: bytes, expected: dict[str, tuple[float, Quality]]) -> None:
    found = understood(name, line)
    assert found == {signal: (pytest.approx(value, nan_ok=True), quality) for signal, (value, quality) in expected.items()}


def test_one_wrong_bit_is_no_value() -> None:
    for line, _ in TRANSMITTER:
        for place in range(len(line) - 2):
            spoiled = bytearray(line)
            spoiled[place] ^= 0x01
            with pytest.raises(BadLine):
                understood("ph_transmitter", bytes(spoiled))
