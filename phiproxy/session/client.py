"""Messages from the client: each handler sends what the server shall see and expects the replies.

A handler that raises has sent nothing; ``substitutes.refuse`` then puts the refusal into the message's place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from phiproxy.errors import StatementRefused
from phiproxy.plan.statement import Effects, StatementPlan
from phiproxy.session.phases import Phase
from phiproxy.session.pipeline import Expected, Kind, Later, Undo
from phiproxy.session.prepared import Portal, Prepared
from phiproxy.session.state import State
from phiproxy.session.substitutes import (
    OWN_NAME,
    RESERVED,
    BindViolation,
    InvalidStatementName,
    ParameterCount,
    end_group,
    forget_unnamed,
)
from phiproxy.wire.fields import Bind, bind_names, decode_bind, encode_bind, expand_formats
from phiproxy.wire.messages import (
    decode_execute,
    decode_parse,
    decode_query,
    decode_target,
    encode_parse,
    encode_query,
)

# fastpath OIDs of the large-object functions (pg_proc.dat), which libpq calls; large objects are never protected columns.
_LARGE_OBJECT_FUNCTIONS = frozenset({715, 764, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172})


def _forward(session: State, data: bytes, start: int, end: int) -> None:
    session.to_server.append(data[start:end])


def _apply(session: State, effects: Effects) -> list[Undo]:
    """Apply what a statement does to the session when it is sent, and return how to take back what can be."""
    if effects.path_unknown or (effects.transaction and session.path_changed is not None):
        session.path, session.path_changed = None, session.names.group
    if effects.created:
        session.created |= frozenset(effects.created)
    undo = []
    if effects.deallocates is not None:
        undo.append(session.names.forget_statement(effects.deallocates.encode()))
    elif effects.deallocates_all:
        undo.extend(session.names.forget_statement(name) for name in list(session.names.statements) if name)
    if effects.prepares is not None:
        name = effects.prepares.encode()
        undo.append(session.names.prepare(name, Prepared(StatementPlan(b"", b"", identity=True), (), _stamp(session))))
    return undo


def _check_references(session: State, effects: Effects) -> None:
    """Refuse EXECUTE and FETCH of what was prepared or bound over a protected table by the protocol, and PREPARE of own names."""
    if effects.prepares is not None:
        _check_name(effects.prepares.encode())
    if effects.executes is not None:
        _settled(session, "S", effects.executes.encode())
    if effects.fetches is not None:
        _settled(session, "P", effects.fetches.encode())
    executed = session.names.statements.get(effects.executes.encode()) if effects.executes is not None else None
    fetched = session.names.portals.get(effects.fetches.encode()) if effects.fetches is not None else None
    if (executed is not None and executed.plan.touches) or (fetched is not None and fetched.plan.touches):
        raise StatementRefused(
            "EXECUTE or FETCH of a statement over a protected table is not in this version",
            hint="Use Bind and Execute of the protocol.",
        )


def _settled(session: State, kind: str, name: bytes) -> None:
    """Go on when it is known what a name means; else Later, for a plan must not be guessed where the server may have skipped."""
    if session.names.doubtful(kind, name) and session.pipeline.front() is not None:
        raise Later


def _check_name(name: bytes) -> None:
    if name in (RESERVED, OWN_NAME):
        raise StatementRefused("this name is the proxy's own")


def _check_encoding(session: State, *, touches: bool) -> None:
    """Refuse what touches something protected when the client speaks another encoding: a plan may come from one who does not."""
    if touches and not session.utf8:
        raise StatementRefused(
            "values of protected columns need client_encoding UTF8 in this version", hint="SET client_encoding TO 'UTF8'."
        )


def _stamp(session: State) -> tuple[int, tuple[str, ...] | None]:
    assert session.database is not None
    return session.database.generation, session.path


def parse(session: State, data: bytes, start: int, end: int) -> None:
    """Parse: plan the statement; the server prepares what the plan says."""
    if session.pipeline.skipping:
        return
    assert session.database is not None
    sent = decode_parse(data, start + 5, end)
    _check_name(sent.name)
    plan = session.database.planner.statement(sent.query, sent.oids, session.view())
    _check_references(session, plan.effects)
    _check_encoding(session, touches=plan.touches)
    if plan.identity and plan.sql == sent.query:
        _forward(session, data, start, end)
    else:
        session.to_server.append(encode_parse(sent.name, plan.sql, plan.oids))
    undo = [session.names.prepare(sent.name, Prepared(plan, sent.oids, _stamp(session)))]
    texts = (plan.sql, plan.text, plan.edits)
    session.pipeline.push(Expected(Kind.PARSE, undo=undo, touches=plan.touches, texts=texts))


def _current(session: State, name: bytes) -> Prepared:
    """Return a statement whose plan is right for the present path, policy and catalogue (sql.md section 2)."""
    prepared = session.names.statements.get(name)
    if prepared is None:
        shown = name.decode("utf-8", "replace")
        raise InvalidStatementName(f'prepared statement "{shown}" does not exist')
    stamp = _stamp(session)
    if prepared.stamp == stamp or not prepared.plan.text:
        return prepared
    assert session.database is not None
    planner = session.database.planner
    fresh = planner.statement(prepared.plan.text, prepared.oids, session.view())
    if fresh.sql != prepared.plan.sql or fresh.oids != prepared.plan.oids or fresh.columns != prepared.plan.columns:
        raise StatementRefused(
            "cached plan must not change: search path, policy or catalogue changed since this statement was prepared",
            hint="Prepare the statement again.",
        )
    prepared.plan, prepared.stamp = fresh, stamp
    return prepared


def bind(session: State, data: bytes, start: int, end: int) -> None:
    """Bind: protected parameters become envelopes and tags, protected results come in binary."""
    if session.pipeline.skipping:
        return
    portal, name, _ = bind_names(data, start + 5, end)
    _check_name(portal)
    _settled(session, "S", name)
    plan = _current(session, name).plan
    protected = plan.columns is not None and bool(plan.columns.protected)
    _check_encoding(session, touches=plan.touches)
    formats: tuple[int, ...] | None = None
    if plan.identity and not protected:
        _forward(session, data, start, end)
    else:
        sent = decode_bind(data, start + 5, end)
        formats = _result_formats(plan, sent)
        session.to_server.append(encode_bind(_converted(session, plan, sent, formats)))
    undo = [session.names.bind(portal, Portal(plan, formats, session.names.group))]
    session.pipeline.push(Expected(Kind.BIND, undo=undo, touches=plan.touches, texts=(plan.sql, plan.text, plan.edits)))


def _result_formats(plan: StatementPlan, sent: Bind) -> tuple[int, ...] | None:
    """Return one format code per result column as the client wants them; None where the columns do not matter."""
    if plan.columns is None or not plan.columns.protected:
        return None
    count = len(plan.columns.reveals)
    if len(sent.result_formats) > 1 and len(sent.result_formats) != count:
        raise BindViolation(f"bind message has {len(sent.result_formats)} result formats but query has {count} columns")
    return expand_formats(sent.result_formats, count)


def _converted(session: State, plan: StatementPlan, sent: Bind, wanted: tuple[int, ...] | None) -> Bind:
    results = sent.result_formats
    if wanted is not None and plan.columns is not None:
        results = tuple(1 if reveal is not None else code for reveal, code in zip(plan.columns.reveals, wanted, strict=True))
    if plan.identity:
        return sent._replace(result_formats=results)
    if len(sent.values) != plan.inputs:
        raise ParameterCount(f"bind message supplies {len(sent.values)} parameters, but prepared statement requires {plan.inputs}")
    assert session.database is not None
    values = plan.parameters(session.database.planner.ciphers, sent.values, sent.formats)
    session.counters.rewritten += 1
    return Bind(sent.portal, sent.statement, plan.formats(sent.formats), values, results)


def describe(session: State, data: bytes, start: int, end: int) -> None:
    """Describe: the reply will show the client's own parameters and the declared types."""
    if session.pipeline.skipping:
        return
    target = decode_target(data, start + 5, end)
    _settled(session, target.kind.decode(), target.name)
    expected = Expected(Kind.DESCRIBE)
    if target.kind == b"S":
        prepared = session.names.statements.get(target.name)
        expected.plan = prepared.plan if prepared is not None else None
    else:
        portal = session.names.portals.get(target.name)
        if portal is not None:
            expected.plan, expected.formats = portal.plan, portal.formats
    expected.columns = expected.plan.columns if expected.plan is not None else None
    _forward(session, data, start, end)
    session.pipeline.push(expected)


