"""Errors of split writes: PostgreSQL's, at its positions in the client's text, whichever part of the write has found them."""

from __future__ import annotations

import pytest

from tests.harness import results
from tests.harness.differential import Differential, Protocol

STATEMENTS = {
    "42703": "UPDATE patients SET notes = notes || 'x', nothing = 1 WHERE id = 1",
    "22P02": "UPDATE patients SET city = 'é', notes = notes || 'x', visits_count = 'abc' WHERE id = 1",
    "22P02 of a condition": "UPDATE patients SET notes = notes || 'x' WHERE id = 'abc'",
    "42883": "UPDATE patients SET notes = notes || 'x', city = nothing(city) WHERE id = 1",
    "42804": "UPDATE patients SET notes = notes || 'x', visits_count = true",
    "42P01": "UPDATE patients SET notes = upper(notes) FROM nothing WHERE id = 1",
    "42703 of a conflict": "INSERT INTO patients (id, notes) VALUES (1, initcap('x')) ON CONFLICT (nothing) DO NOTHING",
    "23505": "INSERT INTO patients (id, notes) VALUES (1, initcap('x'))",
    "22012": "UPDATE patients SET notes = notes || (5 / (id - id)) WHERE id = 1",
    "22012 of an unprotected column": "UPDATE patients SET notes = notes || 'x', visits_count = 1 / (id - 1) WHERE id = 1",
    "42702": "WITH w AS (DELETE FROM visits v USING patients p WHERE p.id = v.id AND ssn < 'M' RETURNING id) SELECT 1 FROM w",
    "42702 without WITH": "DELETE FROM visits v USING patients p WHERE p.id = v.id AND p.ssn < 'M' RETURNING id",
    "42702 of a clock": "DELETE FROM visits v USING patients p WHERE p.id = v.id AND ssn < 'M' RETURNING mrn, now()",
    "42P10": "UPDATE patients p SET notes = upper(p.notes) FROM LATERAL (SELECT p.id) x WHERE x.id = p.id",
    "42P10 of a name alone": "DELETE FROM patients USING visits v, LATERAL (SELECT ssn, v.id) x WHERE upper(notes) > 'a'",
    "42P10 of a function": "UPDATE patients p SET notes = upper(p.notes) FROM unnest(ARRAY[p.ssn]) u",
    "42P10 of a conflict": "INSERT INTO patients (ssn) VALUES ('x') ON CONFLICT (city) DO UPDATE SET ssn = patients.ssn || 'y'",
    "42P10 of a conflict of several columns": "INSERT INTO members (mrn, email) VALUES ('x', 'y') ON CONFLICT (mrn, email)"
    " DO UPDATE SET email = members.email || EXCLUDED.email",
    "42P10 of a conflict of a column without an index": "INSERT INTO patients (notes) VALUES ('x') ON CONFLICT (notes) DO NOTHING",
    "42601 of a view": "CREATE VIEW v1 (a, b) AS SELECT upper(ssn) FROM patients",
    "21000": "UPDATE patients p SET (notes, ssn) = (SELECT upper(v.diagnosis), v.mrn FROM visits v)",
}


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_as_postgresql_says_it(kept_both: Differential, name: str, protocol: Protocol) -> None:
    outcome = kept_both.run(STATEMENTS[name], protocol=protocol)
    assert outcome.sqlstate == name[:5]


@pytest.mark.parametrize("clause", [
    "WHEN NOT MATCHED /* in v */ BY SOURCE THEN UPDATE SET notes = upper(notes)",
    "WHEN MATCHED THEN UPDATE SET notes = upper(notes) RETURNING upper(notes)",
])  # fmt: skip
def test_a_clause_that_only_newer_servers_know(kept_both: Differential, clause: str) -> None:
    """Version 17 answers it, and older ones say where it is."""
    statement = f"MERGE INTO patients USING (SELECT 1 AS n) v ON v.n = id {clause}"
    kept_both.run("BEGIN")
    kept_both.run(statement, protocol="simple")
    kept_both.run("ROLLBACK")
    kept_both.run("BEGIN")
    kept_both.run(statement, named=True)
    kept_both.run("ROLLBACK")
    if kept_both.plain.server_version < 170_000:
        told = [results.simple(conn, statement)[-1].position for conn in (kept_both.plain, kept_both.proxied)]
        assert told == [statement.index("RETURNING" if "RETURNING" in clause else "BY") + 1] * 2


