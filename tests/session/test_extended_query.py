"""Parse, Bind, Describe, Execute, Close: what the server gets, and what takes the place of what is refused."""

from __future__ import annotations

import pytest

from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    FLUSH,
    NO_DATA,
    PARSE_COMPLETE,
    SYNC,
    TERMINATE,
    bind,
    close,
    column,
    command_complete,
    data_row,
    describe,
    error,
    execute,
    parameter_description,
    parse,
    query,
    raw,
    ready,
    row_description,
)
from tests.session.screenplay import (
    MRN,
    REFUSED_BIND,
    SECRET,
    SSN,
    Says,
    Screenplay,
    envelope,
    refused_parse,
    sealed,
    tag,
)

SELECT = "SELECT ssn, city FROM public.patients"


INSERT = "INSERT INTO public.patients (id, ssn) VALUES ($1, $2)"


REFUSED = f"SELECT id FROM public.patients WHERE upper(ssn) = '{SECRET.decode()}'"


REFUSAL = error("42883", "function pg_catalog.phiproxy_refused() does not exist")


def test_an_unprotected_statement_is_not_touched(play: Screenplay) -> None:
    said = [parse("SELECT msg FROM log WHERE id = $1", "s"), bind(b"7", statement="s", results=(1,)), execute(), SYNC]
    play.client_says(*said)
    play.server_gets(*said)
    replies = [PARSE_COMPLETE, BIND_COMPLETE, data_row(b"\xff\xfe"), data_row(None), command_complete("SELECT 2"), ready()]
    play.server_says(*replies)
    play.client_gets(*replies)
    play.is_idle()


def test_a_parameter_is_stored_as_an_envelope_and_searched_as_a_tag(play: Screenplay) -> None:
    text = "UPDATE public.patients SET ssn = $1, city = $2 WHERE ssn = $1"
    play.client_says(parse(text, oids=(25,)), bind(SECRET, b"Turku", formats=(0,)), execute(), SYNC)
    play.server_gets(
        parse(
            "UPDATE public.patients SET ssn = $1, city = $2 WHERE pg_catalog.substring(ssn, 13, 16) = $3",
            oids=(17, 0, 17),
        ),
        bind(sealed(SECRET), b"Turku", tag(SSN, SECRET), formats=(1, 0, 1)),
        execute(),
        SYNC,
    )


def test_null_stays_null(play: Screenplay) -> None:
    play.client_says(parse(INSERT), bind(b"1", None), execute(), SYNC)
    play.server_gets(parse(INSERT, oids=(0, 17)), bind(b"1", None, formats=(0, 1)), execute(), SYNC)


def test_what_follows_a_refused_parse_is_dropped_until_sync(play: Screenplay) -> None:
    play.client_says(
        parse(REFUSED, "s"), bind(SECRET, statement="s"), describe(), execute(), close("s"), FLUSH, query(REFUSED), SYNC
    )
    play.server_gets(refused_parse("s"), FLUSH, SYNC)
    play.server_says(REFUSAL, ready())
    play.client_gets(Says("0A000"), ready())
    play.is_idle()


def test_the_group_after_a_refused_one_is_as_if_nothing_had_been(play: Screenplay) -> None:
    play.client_says(parse(REFUSED), SYNC, parse(SELECT), bind(results=(1,)), execute(), SYNC)
    play.server_gets(refused_parse(), SYNC, parse(SELECT), bind(results=(1, 1)), execute(), SYNC)
    play.server_says(REFUSAL, ready(), PARSE_COMPLETE, BIND_COMPLETE, data_row(envelope(SSN, SECRET), b"Turku"))
    play.client_gets(Says("0A000"), ready(), PARSE_COMPLETE, BIND_COMPLETE, data_row(SECRET, b"Turku"))


@pytest.mark.parametrize(("value", "state"), [(b"0123456789abc", "22001"), (b"a\0b", "22021"), (b"\xff", "22021")])
def test_a_value_that_the_type_refuses_fails_its_bind(play: Screenplay, value: bytes, state: str) -> None:
    text = "INSERT INTO public.patients (mrn) VALUES ($1)"
    play.client_says(parse(text), bind(value), execute(), SYNC)
    play.server_gets(parse(text, oids=(17,)), REFUSED_BIND, SYNC)
    play.server_says(PARSE_COMPLETE, error("26000", 'prepared statement "phiproxy_refused" does not exist'), ready())
    play.client_gets(PARSE_COMPLETE, Says(state), ready())


