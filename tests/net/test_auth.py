"""``auth.mode: scram``: clients that the proxy lets in itself, and what the server sees of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from phiproxy.policy.settings import Settings
from tests.harness.server import PostgresServer
from tests.net.certificates import Papers, tls_server
from tests.net.serving import bare_settings, connect, serving


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of this file."""
    return Papers.made(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def secure(papers: Papers) -> Iterator[PostgresServer]:
    """A server with TLS."""
    with tls_server(papers.server) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", server.password)
        yield server


def scram(server: PostgresServer, **sections: Any) -> Settings:
    """Return settings of mode scram; the service login is the superuser's."""
    auth = {"mode": "scram", **sections.pop("auth", {})}
    return bare_settings(server, auth=auth, service={"user": server.superuser}, **sections)


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
