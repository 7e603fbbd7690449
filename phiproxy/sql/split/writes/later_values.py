"""Values of a MERGE that are computed behind what is drawn: which these are, and what of the rows they need.

The engine decides which rows are written before anything is drawn. So the write that follows from its decisions has these values as
the client wrote them, but for their columns, which are given with the rows; it is split once more (``drawn_merge``).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from phiproxy.sql.context import Analysis
from phiproxy.sql.split.impossible import RefusedWithHint
from phiproxy.sql.split.writes.assigned_values import Given
from phiproxy.sql.split.writes.composed import Span
from phiproxy.sql.split.writes.derived_columns import gives_rows, virtual_columns
from phiproxy.sql.split.writes.drawn import beside_drawn, calls_in, is_called_where_reached, is_changing, is_drawn, name_of
from phiproxy.sql.split.writes.drawn_order import ASKED_FIRST, check_planned
from phiproxy.sql.split.writes.merge_clauses import Merge, When
from phiproxy.sql.split.writes.merge_source import column_names, derived_values
from phiproxy.sql.split.writes.returned_beside import reference_span
from phiproxy.sql.table_names import meant_relation
from phiproxy.sql.text.parse import Node, messages, only, strings
from phiproxy.sql.text.token_spans import Spans

_OF_QUERIES = frozenset({"RangeFunction", "RangeSubselect", "RangeTableFunc", "RangeTableSample", "SubLink"})


class Column(NamedTuple):
    """A column that such a value needs: where it stands in it, and what it is."""

    span: Span
    node: Node


class Later(NamedTuple):
    """Such a value, with the columns that are given."""

    value: Given
    columns: tuple[Column, ...]


def is_later(value: Given, *, drawing: bool) -> bool:
    """Tell whether a value is computed behind what is drawn: each that draws, and beside one all that may fail.

    A query is asked before.
    """
    if is_changing(value.node):
        return True
    return drawing and value.computed and "ColumnRef" not in value.node and not any("SubLink" in m for m in messages(value.node))


def later(spans: Spans, merge: Merge, when: When, value: Given) -> Later:
    """Return such a value of a clause; RefusedWithHint where it is not known what it needs.

    What goes to an unprotected column is computed by the server, which has the row of the target.
    """
    own, label, columns = {c.name for c in merge.target.relation.columns}, merge.target.label, list[Column]()
    for message in messages(value.node):
        names = strings(message["fields"]) if isinstance(message.get("fields"), list) else []
        if "SubLink" in message or names[-1:] == ["*"] or len(names) > 2:
            raise RefusedWithHint("a query, or a whole row, beside something that is drawn", ASKED_FIRST)
        if names:
            of_target = when.command != "CMD_INSERT" and (names[0] == label if len(names) == 2 else names[0] in own)
            if of_target and len(names) == 1 and not value.protected:
                raise RefusedWithHint("a column that may be one of the source too", "Put the name of the table before the column.")
            if value.protected or not of_target:
                columns.append(Column(reference_span(spans, message, len(names)), {"ColumnRef": message}))
    return Later(value, tuple(sorted(columns, key=lambda one: one.span)))


def check_reached(a: Analysis, merge: Merge, values: Sequence[Given]) -> frozenset[int]:
    """Go on where what is drawn in these values is drawn for each row for which one is computed; RefusedWithHint.

    Return the numbers of parameters that must not be NULL for that. PostgreSQL puts the values of one given row, and what a
    derived table has of others, in the place of their columns, before it leaves out what is beside a NULL:

    MERGE INTO members m USING (VALUES ('x', NULL)) AS s (mrn, word) ON m.mrn = s.mrn
      WHEN NOT MATCHED THEN INSERT (mrn, email) VALUES (s.mrn, s.word || nextval('numbers'))
    → refused 0A000
    """
    signatures, numbers = a.context.catalog.signatures, set[int]()
    if any(is_drawn(value.node) for value in values):
        check_planned(a, [when.node for when in merge.whens])
    for value in values:
        if not is_drawn(value.node):
            continue
        node = _with_given(a, merge, deepcopy(value.node))
        if signatures is None or not is_called_where_reached(node, signatures):
            raise RefusedWithHint("something that is not drawn for each row", ASKED_FIRST)
        numbers |= beside_drawn(node)
    return frozenset(numbers)


def _with_given(a: Analysis, merge: Merge, tree: Any) -> Any:
    """Return an expression with what PostgreSQL puts in the place of its columns of the source."""
    if isinstance(tree, list):
        return [_with_given(a, merge, one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    if "ColumnRef" in tree:
        names = strings(tree["ColumnRef"]["fields"])
        of_target = len(names) == 2 and names[0] == merge.target.label
        if of_target or len(names) == 1:
            virtual = virtual_columns(merge.target.relation)
            if of_target or names[-1] in virtual:
                return virtual.get(names[-1], tree)
        return _given_for(a, merge.body["sourceRelation"], names[-1], tree)
    return {key: _with_given(a, merge, value) for key, value in tree.items()}


def _given_for(a: Analysis, source: Node, name: str, column: Node) -> Node:
    kind, body = only(source)
    given = derived_values(source)
    if _is_of_tables(a, source) or (given is not None and len(given[1].get("valuesLists", ())) > 1):
        return column
    signatures = a.context.catalog.signatures
    if kind == "RangeFunction" and signatures is not None:
        called = [calls_in(one) for one in body["functions"]]
        if all(calls and gives_rows(signatures, name_of(calls[0])) for calls in called):
            return column
    query = only(body["subquery"])[1] if kind == "RangeSubselect" else {}
    if query.get("op", "SETOP_NONE") != "SETOP_NONE" or not {"targetList", "valuesLists"} & set(query) or "withClause" in query:
        raise RefusedWithHint("it is not known what PostgreSQL draws beside a column of the source", ASKED_FIRST)
    listed = only(query["valuesLists"][0])[1]["items"] if "valuesLists" in query else query["targetList"]
    values = [one if "valuesLists" in query else only(one)[1]["val"] for one in listed]
    names = column_names(query, strings(body.get("alias", {}).get("colnames", ())))
    names = [own or _name(value) for own, value in zip(names, values, strict=True)]
    found = [value for own, value in zip(names, values, strict=True) if own == name]
    of_columns = any("A_Star" in m or isinstance(m.get("fields"), list) for value in values for m in messages(value))
    if of_columns and not all(_is_of_tables(a, item) for item in query.get("fromClause", ())):
        raise RefusedWithHint("it is not known what PostgreSQL draws beside a column of the source", ASKED_FIRST)
    starred = any("A_Star" in m for value in values for m in messages(value))
    if len(found) != 1 and not (starred and not found):
        raise RefusedWithHint("a column of the source that is not known", ASKED_FIRST)
    return found[0] if found else column


def _name(value: Node) -> str:
    fields = strings(value["ColumnRef"]["fields"]) if "ColumnRef" in value else []
    return fields[-1] if fields else ""


def _is_of_tables(a: Analysis, item: Node) -> bool:
    """Tell whether all columns of an item of FROM are those of tables, whatever may be NULL in them."""
    own = {only(cte)[1]["ctename"] for cte in a.statement.body.get("withClause", {}).get("ctes", ())}
    for message in messages(item):
        if not _OF_QUERIES.isdisjoint(message):
            return False
        table = message.get("RangeVar")
        if table is None:
            continue
        relation = meant_relation(a, table) if table["relname"] not in own else None
        if relation is None or relation.kind not in "rp" or virtual_columns(relation):
            return False
    return only(item)[0] in ("RangeVar", "JoinExpr")
