"""Runs of messages that go on as they came, cut off in one slice, and whatever of the fast path is among them."""

import struct
from collections.abc import Callable

from phiproxy.errors import KeyNeeded, MalformedMessage, PhiproxyError
from phiproxy.long_values import LONG_VALUE
from phiproxy.session import audited_executions
from phiproxy.session.extended_query import described, executed
from phiproxy.session.fast_path import simple_queries, whole_groups
from phiproxy.session.fast_path.whole_groups import (
    DESCRIBED,
    EXECUTED,
    EXECUTED_FIRST,
    bound_statement,
    send_ordinary,
    send_protected,
    tail_of,
)
from phiproxy.session.opened_rows import opener_of
from phiproxy.session.pipeline import (
    BIND_PASSES,
    NEXT_PART,
    PARSE_PASSES,
    POP,
    SHOW,
    STAY,
    Expected,
    Kind,
    expect,
    expect_ready,
)
from phiproxy.session.ready_for_query import group_answered
from phiproxy.session.slow_work import MUCH
from phiproxy.session.state import State
from phiproxy.session.statements_and_portals import Portal, Prepared
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.framing import HEADER
from phiproxy.wire.messages import decode_parse

_LENGTH = struct.Struct("!I").unpack_from
_DATA_ROW = ord("D")
_STATUS = frozenset(b"ITE")
_SYNC, _PARSE, _BIND, _DESCRIBE, _EXECUTE, _QUERY = b"SPBDEQ"
# The zero byte at a text's end, and a count.
_NO_OIDS = 3
_DESCRIBE_UNNAMED = b"D\0\0\0\x06P\0"
_EXECUTE_UNNAMED = b"E\0\0\0\x09\0"
_UNNAMED = ("P", b"")


def pass_replies(session: State) -> None:
    """Pass the server's messages up to the first to look at: none while anything is pending, nor what may hold a long value."""
    frames = session.server_frames
    data, pos = frames.data, frames.pos
    size = len(data)
    if size > LONG_VALUE or not (session.settled or session.pending.nothing):
        return
    while pos < size:
        queue = session.pipeline.queue
        if queue and queue[0].whole:
            show = whole_groups.show if queue[0].whole > 1 else simple_queries.show
            begin, pos = pos, show(session, data, pos)
            if pos > begin:
                continue
        begin, pos = pos, _passing_end(session, data, pos)
        if pos > begin:
            session.to_client.append(data if pos - begin == size else data[begin:pos])
        begin, pos = pos, _show(session, data, pos)
        if pos == begin:
            break
    frames.pos = pos


def _passing_end(session: State, data: bytes, pos: int) -> int:
    """Return the end of the whole messages at ``pos`` that go on as they came, and apply what follows from them."""
    queue, size, limit = session.pipeline.queue, len(data), session.server_frames.max_message
    while size - pos >= HEADER and queue:
        front, tag = queue[0], data[pos]
        step = front.passes.get(tag) if front.passes is not None else None
        if step is None or step is SHOW:
            break
        (length,) = _LENGTH(data, pos + 1)
        end = pos + 1 + length
        if end > size or not 4 <= length <= limit:
            break
        if step is STAY:
            pos = end if tag != _DATA_ROW else _rows_end(data, end, limit)
            continue
        if step is POP:
            queue.popleft()
        elif step is NEXT_PART:
            front.part += 1
        elif not _ready_for_query(session, front, data, pos, end):
            break
        pos = end
    return pos


def _ready_for_query(session: State, front: Expected, data: bytes, pos: int, end: int) -> bool:
    # Where the path must be asked for, it is before this ReadyForQuery is shown.
    if end - pos != HEADER + 1 or data[pos + 5] not in _STATUS or session.search_path.schemas is None:
        return False
    session.pipeline.queue.popleft()
    group_answered(session, front.group, data[pos + 5 : end])
    return True


