"""What of the source of a MERGE tells which rows of the target it matches: of given values those only that are compared.

The others are in no statement for the server: they may be stored in protected columns, or be computed with.
"""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.split.clauses import where
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.tables_and_columns import mentioned
from phiproxy.sql.split.writes.clauses import items, level, span_of
from phiproxy.sql.split.writes.composed import Span
from phiproxy.sql.split.writes.merge_clauses import Merge
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.text.token_spans import OPEN, Spans

_MORE = frozenset(
    {
        "distinctClause",
        "fromClause",
        "groupClause",
        "havingClause",
        "larg",
        "limitCount",
        "limitOffset",
        "whereClause",
        "withClause",
    }
)


def matching(spans: Spans, merge: Merge) -> list[str | Span]:
    """Return the source as an item of FROM, with the columns that its condition needs.

    ``(VALUES ($1, $2)) AS s (mrn, email)`` with ``ON m.mrn = s.mrn`` is ``(VALUES ($1)) AS "s" ("mrn")``.
    """
    return with_columns(spans, merge.source, merge.body["sourceRelation"], [merge.body["joinCondition"]])


def with_columns(spans: Spans, source: Span, node: Node, asked: Sequence[Node]) -> list[str | Span]:
    """Return an item of FROM; one of given values with the columns only that stand in what is ``asked``."""
    given = derived_values(node)
    if given is None:
        return [source]
    alias, query, named = given
    names = mentioned(bodies(asked, ())).names
    opening = spans.at(source[0])
    rows = _rows(spans, opening, query)
    kept = [n for n, name in enumerate(column_names(query, named)) if name in names]
    listed = ", ".join(quote_ident(column_names(query, named)[n], always=True) for n in kept)
    label = quote_ident(alias, always=True)
    if not kept:
        return [f"(SELECT true) AS {label}"]
    pieces: list[str | Span] = ["(VALUES "]
    for number, row in enumerate(rows):
        pieces.append(", (" if number else "(")
        for position, n in enumerate(kept):
            pieces += [", " if position else "", row[n]]
        pieces.append(")")
    return [*pieces, f") AS {label} ({listed})"]


def equalities(spans: Spans, condition: Node, end: int) -> list[tuple[Span, Node]]:
    """Return what of a WHERE, which ends at a byte, compares two columns: that the server decides, where any.

    ``v.id = p.id AND p.notes > v.note`` has ``v.id = p.id``
    """
    found = []
    for part in where(spans, condition):
        (node, *others) = part.nodes
        compared = node.get("A_Expr", {})
        sides = [compared.get(side, {}) for side in ("lexpr", "rexpr")]
        if not others and strings(compared.get("name")) == ["="] and all("ColumnRef" in side for side in sides):
            found.append(((part.start, min(part.end, end)), node))
    return found


def derived_values(node: Node) -> tuple[str, Node, list[str]] | None:
    """Return the alias of a derived table of given values, its query, and the names that the alias gives; None of any other."""
    kind, body = only(node)
    query = only(body["subquery"])[1] if kind == "RangeSubselect" else {}
    if "alias" not in body or not ({"valuesLists", "targetList"} & set(query)) or set(query) & _MORE:
        return None
    return body["alias"]["aliasname"], query, strings(body["alias"].get("colnames", ()))


def column_names(query: Node, named: list[str]) -> list[str]:
    """Return the names of the columns of a derived table of given values; one that is not known is empty."""
    if "valuesLists" in query:
        count = len(only(query["valuesLists"][0])[1]["items"])
        own = [f"column{n}" for n in range(1, count + 1)]
    else:
        own = [only(node)[1].get("name", "") for node in query["targetList"]]
    return [*named, *own[len(named) :]]


def _rows(spans: Spans, opening: int, query: Node) -> list[list[Span]]:
    """Return where the values stand, row by row; of a SELECT each without its name."""
    closing = spans.partner(opening)
    if "valuesLists" in query:
        return [spans.items(spans.tokens[i].start) for i in level(spans, opening + 2, closing) if spans.name(i) == OPEN]
    row = []
    for (first, behind), node in zip(items(spans, opening + 2, closing), query["targetList"], strict=True):
        named = "name" in only(node)[1]
        last = behind - (2 if named and spans.name(behind - 2) == "AS" else 1 if named else 0)
        row.append(span_of(spans, first, last))
    return [row]
