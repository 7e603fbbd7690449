"""What the registry holds, for people (``keys list``) and for the day it is lost (``keys export``): wrapped keys only."""

from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.index.collations import Collation
from phiproxy.keys.anchoring import is_authenticated
from phiproxy.keys.authenticated_tables import Connection, present_tables, read_rows
from phiproxy.keys.key_rows import DataKeyRow, RootRow, WrapRow
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.registry_checked_on_read import SNAPSHOT
from phiproxy.keys.registry_schema import table
from phiproxy.policy.protection import Slot
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity

DUMP_FORMAT: Final = 1
_AGE: Final = "pg_catalog.round(extract(epoch FROM clock_timestamp() - created_at))::int8"


@dataclass(frozen=True, slots=True)
class ListedWrap:
    """One wrap of a root key; ``verified_at`` in ISO 8601."""

    kek: str
    version: str
    verified_at: str


@dataclass(frozen=True, slots=True)
class ListedDataKey:
    """One data key: how far it is used, and how old it is."""

    id: int
    generation: int
    state: str
    used: int
    max_uses: int
    age_seconds: int


@dataclass(frozen=True, slots=True)
class ListedRoot:
    """One root key with its wraps and data keys."""

    id: int
    scope: str
    tenant: str
    purpose: str
    generation: int
    state: str
    age_seconds: int
    wraps: tuple[ListedWrap, ...]
    data_keys: tuple[ListedDataKey, ...]


async def list_keys(conn: Connection, schema: str = "phiproxy") -> list[ListedRoot]:
    """Return all root keys in the order they were made, with their wraps and data keys by generation."""
    await read_layout(conn, schema)  # says in one clear line when there is no registry
    wraps: dict[int, list[ListedWrap]] = {}
    query = sql.SQL("SELECT root_id, kek_uri, kek_version, verified_at FROM {} ORDER BY verified_at")
    for root_id, uri, version, at in await (await conn.execute(query.format(table(schema, "root_wrap")))).fetchall():
        wraps.setdefault(root_id, []).append(ListedWrap(uri, version, at.isoformat()))
    data_keys: dict[int, list[ListedDataKey]] = {}
    query = sql.SQL(f"SELECT root_id, id, generation, state, used, max_uses, {_AGE} FROM {{}} ORDER BY generation")
    for root_id, *key in await (await conn.execute(query.format(table(schema, "data_key")))).fetchall():
        data_keys.setdefault(root_id, []).append(ListedDataKey(*key))
    query = sql.SQL(f"SELECT id, scope, tenant, purpose, generation, state, {_AGE} FROM {{}} ORDER BY id")
    roots = await (await conn.execute(query.format(table(schema, "root_key")))).fetchall()
    return [ListedRoot(*(*root, tuple(wraps.get(root[0], ())), tuple(data_keys.get(root[0], ())))) for root in roots]


async def export(conn: Connection, schema: str = "phiproxy") -> dict[str, Any]:
    """Return the registry as one JSON-able object: layout, wrapped roots, wrapped data keys; and what ``keys import`` puts back.

    No key in clear is in it. ``conn`` is outside a transaction.
    """
    async with conn.transaction():
        await conn.execute(SNAPSHOT)
        return await _export(conn, schema)


async def _export(conn: Connection, schema: str) -> dict[str, Any]:
    layout = await read_layout(conn, schema)

    async def rows(columns: str, name: str, order: str) -> list[tuple[Any, ...]]:
        query = sql.SQL(f"SELECT {columns} FROM {{}} ORDER BY {order}").format(table(schema, name))
        return await (await conn.execute(query)).fetchall()

    keys = await rows("id, root_id, generation, wrapped, state, max_uses, mac", "data_key", "id")
    wraps = await rows("root_id, kek_uri, kek_version, blob", "root_wrap", "root_id, verified_at DESC")
    return {
        "phiproxy_registry": DUMP_FORMAT,
        "deployment": layout.deployment,
        "epoch": layout.epoch,
        "collation": layout.collation.dump() if layout.collation is not None else None,
        "identities": [asdict(identity) for identity in layout.identities.values()],
        "columns": [[*name, number] for name, number in sorted(layout.columns.items())],
        "roots": [[*row] for row in await rows("id, scope, tenant, purpose, generation, state", "root_key", "id")],
        "wraps": [[root_id, uri, version, _b64(blob)] for root_id, uri, version, blob in wraps],
        "data_keys": [
            [key_id, root_id, generation, _b64(wrapped), state, max_uses, _b64(mac)]
            for key_id, root_id, generation, wrapped, state, max_uses, mac in keys
        ],
        "authenticated": await _authenticated(conn, schema),
    }


