"""Logins of ``auth.mode: scram``: settings, roles, and a client that goes through the exchange by hand."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import struct
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from phiproxy.policy.settings import Settings
from phiproxy.wire.scram import Credentials, ScramClient
from tests.harness.server import PostgresServer
from tests.net.certificates import Papers, tls_server
from tests.net.peer import Peer, startup
from tests.net.serving import bare_settings

PASSWORD = "correct horse"
ROLES = {
    "a_role": f"LOGIN PASSWORD '{PASSWORD}'",
    "a_nologin": f"NOLOGIN PASSWORD '{PASSWORD}'",
    "a_expired": f"LOGIN PASSWORD '{PASSWORD}' VALID UNTIL '2001-01-01'",
    "a_none": "LOGIN",
}


@contextmanager
def server_with_roles(papers: Papers) -> Iterator[PostgresServer]:
    """Run a server with TLS and the roles; the service login's password is the superuser's."""
    with tls_server(papers.server) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", server.password)
        with server.connect() as conn:
            for role, rest in ROLES.items():
                conn.execute(f"CREATE ROLE {role} {rest}")
        yield server


def scram(server: PostgresServer, **sections: Any) -> Settings:
    """Return settings of mode scram; the service login is the superuser's."""
    auth = {"mode": "scram", **sections.pop("auth", {})}
    service = {"user": server.superuser, "address": f"{server.host}:{server.port}"}
    return bare_settings(server, auth=auth, service=service, **sections)


async def as_role(port: int, role: str, password: str = PASSWORD, **options: str) -> psycopg.AsyncConnection[Any]:
    """Log in as a role."""
    given: dict[str, Any] = {"sslmode": "disable", "gssencmode": "disable", **options}
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=port, user=role, password=password, dbname="postgres", autocommit=True, **given
    )


def at(port: int) -> dict[str, str]:
    """Return a section ``upstream`` for a port of this machine."""
    return {"address": f"127.0.0.1:{port}"}


def typed(tag: bytes, payload: bytes) -> bytes:
    """Return one typed message."""
    return tag + struct.pack("!I", len(payload) + 4) + payload


def initial(first: bytes, mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    """Return a SASLInitialResponse."""
    return typed(b"p", mechanism + b"\0" + struct.pack("!I", len(first)) + first)


async def exchange(port: int, role: str, password: str = PASSWORD, *, version: int = 0x30000) -> list[tuple[str, bytes]]:
    """Log in by hand; return all that is answered up to an error, the end, or ReadyForQuery."""
    async with await Peer.open(port) as peer:
        peer.say(startup(role, "postgres", version=version) + initial(b"n,,n=,r=abc"))
        said = [await peer.message(), await peer.message()]
        if said[0][0] == "v":
            said.append(await peer.message())
        if said[-1][0] == "E":
            return said
        challenge = said[-1][1][4:]
        parts = dict(part.split(b"=", 1) for part in challenge.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b64decode(parts[b"s"]), int(parts[b"i"]))
        credentials = Credentials(hmac.digest(salted, b"Client Key", "sha256"), b"")
        peer.say(typed(b"p", ScramClient(credentials, [b"SCRAM-SHA-256"], None, nonce=b"abc").final(challenge)))
        while said[-1][0] not in "EZ":
            try:
                said.append(await peer.message())
            except asyncio.IncompleteReadError:
                return said
        if said[-1][0] == "E":
            assert await peer.rest() == b"", "the socket was not closed"
        return said
