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
