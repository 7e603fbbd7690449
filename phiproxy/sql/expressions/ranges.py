"""Ranges of protected columns, with two bounds in one AND or BETWEEN, as comparisons with the tags of whole periods.

``dob >= $1 AND dob < $2`` becomes ``(T_0 = ANY($1) OR T_1 = ANY($2)) AND true`` over all indexes that may answer. Which of them do,
and by which tags, is decided when the bounds are known (``range_periods``). No index answers a single bound.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

from phiproxy.errors import NoIndexAnswers
from phiproxy.frozen import dataclass
from phiproxy.index.cover_range import axis, period
from phiproxy.index.registered_form import twins
from phiproxy.index.spelling import Column, read, write
from phiproxy.index.transform import short_type, transform
from phiproxy.policy.column_types import parse_type
from phiproxy.policy.identifiers import shown_expression
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.constant_arithmetic import arithmetic_operand
from phiproxy.sql.expressions.error_positions import at_operator
from phiproxy.sql.expressions.expression import located, unsupported
from phiproxy.sql.expressions.field_hints import index_name
from phiproxy.sql.expressions.index_expressions import LOCAL, IndexOperand, index_operand
from phiproxy.sql.resolve.protected_values import Protected, group_key
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.references_and_markers import expression_tree, tag_text, tag_tree
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.accepted_types import OWN
from phiproxy.sql.values.index_spelling import add_index, await_index, waiting
from phiproxy.sql.values.operands import Inserted, Operand, as_operand
from phiproxy.sql.values.range_periods import MOST, Range, RangeBounds, within
from phiproxy.sql.values.uses import Search

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


@dataclass(frozen=True, slots=True)
class _Bound:
    """One comparison of ``column`` with ``operand``; ``operator`` is written as if the column stood on its left."""

    node: Node
    column: IndexOperand
    operand: Operand
    operator: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An index that may answer: its column and slot, and the ``part`` that it has of the compared value."""

    column: ProtectedColumn
    slot: Slot
    part: str


def conjuncts(a: Analysis, node: Node, body: Node, scope: Scope) -> None:
    """Answer two bounds of a range that AND or OR joins by tags, and note them in ``a.decided``.

    SELECT id FROM stays WHERE bed >= 1 AND bed < 3
    → SELECT id FROM stays WHERE tag(bed) = ANY(tags(1, …)) AND true

    SELECT id FROM stays WHERE bed >= 1
    → refused 0A000
    """
    if body["boolop"] == "NOT_EXPR" or id(node) in a.decided:
        return
    lower: dict[tuple[int, str], list[_Bound]] = {}
    upper: dict[tuple[int, str], list[_Bound]] = {}
    outside = body["boolop"] == "OR_EXPR"
    for part in _parts(a, node, body["boolop"]):
        bound = _bound(a, part, scope)
        if bound is None:
            continue
        if outside:  # dob < $1 OR dob >= $2 is NOT (dob >= $1 AND dob < $2)
            bound = dataclasses.replace(bound, operator=_OPPOSITE[bound.operator])
        same_side = lower if bound.operator.startswith(">") else upper
        same_side.setdefault(group_key(bound.column.source, bound.column.value.column.expression), []).append(bound)
    for key, bounds in lower.items():
        for one, other in zip(bounds, upper.get(key, ()), strict=False):
            _pair(a, one, other, outside=outside, filtered=id(node) in a.filters)


def _parts(a: Analysis, node: Node, boolop: str) -> Iterator[Node]:
    a.decided.add(id(node))
    for part in only(node)[1]["args"]:
        kind, body = only(part)
        if kind == "BoolExpr" and body["boolop"] == boolop:
            yield from _parts(a, part, boolop)
        else:
            yield part


def _bound(a: Analysis, node: Node, scope: Scope) -> _Bound | None:
    kind, body = only(node)
    if kind != "A_Expr" or body["kind"] != "AEXPR_OP" or "lexpr" not in body:
        return None
    operator = strings(body["name"])[-1]
    if operator not in _FLIPPED or len(body["name"]) > 1 or _replaced(a, operator):
        return None
    for side, other, as_if in (("lexpr", "rexpr", operator), ("rexpr", "lexpr", _FLIPPED[operator])):
        operand = as_operand(body[other]) or arithmetic_operand(a, body[other])
        of = _operand(a, body[side], scope) if operand is not None else None
        if operand is not None and of is not None:
            return _Bound(node, of, operand, as_if)
    return None


def _replaced(a: Analysis, *operators: str) -> bool:
    return not a.context.catalog.replaced.isdisjoint((*operators, "=", "<>"))


def _operand(a: Analysis, node: Node, scope: Scope) -> IndexOperand | None:
    """Return the compared column or expression, where its values can be counted."""
    column = index_operand(a, node, scope)
    if (
        column is None
        or (column.value.column.base is not None and column.value.type.family == LOCAL)
        or axis(_type(column.value), read(column.value.column.expression)) is None
    ):
        return None
    return column


