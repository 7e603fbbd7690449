"""The proxy's own messages: what stands in for a refused one, and what it asks the server itself.

A refused message is replaced by one of the same type that makes the server raise an error in its place and order (protocol.md,
"Extended query"); everything up to Sync that would follow is then dropped, since the server would skip it and none of its values
may leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phiproxy.errors import MalformedMessage, PhiproxyError, StatementRefused, SyntaxRefused
from phiproxy.session.phases import ENDS_GROUP
from phiproxy.session.pipeline import Expected, Kind, Undo
from phiproxy.session.state import State
from phiproxy.wire.fields import Bind, encode_bind
from phiproxy.wire.messages import SYNC, cstring, decode_query, encode_parse, encode_query, message

REFUSED_TEXT = b"SELECT pg_catalog.phiproxy_refused()"
SYNTAX_ERROR_TEXT = b"phiproxy_refused"
# A statement of this name never exists: a Parse that would make it is refused.
RESERVED = b"phiproxy_refused"
# No formats, then the number of arguments, which is looked at before these are read.
TOO_MANY_ARGUMENTS = b"\0\0\x7f\xff"
REFUSED_BIND = encode_bind(Bind(b"", RESERVED, (), [], ()))
OWN_NAME = b"phiproxy_path"


def own_query(text: bytes, end: bytes = SYNC) -> bytes:
    """Return the messages of a query of the proxy's own; in a group that is open, ``FLUSH`` is their end."""
    return b"".join(
        (
            encode_parse(OWN_NAME, text),
            encode_bind(Bind(OWN_NAME, OWN_NAME, (), [], ())),
            message(b"E", OWN_NAME + b"\0\0\0\0\0"),
            message(b"C", b"P" + OWN_NAME + b"\0"),
            message(b"C", b"S" + OWN_NAME + b"\0"),
            end,
        )
    )


FLUSH = message(b"H", b"")
# The settings that no ParameterStatus tells of come first, then the search path, and behind an empty name, which no schema has,
# what is in the session's own temporary schema, where there is one (``State.path_is``). Where the path begins with that schema
# and it is not there yet, current_schemas would make it: then nothing is answered, and the path is not known. A condition in
# WHERE would come too late, since the planner looks at what is given to unnest.
PATH_QUESTION = (
    b"SELECT pg_catalog.unnest(CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid"
    b""" OR pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.!~*) '^[[:space:]]*"?pg_temp"?[[:space:]]*(,|$)'"""
    b" THEN pg_catalog.array_cat(ARRAY[pg_catalog.current_setting('bytea_output'),"
    b" pg_catalog.current_setting('extra_float_digits')], pg_catalog.array_cat(pg_catalog.current_schemas(true)::pg_catalog.text[],"
    b" CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN '{}'::pg_catalog.text[]"
    b" ELSE pg_catalog.array_cat(ARRAY[''::pg_catalog.text], ARRAY(SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_class c"
    b" WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())) END)) END)"
)
PATH_QUERY = own_query(PATH_QUESTION)
FAIL_TRANSACTION = encode_parse(OWN_NAME, REFUSED_TEXT) + SYNC


def ask_path(session: State, done: Callable[[bool, list[bytes]], None]) -> None:
    """Ask the server for the unreported settings and the search path; ``done`` as of ``State.internal``."""
    assert session.database is not None
    session.path_generation, session.path_schemas = session.database.generation, session.database.planner.schemas
    ask(session, PATH_QUESTION, done)


def ask(session: State, text: bytes, done: Callable[[bool, list[bytes]], None]) -> None:
    """Ask the server something where nothing is in flight; ``done`` as of ``State.internal``.

    In a group that is open a Sync would end its transaction: there Flush brings the answer, and an error is one of the group.
    """
    session.internal(own_query(text, FLUSH if session.group_open else SYNC), done, in_group=session.group_open)


def waits_in_group(session: State) -> bool:
    """Tell whether the client's message waits in an open group for the replies to those before it, and see that they come."""
    if not session.group_open or session.pipeline.front() is None:
        session.flushed = -1
        return False
    if session.flushed != session.names.group:
        session.flushed = session.names.group
        session.to_server.append(FLUSH)
    return True


class InvalidStatementName(StatementRefused):
    """26000, as the server would say it of a statement that does not exist, in a failed transaction too."""

    sqlstate = "26000"


