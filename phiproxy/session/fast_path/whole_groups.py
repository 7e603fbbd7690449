"""Whole groups of a prepared statement: Bind, perhaps Describe, Execute and Sync in one piece, and their replies.

A chunk that is such a group, while nothing else is under way, is the hottest path of all: between two queries other processes have
had the processor, so that each function that runs, and each object that is looked at, is fetched anew.
"""

import struct
from copy import copy

from phiproxy.errors import KeyNeeded, PhiproxyError, WireError
from phiproxy.plan.compiled_convert import BindForm
from phiproxy.plan.result_columns import Columns
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.subjects_of_execution import Noted, are_given, given_values
from phiproxy.session import audited_executions
from phiproxy.session.bound_parameters import MAX_FORMED, declared_to, formed_by
from phiproxy.session.extended_query import described
from phiproxy.session.extended_query import executed as expected_of
from phiproxy.session.opened_rows import opener_of
from phiproxy.session.pipeline import BIND_PASSES, DESCRIBE_PASSES, EXECUTE_PASSES, Expected, Kind, expect_ready
from phiproxy.session.ready_for_query import group_answered
from phiproxy.session.slow_work import MUCH
from phiproxy.session.state import State
from phiproxy.session.statements_and_portals import Group, Portal, Prepared
from phiproxy.wire.fields import decode_bind, encode_codes

_LENGTH = struct.Struct("!I").unpack_from
_BIND, _DATA_ROW, _COMPLETE, _FIELDS = b"BDCT"
_NO_DATA = b"n\0\0\0\x04"
_STATUS = frozenset(b"ITE")
_PARSE_COMPLETE = b"1\0\0\0\x04"
_BIND_COMPLETE = b"2\0\0\0\x04"
_READY = b"Z\0\0\0\x05"
_UNNAMED = ("P", b"")
_MAX_GROUPS = 8

# What drivers send behind a Bind, in one piece with it; whether that describes.
EXECUTE_SYNC = b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"
DESCRIBE_EXECUTE_SYNC = b"D\0\0\0\x06P\0" + EXECUTE_SYNC
_TAILS = EXECUTE_SYNC, DESCRIBE_EXECUTE_SYNC

# What is awaited for the portal of an ordinary plan; nothing of these is ever changed.
EXECUTED_FIRST = Expected(Kind.EXECUTE, binary=True, first=True, passes=EXECUTE_PASSES)
EXECUTED = Expected(Kind.EXECUTE, binary=True, passes=EXECUTE_PASSES)
DESCRIBED = Expected(Kind.DESCRIBE, passes=DESCRIBE_PASSES)
# What a Bind awaits that replaces nothing, and whose portal nothing need be known of.
_BOUND = Expected(Kind.BIND, passes=BIND_PASSES, whole=2)
_BOUND_DESCRIBED = Expected(Kind.BIND, passes=BIND_PASSES, whole=3)


def sent_for(session: State, data: bytes) -> bytes:
    """Return what the server gets of a chunk that is one whole group, and await its replies.

    Empty, and nothing done, for any other chunk. Only while the session is ``settled``.
    """
    if len(data) < 7 or data[0] != _BIND or session.pipeline.queue or session.groups.executes:
        return b""
    if session.now > session.fence.until or session.fence.holding is not None:
        return b""
    end = _LENGTH(data, 1)[0] + 1
    tail = data[end:]
    if tail not in _TAILS or end > session.client_frames.max_message:
        return b""
    prepared = bound_statement(session, data, 0, end)
    if prepared is None:
        return b""
    if prepared.plan.ordinary:
        return data if send_ordinary(session, tail) else b""
    bound = send_protected(session, prepared, tail, data, 0, end)
    return bound and bound + tail


def tail_of(data: bytes, end: int) -> bytes:
    """Return what stands behind a Bind up to the Sync, where that makes a whole group of it; else nothing."""
    if data.startswith(EXECUTE_SYNC, end):
        return EXECUTE_SYNC
    return DESCRIBE_EXECUTE_SYNC if data.startswith(DESCRIBE_EXECUTE_SYNC, end) else b""


def bound_statement(session: State, data: bytes, start: int, end: int) -> Prepared | None:
    """Return the statement that a Bind binds to the unnamed portal; None for another portal, or a plan that may not be right."""
    stop = data.find(0, start + 6, end)
    if data[start + 5] or stop < 0:
        return None
    names, database, name = session.names, session.database, data[start + 6 : stop]
    prepared = names.statements.get(name)
    assert database is not None
    if prepared is None or prepared.stamp != (database.generation, session.search_path.schemas) or database.unread_names:
        return None
    if names.changed and names.changed.get(("S", name), session.groups.number) != session.groups.number:
        return None
    return prepared


