"""What a thief of the database learns from the tags, and when that is too much (spec/stored-format 6.6)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from phiproxy.documents.field_paths import parse_path
from phiproxy.index.spelling import IDENTITY
from phiproxy.ops.stored_values import type_of
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.identifiers import quote_ident, shown_expression
from phiproxy.policy.model import PolicyColumn
from phiproxy.policy.physical_documents import lacks_leaf_tag, leaf_tag, reached
from phiproxy.policy.protection import ColumnName, ProtectedColumn, Protection, Slot, answering_slots
from phiproxy.wire.oids import BYTEA_OID, JSONB_OID

MEASURED_FROM = 10_000  # values; below, a sample says too little about what will be stored
FEWEST_DISTINCT = 1_000
LARGEST_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Measurement:
    """How the tags of one slot are spread over the values that have one; ``without`` are those whose expression is NULL."""

    values: int
    distinct: int
    largest: int
    without: int = 0

    @property
    def share(self) -> float:
        """Part of the values that has the most frequent tag."""
        return self.largest / self.values if self.values else 0.0


@dataclass(frozen=True, slots=True)
class Leakage:
    """One index expression of one column: what is known about it, whether that is too much, and who accepts it.

    ``shown`` is the expression as a DBA writes it.
    """

    column: str
    expression: str
    measured: Measurement | None
    declared: int | None
    accepted: str | None
    at: str
    shown: str = ""

    @classmethod
    def of(cls, wanted: PolicyColumn, expression: str, measured: Measurement | None = None) -> Leakage:
        """Return what is known of one of a column's indexes."""
        declared, shown = wanted.distinct.get(expression), wanted.shown(expression)
        return cls(wanted.label, expression, measured, declared, wanted.accept_leakage, wanted.at, shown)

    @property
    def decisive(self) -> bool:
        """Whether the measurement counts, rather than what is declared."""
        return self.measured is not None and self.measured.values >= MEASURED_FROM

    @property
    def problem(self) -> str | None:
        """Why the cardinality is too low, or None."""
        if self.measured is not None and self.decisive:
            if self.measured.distinct < FEWEST_DISTINCT:
                return f"only {self.measured.distinct} distinct values among {self.measured.values} (below {FEWEST_DISTINCT})"
            if self.measured.share > LARGEST_SHARE:
                return f"{self.measured.share:.1%} of the values are one value (above {LARGEST_SHARE:.0%})"
            return None
        if self.declared is not None and self.declared < FEWEST_DISTINCT:
            return f"declared distinct: {self.declared} (below {FEWEST_DISTINCT})"
        return None

    @property
    def complaint(self) -> str | None:
        """The line for the operator when the index is refused, or None."""
        if self.problem is None or self.accepted is not None:
            return None
        return f'{self.at}: index {self.expression} of {self.column}: {self.problem}; accept_leakage: "<who, why>" would accept it'

    @property
    def learns(self) -> str:
        """What a thief of the database learns, in words."""
        what = "values" if self.expression == IDENTITY else f"`{self.shown}`"
        text = f"which rows have equal {what}, and how often each occurs"
        if self.measured is not None:
            text += f": {self.measured.distinct} distinct among {self.measured.values}, the most frequent {self.measured.share:.1%}"
        elif self.declared is not None:
            text += f": {self.declared} distinct declared"
        if self.problem is not None:
            text += "; so few that frequencies may tell the values"
        if self.measured is not None and self.measured.without:
            text += f"; which {self.measured.without} rows have none"
        return text


def declared_complaints(columns: Iterable[PolicyColumn]) -> list[str]:
    """Say which indexes are of too low a cardinality by what the policy itself declares: all that is known of an empty table."""
    return _complaints(Leakage.of(c, e) for c in columns for e in c.expressions)


async def stored_complaints(
    conn: psycopg.AsyncConnection[Any],
    columns: Iterable[PolicyColumn],
    protection: Protection,
    catalog: Catalog,
    open_yet: Collection[ColumnName] = (),
) -> list[str]:
    """Say the same by the tags that are stored, where there are enough. Raises psycopg.Error.

    Of fields that are in clear yet only what is declared counts (``open_yet``, by their registered names).
    """
    leaks = []
    for wanted in columns:
        column = protection.of_listed(*wanted.listed_as)
        stored_as = JSONB_OID if wanted.path else BYTEA_OID
        sealed = wanted.registered_name not in open_yet and type_of(wanted.registered_name, catalog) == stored_as
        numbers = {e: s.number for e, s in answering_slots(column.slots, wanted.expressions).items() if sealed}
        leaks += [
            Leakage.of(wanted, e, await measure(conn, column, [numbers[e]]) if e in numbers else None) for e in wanted.expressions
        ]
    return _complaints(leaks)


