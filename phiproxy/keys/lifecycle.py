"""``keys init``.

Makes the registry, registers identities and slots, makes the first keys; running it twice changes nothing.

One transaction under an advisory lock, so that two processes that initialise at once do it one after the other, and a
failure leaves nothing half made. Table locks come last: no KMS call is waited for under them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from phiproxy.errors import ConfigError
from phiproxy.index.collations import needs_characters
from phiproxy.keys import collation, identities
from phiproxy.keys.emptied import activate_slots
from phiproxy.keys.provider import KeyProvider, Purpose
from phiproxy.keys.registry import (
    TRANSACTION,
    Connection,
    as_provider_error,
    insert_data_key,
    insert_root,
    record_event,
    select_active_key,
    select_data_keys,
    select_root,
)
from phiproxy.keys.roots import CacheLimits, RootCache
from phiproxy.keys.rows import RootRow, is_authentic, new_data_key
from phiproxy.keys.schema import FOREIGN_PRIVILEGES, FORMAT, create_members, create_schema, create_tables, table
from phiproxy.keys.tenants import new_root_key
from phiproxy.policy.layout import WantedIdentity


@dataclass(frozen=True, slots=True)
class Done:
    """One thing that ``init`` did: ``what`` it made and of which ``subject``, for people to read."""

    what: str
    subject: str


async def init(
    conn: Connection,
    wanted: Sequence[WantedIdentity],
    deployment: str,
    provider: KeyProvider,
    *,
    schema: str = "phiproxy",
    tenants: Iterable[str] = ("",),
    max_uses: int = 1_000_000,
) -> list[Done]:
    """Bring the registry to what the policy wants, and return what was done: an empty list when nothing was missing.

    ``conn`` is the service role's, outside a transaction. Raises ConfigError when the registry and the policy
    contradict each other or the role lacks a privilege, ProviderError when a root key cannot be wrapped or an
    existing one not be unwrapped. Nothing is changed then.
    """
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise ValueError("init needs a connection outside a transaction")
    try:
        async with conn.transaction():
            await conn.execute(TRANSACTION)
            return await _init(conn, wanted, deployment, provider, schema, tuple(tenants), max_uses)
    except psycopg.errors.InsufficientPrivilege as error:
        where = error.diag.table_name or error.diag.schema_name or "the database"
        raise ConfigError(
            f"the service role lacks a privilege on {where} for keys init",
            hint="it needs CREATE on the database, and SELECT and UPDATE on the protected tables",
        ) from None
    except psycopg.Error as error:
        raise as_provider_error(error, schema) from None


async def _init(
    conn: Connection,
    wanted: Sequence[WantedIdentity],
    deployment: str,
    provider: KeyProvider,
    schema: str,
    tenants: Sequence[str],
    max_uses: int,
) -> list[Done]:
    lock = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(%s, 0))"
    await conn.execute(lock, (f"phiproxy {schema}",))
    done = await _ensure_tables(conn, schema, deployment)
    await _refuse_foreign_privileges(conn, schema)
    registered = await identities.register(conn, schema, wanted)
    done += [Done(what, subject) for what, subject in registered.done]
    for scope in registered.scopes:
        for tenant in tenants:
            done += await _ensure_keys(conn, schema, (scope, tenant), deployment, provider, max_uses)
    indexed = any(needs_characters(e, w.indexed_as) for w in wanted for e in w.expressions)
    done += [Done(what, subject) for what, subject in await collation.record(conn, schema, indexed=indexed)]
    done += [Done(what, subject) for what, subject in await identities.add_slots(conn, schema, registered)]
    done += [Done(what, subject) for what, subject in await activate_slots(conn, schema, registered)]
    if done:
        query = sql.SQL("UPDATE {} SET epoch = epoch + 1").format(table(schema, "meta"))
        await conn.execute(query)
    return done


async def _ensure_tables(conn: Connection, schema: str, deployment: str) -> list[Done]:
    """Make schema and tables unless they are there; ConfigError for another format or deployment."""
    done = []
    # CREATE SCHEMA IF NOT EXISTS needs the privilege to create one even where it exists; a DBA may have made it for us.
    found = await conn.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,))
    if await found.fetchone() is None:
        await conn.execute(create_schema(schema))
    tables = await conn.execute(
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = 'meta'",
        (schema,),
    )
    if await tables.fetchone() is None:
        await conn.execute(create_tables(schema))
        query = sql.SQL("INSERT INTO {} (format, deployment) VALUES (%s, %s)").format(table(schema, "meta"))
        await conn.execute(query, (FORMAT, deployment))
        await record_event(conn, schema, "registry made", schema, (None, deployment))
        done.append(Done("registry made", schema))
    else:
        await conn.execute(create_members(schema))
    query = sql.SQL("SELECT format, deployment FROM {}").format(table(schema, "meta"))
    meta = await (await conn.execute(query)).fetchone()
    if meta is None or meta[0] != FORMAT:
        raise ConfigError(f"schema {schema} holds no key registry of format {FORMAT}")
    if meta[1] != deployment:
        raise ConfigError(
            f"the key registry in schema {schema} belongs to deployment {meta[1]}, the policy says {deployment}",
            hint="the deployment is bound into every stored value; write the registry's into the policy",
        )
    return done


async def _refuse_foreign_privileges(conn: Connection, schema: str) -> None:
    """ConfigError when anybody but the service role owns or may use a part of the registry."""
    row = await (await conn.execute(FOREIGN_PRIVILEGES, {"schema": schema})).fetchone()
    if row is not None:
        raise ConfigError(
            f"role {row[1]} owns or has a privilege on {row[0]} of the key registry",
            hint="it belongs to the service role alone: ALTER ... OWNER, REVOKE, and look at default privileges",
        )


async def _ensure_keys(
    conn: Connection,
    schema: str,
    owner: tuple[str, str],
    deployment: str,
    provider: KeyProvider,
    max_uses: int,
) -> list[Done]:
    """Make data root, first data key and index root of a (scope, tenant), or see that the KEK still opens them."""
    done: list[Done] = []
    scope, tenant = owner
    of_whom = f"{scope}, tenant {tenant}" if tenant else scope
    purposes: tuple[Purpose, ...] = ("data", "index")
    for purpose in purposes:
        row = await select_root(conn, schema, (scope, tenant, purpose))
        if row is None:
            row = RootRow(0, scope, tenant, purpose, 1, "active", ())
            secret, wrapped = await new_root_key(provider, row, deployment)
            root_id = await insert_root(conn, schema, row, provider.uri, wrapped)
            if root_id is None:
                raise ConfigError(
                    f"the registry has {purpose} root keys of {of_whom}, but no active one",
                    hint="phiproxy never leaves it so: see docs/restore-the-registry.md",
                )
            done.append(Done(f"{purpose} root key made", of_whom))
        else:
            # A registry and a KEK that do not belong together are found here, not at the first value.
            root_id = row.id
            cache = RootCache(provider, deployment, CacheLimits(), lambda: 0.0)
            secret = (await cache.get(row, stale_ok=False)).secret
        if purpose == "data":
            active = await select_active_key(conn, schema, root_id)
            if active is None:
                newest = max((k.generation for k in await select_data_keys(conn, schema, root_id)), default=0)
                while not await insert_data_key(conn, schema, new_data_key(secret, root_id, newest + 1, max_uses)):
                    pass  # the random id of 32 bits was taken; under our lock nothing else can be
                done.append(Done("data key made", of_whom))
            elif not is_authentic(secret, active):
                raise ConfigError(f"data key {active.id} is not authentic in the registry")
    return done
