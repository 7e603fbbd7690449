"""While tables are about to be switched: which of a session's messages wait, and what of it a switch has to wait for.

What a session had begun before goes on to its end, under what it has begun with, and is waited for. In all that begins later the
first statement that may name one of the tables waits, others pass; so does the first one of a transaction that was open before,
once it is known that it has not touched them (``net.held_tables``). Such a transaction reads the tables as they are behind the
switch, which only one may that takes a new snapshot for each statement: READ COMMITTED. The server is asked for that, before any
snapshot is taken. Under REPEATABLE READ everything waits, or is waited for.

To the server a session that waits is idle. A Sync every now and then sets the server's timers of such sessions back
(idle_in_transaction_session_timeout, idle_session_timeout). transaction_timeout goes on: who follows the hold is told by
``must_go_on`` when that is to be given up.
"""

import math
import re
from typing import Final

from phiproxy.errors import WireError
from phiproxy.session.phases import LOGGED_IN
from phiproxy.session.pipeline import Kind, Later
from phiproxy.session.state import State
from phiproxy.session.state_parts import Held, Holding
from phiproxy.session.substitutes_and_questions import ask, waits_in_group
from phiproxy.session.transaction_catalog import names_one
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.fields import bind_names
from phiproxy.wire.messages import SYNC, decode_parse, decode_query

_ISOLATION: Final = b"SHOW transaction_isolation"  # takes no snapshot
# The seconds for which a transaction may be held by its transaction_timeout, of which a part is left to the application.
_MAY_BE_HELD: Final = (
    b"SELECT pg_catalog.date_part('epoch', t.own) OPERATOR(pg_catalog.-) LEAST('3'::pg_catalog.float8,"
    b" pg_catalog.date_part('epoch', t.own) OPERATOR(pg_catalog./) '2'::pg_catalog.float8) OPERATOR(pg_catalog.-)"
    b" pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.transaction_timestamp())"
    b" FROM (SELECT pg_catalog.current_setting('transaction_timeout', true)::pg_catalog.interval AS own) t"
    b" WHERE t.own OPERATOR(pg_catalog.>) '0'::pg_catalog.interval"
)
# What takes a snapshot itself: a question before it changes nothing of what may follow, as it would before SET TRANSACTION.
_TAKES_SNAPSHOT: Final = re.compile(
    rb"(?:\s|--[^\n]*\n|/\*[^*]*\*/)*(?:select|insert|update|delete|merge|with|values|table)\b", re.IGNORECASE
)
BEAT: Final = 0.5
"""Seconds between two settings back of the server's timers, while a session waits."""
_NEW_SNAPSHOTS: Final = [b"read committed"], [b"read uncommitted"]  # which is the same
_QUERY, _PARSE, _ = b"QPB"
_ENDING: Final = frozenset({Kind.QUERY, Kind.SYNC, Kind.FUNCTION_CALL})
# Of texts that only control a transaction: those that end it.
_ENDS: Final = re.compile(rb"\s*(?:commit|end|abort|rollback)\b(?![\w\s]*\bto\b)", re.IGNORECASE)
# Without a name of theirs, these change what the catalogue says of all tables of a schema, or of an owner.
_OF_MANY: Final = re.compile(rb"\b(?:grant|revoke|reassign)\b")


def follow(session: State, holding: Holding) -> None:
    """Note, when tables are about to be switched, whether a session has begun something: all of that goes on to its end."""
    session.hold = Held(holding, begun=not _is_at_rest(session))


def waits(session: State, tag: int, data: bytes, start: int, end: int) -> bool:
    """Tell whether a message of the client's waits for the end of the switch; Later where the server is asked something first."""
    assert session.fence.holding is not None
    held = _held(session, session.fence.holding)
    if held.begun or held.over:
        return False
    text = _text(session, tag, data, start, end)
    if text is None or not _passes(session, held, text):
        return _stays(session, held, text or b"")
    controls = session.planner.screen.controls(text)
    if session.pipeline.silent or (tag == _QUERY and not controls and not session.groups.is_open):
        return False  # in a transaction that was asked for, or one of its own; or it stands for a part of such a Query
    if any(entry.kind in _ENDING for entry in session.pipeline.queue):
        raise Later  # which transaction this would be in is known when all before it is answered
    if session.status == b"I":
        return _waits_as_a_whole(session, held) and _stays(session, held, b"")
    # What begins behind this transaction, in the same group, could be of another level than it.
    ends = controls and _ENDS.match(text) is not None
    if held.ended == session.groups.number and not ends:
        return _stays(session, held, b"")
    if ends:
        held.ended = session.groups.number
    return False


