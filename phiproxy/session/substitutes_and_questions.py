"""The proxy's own messages: what stands in for a refused one, what it asks the server itself, and refusals where it cannot ask.

A refused message is replaced by one of the same type that makes the server raise an error in its place and order (see
spec/protocol 7.1); everything up to Sync that would follow is then dropped, since the server would skip it and none of its values
may leave.
"""

from collections.abc import Callable, Sequence

from phiproxy.errors import MalformedMessage, PhiproxyError, StatementRefused, SyntaxRefused, ValueRefused, WireError
from phiproxy.session import audited_executions
from phiproxy.session.phases import ENDS_GROUP
from phiproxy.session.pipeline import Expected, Kind, Undo
from phiproxy.session.state import State
from phiproxy.wire.fields import Bind, bind_names, encode_bind
from phiproxy.wire.messages import SYNC, cstring, decode_execute, decode_parse, decode_query, encode_parse, encode_query, message

REFUSED_TEXT = b"SELECT pg_catalog.phiproxy_refused()"
SYNTAX_ERROR_TEXT = b"phiproxy_refused"
# A statement of this name never exists: a Parse that would make it is refused.
RESERVED = b"phiproxy_refused"
# No formats, then the number of arguments, which is looked at before these are read.
TOO_MANY_ARGUMENTS = b"\0\0\x7f\xff"
REFUSED_BIND = encode_bind(Bind(b"", RESERVED, (), [], ()))
OWN_NAME = b"phiproxy_path"
# The statement and portal of the write of a split statement.
WRITE_NAME = b"phiproxy_write"
# Where that is split as well, the statement of its own write.
SECOND_NAME = b"phiproxy_write_2"


def own_query(text: bytes, end: bytes = SYNC, oids: tuple[int, ...] = (), given: Bind | None = None) -> bytes:
    """Return the messages of a query of the proxy's own; in a group that is open, ``FLUSH`` is their end.

    ``given`` has its parameters, of the types ``oids``.
    """
    formats, values = (given.formats, given.values) if given is not None else ((), [])
    return b"".join(
        (
            encode_parse(OWN_NAME, text, oids),
            encode_bind(Bind(OWN_NAME, OWN_NAME, formats, values, ())),
            message(b"E", OWN_NAME + b"\0\0\0\0\0"),
            message(b"C", b"P" + OWN_NAME + b"\0"),
            message(b"C", b"S" + OWN_NAME + b"\0"),
            end,
        )
    )


FLUSH = message(b"H", b"")
# The last of the messages that stand for a simple Query.
END_OF_QUERY = message(b"C", b"P\0") + message(b"C", b"S\0") + SYNC
# The settings that no ParameterStatus tells of come first, then the current role, the end user, reason and purpose, then the
# search path, and behind an empty name, which no schema has, what is in the session's own temporary schema, where there is one
# (``State.take_session_settings``). Where the path begins with that schema, "pg_temp_" stands before them: tables are made there.
# And where it is not there yet, current_schemas would create it: then it is asked while the path is set to what is behind that, and
# set back. What is given to unnest is looked at by the planner already: so a condition in WHERE would come too late, and that call
# stands in a subquery.
_TEMPORARY = b"""([[:space:]]*([Pp][Gg]_[Tt][Ee][Mm][Pp]|"pg_temp")[[:space:]]*(,|$))"""
PATH_QUESTION = (
    b"WITH p AS MATERIALIZED (SELECT pg_catalog.current_setting('search_path') AS own)"
    b" SELECT pg_catalog.unnest(pg_catalog.array_cat(ARRAY[pg_catalog.current_setting('bytea_output'),"
    b" pg_catalog.current_setting('extra_float_digits'), current_user::pg_catalog.text,"
    b" pg_catalog.current_setting('phiproxy.end_user', true), pg_catalog.current_setting('phiproxy.reason', true),"
    b" pg_catalog.current_setting('phiproxy.purpose', true)],"
    b" CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid"
    b" OR pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.!~) '^" + _TEMPORARY + b"'"
    b" THEN pg_catalog.array_cat(CASE WHEN p.own OPERATOR(pg_catalog.~) '^" + _TEMPORARY + b"'"
    b" THEN ARRAY['pg_temp_'::pg_catalog.text] ELSE '{}'::pg_catalog.text[] END,"
    b" pg_catalog.array_cat(pg_catalog.current_schemas(true)::pg_catalog.text[],"
    b" CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN '{}'::pg_catalog.text[]"
    b" ELSE pg_catalog.array_cat(ARRAY[''::pg_catalog.text], ARRAY(SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_class c"
    b" WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())) END))"
    b" ELSE pg_catalog.array_cat(pg_catalog.array_cat(ARRAY['pg_temp_'::pg_catalog.text],"
    b" CASE WHEN pg_catalog.set_config('search_path', pg_catalog.regexp_replace(p.own, '^" + _TEMPORARY + b"+', ''), true)"
    b" IS NOT NULL THEN (SELECT pg_catalog.current_schemas(true)::pg_catalog.text[]) END),"
    b" CASE WHEN pg_catalog.set_config('search_path', p.own, true) IS NOT NULL THEN '{}'::pg_catalog.text[] END)"
    b" END)) FROM p"
)
PATH_QUERY = own_query(PATH_QUESTION)
FAIL_TRANSACTION = encode_parse(OWN_NAME, REFUSED_TEXT) + SYNC


