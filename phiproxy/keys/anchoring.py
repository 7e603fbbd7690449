"""Opening a registry: its registry key is unwrapped and compared with the fingerprint that the configuration pins.

A wrap does not always say who wrapped: under a KEK whose wrapping half is public (RSA) anybody can make a registry key of his own,
with rows that verify under it. ``keys.anchor`` says which registry key is meant. Without it the key is believed only where nobody
can wrap who cannot use the KEK (``KeyProvider.authenticates``); else nothing is believed.
"""

import hmac
from typing import Final

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError, NotAuthentic
from phiproxy.keys.authenticated_tables import AUTHENTICATED, Connection, present_tables, read_rows
from phiproxy.keys.counter_file import Watermark
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.manifest import Counter, Manifest, RegistryKey
from phiproxy.keys.provider import KeyProvider
from phiproxy.keys.registry import select_roots
from phiproxy.keys.registry_checked_on_read import Fault, Trust, View, write_manifests
from phiproxy.keys.root_cache import unwrap_root
from phiproxy.keys.tenant_keks import Kek, kek_of

SCOPE: Final = "r:registry"
"""Of the registry key: no column's scope begins like this."""

_NOT_UPGRADED = "the key registry in schema {} is not authenticated: it was made by an older version"
_UPGRADE_HINT = "stop all proxies of this database, then run: phiproxy keys init"
_NO_ANCHOR = "keys.anchor does not name the registry of this database, and anybody can wrap a registry key under this KEK"
_NO_ANCHOR_HINT = "compare {0} with what other proxies or a copy of phiproxy.yaml have, and add it under keys.anchor"


def registry_root() -> RootRow:
    """Return the place of the registry key, before it is made."""
    return RootRow(0, SCOPE, "", "registry", 1, "active", ())


async def is_authenticated(conn: Connection, schema: str) -> bool:
    """Say whether the registry has a counter: one that was made by an older version has none."""
    return await has_table(conn, schema, "counter")


async def has_table(conn: Connection, schema: str, name: str) -> bool:
    """Say whether there is a table of this name."""
    query = "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    found = await conn.execute(f"{query} WHERE n.nspname = %s AND c.relname = %s", (schema, name))
    return await found.fetchone() is not None


async def select_registry_root(conn: Connection, schema: str) -> RootRow | None:
    """Return the root of the registry key, or None. It is not verified: nothing can be before it is unwrapped."""
    root_condition = sql.SQL("t.scope = %s AND t.tenant = '' AND t.purpose = 'registry' AND t.state = 'active'")
    roots = await select_roots(conn, schema, root_condition, (SCOPE,))
    return next((root for root in roots if root.key[:3] == (SCOPE, "", "registry")), None)


async def unlock(conn: Connection, schema: str, deployment: str, kek: Kek, anchor: str | None) -> RegistryKey:
    """Unwrap the registry key, and compare it with the anchor.

    Raises ConfigError where the registry is not authenticated yet, or there is no anchor and wraps do not say who wrapped;
    NotAuthentic where the key is not there or another one than the anchor's; ProviderError when it cannot be unwrapped.
    """
    if not await is_authenticated(conn, schema):
        await read_layout(conn, schema)  # says so where there is no registry at all
        raise ConfigError(_NOT_UPGRADED.format(schema), hint=_UPGRADE_HINT)
    root = await select_registry_root(conn, schema)
    if root is None:
        raise NotAuthentic("the key registry has lost its registry key", hint="restore the registry (docs/restore-the-registry.md)")
    return await checked_key(kek_of(kek, ""), root, deployment, anchor)


async def checked_key(provider: KeyProvider, root: RootRow, deployment: str, anchor: str | None) -> RegistryKey:
    """Unwrap a registry key and compare it with the anchor; raises as of ``unlock``."""
    key = RegistryKey(await unwrap_root(provider, deployment, root), deployment)
    if anchor is None and not provider.authenticates:
        raise ConfigError(_NO_ANCHOR, hint=_NO_ANCHOR_HINT.format(key.anchor))
    if anchor is not None and not hmac.compare_digest(anchor.encode(), key.anchor.encode()):
        raise NotAuthentic(
            "the registry key of this database is another one than keys.anchor pins",
            hint="the registry was replaced: restore it, or correct keys.anchor where this is the registry that is meant",
        )
    return key


async def establish(conn: Connection, schema: str, key: RegistryKey, value: int = 1) -> None:
    """Take every row as it is now into the manifests: of a registry that was made now, or by an older version.

    Inside of the transaction that has made the tables, which nobody else sees yet, or under a lock that keeps others out.
    """
    macs: dict[str, dict[bytes, bytes]] = {}
    for of in await present_tables(conn, schema):
        for read in await read_rows(conn, schema, of, sql.SQL("true")):
            macs.setdefault(read.group, {})[read.row.label] = key.row_mac(read.row)
    await write_manifests(conn, schema, key, Counter(value - 1, {}), [Manifest(group, value, m) for group, m in macs.items()])


async def verify(trust: Trust, conn: Connection) -> list[Fault]:
    """Look at the whole registry, and return what does not verify: rows, manifests, the counter. ``conn`` is idle."""
    faults: list[Fault] = []
    watching = Trust(trust.schema, trust.key, Watermark(trust.key.anchor))
    watching.watermark.counter = trust.watermark.counter
    watching.alarm = faults.append
    try:
        async with watching.reading(conn) as view:
            await _verify_all(view, watching)
    except NotAuthentic:
        pass  # told to the alarm: without the counter, nothing else can be looked at
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        faults.append(Fault("row", "a table", f"is missing or not of phiproxy's columns (SQLSTATE {error.sqlstate})"))
    return faults


async def _verify_all(view: View, watching: Trust) -> None:
    stored = await view.conn.execute(sql.SQL("SELECT group_name FROM {}").format(sql.Identifier(view.schema, "manifest")))
    groups = {str(name) for (name,) in await stored.fetchall()} | set(view.counter.groups)
    present: set[bytes] = set()
    for of in await present_tables(view.conn, view.schema):
        present.update(read.row.label for read, _ in await view.rows(of, sql.SQL("true")))
    for group in sorted(groups):
        await view.manifest(group)
        for name in AUTHENTICATED:
            await view.missing(group, name, (), present)
