"""``keys import``: put back what ``keys export`` wrote, into a database that has no registry or an older state of the same one.

An export holds every authenticated row, the manifests and the counter as they were, so that it is verified before a row is written.
What the registry has that the export does not have would be lost, and the values under it with it: then nothing is imported.
"""

import hmac
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError, NotAuthentic
from phiproxy.keys.anchoring import SCOPE, checked_key, is_authenticated, select_registry_root, verify
from phiproxy.keys.authenticated_tables import AUTHENTICATED, Connection, read_rows
from phiproxy.keys.key_rows import RootRow, WrapRow
from phiproxy.keys.lifecycle import Done, Initialised, ensure_tables
from phiproxy.keys.manifest import Counter, Manifest, RegistryKey, Row
from phiproxy.keys.provider import KeyProvider
from phiproxy.keys.registry import as_provider_error, record_event
from phiproxy.keys.registry_checked_on_read import CHANGING, Trust, read_counter, write_manifests
from phiproxy.keys.registry_schema import table

# Fields that never change: of a row that is in both, they must be the same. A column's name and a wrap may go.
_LASTING: Final = {"identity": slice(0, 3), "slot": slice(0, 4), "root_key": slice(0, 1), "data_key": slice(0, 3)}

_MICROS: Final = "'epoch'::timestamptz + %s * interval '1 microsecond'"
# Key and fields of each table in the order of ``tables``. Uses since the export are not known, so a data key counts as used up.
_INSERT: Final = {
    "meta": 'INSERT INTO {} (format, deployment, "collation") VALUES (%s, %s, %s)',
    "identity": "INSERT INTO {} (number, identity, scope, type) VALUES (%s, %s, %s, %s)",
    "column_name": 'INSERT INTO {} ("schema", "table", "column", number) VALUES (%s, %s, %s, %s)',
    "slot": "INSERT INTO {} (number, slot, expression, normaliser, family, generation, state) VALUES (%s, %s, %s, %s, %s, %s, %s)",
    "root_key": "INSERT INTO {} (scope, tenant, purpose, generation, id, state, created_at, format) OVERRIDING SYSTEM VALUE"
    f" VALUES (%s, %s, %s, %s, %s, %s, {_MICROS}, 2)",
    "root_wrap": "INSERT INTO {} (root_id, kek_uri, kek_version, blob, verified_at)"
    f" VALUES (%s, %s, %s, decode(%s, 'hex'), {_MICROS})",
    "clear_column": 'INSERT INTO {} ("schema", "table", "column") VALUES (%s, %s, %s)',
    "data_key": "INSERT INTO {} (id, root_id, generation, wrapped, state, max_uses, mac, created_at, format, used)"
    f" VALUES (%s, %s, %s, decode(%s, 'hex'), %s, %s, decode(%s, 'hex'), {_MICROS}, 2, 0)",
    "job": "INSERT INTO {} (id, kind, target, options, state, who, created_at) OVERRIDING SYSTEM VALUE"
    f" VALUES (%s, %s, %s, %s, %s, %s, {_MICROS})",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Export:
    """The authenticated part of an export, verified under its registry key."""

    key: RegistryKey
    rows: Mapping[bytes, Row]
    counter: Counter
    manifests: list[Manifest]


async def read_export(dump: object, deployment: str, provider: KeyProvider, anchor: str | None) -> Export:
    """Verify an export of the registry of a deployment.

    Raises ConfigError when it is none, or of another deployment or an older version; NotAuthentic, naming the rows, when it is not
    as phiproxy has written it; ProviderError when the KEK does not open its registry key.
    """
    part = dump.get("authenticated") if isinstance(dump, dict) and "phiproxy_registry" in dump else None
    if not isinstance(part, dict):
        raise ConfigError(
            "this is not an export of an authenticated registry",
            hint="one of an older version is read by: phiproxy open --registry",
        )
    try:
        rows = [_row(name, texts) for name, listed in part["rows"].items() for texts in listed]
        stored = [(group, value, b64decode(entries), b64decode(mac)) for group, value, entries, mac in part["manifests"]]
        value, groups, mac = part["counter"]
        counted = value, b64decode(groups), b64decode(mac)
        root = _registry_root(rows)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError("the registry dump is damaged") from None
    meta = next((row for row in rows if row.table == "meta"), None)
    if root is None or meta is None or meta.fields[1] != deployment:
        raise ConfigError(f"the export is not of deployment {deployment}")
    key = await checked_key(provider, root, deployment, anchor)
    counter = key.open_counter(*counted)
    manifests = [key.open_manifest(*manifest) for manifest in stored]
    if {m.group: m.counter for m in manifests} != dict(counter.groups):
        raise NotAuthentic("the manifests of the export are not those of its counter")
    macs = {label: mac for m in manifests for label, mac in m.macs.items()}
    by_label = {row.label: row for row in rows}
    wrong = [r.text for r in rows if not hmac.compare_digest(macs.get(r.label, b""), key.row_mac(r))]
    if wrong or by_label.keys() != macs.keys():
        names = ", ".join(wrong) or "rows are missing"
        raise NotAuthentic(f"the export is not as phiproxy has written it: {names}")
    return Export(key, by_label, counter, manifests)


def _row(name: str, texts: list[Any]) -> Row:
    of = AUTHENTICATED[name]
    if len(texts) != len(of.key) + len(of.fields) or not all(t is None or isinstance(t, str) for t in texts):
        raise ValueError("not a row of this table")
    return Row(name, tuple(texts[: len(of.key)]), tuple(texts[len(of.key) :]))


def _registry_root(rows: list[Row]) -> RootRow | None:
    root_scope = (SCOPE, "", "registry")
    row = next((r for r in rows if r.table == "root_key" and r.key[:3] == root_scope and r.fields[1] == "active"), None)
    if row is None:
        return None
    wraps = [r for r in rows if r.table == "root_wrap" and r.key[0] == row.fields[0]]
    of_root = tuple(WrapRow(w.key[1], w.key[2], bytes.fromhex(w.fields[0] or "")) for w in wraps)
    return RootRow(int(row.fields[0] or 0), SCOPE, "", "registry", int(row.key[3]), "active", of_root)


async def import_registry(
    conn: Connection, dump: object, deployment: str, provider: KeyProvider, *, schema: str = "phiproxy", anchor: str | None = None
) -> Initialised:
    """Put an export back; does nothing where the registry is as it says. ``conn`` is the service role's, outside a transaction.

    Raises as of ``read_export``, and ConfigError when the registry that is there is another one, newer, or has what the export does
    not have; NotAuthentic when it does not verify. Nothing is changed then.
    """
    export = await read_export(dump, deployment, provider, anchor)
    try:
        await _refuse_other(conn, schema, export, provider)
        async with conn.transaction():
            await conn.execute(CHANGING)
            return Initialised(await _import(conn, schema, export), export.key.anchor)
    except psycopg.Error as error:
        raise as_provider_error(error, schema) from None


async def _refuse_other(conn: Connection, schema: str, export: Export, provider: KeyProvider) -> None:
    """Look at the registry that is there, before anything is done to it."""
    async with conn.transaction():
        authenticated = await is_authenticated(conn, schema)
        root = await select_registry_root(conn, schema) if authenticated else None
    if not authenticated:
        return
    if root is None:
        raise NotAuthentic("the registry that is there has lost its registry key; rename its schema, then import")
    key = await checked_key(provider, root, export.key.deployment, export.key.anchor)
    faults = await verify(Trust(schema, key), conn)
    if faults:
        names = "\n".join(f"the registry that is there is not authentic: {fault.what} {fault.why}" for fault in faults)
        raise NotAuthentic(names, hint="rename its schema, then import")


async def _import(conn: Connection, schema: str, export: Export) -> list[Done]:
    _, new = await ensure_tables(conn, schema, export.key.deployment)
    if not new:
        if not await is_authenticated(conn, schema):
            raise ConfigError("the registry that is there was made by an older version", hint="run: phiproxy keys init")
        counter = await read_counter(conn, schema, export.key, lock=True)
        rows = await _rows(conn, schema)
        if rows == export.rows:
            return []
        _refuse_loss(rows, counter, export)
    query = sql.SQL("SELECT epoch FROM {}").format(table(schema, "meta"))
    ((epoch,),) = await (await conn.execute(query)).fetchall()
    for name in ("manifest", *reversed(AUTHENTICATED)):  # what refers to others first
        await conn.execute(sql.SQL("DELETE FROM {}").format(table(schema, name)))
    for name in AUTHENTICATED:
        insert = sql.SQL(_INSERT[name]).format(table(schema, name))
        for row in export.rows.values():
            if row.table == name:
                await conn.execute(insert, (*row.key, *row.fields))
    await conn.execute(sql.SQL("UPDATE {} SET used = max_uses").format(table(schema, "data_key")))
    await conn.execute(sql.SQL("UPDATE {} SET epoch = %s").format(table(schema, "meta")), (epoch + 1,))
    await _keep_ids(conn, schema)
    before = Counter(0, {})
    await write_manifests(conn, schema, export.key, before, export.manifests, export.counter.value)
    if await _rows(conn, schema) != export.rows:
        raise ConfigError("the server does not give back the rows as they were imported; nothing was changed")
    value = str(export.counter.value)
    await record_event(conn, schema, "registry imported", schema, (None, value))
    return [Done("registry imported", f"{len(export.rows)} rows, counter {value}")]


def _refuse_loss(rows: Mapping[bytes, Row], counter: Counter, export: Export) -> None:
    """ConfigError where the registry that is there is no older state of what was exported."""
    lost = []
    for label, row in rows.items():
        lasting = _LASTING.get(row.table)
        other = export.rows.get(label)
        if lasting is not None and (other is None or other.fields[lasting] != row.fields[lasting]):
            lost.append(row.text)
    if lost or counter.value > export.counter.value:
        what = ", ".join(lost[:5]) if lost else f"its counter is {counter.value}, the export's {export.counter.value}"
        raise ConfigError(
            f"the registry that is there has what the export does not have ({what}): importing would lose it",
            hint="import an export that is as new, or keep the registry that is there",
        )


async def _rows(conn: Connection, schema: str) -> dict[bytes, Row]:
    reads = [read for of in AUTHENTICATED.values() for read in await read_rows(conn, schema, of, sql.SQL("true"))]
    return {read.row.label: read.row for read in reads}


async def _keep_ids(conn: Connection, schema: str) -> None:
    """Let the ids of root keys and jobs go on behind the highest that was ever given, here or in the export."""
    for name in ("root_key", "job"):
        rows = table(schema, name)
        query = sql.SQL(
            "SELECT pg_catalog.setval(s.name::regclass,"
            " greatest((SELECT max(id) FROM {rows}), pg_catalog.nextval(s.name::regclass)))"
            " FROM (SELECT pg_catalog.pg_get_serial_sequence(%s, 'id') AS name) s"
        ).format(rows=rows)
        await conn.execute(query, (rows.as_string(conn),))
