"""Views and tables made from queries."""

from __future__ import annotations

import pytest

from tests.sql.statements.ddl.build import TAG, physical, plan, refused


@pytest.mark.parametrize(
    ("text", "server"),
    [
        (
            "CREATE VIEW v AS SELECT id, ssn FROM patients WHERE active",
            'CREATE VIEW "public".v AS SELECT id, ssn FROM "public".patients WHERE active',
        ),
        (
            "CREATE OR REPLACE VIEW v (a) AS SELECT p.ssn FROM patients p JOIN patients q ON p.ssn = q.ssn",
            'CREATE OR REPLACE VIEW "public".v (a) AS SELECT p.ssn FROM "public".patients p JOIN "public".patients q'
            f" ON {TAG.format('p.ssn')} = {TAG.format('q.ssn')}",
        ),
        (
            "CREATE VIEW v AS SELECT ssn, CASE WHEN id = 1 THEN mrn ELSE NULL END AS m FROM patients GROUP BY id, ssn, mrn",
            f'CREATE VIEW "public".v AS SELECT pg_catalog.any_value(ssn) AS "ssn", CASE WHEN id = 1 THEN'
            f' pg_catalog.any_value(mrn) ELSE NULL::bytea END AS m FROM "public".patients'
            f" GROUP BY id, {TAG.format('ssn')}, {TAG.format('mrn')}",
        ),
        (
            "CREATE VIEW v WITH (security_barrier, security_invoker = true) AS SELECT ssn FROM patients WITH CHECK OPTION",
            'CREATE VIEW "public".v WITH (security_barrier, security_invoker = true) AS SELECT ssn FROM "public".patients'
            " WITH CHECK OPTION",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT ssn FROM patients",
            'CREATE MATERIALIZED VIEW "public".v AS SELECT ssn FROM "public".patients',
        ),
        (
            "CREATE TEMP TABLE t AS SELECT id FROM patients WHERE ssn = 'x'",
            f'CREATE TEMP TABLE t AS SELECT id FROM "public".patients WHERE {TAG.format("ssn")} = $1',
        ),
    ],
)
def test_a_query_that_passes_envelopes_on_is_stored_as_it_is(text: str, server: str) -> None:
    assert physical(text) == server


def test_something_protected_depends_on_a_new_view_from_then_on() -> None:
    assert plan("CREATE VIEW v AS SELECT ssn FROM patients").effects.reaches == ("v",)
    assert plan("CREATE TABLE t AS SELECT id FROM patients").effects.reaches == ()


@pytest.mark.parametrize(
    "text",
    [
        "CREATE VIEW v AS SELECT id FROM patients WHERE ssn = 'x'",
        "CREATE VIEW v AS SELECT upper(ssn) FROM patients",
        "CREATE VIEW visits AS SELECT id FROM patients",
        "CREATE VIEW v AS SELECT mrn::text FROM patients",
        "CREATE VIEW v AS SELECT CASE WHEN id = 1 THEN mrn ELSE NULL::text END FROM patients",
        "CREATE VIEW v AS SELECT COALESCE(ssn, 'x') FROM patients",
        "CREATE TABLE t AS SELECT ssn FROM patients",
        "CREATE TABLE visits AS SELECT id FROM patients",
        "CREATE TEMP TABLE visits AS SELECT ssn FROM patients",
        "CREATE MATERIALIZED VIEW v AS SELECT id FROM patients WHERE ssn = 'x'",
    ],
)
def test_a_query_that_would_be_rewritten_is_not_stored(text: str) -> None:
    error = refused(text)
    assert error.sqlstate == "0A000"
    assert error.hint
