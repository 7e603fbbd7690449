"""LIKE, ILIKE, ``^@`` and ``~`` over protected columns, as comparisons with tags of the indexes that answer exactly.

A literal is answered by one index, chosen here. For a parameter the choice is made at Bind: the server gets an OR over all indexes
that may answer, with a parameter for each, and those that do not answer get a value that equals no tag. One more parameter stands
for patterns that every value matches (``LIKE '%'``): it is an empty bytea then, and no index is needed.
"""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import suppress

from phiproxy.errors import NoIndexAnswers, ValueRefused
from phiproxy.frozen import dataclass
from phiproxy.index.registered_form import normal
from phiproxy.index.spelling import Call, Column, Constant, Expression, read, write
from phiproxy.index.transform import transform
from phiproxy.policy.column_types import builtin
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.constant_formulas import compared_operand
from phiproxy.sql.expressions.expression import check_operators, located
from phiproxy.sql.expressions.field_hints import index_name
from phiproxy.sql.expressions.index_expressions import IndexOperand, grouped_operand, index_operand, own_name
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.references_and_markers import expression_tree, tag_text, tag_tree
from phiproxy.sql.text.parse import Node, is_plain_call, only, strings
from phiproxy.sql.values.accepted_types import OWN
from phiproxy.sql.values.index_spelling import waiting
from phiproxy.sql.values.operands import Inserted, Operand, as_operand
from phiproxy.sql.values.patterns import EVERYTHING, Key, Like, NotAnswered, Syntax, is_everything, missing
from phiproxy.sql.values.uses import Search
from phiproxy.wire.oids import TEXT_OID

_KINDS = ("AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_OP")
_OPERATORS: dict[str, Syntax] = {
    **dict.fromkeys(("~~", "!~~", "~~*", "!~~*"), "like"),
    "^@": "prefix",
    "~": "regex",
    "!~": "regex",
}
# Of char(n) the blanks at the end count in patterns and not in equality; other types have no patterns, or others.
_FAMILIES = ("text", "varchar", "citext")
_TEXT = builtin("text")


