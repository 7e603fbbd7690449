"""The StartupMessage that goes on, and the negotiation that the client is owed for what does not."""

from __future__ import annotations

from itertools import pairwise

import pytest

from phiproxy.errors import WireError
from phiproxy.session.startup import Admission, admit
from phiproxy.wire.messages import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    decode_startup,
    encode_authentication_sasl,
    encode_startup,
    negotiate_protocol_version,
)
from tests.session.frames import AUTHENTICATION_OK, backend_key, error, parameter_status, raw, ready
from tests.session.screenplay import Says, Screenplay

PARAMETERS = [(b"user", b"alice"), (b"database", b"clinic"), (b"options", b"-c geqo=off"), (b"application_name", b"")]


def asked(version: int, *more: tuple[bytes, bytes]) -> Admission:
    return admit(decode_startup(encode_startup(version, [*PARAMETERS, *more])))


@pytest.mark.parametrize("version", [0x30000, 0x30001, 0x30002])
def test_a_version_that_we_speak_passes_byte_for_byte(version: int) -> None:
    packet = encode_startup(version, PARAMETERS)
    assert admit(decode_startup(packet)) == Admission("clinic", replication=False, packet=packet, negotiation=None)


@pytest.mark.parametrize("version", [0x30003, 0x3270F])
def test_a_newer_version_is_cut_to_ours_and_said_so(version: int) -> None:
    admission = asked(version)
    assert admission.packet == encode_startup(0x30002, PARAMETERS)
    assert admission.negotiation == negotiate_protocol_version(0x30002, [])


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


# -- in dialogues --------------------------------------------------------------------------------------------------------------

OURS = negotiate_protocol_version(0x30002, [b"_pq_.x"])


def login(negotiation: bytes | None, *, strip_plus: bool = False) -> Screenplay:
    play = Screenplay(log_in=False, strip_plus=strip_plus)
    play.session.negotiation = negotiation
    return play


def test_our_negotiation_comes_before_authentication_once() -> None:
    with login(OURS) as play:
        sasl = encode_authentication_sasl([b"SCRAM-SHA-256"])
        play.server_says(sasl, AUTHENTICATION_OK)
        play.client_gets(OURS, sasl, AUTHENTICATION_OK)


def test_the_servers_negotiation_is_merged_with_ours_into_one() -> None:
    with login(OURS) as play:
        play.server_says(negotiate_protocol_version(0x30000, []), AUTHENTICATION_OK)
        play.client_gets(negotiate_protocol_version(0x30000, [b"_pq_.x"]), AUTHENTICATION_OK)


def test_a_negotiation_without_options_is_merged_too() -> None:
    with login(negotiate_protocol_version(0x30002, [])) as play:
        play.server_says(negotiate_protocol_version(0x30000, []), AUTHENTICATION_OK)
        play.client_gets(negotiate_protocol_version(0x30000, []), AUTHENTICATION_OK)


def test_the_servers_own_negotiation_passes_where_we_have_none() -> None:
    with login(None) as play:
        play.server_says(negotiate_protocol_version(0x30000, []), AUTHENTICATION_OK)
        play.client_gets(negotiate_protocol_version(0x30000, []), AUTHENTICATION_OK)


def test_an_error_instead_of_authentication_is_the_servers() -> None:
    with login(None) as play:
        play.server_says(error("28P01", severity="FATAL"))
        play.client_gets(error("28P01", severity="FATAL"))
        assert play.session.server_said_fatal


@pytest.mark.parametrize("strips", [True, False])
def test_channel_binding_leaves_the_offer_where_the_client_cannot_bind(strips: bool) -> None:
    both = encode_authentication_sasl([b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"])
    with login(None, strip_plus=strips) as play:
        play.server_says(both)
        play.client_gets(encode_authentication_sasl([b"SCRAM-SHA-256"]) if strips else both)
        said = raw(b"p", b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=abc")
        play.client_says(said)
        play.server_gets(said)
        challenge = raw(b"R", b"\0\0\0\x0br=abc")
        play.server_says(challenge)
        play.client_gets(challenge)


@pytest.mark.parametrize("key", [b"\1\2\3\4", b"k" * 32])
def test_the_cancel_key_passes_and_is_kept(key: bytes) -> None:
    with login(None) as play:
        play.server_says(AUTHENTICATION_OK, backend_key(42, key))
        play.client_gets(AUTHENTICATION_OK, backend_key(42, key))
        assert play.session.backend_key == b"\0\0\0\x2a" + key


@pytest.mark.parametrize("logged_in", [True, False])
def test_without_standard_conforming_strings_there_is_no_conversation(logged_in: bool) -> None:
    with Screenplay(log_in=logged_in) as play:
        play.server_says(parameter_status("standard_conforming_strings", "on"))
        play.client_gets(parameter_status("standard_conforming_strings", "on"))
        play.server_says(parameter_status("standard_conforming_strings", "off"), ready())
        play.client_gets(Says("0A000", "standard_conforming_strings", severity="FATAL"))
        play.is_closed()


def test_the_greatest_packet_that_is_admitted_has_many_parameters() -> None:
    names = [b"p%d" % i for i in range(500)]
    packet = encode_startup(0x30000, [*PARAMETERS, *((a, b) for a, b in pairwise(names))])
    assert admit(decode_startup(packet)).packet == packet
