"""Rows of tables that are shown as they are: ``SELECT p FROM patients p``.

In the rest they are records, whose bytes are those of a row of the table; so the client is told the type of its table.
"""

from __future__ import annotations

from collections.abc import Iterator

from phiproxy.policy.catalog import Relation
from phiproxy.sql.pg_errors.names_and_signatures import Output, known_row
from phiproxy.sql.result import Origin
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.text.parse import only, strings


def shown_rows(whole: Whole) -> dict[int, Relation]:
    """Return the ids of references to a row of a table that are an output of the statement, each with that table.

    Of a set operation none: what its columns are is the type of all that are put together.
    """
    if not whole.shows or whole.body.get("op", "SETOP_NONE") != "SETOP_NONE":
        return {}
    return dict(_rows(whole))


def _rows(whole: Whole) -> Iterator[tuple[int, Relation]]:
    level = whole.verdict.levels.get(id(whole.body))
    for node in whole.body.get("targetList", ()):
        kind, value = only(only(node)[1]["val"])
        names = strings(value["fields"]) if kind == "ColumnRef" else []
        source = known_row(level, names) if level is not None and names else None
        relation = source.relation if source is not None else None
        tables = {t.relation.oid for t in whole.tables if t.label == names[0]} if relation is not None else set()
        if relation is not None and tables == {relation.oid} and relation.row_type:
            yield id(value), relation


def origin_of(output: Output, rows: dict[int, Relation]) -> Origin | None:
    """Return what the client is told of where an output comes from."""
    row = rows.get(id(only(output.node)[1])) if output.node else None
    if row is not None:
        return Origin(row.oid, 0, row.row_type)
    return None if output.origin is None else Origin(*output.origin)
