"""Both legs with TLS or without, and SCRAM relayed through them: libpq's defaults against a real server with TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from phiproxy.app import Proxy
from phiproxy.errors import ConfigError
from phiproxy.policy.settings import Settings
from phiproxy.sql.policy_files import load_policies
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.net.certificates import Pair, Papers, tls_server
from tests.net.serving import bare_settings, connect, dsn, serving, site_settings, wire_site


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of this file."""
    return Papers.made(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def secure(papers: Papers) -> Iterator[PostgresServer]:
    """A server with TLS."""
    with tls_server(papers.server) as server:
        yield server


@pytest.fixture(scope="module")
def site(secure: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on the server with TLS."""
    with wire_site(secure, tmp_path_factory.mktemp("wire")) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


ALLOW = {"different_certificates": "allow"}


def door(pair: Pair) -> dict[str, str]:
    """Return a section ``tls`` with this certificate."""
    return {"certificate": str(pair.certificate), "private_key": str(pair.key)}


def upstream(server: PostgresServer, papers: Papers, level: str) -> dict[str, str]:
    """Return a section ``upstream``."""
    return {"address": f"{server.host}:{server.port}", "tls": level, "ca_file": str(papers.authority.certificate)}


@pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
@pytest.mark.parametrize(
    ("client", "server", "certificate"),
    [
        (False, False, "proxy"),
        (False, True, "proxy"),
        (True, False, "proxy"),
        (True, True, "server"),  # the proxy presents the server's own certificate
        (True, True, "proxy"),
    ],
    ids=["plain-plain", "plain-tls", "tls-plain", "same-certificate", "other-certificate"],
)
async def test_scram_is_relayed(
    secure: PostgresServer, papers: Papers, client: bool, server: bool, certificate: str, binding: str
) -> None:
    """The matrix of spec/protocol 4.1. ``prefer`` is libpq's default; only two certificates on two TLS legs defeat it."""
    settings = bare_settings(
        secure,
        tls=door(getattr(papers, certificate)) if client else {},
        upstream=upstream(secure, papers, "verify-full" if server else "disable"),
        auth=ALLOW,
    )
    same = certificate == "server"
    works = {"disable": True, "prefer": same or not (client and server), "require": same}[binding]
    async with serving(settings) as (_, port):
        options = {"sslmode": "require" if client else "disable", "channel_binding": binding}
        if works:
            async with await connect(secure, port, **options) as conn:
                row = await (await conn.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).fetchone()
                assert row == (server,)
                assert conn.pgconn.ssl_in_use is client
        else:
            with pytest.raises(psycopg.OperationalError, match=r"channel binding|SCRAM-SHA-256-PLUS"):
                await connect(secure, port, **options)


async def test_asyncpg_over_both(secure: PostgresServer, papers: Papers) -> None:
    """A driver without channel binding is at home everywhere, two different certificates included."""
    settings = bare_settings(secure, tls=door(papers.proxy), upstream=upstream(secure, papers, "verify-full"), auth=ALLOW)
    async with serving(settings) as (_, port):
        context = ssl.create_default_context(cafile=papers.authority.certificate)
        conn = await asyncpg.connect(
            host="localhost", port=port, user=secure.superuser, password=secure.password, database="postgres", ssl=context
        )
        try:
            assert await conn.fetchval("SELECT $1::int + 1", 41) == 42
            with pytest.raises(asyncio.TimeoutError):
                await conn.execute("SELECT pg_sleep(30)", timeout=0.3)  # asyncpg cancels by a connection of its own
            assert await conn.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep.30'") == 0
        finally:
            await conn.close()


async def test_a_protected_column_through_two_tls_legs(site: Site, papers: Papers) -> None:
    settings = tls_site(site, papers)
    async with serving(settings) as (_, port), await connect(site, port, sslmode="require") as conn:
        await conn.execute("DELETE FROM notes")
        await conn.execute("INSERT INTO notes VALUES (1, %s)", ("through two legs",))
        rows = await (await conn.execute("SELECT id FROM notes WHERE body = %s", ("through two legs",))).fetchall()
        assert rows == [(1,)]
    with site.server.connect(site.sealed) as direct:
        row = direct.execute("SELECT body FROM notes").fetchone()
    assert row is not None
    assert isinstance(row[0], bytes)
    assert b"legs" not in row[0]


async def test_a_protected_column_where_the_proxy_lets_clients_in(site: Site, papers: Papers) -> None:
    """Mode scram, another certificate on each leg; the service role was granted what docs/authentication-tls.md says."""
    with site.server.connect(site.sealed) as direct:
        grant = f"GRANT SELECT (rolname, rolpassword, rolvaliduntil) ON pg_catalog.pg_authid TO {site.service}"
        direct.execute(grant.encode())
    settings = tls_site(site, papers, tls=door(papers.proxy), auth={"mode": "scram"})
    async with serving(settings) as (_, port):
        async with await connect(site, port, sslmode="require", channel_binding="require") as conn:
            await conn.execute("DELETE FROM notes")
            await conn.execute("INSERT INTO notes VALUES (2, %s)", ("the proxy let me in",))
            rows = await (await conn.execute("SELECT id, body FROM notes WHERE body = %s", ("the proxy let me in",))).fetchall()
            assert rows == [(2, "the proxy let me in")]
        wrong = psycopg.conninfo.make_conninfo(dsn(site, port, sslmode="require"), password="wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await psycopg.AsyncConnection.connect(wrong)
    with site.server.connect(site.sealed) as direct:
        row = direct.execute("SELECT body FROM notes").fetchone()
    assert row is not None
    assert isinstance(row[0], bytes)
    assert b"let me in" not in row[0]


def tls_site(site: Site, papers: Papers, **changes: Any) -> Settings:
    """Return the settings of a site with TLS on both legs and one certificate."""
    sections = {"tls": door(papers.server), "upstream": upstream(site.server, papers, "verify-full"), **changes}
    return site_settings(site, **sections)


async def test_the_service_login_checks_the_server_too(site: Site, papers: Papers) -> None:
    """A proxy that cannot trust its server does not start."""
    wrong = {**upstream(site.server, papers, "verify-full"), "ca_file": str(papers.stranger.certificate)}
    settings = tls_site(site, papers, upstream=wrong)
    with pytest.raises(ConfigError, match="certificate verify failed"):
        async with Proxy(settings, load_policies(settings)):
            pass


async def test_a_client_that_checks_the_proxy(secure: PostgresServer, papers: Papers, tmp_path: Path) -> None:
    """verify-full at the client is about the proxy's certificate: its name, its authority."""
    misnamed = papers.authority.issue("misnamed", names=["proxy.example.org"])
    for pair, root, accepted in (
        (papers.proxy, papers.authority, True),
        (papers.proxy, papers.stranger, False),
        (misnamed, papers.authority, False),
    ):
        async with serving(bare_settings(secure, tls=door(pair))) as (_, port):
            conninfo = dsn(secure, port, sslmode="verify-full", sslrootcert=str(root.certificate))
            if accepted:
                await (await psycopg.AsyncConnection.connect(conninfo)).close()
            else:
                with pytest.raises(psycopg.OperationalError, match=r"certificate verify failed|does not match host name"):
                    await psycopg.AsyncConnection.connect(conninfo)


def in_clear(server: PostgresServer) -> bool:
    """Tell whether the server takes a connection without TLS."""
    try:
        psycopg.connect(server.dsn(), sslmode="disable").close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def only_tls(secure: PostgresServer) -> Iterator[None]:
    """Let pg_hba.conf take connections with TLS only."""
    with secure.connect() as conn:
        row = conn.execute("SHOW hba_file").fetchone()
        assert row is not None
        hba = Path(str(row[0]))
        before = hba.read_text()
        hba.write_text("hostssl all all all scram-sha-256\n")
        conn.execute("SELECT pg_reload_conf()")
    until(lambda: not in_clear(secure), "the server has not read its files")
    yield
    hba.write_text(before)
    with psycopg.connect(secure.dsn(), sslmode="require", autocommit=True) as conn_tls:
        conn_tls.execute("SELECT pg_reload_conf()")
    until(lambda: in_clear(secure), "the server has not read its files")


@pytest.mark.usefixtures("only_tls")
async def test_pg_hba_may_demand_tls_of_the_proxy(secure: PostgresServer, papers: Papers) -> None:
    """The server's own refusal reaches the client whole, and nothing of it is the proxy's."""
    async with serving(bare_settings(secure, upstream=upstream(secure, papers, "disable"))) as (_, port):
        with pytest.raises(psycopg.OperationalError, match="no encryption"):
            await connect(secure, port)
    async with serving(bare_settings(secure, upstream=upstream(secure, papers, "require"))) as (_, port):
        await (await connect(secure, port)).close()
