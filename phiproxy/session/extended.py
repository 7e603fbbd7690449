"""The extended query protocol's messages: Parse, Bind, Describe, Execute, Close (manual 55.2.3).

A handler that raises has sent nothing; ``substitutes.refuse`` then puts the refusal into the message's place.
"""

from __future__ import annotations

from phiproxy.errors import StatementRefused
from phiproxy.plan.quick import Formed
from phiproxy.plan.statement import StatementPlan
from phiproxy.session import encoding, escapes, overlay, work
from phiproxy.session.effects import apply, check_name, check_references, settled, stamp_of
from phiproxy.session.encoding import readable, writable
from phiproxy.session.known import current, still_valid
from phiproxy.session.pipeline import (
    BIND_PASSES,
    CLOSE_PASSES,
    DESCRIBE_PASSES,
    EXECUTE_PASSES,
    OPEN_PASSES,
    PARSE_PASSES,
    SHOW_PASSES,
    Expected,
    Kind,
    Passes,
    expect,
)
from phiproxy.session.prepared import Portal, Prepared
from phiproxy.session.state import State
from phiproxy.session.substitutes import ParameterCount, UnsupportedFormat
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.fields import Bind, bind_names, bind_parts, expand_formats
from phiproxy.wire.messages import decode_execute, decode_parse, decode_target, encode_parse

# Of one statement; a driver has one or two.
MAX_FORMED = 8


def parse(session: State, data: bytes, start: int, end: int) -> None:
    """Parse: plan the statement; the server prepares what the plan says."""
    if session.pipeline.skipping:
        return
    assert session.database is not None
    sent = decode_parse(data, start + 5, end)
    check_name(sent.name)
    encoding.settle(session)
    given, name = readable(session, sent.query), readable(session, sent.name)
    session.check_guarded(given)
    text = escapes.read(session, given)
    with escapes.positions(session, given, text):
        overlay.settle(session, text)
        plan = work.plan_statement(session, text, sent.oids)
    check_references(plan.effects)
    encoding.check(session, text, touches=plan.touches)
    escapes.check(session, unchanged=plan.identity and not plan.touches)
    styles = session.styles_for(typed=plan.typed and bool(plan.literals or plan.inline))
    plan.check_literals(styles)
    sql, edits = work.spell(session, plan, session.database.planner.ciphers, styles)
    if plan.identity and sql == text:
        session.to_server.append(data[start:end])
    else:
        session.to_server.append(encode_parse(sent.name, writable(session, sql), plan.oids))
    undo = [session.names.prepare(name, Prepared(plan, sent.oids, stamp_of(session)))]
    texts = (sql, plan.text, edits)
    session.pipeline.push(Expected(Kind.PARSE, undo=undo, touches=plan.touches, texts=texts, passes=PARSE_PASSES))


def bind(session: State, data: bytes, start: int, end: int) -> None:
    """Bind: protected parameters become envelopes and tags, protected results come in binary."""
    if session.pipeline.skipping:
        return
    encoding.settle(session)
    portal, name, _ = bind_names(data, start + 5, end)
    if session.encoding is not UTF8:
        portal, name = readable(session, portal), readable(session, name)
    check_name(portal)
    settled(session, "S", name)
    prepared = current(session, name)
    plan = prepared.plan
    if plan.stores_inline and prepared.used:
        raise StatementRefused(
            "a statement whose literals are stored was executed before: a value is never sealed once for two executions",
            hint="Parse the statement again.",
        )
    prepared.used = True
    protected = plan.columns is not None and bool(plan.columns.protected)
    encoding.check(session, touches=plan.touches)
    formats: tuple[int, ...] | None = None
    if plan.identity and not protected:
        session.to_server.append(data[start:end])
    else:
        sent = work.bound(session, data, start + 5, end)
        formed = formed_by(plan, sent)
        formats = formed.results
        session.to_server += bind_parts(_converted(session, plan, sent, formed))
    expected = expect(Kind.BIND, BIND_PASSES)
    expected.undo = (session.names.bind(portal, Portal(plan, formats, session.names.group, prepared.oids)),)
    expected.touches, expected.texts = plan.touches, (plan.sql, plan.text, plan.edits)
    session.pipeline.push(expected)


def formed_by(plan: StatementPlan, sent: Bind) -> Formed:
    """Return what follows from the formats of a Bind: a client says the same each time, so it is made once."""
    key = (sent.formats, len(sent.values), sent.result_formats)
    formed = plan.formed.get(key)
    if formed is None:
        wanted, results = _result_formats(plan, sent), sent.result_formats
        if wanted is not None and plan.columns is not None:
            reveals = zip(plan.columns.reveals, wanted, strict=True)
            # A code that is none stays: the server complains of it when the first row comes, as it would without the proxy.
            results = tuple(1 if reveal is not None and code in (0, 1) else code for reveal, code in reveals)
        formats = sent.formats if plan.identity else _parameter_formats(plan, sent)
        formed = Formed(formats, wanted, formats if plan.identity else plan.formats(formats), results)
        if len(plan.formed) < MAX_FORMED:
            plan.formed[key] = formed
    return formed


