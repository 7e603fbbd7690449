"""Messages from the server: each handler sends what the client shall see, and returns where the next frame begins.

The front of the pipeline says whose reply a message is. Rows are opened by the function that was compiled when their first came;
unprotected rows are forwarded in runs, as one slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phiproxy.errors import CatalogChanged, PhiproxyError, SealError, StatementRefused, WireError
from phiproxy.plan.statement import Columns, map_position
from phiproxy.session.phases import Phase
from phiproxy.session.pipeline import Expected, Kind
from phiproxy.session.scrub import holds_ciphertext, scrub
from phiproxy.session.state import State
from phiproxy.session.substitutes import FAIL_TRANSACTION, PATH_QUERY, InvalidStatementName, ParameterCount
from phiproxy.wire.messages import (
    PROTOCOL_3_2,
    decode_error_fields,
    decode_parameter_description,
    decode_parameter_status,
    decode_row_description,
    decode_sasl_mechanisms,
    encode_authentication_sasl,
    encode_error_fields,
    encode_parameter_description,
    encode_row_description,
    error_response,
    negotiate_protocol_version,
)

_ABORTED = ("25P02", "current transaction is aborted, commands ignored until end of transaction block")


def _relay(session: State, data: bytes, start: int, end: int) -> int:
    session.to_client.append(data[start:end])
    return end


def _silent(session: State) -> bool:
    """Tell whether replies go no further: the proxy's own query, or the rest of a result that was broken off."""
    front = session.pipeline.front()
    return session.swallowing or (front is not None and front.kind is Kind.INTERNAL)


def _pop(session: State, *kinds: Kind) -> Expected | None:
    """Pop the front when the reply is its last; the proxy's own query stays until ReadyForQuery."""
    front = session.pipeline.front()
    if front is not None and front.kind is Kind.INTERNAL:
        return front
    return session.pipeline.pop(*kinds)


def _completes(*kinds: Kind) -> Callable[[State, bytes, int, int], int]:
    def handler(session: State, data: bytes, start: int, end: int) -> int:
        silent = _silent(session)
        done = _pop(session, *kinds)
        if done is None or done.refusal is not None:
            raise WireError("the server completed what was not asked of it")
        return end if silent else _relay(session, data, start, end)

    return handler


def authentication(session: State, data: bytes, start: int, end: int) -> int:
    """AuthenticationXXX: relayed; ``-PLUS`` leaves the offer where the client's leg cannot bind (protocol.md)."""
    _before_authentication(session)
    if session.strip_plus and data[start + 5 : start + 9] == b"\0\0\0\x0a":
        mechanisms = decode_sasl_mechanisms(data, start + 9, end)
        session.to_client.append(encode_authentication_sasl(m for m in mechanisms if not m.endswith(b"-PLUS")))
        return end
    return _relay(session, data, start, end)


def _before_authentication(session: State) -> None:
    """Send the NegotiateProtocolVersion that the client is owed, unless the server's own was merged with it."""
    if session.negotiation is not None:
        session.to_client.append(session.negotiation)
        session.negotiation = None


def negotiate(session: State, data: bytes, start: int, end: int) -> int:
    """NegotiateProtocolVersion: the server's version with the options that the proxy kept back, in exactly one message."""
    if session.negotiation is None:
        return _relay(session, data, start, end)
    version = min(int.from_bytes(data[start + 5 : start + 9], "big"), PROTOCOL_3_2)
    options = session.negotiation[13:].rstrip(b"\0").split(b"\0") if len(session.negotiation) > 13 else []
    session.negotiation = None
    session.to_client.append(negotiate_protocol_version(version, options))
    return end


