"""Messages from the client: simple queries, Flush, FunctionCall; what is refused takes its place and none of it leaves."""

from __future__ import annotations

from phiproxy.session.substitutes_and_questions import TOO_MANY_ARGUMENTS
from tests.session.frames import (
    BIND_COMPLETE,
    FLUSH,
    PARSE_COMPLETE,
    SYNC,
    bind,
    column,
    command_complete,
    data_row,
    error,
    execute,
    function_call,
    parse,
    query,
    raw,
    ready,
    row_description,
)
from tests.session.screenplay import (
    REFUSED_QUERY,
    SECRET,
    SYNTAX_QUERY,
    Says,
    Screenplay,
)

SELECT = "SELECT ssn, city FROM public.patients"


INSERT = "INSERT INTO public.patients (id, ssn) VALUES ($1, $2)"


REFUSED = f"SELECT id FROM public.patients WHERE upper(ssn) = '{SECRET.decode()}'"


REFUSAL = error("42883", "function pg_catalog.phiproxy_refused() does not exist")


def test_literals_of_a_query_are_sealed(play: Screenplay) -> None:
    play.client_says(query(f"INSERT INTO public.patients (id, ssn) VALUES (1, '{SECRET.decode()}'); SELECT 1"))
    play.server_gets(query("INSERT INTO public.patients (id, ssn) VALUES (1, <sealed 078-05-1120>); SELECT 1"))
    replies = [
        command_complete("INSERT 0 1"),
        row_description(column("?column?", 23)),
        data_row(b"1"),
        command_complete("SELECT 1"),
        ready(),
    ]
    play.server_says(*replies)
    play.client_gets(*replies)
    play.is_idle()


def test_a_refused_query_takes_its_place_and_none_of_it_leaves(play: Screenplay) -> None:
    play.client_says(query("SELECT 1"), query(f"INSERT INTO log VALUES (1); {REFUSED}"), query("SELECT 2"))
    play.server_gets(query("SELECT 1"), REFUSED_QUERY, query("SELECT 2"))
    play.server_says(command_complete("SELECT 1"), ready(), REFUSAL, ready(), command_complete("SELECT 1"), ready())
    play.client_gets(
        command_complete("SELECT 1"),
        ready(),
        Says("0A000", "no blind index", position=66),
        ready(),
        command_complete("SELECT 1"),
        ready(),
    )
    play.is_idle()


def test_a_syntax_error_near_a_protected_name_is_the_servers_error_with_our_position(play: Screenplay) -> None:
    play.client_says(query(f"SELEC ssn FROM patients WHERE ssn = '{SECRET.decode()}'"))
    play.server_gets(SYNTAX_QUERY)
    play.server_says(error("42601", 'syntax error at or near "phiproxy_refused"', P="1"), ready())
    play.client_gets(Says("42601", "syntax error", position=1), ready())


def test_a_syntax_error_without_a_protected_name_is_the_servers_own(play: Screenplay) -> None:
    play.client_says(query("SELEC 1"))
    play.server_gets(query("SELEC 1"))
    play.server_says(error("42601", 'syntax error at or near "SELEC"', P="1"), ready())
    play.client_gets(error("42601", 'syntax error at or near "SELEC"', P="1"), ready())


def test_flush_is_not_sync(play: Screenplay) -> None:
    play.client_says(parse(SELECT), FLUSH)
    play.server_gets(parse(SELECT), FLUSH)
    play.server_says(PARSE_COMPLETE)
    play.client_gets(PARSE_COMPLETE)
    play.client_says(bind(), FLUSH, execute("", 1), FLUSH)
    play.server_gets(bind(results=(1, 0)), FLUSH, execute("", 1), FLUSH)
    play.server_says(BIND_COMPLETE, error("57014"))
    play.client_gets(BIND_COMPLETE, error("57014"))
    play.client_says(parse(REFUSED), bind(SECRET), FLUSH, SYNC)
    play.server_gets(FLUSH, SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    play.is_idle()


def test_large_object_functions_pass_and_other_functions_are_refused(play: Screenplay) -> None:
    play.client_says(function_call(954), function_call(2077))
    play.server_gets(function_call(954), raw(b"F", (2077).to_bytes(4, "big") + TOO_MANY_ARGUMENTS))
    result = raw(b"V", b"\0\0\0\4\0\0\0\1")
    play.server_says(result, ready(), error("08P01"), ready())
    play.client_gets(result, ready(), Says("0A000", "FunctionCall"), ready())
    play.is_idle()
