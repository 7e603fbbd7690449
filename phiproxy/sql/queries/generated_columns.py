"""Generated columns with tags, which clients do not know of: ``*`` and INSERT without a column list must leave them out."""

from collections.abc import Iterator, Sequence

from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import equality_slot
from phiproxy.sql.resolve.protected_values import Protected, group_key
from phiproxy.sql.resolve.scope import Scope, SourceColumn
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.references_and_markers import represented, select_tree, spelled_text
from phiproxy.sql.text.parse import Node, location, only


def in_between(relation: Relation, count: int) -> bool:
    """Tell whether the first ``count`` columns of the server are others than those that clients see first."""
    physical = sorted(relation.columns, key=lambda c: c.attnum)
    return [c.name for c in visible_columns(relation)[:count]] != [c.name for c in physical[:count]]


def list_columns(a: Analysis, body: Node, relation: Relation, count: int) -> None:
    """Give an INSERT of ``count`` values the column list that the client means, where the server would use another."""
    if "cols" in body or not relation.oid or not in_between(relation, count):
        return
    names = [c.name for c in visible_columns(relation)[:count]]
    a.rewrite(add_list, body=body, names=names)


def add_list(draft: Draft, *, body: Node, names: Sequence[str]) -> Iterator[Edit]:
    """Give an INSERT a column list."""
    target = body["relation"]
    end = draft.spans.relation_end(location(target), aliased="alias" in target)
    draft.tree.edit(body)["cols"] = [{"ResTarget": {"name": name}} for name in names]
    yield Edit(end, end, f" ({', '.join(quote_ident(name, always=True) for name in names)})".encode())


def list_star(
    a: Analysis, nodes: list[Node], node: Node, star: Sequence[SourceColumn], scope: Scope, table: int | None = None
) -> None:
    """Replace ``*`` or ``t.*`` by these columns, where the server's differ; ``table``: where the relation is in ``TABLE relation``.

    SELECT * FROM guests
    → SELECT "guests"."id", "guests"."name" FROM guests
    """
    reference = only(only(node)[1]["val"])[1]
    if any("\0" in name for column in star for pair in column.spelled for name in pair):
        raise a.refuse("* over a subquery without a name, which would have to be listed", reference, hint="List the columns.")
    listed = ", ".join(_listed(a, column, scope, reference) for column in star)
    a.rewrite(_replace_star, nodes=nodes, node=node, listed=listed, table=table)


def _listed(a: Analysis, column: SourceColumn, scope: Scope, body: Node) -> str:
    named = spelled_text(column.spelled)
    if isinstance(column.value, Protected) and group_key(column.value) in scope.grouped:
        slot = equality_slot(a, column.value.column, {"ColumnRef": body})
        named = represented(a.context.catalog.server_version, named, slot, sets=scope.sets)
    elif len(column.spelled) == 1:
        return named
    return f"{named} AS {quote_ident(column.name, always=True)}"


def _replace_star(draft: Draft, *, nodes: list[Node], node: Node, listed: str, table: int | None) -> Iterator[Edit]:
    spans = draft.spans
    if table is not None:
        token = spans.tokens[spans.before(spans.at(table), "TABLE")]
        start, end, text = token.start, token.end, f"SELECT {listed} FROM"
    else:
        (start, end), text = spans.column_ref(location(only(only(node)[1]["val"])[1])), listed
    edited = draft.tree.edit(nodes)
    i = next(i for i, other in enumerate(edited) if other is node)
    edited[i : i + 1] = select_tree(f"SELECT {listed}")["targetList"]
    yield Edit(start, end, text.encode())
