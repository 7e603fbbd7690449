"""ReadyForQuery: a Sync group, a simple query, the proxy's own question or the login has ended."""

from phiproxy.errors import WireError
from phiproxy.session import audited_executions
from phiproxy.session.client_encoding import writable
from phiproxy.session.phases import AUTHENTICATING, Event
from phiproxy.session.pipeline import Kind
from phiproxy.session.replies import answered, relay
from phiproxy.session.split_replies import release_dropped
from phiproxy.session.state import State
from phiproxy.session.substitutes_and_questions import FAIL_TRANSACTION, ask_path
from phiproxy.wire.messages import SYNC, encode_parse


def ready_for_query(session: State, data: bytes, start: int, end: int) -> int:
    """ReadyForQuery: ends a Sync group, a simple query, the proxy's own query — or the login."""
    status = data[start + 5 : end]
    if status not in (b"I", b"T", b"E"):
        raise WireError("ReadyForQuery with an unknown transaction status")
    if session.phase is AUTHENTICATING:
        return _logged_in(session, data, start, end)
    front = session.pipeline.front()
    if front is not None and front.kind is Kind.INTERNAL:
        session.pipeline.queue.popleft()
        session.status = status
        answered(front)
        return end
    while session.pipeline.discarding and (front := session.pipeline.front()) and front.kind not in (Kind.QUERY, Kind.SYNC):
        session.pipeline.queue.popleft()
    front = session.pipeline.pop(Kind.SYNC, Kind.QUERY, Kind.FUNCTION_CALL)
    front = front or (None if session.pipeline.front() else session.pipeline.late_sync(session.groups.number - 1))
    if front is None:
        raise WireError("the server is ready for a query that nobody sent")
    group_answered(session, front.group, status)
    if session.pipeline.discarding:
        session.pipeline.discarding = session.blocked = False
        repair = _prepare_again(session) + (FAIL_TRANSACTION if status == b"T" else b"")
        if repair:
            frame = data[start : end - 1] + (b"E" if status == b"T" else status)
            session.internal(repair if status == b"T" else repair + SYNC, lambda _ok, _rows: _release(session, frame))
            return end
    # Not inside a transaction, where the question would take its snapshot; there it is asked when it is needed.
    unknown = session.search_path.schemas is None and status == b"I" and not session.asks_late
    if unknown and session.pipeline.front() is None and not _client_speaks(session):
        _ask_path(session, data[start:end])
        return end
    return relay(session, data, start, end)


def _prepare_again(session: State) -> bytes:
    """Return the Parses of the statements that were closed behind a result that was broken off: an error would have kept them."""
    closed, session.pipeline.closed_behind = session.pipeline.closed_behind, []
    for change in reversed(closed):
        change.apply()
    parses = []
    for plan, name in ((c.previous.plan, c.key) for c in closed):
        sql = plan.sql if session.text.conforming else session.planner.either_way(plan.sql, conforming=True)[0]
        parses.append(encode_parse(writable(session, name), writable(session, sql), plan.oids))
    return b"".join(parses)


def _client_speaks(session: State) -> bool:
    return bool(session.client_frames.pending or session.client_frames.passing)


def group_answered(session: State, group: int, status: bytes) -> None:
    """Note what a ReadyForQuery says of its group; a failed transaction may go on after ROLLBACK TO, with its portals."""
    if session.executing is not None:
        audited_executions.cut_off(session)
    session.groups.answered, names = group, session.names
    if session.pipeline.queue:
        session.pipeline.front()  # without the end of a COPY that was none
    if names.changed and not session.pipeline.queue:
        names.changed.clear()
    if names.portals and status == b"I":
        names.end_transaction(group)
    if session.suspended:
        release_dropped(session)
    if not session.settled:
        _end_pending(session, group, idle=status == b"I")
    session.status = status


def _end_pending(session: State, group: int, *, idle: bool) -> None:
    """End what was pending until this group is answered, or until the transaction ends."""
    pending = session.pending
    if pending.encoding is not None and pending.encoding <= group:
        pending.encoding = None  # the server has told of it by now
    if not idle:
        return
    if pending.path is not None and pending.path <= group:
        # What SET LOCAL, SET or CREATE did may have been rolled back, or not: it is read again when it is needed.
        session.search_path.schemas = pending.path = None
    if pending.encoding_set is not None and pending.encoding_set <= group:
        pending.encoding_set = None
    if pending.styles is not None and pending.styles <= group:
        pending.styles, session.styles.set_in_transaction = None, False
    if pending.announcement is not None and pending.announcement <= group and session.database is not None:
        pending.announcement = None
        session.database.announce()
    if pending.schemas is not None and pending.schemas <= group and session.database is not None:
        pending.schemas = None
        session.database.schemas_changed()


def _release(session: State, frame: bytes) -> None:
    session.blocked = False
    session.to_client.append(frame)


def _logged_in(session: State, data: bytes, start: int, end: int) -> int:
    if session.trail is not None:
        session.trail.logged_in(audited_executions.OK)
    session.observer.logged_in()
    if session.database is None:
        session.happens(Event.LOGIN_ENDED_UNPROTECTED)
        return relay(session, data, start, end)
    session.happens(Event.LOGIN_ENDED)
    session.client_frames.max_message = session.max_message
    _ask_path(session, data[start:end])
    return end


def _ask_path(session: State, frame: bytes) -> None:
    """Ask for the search path before ReadyForQuery is relayed, so that the client's next message finds it known."""

    def path_read(ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        session.take_session_settings(ok, rows)
        _release(session, frame)

    ask_path(session, path_read)
