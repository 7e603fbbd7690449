"""CREATE TABLE AS and SELECT INTO, into a table that the policy names: envelopes are copied, and the table ends in physical form.

Its columns are those of the query, by their names. What CREATE TABLE gives protected columns beside their type comes behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.guards import guard, guard_name
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import ProtectedColumn, ProtectedTable
from phiproxy.policy.types import BYTEA_OID
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.brackets import Brackets
from phiproxy.sql.ddl.columns import storage_command
from phiproxy.sql.ddl.definition import Definition
from phiproxy.sql.ddl.tables import creation_schema
from phiproxy.sql.finish import Spans
from phiproxy.sql.meaning import MADE_TABLE, Edit, Reveal
from phiproxy.sql.parse import Node, location, strings


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the new table: its name (None: not known here), and what it is where that is protected."""

    name: str | None
    reveal: Reveal | None


def fill(a: Analysis, body: Node, table: ProtectedTable, columns: Sequence[Column]) -> None:
    """Bring a CreateTableAsStmt, whose query is understood, into physical form; refuses other columns than the policy's."""
    into = body["into"]
    named = strings(into.get("colNames"))
    columns = [Column(name, c.reveal) for name, c in zip(named, columns, strict=False)] + list(columns[len(named) :])
    _check(a, into["rel"], table, columns)
    if a.meaning.numbers:
        raise a.refuse(
            "CREATE TABLE AS into protected columns takes no parameters",
            into["rel"],
            hint="Write the values as literals; or CREATE TABLE, then INSERT … SELECT.",
        )
    definition = Definition(a, "CreateTableAsStmt", body, MADE_TABLE.decode(), list(a.meaning.edits), list(a.meaning.occurrences))
    place = (table.schema, table.name)
    full = ".".join(map(quote_ident, place))
    commands = ", ".join(_physical(column) for column in table.columns.values())
    definition.after.append(f"ALTER TABLE {full} {commands}")
    definition.counted = not into.get("skipData")
    if body.get("if_not_exists"):
        literal = full.replace("'", "''")
        definition.once = f"pg_catalog.to_regclass('{literal}') IS NOT NULL"
    made = (CatalogColumn(c.name or "", i, BYTEA_OID if c.reveal is not None else 0, -1) for i, c in enumerate(columns, start=1))
    a.meaning.effects.relations = (Relation(-1, *place, "r", tuple(made)),)
    definition.settle()


def select_into(a: Analysis, query: Node, into: Node) -> Node:
    """Return the body of the CreateTableAsStmt that ``SELECT … INTO`` is, and let its text be that of one."""
    relation = into["rel"]
    schema = creation_schema(a, relation)
    if schema != "pg_temp":
        relation["schemaname"] = schema
    named = ".".join(quote_ident(relation[key]) for key in ("schemaname", "relname") if key in relation)
    kind = {"t": "TEMP ", "u": "UNLOGGED "}.get(relation["relpersistence"], "")
    a.changes.append(partial(_begin, start=a.meaning.start, text=f"CREATE {kind}TABLE {named} AS "))
    a.changes.append(partial(_without_into, offset=location(relation)))
    return {"query": {"SelectStmt": query}, "into": into, "objtype": "OBJECT_TABLE"}


def _begin(spans: Spans, _text: bytes, *, start: int, text: str) -> Edit:
    first = next(token.start for token in spans.tokens if token.start >= start)
    return Edit(first, first, text.encode())


def _without_into(spans: Spans, _text: bytes, *, offset: int) -> Edit:
    brackets = Brackets(spans.tokens)
    start = brackets.tokens[brackets.before(brackets.at(offset), "INTO")].start
    return Edit(start, spans.relation_end(offset, aliased=False), b"")


def _physical(column: ProtectedColumn) -> str:
    """Return the subcommands of ALTER TABLE that give a column what ``CREATE TABLE`` would have given it."""
    guarded = f"ADD CONSTRAINT {quote_ident(guard_name(column.name))} {guard(column)}"
    not_null = [f"ALTER COLUMN {quote_ident(column.name)} SET NOT NULL"] if column.type.not_null else []
    return ", ".join([storage_command(column), *not_null, guarded])


def _check(a: Analysis, relation: Node, table: ProtectedTable, columns: Sequence[Column]) -> None:
    """Refuse other columns than the policy says of the table."""
    label, hint = f"{table.schema}.{table.name}", "CREATE TABLE first, then INSERT … SELECT."
    place = {"location": location(relation)}
    by_name = {column.name: column.reveal for column in columns}
    missing = next((column for column in table.columns.values() if column.name not in by_name), None)
    if None in by_name:
        raise a.refuse(f"a column of {label} has no name that is known here", place, hint="Name it with AS.")
    if missing is not None:
        raise a.refuse(f"{missing.label} is protected, and the query has no column of this name", place, hint=hint)
    for name, reveal in by_name.items():
        column = table.columns.get(name or "")
        if column is None and reveal is None:
            continue
        if column is None:
            assert reveal is not None
            raise a.refuse(
                f"{reveal.column.label} would be stored in {label}.{name}, which the policy does not name",
                place,
                hint="Name the new column in the policy, with the same domain.",
            )
        if reveal is None:
            raise a.refuse(f"an unprotected column would be stored in {column.label}, which is protected", place, hint=hint)
        if reveal.column.identity != column.identity:
            raise a.refuse(
                f"{reveal.column.label} and {column.label} have different identities",
                place,
                hint="A stored value is copied between columns that share a domain in the policy.",
            )
        if reveal.type != column.type:
            raise a.refuse(
                f"{column.label} is protected as {column.type.name}, and the query gives {reveal.type.name}",
                place,
                hint=f"{hint} There the type is the table's.",
            )
