"""A simple Query of a shape that was seen, and its replies, each in one piece."""

import struct
from functools import partial

from phiproxy.effects import Effects
from phiproxy.errors import KeyNeeded, PhiproxyError
from phiproxy.plan.result_columns import AS_THEY_COME
from phiproxy.plan.statement_plan import ScriptPart
from phiproxy.plan.subjects_of_execution import are_given, given_values
from phiproxy.session import audited_executions
from phiproxy.session.error_scrub import holds_ciphertext
from phiproxy.session.fast_path.whole_groups import LongRows, open_rows, replies
from phiproxy.session.pipeline import NEXT_PART, QUERY_PASSES, READY_PASSES, Expected, Kind, Undo, expect
from phiproxy.session.ready_for_query import group_answered
from phiproxy.session.slow_work import MUCH
from phiproxy.session.state import State
from phiproxy.session.substitutes_and_questions import forget_both
from phiproxy.session.transaction_catalog import names_one, note
from phiproxy.wire.framing import HEADER

_COMPLETE, _FIELDS, _NOTICE, _QUERY, _READY = b"CTNQZ"
_SAID = frozenset(b"EN")
# The field that says in no language how bad it is.
_ERROR = b"\0VERROR\0"
_PASSING = frozenset(QUERY_PASSES) - {_READY}
_READY_HEAD = b"Z\0\0\0\x05"
_STATUS = frozenset(b"ITE")
_LENGTH = struct.Struct("!I").unpack_from
_SHORTEST = HEADER + 1
# Of what has no result: if one came, the handlers would say that it was not expected.
_PASSES = {_COMPLETE: NEXT_PART, **READY_PASSES}
_ENDS = Effects(transaction=True)


def sent_for(session: State, data: bytes) -> bytes | None:
    """Return what the server gets of a chunk that is one Query, and await its replies; None, and nothing done, for any other chunk.

    Empty, and nothing done, where the handlers must look at it. Only while the session is ``settled``.
    """
    text = _text_of(session, data)
    if text is None:
        return None
    if sent_unprotected(session, text):
        return data
    if _sent_definition(session, text):
        session.settled = False
        return data
    return shaped(session, text)


def sent_behind_ddl(session: State, data: bytes) -> bool:
    """Await the replies to such a chunk where DDL of the session's own is pending, of whose names the text has none either.

    False, and nothing done, for any other.

    For such a text the catalogue is not read (``transaction_catalog.await_catalog``), so a session that makes tables and uses them
    stays behind its DDL for long.
    """
    text = _text_of(session, data)
    catalog = session.catalog
    if text is None or catalog.setters or names_one(text, catalog.suspect.union(catalog.reaching)):
        return False
    if session.planner.screen.controls(text):
        if catalog.overlay is not None or session.search_path.schemas is None:
            # What was read in a transaction ends with it: the handlers follow that. Before one begins the path is asked for.
            return False
        note(session, _ENDS, frozenset(), touches=False)
    return sent_unprotected(session, text) or _sent_definition(session, text)


def _text_of(session: State, data: bytes) -> bytes | None:
    """Return the text of a chunk that is one whole Query, and not a long one; None for any other, and while statements wait."""
    end = len(data)
    if end < _SHORTEST or data[0] != _QUERY or _LENGTH(data, 1)[0] + 1 != end or end > min(MUCH, session.client_frames.max_message):
        return None
    if data.find(0, 5) != end - 1 or session.now > session.fence.until or session.fence.holding is not None:
        return None
    catalog = session.catalog
    if catalog.made and not session.pipeline.queue:
        catalog.created = catalog.created.union(catalog.made.values())
        catalog.made.clear()
    return data[5 : end - 1]


