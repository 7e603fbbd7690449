"""What the server says before anybody is let in."""

from __future__ import annotations

import pytest

from phiproxy.net.channel_binding import DifferentCertificates
from phiproxy.wire.messages import (
    encode_authentication_sasl,
    negotiate_protocol_version,
)
from tests.session.frames import AUTHENTICATION_OK, backend_key, error, parameter_status, raw
from tests.session.screenplay import Says, Screenplay

OURS = negotiate_protocol_version(0x30002, [b"_pq_.x"])


def login(negotiation: bytes | None, *, strip_plus: bool = False) -> Screenplay:
    play = Screenplay(log_in=False, strip_plus=strip_plus)
    play.session.login.negotiation = negotiation
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
        assert play.session.login.backend_key == b"\0\0\0\x2a" + key


@pytest.mark.parametrize("logged_in", [True, False])
def test_standard_conforming_strings_are_followed(logged_in: bool) -> None:
    with Screenplay(log_in=logged_in) as play:
        for value in ("on", "off", "on"):
            said = parameter_status("standard_conforming_strings", value)
            play.server_says(said)
            play.client_gets(said)
            assert play.session.text.conforming is (value == "on")


def test_an_offer_to_bind_to_another_certificate_is_refused_in_words_that_help() -> None:
    with Screenplay(log_in=False) as play:
        play.session.login.unbound = DifferentCertificates("different certificates")
        play.server_says(encode_authentication_sasl([b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]))
        play.client_gets(Says("28000", "different certificates", severity="FATAL"))
        play.is_closed()


@pytest.mark.parametrize(
    "request_", [encode_authentication_sasl([b"SCRAM-SHA-256"]), raw(b"R", b"\0\0\0\5salt"), AUTHENTICATION_OK]
)
def test_a_request_that_binds_to_no_certificate_passes_though_certificates_differ(request_: bytes) -> None:
    with Screenplay(log_in=False) as play:
        play.session.login.unbound = DifferentCertificates("different certificates")
        play.server_says(request_)
        play.client_gets(request_)
