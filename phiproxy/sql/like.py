"""LIKE, ILIKE and their kin over protected columns: comparisons with the tags of the indexes that answer the pattern exactly.

A literal is answered by one index, which is chosen here. Of a parameter it is known at Bind which: the server gets an OR over all
indexes that may answer, each with a parameter of its own, and those that do not get what no tag equals. The last of these
parameters is empty where every value matches, for which no index is asked.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from phiproxy.errors import NoIndexAnswers, ValueRefused
from phiproxy.index.normal import normal
from phiproxy.index.spelling import Call, Column, Constant, Expression, read, write
from phiproxy.index.transform import transform
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Slot
from phiproxy.policy.types import builtin
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.computed import compared_sink
from phiproxy.sql.derived import Operand, grouped_operand, operand, own_name
from phiproxy.sql.expressions import check_operators, located
from phiproxy.sql.finish import Spans
from phiproxy.sql.indexhints import waiting
from phiproxy.sql.meaning import Edit, Search
from phiproxy.sql.operands import OWN
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.pattern import EVERYTHING, Key, Like, NotAnswered, Syntax, is_everything, missing
from phiproxy.sql.scope import Scope
from phiproxy.sql.sinks import TEXT_OID, Inserted, SinkNode, as_sink
from phiproxy.sql.stored import tag_text, tag_tree
from phiproxy.sql.wrap import expression_tree, replace

_KINDS = ("AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_OP")
_OPERATORS: dict[str, Syntax] = {
    **dict.fromkeys(("~~", "!~~", "~~*", "!~~*"), "like"),
    "^@": "prefix",
    "~": "regex",
    "!~": "regex",
}
_PLAIN_CALL = {"funcname", "args", "funcformat", "location"}
# Of char(n) the blanks at the end count in patterns and not in equality; other types have no patterns, or others.
_FAMILIES = ("text", "varchar", "citext")
_TEXT = builtin("text")


@dataclass(frozen=True, slots=True)
class _Matching:
    """A match as it is written: of what with what."""

    node: Node
    subject: Node
    pattern: Node
    syntax: Syntax
    escape: str
    negated: bool = False
    fold: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An index that may answer: the part of a value that it has, and its tags."""

    part: Key
    column: ProtectedColumn
    slot: Slot

    def type(self, citext: DeclaredType | None) -> DeclaredType:
        """Return what a pattern is read as; ``citext`` is that type where the pattern is of it."""
        return citext or (self.column.type if self.column.type.is_text else _TEXT)


def like(a: Analysis, node: Node, body: Node, scope: Scope) -> bool:
    """Let LIKE, ILIKE, ``^@`` and ``~`` be comparisons of tags; False where their operands are none for which this could be."""
    name = strings(body["name"])[-1]
    syntax = _OPERATORS.get(name) if body["kind"] in _KINDS and "lexpr" in body else None
    if syntax is None or len(body["name"]) > 1 or not a.context.catalog.replaced.isdisjoint((name, "=", "<>")):
        return False
    pattern, escape = _pattern(body["rexpr"]) if syntax == "like" else (body["rexpr"], "")
    if escape is None:
        return False
    how = _Matching(node, body["lexpr"], pattern, syntax, escape, negated=name.startswith("!"), fold=name.endswith("*"))
    return _match(a, how, scope)


def starts_with(a: Analysis, node: Node, body: Node, scope: Scope) -> bool:
    """Let a call of ``starts_with`` be comparisons of tags; False for another function."""
    arguments = body.get("args", [])
    if set(body) - _PLAIN_CALL or len(arguments) != 2 or own_name(a, strings(body["funcname"])) != "starts_with":
        return False
    if not a.context.catalog.replaced.isdisjoint(("=", "<>")):
        return False
    matched = _match(a, _Matching(node, arguments[0], arguments[1], "prefix", ""), scope)
    if matched:
        a.calls.add(id(node))
    return matched


def _match(a: Analysis, how: _Matching, scope: Scope) -> bool:
    found = operand(a, how.subject, scope)
    sink = as_sink(how.pattern) or compared_sink(a, how.pattern)
    if found is None or sink is None or found.value.type.underlying.family not in _FAMILIES:
        return False
    citext = found.value.type.underlying.family == "citext"
    if citext and how.syntax != "like":
        return False  # by ~ it is matched in another way, and by ^@ as a text
    if found.grouped:
        raise grouped_operand(a, found.value, how.subject)
    if citext:
        check_operators(a, found.value.column, how.subject)
        how = dataclasses.replace(how, fold=True)
    if sink.kind in ("literal", "null"):
        a.meaning.by_value = True
    total = _is_total(found.value.column)
    if sink.kind == "literal" and total and is_everything(sink.literal, how.syntax, how.escape):
        a.changes.append(partial(_not_null, node=how.node, column=found.column, negated=how.negated))
        return True
    _answer(a, how, found, sink, total=total)
    return True


