"""Messages from the client, by their tags: each handler sends what the server shall see and expects the replies.

A handler that raises has sent nothing; ``substitutes_and_questions.refuse`` then sends a substitute, for which the refusal is said.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from phiproxy.errors import MalformedMessage, StatementRefused, ValueRefused, WireError
from phiproxy.plan.statement_plan import ScriptPart, StatementPlan
from phiproxy.plan.subjects_of_execution import are_given, given_values
from phiproxy.session import (
    audited_executions,
    backslash_escapes,
    client_encoding,
    copy_data,
    slow_work,
    split_at_bind,
    split_statements,
    transaction_catalog,
)
from phiproxy.session.extended_query import bind, close, describe, execute, parse
from phiproxy.session.phases import Event
from phiproxy.session.pipeline import QUERY_PASSES, READY_PASSES, Expected, Kind
from phiproxy.session.state import State
from phiproxy.session.statement_effects import apply, check_references
from phiproxy.session.substitutes_and_questions import forget_both
from phiproxy.wire.framing import HEADER
from phiproxy.wire.messages import decode_query, query_parts

# fastpath OIDs of the large-object functions (pg_proc.dat), which libpq calls; large objects are never protected columns.
_LARGE_OBJECT_FUNCTIONS = frozenset({715, 764, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172})


def _forward(session: State, data: bytes, start: int, end: int) -> None:
    session.to_server.append(data[start:end])


def _check_empty(start: int, end: int) -> None:
    if end - start != HEADER:
        raise WireError("Sync and Flush have no content")


def sync(session: State, data: bytes, start: int, end: int) -> None:
    """Sync: ends skipping. The server ignores it while it is being sent COPY data, so it is then not expected to be answered."""
    _check_empty(start, end)
    _forward(session, data, start, end)
    if session.pipeline.copy_in:
        session.pipeline.ignored += 1
        return
    session.pipeline.skipping = False
    session.pipeline.push(Expected(Kind.SYNC, group=session.end_group(), passes=READY_PASSES))
    session.pipeline.silent = False


def flush(session: State, data: bytes, start: int, end: int) -> None:
    """Flush: has no reply."""
    _check_empty(start, end)
    _forward(session, data, start, end)


def query(session: State, data: bytes, start: int, end: int) -> None:
    """Query: every statement of the string is planned before one of them is sent."""
    assert session.database is not None
    client_encoding.await_encoding(session)
    given = slow_work.query_text(session, data, start + 5, end)
    text = backslash_escapes.read(session, given)
    client_encoding.check(session, text, touches=False)
    with backslash_escapes.positions(session, given, text):
        transaction_catalog.await_catalog(session, text)
        planner = session.planner
        plan = slow_work.plan_script(session, text)
        parts = plan.parts or ()
        for part in parts:
            split_statements.check_view(session, part)
    if plan.pipeline or any(split_statements.cursor_of(session, part.effects) for part in parts):
        split_statements.as_messages(session, decode_query(data, start + 5, end), plan, end)
        return
    backslash_escapes.check(session, unchanged=plan.identity and not any(part.touches for part in parts))
    for part in parts:
        check_references(session, part.effects)
        client_encoding.check(session, touches=part.touches)
    transaction_catalog.check_announced(session, (part.effects for part in parts))
    client_encoding.check_string(session, text, parts)
    styles = session.styles_for(typed=any(p.typed for p in parts))
    _check_styles(parts, styles_set=session.styles.set_in_transaction)
    touches, first = any(p.touches for p in parts), session.groups.executes == 0
    if touches:
        audited_executions.check_recordable(session)
    expected = Expected(Kind.QUERY, styles=styles, parts=plan.parts, touches=touches, first=first)
    if touches and session.trail is not None and any(are_given(part.touched.subjects) for part in parts):
        expected.given = {i: given_values(part.touched.subjects, text) for i, part in enumerate(parts)}
    if plan.identity:
        _forward(session, data, start, end)
        session.counters.forwarded += 1
    else:
        try:
            rendered, edits = slow_work.spell(session, plan, planner.ciphers, styles)
        except ValueRefused as refused:
            with backslash_escapes.positions(session, given, text):
                split = split_at_bind.split_query(session, text, plan, refused)
            split_statements.as_messages(session, decode_query(data, start + 5, end), split, end)
            return
        expected.texts = (rendered, text, edits)
        session.to_server += query_parts(slow_work.writable(session, rendered))
        session.counters.rewritten += 1
    undo = list(forget_both(session))
    for i, part in enumerate(parts):
        undo += [replace(change, part=i) for change in apply(session, part, (expected.given or {}).get(i, ()))]
    if not parts and session.catalog.setters:
        undo += apply(session, StatementPlan(text, text, identity=True))  # it was not read, and may call what was just made
    expected.undo = undo
    shown = any(p.columns is not None or p.copy is not None or p.effects.tag for p in parts)
    expected.passes = READY_PASSES if shown or (touches and session.trail is not None) else QUERY_PASSES
    expected.group = session.end_group()
    session.pipeline.push(expected)
    session.observe(text)


def _check_styles(parts: Sequence[ScriptPart], *, styles_set: bool) -> None:
    """Refuse values behind a statement of the same string that may change how they are spelled."""
    changed = False
    for part in parts:
        if changed and part.typed:
            raise StatementRefused(
                "a statement before this one in the same string may change how values are spelled", hint="Send them one by one."
            )
        styles_set = styles_set or part.effects.styles_changed
        changed = changed or part.effects.styles_changed or (styles_set and part.effects.transaction)


def function_call(session: State, data: bytes, start: int, end: int) -> None:
    """FunctionCall: only the large-object functions; any other could reach a protected column."""
    if end - start < HEADER + 4:
        raise MalformedMessage("FunctionCall is too short")
    if int.from_bytes(data[start + 5 : start + 9], "big") not in _LARGE_OBJECT_FUNCTIONS:
        raise StatementRefused("FunctionCall is refused on a database with a policy", hint="Call the function with SELECT.")
    _forward(session, data, start, end)
    session.pipeline.push(Expected(Kind.FUNCTION_CALL, group=session.end_group()))


def terminate(session: State, data: bytes, start: int, end: int) -> None:
    """Terminate: the server answers what came before it and closes, and only then the client's leg closes too."""
    _forward(session, data, start, end)
    session.happens(Event.TERMINATE)


def password(session: State, data: bytes, start: int, end: int) -> None:
    """PasswordMessage, SASLInitialResponse, SASLResponse: relayed."""
    session.login.asked = ""
    _forward(session, data, start, end)


Handler = Callable[[State, bytes, int, int], None]


HANDLERS: dict[int, Handler] = {
    ord("P"): parse,
    ord("B"): bind,
    ord("D"): describe,
    ord("E"): execute,
    ord("C"): close,
    ord("S"): sync,
    ord("H"): flush,
    ord("Q"): query,
    ord("F"): function_call,
    ord("d"): copy_data.copy_data,
    ord("c"): copy_data.copy_end,
    ord("f"): copy_data.copy_end,
    ord("X"): terminate,
    ord("p"): password,
}
