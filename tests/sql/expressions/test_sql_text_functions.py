"""Functions that run SQL given as text pass where that is a constant that names nothing protected."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import PathNeeded, StatementRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.signatures import Function, Rows, Signatures
from tests.clinic_model import CATALOG, PROTECTION, SIGNATURES
from tests.sql.ask import VIEW, ask

NAMES = [
    *(
        "ts_stat",
        "ts_rewrite",
        "query_to_xml",
        "query_to_xmlschema",
        "table_to_xml",
        "cursor_to_xml",
        "schema_to_xml",
        "database_to_xml",
    ),
    *("dblink", "table_to_xml_and_xmlschema"),
]
WITH_THEM = dataclasses.replace(CATALOG, reaching={**CATALOG.reaching, **dict.fromkeys(NAMES, "runs SQL")})
PLANNER = Planner(PROTECTION, WITH_THEM, Ciphers(Keyring(lambda: 0.0)))


@pytest.mark.parametrize(
    "call",
    [
        "ts_stat('SELECT msg::tsvector FROM log')",
        "ts_stat('SELECT v FROM nowhere', 'ab')",
        "pg_catalog.ts_stat($$SELECT to_tsvector(msg) FROM log$$)",
        "query_to_xml('SELECT ''it''''s'' FROM log', true, false, '')",
        "query_to_xmlschema('VALUES (1)'::text, true, false, '')",
        "query_to_xml('SELECT query_to_xml(''SELECT 1'', true, false, '''') FROM log', true, false, '')",
        "table_to_xml('log', true, false, '')",
        "table_to_xml('public.log'::regclass, true, false, '')",
        "table_to_xml_and_xmlschema('\"Archive\" . \"a b\"', true, false, '')",
        "cursor_to_xml('c'::refcursor, 5, false, true, '')",
        "cursor_to_xml('c', 5, false, true, '')",
        "schema_to_xml('pg_catalog', false, true, '')",
        "ts_rewrite('a & b'::tsquery, 'SELECT t, s FROM aliases')",
        "ts_rewrite('a & b'::tsquery, 'a'::tsquery, $1)",
    ],
)
def test_a_constant_text_that_names_nothing_protected_goes_on(call: str) -> None:
    assert ask(f"SELECT * FROM {call}", planner=PLANNER) == "="
    assert ask(f"SELECT id, {call} FROM log", planner=PLANNER) == "="


@pytest.mark.parametrize(
    "call",
    [
        "ts_stat('SELECT ssn::tsvector FROM patients')",
        "ts_stat($1)",
        "ts_stat('SELECT 1' || '')",
        "ts_stat(msg)",
        "query_to_xml(query => 'SELECT 1', nulls => true, tableforest => false, targetns => '')",
        "query_to_xml(E'SELECT \\x73sn FROM log', true, false, '')",
        "query_to_xml('SELECT ''a\\'', ssn FROM patients --', true, false, '')",
        "query_to_xml('SELECT 1; SELECT ssn FROM patients', true, false, '')",
        "query_to_xml('SELECT read_ssn(1)', true, false, '')",
        "query_to_xml('SELECT full_name FROM patient_names', true, false, '')",
        "query_to_xml('SELECT set_config(''search_path'', ''a'', true)', true, false, '')",
        "query_to_xml('SELECT query_to_xml(''SELECT ssn FROM patients'', true, false, '''')', true, false, '')",
        "query_to_xml('SELECT ssn FROM patients WHERE', true, false, '')",
        "query_to_xml('SELECT 1'::varchar(3), true, false, '')",
        "table_to_xml('patients', true, false, '')",
        "table_to_xml('public.patients'::regclass, true, false, '')",
        "table_to_xml('patient_names', true, false, '')",
        "table_to_xml(100, true, false, '')",
        "table_to_xml('log, patients', true, false, '')",
        "table_to_xml('log UNION TABLE patients', true, false, '')",
        "schema_to_xml('public', false, true, '')",
        "schema_to_xml('phiproxy', false, true, '')",
        "schema_to_xml($1, false, true, '')",
        "database_to_xml(false, true, '')",
        "ts_rewrite('a & b'::tsquery, 'SELECT ssn, ssn FROM patients')",
        "other.ts_stat('SELECT 1')",
    ],
)
def test_a_text_that_may_name_something_protected_is_refused(call: str) -> None:
    for statement in (f"SELECT * FROM {call}", f"SELECT id, {call} FROM log"):
        assert ask(statement, planner=PLANNER) in ("0A000", "42601"), statement


def test_beside_what_is_protected() -> None:
    assert "query_to_xml" in ask("SELECT ssn, query_to_xml('SELECT 1', true, false, '') FROM patients", planner=PLANNER)
    plan = PLANNER.statement(b"SELECT ssn, query_to_xml('SELECT 1', true, false, '') FROM patients", (), VIEW)
    assert plan.bound


def test_what_comes_later_is_refused() -> None:
    call = "query_to_xml('SELECT 1', true, false, '')"
    for statement in (
        f"DECLARE c CURSOR FOR SELECT {call}",
        f"CREATE VIEW v AS SELECT {call}",
        f"SELECT set_config('search_path', 'a', true), {call}",
        f"SELECT {call} AS a INTO later",
    ):
        assert ask(statement, planner=PLANNER) == "0A000", statement


def test_somebody_else_s_function_is_another() -> None:
    own = Rows({}, {}, {"ts_stat": (Function((25,), 0, 0, "f", 25),)}, {})
    for signatures in (Signatures((SIGNATURES.parts[0], own)), None):
        catalog = dataclasses.replace(WITH_THEM, signatures=signatures)
        planner = Planner(PROTECTION, catalog, Ciphers(Keyring(lambda: 0.0)))
        assert ask("SELECT * FROM ts_stat('SELECT 1')", planner=planner) == "0A000"


def test_the_path_is_asked_for() -> None:
    with pytest.raises(PathNeeded) as needed:
        PLANNER.statement(b"SELECT table_to_xml('patients', true, false, '')", (), dataclasses.replace(VIEW, path=None))
    assert needed.value.position == len("SELECT ") + 1


@pytest.mark.parametrize(
    "before",
    ["CREATE VIEW v AS SELECT ssn FROM patients", "ALTER TABLE log RENAME TO other", "CREATE TABLE b (a int)", "DROP TABLE visits"],
)
def test_behind_ddl_of_the_same_string_the_text_is_not_understood(before: str) -> None:
    for behind in ("SELECT * FROM ts_stat('SELECT * FROM v')", "SELECT query_to_xml('SELECT 1', true, true, '')"):
        with pytest.raises(StatementRefused):
            PLANNER.script(f"{before}; {behind}".encode(), VIEW)


def test_behind_other_statements_it_is() -> None:
    plan = PLANNER.script(b"BEGIN; SELECT * FROM ts_stat('SELECT 1'); COMMIT", VIEW)
    assert plan.identity
    with pytest.raises(StatementRefused):
        PLANNER.script(b"SET search_path TO public; SELECT table_to_xml('patients', true, true, '')", VIEW)
    assert PLANNER.script(b"SET search_path TO archive; SELECT table_to_xml('public.log', true, true, '')", VIEW).identity
    with pytest.raises(StatementRefused):
        PLANNER.script(b"DECLARE c CURSOR FOR SELECT ssn FROM patients; SELECT cursor_to_xml('c', 1, true, true, '')", VIEW)


def test_what_is_prepared_behind_a_view_of_the_same_string_is_refused() -> None:
    with pytest.raises(StatementRefused, match="same string"):
        PLANNER.script(b"CREATE VIEW v AS SELECT ssn FROM patients; PREPARE p AS SELECT * FROM v", VIEW)
    assert PLANNER.script(b"CREATE TABLE other (a int); PREPARE p AS SELECT * FROM other", VIEW).identity
