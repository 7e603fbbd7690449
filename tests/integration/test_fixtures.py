"""Every fixture pair is executed: the client's statement on plaintext directly and on the sealed twin through the proxy."""

from __future__ import annotations

import pytest
from psycopg import pq

from tests.fixtures.cases import CASES, Case, fill
from tests.fixtures.live import Twins
from tests.harness import results
from tests.harness.differential import Protocol


@pytest.fixture
def twins(kept_twins: Twins) -> Twins:
    """One seeded clinic for all cases; the leak oracle at the end."""
    return kept_twins


def executed(*, refused: bool) -> list[object]:
    return [pytest.param(case, id=case.id) for case in CASES if not case.unit and bool(case.refuse) is refused]


def _needs(twins: Twins, case: Case) -> None:
    if twins.both.plain.server_version < case.since * 10_000:
        pytest.skip(f"needs PostgreSQL {case.since}")


@pytest.mark.parametrize("case", executed(refused=False))
def test_equal_both_ways(twins: Twins, case: Case) -> None:
    _needs(twins, case)
    statement, params = case.with_values(twins.value)
    if case.bind:
        assert twins.both.refused(statement, params, sqlstate=case.bind, types=case.types).hint
        return
    for outcome in twins.everywhere(statement, params, case.types):
        assert (outcome.sqlstate or "") == case.error


@pytest.mark.parametrize("case", executed(refused=True))
def test_refused_and_nothing_sent(twins: Twins, case: Case) -> None:
    _needs(twins, case)
    statement, params = case.with_values(twins.value)
    twins.both.refused(statement, params, sqlstate=case.refuse, protocol="extended", types=case.types)
    with twins.rolled_back():
        protocol: Protocol = "extended" if params else "simple"
        twins.both.refused(statement, params, sqlstate=case.refuse, protocol=protocol, types=case.types)


def said_by_postgresql() -> list[object]:
    areas = ("errors_of_refused_statements", "postgresql_errors", "type_errors")
    cases = [case for case in CASES if case.refuse and not case.unit and case.area in areas]
    return [pytest.param(case, id=case.id) for case in cases]


@pytest.mark.parametrize("case", said_by_postgresql())
def test_what_postgresql_refuses_has_its_sqlstate(twins: Twins, case: Case) -> None:
    """And nothing else has: what is 0A000 here works there, or is that there too."""
    statement, params = case.with_values(twins.value)
    try:
        results.simple(twins.both.plain, "BEGIN")
        said = results.extended(twins.both.plain, statement, params, results.Form(case.types or None))[-1].sqlstate
    finally:
        results.simple(twins.both.plain, "ROLLBACK")
    assert said == case.refuse or (said is None and case.refuse == "0A000")


