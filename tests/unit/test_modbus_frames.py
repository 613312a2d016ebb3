"""Our frames byte for byte, held to pymodbus's framers and PDUs, and what is not a reply."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadCoilsResponse,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from drivers.modbus_frames import (
    BadReply,
    DeviceSaidNo,
    Question,
    crc16,
    mask_write,
    read,
    rtu_frame,
    rtu_reply,
    tcp_tail,
    write_coil,
    write_coils,
    write_register,
    write_registers,
)

ADDRESS, UNITS = st.integers(0, 0xFFFF), st.integers(1, 247)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Question, ModbusPDU]:
    """Draw a question of ours and the same request of pymodbus."""
    address, unit = draw(ADDRESS), 1
    word, words = draw(ADDRESS), draw(st.lists(ADDRESS, min_size=1, max_size=123))
    bits = draw(st.lists(st.booleans(), min_size=1, max_size=1968))
    count = draw(st.integers(1, 125))
    about: dict[str, Any] = {"address": address, "dev_id": unit}
    return draw(
        st.sampled_from(
            [
                (read("coil", address, count), ReadCoilsRequest(count=count, **about)),
                (read("discrete", address, count), ReadDiscreteInputsRequest(count=count, **about)),
                (read("holding", address, count), ReadHoldingRegistersRequest(count=count, **about)),
                (read("input", address, count), ReadInputRegistersRequest(count=count, **about)),
                (write_coil(address, bits[0]), WriteSingleCoilRequest(bits=bits[:1], **about)),
                (write_register(address, word), WriteSingleRegisterRequest(registers=[word], **about)),
                (write_coils(address, bits), WriteMultipleCoilsRequest(bits=list(bits), **about)),
                (write_registers(address, words), WriteMultipleRegistersRequest(registers=words, **about)),
                (mask_write(address, word, words[0]), MaskWriteRegisterRequest(address=address, and_mask=word, or_mask=words[0], dev_id=unit)),
            ]
        )
    )


@given(pairs(), UNITS, ADDRESS)
def test_requests_are_those_of_pymodbus(pair: tuple[Question, ModbusPDU], unit: int, transaction: int) -> None:
    ours, theirs = pair
    theirs.dev_id, theirs.transaction_id = unit, transaction
    assert transaction.to_bytes(2, "big") + tcp_tail(unit, ours) == FramerSocket(DecodePDU(False)).buildFrame(theirs)
    theirs.transaction_id = 0
    assert rtu_frame(unit, ours) == FramerRTU(DecodePDU(False)).buildFrame(theirs)


@given(st.lists(ADDRESS, min_size=1, max_size=125), UNITS)
def test_registers_are_those_of_pymodbus(words: list[int], unit: int) -> None:
    theirs = ReadHoldingRegistersResponse(registers=words, dev_id=unit)
    frame = FramerRTU(DecodePDU(False)).buildFrame(theirs)
    question = read("holding", 7, len(words))
    assert rtu_reply(unit, question, frame) == struct.pack(f">{len(words)}H", *words)
    assert question.check(frame[1:-2]) == struct.pack(f">{len(words)}H", *words)
    for cut in range(len(frame)):
        assert rtu_reply(unit, question, frame[:cut]) is None


@given(st.lists(st.booleans(), min_size=1, max_size=2000))
def test_bits_are_those_of_pymodbus(bits: list[bool]) -> None:
    reply = ReadCoilsResponse(bits=list(bits), dev_id=1)
    data = read("coil", 0, len(bits)).check(bytes([1]) + reply.encode())
    assert [bool(data[at // 8] >> at % 8 & 1) for at in range(len(bits))] == bits


@pytest.mark.parametrize("code", range(1, 12))
def test_exceptions(code: int) -> None:
    question = read("input", 3, 2)
    with pytest.raises(DeviceSaidNo) as said:
        question.check(bytes([0x84, code]))
    assert said.value.code == code
    body = bytes([9, 0x84, code])
    with pytest.raises(DeviceSaidNo):
        rtu_reply(9, question, body + crc16(body).to_bytes(2, "little"))


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        (read("input", 3, 2), "04 02 00 01"),  # another count
        (read("input", 3, 2), "04 04 00 01 00"),  # cut off
        (read("input", 3, 2), "04 04 00 01 00 02 00"),  # too long
        (read("input", 3, 2), "03 04 00 01 00 02"),  # another function
        (read("input", 3, 2), "04 03 00 01 00 02"),  # another byte count
        (read("input", 3, 2), "83 02"),  # an exception to another function
        (read("coil", 3, 9), "01 01 00"),
        (write_register(3, 5), "06 00 03 00 06"),  # another value
        (write_register(3, 5), "06 00 04 00 05"),  # another address
        (write_coil(3, True), "05 00 03 00 00"),
        (write_registers(3, [1, 2]), "10 00 03 00 01"),
        (write_coils(3, [True]), "0F 00 02 00 01"),
        (mask_write(3, 1, 2), "16 00 03 00 01 00 03"),
        (read("input", 3, 2), ""),
    ],
)
def test_what_is_no_reply(question: Question, reply: str) -> None:
    with pytest.raises(BadReply):
        question.check(bytes.fromhex(reply))


@given(pairs(), UNITS, st.binary(max_size=270))
def test_bytes_at_random_are_never_a_reply(pair: tuple[Question, ModbusPDU], unit: int, heard: bytes) -> None:
    """Of 65,536 with the right beginning and length one has the right checksum; this looks for another way in."""
    question = pair[0]
    try:
        data = rtu_reply(unit, question, heard)
    except (BadReply, DeviceSaidNo):
        return
    assert data is None or (crc16(heard) == 0 and len(heard) == question.size + 3 and heard[0] == unit)


@given(st.lists(ADDRESS, min_size=1, max_size=60), UNITS, st.integers(0, 10_000), st.integers(1, 255))
def test_one_bad_byte_on_a_line_is_noticed(words: list[int], unit: int, at: int, mask: int) -> None:
    frame = bytearray(FramerRTU(DecodePDU(False)).buildFrame(ReadHoldingRegistersResponse(registers=words, dev_id=unit)))
    frame[at % len(frame)] ^= mask
    try:
        assert rtu_reply(unit, read("holding", 0, len(words)), bytes(frame)) is None
    except BadReply:
        pass
    except DeviceSaidNo:
        pytest.fail("it was taken for an exception")
