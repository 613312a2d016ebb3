"""Whether the identity of a profile notices a wrong order of bytes or words."""

from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
from click.testing import CliRunner

from controller.cli import main
from drivers.device import Profile, load_profile, profile_folder
from drivers.modbus_codec import Way, decode_one, encode_one
from drivers.modbus_options import ByteOrder, WordOrder
from drivers.modbus_orders import order_found, unseen_orders, widest

SHIPPED = [made for made in (load_profile(path) for path in sorted(profile_folder().glob("*.toml"))) if made.protocol == "modbus"]
WORDS = ['word_order = "little"']
CODE = 43211234  # words 0293 59E2


def profile(identity: dict[str, Any], *types: str, signal: dict[str, Any] | None = None, **modbus: Any) -> Profile:
    signals = {f"s{n}": {"at": f"input:{10 + 4 * n}", "type": type_, **(signal or {})} for n, type_ in enumerate(types)}
    described = {"id": "test", "description": "", "protocol": "modbus", "modbus": modbus, "signals": signals}
    return Profile.model_validate({**described, "identity": {"at": "input:0", **identity}})


@pytest.mark.parametrize("made", SHIPPED, ids=lambda made: made.id)
def test_every_shipped_identity_notices_every_wrong_order(made: Profile) -> None:
    assert unseen_orders(made) == []
    assert widest(made) == 2
    words = encode_one(made.identity.value, Way(made.identity.type))
    assert len(set(np.array(words, ">u2").tobytes())) == 4, "unlike bytes"
    for order in product(get_args(ByteOrder), get_args(WordOrder)):
        read = decode_one(words, Way(made.identity.type, *order))
        others = {other.identity.value for other in SHIPPED if other is not made}
        assert read not in others, "nor is it that of another type"


@pytest.mark.parametrize(
    ("identity", "types", "unseen"),
    [
        ({"value": 4321}, ("float32",), WORDS),
        ({"value": 4321}, ("uint16", "int16", "bool"), []),
        ({"value": 4321}, ("uint16", "int32"), WORDS),
        ({"value": 4321}, ("uint64",), [*WORDS, 'word_order = "mid_big"', 'word_order = "mid_little"']),
        ({"value": 0x0707}, ("uint16",), ['byte_order = "little"']),
        ({"value": 0x0707}, ("bool",), []),  # true whatever stands in it
        ({"value": 0x0707}, ("float32",), [*WORDS, 'byte_order = "little"', 'byte_order = "little" and word_order = "little"']),
        ({"type": "uint32", "value": CODE}, ("float32", "uint16"), []),
        ({"type": "uint32", "value": 0x10E110E1}, ("float32",), WORDS),  # its words are alike
        ({"type": "uint32", "value": 0x12343412}, ("float32",), ['byte_order = "little" and word_order = "little"']),
        ({"type": "float32", "value": 6.5}, ("float32",), []),
        ({"type": "uint32", "value": CODE}, ("float64",), ['word_order = "mid_little"']),  # of two words it is no other order
        ({"type": "uint64", "value": 0x0001020304050607}, ("float64", "float32"), []),
        ({"text": "AB-100"}, ("float32",), WORDS),
        ({"text": "AB-100"}, ("uint16",), []),
        ({"text": "A"}, ("uint16",), []),
        ({"text": "AAAA"}, ("uint16",), ['byte_order = "little"']),
        ({"at": "coil:0", "type": "bool", "value": 1}, ("uint16",), ['byte_order = "little"']),
    ],
)
def test_which_orders_are_not_noticed(identity: dict[str, Any], types: tuple[str, ...], unseen: list[str]) -> None:
    assert unseen_orders(profile(identity, *types)) == unseen


def test_a_signal_with_an_order_of_its_own_does_not_depend_on_the_profiles() -> None:
    own = {"byte_order": "big", "word_order": "little"}
    assert unseen_orders(profile({"value": 4321}, "float32", signal=own)) == []
    assert widest(profile({"value": 4321}, "float32", signal=own)) == 0
    assert unseen_orders(profile({"value": 0x0707}, "float32", signal={"word_order": "little"})) == ['byte_order = "little"']
    assert unseen_orders(profile({"value": 0x0707}, "bool", signal={"bit": 3})) == ['byte_order = "little"']


def test_bits_have_no_order() -> None:
    assert unseen_orders(profile({"value": 0}, "bool", signal={"at": "coil:1"})) == []


def test_the_order_in_which_an_identity_would_be_right_is_told() -> None:
    made = profile({"type": "uint32", "value": CODE}, "float32", byte_order="little", word_order="little")
    assert order_found(made, 0x59E20293) == 'word_order = "big"'
    assert order_found(made, 0x9302E259) == 'byte_order = "big"'
    assert order_found(made, 0xE2599302) == 'byte_order = "big" and word_order = "big"'
    assert order_found(made, CODE + 1.0) == ""
    assert order_found(profile({"type": "float32", "value": 6.5}, "float32"), float("inf")) == ""
    assert order_found(profile({"value": 0x1234}, "float32"), 0x3412) == 'byte_order = "little"'


CELL = """
[cell]
id = "bench"

[devices.meter]
profile = "meter"
address = "modbus-tcp://127.0.0.1:9"
[devices.meter.tags]
"FT-1" = "flow"
[devices.other]
profile = "meter"
address = "modbus-tcp://127.0.0.1:9?unit=2"
tags = {}
"""
METER = """
id = "meter"
description = "A flow meter"
protocol = "modbus"
identity = { at = "input:0", type = "TYPE", value = 43210 }
[signals.flow]
at = "input:2"
type = "float32"
"""


@pytest.mark.parametrize("command", ["check", "plan"])
def test_an_identity_that_cannot_tell_the_order_is_warned_of_once(tmp_path: Any, command: str) -> None:
    (tmp_path / "cell.toml").write_text(CELL)
    (tmp_path / "meter.toml").write_text(METER.replace("TYPE", "uint16"))
    shown = CliRunner().invoke(main, [command, str(tmp_path / "cell.toml")])
    assert shown.exit_code == 0, shown.output
    assert shown.stderr == (
        'warning: profile meter: its identity reads the same with word_order = "little", so that a wrong order is not noticed and wrong values are '
        "GOOD; take a constant of two registers (a uint32 or a float32), with unlike words and bytes\n"
    )
    (tmp_path / "meter.toml").write_text(METER.replace("TYPE", "uint32"))
    shown = CliRunner().invoke(main, [command, str(tmp_path / "cell.toml")])
    assert (shown.exit_code, shown.stderr) == (0, "")
