"""Parse, Bind, Describe, Execute and Close (manual 55.2.3): their handlers, which keep to the rule of ``client_messages``."""

from collections.abc import Callable

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.plan.split_plan import SplitPlan
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.subjects_of_execution import Noted, are_given
from phiproxy.session import (
    audited_executions,
    backslash_escapes,
    client_encoding,
    current_access_and_expiry,
    end_user_and_break_glass,
    slow_work,
    split_at_bind,
    split_statements,
    split_write_messages,
    transaction_catalog,
)
from phiproxy.session.bound_parameters import converted, formed_by, given_to
from phiproxy.session.client_encoding import readable
from phiproxy.session.named_objects import current, still_valid
from phiproxy.session.pipeline import (
    BIND_PASSES,
    CLOSE_PASSES,
    DESCRIBE_PASSES,
    EXECUTE_PASSES,
    OPEN_PASSES,
    PARSE_PASSES,
    RECORDED_OPEN_PASSES,
    RECORDED_PASSES,
    SHOW_PASSES,
    Expected,
    Kind,
    Passes,
    expect,
)
from phiproxy.session.state import State
from phiproxy.session.statement_effects import apply, await_name, check_name, check_references, stamp_of
from phiproxy.session.statements_and_portals import Given, Portal, Prepared
from phiproxy.session.substitutes_and_questions import FLUSH
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.fields import bind_names
from phiproxy.wire.messages import Parse, decode_execute, decode_target, parse_parts


def parse(session: State, data: bytes, start: int, end: int) -> None:
    """Parse: plan the statement; the server prepares what the plan says."""
    assert session.database is not None
    sent = slow_work.parsed(session, data, start + 5, end)
    check_name(sent.name, writing=session.writing is not None)
    client_encoding.await_encoding(session)
    given = slow_work.statement_text(session, sent.query)
    text = backslash_escapes.read(session, given)
    with backslash_escapes.positions(session, given, text):
        transaction_catalog.await_catalog(session, text)
        plan = split_statements.planned_ahead(session, text) or slow_work.plan_statement(session, text, sent.oids)
    try:
        _prepare(session, lambda: data[start:end], sent, given, text, plan)
    except ValueRefused as refused:
        with backslash_escapes.positions(session, given, text):
            split = split_at_bind.split_parse(session, plan, sent.oids, refused)
        _prepare(session, lambda: data[start:end], sent, given, text, split)


def _prepare(session: State, whole: Callable[[], bytes], sent: Parse, given: bytes, text: bytes, plan: StatementPlan) -> None:
    """Let the server prepare what a plan says; ``whole`` gives the message, ``given`` its text, and ``text`` that as it is read."""
    assert session.database is not None
    name = readable(session, sent.name)
    with backslash_escapes.positions(session, given, text):
        if isinstance(plan, SplitPlan) and not session.pipeline.silent:
            plan = split_statements.described(session, plan, sent.oids)
        elif plan.prepared is not None and isinstance(query := plan.prepared[0], SplitPlan):
            split_statements.described(session, query, plan.prepared[1])
        split_statements.check_view(session, plan)
    split_write_messages.check(session, plan)
    check_references(session, plan.effects)
    client_encoding.check(session, text, touches=plan.touches)
    if plan.touches and not isinstance(plan, SplitPlan):  # the engine has read it
        client_encoding.check_escapes(session, text)
    backslash_escapes.check(session, unchanged=plan.identity and not plan.touches)
    styles = session.styles_for(typed=plan.typed and bool(plan.literals or plan.inline))
    plan.check_literals(styles)
    sql, edits = slow_work.spell(session, plan, session.database.planner.ciphers, styles)
    if plan.identity and sql == text:
        session.to_server.append(whole())
    else:
        session.to_server += parse_parts(sent.name, slow_work.writable(session, sql), plan.oids)
    undo = [session.names.prepare(name, Prepared(plan, sent.oids, stamp_of(session), read=session.styles.read))]
    expected = Expected(Kind.PARSE, undo=undo, touches=plan.touches, texts=(sql, plan.text, edits), passes=PARSE_PASSES)
    if isinstance(plan, SplitPlan):
        # Positions are those in the source, which EXPLAIN has words before.
        expected.texts = None if plan.only_planned else (sql, plan.source.text, plan.source.edits)
        expected.placing, expected.unplaced = plan.placed_in_source, True
        expected.names_told = True
        split_statements.show_notices(session, plan)
    elif plan.prepared is not None and isinstance(query := plan.prepared[0], SplitPlan):
        expected.names_told = True
        split_statements.show_notices(session, query, by_sql=True)
    named_apart, expected.names_told = expected.names_told, expected.names_told or session.writing is not None
    session.observe(text, sent.oids)
    session.pipeline.push(expected)
    if named_apart and session.writing is None:
        split_statements.show_long_names(session, plan)


