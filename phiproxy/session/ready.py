"""ReadyForQuery: a Sync group, a simple query, the proxy's own question or the login has ended."""

from __future__ import annotations

from phiproxy.errors import WireError
from phiproxy.session.encoding import writable
from phiproxy.session.phases import Phase
from phiproxy.session.pipeline import Expected, Kind
from phiproxy.session.replies import answered, relay
from phiproxy.session.state import State
from phiproxy.session.substitutes import FAIL_TRANSACTION, ask_path
from phiproxy.wire.messages import SYNC, encode_parse


def ready(session: State, data: bytes, start: int, end: int) -> int:
    """ReadyForQuery: ends a Sync group, a simple query, the proxy's own query — or the login."""
    status = data[start + 5 : end]
    if status not in (b"I", b"T", b"E"):
        raise WireError("ReadyForQuery with an unknown transaction status")
    if session.phase is Phase.AUTHENTICATING:
        return _logged_in(session, data, start, end)
    front = session.pipeline.front()
    if front is not None and front.kind is Kind.INTERNAL:
        session.pipeline.queue.popleft()
        session.status = status
        answered(front)
        return end
    if session.swallowing:
        _drop_to_ready(session)
    front = session.pipeline.pop(Kind.SYNC, Kind.QUERY, Kind.FUNCTION_CALL)
    front = front or (None if session.pipeline.front() else session.pipeline.late_sync(session.names.group - 1))
    if front is None:
        raise WireError("the server is ready for a query that nobody sent")
    settle(session, front, status)
    if session.swallowing:
        session.swallowing = session.blocked = False
        repair = _prepare_again(session) + (FAIL_TRANSACTION if status == b"T" else b"")
        if repair:
            frame = data[start : end - 1] + (b"E" if status == b"T" else status)
            session.internal(repair if status == b"T" else repair + SYNC, lambda _ok, _rows: _release(session, frame))
            return end
    # Not inside a transaction, where the question would take its snapshot; there it is asked when it is needed.
    if session.path is None and status == b"I" and session.pipeline.front() is None and not _client_speaks(session):
        _ask_path(session, data[start:end])
        return end
    return relay(session, data, start, end)


def _prepare_again(session: State) -> bytes:
    """Return the Parses of the statements that were closed behind a result that was broken off: an error would have kept them."""
    closed, session.closed_behind = session.closed_behind, []
    for change in reversed(closed):
        change.apply()
    return b"".join(
        encode_parse(writable(session, c.key), writable(session, _as_read(session, c.previous.plan.sql)), c.previous.plan.oids)
        for c in closed
    )


def _as_read(session: State, sql: bytes) -> bytes:
    """Return a text of the server's as it reads it now."""
    return sql if session.conforming else session.planner.either_way(sql, conforming=True)[0]


def _client_speaks(session: State) -> bool:
    return bool(session.client_frames.pending or session.client_frames.passing)


def _drop_to_ready(session: State) -> None:
    while (front := session.pipeline.front()) is not None and front.kind not in (Kind.QUERY, Kind.SYNC):
        session.pipeline.queue.popleft()


def settle(session: State, front: Expected, status: bytes) -> None:
    """Apply a transaction status to portals and search path; a failed transaction may go on after ROLLBACK TO, with its portals."""
    if session.doubtful is not None:
        session.tell_doubtful()
    session.names.settle(front.group, idle=session.pipeline.front() is None)
    if session.encoding_changed is not None and session.encoding_changed <= front.group:
        session.encoding_changed = None  # the server has told of it by now
    if status == b"I":
        session.names.end_transaction(front.group)
        if session.path_changed is not None and session.path_changed <= front.group:
            # What SET LOCAL, SET or CREATE did may have been rolled back, or not: it is read again when it is needed.
            session.path = session.path_changed = None
        if session.encoding_set is not None and session.encoding_set <= front.group:
            session.encoding_set = None
        if session.styles_changed is not None and session.styles_changed <= front.group:
            session.styles_changed, session.styles_set = None, False
        if session.announced is not None and session.announced <= front.group and session.database is not None:
            session.announced = None
            session.database.announce()
    session.status = status


def _release(session: State, frame: bytes) -> None:
    session.blocked = False
    session.to_client.append(frame)


def _logged_in(session: State, data: bytes, start: int, end: int) -> int:
    if session.database is None:
        session.phase = Phase.TRANSPARENT
        return relay(session, data, start, end)
    session.phase = Phase.READY
    session.client_frames.max_message = session.max_message
    _ask_path(session, data[start:end])
    return end


def _ask_path(session: State, frame: bytes) -> None:
    """Ask for the search path before ReadyForQuery is relayed, so that the client's next message finds it known."""

    def path_read(ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        session.path_is(ok, rows)
        _release(session, frame)

    ask_path(session, path_read)
