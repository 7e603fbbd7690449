"""What a statement does to names, and what it may not refer to."""

from __future__ import annotations

import pytest

from phiproxy.plan.named_statements import View
from phiproxy.session.state import State
from phiproxy.session.statement_effects import apply
from tests.session.frames import (
    PARSE_COMPLETE,
    SYNC,
    bind,
    command_complete,
    error,
    execute,
    parse,
    query,
    raw,
    ready,
)
from tests.session.screenplay import REFUSED_BIND, REFUSED_QUERY, SECRET, FakeDatabase, Says, Screenplay, refused_parse

SELECT = "SELECT ssn FROM public.patients"


INSERT = "INSERT INTO public.patients (id, ssn) VALUES ($1, $2)"


REFUSAL = error("42883", "function pg_catalog.phiproxy_refused() does not exist")


def prepares(play: Screenplay, text: str = SELECT, name: str = "s") -> None:
    play.client_says(parse(text, name), SYNC)
    play.session.to_server.clear()
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())


def test_sql_may_execute_and_fetch_what_is_not_protected(play: Screenplay) -> None:
    said = [query("PREPARE q AS SELECT 1; EXECUTE q"), query("BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c")]
    play.client_says(*said)
    play.server_gets(*said)


def test_the_protocol_may_bind_what_sql_prepared(play: Screenplay) -> None:
    play.client_says(query("PREPARE q AS SELECT 1"))
    play.server_gets(query("PREPARE q AS SELECT 1"))
    play.server_says(command_complete("PREPARE"), ready())
    play.client_gets(command_complete("PREPARE"), ready())
    play.client_says(bind(statement="q", results=(1,)), execute(), SYNC)
    play.server_gets(bind(statement="q", results=(1,)), execute(), SYNC)


@pytest.mark.parametrize(
    ("text", "gone"), [("DEALLOCATE s", True), ("DEALLOCATE ALL", True), ("DISCARD ALL", True), ("DEALLOCATE other", False)]
)
def test_sql_deallocates_what_the_protocol_prepared(play: Screenplay, text: str, gone: bool) -> None:
    prepares(play)
    play.client_says(query(text))
    play.server_gets(query(text))
    play.server_says(command_complete("DEALLOCATE"), ready())
    play.client_gets(command_complete("DEALLOCATE"), ready())
    play.client_says(bind(statement="s"), SYNC)
    if text == "DISCARD ALL":
        play.tells_path()
    play.server_gets(REFUSED_BIND if gone else bind(statement="s", results=(1,)), SYNC)


def test_the_unnamed_statement_survives_deallocate_all_in_the_extended_protocol(play: Screenplay) -> None:
    deallocate = [parse("DEALLOCATE ALL", "d"), bind(statement="d"), execute()]
    play.client_says(parse(SELECT), *deallocate, bind(), SYNC)
    play.server_gets(parse(SELECT), *deallocate, bind(results=(1,)), SYNC)


def test_what_a_failed_query_had_prepared_before_stays(play: Screenplay) -> None:
    play.client_says(query("PREPARE q AS SELECT 1; SELECT boom(); PREPARE r AS SELECT 1"))
    play.session.to_server.clear()
    play.server_says(command_complete("PREPARE"), error("22012"), ready())
    play.session.to_client.clear()
    play.client_says(bind(statement="q"), SYNC, bind(statement="r"), SYNC)
    play.server_gets(bind(statement="q"), SYNC, REFUSED_BIND, SYNC)


def test_the_proxys_own_names_are_not_for_clients(play: Screenplay) -> None:
    play.client_says(parse("SELECT 1", "phiproxy_refused"), SYNC, query("PREPARE phiproxy_refused AS SELECT 1"))
    play.server_gets(refused_parse("phiproxy_refused"), SYNC, REFUSED_QUERY)
    play.server_says(REFUSAL, ready(), REFUSAL, ready())
    play.client_gets(Says("0A000", "own"), ready(), Says("0A000", "own"), ready())


def test_values_are_not_bound_in_an_encoding_that_is_not_known(play: Screenplay) -> None:
    play.client_says(parse(INSERT, "s"), SYNC)
    play.server_gets(parse(INSERT, "s", oids=(0, 17)), SYNC)
    mule = raw(b"S", b"client_encoding\0MULE_INTERNAL\0")
    play.server_says(PARSE_COMPLETE, ready(), mule)
    play.client_gets(PARSE_COMPLETE, ready(), mule)
    play.client_says(bind(b"1", SECRET, statement="s"), execute(), SYNC, query(SELECT), query("SELECT 'p\xe4iv\xe4'"))
    play.server_gets(REFUSED_BIND, SYNC, REFUSED_QUERY, query("SELECT 'p\xe4iv\xe4'"))
    play.server_says(error("26000"), ready(), REFUSAL, ready(), command_complete("SELECT 1"), ready())
    play.client_gets(
        Says("0A000", "client_encoding"), ready(), Says("0A000", "client_encoding"), ready(), command_complete("SELECT 1"), ready()
    )


@pytest.mark.parametrize(
    ("text", "temporary", "read_again"),
    [
        ("DROP TABLE scratch", [], False),
        ("DROP TABLE scratch", [b"scratch"], False),
        ("CREATE INDEX ON scratch (a)", [b"scratch"], False),
        ("CREATE TABLE other (a int)", [b"scratch"], False),
        ("CREATE VIEW shown AS SELECT 1 FROM scratch", [b"scratch"], False),
        ("DROP TABLE scratch", [b"scratch", b"patients"], True),
        ("ALTER TABLE scratch RENAME TO other", [b"patients", b"scratch"], True),
        ("CREATE TEMP TABLE more (a int)", [b"scratch"], True),
        ("CREATE TABLE pg_temp_3.patients (id int)", [b"scratch"], True),
        ("DROP TABLE visits", [b"scratch"], True),
        ("TRUNCATE patients", [b"scratch"], False),
        ("SELECT 1 AS a INTO scratch", [b"scratch"], False),
    ],
)
def test_the_path_is_read_again_where_another_temporary_table_may_hide_a_protected_one(
    text: str, temporary: list[bytes], read_again: bool
) -> None:
    session = State(FakeDatabase(), "clinic")
    path = [b"pg_temp_3", b"pg_catalog", b"public", b"", *temporary]
    session.take_session_settings(ok=True, rows=[b"hex", b"1", b"app", b"", b"", b"", *path])
    plan = session.planner.statement(text.encode(), (), View(session.search_path.schemas, "clinic", catalog_fresh=True))
    apply(session, plan)
    assert (session.search_path.schemas is None) is read_again
    assert (session.pending.path is not None) is read_again