def test_a_sequence_that_is_not_there_is_pointed_at(kept_both: Differential) -> None:
    statement = "INSERT INTO patients (city, mrn) VALUES ('é', 'M' || nextval('nothing'))"
    told = [results.simple(conn, statement)[-1] for conn in (kept_both.plain, kept_both.proxied)]
    assert [one.sqlstate for one in told] == ["42P01"] * 2
    assert [one.position for one in told] == [statement.index("'nothing'") + 1] * 2


@pytest.mark.parametrize(("sqlstate", "statement"), [
    ("42804", "UPDATE stays SET bed = $1 - 1 WHERE born = $1"),
    ("42804", "INSERT INTO stays (id, bed, born) VALUES (77, $1 + 1, $1)"),
    ("42P08", "INSERT INTO stays (id, born, bed) VALUES (77, $1, $1 + 1)"),
    ("42P08", "UPDATE stays SET born = $1, bed = $1 - 5 WHERE id = 1"),
])  # fmt: skip
def test_a_parameter_that_makes_a_value_one_of_another_type(kept_both: Differential, sqlstate: str, statement: str) -> None:
    for named in (False, True):
        assert kept_both.run(statement, ("1980-01-01",), named=named).sqlstate == sqlstate


@pytest.mark.parametrize("statement", [
    "INSERT INTO patients (id, visits_count, city, notes) VALUES (9001, $1 + 1, $1, initcap('x'))",
    "UPDATE patients SET notes = upper(notes), visits_count = $1 + 1, city = $1 WHERE id = 1 RETURNING city, visits_count",
])  # fmt: skip
def test_a_number_is_stored_as_a_text_too(kept_both: Differential, statement: str) -> None:
    for named in (False, True):
        kept_both.run("BEGIN")
        assert kept_both.run(statement, ("5",), named=named).sqlstate is None
        kept_both.run("ROLLBACK")


def test_such_a_parameter_is_pointed_at(kept_both: Differential) -> None:
    statement = "UPDATE stays SET bed = $1 - 1 WHERE born = $1"
    told = [results.extended(conn, statement, ("1980-01-01",), results.Form())[-1] for conn in (kept_both.plain, kept_both.proxied)]
    assert [one.position for one in told] == [statement.index("$1") + 1] * 2


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(("given", "sqlstate"), [(("x", "99999999999"), "22P02"), (("99999999999", "x"), "22003")])
def test_the_first_parameter_that_is_wrong_is_told(
    kept_both: Differential, given: tuple[str, str], sqlstate: str, named: bool
) -> None:
    for statement in ("UPDATE stays SET bed = bed + $1 WHERE id = $2", "SELECT bed + $1 FROM stays WHERE id = $2"):
        assert kept_both.run(statement, given, named=named).sqlstate == sqlstate
    assert kept_both.run("SELECT bed + $2 FROM stays WHERE id = $1", given, named=named).sqlstate == sqlstate


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_what_a_split_cursor_stands_at_is_not_changed_through_it(kept_both: Differential, protocol: Protocol) -> None:
    """Nor is the error of another cursor, of which the letter ``c`` is in the server's words too, told as that."""
    split = "DECLARE c CURSOR FOR SELECT id, upper(full_name) FROM patients ORDER BY id FOR UPDATE"
    kept_both.run("BEGIN")
    kept_both.run(split, protocol="simple")
    kept_both.run("DECLARE other CURSOR FOR SELECT id FROM patients FOR UPDATE")
    assert kept_both.run("UPDATE patients SET city = 'x' WHERE CURRENT OF other", protocol=protocol).sqlstate == "24000"
    kept_both.run("ROLLBACK")
    kept_both.run("BEGIN")
    kept_both.run(split, protocol="simple")
    kept_both.run("FETCH c")
    kept_both.refused("UPDATE patients SET city = 'x' WHERE CURRENT OF c", protocol=protocol, hint="primary key")


