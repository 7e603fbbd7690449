"""What the handlers share: the planner's view, last words, what is taken before the login, records of compromised keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from phiproxy.crypto.envelope import envelope_parts
from phiproxy.crypto.keyring import DataKey
from phiproxy.errors import StatementRefused, WireError
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.session.audited_executions import cut_off
from phiproxy.session.phases import Phase
from phiproxy.session.pipeline import Kind
from phiproxy.session.state import MAX_BEFORE_LOGIN, State
from phiproxy.session.state_parts import Opening, SyncGroups
from phiproxy.wire.messages import decode_error_fields, message
from tests.clinic_model import CATALOG, PROTECTION
from tests.session.frames import (
    BIND_COMPLETE,
    COPY_DONE,
    COPY_OUT,
    PARSE_COMPLETE,
    SYNC,
    bind,
    column,
    command_complete,
    copy_data,
    data_row,
    execute,
    parse,
    query,
    ready,
    row_description,
)
from tests.session.screenplay import FAR, MRN, SECRET, SSN, FakeDatabase, Screenplay, envelope, full_ring, hexed


def state() -> State:
    return State(None, "clinic", max_message=1_000_000)


def test_the_view_is_what_a_plan_depends_on() -> None:
    session = state()
    session.search_path.schemas, session.catalog.created, session.text.encoding = ("a",), frozenset({"t"}), None
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
    session.take_session_settings(ok=True, rows=[b"escape", b"0", b"app", b"", b"", b"", b"pg_catalog", "é".encode()])
    assert session.search_path.schemas == ("pg_catalog", "é")
    assert (session.styles.current.bytea_output, session.styles.current.extra_float_digits) == ("escape", 0)
    session.take_session_settings(ok=True, rows=[b"hex", b"1", b"app", b"", b"", b"", b"\xff"])
    assert session.search_path.schemas is None
    session.text.encoding = None
    session.take_session_settings(ok=True, rows=[b"hex", b"1", b"app", b"", b"", b"", "é".encode()])
    assert session.search_path.schemas is None
    session.take_session_settings(ok=False, rows=[])
    assert session.search_path.schemas is None


def test_the_temporary_tables_that_hide_protected_ones_are_told_with_the_path() -> None:
    session = State(FakeDatabase(), "clinic")
    told = [b"hex", b"1", b"app", b"", b"", b"", b"pg_temp_3", b"public", b""]
    session.take_session_settings(ok=True, rows=[*told, b"scratch", b"patients"])
    assert (session.search_path.schemas, session.search_path.has_temporary) == (("pg_temp_3", "public", "", "patients"), True)
    session.take_session_settings(ok=True, rows=[b"hex", b"1", b"app", b"", b"", b"", b"pg_temp_3", b"public", b""])
    assert (session.search_path.schemas, session.search_path.has_temporary) == (("pg_temp_3", "public"), False)


def test_little_is_kept_of_a_client_that_is_not_let_in() -> None:
    session = state()
    assert session.phase is Phase.AUTHENTICATING
    session.client_frames.feed(message(b"p", bytes(MAX_BEFORE_LOGIN - 4)))
    assert session.client_frames.next() is not None
    session = state()
    session.client_frames.feed(message(b"p", bytes(MAX_BEFORE_LOGIN)))
    with pytest.raises(WireError):
        session.client_frames.next()


def test_a_group_that_ends_is_the_next_one_which_is_empty() -> None:
    session = state()
    session.groups.executes, session.groups.is_open = 2, True
    assert [session.end_group(), session.end_group()] == [0, 1]
    assert session.groups == SyncGroups(number=2)


def test_the_end_of_the_group_in_which_the_catalogue_was_read_makes_it_unknown_again() -> None:
    session = state()
    session.catalog.overlaid_in = 1
    assert (session.end_group(), session.pending.catalog) == (0, None)
    assert (session.end_group(), session.pending.catalog) == (1, 1)
    assert session.catalog.overlaid_in == -1


SELECT = "SELECT ssn, mrn FROM public.patients"
COLUMNS = (column("ssn", 17, table=100, attnum=2), column("mrn", 17, table=100, attnum=4))


def doubt(column: ProtectedColumn, value: bytes) -> Opening:
    """Return what is told of this value, by the key that its envelope names."""
    return Opening(column.label, envelope_parts(value, column.number)[0], "compromised")


SSN_VALUE, MRN_VALUE = envelope(SSN, SECRET), envelope(MRN, b"A1")
SSN_READ, MRN_READ = doubt(SSN, SSN_VALUE), doubt(MRN, MRN_VALUE)


@pytest.fixture
def database() -> FakeDatabase:
    """One whose data keys are all compromised."""
    ring = full_ring()
    database = FakeDatabase()

    def noticed(column: str, key: DataKey | None, *, masked: bool) -> Callable[[], None]:
        assert key is not None
        assert not masked
        opening = next(o for o in (SSN_READ, MRN_READ) if o.column == column)
        assert (opening.data_key, opening.doubt) == (key.id, key.state)
        return partial(database.opened.append, opening)

    for number in ring.held():
        key = ring.data_key_until(number)[0]
        ring.put_data_key(replace(key, secret=bytes(key.secret), state="compromised"), FAR)
    database.planner = Planner(PROTECTION, CATALOG, Ciphers(ring, noticed))
    return database


def test_each_execution_is_one_record_however_its_rows_arrive(database: FakeDatabase) -> None:
    play = Screenplay(database)
    play.client_says(parse(SELECT), bind(), execute(), bind(), execute(), SYNC)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, data_row(SSN_VALUE, MRN_VALUE))
    database.opened += [SSN_READ] * 9  # what a session opens that is no row: a constraint's condition
    play.server_says(data_row(SSN_VALUE, None), command_complete("SELECT 2"), BIND_COMPLETE)
    assert database.audited == []
    play.server_says(data_row(None, MRN_VALUE), command_complete("SELECT 1"))
    assert database.audited == [{SSN_READ: 2, MRN_READ: 1}]
    play.server_says(ready())
    assert database.audited == [{SSN_READ: 2, MRN_READ: 1}, {MRN_READ: 1}]


def test_each_statement_of_a_simple_query_is_one(database: FakeDatabase) -> None:
    play = Screenplay(database)
    play.client_says(query(f"{SELECT}; {SELECT}; SELECT city FROM public.patients"))
    row = data_row(hexed(SSN_VALUE), hexed(MRN_VALUE))
    play.server_says(row_description(*COLUMNS), row, row, command_complete("SELECT 2"))
    play.server_says(row_description(*COLUMNS), data_row(None, None), command_complete("SELECT 1"))
    play.server_says(row_description(column("city", 25, table=100, attnum=6)), data_row(b"Turku"), command_complete("SELECT 1"))
    play.server_says(ready())
    assert database.audited == [{SSN_READ: 2, MRN_READ: 2}]


def test_a_copy_is_one(database: FakeDatabase) -> None:
    play = Screenplay(database)
    play.client_says(query("COPY public.patients (id, ssn) TO STDOUT"))
    row = copy_data(b"1\t\\\\x" + SSN_VALUE.hex().encode() + b"\n")
    play.server_says(COPY_OUT, row, row)
    play.server_says(row, COPY_DONE, command_complete("COPY 3"), ready())
    assert database.audited == [{SSN_READ: 3}]


def test_what_was_shown_before_the_conversation_ended_is_told(database: FakeDatabase) -> None:
    play = Screenplay(database)
    play.client_says(parse(SELECT), bind(), execute(), SYNC)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, data_row(SSN_VALUE, MRN_VALUE))
    cut_off(play.session)
    cut_off(play.session)
    assert database.audited == [{SSN_READ: 1, MRN_READ: 1}]


def test_under_good_keys_there_is_none() -> None:
    play = Screenplay()
    play.client_says(query(SELECT))
    play.server_says(row_description(*COLUMNS), data_row(hexed(SSN_VALUE), None), command_complete("SELECT 1"), ready())
    assert play.database is not None
    assert play.database.audited == []