def bind(session: State, data: bytes, start: int, end: int) -> None:
    """Bind: protected parameters become envelopes and tags, protected results come in binary."""
    client_encoding.await_encoding(session)
    portal, name, _ = bind_names(data, start + 5, end)
    if session.text.encoding is not UTF8:
        portal, name = readable(session, portal), readable(session, name)
    check_name(portal, writing=session.writing is not None)
    await_name(session, "S", name)
    prepared = current(session, name, renewing=True)
    if prepared.unsplit is not None:
        prepared = split_at_bind.unsplit(session, name, prepared, slow_work.bound(session, data, start + 5, end))
    while True:
        try:
            _bind(session, data, start, end, portal, prepared)
            return
        except ValueRefused as refused:
            sent = slow_work.bound(session, data, start + 5, end)
            refused = split_at_bind.in_order(session, prepared.plan, sent, refused)
            prepared = split_at_bind.split_bind(session, name, prepared, sent, refused)


def _bind(session: State, data: bytes, start: int, end: int, portal: bytes, prepared: Prepared) -> None:
    plan = prepared.plan
    if plan.stores_inline and prepared.used:
        raise StatementRefused(
            "a statement whose literals are stored was executed before: a value is never sealed once for two executions",
            hint="Parse the statement again.",
        )
    prepared.used = True
    if isinstance(plan, SplitPlan):
        split_statements.check_prepared(prepared)
        client_encoding.check(session, touches=True)
        split_statements.bind(session, data, start, end, portal, prepared)
        return
    protected = plan.columns is not None and bool(plan.columns.protected or plan.columns.subjects)
    if plan.touches:
        audited_executions.check_recordable(session)
    client_encoding.check(session, touches=plan.touches)
    formats: tuple[int, ...] | None = None
    given: Given | None = None
    about: tuple[Noted, ...] = ()
    if (cursor := split_statements.cursor_of(session, plan.effects)) is not None:
        sent = slow_work.bound(session, data, start + 5, end)
        given = split_statements.fetch_bound(session, cursor, plan, sent)
        session.to_server += slow_work.bind_message(session, sent._replace(result_formats=()))
    elif plan.effects.given is not None or plan.effects.named_by:
        plan, said = end_user_and_break_glass.bound(session, plan, slow_work.bound(session, data, start + 5, end))
        session.to_server += slow_work.bind_message(session, said)
    elif plan.identity and not protected and not are_given(plan.touched.subjects):
        session.to_server.append(data[start:end])
    else:
        sent = slow_work.bound(session, data, start + 5, end)
        formed = formed_by(plan, sent)
        formats = formed.results
        about = given_to(session, plan, sent, formed, prepared.oids)
        session.to_server += slow_work.bind_message(session, converted(session, plan, sent, formed))
        session.counters.rewritten += not plan.identity
    expected = expect(Kind.BIND, BIND_PASSES)
    bound = Portal(plan, formats, session.groups.number, prepared.oids, seen_by=session.database, about=about, given=given)
    expected.undo = (session.names.bind(portal, bound),)
    expected.touches, expected.texts = plan.touches, (plan.sql, plan.text, plan.edits)
    session.pipeline.push(expected)


