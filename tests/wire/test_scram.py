"""SCRAM at both ends: the RFC's exchange, what libpq would say, and everything that PostgreSQL refuses."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import PhiproxyError
from phiproxy.wire.scram import PLAIN, PLUS, Credentials, LoginRefused, ScramClient, ScramServer, Verifier

# RFC 7677, section 3: user "user", password "pencil"
CLIENT_NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = b"n,,n=user,r=" + CLIENT_NONCE
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
SALT = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81"
BINDING = b"h" * 32


def keys(password: str, salt: bytes = SALT, iterations: int = 4096) -> tuple[bytes, Verifier]:
    """Return ClientKey and verifier of a password: RFC 5802, section 3, in four lines."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return client_key, Verifier(iterations, salt, hashlib.sha256(client_key).digest(), server_key)


CLIENT_KEY, VERIFIER = keys("pencil")


def test_the_exchange_of_the_rfc_and_the_key_in_it() -> None:
    server = ScramServer(VERIFIER, PLAIN, None, nonce=SERVER_NONCE)
    assert server.first(CLIENT_FIRST) == SERVER_FIRST
    said, credentials = server.final(CLIENT_FINAL, "user")
    assert said == SERVER_FINAL
    assert credentials.client_key == CLIENT_KEY
    assert credentials.server_key == VERIFIER.server_key


def test_the_clients_end_says_what_the_rfc_says() -> None:
    """But for the name, which the RFC puts into the message and libpq into the StartupMessage."""
    client = ScramClient(Credentials(CLIENT_KEY, VERIFIER.server_key), [PLAIN], None, nonce=CLIENT_NONCE)
    assert client.mechanism == PLAIN
    assert client.first() == CLIENT_FIRST.replace(b"n=user", b"n=")
    server = ScramServer(VERIFIER, PLAIN, None, nonce=SERVER_NONCE)
    assert server.first(client.first()) == SERVER_FIRST
    said, _ = server.final(client.final(SERVER_FIRST), "user")
    assert client.accepts(said)
    assert not client.accepts(b"v=" + b64encode(b"x" * 32))
    assert not client.accepts(b"e=other-error")


def exchange(
    *, offered: list[bytes], seen: bytes | None, own: bytes | None, key: bytes = CLIENT_KEY, doomed: bool = False
) -> Credentials:
    """Let both ends talk: the client sees one certificate, the server has another, or the same."""
    client = ScramClient(Credentials(key, VERIFIER.server_key), offered, seen)
    server = ScramServer(VERIFIER, client.mechanism, own, doomed=doomed)
    said, credentials = server.final(client.final(server.first(client.first())), "somebody")
    assert client.accepts(said)
    return credentials


@pytest.mark.parametrize(
    ("offered", "seen", "own"),
    [([PLUS, PLAIN], BINDING, BINDING), ([PLUS, PLAIN], None, BINDING), ([PLAIN], BINDING, None), ([PLAIN], None, None)],
    ids=["bound", "cannot-bind", "thinks-it-was-not-offered", "plain"],
)
def test_both_ends_agree(offered: list[bytes], seen: bytes | None, own: bytes | None) -> None:
    assert exchange(offered=offered, seen=seen, own=own).client_key == CLIENT_KEY


def test_another_certificate_is_noticed() -> None:
    with pytest.raises(LoginRefused, match="channel binding check failed") as refused:
        exchange(offered=[PLUS, PLAIN], seen=b"x" * 32, own=BINDING)
    assert refused.value.sqlstate == "28000"


def test_an_offer_that_was_cut_is_noticed() -> None:
    """Somebody between them has taken -PLUS away."""
    with pytest.raises(LoginRefused, match="negotiation error") as refused:
        exchange(offered=[PLAIN], seen=BINDING, own=BINDING)
    assert refused.value.sqlstate == "28000"


@pytest.mark.parametrize("doomed", [True, False])
def test_a_wrong_password(doomed: bool) -> None:
    key = CLIENT_KEY if doomed else keys("pencils")[0]
    with pytest.raises(LoginRefused) as refused:
        exchange(offered=[PLAIN], seen=None, own=None, key=key, doomed=doomed)
    assert (refused.value.sqlstate, refused.value.public_text) == ("28P01", 'password authentication failed for user "somebody"')


@pytest.mark.parametrize(
    ("first", "sqlstate", "text"),
    [
        (b"", "08P01", "malformed"),
        (b"n", "08P01", "malformed"),
        (b"x,,n=,r=abc", "08P01", "malformed"),
        (b"n,a=admin,n=,r=abc", "0A000", "authorization identity"),
        (b"n,b,n=,r=abc", "08P01", "malformed"),
        (b"n,,m=x,n=,r=abc", "0A000", "unsupported SCRAM extension"),
        (b"n,,r=abc", "08P01", "malformed"),
        (b"n,,n=,x=abc", "08P01", "malformed"),
        (b"n,,n=", "08P01", "malformed"),
        (b"n,,n=,r=", "08P01", "non-printable"),
        (b"n,,n=,r=a\x01c", "08P01", "non-printable"),
        (b"n,,n=,r=abc,1", "08P01", "malformed"),
        (b"p=tls-unique,,n=,r=abc", "08P01", "malformed"),
        (b"p=tls-server-end-point,,n=,r=abc", "08P01", "malformed"),
    ],
)
def test_first_messages_that_are_refused(first: bytes, sqlstate: str, text: str) -> None:
    with pytest.raises(LoginRefused, match=text) as refused:
        ScramServer(VERIFIER, PLAIN, None).first(first)
    assert refused.value.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("first", "sqlstate", "text"),
    [
        (b"n,,n=,r=abc", "08P01", "malformed"),
        (b"y,,n=,r=abc", "08P01", "malformed"),
        (b"p=tls-unique,,n=,r=abc", "08P01", 'channel-binding type "tls-unique"'),
    ],
)
def test_first_messages_that_are_refused_where_the_channel_is_bound(first: bytes, sqlstate: str, text: str) -> None:
    with pytest.raises(LoginRefused, match=text) as refused:
        ScramServer(VERIFIER, PLUS, BINDING).first(first)
    assert refused.value.sqlstate == sqlstate