def _type(value: Protected) -> str:
    return short_type((value.type.base or value.type).name)


def between(a: Analysis, node: Node, body: Node, scope: Scope) -> bool:
    """Answer BETWEEN over a protected column by tags; return False where nothing protected is compared.

    SELECT id FROM people WHERE born BETWEEN $1 AND $2
    → SELECT id FROM people WHERE (tag(born) = ANY(tags($1, …)) OR tag1(born) = ANY(tags1($1, …)) OR tag2(born) =
      ANY(tags2($1, …)))
    """
    if "BETWEEN" not in body["kind"] or _replaced(a, ">=", "<="):
        return False
    lower, upper = (as_operand(bound) or arithmetic_operand(a, bound) for bound in only(body["rexpr"])[1]["items"])
    column = _operand(a, body["lexpr"], scope)
    if column is None or lower is None or upper is None:
        return False
    negated = "NOT" in body["kind"]
    bounds = RangeBounds(a.new_row(), symmetric="SYM" in body["kind"], filter=id(node) in a.filters and not negated)
    comparisons = _decide(a, node, column, (lower, upper), bounds, negated=negated)
    a.rewrite(_before, node=node, operand=lower, comparisons=comparisons)
    a.rewrite(_between, one=lower, other=upper)
    a.rewrite(_behind, node=node, operand=upper, tree=comparisons.tree)
    return True


def _pair(a: Analysis, one: _Bound, other: _Bound, *, outside: bool, filtered: bool) -> None:
    a.decided.update((id(one.node), id(other.node)))
    word = "false" if outside else "true"
    bounds = RangeBounds(a.new_row(), one.operator, other.operator, filter=filtered and not outside)
    comparisons = _decide(
        a, one.node, one.column, (one.operand, other.operand), bounds, negated=outside, word=word, last=other.node
    )
    a.rewrite(_before, node=one.node, operand=one.operand, comparisons=comparisons)
    a.rewrite(_behind, node=one.node, operand=one.operand, tree=comparisons.tree)
    a.rewrite(_before, node=other.node, operand=other.operand)
    a.rewrite(_behind, node=other.node, operand=other.operand, tree=lambda: expression_tree(word, {}))


# -- which indexes -------------------------------------------------------------------------------------------------------------


def _candidates(base: ProtectedColumn, value: Protected) -> Iterator[_Candidate]:
    over, type_name = read(value.column.expression), _type(value)
    of = axis(type_name, over)
    for slot in base.slots:
        indexed = read(slot.expression)  # an expression with another name may have the same tags
        inside = (Column() if indexed in twins(over) else within(indexed, over)) if slot.state == "active" else None
        if inside is None or of is None or period(write(inside), of) is None:
            continue
        column = base
        if slot.expression != "@":
            column = base.derived(slot.expression, parse_type(transform(slot.expression, base.type.indexed_as).result))
        own_slot = column.slot_for("@")
        assert own_slot is not None
        yield _Candidate(column, own_slot, write(inside))


_UTC = "timezone('UTC',@)"
_SUGGESTED = {"date": "extract('year',@)", "timestamp": "extract('year',@)", "timestamptz": f"extract('year',{_UTC})"}


def hint(column: ProtectedColumn) -> str | None:
    """Return the hint that tells which ranges are answered, or which index would; None where the values cannot be counted."""
    base, type_name = column.base or column, short_type((column.type.base or column.type).name)
    if axis(type_name, read(column.expression)) is None:
        return None
    name = index_name(base)
    parts = [f"`{shown_expression(c.column.expression, name)}`" for c in _candidates(base, Protected(column, column.type))]
    if not parts:
        same = next((write(other) for other in twins(read(column.expression))), column.expression)
        form = _SUGGESTED.get(type_name, "@") if column.expression == "@" else same
        added = shown_expression(form, name)
        if form in waiting(base.slots):
            return await_index(added)
        return f"{add_index(f'`{added}`', base.label)} It answers ranges that begin and end where its values do."
    shown = shown_expression(column.expression, name)
    return (
        f"A range has two ends, as in {shown} >= … AND {shown} < …, between constants or parameters where values of "
        f"{' or '.join(parts)} begin: at most {MOST} of these."
    )


