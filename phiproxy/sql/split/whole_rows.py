"""Rows of tables that are shown as they are: ``SELECT p FROM patients p``.

In the rest they are records, whose bytes are those of a row of the table; so the client is told the type of its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from phiproxy.policy.catalog import Relation
from phiproxy.sql.pg_errors.names_and_signatures import Output, resolve
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
        if level is None or len(names) != 1 or resolve(level, names) is not None:
            continue
        named = [source for source in level.sources if source.alias == names[0]]
        tables = {t.relation.oid: t.relation for t in whole.tables if t.label == names[0] and t.rest is None}
        relation = named[0].relation if len(named) == 1 and len(tables) == 1 else None
        if relation is not None and relation.oid in tables and relation.row_type:
            yield id(value), relation


def selected_fields(whole: Whole) -> dict[int, Origin]:
    """Return the ids of outputs of the statement that select a column of a row in functional notation, each with that column.

    SELECT ssn(p) FROM patients p
    """
    found: dict[int, Origin] = {}
    for node in whole.body.get("targetList", ()):
        kind, value = only(only(node)[1]["val"])
        called = strings(value["funcname"]) if kind == "FuncCall" else []
        arguments = value.get("args", []) if called else []
        if len(called) != 1 or len(arguments) != 1 or whole.verdict.signatures.functions(called[0]):
            continue
        names = strings(arguments[0].get("ColumnRef", {}).get("fields", ()))
        tables = [table for table in whole.tables if [table.label] == names]
        columns = {column.label: column for column in tables[0].columns} if len(tables) == 1 else {}
        if called[0] in columns:
            found[id(value)] = Origin(tables[0].relation.oid, columns[called[0]].number)
    return found


def origin_of(output: Output, rows: dict[int, Relation], fields: Mapping[int, Origin]) -> Origin | None:
    """Return what the client is told of where an output comes from."""
    if output.origin is not None:
        return Origin(*output.origin)
    if output.node and id(only(output.node)[1]) in fields:
        return fields[id(only(output.node)[1])]
    row = rows.get(id(only(output.node)[1])) if output.node else None
    return None if row is None else Origin(row.oid, 0, row.row_type)
