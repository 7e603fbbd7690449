"""SELECTs that are split, by both protocols, in every format, in transactions and pipelines: as PostgreSQL answers them."""

from __future__ import annotations

import pytest

from tests.harness import results
from tests.harness.differential import SELECTS, Differential, Protocol

STATEMENTS = {
    "ORDER BY": "SELECT id, full_name FROM patients ORDER BY full_name, id LIMIT 3",
    "ILIKE": "SELECT id, full_name, city FROM patients WHERE full_name ILIKE '%zo%' ORDER BY id",
    "aggregates": "SELECT city, max(full_name), min(ssn), count(*) FROM patients GROUP BY city ORDER BY city",
    "expressions": "SELECT id, upper(full_name) || ' ' || length(notes) AS said FROM patients ORDER BY id",
    "windows": "SELECT id, row_number() OVER (ORDER BY full_name) FROM patients ORDER BY id",
    "no rows": "SELECT id FROM patients WHERE full_name LIKE 'nobody%'",
    "two tables": "SELECT p.id, v.diagnosis FROM patients p LEFT JOIN visits v ON v.mrn || '' = p.mrn ORDER BY p.id, v.diagnosis",
    "whole": "SELECT row_to_json(p) FROM patients p ORDER BY p.id",
    "rows": "SELECT p, id, upper(full_name), p::text FROM patients p ORDER BY full_name, id",
    "rows of an outer join": "SELECT v.id, p FROM visits v LEFT JOIN patients p ON p.id = patient_id AND ssn > 'M' ORDER BY v.id",
    "rows that are sorted": "SELECT DISTINCT p FROM patients p ORDER BY p",
    "rows that are compared": "SELECT count(*), p < q AS less FROM patients p, patients q GROUP BY p < q ORDER BY 2",
    "a subquery by which is grouped": (
        "SELECT (SELECT max(v.diagnosis) FROM visits v WHERE v.patient_id = p.id) AS m, count(*) FROM patients p"
        " GROUP BY (SELECT max(v.diagnosis) FROM visits v WHERE v.patient_id = p.id) ORDER BY 1"
    ),
    "a subquery of which the first row is taken": (
        "SELECT DISTINCT ON (full_name IN (SELECT v.diagnosis FROM visits v)) id FROM patients"
        " ORDER BY full_name IN (SELECT v.diagnosis FROM visits v), id"
    ),
    "columns that a statement defines": (
        "SELECT p.id, x.*, city FROM patients p, jsonb_to_record(jsonb_build_object('a', full_name)) AS x (a text, b int)"
    ),
    "columns of USING by their alias": "SELECT x.*, upper(full_name) FROM patients p JOIN visits v USING (id) AS x ORDER BY x.id",
    "what the planner folds": (
        "SELECT CASE WHEN NULL::int < id THEN lpad(city, 5, '*') ELSE notes::varchar(3) END,"
        " coalesce(NULL::varchar, full_name::varchar(4)) FROM patients ORDER BY ssn"
    ),
    "rows that are grouped by": "SELECT p, count(*), row_to_json(p) FROM patients p GROUP BY p.id ORDER BY p.id",
}
WITH_PARAMETERS: dict[str, tuple[str, tuple[object, ...]]] = {
    "a condition that would fail, behind one that costs less": (
        "SELECT upper(full_name) FROM patients WHERE decode(ssn, $2) > '' AND mrn > $1",
        ("zzzz", "nothing"),
    ),
    "pattern": ("SELECT id, full_name FROM patients WHERE full_name ILIKE $1 ORDER BY full_name", ("%zo%",)),
    "range": ("SELECT id FROM patients WHERE full_name > $1 ORDER BY id", ("M",)),
    "beside an unprotected column": ("SELECT id FROM patients WHERE id < $2 AND full_name > $1 ORDER BY id", ("A", 4)),
    "limit": ("SELECT id, full_name FROM patients ORDER BY full_name LIMIT $1::int", (2,)),
    "in the result": ("SELECT full_name || $1::text FROM patients ORDER BY id", ("!",)),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_as_the_whole_statement(kept_both: Differential, name: str) -> None:
    statement = STATEMENTS[name]
    kept_both.run(statement, protocol="simple")
    for parameters, formats, named in SELECTS:
        outcome = kept_both.run(statement, param_format=parameters, result_format=formats, named=named)
        assert outcome.status == "TUPLES_OK", outcome.message


def test_rows_through_a_cursor_and_copy(kept_both: Differential) -> None:
    for statement in ("BEGIN", "DECLARE c CURSOR FOR SELECT p FROM patients p ORDER BY p.id", "FETCH 2 FROM c", "ROLLBACK"):
        kept_both.run(statement, protocol="simple", ordered=True)
    for statement in ("BEGIN", "DECLARE c CURSOR FOR SELECT p FROM patients p ORDER BY p.id"):
        kept_both.run(statement)
    kept_both.run("FETCH 2 FROM c", result_format=1, named=True, ordered=True)
    kept_both.run("ROLLBACK")


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_with_parameters(kept_both: Differential, name: str) -> None:
    statement, values = WITH_PARAMETERS[name]
    for parameters, formats, named in SELECTS:
        outcome = kept_both.run(statement, values, param_format=parameters, result_format=formats, named=named)
        assert outcome.status == "TUPLES_OK", outcome.message


def test_a_parameter_that_is_tested_for_null_is_a_value_of_its_type(kept_both: Differential) -> None:
    statement = "SELECT upper(full_name) FROM patients WHERE ($1::int IS NULL OR id = 5)"
    assert kept_both.run(statement, ("abc",)).sqlstate == "22P02"


@pytest.mark.parametrize("statement", [
    "SELECT upper(ssn) FROM patients p FOR UPDATE OF nothing",
    "SELECT 'ü', upper(ssn) FROM patients p WHERE ssn = 'x' FOR UPDATE OF p, v",
    "SELECT upper(ssn) FROM patients p FOR SHARE OF patients",
    "SELECT upper(p.ssn) FROM patients p LEFT JOIN visits v ON v.mrn = p.mrn FOR UPDATE OF v",
    "SELECT upper(full_name) FROM patients ORDER BY id LIMIT 'x'",
    "SELECT upper(full_name) FROM patients ORDER BY id OFFSET 'x'",
    "SELECT upper(full_name) FROM patients ORDER BY 1 LIMIT 'x'",
    "SELECT upper(full_name) FROM patients ORDER BY id LIMIT -1",
    "SELECT upper(full_name) FROM patients ORDER BY 1 LIMIT nothing",
    "SELECT upper(full_name) FROM patients TABLESAMPLE nothing (10)",
    "SELECT upper(full_name) FROM patients WHERE ssn > 'a' AND id = ANY ('{1,x}')",
    "UPDATE patients SET notes = notes || 'x' WHERE id = ANY ('{1,x}')",
])  # fmt: skip
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_where_an_error_is(kept_both: Differential, statement: str, protocol: Protocol) -> None:
    said = []
    for conn in (kept_both.plain, kept_both.proxied):
        outcome = (
            results.simple(conn, statement) if protocol == "simple" else results.extended(conn, statement, (), results.Form())
        )[-1]
        said.append((outcome.sqlstate, outcome.message, outcome.position))
    assert said[1] == said[0]
    assert said[0][0] is not None


@pytest.mark.parametrize("added", [
    "SEARCH DEPTH FIRST BY id SET o", "SEARCH BREADTH FIRST BY id, n SET o", "CYCLE id SET c USING path",
    "SEARCH DEPTH FIRST BY id SET o CYCLE id SET c TO 'y' DEFAULT 'n' USING path",
])  # fmt: skip
def test_columns_that_search_and_cycle_add(kept_both: Differential, added: str) -> None:
    kept_both.read(
        "WITH RECURSIVE t (id, n) AS (SELECT p.id, upper(p.ssn) FROM patients p WHERE p.id = 1 UNION ALL"
        f" SELECT p.id, t.n || left(p.full_name, 1) FROM t JOIN patients p ON p.id = t.id + 1) {added} SELECT * FROM t ORDER BY id"
    )


# One value of the server's, or subquery, in two spellings: equal for PostgreSQL, so it is grouped by once.
ZONE = "current_setting('timezone')"
SPELLED = {
    "DISTINCT": f"SELECT DISTINCT {ZONE}, full_name FROM patients ORDER BY current_setting( 'timezone'), full_name",
    "DISTINCT ON": f"SELECT DISTINCT ON ({ZONE}) full_name FROM patients ORDER BY pg_catalog.{ZONE}, full_name",
    "an aggregate": f"SELECT string_agg(DISTINCT notes || {ZONE}, '' ORDER BY notes || current_setting( 'timezone')) FROM patients",
    "grouped by": "SELECT date 'today', max(ssn) FROM patients GROUP BY ROLLUP ('today'::date)",
    "with a schema": f"SELECT pg_catalog.{ZONE} || max(ssn) FROM patients GROUP BY {ZONE}",
    "sets with a key beside": "SELECT id, upper(full_name), city FROM patients GROUP BY id, ROLLUP (city)",
    "sets of a key": "SELECT id, max(full_name), max(max(ssn)) OVER () FROM patients GROUP BY CUBE (id, city)",
    "sets of a key, one of them shown": "SELECT id, full_name, max(ssn) FROM patients GROUP BY id, ROLLUP (city, full_name)",
    "unequal subqueries": "SELECT (SELECT max(room) FROM visits WHERE id = 1) AS a,"
    " (SELECT max(room) FROM visits WHERE id = 2) AS b, max(full_name) FROM patients"
    " GROUP BY ROLLUP ((SELECT max(room) FROM visits WHERE id = 1), (SELECT max(room) FROM visits WHERE id = 2))",
    "unequal subqueries, of protected columns": "SELECT (SELECT max(diagnosis) FROM visits v WHERE v.patient_id = p.id), max(ssn)"
    " FROM patients p GROUP BY ROLLUP ((SELECT max(diagnosis) FROM visits v WHERE v.patient_id = p.id),"
    " (SELECT min(diagnosis) FROM visits v WHERE v.patient_id = p.id AND v.id > 1))",
}
# Columns that depend on a primary key that each of the groupings has, or not each.
GROUPINGS = {
    "SELECT p.*, grouping(active) FROM patients p GROUP BY GROUPING SETS ((id), (id, active))": None,
    "SELECT p, max(upper(ssn)) FROM patients p GROUP BY GROUPING SETS ((id), (id, city))": None,
    "SELECT id, city, max(full_name) FROM patients GROUP BY GROUPING SETS ((id, city), (id))": None,
    "SELECT notes, max(ssn) FROM patients GROUP BY GROUPING SETS (id, GROUPING SETS ((id, city), (id, active))), CUBE (city)": None,
    "SELECT p.id, city, (SELECT max(p.full_name)) FROM patients p GROUP BY ROLLUP (p.id), city": None,
    "SELECT id, max(full_name), city FROM patients GROUP BY ROLLUP (id)": "42803",
    "SELECT p.full_name, max(ssn) FROM patients p GROUP BY GROUPING SETS ((id), (id, active), ())": "42803",
    "SELECT p.full_name, max(ssn) FROM patients p GROUP BY GROUPING SETS ((id), (active))": "42803",
}
# Here the engine would group by both: nothing of the rest tells it that they are one.
NOT_TOLD_APART = [
    f"SELECT {ZONE} IS NULL, current_setting( 'timezone') IS NULL, max(ssn) FROM patients"
    f" GROUP BY ROLLUP ({ZONE} IS NULL, current_setting( 'timezone') IS NULL)",
    "SELECT now() IS NULL, pg_catalog.now() IS NULL, max(ssn) FROM patients"
    " GROUP BY ROLLUP (now() IS NULL, pg_catalog.now() IS NULL)",
    "SELECT current_user, CURRENT_USER, max(ssn) FROM patients GROUP BY ROLLUP (current_user, CURRENT_USER)",
    "SELECT (SELECT max(room) FROM visits WHERE id = 1), max(ssn) FROM patients"
    " GROUP BY ROLLUP ((SELECT max(room) FROM visits WHERE id = 1), (SELECT max(room) FROM visits WHERE id IN (1)))",
]


@pytest.mark.parametrize("name", SPELLED)
def test_equal_expressions_are_equal_however_they_are_written(kept_both: Differential, name: str) -> None:
    assert kept_both.run(SPELLED[name], protocol="simple").status == "TUPLES_OK"


@pytest.mark.parametrize("statement", NOT_TOLD_APART)
def test_what_may_be_equal_is_not_grouped_by_twice(kept_both: Differential, statement: str) -> None:
    kept_both.refused(statement, protocol="simple")


@pytest.mark.parametrize("statement", GROUPINGS)
def test_a_column_depends_on_a_key_that_is_in_each_grouping(kept_both: Differential, statement: str) -> None:
    assert kept_both.run(statement, protocol="simple").sqlstate == GROUPINGS[statement]
