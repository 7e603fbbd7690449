"""A simple Query of a shape that was seen, and its replies, each in one piece."""

import struct
from functools import partial

from phiproxy.effects import Effects
from phiproxy.errors import KeyNeeded, PhiproxyError
from phiproxy.plan.result_columns import AS_THEY_COME
from phiproxy.plan.statement_plan import ScriptPart
from phiproxy.plan.subjects import are_given, given_values
from phiproxy.session import executions
from phiproxy.session.error_scrub import holds_ciphertext
from phiproxy.session.fast_path.whole_groups import LongRows, open_rows, replies
from phiproxy.session.pipeline import NEXT_PART, QUERY_PASSES, READY_PASSES, Expected, Kind, expect
from phiproxy.session.proxy_messages import forget_both
from phiproxy.session.ready_for_query import group_answered
from phiproxy.session.slow_work import MUCH
from phiproxy.session.state import State
from phiproxy.session.transaction_catalog import names_one, note
from phiproxy.wire.framing import HEADER

_COMPLETE, _FIELDS, _NOTICE, _QUERY, _READY = b"CTNQZ"
_PASSING = frozenset(QUERY_PASSES) - {_READY}
_READY_HEAD = b"Z\0\0\0\x05"
_STATUS = frozenset(b"ITE")
_LENGTH = struct.Struct("!I").unpack_from
_SHORTEST = HEADER + 1
# Of what has no result: if one came, the handlers would say that it was not expected.
_PASSES = {_COMPLETE: NEXT_PART, **READY_PASSES}
_ENDS = Effects(transaction=True)


def sent_whole(session: State, data: bytes) -> bool:
    """Await the replies to a chunk that is one Query in which nothing can be protected; False, and nothing done, for any other.

    Only while the session is ``settled``.
    """
    text = _text_of(session, data)
    return text is not None and sent_unprotected(session, text)


def sent_behind_ddl(session: State, data: bytes) -> bool:
    """Do as ``sent_whole`` where DDL of the session's own is pending, of whose names the text has none either.

    For such a text the catalogue is not read (``transaction_catalog.await_catalog``), so a session that makes tables and uses them
    stays behind its DDL for long.
    """
    text = _text_of(session, data)
    catalog = session.catalog
    if text is None or names_one(text, catalog.suspect.union(catalog.reaching)):
        return False
    if session.planner.screen.controls(text):
        if catalog.overlay is not None:
            return False  # what was read in a transaction ends with it: the handlers follow that
        note(session, _ENDS, frozenset(), touches=False)
    return sent_unprotected(session, text)


def _text_of(session: State, data: bytes) -> bytes | None:
    """Return the text of a chunk that is one whole Query, and not a long one; None for any other, and while statements wait."""
    end = len(data)
    if end < _SHORTEST or data[0] != _QUERY or _LENGTH(data, 1)[0] + 1 != end or end > min(MUCH, session.client_frames.max_message):
        return None
    if data.find(0, 5) != end - 1 or session.now > session.fence.until or session.fence.holding is not None:
        return None
    return data[5 : end - 1]


def sent_unprotected(session: State, text: bytes) -> bool:
    """Await the replies to a text in which nothing can be protected, or that only controls a transaction: nothing is followed here.

    False, and nothing done, for any other.
    """
    database = session.database
    assert database is not None
    # The planner does not know the names yet that were just made: transaction_catalog.await_catalog looks for them.
    if database.unread_names or (database.observer is not None and session.observes(text)):
        return False
    if session.search_path.generation != database.generation:
        session.follow_schemas()
    if not session.planner.screen.goes_unread(text, session.catalog.created):
        return False
    expected = expect(Kind.QUERY, QUERY_PASSES)
    expected.first = session.groups.executes == 0
    expected.undo = forget_both(session)
    expected.group = session.end_group()
    session.pipeline.queue.append(expected)
    session.counters.forwarded += 1
    return True