def sent_unprotected(session: State, text: bytes) -> bool:
    """Await the replies to a text in which nothing can be protected, or that only controls a transaction: nothing is followed here.

    False, and nothing done, for any other.
    """
    if _is_for_handlers(session, text):
        return False
    database = session.database
    assert database is not None
    if session.search_path.generation != database.generation:
        session.follow_schemas()
    screen, created = session.planner.screen, session.catalog.created
    if not screen.goes_unread(text, created):
        return False
    if session.search_path.schemas is None and not screen.passes(text, created):
        return False  # before a transaction begins the path is asked for
    _await(session)
    return True


def _is_for_handlers(session: State, text: bytes) -> bool:
    """Tell whether a text is looked at whatever it is: names were just made that the planner does not know, or it is observed."""
    database = session.database
    assert database is not None
    return bool(database.unread_names) or (database.observer is not None and session.observes(text))


def _sent_definition(session: State, text: bytes) -> bool:
    """Await the reply to DDL over nothing protected of which no parse is needed (``Screen.defines``); False for any other text.

    The session follows it as the handlers do. The name of a table counts as made by the session once the server has made it.
    """
    catalog, database = session.catalog, session.database
    assert database is not None
    path = session.search_path
    if catalog.overlay is not None or path.hides or (path.schemas is None and path.has_temporary):
        return False
    if not session.text.conforming or _is_for_handlers(session, text):
        return False
    defined = session.planner.screen.defines(text)
    if defined is None:
        return False
    expected = _await(session)
    session.pending.catalog = expected.group
    made = defined.relation
    if defined.code:
        catalog.created |= {defined.code}
    elif made and made not in catalog.created:
        name = made.encode()
        expected.undo = (*expected.undo, Undo(catalog.made, name, catalog.made.get(name)))
        catalog.made[name] = made
    return True


def _await(session: State) -> Expected:
    """Await the replies to a Query that goes on as it came, and return what stands for them."""
    expected = expect(Kind.QUERY, QUERY_PASSES)
    expected.first = session.groups.executes == 0
    expected.undo = forget_both(session)
    expected.group = session.end_group()
    session.pipeline.queue.append(expected)
    session.counters.forwarded += 1
    return expected


def pass_whole(session: State, data: bytes) -> bool:
    """Pass a chunk that is all replies to such a text; False, and nothing done, for any other.

    Only while the session is ``settled``, or nothing but DDL of its own is pending.
    """
    front, at = session.pipeline.queue[0], 0
    try:
        while (tag := data[at]) != _READY:
            (length,) = _LENGTH(data, at + 1)
            behind = at + 1 + length
            if length < 4 or not (tag in _PASSING or (tag in _SAID and _is_as_said(session, front, tag, data[at:behind]))):
                return False
            at = behind
    except (IndexError, struct.error):
        return False  # it is not whole
    if len(data) != at + HEADER + 1 or not data.startswith(_READY_HEAD, at) or data[-1] not in _STATUS:
        return False
    if len(data) > session.server_frames.max_message or (session.search_path.schemas is None and not session.asks_late):
        return False
    session.to_client.append(data)
    session.pipeline.queue.popleft()
    group_answered(session, front.group, data[-1:])
    return True


def _is_as_said(session: State, front: Expected, tag: int, message: bytes) -> bool:
    """Tell whether an error or notice goes on as the server says it, and nothing but that follows from it."""
    if front.touches or holds_ciphertext(message):
        return False
    if tag == _NOTICE:
        return True
    # What the message has done to names is taken back, and its refusal said, by the handlers; they also see to a FATAL one.
    more = front.undo or front.refusal is not None or front.said is not None or front.texts is not None
    under_way = session.copy.failed or session.copy.awaited or session.held is not None or session.computing is not None
    return not (more or under_way) and _ERROR in message and message.endswith(b"\0\0")


def shaped(session: State, text: bytes) -> bytes:
    """Return the server's Query, and await its replies; empty, and nothing done, where the handlers must look at it."""
    assert session.database is not None
    planner = session.database.planner
    if not session.text.conforming or _is_for_handlers(session, text):
        return b""
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
        audited_executions.shown(session, front, front.parts[0].touched, data[spans[2] + 5 : spans[3] - 7])
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
        audited_executions.opened(session, front)
    return shown
