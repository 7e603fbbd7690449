"""``doc @> value`` over protected documents, as comparisons with tags of the indexes that hold its scalars.

A literal is answered by the indexes of its own scalars. For a parameter the server gets a comparison for each index over a path,
with the value of each, and those for which the value has nothing get an empty bytea, with which the comparison is true.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from phiproxy.documents.field_paths import Path as FieldPath
from phiproxy.documents.path_operators import Key, Path
from phiproxy.errors import NoIndexAnswers, ValueRefused
from phiproxy.index.document_paths import path_of
from phiproxy.index.spelling import Expression, read
from phiproxy.index.transform import transform
from phiproxy.policy.column_types import builtin, parse_type
from phiproxy.policy.document_columns import may_be_indexed
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import tag_of
from phiproxy.policy.physical_documents import reached
from phiproxy.policy.protection import DocumentFields, ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import located
from phiproxy.sql.expressions.index_expressions import IndexOperand, grouped_operand, index_operand
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.references_and_markers import expression_tree, tag_text, tag_tree
from phiproxy.sql.text.parse import Node, strings
from phiproxy.sql.values.accepted_types import OWN
from phiproxy.sql.values.contained_scalars import Contained, PathIndex
from phiproxy.sql.values.field_containment import REST, ContainedFields
from phiproxy.sql.values.index_spelling import waiting
from phiproxy.sql.values.operands import Inserted, Operand, as_operand
from phiproxy.sql.values.patterns import NotAnswered
from phiproxy.sql.values.uses import Search
from phiproxy.types.codecs import codec
from phiproxy.types.styles import Styles

_JSONB = builtin("jsonb")
_NOTHING = "'\\x'::bytea"


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An index that may answer a part: its path from the compared document, its column and slot."""

    index: PathIndex
    column: ProtectedColumn
    slot: Slot


def contains(a: Analysis, node: Node, body: Node, scope: Scope) -> bool:
    """Answer ``@>`` by comparisons of tags, where NULL counts as false; return False for anything else.

    SELECT id FROM charts WHERE doc @> '{"age": 40}'
    → SELECT id FROM charts WHERE (NULLIF(tag2(doc), zeros) = tag2('{"age": 40}'))

    SELECT id FROM charts WHERE doc->'name' @> '{"family": "Smith"}'
    → SELECT id FROM charts WHERE (NULLIF(tag1(doc), zeros) = tag1('{"family": "Smith"}'))

    SELECT id FROM charts WHERE doc @> '{"zip": "8010"}'
    → refused 0A000

    SELECT doc @> '{"age": 40}' FROM charts
    → refused 0A000

    SELECT id FROM records WHERE fields #> '{extra,a}' @> '{"ward": "B2"}'
    → refused 0A000

    SELECT id FROM records WHERE fields @> '{"ward": "B2"}'
    → SELECT id FROM "public".records WHERE (fields OPERATOR(pg_catalog.@>) tag('{"ward": "B2"}'))
    """
    if body["kind"] != "AEXPR_OP" or strings(body["name"]) != ["@>"] or "lexpr" not in body or id(node) not in a.filters:
        return False
    operand = as_operand(body["rexpr"])
    if operand is None or operand.kind == "null" or any(declared.family != "jsonb" for declared in operand.types):
        return False
    if not a.context.catalog.replaced.isdisjoint(("@>", "=", "<>")):
        return False
    matched = index_operand(a, body["lexpr"], scope)
    if matched is None or matched.value.type.family != "jsonb" or matched.value.column.shown_of is not None:
        return False
    if matched.grouped:
        raise grouped_operand(a, matched.value, body["lexpr"])
    _answer(a, node, matched, operand)
    return True


