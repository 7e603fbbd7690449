"""``auth.mode: scram``: clients that the proxy lets in itself, what they are told, and what the server sees of them."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from phiproxy.reload import reload
from tests.harness.server import PostgresServer
from tests.net.certificates import Papers, self_signed, tls_server
from tests.net.logins import PASSWORD, as_role, exchange, initial, scram, server_with_roles, typed
from tests.net.peer import Peer, cancel_request, fields, listening, startup
from tests.net.serving import asleep, connect, listener_of, serving, until


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of this file."""
    return Papers.made(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def secure(papers: Papers) -> Iterator[PostgresServer]:
    """A server with TLS."""
    with server_with_roles(papers) as server:
        yield server


@pytest.mark.parametrize("client_tls", [True, False])
@pytest.mark.parametrize("server_tls", [True, False])
@pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
async def test_libpq(secure: PostgresServer, papers: Papers, client_tls: bool, server_tls: bool, binding: str) -> None:
    settings = scram(
        secure,
        tls=papers.client_tls if client_tls else {},
        upstream={"tls": "verify-full" if server_tls else "disable", "ca_file": str(papers.authority.certificate)},
    )
    async with serving(settings) as (_, port):
        options = {"sslmode": "require" if client_tls else "disable", "channel_binding": binding}
        if binding == "require" and not client_tls:
            with pytest.raises(psycopg.OperationalError, match="channel binding"):
                await connect(secure, port, **options)
            return
        async with await connect(secure, port, **options) as conn:
            row = await (await conn.execute("SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).fetchone()
            assert row == (secure.superuser, server_tls)
            assert conn.info.backend_pid == (await (await conn.execute("SELECT pg_backend_pid()")).fetchone() or (0,))[0]


@pytest.mark.parametrize("kind", ["rsa-sha384", "rsa-pss-sha512", "ecdsa-sha512", "ed25519"])
async def test_certificates_of_every_kind(secure: PostgresServer, tmp_path: Path, kind: str) -> None:
    """libpq computes what our certificate binds to by itself. Ed25519 binds to nothing, so it is not offered."""
    pair = self_signed(tmp_path, kind)
    settings = scram(secure, tls={"certificate": str(pair.certificate), "private_key": str(pair.key)})
    async with serving(settings) as (_, port):
        await (await as_role(port, "a_role", sslmode="require")).close()
        if kind == "ed25519":
            with pytest.raises(psycopg.OperationalError, match="did not offer an authentication method that supports"):
                await as_role(port, "a_role", sslmode="require", channel_binding="require")
        else:
            await (await as_role(port, "a_role", sslmode="require", channel_binding="require")).close()


async def test_a_server_whose_certificate_binds_to_nothing(papers: Papers, tmp_path: Path) -> None:
    """libpq cannot log in to it by itself, with its defaults; through the proxy it can."""
    with tls_server(self_signed(tmp_path, "ed25519")) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", server.password)
        with pytest.raises(psycopg.OperationalError, match="could not find digest"):
            psycopg.connect(server.dsn(), sslmode="require")
        patch.setenv("PGCHANNELBINDING", "disable")  # of the service login, which is libpq's too
        settings = scram(server, tls=papers.client_tls, upstream={"tls": "require"})
        async with (
            serving(settings) as (_, port),
            await connect(server, port, sslmode="require", channel_binding="require") as conn,
        ):
            row = await (await conn.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).fetchone()
            assert row == (True,)


# -- who is not let in ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def counted(server: PostgresServer) -> AsyncIterator[tuple[int, list[None]]]:
    """Forward to a server and count the connections; yields port and count."""
    seen: list[None] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(None)
        there, back = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async with listening(forward) as port:
        yield port, seen


@pytest.mark.parametrize("role", ["a_role", "a_expired", "a_none", "nobody"])
async def test_who_cannot_be_let_in_sees_the_same_as_a_wrong_password(secure: PostgresServer, role: str) -> None:
    """Message by message, and as the server itself says it; no connection to the server is made for it."""
    async with (
        counted(secure) as (upstream, seen),
        serving(scram(secure, upstream={"address": f"127.0.0.1:{upstream}"})) as (_, port),
    ):
        password = "wrong" if role == "a_role" else PASSWORD
        through = await exchange(port, role, password)
        direct = await exchange(secure.port, role, password)
        assert [tag for tag, _ in through] == [tag for tag, _ in direct] == ["R", "R", "E"]
        assert through[0] == direct[0]
        attributes, at_server = (said[1][1][4:].split(b",") for said in (through, direct))
        assert [a[:2] for a in attributes] == [a[:2] for a in at_server] == [b"r=", b"s=", b"i="]
        assert attributes[2] == at_server[2]
        assert [len(a) for a in attributes] == [len(a) for a in at_server], "nonce and salt are as long as the server's"
        said, by_server = fields(through[2][1]), fields(direct[2][1])
        for letter in "SVCM":
            assert said[letter] == by_server[letter]
        assert said["C"] == "28P01"
        assert not seen, "a connection to the server was made"


async def test_the_right_password_by_hand_goes_on(secure: PostgresServer) -> None:
    async with serving(scram(secure)) as (_, port):
        said = await exchange(port, "a_role", PASSWORD)
        assert "".join(tag for tag, _ in said).startswith("RRRRS")
        assert said[2][1][:4] == b"\0\0\0\x0c"
        assert said[-1] == ("Z", b"I")


async def test_a_role_that_does_not_exist_has_always_the_same_salt(secure: PostgresServer) -> None:
    """Over connections and restarts of the proxy; another role has another one."""

    async def salt(port: int, role: str) -> bytes:
        return (await exchange(port, role, "x"))[1][1].split(b",")[1]

    salts = []
    for _ in range(2):
        async with serving(scram(secure)) as (_, port):
            salts += [await salt(port, "nobody"), await salt(port, "nobody")]
            assert await salt(port, "somebody") != salts[0]
    assert len(set(salts)) == 1


async def test_a_role_that_may_not_log_in_is_told_so_by_the_server(secure: PostgresServer) -> None:
    async with serving(scram(secure)) as (_, port):
        with pytest.raises(psycopg.OperationalError, match='role "a_nologin" is not permitted to log in'):
            await as_role(port, "a_nologin")
        with pytest.raises(psycopg.OperationalError, match='password authentication failed for user "a_nologin"'):
            await as_role(port, "a_nologin", "wrong")
        with pytest.raises(psycopg.OperationalError, match='database "absent" does not exist'):
            await psycopg.AsyncConnection.connect(host="127.0.0.1", port=port, user="a_role", password=PASSWORD, dbname="absent")


async def test_a_changed_password_is_good_at_once(secure: PostgresServer) -> None:
    async with serving(scram(secure)) as (_, port):
        await (await as_role(port, "a_role")).close()
        with secure.connect() as conn:
            conn.execute("ALTER ROLE a_role PASSWORD 'another'")
        try:
            await (await as_role(port, "a_role", "another")).close()
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                await as_role(port, "a_role")
        finally:
            with secure.connect() as conn:
                conn.execute(f"ALTER ROLE a_role PASSWORD '{PASSWORD}'")


async def test_databases_are_not_told_apart_before_the_password_is_right(secure: PostgresServer) -> None:
    async with serving(scram(secure, unlisted_databases="refuse")) as (_, port):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await as_role(port, "a_role", "wrong")
        with pytest.raises(psycopg.OperationalError, match="has no policy"):
            await as_role(port, "a_role")


@pytest.mark.parametrize(
    ("says", "sqlstate", "text"),
    [
        (typed(b"Q", b"SELECT 1\0"), "08P01", "expected SASL response, got message type 81"),
        (initial(b"n,,n=,r=abc", b"SCRAM-SHA-1"), "08P01", "invalid SASL authentication mechanism"),
        (initial(b"p=tls-server-end-point,,n=,r=abc", b"SCRAM-SHA-256-PLUS"), "08P01", "invalid SASL authentication mechanism"),
        (initial(b"garbage"), "08P01", "malformed SCRAM message"),
        (initial(b"n,a=admin,n=,r=abc"), "0A000", "authorization identity"),
        (initial(b"n,,n=,r=abc") + typed(b"p", b"c=biws,r=abcd,p=" + b"A" * 43 + b"="), "08P01", "invalid SCRAM response"),
    ],
)
async def test_what_is_no_login(secure: PostgresServer, says: bytes, sqlstate: str, text: str) -> None:
    """And the server says the same."""
    async with serving(scram(secure)) as (_, port):
        for where in (port, secure.port):
            async with await Peer.open(where) as peer:
                peer.say(startup("a_role", "postgres") + says)
                error = await peer.error()
                assert (error["S"], error["C"]) == ("FATAL", sqlstate)
                assert text in error["M"]
                assert await peer.rest() == b""


@pytest.mark.parametrize("says", [typed(b"p", b"x" * 2000), b"p\xff\xff\xff\xff", b"p\0\0\0\0"])
async def test_messages_that_no_login_has_close_the_connection(secure: PostgresServer, says: bytes) -> None:
    async with serving(scram(secure)) as (_, port), await Peer.open(port) as peer:
        peer.say(startup("a_role", "postgres"))
        assert (await peer.message())[0] == "R"
        peer.say(says)
        assert await peer.rest() == b""


async def test_a_mechanism_without_its_first_message(secure: PostgresServer) -> None:
    """RFC 4422 allows that; PostgreSQL answers with an empty challenge."""
    async with serving(scram(secure)) as (_, port):
        for where in (port, secure.port):
            async with await Peer.open(where) as peer:
                peer.say(startup("a_role", "postgres") + typed(b"p", b"SCRAM-SHA-256\0\xff\xff\xff\xff"))
                assert (await peer.message())[0] == "R"
                assert await peer.message() == ("R", b"\0\0\0\x0b")
                peer.say(typed(b"p", b"n,,n=,r=abc"))
                assert (await peer.message())[1].startswith(b"\0\0\0\x0br=abc")


async def test_no_user(secure: PostgresServer) -> None:
    async with serving(scram(secure)) as (_, port):
        for where in (port, secure.port):
            async with await Peer.open(where) as peer:
                peer.say(startup("", "postgres"))
                error = await peer.error()
                assert (error["S"], error["C"]) == ("FATAL", "28000")
                assert error["M"] == "no PostgreSQL user name specified in startup packet"


async def test_a_login_that_never_ends(secure: PostgresServer) -> None:
    async with serving(scram(secure, limits={"startup_timeout": "1s"})) as (proxy, port), await Peer.open(port) as peer:
        peer.say(startup("a_role", "postgres"))
        assert (await peer.message())[0] == "R"
        began = time.monotonic()
        assert await peer.rest() == b""
        assert time.monotonic() - began > 0.2
        await until(lambda: listener_of(proxy).clients == 0, "still counted")


async def test_the_log_says_why_and_never_the_password(secure: PostgresServer, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(scram(secure)) as (_, port):
        for role, password in (
            ("a_role", "wr0ng-s3cret"),
            ("a_none", "wr0ng-s3cret"),
            ("nobody", "wr0ng-s3cret"),
            ("a_role", PASSWORD),
        ):
            try:
                await (await as_role(port, role, password)).close()
            except psycopg.OperationalError:
                continue
    said = "".join(capsys.readouterr())
    for why in ("wrong password", "the role has no password", "the role does not exist"):
        assert why in said
    assert "wr0ng" not in said
    assert PASSWORD not in said


# -- protocol versions ---------------------------------------------------------------------------------------------------------


async def test_newer_protocols_are_negotiated_before_the_server_is_asked(secure: PostgresServer) -> None:
    """In exactly one message, with the version that the server speaks."""
    with secure.connect() as conn:
        newest = 0x30002 if conn.info.server_version >= 180000 else 0x30000
    async with serving(scram(secure)) as (_, port):
        for version, options, told in (
            (0x30000, {}, []),
            (0x30002, {}, [] if newest == 0x30002 else [struct.pack("!II", newest, 0)]),
            (
                0x3270F,
                {"_pq_.test_protocol_negotiation": ""},
                [struct.pack("!II", newest, 1) + b"_pq_.test_protocol_negotiation\0"],
            ),
        ):
            async with await Peer.open(port) as peer:
                peer.say(startup("a_role", "postgres", options, version=version))
                said = [await peer.message()]
                while said[-1][0] == "v":
                    said.append(await peer.message())
                assert [payload for tag, payload in said if tag == "v"] == told
        if pq.version() >= 180000:
            async with await as_role(port, "a_role", max_protocol_version="latest") as conn:
                await conn.execute("SELECT 1")


async def test_a_new_certificate_is_what_the_next_login_binds_to(secure: PostgresServer, tmp_path: Path) -> None:
    """Read on SIGHUP; who is there already goes on."""
    pair, other = self_signed(tmp_path, "ecdsa-sha512"), self_signed(tmp_path, "rsa-sha384")
    settings = scram(secure, tls={"certificate": str(pair.certificate), "private_key": str(pair.key)})
    binding = {"sslmode": "require", "channel_binding": "require"}
    async with serving(settings) as (proxy, port), await as_role(port, "a_role", **binding) as conn:
        for old, new in ((pair.certificate, other.certificate), (pair.key, other.key)):
            old.write_bytes(new.read_bytes())
        await reload(proxy.reloadable, None)
        await (await as_role(port, "a_role", **binding)).close()
        assert await (await conn.execute("SELECT 1")).fetchone() == (1,)


async def test_a_cancel_goes_its_way(secure: PostgresServer, papers: Papers) -> None:
    async with serving(scram(secure, tls=papers.client_tls)) as (_, port), await as_role(port, "a_role", sslmode="require") as conn:
        running = asyncio.ensure_future(conn.execute("SELECT pg_sleep(600)"))
        await asleep(secure, conn)
        await conn.cancel_safe(timeout=240)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
        async with await Peer.open(port) as peer:
            peer.say(cancel_request(conn.info.backend_pid, b"\0\0\0\0"))
            assert await peer.rest() == b""
        await conn.execute("SELECT 1")