@pytest.mark.parametrize(("statement", "given"), [
    ("SELECT id FROM patients WHERE full_name > current_setting('{}') AND id = $1", ("1",)),
    ("SELECT id FROM patients WHERE id < 0 AND full_name = coalesce(current_setting('{}'), 'x')", ()),
    ("SELECT id FROM patients WHERE id = nullif(1, 1) AND full_name > current_setting('{}')", ()),
    ("SELECT upper(full_name) FROM patients p LEFT JOIN visits v ON v.id = p.id AND v.diagnosis > current_setting('{}')", ()),
    ("SELECT upper(ssn) FROM patients WHERE EXISTS (SELECT FROM visits WHERE id < 0 AND diagnosis > current_setting('{}'))", ()),
])  # fmt: skip
def test_a_setting_of_which_it_is_not_known_whether_it_is_asked_for(
    kept_both: Differential, statement: str, given: tuple[str, ...]
) -> None:
    assert kept_both.run(statement.format("search_path"), given).sqlstate is None
    kept_both.refused(statement.format("no.such"), given, hint="Ask for the setting")


@pytest.mark.parametrize("statement", [
    "SELECT id FROM patients WHERE id < 0 AND full_name IS DISTINCT FROM current_setting('no.such')",
    "SELECT city FROM patients WHERE id < 0 GROUP BY city HAVING max(full_name) > current_setting('no.such')",
    "SELECT upper(x.full_name) FROM (SELECT full_name FROM patients WHERE id < 0 AND full_name > current_setting('no.such')) x",
])  # fmt: skip
def test_a_setting_that_the_planner_asks_for_where_no_row_does(kept_both: Differential, statement: str) -> None:
    assert kept_both.run(statement).sqlstate == "42704"


@pytest.mark.parametrize("value", ["(SELECT upper(full_name) FROM patients)", "upper(current_setting('no.such'))"])
def test_what_may_be_computed_in_vain_is_refused_where_it_fails(kept_both: Differential, value: str) -> None:
    """PostgreSQL inserts the row: it evaluates this for a row in conflict only."""
    kept_both.refused(f"INSERT INTO patients (id, notes) VALUES (5001, 'n') ON CONFLICT (id) DO UPDATE SET notes = {value}")


def test_a_null_beside_what_is_drawn_is_refused(kept_both: Differential) -> None:
    """PostgreSQL draws nothing for it where it plans a statement for its values, and does where it plans it for any."""
    statement = "INSERT INTO patients (mrn) VALUES ({} || nextval('numbers'))"
    kept_both.run("BEGIN", protocol="simple")
    kept_both.run(statement.format("$1"), ("M",))
    kept_both.run(statement.format("coalesce($1, 'N')"), (None,))
    kept_both.run("SELECT last_value FROM numbers")
    kept_both.refused(statement.format("$1"), (None,), hint="coalesce")


def test_a_literal_of_which_nothing_says_what_it_is(kept_both: Differential) -> None:
    """It is in a row that is not described; PostgreSQL says so when it parses it, and not where."""
    statement = (
        "INSERT INTO patients AS w (id, full_name) VALUES (902, $1::text), (1, (to_jsonb('9'))::text) ON CONFLICT (id)"
        " DO UPDATE SET notes = w.notes RETURNING w.phone, CASE least(w.ssn, 'y') WHEN md5(w.ssn) THEN 'same' ELSE w.phone END"
    )
    for named in (False, True):
        assert kept_both.run(statement, ("x",), named=named).sqlstate == "42804"
