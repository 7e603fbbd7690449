"""Generated tag columns, which no client knows of: lists of columns that the server would not make as the client means them.

``INSERT`` without a column list and ``*`` count the columns of a table, and the hidden ones among them (sql.md section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.guards import HIDDEN_PREFIX
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.expressions import equality_slot
from phiproxy.sql.finish import Spans, quote_ident
from phiproxy.sql.meaning import Edit
from phiproxy.sql.parse import Node, location, only
from phiproxy.sql.respell import quoted, spelled_text
from phiproxy.sql.scope import Protected, Scope, SourceColumn, group_key
from phiproxy.sql.wrap import represented, select_tree

PREFIX = HIDDEN_PREFIX


def visible_columns(relation: Relation) -> list[CatalogColumn]:
    """Return the columns that clients know of, in their order."""
    return [c for c in relation.columns if not c.name.startswith(PREFIX)]


def in_between(relation: Relation, count: int) -> bool:
    """Tell whether a hidden column stands before the last of the first ``count`` visible ones."""
    return [c.name for c in visible_columns(relation)[:count]] != [c.name for c in relation.columns[:count]]


def list_columns(a: Analysis, body: Node, relation: Relation, count: int) -> None:
    """Give an INSERT of ``count`` values the list of columns that its client means, where the server would take others."""
    if "cols" in body or not relation.oid or not in_between(relation, count):
        return
    names = [c.name for c in visible_columns(relation)[:count]]
    a.changes.append(partial(_add_list, body=body, names=names))


def _add_list(spans: Spans, _text: bytes, *, body: Node, names: Sequence[str]) -> Edit:
    target = body["relation"]
    end = spans.relation_end(location(target), aliased="alias" in target)
    body["cols"] = [{"ResTarget": {"name": name}} for name in names]
    return Edit(end, end, b" (" + b", ".join(quote_ident(name) for name in names) + b")")


def list_star(
    a: Analysis, nodes: list[Node], node: Node, star: Sequence[SourceColumn], scope: Scope, table: int | None = None
) -> None:
    """Let ``*`` or ``t.*``, an entry of a target list, be these columns, which the server's would not be.

    ``table`` is where the relation of ``TABLE relation`` stands.
    """
    reference = only(only(node)[1]["val"])[1]
    if any("\0" in name for column in star for pair in column.spelled for name in pair):
        raise a.refuse("* over a subquery without a name, which would have to be listed", reference, hint="List the columns.")
    listed = ", ".join(_listed(a, column, scope, reference) for column in star)
    a.changes.append(partial(_replace_star, nodes=nodes, node=node, listed=listed, table=table))


def _listed(a: Analysis, column: SourceColumn, scope: Scope, place: Node) -> str:
    named = spelled_text(column.spelled).decode()
    if isinstance(column.value, Protected) and group_key(column.value) in scope.grouped:
        slot = equality_slot(a, column.value.column, {"ColumnRef": place})
        return f"{represented(a, named, slot, sets=scope.sets)} AS {quoted(column.name)}"
    return named if len(column.spelled) == 1 else f"{named} AS {quoted(column.name)}"


def _replace_star(spans: Spans, _text: bytes, *, nodes: list[Node], node: Node, listed: str, table: int | None) -> Edit:
    if table is not None:
        brackets = spans.brackets
        token = spans.tokens[brackets.before(brackets.at(table), "TABLE")]
        start, end, text = token.start, token.end, f"SELECT {listed} FROM"
    else:
        (start, end), text = spans.column_ref(location(only(only(node)[1]["val"])[1])), listed
    i = next(i for i, other in enumerate(nodes) if other is node)
    nodes[i : i + 1] = select_tree(f"SELECT {listed}")["targetList"]
    return Edit(start, end, text.encode())