@pytest.mark.parametrize("mechanism", [b"", PLUS, b"SCRAM-SHA-1", b"OAUTHBEARER"])
def test_a_mechanism_that_was_not_offered(mechanism: bytes) -> None:
    with pytest.raises(LoginRefused, match="invalid SASL authentication mechanism"):
        ScramServer(VERIFIER, mechanism, None)


NONCE = CLIENT_NONCE + SERVER_NONCE


@pytest.mark.parametrize(
    ("final", "text"),
    [
        (b"", "malformed"),
        (b"c=biws", "malformed"),
        (b"c=biws,r=" + NONCE, "malformed"),
        (b"c=biws,r=" + NONCE + b",p=", "malformed"),
        (b"c=biws,r=" + NONCE + b",p=!!!!", "malformed"),
        (b"c=biws,r=" + NONCE + b",p=" + b64encode(b"x" * 31), "malformed"),
        (b"c=biws,r=" + NONCE + b",4,p=" + b64encode(b"x" * 32), "malformed"),
        (CLIENT_FINAL + b",x=1", "malformed"),
        (CLIENT_FINAL.replace(b"c=biws", b"c=eSws"), "unexpected SCRAM channel-binding attribute"),
        (CLIENT_FINAL.replace(NONCE, NONCE + b"x"), "invalid SCRAM response"),
        (CLIENT_FINAL.replace(NONCE, CLIENT_NONCE), "invalid SCRAM response"),
    ],
)
def test_final_messages_that_are_refused(final: bytes, text: str) -> None:
    server = ScramServer(VERIFIER, PLAIN, None, nonce=SERVER_NONCE)
    server.first(CLIENT_FIRST)
    with pytest.raises(LoginRefused, match=text) as refused:
        server.final(final, "user")
    assert refused.value.sqlstate == "08P01"


def test_extensions_are_part_of_what_is_signed() -> None:
    server = ScramServer(VERIFIER, PLAIN, None, nonce=SERVER_NONCE)
    server.first(CLIENT_FIRST)
    with pytest.raises(LoginRefused, match="password authentication failed"):
        server.final(CLIENT_FINAL.replace(b",p=", b",x=1,p="), "user")


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_garbage_is_refused_and_nothing_else_happens(first: bytes, final: bytes) -> None:
    for server in (ScramServer(VERIFIER, PLAIN, None), ScramServer(VERIFIER, PLUS, BINDING)):
        with pytest.raises(PhiproxyError):  # noqa: PT012 - whichever of the two it is
            server.first(first)
            server.final(final, "user")


@pytest.mark.parametrize("first", [b"", b"r=", b"r=other,s=AAAA,i=1", b"r=" + CLIENT_NONCE + b",s=AAAA,i=1", b"e=unknown-user"])
def test_a_server_that_does_not_keep_to_the_nonce(first: bytes) -> None:
    client = ScramClient(Credentials(CLIENT_KEY, VERIFIER.server_key), [PLAIN], None, nonce=CLIENT_NONCE)
    with pytest.raises(LoginRefused):
        client.final(first)


# -- verifiers -----------------------------------------------------------------------------------------------------------------

STORED, SERVER = b64encode(VERIFIER.stored_key).decode(), b64encode(VERIFIER.server_key).decode()


def test_a_verifier_as_postgresql_writes_it() -> None:
    assert Verifier.parse(f"SCRAM-SHA-256$4096:{b64encode(SALT).decode()}${STORED}:{SERVER}") == VERIFIER
    assert "0x" in repr(VERIFIER), "a representation shows the keys"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "md5" + "0" * 32,
        "pencil",
        f"SCRAM-SHA-256$0:AAAA${STORED}:{SERVER}",
        f"SCRAM-SHA-256$4294967296:AAAA${STORED}:{SERVER}",
        f"SCRAM-SHA-256$4096:${STORED}:{SERVER}",
        f"SCRAM-SHA-256$4096:A${STORED}:{SERVER}",
        f"SCRAM-SHA-256$4096:AAAA$AAAA:{SERVER}",
        f"SCRAM-SHA-256$4096:AAAA${STORED}:AAAA",
        f"SCRAM-SHA-256$4096:AAAA${STORED}:{SERVER}\n",
        f"SCRAM-SHA-1$4096:AAAA${STORED}:{SERVER}",
    ],
)
def test_what_is_no_verifier(text: str) -> None:
    assert Verifier.parse(text) is None


def test_a_role_that_does_not_exist_has_always_the_same_salt() -> None:
    one, same, other = (Verifier.mock(role, b"secret") for role in (b"a", b"a", b"b"))
    assert one.salt == same.salt != other.salt
    assert one.salt != Verifier.mock(b"a", b"another secret").salt
    assert (len(one.salt), one.iterations) == (16, 4096)
    assert one.stored_key != same.stored_key, "a key that is derived could be found"
