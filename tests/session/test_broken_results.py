"""A value that does not open, in the middle of a result: what the server has already done decides how the client learns of it."""

from __future__ import annotations

import pytest

from phiproxy.errors import DataKeyWant, ProviderUnavailable
from phiproxy.session.substitutes_and_questions import FAIL_TRANSACTION
from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    Frame,
    bind,
    close,
    column,
    command_complete,
    data_row,
    error,
    execute,
    notice,
    parse,
    query,
    ready,
    row_description,
    split,
)
from tests.session.screenplay import SECRET, SSN, Says, Screenplay, envelope, hexed, tag

SELECT = "SELECT ssn, city FROM public.patients"
COUNT = "SELECT city FROM public.patients"
SENT = [parse(SELECT), bind(results=(1, 0)), execute()]
SAID = [parse(SELECT), bind(), execute()]
BROKEN = data_row(b"\xf5\x50\x01\x01\x00 not an envelope", b"Turku")
GOOD = data_row(envelope(SSN, SECRET), b"Turku")
SHOWN = data_row(SECRET, b"Turku")
PREPARED = [PARSE_COMPLETE, BIND_COMPLETE]
BEGUN = [command_complete("BEGIN"), ready("T")]
REST = [GOOD, BROKEN, command_complete("SELECT 3")]
FATAL = Says("XX001", "what was committed before stays committed", severity="FATAL")


def begins(play: Screenplay) -> None:
    play.client_says(query("BEGIN"))
    play.server_gets(query("BEGIN"))
    play.server_says(*BEGUN)
    play.client_gets(*BEGUN)


def test_a_lone_select_is_broken_off_with_one_error(play: Screenplay) -> None:
    play.client_says(*SAID, SYNC)
    play.server_gets(*SENT, SYNC)
    play.server_says(*PREPARED, GOOD, BROKEN, *REST)
    play.client_gets(*PREPARED, SHOWN, Says("XX001"))
    play.server_says(ready())
    play.client_gets(ready())
    play.is_idle()


def test_a_lone_simple_select_is_broken_off_with_one_error(play: Screenplay) -> None:
    play.client_says(query(SELECT))
    play.server_gets(query(SELECT))
    described = column("ssn", 17, table=100, attnum=2), column("city", 25, table=100, attnum=6)
    rows = data_row(hexed(envelope(SSN, SECRET)), None), data_row(b"\\xzz", None), data_row(b"\\xf550", None)
    play.server_says(row_description(*described), *rows, notice("passes"), command_complete("SELECT 3"), ready())
    shown = column("ssn", 25, table=100, attnum=2), described[1]
    play.client_gets(row_description(*shown), data_row(SECRET, None), Says("XX001"), notice("passes"), ready())
    play.is_idle()


def test_an_error_of_the_server_behind_it_is_not_a_second_one(play: Screenplay) -> None:
    play.client_says(*SAID, SYNC)
    play.server_gets(*SENT, SYNC)
    play.server_says(*PREPARED, BROKEN, GOOD, error("57014"), ready())
    play.client_gets(*PREPARED, Says("XX001"), ready())
    play.is_idle()


def test_in_a_transaction_the_server_is_made_to_fail_it_before_anything_else_runs(play: Screenplay) -> None:
    begins(play)
    play.client_says(*SAID, SYNC)
    play.server_gets(*SENT, SYNC)
    play.server_says(*PREPARED, BROKEN)
    play.client_gets(*PREPARED, Says("XX001"))
    play.client_says(query("COMMIT"))
    play.server_gets()
    play.server_says(*REST, ready("T"))
    play.server_gets(*split(FAIL_TRANSACTION))
    play.client_gets()
    play.server_says(error("42883", "function pg_catalog.phiproxy_refused() does not exist"), ready("E"))
    play.client_gets(ready("E"))
    play.server_gets(query("COMMIT"))
    play.server_says(command_complete("ROLLBACK"), ready())
    play.client_gets(command_complete("ROLLBACK"), ready())
    play.is_idle()


def test_in_a_transaction_a_simple_select_fails_it_too(play: Screenplay) -> None:
    begins(play)
    play.client_says(query(SELECT))
    play.server_gets(query(SELECT))
    play.server_says(data_row(b"\\xf550", None), command_complete("SELECT 1"), ready("T"))
    play.server_gets(*split(FAIL_TRANSACTION))
    play.client_gets(Says("XX001"))
    play.server_says(error("42883"), ready("E"))
    play.client_gets(ready("E"))
    play.is_idle()