def _answer(a: Analysis, node: Node, matched: IndexOperand, operand: Operand) -> None:
    column = matched.value.column
    base = column.base or column
    if base.document is not None:
        if column is not base:
            hint = "Compare the whole document."
            raise NoIndexAnswers(f"no blind index answers what {column.label} holds", hint=hint, position=a.position(located(node)))
        _answer_fields(a, node, matched, operand, base.document)
        return
    candidates = list(_candidates(base, read(column.expression)))
    first = Contained(
        0, tuple(c.index for c in candidates), column.expression, quote_ident(base.name), base.label, waiting(base.slots)
    )
    if not candidates:
        hint = "Index a path of it: what is at the path as jsonb answers every scalar, and as text a string that is no number."
        raise NoIndexAnswers(f"no blind index answers what {base.label} holds", hint=hint, position=a.position(located(node)))
    chosen = list(range(len(candidates)))
    if operand.kind == "literal":
        a.answer.by_value = True
        chosen = sorted(_chosen(a, operand, first))
    tests = [_Test(candidates[i].slot, matched.stored(candidates[i].slot), optional=operand.kind != "literal") for i in chosen]
    uses = [Search(candidates[i].column, candidates[i].slot, _JSONB, chosen=replace(first, own=i)) for i in chosen]
    _compare(a, node, matched, operand, tests, uses)


def _answer_fields(a: Analysis, node: Node, matched: IndexOperand, operand: Operand, document: DocumentFields) -> None:
    """Answer ``@>`` over a document with sealed fields: by what is in clear of the value, and by a tag for each sealed scalar."""
    of = matched.value.column
    columns: dict[int, tuple[ProtectedColumn, Slot]] = {}
    for number, field in enumerate(document.fields):
        slot = field.slot_for("@")
        if slot is not None and may_be_indexed(document.paths[number]):
            part = replace(of.part_at(document.paths[number], field.type, text=True), number=field.number, slots=field.slots)
            columns[number] = part, replace(slot, form="text")
    first = ContainedFields(REST, document, frozenset(columns), of.label)
    chosen = list(columns)
    if operand.kind == "literal":
        a.answer.by_value = True
        chosen = [number for number in _chosen(a, operand, first) if number != REST]
    tests: list[_Test | _InClear] = [_InClear()]
    uses = [Search(of, Slot(0, "@", 0, "active"), _JSONB, chosen=first)]
    for number in chosen:
        column, slot = columns[number]
        tests.append(_Test(slot, None, optional=operand.kind != "literal", path=document.paths[number]))
        uses.append(Search(column, slot, _JSONB, chosen=replace(first, own=number)))
    _compare(a, node, matched, operand, tests, uses)


def _chosen(a: Analysis, operand: Operand, contained: Contained | ContainedFields) -> list[int]:
    try:
        value = codec(_JSONB).from_text(operand.literal, Styles.CANONICAL)
    except ValueRefused as refused:
        refused.position = a.at(operand.offset)
        raise
    try:
        if isinstance(contained, ContainedFields):
            return sorted(contained.subjects(value)[0])
        return list(contained.subjects(value))
    except NotAnswered as unanswered:
        refusal = NoIndexAnswers(unanswered.message, hint=unanswered.hint, position=a.at(operand.offset))
        refusal.weaker = contained.weaker(value)
        raise refusal from None


def _candidates(base: ProtectedColumn, over: Expression) -> Iterator[_Candidate]:
    inner = path_of(over)
    before = Path() if inner is None else inner.path
    for slot in base.slots:
        whole = path_of(read(slot.expression)) if slot.state == "active" else None
        if whole is None or whole.path.steps[: len(before.steps)] != before.steps:
            continue
        rest = whole.path.steps[len(before.steps) :]
        if not rest or not all(isinstance(step, Key) for step in rest):
            continue
        column = base.derived(slot.expression, parse_type(transform(slot.expression, base.type.indexed_as).result))
        own_slot, keys = column.slot_for("@"), Path(rest).keys
        assert own_slot is not None
        assert keys is not None
        yield _Candidate(PathIndex(keys, whole.as_text), column, own_slot)


@dataclass(frozen=True, slots=True)
class _Test:
    """A comparison with a tag; ``optional``: it is also true with nothing. ``path``: that of a field in the document."""

    slot: Slot
    stored: str | None
    optional: bool
    path: FieldPath = ()

    def leads(self, named: str) -> list[str]:
        """Return the text before each value of the test."""
        tag = tag_of(reached(named, self.path, text=True), self.slot) if self.path else tag_text(named, self.slot, self.stored)
        first = f"({tag} = "
        return [first, f" OR {_NOTHING} = "] if self.optional else [first]

    def tree(self, column: Node, values: Sequence[Node]) -> Node:
        """Return the tree of the test."""
        tag = tag_tree(column, self.slot, self.stored)
        if self.path:
            tag = expression_tree(tag_of(reached("phi_x", self.path, text=True), self.slot), {"phi_x": column})
        comparisons = [_equal(tag, values[0])]
        if not self.optional:
            return comparisons[0]
        return {"BoolExpr": {"boolop": "OR_EXPR", "args": [*comparisons, _equal(expression_tree(_NOTHING, {}), values[1])]}}


