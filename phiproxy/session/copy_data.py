"""COPY data on its way through a conversation: sealed towards the server, opened towards the client.

A COPY that must end is ended by CopyFail with a constant text, which the server logs; its 57014 then becomes the real error
(spec/protocol 9). What the client sends behind that is dropped, as the server would drop it.
"""

from collections.abc import Iterator
from copy import copy

from phiproxy.errors import NotAuthentic, PhiproxyError, SealError, ValueRefused, WireError
from phiproxy.long_values import LONG_VALUE
from phiproxy.plan.copy_sealing import CopyFailure, CopyIn, CopyOut
from phiproxy.plan.statement_plan import ScriptPart, StatementPlan
from phiproxy.session import audited_executions, slow_work, split_write_messages
from phiproxy.session.phases import WHILE_COPYING_IN
from phiproxy.session.pipeline import Expected, Kind, Later
from phiproxy.session.replies import is_silent, relay
from phiproxy.session.results import result_error
from phiproxy.session.state import State, copy_outdated
from phiproxy.wire.copy_rows import CopyDataError
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.framing import HEADER
from phiproxy.wire.messages import copy_in_description, cstring, message

COPY_FAIL = message(b"f", b"phiproxy: a row cannot be stored\0")
OUTDATED = message(b"f", b"phiproxy: the policy was changed\0")
# In place of the client's own words, which may hold a value: psycopg's are those of the exception that was raised.
CLIENT_REASON = b"phiproxy: ended by the client"
CLIENT_FAIL = message(b"f", CLIENT_REASON + b"\0")
NO_END = message(b"f", b"phiproxy: the data has no end\0")
QUERY_CANCELED = "57014"
_DONE = message(b"c", b"")


def copying(front: Expected | None) -> StatementPlan | ScriptPart | None:
    """Return the statement whose COPY over protected columns the server works on now, or None."""
    statement: StatementPlan | ScriptPart | None = None
    if front is not None and front.kind is Kind.QUERY:
        statement = front.parts[front.part] if front.parts is not None and front.part < len(front.parts) else None
    elif front is not None and front.kind is Kind.EXECUTE:
        statement = front.plan
    return statement if statement is not None and statement.copy is not None else None


def _begin_in(session: State) -> None:
    """CopyInResponse: what the client sends now is read by the plan of the statement that asks for it."""
    front = session.pipeline.front()
    statement = copying(front)
    if front is None or statement is None or statement.copy is None:
        session.copy.rows = None
        return
    assert session.database is not None
    ciphers, encoding = session.database.planner.ciphers, session.text.encoding or UTF8
    session.copy.rows = CopyIn(statement.copy, ciphers, session.max_message, encoding, front.styles, front.copied)


def _await_answer(session: State) -> None:
    """Keep data that the client sends before it was asked for, when it may be for a protected table, or is of another policy."""
    pipeline = session.pipeline
    if session.copy.outdated_group >= 0 and not pipeline.copy_in and pipeline.may_copy():
        raise Later
    if pipeline.copy_in or not pipeline.may_copy():
        return
    for entry in reversed(pipeline.queue):
        if entry.kind in (Kind.EXECUTE, Kind.QUERY):
            plans = [p.copy for p in entry.parts or ()] if entry.kind is Kind.QUERY else [entry.plan and entry.plan.copy]
            if any(plans):
                raise Later
            return


def copy_data(session: State, data: bytes, start: int, end: int) -> None:
    """CopyData of the client; dropped where the server would ignore it."""
    if _has_ended(session):
        return
    rows = session.copy.rows
    if rows is not None:
        if not session.copy.failed:
            _feed(session, rows, slow_work.copied_in(session, rows, data, start + 5, end))
        return
    _await_answer(session)
    if session.pipeline.may_copy():
        session.to_server.append(data[start:end])


def copy_end(session: State, data: bytes, start: int, end: int) -> None:
    """CopyDone or CopyFail of the client; the reason that it gives is for itself only."""
    pipeline = session.pipeline
    if _has_ended(session):
        pipeline.copy_in = False
        return
    if session.copy.rows is None:
        _await_answer(session)
        if pipeline.may_copy():
            session.to_server.append(_end(session, data, start, end))
            if not pipeline.copy_in:
                pipeline.push(Expected(Kind.COPY_END))
            pipeline.copy_in = False
        return
    if not session.copy.failed:
        if data[start] == _DONE[0]:
            rows = session.copy.rows
            _feed(session, rows, slow_work.copy_ended(session, rows))
        if not session.copy.failed:
            session.to_server.append(_end(session, data, start, end))
    pipeline.copy_in = False
    split_write_messages.data_ends(session, end)


def _end(session: State, data: bytes, start: int, end: int) -> bytes:
    """Return what the server gets of CopyDone or CopyFail; what is awaited of the COPY remembers why the client ended it."""
    if data[start] == _DONE[0]:
        return data[start:end]
    queue = session.pipeline.queue
    copies = (i for i, entry in enumerate(queue) if entry.kind in (Kind.EXECUTE, Kind.QUERY))
    at = next(copies, None) if session.pipeline.copy_in else max(copies, default=None)
    if at is not None:
        queue[at] = failed = copy(queue[at])  # it may be one object for many messages (``fast_path``), of other sessions too
        failed.said = cstring(data, start + HEADER, end)[0]
    return CLIENT_FAIL


