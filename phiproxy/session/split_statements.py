"""Split statements as the client runs them: the server gets the source, under the client's names, and the engine the rest.

Describe is answered as the engine has described the whole statement. Execute is a barrier: it waits for the replies to all that
is executed before it, and nothing behind it is taken until the engine has said all (``split_replies``)::

    client   Execute                                                              │ Sync …
    engine   enter                                 rows …        rest → results   │
    server          settings? Execute Flush → DataRow … CommandComplete           │
"""

from collections.abc import Callable

from phiproxy.effects import Effects
from phiproxy.errors import StatementFailed, StatementRefused
from phiproxy.plan.search_path import divided
from phiproxy.plan.split_plan import READ_UNDER, SETTINGS, Description, SplitPlan, with_long_names
from phiproxy.plan.statement_plan import ScriptPart, ScriptPlan, StatementPlan
from phiproxy.plan.subjects_of_execution import given_values
from phiproxy.policy.identifiers import quote_ident
from phiproxy.session import slow_work, split_explain, split_replies, split_write_messages
from phiproxy.session.bound_parameters import converted, counted_formats, declared_to, formed_by
from phiproxy.session.client_encoding import readable, writable
from phiproxy.session.current_access_and_expiry import check_portal
from phiproxy.session.needs import Describe, Enter, Results
from phiproxy.session.pipeline import BIND_PASSES, Expected, Kind, Later
from phiproxy.session.split_execution import Computing
from phiproxy.session.split_explain import Plan
from phiproxy.session.state import State
from phiproxy.session.statement_effects import apply
from phiproxy.session.statements_and_portals import Given, Portal, Prepared
from phiproxy.session.substitutes_and_questions import END_OF_QUERY, FLUSH, OWN_NAME, ParameterCount, own_query, waits_in_group
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.fields import Bind, expand_formats
from phiproxy.wire.messages import encode_parse, encode_row_description, message

_TIMEOUT = "statement_timeout"
# The time that a statement may take comes last.
SETTINGS_QUESTION = "SELECT pg_catalog.array_to_string(ARRAY[{}], pg_catalog.chr(1))".format(
    ", ".join(f"coalesce(pg_catalog.current_setting('{name}', true), '')" for name in (*SETTINGS, _TIMEOUT))
).encode()
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_EXECUTE_ALL = b"\0\0\0\0"
NO_DATA = message(b"n", b"")
_PREPARES = frozenset({Kind.PARSE, Kind.BIND, Kind.DESCRIBE, Kind.CLOSE})


class CannotBeRun(StatementRefused, sqlstate="55000", anchor="err-engine"):
    """FETCH from a cursor over a split query after another FETCH from it has failed (55000)."""


def described(session: State, plan: SplitPlan, oids: tuple[int, ...], *, parsed: bool = False) -> SplitPlan:
    """Return the plan of a statement that the engine has described, with its source for the types of its parameters.

    WorkNeeded, and what the engine says where the statement is wrong. ``parsed``: the client has been told of long names.
    """
    if plan.copies and not plan.split.unread:
        return plan
    key = _read_under(session)
    description = plan.descriptions.get(key)
    if description is None:
        rest = plan.whole(oids, lambda text: writable(session, text))
        try:
            told = slow_work.asked(session, ("describe", plan.text, oids, key), Describe(rest, dict(key)))
        except StatementFailed as failed:
            failed.notices = split_replies.without_names(failed.notices) if parsed else failed.notices
            raise plan.placed(failed, whole=True) from None
        assert isinstance(told, list)
        description_, notices = split_replies.notices_apart(b"".join(told))
        description = plan.describe(key, description_, split_replies.without_names(notices))
    return session.planner.splitting.typed(plan, description.parameters, oids, session.view())


def check_view(session: State, plan: StatementPlan | ScriptPart) -> None:
    """Have the engine describe the query of a view that only it computes: nothing else says whether PostgreSQL would store it.

    WorkNeeded, and what the engine says where the query is wrong: CREATE VIEW v AS SELECT upper(ssn) FROM patients WHERE nope > 1
    """
    if plan.computed_view:
        query = slow_work.plan_statement(session, plan.computed_view, ())
        if isinstance(query, SplitPlan):
            described(session, query, ())


