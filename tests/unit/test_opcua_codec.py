"""The arrays of the OPC UA codec are what asyncua's own decoder makes of the same bytes; what is malformed is refused, and quickly."""

from __future__ import annotations

import math
import struct
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_to_binary, struct_from_binary, struct_to_binary, variant_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import opcua_messages as messages
from drivers.opcua_binary import Malformed, skip_data_value, skip_variant
from drivers.opcua_codec import Columns, Decoder

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
V = ua.VariantType
INTS = {V.SByte: (8, True), V.Byte: (8, False), V.Int16: (16, True), V.UInt16: (16, False), V.Int32: (32, True), V.UInt32: (32, False)}
INTS |= {V.Int64: (64, True), V.UInt64: (64, False)}
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2261, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds the zone
NODES = st.one_of(
    st.integers(0, 255).map(lambda n: ua.NodeId(n, 0, ua.NodeIdType.TwoByte)),
    st.builds(lambda n, s: ua.NodeId(n, s, ua.NodeIdType.FourByte), st.integers(0, 65535), st.integers(0, 255)),
    st.builds(lambda n, s: ua.NodeId(n, s, ua.NodeIdType.Numeric), st.integers(0, 2**32 - 1), st.integers(0, 65535)),
    st.builds(lambda n, s: ua.NodeId(n, s, ua.NodeIdType.String), st.text(max_size=5), st.integers(0, 65535)),
    st.builds(lambda n, s: ua.NodeId(n, s, ua.NodeIdType.Guid), st.uuids(), st.integers(0, 65535)),
    st.builds(lambda n, s: ua.NodeId(n, s, ua.NodeIdType.ByteString), st.binary(max_size=5), st.integers(0, 65535)),
    st.builds(
        lambda n, s, uri, server: ua.ExpandedNodeId(n, s, ua.NodeIdType.String, uri, server),
        st.text(max_size=5),
        st.integers(0, 65535),
        st.none() | st.text(min_size=1, max_size=5),
        st.none() | st.integers(1, 9),
    ),
)


