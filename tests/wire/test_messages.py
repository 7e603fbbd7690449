"""The cold-path messages: what is encoded decodes to itself, trailing bytes and garbage are WireError and nothing else."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import WireError
from phiproxy.wire import messages as m

NAME = st.binary(max_size=12).filter(lambda b: 0 not in b)
OIDS = st.lists(st.integers(0, 2**32 - 1), max_size=6)
SMALL = st.integers(-(2**15), 2**15 - 1)
FIELD = st.builds(
    m.Field, NAME, st.integers(0, 2**32 - 1), SMALL, st.integers(0, 2**32 - 1), SMALL, st.integers(-1, 2**31 - 1), SMALL
)


@given(NAME, NAME, OIDS)
def test_parse(name: bytes, query: bytes, oids: list[int]) -> None:
    sent = m.encode_parse(name, query, oids)
    assert m.decode_parse(sent, 5, len(sent)) == (name, query, tuple(oids))


@given(st.lists(FIELD, max_size=5))
def test_row_description(fields: list[m.Field]) -> None:
    sent = m.encode_row_description(fields)
    assert m.decode_row_description(sent, 5, len(sent)) == fields


@given(OIDS)
def test_parameter_description(oids: list[int]) -> None:
    sent = m.encode_parameter_description(oids)
    assert m.decode_parameter_description(sent, 5, len(sent)) == tuple(oids)


@given(st.lists(st.tuples(st.integers(1, 127), NAME), max_size=8))
def test_error_fields_keep_their_order(fields: list[tuple[int, bytes]]) -> None:
    sent = m.encode_error_fields(b"E", fields)
    assert m.decode_error_fields(sent, 5, len(sent)) == fields


@given(st.lists(NAME.filter(bool), max_size=4))
def test_sasl_mechanisms(names: list[bytes]) -> None:
    sent = m.encode_authentication_sasl(names)
    assert m.decode_sasl_mechanisms(sent, 9, len(sent)) == names


@given(st.lists(st.tuples(NAME.filter(bool), NAME), max_size=5), st.sampled_from([m.PROTOCOL_3_0, m.PROTOCOL_3_2, 0x0003270F]))
def test_startup(parameters: list[tuple[bytes, bytes]], version: int) -> None:
    packet = m.encode_startup(version, parameters)
    startup = m.decode_startup(packet)
    assert (startup.code, list(startup.parameters), startup.body) == (version, parameters, packet)
    for name, _ in parameters:
        assert startup.get(name) == dict(parameters)[name]


def test_the_other_first_packets() -> None:
    ssl = struct.pack("!II", 8, m.SSL_REQUEST)
    assert m.decode_startup(ssl).code == m.SSL_REQUEST
    assert m.decode_startup(struct.pack("!II", 8, m.GSSENC_REQUEST)).code == m.GSSENC_REQUEST
    for key in (4, 32, 256):
        packet = struct.pack("!III", 12 + key, m.CANCEL_REQUEST, 7) + bytes(key)
        assert m.decode_startup(packet).code == m.CANCEL_REQUEST


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!II", 8, 0),
        struct.pack("!II", 9, m.SSL_REQUEST) + b"x",
        struct.pack("!III", 12, m.CANCEL_REQUEST, 7),
        struct.pack("!II", 8, 0x00020000),
        struct.pack("!II", 13, m.PROTOCOL_3_0) + b"user\0",
        struct.pack("!II", 10, m.PROTOCOL_3_0) + b"\0x",
    ],
)
def test_any_other_first_packet_is_refused(packet: bytes) -> None:
    with pytest.raises(WireError):
        m.decode_startup(packet)


DECODERS = [
    m.decode_parse,
    m.decode_target,
    m.decode_execute,
    m.decode_query,
    m.decode_row_description,
    m.decode_parameter_description,
    m.decode_parameter_status,
    m.decode_error_fields,
    m.decode_sasl_mechanisms,
]


@pytest.mark.parametrize("decode", DECODERS)
@given(garbage=st.binary(max_size=40))
def test_garbage_is_a_wire_error_and_nothing_else(decode: object, garbage: bytes) -> None:
    assert callable(decode)
    with contextlib.suppress(WireError):
        decode(garbage, 0, len(garbage))


@pytest.mark.parametrize(
    ("decode", "sent"),
    [
        (m.decode_query, m.encode_query(b"SELECT 1")),
        (m.decode_parse, m.encode_parse(b"s", b"SELECT 1", (25,))),
        (m.decode_target, m.message(b"D", b"Ss\0")),
        (m.decode_execute, m.message(b"E", b"p\0\0\0\0\5")),
        (m.decode_parameter_status, m.message(b"S", b"a\0b\0")),
    ],
)
def test_trailing_bytes_are_refused(decode: object, sent: bytes) -> None:
    assert callable(decode)
    decode(sent, 5, len(sent))
    with pytest.raises(WireError):
        decode(sent + b"x", 5, len(sent) + 1)


def test_an_error_of_ours_has_the_fields_in_postgresqls_order() -> None:
    sent = m.error_response("0A000", "no", hint="yes", position=3)
    assert m.decode_error_fields(sent, 5, len(sent)) == [
        (83, b"ERROR"),
        (86, b"ERROR"),
        (67, b"0A000"),
        (77, b"no"),
        (72, b"yes"),
        (80, b"3"),
    ]


def test_negotiation_names_version_and_options() -> None:
    assert m.negotiate_protocol_version(m.PROTOCOL_3_2, [b"_pq_.x"])[5:] == struct.pack("!II", m.PROTOCOL_3_2, 1) + b"_pq_.x\0"