def show_notices(session: State, plan: SplitPlan, *, by_sql: bool = False) -> None:
    """Show what the parser has to say of a statement that is prepared, once nothing is to be done again for it.

    ``by_sql``: by PREPARE; of an EXECUTE it has been said.
    """
    description = description_of(session, plan) if (by_sql or not session.pipeline.silent) and not plan.told else None
    if description is not None and description.notices:
        session.to_client.append(description.notices)


def show_long_names(session: State, plan: StatementPlan) -> None:
    """Let the server say of each name in a statement that it is too long, as it would of the whole: parts have it never or often.

    SELECT upper(full_name) AS aaa… FROM patients ORDER BY aaa…
    → server: SELECT 1 AS aaa…, 1 AS aaa…
    """
    text = with_long_names(plan)
    if text:
        closes = message(b"C", b"S" + OWN_NAME + b"\0")
        session.to_server += (closes, encode_parse(OWN_NAME, writable(session, text)), closes)
        for kind in (Kind.CLOSE, Kind.PARSE, Kind.CLOSE):
            session.pipeline.push(Expected(kind, silent=True))


def description_of(session: State, plan: SplitPlan) -> Description | None:
    """Return what the engine has said of a statement, under the settings of now if it can be had."""
    return plan.descriptions.get(_read_under(session)) or next(iter(plan.descriptions.values()), None)


def _read_under(session: State) -> tuple[tuple[str, str], ...]:
    """Return the settings that are known without asking, under which the engine reads the constants of a statement."""
    schemas, _ = divided(session.search_path.schemas or ())
    path = ", ".join(quote_ident(schema) for schema in schemas if not schema.startswith("pg_temp"))
    encoding = {"client_encoding": session.text.encoding.name} if session.text.encoding is not None else {}
    told = {name.lower(): value for name, value in session.styles.settings.items()}
    return tuple(sorted({**told, **encoding, "search_path": path}.items()))


def check_prepared(prepared: Prepared) -> None:
    """Refuse what the protocol does with a split statement that PREPARE has made: the server knows its name only."""
    if prepared.by_sql and isinstance(prepared.plan, SplitPlan):
        raise StatementRefused(
            "a statement that PREPARE has made, and of which a part is computed over opened rows, is run by EXECUTE only",
            hint="EXECUTE it, or prepare it by the driver.",
        )


def check_read(session: State, plan: SplitPlan, read: tuple[str | None, ...]) -> None:
    """Refuse a statement whose constants the engine would read as other dates or times than when it was prepared.

    PostgreSQL reads them once: ``'01/02/2003'::date`` stays what it was under another DateStyle.
    """
    pending = session.pending.styles is not None and session.pending.styles > session.groups.answered
    if not read or (read == session.styles.read and not pending) or not plan.may_be_read_otherwise(READ_UNDER):
        return
    session.styles_for(typed=True)  # it may be about to change
    changed = [name for name, then, now in zip(READ_UNDER, read, session.styles.read, strict=True) if then != now]
    if plan.may_be_read_otherwise(changed):
        why = f"a constant may be another date or time under {', '.join(changed)} of now"
        refused = StatementRefused(f"cached plan must not change: {why}", hint="Prepare the statement again, or SET it back.")
        refused.objects = ((ord("R"), "RevalidateCachedQuery"),)
        raise refused


def bind(session: State, data: bytes, start: int, end: int, portal: bytes, prepared: Prepared) -> None:
    """Bind: the server gets the parameters of the source; those of the rest are kept for the engine."""
    plan = prepared.plan
    assert isinstance(plan, SplitPlan)
    check_read(session, plan, prepared.read)
    description = None
    # A simple Query is not described; but of a write only the whole statement says whether its names are ambiguous, and of a query
    # of WITH that nothing refers to only it says whether that can be read.
    if not session.pipeline.silent or plan.split.write is not None or plan.split.unread:
        plan = described(session, plan, prepared.oids, parsed=True)
        description = description_of(session, plan)
    sent = slow_work.bound(session, data, start + 5, end)
    formats = counted_formats(sent, len(description.parameters) if description is not None else plan.inputs)
    if description is not None and not plan.split.around:
        _check_columns(sent, description)
    types = description.parameters if description is not None else prepared.oids
    plan.check_in_order(sent.values, formats, types)
    plan.check_moments(sent.values, formats, types)
    plan.check_drawn(sent.values)
    values, codes = plan.of_source(sent.values), plan.of_source(formats)
    source = Bind(sent.portal, sent.statement, tuple(codes), values, (1,))
    source = converted(session, plan.source, source, formed_by(plan.source, source))
    if plan.only_planned:
        source = source._replace(result_formats=sent.result_formats)
    session.to_server += slow_work.bind_message(session, source)
    explained = source if plan.split.analyzed is not None else None
    given = Given(sent.values, formats, sent.result_formats, sent.statement, explained, prepared.read)
    bound = Portal(plan, None, session.groups.number, prepared.oids, seen_by=session.database, given=given)
    undo = [session.names.bind(portal, bound)]
    session.pipeline.push(Expected(Kind.BIND, undo=undo, touches=True, unplaced=True, passes=BIND_PASSES))


