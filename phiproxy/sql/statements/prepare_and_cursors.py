"""PREPARE, EXECUTE, DECLARE and FETCH: prepared statements and cursors, whose names SQL and the protocol share.

The session knows what a name means (``SessionNames``). The inner statement is planned as that of a Parse is: protected parameters
become bytea, and literals become further parameters, which each EXECUTE seals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from phiproxy.errors import StatementRefused
from phiproxy.policy.column_types import by_oid
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.constant_formulas import constant_operand
from phiproxy.sql.expressions.repeated_in_clear import ProtectedValues, check_names
from phiproxy.sql.result import Bound, BoundPair, Edit, Occurrence, PlannedStatement, Source
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.order_of_rewrites import Step
from phiproxy.sql.rewrite.references_and_markers import marked_node
from phiproxy.sql.text.parse import Node, Token, char_position, messages, only, parse, strings
from phiproxy.sql.values.accepted_types import given
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.operands import Operand, cast_type
from phiproxy.sql.values.uses import Given, Plain, Search, Store, Use, of_elements, sent_type

_OTHER = 0xFFFFFFFF
_CURSOR_BINARY, _CURSOR_HOLD = 0x0001, 0x0020


class WrongNumberOfParameters(StatementRefused, sqlstate="42601"):
    """EXECUTE gives another number of values than its statement takes (42601)."""

    placed = False

    def __init__(self, name: str, expected: int, given: int) -> None:
        super().__init__(f'wrong number of parameters for prepared statement "{name}"')
        self.objects = ((ord("D"), f"Expected {expected} parameters but got {given}."),)


class UndefinedStatement(StatementRefused, sqlstate="26000"):
    """EXECUTE of what nobody prepared, with values that may be meant for something protected (26000)."""

    placed = False


# -- PREPARE -------------------------------------------------------------------------------------------------------------------


def prepare(a: Analysis, body: Node) -> None:
    """Analyse PREPARE: its statement is planned as a Parse of its own text.

    PREPARE q AS SELECT ssn FROM patients WHERE ssn = $1
    → PREPARE q (bytea) AS SELECT ssn FROM patients WHERE tag(ssn) = $1
    """
    a.answer.takes_parameters = False
    a.answer.cacheable = False
    a.answer.bound = True
    names = a.context.names
    if names is None:
        return
    types, before, start = _type_spans(a)
    declared = tuple(map(_oid, body.get("argtypes", ())))
    try:
        plan = names.plan(a.text[start : a.answer.end], declared)
    except StatementRefused as refusal:
        refusal.position = (refusal.position or 1) + char_position(a.text, start) - 1
        raise
    a.answer.prepared = (plan, declared)
    a.answer.touches = plan.touches
    if plan.touches:
        literals = (m["sval"].get("sval", "").encode() for m in messages(body["query"]) if isinstance(m.get("sval"), dict))
        check_names(a, ProtectedValues(((value, None) for value in literals), lambda _: None))
    if not plan.identity:
        a.rewrite(_inner, body=body, plan=plan, start=start, types=types, before=before)


def inner_statement(a: Analysis, body: Node) -> tuple[int, tuple[int, ...]]:
    """Return where the statement inside of a PREPARE begins, and the OIDs of its declared types, 0 where none matters."""
    _, _, start = _type_spans(a)
    return start, tuple(map(_oid, body.get("argtypes", ())))


def _inner(
    draft: Draft, *, body: Node, plan: PlannedStatement, start: int, types: Sequence[tuple[int, int]], before: int
) -> Iterator[Edit]:
    """Replace the statement inside PREPARE by the plan's text, and its types by the plan's; ``types`` are the spans of a list."""
    (inner,) = parse(plan.sql)
    edited = draft.tree.edit(body)
    edited["query"] = {inner.kind: inner.body}
    yield from _moved(plan, start)
    declared = [draft.text[slice(*span)] for span in types]
    spelled = b", ".join(
        (b"".join(declared[n : n + 1]) or b"unknown") if isinstance(use, Plain) else _sent_type(use) for use, n, _ in plan.outputs
    )
    if spelled:
        edited["argtypes"] = parse(b"PREPARE p (" + spelled + b") AS SELECT 1")[0].body["argtypes"]
        yield Edit(types[0][0], types[-1][1], spelled) if types else Edit(before, before, b" (" + spelled + b")")


def _sent_type(use: Use) -> bytes:
    return sent_type(use).encode()


def _type_spans(a: Analysis) -> tuple[list[tuple[int, int]], int, int]:
    """Return the spans of the declared types, the offset where a list of them belongs, and that of the inner statement."""
    own_tokens = [t for t in a.tokens() if a.answer.start <= t.start < a.answer.end]
    name = own_tokens[1]
    types: list[tuple[int, int]] = []
    index, depth = 2, 0
    first: Token | None = None
    while own_tokens[index].name != "AS" or depth:
        token = own_tokens[index]
        depth += (token.name == "ASCII_40") - (token.name == "ASCII_41")
        over = (depth == 1 and token.name == "ASCII_44") or not depth
        if over and first is not None:
            types.append((first.start, own_tokens[index - 1].end))
            first = None
        elif not over and first is None and (depth > 1 or token.name != "ASCII_40"):
            first = token
        index += 1
    return types, name.end, own_tokens[index + 1].start


def _oid(type_name: Node) -> int:
    """Return the OID of a declared type, 0 for one that does not matter."""
    body = only(type_name)[1]
    if strings(body.get("names"))[-1:] == ["unknown"]:
        return 0
    declared = cast_type({"typeName": body})
    return _OTHER if declared is None else declared.oid


def _moved(plan: PlannedStatement, start: int) -> list[Edit]:
    """Return the edits of the inner statement as edits of the whole text; adjacent ones become one."""
    moved: list[Edit] = []
    shift = 0
    for first, last, length in sorted(plan.edits, key=lambda e: (e[0], e[1])):
        edit = Edit(start + first, start + last, plan.sql[first + shift : first + shift + length])
        if moved and moved[-1].end == edit.start:
            edit = Edit(moved[-1].start, edit.end, moved.pop().text + edit.text)
        moved.append(edit)
        shift += length - (last - first)
    return moved


# -- EXECUTE -------------------------------------------------------------------------------------------------------------------


def execute(a: Analysis, body: Node, *, into: bool = False) -> None:
    """Analyse EXECUTE: arguments for protected parameters must be constants, since the server would compute anything else.

    EXECUTE unknown ('x')
    → refused 26000
    """
    a.answer.takes_parameters = False
    a.answer.cacheable = False
    a.answer.bound = True
    plan = a.context.names.statement(body["name"]) if a.context.names is not None else None
    if plan is None and any("sval" in message for message in messages(body.get("params", []))):
        # The server would log them with its error.
        raise UndefinedStatement(f'prepared statement "{body["name"]}" does not exist')
    if plan is not None and plan.computed:
        if (count := len(body.get("params", []))) != plan.inputs:
            raise WrongNumberOfParameters(body["name"], plan.inputs, count)
        why = "a part of this prepared statement is computed over opened rows, and its values are no constants"
        raise StatementRefused(why, hint="Give constants, or execute it by the driver.", position=a.at(_content(a)))
    if plan is not None:
        a.answer.effects.sets_as(plan.effects)
    if plan is None or not (plan.touches or not plan.identity):
        return
    position = a.at(_content(a))
    if into:
        why = "a table made of a statement over a protected table is not in this version"
        raise StatementRefused(why, hint="Create the table first and INSERT … SELECT into it.", position=position)
    _reads_as(a, plan)
    if plan.identity:
        return
    arguments = body.get("params", [])
    if len(arguments) != plan.inputs:
        raise WrongNumberOfParameters(body["name"], plan.inputs, len(arguments))
    operands = [_argument(a, node, use, n, plan.described[n]) for node, (use, n, _) in zip(arguments, plan.outputs, strict=False)]
    extra = [_extra(use, n, source, operands) for use, n, source in plan.outputs[plan.inputs :]]
    if extra:
        a.rewrite(_append, Step.MORE_VALUES, body=body, extra=extra, statement=(a.answer.start, a.answer.end))


def _reads_as(a: Analysis, plan: PlannedStatement) -> None:
    """Note that EXECUTE reads what the statement reads that it names."""
    a.answer.touches = a.answer.touches or plan.touches
    a.answer.plain_select = plan.plain_select
    if plan.columns is not None:
        a.answer.outputs = plan.columns.reveals
        # What was given is said in terms of the prepared text.
        a.read_about = tuple(replace(subject, given=()) for subject in plan.columns.about)


def _argument(a: Analysis, node: Node, use: Use, number: int, type_oid: int | None) -> Operand | None:
    """Record the use of an argument and return it; ``type_oid`` is the type of the parameter that it is assigned to."""
    if isinstance(use, Plain):
        return None
    operand = constant_operand(a, node, array=of_elements(use))
    if operand is None:
        raise StatementRefused(
            f"argument {number + 1} of EXECUTE meets a protected column and is no constant",
            hint="Give text literals, NULL, or what is made of these by ||, lower, upper, trim, concat, COALESCE or NULLIF.",
            position=a.at(_content(a)),
        )
    declared = by_oid(type_oid or 0)
    if isinstance(use, Store | Search) and use.given is None and declared is not None and not operand.textual:
        use = replace(use, given=Given(declared.element if use.elements and declared.element is not None else declared))
    a.use(operand, use)
    return operand


def _value(operand: Operand | None) -> bytes | None:
    return operand.literal if operand is not None and operand.kind in ("literal", "constant") else None


def _extra(use: Use, number: int, source: Source, operands: Sequence[Operand | None]) -> Occurrence:
    if isinstance(source, BoundPair):
        return replace(_bound(source.lower, operands), other=_bound(source.upper, operands))
    if isinstance(source, Formula):
        return Occurrence(0, 0, use, literal=source.evaluate([_value(operand) for operand in operands]))
    return Occurrence(0, 0, use, literal=_value(operands[number]) if source is None else source)


def _bound(bound: Bound, operands: Sequence[Operand | None]) -> Occurrence:
    operand = operands[bound.number] if bound.number >= 0 else None
    if operand is None:
        return Occurrence(0, 0, bound.use, literal=bound.literal)
    return Occurrence(0, 0, given(operand, bound.use, 0)[0], literal=_value(operand))


def _append(draft: Draft, *, body: Node, extra: Sequence[Occurrence], statement: tuple[int, int]) -> Iterator[Occurrence]:
    """Append the further arguments to ``EXECUTE p ('x')``."""
    arguments, (start, end) = body.get("params", []), statement
    last = [t for t in draft.spans.tokens if start <= t.start < end][-1]
    offset = last.start if arguments else last.end
    first = b", " if arguments else b"("
    for i, more in enumerate(extra):
        trail = b")" if not arguments and i == len(extra) - 1 else b""
        order = draft.number()
        yield replace(more, start=offset, end=offset, lead=b", " if i else first, trail=trail, order=order)
    draft.tree.edit(body)["params"] = [*arguments, *(marked_node(more.use, null=more.literal is None) for more in extra)]


def _content(a: Analysis) -> int:
    """Return the offset at which the statement begins, behind blanks and comments."""
    return next((t.start for t in a.tokens() if t.start >= a.answer.start), a.answer.start)


# -- cursors -------------------------------------------------------------------------------------------------------------------


def declare(a: Analysis, body: Node) -> None:
    """Note the cursor of a DECLARE: its rows come later, by FETCH or by Execute.

    DECLARE c CURSOR FOR SELECT ssn FROM patients WHERE ssn = 'x'
    → DECLARE c CURSOR FOR SELECT ssn FROM patients WHERE tag(ssn) = tag('x')
    """
    options = int(body.get("options", 0))
    effects = a.answer.effects
    effects.declares = body["portalname"]
    effects.holds = bool(options & _CURSOR_HOLD)
    effects.binary = bool(options & _CURSOR_BINARY)
    a.answer.cursor, a.answer.outputs = (a.answer.outputs if a.answer.touches else None), None


def fetch(a: Analysis, body: Node) -> None:
    """Analyse FETCH or MOVE.

    FETCH 1 FROM c
    → unchanged
    """
    a.answer.cacheable = False
    a.answer.bound = True
    name = body.get("portalname")
    columns = a.context.names.portal(name) if a.context.names is not None and name is not None else None
    if columns is None:
        return
    a.answer.touches = True
    a.answer.plain_select = True
    a.answer.outputs, a.read_about = ((), ()) if body.get("ismove") else (columns.reveals, columns.about)
