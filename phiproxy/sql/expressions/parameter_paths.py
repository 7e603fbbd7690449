"""``doc ->> $1 = $2``: paths whose steps are parameters, as ORMs send them, compared with a text.

The server gets a comparison for each index that may be meant. The one that is meant, once the parameters are bound, gets the tag
of the value, the others what equals no tag; so it is answered where NULL counts as false.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial

from phiproxy.errors import ConfigError
from phiproxy.index.document_paths import path_of
from phiproxy.index.registered_form import normal
from phiproxy.index.spelling import Call, Cast, Column, Expression, read
from phiproxy.index.transform import transform
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import protected_column
from phiproxy.sql.expressions.constant_formulas import text_formula
from phiproxy.sql.expressions.index_expressions import IndexOperand, grouped_operand, index_operand, own_name
from phiproxy.sql.resolve.scope import Scope, is_whole_row
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.references_and_markers import tag_text, tag_tree
from phiproxy.sql.text.parse import Node, messages, only, strings
from phiproxy.sql.values.accepted_types import TEXT
from phiproxy.sql.values.bound_paths import BoundPath, OfPath, parameters
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.index_spelling import read_tree, waiting
from phiproxy.sql.values.operands import Inserted, Operand, as_operand
from phiproxy.sql.values.uses import Search
from phiproxy.wire.oids import TEXT_OID


def bound_path(a: Analysis, node: Node, body: Node, scope: Scope) -> bool:
    """Answer such a comparison by tags, where NULL counts as false; return False for anything else.

    SELECT id FROM charts WHERE lower(doc ->> $1::text) = $2
    → SELECT id FROM charts WHERE (NULLIF(tag3(doc), zeros) = tag3($2))

    SELECT id FROM charts WHERE doc ->> ward = $1
    → refused 0A000
    """
    if body["kind"] != "AEXPR_OP" or strings(body["name"]) != ["="] or "lexpr" not in body or id(node) not in a.filters:
        return False
    if "ColumnRef" in body["lexpr"] or not a.context.catalog.replaced.isdisjoint(("=", "<>")):
        return False
    references: list[Node] = []

    def leaf(part: Node) -> Expression | None:
        kind, inner = only(part)
        if kind != "ColumnRef" or strings(inner["fields"])[-1] == "*":
            return None
        references.append(part)
        return Column()

    template = read_tree(body["lexpr"], leaf, partial(own_name, a), bound=True)
    if template is None or len(references) != 1 or not parameters(template):
        return False
    (reference,) = references
    if is_whole_row(scope, strings(only(reference)[1]["fields"])):
        return False
    protected = protected_column(a, reference, scope)
    parts = [operand for m in messages(body["lexpr"]) if "ParamRef" in m and (operand := as_operand(m)) is not None]
    value = text_formula(a, body["rexpr"], parts)
    if protected is None or protected.column.base is not None or value is None:
        return False
    candidates = list(_candidates(protected.column, template))
    matched = index_operand(a, reference, scope) if candidates else None
    if matched is None:
        return False
    if matched.grouped:
        raise grouped_operand(a, matched.value, reference)
    _compare(a, node, matched, candidates, [*_formulas(protected.column, template, value, candidates)], parts)
    return True


def _candidates(column: ProtectedColumn, template: Expression) -> Iterator[tuple[str, ProtectedColumn, Slot]]:
    """Yield the indexes that have a path where the template has one, and are the same around it, with their columns and slots."""
    type_name = column.type.indexed_as
    try:
        any_path = normal(template, type_name)
    except ConfigError:
        return
    for slot in column.slots:
        if slot.state != "active" or _around(read(slot.expression)) != _around(any_path):
            continue
        if transform(slot.expression, type_name).result != "text":
            continue
        own_column = column.derived(slot.expression, TEXT)
        own_slot = own_column.slot_for("@")
        assert own_slot is not None
        yield slot.expression, own_column, own_slot


def _around(expression: Expression) -> Expression:
    """Return an expression with any path in it, however long, as one call."""
    whole = path_of(expression)
    if whole is not None:
        return Call("path_text" if whole.as_text else "path", (whole.operand,))
    match expression:
        case Call(name=name, arguments=arguments):
            return Call(name, tuple(map(_around, arguments)))
        case Cast(argument=argument, type=target):
            return Cast(_around(argument), target)
    return expression


def _formulas(
    column: ProtectedColumn, template: Expression, value: Formula, candidates: Sequence[tuple[str, ProtectedColumn, Slot]]
) -> Iterator[Formula]:
    """Yield for each index what the server compares its tags with."""
    steps = tuple(Formula(number=number, type_oid=TEXT_OID) for number in parameters(template))
    answered = frozenset(expression for expression, _, _ in candidates)
    names = column.type.indexed_as, quote_ident(column.name), column.label, waiting(column.slots)
    for expression, _, _ in candidates:
        yield Formula("path", (*steps, value), path=BoundPath(expression, template, answered, *names))


def _compare(
    a: Analysis,
    node: Node,
    matched: IndexOperand,
    candidates: Sequence[tuple[str, ProtectedColumn, Slot]],
    formulas: Sequence[Formula],
    parts: Sequence[Operand],
) -> None:
    right = only(node)[1]["rexpr"]
    nodes = [right, *(copy.deepcopy(right) for _ in candidates[1:])]
    tests = [(slot, matched.stored(slot)) for _, _, slot in candidates]
    for i, ((_, column, slot), formula) in enumerate(zip(candidates, formulas, strict=True)):
        behind = b")" if i == len(candidates) - 1 else b""
        operand = Operand("formula", nodes[i], nodes[i], (), formula=formula, parts=tuple(parts), own=TEXT, closing=behind)
        if i:
            inserted = Inserted(right, matched.column, partial(_lead, test=tests[i], before=" OR "), behind)
            operand = dataclasses.replace(operand, inserted=inserted, closing=b"")
        a.use(operand, Search(column, slot, TEXT, chosen=OfPath()), TEXT_OID)
    a.rewrite(_head, node=node, right=right, column=matched.column, test=tests[0])
    a.rewrite(_tail, node=node, right=right, column=matched.column, tests=tests, nodes=nodes)


def _lead(named: str, *, test: tuple[Slot, str | None], before: str) -> bytes:
    return f"{before}{tag_text(named, *test)} = ".encode()


def _head(draft: Draft, *, node: Node, right: Node, column: Node, test: tuple[Slot, str | None]) -> Iterator[Edit]:
    """Replace the text before the value by the first comparison."""
    start, _ = draft.spans.expression(node)
    end, _ = draft.spans.expression(right)
    yield Edit(start, end, _lead(draft.named(column), test=test, before="("))


def _tail(
    draft: Draft,
    *,
    node: Node,
    right: Node,
    column: Node,
    tests: Sequence[tuple[Slot, str | None]],
    nodes: Sequence[Node],
) -> Iterator[Edit]:
    """Drop the text behind the value, and replace the tree by the comparisons."""
    _, end = draft.spans.expression(right)
    _, last = draft.spans.expression(node)
    trees: list[Node] = [
        {"A_Expr": {"kind": "AEXPR_OP", "name": [{"String": {"sval": "="}}], "lexpr": tag_tree(column, *test), "rexpr": value}}
        for test, value in zip(tests, nodes, strict=True)
    ]
    draft.tree.replace(node, trees[0] if len(trees) == 1 else {"BoolExpr": {"boolop": "OR_EXPR", "args": trees}})
    yield Edit(end, last, b"")
