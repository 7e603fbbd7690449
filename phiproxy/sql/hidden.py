"""Generated tag columns, which no client knows of: lists of columns that the server would not make as the client means them.

``INSERT`` without a column list and ``*`` count the columns of a table, and the hidden ones among them (sql.md section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.finish import Spans, quote_ident
from phiproxy.sql.meaning import Edit
from phiproxy.sql.parse import Node, location, only
from phiproxy.sql.scope import Joined, Source

PREFIX = "phi_tag_"


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


def list_star(a: Analysis, nodes: list[Node], node: Node, sources: Sequence[Source], joined: Joined) -> None:
    """Let ``*`` or ``t.*``, an entry of a target list, be the columns of these sources that the client knows of."""
    if not any(source.hidden for source in sources):
        return
    reference = only(only(node)[1]["val"])[1]
    names = [(source.alias, column.name) for source in sources for column in source.columns]
    if joined.merged or any("\0" in name for name in names):
        raise a.refuse("* over a join with USING beside hidden columns", reference, hint="List the columns.")
    a.changes.append(partial(_replace_star, nodes=nodes, node=node, names=names))


def _replace_star(spans: Spans, _text: bytes, *, nodes: list[Node], node: Node, names: Sequence[tuple[str, str]]) -> Edit:
    start, end = spans.column_ref(location(only(only(node)[1]["val"])[1]))
    fields = [[{"String": {"sval": part}} for part in name] for name in names]
    i = next(i for i, other in enumerate(nodes) if other is node)
    nodes[i : i + 1] = [{"ResTarget": {"val": {"ColumnRef": {"fields": f}}}} for f in fields]
    return Edit(start, end, b", ".join(quote_ident(alias) + b"." + quote_ident(column) for alias, column in names))
