"""What is sealed of definitions: a DEFAULT, the conditions of CHECK constraints that proxies evaluate, and the rests of views.

They are sealed anew with the salt that they have: a value that does not satisfy a condition is told by that salt (``violation``),
so statements that are under way with the old text of a constraint mean the same under the new one.
"""

import hashlib
from collections.abc import Collection, Iterable
from functools import partial
from typing import Final, NamedTuple

from psycopg import sql

from phiproxy.crypto.envelope import FIXED_HEADER, SALT_LENGTH, SLOT_LENGTH
from phiproxy.jobs.relations import Connection, Part, refuse_unless_owner, rows_of
from phiproxy.jobs.resealed_views import renew_views, views_under
from phiproxy.jobs.running import Run
from phiproxy.jobs.sealed_values import SealedValues, key_id_of
from phiproxy.jobs.short_locks import with_short_lock
from phiproxy.jobs.stored_columns import Stored, StoredColumn
from phiproxy.keys.key_state_changes import announce
from phiproxy.policy.identifiers import shorten
from phiproxy.policy.physical_columns import is_computed_default, sealed_conditions, sealed_constant

_DEFAULTS: Final = """
SELECT a.attname::text, d.adbin::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE d.adrelid = %s::oid
"""
# Of a partition or child the server changes what it has from its parent with that.
_CHECKS: Final = """
SELECT k.conname::text, k.conbin::text, pg_catalog.pg_get_constraintdef(k.oid), k.convalidated,
       (SELECT pg_catalog.jsonb_object_agg(a.attnum::text, a.attname) FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)), pg_catalog.obj_description(k.oid, 'pg_constraint')
  FROM pg_catalog.pg_constraint k WHERE k.conrelid = %s::oid AND k.contype = 'c' AND k.coninhcount = 0
"""


class Sealed(NamedTuple):
    """What is sealed in a definition under one of some keys: what it is of, and whose that is."""

    what: str
    owner: str


async def sealed_under(conn: Connection, tables: Stored, keys: Collection[int]) -> list[Sealed]:
    """Return what is under these keys in the definitions of tables, and the views that are."""
    found = []
    for part, columns in tables:
        names = {column.name for column in columns}
        for name, tree, _ in await rows_of(conn, _DEFAULTS, part.oid):
            envelope = sealed_constant(tree)
            if envelope is not None and name in names and key_id_of(envelope) in keys:
                found.append(Sealed(f"DEFAULT of {part.label}.{name}", part.owner))
        for name, tree, *_ in await rows_of(conn, _CHECKS, part.oid):
            if any(key_id_of(envelope) in keys for _, envelope in sealed_conditions(tree)):
                found.append(Sealed(f"CHECK {name} of {part.label}", part.owner))
    return found + [Sealed(f"view {label}", owner) for label, owner in await views_under(conn, keys)]


async def reseal_definitions(run: Run, values: SealedValues, tables: Stored, keys: Iterable[int]) -> None:
    """Seal anew what is under these keys in the definitions of tables, partitioned ones and parents too.

    ConfigError where the service role may not alter a table that needs it, or its lock cannot be had.
    """
    wanted = frozenset(keys)
    for part, columns in tables:
        by_name = {column.name: column for column in columns}
        for name, tree, text in await rows_of(run.conn, _DEFAULTS, part.oid):
            envelope = sealed_constant(tree)
            if envelope is not None and name in by_name and key_id_of(envelope) in wanted:
                new = await _anew(values, by_name[name], envelope, default=is_computed_default(tree))
                query = sql.SQL("ALTER TABLE ONLY {} ALTER COLUMN {} SET DEFAULT {}").format(
                    sql.Identifier(*part.name), sql.Identifier(name), sql.SQL(text.replace(envelope.hex(), new.hex()))
                )
                await _alter(run, part, f"DEFAULT of {part.label}.{name}", [query])
        for name, tree, text, validated, names, comment in await rows_of(run.conn, _CHECKS, part.oid):
            sealed = [(names.get(str(number)), e) for number, e in sealed_conditions(tree) if key_id_of(e) in wanted]
            definition = text
            for column, envelope in sealed:
                if column in by_name:
                    new = await _anew(values, by_name[column], envelope)
                    definition = definition.replace(envelope.hex(), new.hex())
            if definition != text:
                await _replace_check(run, part, name, definition, comment, validated=validated)
    await renew_views(run, values, wanted)
    # Proxies go by what they have read of the catalogue: whoever retires a key next must find them with the new one.
    async with run.site.registry.transaction() as conn:
        await announce(conn, run.site.schema)
    await run.acknowledged()


async def _replace_check(run: Run, part: Part, name: str, definition: str, comment: str | None, *, validated: bool) -> None:
    """Put a constraint that says the same in place of one: beside it, validated, and only then under its name."""
    table, constraint = sql.Identifier(*part.name), sql.Identifier(name)
    beside = sql.Identifier(shorten(f"{name}_phi_next", hashlib.sha256(name.encode()).hexdigest()[:8]))
    bare = sql.SQL(definition.removesuffix(" NOT VALID"))
    texts = [
        sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}, ADD CONSTRAINT {} {} NOT VALID").format(table, beside, beside, bare),
        sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, beside),
        sql.SQL(
            "ALTER TABLE {} DROP CONSTRAINT {}; ALTER TABLE {} RENAME CONSTRAINT {} TO {}; COMMENT ON CONSTRAINT {} ON {} IS {}"
        ).format(table, constraint, table, beside, constraint, constraint, table, sql.Literal(comment)),
    ]
    await _alter(run, part, f"CHECK {name} of {part.label}", texts if validated else [texts[0], texts[2]])


async def _anew(values: SealedValues, column: StoredColumn, envelope: bytes, *, default: bool = False) -> bytes:
    own = await values.of_key(key_id_of(envelope))
    start = FIXED_HEADER + SLOT_LENGTH * envelope[FIXED_HEADER - 1]
    record = await own.record(column.identity.scope, envelope[start : start + SALT_LENGTH])
    return await own.reseal(column, envelope, record, default=default)


async def _alter(run: Run, part: Part, what: str, statements: list[sql.Composed]) -> None:
    await refuse_unless_owner(run.conn, [part])
    for statement in statements:
        await with_short_lock(run.conn, part.owner, what, partial(_execute, statement), told=run.display.waits)


async def _execute(statement: sql.Composed, conn: Connection) -> None:
    await conn.execute(statement)
