"""Ranges of protected columns: two ends in one AND, BETWEEN, and their opposites, as comparisons with the tags of whole periods.

``dob >= $1 AND dob < $2`` becomes ``(T_0 = ANY($1) OR T_1 = ANY($2)) AND true`` over all indexes that may answer; which of them do,
and with which tags, is known when the ends are (``edges``). One end alone has no index.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from phiproxy.errors import NoIndexAnswers
from phiproxy.index.normal import twins
from phiproxy.index.periods import axis, period
from phiproxy.index.spelling import Column, Expression, read, write
from phiproxy.index.transform import short_type, transform
from phiproxy.policy.names import quote_ident, shown_expression
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.policy.types import parse_type
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.dated import dated_sink
from phiproxy.sql.derived import LOCAL, Operand, operand
from phiproxy.sql.edges import MOST, Ends, Range, within
from phiproxy.sql.expressions import located, unsupported
from phiproxy.sql.finish import Spans
from phiproxy.sql.indexhints import add_index, await_index, waiting
from phiproxy.sql.meaning import Edit, Search
from phiproxy.sql.operands import OWN
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.places import at_operator
from phiproxy.sql.scope import Protected, Scope, group_key
from phiproxy.sql.sinks import Inserted, SinkNode, as_sink
from phiproxy.sql.stored import tag_text, tag_tree
from phiproxy.sql.wrap import expression_tree, replace

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


@dataclass(frozen=True, slots=True)
class _End:
    """One comparison: ``operator`` as if the column stood on its left."""

    node: Node
    operand: Operand
    sink: SinkNode
    operator: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An index that may answer: its tags, and what it makes of what is compared."""

    column: ProtectedColumn
    slot: Slot
    part: str


def conjuncts(a: Analysis, node: Node, body: Node, scope: Scope) -> None:
    """Let what AND or OR joins and is two ends of a range be comparisons of tags; they are then in ``a.decided``."""
    if body["boolop"] == "NOT_EXPR" or id(node) in a.decided:
        return
    lower: dict[tuple[int, str], list[_End]] = {}
    upper: dict[tuple[int, str], list[_End]] = {}
    outside = body["boolop"] == "OR_EXPR"
    for part in _parts(a, node, body["boolop"]):
        end = _end(a, part, scope)
        if end is None:
            continue
        if outside:  # dob < $1 OR dob >= $2 is NOT (dob >= $1 AND dob < $2)
            end = dataclasses.replace(end, operator=_OPPOSITE[end.operator])
        found = lower if end.operator.startswith(">") else upper
        found.setdefault(_key(end.operand), []).append(end)
    for key, ends in lower.items():
        for one, other in zip(ends, upper.get(key, ()), strict=False):
            _pair(a, one, other, outside=outside, filtered=id(node) in a.filters)


def _key(operand: Operand) -> tuple[int, str]:
    return group_key(operand.source, operand.value.column.expression)


def _parts(a: Analysis, node: Node, boolop: str) -> Iterator[Node]:
    """Yield what is joined, also in brackets."""
    a.decided.add(id(node))
    for part in only(node)[1]["args"]:
        kind, body = only(part)
        if kind == "BoolExpr" and body["boolop"] == boolop:
            yield from _parts(a, part, boolop)
        else:
            yield part


def _end(a: Analysis, node: Node, scope: Scope) -> _End | None:
    kind, body = only(node)
    if kind != "A_Expr" or body["kind"] != "AEXPR_OP" or "lexpr" not in body:
        return None
    operator = strings(body["name"])[-1]
    if operator not in _FLIPPED or len(body["name"]) > 1 or _replaced(a, operator):
        return None
    for side, other, found in (("lexpr", "rexpr", operator), ("rexpr", "lexpr", _FLIPPED[operator])):
        sink = as_sink(body[other]) or dated_sink(a, body[other])
        of = _operand(a, body[side], scope) if sink is not None else None
        if sink is not None and of is not None:
            return _End(node, of, sink, found)
    return None


def _replaced(a: Analysis, *operators: str) -> bool:
    return not a.context.catalog.replaced.isdisjoint((*operators, "=", "<>"))


def _operand(a: Analysis, node: Node, scope: Scope) -> Operand | None:
    """Return what is compared, where its values can be counted."""
    found = operand(a, node, scope)
    if (
        found is None
        or (found.value.column.base is not None and found.value.type.family == LOCAL)
        or axis(_type(found.value), read(found.value.column.expression)) is None
    ):
        return None
    return found


