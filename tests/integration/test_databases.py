"""A database with a policy keeps its name and is copied by nobody, whatever database the client is in."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import wire_site


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with wire_site(postgres_server, tmp_path_factory.mktemp("databases"), rows=1) as site:
        site.proxy.start()
        yield site


def names(site: Site) -> set[str]:
    with site.server.connect() as conn:
        return {str(name) for (name,) in conn.execute("SELECT datname FROM pg_database")}


@pytest.mark.parametrize("unlisted", [True, False])
@pytest.mark.parametrize("prepare", [None, True])
def test_names_stay(site: Site, unlisted: bool, prepare: bool | None) -> None:
    """From a database without a policy, whose bytes else pass as they come, and from one with a policy."""
    statements = [
        f"ALTER DATABASE {site.sealed} RENAME TO moved",
        f"CREATE DATABASE copied TEMPLATE {site.sealed}",
        f"DO $$ BEGIN EXECUTE 'ALTER DATABASE {site.sealed} RENAME TO moved'; END $$",
    ]
    before = names(site)
    dsn = site.proxy.dsn("postgres" if unlisted else site.sealed, site.server.superuser, site.server.password)
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in statements:
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="keeps its name") as caught:
                conn.execute(statement.encode(), prepare=prepare)
            assert "past the proxy" in str(caught.value.diag.message_hint)
            assert conn.execute("SELECT 1", prepare=prepare).fetchone() == (1,)
        conn.execute("BEGIN")
        conn.execute("CREATE TEMP TABLE rolled_back ()")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute(f"SELECT 1; {statements[0]}".encode())
        conn.execute("ROLLBACK")
        assert conn.execute("SELECT to_regclass('rolled_back')").fetchone() == (None,)
        with conn.pipeline() as pipeline:
            one, two = conn.execute("SELECT 1"), conn.execute(statements[0].encode())
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                pipeline.sync()
            assert one.fetchone() == (1,)
            assert two.pgresult is None or two.pgresult.status != psycopg.pq.ExecStatus.COMMAND_OK
        conn.execute("CREATE DATABASE free_copy TEMPLATE template0", prepare=prepare)
        conn.execute("ALTER DATABASE free_copy RENAME TO free_name", prepare=prepare)
        conn.execute("DROP DATABASE free_name", prepare=prepare)
    assert names(site) == before


def test_long_texts_and_data_of_others_pass(site: Site) -> None:
    """In pieces, as they come from the socket: texts are held until they are whole."""
    text = "SELECT length('" + "ä" * 300_000 + "'), 'no database'"
    with psycopg.connect(site.proxy.dsn("postgres", site.server.superuser, site.server.password), autocommit=True) as conn:
        assert conn.execute(text.encode()).fetchone() == (300_000, "no database")
        assert conn.execute("SELECT length(%s)", ("ö" * 200_000,)).fetchone() == (200_000,)
        conn.execute("CREATE TEMP TABLE rows (a text)")
        with conn.cursor() as cursor, cursor.copy("COPY rows FROM STDIN") as copy:
            for _ in range(100):
                copy.write("create database, alter database rename\n" * 1000)
        assert conn.execute("SELECT count(*) FROM rows").fetchone() == (100_000,)
