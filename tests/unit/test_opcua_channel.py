"""The private names of asyncua that `drivers/opcua_channel.py` uses are where it expects them, and used nowhere else."""

import ast
import re
from importlib.metadata import version
from pathlib import Path

import asyncua
import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.connection import SecureConnection
from asyncua.common.utils import Buffer

DRIVERS = Path(__file__).parents[2] / "drivers"
CHANNEL = DRIVERS / "opcua_channel.py"
PROTOCOL = {"_request_handle", "_request_id", "_callbackmap", "_connection", "_fail_all_pending"}
CLIENT = {"_timeout", "_pre_request_hook", "_on_transport_lost", "_is_session_closing", "_make_protocol"}
SESSION = {"_send_request", "_subscription_callbacks"}
CONNECTION = {"_incoming_size"}
BUFFER = {"_data", "_cur_pos", "_size"}


def private_names(path: Path) -> set[str]:
    """Return the private attributes that are taken of anything but `self` and `cls`."""
    tree = ast.parse(path.read_text())
    taken = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr))
    return {node.attr for node in taken if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))}


def test_the_private_names_are_those_that_are_checked_here() -> None:
    assert private_names(CHANNEL) | {"_fail_all_pending"} == PROTOCOL | CLIENT | SESSION | CONNECTION | BUFFER  # that one is called on itself


@pytest.mark.parametrize("path", sorted(set(DRIVERS.glob("opcua*.py")) - {CHANNEL}), ids=lambda path: path.name)
def test_no_other_file_uses_any(path: Path) -> None:
    assert private_names(path) == set()


def test_they_are_where_they_are_expected() -> None:
    assert re.match(r"2\.1\.", version("asyncua")), f"asyncua {version('asyncua')}: look at every name here, then pin it anew"
    client = Client("opc.tcp://127.0.0.1:1")
    assert asyncua.__file__
    assert all(hasattr(client.uaclient, name) for name in CLIENT)
    assert all(hasattr(client.uaclient.session, name) for name in SESSION)
    protocol = UASocketProtocol()
    assert all(hasattr(protocol, name) for name in PROTOCOL)
    assert all(hasattr(protocol._connection, name) for name in CONNECTION)
    assert isinstance(protocol._connection, SecureConnection)
    assert all(hasattr(Buffer(b""), name) for name in BUFFER)
    assert (protocol._request_id, protocol._request_handle, protocol._callbackmap) == (0, 0, {})


def test_a_reply_is_handed_to_whoever_stands_for_its_future() -> None:
    class Stand:
        got: object = None

        def set_result(self, body: object) -> None:
            self.got = body

        def set_exception(self, error: Exception) -> None:
            self.got = error

        def done(self) -> bool:
            return self.got is not None

    protocol, first, second = UASocketProtocol(), Stand(), Stand()
    protocol._callbackmap.update({1: first, 2: second})
    body = Buffer(b"abc", 1)
    protocol._call_callback(1, body)
    assert first.got is body
    assert (body._data, body._cur_pos, body._size) == (b"abc", 1, 2)
    error = ConnectionError("cut")
    protocol._fail_all_pending(error)
    assert second.got is error


def test_a_header_says_how_large_its_chunk_is_in_its_second_word() -> None:
    from asyncua.ua.ua_binary import header_to_binary

    header = ua.Header(ua.MessageType.SecureMessage, ua.ChunkType.Single)
    header.body_size = 100
    assert int.from_bytes(header_to_binary(header)[4:8], "little") in (108, 112)