def _is_total(column: ProtectedColumn) -> bool:
    """Tell whether what is matched is NULL for no value; it is not known of what is only shown."""
    return column.shown_of is None and transform(column.expression, (column.base or column).type.indexed_as).total


def _answer(a: Analysis, how: _Matching, found: Operand, sink: SinkNode, *, total: bool) -> None:
    """Let indexes answer a pattern."""
    column = found.value.column
    base, over = column.base or column, read(column.expression)
    candidates: list[_Candidate] = []
    if column.shown_of is None:
        if how.fold and not (isinstance(over, Call) and over.name == "lower"):
            over = normal(Call("lower", (over,)), base.type.indexed_as)
        candidates += _candidates(base, over)
    told = write(over), quote_ident(base.name), base.label
    later = waiting(base.slots)
    if not candidates:
        if sink.kind == "literal":
            # Which one would, or none could; in any case, it may have characters of which the case is not known.
            with suppress(ValueRefused):
                _chosen(a, sink, [Like(("whole", 0), frozenset(), how.fold, how.escape, *told, base.characters, how.syntax, later)])
        keys: list[Key] = [("whole", 0), ("left", 0), ("right", 0)]
        raise NoIndexAnswers(
            f"no blind index answers a pattern over {base.label}",
            hint=missing(keys, *told, later),
            position=a.position(located(how.node)),
        )
    if total and sink.kind not in ("literal", "null"):
        candidates.append(dataclasses.replace(candidates[0], part=EVERYTHING))
    answered = frozenset(candidate.part for candidate in candidates)
    likes = [Like(c.part, answered, how.fold, how.escape, *told, base.characters_of(c.slot), how.syntax, later) for c in candidates]
    if sink.kind in ("literal", "null"):
        chosen = _chosen(a, sink, likes)
        candidates, likes = [candidates[chosen]], [likes[chosen]]
    _compare(a, how, found, sink, list(zip(candidates, likes, strict=True)))


def _pattern(node: Node) -> tuple[Node, str | None]:
    """Return a pattern, and its escape character: empty for none, None for what cannot be one."""
    kind, body = only(node)
    if kind != "FuncCall" or strings(body["funcname"]) != ["pg_catalog", "like_escape"] or len(body["args"]) != 2:
        return node, "\\"
    pattern, escape = body["args"]
    sink = as_sink(escape)
    said = sink.literal.decode() if sink is not None and sink.kind == "literal" else None
    return pattern, said if said is None or len(said) <= 1 else None


def _candidates(base: ProtectedColumn, over: Expression) -> Iterator[_Candidate]:
    for slot in base.slots:
        part = _part(base, read(slot.expression), over) if slot.state == "active" else None
        if part is None:
            continue
        column = base if slot.expression == "@" else base.derived(slot.expression, _TEXT)
        found = column.slot_for("@")
        assert found is not None
        yield _Candidate(part, column, found)


def _part(base: ProtectedColumn, indexed: Expression, over: Expression) -> Key | None:
    """Return which part of ``over`` an index has, or None where it has something else."""
    match indexed:
        case same if same == over:
            return "whole", 0
        case Column() if base.type.ignores_case and over == Call("lower", (Column(),)):
            return "whole", 0  # which is what citext is equal by
        case Call(name="left" | "right" as side, arguments=(_, Constant(value=int(count)) as last)) if count > 0:
            if normal(Call(side, (over, last)), base.type.indexed_as) == indexed:
                return ("left" if side == "left" else "right"), count
    return None


def _chosen(a: Analysis, sink: SinkNode, likes: Sequence[Like]) -> int:
    """Return which index answers a literal."""
    if sink.kind == "null":
        return 0
    try:
        return next(i for i, like in enumerate(likes) if like.subject(sink.literal) is not None)
    except NotAnswered as refused:
        raise NoIndexAnswers(refused.message, hint=refused.hint, position=a.at(sink.offset)) from None


