"""Rows that the server refuses to write, by a CHECK of their table or of a domain, a type, or a trigger: each is found and named.

Of a batch the server says only that it refuses it. So halves are written, and that is taken back, until each such row is alone.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import psycopg

from phiproxy.jobs.relations import Connection
from phiproxy.jobs.row_sql import Changed
from phiproxy.policy.identifiers import quote_ident

REFUSED: Final = (
    psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation, psycopg.DataError, psycopg.errors.RaiseException,
)  # fmt: skip
"""What the server says of one row, whatever is written beside it."""
Write = Callable[[Sequence[Changed]], Awaitable[object]]


async def refused_rows(conn: Connection, changes: Sequence[Changed], write: Write) -> list[tuple[Changed, str]]:
    """Return which of these rows the server refuses, and why; nothing is written. psycopg.Error for what is of no single row."""
    try:
        async with conn.transaction(force_rollback=True):
            await write(changes)
    except REFUSED as error:
        if len(changes) == 1:
            return [(changes[0], why(error))]
    else:
        return []
    middle = len(changes) // 2
    return [*await refused_rows(conn, changes[:middle], write), *await refused_rows(conn, changes[middle:], write)]


def why(error: psycopg.Error) -> str:
    """Say by what the server refuses a row: names of objects alone, as its own words may quote values."""
    diag = error.diag
    of = diag.datatype_name or diag.table_name
    owner = ".".join(quote_ident(name) for name in (diag.schema_name, of) if name)
    by = f" by {quote_ident(diag.constraint_name)} of {owner}" if diag.constraint_name and of else f" of {owner}" if of else ""
    by += f", column {quote_ident(diag.column_name)}" if diag.column_name else ""
    return f"the server refuses to store it: {type(error).__name__}{by} (SQLSTATE {error.sqlstate})"
