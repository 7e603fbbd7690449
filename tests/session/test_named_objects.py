"""Statements and cursors by name: SQL and the protocol share them, and what a name meant when it was planned is what runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.session.needs import NeedCatalog
from tests.clinic_model import CATALOG, PROTECTION
from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    FLUSH,
    PARSE_COMPLETE,
    SYNC,
    bind,
    close,
    column,
    command_complete,
    data_row,
    describe,
    error,
    execute,
    parse,
    query,
    ready,
    row_description,
)
from tests.session.screenplay import (
    CIPHERS,
    FULL_NAME,
    REFUSED_BIND,
    REFUSED_QUERY,
    SECRET,
    SSN,
    FakeDatabase,
    Says,
    Screenplay,
    envelope,
    hexed,
    refused_parse,
    sealed,
    tag,
)

SELECT = "SELECT ssn FROM public.patients"
INSERT = "INSERT INTO public.patients (id, ssn, full_name) VALUES ($1, $2, 'Ann')"
SERVER_INSERT = "INSERT INTO public.patients (id, ssn, full_name) VALUES ($1, $2, $3)"
STORED = f"EXECUTE s(1, '{SECRET.decode()}')"
STORED_SERVER = f"EXECUTE s(1, {sealed(SECRET).decode()}, {sealed(b'Ann').decode()})"
SHOWN = row_description(column("ssn", 25, table=100, attnum=2))
PHYSICAL = row_description(column("ssn", 17, table=100, attnum=2))
TEXT_ROW = data_row(hexed(envelope(SSN, SECRET)))


def says(play: Screenplay, text: str, server: str | None = None) -> None:
    play.client_says(query(text))
    play.server_gets(query(server or text))


def prepared(play: Screenplay, text: str, server: str) -> None:
    says(play, text, server)
    play.server_says(command_complete("PREPARE"), ready())
    play.client_gets(command_complete("PREPARE"), ready())


@pytest.mark.parametrize(
    ("types", "server_types"),
    [("", " (unknown, bytea, bytea)"), ("(int)", "(int, bytea, bytea)"), (" (int, text)", " (int, bytea, bytea)")],
)
def test_prepare_and_execute(play: Screenplay, types: str, server_types: str) -> None:
    prepared(play, f"PREPARE s{types} AS {INSERT}", f"PREPARE s{server_types} AS {SERVER_INSERT}")
    says(play, STORED, STORED_SERVER)
    play.server_says(command_complete("INSERT 0 1"), ready())
    play.client_gets(command_complete("INSERT 0 1"), ready())
    play.client_says(bind(b"1", SECRET, statement="s"), execute(), SYNC)
    play.server_gets(bind(b"1", sealed(SECRET), sealed(b"Ann"), statement="s", formats=(0, 1, 1)), execute(), SYNC)


def test_execute_of_what_the_protocol_prepared(play: Screenplay) -> None:
    play.client_says(parse(INSERT, "s"), SYNC)
    play.server_gets(parse(SERVER_INSERT, "s", oids=(0, 17, 17)), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    says(play, STORED, STORED_SERVER)
    says(play, "EXECUTE s(2, NULL)", f"EXECUTE s(2, NULL::bytea, {sealed(b'Ann').decode()})")
    says(play, f"EXPLAIN {STORED}", f"EXPLAIN {STORED_SERVER}")


def test_only_literals_become_arguments(play: Screenplay) -> None:
    text = f"UPDATE public.patients SET ssn = '{SECRET.decode()}', full_name = 'Ann'"
    prepared(play, f"PREPARE s AS {text}", "PREPARE s (bytea, bytea) AS UPDATE public.patients SET ssn = $1, full_name = $2")
    says(play, "EXECUTE s", f"EXECUTE s({sealed(SECRET).decode()}, {sealed(b'Ann').decode()})")


def test_rows_of_execute_are_opened(play: Screenplay) -> None:
    prepared(play, f"PREPARE s AS {SELECT}", f"PREPARE s AS {SELECT}")
    says(play, "SELECT 1; EXECUTE s")
    one = row_description(column("?column?", 23))
    play.server_says(one, data_row(b"1"), command_complete("SELECT 1"), PHYSICAL, TEXT_ROW, command_complete("SELECT 1"), ready())
    play.client_gets(
        one, data_row(b"1"), command_complete("SELECT 1"), SHOWN, data_row(SECRET), command_complete("SELECT 1"), ready()
    )


def test_prepare_execute_and_deallocate_in_one_string(play: Screenplay) -> None:
    tagged = f"'{hexed(tag(SSN, SECRET)).decode()}'::bytea"
    says(
        play,
        f"PREPARE s AS {SELECT} WHERE ssn = $1; EXECUTE s('{SECRET.decode()}'); DEALLOCATE s",
        f"PREPARE s (bytea) AS {SELECT} WHERE pg_catalog.substring(ssn, 13, 16) = $1; EXECUTE s({tagged}); DEALLOCATE s",
    )
    play.server_says(command_complete("PREPARE"), PHYSICAL, TEXT_ROW, command_complete("SELECT 1"))
    play.client_gets(command_complete("PREPARE"), SHOWN, data_row(SECRET), command_complete("SELECT 1"))


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("EXECUTE s(1, current_user::text)", "0A000"),
        ("EXECUTE s(1, reverse('b'))", "0A000"),
        ("EXECUTE s(1)", "42601"),
        ("EXECUTE s(1, 'x', 'y')", "42601"),
        ("CREATE TABLE t AS EXECUTE s(1, 'x')", "0A000"),
        ("EXECUTE s(read_ssn(1), 'x')", "0A000"),
    ],
)
def test_refused(play: Screenplay, text: str, sqlstate: str) -> None:
    prepared(play, f"PREPARE s AS {INSERT}", f"PREPARE s (unknown, bytea, bytea) AS {SERVER_INSERT}")
    play.client_says(query(text))
    play.server_gets(REFUSED_QUERY)
    assert play.session.pipeline.queue[-1].refusal is not None
    assert play.session.pipeline.queue[-1].refusal.sqlstate == sqlstate


def test_a_position_is_in_the_clients_whole_text(play: Screenplay) -> None:
    text = "PREPARE é AS SELECT ssn || 'x' FROM public.patients"
    play.client_says(query(text))
    play.server_gets(REFUSED_QUERY)
    refusal = play.session.pipeline.queue[-1].refusal
    assert refusal is not None
    assert refusal.position is not None
    assert text[refusal.position - 1 :].startswith(("ssn", "||"))


def test_a_name_that_changed_between_parse_and_execute(play: Screenplay) -> None:
    prepared(play, f"PREPARE s AS {SELECT} WHERE full_name = $1", f"PREPARE s (bytea) AS {SELECT} WHERE {tagged('full_name')} = $1")
    play.client_says(parse("EXECUTE s('Ann')", "e"), SYNC)
    play.session.to_server.clear()
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    play.client_says(bind(statement="e"), close("s"), parse(f"{SELECT} WHERE ssn = $1", "s"), execute(), SYNC)
    play.server_gets(
        bind(statement="e", results=(1,)),
        close("s"),
        parse(f"{SELECT} WHERE {tagged('ssn')} = $1", "s", oids=(17,)),
        REFUSED_BIND,
        SYNC,
    )


def tagged(name: str) -> str:
    return f"pg_catalog.substring({name}, 13, 16)"


def test_a_stored_literal_is_executed_once(play: Screenplay) -> None:
    prepared(play, f"PREPARE s AS {INSERT}", f"PREPARE s (unknown, bytea, bytea) AS {SERVER_INSERT}")
    play.client_says(parse(STORED, "e"), bind(statement="e"), execute(), bind(statement="e"), execute(), SYNC)
    sent = b"".join(play.session.to_server)
    play.session.to_server = []
    assert SECRET not in sent
    assert sent.endswith(bind(statement="e") + execute() + REFUSED_BIND + SYNC)


UNSEALED = Planner(
    type(PROTECTION)(2, "clinic", "clinic-test", "phiproxy", tuple(t for t in PROTECTION.tables if t.name != "patients")),
    CATALOG,
    CIPHERS,
)
PREPARED = f"PREPARE s AS {SELECT} WHERE ssn = $1"
PREPARED_SERVER = f"PREPARE s (bytea) AS {SELECT} WHERE {tagged('ssn')} = $1"
ANEW = (close("s"), parse(f"{SELECT} WHERE ssn = $1", "s"), SYNC)


def opened(database: FakeDatabase | None = None) -> Screenplay:
    """A session that has prepared a statement, whose column is in clear then."""
    database = database or FakeDatabase()
    play = Screenplay(database)
    prepared(play, PREPARED, PREPARED_SERVER)
    database.planner = UNSEALED
    database.generation += 1
    return play


def test_a_plan_that_means_the_same_is_executed() -> None:
    database = FakeDatabase()
    play = Screenplay(database)
    prepared(play, PREPARED, PREPARED_SERVER)
    database.planner = Planner(PROTECTION, CATALOG, CIPHERS)
    database.generation += 1
    says(play, "EXECUTE s(NULL)", "EXECUTE s(NULL::bytea)")


def test_a_plan_that_is_no_longer_right_is_prepared_anew() -> None:
    """Once, of which the client sees nothing; the message waits meanwhile."""
    play = opened()
    play.client_says(query("EXECUTE s('x')"), query("EXECUTE s('y')"))
    play.server_gets(*ANEW)
    play.server_says(CLOSE_COMPLETE, PARSE_COMPLETE, ready())
    play.client_gets()
    play.server_gets(query("EXECUTE s('x')"), query("EXECUTE s('y')"))


def test_it_waits_for_what_is_under_way() -> None:
    play = opened()
    play.client_says(query("SELECT 1"), query("EXECUTE s('x')"))
    play.server_gets(query("SELECT 1"))
    play.server_says(command_complete("SELECT 1"), ready())
    play.server_gets(*ANEW)


def test_in_a_group_that_is_open_it_is_a_part_of_that() -> None:
    play = opened()
    play.client_says(parse("SELECT 1"), parse("EXECUTE s('x')", "e"))
    play.server_gets(parse("SELECT 1"), FLUSH)
    play.server_says(PARSE_COMPLETE)
    play.server_gets(*ANEW[:2], close("phiproxy_path", "P"), FLUSH)
    play.server_says(CLOSE_COMPLETE, PARSE_COMPLETE, CLOSE_COMPLETE)
    play.client_gets(PARSE_COMPLETE)
    play.server_gets(parse("EXECUTE s('x')", "e"))


def test_what_the_server_does_not_prepare_now_is_tried_again_when_something_has_changed() -> None:
    database = FakeDatabase()
    play = opened(database)
    for _ in range(2):
        play.client_says(query("EXECUTE s('x')"))
        play.server_gets(*ANEW)
        play.server_says(CLOSE_COMPLETE, error("42P01"), ready())
        for again in (False, True):
            if again:
                play.client_says(query("EXECUTE s('x')"))
            play.server_gets(REFUSED_QUERY)
            play.server_says(error("42883"), ready())
            play.client_gets(Says("0A000"), ready())
        database.generation += 1
    database.planner = Planner(PROTECTION, CATALOG, CIPHERS)  # the same again as when it was prepared
    play.client_says(query("EXECUTE s(NULL)"))
    play.server_gets(close("s"), parse(f"{SELECT} WHERE {tagged('ssn')} = $1", "s", (17,)), SYNC)
    play.server_says(CLOSE_COMPLETE, PARSE_COMPLETE, ready())
    play.server_gets(query("EXECUTE s(NULL::bytea)"))


def test_in_a_failed_transaction_nothing_is_prepared() -> None:
    play = opened()
    play.client_says(query("BEGIN; SELECT 1 / 0"))
    play.server_gets(query("BEGIN; SELECT 1 / 0"))
    play.server_says(command_complete("BEGIN"), error("22012"), ready("E"))
    play.client_says(query("EXECUTE s('x')"))
    play.server_gets(REFUSED_QUERY)


# -- cursors -------------------------------------------------------------------------------------------------------------------

DECLARE = f"DECLARE c CURSOR FOR {SELECT}"


def declared(play: Screenplay, text: str = DECLARE) -> None:
    for one, status in (("BEGIN", "T"), (text, "T")):
        says(play, one)
        play.server_says(command_complete(one.split()[0]), ready(status))
        play.client_gets(command_complete(one.split()[0]), ready(status))


def test_fetch_by_sql(play: Screenplay) -> None:
    declared(play)
    says(play, "FETCH BACKWARD 2 FROM c; MOVE c; CLOSE c")
    play.server_says(PHYSICAL, TEXT_ROW, command_complete("FETCH 1"), command_complete("MOVE 1"), command_complete("CLOSE CURSOR"))
    play.client_gets(
        SHOWN, data_row(SECRET), command_complete("FETCH 1"), command_complete("MOVE 1"), command_complete("CLOSE CURSOR")
    )


def test_fetch_from_a_binary_cursor(play: Screenplay) -> None:
    declared(play, f"DECLARE c BINARY CURSOR FOR {SELECT}")
    says(play, "FETCH c")
    described = [row_description(column("ssn", oid, table=100, attnum=2, code=1)) for oid in (17, 25)]
    play.server_says(described[0], data_row(envelope(SSN, SECRET)), command_complete("FETCH 1"), ready("T"))
    play.client_gets(described[1], data_row(SECRET), command_complete("FETCH 1"), ready("T"))


def test_fetch_by_the_extended_protocol(play: Screenplay) -> None:
    declared(play)
    play.client_says(parse("FETCH 1 FROM c"), bind(results=(0,)), describe(), execute(), SYNC)
    play.server_gets(parse("FETCH 1 FROM c"), bind(results=(1,)), describe(), execute(), SYNC)
    described = row_description(column("ssn", 17, table=100, attnum=2, code=1))
    play.server_says(
        PARSE_COMPLETE, BIND_COMPLETE, described, data_row(envelope(SSN, SECRET)), command_complete("FETCH 1"), ready("T")
    )
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, SHOWN, data_row(SECRET), command_complete("FETCH 1"), ready("T"))


@pytest.mark.parametrize("binary", [False, True])
def test_execute_of_a_cursor(play: Screenplay, binary: bool) -> None:
    declared(play, f"DECLARE c {'BINARY ' if binary else ''}CURSOR FOR {SELECT}")
    play.client_says(describe("c"), execute("c", 1), SYNC)
    play.server_gets(describe("c"), execute("c", 1), SYNC)
    described = [row_description(column("ssn", oid, table=100, attnum=2, code=int(binary))) for oid in (17, 25)]
    row = data_row(envelope(SSN, SECRET) if binary else hexed(envelope(SSN, SECRET)))
    play.server_says(described[0], row, command_complete("FETCH 1"), ready("T"))
    play.client_gets(described[1], data_row(SECRET), command_complete("FETCH 1"), ready("T"))


def test_fetch_from_a_portal_of_the_protocol(play: Screenplay) -> None:
    play.client_says(query("BEGIN"), parse(SELECT), bind(portal="c", results=(1,)), SYNC)
    play.session.to_server.clear()
    play.server_says(command_complete("BEGIN"), ready("T"), PARSE_COMPLETE, BIND_COMPLETE, ready("T"))
    play.session.to_client.clear()
    says(play, "FETCH c")
    play.server_says(PHYSICAL, TEXT_ROW, command_complete("FETCH 1"), ready("T"))
    play.client_gets(SHOWN, data_row(SECRET), command_complete("FETCH 1"), ready("T"))


def test_only_with_hold_outlives_its_transaction(play: Screenplay) -> None:
    declared(play)
    says(play, f"DECLARE h CURSOR WITH HOLD FOR {SELECT}; COMMIT")
    play.server_says(command_complete("DECLARE CURSOR"), command_complete("COMMIT"), ready())
    play.client_gets(command_complete("DECLARE CURSOR"), command_complete("COMMIT"), ready())
    assert set(play.session.names.portals) == {b"h"}
    says(play, "FETCH h")
    play.server_says(PHYSICAL, TEXT_ROW, command_complete("FETCH 1"), ready())
    play.client_gets(SHOWN, data_row(SECRET), command_complete("FETCH 1"), ready())
    says(play, "CLOSE ALL")
    assert not play.session.names.portals


def test_a_cursor_that_could_not_be_declared_leaves_the_one_before(play: Screenplay) -> None:
    declared(play)
    says(play, "DECLARE c CURSOR FOR SELECT 1")
    assert play.session.names.portals[b"c"].plan.columns is None
    play.server_says(error("42P03"), ready("E"))
    play.client_gets(Says("42P03"), ready("E"))
    assert play.session.names.portals[b"c"].plan.columns is not None


def test_a_parameter_of_a_cursor(play: Screenplay) -> None:
    text = f"DECLARE c CURSOR FOR {SELECT} WHERE ssn = $1 AND full_name = 'Ann'"
    server = f"DECLARE c CURSOR FOR {SELECT} WHERE {tagged('ssn')} = $1 AND {tagged('full_name')} = $2"
    play.client_says(parse(text), bind(SECRET), execute(), SYNC)
    values = (tag(SSN, SECRET), tag(FULL_NAME, b"Ann"))
    play.server_gets(parse(server, oids=(17, 17)), bind(*values, formats=(1, 1)), execute(), SYNC)


def test_unsettled_names_wait_for_the_server(play: Screenplay) -> None:
    play.client_says(parse(INSERT, "s"), SYNC, query(STORED))
    play.server_gets(parse(SERVER_INSERT, "s", oids=(0, 17, 17)), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    play.server_gets(query(STORED_SERVER))
    play.client_says(close("s"), SYNC)
    play.server_gets(close("s"), SYNC)
    play.server_says(command_complete("INSERT 0 1"), ready(), CLOSE_COMPLETE, ready())
    play.client_gets(command_complete("INSERT 0 1"), ready(), CLOSE_COMPLETE, ready())


def test_a_refused_prepare_in_the_extended_protocol(play: Screenplay) -> None:
    play.client_says(parse("PREPARE s AS SELECT upper(ssn) FROM public.patients"), SYNC)
    play.server_gets(refused_parse(), SYNC)


def test_a_statement_that_names_what_has_just_been_replaced_is_looked_at_again(play: Screenplay) -> None:
    text = "SELECT msg FROM log"
    play.client_says(parse(text, "s"), SYNC)
    play.session.to_server.clear()
    play.server_says(PARSE_COMPLETE, ready())
    play.session.to_client.clear()
    assert isinstance(play.session.database, FakeDatabase)
    play.session.database.unread_names.add("log")
    play.client_says(bind(statement="s"), execute(), SYNC)
    assert play.need == NeedCatalog(changed=True)
    play.server_gets()
    play.session.database.unread_names.clear()
    play.resumes()
    play.server_gets(bind(statement="s"), execute(), SYNC)
    play.server_says(BIND_COMPLETE, command_complete("SELECT 0"), ready())
    play.session.to_client.clear()


# -- columns that are sealed, or opened, while statements are prepared ---------------------------------------------------------

SEARCH = "SELECT id, ssn FROM public.patients WHERE ssn = $1"
PLAIN = Planner(replace(PROTECTION, tables=()), CATALOG, CIPHERS)


@pytest.mark.parametrize("name", ["s", ""])
def test_a_statement_goes_on_when_its_column_is_sealed(play: Screenplay, name: str) -> None:
    """The proxy prepares it anew, under the same name, and the client is told nothing of that."""
    database = play.session.database
    assert isinstance(database, FakeDatabase)
    sealing, database.planner = database.planner, PLAIN
    play.client_says(parse(SEARCH, name), SYNC)
    play.server_gets(parse(SEARCH, name), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    database.planner = sealing
    database.generation += 1
    play.client_says(bind(SECRET, statement=name), execute(), SYNC)
    anew = parse(sealing.statement(SEARCH.encode(), (), View(None, "clinic")).sql.decode(), name, (17,))
    bound = bind(tag(SSN, SECRET), statement=name, formats=(1,), results=(0, 1))
    play.server_gets(*([close(name)] if name else []), anew, bound, execute(), SYNC)
    play.server_says(
        *([CLOSE_COMPLETE] if name else []), PARSE_COMPLETE, BIND_COMPLETE, data_row(b"1", envelope(SSN, SECRET)),
        command_complete("SELECT 1"), ready(),
    )  # fmt: skip
    play.client_gets(BIND_COMPLETE, data_row(b"1", SECRET), command_complete("SELECT 1"), ready())


def test_one_that_the_server_cannot_prepare_anew_fails_as_a_bind_does(play: Screenplay) -> None:
    database = play.session.database
    assert isinstance(database, FakeDatabase)
    sealing, database.planner = database.planner, PLAIN
    play.client_says(parse(SEARCH, "s"), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    database.planner = sealing
    database.generation += 1
    play.session.to_server.clear()
    play.session.to_client.clear()
    play.client_says(bind(SECRET, statement="s"), execute(), SYNC)
    play.server_says(CLOSE_COMPLETE, error("42P01"), ready())
    play.client_gets(Says("42P01"), ready())
    play.session.to_server.clear()
    play.client_says(bind(SECRET, statement="s"), execute(), SYNC)
    assert b"".join(play.session.to_server).startswith(close("s") + b"P"), "it is tried again"
    play.session.to_server.clear()
