"""Messages from the server: whose reply each is, what of it the client sees, and what happens when it cannot be shown."""

from __future__ import annotations

import pytest

from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    EMPTY_QUERY_RESPONSE,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    SYNC,
    bind,
    close,
    column,
    command_complete,
    data_row,
    describe,
    error,
    execute,
    notice,
    notification,
    parameter_description,
    parameter_status,
    parse,
    query,
    raw,
    ready,
    row_description,
)
from tests.session.screenplay import REFUSED_BIND, SECRET, SSN, Says, Screenplay, envelope, hexed, refused_parse

SELECT = "SELECT ssn, city FROM public.patients"
SEALED = column("ssn", 17, table=100, attnum=2, code=1)
SHOWN = column("ssn", 25, table=100, attnum=2, code=0)
CITY = column("city", 25, table=100, attnum=6)


def selects(play: Screenplay, *before: bytes, results: tuple[int, ...] = (), describes: bool = False) -> None:
    """Say a whole SELECT of the extended protocol, its Sync included, and take what the server gets."""
    asked = [describe()] if describes else []
    play.client_says(*before, parse(SELECT), bind(results=results), *asked, execute(), SYNC)
    play.server_gets(*before, parse(SELECT), bind(results=(1, *results[1:]) if results else (1, 0)), *asked, execute(), SYNC)


def test_a_described_result_shows_declared_types_in_the_formats_asked_for(play: Screenplay) -> None:
    selects(play, results=(0, 0), describes=True)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, row_description(SEALED, CITY))
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, row_description(SHOWN, CITY))
    play.server_says(data_row(envelope(SSN, SECRET), b"Turku"), data_row(None, None), command_complete("SELECT 2"), ready())
    play.client_gets(data_row(SECRET, b"Turku"), data_row(None, None), command_complete("SELECT 2"), ready())
    play.is_idle()


def test_an_undescribed_result_is_opened_all_the_same(play: Screenplay) -> None:
    selects(play)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, data_row(envelope(SSN, b""), b"\xff"), command_complete("SELECT 1"), ready())
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, data_row(b"", b"\xff"), command_complete("SELECT 1"), ready())


def test_a_statements_description_shows_the_clients_parameters(play: Screenplay) -> None:
    text = "SELECT mrn FROM public.patients WHERE mrn = $1 AND id = $2 AND ssn = 'x'"
    play.client_says(parse(text, "s"), describe("s", "S"), SYNC)
    changed = "SELECT mrn FROM public.patients WHERE pg_catalog.substring(mrn, 13, 16) = $1 AND id = $2 AND "
    play.server_gets(parse(changed + "pg_catalog.substring(ssn, 13, 16) = $3", "s", oids=(17, 0, 17)), describe("s", "S"), SYNC)
    mrn = column("mrn", 17, table=100, attnum=4)
    play.server_says(PARSE_COMPLETE, parameter_description(17, 23, 17), row_description(mrn), ready())
    shown = column("mrn", 1043, table=100, attnum=4, typmod=16)
    play.client_gets(PARSE_COMPLETE, parameter_description(25, 23), row_description(shown), ready())
    play.is_idle()


def test_two_portals_of_one_unnamed_statement_keep_their_own_plans(play: Screenplay) -> None:
    other = "SELECT city, ssn FROM public.patients"
    play.client_says(parse(SELECT), bind(portal="p1"), parse(other), bind(portal="p2"), execute("p1"), execute("p2"), SYNC)
    play.server_gets(
        parse(SELECT),
        bind(portal="p1", results=(1, 0)),
        parse(other),
        bind(portal="p2", results=(0, 1)),
        execute("p1"),
        execute("p2"),
        SYNC,
    )
    bound = [PARSE_COMPLETE, BIND_COMPLETE, PARSE_COMPLETE, BIND_COMPLETE]
    play.server_says(*bound, data_row(envelope(SSN, SECRET), b"Turku"), command_complete("SELECT 1"))
    play.server_says(data_row(b"Turku", envelope(SSN, SECRET)), command_complete("SELECT 1"), ready())
    first, second = data_row(SECRET, b"Turku"), data_row(b"Turku", SECRET)
    play.client_gets(*bound, first, command_complete("SELECT 1"), second, command_complete("SELECT 1"), ready())
    play.is_idle()


def test_a_suspended_portal_goes_on_with_its_plan(play: Screenplay) -> None:
    play.client_says(query("BEGIN"), parse(SELECT), bind(portal="c"), execute("c", 1), SYNC)
    play.server_gets(query("BEGIN"), parse(SELECT), bind(portal="c", results=(1, 0)), execute("c", 1), SYNC)
    begun = [command_complete("BEGIN"), ready("T"), PARSE_COMPLETE, BIND_COMPLETE]
    play.server_says(*begun, data_row(envelope(SSN, b"1"), None), PORTAL_SUSPENDED, ready("T"))
    play.client_gets(*begun, data_row(b"1", None), PORTAL_SUSPENDED, ready("T"))
    play.client_says(execute("c"), close("c", "P"), SYNC)
    play.server_gets(execute("c"), close("c", "P"), SYNC)
    play.server_says(data_row(envelope(SSN, b"2"), None), command_complete("SELECT 1"), CLOSE_COMPLETE, ready("T"))
    play.client_gets(data_row(b"2", None), command_complete("SELECT 1"), CLOSE_COMPLETE, ready("T"))
    play.is_idle()


