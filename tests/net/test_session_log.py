"""A line for each connection, failed login and refused statement, as an operator reads them of a real proxy."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import psycopg
import pytest

from phiproxy.net.session_log import MAX_SHAPES, OTHER, Tallies, peer_of, shape_digest
from tests.harness.proxy import ProxyUnderTest
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import wire_site

SECRET = "123-45-6789"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with wire_site(postgres_server, tmp_path_factory.mktemp("session-log"), rows=10) as site:
        yield site


def lines(proxy: ProxyUnderTest, event: str) -> list[dict[str, object]]:
    """Every line of the log is JSON; return those of one event."""
    told = [json.loads(line) for line in proxy.log_path.read_text().splitlines()]
    return [line for line in told if line["event"] == event]


def test_what_is_told_of_connections_and_refusals(site: Site) -> None:
    proxy = site.another_proxy("told")
    proxy.config.write_text(proxy.config.read_text().replace("level: debug", "level: info"))
    with proxy:
        with psycopg.connect(site.proxy_dsn.replace(str(site.proxy.port), str(proxy.port)), autocommit=True) as conn:
            here = conn.pgconn.socket
            with socket.socket(fileno=socket.dup(here)) as own:
                address = "{}:{}".format(*own.getsockname()[:2])
            for statement in (
                f"SELECT upper(body) FROM notes WHERE body = '{SECRET}' -- {SECRET}",
                f"SELECT body || '{SECRET}' FROM notes",
            ):
                with pytest.raises(psycopg.errors.FeatureNotSupported):
                    conn.execute(statement.encode())
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                conn.execute("SELECT lower(body) FROM notes WHERE id = %s", (1,))
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(proxy.dsn(site.sealed, site.role, "wrong"))
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(proxy.dsn("nowhere", site.role, site.password))
    (connected,) = lines(proxy, "client connected")
    about = {"client": address, "database": site.sealed, "user": site.role}
    assert {key: connected[key] for key in (*about, "level", "tls")} == {**about, "level": "info", "tls": False}
    refused = lines(proxy, "statement refused")
    assert [line["shape"] for line in refused] == [
        "SELECT upper(body) FROM notes WHERE body = ?",
        "SELECT body || ? FROM notes",
        "SELECT lower(body) FROM notes WHERE id = $1",
    ]
    assert {(line["client"], line["database"], line["user"], line["sqlstate"]) for line in refused} == {(*about.values(), "0A000")}
    assert all(line["digest"] == shape_digest(str(line["shape"])) for line in refused)
    failed = lines(proxy, "login failed")
    assert [(line["sqlstate"], line["level"], line["database"]) for line in failed] == [
        ("28P01", "warning", site.sealed),
        ("3D000", "warning", "nowhere"),
    ]
    assert all(str(line["client"]).startswith("127.0.0.1:") for line in failed)
    assert SECRET not in proxy.log_path.read_text()


def test_a_connection_that_the_proxy_does_not_let_in(site: Site) -> None:
    proxy = site.another_proxy("full")
    proxy.config.write_text(proxy.config.read_text() + "limits: {max_clients: 1}\nunlisted_databases: refuse\n")
    dsn = proxy.dsn(site.sealed, site.role, site.password)
    with proxy, psycopg.connect(dsn), pytest.raises(psycopg.OperationalError, match="too many clients"):
        psycopg.connect(dsn)
    (line,) = lines(proxy, "connection refused")
    assert (line["sqlstate"], line["user"], line["level"]) == ("53300", site.role, "info")


def test_a_proxy_that_authenticates_says_why(site: Site) -> None:
    """The client is told nothing of it: whoever tries passwords must not learn which roles there are."""
    proxy = site.another_proxy("scram")
    proxy.config.write_text(proxy.config.read_text() + "auth: {mode: scram}\n")
    site.server.create_role("told_nobody", "x")
    with site.server.connect() as conn:
        conn.execute(f'GRANT pg_read_all_data TO "{site.service}"; ALTER ROLE "{site.service}" SUPERUSER')
        conn.execute("DROP ROLE told_nobody")
    with proxy:
        for user in (site.role, "told_nobody"):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(proxy.dsn(site.sealed, user, "wrong"))
    failed = lines(proxy, "login failed")
    assert [(line["user"], line["sqlstate"]) for line in failed] == [(site.role, "28P01"), ("told_nobody", "28P01")]
    assert failed[0]["why"] == "wrong password"
    assert failed[1]["why"] not in ("wrong password", "")
    assert all(str(line["client"]).startswith("127.0.0.1:") for line in failed)


def test_shapes_are_bounded() -> None:
    tallies = Tallies()
    for number in range(MAX_SHAPES + 50):
        tallies.refused(f"{number:08x}")
    tallies.refused("00000000")
    assert len(tallies.shapes) == MAX_SHAPES + 1
    assert tallies.shapes[OTHER] == 50
    assert tallies.shapes["00000000"] == 2


def test_where_a_client_is() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_of(one) == "unix"
    with socket.socket(socket.AF_INET6) as listening, socket.socket(socket.AF_INET6) as client:
        listening.bind(("::1", 0))
        listening.listen()
        client.connect(listening.getsockname())
        with listening.accept()[0] as served:
            assert peer_of(served) == f"[::1]:{client.getsockname()[1]}"
    with socket.socket() as nobody:
        assert peer_of(nobody) == "gone"
    assert shape_digest(None) == "unread"
