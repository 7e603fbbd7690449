"""The proxy's own messages: what stands in for a refused one, and what it asks the server itself.

A refused message is replaced by one of the same type that makes the server raise an error in its place and order (protocol.md,
"Extended query"); everything up to Sync that would follow is then dropped, since the server would skip it and none of its values
may leave.
"""

from __future__ import annotations

from phiproxy.errors import PhiproxyError, StatementRefused, SyntaxRefused
from phiproxy.session.pipeline import Expected, Kind, Undo
from phiproxy.session.state import State
from phiproxy.wire.fields import Bind, encode_bind
from phiproxy.wire.messages import SYNC, cstring, encode_parse, encode_query, message

REFUSED_TEXT = b"SELECT pg_catalog.phiproxy_refused()"
SYNTAX_ERROR_TEXT = b"phiproxy_refused"
# A statement of this name never exists: a Parse that would make it is refused.
RESERVED = b"phiproxy_refused"
REFUSED_BIND = encode_bind(Bind(b"", RESERVED, (), [], ()))
OWN_NAME = b"phiproxy_path"
PATH_QUERY = b"".join(
    (
        encode_parse(OWN_NAME, b"SELECT pg_catalog.unnest(pg_catalog.current_schemas(true))"),
        encode_bind(Bind(OWN_NAME, OWN_NAME, (), [], ())),
        message(b"E", OWN_NAME + b"\0\0\0\0\0"),
        message(b"C", b"P" + OWN_NAME + b"\0"),
        message(b"C", b"S" + OWN_NAME + b"\0"),
        SYNC,
    )
)
FAIL_TRANSACTION = encode_parse(OWN_NAME, REFUSED_TEXT) + SYNC


class InvalidStatementName(StatementRefused):
    """26000, as the server would say it of a statement that does not exist, in a failed transaction too."""

    sqlstate = "26000"


class BindViolation(StatementRefused):
    """08P01 as an ordinary error, as the server raises it for a Bind that does not fit its statement's columns."""

    sqlstate = "08P01"


class ParameterCount(BindViolation):
    """08P01 for another number of parameters, which the server counts before it looks at the transaction."""


def refuse(session: State, tag: int, data: bytes, start: int, end: int, error: PhiproxyError) -> None:
    """Put the refusal of a message into its place: a substitute of the same type, whose error will carry ``error``."""
    session.counters.refused += 1
    syntax = isinstance(error, SyntaxRefused)
    text = SYNTAX_ERROR_TEXT if syntax else REFUSED_TEXT
    expected_state = "42601" if syntax else "42883"
    if tag in b"QF":
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


def forget_unnamed(session: State) -> list[Undo]:
    """Drop the unnamed statement and portal, as a simple Query does."""
    return [session.names.forget_statement(b""), session.names.forget_portal(b"")]


def end_group(session: State) -> int:
    """Begin the next Sync group and return the number of the one that ends: what a ReadyForQuery will answer is sent."""
    session.names.group += 1
    session.group_executes = 0
    return session.names.group - 1