class ParameterCount(StatementRefused):
    """08P01 for another number of parameters or of their formats; the server counts before it looks at the transaction."""

    sqlstate = "08P01"
    anchor = "err-protocol"


class UnsupportedFormat(StatementRefused):
    """22023 for a parameter's format code that is neither text nor binary."""

    sqlstate = "22023"
    anchor = "err-protocol"


def refuse(session: State, tag: int, data: bytes, start: int, end: int, error: PhiproxyError) -> None:
    """Put the refusal of a message into its place: a substitute of the same type, whose error will carry ``error``."""
    session.counters.refused += 1
    if isinstance(error, MalformedMessage):
        _refuse_malformed(session, tag, error)
        return
    if tag == ord("F"):
        _refuse_call(session, data[start + 5 : start + 9], error)
        return
    syntax = isinstance(error, SyntaxRefused) or (tag == ord("Q") and _leaves_aborted(session, data, start, end))
    text = SYNTAX_ERROR_TEXT if syntax else REFUSED_TEXT
    expected_state = "42601" if syntax else "42883"
    if tag == ord("Q"):
        session.to_server.append(encode_query(text))
        undo = forget_unnamed(session)
        session.pipeline.push(Expected(Kind.QUERY, error, expected_state, undo=undo, group=end_group(session)))
        return
    if tag == ord("P"):
        name, _ = cstring(data, start + 5, end)
        undo = [session.names.forget_statement(b"")] if not name else []
        session.to_server.append(encode_parse(name, text))
        session.pipeline.push(Expected(Kind.PARSE, error, expected_state, undo=undo))
    else:
        session.to_server.append(REFUSED_BIND)
        session.pipeline.push(Expected(Kind.BIND, error, "26000"))
    session.pipeline.skipping = True


def _leaves_aborted(session: State, data: bytes, start: int, end: int) -> bool:
    """Tell whether the refused Query would have been looked at in an aborted transaction too: then 25P02 must not hide the refusal.

    The server would have run its beginning, the proxy runs nothing of it: the transaction stays as it is, aborted.
    """
    text = decode_query(data, start + 5, end)
    if session.encoding is not None:
        text = session.encoding.read(text)
    return session.database is not None and session.planner.leaves_aborted(text)


def _refuse_malformed(session: State, tag: int, error: PhiproxyError) -> None:
    """Send an empty message of the same type: the server cannot read it either, and complains before it does anything."""
    session.to_server.append(message(bytes((tag,)), b""))
    ends_group = tag in ENDS_GROUP
    session.pipeline.push(Expected(_KINDS[tag], error, "08P01", group=end_group(session) if ends_group else 0))
    session.pipeline.skipping = session.pipeline.skipping or not ends_group


def _refuse_call(session: State, function: bytes, error: PhiproxyError) -> None:
    """Send a FunctionCall of more arguments than any function has: 08P01, or what the server says of this function before that."""
    session.to_server.append(message(b"F", function + TOO_MANY_ARGUMENTS))
    session.pipeline.push(Expected(Kind.FUNCTION_CALL, error, "08P01", group=end_group(session)))


_KINDS = {
    ord("P"): Kind.PARSE, ord("B"): Kind.BIND, ord("D"): Kind.DESCRIBE, ord("E"): Kind.EXECUTE, ord("C"): Kind.CLOSE,
    ord("Q"): Kind.QUERY, ord("F"): Kind.FUNCTION_CALL,
}  # fmt: skip


def forget_unnamed(session: State) -> list[Undo]:
    """Drop the unnamed statement and portal, as a simple Query does."""
    return [session.names.forget_statement(b""), session.names.forget_portal(b"")]


def forget_both(session: State) -> Sequence[Undo]:
    """Drop both where there is one, or may be again; else there is nothing to take back."""
    names = session.names
    return forget_unnamed(session) if names.changed or b"" in names.statements or b"" in names.portals else ()


def end_group(session: State) -> int:
    """Begin the next Sync group and return the number of the one that ends: what a ReadyForQuery will answer is sent."""
    if session.overlaid == session.names.group:
        session.changed, session.overlaid = session.names.group, -1  # it ends the transaction that the catalogue was read in
    session.names.group += 1
    session.group_executes = 0
    return session.names.group - 1