def _type(value: Protected) -> str:
    return short_type((value.type.base or value.type).name)


def between(a: Analysis, node: Node, body: Node, scope: Scope) -> bool:
    """Let BETWEEN over a protected column be a comparison of tags; False where it is over something else."""
    if "BETWEEN" not in body["kind"] or _replaced(a, ">=", "<="):
        return False
    lower, upper = (as_sink(bound) or dated_sink(a, bound) for bound in only(body["rexpr"])[1]["items"])
    found = _operand(a, body["lexpr"], scope)
    if found is None or lower is None or upper is None:
        return False
    negated = "NOT" in body["kind"]
    ends = Ends(a.new_row(), symmetric="SYM" in body["kind"], filter=id(node) in a.filters and not negated)
    made = _decide(a, node, found, (lower, upper), ends, negated=negated)
    a.changes.append(partial(_before, node=node, sink=lower, made=made))
    a.changes.append(partial(_between, one=lower, other=upper))
    a.changes.append(partial(_behind, node=node, sink=upper, tree=made.tree))
    return True


def _pair(a: Analysis, one: _End, other: _End, *, outside: bool, filtered: bool) -> None:
    a.decided.update((id(one.node), id(other.node)))
    word = "false" if outside else "true"
    ends = Ends(a.new_row(), one.operator, other.operator, filter=filtered and not outside)
    made = _decide(a, one.node, one.operand, (one.sink, other.sink), ends, negated=outside, word=word, last=other.node)
    a.changes.append(partial(_before, node=one.node, sink=one.sink, made=made))
    a.changes.append(partial(_behind, node=one.node, sink=one.sink, tree=made.tree))
    a.changes.append(partial(_before, node=other.node, sink=other.sink))
    a.changes.append(partial(_behind, node=other.node, sink=other.sink, tree=lambda: expression_tree(word, {})))


# -- which indexes -------------------------------------------------------------------------------------------------------------


def _candidates(base: ProtectedColumn, value: Protected) -> Iterator[_Candidate]:
    over, type_name = read(value.column.expression), _type(value)
    of = axis(type_name, over)
    for slot in base.slots:
        inside = _part(read(slot.expression), over) if slot.state == "active" else None
        if inside is None or of is None or period(write(inside), of) is None:
            continue
        column = base
        if slot.expression != "@":
            column = base.derived(slot.expression, parse_type(transform(slot.expression, base.type.indexed_as).result))
        found = column.slot_for("@")
        assert found is not None
        yield _Candidate(column, found, write(inside))


def _part(indexed: Expression, over: Expression) -> Expression | None:
    """Return what an index makes of what is compared, which may have the same tags under another name."""
    return Column() if indexed in twins(over) else within(indexed, over)


_UTC = "timezone('UTC',@)"
_SUGGESTED = {"date": "extract('year',@)", "timestamp": "extract('year',@)", "timestamptz": f"extract('year',{_UTC})"}


def hint(column: ProtectedColumn) -> str | None:
    """Say which ranges of a column are answered, or which index would answer some; None where its values cannot be counted."""
    base, type_name = column.base or column, short_type((column.type.base or column.type).name)
    if axis(type_name, read(column.expression)) is None:
        return None
    name = quote_ident(base.name)
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
class _Made:
    """The comparisons that a range becomes: of the tags ``slots`` of ``column``, or where they are kept, with ``nodes``."""

    column: Node
    slots: tuple[Slot, ...]
    stored: tuple[str | None, ...]
    nodes: tuple[Node, ...]
    negated: bool

    @property
    def brackets(self) -> tuple[str, str]:
        """What stands before the first comparison and behind the last."""
        if len(self.slots) == 1:
            return "", ")"
        return ("(NOT (", ")))") if self.negated else ("(", "))")

    @property
    def operator(self) -> tuple[str, str]:
        """The operator of each comparison."""
        return ("<>", "ALL") if self.negated and len(self.slots) == 1 else ("=", "ANY")

    def head(self, named: str, i: int) -> str:
        """Return what stands before the values of a comparison."""
        before = self.brackets[0] if i == 0 else ") OR "
        return f"{before}{tag_text(named, self.slots[i], self.stored[i])} {' '.join(self.operator)}("

    def tree(self) -> Node:
        """Return the tree of all."""
        operator, kind = self.operator
        name = [{"String": {"sval": operator}}]
        made: list[Node] = []
        for slot, stored, values in zip(self.slots, self.stored, self.nodes, strict=True):
            tag = tag_tree(self.column, slot, stored)
            made.append({"A_Expr": {"kind": f"AEXPR_OP_{kind}", "name": name, "lexpr": tag, "rexpr": values}})
        whole: Node = {"BoolExpr": {"boolop": "OR_EXPR", "args": made}} if len(made) > 1 else made[0]
        return {"BoolExpr": {"boolop": "NOT_EXPR", "args": [whole]}} if self.negated and len(made) > 1 else whole


