"""Is there a pooler before PostgreSQL that gives each transaction another server connection?

Then nothing that the proxy knows of a session would hold: its search path, its settings, its prepared statements. Such a pooler
belongs before phiproxy, not behind it.
"""

import asyncio
import secrets
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from phiproxy.errors import ConfigError
from phiproxy.net.service_login import service_conninfo
from phiproxy.policy.settings import Settings

_ROUNDS = 3
_PATIENCE = 2.0

WHY = (
    "upstream.address is a pooler that changes server connections between transactions (pool_mode = transaction or statement),"
    " so that what a session has set, prepared or made would be another's"
)
HINT = "Use pool_mode = session there, name PostgreSQL itself, or put the pooler in front of phiproxy."


async def refuse_transaction_pooling(settings: Settings, database: str) -> bool:
    """ConfigError where connections through ``upstream.address`` do not keep their server connection.

    A pooler in session mode does. False: the service login cannot come that way, and nothing is known.
    """
    direct = settings.model_copy(update={"service": settings.service.model_copy(update={"address": None})})
    parameters = conninfo_to_dict(service_conninfo(direct, database))
    parameters.pop("options", None)  # which poolers do not take
    try:
        async with await _connect(parameters) as one:
            if await _keeps_its_backend(one):
                return True
            async with await _connect(parameters) as other:
                pooled = await _changes(one, other)
    except psycopg.Error:
        return False
    if pooled:
        raise ConfigError(WHY, hint=HINT)
    return True


async def _connect(parameters: dict[str, Any]) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect("", autocommit=True, prepare_threshold=None, **parameters)


async def _keeps_its_backend(conn: psycopg.AsyncConnection[Any]) -> bool:
    """Tell whether PostgreSQL itself is at the other end: a pooler makes up the process that it tells of."""
    return await _backend(conn) == conn.info.backend_pid


async def _backend(conn: psycopg.AsyncConnection[Any]) -> int:
    row = await (await conn.execute("SELECT pg_catalog.pg_backend_pid()")).fetchone()
    assert row is not None
    return int(row[0])


async def _changes(one: psycopg.AsyncConnection[Any], other: psycopg.AsyncConnection[Any]) -> bool:
    """Tell whether a connection comes to another backend while a second one has a transaction, or sees what that has set."""
    for _ in range(_ROUNDS):
        before = await _backend(one)
        mark = secrets.token_hex(8)
        await other.execute("SELECT pg_catalog.set_config('phiproxy.pooled', %s, false)", (mark,))
        row = await (await one.execute("SELECT pg_catalog.current_setting('phiproxy.pooled', true)")).fetchone()
        try:
            await other.execute("BEGIN")
        except psycopg.Error:
            return True  # in statement mode a pooler allows no transaction
        try:
            taken = await _backend(other)
            async with asyncio.timeout(_PATIENCE):
                now = await _backend(one)
        except TimeoutError:
            return True  # there is one server connection, and the other has it
        finally:
            await other.execute("ROLLBACK")
            await other.execute("RESET phiproxy.pooled")
        if now != before or taken == before or row == (mark,):
            return True
    return False
