"""PREPARE, EXECUTE, DECLARE and FETCH: statements and cursors by name, in the namespaces that SQL and the protocol share.

What a name means is asked of the session (``SessionNames``); what an inner statement becomes is asked of the planner, so that
PREPARE is the same as a Parse: protected parameters are bytea, and literals become further parameters, sealed by each EXECUTE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from phiproxy.errors import StatementRefused
from phiproxy.policy.types import by_oid
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.computed import constant_sink
from phiproxy.sql.finish import finish, marked_node
from phiproxy.sql.formula import Formula
from phiproxy.sql.meaning import (
    Edit,
    End,
    EndPair,
    Given,
    Occurrence,
    Plain,
    PlannedStatement,
    Search,
    Source,
    Store,
    Use,
    of_elements,
    sent_as_array,
)
from phiproxy.sql.operands import given
from phiproxy.sql.parse import Node, Token, char_position, messages, only, parse, strings
from phiproxy.sql.sinks import SinkNode, cast_type
from phiproxy.sql.taint import ProtectedValues, check_names

_OTHER = 0xFFFFFFFF
_CURSOR_BINARY, _CURSOR_HOLD = 0x0001, 0x0020


class WrongNumberOfParameters(StatementRefused):
    """EXECUTE gives another number of values than its statement takes (42601)."""

    sqlstate = "42601"


class UndefinedStatement(StatementRefused):
    """EXECUTE of what nobody prepared, with values that may be meant for something protected (26000)."""

    sqlstate = "26000"


# -- PREPARE -------------------------------------------------------------------------------------------------------------------


def prepare(a: Analysis, body: Node) -> None:
    """Analyse PREPARE: its statement is planned as a Parse of its own text."""
    a.meaning.takes_parameters = False
    a.meaning.bound = True
    names = a.context.names
    if names is None:
        return
    types, before, start = _places(a)
    declared = tuple(map(_oid, body.get("argtypes", ())))
    try:
        plan = names.plan(a.text[start : a.meaning.end], declared)
    except StatementRefused as refusal:
        refusal.position = (refusal.position or 1) + char_position(a.text, start) - 1
        raise
    a.meaning.prepared = (plan, declared)
    a.meaning.touches = plan.touches
    if plan.touches:
        check_names(a, ProtectedValues(((value, None) for value in _constants(body["query"])), lambda _: None))
    finish(a)
    if plan.identity:
        return
    spelled = b", ".join(_server_type(use, n, a.text, types) for use, n, _ in plan.outputs)
    moved = _moved(plan, start)
    outside = [e for e in a.meaning.edits if not any(first <= e.start < last for first, last in moved)]
    edits = {(e.start, e.end): e for e in outside} | moved
    if spelled and types:
        edits[types[0]] = Edit(types[0][0], types[-1][1], spelled)
    elif spelled:
        edits[before, before] = Edit(before, before, b" (" + spelled + b")")
    a.meaning.edits = sorted(edits.values(), key=lambda e: (e.start, e.end))
    (inner,) = parse(plan.sql)
    body["query"] = {inner.kind: inner.body}
    if spelled:
        body["argtypes"] = parse(b"PREPARE p (" + spelled + b") AS SELECT 1")[0].body["argtypes"]


def _constants(query: Node) -> Iterator[bytes]:
    """Yield the string literals of a query."""
    return (m["sval"].get("sval", "").encode() for m in messages(query) if isinstance(m.get("sval"), dict))


def _places(a: Analysis) -> tuple[list[tuple[int, int]], int, int]:
    """Return the spans of the declared types, where such a list could be put, and where the inner statement begins."""
    found = [t for t in a.tokens() if a.meaning.start <= t.start < a.meaning.end]
    name = found[1]
    types: list[tuple[int, int]] = []
    index, depth = 2, 0
    first: Token | None = None
    while found[index].name != "AS" or depth:
        token = found[index]
        depth += (token.name == "ASCII_40") - (token.name == "ASCII_41")
        ends = (depth == 1 and token.name == "ASCII_44") or not depth
        if ends and first is not None:
            types.append((first.start, found[index - 1].end))
            first = None
        elif not ends and first is None and (depth > 1 or token.name != "ASCII_40"):
            first = token
        index += 1
    return types, name.end, found[index + 1].start


def _server_type(use: Use, number: int, text: bytes, types: Sequence[tuple[int, int]]) -> bytes:
    if not isinstance(use, Plain):
        return b"bytea[]" if sent_as_array(use) else b"bytea"
    return text[slice(*types[number])] if number < len(types) else b"unknown"


def _oid(type_name: Node) -> int:
    """Return the OID of a declared type, as far as it matters."""
    body = only(type_name)[1]
    if strings(body.get("names"))[-1:] == ["unknown"]:
        return 0
    found = cast_type({"typeName": body})
    return _OTHER if found is None else found.oid


def _moved(plan: PlannedStatement, start: int) -> dict[tuple[int, int], Edit]:
    """Return the edits, by their places, that make the inner statement's text the server's, as edits of the whole text.

    Those that touch are one: nothing is put between them.
    """
    moved: list[Edit] = []
    shift = 0
    for first, last, length in sorted(plan.edits, key=lambda e: (e[0], e[1])):
        edit = Edit(start + first, start + last, plan.sql[first + shift : first + shift + length])
        if moved and moved[-1].end == edit.start:
            edit = Edit(moved[-1].start, edit.end, moved.pop().text + edit.text)
        moved.append(edit)
        shift += length - (last - first)
    return {(edit.start, edit.end): edit for edit in moved}


# -- EXECUTE -------------------------------------------------------------------------------------------------------------------


def execute(a: Analysis, body: Node, *, into: bool = False) -> None:
    """Analyse EXECUTE: values for protected parameters must be constants, since the server would compute anything else."""
    a.meaning.takes_parameters = False
    a.meaning.bound = True
    plan = a.context.names.statement(body["name"]) if a.context.names is not None else None
    if plan is None and any("sval" in message for message in messages(body.get("params", []))):
        # The server would log them with its error.
        raise UndefinedStatement(f'prepared statement "{body["name"]}" does not exist', position=a.at(_content(a)))
    if plan is not None:
        a.meaning.effects.sets_as(plan.effects)
    if plan is None or not (plan.touches or not plan.identity):
        return
    position = a.at(_content(a))
    if into:
        raise StatementRefused(
            "a table made of a statement over a protected table is not in this version",
            hint="Create the table first and INSERT … SELECT into it.",
            position=position,
        )
    a.meaning.touches = a.meaning.touches or plan.touches
    a.meaning.outputs = plan.columns.reveals if plan.columns is not None else None
    a.meaning.plain_select = plan.plain_select
    if plan.identity:
        finish(a)
        return
    arguments = body.get("params", [])
    if len(arguments) != plan.inputs:
        raise WrongNumberOfParameters(f'wrong number of parameters for prepared statement "{body["name"]}"', position=position)
    sinks = [_argument(a, node, use, n, plan.described[n]) for node, (use, n, _) in zip(arguments, plan.outputs, strict=False)]
    extra = [_extra(use, n, source, sinks) for use, n, source in plan.outputs[plan.inputs :]]
    finish(a)
    if extra:
        _append(a, body, extra)


def _argument(a: Analysis, node: Node, use: Use, number: int, type_oid: int | None) -> SinkNode | None:
    """Note what an argument is used for and return it; ``type_oid`` is the type of the parameter that it is assigned to."""
    if isinstance(use, Plain):
        return None
    sink = constant_sink(a, node, array=of_elements(use))
    if sink is None:
        raise StatementRefused(
            f"argument {number + 1} of EXECUTE meets a protected column and is no constant",
            hint="Give text literals, NULL, or what is made of these by ||, lower, upper, trim, concat, COALESCE or NULLIF.",
            position=a.at(_content(a)),
        )
    declared = by_oid(type_oid or 0)
    if isinstance(use, Store | Search) and use.given is None and declared is not None and not sink.textual:
        use = replace(use, given=Given(declared.element if use.elements and declared.element is not None else declared))
    a.use(sink, use)
    return sink


def _value(sink: SinkNode | None) -> bytes | None:
    return sink.literal if sink is not None and sink.kind in ("literal", "constant") else None


def _extra(use: Use, number: int, source: Source, sinks: Sequence[SinkNode | None]) -> Occurrence:
    """Return what the statement takes beyond the client's own parameters, without a place."""
    if isinstance(source, EndPair):
        return replace(_end(source.lower, sinks), other=_end(source.upper, sinks))
    if isinstance(source, Formula):
        return Occurrence(0, 0, use, literal=source.evaluate([_value(sink) for sink in sinks]))
    return Occurrence(0, 0, use, literal=_value(sinks[number]) if source is None else source)


