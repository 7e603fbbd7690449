"""The state that the handlers share: the view of the planner, last words, and how much is taken before the login."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused, WireError
from phiproxy.session.phases import Phase
from phiproxy.session.pipeline import Kind
from phiproxy.session.state import MAX_BEFORE_LOGIN, State
from phiproxy.wire.messages import decode_error_fields, message
from tests.session.screenplay import FakeDatabase


def state() -> State:
    return State(None, "clinic", max_message=1_000_000)


def test_the_view_is_what_a_plan_depends_on() -> None:
    session = state()
    session.path, session.created, session.encoding = ("a",), frozenset({"t"}), None
    view = session.view()
    assert (view.path, view.database, view.created, view.utf8, view.catalog_fresh) == (
        ("a",),
        "clinic",
        frozenset({"t"}),
        False,
        False,
    )


def test_a_last_word_is_fatal_and_closes() -> None:
    session = state()
    assert session.framed
    session.fatal(StatementRefused("no", hint="yes"))
    (sent,) = session.to_client
    assert dict(decode_error_fields(sent, 5, len(sent)))[ord("S")] == b"FATAL"
    assert session.closed
    assert not session.framed


def test_the_proxys_own_messages_block_the_client_until_they_are_answered() -> None:
    session = state()
    session.internal(b"question", lambda _ok, _rows: None)
    assert session.blocked
    assert session.busy
    assert session.to_server == [b"question"]
    assert session.pipeline.queue[0].kind is Kind.INTERNAL


def test_a_path_that_cannot_be_read_is_not_known() -> None:
    session = State(FakeDatabase(), "clinic")
    session.path_is(ok=True, rows=[b"escape", b"0", b"pg_catalog", "é".encode()])
    assert session.path == ("pg_catalog", "é")
    assert (session.styles.bytea_output, session.styles.extra_float_digits) == ("escape", 0)
    session.path_is(ok=True, rows=[b"hex", b"1", b"\xff"])
    assert session.path is None
    session.encoding = None
    session.path_is(ok=True, rows=[b"hex", b"1", "é".encode()])
    assert session.path is None
    session.path_is(ok=False, rows=[])
    assert session.path is None


def test_the_temporary_tables_that_hide_protected_ones_are_told_with_the_path() -> None:
    session = State(FakeDatabase(), "clinic")
    session.path_is(ok=True, rows=[b"hex", b"1", b"pg_temp_3", b"public", b"", b"scratch", b"patients"])
    assert (session.path, session.has_temporary) == (("pg_temp_3", "public", "", "patients"), True)
    session.path_is(ok=True, rows=[b"hex", b"1", b"pg_temp_3", b"public", b""])
    assert (session.path, session.has_temporary) == (("pg_temp_3", "public"), False)


def test_little_is_kept_of_a_client_that_is_not_let_in() -> None:
    session = state()
    assert session.phase is Phase.AUTHENTICATING
    session.client_frames.feed(message(b"p", bytes(MAX_BEFORE_LOGIN - 4)))
    assert session.client_frames.next() is not None
    session = state()
    session.client_frames.feed(message(b"p", bytes(MAX_BEFORE_LOGIN)))
    with pytest.raises(WireError):
        session.client_frames.next()
