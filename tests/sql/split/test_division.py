"""What goes to the server: never a value in clear that meets something protected in the rest, and never more than is needed."""

from __future__ import annotations

import pytest

from tests.sql.split.ask import shown, split_of


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM patients WHERE city = 'planted' AND upper(ssn) = 'planted'",
        "SELECT id FROM patients WHERE city = E'planted' AND upper(ssn) = $$planted$$",
        "SELECT id FROM patients WHERE city IN ('x', 'planted') AND reverse(ssn) IN ('planted', 'y')",
        "SELECT p.id FROM patients p JOIN visits v ON p.id = v.patient_id AND v.room = 'planted' WHERE upper(p.ssn) = 'planted'",
        "SELECT id FROM patients WHERE city = 'planted' ORDER BY ssn || 'planted' LIMIT 2",
        "SELECT max(x) FROM (SELECT ssn || 'planted' AS x FROM patients WHERE city = 'planted') q",
        "WITH c AS (SELECT ssn, 'planted' AS k FROM patients WHERE city = 'planted')"
        " SELECT id FROM c, visits WHERE c.ssn < diagnosis || 'planted'",
        "SELECT id FROM patients WHERE id IN (SELECT patient_id FROM visits WHERE room = 'planted') AND ssn > 'planted'",
        "WITH c AS (SELECT ssn FROM patients WHERE city = 'planted') SELECT upper(ssn) FROM c WHERE reverse(ssn) > 'planted'",
        "SELECT upper(ssn), ssn || 'planted' FROM patients ORDER BY coalesce(city, 'planted'), id LIMIT 2",
        "SELECT id FROM patients /* planted */ p -- planted\n WHERE upper(ssn) = 'planted' AND (active /* planted */ OR id = 3)",
        "SELECT p.id FROM patients p /* planted */ JOIN visits v ON /* planted */ p.id = v.patient_id WHERE upper(ssn) = 'planted'",
        "SELECT CASE WHEN city = 'planted' THEN ssn ELSE 'planted' || ssn END FROM patients",
    ],
)
def test_no_value_that_meets_something_protected(statement: str) -> None:
    split = split_of(statement)
    assert split is not None
    assert b"planted" not in split.source
    assert "planted" in shown(split.rest)


def test_no_value_that_meets_something_protected_names_a_setting() -> None:
    assert split_of("SELECT current_setting('planted') FROM patients WHERE upper(ssn) = 'planted'") is None
    assert split_of("SELECT current_setting('planted') || ssn FROM patients WHERE upper(ssn) = 'other'") is not None


def test_no_parameter_that_meets_something_protected() -> None:
    split = split_of("SELECT id FROM patients WHERE city = $2 AND active = $3 AND upper(ssn) <> $2 AND notes > $1")
    assert split is not None
    assert split.source_parameters == (3,)
    assert split.rest.parameters == (1, 2)


def test_all_pairs_of_rows_are_not_fetched() -> None:
    split = split_of("SELECT p.id, v.id FROM patients p, visits v WHERE p.full_name < v.diagnosis")
    assert split is not None
    assert b"FULL JOIN" in split.source


def test_what_would_narrow_a_source_is_told() -> None:
    wide = split_of("SELECT upper(p.ssn) FROM patients p, visits v WHERE p.full_name < v.diagnosis AND p.city = 'x'")
    assert wide is not None
    assert wide.narrowing == "add a condition on v that the server can decide"


def test_rows_of_an_outer_join_stay_null() -> None:
    split = split_of("SELECT count(v), max(p.ssn) FROM patients p LEFT JOIN visits v ON p.id = v.patient_id")
    assert split is not None
    assert "LATERAL" not in shown(split.rest)


def test_volatile_conditions_are_nobody_s() -> None:
    assert split_of("SELECT upper(ssn) FROM patients WHERE random() < 0.5") is None


def test_names_that_a_query_of_with_hides() -> None:
    split = split_of(
        "WITH log AS (SELECT ssn AS msg FROM patients) SELECT upper(ssn) FROM patients WHERE id IN (SELECT length(msg) FROM log)"
    )
    assert split is not None
    assert split.source.count(b"FROM log") == split.source.count(b"WITH log AS (SELECT ssn AS msg FROM patients)") == 1


# What a derived table shows of given values is compared, or computed with, what is protected: it is in no source.
SHOWN = {
    "given rows": "SELECT p.id FROM people p JOIN (VALUES (DATE '2345-06-07' + 0, 1 + 0)) v (d, n) ON v.n = p.id"
    " WHERE p.born < v.d",
    "parameters": "SELECT p.id FROM people p JOIN (VALUES ($1::date + 0, $2::int + 0)) v (d, n) ON v.n = p.id WHERE p.born < v.d",
    "an output": "SELECT p.born - v.d FROM people p JOIN (SELECT DATE '2345-06-07' + 0 AS d, id AS n FROM log) v ON v.n = p.id",
    "an order": "SELECT p.id FROM people p JOIN (SELECT concat('2345-06-07', id) AS d, id AS n FROM log) v ON v.n = p.id"
    " ORDER BY p.name || v.d",
    "a query of WITH": "WITH v AS (SELECT concat('2345-06-07', id) AS d, id AS n FROM log) SELECT p.id FROM people p"
    " JOIN v ON v.n = p.id WHERE p.name > v.d",
    "a query of WITH in another": "WITH w AS (SELECT concat('2345-06-07', id) AS d, id AS n FROM log), v AS (SELECT d, n FROM w)"
    " SELECT p.id FROM people p JOIN v ON v.n = p.id WHERE p.name > v.d",
    "lateral": "SELECT p.id FROM people p, LATERAL (SELECT concat('2345-06-07', p.id) AS d) v WHERE p.name > v.d",
    "a function in it": "SELECT p.id FROM people p JOIN (SELECT u || '' AS d, id AS n FROM log, unnest(ARRAY['2345-06-07']) u) v"
    " ON v.n = p.id WHERE p.name > v.d",
    "a set operation": "SELECT upper(p.name) FROM people p INTERSECT"
    " SELECT v.d FROM (SELECT concat('2345-06-07', id) AS d, id FROM log) v JOIN people p ON p.id = v.id",
    "through another": "SELECT q.id FROM (SELECT p.id, p.name, v.d FROM people p JOIN"
    " (SELECT concat('2345-06-07', id) AS d, id AS n FROM log) v ON v.n = p.id) q WHERE q.name > q.d",
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_derived_table_shows_to_something_protected_is_in_no_source(name: str) -> None:
    split = split_of(SHOWN[name])
    assert split is not None
    assert b"2345" not in split.source
    assert not split.source_parameters


@pytest.mark.parametrize(
    "write",
    [
        "DELETE FROM visits RETURNING patient_id AS id, concat('2345-06-07', id) AS d",
        "UPDATE visits t SET room = 'x' FROM (VALUES ('2345-06-07')) v (d) RETURNING patient_id AS id, v.d || t.room AS d",
        "UPDATE visits t SET room = 'x' RETURNING patient_id AS id, (SELECT max(v.d) FROM v) AS d",
    ],
)
def test_what_a_write_in_with_returns_of_given_values_meets_nothing_protected(write: str) -> None:
    given = "v (d) AS (VALUES ('2345-06-07'))"
    assert split_of(f"WITH {given}, w AS ({write}) SELECT p.id FROM w JOIN patients p ON p.id = w.id WHERE p.ssn > w.d") is None
    assert split_of(f"WITH {given}, w AS ({write}) SELECT upper(p.ssn) FROM w JOIN patients p ON p.id = w.id") is not None