def parameter_status(session: State, data: bytes, start: int, end: int) -> int:
    """ParameterStatus: relayed; two settings decide whether texts can be read as they are (sql.md section 8)."""
    name, value = decode_parameter_status(data, start + 5, end)
    if name == b"client_encoding":
        session.utf8 = value.upper() in (b"UTF8", b"UTF-8", b"UNICODE")
    elif name == b"standard_conforming_strings" and value != b"on" and session.database is not None:
        session.fatal(StatementRefused("standard_conforming_strings must stay on for a database with a policy"))
        return end
    return _relay(session, data, start, end)


def parameter_description(session: State, data: bytes, start: int, end: int) -> int:
    """ParameterDescription: the client's own parameters in their order."""
    front = session.pipeline.front()
    plan = front.plan if front is not None and front.kind is Kind.DESCRIBE else None
    if plan is None or plan.identity:
        return end if _silent(session) else _relay(session, data, start, end)
    oids = decode_parameter_description(data, start + 5, end)
    if len(oids) != len(plan.outputs):
        raise WireError("the server describes another number of parameters than it was sent")
    session.to_client.append(encode_parameter_description(plan.describe_parameters(oids)))
    return end


def _columns(front: Expected | None) -> Columns | None:
    """Return the planned columns of the result that comes now."""
    if front is None:
        return None
    if front.kind is Kind.QUERY and front.parts is not None and front.part < len(front.parts):
        return front.parts[front.part].columns
    return front.columns


def row_description(session: State, data: bytes, start: int, end: int) -> int:
    """RowDescription: declared types for protected columns, checked against the plan through (table OID, attnum)."""
    if _silent(session):
        _pop(session, Kind.DESCRIBE)
        return end
    front = session.pipeline.front()
    columns = _columns(front)
    if columns is None or front is None or session.database is None:
        _pop(session, Kind.DESCRIBE)
        return _relay(session, data, start, end)
    fields = decode_row_description(data, start + 5, end)
    try:
        shown = columns.describe(fields, front.formats, session.database.planner.sealed)
    except CatalogChanged as changed:
        # What was analysed is not what runs: none of this result is shown.
        result_error(session, changed)
        return end
    session.to_client.append(encode_row_description(shown))
    _pop(session, Kind.DESCRIBE)
    return end


def data_row(session: State, data: bytes, start: int, end: int) -> int:
    """DataRow: opened by the row function, or a run of them forwarded as one slice. KeyNeeded leaves the frame where it is."""
    if _silent(session):
        front = session.pipeline.front()
        if front is not None and front.kind is Kind.INTERNAL:
            front.rows.append(data[start + 11 : end])
        return end
    front = session.pipeline.front()
    columns = _columns(front)
    if columns is None or front is None or session.database is None:
        return _relay(session, data, start, session.server_frames.run_end(ord("D")))
    row = front.row
    if row is None:
        row = front.row = columns.row(session.database.planner.ciphers, binary=front.binary)
    try:
        session.to_client.append(row(data, start, end))
    except SealError as error:
        result_error(session, error)
    return end


def copy_out_data(session: State, data: bytes, start: int, end: int) -> int:
    """CopyData of a table with nothing protected in it: a run of them is forwarded as one slice."""
    return _relay(session, data, start, session.server_frames.run_end(ord("d")))


def command_complete(session: State, data: bytes, start: int, end: int) -> int:
    """CommandComplete or EmptyQueryResponse: the result is whole."""
    silent = _silent(session)
    front = session.pipeline.front()
    if front is None or front.refusal is not None or front.kind not in (Kind.QUERY, Kind.EXECUTE, Kind.INTERNAL):
        raise WireError("the server completed what was not asked of it")
    if front.kind is Kind.QUERY:
        front.part += 1
        front.row = None
    elif front.kind is Kind.EXECUTE:
        session.pipeline.queue.popleft()
    session.pipeline.copy_in = False
    session.pipeline.ignored = 0
    return end if silent else _relay(session, data, start, end)


