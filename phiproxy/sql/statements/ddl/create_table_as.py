"""CREATE TABLE AS and SELECT INTO of a policy's table: envelopes are copied by name; ALTER TABLE then adds the physical form."""

from collections.abc import Iterator, Sequence

from phiproxy.effects import MADE_TABLE
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.plaintext_guards import guard, guard_name
from phiproxy.policy.protection import ProtectedColumn, ProtectedTable
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Edit, Reveal
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.statements.ddl.column_definitions import storage_command
from phiproxy.sql.statements.ddl.create_table import creation_schema
from phiproxy.sql.statements.ddl.physical_form import Definition
from phiproxy.sql.text.parse import Node, location, strings
from phiproxy.wire.oids import BYTEA_OID

# A column of the new table, and the protected column that it shows. The name is None where it is not known.
Column = tuple[str | None, Reveal | None]


def fill(a: Analysis, body: Node, table: ProtectedTable, columns: Sequence[Column]) -> None:
    """Bring CREATE TABLE AS into physical form; refuses columns that are not the policy's.

    CREATE TABLE visits AS SELECT mrn, mrn AS diagnosis FROM patients
    → refused 0A000
    """
    into = body["into"]
    named = strings(into.get("colNames"))
    columns = [*((n, reveal) for n, (_, reveal) in zip(named, columns, strict=False)), *columns[len(named) :]]
    _check(a, into["rel"], table, columns)
    if a.answer.numbers:
        why = "CREATE TABLE AS into protected columns takes no parameters"
        raise a.refuse(why, into["rel"], hint="Write the values as literals; or CREATE TABLE, then INSERT … SELECT.")
    edits, occurrences = list(a.answer.edits), list(a.answer.occurrences)
    definition = Definition(a, "CreateTableAsStmt", a.tree.copy(body), MADE_TABLE.decode(), edits, occurrences)
    qualified = (table.schema, table.name)
    full = ".".join(map(quote_ident, qualified))
    commands = ", ".join(_physical(column) for column in table.columns.values())
    definition.after.append(f"ALTER TABLE {full} {commands}")
    definition.counted = not into.get("skipData")
    if body.get("if_not_exists"):
        literal = full.replace("'", "''")
        definition.once = f"pg_catalog.to_regclass('{literal}') IS NOT NULL"
    catalog_columns = (
        CatalogColumn(name or "", i, BYTEA_OID if shown is not None else 0, -1) for i, (name, shown) in enumerate(columns, start=1)
    )
    a.answer.effects.relations = (Relation(-1, *qualified, "r", tuple(catalog_columns)),)
    definition.settle()


def select_into(a: Analysis, query: Node, into: Node) -> Node:
    """Return ``SELECT … INTO`` as the body of a CREATE TABLE AS, and rewrite its text."""
    relation = dict(into["rel"])
    schema = creation_schema(a, relation)
    if schema != "pg_temp":
        relation["schemaname"] = schema
    named = ".".join(quote_ident(relation[key]) for key in ("schemaname", "relname") if key in relation)
    kind = {"t": "TEMP ", "u": "UNLOGGED "}.get(relation["relpersistence"], "")
    a.rewrite(_begin, start=a.answer.start, text=f"CREATE {kind}TABLE {named} AS ")
    a.rewrite(_without_into, offset=location(relation))
    return {"query": {"SelectStmt": query}, "into": {**into, "rel": relation}, "objtype": "OBJECT_TABLE"}


def _begin(draft: Draft, *, start: int, text: str) -> Iterator[Edit]:
    first = next(token.start for token in draft.spans.tokens if token.start >= start)
    yield Edit(first, first, text.encode())


def _without_into(draft: Draft, *, offset: int) -> Iterator[Edit]:
    spans = draft.spans
    start = spans.tokens[spans.before(spans.at(offset), "INTO")].start
    yield Edit(start, spans.relation_end(offset, aliased=False), b"")


def _physical(column: ProtectedColumn) -> str:
    """Return the subcommands of ALTER TABLE that bring a column into physical form."""
    guarded = f"ADD CONSTRAINT {quote_ident(guard_name(column.name))} {guard(column)}"
    not_null = [f"ALTER COLUMN {quote_ident(column.name)} SET NOT NULL"] if column.type.not_null else []
    return ", ".join([storage_command(column), *not_null, guarded])


def _check(a: Analysis, relation: Node, table: ProtectedTable, columns: Sequence[Column]) -> None:
    label, hint = f"{table.schema}.{table.name}", "CREATE TABLE first, then INSERT … SELECT."
    located = {"location": location(relation)}
    by_name = dict(columns)
    missing = next((column for column in table.columns.values() if column.name not in by_name), None)
    if None in by_name:
        raise a.refuse(f"a column of {label} has no name that is known here", located, hint="Name it with AS.")
    if missing is not None:
        raise a.refuse(f"{missing.label} is protected, and the query has no column of this name", located, hint=hint)
    for name, reveal in by_name.items():
        column = table.columns.get(name or "")
        if column is None and reveal is None:
            continue
        if column is None:
            assert reveal is not None
            why = f"{reveal.column.label} would be stored in {label}.{name}, which the policy does not name"
            raise a.refuse(why, located, hint="Name the new column in the policy, with the same domain.")
        if reveal is None:
            raise a.refuse(f"an unprotected column would be stored in {column.label}, which is protected", located, hint=hint)
        if reveal.column.identity != column.identity:
            why = f"{reveal.column.label} and {column.label} have different identities"
            raise a.refuse(why, located, hint="A stored value is copied between columns that share a domain in the policy.")
        if reveal.type != column.type:
            why = f"{column.label} is protected as {column.type.name}, and the query gives {reveal.type.name}"
            raise a.refuse(why, located, hint=f"{hint} There the type is the table's.")