def _compare(a: Analysis, how: _Matching, operand: Operand, sink: SinkNode, found: Sequence[tuple[_Candidate, Like]]) -> None:
    nodes = [how.pattern]
    tests = [_Test(c.slot, operand.stored(c.slot), everything=c.part == EVERYTHING) for c, _ in found]
    alone = b")" if len(found) == 1 and how.syntax != "like" else b""
    own = operand.value.type.underlying
    citext = (
        own
        if own.family == "citext" and (sink.type_oid == 0 or (sink.value_type is not None and sink.value_type.oid == own.oid))
        else None
    )
    for i, (candidate, like) in enumerate(found):
        use = Search(candidate.column, candidate.slot, candidate.type(citext), like=like)
        if not i:
            a.use(dataclasses.replace(sink, closing=alone), use, OWN if citext else TEXT_OID)
            continue
        nodes.append(copy.deepcopy(sink.node))
        closing = ("))" if how.negated else ")") if i == len(found) - 1 else ""
        place = Inserted(how.pattern, operand.column, tests[i].alternative, (tests[i].behind + closing).encode())
        more = dataclasses.replace(sink, node=nodes[-1], wrapper=nodes[-1], casts=(), inserted=place)
        a.use(more, use, sink.type_oid or (OWN if citext else TEXT_OID))
    a.changes.append(partial(_head, how=how, column=operand.column, tests=tests))
    a.changes.append(partial(_tail, how=how, column=operand.column, tests=tests, nodes=nodes))


@dataclass(frozen=True, slots=True)
class _Test:
    """A tag that is compared, and the generated column that holds it, if one does; or whether ``everything`` matches."""

    slot: Slot
    stored: str | None
    everything: bool = False

    def alternative(self, named: str) -> bytes:
        """Return what stands before the value of a further test."""
        if self.everything:  # a comparison of constants, which the planner drops where it is false
            return f" OR ({named} IS NOT NULL AND '\\x'::bytea = ".encode()
        return f" OR {tag_text(named, self.slot, self.stored)} = ".encode()

    @property
    def behind(self) -> str:
        """What stands behind its value."""
        return ")" if self.everything else ""

    def tree(self, column: Node, operator: str, value: Node) -> Node:
        """Return the tree of the comparison."""
        left = expression_tree("'\\x'::bytea", {}) if self.everything else tag_tree(column, self.slot, self.stored)
        made: Node = {"A_Expr": {"kind": "AEXPR_OP", "name": [{"String": {"sval": operator}}], "lexpr": left, "rexpr": value}}
        if not self.everything:
            return made
        present = expression_tree(f"{_HOLE} IS NOT NULL", {_HOLE: column})
        return {"BoolExpr": {"boolop": "AND_EXPR", "args": [present, made]}}


def _head(spans: Spans, text: bytes, *, how: _Matching, column: Node, tests: Sequence[_Test]) -> Edit:
    """Replace what stands before the pattern by the first tag."""
    brackets = spans.brackets
    start, _ = brackets.expression(how.node)
    end, _ = brackets.expression(how.pattern)
    several = len(tests) > 1
    opening = ("(NOT (" if how.negated else "(") if several else "(" if how.syntax != "like" else ""
    named = spans.named(text, column)
    operator = "<>" if how.negated and not several else "="
    return Edit(start, end, f"{opening}{tag_text(named, tests[0].slot, tests[0].stored)} {operator} ".encode())


def _tail(spans: Spans, _text: bytes, *, how: _Matching, column: Node, tests: Sequence[_Test], nodes: Sequence[Node]) -> Edit:
    """Leave out what stands behind the pattern, and turn the tree into the comparisons."""
    brackets = spans.brackets
    _, end = brackets.expression(how.pattern)
    _, last = brackets.expression(how.node)
    several = len(tests) > 1
    operator = "<>" if how.negated and not several else "="
    made = [test.tree(column, operator, value) for test, value in zip(tests, nodes, strict=True)]
    whole = {"BoolExpr": {"boolop": "OR_EXPR", "args": made}} if several else made[0]
    replace(how.node, {"BoolExpr": {"boolop": "NOT_EXPR", "args": [whole]}} if several and how.negated else whole)
    return Edit(end, last, b"")


_HOLE = "phi_x"


def _not_null(spans: Spans, text: bytes, *, node: Node, column: Node, negated: bool) -> Edit:
    """Replace a pattern that every value matches: of NULL it is NULL."""
    start, end = spans.brackets.expression(node)
    form = "({} IS NULL AND NULL)" if negated else "({} IS NOT NULL OR NULL)"
    named = spans.named(text, column)
    replace(node, expression_tree(form.format(_HOLE), {_HOLE: column}))
    return Edit(start, end, form.format(named).encode())
