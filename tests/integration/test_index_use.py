"""The index on a tag is what the planner takes, in every form of search: EXPLAIN, through the proxy (spec/stored-format 1.1)."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.clinic import Clinic

# Envelopes of other tags, made of a real one: nobody opens them, but the planner must find an index worth its while among so many.
_MANY = """
INSERT INTO {table} (mrn) SELECT overlay(t.mrn PLACING substring(sha256(i::text::bytea), 1, 16) FROM 13 FOR 16)
  FROM generate_series(1, 5000) AS i, (SELECT mrn FROM {table} WHERE mrn IS NOT NULL LIMIT 1) AS t
"""
SEARCHES = [
    "SELECT id FROM patients WHERE mrn = '{mrn}'",
    "SELECT id FROM patients WHERE mrn::text = '{mrn}'",
    "SELECT id FROM patients WHERE mrn IN ('{mrn}', 'nobody')",
    "SELECT id FROM patients WHERE mrn = ANY ('{{nobody,{mrn}}}')",
    "SELECT id FROM patients WHERE (mrn, city) IN (('{mrn}', 'x'), ('nobody', 'y'))",
    "SELECT id FROM patients WHERE mrn IN (SELECT v.mrn FROM visits v WHERE v.id = 1)",
    "SELECT id FROM patients WHERE mrn = ANY (SELECT v.mrn FROM visits v WHERE v.id = 1)",
    "SELECT id FROM patients p WHERE EXISTS (SELECT 1 FROM visits v WHERE v.mrn = p.mrn AND v.id = 1)",
    "SELECT id FROM patients WHERE mrn IN (SELECT unnest(ARRAY['{mrn}', 'nobody']))",
    "SELECT p.id FROM patients p JOIN visits v ON v.mrn = p.mrn WHERE v.id = 1",
    "SELECT p.id FROM patients p JOIN visits v USING (mrn) WHERE v.id = 1",
    "SELECT p.id FROM visits v LEFT JOIN patients p USING (mrn) WHERE v.id = 1",
    "SELECT p.id FROM patients p JOIN (VALUES ('{mrn}'), ('nobody')) AS g (mrn) USING (mrn)",
    "WITH c AS (SELECT * FROM patients) SELECT id FROM c WHERE mrn = '{mrn}'",
    "WITH v AS (SELECT mrn FROM visits WHERE id = 1) SELECT p.id FROM patients p JOIN v ON v.mrn = p.mrn",
    "SELECT x.id FROM (SELECT id, mrn FROM patients) AS x WHERE x.mrn = '{mrn}'",
    "SELECT v.id, (SELECT p.id FROM patients p WHERE p.mrn = v.mrn LIMIT 1) FROM visits v WHERE v.id = 1",
    "SELECT (p).id FROM patients p WHERE (p).mrn = '{mrn}'",
    "UPDATE patients SET city = 'x' WHERE mrn = '{mrn}'",
    "DELETE FROM patients p USING visits v WHERE v.mrn = p.mrn AND v.id = 1",
]


@pytest.fixture
def proxied(clinic: Clinic) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session through the proxy, in a transaction, to a clinic of thousands."""
    clinic.seed()
    with clinic.superuser() as direct:
        for table in ("patients", "visits"):
            direct.execute(_MANY.format(table=table).encode())
            direct.execute(f"CREATE INDEX {table}_mrn_tag ON {table} (pg_catalog.substring(mrn, 13, 16))".encode())
            direct.execute(f"ANALYZE {table}".encode())
        with psycopg.connect(clinic.proxy_dsn) as conn:
            yield conn
            conn.rollback()
        direct.execute("DROP INDEX patients_mrn_tag, visits_mrn_tag")


def test_every_search_takes_the_index(clinic: Clinic, proxied: psycopg.Connection[tuple[object, ...]]) -> None:
    for search in SEARCHES:
        statement = search.format(mrn=clinic.patients[0].mrn)
        plan = "\n".join(str(line) for (line,) in proxied.execute(f"EXPLAIN (COSTS off) {statement}".encode()))
        assert "Seq Scan on patients" not in plan, f"{search}\n{plan}"
        assert 'Index Cond: ("substring"(' in plan, f"{search}\n{plan}"


GENERIC = [
    ("SELECT id FROM patients WHERE mrn = $1 AND city = $2", "patients_mrn_tag"),
    ("SELECT id FROM patients WHERE mrn IN ($1, 'nobody') AND id > $2", "patients_mrn_tag"),
    (
        "SELECT v.id FROM patients p JOIN visits v ON v.mrn = p.mrn WHERE p.ssn = $1 AND v.mrn = $1 AND p.city = 'x'",
        "visits_mrn_tag",
    ),
    ("UPDATE patients SET notes = $1 WHERE mrn = $2", "patients_mrn_tag"),
]


def test_plans_that_fit_all_values(clinic: Clinic, proxied: psycopg.Connection[tuple[object, ...]]) -> None:
    """GENERIC_PLAN takes parameters in the simple protocol, where psql sends them (manual, EXPLAIN)."""
    if proxied.info.server_version < 160000:
        with pytest.raises(psycopg.errors.UndefinedParameter):
            proxied.execute(b"EXPLAIN (GENERIC_PLAN) SELECT id FROM patients WHERE mrn = $1")
        return
    for statement, index in GENERIC:
        for options in ("GENERIC_PLAN", "COSTS off, GENERIC_PLAN on"):
            plan = "\n".join(str(line) for (line,) in proxied.execute(f"EXPLAIN ({options}) {statement}".encode()))
            assert index in plan
            assert "= $" in plan or "ANY (" in plan
    with pytest.raises(psycopg.errors.UndefinedParameter) as caught, proxied.transaction():
        proxied.execute(b"EXPLAIN (GENERIC_PLAN off) SELECT id FROM patients WHERE mrn = $1")
    assert caught.value.diag.statement_position == "64"


def test_a_pattern_that_is_a_parameter_takes_the_index(clinic: Clinic, proxied: psycopg.Connection[tuple[object, ...]]) -> None:
    """What tells that everything matches is a comparison of constants, which is gone once the parameter is known."""
    mrn = clinic.patients[0].mrn
    proxied.execute("PREPARE by_pattern AS SELECT id FROM patients WHERE mrn LIKE $1")
    plans = {}
    for pattern in (mrn, "%"):
        shown = proxied.execute(f"EXPLAIN (COSTS off) EXECUTE by_pattern('{pattern}')".encode())
        plans[pattern] = "\n".join(str(line) for (line,) in shown)
    assert 'Index Cond: ("substring"(' in plans[mrn], plans[mrn]
    assert "Seq Scan on patients" in plans["%"], plans["%"]
    proxied.execute("DEALLOCATE by_pattern")
