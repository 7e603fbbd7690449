"""What a statement gives: descriptions and rows, in the types, formats and values that the client knows."""

from __future__ import annotations

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PROTECTION
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
    execute,
    parameter_description,
    parse,
    query,
    ready,
    row_description,
)
from tests.session.screenplay import CIPHERS, SECRET, SSN, FakeDatabase, Says, Screenplay, envelope, fill, hexed

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


def test_each_run_of_rows_looks_at_the_clock(play: Screenplay, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result may take longer than its data key lives."""
    looks: list[None] = []
    monkeypatch.setattr(CIPHERS, "look_at_clock", lambda: looks.append(None))
    selects(play)
    row = data_row(envelope(SSN, b"x"), b"y")
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, row, row)
    before = len(looks)
    assert before
    play.server_says(row)
    assert len(looks) > before
    play.server_says(command_complete("SELECT 3"), ready())
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, *[data_row(b"x", b"y")] * 3, command_complete("SELECT 3"), ready())


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


def test_a_column_that_is_protected_where_none_was_analysed_is_not_shown(play: Screenplay) -> None:
    play.client_says(query("SELECT city, id FROM public.patients"))
    play.server_gets(query("SELECT city, id FROM public.patients"))
    play.server_says(row_description(SEALED._replace(format=0), column("id", 23)), data_row(hexed(envelope(SSN, SECRET)), b"1"))
    play.client_gets(Says("0A000", "protected column where none was analysed"))
    play.server_says(command_complete("SELECT 1"), ready())
    play.client_gets(ready())


def test_rows_before_the_one_that_needs_a_key_are_shown_once() -> None:
    ring = Keyring(lambda: 0.0)
    play = Screenplay(FakeDatabase(Planner(PROTECTION, CATALOG, Ciphers(ring))))
    play.client_says(query(SELECT))
    play.server_gets(query(SELECT))
    row = data_row(hexed(envelope(SSN, SECRET)), b"x")
    play.server_says(data_row(None, b"1"), data_row(None, b"2"), row, row, command_complete("SELECT 4"), ready())
    assert play.needs_keys()
    play.client_gets(data_row(None, b"1"), data_row(None, b"2"))
    fill(ring)
    play.resumes()
    play.client_gets(data_row(SECRET, b"x"), data_row(SECRET, b"x"), command_complete("SELECT 4"), ready())
    play.ends()


def test_rows_before_one_that_does_not_open_are_shown_and_those_behind_are_not(play: Screenplay) -> None:
    play.client_says(query(SELECT))
    play.server_gets(query(SELECT))
    broken, row = data_row(b"\\xf550", b"x"), data_row(None, b"1")
    play.server_says(row, row, broken, row, command_complete("SELECT 4"), ready())
    play.client_gets(row, row, Says("XX001"), ready())