def send_ordinary(session: State, tail: bytes) -> bool:
    """Await the replies to a group in which nothing is protected; False, and nothing done, where its portal must be noted.

    Else it is not noted, since what is not known of a portal is that it shows something protected. In a transaction it lives on,
    but has run.
    """
    names = session.names
    if (names.portals and b"" in names.portals) or (names.changed and _UNNAMED in names.changed):
        return False
    run = EXECUTED if session.groups.executes else EXECUTED_FIRST
    last = expect_ready(session.end_group())
    session.pipeline.queue.extend((_BOUND, run, last) if tail == EXECUTE_SYNC else (_BOUND_DESCRIBED, DESCRIBED, run, last))
    session.counters.forwarded += 1
    return True


def send_protected(session: State, prepared: Prepared, tail: bytes, data: bytes, start: int, end: int) -> bytes:
    """Return the server's Bind of a group, and await the replies; empty, and nothing done, where the handlers must look at it."""
    plan = prepared.plan
    if not plan.bind_says_all or end - start > min(MUCH, plan.longest) or session.groups.executes:
        return b""
    if session.trail is not None and session.trail.failing and plan.touches:
        return b""
    if plan.typed and session.search_path.schemas is None:
        return b""
    at = data.index(0, start + 6, end) + 1
    given: tuple[Noted, ...] = ()
    try:
        form, values = _read(plan, data, start, at, end)
        if plan.touches and session.trail is not None and are_given(plan.touched.subjects):
            given = given_values(plan.touched.subjects, plan.text, values, form.formed.parameters, declared_to(plan, prepared.oids))
        if not plan.identity:
            values = plan.parameters(session.planner.ciphers, values, form.formed.parameters, session.styles.current)
    except (PhiproxyError, KeyNeeded):
        return b""
    body = form.written(values)
    _await(session, prepared, form.formed.results, tail, given)
    session.counters.rewritten += not plan.identity
    session.counters.forwarded += plan.identity
    written = data[start + 5 : at]
    return b"".join((b"B", (len(written) + len(body) + 4).to_bytes(4, "big"), written, body))


def _read(plan: StatementPlan, data: bytes, start: int, at: int, end: int) -> tuple[BindForm, list[bytes | None]]:
    """Return the form of a Bind and its values; what is wrong with it is for the handler to say."""
    for form in plan.bind_forms:
        values = form.values(data, at, end)
        if values is not None:
            return form, values
    sent = decode_bind(data, start + 5, end)
    formed = formed_by(plan, sent)
    count = len(sent.values) if plan.identity else len(plan.outputs)
    form = BindForm(
        encode_codes(sent.formats) + len(sent.values).to_bytes(2, "big"),
        len(sent.values),
        encode_codes(sent.result_formats),
        formed,
        encode_codes(formed.server_parameters) + count.to_bytes(2, "big"),
        encode_codes(formed.server_results),
    )
    if len(plan.bind_forms) < MAX_FORMED:
        plan.bind_forms.append(form)
    return form, sent.values


def _await(session: State, prepared: Prepared, results: tuple[int, ...] | None, tail: bytes, given: tuple[Noted, ...]) -> None:
    plan, names, queue = prepared.plan, session.names, session.pipeline.queue
    key = (results, tail, session.styles.current if plan.typed else None)
    group = prepared.groups.get(key)
    if group is None or group.plan is not plan:
        if len(prepared.groups) >= _MAX_GROUPS:
            prepared.groups.clear()
        group = prepared.groups[key] = _awaited(session, plan, results, tail)
    bound = group.bound
    if queue or session.status != b"I" or b"" in names.portals or _UNNAMED in names.changed:
        # In a transaction the portal lives on, and where there was one a Bind that fails leaves it.
        bound = copy(bound)
        opened = Portal(plan, results, session.groups.number, prepared.oids, seen_by=session.database, about=given)
        bound.undo = (names.bind(b"", opened),)
    queue.append(bound)
    if group.described is not None:
        queue.append(group.described)
    executed = group.executed
    if given:
        executed = copy(executed)
        executed.given = {0: given}
    queue.append(executed)
    queue.append(expect_ready(session.end_group()))
    prepared.used = True


def _awaited(session: State, plan: StatementPlan, results: tuple[int, ...] | None, tail: bytes) -> Group:
    """Return what is awaited for a group; it is never changed but for what opens its rows, which is the same each time."""
    bound = Expected(Kind.BIND, passes=BIND_PASSES, whole=2 if tail == EXECUTE_SYNC else 3)
    bound.touches, bound.texts = plan.touches, (plan.sql, plan.text, plan.edits)
    portal = Portal(plan, results, 0)
    shown = None if tail == EXECUTE_SYNC else described(plan, results)
    return Group(plan, results, bound, shown, expected_of(session, portal, first=True))