def _end(end: End, sinks: Sequence[SinkNode | None]) -> Occurrence:
    sink = sinks[end.number] if end.number >= 0 else None
    if sink is None:
        return Occurrence(0, 0, end.use, literal=end.literal)
    return Occurrence(0, 0, given(sink, end.use, 0)[0], literal=_value(sink))


def _append(a: Analysis, body: Node, extra: Sequence[Occurrence]) -> None:
    """Put what the statement takes beyond the client's own parameters behind them."""
    arguments = body.setdefault("params", [])
    last = [t for t in a.tokens() if a.meaning.start <= t.start < a.meaning.end][-1]
    place = last.start if arguments else last.end
    first = b", " if arguments else b"("
    for i, made in enumerate(extra):
        trail = b")" if not arguments and i == len(extra) - 1 else b""
        a.meaning.occurrences.append(replace(made, start=place, end=place, lead=b", " if i else first, trail=trail))
    arguments += [marked_node(made.use, null=made.literal is None) for made in extra]


def _content(a: Analysis) -> int:
    """Return where the statement begins, behind blanks and comments."""
    return next((t.start for t in a.tokens() if t.start >= a.meaning.start), a.meaning.start)


# -- cursors -------------------------------------------------------------------------------------------------------------------


def declare(a: Analysis, body: Node) -> None:
    """Note the cursor of a DECLARE whose query is analysed: its rows come later, by FETCH or by Execute of its name."""
    options = int(body.get("options", 0))
    effects = a.meaning.effects
    effects.declares = body["portalname"]
    effects.holds = bool(options & _CURSOR_HOLD)
    effects.binary = bool(options & _CURSOR_BINARY)
    a.meaning.cursor, a.meaning.outputs = (a.meaning.outputs if a.meaning.touches else None), None


def fetch(a: Analysis, body: Node) -> None:
    """Analyse FETCH or MOVE."""
    a.meaning.bound = True
    name = body.get("portalname")
    reveals = a.context.names.portal(name) if a.context.names is not None and name is not None else None
    if reveals is None:
        return
    a.meaning.touches = True
    a.meaning.plain_select = True
    a.meaning.outputs = () if body.get("ismove") else reveals
    finish(a)