def test_a_simple_query_has_a_plan_for_each_result(play: Screenplay) -> None:
    text = "SELECT city, ssn FROM public.patients; ; SELECT msg FROM log; SELECT ssn FROM public.patients"
    play.client_says(query(text))
    play.server_gets(query(text))
    sealed = SEALED._replace(format=0)
    msg = column("msg", 25, table=102, attnum=2)
    play.server_says(row_description(CITY, sealed), data_row(b"Turku", hexed(envelope(SSN, SECRET))), command_complete("SELECT 1"))
    play.server_says(row_description(msg), data_row(b"\\xf550"), command_complete("SELECT 1"))
    play.server_says(row_description(sealed), data_row(hexed(envelope(SSN, SECRET))), command_complete("SELECT 1"), ready())
    play.client_gets(
        row_description(CITY, SHOWN),
        data_row(b"Turku", SECRET),
        command_complete("SELECT 1"),
        row_description(msg),
        data_row(b"\\xf550"),
        command_complete("SELECT 1"),
        row_description(SHOWN),
        data_row(SECRET),
        command_complete("SELECT 1"),
        ready(),
    )
    play.is_idle()


def test_an_empty_query_and_a_bytea_in_escape_form(play: Screenplay) -> None:
    play.client_says(query(""), query(SELECT))
    play.server_gets(query(""), query(SELECT))
    escaped = b"".join(b"\\\\" if c == 0x5C else bytes((c,)) if 32 <= c < 127 else b"\\%03o" % c for c in envelope(SSN, SECRET))
    play.server_says(EMPTY_QUERY_RESPONSE, ready(), data_row(escaped, b"x"), command_complete("SELECT 1"), ready())
    play.client_gets(EMPTY_QUERY_RESPONSE, ready(), data_row(SECRET, b"x"), command_complete("SELECT 1"), ready())


def test_asynchronous_messages_pass_in_the_middle_of_a_result(play: Screenplay) -> None:
    selects(play)
    said = [notification("c", "hello"), parameter_status("TimeZone", "UTC"), notice("server's words")]
    play.server_says(*said, PARSE_COMPLETE, *said, BIND_COMPLETE, data_row(envelope(SSN, SECRET), None), *said)
    play.client_gets(*said, PARSE_COMPLETE, *said, BIND_COMPLETE, data_row(SECRET, None), *said)
    play.server_says(command_complete("SELECT 1"), *said, ready(), *said)
    play.client_gets(command_complete("SELECT 1"), *said, ready(), *said)
    play.is_idle()


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


def test_a_fatal_of_the_server_is_heard_while_the_path_is_asked_for(play: Screenplay) -> None:
    play.session.path = None
    play.client_says(query("SELECT ssn FROM patients"))
    play.session.to_server.clear()
    play.server_says(error("57P01", severity="FATAL"))
    play.client_gets(error("57P01", severity="FATAL"))


def test_positions_are_mapped_back_to_the_clients_text(play: Screenplay) -> None:
    before, behind = "SELECT '\u00e4', id FROM patients WHERE ssn = 'x' AND ", "boom(1) = 1"
    play.client_says(query(before + behind))
    got = play.session.to_server[0][5:-1].decode()
    play.session.to_server.clear()
    assert got.endswith(behind)
    play.server_says(error("42883", P=str(len(got) - len(behind) + 1)), ready())
    play.client_gets(error("42883", P=str(len(before) + 1)), ready())


def test_positions_are_mapped_where_a_name_was_only_qualified(play: Screenplay) -> None:
    play.session.path = ("pg_catalog", "archive")
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


def test_one_error_and_one_ready_for_a_pipeline_that_fails_on_the_server(play: Screenplay) -> None:
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


def test_an_error_while_idle_passes(play: Screenplay) -> None:
    shutdown = error("57P01", "terminating connection", severity="FATAL")
    play.server_says(shutdown)
    play.client_gets(shutdown)
    assert play.session.server_said_fatal


def test_a_column_that_is_protected_where_none_was_analysed_is_not_shown(play: Screenplay) -> None:
    play.client_says(query("SELECT city, id FROM public.patients"))
    play.server_gets(query("SELECT city, id FROM public.patients"))
    play.server_says(row_description(SEALED._replace(format=0), column("id", 23)), data_row(hexed(envelope(SSN, SECRET)), b"1"))
    play.client_gets(Says("0A000", "protected column where none was analysed"))
    play.server_says(command_complete("SELECT 1"), ready())
    play.client_gets(ready())


@pytest.mark.parametrize("reply", [PARSE_COMPLETE, BIND_COMPLETE, CLOSE_COMPLETE, PORTAL_SUSPENDED, command_complete("X"), ready()])
def test_a_reply_to_nothing_ends_the_conversation(play: Screenplay, reply: bytes) -> None:
    play.server_says(reply)
    play.client_gets(Says("08P01", severity="FATAL"))
    play.is_closed()


@pytest.mark.parametrize("succeeds", [PARSE_COMPLETE, command_complete("SELECT 1")])
def test_a_substitute_that_succeeds_ends_the_conversation(play: Screenplay, succeeds: bytes) -> None:
    refused = "SELECT upper(ssn) FROM public.patients"
    play.client_says(*([parse(refused), SYNC] if succeeds is PARSE_COMPLETE else [query(refused)]))
    play.session.to_server.clear()
    play.server_says(succeeds)
    play.client_gets(Says("08P01", severity="FATAL"))
    play.is_closed()


@pytest.mark.parametrize("frame", [raw(b"Z", b"X"), raw(b"Z"), raw(b"y"), raw(b"D"), b"T\0\0\0\2"])
def test_a_broken_reply_ends_the_conversation(play: Screenplay, frame: bytes) -> None:
    play.client_says(query(SELECT))
    play.server_gets(query(SELECT))
    play.server_says(frame)
    play.client_gets(Says("08P01", severity="FATAL"))
    play.is_closed()
