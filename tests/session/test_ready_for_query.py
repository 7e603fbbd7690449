"""ReadyForQuery: one for each Sync or simple query, whatever failed before it."""

from __future__ import annotations

from tests.session.frames import (
    BIND_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    error,
    execute,
    parse,
    query,
    ready,
)
from tests.session.screenplay import REFUSED_BIND, Screenplay


def test_a_fatal_of_the_server_is_heard_while_the_path_is_asked_for(play: Screenplay) -> None:
    play.session.search_path.schemas = None
    play.client_says(query("SELECT ssn FROM patients"))
    play.session.to_server.clear()
    play.server_says(error("57P01", severity="FATAL"))
    play.client_gets(error("57P01", severity="FATAL"))


def test_a_pipeline_that_fails_on_the_server_gets_one_error_and_one_ready_for_query(play: Screenplay) -> None:
    said = [parse("SELECT boom()"), bind(), execute(), parse("SELECT 1", "later"), bind(statement="later"), execute(), SYNC]
    play.client_says(*said)
    play.server_gets(*said)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, error("22012"), ready())
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, error("22012"), ready())
    play.is_idle()
    play.client_says(bind(statement="later"), SYNC)
    play.server_gets(REFUSED_BIND, SYNC)


def test_a_query_that_the_server_skips_is_not_waited_for(play: Screenplay) -> None:
    said = [parse("SELECT boom()"), bind(), execute(), query("SELECT 1"), SYNC]
    play.client_says(*said)
    play.server_gets(*said)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, error("22012"), ready())
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, error("22012"), ready())
    play.is_idle()
