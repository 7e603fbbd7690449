"""The shortest way: a chunk that is one whole group of a prepared statement while nothing else is under way, and its replies.

What does not look just like that is left where it is, for ``passing`` and the handlers, which do the same at more cost. That is
mostly memory: between two queries other processes have had the processor, so each function that runs, and each object that is
looked at, is fetched anew.
"""

from __future__ import annotations

import struct

from phiproxy.session.groups import DESCRIBE_EXECUTE_SYNC, EXECUTE_SYNC, ordinary, places, protected, show
from phiproxy.session.phases import READY
from phiproxy.session.pipeline import Kind
from phiproxy.session.ready import settle
from phiproxy.session.state import State
from phiproxy.wire.encodings import UTF8

_LENGTH = struct.Struct("!I").unpack_from
_BIND = ord("B")
_BOUND = Kind.BIND


def is_quiet(session: State) -> bool:
    """Tell whether both sides are between messages and nothing is followed that one of the next may have changed.

    Only handlers change any of this, and what a session does when it goes on after a need.
    """
    pipeline = session.pipeline
    followed = (
        session.waiting,
        session.copying,
        session.changed,
        session.overlay,
        session.announced,
        session.path_changed,
        session.styles_changed,
        session.encoding_changed,
        session.encoding_set,
    )
    return (
        session.phase is READY
        and session.database is not None
        and session.path is not None
        and session.encoding is UTF8
        and followed == (None,) * len(followed)
        and not (session.blocked or session.later or session.catalog_fresh or session.swallowing)
        and not (pipeline.skipping or pipeline.copy_in or pipeline.ignored)
        and session.client_frames.holds_nothing
        and session.server_frames.holds_nothing
    )


def group(session: State, data: bytes) -> bytes:
    """Return what the server gets of a chunk, and await its replies; empty, and nothing done, where it is not one group alone."""
    names, database = session.names, session.database
    if len(data) < 7 or data[0] != _BIND or session.pipeline.queue or names.changed or names.portals or session.group_executes:
        return b""
    (length,) = _LENGTH(data, 1)
    behind = data[length + 1 :]
    tail = DESCRIBE_EXECUTE_SYNC if behind == DESCRIBE_EXECUTE_SYNC else EXECUTE_SYNC if behind == EXECUTE_SYNC else b""
    stop = data.find(0, 6, length + 1)
    if not tail or data[5] or stop < 0 or length > session.client_frames.max_message or session.now > session.fence.until:
        return b""
    prepared = names.statements.get(data[6:stop])
    assert database is not None
    if prepared is None or prepared.stamp != (database.generation, session.path) or database.made:
        return b""
    if prepared.plan.ordinary:
        ordinary(session, tail)
        return data
    bound = protected(session, prepared, tail, data, 0, stop + 1, length + 1)
    return bound + tail if bound else b""


def replies(session: State, data: bytes) -> bool:
    """Show the client a chunk that is all replies to the one group under way; False, and nothing done, where it is not."""
    queue = session.pipeline.queue
    if not queue or data[-1:] != b"I":
        return False
    entries = queue[0].whole
    if not entries or len(queue) != entries + 1 or queue[0].kind is not _BOUND:
        return False
    found = places(data, 0, session.server_frames.max_message, described=entries > 2)
    if found is None or found[-1] != len(data):
        return False
    run = queue[entries - 1]
    if run.columns is None:
        session.to_client.append(data)
    elif not show(session, run, run.columns, data, found):
        return False
    last, names = queue[entries], session.names
    queue.clear()
    if session.status == b"I" and session.doubtful is None and not names.portals:
        names.answered = last.group
        names.changed.clear()
    else:
        settle(session, last, b"I")
    return True