def _show(session: State, data: bytes, pos: int) -> int:
    """Show the client a whole protected RowDescription, or a run of DataRows, and return where what comes behind begins.

    Where one cannot be shown nothing is: the handlers do the same row by row and say why.
    """
    queue, size, limit, database = session.pipeline.queue, len(data), session.server_frames.max_message, session.database
    if not queue or not HEADER <= size - pos <= limit or database is None:
        return pos
    front, tag = queue[0], data[pos]
    if front.columns is None or front.passes is None or front.passes.get(tag) is not SHOW:
        return pos
    if tag == _DATA_ROW and front.columns.longest < size - pos:
        return pos
    opened = database.opened
    shown: list[bytes] = []
    opened.clear()
    try:
        if tag == _DATA_ROW:
            end = opener_of(session, front, front.columns)(data, pos, size, shown)
        else:
            (length,) = _LENGTH(data, pos + 1)
            end = pos + 1 + length
            if end > size:
                return pos
            shown.append(front.columns.description(data[pos:end], front.formats, session.planner.sealed)[0])
            queue.popleft()
    except (PhiproxyError, KeyNeeded):
        return pos
    session.to_client += shown
    if opened:
        audited_executions.opened(session, front)
    return int(end)


def _rows_end(data: bytes, pos: int, limit: int) -> int:
    size = len(data)
    try:
        while data[pos] == _DATA_ROW:
            (length,) = _LENGTH(data, pos + 1)
            end = pos + 1 + length
            if end > size or not 4 <= length <= limit:
                break
            pos = end
    except (IndexError, struct.error):
        pass  # the next header is not whole
    return pos


def pass_messages(session: State) -> bool:
    """Pass the client's messages up to the first that must be looked at; True when none is left.

    None while anything is pending, nor where the server reads them as something else.
    """
    if not (session.settled or (session.pending.nothing and session.text.encoding is UTF8)):
        return False
    session.follow_schemas()
    if session.search_path.schemas is None and session.status == b"I":
        return False  # it may have to be asked for before a transaction begins
    frames = session.client_frames
    data, pos, limit = frames.data, frames.pos, frames.max_message
    size = len(data)
    while size - pos >= HEADER:
        (length,) = _LENGTH(data, pos + 1)
        end = pos + 1 + length
        if end > size or not 4 <= length <= limit:
            break
        step = _STEPS.get(data[pos])
        if length == 4 and data[pos] != SYNC_TAG:
            break  # an empty body: the handlers say what is wrong with it
        behind = step(session, data, pos, end) if step is not None else 0
        if not behind:
            break
        pos = behind
    _forward(session, data, pos)
    return pos == size


def _forward(session: State, data: bytes, pos: int) -> None:
    frames = session.client_frames
    begin, frames.pos = frames.pos, pos
    if pos > begin:
        session.to_server.append(data if pos - begin == len(data) else data[begin:pos])


SYNC_TAG = ord("S")


def _sync(session: State, _data: bytes, start: int, end: int) -> int:
    if end - start != HEADER:
        return 0
    session.pipeline.queue.append(expect_ready(session.end_group()))
    return end


def _parse(session: State, data: bytes, start: int, end: int) -> int:
    """Parse the unnamed statement, of a text in which nothing can be protected."""
    assert session.database is not None
    stop = data.find(0, start + 6, end)
    # The planner does not know the names yet that were just made: transaction_catalog.await_catalog looks for them.
    if data[start + 5] or stop < 0 or session.database.unread_names or end - start > MUCH:
        return 0
    try:
        oids = decode_parse(data, start + 5, end).oids if end - stop != _NO_OIDS or data[stop + 1] | data[stop + 2] else ()
    except MalformedMessage:
        return 0
    plan = session.database.planner.passing(data[start + 6 : stop], oids)
    if plan is None or (session.database.observer is not None and session.observes(plan.text)):
        return 0
    expected = expect(Kind.PARSE, PARSE_PASSES)
    stamp, prepared = (session.database.generation, session.search_path.schemas), session.names.statements.get(b"")
    if prepared is None or prepared.plan is not plan or prepared.stamp != stamp or prepared.oids != oids or prepared.by_sql:
        prepared = Prepared(plan, oids, stamp)  # else the same was prepared before, and nothing is noted in it
    expected.undo = (session.names.prepare(b"", prepared),)
    expected.texts = plan.sql, plan.text, plan.edits
    session.pipeline.queue.append(expected)
    session.groups.is_open = True
    return end


