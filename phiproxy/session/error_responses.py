"""ErrorResponse and NoticeResponse: a refusal in its place, or the server's words in the client's names and positions."""

import re
from collections.abc import Sequence

from phiproxy.errors import MalformedMessage, PhiproxyError, StatementFailed, StatementRefused, WireError, state_of
from phiproxy.plan.statement_plan import map_position
from phiproxy.session import audited_executions, split_replies, split_write_messages
from phiproxy.session.authentication import before_authentication
from phiproxy.session.client_encoding import writable
from phiproxy.session.copy_data import CLIENT_REASON
from phiproxy.session.ddl_replies import counts, outside, tag_of
from phiproxy.session.error_scrub import holds_ciphertext, scrub
from phiproxy.session.phases import Phase
from phiproxy.session.pipeline import Expected, Kind
from phiproxy.session.replies import answered, is_silent
from phiproxy.session.state import State
from phiproxy.session.substitutes_and_questions import InvalidStatementName, ParameterCount
from phiproxy.types.names import sql_name
from phiproxy.wire.messages import decode_error_fields, encode_error_fields, error_response

# Fields of an error: schema, table and column.
_COLUMN = tuple(map(ord, "stc"))
# query_canceled, invalid_cursor_state, undefined_object
CANCELLED, _CURSOR_STATE, _NO_SUCH_OBJECT = "57014", "24000", "42704"
_NAME_TOO_LONG = b"42622"
_DOUBTFUL = "there is no such setting, and it is not known whether PostgreSQL would ask for it beside these other conditions"
_ASK_BEFORE = "Ask for the setting first, and give what it is as a parameter; or write current_setting(…, true)."
_CURSOR = "rows of a cursor over a query of which a part is computed over opened rows are not changed through the cursor"
_BY_KEY = "Fetch the primary key too, and change the row by that. Or let the cursor show the columns as they are."
_ABORTED = ("25P02", "current transaction is aborted, commands ignored until end of transaction block")


def error(session: State, data: bytes, start: int, end: int) -> int:
    """ErrorResponse: the refusal that was waiting for it, or the server's own in the client's positions and names."""
    if session.phase is Phase.AUTHENTICATING:
        before_authentication(session)
        session.observer.login_failed(dict(decode_error_fields(data, start + 5, end)).get(67, b"").decode("ascii", "replace"))
    silent = is_silent(session)
    front = session.pipeline.error()
    session.copy.rows, session.copy.failed = None, False
    split_write_messages.release(session)
    if session.pending.path is not None:
        session.search_path.schemas = None
    if session.computing is not None and front is not None and not (front.of_source or front.closes):
        split_replies.given_up(session)  # the server has skipped it
    fields = decode_error_fields(data, start + 5, end)
    if front is not None and front.said is not None:
        # The client's reason for the end of its COPY in the place of what the server was told.
        fields = [(code, value.replace(CLIENT_REASON, front.said)) for code, value in fields]
    state = dict(fields).get(67, b"").decode("ascii", "replace")
    session.server_said_fatal = dict(fields).get(86, dict(fields).get(83)) in (b"FATAL", b"PANIC")
    _record(session, front, state, silent=silent)
    if front is not None and front.closes and front.failed:
        answered(front)  # the client's group has failed with it
        return passes(session, data, start, end)
    if silent and not session.server_said_fatal:
        return end
    if front is None:
        return passes(session, data, start, end)
    _told(session, front, fields, state)
    return end


def _told(session: State, front: Expected, fields: list[tuple[int, bytes]], state: str) -> None:
    """Tell the client of the failure of its message: the refusal that was waiting for it, or the server's words."""
    if front.of_source:
        _source_failed(session, front, state)
    if state == _CURSOR_STATE and front.refusal is None and _names_split_cursor(session, fields):
        front.refusal, front.substitute = StatementRefused(_CURSOR, hint=_BY_KEY), state
    if type(front.refusal) is WireError and state == front.substitute:  # not of a message that is only malformed
        session.fatal(front.refusal)
    elif front.refusal is not None and state == front.substitute:
        refused = _refusal(session, front, front.refusal)
        session.to_client.append(refused if isinstance(front.refusal, StatementFailed) else session.said(refused))
    elif front.touches or front.refusal is not None or front.said is not None or (front.texts is not None and front.texts[2]):
        session.to_client.append(encode_error_fields(b"E", _shown(session, fields, front)))
    else:
        session.to_client.append(_passing(session, encode_error_fields(b"E", fields)))


def _source_failed(session: State, front: Expected, state: str) -> None:
    """Give up what the engine computes; where that has failed before, and the server was asked to stop, it is what is told.

    A setting that is not there, of which it is not known whether PostgreSQL asks for it, is a refusal.
    """
    computing = session.computing
    split_replies.given_up(session)
    if computing is not None and computing.failed is not None:
        front.refusal, front.substitute = computing.failed, CANCELLED
    elif computing is not None and computing.plan.split.doubtful and state == _NO_SUCH_OBJECT:
        front.refusal, front.substitute = StatementRefused(_DOUBTFUL, hint=_ASK_BEFORE), state