def show(session: State, data: bytes, pos: int) -> int:
    """Show the client the replies to a whole group that begin at ``pos``, and return where they end.

    ``pos``, with nothing done, where they are not whole or not what they nearly always are: the handlers look at each then.
    """
    queue = session.pipeline.queue
    entries = queue[0].whole
    spans = replies(data, pos, _BIND_COMPLETE, described=entries > 2)
    if spans is None or len(data) > session.server_frames.max_message or session.search_path.schemas is None:
        return pos
    (begin, first, behind, end), run = spans, queue[entries - 1]
    assert session.database is not None
    if run.columns is None or (first == behind and data[begin] != _FIELDS):  # nothing to open, or nothing is described and shown
        session.to_client.append(data if end - pos == len(data) else data[pos:end])
        session.database.opened.clear()
    elif not _show_opened(session, run, run.columns, data, spans):
        return pos
    if run.touches and session.trail is not None and run.plan is not None:
        audited_executions.shown(session, run, run.plan.touched, data[behind + 5 : end - 7])
    last = queue[entries]
    if len(queue) == entries + 1:
        queue.clear()
    else:
        for _ in range(entries + 1):
            queue.popleft()
    group_answered(session, last.group, data[end - 1 : end])
    return end


def show_behind_parse(session: State, data: bytes) -> int:
    """Do as ``show`` for replies that begin with ParseComplete, which is awaited before those of a whole group."""
    queue = session.pipeline.queue
    if len(queue) < 2 or queue[1].whole < 2 or not data.startswith(_PARSE_COMPLETE):
        return 0
    parsed, begin = queue.popleft(), len(_PARSE_COMPLETE)
    session.to_client.append(_PARSE_COMPLETE)
    pos = show(session, data, begin)
    if pos > begin:
        return pos
    session.to_client.pop()
    queue.appendleft(parsed)
    return 0


def replies(data: bytes, pos: int, opening: bytes, *, described: bool) -> tuple[int, int, int, int] | None:
    """Return where the result's description, its rows, and what comes behind them begin, and where the ReadyForQuery ends.

    Before the description comes the ``opening``. None where the replies are others, or not whole.
    """
    if not data.startswith(opening, pos):
        return None
    begin = at = pos + len(opening)
    try:
        # A length below 4 would lead into itself, where no tag is.
        if described:
            if data[at] == _FIELDS:
                at += 1 + _LENGTH(data, at + 1)[0]
            elif data.startswith(_NO_DATA, at):
                at += len(_NO_DATA)
            else:
                return None
        first = at
        while data[at] == _DATA_ROW:
            at += 1 + _LENGTH(data, at + 1)[0]
        behind = at
        if data[at] == _COMPLETE:
            at += 1 + _LENGTH(data, at + 1)[0]
            if data.startswith(_READY, at) and data[at + 5] in _STATUS:
                return begin, first, behind, at + 6
    except (IndexError, struct.error):
        pass  # they are not whole
    return None


def _show_opened(session: State, run: Expected, columns: Columns, data: bytes, spans: tuple[int, int, int, int]) -> bool:
    """Show the replies with their rows opened; False, with nothing done, where the handlers must say why they cannot be."""
    assert session.database is not None
    begin, first, behind, end = spans
    opened = session.database.opened
    opened.clear()
    shown = [_BIND_COMPLETE]
    try:
        if first > begin:
            described = data[begin:first]
            fields = described[0] == _FIELDS
            shown.append(columns.description(described, run.formats, session.planner.sealed)[0] if fields else described)
        if behind > first:
            open_rows(session, run, columns, data, first, behind, shown)
    except (PhiproxyError, KeyNeeded, LongRows):
        return False
    shown.append(data[behind:end])
    session.to_client += shown
    if opened and session.trail is None:
        audited_executions.opened(session, run)
    return True


class LongRows(Exception):
    """Rows may take so long that the handlers open them one by one."""


def open_rows(session: State, run: Expected, columns: Columns, data: bytes, at: int, end: int, shown: list[bytes]) -> None:
    """Add to ``shown`` the rows between two positions as the client must see them; SealError, KeyNeeded and their kin.

    LongRows for more than is opened at once.
    """
    if end - at > columns.longest:
        raise LongRows
    if opener_of(session, run, columns)(data, at, end, shown) != end:
        raise WireError("a row is shorter than its fields")