# -- what becomes of it --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _TagComparisons:
    """The comparisons that replace a range: the tags ``slots`` of ``column``, or their generated columns, with ``nodes``."""

    column: Node
    slots: tuple[Slot, ...]
    stored: tuple[str | None, ...]
    nodes: tuple[Node, ...]
    negated: bool

    @property
    def around(self) -> tuple[str, str]:
        """The text before the first comparison and behind the last."""
        if len(self.slots) == 1:
            return "", ")"
        return ("(NOT (", ")))") if self.negated else ("(", "))")

    @property
    def operator(self) -> tuple[str, str]:
        """The operator, and ANY or ALL, of each comparison."""
        return ("<>", "ALL") if self.negated and len(self.slots) == 1 else ("=", "ANY")

    def head(self, named: str, i: int) -> bytes:
        """Return the text before the values of a comparison."""
        before = self.around[0] if i == 0 else ") OR "
        return f"{before}{tag_text(named, self.slots[i], self.stored[i])} {' '.join(self.operator)}(".encode()

    def tree(self) -> Node:
        """Return the tree of all comparisons."""
        operator, kind = self.operator
        name = [{"String": {"sval": operator}}]
        comparisons: list[Node] = []
        for slot, stored, values in zip(self.slots, self.stored, self.nodes, strict=True):
            tag = tag_tree(self.column, slot, stored)
            comparisons.append({"A_Expr": {"kind": f"AEXPR_OP_{kind}", "name": name, "lexpr": tag, "rexpr": values}})
        whole: Node = {"BoolExpr": {"boolop": "OR_EXPR", "args": comparisons}} if len(comparisons) > 1 else comparisons[0]
        return {"BoolExpr": {"boolop": "NOT_EXPR", "args": [whole]}} if self.negated and len(comparisons) > 1 else whole


def _decide(
    a: Analysis,
    node: Node,
    compared: IndexOperand,
    operands: tuple[Operand, Operand],
    bounds: RangeBounds,
    *,
    negated: bool,
    word: str = "",
    last: Node | None = None,
) -> _TagComparisons:
    """Record what both bounds are used for, and return what replaces the range; ``last`` is the comparison of the upper one."""
    lower, upper = operands
    value = compared.value
    base, type_ = value.column.base or value.column, value.type.base or value.type
    candidates = list(_candidates(base, value))
    if compared.grouped:
        candidates = [c for c in candidates if c.part == "@"]
    if not candidates:
        why = f"no blind index answers a range over {value.column.label}"
        raise a.refuse(why, located(node), hint=hint(value.column) or "", error=NoIndexAnswers)
    one_null = (lower.kind == "null") != (upper.kind == "null")
    if one_null and not (bounds.filter or bounds.symmetric):
        raise unsupported(a, value.column, node, "One end of the range is NULL: leave the condition out, or give both ends.")
    parts, label = tuple(c.part for c in candidates), value.column.label
    first = Range(parts, type_.name, value.column.expression, 0, bounds, label, hint(value.column) or "")
    nodes = (lower.wrapper, *(copy.deepcopy(lower.node) for _ in candidates[1:]))
    slots = tuple(c.slot for c in candidates)
    comparisons = _TagComparisons(compared.column, slots, tuple(map(compared.stored, slots)), nodes, negated)
    closing = comparisons.around[1].encode()
    uses = [Search(c.column, c.slot, type_, range=dataclasses.replace(first, own=i)) for i, c in enumerate(candidates)]
    with at_operator(a, node):
        a.use(dataclasses.replace(lower, closing=closing if len(nodes) == 1 else b""), uses[0], OWN)
    read_so = a.uses[-1]
    assert isinstance(read_so.use, Search)
    for i, use in enumerate(uses[1:], start=1):
        behind = closing if i == len(uses) - 1 else b""
        inserted = Inserted(lower.wrapper, compared.column, partial(comparisons.head, i=i), behind)
        more = dataclasses.replace(lower, node=nodes[i], wrapper=nodes[i], casts=(), own=None, inserted=inserted)
        a.use(more, dataclasses.replace(use, given=read_so.use.given), read_so.type_oid)
    bound = dataclasses.replace(first, upper=True, word=word.encode())
    with at_operator(a, node if last is None else last):
        a.use(upper, Search(candidates[0].column, candidates[0].slot, type_, range=bound), OWN)
    return comparisons


def _before(draft: Draft, *, node: Node, operand: Operand, comparisons: _TagComparisons | None = None) -> Iterator[Edit]:
    """Replace the text before a bound by that of the first comparison."""
    start, _ = draft.spans.expression(node)
    end, _ = draft.spans.expression(operand.wrapper)
    yield Edit(start, end, comparisons.head(draft.named(comparisons.column), 0) if comparisons is not None else b"")


def _between(draft: Draft, *, one: Operand, other: Operand) -> Iterator[Edit]:
    yield Edit(draft.spans.expression(one.wrapper)[1], draft.spans.expression(other.wrapper)[0], b"")


def _behind(draft: Draft, *, node: Node, operand: Operand, tree: Callable[[], Node]) -> Iterator[Edit]:
    """Drop the text behind a bound, and replace the tree by the comparisons."""
    _, end = draft.spans.expression(operand.wrapper)
    _, last = draft.spans.expression(node)
    draft.tree.replace(node, tree())
    yield Edit(end, last, b"")