def execute(session: State, data: bytes, start: int, end: int) -> None:
    """Execute: its rows are opened by the portal's plan, described or not."""
    if session.pipeline.skipping:
        return
    name, _ = decode_execute(data, start + 5, end)
    _settled(session, "P", name)
    portal = session.names.portals.get(name)
    expected = Expected(Kind.EXECUTE, binary=True, alone=session.group_executes == 0)
    session.group_executes += 1
    if portal is not None:
        plan = portal.plan
        _check_references(session, plan.effects)
        expected.plan, expected.columns, expected.formats, expected.touches = plan, plan.columns, portal.formats, plan.touches
        expected.texts = (plan.sql, plan.text, plan.edits)
        expected.undo = _apply(session, plan.effects)
    session.counters.forwarded += 1
    _forward(session, data, start, end)
    session.pipeline.push(expected)


def close(session: State, data: bytes, start: int, end: int) -> None:
    """Close a statement or portal."""
    if session.pipeline.skipping:
        return
    target = decode_target(data, start + 5, end)
    forget = session.names.forget_statement if target.kind == b"S" else session.names.forget_portal
    undo = [forget(target.name)]
    _forward(session, data, start, end)
    session.pipeline.push(Expected(Kind.CLOSE, undo=undo))


def sync(session: State, data: bytes, start: int, end: int) -> None:
    """Sync: ends skipping. The server ignores it while it is being sent COPY data, so it is then not expected to be answered."""
    _forward(session, data, start, end)
    if session.pipeline.copy_in:
        session.pipeline.ignored += 1
        return
    session.pipeline.skipping = False
    session.pipeline.push(Expected(Kind.SYNC, group=end_group(session)))


