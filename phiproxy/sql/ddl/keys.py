"""UNIQUE, PRIMARY KEY and indexes over protected columns: unique and other indexes over tags, under the client's own names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from phiproxy.errors import ConfigError, NoIndexAnswers
from phiproxy.index.spelling import IDENTITY
from phiproxy.policy.guards import tag
from phiproxy.policy.names import quote_ident, shown_expression
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.names import chosen
from phiproxy.sql.derived import own_name
from phiproxy.sql.indexhints import add_index
from phiproxy.sql.parse import Node, strings
from phiproxy.sql.spelling import over_column

Columns = Mapping[str, ProtectedColumn]
_LABELS = {"CONSTR_UNIQUE": "key", "CONSTR_PRIMARY": "pkey"}


def slot_of(a: Analysis, column: ProtectedColumn, expression: str, body: Node) -> Slot:
    """Return the slot whose tags an index over an expression orders; NoIndexAnswers with the line to add."""
    slot = next((s for s in column.slots if s.expression == expression and s.state != "dropped"), None)
    if slot is None:
        shown = shown_expression(expression, quote_ident(column.name))
        raise NoIndexAnswers(
            f"{column.label} has no blind index for {shown}",
            hint=add_index(f"`{shown}`", column.label),
            position=a.position(body) if "location" in body else None,
        )
    return slot


def expression_of(a: Analysis, column: ProtectedColumn, expression: Node, body: Node) -> str:
    """Return phiproxy's spelling of an indexed expression; StatementRefused for one that cannot be a blind index."""
    try:
        found = over_column(expression, column.name, partial(own_name, a), column.type.indexed_as)
        why = f"Index {quote_ident(column.name)} itself, or an expression that the policy can list."
    except ConfigError as error:
        found, why = None, error.message
    if found is None:
        raise a.refuse(
            f"an index over {column.label} cannot answer this expression, which is not one that can be a blind index",
            body,
            hint=why,
        )
    return found


def key_of(a: Analysis, columns: Columns, names: Sequence[str], body: Node) -> str:
    """Return the key expressions of a unique index over columns, in their order."""
    parts = []
    for name in names:
        column = columns.get(name)
        parts.append(f"({tag(column, slot_of(a, column, IDENTITY, body))})" if column is not None else quote_ident(name))
    return ", ".join(parts)


def constraint_columns(constraint: Node, of_column: str | None) -> list[str]:
    """Return the columns of a UNIQUE or PRIMARY KEY, of a table or of one column."""
    return strings(constraint.get("keys")) or ([of_column] if of_column is not None else [])


def unique_index(
    a: Analysis, columns: Columns, place: tuple[str, str], constraint: Node, names: Sequence[str], taken: Collection[str]
) -> tuple[str, str]:
    """Return the name and the statement of the index that stands for a UNIQUE or PRIMARY KEY of table ``place``."""
    kind = constraint["contype"]
    if constraint.get("deferrable") or constraint.get("indexname") or constraint.get("options"):
        raise a.refuse(
            "a deferrable or parametrised constraint over a protected column is not supported",
            constraint,
            hint="Leave out DEFERRABLE, WITH (…) and USING INDEX TABLESPACE: it becomes a unique index on tags.",
        )
    schema, table = place
    parts = [] if kind == "CONSTR_PRIMARY" else names
    name = constraint.get("conname") or chosen(table, parts, _LABELS[kind], taken)
    nulls = " NULLS NOT DISTINCT" if constraint.get("nulls_not_distinct") else ""
    keys = [*names]
    included = strings(constraint.get("including"))
    if any(n in columns for n in included):
        raise a.refuse("INCLUDE of a protected column would store its value in the index", constraint, hint="Leave it out.")
    include = f" INCLUDE ({', '.join(map(quote_ident, included))})" if included else ""
    text = f"CREATE UNIQUE INDEX {quote_ident(name)} ON {quote_ident(schema)}.{quote_ident(table)}"
    return name, f"{text} ({key_of(a, columns, keys, constraint)}){include}{nulls}"
