"""What tells the rows of a write's target: of a table where they are stored, of a view the primary key of the table behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from phiproxy.errors import PhiproxyError
from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.writes.targets import Target
from phiproxy.sql.text.parse import Node, only, parse, strings
from phiproxy.types.declared import DeclaredType

_TEXT = DeclaredType.builtin("text")
# What the query of a view may have that PostgreSQL updates by itself (view_query_is_auto_updatable).
_SIMPLE = frozenset({"targetList", "fromClause", "whereClause", "limitOption", "op"})


class RowKey(NamedTuple):
    """A column that tells the row, as it is written; ``cast`` is that of what it is compared with, which is given as text."""

    column: str
    type: DeclaredType
    cast: str = ""

    @property
    def given(self) -> str:
        """How it is asked for."""
        return f"{self.column}::text" if self.cast else self.column


def row_keys(a: Analysis, target: Target) -> list[RowKey]:
    """Return the columns that tell a row of a target; Impossible where none are known.

    UPDATE springfield SET social = social || 'x'
    → write: UPDATE springfield SET social = phi_write.phi_2 FROM … WHERE springfield.id = phi_write.phi_1
    """
    label, relation = quote_ident(target.label, always=True), target.relation
    if relation.kind in "rp":
        return [RowKey(f"{label}.ctid", _TEXT, "::tid"), RowKey(f"{label}.tableoid", _TEXT, "::oid")]
    base, columns = base_of(a, relation)
    key = next((index for index in base.indexes if index.key), None)
    shown = {own: name for name, own in columns.items()}
    names = [shown.get(own, "") for own in key.columns] if key is not None else []
    if not names or any(not name or name in target.protected for name in names):
        why = "a view without the primary key of its table"
        raise RefusedWithHint(why, "Let the view have the columns of the table's primary key, or write to the table itself.")
    return [RowKey(f"{label}.{quote_ident(name, always=True)}", target.type(a.context.catalog, name)) for name in names]


def table_of(a: Analysis, relation: Relation) -> Relation:
    """Return the table that a target is, or that is behind a view; Impossible."""
    return base_of(a, relation)[0] if relation.kind == "v" else relation


def sets_key(a: Analysis, target: Target, names: set[str]) -> bool:
    """Tell whether an UPDATE of these columns takes a lock that foreign keys on them wait for; Impossible."""
    relation = target.relation
    if relation.kind == "v":
        relation, own = base_of(a, relation)
        names = {own.get(name, name) for name in names}
    return any(i.unique and not names.isdisjoint(i.columns) for i in relation.indexes)


def shows_all(a: Analysis, relation: Relation) -> bool:
    """Tell whether a target is a table, or a view that shows all rows of one; Impossible."""
    if relation.kind != "v":
        return True
    body, base = _query_of(a, relation)
    return "whereClause" not in body and shows_all(a, base)


def base_of(a: Analysis, relation: Relation) -> tuple[Relation, Mapping[str, str]]:
    """Return the table behind an updatable view, or one over such a view, and what its columns are of the table's; Impossible."""
    body, base = _query_of(a, relation)
    columns = {}
    for column, node in zip(relation.columns, body["targetList"], strict=True):
        fields = strings(only(node)[1]["val"].get("ColumnRef", {}).get("fields"))
        if fields and base.column(fields[-1]) is not None:
            columns[column.name] = fields[-1]
    if base.kind != "v":
        return base, columns
    last, behind = base_of(a, base)
    return last, {name: behind[column] for name, column in columns.items() if column in behind}


def _query_of(a: Analysis, relation: Relation) -> tuple[Node, Relation]:
    """Return the query of an updatable view, and what it is over; Impossible."""
    try:
        (statement,) = parse(a.context.catalog.views.get(relation.oid, "").encode())
    except (PhiproxyError, ValueError):
        raise Impossible("a view whose query is not known") from None
    body = statement.body
    if statement.kind != "SelectStmt" or set(body) - _SIMPLE or body.get("op", "SETOP_NONE") != "SETOP_NONE":
        raise Impossible("a view that is not updatable by itself")
    items = body.get("fromClause", ())
    table: Node = items[0].get("RangeVar", {}) if len(items) == 1 else {}
    base = a.context.catalog.by_name.get((table.get("schemaname", ""), table.get("relname", "")))
    if base is None or base.kind not in "rpv" or (base.kind == "r" and base.parent):
        raise Impossible("a view over something else than a table")
    if len(body["targetList"]) != len(relation.columns):
        raise Impossible("a view whose columns are not told apart")
    return body, base