@pytest.mark.parametrize("closes", [close("nothing", "S"), close("", "P")])
def test_a_close_behind_it_is_not_answered(play: Screenplay, closes: Frame) -> None:
    play.client_says(*SAID, closes, SYNC)
    play.server_gets(*SENT, closes, SYNC)
    play.server_says(*PREPARED, BROKEN, command_complete("SELECT 1"), CLOSE_COMPLETE, ready())
    play.client_gets(*PREPARED, Says("XX001"), ready())
    play.is_idle()


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_statement_closed_behind_it_is_prepared_again(in_transaction: bool) -> None:
    """After an error of the server's the Close would have been skipped."""
    status, failed = ("T", "E") if in_transaction else ("I", "I")
    search = "SELECT ssn, city FROM public.patients WHERE ssn = $1"
    physical = parse("SELECT ssn, city FROM public.patients WHERE pg_catalog.substring(ssn, 13, 16) = $1", "s", oids=(17,))
    with Screenplay() as play:
        if in_transaction:
            begins(play)
        play.client_says(parse(search, "s"), bind(SECRET, statement="s"), execute(), close("s"), SYNC)
        play.server_gets(physical, bind(tag(SSN, SECRET), statement="s", formats=(1,), results=(1, 0)), execute(), close("s"), SYNC)
        play.server_says(*PREPARED, BROKEN, command_complete("SELECT 1"), CLOSE_COMPLETE, ready(status))
        play.client_says(query("SELECT 1"))
        play.server_gets(physical, *(split(FAIL_TRANSACTION) if in_transaction else [SYNC]))
        refused = [error("42883")] if in_transaction else []
        play.server_says(PARSE_COMPLETE, *refused, ready(failed))
        play.client_gets(*PREPARED, Says("XX001"), ready(failed))
        play.server_gets(query("SELECT 1"))
        play.client_says(bind(SECRET, statement="s"), SYNC)
        play.server_gets(bind(tag(SSN, SECRET), statement="s", formats=(1,), results=(1, 0)), SYNC)


def test_a_statement_closed_behind_it_that_others_follow_makes_it_fatal(play: Screenplay) -> None:
    play.client_says(*SAID, close(""), SYNC, parse(SELECT), SYNC)
    play.session.to_server.clear()
    play.server_says(*PREPARED, BROKEN)
    play.client_gets(*PREPARED, FATAL)
    play.is_closed()


def test_a_close_behind_a_simple_query_is_another_groups(play: Screenplay) -> None:
    play.client_says(parse("SELECT 1", "s"), SYNC, query(SELECT), close("s"), SYNC)
    play.session.to_server.clear()
    play.server_says(PARSE_COMPLETE, ready(), data_row(b"\\xf550", None), command_complete("SELECT 1"), ready())
    play.server_says(CLOSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready(), Says("XX001"), ready(), CLOSE_COMPLETE, ready())
    play.server_gets()
    play.is_idle()


def test_a_result_is_not_broken_off_before_a_close_of_a_statement_that_sql_has_prepared(play: Screenplay) -> None:
    play.client_says(query("PREPARE q AS SELECT 1"), *SAID, close("q"), SYNC)
    play.session.to_server.clear()
    play.server_says(command_complete("PREPARE"), ready(), *PREPARED, BROKEN)
    play.client_gets(command_complete("PREPARE"), ready(), *PREPARED, FATAL)
    play.is_closed()


WRITE = [parse("INSERT INTO log VALUES (1)"), bind(), execute()]


@pytest.mark.parametrize(
    "said",
    [
        [*WRITE, *SAID, SYNC],
        [*SAID, *WRITE, SYNC],
        [*SAID, execute(), SYNC],
        [*SAID],
        [parse("INSERT INTO public.patients (city) VALUES ('x') RETURNING ssn, city"), bind(), execute(), SYNC],
    ],
    ids=["behind a write", "before a write", "executed twice", "without its Sync", "a write itself"],
)
def test_what_has_run_besides_it_makes_it_fatal(play: Screenplay, said: list[Frame]) -> None:
    play.client_says(*said)
    play.session.to_server.clear()
    if said[: len(WRITE)] == WRITE:
        play.server_says(*PREPARED, command_complete("INSERT 0 1"))
        play.client_gets(*PREPARED, command_complete("INSERT 0 1"))
    play.server_says(*PREPARED, BROKEN, GOOD, command_complete("SELECT 2"), ready())
    play.client_gets(*PREPARED, FATAL)
    play.is_closed()


