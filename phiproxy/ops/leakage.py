"""What a thief of the database learns from the tags, and when that is too much (crypto.md section 6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from phiproxy.policy.model import PolicyColumn
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import ProtectedColumn

MEASURED_FROM = 10_000  # values; below, a sample says too little about what will be stored
FEWEST_DISTINCT = 1_000
LARGEST_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Measurement:
    """How the tags of one slot are spread over the values that are stored."""

    values: int
    distinct: int
    largest: int

    @property
    def share(self) -> float:
        """Part of the values that has the most frequent tag."""
        return self.largest / self.values if self.values else 0.0


@dataclass(frozen=True, slots=True)
class Leakage:
    """One index expression of one column: what is known about it, whether that is too much, and who accepts it."""

    column: str
    expression: str
    measured: Measurement | None
    declared: int | None
    accepted: str | None
    at: str

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
        text = "which rows have equal values, and how often each occurs"
        if self.measured is not None:
            text += f": {self.measured.distinct} distinct among {self.measured.values}, the most frequent {self.measured.share:.1%}"
        elif self.declared is not None:
            text += f": {self.declared} distinct declared"
        if self.problem is not None:
            text += "; so few that frequencies may tell the values"
        return text


def declared_complaints(columns: Iterable[PolicyColumn]) -> list[str]:
    """Say which indexes are of too low a cardinality by what the policy itself declares: all that is known of an empty table."""
    leaks = [Leakage(c.label, e, None, c.distinct.get(e), c.accept_leakage, c.at) for c in columns for e in c.expressions]
    return [leak.complaint for leak in leaks if leak.complaint is not None]


async def measure(conn: psycopg.AsyncConnection[Any], column: ProtectedColumn, slots: Iterable[int]) -> Measurement | None:
    """Measure the distinct tuples of the tags in these slots: one slot, or all of a column together.

    Reads the whole table. None when the service role may not read it, or not every row; raises psycopg.Error for everything else.
    """
    name = sql.Identifier(column.name)
    tags = [sql.SQL("pg_catalog.substring({}, {}, 16)").format(name, sql.Literal(13 + 16 * slot)) for slot in slots]
    query = sql.SQL(
        "SELECT coalesce(pg_catalog.sum(n), 0)::int8, pg_catalog.count(*), coalesce(pg_catalog.max(n), 0) FROM"
        " (SELECT pg_catalog.count(*) AS n FROM {table} WHERE {name} IS NOT NULL GROUP BY {tags}) AS counted"
    ).format(table=sql.Identifier(column.schema, column.table), name=name, tags=sql.SQL(", ").join(tags))
    place = f"{quote_ident(column.schema)}.{quote_ident(column.table)}"
    hidden = sql.SQL("SELECT pg_catalog.row_security_active({}::text)").format(sql.Literal(place))
    try:
        async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(hidden)
            if (row := await cursor.fetchone()) is not None and row[0]:
                return None
            await cursor.execute(query)
            row = await cursor.fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    assert row is not None  # an aggregate without GROUP BY has one row
    return Measurement(*row)