def error(session: State, data: bytes, start: int, end: int) -> int:
    """ErrorResponse: the refusal that was waiting for it, or the server's own in the client's positions and names."""
    if session.phase is Phase.AUTHENTICATING:
        _before_authentication(session)
    silent = _silent(session)
    front = session.pipeline.error()
    fields = decode_error_fields(data, start + 5, end)
    state = dict(fields).get(67, b"").decode("ascii", "replace")
    session.server_said_fatal = dict(fields).get(86, dict(fields).get(83)) in (b"FATAL", b"PANIC")
    if silent and not session.server_said_fatal:
        return end
    if front is None:
        return _passes(session, data, start, end)
    if front.refusal is not None and state == front.substitute:
        session.to_client.append(_refusal(session, front, front.refusal))
    elif front.touches or front.refusal is not None or (front.texts is not None and front.texts[2]):
        session.to_client.append(encode_error_fields(b"E", _shown(fields, front)))
    else:
        return _passes(session, data, start, end)
    return end


def _passes(session: State, data: bytes, start: int, end: int) -> int:
    """Relay an error or notice of what touches nothing protected, unless a trigger or a deferred check speaks of an envelope."""
    frame = data[start:end]
    if holds_ciphertext(frame):
        frame = encode_error_fields(frame[:1], scrub(decode_error_fields(frame, 5, len(frame))))
    session.to_client.append(frame)
    return end


def _refusal(session: State, front: Expected, refusal: PhiproxyError) -> bytes:
    early = isinstance(refusal, InvalidStatementName | ParameterCount)
    if front.kind is Kind.BIND and session.status == b"E" and not early:
        # The server looks a statement up before it looks at the transaction; for a statement that exists it would say this.
        return error_response(*_ABORTED)
    return error_response(refusal.sqlstate, refusal.public_text, hint=refusal.hint, position=refusal.position)


def _shown(fields: Sequence[tuple[int, bytes]], front: Expected) -> list[tuple[int, bytes]]:
    shown = []
    for code, value in scrub(fields):
        mapped = value
        if code == ord("P") and front.texts is not None and value.isdigit() and len(value) < 10:
            server_text, client_text, edits = front.texts
            mapped = str(map_position(server_text, client_text, edits, int(value))).encode()
        shown.append((code, mapped))
    return shown


def notice(session: State, data: bytes, start: int, end: int) -> int:
    """NoticeResponse: relayed, without ciphertext where the statement touches something protected."""
    front = session.pipeline.front()
    if front is None or not front.touches:
        return _passes(session, data, start, end)
    session.to_client.append(encode_error_fields(b"N", _shown(decode_error_fields(data, start + 5, end), front)))
    return end


def result_error(session: State, failure: PhiproxyError) -> None:
    """Answer a value that does not open, or a key that does not come, in the middle of the server's replies (protocol.md).

    A plain SELECT that is the last and only one of its Sync group or simple query is broken off with an ERROR; anything else has
    already run, perhaps committed, on the server, so the conversation ends with a FATAL that says so.
    """
    session.counters.open_failures += 1
    front = session.pipeline.front()
    if front is None or not _can_break_off(session, front):
        session.fatal(type(failure)(f"{failure.message}; what was committed before stays committed", hint=failure.hint))
        return
    # Nothing more is sent until the server is ready: if a transaction is open, it must be failed before anything else runs in it.
    session.swallowing = session.blocked = True
    session.to_client.append(error_response(failure.sqlstate, failure.public_text, hint=failure.hint))


