"""Unique indexes that stood for constraints while their columns were sealed become such constraints again, on the way back.

An index that is there becomes the constraint of a table, but not that of a partitioned one, and dropping that drops those of all
partitions. So where a PRIMARY KEY of a partitioned table is to be again, which needs NOT NULL, each partition gets a second index
first, while nobody waits; in one short transaction these take the place of the others.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from phiproxy.jobs.converted_indexes import PRIMARY, UNIQUE
from phiproxy.jobs.dependents import spelled
from phiproxy.jobs.index_settings import TABLESPACE, in_tablespace
from phiproxy.jobs.relations import Connection, TableName, family_of, rows_of
from phiproxy.jobs.running import Run
from phiproxy.jobs.short_locks import run_as, with_short_lock
from phiproxy.policy.identifiers import literal, quote_ident, shorten

# Indexes of tables that stand for constraints, over nothing that is sealed any more, and that no foreign key goes by.
_KEYS: Final = """
SELECT n.nspname::text, c.relname::text, x.relname::text, pg_catalog.obj_description(x.oid, 'pg_class'),
       pg_catalog.pg_get_userbyid(c.relowner)::text, c.relkind = 'p', x.oid::int8
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = x.oid
                      AND (k.conrelid = c.oid OR (k.contype = 'f' AND c.relkind = 'p')))
   AND pg_catalog.obj_description(x.oid, 'pg_class') LIKE 'phiproxy: %%'
"""
# An index of a partitioned table, and those that are attached to it, those above first.
_TREE: Final = f"""
WITH RECURSIVE tree (index, above, depth) AS (
  SELECT %s::oid, NULL::oid, 0
  UNION ALL SELECT h.inhrelid, h.inhparent, t.depth + 1 FROM pg_catalog.pg_inherits h JOIN tree t ON h.inhparent = t.index)
SELECT n.nspname::text, c.relname::text, x.relname::text, a.nspname::text, y.relname::text, c.relkind <> 'p',
       pg_catalog.pg_get_indexdef(x.oid), pg_catalog.obj_description(x.oid, 'pg_class'), {TABLESPACE}
  FROM tree t JOIN pg_catalog.pg_index i ON i.indexrelid = t.index JOIN pg_catalog.pg_class x ON x.oid = t.index
  JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_class y ON y.oid = t.above LEFT JOIN pg_catalog.pg_namespace a ON a.oid = y.relnamespace
 ORDER BY t.depth, 1, 2
"""
_BESIDE: Final = """
SELECT i.indisvalid FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace WHERE n.nspname = %s AND x.relname = %s
"""


class _Index(NamedTuple):
    """An index of a partitioned table, or of a partition, in whose schema it is; ``above`` is that which it is attached to."""

    schema: str
    table: str
    name: str
    above_schema: str | None
    above: str | None
    stores: bool
    definition: str
    comment: str | None
    tablespace: str

    @property
    def on(self) -> str:
        """Its table, as SQL."""
        return spelled((self.schema, self.table))

    @property
    def beside(self) -> str:
        """The name of the index that takes its place."""
        digest = hashlib.sha256(repr((self.schema, self.name)).encode()).hexdigest()[:8]
        return shorten(f"phi_next_{self.table}_{self.name}", digest)

    @property
    def build(self) -> str:
        """What builds that."""
        head, rest = self.definition.split(f" INDEX {quote_ident(self.name)} ON ", 1)
        return f"{head} INDEX CONCURRENTLY {quote_ident(self.beside)} ON {rest}"


async def restore_keys(run: Run, tables: Collection[TableName]) -> None:
    """Make constraints again, in tables and what inherits from them, of what ``encrypt`` has made of constraints.

    ConfigError where a lock cannot be had; psycopg.Error.
    """
    family = {part.name for name in tables for part in await family_of(run.conn, name)}
    for schema, name, index, comment, owner, partitioned, oid in await rows_of(run.conn, _KEYS):
        kind = next((kind for kind in (PRIMARY, UNIQUE) if comment.partition(";")[0] == kind), None)
        if (schema, name) not in family or kind is None or (partitioned and kind is UNIQUE):
            continue
        words = kind.removeprefix("phiproxy: ")
        if partitioned:
            tree = [_Index(*row) for row in await rows_of(run.conn, _TREE, oid)]
            await _build(run, owner, tree)
            statements = list(_of_whole(tree))
        else:
            table, quoted = spelled((schema, name)), quote_ident(index)
            statements = [
                f"COMMENT ON INDEX {quote_ident(schema)}.{quoted} IS NULL",
                f"ALTER TABLE {table} ADD CONSTRAINT {quoted} {words} USING INDEX {quoted}",
                f"COMMENT ON CONSTRAINT {quoted} ON {table} IS {_said(comment)}",
            ]
        await with_short_lock(run.conn, owner, f"{words} {index}", partial(_execute, statements), told=run.display.waits)


async def _build(run: Run, owner: str, tree: Iterable[_Index]) -> None:
    """Build the second index of each partition, unless it is there; one whose building was broken off is built anew."""
    for index in tree:
        if not index.stores:
            continue
        there = await rows_of(run.conn, _BESIDE, index.schema, index.beside)
        if there and not there[0][0]:
            await run_as(run.conn, owner, f"DROP INDEX CONCURRENTLY {spelled((index.schema, index.beside))}")
        if not there or not there[0][0]:
            run.display.phase(f"building index {index.beside}", 0)
            await run_as(run.conn, owner, index.build, tablespace=index.tablespace)


def _of_whole(tree: Sequence[_Index]) -> Iterable[str]:
    """Yield what makes a PRIMARY KEY of a partitioned table of its partitions' second indexes."""
    yield f"DROP INDEX {spelled((tree[0].schema, tree[0].name))}"
    for index in tree:
        name = quote_ident(index.name)
        if index.stores:
            yield f"ALTER INDEX {spelled((index.schema, index.beside))} RENAME TO {name}"
            yield f"ALTER TABLE {index.on} ADD CONSTRAINT {name} PRIMARY KEY USING INDEX {name}"
        else:
            keys = index.definition.partition(" USING btree ")[2]
            yield from in_tablespace(index.tablespace, local=True)
            yield f"ALTER TABLE ONLY {index.on} ADD CONSTRAINT {name} PRIMARY KEY {keys}"
        if index.comment is not None:
            yield f"COMMENT ON CONSTRAINT {name} ON {index.on} IS {_said(index.comment)}"
    for index in tree:
        if index.above is not None and index.above_schema is not None:
            own, above = spelled((index.schema, index.name)), spelled((index.above_schema, index.above))
            yield f"ALTER INDEX {above} ATTACH PARTITION {own}"


def _said(comment: str) -> str:
    """Return, as SQL, the comment that the constraint had before."""
    said = comment.partition("; ")[2]
    return literal(said) if said else "NULL"


async def _execute(statements: Iterable[str], conn: Connection) -> None:
    for statement in statements:
        await conn.execute(statement.encode())
