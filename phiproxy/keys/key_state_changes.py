"""Changes of a key's life in the registry: one SQL statement each, compare-and-set, with its event; knows no secrets.

Whoever changes a row says what it was when it was read; when that is no longer so, nothing happens and the answer is False:
somebody else was first, and what they left is read again. Every proxy hears of a change through the epoch (``announce``).
"""

from typing import Final

from psycopg import sql

from phiproxy.crypto.keyring import KeyState
from phiproxy.keys.authenticated_tables import Connection
from phiproxy.keys.key_rows import DataKeyRow, RootRow, WrapRow
from phiproxy.keys.provider import Wrapped
from phiproxy.keys.registry import record_event
from phiproxy.keys.registry_checked_on_read import Change
from phiproxy.keys.registry_schema import table

CHANNEL: Final = "phiproxy_epoch"
"""NOTIFY channel of every registry; the payload is the registry's schema."""


async def announce(conn: Connection, schema: str) -> None:
    """Raise the epoch, and notify whoever listens once this transaction has committed (manual, NOTIFY)."""
    await conn.execute(sql.SQL("UPDATE {} SET epoch = epoch + 1").format(table(schema, "meta")))
    await notify(conn, schema)


async def notify(conn: Connection, schema: str, word: str = "") -> None:
    """Let whoever listens look at registry and catalogue now, whether or not there is another epoch; ``word`` tells who says it."""
    await conn.execute("SELECT pg_catalog.pg_notify(%s, %s)", (CHANNEL, word or schema))


async def set_data_key_state(change: Change, old: DataKeyRow, new: DataKeyRow, *, why: str = "") -> bool:
    """Replace state and mac of a data key that is still as ``old`` says; False when it is not."""
    conn, schema = change.conn, change.schema
    await change.before("data_key", old.id)
    text = sql.SQL("UPDATE {} SET state = %s, mac = %s WHERE id = %s AND state = %s AND mac = %s")
    query = text.format(table(schema, "data_key"))
    if (await conn.execute(query, (new.state, new.mac, old.id, old.state, old.mac))).rowcount != 1:
        return False
    change.became("data_key", old.id, fields=(..., ..., ..., new.state, ..., new.mac.hex(), ...))
    subject = f"data key {old.id:08x} of root {old.root_id}, generation {old.generation}" + (f": {why}" if why else "")
    await record_event(conn, schema, f"data key {new.state}", subject, (old.state, new.state))
    return True


async def set_root_state(change: Change, root: RootRow, state: KeyState, *, why: str = "") -> bool:
    """Give a root that is still in the state that was read another one; False when it is not, or another one is active already."""
    conn, schema = change.conn, change.schema
    await change.before("root_key", *root.key)
    query = sql.SQL(
        "UPDATE {roots} SET state = %s WHERE id = %s AND state = %s AND (%s <> 'active' OR NOT EXISTS (SELECT 1 FROM {roots} o"
        " WHERE o.scope = %s AND o.tenant = %s AND o.purpose = %s AND o.state = 'active'))"
    ).format(roots=table(schema, "root_key"))
    values = (state, root.id, root.state, state, root.scope, root.tenant, root.purpose)
    if (await conn.execute(query, values)).rowcount != 1:
        return False
    change.became("root_key", *root.key, fields=(..., state, ...))
    await record_event(conn, schema, f"root key {state}", root_subject(root) + (f": {why}" if why else ""), (root.state, state))
    return True


async def add_wrap(change: Change, root: RootRow, kek_uri: str, wrapped: Wrapped) -> None:
    """Let a verified wrap stand beside the others of its root; one of the same KEK and version is replaced."""
    conn, schema = change.conn, change.schema
    key = (root.id, kek_uri, wrapped.version)
    query = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, clock_timestamp()) ON CONFLICT DO NOTHING")
    if (await conn.execute(query.format(table(schema, "root_wrap")), (*key, wrapped.blob))).rowcount == 1:
        change.added("root_wrap", *key, fields=(wrapped.blob.hex(), ...))
    else:
        await change.before("root_wrap", *key)
        query = sql.SQL(
            "UPDATE {} SET blob = %s, verified_at = clock_timestamp() WHERE root_id = %s AND kek_uri = %s AND kek_version = %s"
        )
        await conn.execute(query.format(table(schema, "root_wrap")), (wrapped.blob, *key))
        change.added("root_wrap", *key, fields=(wrapped.blob.hex(), ...))
    await record_event(conn, schema, "root key wrapped", root_subject(root), (None, f"{kek_uri} version {wrapped.version}"))


async def drop_wrap(change: Change, root: RootRow, old: WrapRow, keep: tuple[str, str]) -> bool:
    """Drop a wrap of a root while the one under ``keep`` (KEK URI, version) stands; False when either is not there."""
    conn, schema = change.conn, change.schema
    await change.before("root_wrap", root.id, old.kek_uri, old.kek_version)
    query = sql.SQL(
        "DELETE FROM {wraps} w WHERE w.root_id = %s AND w.kek_uri = %s AND w.kek_version = %s AND w.blob = %s"
        " AND (w.kek_uri, w.kek_version) <> (%s, %s)"
        " AND EXISTS (SELECT 1 FROM {wraps} k WHERE k.root_id = w.root_id AND k.kek_uri = %s AND k.kek_version = %s FOR SHARE)"
    ).format(wraps=table(schema, "root_wrap"))
    values = (root.id, old.kek_uri, old.kek_version, old.blob, *keep, *keep)
    if (await conn.execute(query, values)).rowcount != 1:
        return False
    change.deleted("root_wrap", root.id, old.kek_uri, old.kek_version)
    gone = (f"{old.kek_uri} version {old.kek_version}", None)
    await record_event(conn, schema, "root key wrap dropped", root_subject(root), gone)
    return True


def root_subject(root: RootRow) -> str:
    """Return how events name a root."""
    of_whom = f"{root.scope}, tenant {root.tenant}" if root.tenant else root.scope
    return f"{root.purpose} root {root.id} of {of_whom}, generation {root.generation}"
