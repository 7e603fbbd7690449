"""``standard_conforming_strings``: what names nothing protected passes where it is off, the rest is refused."""

from __future__ import annotations

import pytest

from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    close,
    command_complete,
    data_row,
    error,
    execute,
    parameter_status,
    parse,
    query,
    ready,
)
from tests.session.screenplay import REFUSED_QUERY, SECRET, Says, Screenplay, refused_parse, sealed

SET = query("SET standard_conforming_strings TO off")
OFF = parameter_status("standard_conforming_strings", "off")
REFUSAL = error("42883", "function pg_catalog.phiproxy_refused() does not exist")
# Read as where the setting is on, the table's name stands in a literal.
HIDDEN = rf"SELECT 'a\', ' , ssn FROM public.patients WHERE ssn = '{SECRET.decode()}' --"
# Read so, it does not; in truth it does.
SHOWN = r"SELECT 'it\'s', ssn FROM public.patients --'"


def off(play: Screenplay) -> None:
    play.client_says(SET)
    play.server_gets(SET)
    play.server_says(command_complete("SET"), OFF, ready())
    play.client_gets(command_complete("SET"), OFF, ready())


@pytest.mark.parametrize(
    "text",
    [
        r"SELECT 'a\'b'",
        "SELECT 1",
        r"SELECT 'patients\'s ssn' FROM rooms",
        r"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT \'1\''",
    ],
)
def test_what_names_nothing_protected_passes(play: Screenplay, text: str) -> None:
    off(play)
    play.client_says(query(text))
    play.server_gets(query(text))


def test_what_names_nothing_protected_passes_in_the_extended_protocol(play: Screenplay) -> None:
    off(play)
    said = [parse(r"SELECT 'patients\'s ssn'"), bind(), execute(), SYNC]
    play.client_says(*said)
    play.server_gets(*said)


@pytest.mark.parametrize(
    "text", [HIDDEN, SHOWN, "SELECT ssn FROM public.patients", f"SELECT 1 FROM patients WHERE ssn = '{SECRET.decode()}'"]
)
def test_what_touches_something_protected_is_refused(play: Screenplay, text: str) -> None:
    off(play)
    play.client_says(query(text))
    play.server_gets(REFUSED_QUERY)
    play.server_says(REFUSAL, ready())
    play.client_gets(Says("0A000", "standard_conforming_strings"), ready())
    play.client_says(parse(text), SYNC)
    play.server_gets(refused_parse(), SYNC)


def test_a_refusal_points_into_the_client_s_text(play: Screenplay) -> None:
    off(play)
    text = r"SELECT '\'', '\'', lower(ssn) || '\'' FROM public.patients"
    play.client_says(query(text))
    play.server_gets(REFUSED_QUERY)
    play.server_says(REFUSAL, ready())
    play.client_gets(Says("0A000", "ssn", position=text.index("lower") + 1), ready())


def test_what_was_prepared_before_is_bound(play: Screenplay) -> None:
    play.client_says(parse("INSERT INTO patients (ssn) VALUES ($1)", "s"), SYNC)
    play.session.to_server.clear()
    play.server_says(PARSE_COMPLETE, ready())
    play.session.to_client.clear()
    off(play)
    play.client_says(bind(SECRET, statement="s"), execute(), SYNC)
    play.server_gets(bind(sealed(SECRET), statement="s", formats=[1]), execute(), SYNC)


def test_behind_a_change_that_is_not_answered_only_what_both_ways_are_alike_passes(play: Screenplay) -> None:
    said = [parse("SET standard_conforming_strings TO off"), bind(), execute(), parse(r"SELECT 'a\'"), bind(), execute()]
    play.client_says(*said, parse(r"SELECT 'patients\'"), bind(), execute(), SYNC)
    play.server_gets(*said, refused_parse(), SYNC)
    done = [PARSE_COMPLETE, BIND_COMPLETE, command_complete("SET"), PARSE_COMPLETE, BIND_COMPLETE, command_complete("SELECT 1")]
    play.server_says(*done, REFUSAL, OFF, ready())
    play.client_gets(*done, Says("0A000", "standard_conforming_strings"), OFF, ready())


def test_a_message_waits_for_the_answer_to_a_change(play: Screenplay) -> None:
    play.client_says(SET, query(SHOWN))
    play.server_gets(SET)
    play.server_says(command_complete("SET"), OFF, ready())
    play.client_gets(command_complete("SET"), OFF, ready())
    play.server_gets(REFUSED_QUERY)


def test_on_again_everything_is_read(play: Screenplay) -> None:
    off(play)
    play.client_says(query("SET standard_conforming_strings TO on"))
    play.session.to_server.clear()
    play.server_says(command_complete("SET"), parameter_status("standard_conforming_strings", "on"), ready())
    play.session.to_client.clear()
    play.client_says(query("SELECT ssn FROM public.patients"))
    play.server_gets(query("SELECT ssn FROM public.patients"))


def test_what_is_prepared_again_is_what_it_was(play: Screenplay) -> None:
    """A statement that is closed behind a result that is broken off, after the setting has changed."""
    text = r"SELECT ssn, 'a\b' FROM public.patients"
    play.client_says(parse(text, "s"), SYNC)
    play.server_gets(parse(text, "s"), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    off(play)
    play.client_says(bind(statement="s"), execute(), close("s"), SYNC)
    play.session.to_server.clear()
    play.server_says(BIND_COMPLETE, data_row(b"\xf5\x50", b"a"), command_complete("SELECT 1"), CLOSE_COMPLETE, ready())
    play.server_gets(parse(r"SELECT ssn, E'a\\b' FROM public.patients", "s"), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(BIND_COMPLETE, Says("XX001"), ready())
