"""ON CONFLICT: the target on the tags of protected columns, and DO UPDATE with EXCLUDED."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from phiproxy.policy.catalog import Relation
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.assign import assignments, columns_of
from phiproxy.sql.derived import derived_under
from phiproxy.sql.expressions import clear, column_operand, equality_slot, located
from phiproxy.sql.finish import Spans, quote_ident, tag_expression, to_tag_call
from phiproxy.sql.leaves import term
from phiproxy.sql.meaning import Edit
from phiproxy.sql.mismatch import condition
from phiproxy.sql.parse import Node, location, only
from phiproxy.sql.scope import Scope, Source
from phiproxy.sql.terms import as_tags


def on_conflict(a: Analysis, body: Node, relation: Relation, source: Source, outer: Scope) -> None:
    """Analyse an OnConflictClause body of an INSERT into ``relation``."""
    infer = body.get("infer", {})
    inside = Scope((source,), outer)
    if "indexElems" in infer:
        _target(a, infer, relation, inside)
    if "conname" in infer:
        _constraint(a, infer, relation)
    if "whereClause" in infer:
        clear(a, infer["whereClause"], inside)
    excluded = Source("excluded", source.columns, None)
    scope = Scope((source, excluded), outer)
    assignments(a, body.get("targetList", []), relation, scope)
    if "whereClause" in body:
        condition(a, body["whereClause"], scope, "WHERE")


def _target(a: Analysis, infer: Node, relation: Relation, inside: Scope) -> None:
    """Let the arbiter be the unique index on the tags; whether there is one the server says (42P10)."""
    columns = columns_of(a, relation)
    for position, node in enumerate(infer["indexElems"]):
        element = only(node)[1]
        column = columns.get(element.get("name", ""))
        if column is not None:
            _plain(a, element, infer, column)
            slot = equality_slot(a, column, {"InferClause": infer})
            a.changes.append(partial(_tag_of_column, infer=infer, position=position, slot=slot))
            continue
        if "expr" not in element:
            continue
        operand = column_operand(a, element["expr"], inside)
        found, _, _ = derived_under(a, element["expr"], inside)
        if found is not None:
            made = found.made.column
            if made.base is not None and made.slots and not made.base.derived(made.expression, made.type).slots:
                why = f"ON CONFLICT names {made.label}, and the index is on the same under another name"
                raise a.refuse(why, located(element["expr"]), hint="Spell it as the unique index was made.")
            _plain(a, element, infer, made)
            as_tags(a, term(a, element["expr"], inside), made, equality_slot(a, made, element["expr"]))
        elif operand is None:
            clear(a, element["expr"], inside)
        else:
            _plain(a, element, infer, operand.column)
            operand.tag(a, equality_slot(a, operand.column, operand.node))


def _constraint(a: Analysis, infer: Node, relation: Relation) -> None:
    """Infer the unique index on tags that the client knows as a constraint; of any other name the server says what it is."""
    if relation.kind == "v":
        raise a.refuse(
            "ON CONFLICT ON CONSTRAINT through a view over a protected table is not understood",
            infer if location(infer) >= 0 else {},
            hint="Name the columns: ON CONFLICT (…).",
        )
    index = relation.index(infer["conname"])
    columns = columns_of(a, relation)
    if index is None or index.constraint or not index.unique or not any(name in columns for name in index.columns):
        return
    node = {"InferClause": infer}
    slots = [equality_slot(a, columns[name], node) if name in columns else None for name in index.columns]
    a.changes.append(partial(_columns_of_constraint, infer=infer, names=index.columns, slots=slots))


def _columns_of_constraint(spans: Spans, _text: bytes, *, infer: Node, names: Sequence[str], slots: Sequence[Slot | None]) -> Edit:
    """Replace ``ON CONSTRAINT name`` by the columns, or tags of them, that the index is on."""
    del infer["conname"]
    infer["indexElems"], spelled = [], []
    for name, slot in zip(names, slots, strict=True):
        element: Node = {"ordering": "SORTBY_DEFAULT", "nulls_ordering": "SORTBY_NULLS_DEFAULT"}
        if slot is None:
            element["name"] = name
            spelled.append(quote_ident(name))
        else:
            element["expr"] = {"ColumnRef": {"fields": [{"String": {"sval": name}}]}}
            to_tag_call(element["expr"], slot)
            spelled.append(tag_expression(quote_ident(name), slot))
        infer["indexElems"].append({"IndexElem": element})
    start = location(infer)
    return Edit(start, spans.after(start, 2).end, b"(" + b", ".join(spelled) + b")")


def _tag_of_column(spans: Spans, text: bytes, *, infer: Node, position: int, slot: Slot) -> Edit:
    """Replace a column's name in the target by the expression that is indexed."""
    start, _ = spans.items(location(infer))[position]
    end = spans.after(start, 0).end
    element = only(infer["indexElems"][position])[1]
    expression: Node = {"ColumnRef": {"fields": [{"String": {"sval": element.pop("name")}}]}}
    to_tag_call(expression, slot)
    element["expr"] = expression
    return Edit(start, end, tag_expression(text[start:end], slot))


def _plain(a: Analysis, element: Node, infer: Node, column: ProtectedColumn) -> None:
    if "collation" in element or "opclass" in element:
        raise a.refuse(
            f"ON CONFLICT on {column.label} with COLLATE or an operator class is not understood",
            infer if location(infer) >= 0 else {},
            hint=f"Name the column only: its unique index is on tags, which have neither. ON CONFLICT ({column.name})",
        )