def test_a_query_of_several_statements_makes_it_fatal(play: Screenplay) -> None:
    play.client_says(query(f"{SELECT}; INSERT INTO log VALUES (1)"))
    play.session.to_server.clear()
    play.server_says(data_row(b"\\xf550", None))
    play.client_gets(FATAL)
    play.is_closed()


def test_a_query_that_ends_a_group_with_a_write_makes_it_fatal(play: Screenplay) -> None:
    play.client_says(*WRITE, query(SELECT))
    play.server_gets(*WRITE, query(SELECT))
    play.server_says(*PREPARED, command_complete("INSERT 0 1"), data_row(b"\\xf550", None))
    play.client_gets(*PREPARED, command_complete("INSERT 0 1"), FATAL)
    play.is_closed()


def test_outside_a_transaction_later_groups_go_on(play: Screenplay) -> None:
    play.client_says(*SAID, SYNC, query("INSERT INTO log VALUES (1)"))
    play.server_gets(*SENT, SYNC, query("INSERT INTO log VALUES (1)"))
    play.server_says(*PREPARED, BROKEN, *REST, ready(), command_complete("INSERT 0 1"), ready())
    play.client_gets(*PREPARED, Says("XX001"), ready(), command_complete("INSERT 0 1"), ready())
    play.is_idle()


def test_in_a_transaction_a_later_group_makes_it_fatal(play: Screenplay) -> None:
    """A direct server would have failed the transaction; here the INSERT has run in it, and a COMMIT may follow."""
    begins(play)
    play.client_says(*SAID, SYNC, query("INSERT INTO log VALUES (1)"))
    play.server_gets(*SENT, SYNC, query("INSERT INTO log VALUES (1)"))
    play.server_says(*PREPARED, BROKEN)
    play.client_gets(*PREPARED, FATAL)
    play.is_closed()


@pytest.mark.parametrize("in_transaction", [False, True])
def test_keys_that_do_not_come_are_answered_like_a_broken_value(in_transaction: bool) -> None:
    status = "T" if in_transaction else "I"
    with Screenplay() as play:
        if in_transaction:
            begins(play)
        play.client_says(*SAID, SYNC)
        play.server_gets(*SENT, SYNC)
        unknown = bytearray(envelope(SSN, SECRET))
        unknown[5:9] = b"\0\0\0\x63"
        play.server_says(*PREPARED, GOOD, data_row(bytes(unknown), None), GOOD, command_complete("SELECT 3"), ready(status))
        assert play.needs_keys() == {DataKeyWant(0x63)}
        play.client_gets(*PREPARED, SHOWN)
        play.resumes(ProviderUnavailable("the key provider does not answer"))
        play.client_gets(Says("57P03"), *([] if in_transaction else [ready()]))
        if in_transaction:
            play.server_gets(*split(FAIL_TRANSACTION))
            play.server_says(error("42883"), ready("E"))
            play.client_gets(ready("E"))
        play.is_idle()


def test_a_row_whose_lengths_lie_is_a_broken_protocol(play: Screenplay) -> None:
    play.client_says(*SAID, SYNC)
    play.server_gets(*SENT, SYNC)
    play.server_says(*PREPARED, Frame(GOOD[:10] + b"\xff" + GOOD[11:]))
    play.client_gets(*PREPARED, Says("08P01", severity="FATAL"))
    play.is_closed()


def test_a_portal_survives_a_failed_savepoint_with_its_plan(play: Screenplay) -> None:
    begins(play)
    play.client_says(parse(SELECT), bind(portal="c"), SYNC, query("SAVEPOINT a"), query("SELECT boom()"))
    play.server_gets(parse(SELECT), bind(portal="c", results=(1, 0)), SYNC, query("SAVEPOINT a"), query("SELECT boom()"))
    replies = [*PREPARED, ready("T"), command_complete("SAVEPOINT"), ready("T"), error("22012"), ready("E")]
    play.server_says(*replies)
    play.client_gets(*replies)
    play.client_says(query("ROLLBACK TO a"), execute("c"), SYNC)
    play.server_gets(query("ROLLBACK TO a"), execute("c"), SYNC)
    play.server_says(command_complete("ROLLBACK"), ready("T"), GOOD, command_complete("SELECT 1"), ready("T"))
    play.client_gets(command_complete("ROLLBACK"), ready("T"), SHOWN, command_complete("SELECT 1"), ready("T"))