def signed(bits: int, sign: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if sign else st.integers(0, 2**bits - 1)


SCALARS = {
    V.Boolean: st.booleans(),
    **{kind: signed(*how) for kind, how in INTS.items()},
    V.Float: st.floats(width=32),
    V.Double: st.floats(),
    V.String: st.none() | st.text(max_size=8),
    V.DateTime: TIMES,
    V.Guid: st.uuids(),
    V.ByteString: st.none() | st.binary(max_size=8),
    V.NodeId: NODES.filter(lambda node: not isinstance(node, ua.ExpandedNodeId)),
    V.ExpandedNodeId: NODES,
    V.StatusCode: st.integers(0, 2**32 - 1).map(lambda code: ua.StatusCode(ua.UInt32(code))),
    V.QualifiedName: st.builds(ua.QualifiedName, st.text(max_size=5), st.integers(0, 99)),
    V.LocalizedText: st.builds(ua.LocalizedText, st.none() | st.text(min_size=1, max_size=5), st.none() | st.just("en")),
    V.ExtensionObject: st.sampled_from([ua.Range(Low=1.0, High=2.0), ua.EUInformation(UnitId=ua.Int32(5)), ua.Argument(Name="a")]),
}
NUMBERS = [V.Boolean, *INTS, V.Float, V.Double]


def variants(kinds: list[V]) -> st.SearchStrategy[ua.Variant]:
    scalar = st.sampled_from(kinds).flatmap(lambda kind: SCALARS[kind].map(lambda value: ua.Variant(value, kind)))
    arrays = st.sampled_from(kinds).flatmap(
        lambda kind: st.lists(SCALARS[kind], max_size=4).map(lambda value: ua.Variant(value, kind, is_array=True))
    )
    matrix = st.sampled_from([k for k in kinds if k in NUMBERS]).flatmap(
        lambda kind: st.lists(SCALARS[kind], min_size=4, max_size=4).map(lambda v: ua.Variant([v[:2], v[2:]], kind, Dimensions=[2, 2], is_array=True))
    )
    return st.one_of(scalar, arrays, matrix)


def values(kinds: list[V], odd: bool = True) -> st.SearchStrategy[ua.DataValue]:
    plain = st.sampled_from(kinds).flatmap(lambda kind: SCALARS[kind].map(lambda value: ua.Variant(value, kind)))
    return st.builds(
        lambda value, status, source, server, tens, tens2: ua.DataValue(
            value if value is not None else ua.Variant(None),
            StatusCode=status,
            SourceTimestamp=source,
            ServerTimestamp=server,
            SourcePicoseconds=tens,
            ServerPicoseconds=tens2,
        ),
        variants(kinds) if odd else plain,
        st.none() | st.sampled_from([0, 0x40000000, 0x80340000, 0x00000480, 0xC0FFEE00]).map(lambda code: ua.StatusCode(ua.UInt32(code))),
        st.none() | TIMES,
        st.none() | TIMES,
        st.none() | st.integers(0, 9999),
        st.none() | st.integers(0, 9999),
    )


def runs(kinds: list[V]) -> st.SearchStrategy[list[ua.DataValue]]:
    """Equal ones beside each other, as a server sends them."""
    return st.lists(st.tuples(values(kinds), st.integers(1, 9)), max_size=8).map(lambda found: [value for value, n in found for _ in range(n)])


def nanoseconds(when: datetime | None, tens: int | None) -> int:
    if when is None:
        return 0
    return (when - EPOCH) // timedelta(microseconds=1) * 1000 + (tens or 0) // 100


def agree(found: Columns, data: bytes, expected: list[ua.DataValue]) -> None:
    for place, value in enumerate(expected):
        assert value.Value is not None
        kind = value.Value.VariantType
        brought = data[found.start[place]] & 1
        assert found.kind[place] & 63 == (kind.value if brought else 0)
        if not value.Value.is_array and kind in NUMBERS:
            np.testing.assert_equal(found.value[place], float(value.Value.Value))
        else:
            assert math.isnan(found.value[place])
        assert found.status[place] == (value.StatusCode.value if value.StatusCode is not None else 0)
        assert found.source[place] == nanoseconds(value.SourceTimestamp, value.SourcePicoseconds)
        assert found.server[place] == nanoseconds(value.ServerTimestamp, value.ServerPicoseconds)


def encoded(value: ua.DataValue) -> bytes:
    """Return a DataValue as the standard has it: asyncua puts the picoseconds of the source behind the server's time (part 6, 5.2.2.17)."""
    mask, parts = 0, []
    if value.Value is not None and value.Value.VariantType != V.Null:
        mask, parts = 1, [variant_to_binary(value.Value)]
    status = value.StatusCode.value if value.StatusCode is not None else None
    tail = [(2, "<I", status), (4, "<q", value.SourceTimestamp), (16, "<H", value.SourcePicoseconds)]
    for bit, how, held in [*tail, (8, "<q", value.ServerTimestamp), (32, "<H", value.ServerPicoseconds)]:
        if held is not None:
            mask |= bit
            parts.append(struct.pack(how, ua.datetime_to_win_epoch(held) if bit in (4, 8) else held))
    return bytes([mask]) + b"".join(parts)


def own(data: bytes, sent: ua.DataValue) -> ua.DataValue:
    """Return what asyncua decodes; its mistake with picoseconds set right."""
    if sent.SourcePicoseconds is not None and sent.ServerTimestamp is not None:
        return sent
    buffer = Buffer(data)
    value: ua.DataValue = struct_from_binary(ua.DataValue, buffer)
    assert len(buffer) == 0
    return value


def test_picoseconds_stand_where_the_standard_has_them() -> None:
    source, server = 116_444_736_000_000_000 + 10, 116_444_736_000_000_000 + 30
    data = b"\x3d\x01\x01" + struct.pack("<qHqH", source, 1234, server, 5678)
    found = Decoder().decode(data, 0, 1)
    assert (found.source[0], found.server[0], found.end) == (1012, 3056, len(data))


EDGE_TICKS = [0, -1, 1, 116_444_736_000_000_000, 2**63 - 1, -(2**63)]
EDGE_TICKS += [(high << 48) + below for high in (0x019D, 0x019E, 0x02E5, 0x02E6) for below in (-1, 0)]
EDGE_TENS = [0, 1, 99, 100, 9999, 10_000, 65_535]
EDGE_FLOATS = [0.0, -1.5, math.inf, -math.inf, math.nan, 3e38, -3e38]


@st.composite
def alike(draw: st.DrawFn) -> tuple[int, int, list[bytes]]:
    """Return mask, type and rows of DataValues that have both: usual ones, but for one field of one or all at an edge."""
    mask, kind = draw(st.integers(0, 63)), draw(st.sampled_from([4, 7, 9, 10, 11, 13]))
    how = {4: "<h", 7: "<I", 9: "<Q", 10: "<f", 11: "<d", 13: "<q"}[kind]
    edges = [*EDGE_FLOATS, *([1e308, -1e308] if kind == 11 else [])] if kind in (10, 11) else [0, 1, 2**15 - 1]
    usual = 133_900_000_000_000_000 + draw(st.integers(0, 2**40))
    ticks = [*EDGE_TICKS, usual + 2**57, usual + 2**48]
    tail = [(2, "<I", 0, [1, 0x80, 0x8000, 0x80340000, 0x480]), (4, "<q", usual, ticks), (16, "<H", 0, EDGE_TENS)]
    fields = [(1, how, 1, edges), *tail, (8, "<q", usual + 7, ticks), (32, "<H", 0, EDGE_TENS)]
    n, odd = draw(st.integers(1, 6)), draw(st.sampled_from([field for field in fields if field[0] & mask] or fields[:1]))
    at, edge = draw(st.integers(-1, n - 1)), draw(st.sampled_from(odd[3]))
    rows = []
    for place in range(n):
        row = bytes([mask, kind] if mask & 1 else [mask])
        for bit, pack, mostly, _ in fields:
            if mask & bit:
                row += struct.pack(pack, edge if at in (place, -1) and bit == odd[0] else mostly)
        rows.append(row)
    return mask, kind, rows


@settings(max_examples=400, deadline=None)
@given(alike(), st.booleans())
def test_values_that_are_alike_are_decoded_as_among_others(found: tuple[int, int, list[bytes]], handles: bool) -> None:
    """The quick way for a message of one mask and type says what the way for any message says."""
    mask, kind, rows = found
    lead = [struct.pack("<I", place) if handles else b"" for place in range(len(rows) + 1)]
    other = bytes([1, 1, 1]) if mask != 1 or kind != 1 else bytes([0])
    data = b"".join(one + row for one, row in zip(lead, rows, strict=False))
    quick = Decoder().decode(data, 0, len(rows), 4 * handles)
    any_way = Decoder().decode(data + lead[-1] + other, 0, len(rows) + 1, 4 * handles)
    for name in ("handle", "kind", "value", "status", "source", "server"):
        np.testing.assert_array_equal(getattr(quick, name), getattr(any_way, name)[: len(rows) if name != "handle" or handles else 0], name)
    assert quick.end == len(data)
    assert not quick.good or not quick.status.any()
    assert not quick.finite or np.isfinite(quick.value).all()


def either(decode: Callable[[], Any]) -> Any:
    """Return what is decoded, or that it cannot be."""
    try:
        return decode()
    except (Malformed, messages.ServiceFault) as error:
        return type(error)


@pytest.mark.parametrize("kind", [11, 10, 6])
@pytest.mark.parametrize("mask", [0x0D, 0x0F, 0x05, 0x09, 0x3F, 0x01])
def test_any_byte_that_is_not_alike_is_seen(mask: int, kind: int) -> None:
    """Each byte of the second of three values in turn has other values than in the two beside it."""
    how = {11: "<d", 10: "<f", 6: "<i"}[kind]
    row = bytes([mask, kind]) + struct.pack(how, 1)
    for bit, pack, value in ((2, "<I", 0), (4, "<q", 134 * 10**15), (16, "<H", 0), (8, "<q", 134 * 10**15 + 7), (32, "<H", 0)):
        row += struct.pack(pack, value) if mask & bit else b""
    other = bytes([1, 1, 1])
    for place in range(len(row)):
        for byte in {0, 1, 2, 8, 9, 10, 11, 0x7F, 0x80, 0xFF, row[place] ^ 0x02}:
            data = row + row[:place] + bytes([byte]) + row[place + 1 :] + row
            quick = either(lambda data=data: Decoder().decode(data, 0, 3))  # type: ignore[misc]
            any_way = either(lambda data=data: Decoder().decode(data + other, 0, 4))  # type: ignore[misc]
            if isinstance(quick, type) or quick.end != len(data):
                continue  # its length has changed
            assert not isinstance(any_way, type), f"byte {place} is {byte}"
            for name in ("kind", "value", "status", "source", "server"):
                np.testing.assert_array_equal(getattr(quick, name), getattr(any_way, name)[:3], f"{name}, byte {place} is {byte}")


def test_a_publication_of_one_change_is_read_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its bytes in turn has other values."""
    notification = ua.DataChangeNotification(MonitoredItems=[ua.MonitoredItemNotification(ClientHandle=3, Value=ua.DataValue(ua.Variant(1.0)))])
    message = ua.NotificationMessage(SequenceNumber=12, PublishTime=datetime(2026, 1, 1, tzinfo=UTC), NotificationData=[notification])
    answer = ua.PublishResponse()
    answer.Parameters = ua.PublishResult(SubscriptionId=8, AvailableSequenceNumbers=[12], NotificationMessage=message, Results=[ua.StatusCode()])
    data = whole(answer)
    assert messages._one_change(data, 0) is not None
    spoilt = [data[:place] + bytes([byte]) + data[place + 1 :] for place in range(len(data)) for byte in {0, 1, 2, 0x7F, 0x80, 0xFF, data[place] ^ 4}]
    spoilt += [data[:-1], data + b"\0", data[:40]]
    quick = [either(lambda one=one: messages.publish_reply(one)) for one in spoilt]  # type: ignore[misc]
    behind = [either(lambda one=one: messages.publish_reply(bytes(24) + one, 24)) for one in spoilt]  # type: ignore[misc]
    monkeypatch.setattr(messages, "_one_change", lambda _data, _start: None)
    for one, found, later in zip(spoilt, quick, behind, strict=True):
        assert found == either(lambda one=one: messages.publish_reply(one)), one.hex()  # type: ignore[misc]
        assert later == either(lambda one=one: messages.publish_reply(bytes(24) + one, 24)), one.hex()  # type: ignore[misc]
        if isinstance(found, messages.Publication):
            moved = tuple((kind, start + 24, end + 24) for kind, start, end in found.parts)
            assert later == found._replace(parts=moved), one.hex()


@settings(max_examples=150, deadline=None)
@given(runs(list(SCALARS)))
def test_values_of_every_type_are_as_asyncua_decodes_them(sent: list[ua.DataValue]) -> None:
    parts = [encoded(value) for value in sent]
    data = b"\xaa\xbb" + b"".join(parts) + b"\xcc"
    found = Decoder().decode(data, 2, len(sent))
    assert found.end == len(data) - 1
    agree(found, data, [own(part, value) for part, value in zip(parts, sent, strict=True)])
    for place, part in enumerate(parts):
        start = int(found.start[place])
        assert data[start : skip_data_value(data, start)] == part


@settings(max_examples=100, deadline=None)
@given(st.lists(values(NUMBERS, odd=False), min_size=1, max_size=30), st.lists(values(NUMBERS, odd=False), min_size=30, max_size=30))
def test_a_learned_layout_is_used_only_where_it_fits(first: list[ua.DataValue], other: list[ua.DataValue]) -> None:
    decoder = Decoder()
    for sent in (first, first, other[: len(first)], first):
        parts = [encoded(value) for value in sent]
        items = b"".join(struct.pack("<I", 7 + place) + part for place, part in enumerate(parts))
        data = struct.pack("<i", len(sent)) + items + struct.pack("<i", -1)
        found = decoder.decode(data, 4, len(sent), 4)
        assert found.end == len(data) - 4
        np.testing.assert_array_equal(found.handle, np.arange(7, 7 + len(sent)))
        agree(found, data, [own(part, value) for part, value in zip(parts, sent, strict=True)])


def test_equal_layouts_are_learned_once() -> None:
    sent = [ua.DataValue(ua.Variant(float(n), V.Double if n % 3 else V.Float)) for n in range(300)]
    data = b"".join(map(struct_to_binary, sent))
    decoder = Decoder()
    for _ in range(5):
        np.testing.assert_array_equal(decoder.decode(data, 0, 300).value, np.arange(300.0))
    assert decoder.learned == 1


@pytest.mark.parametrize("when", [datetime(*day, tzinfo=UTC) for day in ((1601, 1, 1), (1969, 12, 31), (2262, 4, 12), (2262, 10, 1), (9999, 12, 31))])
def test_a_time_that_nanoseconds_cannot_say_is_none(when: datetime) -> None:
    data = struct_to_binary(ua.DataValue(ua.Variant(1.0, V.Double), SourceTimestamp=when, SourcePicoseconds=9999))
    assert Decoder().decode(data, 0, 1).source[0] == 0


def whole(response: object) -> bytes:
    return bytes(struct_to_binary(response))


def test_requests_are_byte_for_byte_those_of_asyncua() -> None:
    node = ua.NodeId("torque", 3)
    request = ua.ReadRequest()
    request.Parameters = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=[ua.ReadValueId(NodeId=node, AttributeId=13)])
    assert struct_to_binary(request.Parameters) == messages.read_body([messages.read_item(nodeid_to_binary(node))])
    write = ua.WriteParameters(
        NodesToWrite=[
            ua.WriteValue(NodeId=node, AttributeId=13, Value=ua.DataValue(ua.Variant(2.5, V.Double), StatusCode=None)),
            ua.WriteValue(NodeId=node, AttributeId=13, IndexRange="12", Value=ua.DataValue(ua.Variant([7], V.Int16), StatusCode=None)),
        ]
    )
    items = [messages.write_item(nodeid_to_binary(node), 11), messages.write_item(nodeid_to_binary(node), 4, 12)]
    assert struct_to_binary(write) == messages.write_body([head + packer.pack(value) for (head, packer), value in zip(items, (2.5, 7), strict=True)])
    publish = ua.PublishParameters(SubscriptionAcknowledgements=[ua.SubscriptionAcknowledgement(SubscriptionId=4, SequenceNumber=9)])
    assert struct_to_binary(publish) == messages.publish_body([(4, 9)])
    mode = ua.SetMonitoringModeParameters(SubscriptionId=4, MonitoringMode=ua.MonitoringMode.Reporting, MonitoredItemIds=[5, 6])
    assert struct_to_binary(mode) == messages.set_reporting_body(4, [5, 6])
    header = ua.RequestHeader(AuthenticationToken=ua.NodeId(77), RequestHandle=5, TimeoutHint=1500)
    header.Timestamp = EPOCH + timedelta(seconds=1_700_000_000, microseconds=250)
    expected = nodeid_to_binary(ua.FourByteNodeId(messages.READ)) + struct_to_binary(header)
    assert messages.request_header(messages.READ, nodeid_to_binary(ua.NodeId(77)), 5, 1_700_000_000_000_250_000, 1.5) == expected


def test_the_kinds_of_messages_are_the_standards() -> None:
    for name, kind in {
        "ReadRequest": messages.READ,
        "WriteRequest": messages.WRITE,
        "PublishRequest": messages.PUBLISH,
        "SetMonitoringModeRequest": messages.SET_MONITORING_MODE,
        "DataChangeNotification": messages.DATA_CHANGE,
        "StatusChangeNotification": messages.STATUS_CHANGE,
    }.items():
        assert getattr(ObjectIds, f"{name}_Encoding_DefaultBinary") == kind


def wordy(response: object) -> object:
    """Give a response every part of a header that a server may send."""
    header = response.ResponseHeader  # type: ignore[attr-defined]
    header.RequestHandle = 42
    header.ServiceDiagnostics = ua.DiagnosticInfo(SymbolicId=1, AdditionalInfo="why", InnerStatusCode=ua.StatusCode(ua.UInt32(0x80010000)))
    header.StringTable = ["one", "two"]
    header.AdditionalHeader = ua.Range(Low=0.0, High=1.0)
    return response


@pytest.mark.parametrize("dress", [lambda response: response, wordy])
def test_replies_are_read_whole(dress: object) -> None:
    assert callable(dress)
    answer = dress(ua.ReadResponse(Results=[ua.DataValue(ua.Variant(1.5, V.Double)), ua.DataValue(ua.Variant("word", V.String))]))
    answer.DiagnosticInfos = [ua.DiagnosticInfo(SymbolicId=3), ua.DiagnosticInfo()]
    columns, _, found = messages.read_reply(whole(answer), 2, Decoder(), answer.ResponseHeader.RequestHandle)
    assert columns.value[0] == 1.5
    assert abs(found.time / 1e7 - 11644473600 - time.time()) < 60
    with pytest.raises(Malformed, match="asked for 3 values, got 2"):
        messages.read_reply(whole(answer), 3, Decoder())
    with pytest.raises(Malformed, match="not to 43"):
        messages.read_reply(whole(answer), 2, Decoder(), 43)
    with pytest.raises(Malformed, match="behind the end"):
        messages.read_reply(whole(answer) + b"\0", 2, Decoder())
    answer = dress(ua.WriteResponse(Results=[ua.StatusCode(ua.UInt32(0x803B0000)), ua.StatusCode()]))
    np.testing.assert_array_equal(messages.status_reply(whole(answer), messages.WRITE, 2), [0x803B0000, 0])
    fault = dress(ua.ServiceFault())
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(0x80250000))
    with pytest.raises(messages.ServiceFault, match="0x80250000") as caught:
        messages.read_reply(whole(fault), 1, Decoder())
    assert caught.value.code == 0x80250000
    with pytest.raises(Malformed, match="a reply of kind 676 to a request of kind 631"):
        messages.read_reply(whole(answer), 2, Decoder())


def test_a_publication_is_read_whole() -> None:
    notification = ua.DataChangeNotification()
    notification.MonitoredItems = [ua.MonitoredItemNotification(ClientHandle=3, Value=ua.DataValue(ua.Variant(1.0, V.Double)))]
    notification.DiagnosticInfos = [ua.DiagnosticInfo(SymbolicId=3)]
    message = ua.NotificationMessage(SequenceNumber=12, PublishTime=datetime(2026, 1, 1, tzinfo=UTC))
    message.NotificationData = [notification, ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(0x800A0000)))]
    answer = ua.PublishResponse()
    answer.Parameters = ua.PublishResult(SubscriptionId=8, AvailableSequenceNumbers=[11, 12], MoreNotifications=True, NotificationMessage=message)
    answer.Parameters.Results = [ua.StatusCode(), ua.StatusCode(ua.UInt32(0x807A0000))]
    data = whole(wordy(answer))
    found = messages.publish_reply(data)
    assert (found.subscription, found.more, found.number) == (8, True, 12)
    assert [kind for kind, _, _ in found.parts] == [messages.DATA_CHANGE, messages.STATUS_CHANGE]
    _, start, _ = found.parts[0]
    assert Decoder().decode(data, start + 4, 1, 4).handle == 3


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 50))
def test_random_bytes_are_values_or_malformed(data: bytes, n: int) -> None:
    for decode in (
        lambda: Decoder().decode(data, 0, n),
        lambda: Decoder().decode(data, 0, n, 4),
        lambda: skip_variant(data, 0),
        lambda: messages.reply(data),
        lambda: messages.publish_reply(data),
    ):
        try:
            decode()  # type: ignore[no-untyped-call]
        except (Malformed, messages.ServiceFault):
            continue


@settings(max_examples=60, deadline=None)
@given(runs(list(SCALARS)), st.data())
def test_truncated_and_corrupted_replies_bring_no_value_of_another(sent: list[ua.DataValue], draw: st.DataObject) -> None:
    data = bytearray(whole(ua.ReadResponse(Results=sent)))
    cut = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(Malformed):
        messages.read_reply(bytes(data[:cut]), len(sent), Decoder())
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    try:
        columns, _, _ = messages.read_reply(bytes(data), len(sent), Decoder())
    except (Malformed, messages.ServiceFault):
        return
    assert columns.end <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x80" + struct.pack("<i", 2**31 - 1),  # an array of nothing, as long as can be
        b"\x01\x8b" + struct.pack("<i", 2**31 - 1),
        b"\x01\x0c" + struct.pack("<i", -5),
        b"\x01" + b"\x18" * 5000,  # variants in variants
        b"\x01\xcb" + struct.pack("<idiii", 1, 1.0, 2, 30000, 30000),  # one value as a matrix of 30,000 x 30,000
        b"\x01\x16\x00\x00\x03",
        b"\x01\x98" + struct.pack("<i", 1_000_000) + bytes(1_000_000),  # a million variants of nothing
        b"\x01\x97" + struct.pack("<i", 1_000_000) + bytes(1_000_000),  # and data values
    ],
)
def test_what_would_cost_much_is_refused_at_once(data: bytes) -> None:
    begun = time.perf_counter()
    with pytest.raises(Malformed):
        Decoder().decode(data, 0, 1)
    assert time.perf_counter() - begun < 0.05


def test_a_uuid_is_skipped_as_sixteen_bytes() -> None:
    data = variant_to_binary(ua.Variant(uuid.UUID(int=5), V.Guid))
    assert skip_variant(data, 0) == len(data) == 17
