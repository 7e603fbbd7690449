"""``auth.mode: scram``: the login upstream, with servers of every kind; and verifiers from a file."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from phiproxy.app import Proxy
from phiproxy.reload import reload
from tests.harness.server import PostgresServer
from tests.net.certificates import Papers
from tests.net.logins import PASSWORD, as_role, at, exchange, scram, server_with_roles, typed
from tests.net.peer import fields, listening
from tests.net.serving import bare_settings, serving


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with TLS and roles."""
    with server_with_roles(Papers.made(tmp_path_factory.mktemp("papers"))) as server:
        yield server


OK = typed(b"R", b"\0\0\0\0")
NOTICE = typed(b"N", b"SNOTICE\0C00000\0Mhello\0\0")
SASL = typed(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")


def error_message(sqlstate: str, text: str) -> bytes:
    """Return a FATAL."""
    return typed(
        b"E", b"".join(f"{a}{b}\0".encode() for a, b in (("S", "FATAL"), ("V", "FATAL"), ("C", sqlstate), ("M", text))) + b"\0"
    )


@pytest.mark.parametrize(
    ("answers", "sqlstate", "text"),
    [
        ([typed(b"R", b"\0\0\0\3")], "28000", "asks for the password in clear"),
        ([typed(b"R", b"\0\0\0\5salt")], "28000", "asks for an MD5 password"),
        ([typed(b"R", b"\0\0\0\7")], "28000", r"not SCRAM-SHA-256 \(request 7\)"),
        ([typed(b"R", b"\0\0\0\x0aOAUTHBEARER\0\0")], "28000", "not SCRAM-SHA-256"),
        ([typed(b"R", b"\0\0\0\x0br=abc")], "28000", "not SCRAM-SHA-256"),
        ([SASL, typed(b"R", b"\0\0\0\x0br=another,s=AAAA,i=1")], "08006", "does not keep to SCRAM"),
        ([SASL, OK], "08006", "has not shown that it knows the role's verifier"),
        ([SASL, None, typed(b"R", b"\0\0\0\x0cv=" + b"A" * 44) + OK], "08006", "has not shown that it knows"),
        ([typed(b"v", struct.pack("!II", 0x20000, 0)) + SASL], "08006", "older protocol"),
        ([error_message("57P03", "the database system is starting up")], "57P03", "the database system is starting up"),
        (
            [typed(b"N", b"SNOTICE\0C00000\0Mhello\0\0") + error_message("53300", "sorry, too many clients already")],
            "53300",
            "sorry",
        ),
        ([], "08006", "closed the connection during the login"),
    ],
    ids=["clear", "md5", "gss", "oauth", "continue", "nonce", "ok", "signature", "older", "error", "notice", "closed"],
)
async def test_servers_of_every_kind(secure: PostgresServer, answers: list[bytes | None], sqlstate: str, text: str) -> None:
    """None stands for a challenge that keeps to the client's nonce."""

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)
        for answer in answers:
            if answer is None:
                said = (await reader.readexactly(5 + 18 + 3 + 5 + 24))[-24:]
                writer.write(typed(b"R", b"\0\0\0\x0br=" + said + b"more,s=AAAA,i=1"))
                await reader.readexactly(5)
            else:
                writer.write(answer)
        await asyncio.sleep(0.2 if answers else 0)

    async with listening(server) as upstream, serving(scram(secure, upstream=at(upstream))) as (_, port):
        with pytest.raises(psycopg.OperationalError, match=text) as said:
            await as_role(port, "a_role")
    async with listening(server) as upstream, serving(scram(secure, upstream=at(upstream))) as (_, port):
        tag, payload = (await exchange(port, "a_role"))[-1]
        assert (tag, fields(payload)["C"]) == ("E", sqlstate), said.value


async def test_a_server_that_never_answers(secure: PostgresServer) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass

    limits = {"startup_timeout": "2s"}
    async with listening(server) as upstream:
        settings = scram(secure, upstream=at(upstream), limits=limits)
        async with serving(settings) as (_, port):
            with pytest.raises(psycopg.OperationalError, match="has not finished the login within"):
                await as_role(port, "a_role")


async def test_a_file_of_verifiers_needs_no_service_login(
    secure: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PHIPROXY_SERVICE_PASSWORD")
    with secure.connect() as conn:
        row = conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'a_role'").fetchone()
    assert row is not None
    path = tmp_path / "verifiers"
    path.touch(mode=0o600)
    path.write_text("# nobody yet\n")
    settings = bare_settings(secure, auth={"mode": "scram", "verifiers": str(path)})
    async with serving(settings) as (proxy, port):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await as_role(port, "a_role")
        await reloaded(proxy, path, f'"a_role" {row[0]}\n')
        async with await as_role(port, "a_role") as conn:
            assert await (await conn.execute("SELECT current_user::text")).fetchone() == ("a_role",)
            await reloaded(proxy, path, "a line that is none\n")
            await (await as_role(port, "a_role")).close()
            await conn.execute("SELECT 1")
        # A line that the server does not have: the client's proof is right, and the server says what it thinks of the role.
        with secure.connect() as direct:
            direct.execute("ALTER ROLE a_role PASSWORD 'another'")
            try:
                with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                    await as_role(port, "a_role")
            finally:
                direct.execute(f"ALTER ROLE a_role PASSWORD '{PASSWORD}'")


async def reloaded(proxy: Proxy, path: Path, text: str) -> None:
    """Write the file and tell the proxy."""
    await asyncio.to_thread(path.write_text, text)
    await reload(proxy.reloadable, None)
