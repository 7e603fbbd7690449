"""What proxies have observed of statements over columns in clear, kept in the registry's schema; read by ``observe report``.

Texts are without values (``sql.text.observed_text``). Nobody but people goes by these rows, so they are not authenticated.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

import psycopg
from psycopg import sql

from phiproxy.crypto.envelope import frame
from phiproxy.keys.authenticated_tables import Connection
from phiproxy.keys.registry_schema import table

# More shapes than an application has; one that writes names into its statements has as many as it likes.
MOST_SHAPES = 20_000


@dataclass(frozen=True, slots=True)
class Observed:
    """One shape of statement and what would become of it; ``sent`` is how often it was prepared, or sent as a simple query.

    ``indexes`` are written ``schema.table.column: expression``.
    """

    shape: str
    answer: str
    sqlstate: str = ""
    reason: str = ""
    hint: str = ""
    indexes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def digest(self) -> bytes:
        """What tells it from others."""
        return sha256(frame(*(part.encode() for part in (self.shape, self.answer, self.reason, self.hint)))).digest()[:16]


@dataclass(frozen=True, slots=True)
class Counted:
    """A shape as it was observed by all proxies: how often, and between which moments (ISO 8601)."""

    observed: Observed
    sent: int
    first_at: str = ""
    last_at: str = ""

    def as_json(self) -> dict[str, object]:
        """Return it for ``--json``."""
        return {**asdict(self.observed), "sent": self.sent, "first_at": self.first_at, "last_at": self.last_at}


async def add_observed(conn: Connection, schema: str, counts: Sequence[tuple[Observed, int]]) -> None:
    """Add to what is kept; shapes beyond ``MOST_SHAPES`` are not. Raises psycopg.Error, UndefinedTable in an older registry."""
    query = sql.SQL(
        "INSERT INTO {t} AS o (digest, shape, answer, sqlstate, reason, hint, indexes, columns, sent)"
        " SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s WHERE EXISTS (SELECT FROM {t} WHERE digest = %s)"
        " OR (SELECT pg_catalog.count(*) FROM {t}) < {most}"
        " ON CONFLICT (digest) DO UPDATE SET sent = o.sent + excluded.sent, last_at = pg_catalog.clock_timestamp(),"
        " indexes = excluded.indexes, columns = excluded.columns"
    ).format(t=table(schema, "observation"), most=sql.Literal(MOST_SHAPES))
    async with conn.transaction(), conn.cursor() as cursor:
        for observed, sent in sorted(counts, key=lambda counted: counted[0].digest):  # in one order, so that two do not wait
            fields = (observed.shape, observed.answer, observed.sqlstate, observed.reason, observed.hint)
            lists = (list(observed.indexes), list(observed.columns))
            await cursor.execute(query, (observed.digest, *fields, *lists, sent, observed.digest))


async def read_observed(conn: Connection, schema: str) -> list[Counted]:
    """Return what was observed, the refused ones first, and of each the most frequent first; nothing in an older registry."""
    query = sql.SQL(
        "SELECT shape, answer, sqlstate, reason, hint, indexes, columns, sent, first_at, last_at FROM {}"
        " ORDER BY pg_catalog.array_position(ARRAY['refused', 'split', 'works'], answer), sent DESC, shape"
    ).format(table(schema, "observation"))
    try:
        rows = await (await conn.execute(query)).fetchall()
    except psycopg.errors.UndefinedTable:
        return []
    return [
        Counted(
            Observed(shape, answer, state, reason, hint, tuple(indexes), tuple(columns)), sent, first.isoformat(), last.isoformat()
        )
        for shape, answer, state, reason, hint, indexes, columns, sent, first, last in rows
    ]


async def forget_observed(conn: Connection, schema: str) -> int:
    """Forget all that was observed, and return how many shapes that were."""
    return (await conn.execute(sql.SQL("DELETE FROM {}").format(table(schema, "observation")))).rowcount


def wanted_indexes(counts: Iterable[Counted]) -> dict[str, dict[str, int]]:
    """Return, by column, the index expressions that would make refused shapes work, each with how often these were sent."""
    wanted: dict[str, dict[str, int]] = {}
    for counted in counts:
        for entry in counted.observed.indexes:
            column, _, expression = entry.partition(": ")
            of_column = wanted.setdefault(column, {})
            of_column[expression] = of_column.get(expression, 0) + counted.sent
    return wanted