SCRIPTS = [
    "SELECT 1; SELECT ssn FROM patients WHERE ssn = '@ssn1@'; SELECT room FROM visits",
    "INSERT INTO visits (id, diagnosis) VALUES (100, '@new_a@');"
    " UPDATE visits SET diagnosis = '@new_b@' WHERE diagnosis = '@new_a@'; SELECT * FROM visits WHERE diagnosis = '@new_b@'",
    "SELECT 1; INSERT INTO patients (id, ssn) VALUES (100, '@new_a@'); SELECT id, ssn FROM patients WHERE ssn = '@new_a@'",
    "SAVEPOINT a; DELETE FROM visits; ROLLBACK TO a; SELECT mrn FROM visits; RELEASE a",
    "SELECT id FROM patients WHERE ssn = '@ssn1@'; SELECT 1 / 0; SELECT ssn FROM patients",
    "/* @ssn1@ */ SELECT id FROM patients; -- @ssn1@\n SELECT 'é'; /* @ssn2@ */"
    " ;; SELECT id FROM patients WHERE ssn = '@ssn2@' -- @ssn1@",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_strings_of_statements(twins: Twins, script: str) -> None:
    statement = fill(script, twins.value)
    with twins.rolled_back():
        twins.both.run(statement, protocol="simple")
        if twins.both.proxied.transaction_status != pq.TransactionStatus.INERROR:
            twins.same_state()


def test_a_string_with_one_refused_statement_is_not_begun(twins: Twins) -> None:
    statement = fill("DELETE FROM visits; SELECT upper(ssn) FROM patients WHERE ssn = '@ssn1@'", twins.value)
    twins.both.refused(statement, protocol="simple")
    twins.same_state()


# The types that Parse declares: text, varchar, unknown, none, char, name and int4 for one text, and arrays of them.
DECLARED = [
    ("SELECT id, ssn FROM patients WHERE ssn = $1", ["@ssn1@"], (25, 1043, 705, 0)),
    ("SELECT id FROM patients WHERE mrn = $1 OR $1 = mrn", ["@mrn1@"], (25, 1043, 705, 0)),
    ("INSERT INTO patients (id, ssn, notes) VALUES (100, $1, 'x') RETURNING ssn", ["@new_a@"], (25, 1043, 705, 0, 1042)),
    ("INSERT INTO patients (id, ssn) VALUES (100, $1) RETURNING ssn", ["ab  "], (25, 1043, 0, 1042)),
    ("INSERT INTO patients (id, ssn) VALUES (100, $1) RETURNING ssn", ["0042"], (25, 0, 20, 21, 23)),
    ("SELECT id FROM patients WHERE ssn = ANY ($1) OR ssn IN (SELECT unnest($1))", [["@ssn1@", "@ssn2@"]], (1009,)),
    ("SELECT id FROM patients WHERE ssn IN (SELECT unnest($1))", [["@ssn1@", None]], (1009, 1015)),
    ("INSERT INTO visits (diagnosis) SELECT unnest($1) RETURNING diagnosis", [["@new_a@", None, ""]], (1009, 1015)),
]


@pytest.mark.parametrize(("statement", "params", "types"), DECLARED)
def test_declared_types(twins: Twins, statement: str, params: list[object], types: tuple[int, ...]) -> None:
    values = [[e and fill(e, twins.value) for e in p] if isinstance(p, list) else fill(str(p), twins.value) for p in params]
    for oid in types:
        for named in (False, True):
            with twins.rolled_back():
                assert twins.both.run(statement, values, types=(oid,), named=named).sqlstate is None
                twins.same_state()


def test_explain_says_nothing_of_the_value(twins: Twins) -> None:
    statement = fill("EXPLAIN (ANALYZE, VERBOSE) SELECT ssn FROM patients WHERE ssn = '@ssn1@'", twins.value)
    with twins.rolled_back():
        outcome = results.simple(twins.both.proxied, statement)[-1]
        assert outcome.rows
        assert not twins.clinic.oracle.contains(b"".join(value or b"" for row in outcome.rows for value in row))


# In order; the ends of ranges are arguments of EXECUTE.
NAMED = (
    "PREPARE r (date, date) AS SELECT id FROM stays WHERE born BETWEEN $1 AND $2 ORDER BY id",
    "EXECUTE r('1980-01-01', '1980-12-31')",
    "EXECUTE r(date '1980-01-01', timestamp '1989-12-31 12:00')",
    "EXECUTE r(NULL, '1980-12-31')",
    "PREPARE l AS SELECT id FROM people WHERE name LIKE $1 ORDER BY id",
    "EXECUTE l('Smi%')",
    "PREPARE s AS SELECT id, born >= '1980-01-01' AND born < $1, bed BETWEEN $2 AND 2 FROM stays ORDER BY id",
    "EXECUTE s('1981-01-01', -1)",
    "EXECUTE s('1981-01-01', NULL::int + 1)",
)


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_ranges_by_name(twins: Twins, protocol: Protocol) -> None:
    try:
        for statement in NAMED[:-1]:
            assert twins.both.run(statement, protocol=protocol).sqlstate is None
        twins.both.refused(NAMED[-1], protocol=protocol)
    finally:
        twins.both.run("DEALLOCATE ALL", protocol="simple")


def test_the_edges_of_a_moment_are_those_of_universal_time(twins: Twins) -> None:
    statement = "SELECT id FROM stays WHERE discharged >= '1980-01-01' AND discharged < '1981-01-01' ORDER BY id"
    typed = "SELECT id FROM stays WHERE discharged >= $1 AND discharged < $2::date ORDER BY id"
    for zone, same in (("UTC", True), ("America/New_York", False), ("Africa/Abidjan", True)):
        twins.both.run(f"SET TimeZone = '{zone}'", protocol="simple")
        for text, params in ((statement, ()), (typed, ("1980-01-01 00:00", "1981-01-01"))):
            if same:
                twins.both.run(text, params)
            else:
                assert "begin" in twins.both.refused(text, params).hint
    twins.both.run("RESET TimeZone", protocol="simple")


def test_a_moment_is_a_day_of_the_session_s_clock(twins: Twins) -> None:
    for zone in ("Asia/Tokyo", "America/New_York", "UTC"):
        twins.both.run(f"SET TimeZone = '{zone}'", protocol="simple")
        for code in (0, 1):
            twins.both.run("SELECT id, discharged::date, discharged::timestamp FROM stays ORDER BY id", result_format=code)
    twins.both.run("RESET TimeZone", protocol="simple")


def test_months_of_dates_begin_at_the_session_s_midnight(twins: Twins) -> None:
    """``date_trunc`` of a date is a timestamptz. In Asunción 1989-10-01 begins at one o'clock."""
    statements = (
        "SELECT id FROM people WHERE date_trunc('month', born) = '1980-01-01' OR date_trunc('month', born) = $1 ORDER BY id",
        "SELECT id, date_trunc('month', born) = '1980-01-01 05:00:00+00', date_trunc('month', born) <> $1 FROM people ORDER BY id",
        "SELECT count(*) FROM people WHERE date_trunc('month', born) IN ('1989-10-01', timestamp '1999-12-01', $1::timestamptz)",
    )
    with twins.rolled_back():
        twins.both.run("UPDATE people SET born = '1989-10-17' WHERE id = 1", protocol="simple")
        for zone in ("UTC", "America/New_York", "America/Asuncion", "Pacific/Apia"):
            twins.both.run(f"SET TimeZone = '{zone}'", protocol="simple")
            for statement in statements:
                for value in ("1981-12-01", "1980-01-15", "infinity", None, "1989-10-01 01:00"):
                    twins.both.run(statement, [value])
    twins.both.run("RESET TimeZone", protocol="simple")


def test_the_edges_are_read_in_the_session_s_style(twins: Twins) -> None:
    statement = (
        "SELECT id FROM stays WHERE born BETWEEN '01/12/1980' AND '31/12/1980' OR born BETWEEN '01/01/1980' AND '31/12/1980'"
    )
    twins.both.run("SET DateStyle = 'SQL, DMY'", protocol="simple")
    twins.both.refused(statement)
    twins.both.run(statement.partition(" OR born BETWEEN '01/01")[0].replace("01/12", "01/01"))
    twins.both.run("RESET DateStyle", protocol="simple")


def test_null_beside_an_equals_sign_is_asked_for_where_a_session_says_so(twins: Twins) -> None:
    """``transform_null_equals``: ``x = NULL``, as some clients write it, is ``x IS NULL``; nothing else is."""
    conditions = (
        "ssn = NULL",
        "NULL = p.ssn",
        "ssn <> NULL",
        "ssn = NULL::text",
        "ssn IN (NULL)",
        "(ssn, id) = (NULL, 4)",
        "ssn = $1",
    )
    with twins.rolled_back():
        twins.both.run("UPDATE patients SET ssn = NULL WHERE id = 4", protocol="simple")
        for setting in ("on", "off"):
            twins.both.run(f"SET LOCAL transform_null_equals = {setting}", protocol="simple")
            for condition in conditions:
                text = f"SELECT id, {condition} FROM patients p WHERE {condition} OR id = 1 ORDER BY id"
                for named in (False, True):
                    twins.both.run(text, [None] if "$1" in text else [], named=named)