def describe(session: State, data: bytes, start: int, end: int) -> None:
    """Describe: the reply will show the client's own parameters and the declared types."""
    target = decode_target(data, start + 5, end)
    name = readable(session, target.name)
    await_name(session, target.kind.decode(), name)
    if target.kind == b"S":
        prepared = session.names.statements.get(name)
        if prepared is not None:
            split_statements.check_prepared(prepared)
        expected = described(prepared.plan if prepared is not None else None, None)
    else:
        portal = session.names.portals.get(name)
        expected = described(portal.plan, portal.formats) if portal is not None else described(None, None)
    plan, given = expected.plan, portal.given if target.kind == b"P" and portal is not None else None
    cursor = portal if target.kind == b"P" and portal is not None and portal.cursor is not None else None
    if cursor is None and plan is not None:
        cursor = split_statements.cursor_of(session, plan.effects)
    if cursor is not None:
        expected = split_statements.fetch_described(session, cursor, given)
    if session.pipeline.silent and (cursor is not None or (isinstance(plan, SplitPlan) and not plan.only_planned)):
        return  # the engine describes what it computes
    if isinstance(plan, SplitPlan):
        expected = split_statements.to_describe(session, plan, given)
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
    client_encoding.await_encoding(session)
    sent_name, limit = decode_execute(data, start + 5, end)
    name = readable(session, sent_name)
    await_name(session, "P", name)
    portal = session.names.portals.get(name)
    client_encoding.check(session, touches=portal is not None and portal.plan.touches)
    split_write_messages.check_time(session)
    if portal is not None:
        transaction_catalog.check_announced(session, [portal.plan.effects])
        end_user_and_break_glass.check_said(session, portal.plan.effects)
        if portal.plan.touches:
            audited_executions.check_recordable(session)
            current_access_and_expiry.check_portal(session, name, portal)
        if split_statements.executes(session, name, portal, limit):
            return
    first = session.groups.executes == 0
    session.groups.executes += 1
    if portal is not None:
        if portal.plan.bound:
            still_valid(session, portal.plan, portal.oids)
        expected = executed(session, portal, first=first)
        expected.undo = apply(session, portal.plan, portal.about)
    else:
        expected = Expected(Kind.EXECUTE, binary=True, first=first)
    session.counters.forwarded += portal is None or portal.plan.identity  # a Bind of another was counted as rewritten
    session.to_server.append(data[start:end])
    if session.writing is not None:
        expected.explained, expected.stands_for = session.writing.explained, session.writing.touched
    session.pipeline.push(expected)
    split_write_messages.await_data(session, expected)
    if split_write_messages.hold(session):
        expected.counted = session.blocked = True
        session.to_server.append(FLUSH)


def close(session: State, data: bytes, start: int, end: int) -> None:
    """Close a statement or portal."""
    target = decode_target(data, start + 5, end)
    forget = session.names.forget_statement if target.kind == b"S" else session.names.forget_portal
    undo = [forget(readable(session, target.name))]
    session.to_server.append(data[start:end])
    session.pipeline.push(Expected(Kind.CLOSE, undo=undo, passes=CLOSE_PASSES))


def executed(session: State, portal: Portal, *, first: bool) -> Expected:
    """Return what is to come for an Execute; ``first``: it is the first of its Sync group."""
    plan = portal.plan
    expected = expect(Kind.EXECUTE, _passes(plan, recorded=plan.touches and session.trail is not None))
    expected.plan, expected.columns, expected.formats, expected.binary = plan, plan.columns, portal.formats, portal.binary
    expected.first, expected.touches, expected.texts = first, plan.touches, (plan.sql, plan.text, plan.edits)
    if portal.about:
        expected.given = {0: portal.about}
    if plan.typed:
        expected.styles = session.styles_for(typed=True)
    return expected


def _passes(plan: StatementPlan, *, recorded: bool) -> Passes | None:
    if plan.effects.tag or plan.copy is not None:
        return None
    if recorded:
        return RECORDED_PASSES if plan.columns is None else RECORDED_OPEN_PASSES
    return EXECUTE_PASSES if plan.columns is None else OPEN_PASSES
