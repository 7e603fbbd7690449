"""A simple Query of a shape that was seen, and its replies, each in one piece.

The hot path, as ``groups`` is for prepared statements: what is not wholly ordinary is left where it is, for the handlers.
"""

from __future__ import annotations

import struct
from functools import partial

from phiproxy.errors import KeyNeeded, PhiproxyError
from phiproxy.plan.statement import ScriptPart
from phiproxy.session.groups import end_group, rows_shown
from phiproxy.session.pipeline import NEXT_PART, QUERY_PASSES, READY_PASSES, Expected, Kind, expect
from phiproxy.session.ready import settle
from phiproxy.session.state import State
from phiproxy.session.substitutes import forget_both

_LENGTH = struct.Struct("!I").unpack_from
_DATA_ROW, _COMPLETE, _FIELDS = b"DCT"
_STATUS = frozenset(b"ITE")
_READY = b"Z\0\0\0\x05"
# Of what has no result: if one came, the handlers would say that it was not expected.
_PASSES = {_COMPLETE: NEXT_PART, **READY_PASSES}


def shaped(session: State, text: bytes) -> bytes:
    """Return the server's Query, and await its replies; empty, and nothing done, where the handlers must look at it."""
    assert session.database is not None
    planner = session.database.planner
    if session.guard is not None and session.guard(text) is not None:
        return b""
    try:
        found = planner.ready(text, session.path, session.created)
        spelled = found[0].spelled(found[1], planner.ciphers) if found is not None else None
    except (PhiproxyError, KeyNeeded):
        return b""
    if found is None or spelled is None:
        return b""
    ready, shape = found
    expected = expect(Kind.QUERY, READY_PASSES if ready.shows else _PASSES if ready.touches else QUERY_PASSES)
    expected.parts, expected.touches, expected.alone = ready.parts, ready.touches, session.group_executes == 0
    expected.styles = session.styles
    if ready.rewrites:
        sent = ready.fill(shape, spelled)
        expected.texts = sent, text, partial(ready.edits, shape, spelled)  # asked for where an error says a position
        session.counters.rewritten += 1
    else:
        sent = text
        session.counters.forwarded += 1
    expected.whole = int(ready.shows and len(ready.parts) == 1)
    expected.undo = forget_both(session)
    expected.group = end_group(session)
    session.pipeline.queue.append(expected)
    return b"".join((b"Q", (len(sent) + 5).to_bytes(4, "big"), sent, b"\0"))


def answered(session: State, data: bytes, pos: int) -> int:
    """Show the client the replies to a Query that begin at ``pos``, and return where they end.

    ``pos``, with nothing done, where they are not whole or not what they nearly always are: the handlers look at each then.
    """
    front = session.pipeline.queue[0]
    places = _places(data, pos, session.server_frames.max_message)
    if places is None or front.parts is None or front.part or session.path is None or session.path_changed is not None:
        return pos
    shown = _shown(session, front, front.parts[0], data, places)
    if not shown:
        return pos
    session.to_client += shown
    session.pipeline.queue.popleft()
    settle(session, front, data[places[-1] - 1 : places[-1]])
    return places[-1]


def _places(data: bytes, pos: int, limit: int) -> tuple[int, int, int, int] | None:
    """Return where the RowDescription, the rows, and what comes behind them begin, and where all ends; None: not as ever."""
    # A length below 4 would lead into itself, where no tag is.
    if data[pos] != _FIELDS or len(data) > limit:
        return None
    try:
        first = behind = pos + 1 + _LENGTH(data, pos + 1)[0]
        while data[behind] == _DATA_ROW:
            behind += 1 + _LENGTH(data, behind + 1)[0]
        if data[behind] == _COMPLETE:
            at = behind + 1 + _LENGTH(data, behind + 1)[0]
            if data.startswith(_READY, at) and data[at + 5] in _STATUS:
                return pos, first, behind, at + 6
    except (IndexError, struct.error):
        pass  # they are not whole
    return None


def _shown(session: State, front: Expected, part: ScriptPart, data: bytes, places: tuple[int, int, int, int]) -> list[bytes]:
    """Return the replies as the client must see them; nothing where the handlers must say why they cannot be shown."""
    assert session.database is not None
    assert part.columns is not None
    begin, first, behind, end = places
    opened = session.database.doubtful
    opened.clear()
    try:
        described, front.formats = part.columns.description_of_query(data[begin:first], session.planner.sealed)
        front.binary = 1 in front.formats
        shown = [described, *rows_shown(session, front, part.columns, data, first, behind)]
    except (PhiproxyError, KeyNeeded):
        return []
    shown.append(data[behind:end])
    if opened:
        session.count_doubtful(front)
    return shown