def pass_whole(session: State, data: bytes) -> bool:
    """Pass a chunk that is all replies to such a text; False, and nothing done, for any other.

    Only while the session is ``settled``, or nothing but DDL of its own is pending.
    """
    front, at = session.pipeline.queue[0], 0
    try:
        while (tag := data[at]) != _READY:
            (length,) = _LENGTH(data, at + 1)
            behind = at + 1 + length
            if length < 4 or not (tag in _PASSING or (tag == _NOTICE and not (front.touches or holds_ciphertext(data[at:behind])))):
                return False
            at = behind
    except (IndexError, struct.error):
        return False  # it is not whole
    if len(data) != at + HEADER + 1 or not data.startswith(_READY_HEAD, at) or data[-1] not in _STATUS:
        return False
    if len(data) > session.server_frames.max_message or session.search_path.schemas is None:
        return False
    session.to_client.append(data)
    session.pipeline.queue.popleft()
    group_answered(session, front.group, data[-1:])
    return True


def shaped(session: State, text: bytes) -> bytes:
    """Return the server's Query, and await its replies; empty, and nothing done, where the handlers must look at it."""
    assert session.database is not None
    planner = session.database.planner
    if session.guard is not None and session.guard(text) is not None:
        return b""
    try:
        planned = planner.simple_query(text, session.search_path.schemas, session.catalog.created)
        if planned is None:
            return b""
        template, shape = planned
        spelled = template.spelled(shape, planner.ciphers)
    except (PhiproxyError, KeyNeeded):
        return b""
    recorded = template.touches and session.trail is not None
    if template.touches and session.watches and session.sure_path is None:
        return b""  # who acts is not known
    if spelled is None or (recorded and session.trail is not None and session.trail.failing):
        return b""
    looked_at = template.shows or recorded
    expected = expect(Kind.QUERY, READY_PASSES if looked_at else _PASSES if template.touches else QUERY_PASSES)
    expected.parts, expected.touches, expected.first = template.parts, template.touches, session.groups.executes == 0
    expected.styles = session.styles.current
    if recorded and any(are_given(part.touched.subjects) for part in template.parts):
        expected.given = {i: given_values(part.touched.subjects, text) for i, part in enumerate(template.parts)}
    if template.rewrites:
        sent = template.fill(shape, spelled)
        expected.texts = sent, text, partial(template.edits, shape, spelled)  # asked for where an error says a position
        session.counters.rewritten += 1
    else:
        sent = text
        session.counters.forwarded += 1
    expected.whole = int(template.shows and len(template.parts) == 1)
    expected.undo = forget_both(session)
    expected.group = session.end_group()
    session.pipeline.queue.append(expected)
    return b"".join((b"Q", (len(sent) + 5).to_bytes(4, "big"), sent, b"\0"))


def show(session: State, data: bytes, pos: int) -> int:
    """Show the client the replies to a Query that begin at ``pos``, and return where they end.

    ``pos``, with nothing done, where they are not whole or not what they nearly always are: the handlers look at each then.
    """
    front = session.pipeline.queue[0]
    spans = replies(data, pos, b"", described=True) if data[pos] == _FIELDS else None
    if spans is None or len(data) > session.server_frames.max_message or session.search_path.schemas is None:
        return pos
    if front.parts is None or front.part:
        return pos
    shown = _shown(session, front, front.parts[0], data, spans)
    if not shown:
        return pos
    session.to_client += shown
    if session.trail is not None and front.parts[0].touches:
        executions.shown(session, front, front.parts[0].touched, data[spans[2] + 5 : spans[3] - 7])
    session.pipeline.queue.popleft()
    end = spans[3]
    group_answered(session, front.group, data[end - 1 : end])
    return end


def _shown(session: State, front: Expected, part: ScriptPart, data: bytes, spans: tuple[int, int, int, int]) -> list[bytes]:
    """Return the replies as the client must see them; nothing where the handlers must say why they cannot be shown."""
    assert session.database is not None
    assert part.columns is not None
    begin, first, behind, end = spans
    opened = session.database.opened
    opened.clear()
    try:
        described, front.formats = part.columns.description(data[begin:first], AS_THEY_COME, session.planner.sealed)
        front.binary = 1 in front.formats
        shown = [described]
        open_rows(session, front, part.columns, data, first, behind, shown)
    except (PhiproxyError, KeyNeeded, LongRows):
        return []
    shown.append(data[behind:end])
    if opened and session.trail is None:
        executions.opened(session, front)
    return shown