def ask_path(session: State, done: Callable[[bool, list[bytes]], None]) -> None:
    """Ask the server for the unreported settings and the search path; ``done`` as of ``State.internal``."""
    assert session.database is not None
    path, database = session.search_path, session.database
    path.generation, path.existing, path.changes = database.generation, database.planner.schemas, session.fence.schema_changes
    ask(session, PATH_QUESTION, done)


def ask(session: State, text: bytes, done: Callable[[bool, list[bytes]], None]) -> None:
    """Ask the server something where nothing is in flight; ``done`` as of ``State.internal``.

    In a group that is open a Sync would end its transaction: there Flush brings the answer, and an error is one of the group.
    """
    session.internal(own_query(text, FLUSH if session.groups.is_open else SYNC), done, in_group=session.groups.is_open)


def waits_in_group(session: State) -> bool:
    """Tell whether the client's message waits in an open group for the replies to those before it, and see that they come."""
    if not session.groups.is_open or session.pipeline.front() is None:
        session.groups.flushed = -1
        return False
    if session.groups.flushed != session.groups.number:
        session.groups.flushed = session.groups.number
        session.to_server.append(FLUSH)
    return True


class InvalidStatementName(StatementRefused, sqlstate="26000"):
    """26000, as the server would say it of a statement that does not exist, in a failed transaction too."""


class ParameterCount(StatementRefused, sqlstate="08P01", anchor="err-protocol"):
    """08P01 for another number of parameters or of their formats; the server counts before it looks at the transaction."""


class UnsupportedFormat(StatementRefused, sqlstate="22023", anchor="err-protocol"):
    """22023 for a parameter's format code that is neither text nor binary."""