def _result_formats(plan: StatementPlan, sent: Bind) -> tuple[int, ...] | None:
    """Return one format code per result column as the client wants them; None where the columns do not matter."""
    if plan.columns is None or not plan.columns.protected:
        return None
    count = len(plan.columns.reveals)
    # Another number is refused by the server itself, in its own order of complaints.
    return expand_formats(sent.result_formats, count) if len(sent.result_formats) in (0, 1, count) else None


def _converted(session: State, plan: StatementPlan, sent: Bind, formed: Formed) -> Bind:
    if plan.identity:
        return sent._replace(result_formats=formed.server_results)
    given = encoding.parameters(session, plan, sent.values, formed.parameters)
    styles = session.styles_for(typed=True) if plan.typed else session.styles
    values = work.parameters(session, plan, session.planner.ciphers, given, formed.parameters, styles)
    session.counters.rewritten += 1
    return Bind(sent.portal, sent.statement, formed.server_parameters, values, formed.server_results)


def _parameter_formats(plan: StatementPlan, sent: Bind) -> tuple[int, ...]:
    """Return one format code per parameter; complaints are the server's, in its order (postgres.c, exec_bind_message)."""
    codes, count = len(sent.formats), len(sent.values)
    if codes > 1 and codes != count:
        raise ParameterCount(f"bind message has {codes} parameter formats but {count} parameters")
    if count != plan.inputs:
        raise ParameterCount(f"bind message supplies {count} parameters, but prepared statement requires {plan.inputs}")
    formats = expand_formats(sent.formats, count)
    unsupported = plan.unsupported(formats)
    if unsupported is not None:
        raise UnsupportedFormat(f"unsupported format code: {unsupported}")
    return formats


def describe(session: State, data: bytes, start: int, end: int) -> None:
    """Describe: the reply will show the client's own parameters and the declared types."""
    if session.pipeline.skipping:
        return
    target = decode_target(data, start + 5, end)
    name = readable(session, target.name)
    settled(session, target.kind.decode(), name)
    if target.kind == b"S":
        prepared = session.names.statements.get(name)
        expected = described(prepared.plan if prepared is not None else None, None)
    else:
        portal = session.names.portals.get(name)
        expected = described(portal.plan, portal.formats) if portal is not None else described(None, None)
    session.to_server.append(data[start:end])
    session.pipeline.push(expected)


def described(plan: StatementPlan | None, formats: tuple[int, ...] | None) -> Expected:
    """Return what is to come for a Describe of a statement, or of a portal with these result formats."""
    if plan is None:
        return Expected(Kind.DESCRIBE, passes=DESCRIBE_PASSES)
    expected = expect(Kind.DESCRIBE, SHOW_PASSES if plan.columns is not None else DESCRIBE_PASSES if plan.identity else None)
    expected.plan, expected.columns, expected.formats = plan, plan.columns, formats
    return expected


def execute(session: State, data: bytes, start: int, end: int) -> None:
    """Execute: its rows are opened by the portal's plan, described or not."""
    if session.pipeline.skipping:
        return
    encoding.settle(session)
    name = readable(session, decode_execute(data, start + 5, end)[0])
    settled(session, "P", name)
    portal = session.names.portals.get(name)
    encoding.check(session, touches=portal is not None and portal.plan.touches)
    if portal is not None:
        overlay.check_announced(session, [portal.plan.effects])
    alone = session.group_executes == 0
    session.group_executes += 1
    if portal is not None:
        if portal.plan.bound:
            still_valid(session, portal.plan, portal.oids)
        expected = executed(session, portal, alone=alone)
        expected.undo = apply(session, portal.plan)
    else:
        expected = Expected(Kind.EXECUTE, binary=True, alone=alone)
    session.counters.forwarded += 1
    session.to_server.append(data[start:end])
    session.pipeline.push(expected)


def close(session: State, data: bytes, start: int, end: int) -> None:
    """Close a statement or portal."""
    if session.pipeline.skipping:
        return
    target = decode_target(data, start + 5, end)
    forget = session.names.forget_statement if target.kind == b"S" else session.names.forget_portal
    undo = [forget(readable(session, target.name))]
    session.to_server.append(data[start:end])
    session.pipeline.push(Expected(Kind.CLOSE, undo=undo, passes=CLOSE_PASSES))


def executed(session: State, portal: Portal, *, alone: bool) -> Expected:
    """Return what is to come for an Execute; ``alone``: it is the first of its Sync group."""
    plan = portal.plan
    expected = expect(Kind.EXECUTE, _passes(plan))
    expected.plan, expected.columns, expected.formats, expected.binary = plan, plan.columns, portal.formats, portal.binary
    expected.alone, expected.touches, expected.texts = alone, plan.touches, (plan.sql, plan.text, plan.edits)
    if plan.typed:
        expected.styles = session.styles_for(typed=True)
    return expected


def _passes(plan: StatementPlan) -> Passes | None:
    """Return which replies to an Execute go on as they came."""
    if plan.effects.tag or plan.copy is not None:
        return None
    return EXECUTE_PASSES if plan.columns is None else OPEN_PASSES