def to_describe(session: State, plan: SplitPlan, given: Given | None) -> Expected:
    """Return what is to come for a Describe; the server describes the source, which is compared with its plan."""
    expected = Expected(Kind.DESCRIBE, plan=plan, touches=True, unplaced=True, parameters=())
    description = description_of(session, plan)
    if description is not None:
        expected.parameters = description.parameters
    if plan.only_planned:
        return expected
    expected.columns = plan.source.columns
    if plan.split.analyzed is not None:
        expected.description = split_explain.description(plan.split.explained_as, given.result_formats if given is not None else ())
        return expected
    if plan.split.around or plan.copies:
        expected.description = NO_DATA
        return expected
    assert description is not None
    shown = _row_description(description, given.result_formats) if given is not None else encode_row_description(description.fields)
    expected.description = shown if plan.split.returns else NO_DATA
    return expected


def _row_description(description: Description, formats: tuple[int, ...]) -> bytes:
    return encode_row_description(description.shown(expand_formats(formats, len(description.fields))))


def executes(session: State, name: bytes, portal: Portal, limit: int) -> bool:
    """Execute what the engine has a part in; False for any other, which the server executes by itself."""
    if portal.cursor is not None:
        raise StatementRefused("a cursor over what is computed over opened rows is read by FETCH", hint="FETCH from it.")
    if isinstance(portal.plan, SplitPlan):
        if not portal.exhausted:
            execute(session, name, portal, limit)
        return not portal.exhausted
    cursor = cursor_of(session, portal.plan.effects)
    if cursor is None:
        return False
    fetch(session, name, portal, cursor, limit)
    return True


def execute(session: State, name: bytes, portal: Portal, limit: int) -> None:
    """Execute: the source, once nothing before it is at work and the engine has a session for its rest; Later, WorkNeeded.

    Of a source that locks rows the session is asked for later: nobody waits for another's locks who holds one.
    """
    await_turn(session)
    plan, given = portal.plan, portal.given
    assert isinstance(plan, SplitPlan)
    assert given is not None
    if portal.computation is None:
        check_read(session, plan, given.read)
    shown = (given.result_formats, limit) if plan.split.write is None else ((1,), 0)
    shown = ((), 0) if plan.split.write is None and plan.split.analyzed is not None else shown
    told = plan.told or not session.pipeline.silent
    results = Results(plan.of_rest(given.values), plan.of_rest(given.formats), *shown, described=told)
    computation, asks = portal.computation, portal.computation is None
    later: Enter | None = None
    if asks:
        description = description_of(session, plan)
        types = description.parameters if description is not None else portal.oids
        rest = plan.rest(types, lambda text: writable(session, text))
        enter = Enter(rest, plan.split.narrowing)
        if plan.split.locks:
            later = enter
        else:
            computation = slow_work.asked(session, ("enter", id(portal)), enter)
    else:
        results = results._replace(suspended=True)
    undo = apply(session, plan)
    if plan.split.around == "cursor":
        portal = _cursor(session, plan)
    session.computing = computing = Computing(plan, portal, computation, results, later, limit=limit)
    computing.until = session.acting_until
    _ask_settings(session, computing)
    if plan.split.analyzed is not None:
        _ask_plan(session, computing, given)
    columns = plan.source.columns if not plan.only_planned else None
    count = len(columns.reveals) if columns is not None else 0
    whom = plan.source.touched.subjects if session.trail is not None else ()
    oids = declared_to(plan.source, plan.source_types)
    values, codes = plan.of_source(given.values), plan.of_source(given.formats)
    about = given_values(whom, plan.source.text, values, codes, oids, session.text.encoding or UTF8)
    _execute(session, name, Expected(
        Kind.EXECUTE, plan=plan.source, columns=columns, formats=(1,) * count, binary=True, touches=True, unplaced=True,
        of_source=True, styles=session.styles.current, undo=undo, given={0: about},
        stands_for=session.writing.touched if session.writing is not None else None,
    ))  # fmt: skip
    split_write_messages.hold(session)