def refuse(session: State, tag: int, data: bytes, start: int, end: int, error: PhiproxyError) -> None:
    """Put the refusal of a message into its place: a substitute of the same type, whose error will carry ``error``."""
    session.count_refusal(error, _statement_of(session, tag, data, start, end))
    audited_executions.refused(session, tag, data, start, end, error)
    if isinstance(error, MalformedMessage):
        _refuse_malformed(session, tag, error)
        return
    if tag == ord("F"):
        # More arguments than any function has: 08P01, or what the server says of this function before that.
        session.to_server.append(message(b"F", data[start + 5 : start + 9] + TOO_MANY_ARGUMENTS))
        session.pipeline.push(Expected(Kind.FUNCTION_CALL, error, "08P01", group=session.end_group()))
        return
    syntax = isinstance(error, SyntaxRefused) or (tag == ord("Q") and _leaves_aborted(session, data, start, end))
    text = SYNTAX_ERROR_TEXT if syntax else REFUSED_TEXT
    expected_state = "42601" if syntax else "42883"
    if tag == ord("Q"):
        session.to_server.append(encode_query(text))
        undo = forget_unnamed(session)
        session.pipeline.push(Expected(Kind.QUERY, error, expected_state, undo=undo, group=session.end_group()))
        return
    if tag == ord("P"):
        name, _ = cstring(data, start + 5, end)
        undo = [session.names.forget_statement(b"")] if not name else []
        session.to_server.append(encode_parse(name, text))
        session.pipeline.push(Expected(Kind.PARSE, error, expected_state, undo=undo))
    elif isinstance(error, ValueRefused) and error.fails:
        session.to_server.append(error.ahead)
        session.pipeline.push(Expected(Kind.BIND, error, "22023"))
    else:
        if isinstance(error, ValueRefused) and error.ahead:
            session.to_server.append(error.ahead)
            session.pipeline.push(Expected(Kind.BIND, silent=True))
        session.to_server.append(REFUSED_BIND)
        session.pipeline.push(Expected(Kind.BIND, error, "26000"))
    session.pipeline.skipping = True


def _statement_of(session: State, tag: int, data: bytes, start: int, end: int) -> bytes | None:
    """Return the text of the client's statement that a message is about; None where it has none, or cannot be read."""
    if session.writing is not None:
        return session.writing.text
    try:
        if tag == ord("Q"):
            return decode_query(data, start + 5, end)
        if tag == ord("P"):
            return decode_parse(data, start + 5, end).query
        if tag == ord("B"):
            prepared = session.names.statements.get(bind_names(data, start + 5, end)[1])
            return prepared.plan.text if prepared is not None else None
        if tag == ord("E"):
            portal = session.names.portals.get(decode_execute(data, start + 5, end)[0])
            return portal.plan.text if portal is not None else None
    except WireError:
        pass  # which is why it is refused
    return None


def _leaves_aborted(session: State, data: bytes, start: int, end: int) -> bool:
    """Tell whether the refused Query would have been looked at in an aborted transaction too: then 25P02 must not hide the refusal.

    The server would have run its beginning, the proxy runs nothing of it: the transaction stays as it is, aborted.
    """
    text = decode_query(data, start + 5, end)
    if session.text.encoding is not None:
        text = session.text.encoding.read(text)
    return session.database is not None and session.planner.leaves_aborted(text)


def _refuse_malformed(session: State, tag: int, error: PhiproxyError) -> None:
    """Send an empty message of the same type: the server cannot read it either, and complains before it does anything."""
    session.to_server.append(message(bytes((tag,)), b""))
    ends_group = tag in ENDS_GROUP
    session.pipeline.push(Expected(_KINDS[tag], error, "08P01", group=session.end_group() if ends_group else 0))
    session.pipeline.skipping = session.pipeline.skipping or not ends_group


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


def catalog_unknown(position: int | None = None) -> StatementRefused:
    """Return what is said where the catalogue is not known, behind DDL of the same transaction."""
    return StatementRefused(
        "tables were changed in this transaction, and what they are now cannot be read at this place",
        hint="Send this statement in a pipeline of its own.",
        position=position,
    )


def styles_unknown() -> StatementRefused:
    """Return what is said where DateStyle and its kin are not known, behind a statement that may change them."""
    return StatementRefused(
        "how values are spelled is not known at this place, since a statement before it may have changed that",
        hint="Send this statement after the reply to the one before.",
    )


def path_unknown(position: int | None = None) -> StatementRefused:
    """Return what is said where the search path is not known and cannot be asked for."""
    return StatementRefused(
        "the search path is not known at this place, so an unqualified name cannot be resolved",
        hint="Qualify the table with its schema, or send this statement after the reply to the one before.",
        position=position,
    )