def _decide(
    a: Analysis,
    node: Node,
    found: Operand,
    sinks: tuple[SinkNode, SinkNode],
    ends: Ends,
    *,
    negated: bool,
    word: str = "",
    last: Node | None = None,
) -> _Made:
    """Record what both ends are used for, and return what the server gets instead; ``last`` compares the upper one by itself."""
    lower, upper = sinks
    value = found.value
    base, type_ = value.column.base or value.column, value.type.base or value.type
    candidates = list(_candidates(base, value))
    if found.grouped:
        candidates = [c for c in candidates if c.part == "@"]
    if not candidates:
        raise _no_index(a, node, value)
    one_null = (lower.kind == "null") != (upper.kind == "null")
    if one_null and not (ends.filter or ends.symmetric):
        raise unsupported(a, value.column, node, "One end of the range is NULL: leave the condition out, or give both ends.")
    parts, label = tuple(c.part for c in candidates), value.column.label
    first = Range(parts, type_.name, value.column.expression, 0, ends, label, hint(value.column) or "")
    nodes = (lower.wrapper, *(copy.deepcopy(lower.node) for _ in candidates[1:]))
    slots = tuple(c.slot for c in candidates)
    made = _Made(found.column, slots, tuple(map(found.stored, slots)), nodes, negated)
    closing = made.brackets[1].encode()
    uses = [Search(c.column, c.slot, type_, range=dataclasses.replace(first, own=i)) for i, c in enumerate(candidates)]
    with at_operator(a, node):
        a.use(dataclasses.replace(lower, closing=closing if len(nodes) == 1 else b""), uses[0], OWN)
    read_so = a.uses[-1]
    assert isinstance(read_so.use, Search)
    for i, use in enumerate(uses[1:], start=1):
        place = Inserted(lower.wrapper, found.column, partial(_alternative, made, i), closing if i == len(uses) - 1 else b"")
        more = dataclasses.replace(lower, node=nodes[i], wrapper=nodes[i], casts=(), own=None, inserted=place)
        a.use(more, dataclasses.replace(use, given=read_so.use.given), read_so.type_oid)
    end = dataclasses.replace(first, upper=True, word=word.encode())
    with at_operator(a, node if last is None else last):
        a.use(upper, Search(candidates[0].column, candidates[0].slot, type_, range=end), OWN)
    return made


def _no_index(a: Analysis, node: Node, value: Protected) -> NoIndexAnswers:
    return NoIndexAnswers(
        f"no blind index answers a range over {value.column.label}",
        hint=hint(value.column) or "",
        position=a.position(located(node)),
    )


def _alternative(made: _Made, i: int, named: str) -> bytes:
    return made.head(named, i).encode()


def _before(spans: Spans, text: bytes, *, node: Node, sink: SinkNode, made: _Made | None = None) -> Edit:
    """Replace what stands before an end by what the server gets before it."""
    brackets = spans.brackets
    start, _ = brackets.expression(node)
    end, _ = brackets.expression(sink.wrapper)
    return Edit(start, end, made.head(spans.named(text, made.column), 0).encode() if made is not None else b"")


def _between(spans: Spans, _text: bytes, *, one: SinkNode, other: SinkNode) -> Edit:
    """Leave out what stands between the ends."""
    brackets = spans.brackets
    return Edit(brackets.expression(one.wrapper)[1], brackets.expression(other.wrapper)[0], b"")


def _behind(spans: Spans, _text: bytes, *, node: Node, sink: SinkNode, tree: Callable[[], Node]) -> Edit:
    """Leave out what stands behind an end, and turn the tree into what the server gets."""
    brackets = spans.brackets
    _, end = brackets.expression(sink.wrapper)
    _, last = brackets.expression(node)
    replace(node, tree())
    return Edit(end, last, b"")