async def _authenticated(conn: Connection, schema: str) -> dict[str, Any] | None:
    """Return the rows as they are authenticated, their manifests and the counter; None for a registry of an older version."""
    if not await is_authenticated(conn, schema):
        return None
    counter = await (await conn.execute(sql.SQL("SELECT value, groups, mac FROM {}").format(table(schema, "counter")))).fetchone()
    query = sql.SQL("SELECT group_name, counter, entries, mac FROM {} ORDER BY 1").format(table(schema, "manifest"))
    manifests = await (await conn.execute(query)).fetchall()
    rows = {of.name: await read_rows(conn, schema, of, sql.SQL("true")) for of in await present_tables(conn, schema)}
    return {
        "counter": None if counter is None else [counter[0], *map(_b64, counter[1:])],
        "manifests": [[group, value, _b64(entries), _b64(mac)] for group, value, entries, mac in manifests],
        "rows": {name: [[*r.row.key, *r.row.fields] for r in reads] for name, reads in rows.items()},
    }


class RegistryDump:
    """A loaded export: a RegistryReader without a database, and the layout that goes with it."""

    def __init__(self, layout: Layout, roots: Iterable[RootRow], data_keys: Iterable[DataKeyRow]) -> None:
        self.layout = layout
        self._roots = {r.id: r for r in roots}
        self._data_keys = {k.id: k for k in data_keys}

    async def data_keys(self, ids: frozenset[int]) -> list[DataKeyRow]:
        """Return the rows of these ids; ids that are not there are left out."""
        return [self._data_keys[i] for i in sorted(ids) if i in self._data_keys]

    async def roots(self, ids: frozenset[int]) -> list[RootRow]:
        """Return these root keys with their wraps."""
        return [self._roots[i] for i in sorted(ids) if i in self._roots]


def load_export(dump: object) -> RegistryDump:
    """Return what ``export`` wrote, as a reader; ConfigError when it is anything else."""
    if not isinstance(dump, dict) or dump.get("phiproxy_registry") != DUMP_FORMAT:
        raise ConfigError(f"this is not a registry dump of format {DUMP_FORMAT}")
    try:
        return _load(dump)
    except (KeyError, TypeError, ValueError):
        pass
    raise ConfigError("the registry dump is damaged")


def _load(dump: dict[str, Any]) -> RegistryDump:
    identities = {}
    for entry in dump["identities"]:
        slots = tuple(Slot(**slot) for slot in entry["slots"])
        identity = RegisteredIdentity(**{**entry, "slots": slots})
        identities[identity.number] = identity
    columns = {(schema, name, column): number for schema, name, column, number in dump["columns"]}
    layout = Layout(dump["deployment"], dump["epoch"], identities, columns, Collation.load(dump.get("collation")))
    wraps: dict[int, list[WrapRow]] = {}
    for root_id, uri, version, blob in dump["wraps"]:
        wraps.setdefault(root_id, []).append(WrapRow(uri, version, b64decode(blob, validate=True)))
    roots = [
        RootRow(root_id, scope, tenant, purpose, generation, state, tuple(wraps.get(root_id, ())))
        for root_id, scope, tenant, purpose, generation, state in dump["roots"]
    ]
    data_keys = [
        DataKeyRow(key_id, root_id, generation, b64decode(wrapped, validate=True), state, max_uses, b64decode(mac, validate=True))
        for key_id, root_id, generation, wrapped, state, max_uses, mac in dump["data_keys"]
    ]
    numbers = [n for r in roots for n in (r.id, r.generation)]
    numbers += [n for k in data_keys for n in (k.id, k.root_id, k.generation, k.max_uses)]
    if not all(isinstance(n, int) for n in numbers):
        raise ValueError("a number is not one")
    return RegistryDump(layout, roots, data_keys)


def _b64(data: bytes) -> str:
    return b64encode(data).decode()