@dataclass(frozen=True, slots=True)
class _Matching:
    """A match as it is written: the ``subject`` is matched with the ``pattern``."""

    node: Node
    subject: Node
    pattern: Node
    syntax: Syntax
    escape: str
    negated: bool = False
    fold: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An index that may answer: the part of a value that it has, and its column and slot."""

    part: Key
    column: ProtectedColumn
    slot: Slot


def like(a: Analysis, node: Node, body: Node, scope: Scope) -> bool:
    """Answer LIKE, ILIKE, ``^@`` and ``~`` by comparisons of tags; return False where nothing protected is matched.

    SELECT id FROM people WHERE name LIKE 'Smi%'
    → SELECT id FROM people WHERE tag2(name) = tag2('Smi%')

    SELECT id FROM people WHERE name ILIKE 'smi%'
    → SELECT id FROM people WHERE tag3(name) = tag3('smi%')

    SELECT id FROM people WHERE name LIKE $1
    → SELECT id FROM people WHERE (tag(name) = tag($1) OR tag2(name) = tag2($1) OR (name IS NOT NULL AND empty = tag($1)))

    SELECT id FROM people WHERE name LIKE '%mith'
    → refused 0A000
    """
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
    """Answer a call of ``starts_with`` by comparisons of tags; return False for any other function.

    SELECT id FROM people WHERE starts_with(name, 'Smi')
    → SELECT id FROM people WHERE (tag2(name) = tag2('Smi'))
    """
    arguments = body.get("args", [])
    if not is_plain_call(body) or len(arguments) != 2 or own_name(a, strings(body["funcname"])) != "starts_with":
        return False
    if not a.context.catalog.replaced.isdisjoint(("=", "<>")):
        return False
    matched = _match(a, _Matching(node, arguments[0], arguments[1], "prefix", ""), scope)
    if matched:
        a.calls.add(id(node))
    return matched


def _match(a: Analysis, how: _Matching, scope: Scope) -> bool:
    matched = index_operand(a, how.subject, scope)
    operand = as_operand(how.pattern) or compared_operand(a, how.pattern)
    if matched is None or operand is None or matched.value.type.underlying.family not in _FAMILIES:
        return False
    citext = matched.value.type.underlying.family == "citext"
    if citext and how.syntax != "like":
        return False  # by ~ it is matched in another way, and by ^@ as a text
    if matched.grouped:
        raise grouped_operand(a, matched.value, how.subject)
    if citext:
        check_operators(a, matched.value.column, how.subject)
        how = dataclasses.replace(how, fold=True)
    if operand.kind in ("literal", "null"):
        a.answer.by_value = True
    column = matched.value.column
    # Whether the expression is NULL only where its column is; False for one that is only shown (``shown_of``).
    total = column.shown_of is None and transform(column.expression, (column.base or column).type.indexed_as).total
    if operand.kind == "literal" and total and is_everything(operand.literal, how.syntax, how.escape):
        a.rewrite(_not_null, node=how.node, column=matched.column, negated=how.negated)
        return True
    _answer(a, how, matched, operand, total=total)
    return True


def _answer(a: Analysis, how: _Matching, matched: IndexOperand, operand: Operand, *, total: bool) -> None:
    column = matched.value.column
    base, over = column.base or column, read(column.expression)
    candidates: list[_Candidate] = []
    if column.shown_of is None:
        if how.fold and not (isinstance(over, Call) and over.name == "lower"):
            over = normal(Call("lower", (over,)), base.type.indexed_as)
        candidates += _candidates(base, over)
    told = write(over), index_name(base), base.label
    later = waiting(base.slots)
    if not candidates:
        if operand.kind == "literal":
            # Which one would, or none could; in any case, it may have characters of which the case is not known.
            with suppress(ValueRefused):
                _chosen(
                    a, operand, [Like(("whole", 0), frozenset(), how.fold, how.escape, *told, base.characters, how.syntax, later)]
                )
        keys: list[Key] = [("whole", 0), ("left", 0), ("right", 0)]
        why = f"no blind index answers a pattern over {base.label}"
        raise NoIndexAnswers(why, hint=missing(keys, *told, later), position=a.position(located(how.node)))
    if total and operand.kind not in ("literal", "null"):
        candidates.append(dataclasses.replace(candidates[0], part=EVERYTHING))
    answered = frozenset(candidate.part for candidate in candidates)
    likes = [Like(c.part, answered, how.fold, how.escape, *told, base.characters_of(c.slot), how.syntax, later) for c in candidates]
    if operand.kind in ("literal", "null"):
        chosen = _chosen(a, operand, likes)
        candidates, likes = [candidates[chosen]], [likes[chosen]]
    _compare(a, how, matched, operand, list(zip(candidates, likes, strict=True)))


def _pattern(node: Node) -> tuple[Node, str | None]:
    """Return the pattern and its escape character, which is empty for none; None for what is no pattern."""
    kind, body = only(node)
    if kind != "FuncCall" or strings(body["funcname"]) != ["pg_catalog", "like_escape"] or len(body["args"]) != 2:
        return node, "\\"
    pattern, escape = body["args"]
    operand = as_operand(escape)
    said = operand.literal.decode() if operand is not None and operand.kind == "literal" else None
    return pattern, said if said is None or len(said) <= 1 else None


def _candidates(base: ProtectedColumn, over: Expression) -> Iterator[_Candidate]:
    for slot in base.slots:
        part = _part(base, read(slot.expression), over) if slot.state == "active" else None
        if part is None:
            continue
        column = base if slot.expression == "@" else base.derived(slot.expression, _TEXT)
        own_slot = column.slot_for("@")
        assert own_slot is not None
        yield _Candidate(part, column, own_slot)


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


def _chosen(a: Analysis, operand: Operand, likes: Sequence[Like]) -> int:
    if operand.kind == "null":
        return 0
    try:
        return next(i for i, like in enumerate(likes) if like.subject(operand.literal) is not None)
    except NotAnswered as refused:
        raise NoIndexAnswers(refused.message, hint=refused.hint, position=a.at(operand.offset)) from None


def _compare(
    a: Analysis, how: _Matching, matched: IndexOperand, operand: Operand, answers: Sequence[tuple[_Candidate, Like]]
) -> None:
    nodes = [how.pattern]
    tests = [_Test(c.slot, matched.stored(c.slot), everything=c.part == EVERYTHING) for c, _ in answers]
    behind = b")" if len(answers) == 1 and how.syntax != "like" else b""
    own = matched.value.type.underlying
    citext = (
        own
        if own.family == "citext"
        and (operand.type_oid == 0 or (operand.value_type is not None and operand.value_type.oid == own.oid))
        else None
    )
    for i, (candidate, like) in enumerate(answers):
        # A pattern is read as citext where it has that type.
        type_ = citext or (candidate.column.type if candidate.column.type.is_text else _TEXT)
        use = Search(candidate.column, candidate.slot, type_, chosen=like)
        if not i:
            a.use(dataclasses.replace(operand, closing=behind), use, OWN if citext else TEXT_OID)
            continue
        nodes.append(copy.deepcopy(operand.node))
        closing = ("))" if how.negated else ")") if i == len(answers) - 1 else ""
        inserted = Inserted(
            how.pattern, matched.column, tests[i].alternative, ((")" if tests[i].everything else "") + closing).encode()
        )
        more = dataclasses.replace(operand, node=nodes[-1], wrapper=nodes[-1], casts=(), inserted=inserted)
        # Its casts stand in the text once, and cut or convert the value here too.
        cast_to = operand.types if operand.own is None else operand.types[1:]
        a.use(more, use, operand.type_oid or (OWN if citext else TEXT_OID), cast_to)
    a.rewrite(_head, how=how, column=matched.column, tests=tests)
    a.rewrite(_tail, how=how, tests=tests, nodes=nodes, column=matched.column)


@dataclass(frozen=True, slots=True)
class _Test:
    """A comparison with a tag, or with its generated column; ``everything``: the one that tells that all values match."""

    slot: Slot
    stored: str | None
    everything: bool = False

    def alternative(self, named: str) -> bytes:
        """Return the text before the value of a further comparison."""
        if self.everything:  # a comparison of constants, which the planner drops where it is false
            return f" OR ({named} IS NOT NULL AND '\\x'::bytea = ".encode()
        return f" OR {tag_text(named, self.slot, self.stored)} = ".encode()

    def tree(self, column: Node, operator: str, value: Node) -> Node:
        """Return the tree of the comparison."""
        left = expression_tree("'\\x'::bytea", {}) if self.everything else tag_tree(column, self.slot, self.stored)
        comparison: Node = {"A_Expr": {"kind": "AEXPR_OP", "name": [{"String": {"sval": operator}}], "lexpr": left, "rexpr": value}}
        if not self.everything:
            return comparison
        present = expression_tree(f"{_HOLE} IS NOT NULL", {_HOLE: column})
        return {"BoolExpr": {"boolop": "AND_EXPR", "args": [present, comparison]}}


def _head(draft: Draft, *, how: _Matching, column: Node, tests: Sequence[_Test]) -> Iterator[Edit]:
    """Replace the text before the pattern by the first tag."""
    start, _ = draft.spans.expression(how.node)
    end, _ = draft.spans.expression(how.pattern)
    several = len(tests) > 1
    opening = ("(NOT (" if how.negated else "(") if several else "(" if how.syntax != "like" else ""
    operator = "<>" if how.negated and not several else "="
    yield Edit(start, end, f"{opening}{tag_text(draft.named(column), tests[0].slot, tests[0].stored)} {operator} ".encode())


def _tail(draft: Draft, *, how: _Matching, column: Node, tests: Sequence[_Test], nodes: Sequence[Node]) -> Iterator[Edit]:
    """Drop the text behind the pattern, and replace the tree by the comparisons."""
    _, end = draft.spans.expression(how.pattern)
    _, last = draft.spans.expression(how.node)
    several = len(tests) > 1
    operator = "<>" if how.negated and not several else "="
    trees = [test.tree(column, operator, value) for test, value in zip(tests, nodes, strict=True)]
    whole = {"BoolExpr": {"boolop": "OR_EXPR", "args": trees}} if several else trees[0]
    draft.tree.replace(how.node, {"BoolExpr": {"boolop": "NOT_EXPR", "args": [whole]}} if several and how.negated else whole)
    yield Edit(end, last, b"")


_HOLE = "phi_x"


def _not_null(draft: Draft, *, node: Node, column: Node, negated: bool) -> Iterator[Edit]:
    """Replace a pattern that every value matches by IS NOT NULL."""
    form = "({} IS NULL AND NULL)" if negated else "({} IS NOT NULL OR NULL)"
    draft.tree.replace(node, expression_tree(form.format(_HOLE), {_HOLE: column}))
    yield Edit(*draft.spans.expression(node), form.format(draft.named(column)).encode())
