"""Errors and notices: each in its place, without ciphertext, in the client's positions."""

from __future__ import annotations

import pytest

from tests.session.frames import (
    PARSE_COMPLETE,
    SYNC,
    bind,
    command_complete,
    error,
    execute,
    notice,
    parse,
    query,
    ready,
)
from tests.session.screenplay import REFUSED_BIND, SECRET, SSN, SYNTAX_QUERY, Says, Screenplay, envelope, hexed, refused_parse


def test_notices_and_errors_of_a_protected_statement_hold_no_envelope(play: Screenplay) -> None:
    text = "INSERT INTO public.patients (ssn) VALUES ('x')"
    play.client_says(query(text))
    play.server_gets(query("INSERT INTO public.patients (ssn) VALUES (<sealed x>)"))
    stored = hexed(envelope(SSN, SECRET)).decode()
    where = "COPY patients, line 1, column ssn: "
    failing = error("23502", "null value", D=f"Failing row contains (1, {stored}).", W=where + stored)
    play.server_says(notice(f"saw {stored}"), failing, ready())
    play.client_gets(notice("saw (protected)"), error("23502", "null value", W=where + "(protected)"), ready())


def test_errors_of_an_unprotected_statement_pass_byte_for_byte(play: Screenplay) -> None:
    said = error("23505", D="Key (hash)=(\\x00112233445566778899aabbccddeeff) already exists.", P="8", q="SELECT \u00e4")
    play.client_says(query("INSERT INTO log VALUES (1)"))
    play.server_gets(query("INSERT INTO log VALUES (1)"))
    play.server_says(said, ready())
    play.client_gets(said, ready())


@pytest.mark.parametrize("said", [query("COMMIT"), SYNC])
def test_a_deferred_trigger_that_tells_of_an_envelope_is_searched_too(play: Screenplay, said: bytes) -> None:
    play.client_says(said)
    play.server_gets(said)
    stored = hexed(envelope(SSN, SECRET)).decode()
    play.server_says(notice(f"saw {stored}"), error("P0001", f"no {stored}", D=f"Failing row contains ({stored})"), ready())
    play.client_gets(notice("saw (protected)"), error("P0001", "no (protected)"), ready())
    play.server_says(notice(f"idle {stored}"))
    play.client_gets(notice("idle (protected)"))


def test_positions_are_mapped_back_to_the_clients_text(play: Screenplay) -> None:
    before, behind = "SELECT '\u00e4', id FROM patients WHERE ssn = 'x' AND ", "1 / 0 = 1"
    play.client_says(query(before + behind))
    got = play.session.to_server[0][5:-1].decode()
    play.session.to_server.clear()
    assert got.endswith(behind)
    play.server_says(error("22012", P=str(len(got) - len(behind) + 1)), ready())
    play.client_gets(error("22012", P=str(len(before) + 1)), ready())


def test_positions_are_mapped_where_a_name_was_only_qualified(play: Screenplay) -> None:
    play.session.search_path.schemas = ("pg_catalog", "archive")
    play.client_says(parse("SELECT city FROM patients WHERE nope = 1"), SYNC)
    play.server_gets(parse('SELECT city FROM "archive".patients WHERE nope = 1'), SYNC)
    play.server_says(error("42703", "no column nope", P="43"), ready())
    play.client_gets(error("42703", "no column nope", P="33"), ready())


def test_an_error_in_place_of_the_expected_one_is_the_servers(play: Screenplay) -> None:
    """A cancel or a shutdown may come while a refusal is awaited; it must not be dressed up as the refusal."""
    play.client_says(parse("SELECT upper(ssn) FROM public.patients"), SYNC)
    play.server_gets(refused_parse(), SYNC)
    play.server_says(error("57014", "canceling statement"), ready())
    play.client_gets(error("57014", "canceling statement"), ready())


@pytest.mark.parametrize("refused", ["SELECT upper(ssn) FROM public.patients", "SELEC ssn FROM patients"])
def test_refusals_in_an_aborted_transaction(play: Screenplay, refused: str) -> None:
    """The parser complains about syntax in any state; everything else is 25P02 until the transaction ends."""
    play.client_says(query("BEGIN"), query("SELECT boom()"), parse(refused), SYNC, parse("ROLLBACK"), bind(), execute(), SYNC)
    play.session.to_server.clear()
    play.server_says(command_complete("BEGIN"), ready("T"), error("22012"), ready("E"))
    play.client_gets(command_complete("BEGIN"), ready("T"), error("22012"), ready("E"))
    syntax = refused.startswith("SELEC ")
    play.server_says(error("42601" if syntax else "25P02", P="1"), ready("E"))
    play.client_gets(Says("42601", "phiproxy: syntax", position=1) if syntax else error("25P02", P="1"), ready("E"))


def test_binds_in_an_aborted_transaction(play: Screenplay) -> None:
    """For a refused value, as for any Bind, it is 25P02; an unknown statement and a miscount are seen before."""
    text = "INSERT INTO public.patients (mrn) VALUES ($1)"
    play.client_says(parse(text, "s"), SYNC, query("BEGIN"), query("SELECT boom()"))
    play.session.to_server.clear()
    play.server_says(PARSE_COMPLETE, ready(), command_complete("BEGIN"), ready("T"), error("22012"), ready("E"))
    play.session.to_client.clear()
    play.client_says(bind(b"much too long to fit", statement="s"), SYNC, bind(statement="t"), SYNC, bind(statement="s"), SYNC)
    play.server_gets(REFUSED_BIND, SYNC, REFUSED_BIND, SYNC, REFUSED_BIND, SYNC)
    play.server_says(*[error("26000"), ready("E")] * 3)
    play.client_gets(Says("25P02"), ready("E"), Says("26000"), ready("E"), Says("08P01"), ready("E"))


def test_an_error_while_idle_passes(play: Screenplay) -> None:
    shutdown = error("57P01", "terminating connection", severity="FATAL")
    play.server_says(shutdown)
    play.client_gets(shutdown)
    assert play.session.server_said_fatal


@pytest.mark.parametrize("leaves", ["ROLLBACK", "COMMIT", "/* so */ rollback to a"])
def test_a_refused_string_that_begins_by_leaving_an_aborted_transaction_says_why_it_did_not(play: Screenplay, leaves: str) -> None:
    """PostgreSQL would leave the transaction and then fail; nothing of a refused string runs, so it stays, and is not 25P02."""
    play.client_says(query("BEGIN"), query("SELECT boom()"), query(f"{leaves}; SELECT upper(ssn) FROM public.patients"))
    play.server_gets(query("BEGIN"), query("SELECT boom()"), SYNTAX_QUERY)
    play.server_says(command_complete("BEGIN"), ready("T"), error("22012"), ready("E"), error("42601"), ready("E"))
    play.client_gets(
        command_complete("BEGIN"), ready("T"), error("22012"), ready("E"), Says("0A000", "protected and cannot be used"), ready("E")
    )