def _bind(session: State, data: bytes, start: int, end: int) -> int:
    """Bind the unnamed portal to an ordinary statement, or to one whose group is whole, whose plan is right for the present."""
    prepared = bound_statement(session, data, start, end)
    if prepared is None:
        return 0
    tail = tail_of(data, end)
    if not prepared.plan.ordinary:
        bound = send_protected(session, prepared, tail, data, start, end) if tail else b""
        if not bound:
            return 0
        _forward(session, data, start)
        session.to_server.append(bound)
        session.client_frames.pos = end
        return end + len(tail)
    if tail and send_ordinary(session, tail):
        return end + len(tail)
    undo = session.names.bind(b"", Portal(prepared.plan, None, session.groups.number, prepared.oids, seen_by=session.database))
    expected = expect(Kind.BIND, BIND_PASSES)
    expected.undo = (undo,)
    session.pipeline.queue.append(expected)
    session.groups.is_open = True
    return end


def _describe(session: State, data: bytes, start: int, end: int) -> int:
    portal = _unnamed_portal(session)
    if portal is None or portal.given is not None or data[start:end] != _DESCRIBE_UNNAMED:
        return 0
    session.pipeline.queue.append(DESCRIBED if portal.plan.ordinary else described(portal.plan, portal.formats))
    session.groups.is_open = True
    return end


def _execute(session: State, data: bytes, start: int, end: int) -> int:
    portal = _unnamed_portal(session)
    if portal is None or not portal.plan.quiet or end - start != 10 or data[start : start + 6] != _EXECUTE_UNNAMED:
        return 0
    if portal.plan.typed and session.sure_path is None:
        return 0
    if portal.plan.touches and (portal.seen_by is not session.database or (session.trail is not None and session.trail.failing)):
        return 0
    first = session.groups.executes == 0
    if portal.plan.ordinary:
        session.pipeline.queue.append(EXECUTED_FIRST if first else EXECUTED)
    else:
        session.pipeline.queue.append(executed(session, portal, first=first))
    session.groups.executes += 1
    session.counters.forwarded += portal.plan.identity
    session.groups.is_open = True
    return end


def _unnamed_portal(session: State) -> Portal | None:
    """Return the unnamed portal, where it is not in doubt."""
    names = session.names
    return names.portals.get(b"") if names.changed.get(_UNNAMED, session.groups.number) == session.groups.number else None


def _query(session: State, data: bytes, start: int, end: int) -> int:
    """Query: a text in which nothing can be protected, or one of a shape that was seen."""
    if end - start > MUCH or data.find(0, start + 5, end) != end - 1:
        return 0
    text = data[start + 5 : end - 1]
    if simple_queries.sent_unprotected(session, text):
        return end
    sent = simple_queries.shaped(session, text)
    if not sent:
        return 0
    _forward(session, data, start)
    session.to_server.append(sent)
    session.client_frames.pos = end
    return end


_STEPS: dict[int, Callable[[State, bytes, int, int], int]] = {
    _SYNC: _sync,
    _PARSE: _parse,
    _BIND: _bind,
    _DESCRIBE: _describe,
    _EXECUTE: _execute,
    _QUERY: _query,
}
"""Each takes a whole message, and says where the next begins if it goes on as it came; 0 if not, then nothing has been done."""
