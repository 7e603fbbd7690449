"""ON CONFLICT: the conflict target is a unique index on tags, and DO UPDATE sees EXCLUDED."""

from collections.abc import Iterator, Sequence

from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import tag_of
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import protected_column
from phiproxy.sql.expressions.conditions import condition
from phiproxy.sql.expressions.expression import clear, equality_slot, located
from phiproxy.sql.expressions.index_expressions import derived_under
from phiproxy.sql.expressions.leaves import term
from phiproxy.sql.expressions.terms import as_tags
from phiproxy.sql.resolve.scope import Scope, Source
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.references_and_markers import tag_call
from phiproxy.sql.text.parse import Node, location, only
from phiproxy.sql.writes.assignment import assignments, columns_of


def on_conflict(a: Analysis, body: Node, relation: Relation, source: Source, outer: Scope) -> None:
    """Analyse ON CONFLICT of an INSERT into ``relation``.

    INSERT INTO members (mrn) VALUES ('x') ON CONFLICT (mrn) DO UPDATE SET email = excluded.email
    → INSERT INTO members (mrn) VALUES (envelope('x')) ON CONFLICT (tag(mrn)) DO UPDATE SET email = excluded.email
    """
    infer = body.get("infer", {})
    inside = Scope((source,), outer)
    if "indexElems" in infer:
        _target(a, infer, relation, inside)
    if "conname" in infer:
        _constraint(a, infer, relation)
    if not infer:
        _all_indexes(a, relation)
    if "whereClause" in infer:
        clear(a, infer["whereClause"], inside)
    excluded = Source("excluded", source.columns, None)
    scope = Scope((source, excluded), outer)
    assignments(a, body.get("targetList", []), relation, scope)
    if "whereClause" in body:
        condition(a, body["whereClause"], scope, "WHERE")


def _target(a: Analysis, infer: Node, relation: Relation, inside: Scope) -> None:
    """Replace protected columns of the conflict target by their tags; the server tells if there is no such index (42P10)."""
    columns = columns_of(a, relation)
    for position, node in enumerate(infer["indexElems"]):
        element = only(node)[1]
        column = columns.get(element.get("name", ""))
        if column is not None:
            _plain(a, element, infer, column)
            slot = equality_slot(a, column, {"InferClause": infer})
            a.rewrite(_tag_of_column, infer=infer, position=position, slot=slot)
            continue
        if "expr" not in element:
            continue
        expression, inner, casts = derived_under(a, element["expr"], inside)
        if expression is not None:
            indexed = expression.result.column
            if indexed.base is not None and indexed.slots and not indexed.base.derived(indexed.expression, indexed.type).slots:
                why = f"ON CONFLICT names {indexed.label}, and the index is on the same under another name"
                raise a.refuse(why, located(element["expr"]), hint="Spell it as the unique index was made.")
            _plain(a, element, infer, indexed)
            as_tags(a, term(a, element["expr"], inside), indexed, equality_slot(a, indexed, element["expr"]))
        elif (value := protected_column(a, inner, inside)) is None:
            clear(a, element["expr"], inside)
        else:
            _plain(a, element, infer, value.column)
            a.tag(inner, equality_slot(a, value.column, inner))
            a.strip(casts, value.column)


def _all_indexes(a: Analysis, relation: Relation) -> None:
    """Refuse ON CONFLICT DO NOTHING without a target where a unique index is over a column that the role does not see."""
    columns = columns_of(a, relation)
    for name in (name for index in relation.indexes if index.unique for name in index.columns):
        if name in columns:
            columns[name].refuse_masked()


def _constraint(a: Analysis, infer: Node, relation: Relation) -> None:
    """Replace ON CONSTRAINT by the columns of the index on tags that has the constraint's name."""
    if relation.kind == "v":
        why = "ON CONFLICT ON CONSTRAINT through a view over a protected table is not understood"
        raise a.refuse(why, infer if location(infer) >= 0 else {}, hint="Name the columns: ON CONFLICT (…).")
    index = relation.index(infer["conname"])
    columns = columns_of(a, relation)
    if index is None or index.constraint or not index.unique or not any(name in columns for name in index.columns):
        return
    node = {"InferClause": infer}
    slots = [equality_slot(a, columns[name], node) if name in columns else None for name in index.columns]
    a.rewrite(_columns_of_constraint, infer=infer, names=index.columns, slots=slots)


def _columns_of_constraint(draft: Draft, *, infer: Node, names: Sequence[str], slots: Sequence[Slot | None]) -> Iterator[Edit]:
    """Replace ``ON CONSTRAINT name`` by the columns, or tags of them, that the index is on."""
    edited = draft.tree.edit(infer)
    del edited["conname"]
    edited["indexElems"], spelled = [], []
    for name, slot in zip(names, slots, strict=True):
        element: Node = {"ordering": "SORTBY_DEFAULT", "nulls_ordering": "SORTBY_NULLS_DEFAULT"}
        if slot is None:
            element["name"] = name
            spelled.append(quote_ident(name, always=True))
        else:
            element["expr"] = tag_call({"ColumnRef": {"fields": [{"String": {"sval": name}}]}}, slot)
            spelled.append(tag_of(quote_ident(name, always=True), slot))
        edited["indexElems"].append({"IndexElem": element})
    start = location(infer)
    yield Edit(start, draft.spans.after(start, 2).end, f"({', '.join(spelled)})".encode())


def _tag_of_column(draft: Draft, *, infer: Node, position: int, slot: Slot) -> Iterator[Edit]:
    """Replace a column's name in the target by the expression that is indexed."""
    start, _ = draft.spans.items(location(infer))[position]
    end = draft.spans.after(start, 0).end
    element = draft.tree.edit(only(infer["indexElems"][position])[1])
    element["expr"] = tag_call({"ColumnRef": {"fields": [{"String": {"sval": element.pop("name")}}]}}, slot)
    yield Edit(start, end, tag_of(draft.text[start:end].decode(), slot).encode())


def _plain(a: Analysis, element: Node, infer: Node, column: ProtectedColumn) -> None:
    if "collation" in element or "opclass" in element:
        raise a.refuse(
            f"ON CONFLICT on {column.label} with COLLATE or an operator class is not understood",
            infer if location(infer) >= 0 else {},
            hint=f"Name the column only: its unique index is on tags, which have neither. ON CONFLICT ({column.name})",
        )
