"""A proxy in this process, small enough to start for each test; and what it must leave behind when it ends: nothing."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from phiproxy.app import Proxy
from phiproxy.demo import postgres
from phiproxy.net import tasks
from phiproxy.net.listener import Listener
from phiproxy.policy.load import load_settings
from phiproxy.policy.settings import Settings
from phiproxy.sql.policy_files import load_policies
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.tap import Tap

POLICY = """\
database: {database}
deployment: wire-test
tables:
  public.notes:
    columns:
      body: {type: text, indexes: [body], distinct: 1000000}
"""
DDL = """\
CREATE TABLE notes (id int PRIMARY KEY, body text);
CREATE TABLE plain (id int PRIMARY KEY, body text);
INSERT INTO plain SELECT n, 'row ' || n FROM generate_series(1, %d) n;
"""


@contextmanager
def wire_site(server: PostgresServer, directory: Path, *, rows: int = 20_000) -> Iterator[Site]:
    """One protected column, and many rows with nothing protected in them; no proxy is started."""
    with open_site(server, directory, policy=POLICY, ddl=DDL % rows, serve=False) as site:
        config = site.config.read_text().replace(f"127.0.0.1:{site.tap.port}", f"{server.host}:{server.port}")
        site.config.write_text(config)  # past the tap, whose memory would grow with every row
        yield site


def bare_settings(server: PostgresServer, **sections: Any) -> Settings:
    """Return settings without policies: every database passes through."""
    upstream = {"address": f"{server.host}:{server.port}", "tls": "disable", **sections.pop("upstream", {})}
    plain = {"listen": "127.0.0.1:0", "policies": [], "metrics": None, "upstream": upstream, **sections}
    return Settings.model_validate(plain)


def site_settings(site: Site, **sections: Any) -> Settings:
    """Return the settings of a site, on a port of their own, with some sections changed."""
    settings = load_settings(site.config)
    changed = {"listen": ("127.0.0.1:0",), "metrics": None, **sections}
    parsed = Settings.model_validate(changed)
    return settings.model_copy(update={name: getattr(parsed, name) for name in changed})


def listener_of(proxy: Proxy) -> Listener:
    """Return the listener of a proxy that runs."""
    assert proxy._listener is not None
    return proxy._listener


async def until(condition: Callable[[], bool], what: str, within: float = 120) -> None:
    """Wait until something holds; the failure says what did not."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Proxy, int]]:
    """Run a proxy; yields it with its port. Once the clients are gone no task, client, relay or socket of theirs may be left."""
    proxy = Proxy(settings, load_policies(settings))
    before = tasks.running()
    async with proxy:
        listener = listener_of(proxy)
        at_rest, sockets = tasks.running(), open_sockets()
        yield proxy, proxy.addresses[0].port
        await until(lambda: listener.clients == 0, f"{listener.clients} clients are left")
        assert not listener.relays
        await until(lambda: tasks.running() <= at_rest, "tasks of clients are left")
        await until(lambda: open_sockets() <= sockets + pooled(proxy), "sockets of clients are left")
    await until(lambda: tasks.running() <= before, "tasks of the proxy are left")


def pooled(proxy: Proxy) -> int:
    """Return how many connections the service pools may open on their own while a test runs."""
    return 4 * len(proxy.databases) + (proxy._auth is not None)


def open_sockets() -> int:
    """Count this process's sockets (0 where the system does not tell), but for those that are no proxy's.

    Some only keep a port from others. Those of taps come and go with the connections of proxies in other processes.
    """
    gc.collect()
    others, count = {*postgres._kept, *Tap.descriptors()}, 0
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            count += str(entry.readlink()).startswith("socket:") and int(entry.name) not in others
        except OSError:
            continue
    return count


def dsn(site_or_server: Site | PostgresServer, port: int, database: str | None = None, **options: str) -> str:
    """Return a connection string through a proxy on this port: a site's application role, or the superuser."""
    if isinstance(site_or_server, Site):
        user, password = site_or_server.role, site_or_server.password
        database = database or site_or_server.sealed
    else:
        user, password = site_or_server.superuser, site_or_server.password
    given = {"sslmode": "disable", "gssencmode": "disable", "connect_timeout": "120", **options}
    return psycopg.conninfo.make_conninfo(
        "", host="127.0.0.1", port=port, user=user, password=password, dbname=database or "postgres", **given
    )


async def connect(site_or_server: Site | PostgresServer, port: int, database: str | None = None, **options: str) -> Connection:
    """Log in through a proxy, autocommit."""
    return await psycopg.AsyncConnection.connect(dsn(site_or_server, port, database, **options), autocommit=True)


Connection = psycopg.AsyncConnection[Any]


async def asleep(server: PostgresServer, conn: Connection) -> None:
    """Wait until the server is in the pg_sleep that this session has asked for."""
    await until(lambda: server.sleeps(conn.info.backend_pid), "the query does not begin")


def backends(server: PostgresServer, marker: str) -> int:
    """Count the backends whose application_name is this."""
    with server.administration() as conn:
        row = conn.execute("SELECT count(*)::int FROM pg_stat_activity WHERE application_name = %s", (marker,)).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


def buffered(proxy: Proxy) -> int:
    """Return what the relays of a proxy keep for either leg."""
    total = 0
    for relay in listener_of(proxy).relays:
        total += relay.session.client_frames.pending + relay.session.server_frames.pending
        for leg in (relay.client, relay.server):
            if leg.transport is not None and not leg.transport.is_closing():
                total += leg.transport.get_write_buffer_size()
    return total