def _names_split_cursor(session: State, fields: Sequence[tuple[int, bytes]]) -> bool:
    """Tell whether an error is that of WHERE CURRENT OF a cursor over a split query, of which the server has the name only."""
    by_code = dict(fields)
    said = by_code.get(ord("M"), b"")
    cursors = (re.escape(writable(session, name)) for name, portal in session.names.portals.items() if portal.cursor is not None)
    # In quotes, which are others in other languages: "c", „c“, « c ».
    quoted = (rb'"%s"|[\x80-\xff] ?%s ?[\x80-\xff]' % (name, name) for name in cursors)
    return by_code.get(ord("R")) == b"execCurrentOf" and any(re.search(one, said) for one in quoted)


def _record(session: State, front: Expected | None, state: str, *, silent: bool) -> None:
    """Record an execution that has failed, or a login."""
    if session.trail is None:
        return
    if session.phase is Phase.AUTHENTICATING:
        session.trail.logged_in(state)
    if front is not None and front.touches and not silent:
        audited_executions.ended(session, front, state_of(front.refusal) if front.refusal is not None else state)


def passes(session: State, data: bytes, start: int, end: int) -> int:
    """Relay an error or notice of what touches nothing protected, unless a trigger or a deferred check speaks of an envelope."""
    session.to_client.append(_passing(session, data[start:end]))
    return end


def _passing(session: State, frame: bytes) -> bytes:
    if holds_ciphertext(frame):
        fields = scrub(_read(session, decode_error_fields(frame, 5, len(frame))))
        frame = encode_error_fields(frame[:1], [(code, _written(session, value)) for code, value in fields])
    return frame


def _refusal(session: State, front: Expected, refusal: PhiproxyError) -> bytes:
    if isinstance(refusal, StatementFailed):
        # The engine's own words, in the client's encoding already.
        at = [] if refusal.position is None else [(ord("P"), str(refusal.position).encode())]
        return refusal.notices + encode_error_fields(b"E", [*refusal.fields, *at])
    early = isinstance(refusal, InvalidStatementName | ParameterCount | MalformedMessage)
    if front.kind is Kind.BIND and session.status == b"E" and not early:
        # The server looks a statement up before it looks at the transaction; for a statement that exists it would say this.
        return error_response(*_ABORTED)
    return error_response(
        refusal.sqlstate,
        refusal.public_text,
        hint=refusal.hint,
        position=refusal.position,
        where=front.where,
        objects=refusal.objects,
    )


def _read(session: State, fields: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return fields in UTF-8: in some encodings a byte of a longer character looks like a bracket or a backslash."""
    return [(code, value if session.text.encoding is None else session.text.encoding.read(value)) for code, value in fields]


def _written(session: State, value: bytes) -> bytes:
    return value if session.text.encoding is None else session.text.encoding.shown(value)


def _shown(session: State, fields: Sequence[tuple[int, bytes]], front: Expected) -> list[tuple[int, bytes]]:
    shown = []
    fields = _read(session, fields)
    if tag_of(front) and front.texts is not None:
        fields = outside(fields, front.texts[0])
    for code, value in scrub(_of_domain(session, fields)):
        mapped = value
        if code == ord("P") and front.texts is not None and value.isdigit() and len(value) < 10:
            server_text, client_text, edits = front.texts
            edits = edits() if callable(edits) else edits
            position: int | None = map_position(server_text, client_text, edits, int(value))
            if position is not None and front.placing is not None:
                position = front.placing(position)
            if position is None:
                continue
            mapped = str(position).encode()
        elif code == ord("P") and front.unplaced:
            continue
        shown.append((code, _written(session, mapped)))
    return shown


def _of_domain(session: State, fields: Sequence[tuple[int, bytes]]) -> Sequence[tuple[int, bytes]]:
    """Return the violation of a column's NOT NULL as that of its domain, where only that says so to the client."""
    by_code = dict(fields)
    if session.database is None or by_code.get(ord("C")) != b"23502":
        return fields
    schema, name, of_table = (by_code.get(code, b"").decode("utf-8", "replace") for code in _COLUMN)
    table = session.planner.protection.by_name.get((schema, name))
    column = table.columns.get(of_table) if table is not None else None
    if column is None or not column.type.not_null:
        return fields
    text = f"domain {sql_name(column.type)} does not allow null values"
    own = {ord("M"): text, ord("s"): column.type.schema, ord("d"): sql_name(column.type)}
    renamed = [(code, own.pop(code, "").encode() or value) for code, value in fields if code not in _COLUMN[1:]]
    return [*renamed, *((code, value.encode()) for code, value in own.items())]


def notice(session: State, data: bytes, start: int, end: int) -> int:
    """NoticeResponse: relayed, without ciphertext where the statement touches something protected."""
    front = session.pipeline.front()
    if front is None or not front.touches:
        return passes(session, data, start, end)
    fields = decode_error_fields(data, start + 5, end)
    if not (counts(front, fields) or (front.names_told and dict(fields).get(ord("C")) == _NAME_TOO_LONG)):
        session.to_client.append(encode_error_fields(b"N", _shown(session, fields, front)))
    return end
