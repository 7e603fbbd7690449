"""Messages by their names: what is put together is what is taken apart, and nothing that is cut or grown is taken."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import WireError
from phiproxy.wire import messages as m

Decoder = Callable[[bytes, int, int], Any]
text = st.binary(max_size=10).map(lambda b: b.replace(b"\0", b""))
named = text.filter(bool)
oid = st.integers(0, 0xFFFFFFFF)
oids = st.lists(oid, max_size=5).map(tuple)
small = st.integers(-0x8000, 0x7FFF)
number = st.integers(-0x80000000, 0x7FFFFFFF)
field = st.builds(m.Field, text, oid, small, oid, small, number, small)
error_fields = st.lists(st.tuples(st.integers(1, 255), text), max_size=6)

PAIRS: dict[str, tuple[Decoder, st.SearchStrategy[tuple[bytes, Any]]]] = {
    "Parse": (m.decode_parse, st.builds(m.Parse, text, text, oids).map(lambda p: (m.encode_parse(*p), p))),
    "Query": (m.decode_query, text.map(lambda t: (m.encode_query(t), t))),
    "Describe": (
        m.decode_target,
        st.builds(m.Target, st.sampled_from([b"S", b"P"]), text).map(lambda t: (m.message(b"D", t.kind + t.name + b"\0"), t)),
    ),
    "Execute": (m.decode_execute, st.tuples(text, oid).map(lambda e: (m.message(b"E", e[0] + b"\0" + pack("!I", e[1])), e))),
    "RowDescription": (m.decode_row_description, st.lists(field, max_size=4).map(lambda f: (m.encode_row_description(f), f))),
    "ParameterDescription": (m.decode_parameter_description, oids.map(lambda o: (m.encode_parameter_description(o), o))),
    "ParameterStatus": (
        m.decode_parameter_status,
        st.tuples(text, text).map(lambda s: (m.message(b"S", s[0] + b"\0" + s[1] + b"\0"), s)),
    ),
    "ErrorResponse": (m.decode_error_fields, error_fields.map(lambda f: (m.encode_error_fields(b"E", f), f))),
}


@pytest.mark.parametrize("name", PAIRS)
@given(data=st.data(), around=st.tuples(st.binary(max_size=9), st.binary(max_size=40)))
def test_a_message_is_taken_apart_as_it_was_put_together(name: str, data: st.DataObject, around: tuple[bytes, bytes]) -> None:
    decode, pairs = PAIRS[name]
    frame, meant = data.draw(pairs)
    before, behind = around
    assert frame[1:5] == pack("!I", len(frame) - 1)
    assert decode(before + frame + behind, len(before) + 5, len(before) + len(frame)) == meant


@pytest.mark.parametrize("name", PAIRS)
@given(data=st.data())
def test_a_message_that_is_cut_or_grown_is_a_broken_protocol(name: str, data: st.DataObject) -> None:
    decode, pairs = PAIRS[name]
    frame, _ = data.draw(pairs)
    end = data.draw(st.integers(5, len(frame) - 1)) if len(frame) > 5 else 5
    for tail in (b"", b"\0" * 60, b"\xff" * 60, frame[end:]):
        with pytest.raises(WireError):
            decode(frame[:end] + tail, 5, end)
    with pytest.raises(WireError):
        decode(frame + b"x", 5, len(frame) + 1)


@pytest.mark.parametrize("name", PAIRS)
@given(data=st.binary(max_size=60))
def test_garbage_raises_only_wire_error(name: str, data: bytes) -> None:
    decode, _ = PAIRS[name]
    try:
        decode(data, 0, len(data))
    except WireError as error:
        assert error.sqlstate == "08P01"  # noqa: PT017 - either outcome is right, another exception is not


@pytest.mark.parametrize("kind", [b"X", b"", b"\0", b"s"])
def test_describe_of_neither_statement_nor_portal(kind: bytes) -> None:
    with pytest.raises(WireError):
        m.decode_target(kind + b"\0", 0, len(kind) + 1)


# -- the first packet ----------------------------------------------------------------------------------------------------------


@given(st.integers(0x30000, 0x3FFFF), st.lists(st.tuples(named, text), max_size=5))
def test_a_startup_message_is_taken_apart_as_it_was_put_together(version: int, parameters: list[tuple[bytes, bytes]]) -> None:
    packet = m.encode_startup(version, parameters)
    startup = m.decode_startup(packet)
    assert startup == m.Startup(version, tuple(parameters), packet)
    for name in {n for n, _ in parameters} | {b"absent"}:
        assert startup.get(name) == next((v for n, v in reversed(parameters) if n == name), None)


@pytest.mark.parametrize("code", [m.SSL_REQUEST, m.GSSENC_REQUEST])
def test_requests_are_eight_bytes(code: int) -> None:
    assert m.decode_startup(pack("!II", 8, code)).code == code
    with pytest.raises(WireError):
        m.decode_startup(pack("!II", 9, code) + b"x")


@pytest.mark.parametrize(("key", "fits"), [(3, False), (4, True), (32, True), (256, True), (257, False)])
def test_a_cancel_request_has_a_key_of_4_to_256_bytes(key: int, fits: bool) -> None:
    packet = pack("!III", 12 + key, m.CANCEL_REQUEST, 7) + b"k" * key
    if fits:
        assert m.decode_startup(packet) == m.Startup(m.CANCEL_REQUEST, (), packet)
    else:
        with pytest.raises(WireError):
            m.decode_startup(packet)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0\0\0\4",
        b"GET / HTTP/1.1\r\n",
        pack("!II", 8, 0x20000),
        pack("!II", 8, 0x40000),
        pack("!II", 8, 0x30000),
        pack("!II", 10, 0x30000) + b"u\0",
        pack("!II", 11, 0x30000) + b"u\0v",
        pack("!II", 10, 0x30000) + b"\0x",
        pack("!II", 9, 0x30000),
        pack("!II", 8, 0x30000) + b"\0",
    ],
)
def test_a_first_packet_that_is_none_of_these(packet: bytes) -> None:
    with pytest.raises(WireError):
        m.decode_startup(packet)


@given(st.binary(max_size=60))
def test_garbage_is_a_first_packet_or_a_broken_protocol(data: bytes) -> None:
    packet = pack("!I", len(data) + 4) + data
    try:
        startup = m.decode_startup(packet)
    except WireError:
        return
    assert startup.body == packet


# -- what the proxy says itself ------------------------------------------------------------------------------------------------


def fields_of(frame: bytes) -> list[tuple[str, str]]:
    return [(chr(code), value.decode()) for code, value in m.decode_error_fields(frame, 5, len(frame))]


def test_an_error_has_its_fields_in_the_servers_order() -> None:
    assert fields_of(m.error_response("0A000", "no", hint="do", position=7)) == [
        ("S", "ERROR"), ("V", "ERROR"), ("C", "0A000"), ("M", "no"), ("H", "do"), ("P", "7"),
    ]  # fmt: skip
    assert fields_of(m.error_response("08P01", "n\u00e4", severity="FATAL")) == [
        ("S", "FATAL"), ("V", "FATAL"), ("C", "08P01"), ("M", "n\u00e4"),
    ]  # fmt: skip


def test_position_one_is_said_and_an_empty_hint_is_not() -> None:
    said = fields_of(m.error_response("42601", "x", hint="", position=1))
    assert said[-2:] == [("M", "x"), ("P", "1")]


def test_negotiate_protocol_version_is_as_servers_send_it() -> None:
    assert m.negotiate_protocol_version(0x30002, [b"_pq_.x"]) == b"v\0\0\0\x13\0\3\0\2\0\0\0\1_pq_.x\0"
    assert m.negotiate_protocol_version(0x30000, []) == b"v\0\0\0\x0c\0\3\0\0\0\0\0\0"


@given(st.lists(named, max_size=4))
def test_sasl_mechanisms_are_taken_apart_as_they_were_put_together(mechanisms: list[bytes]) -> None:
    frame = m.encode_authentication_sasl(mechanisms)
    assert frame[5:9] == b"\0\0\0\x0a"
    assert m.decode_sasl_mechanisms(frame, 9, len(frame)) == mechanisms
    with pytest.raises(WireError):
        m.decode_sasl_mechanisms(frame, 9, len(frame) - 1)
    with pytest.raises(WireError):
        m.decode_sasl_mechanisms(frame + b"x", 9, len(frame) + 1)


def test_sync_and_terminate() -> None:
    assert m.SYNC == b"S\0\0\0\4"
    assert m.TERMINATE == b"X\0\0\0\4"


def test_a_long_text_is_a_part_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "LONG_VALUE", 10)
    for text in (b"x" * 10, b"x" * 11):
        parts = m.query_parts(text)
        assert b"".join(parts) == m.encode_query(text)
        assert any(part is text for part in parts) is (len(text) > 10)
        parts = m.parse_parts(b"name", text, (23, 0))
        assert m.decode_parse(b"".join(parts), 5, sum(map(len, parts))) == (b"name", text, (23, 0))
        assert b"".join(parts) == m.message(b"P", b"".join(parts)[5:])
        assert any(part is text for part in parts) is (len(text) > 10)
