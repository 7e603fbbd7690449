"""ErrorResponse and NoticeResponse: a refusal in its place, or the server's words in the client's names and positions."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import MalformedMessage, PhiproxyError, WireError
from phiproxy.plan.statement import map_position
from phiproxy.session.authentication import before_authentication
from phiproxy.session.copying import CLIENT_REASON
from phiproxy.session.definitions import counts, outside, tag_of
from phiproxy.session.phases import Phase
from phiproxy.session.pipeline import Expected, Kind
from phiproxy.session.replies import answered, is_silent
from phiproxy.session.scrub import holds_ciphertext, scrub
from phiproxy.session.state import State
from phiproxy.session.substitutes import InvalidStatementName, ParameterCount
from phiproxy.types.names import sql_name
from phiproxy.wire.messages import decode_error_fields, encode_error_fields, error_response

# Fields of an error: schema, table and column.
_COLUMN = tuple(map(ord, "stc"))
_ABORTED = ("25P02", "current transaction is aborted, commands ignored until end of transaction block")


def error(session: State, data: bytes, start: int, end: int) -> int:
    """ErrorResponse: the refusal that was waiting for it, or the server's own in the client's positions and names."""
    if session.phase is Phase.AUTHENTICATING:
        before_authentication(session)
    silent = is_silent(session)
    front = session.pipeline.error()
    session.copying, session.copy_failed = None, False
    if session.path_changed is not None:
        session.path = None
    fields = decode_error_fields(data, start + 5, end)
    if front is not None and front.said is not None:
        fields = _in_own_words(fields, front.said)
    state = dict(fields).get(67, b"").decode("ascii", "replace")
    session.server_said_fatal = dict(fields).get(86, dict(fields).get(83)) in (b"FATAL", b"PANIC")
    if front is not None and front.closes and front.failed:
        answered(front)  # the client's group has failed with it
        return passes(session, data, start, end)
    if silent and not session.server_said_fatal:
        return end
    if front is None:
        return passes(session, data, start, end)
    if type(front.refusal) is WireError and state == front.substitute:  # not of a message that is only malformed
        session.fatal(front.refusal)
    elif front.refusal is not None and state == front.substitute:
        session.to_client.append(session.said(_refusal(session, front, front.refusal)))
    elif front.touches or front.refusal is not None or front.said is not None or (front.texts is not None and front.texts[2]):
        session.to_client.append(encode_error_fields(b"E", _shown(session, fields, front)))
    else:
        return passes(session, data, start, end)
    return end


def _in_own_words(fields: Sequence[tuple[int, bytes]], said: bytes) -> list[tuple[int, bytes]]:
    """Return the fields with the client's reason for the end of its COPY in the place of what the server was told."""
    return [(code, value.replace(CLIENT_REASON, said)) for code, value in fields]


def passes(session: State, data: bytes, start: int, end: int) -> int:
    """Relay an error or notice of what touches nothing protected, unless a trigger or a deferred check speaks of an envelope."""
    frame = data[start:end]
    if holds_ciphertext(frame):
        fields = scrub(_read(session, decode_error_fields(frame, 5, len(frame))))
        frame = encode_error_fields(frame[:1], [(code, _written(session, value)) for code, value in fields])
    session.to_client.append(frame)
    return end


def _refusal(session: State, front: Expected, refusal: PhiproxyError) -> bytes:
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
    return [(code, value if session.encoding is None else session.encoding.read(value)) for code, value in fields]


def _written(session: State, value: bytes) -> bytes:
    return value if session.encoding is None else session.encoding.shown(value)


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
            mapped = str(map_position(server_text, client_text, edits, int(value))).encode()
        shown.append((code, _written(session, mapped)))
    return shown


def _of_domain(session: State, fields: Sequence[tuple[int, bytes]]) -> Sequence[tuple[int, bytes]]:
    """Return the violation of a column's NOT NULL as that of its domain, where only that says so to the client."""
    found = dict(fields)
    if session.database is None or found.get(ord("C")) != b"23502":
        return fields
    schema, name, of_table = (found.get(code, b"").decode("utf-8", "replace") for code in _COLUMN)
    table = session.planner.protection.by_name.get((schema, name))
    column = table.columns.get(of_table) if table is not None else None
    if column is None or not column.type.not_null:
        return fields
    text = f"domain {sql_name(column.type)} does not allow null values"
    own = {ord("M"): text, ord("s"): column.type.schema, ord("d"): sql_name(column.type)}
    kept = [(code, own.pop(code, "").encode() or value) for code, value in fields if code not in _COLUMN[1:]]
    return [*kept, *((code, value.encode()) for code, value in own.items())]


def notice(session: State, data: bytes, start: int, end: int) -> int:
    """NoticeResponse: relayed, without ciphertext where the statement touches something protected."""
    front = session.pipeline.front()
    if front is None or not front.touches:
        return passes(session, data, start, end)
    fields = decode_error_fields(data, start + 5, end)
    if not counts(front, fields):
        session.to_client.append(encode_error_fields(b"N", _shown(session, fields, front)))
    return end