def query(session: State, data: bytes, start: int, end: int) -> None:
    """Query: every statement of the string is planned before one of them is sent."""
    if session.pipeline.skipping:
        return
    assert session.database is not None
    text = decode_query(data, start + 5, end)
    planner = session.database.planner
    plan = planner.script(text, session.view())
    parts = plan.parts or ()
    for part in parts:
        _check_references(session, part.effects)
        _check_encoding(session, touches=part.touches)
    expected = Expected(Kind.QUERY, parts=plan.parts, touches=any(p.touches for p in parts), alone=session.group_executes == 0)
    if plan.identity:
        _forward(session, data, start, end)
        session.counters.forwarded += 1
    else:
        rendered, edits = plan.render(planner.ciphers)
        expected.texts = (rendered, text, tuple(edits))
        session.to_server.append(encode_query(rendered))
        session.counters.rewritten += 1
    expected.undo = forget_unnamed(session)
    for i, part in enumerate(parts):
        expected.undo += [replace(undo, part=i) for undo in _apply(session, part.effects)]
    expected.group = end_group(session)
    session.pipeline.push(expected)


def function_call(session: State, data: bytes, start: int, end: int) -> None:
    """FunctionCall: only the large-object functions; any other could reach a protected column."""
    if session.pipeline.skipping:
        return
    if int.from_bytes(data[start + 5 : start + 9], "big") not in _LARGE_OBJECT_FUNCTIONS:
        raise StatementRefused("FunctionCall is refused on a database with a policy", hint="Call the function with SELECT.")
    _forward(session, data, start, end)
    session.pipeline.push(Expected(Kind.FUNCTION_CALL, group=end_group(session)))


def flush(session: State, data: bytes, start: int, end: int) -> None:
    """Flush: has no reply."""
    _forward(session, data, start, end)


def copy_data(session: State, data: bytes, start: int, end: int) -> None:
    """CopyData: passes while the server is, or may be about to be, copying in; dropped where the server would ignore it."""
    if session.pipeline.may_copy():
        _forward(session, data, start, end)


def copy_end(session: State, data: bytes, start: int, end: int) -> None:
    """CopyDone or CopyFail."""
    if session.pipeline.may_copy():
        _forward(session, data, start, end)
        if not session.pipeline.copy_in:
            session.pipeline.push(Expected(Kind.COPY_END))
        session.pipeline.copy_in = False


def terminate(session: State, data: bytes, start: int, end: int) -> None:
    """Terminate: the server answers what came before it and closes, and only then the client's side closes too."""
    _forward(session, data, start, end)
    session.phase = Phase.TERMINATED if session.phase is Phase.READY else Phase.CLOSED


def password(session: State, data: bytes, start: int, end: int) -> None:
    """PasswordMessage, SASLInitialResponse, SASLResponse: relayed."""
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
    ord("d"): copy_data,
    ord("c"): copy_end,
    ord("f"): copy_end,
    ord("X"): terminate,
    ord("p"): password,
}
