"""What stands in for a refused message: one of the same type, without a byte of the original but its name."""

from __future__ import annotations

import pytest

from phiproxy.errors import MalformedMessage, PhiproxyError, StatementRefused, SyntaxRefused
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.session.pipeline import Kind
from phiproxy.session.state import State
from phiproxy.session.statements_and_portals import Prepared
from phiproxy.session.substitutes_and_questions import (
    REFUSED_BIND,
    RESERVED,
    TOO_MANY_ARGUMENTS,
    catalog_unknown,
    forget_unnamed,
    path_unknown,
    refuse,
    styles_unknown,
)
from phiproxy.wire.messages import decode_parse, decode_query, encode_parse, encode_query, message

SECRET = b"123-45-6789"
NO = StatementRefused("no")


def refused(frame: bytes, error: PhiproxyError = NO) -> State:
    session = State(None, "clinic")
    refuse(session, frame[0], frame, 0, len(frame), error)
    assert SECRET not in b"".join(session.to_server)
    assert session.counters.refused == 1
    return session


@pytest.mark.parametrize(
    ("error", "text", "state"),
    [(NO, b"SELECT pg_catalog.phiproxy_refused()", "42883"), (SyntaxRefused("no"), b"phiproxy_refused", "42601")],
)
def test_query_and_parse_keep_their_type_and_name(error: StatementRefused, text: bytes, state: str) -> None:
    session = refused(encode_query(b"SELECT '" + SECRET + b"'"), error)
    (sent,) = session.to_server
    assert decode_query(sent, 5, len(sent)) == text
    assert not session.pipeline.skipping
    assert session.pipeline.queue[0].substitute == state
    session = refused(encode_parse(b"s1", b"SELECT '" + SECRET + b"'", (25,)), error)
    (sent,) = session.to_server
    assert decode_parse(sent, 5, len(sent)) == (b"s1", text, ())
    assert session.pipeline.skipping
    assert session.pipeline.queue[0].kind is Kind.PARSE


def test_a_refused_bind_describe_or_execute_is_a_bind_to_a_name_that_nobody_can_own() -> None:
    for tag in b"BDE":
        session = refused(message(bytes((tag,)), b"p\0s\0" + SECRET))
        assert session.to_server == [REFUSED_BIND]
        assert session.pipeline.queue[0].substitute == "26000"
        assert session.pipeline.skipping
    assert RESERVED in REFUSED_BIND


def test_a_function_call_becomes_one_of_too_many_arguments() -> None:
    session = refused(message(b"F", b"\0\0\0\7" + SECRET))
    assert session.to_server == [message(b"F", b"\0\0\0\7" + TOO_MANY_ARGUMENTS)]
    assert session.pipeline.queue[0].substitute == "08P01"
    assert session.pipeline.queue[0].kind is Kind.FUNCTION_CALL
    assert not session.pipeline.skipping
    assert session.groups.number == 1


@pytest.mark.parametrize("tag", [b"P", b"B", b"D", b"E", b"C", b"Q"])
def test_what_cannot_be_read_becomes_an_empty_message_of_its_type(tag: bytes) -> None:
    session = refused(message(tag, SECRET), MalformedMessage("no"))
    assert session.to_server == [message(tag, b"")]
    assert session.pipeline.skipping is (tag != b"Q")
    (expected,) = session.pipeline.queue
    assert expected.substitute == "08P01"
    assert not expected.undo


def test_a_query_drops_the_unnamed_statement_and_it_can_be_taken_back() -> None:
    session = State(None, "clinic")
    session.names.prepare(b"", Prepared(StatementPlan(b"", b"", identity=True), (), (1, None)))
    undo = forget_unnamed(session)
    assert b"" not in session.names.statements
    for change in undo:
        change.apply()
    assert b"" in session.names.statements


@pytest.mark.parametrize("refusal", [catalog_unknown(7), path_unknown(7), styles_unknown()])
def test_each_refusal_has_a_hint_and_the_position_that_it_is_given(refusal: StatementRefused) -> None:
    assert refusal.sqlstate == "0A000"
    assert refusal.hint is not None
    assert refusal.hint.startswith(("Send", "Qualify"))
    assert refusal.position in (7, None)
