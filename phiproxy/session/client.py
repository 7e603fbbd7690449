"""Messages from the client, by their tags: each handler sends what the server shall see and expects the replies.

A handler that raises has sent nothing; ``substitutes.refuse`` then puts the refusal into the message's place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from phiproxy.errors import MalformedMessage, StatementRefused, WireError
from phiproxy.plan.statement import ScriptPart
from phiproxy.session import copying, encoding, escapes, overlay, work
from phiproxy.session.effects import apply, check_references
from phiproxy.session.encoding import readable, writable
from phiproxy.session.extended import bind, close, describe, execute, parse
from phiproxy.session.phases import Phase
from phiproxy.session.pipeline import QUERY_PASSES, READY_PASSES, Expected, Kind
from phiproxy.session.state import State
from phiproxy.session.substitutes import end_group, forget_unnamed
from phiproxy.wire.framing import HEADER
from phiproxy.wire.messages import decode_query, encode_query

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
    session.pipeline.push(Expected(Kind.SYNC, group=end_group(session), passes=READY_PASSES))


def flush(session: State, data: bytes, start: int, end: int) -> None:
    """Flush: has no reply."""
    _check_empty(start, end)
    _forward(session, data, start, end)


def query(session: State, data: bytes, start: int, end: int) -> None:
    """Query: every statement of the string is planned before one of them is sent."""
    if session.pipeline.skipping:
        return
    assert session.database is not None
    encoding.settle(session)
    given = readable(session, decode_query(data, start + 5, end))
    session.check_guarded(given)
    text = escapes.read(session, given)
    encoding.check(session, text, touches=False)
    with escapes.positions(session, given, text):
        overlay.settle(session, text)
        planner = session.planner
        plan = work.plan_script(session, text)
    parts = plan.parts or ()
    escapes.check(session, unchanged=plan.identity and not any(part.touches for part in parts))
    for part in parts:
        check_references(part.effects)
        encoding.check(session, touches=part.touches)
    overlay.check_announced(session, (part.effects for part in parts))
    encoding.check_parts(parts, was_set=session.encoding_set is not None)
    styles = session.styles_for(typed=any(p.typed for p in parts))
    _check_styles(parts, styles_set=session.styles_set)
    touches, alone = any(p.touches for p in parts), session.group_executes == 0
    expected = Expected(Kind.QUERY, styles=styles, parts=plan.parts, touches=touches, alone=alone)
    if plan.identity:
        _forward(session, data, start, end)
        session.counters.forwarded += 1
    else:
        rendered, edits = work.render(session, plan, planner.ciphers, styles)
        expected.texts = (rendered, text, edits)
        session.to_server.append(encode_query(writable(session, rendered)))
        session.counters.rewritten += 1
    undo = forget_unnamed(session)
    for i, part in enumerate(parts):
        undo += [replace(change, part=i) for change in apply(session, part)]
    expected.undo = undo
    shown = any(p.columns is not None or p.copy is not None or p.effects.tag for p in parts)
    expected.passes = READY_PASSES if shown else QUERY_PASSES
    expected.group = end_group(session)
    session.pipeline.push(expected)


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
    if session.pipeline.skipping:
        return
    if end - start < HEADER + 4:
        raise MalformedMessage("FunctionCall is too short")
    if int.from_bytes(data[start + 5 : start + 9], "big") not in _LARGE_OBJECT_FUNCTIONS:
        raise StatementRefused("FunctionCall is refused on a database with a policy", hint="Call the function with SELECT.")
    _forward(session, data, start, end)
    session.pipeline.push(Expected(Kind.FUNCTION_CALL, group=end_group(session)))


def terminate(session: State, data: bytes, start: int, end: int) -> None:
    """Terminate: the server answers what came before it and closes, and only then the client's side closes too."""
    _forward(session, data, start, end)
    session.phase = Phase.TERMINATED if session.phase is Phase.READY else Phase.CLOSED


def password(session: State, data: bytes, start: int, end: int) -> None:
    """PasswordMessage, SASLInitialResponse, SASLResponse: relayed."""
    session.asked = ""
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
    ord("d"): copying.copy_data,
    ord("c"): copying.copy_end,
    ord("f"): copying.copy_end,
    ord("X"): terminate,
    ord("p"): password,
}