def _can_break_off(session: State, front: Expected) -> bool:
    queue = session.pipeline.queue
    if front.kind is Kind.QUERY:
        sole = front.alone and front.parts is not None and len(front.parts) == 1 and front.parts[0].plain_select
        behind = len(queue) - 1
    elif front.kind is Kind.EXECUTE and front.plan is not None:
        sole = front.plan.plain_select and front.alone and session.pipeline.only_closes_before_sync()
        behind = sum(entry.kind is not Kind.CLOSE for entry in queue) - 2
    else:
        return False
    return sole and (session.status == b"I" or behind == 0)


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
        assert front.done is not None
        front.done(not front.failed, front.rows)
        return end
    if session.swallowing:
        _drop_to_ready(session)
    front = session.pipeline.pop(Kind.SYNC, Kind.QUERY, Kind.FUNCTION_CALL)
    front = front or (None if session.pipeline.front() else session.pipeline.late_sync(session.names.group - 1))
    if front is None:
        raise WireError("the server is ready for a query that nobody sent")
    _settle(session, front, status)
    if session.swallowing:
        session.swallowing = session.blocked = False
        if status == b"T":
            frame = data[start : end - 1] + b"E"
            session.internal(FAIL_TRANSACTION, lambda _ok, _rows: _release(session, frame))
            return end
    # Not inside a transaction, where the question would take its snapshot; there it is asked when it is needed.
    if session.path is None and status == b"I" and session.pipeline.front() is None and not _client_speaks(session):
        _ask_path(session, data[start:end])
        return end
    return _relay(session, data, start, end)


def _client_speaks(session: State) -> bool:
    return bool(session.client_frames.pending or session.client_frames.passing)


def _drop_to_ready(session: State) -> None:
    while (front := session.pipeline.front()) is not None and front.kind not in (Kind.QUERY, Kind.SYNC):
        session.pipeline.queue.popleft()


def _settle(session: State, front: Expected, status: bytes) -> None:
    """Apply a transaction status to portals and search path; a failed transaction may go on after ROLLBACK TO, with its portals."""
    session.names.settle(front.group, idle=session.pipeline.front() is None)
    if status == b"I":
        session.names.end_transaction(front.group)
        if session.path_changed is not None and session.path_changed <= front.group:
            # What SET LOCAL, SET or CREATE did may have been rolled back, or not: it is read again when it is needed.
            session.path = session.path_changed = None
    session.status = status


def _release(session: State, frame: bytes) -> None:
    session.blocked = False
    session.to_client.append(frame)


def _logged_in(session: State, data: bytes, start: int, end: int) -> int:
    if session.database is None:
        session.phase = Phase.TRANSPARENT
        return _relay(session, data, start, end)
    session.phase = Phase.READY
    session.client_frames.max_message = session.max_message
    _ask_path(session, data[start:end])
    return end


def _ask_path(session: State, frame: bytes) -> None:
    """Ask for the search path before ReadyForQuery is relayed, so that the client's next message finds it known."""

    def path_read(ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        session.path_is(ok, rows)
        _release(session, frame)

    session.internal(PATH_QUERY, path_read)


def copy_in(session: State, data: bytes, start: int, end: int) -> int:
    """CopyInResponse: only for tables that nothing protected is in; COPY of the others was refused."""
    session.pipeline.copy_in_began()
    return _relay(session, data, start, end)


def key_data(session: State, data: bytes, start: int, end: int) -> int:
    """BackendKeyData: unchanged, so that any worker can forward the cancel."""
    session.backend_key = data[start + 5 : end]
    return _relay(session, data, start, end)


Handler = Callable[[State, bytes, int, int], int]
HANDLERS: dict[int, Handler] = {
    ord("R"): authentication,
    ord("v"): negotiate,
    ord("S"): parameter_status,
    ord("K"): key_data,
    ord("Z"): ready,
    ord("1"): _completes(Kind.PARSE),
    ord("2"): _completes(Kind.BIND),
    ord("3"): _completes(Kind.CLOSE),
    ord("n"): _completes(Kind.DESCRIBE),
    ord("t"): parameter_description,
    ord("T"): row_description,
    ord("D"): data_row,
    ord("C"): command_complete,
    ord("I"): command_complete,
    ord("s"): _completes(Kind.EXECUTE),
    ord("E"): error,
    ord("N"): notice,
    ord("A"): _relay,
    ord("V"): _relay,
    ord("G"): copy_in,
    ord("H"): _relay,
    ord("W"): _relay,
    ord("d"): copy_out_data,
    ord("c"): _relay,
}
