"""What a statement gives: ParameterDescription, RowDescription, DataRow and its end, in the client's types and values.

Rows are opened by the function that was compiled when their first came; unprotected rows are forwarded in runs, as one slice.
"""

from itertools import islice, takewhile

from phiproxy.errors import CatalogChanged, NotAuthentic, PhiproxyError, ProtectionChanged, SealError, ValueRefused, WireError
from phiproxy.plan.result_columns import AS_THEY_COME, Columns
from phiproxy.session import audited_executions, split_explain, split_replies
from phiproxy.session.ddl_replies import ended
from phiproxy.session.opened_rows import opener_of
from phiproxy.session.pipeline import Expected, Kind, Undo
from phiproxy.session.replies import completes, is_silent, pop, relay
from phiproxy.session.slow_work import open_row
from phiproxy.session.state import State
from phiproxy.wire.messages import (
    decode_parameter_description,
    encode_parameter_description,
    error_response,
    message,
)


def parameter_description(session: State, data: bytes, start: int, end: int) -> int:
    """ParameterDescription: the client's own parameters in their order."""
    front = session.pipeline.front()
    plan = front.plan if front is not None and front.kind is Kind.DESCRIBE else None
    if front is not None and front.parameters is not None:
        session.to_client.append(encode_parameter_description(front.parameters))
        return end
    if plan is None or plan.identity:
        return end if is_silent(session) else relay(session, data, start, end)
    oids = decode_parameter_description(data, start + 5, end)
    if len(oids) != len(plan.outputs):
        raise WireError("the server describes another number of parameters than it was sent")
    session.to_client.append(encode_parameter_description(plan.describe_parameters(oids)))
    return end


def columns_of(front: Expected | None) -> Columns | None:
    """Return the planned columns of the result that comes now."""
    if front is None:
        return None
    if front.kind is Kind.QUERY and front.parts is not None and front.part < len(front.parts):
        return front.parts[front.part].columns
    return front.columns


def row_description(session: State, data: bytes, start: int, end: int) -> int:
    """RowDescription: declared types for protected columns, checked against the plan through (table OID, attnum)."""
    if is_silent(session):
        pop(session, Kind.DESCRIBE)
        return end
    front = session.pipeline.front()
    columns = columns_of(front)
    if columns is None or front is None or session.database is None:
        pop(session, Kind.DESCRIBE)
        if front is not None and front.description:
            session.to_client.append(front.description)
            return end
        return relay(session, data, start, end)
    sealed = session.planner.sealed
    try:
        if front.description:
            columns.description(data[start:end], front.formats, sealed)
            shown = front.description
        elif front.kind is Kind.QUERY:
            # Text, unless it is fetched from a BINARY cursor.
            shown, front.formats = columns.description(data[start:end], AS_THEY_COME, sealed)
            front.binary = 1 in front.formats
        else:
            shown, _ = columns.description(data[start:end], front.formats, sealed)
    except CatalogChanged as changed:
        # What was analysed is not what runs: none of this result is shown.
        result_error(session, changed)
        return end
    session.to_client.append(shown)
    pop(session, Kind.DESCRIBE)
    return end


def data_row(session: State, data: bytes, start: int, end: int) -> int:
    """DataRow: opened by the row function, or a run of them forwarded as one slice. KeyNeeded, WorkNeeded leave the frame there."""
    if is_silent(session):
        front = session.pipeline.front()
        if front is not None and front.rows is not None:
            front.rows.append(data[start + 11 : end])
        return end
    front = session.pipeline.front()
    if front is not None and front.of_source:
        return split_replies.source_rows(session, front, data, start, end)
    if front is not None and front.explained is not None:
        session.to_client.append(split_explain.written(front.explained, data, start, end))
        front.explained = None
        return end
    columns = columns_of(front)
    if columns is None or front is None or session.database is None:
        return relay(session, data, start, session.server_frames.run_end(ord("D")))
    rows = opener_of(session, front, columns)
    assert front.ciphers is not None
    frames, openings = session.server_frames, session.database.opened
    openings.clear()
    try:
        for begin, end in frames.run(ord("D")):  # noqa: PLR1704 - the first of them is the one that was given
            frames.pos = begin
            session.to_client += open_row(session, front.ciphers, rows, data, begin, end)
    except (SealError, NotAuthentic, ValueRefused) as error:
        result_error(session, error)
    finally:
        if openings:
            audited_executions.opened(session, front)
    return end


