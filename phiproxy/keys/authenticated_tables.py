"""The tables of the registry whose rows are authenticated, and how their rows are read as text (docs/registry.md).

One entry here is all that another table needs. What is not here has no meaning that could weaken anything: ``proxy`` and
``announcement`` (who serves, and what was said), ``event`` (history), ``meta.epoch`` (look again), ``data_key.used``, which counts
uses and is bounded by the proxies themselves, and ``job_progress``: how far a job says it is, which it verifies at its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from phiproxy.keys.manifest import JOBS_GROUP, LAYOUT_GROUP, Row, scope_group
from phiproxy.keys.registry_schema import table

Connection = AsyncConnection[TupleRow]


def _hex(column: str) -> str:
    return f"pg_catalog.encode(t.{column}, 'hex')"


def _micros(column: str) -> str:
    return f"(extract(epoch FROM t.{column}) * 1000000)::bigint"


@dataclass(frozen=True, slots=True)
class AuthenticatedTable:
    """Key and fields of a table as SQL expressions over its row ``t``, each cast to text.

    ``scope_from`` is where its (scope, tenant) is: in the row itself or in that of its root; a table without belongs to ``group``.
    ``optional``: a registry of an older version may not have it, and has no rows of it then.
    """

    name: str
    key: tuple[str, ...]
    fields: tuple[str, ...]
    scope_from: str = ""
    optional: bool = False
    group: str = LAYOUT_GROUP

    def select(self, schema: str, where: sql.Composable, extra: Sequence[str] = (), lock: str = "") -> sql.Composed:
        """Return the query for (key…, fields…, scope, tenant, extra…) of the rows ``t`` that a condition holds for."""
        texts = [f"({expression})::text" for expression in (*self.key, *self.fields)]
        scope_tenant = [f"{self.scope_from}.scope", f"{self.scope_from}.tenant"] if self.scope_from else ["NULL", "NULL"]
        join = "LEFT JOIN {roots} r ON r.id = t.root_id " if self.scope_from == "r" else ""
        text = f"SELECT {', '.join([*texts, *scope_tenant, *extra])} FROM {{table}} t {join}WHERE {{where}} {lock}"
        names = {"table": table(schema, self.name), "roots": table(schema, "root_key"), "where": where}
        return sql.SQL(text).format(**names)


META: Final = AuthenticatedTable("meta", (), ("t.format", "t.deployment", "pg_catalog.to_jsonb(t) ->> 'collation'"))
"""A registry of an older version may lack the collation's column."""
IDENTITY: Final = AuthenticatedTable("identity", ("t.number",), ("t.identity", "t.scope", "t.type"))
COLUMN_NAME: Final = AuthenticatedTable("column_name", ('t."schema"', 't."table"', 't."column"'), ("t.number",))
SLOT: Final = AuthenticatedTable(
    "slot", ("t.number", "t.slot"), ("t.expression", "t.normaliser", "t.family", "t.generation", "t.state")
)
ROOT_KEY: Final = AuthenticatedTable(
    "root_key", ("t.scope", "t.tenant", "t.purpose", "t.generation"), ("t.id", "t.state", _micros("created_at")), "t"
)
ROOT_WRAP: Final = AuthenticatedTable(
    "root_wrap", ("t.root_id", "t.kek_uri", "t.kek_version"), (_hex("blob"), _micros("verified_at")), "r"
)
DATA_KEY: Final = AuthenticatedTable(
    "data_key",
    ("t.id",),
    ("t.root_id", "t.generation", _hex("wrapped"), "t.state", "t.max_uses", _hex("mac"), _micros("created_at")),
    "r",
)
CLEAR_COLUMN: Final = AuthenticatedTable("clear_column", ('t."schema"', 't."table"', 't."column"'), (), optional=True)
"""The columns that may be in clear: that a row is missing makes nothing weaker."""
JOB: Final = AuthenticatedTable(
    "job",
    ("t.id",),
    ("t.kind", "t.target", "t.options", "t.state", "t.who", _micros("created_at")),
    group=JOBS_GROUP,
    optional=True,
)
_ALL: Final = (META, IDENTITY, COLUMN_NAME, SLOT, ROOT_KEY, ROOT_WRAP, DATA_KEY, CLEAR_COLUMN, JOB)
AUTHENTICATED: Final = {t.name: t for t in _ALL}


async def one_row(conn: Connection, query: sql.Composed | bytes, values: Sequence[Any] = ()) -> TupleRow:
    """Return the row of a query that always has one, as of an aggregate."""
    row = await (await conn.execute(query, values or None)).fetchone()  # without any a % is no placeholder
    assert row is not None
    return row


class Read(NamedTuple):
    """A row as it was read, the group that it belongs to (empty: its root is not there), and what was asked for beside it."""

    row: Row
    group: str
    extra: tuple[Any, ...]


async def read_rows(
    conn: Connection,
    schema: str,
    of: AuthenticatedTable,
    where: sql.Composable,
    values: Sequence[Any] = (),
    *,
    extra: Sequence[str] = (),
    lock: bool = False,
) -> list[Read]:
    """Read the rows ``t`` of a table for which a condition holds, in the order of their keys."""
    if of.optional and of not in await present_tables(conn, schema):
        return []
    query = of.select(schema, where, extra, "FOR UPDATE OF t" if lock else "")
    rows = await (await conn.execute(query, values)).fetchall()
    return sorted(
        (_read(of, row) for row in rows), key=lambda read: [(len(k), k) if k.isdecimal() else (0, k) for k in read.row.key]
    )


def _read(of: AuthenticatedTable, row: TupleRow) -> Read:
    keys, fields = len(of.key), len(of.key) + len(of.fields)
    scope, tenant = row[fields : fields + 2]
    group = of.group if not of.scope_from else "" if scope is None or tenant is None else scope_group(scope, tenant)
    # A key is never NULL: a column that has lost its constraint is as good as empty, and has no MAC.
    key = tuple("" if part is None else part for part in row[:keys])
    return Read(Row(of.name, key, tuple(row[keys:fields])), group, tuple(row[fields + 2 :]))


async def present_tables(conn: Connection, schema: str) -> list[AuthenticatedTable]:
    """Return the authenticated tables of a registry: one of an older version lacks those that came later."""
    query = (
        "SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = ANY (%s)"
    )
    optional = [of.name for of in AUTHENTICATED.values() if of.optional]
    there = {name for (name,) in await (await conn.execute(query, (schema, optional))).fetchall()}
    return [of for of in AUTHENTICATED.values() if not of.optional or of.name in there]


def of_key(of: AuthenticatedTable) -> sql.Composed:
    """Return the condition ``key = %s …`` of one row; the values are texts, whose type PostgreSQL infers."""
    if not of.key:
        return sql.SQL("true").format()
    return sql.SQL(" AND ").join([sql.SQL(f"{k} = %s") for k in of.key])


def any_of(expression: str) -> sql.Composed:
    """Return the condition ``expression = ANY(%s)``."""
    return sql.SQL(f"{expression} = ANY(%s)").format()


def as_number(text: str | None) -> int:
    """Return a number as it is read; 0, which none is, where a column has another type now: no such row is authentic."""
    try:
        return int(text or 0)
    except ValueError:
        return 0