def await_turn(session: State) -> None:
    """Go on when nothing that was sent before is executed any more: what only prepares is quick, and fails for what follows too."""
    if all(entry.kind in _PREPARES for entry in session.pipeline.queue):
        session.groups.flushed = -1  # what comes behind this one is flushed again
        return
    if waits_in_group(session) or session.pipeline.front() is not None:
        raise Later


def _execute(session: State, name: bytes, expected: Expected) -> None:
    session.to_server += (message(b"E", writable(session, name) + b"\0" + _EXECUTE_ALL), FLUSH)
    expected.first = session.groups.executes == 0
    session.groups.executes += 1
    session.counters.splits += 1
    session.pipeline.push(expected)
    session.blocked = True


def _cursor(session: State, plan: SplitPlan) -> Portal:
    """Return the portal of the cursor that is declared. The server has one of its name, without rows, so that names are its own."""
    declared = plan.effects.declares
    assert declared is not None
    name = quote_ident(declared, always=True)
    hold = " WITH HOLD" if plan.effects.holds else ""
    text = f"DECLARE {name} SCROLL CURSOR{hold} FOR SELECT WHERE false"
    _ask(session, writable(session, text.encode()), lambda ok, _: None if ok else _not_executed(session))
    portal = session.names.portals[declared.encode()]
    portal.cursor = plan
    portal.given = Given((), (), ())
    return portal


def cursor_of(session: State, effects: Effects) -> Portal | None:
    """Return the cursor over a split query that is read by a statement with these effects."""
    portal = session.names.portals.get(effects.fetches.encode()) if effects.fetches is not None else None
    return portal if portal is not None and portal.cursor is not None else None


def fetch_bound(session: State, cursor: Portal, plan: StatementPlan, sent: Bind) -> Given:
    """Return what a Bind of FETCH or MOVE gives; the columns are those of the engine's cursor, the server's has none."""
    split = cursor.cursor
    assert isinstance(split, SplitPlan)
    if len(sent.result_formats) > 1 and not plan.effects.skips:
        _check_columns(sent, description_of(session, split) or description_of(session, described(session, split, ())))
    return Given((), (), () if plan.effects.skips else sent.result_formats)


def _check_columns(sent: Bind, description: Description | None) -> None:
    """Refuse formats of results for another number of columns."""
    count, columns = len(sent.result_formats), len(description.fields) if description is not None else 0
    if count not in (0, 1, columns):
        raise ParameterCount(f"bind message has {count} result formats but query has {columns} columns")


def fetch(session: State, name: bytes, portal: Portal, cursor: Portal, limit: int) -> None:
    """Execute of FETCH or MOVE: the server says whether the cursor is there, then the engine reads from it; Later."""
    check_portal(session, (portal.plan.effects.fetches or "").encode(), cursor)
    await_turn(session)
    plan, given = cursor.cursor, portal.given
    assert isinstance(plan, SplitPlan)
    assert given is not None
    # In a simple Query a binary cursor gives binary values; else Bind says what it gives.
    formats = (1,) if plan.effects.binary and session.pipeline.silent else given.result_formats
    text = b"" if portal.begun else writable(session, portal.plan.text)
    results = Results((), (), formats, limit, text=text, portal=writable(session, name))
    portal.begun = True
    session.computing = computing = Computing(plan, cursor, cursor.computation, results)
    if cursor.computation is None:  # the server says so first where the cursor is no more
        why = "the cursor cannot be read any more, since a FETCH from it has failed"
        computing.failed = CannotBeRun(why, hint="Declare it again.")
    _ask_settings(session, computing)
    _execute(session, name, Expected(Kind.EXECUTE, touches=True, of_source=True))


def fetch_described(session: State, cursor: Portal, given: Given | None) -> Expected:
    """Return what is to come for a Describe of FETCH: the cursor's columns; WorkNeeded where a simple Query has declared it.

    A simple Query is described with its rows: it must not wait for a session of the engine, of which its cursors may hold all.
    """
    assert isinstance(cursor.cursor, SplitPlan)
    description = description_of(session, cursor.cursor)
    if description is None and not session.pipeline.silent:
        description = description_of(session, described(session, cursor.cursor, ()))
    expected = Expected(Kind.DESCRIBE, touches=True, parameters=())
    if description is not None:
        expected.description = _row_description(description, given.result_formats if given is not None else ())
    return expected