def _has_ended(session: State) -> bool:
    """Tell whether the rest of the data is dropped, as the COPY began under another policy; the first time it is ended."""
    if not session.pipeline.copy_in or not session.copy.outdated:
        return False
    if not session.copy.failed:
        front = session.pipeline.front()
        assert front is not None
        session.pipeline.queue[0] = failed = copy(front)
        outdated = copy_outdated()
        failed.refusal, failed.substitute = outdated, QUERY_CANCELED
        session.copy.failed = True
        session.count_refusal(outdated, _statement(front))
        session.to_server.append(OUTDATED)
    return True


def _feed(session: State, copying: CopyIn, made: Iterator[list[bytes]]) -> None:
    """Send on what becomes of data, or of its end; KeyNeeded and WorkNeeded leave the message to be taken again."""
    try:
        for messages in made:
            session.to_server += messages
    except CopyFailure as failure:
        session.to_server += [message(b"d", block) for block in copying.given()]
        _fail(session, failure)
    front = session.pipeline.front()
    if front is not None:
        audited_executions.copied(session, front, copying.taken_subjects())


def _fail(session: State, failure: CopyFailure) -> None:
    front = session.pipeline.front()
    assert front is not None
    session.copy.failed = True
    session.count_refusal(failure.error, _statement(front))
    front.refusal, front.substitute, front.where = failure.error, QUERY_CANCELED, failure.context
    session.to_server.append(COPY_FAIL)


def _statement(front: Expected) -> bytes | None:
    """Return the text of the COPY that is under way, as the client spells it."""
    return front.texts[1] if front.texts is not None else None


def check_allowed(session: State, tag: int) -> None:
    """Let a message that is neither data nor its end wait (Later) for the server's answer to the COPY before it.

    Where the server has refused that already it ignores this CopyFail, and takes the message as any other. Else it would close the
    connection, and so does the proxy.
    """
    if not session.pipeline.copy_in or tag in WHILE_COPYING_IN:
        return
    front = session.pipeline.front()
    assert front is not None
    if front.refusal is None:
        # What is awaited may be one object for many messages (``fast_path``), of other sessions too.
        session.pipeline.queue[0] = refused = copy(front)
        refused.refusal = WireError("the client sent a message during COPY that is neither data nor its end")
        refused.substitute = QUERY_CANCELED
        session.to_server.append(NO_END)
    raise Later


def fail(session: State, tag: int, error: PhiproxyError) -> bool:
    """End the COPY when the keys for a message of its data do not come; False when the message is no such."""
    if session.copy.rows is None or session.copy.failed or tag not in b"dc":
        return False
    session.to_server += [message(b"d", block) for block in session.copy.rows.given()]
    _fail(session, session.copy.rows.fails_with(error))
    if tag == _DONE[0]:
        session.pipeline.copy_in = False
    return True


def copy_in_response(session: State, data: bytes, start: int, end: int) -> int:
    """CopyInResponse: of the columns the client is told of its own, and not of those that the proxy adds."""
    session.copy.outdated = session.front_is_outdated
    session.pipeline.copy_in_began()
    _begin_in(session)
    split_write_messages.data_begins(session)
    rows = session.copy.rows
    told = copy_in_description(data[start + 5], rows.columns) if rows is not None and rows.adds else data[start:end]
    session.to_client.append(told)
    return end


def copy_out_response(session: State, data: bytes, start: int, end: int) -> int:
    """CopyOutResponse, and CopyDone of the server: relayed, unless the result was broken off."""
    if not is_silent(session):
        relay(session, data, start, end)
    return end


def copy_out_data(session: State, data: bytes, start: int, end: int) -> int:
    """CopyData of the server: opened by the plan, or a run sent on as one slice; KeyNeeded and WorkNeeded leave it where it is."""
    if is_silent(session):
        return end
    if session.front_is_outdated:
        result_error(session, copy_outdated())
        return end
    front = session.pipeline.front()
    statement = copying(front)
    if front is None or statement is None or statement.copy is None:
        return relay(session, data, start, session.server_frames.run_end(ord("d")))
    assert session.database is not None
    if front.copy_out is None:
        ciphers, encoding = session.database.planner.ciphers, session.text.encoding or UTF8
        front.copy_out = CopyOut(statement.copy, ciphers, session.max_message, encoding, front.styles)
    session.database.opened.clear()
    try:
        payload = slow_work.copied_out(session, front.copy_out, data, start + 5, end)
    except (SealError, NotAuthentic, CopyDataError, ValueRefused) as error:
        audited_executions.opened(session, front)
        result_error(session, error)
        return end
    audited_executions.opened(session, front)
    if len(payload) > LONG_VALUE:  # not copied once more
        session.to_client += (b"d" + (len(payload) + 4).to_bytes(4, "big"), payload)
    elif payload:
        session.to_client.append(message(b"d", payload))
    return end