@dataclass(frozen=True, slots=True)
class _InClear:
    """What the server holds of a document is asked of it, so that its own indexes are of use."""

    optional: bool = False

    def leads(self, named: str) -> list[str]:
        """Return the text before the value."""
        return [f"({named} OPERATOR(pg_catalog.@>) "]

    def tree(self, column: Node, values: Sequence[Node]) -> Node:
        """Return the tree of the test."""
        name = [{"String": {"sval": part}} for part in ("pg_catalog", "@>")]
        return {"A_Expr": {"kind": "AEXPR_OP", "name": name, "lexpr": copy.deepcopy(column), "rexpr": values[0]}}


_Tests = Sequence[_Test | _InClear]


def _equal(left: Node, right: Node) -> Node:
    return {"A_Expr": {"kind": "AEXPR_OP", "name": [{"String": {"sval": "="}}], "lexpr": left, "rexpr": right}}


def _lead(named: str, *, tests: _Tests, number: int) -> bytes:
    """Return the text before the value with this number, of all tests."""
    places = [(i, j) for i, test in enumerate(tests) for j in range(1 + test.optional)]
    i, j = places[number]
    before = "" if j else ") AND " if i else "(" * (len(tests) > 1)
    return (before + tests[i].leads(named)[j]).encode()


def _compare(a: Analysis, node: Node, matched: IndexOperand, operand: Operand, tests: _Tests, uses: Sequence[Search]) -> None:
    each = [one for test, use in zip(tests, uses, strict=True) for one in _values(use, optional=test.optional)]
    nodes = [operand.wrapper, *(copy.deepcopy(operand.node) for _ in each[1:])]
    closing = b")" if len(tests) == 1 else b"))"
    a.use(replace(operand, closing=closing if len(each) == 1 else b""), each[0], OWN)
    read_so = a.uses[-1]
    assert isinstance(read_so.use, Search)
    for i, use in enumerate(each[1:], start=1):
        lead = partial(_lead, tests=tests, number=i)
        inserted = Inserted(operand.wrapper, matched.column, lead, closing if i == len(each) - 1 else b"")
        more = replace(operand, node=nodes[i], wrapper=nodes[i], casts=(), own=None, inserted=inserted)
        a.use(more, replace(use, given=read_so.use.given), read_so.type_oid)
    a.drop_casts(operand.casts)
    a.rewrite(_head, node=node, operand=operand, column=matched.column, tests=tests)
    a.rewrite(_tail, node=node, operand=operand, column=matched.column, tests=tests, nodes=nodes)


def _values(use: Search, *, optional: bool) -> Iterator[Search]:
    yield use
    if optional:
        assert isinstance(use.chosen, Contained | ContainedFields)
        yield replace(use, chosen=replace(use.chosen, asked=True))


def _head(draft: Draft, *, node: Node, operand: Operand, column: Node, tests: _Tests) -> Iterator[Edit]:
    """Replace the text before the value by the first comparison."""
    start, _ = draft.spans.expression(node)
    end, _ = draft.spans.expression(operand.wrapper)
    yield Edit(start, end, _lead(draft.named(column), tests=tests, number=0))


def _tail(draft: Draft, *, node: Node, operand: Operand, column: Node, tests: _Tests, nodes: Sequence[Node]) -> Iterator[Edit]:
    """Drop the text behind the value, and replace the tree by the comparisons."""
    _, end = draft.spans.expression(operand.wrapper)
    _, last = draft.spans.expression(node)
    values = iter(nodes)
    trees = [test.tree(column, [next(values) for _ in range(1 + test.optional)]) for test in tests]
    draft.tree.replace(node, trees[0] if len(trees) == 1 else {"BoolExpr": {"boolop": "AND_EXPR", "args": trees}})
    yield Edit(end, last, b"")
