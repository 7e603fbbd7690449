"""The proxy's own login."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from phiproxy.errors import ConfigError
from phiproxy.net.service_login import connect_service, service_conninfo, service_pool
from phiproxy.policy.settings import Settings
from tests.harness.server import PostgresServer
from tests.net.serving import until


def read(**data: Any) -> Settings:
    return Settings.model_validate(data, context={"base": Path("/etc/phiproxy")})


def conninfo(**data: Any) -> dict[str, Any]:
    return dict(conninfo_to_dict(service_conninfo(read(**data), "clinic")))


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", "pass word'\\")


def test_defaults() -> None:
    found = conninfo(upstream={"ca_file": "ca.pem"})
    assert found == {
        "host": "127.0.0.1",
        "port": "5432",
        "user": "phiproxy",
        "password": "pass word'\\",
        "dbname": "clinic",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/phiproxy/ca.pem",
        "keepalives_idle": "60",
        "keepalives_interval": "10",
        "keepalives_count": "6",
        "connect_timeout": "10",
        "application_name": "phiproxy",
        "client_encoding": "UTF8",
        "options": "-c search_path=pg_catalog -c standard_conforming_strings=on",
    }


@pytest.mark.parametrize("level", ["disable", "prefer", "require"])
def test_unverified_levels_name_no_authorities(level: str) -> None:
    found = conninfo(upstream={"tls": level})
    assert found["sslmode"] == level
    assert "sslrootcert" not in found


def test_the_system_authorities() -> None:
    assert conninfo()["sslrootcert"]


def test_addresses() -> None:
    found = conninfo(upstream={"address": ["a:1", "unix:/run/pg/.s.PGSQL.5433"]})
    assert (found["host"], found["port"]) == ("a,/run/pg", "1,5433")
    found = conninfo(upstream={"address": "pooler:6543"}, service={"address": "db:5432"})
    assert (found["host"], found["port"]) == ("db", "5432")
    with pytest.raises(ConfigError, match=r"is named /directory/\.s\.PGSQL\.PORT"):
        conninfo(upstream={"address": "unix:/run/pg/socket"})


def test_a_missing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHIPROXY_SERVICE_PASSWORD")
    with pytest.raises(ConfigError, match="PHIPROXY_SERVICE_PASSWORD is not set"):
        conninfo()
    assert "password" not in conninfo(service={"password": None})


async def test_the_service_connects(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", postgres_server.password)
    settings = read(
        upstream={"address": f"{postgres_server.host}:{postgres_server.port}", "tls": "disable"},
        service={"user": postgres_server.superuser},
    )
    async with service_pool(settings, "postgres") as pool, pool.connection() as conn:
        cursor = await conn.execute("SELECT current_setting('search_path'), current_setting('application_name')")
        assert await cursor.fetchone() == ("pg_catalog", "phiproxy")
        assert conn.autocommit
        assert pool.reconnect_timeout == settings.upstream.connect_timeout, "it would be waited for long after the server is back"
    async with await connect_service(settings, "postgres") as single:
        assert single.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_a_failure_says_who_and_where(postgres_server: PostgresServer) -> None:
    settings = read(upstream={"address": f"{postgres_server.host}:{postgres_server.port}", "tls": "disable"})
    with pytest.raises(ConfigError, match=r"cannot connect as service\.user 'phiproxy' to database 'nowhere' at") as caught:
        await connect_service(settings, "nowhere")
    assert "pass word" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_what_is_cancelled_while_it_connects_leaves_nothing_open(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever moment, and though the task and its traceback are kept."""
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", postgres_server.password)
    upstream = {"address": f"{postgres_server.host}:{postgres_server.port}", "tls": "disable"}
    settings = read(upstream=upstream, service={"user": postgres_server.superuser})
    kept = []
    with postgres_server.connect() as conn:

        def open_sessions() -> int:
            query = "SELECT FROM pg_stat_activity WHERE application_name = 'phiproxy' AND datname = 'postgres'"
            return len(conn.execute(query).fetchall())

        for moment in range(100):
            connecting = asyncio.create_task(connect_service(settings, "postgres"))
            await asyncio.sleep(moment * 0.0003)
            connecting.cancel()
            await asyncio.wait([connecting])
            kept.append(connecting)
            if not connecting.cancelled():
                await connecting.result().close()
        await until(lambda: not open_sessions(), "a session is left")
