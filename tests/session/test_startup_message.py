"""The StartupMessage that goes on, and the negotiation that the client is owed for what does not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from phiproxy.errors import WireError
from phiproxy.session.startup_message import Admission, admit
from phiproxy.wire.messages import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    decode_startup,
    encode_startup,
    negotiate_protocol_version,
)

PARAMETERS = [(b"user", b"alice"), (b"database", b"clinic"), (b"options", b"-c geqo=off"), (b"application_name", b"")]


def asked(version: int, *more: tuple[bytes, bytes]) -> Admission:
    return admit(decode_startup(encode_startup(version, [*PARAMETERS, *more])))


@pytest.mark.parametrize("version", [0x30000, 0x30001, 0x30002])
def test_a_version_that_we_speak_passes_byte_for_byte(version: int) -> None:
    packet = encode_startup(version, PARAMETERS)
    expected = Admission("clinic", version, replication=False, packet=packet, negotiation=None, user="alice")
    assert admit(decode_startup(packet)) == replace(expected, parameters=tuple(PARAMETERS))


@pytest.mark.parametrize("version", [0x30003, 0x3270F])
def test_a_newer_version_is_cut_to_ours_and_said_so(version: int) -> None:
    admission = asked(version)
    assert admission.packet == encode_startup(0x30002, PARAMETERS)
    assert admission.negotiation == negotiate_protocol_version(0x30002, [])


@pytest.mark.parametrize(
    ("asked_for", "newest", "version"), [(0x30002, 0x30000, 0x30000), (0x30002, 0x30002, 0x30002), (0x30000, 0x30002, 0x30000)]
)
def test_no_newer_version_is_asked_for_than_a_known_server_speaks(asked_for: int, newest: int, version: int) -> None:
    admission = admit(decode_startup(encode_startup(asked_for, PARAMETERS)), newest)
    assert admission.version == version
    assert admission.packet == encode_startup(version, PARAMETERS)
    assert admission.negotiation == (None if version == asked_for else negotiate_protocol_version(version, []))


def test_unknown_protocol_options_do_not_go_on() -> None:
    admission = asked(0x3270F, (b"_pq_.test_protocol_negotiation", b""), (b"_pq_.b", b"1"))
    assert admission.packet == encode_startup(0x30002, PARAMETERS)
    assert admission.negotiation == negotiate_protocol_version(0x30002, [b"_pq_.test_protocol_negotiation", b"_pq_.b"])
    admission = asked(0x30000, (b"_pq_.a", b"x"))
    assert admission.packet == encode_startup(0x30000, PARAMETERS)
    assert admission.negotiation == negotiate_protocol_version(0x30000, [b"_pq_.a"])


@pytest.mark.parametrize(
    ("said", "database"),
    [
        ([(b"user", b"alice")], "alice"),
        ([(b"user", b"alice"), (b"database", b"")], "alice"),
        ([(b"database", b"one"), (b"database", b"two"), (b"user", b"a")], "two"),
        ([(b"user", "p\u00e4iv\u00e4".encode())], "p\u00e4iv\u00e4"),
        ([], ""),
    ],
)
def test_the_database_is_the_last_said_or_the_users(said: list[tuple[bytes, bytes]], database: str) -> None:
    assert admit(decode_startup(encode_startup(0x30000, said))).database == database


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(WireError):
        admit(decode_startup(encode_startup(0x30000, [(b"user", b"\xff")])))


@pytest.mark.parametrize(
    ("value", "replication"),
    [(None, False), (b"off", False), (b"false", False), (b"no", False), (b"0", False), (b"true", True), (b"database", True)],
)
def test_replication_is_seen(value: bytes | None, replication: bool) -> None:
    assert asked(0x30000, *([] if value is None else [(b"replication", value)])).replication is replication


@pytest.mark.parametrize("code", [SSL_REQUEST, GSSENC_REQUEST])
def test_what_is_no_startup_message_is_not_admitted(code: int) -> None:
    with pytest.raises(WireError):
        admit(decode_startup(b"\0\0\0\x08" + code.to_bytes(4, "big")))


def test_the_greatest_packet_that_is_admitted_has_many_parameters() -> None:
    names = [b"p%d" % i for i in range(500)]
    packet = encode_startup(0x30000, [*PARAMETERS, *((a, b) for a, b in pairwise(names))])
    assert admit(decode_startup(packet)).packet == packet


@pytest.mark.parametrize(
    ("parameters", "value"),
    [
        ([], None),
        ([(b"app.tenant", b"acme")], "acme"),
        ([(b"APP.Tenant", b"acme")], "acme"),
        ([(b"app.tenant", b"one"), (b"app.tenant", b"two")], "two"),
        ([(b"options", b"-c app.tenant=acme")], "acme"),
        ([(b"options", b"-capp.tenant=acme -c geqo=off")], "acme"),
        ([(b"options", b"--app.tenant=acme")], "acme"),
        ([(b"options", rb"-c app.tenant=a\ b\\c")], r"a b\c"),
        ([(b"options", b"-c app.tenant=one"), (b"app.tenant", b"two")], "two"),
        ([(b"app.tenant", b"two"), (b"options", b"-c app.tenant=one")], "two"),
        ([(b"options", b"-c other.tenant=x -c app.tenants=y")], None),
    ],
)
def test_a_parameter_of_the_session_is_found_where_the_server_finds_it(
    parameters: list[tuple[bytes, bytes]], value: str | None
) -> None:
    admission = admit(decode_startup(encode_startup(0x30000, [(b"user", b"alice"), *parameters])))
    assert admission.setting("app.tenant") == value