async def plaintext_complaints(conn: psycopg.AsyncConnection[Any], columns: Iterable[PolicyColumn], catalog: Catalog) -> list[str]:
    """Say the same of columns that hold plaintext yet, by their values: of them there are no tags. Raises psycopg.Error.

    Of fields of documents only what is declared counts.
    """
    leaks = []
    for wanted in columns:
        plain = not wanted.path and type_of((wanted.schema, wanted.table, wanted.name), catalog) not in (None, BYTEA_OID)
        leaks += [Leakage.of(wanted, e, await _measure_plaintext(conn, wanted, e) if plain else None) for e in wanted.expressions]
    return _complaints(leaks)


def _complaints(leaks: Iterable[Leakage]) -> list[str]:
    return [leak.complaint for leak in leaks if leak.complaint is not None]


async def _measure_plaintext(conn: psycopg.AsyncConnection[Any], wanted: PolicyColumn, expression: str) -> Measurement | None:
    # EXTRACT has a grammar of its own, and the function another name in front
    shown = shown_expression(expression, quote_ident(wanted.name)).replace("extract(", "pg_catalog.extract(")
    each = sql.SQL("SELECT {} AS tag FROM {} WHERE {} IS NOT NULL").format(
        sql.SQL(shown), sql.Identifier(wanted.schema, wanted.table), sql.Identifier(wanted.name)
    )
    return await _measured(conn, wanted.schema, wanted.table, each)


_SPREAD = """
SELECT coalesce(pg_catalog.sum(n) FILTER (WHERE tag IS NOT NULL), 0)::int8,
       pg_catalog.count(*) FILTER (WHERE tag IS NOT NULL),
       coalesce(pg_catalog.max(n) FILTER (WHERE tag IS NOT NULL), 0),
       coalesce(pg_catalog.sum(n) FILTER (WHERE tag IS NULL), 0)::int8
  FROM (SELECT tag, pg_catalog.count(*) AS n FROM ({each}) AS every GROUP BY tag) AS counted
"""
_NO_TAG = "'\\x00000000000000000000000000000000'::bytea"


async def measure(conn: psycopg.AsyncConnection[Any], column: ProtectedColumn, slots: Iterable[int]) -> Measurement | None:
    """Measure the distinct tuples of the tags in these slots: one slot, or all of a column together.

    Reads the whole table. None when the service role may not read it, or not every row; raises psycopg.Error for everything else.
    Values that are older than a slot have no tag in it.
    """
    numbers, name = list(slots), sql.Identifier(column.name)
    if column.path:
        return await _measured(conn, column.schema, column.table, _tags_of_field(column, numbers))
    tags = [sql.SQL("pg_catalog.substring({}, {}, 16)").format(name, sql.Literal(13 + 16 * number)) for number in numbers]
    together = sql.SQL(" || ").join(tags)
    tag = sql.SQL("NULLIF({}, {})").format(together, sql.SQL(_NO_TAG)) if len(numbers) == 1 else together
    each = sql.SQL("SELECT {tag} AS tag FROM {table} WHERE {name} IS NOT NULL AND pg_catalog.get_byte({name}, 11) > {last}").format(
        tag=tag, table=sql.Identifier(column.schema, column.table), name=name, last=sql.Literal(max(numbers))
    )
    return await _measured(conn, column.schema, column.table, each)


def _tags_of_field(column: ProtectedColumn, numbers: list[int]) -> sql.Composed:
    """Return what selects the tags of a field, of values that have one in each of these slots."""
    text = reached(quote_ident(column.name), parse_path(column.path), text=True)
    tags = [leaf_tag(text, Slot(number, "", 1, "active", form="text")) for number in numbers]
    tag = f"NULLIF({tags[0]}, {_NO_TAG})" if len(tags) == 1 else " || ".join(tags)
    there = f"{text} IS NOT NULL AND NOT {lacks_leaf_tag(column.name, parse_path(column.path), max(numbers))}"
    table = sql.Identifier(column.schema, column.table)
    return sql.SQL("SELECT {tag} AS tag FROM {table} WHERE {there}").format(tag=sql.SQL(tag), table=table, there=sql.SQL(there))


async def _measured(conn: psycopg.AsyncConnection[Any], schema: str, table: str, each: sql.Composable) -> Measurement | None:
    """Count what ``each`` selects as tag; None where the service role does not see every row of the table."""
    hidden = sql.SQL("SELECT pg_catalog.row_security_active({}::text)").format(
        sql.Literal(f"{quote_ident(schema)}.{quote_ident(table)}")
    )
    try:
        async with conn.transaction(), conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(hidden)
            if (row := await cursor.fetchone()) is not None and row[0]:
                return None
            await cursor.execute(sql.SQL(_SPREAD).format(each=each))
            row = await cursor.fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction):
        return None
    assert row is not None  # an aggregate without GROUP BY has one row
    return Measurement(*row)
