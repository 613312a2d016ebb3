"""Which blocks of a Modbus device are asked for when, at times that are given: groups, and a device that is polled more often than any of them."""

from __future__ import annotations

from collections import Counter

from drivers.device import Address, Device, Profile
from drivers.modbus_blocks import Blocks
from drivers.modbus_frames import DeviceSaidNo, tcp_asked

POLL = 0.1


def blocks_of(periods: dict[str, str]) -> Blocks:
    """Return the blocks of a device with one signal in each group, each a read of its own, begun; the identity is in that of the quickest."""
    signals = {f"in_{name}": {"at": f"input:{200 * place + 1}", "range": [0, 100], "group": name} for place, name in enumerate(periods)}
    profile = Profile.model_validate(
        {
            "id": "thing",
            "description": "",
            "protocol": "modbus",
            "identity": {"at": "input:0", "value": 7},
            "groups": {name: {"period": period} for name, period in periods.items()},
            "signals": signals,
        }
    )
    blocks = Blocks(Device("d", profile, Address.parse("modbus-tcp://127.0.0.1:1"), POLL), {})
    blocks.begin(lambda question: tcp_asked(1, question))
    return blocks


def read(blocks: Blocks, now: float, answered: int = 100) -> list[str]:
    """Do what a read does at `now` [s], if anything is wanted; return the groups that it asks for. Only so many blocks are answered."""
    if blocks.rests(now):
        return []
    batch = blocks.due(now)
    replies = [b"\0\7" + bytes(2 * block.request.count - 2) if place < answered else None for place, block in enumerate(batch.blocks)]
    blocks.put(batch, replies, [now] * len(replies), now)
    return [name.removeprefix("in_") for block in batch.blocks for name in block.request.names if name != "identity"]


def asked(blocks: Blocks, until: float, poll: float = POLL) -> Counter[str]:
    """Return how often each group is asked for in so many polls, from 0 to `until` [s]."""
    found: Counter[str] = Counter()
    for number in range(round(until / poll)):
        now = number * poll
        names = read(blocks, now)
        assert not names or names[0] == "a", "nothing is read without the identity"
        found.update(names)
    return found


def test_each_group_is_asked_for_at_its_own_period_however_often_the_device_is_polled() -> None:
    found = asked(blocks_of({"a": "5 s", "b": "7 s", "c": "12 s"}), 420.0)
    assert abs(found["a"] - 84) <= 4
    assert abs(found["b"] - 60) <= 3
    assert abs(found["c"] - 35) <= 2


def test_a_group_that_is_as_quick_as_the_poll_is_asked_for_in_each() -> None:
    found = asked(blocks_of({"a": "100 ms", "b": "1 s"}), 20.0)
    assert found["a"] == 200
    assert abs(found["b"] - 20) <= 1
    found = asked(blocks_of({"a": "100 ms"}), 20.0, 0.5)
    assert found["a"] == 40, "no more often than it is polled"


def test_a_period_between_one_poll_and_two_is_kept_on_the_average() -> None:
    assert abs(asked(blocks_of({"a": "150 ms"}), 30.0)["a"] - 200) <= 2


def test_what_was_not_answered_stays_due_and_what_is_in_doubt_is_asked_for_at_once() -> None:
    blocks = blocks_of({"a": "5 s", "b": "60 s"})
    assert read(blocks, 0.0, answered=1) == ["a", "b"]
    assert read(blocks, 0.1) == ["a", "b"], "with the identity"
    assert read(blocks, 0.2) == []
    blocks.doubt({"in_b"})
    assert read(blocks, 0.3) == ["a", "b"]
    assert read(blocks, 0.4) == []
    assert read(blocks, 5.0) == ["a"], "what came along with another does not put it off"
    blocks.forget()
    assert read(blocks, 5.1) == ["a", "b"]


def test_a_refused_identity_is_asked_for_again_in_the_next_poll() -> None:
    blocks = blocks_of({"a": "5 s", "b": "60 s"})
    assert read(blocks, 0.0) == ["a", "b"]
    assert not blocks.rests(5.0)
    blocks.put(blocks.due(5.0), [DeviceSaidNo(4)], [5.0], 5.0)
    assert read(blocks, 5.1) == ["a"]
    assert read(blocks, 5.2) == []