def _stays(session: State, held: Held, text: bytes) -> bool:
    """Return True for a message that waits; Later where the server's timers are set back first."""
    if any(entry.kind in _ENDING for entry in session.pipeline.queue):
        raise Later  # the server is at work, and says when it waits
    if session.pipeline.queue or session.groups.is_open or session.now < held.beat:
        return True
    held.beat = session.now + BEAT

    def told(ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        session.blocked = False
        if ok and rows:
            held.until = session.now + float(rows[0])

    if session.status == b"T" and held.timed != session.groups.number and _TAKES_SNAPSHOT.match(text):
        held.timed = session.groups.number
        ask(session, _MAY_BE_HELD, told)
    else:
        session.internal(SYNC, told)
    raise Later


def goes_on(session: State, holding: Holding) -> None:
    """Let a session's statements go on while others' wait: at its server the tables are as the catalogue says."""
    _held(session, holding).over = True


def must_go_on(session: State, holding: Holding) -> float:
    """Return when a session must not be held any longer, by the clock of ``State.now``; infinity where it may be."""
    held = session.hold
    return held.until if held is not None and held.holding is holding else math.inf


def may_be_asked(session: State) -> bool:
    """Tell whether a session is in the midst of a transaction in which nothing happens, and was not asked since something has."""
    held = session.hold
    return (
        held is not None
        and held.begun
        and session.status == b"T"
        and held.asked != session.groups.number
        and session.phase is LOGGED_IN
        and not (session.pipeline.queue or session.groups.is_open or session.blocked or session.later)
        and session.waiting is None
        and session.client_frames.holds_nothing
        and session.pending.catalog is None
        and session.catalog.overlay is None
        and not (session.computing or session.writing or session.held or session.suspended)
    )


def ask_isolation(session: State) -> None:
    """Ask, where ``may_be_asked``, whether a transaction takes a snapshot for each statement: then it is as one that begins now.

    It has touched none of the tables: who calls knows that.
    """
    held = session.hold
    assert held is not None
    session.settled = False
    _ask(session, held)


def is_under_way(session: State, holding: Holding) -> bool:
    """Tell whether a switch has to wait for what a session does."""
    return _held(session, holding).begun


def _held(session: State, holding: Holding) -> Held:
    held = session.hold
    if held is None or held.holding is not holding:
        # One that was not there when ``follow`` was called for all says nothing that is of before.
        held = session.hold = Held(holding, begun=held is not None)
    if held.begun and _is_at_rest(session):
        held.begun = False
    return held


def _waits_as_a_whole(session: State, held: Held) -> bool:
    """Tell whether a transaction that begins now keeps its first snapshot; Later where the server is asked for that first."""
    if held.asked != session.groups.number:
        if not waits_in_group(session):  # a group may begin with what names nothing, such as Close
            _ask(session, held)
        raise Later
    return held.same_snapshot


def _is_at_rest(session: State) -> bool:
    return session.at_rest and not (session.computing or session.writing or session.held)


def _ask(session: State, held: Held) -> None:
    def told(ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        session.blocked = False
        held.same_snapshot = not (ok and rows in _NEW_SNAPSHOTS)
        held.begun = held.begun and held.same_snapshot

    held.asked = session.groups.number
    ask(session, _ISOLATION, told)


def _text(session: State, tag: int, data: bytes, start: int, end: int) -> bytes | None:
    """Return the text that a message is about; None where it cannot be read, or not be compared with names."""
    if session.text.encoding is not UTF8 or not session.text.conforming:
        return None
    try:
        if tag == _QUERY:
            return decode_query(data, start + 5, end)
        if tag == _PARSE:
            return decode_parse(data, start + 5, end).query
        prepared = session.names.statements.get(bind_names(data, start + 5, end)[1])
    except WireError:
        return None
    return prepared.plan.text if prepared is not None else b""


def _passes(session: State, held: Held, text: bytes) -> bool:
    """Tell whether a text names nothing that is switched, and does nothing by which later ones could, or that a switch would end.

    What changes settings, catalogue or names waits, however it does that; the level of isolation may be among them.
    """
    assert session.database is not None
    screen, lowered = session.planner.screen, text.lower()
    if held.holding.mentions(text) or b"isolation" in lowered or b"copy" in lowered:
        return False
    if session.database.unread_names and names_one(text, session.database.unread_names):
        return False
    return screen.controls(text) or not (screen.watched(text) or _OF_MANY.search(lowered))
