"""From the settings to an engine that runs: what a supervisor calls once for all workers, or a proxy of one process for itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from phiproxy.engine import locked_down
from phiproxy.engine.access import ADMINISTRATOR, Access, random_credentials
from phiproxy.engine.cluster import TEMPORARY_FILES, Cluster
from phiproxy.engine.databases import connect, drop_all
from phiproxy.errors import ConfigError
from phiproxy.policy.settings import EMBEDDED, Compute

_SOCKET = ".s.PGSQL."
# Libraries that keep statements whatever the settings of a role are.
_KEEPING = frozenset({"auto_explain", "pg_stat_statements", "pg_stat_monitor", "pgaudit"})
_QUERY = """
SELECT n.name, pg_catalog.current_setting(n.name)
  FROM (VALUES ('listen_addresses'), ('shared_preload_libraries')) AS n (name)
"""


@asynccontextmanager
async def running_engine(compute: Compute, *, major: int = 0) -> AsyncIterator[Access | None]:
    """Give what reaches the engine while this is open, None where it is off; ``major``: the server's version, looked for first.

    ConfigError, or another PhiproxyError, where it cannot be as configured.
    """
    if compute.engine == EMBEDDED:
        cluster = Cluster(compute, major=major)
        await cluster.start()
        try:
            yield cluster.access
        finally:
            await cluster.stop()
    elif compute.socket is not None:
        access = await prepare_own(compute, compute.socket)
        try:
            yield access
        finally:
            await drop_all(access)
    else:
        yield None


async def prepare_own(compute: Compute, socket: Path) -> Access:
    """Make the role in a PostgreSQL of the operator's own, and drop what a proxy before this one has left there.

    ConfigError where the login is not a superuser's, or the server would keep what it computes.
    """
    password = compute.password.reveal() if compute.password is not None else None
    port = int(socket.name.removeprefix(_SOCKET))
    access = Access(str(socket.parent), port, compute.user or ADMINISTRATOR, password, random_credentials())
    async with connect(access) as conn:
        await _judge(conn, access.administrator)
        await drop_all(access)
        statements = locked_down.make_role(access.verifier, TEMPORARY_FILES * compute.limits.bytes)
        for statement in (*locked_down.lock_maintenance(), *statements):
            await conn.execute(statement)
    return access


async def _judge(conn: psycopg.AsyncConnection[Any], administrator: str) -> None:
    if conn.info.parameter_status("is_superuser") != "on":
        raise ConfigError(f"compute.user {administrator} is no superuser of the engine")
    settings: dict[str, str] = dict(await (await conn.execute(_QUERY)).fetchall())
    if settings["listen_addresses"]:
        raise ConfigError("the engine of compute.engine listens on a network address: it must have listen_addresses = ''")
    keeping = sorted({name.strip() for name in settings["shared_preload_libraries"].split(",")} & _KEEPING)
    if keeping:
        raise ConfigError(f"the engine of compute.engine loads {', '.join(keeping)}, which would keep what it computes")
