"""What a statement does to names, and what it may not refer to."""

from __future__ import annotations

import pytest

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
from tests.session.screenplay import REFUSED_BIND, REFUSED_QUERY, SECRET, Says, Screenplay, refused_parse

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
    if text == "DISCARD ALL":
        play.tells_path()
    play.client_gets(command_complete("DEALLOCATE"), ready())
    play.client_says(bind(statement="s"), SYNC)
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
