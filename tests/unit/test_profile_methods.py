"""The methods table of a profile: what is taken, and that every mistake is named with its place."""

from pathlib import Path

import pytest

from drivers.device import load_profile, profile_folder
from drivers.source import BadInput

SHREDDER = (profile_folder() / "shredder.toml").read_text(encoding="utf-8")
GOOD = """
[methods.feed]
at = "nsu=urn:blackmass:shredder;s=feed"
description = "Sets the feed"
pulses = "drive_reset"
inputs.rate = { writes = "feed_rate_sp", eu = "kg/min", description = "Rate" }
inputs.speed = { writes = "rotor_speed_sp", type = "int32", eu = "rpm" }
outputs.fed = { eu = "kg", description = "Since the last call" }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_method_with_inputs_and_a_pulse(tmp_path: Path) -> None:
    methods = load_profile(written(tmp_path, SHREDDER + GOOD)).methods
    assert list(methods) == ["reset_drive", "feed"]
    assert methods["reset_drive"].pulses == "drive_reset"
    assert [(label, output.eu) for label, output in methods["feed"].outputs.items()] == [("fed", "kg")]
    assert [(label, argument.writes, argument.eu, argument.type) for label, argument in methods["feed"].inputs.items()] == [
        ("rate", "feed_rate_sp", "kg/min", "float64"),
        ("speed", "rotor_speed_sp", "rpm", "int32"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[methods.feed]", "[methods.torque]", "a signal has this name"),
        (';s=feed"', ';s=torque"', "is already taken by torque"),
        (';s=feed"', ';s=identity"', "is already taken by identity"),
        (';s=feed"', ';s=reset_drive"', "is already taken by reset_drive"),
        ("nsu=urn:blackmass:shredder;s=feed", "holding:3", "expected a node id with its namespace URI"),
        ('pulses = "drive_reset"', 'pulses = "nitrogen_flow_sp"', "expected a writable bool"),
        ('pulses = "drive_reset"', 'pulses = "drive_tripped"', "expected a writable bool"),
        ('writes = "feed_rate_sp"', 'writes = "torque"', "expected a writable signal"),
        ('writes = "rotor_speed_sp"', 'writes = "feed_rate_sp"', "already written by rate"),
        ('writes = "rotor_speed_sp"', 'writes = "drive_reset"', "already written by pulses"),
        ('eu = "kg/min"', 'eu = "L/min"', "cannot be expressed in 'kg/h'"),
        ('eu = "kg/min"', 'eu = "stone"', "is not known"),
        ('type = "int32"', 'type = "bool"', "does not fit rotor_speed_sp"),
        ('type = "int32"', 'type = "float16"', "OPC UA has no float16"),
        ('eu = "kg",', 'eu = "stone",', "is not known"),
        ('type = "int32"', 'typ = "int32"', "did you mean 'type'"),
    ],
)
def test_a_mistake_is_named_where_it_is(old: str, new: str, expected: str, tmp_path: Path) -> None:
    path = written(tmp_path, SHREDDER + GOOD.replace(old, new))
    with pytest.raises(BadInput) as caught:
        load_profile(path)
    [problem] = caught.value.problems
    assert expected in problem.what
    lines = path.read_text(encoding="utf-8").splitlines()
    assert new in lines[problem.where.line - 1]
    assert str(caught.value).startswith(f"{path}:{problem.where.line}:")


def test_a_method_of_another_make_needs_neither_inputs_nor_signals(tmp_path: Path) -> None:
    text = """
[methods.idle]
at = "nsu=urn:blackmass:shredder;s=idle"
object = "nsu=urn:blackmass:shredder;s=drive"
[methods.turn]
at = "nsu=urn:blackmass:shredder;s=turn"
inputs.by = { type = "float32", eu = "rpm" }
"""
    methods = load_profile(written(tmp_path, SHREDDER + text)).methods
    assert (methods["idle"].object, methods["idle"].inputs) == ("nsu=urn:blackmass:shredder;s=drive", {})
    assert methods["turn"].inputs["by"].writes == ""
    with pytest.raises(BadInput, match="expected a node id with its namespace URI"):
        load_profile(written(tmp_path, SHREDDER + text.replace("nsu=urn:blackmass:shredder;s=drive", "drive")))


@pytest.mark.parametrize(("events", "good"), [("server", True), ("nsu=urn:blackmass:shredder;s=drive", True), ("drive", False)])
def test_events_come_from_the_server_or_a_node(events: str, good: bool, tmp_path: Path) -> None:
    path = written(tmp_path, SHREDDER.replace('events = "server"', f'events = "{events}"\nmin_severity = 300'))
    if good:
        assert load_profile(path).opcua.min_severity == 300
    else:
        with pytest.raises(BadInput, match='expected "server" or a node id'):
            load_profile(path)


def test_a_modbus_device_has_no_methods(tmp_path: Path) -> None:
    text = (profile_folder() / "weigh_hopper.toml").read_text(encoding="utf-8") + '[methods.tare]\nat = "coil:9"\npulses = "tare"\n'
    with pytest.raises(BadInput, match="only an OPC UA device has methods"):
        load_profile(written(tmp_path, text))