def command_complete(session: State, data: bytes, start: int, end: int) -> int:
    """CommandComplete or EmptyQueryResponse: the result is whole."""
    silent = is_silent(session)
    front = session.pipeline.front()
    if front is None or front.refusal is not None or front.kind not in (Kind.QUERY, Kind.EXECUTE, Kind.INTERNAL):
        raise WireError("the server completed what was not asked of it")
    if front.of_source:
        if session.trail is not None and session.computing is not None:
            audited_executions.source_opened(session, front, data[start + 5 : end - 1])
        split_replies.source_ended(session, data[start:end])
        return end
    if front.counted and not split_replies.counted(session, data[start + 5 : end - 1]):
        session.pipeline.queue.popleft()
        return end
    tag = ended(front)
    if session.trail is not None and not silent:
        audited_executions.ended(session, front, tag=data[start + 5 : end - 1])
    if front.kind is Kind.QUERY:
        front.part += 1
        front.opener = front.copy_out = None
    elif front.kind is Kind.EXECUTE:
        session.pipeline.queue.popleft()
    session.pipeline.copy_in = False
    session.pipeline.ignored = 0
    session.copy.rows, session.copy.failed = None, False
    if tag and not silent:
        session.to_client.append(message(b"C", tag + b"\0"))
        return end
    return end if silent else relay(session, data, start, end)


def portal_suspended(session: State, data: bytes, start: int, end: int) -> int:
    """PortalSuspended: as many rows have come as Execute has asked for."""
    front = session.pipeline.front()
    if session.trail is not None and front is not None and not is_silent(session):
        audited_executions.ended(session, front)
    return _suspends(session, data, start, end)


_suspends = completes(Kind.EXECUTE)


def result_error(session: State, failure: PhiproxyError) -> None:
    """Answer a value that does not open, or a key that does not come, in the middle of the server's replies (spec/protocol 8.3).

    A plain SELECT that is the last and only one of its Sync group or simple query is broken off with an ERROR; anything else has
    already run, perhaps committed, on the server, so the conversation ends with a FATAL that says so.
    """
    session.counters.open_failures += not isinstance(failure, ValueRefused | ProtectionChanged)
    front = session.pipeline.front()
    if front is not None and session.trail is not None:
        audited_executions.ended(session, front, failure.sqlstate)
    if front is None or not _can_break_off(session, front):
        session.fatal(type(failure)(f"{failure.message}; what was committed before stays committed", hint=failure.hint))
        return
    session.pipeline.closed_behind = _closed_behind(session)
    # Nothing more is sent until the server is ready: if a transaction is open, it must be failed before anything else runs in it.
    session.pipeline.discarding = session.blocked = True
    session.to_client.append(session.said(error_response(failure.sqlstate, failure.public_text, hint=failure.hint)))


def _can_break_off(session: State, front: Expected) -> bool:
    queue = session.pipeline.queue
    closed = _closed_behind(session)
    if front.kind is Kind.QUERY:
        sole = front.first and front.parts is not None and len(front.parts) == 1 and front.parts[0].plain_select
        behind = len(queue) - 1
    elif front.kind is Kind.EXECUTE and front.plan is not None:
        sole = front.plan.plain_select and front.first and session.pipeline.only_closes_before_sync()
        behind = sum(entry.kind is not Kind.CLOSE for entry in queue) - 2
    else:
        return False
    # By a Parse, as the protocol prepared them.
    prepared_again = all(not c.previous.by_sql and c.previous.plan.inline is None for c in closed)
    return sole and (behind == 0 or (session.status == b"I" and not closed)) and prepared_again


def _closed_behind(session: State) -> list[Undo]:
    """Return what the Closes behind the front do to names of statements: they run, where after an error they would be skipped."""
    if session.pipeline.queue[0].kind is Kind.QUERY:
        return []  # it is its own Sync
    entries = takewhile(lambda entry: entry.kind is not Kind.SYNC, islice(session.pipeline.queue, 1, None))
    undo = (change for entry in entries if entry.kind is Kind.CLOSE for change in entry.undo)
    return [change for change in undo if change.names is session.names.statements and change.previous is not None]
