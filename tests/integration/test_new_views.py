"""Views, functions and operators behind their making in one transaction, as a migration has them: understood as in any other."""

from __future__ import annotations

import pytest

from tests.harness import results
from tests.harness.differential import Differential, Protocol


def run(both: Differential, *statements: str) -> None:
    """Run statements that succeed, both ways, in a transaction that is rolled back."""
    try:
        for statement in ("BEGIN", *statements):
            assert both.run(statement, protocol="simple").sqlstate is None, statement
    finally:
        both.run("ROLLBACK", protocol="simple")


def test_a_new_view_is_read_and_written(differential: Differential) -> None:
    ssn, fresh = differential.clinic.patients[0].ssn, differential.clinic.plant()
    run(
        differential,
        "CREATE VIEW met AS SELECT id, ssn, city FROM patients",
        "SELECT * FROM met ORDER BY id",
        f"SELECT id FROM met WHERE ssn = '{ssn}'",
        f"INSERT INTO met (id, ssn) VALUES (100, '{fresh}') RETURNING ssn",
        "CREATE VIEW cities AS SELECT ssn AS social FROM met WHERE city IS NULL",
        f"SELECT social FROM cities WHERE social = '{fresh}'",
        "COMMENT ON VIEW met IS 'seen'",
        "DROP VIEW met CASCADE",
        "SELECT ssn FROM patients ORDER BY id",
    )


def test_a_view_that_is_replaced_is_what_it_is_now(differential: Differential) -> None:
    patient = differential.clinic.patients[1]
    either = [f"SELECT id FROM shown WHERE value = '{value}'" for value in (patient.ssn, patient.full_name)]
    for statement in ("CREATE VIEW shown AS SELECT id, ssn AS value FROM patients", *either):
        differential.run(statement, protocol="simple")
    try:
        run(
            differential,
            *either,
            "CREATE OR REPLACE VIEW shown AS SELECT id, full_name AS value FROM patients",
            *either,
            "SAVEPOINT before",
            "CREATE OR REPLACE VIEW shown AS SELECT id, ssn AS value FROM patients",
            *either,
            "ROLLBACK TO before",
            *either,
        )
        for statement in either:
            differential.run(statement, protocol="simple")
    finally:
        differential.run("DROP VIEW shown", protocol="simple")


def test_a_view_that_shows_nothing_protected_is_replaced_by_one_over_nothing_protected(differential: Differential) -> None:
    run(
        differential,
        "CREATE VIEW cities AS SELECT id, city FROM patients WHERE ssn IS NOT NULL",
        "SELECT * FROM cities ORDER BY id",
        "CREATE OR REPLACE VIEW cities AS SELECT 1 AS id, 'x'::text AS city",
        "SELECT * FROM cities ORDER BY id",
        "CREATE OR REPLACE VIEW cities AS SELECT id, city, ssn FROM patients",
        "SELECT * FROM cities ORDER BY id",
    )


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_a_failed_transaction_is_asked_nothing(differential: Differential, protocol: Protocol) -> None:
    """What a name means that was not read yet cannot be asked there: the server says that the transaction has failed."""
    for statement in ("BEGIN", "CREATE VIEW met AS SELECT id, ssn FROM patients", "SELECT count(ssn) FROM patients", "SELECT 1/0"):
        differential.run(statement, protocol="simple")
    for statement in ("SELECT * FROM never_read, patients", f"INSERT INTO not_read_{protocol} SELECT id, ssn FROM patients"):
        assert differential.run(statement, protocol=protocol).sqlstate == "25P02"
    differential.run("ROLLBACK", protocol="simple")
    differential.run("SELECT ssn FROM patients ORDER BY id", protocol=protocol)


def test_the_search_path_stays_the_client_s(differential: Differential) -> None:
    run(
        differential,
        "CREATE TEMP TABLE patients (id int, ssn text)",
        "SET LOCAL search_path = pg_temp, public",
        "CREATE VIEW public.met AS SELECT id, ssn FROM public.patients",
        "SELECT ssn FROM met ORDER BY id",
        "SHOW search_path",
        "SET search_path = public, pg_temp",
        "SELECT m.ssn FROM met m JOIN patients USING (ssn) ORDER BY m.id",
        "SHOW search_path",
    )
    assert results.simple(differential.proxied, "SHOW search_path") == results.simple(differential.plain, "SHOW search_path")


def test_names_that_the_client_s_encoding_has_not(differential: Differential) -> None:
    differential.run("CREATE FUNCTION \"名前\"() RETURNS int LANGUAGE sql AS 'SELECT 1'", protocol="simple")
    try:
        run(
            differential,
            "SET LOCAL client_encoding = LATIN1",
            'CREATE VIEW met AS SELECT id, ssn AS "key" FROM patients',
            'SELECT id FROM met WHERE "key" IS NOT NULL ORDER BY id',
        )
    finally:
        differential.run('DROP FUNCTION "名前"()', protocol="simple")


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_of_nothing_protected(differential: Differential, kind: str) -> None:
    run(
        differential,
        f"CREATE {kind} cities AS SELECT city, count(*) AS n FROM patients GROUP BY city",
        "SELECT * FROM cities ORDER BY city",
        "SELECT ssn FROM patients p JOIN cities c USING (city) ORDER BY p.id",
    )


def test_a_materialized_view_has_indexes(differential: Differential) -> None:
    ssn = differential.clinic.patients[0].ssn
    run(
        differential,
        "CREATE MATERIALIZED VIEW kept AS SELECT id, ssn AS social, city FROM patients",
        "CREATE UNIQUE INDEX ON kept (id)",
        "CREATE INDEX ON kept (city, social) WHERE id > 0",
        f"SELECT id FROM kept WHERE social = '{ssn}'",
        "SELECT indexname FROM pg_indexes WHERE tablename = 'kept' ORDER BY 1",
        "REFRESH MATERIALIZED VIEW kept",
        f"SELECT id, social FROM kept WHERE social = '{ssn}'",
    )
    results.simple(differential.proxied, "BEGIN")
    results.simple(differential.proxied, "CREATE MATERIALIZED VIEW kept AS SELECT id, ssn AS social FROM patients")
    refused = differential.refused("CREATE INDEX ON kept (upper(social))", protocol="simple")
    assert "Add `upper(ssn)` to the indexes of public.patients.ssn" in refused.hint
    results.simple(differential.proxied, "ROLLBACK")


def test_functions_and_operators_are_known(differential: Differential) -> None:
    run(
        differential,
        "CREATE FUNCTION longer(text, int) RETURNS bool LANGUAGE sql AS 'SELECT length($1) > $2'",
        "CREATE OPERATOR >># (LEFTARG = text, RIGHTARG = int, FUNCTION = longer)",
        "SELECT ssn FROM patients WHERE longer(city, 3) AND city >># 2 ORDER BY id",
    )
    both = differential
    for made, use in (("longer(ssn, 3)", "0A000"), ("longer(ssn)", "42883"), ("ssn >># 3", "0A000"), ("ssn >># true", "42883")):
        results.simple(both.proxied, "BEGIN")
        results.simple(both.proxied, "CREATE FUNCTION longer(text, int) RETURNS bool LANGUAGE sql AS 'SELECT length($1) > $2'")
        results.simple(both.proxied, "CREATE OPERATOR >># (LEFTARG = text, RIGHTARG = int, FUNCTION = longer)")
        both.refused(f"SELECT {made} FROM patients", sqlstate=use, protocol="simple")
        results.simple(both.proxied, "ROLLBACK")