def test_a_bind_with_too_few_values_is_an_ordinary_error(play: Screenplay) -> None:
    play.client_says(parse(INSERT), bind(SECRET), execute(), SYNC)
    play.server_gets(parse(INSERT, oids=(0, 17)), REFUSED_BIND, SYNC)
    play.server_says(PARSE_COMPLETE, error("26000"), ready())
    play.client_gets(PARSE_COMPLETE, Says("08P01", "supplies 1 parameters"), ready())


def test_a_bind_of_a_statement_that_was_never_prepared(play: Screenplay) -> None:
    play.client_says(bind(SECRET, statement="nobody"), execute(), SYNC)
    play.server_gets(REFUSED_BIND, SYNC)
    play.server_says(error("26000"), ready())
    play.client_gets(Says("26000", '"nobody" does not exist'), ready())


@pytest.mark.parametrize(
    ("asked", "sent"), [((), (1, 0)), ((0,), (1, 0)), ((1,), (1, 1)), ((0, 1), (1, 1)), ((1, 0), (1, 0)), ((0, 0), (1, 0))]
)
def test_result_formats_none_one_or_all(play: Screenplay, asked: tuple[int, ...], sent: tuple[int, ...]) -> None:
    play.client_says(parse(SELECT), bind(results=asked), SYNC)
    play.server_gets(parse(SELECT), bind(results=sent), SYNC)


def test_a_wrong_number_of_result_formats_is_left_to_the_server(play: Screenplay) -> None:
    play.client_says(parse(SELECT), bind(results=(0, 0, 0)), SYNC)
    play.server_gets(parse(SELECT), bind(results=(0, 0, 0)), SYNC)
    play.server_says(PARSE_COMPLETE, error("08P01"), ready())
    play.client_gets(PARSE_COMPLETE, error("08P01"), ready())


def test_a_result_format_that_is_none_is_complained_of_when_a_row_comes(play: Screenplay) -> None:
    said = [parse(SELECT), bind(results=(2, 1)), describe(), execute(), SYNC]
    play.client_says(*said)
    play.server_gets(*said)
    sealed_column, city = column("ssn", 17, table=100, attnum=2, code=2), column("city", 25, table=100, attnum=6, code=1)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, row_description(sealed_column, city), error("22023"), ready())
    shown = sealed_column._replace(type_oid=25)
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, row_description(shown, city), error("22023"), ready())


@pytest.mark.parametrize(
    ("formats", "values", "state", "text"),
    [
        ((0, 0, 0), (b"1", SECRET), "08P01", "3 parameter formats but 2 parameters"),
        ((0, 0, 0), (SECRET,), "08P01", "3 parameter formats but 1 parameters"),
        ((0, 2), (b"1", SECRET), "22023", "unsupported format code: 2"),
        ((2,), (b"1", SECRET), "22023", "unsupported format code: 2"),
    ],
)
def test_parameter_formats_that_do_not_fit(
    play: Screenplay, formats: tuple[int, ...], values: tuple[bytes, ...], state: str, text: str
) -> None:
    play.client_says(parse(INSERT), bind(*values, formats=formats), execute(), SYNC)
    play.server_gets(parse(INSERT, oids=(0, 17)), REFUSED_BIND, SYNC)
    play.server_says(PARSE_COMPLETE, error("26000"), ready())
    play.client_gets(PARSE_COMPLETE, Says(state, text), ready())


def test_the_format_of_an_unprotected_parameter_is_the_servers_to_judge(play: Screenplay) -> None:
    play.client_says(parse(INSERT), bind(b"1", SECRET, formats=(2, 0)), execute(), SYNC)
    play.server_gets(parse(INSERT, oids=(0, 17)), bind(b"1", sealed(SECRET), formats=(2, 1)), execute(), SYNC)
    play.server_says(PARSE_COMPLETE, error("22023"), ready())
    play.client_gets(PARSE_COMPLETE, error("22023"), ready())