def _ask_plan(session: State, computing: Computing, given: Given) -> None:
    """Have the server explain the source, before that is executed: EXPLAIN ANALYZE gives no rows."""
    if session.writing is not None and session.writing.explained is not None:
        computing.plans += session.writing.explained.plans
    analyzed = computing.plan.split.analyzed
    assert analyzed is not None
    heading = split_explain.ONCE if analyzed.planned else b""

    def told(ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        if ok:
            computing.plans.append(Plan(heading, rows))
        else:
            _not_executed(session)

    source = computing.plan.source
    _ask(session, writable(session, analyzed.lead + source.sql), told, source.oids, given.source)


def _ask(
    session: State,
    text: bytes,
    done: Callable[[bool, list[bytes]], None],
    oids: tuple[int, ...] = (),
    given: Bind | None = None,
) -> None:
    # One that has failed in this transaction has left its statement there.
    session.to_server.append(message(b"C", b"S" + OWN_NAME + b"\0") + own_query(text, b"", oids, given))
    session.pipeline.push(Expected(Kind.INTERNAL, done=done, rows=[], closes=3))


def _ask_settings(session: State, computing: Computing) -> None:
    """Ask for the settings of now, also for a cursor or portal that is read on: what it shows is written under those of then."""
    _ask(session, SETTINGS_QUESTION, lambda ok, rows: _told(session, computing, ok, rows))


def _not_executed(session: State) -> None:
    """Give up what the server will not execute, since a question before it has failed."""
    queue = session.pipeline.queue
    while queue:
        for change in reversed(queue.pop().undo):
            change.apply()
    split_replies.given_up(session)


def _told(session: State, computing: Computing, ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
    """Take the settings that the server has told; where it has not, it does not execute the source either."""
    if not ok:
        _not_executed(session)
        return
    *told, timeout = readable(session, rows[0]).decode("utf-8").split("\x01")
    settings = {name: value for name, value in zip(SETTINGS, told, strict=True) if value}
    portal, columns = computing.portal, computing.plan.source.columns
    if portal.computation is None:
        portal.zone = settings.get("timezone", "")
    elif columns is not None and columns.by_the_clock:
        settings["timezone"] = portal.zone  # by another clock a masked moment would no longer be when a month begins
    computing.settings = {**settings, "search_path": dict(_read_under(session))["search_path"]}
    computing.results = computing.results._replace(seconds=_seconds(timeout))


def _seconds(setting: str) -> float:
    """Return a time as SHOW writes it in seconds."""
    number = setting.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(number) * _SECONDS.get(setting[len(number) :], 1e-3)


def as_messages(session: State, text: bytes, plan: ScriptPlan, end: int) -> None:
    """Put a simple Query with a split statement into the client's stream as messages of the extended protocol, behind itself.

    ``text`` is as the client sent it. What is told of these messages is no more than what a Query is answered with.
    """
    lines = plan.pipeline or (text,)
    if not plan.pipeline and len(plan.parts or ()) > 1:
        raise StatementRefused(
            "FETCH from a cursor over what is computed stands in one string with others", hint="Send them one by one."
        )
    texts = [text] if len(lines) == 1 else [writable(session, line) for line in lines]
    portal = (message(b"B", bytes(8)), message(b"D", b"P\0"), message(b"E", b"\0" + _EXECUTE_ALL))
    messages = [part for line in texts for part in (encode_parse(b"", line), *portal)]
    messages.append(END_OF_QUERY)
    frames = session.client_frames
    frames.data = frames.data[:end] + b"".join(messages) + frames.data[end:]
    session.pipeline.silent = True
    session.ahead = (plan.ahead, session.planner) if plan.ahead is not None else None


def planned_ahead(session: State, text: bytes) -> StatementPlan | None:
    """Return the plan that was made of a text when it came as a simple Query, for the Parse that stands for it."""
    ahead, session.ahead = session.ahead, None
    if ahead is None or not session.pipeline.silent or ahead[0].text != text or ahead[1] is not session.planner:
        return None
    return ahead[0]
