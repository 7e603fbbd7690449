"""``keys init``: makes the registry, registers identities and slots, makes the first keys; running it twice changes nothing.

A registry of an older version is authenticated: every row is taken into the manifests as it is, under a registry key that is made
now. One transaction under an advisory lock, so that two processes that initialise at once do it one after the other, and a failure
leaves nothing half made. Table locks come last: no KMS call is waited for under them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from phiproxy.errors import ConfigError, NotAuthentic, ProviderDenied, ProviderMisconfigured
from phiproxy.index.collations import needs_characters
from phiproxy.keys import identities, registered_collation
from phiproxy.keys.anchoring import (
    SCOPE,
    checked_key,
    establish,
    has_table,
    is_authenticated,
    registry_root,
    select_registry_root,
    verify,
)
from phiproxy.keys.authenticated_tables import Connection
from phiproxy.keys.clear_columns import allow_clear, forbid_clear, record_asked, record_filled
from phiproxy.keys.key_rows import RootRow, is_authentic, new_data_key
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.manifest import RegistryKey
from phiproxy.keys.new_tenants import new_root_key
from phiproxy.keys.provider import AUDIT_SCOPE, KeyProvider, Purpose
from phiproxy.keys.registry import (
    as_provider_error,
    insert_data_key,
    insert_root,
    record_event,
    select_data_keys,
    select_root,
    select_roots,
)
from phiproxy.keys.registry_checked_on_read import CHANGING, Change, Trust
from phiproxy.keys.registry_locks import PATIENCE, attempts, holders
from phiproxy.keys.registry_schema import (
    FOREIGN_PRIVILEGES,
    FORMAT,
    create_members,
    create_schema,
    create_tables,
    table,
    upgrade_tables,
)
from phiproxy.keys.root_cache import CacheLimits, RootCache, unwrap_root
from phiproxy.keys.serving_proxies import live_proxies
from phiproxy.keys.slot_activation import activate_slots
from phiproxy.policy.registry_layout import WantedIdentity


@dataclass(frozen=True, slots=True)
class Done:
    """One thing that ``init`` did: ``what`` it made and of which ``subject``, for people to read."""

    what: str
    subject: str


@dataclass(frozen=True, slots=True)
class Initialised:
    """What ``init`` did, in its order, and the fingerprint of the registry key, which the configuration is to pin."""

    done: list[Done]
    anchor: str


async def init(  # noqa: PLR0913 - the options of a command
    conn: Connection,
    wanted: Sequence[WantedIdentity],
    deployment: str,
    provider: KeyProvider,
    *,
    schema: str = "phiproxy",
    max_uses: int = 1_000_000,
    anchor: str | None = None,
    clear: Sequence[identities.Name] = (),
    audit: bool = False,
) -> Initialised:
    """Bring the registry to what the policy wants, and return what was done: nothing when nothing was missing.

    ``conn`` is the service role's, outside a transaction. ``anchor`` is what the configuration pins, if it does: another registry
    than that one, and one that has lost what authenticates it, is refused. ``clear`` are columns that are registered already and
    that the operator says to hold plaintext; those of filled tables that are new are recorded as such without being told.
    ``audit``: with the root key of an audit log.

    Raises ConfigError when the registry and the policy contradict each other or the role lacks a privilege, NotAuthentic when a row
    of the registry does not verify, ProviderError when a root key cannot be wrapped or an existing one not be unwrapped. Nothing is
    changed then.
    """
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise ValueError("init needs a connection outside a transaction")
    try:
        await _refuse_faults(conn, schema, deployment, provider, anchor)
        async for lock_timeout in attempts():
            try:
                async with conn.transaction():
                    await conn.execute(CHANGING)
                    await conn.execute(lock_timeout)
                    return await _init(conn, wanted, deployment, provider, schema, max_uses, anchor, clear, audit=audit)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                locked = await holders(conn, schema)
        raise ConfigError(
            f"{locked or 'others'} kept what keys init has to lock, in all attempts of {PATIENCE:.0f} s; nothing was changed",
            hint="protected tables that have no value yet, or lack tags, and the registry: pg_locks shows who has them locked",
        )
    except psycopg.errors.InsufficientPrivilege as error:
        where = error.diag.table_name or error.diag.schema_name or "the database"
        raise ConfigError(
            f"the service role lacks a privilege on {where} for keys init",
            hint="it needs CREATE on the database, and SELECT and UPDATE on the protected tables",
        ) from None
    except psycopg.Error as error:
        raise as_provider_error(error, schema) from None


async def _refuse_faults(conn: Connection, schema: str, deployment: str, provider: KeyProvider, anchor: str | None) -> None:
    """Raise NotAuthentic, naming each row, where a registry that is authenticated does not verify as a whole."""
    async with conn.transaction():
        if not await is_authenticated(conn, schema):
            return
        await _refuse_other_registry(conn, schema, deployment)
        root = await select_registry_root(conn, schema)
    if root is None:
        return  # of which ``_ensure_registry_key`` speaks
    trust = Trust(schema, await checked_key(provider, root, deployment, anchor))
    faults = await verify(trust, conn)
    if faults:
        lines = [f"the key registry is not authentic: {fault.what} {fault.why}" for fault in faults]
        raise NotAuthentic("\n".join(lines), hint="somebody has changed it past phiproxy: docs/restore-the-registry.md")


async def _init(  # noqa: PLR0913
    conn: Connection,
    wanted: Sequence[WantedIdentity],
    deployment: str,
    provider: KeyProvider,
    schema: str,
    max_uses: int,
    anchor: str | None,
    clear: Sequence[identities.Name],
    *,
    audit: bool,
) -> Initialised:
    done, new = await ensure_tables(conn, schema, deployment)
    await _refuse_foreign_privileges(conn, schema)
    key, first = await _ensure_registry_key(conn, schema, deployment, provider, anchor, new=new)
    done += first
    change = Change(Trust(schema, key), conn)
    registered = await identities.register(change, wanted)
    done += [Done(what, subject) for what, subject in registered.done]
    for scope in registered.scopes:
        done += await _ensure_keys(change, scope, deployment, provider, max_uses)
    if audit:
        done += await _ensure_keys(change, AUDIT_SCOPE, deployment, provider, max_uses, ("audit",))
    indexed = any(needs_characters(e, w.indexed_as) for w in wanted for e in w.expressions)
    done += [Done(what, subject) for what, subject in await registered_collation.record(change, indexed=indexed)]
    done += [Done(what, subject) for what, subject in await identities.add_slots(change, registered)]
    done += [Done(what, subject) for what, subject in await activate_slots(change, registered)]
    done += [Done(what, subject) for what, subject in await _clear_columns(change, registered, clear)]
    if done:
        query = sql.SQL("UPDATE {} SET epoch = epoch + 1").format(table(schema, "meta"))
        await conn.execute(query)
    await change.flush()
    return Initialised(done, key.anchor)


async def _clear_columns(
    change: Change, registered: identities.Registered, asked: Sequence[identities.Name]
) -> list[tuple[str, str]]:
    """Record which columns hold plaintext: of what is registered now for the first time, and what the operator names."""
    binary = [name for want in registered.wanted.values() if want.type_name == "bytea" for name in want.columns]
    before = (await read_layout(change.conn, change.schema)).clear
    moved = {old: name for old, name in registered.renamed.items() if old in before}
    await forbid_clear(change, moved)
    done = await allow_clear(change, moved.values())
    done += await record_filled(change, registered.new, binary)
    return done + await record_asked(change, asked)


async def _ensure_registry_key(
    conn: Connection, schema: str, deployment: str, provider: KeyProvider, anchor: str | None, *, new: bool
) -> tuple[RegistryKey, list[Done]]:
    """Unwrap the registry key; where there is none, make it and take all rows that are there into the manifests.

    ``new``: the tables were made by this transaction. Raises NotAuthentic where a registry has lost its key.
    """
    root = await select_registry_root(conn, schema)
    if root is not None:
        return await checked_key(provider, root, deployment, anchor), []
    if anchor is not None or await is_authenticated(conn, schema) is not new:
        what = "there is no registry" if new else "the registry is not authenticated (any more)"
        raise NotAuthentic(
            f"keys.anchor pins a registry of this database, but {what}" if anchor else "the key registry has lost its registry key",
            hint="restore it (docs/restore-the-registry.md), or remove the line of keys.anchor where a new one is wanted",
        )
    done = []
    if not new:
        await _refuse_live_proxies(conn, schema)
        await conn.execute(upgrade_tables(schema))
        await _refuse_unauthentic_keys(conn, schema, deployment, provider)
        done.append(Done("registry authenticated", schema))
    row = registry_root()
    secret, wrapped = await new_root_key(provider, row, deployment)
    key = RegistryKey(secret, deployment)
    await insert_root(Change(Trust(schema, key), conn), row, provider.uri, wrapped)
    await establish(conn, schema, key)
    return key, [*done, Done("registry key made", SCOPE)]


async def _refuse_live_proxies(conn: Connection, schema: str) -> None:
    """ConfigError while proxies of an older version may be at work: keys that they make would have no place in the manifests."""
    alive = await live_proxies(conn, schema)
    if alive:
        raise ConfigError(f"{alive} proxies serve this database", hint="stop them before its key registry is authenticated")


async def _refuse_unauthentic_keys(conn: Connection, schema: str, deployment: str, provider: KeyProvider) -> None:
    """Look at the MACs that format 1 has of its data keys, under every data root that this KEK opens."""
    for root in await select_roots(conn, schema, sql.SQL("t.purpose = 'data' AND t.state NOT IN ('retired', 'destroyed')"), ()):
        try:
            secret = await unwrap_root(provider, deployment, root)
        except (ProviderDenied, ProviderMisconfigured):
            continue  # a tenant's, under a KEK of its own, or one that is lost: nothing opens under it here
        for row in await select_data_keys(conn, schema, root.id):
            if not is_authentic(secret, row):
                raise NotAuthentic(f"data key {row.id:08x} is not authentic in the registry")


async def ensure_tables(conn: Connection, schema: str, deployment: str) -> tuple[list[Done], bool]:
    """Make schema and tables unless they are there, and say whether they were made; others who do so wait for this transaction.

    ConfigError for another format or deployment.
    """
    lock = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(%s, 0))"
    await conn.execute(lock, (f"phiproxy {schema}",))
    done = []
    # CREATE SCHEMA IF NOT EXISTS needs the privilege to create one even where it exists; a DBA may have made it for us.
    cursor = await conn.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,))
    if await cursor.fetchone() is None:
        await conn.execute(create_schema(schema))
    if not await has_table(conn, schema, "meta"):
        await conn.execute(create_tables(schema))
        query = sql.SQL("INSERT INTO {} (format, deployment) VALUES (%s, %s)").format(table(schema, "meta"))
        await conn.execute(query, (FORMAT, deployment))
        await record_event(conn, schema, "registry made", schema, (None, deployment))
        done.append(Done("registry made", schema))
    else:
        await conn.execute(create_members(schema))
    await _refuse_other_registry(conn, schema, deployment)
    return done, bool(done)


async def _refuse_other_registry(conn: Connection, schema: str, deployment: str) -> None:
    """ConfigError for another format or deployment."""
    query = sql.SQL("SELECT format, deployment FROM {}").format(table(schema, "meta"))
    meta = await (await conn.execute(query)).fetchone()
    if meta is None or meta[0] not in (1, FORMAT):
        raise ConfigError(f"schema {schema} holds no key registry of format {FORMAT}")
    if meta[1] != deployment:
        raise ConfigError(
            f"the key registry in schema {schema} belongs to deployment {meta[1]}, the policy says {deployment}",
            hint="the deployment is bound into every stored value; write the registry's into the policy",
        )


async def _refuse_foreign_privileges(conn: Connection, schema: str) -> None:
    """ConfigError when anybody but the service role owns or may use a part of the registry."""
    row = await (await conn.execute(FOREIGN_PRIVILEGES, {"schema": schema})).fetchone()
    if row is not None:
        raise ConfigError(
            f"role {row[1]} owns or has a privilege on {row[0]} of the key registry",
            hint="it belongs to the service role alone: ALTER ... OWNER, REVOKE, and look at default privileges",
        )


async def _ensure_keys(
    change: Change,
    scope: str,
    deployment: str,
    provider: KeyProvider,
    max_uses: int,
    purposes: tuple[Purpose, ...] = ("data", "index"),
) -> list[Done]:
    """Make root keys of a scope without tenants and the first data key, or see that the KEK still opens them."""
    done: list[Done] = []
    conn, schema = change.conn, change.schema
    for purpose in purposes:
        row = await select_root(conn, schema, (scope, "", purpose))
        if row is None:
            row = RootRow(0, scope, "", purpose, 1, "active", ())
            secret, wrapped = await new_root_key(provider, row, deployment)
            root_id = await insert_root(change, row, provider.uri, wrapped)
            if root_id is None:
                raise ConfigError(
                    f"the registry has {purpose} root keys of {scope}, but no active one",
                    hint="phiproxy never leaves it so: see docs/restore-the-registry.md",
                )
            done.append(Done(f"{purpose} root key made", scope))
        else:
            # A registry and a KEK that do not belong together are found here, not at the first value.
            root_id = row.id
            cache = RootCache(provider, deployment, CacheLimits(), lambda: 0.0)
            secret = (await cache.get(row, stale_ok=False)).secret
        if purpose == "data":
            keys = await select_data_keys(conn, schema, root_id)
            active = next((key for key in keys if key.state == "active"), None)
            if active is None:
                newest = max((key.generation for key in keys), default=0)
                while not await insert_data_key(change, new_data_key(secret, root_id, newest + 1, max_uses)):
                    pass  # the random id of 32 bits was taken; under our lock nothing else can be
                done.append(Done("data key made", scope))
            elif not is_authentic(secret, active):
                raise ConfigError(f"data key {active.id} is not authentic in the registry")
    return done