@pytest.mark.parametrize("tag", ["P", "B", "D", "E", "C"])
def test_a_message_that_cannot_be_read_is_an_ordinary_error(play: Screenplay, tag: str) -> None:
    prepared, ready_ = [parse(INSERT), SYNC], [PARSE_COMPLETE, ready()]
    play.client_says(*prepared)
    play.server_gets(parse(INSERT, oids=(0, 17)), SYNC)
    play.server_says(*ready_)
    play.client_gets(*ready_)
    inside = {"P": b"\0SELECT 1\0", "B": b"\0\0\0\0\0\1\0\0\0\x7f" + SECRET, "D": b"X\0", "E": b"\0\0", "C": b"Sname"}[tag]
    play.client_says(raw(tag.encode(), inside), bind(b"1", SECRET), SYNC, bind(b"1", SECRET), SYNC)
    play.server_gets(raw(tag.encode()), SYNC, bind(b"1", sealed(SECRET), formats=(0, 1)), SYNC)
    play.server_says(error("08P01"), ready())
    play.client_gets(Says("08P01", "phiproxy:"), ready())


def test_a_refused_parse_of_a_name_leaves_the_old_statement(play: Screenplay) -> None:
    play.client_says(parse(SELECT, "s"), SYNC, parse(REFUSED, "s"), SYNC)
    play.server_gets(parse(SELECT, "s"), SYNC, refused_parse("s"), SYNC)
    play.server_says(PARSE_COMPLETE, ready(), REFUSAL, ready())
    play.client_gets(PARSE_COMPLETE, ready(), Says("0A000"), ready())
    play.client_says(bind(statement="s"), SYNC)
    play.server_gets(bind(statement="s", results=(1, 0)), SYNC)


def test_a_refused_unnamed_parse_drops_the_old_unnamed_statement(play: Screenplay) -> None:
    play.client_says(parse(SELECT), SYNC, parse(REFUSED), SYNC)
    play.server_gets(parse(SELECT), SYNC, refused_parse(), SYNC)
    play.server_says(PARSE_COMPLETE, ready(), REFUSAL, ready())
    play.client_gets(PARSE_COMPLETE, ready(), Says("0A000"), ready())
    play.client_says(bind(SECRET), SYNC)
    play.server_gets(REFUSED_BIND, SYNC)
    play.server_says(error("26000"), ready())
    play.client_gets(Says("26000"), ready())


def test_describe_and_close_pass(play: Screenplay) -> None:
    said = [parse("SELECT 1", "s"), describe("s", "S"), close("s"), close("p", "P"), SYNC]
    play.client_says(*said)
    play.server_gets(*said)
    fields = row_description(column("?column?", 23))
    play.server_says(PARSE_COMPLETE, parameter_description(), fields, CLOSE_COMPLETE, CLOSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, parameter_description(), fields, CLOSE_COMPLETE, CLOSE_COMPLETE, ready())
    play.client_says(TERMINATE)
    play.server_gets(TERMINATE)
    play.is_terminated()


def test_a_bind_to_the_proxys_own_portal_is_refused(play: Screenplay) -> None:
    play.client_says(parse("SELECT 1"), bind(portal="phiproxy_path"), SYNC)
    play.server_gets(parse("SELECT 1"), REFUSED_BIND, SYNC)


def test_a_parameter_declared_as_a_number_is_refused_at_parse(play: Screenplay) -> None:
    play.client_says(parse("SELECT id FROM public.patients WHERE mrn = $1", oids=(23,)), bind(b"12"), SYNC)
    play.server_gets(refused_parse(), SYNC)
    play.server_says(REFUSAL, ready())
    play.client_gets(Says("42883"), ready())


def test_two_columns_of_one_domain_have_one_tag(play: Screenplay) -> None:
    play.client_says(parse("SELECT id FROM public.visits WHERE mrn = $1"), bind(b"M-1"), SYNC)
    play.server_gets(
        parse("SELECT id FROM public.visits WHERE pg_catalog.substring(mrn, 13, 16) = $1", oids=(17,)),
        bind(tag(MRN, b"M-1"), formats=(1,), results=()),
        SYNC,
    )


def test_no_data_and_empty_results_pass(play: Screenplay) -> None:
    play.client_says(parse(INSERT), describe("", "S"), SYNC)
    play.server_gets(parse(INSERT, oids=(0, 17)), describe("", "S"), SYNC)
    play.server_says(PARSE_COMPLETE, parameter_description(23, 17), NO_DATA, ready())
    play.client_gets(PARSE_COMPLETE, parameter_description(23, 25), NO_DATA, ready())
    play.is_idle()
