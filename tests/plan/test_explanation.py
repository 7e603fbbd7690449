"""``phiproxy explain`` in words: uses of parameters, literals and columns; never a value."""

from __future__ import annotations

from phiproxy.plan.explanation import explain
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PROTECTION
from tests.plan.rings import full_ciphers

PLANNER = Planner(PROTECTION, CATALOG, full_ciphers())


def test_a_rewritten_statement() -> None:
    told = explain(PLANNER, b"SELECT ssn, city FROM patients WHERE ssn = $1 AND city = $2 AND full_name = 'Ada'", "clinic")
    assert told.answer == "rewritten"
    assert told.parameters == (
        ("$1 from $1", "tag of public.patients.ssn (ssn)"),
        ("$2 from $2", "sent as it is"),
        ("$3 from a literal", "tag of public.patients.full_name (full_name)"),
    )
    assert told.uses == (
        ("$1 at character 44", "tag of public.patients.ssn (ssn)"),
        ("literal at character 77", "tag of public.patients.full_name (full_name)"),
    )
    assert told.columns == (("column 1", "opened: public.patients.ssn as text"), ("column 2", "unprotected"))
    assert "Ada" not in repr(told)


def test_the_other_answers() -> None:
    assert explain(PLANNER, b"SELECT 1", "clinic").answer == "forwarded"
    refused = explain(PLANNER, b"SELECT upper(ssn) FROM patients", "clinic")
    assert (refused.answer, refused.sqlstate, refused.position) == ("refused", "0A000", 8)
    assert refused.hint


def test_a_string_of_statements_is_explained_as_a_simple_query() -> None:
    told = explain(PLANNER, b"INSERT INTO patients (ssn) VALUES ('Ada'); SELECT 1", "clinic")
    assert told.answer == "rewritten"
    assert told.uses == (("literal at character 36", "sealed for public.patients.ssn"),)
    assert "Ada" not in repr(told)


def test_a_statement_that_is_prepared_by_sql_and_executed() -> None:
    told = explain(PLANNER, b"PREPARE s AS SELECT ssn FROM patients WHERE ssn = $1; EXECUTE s('Ada')", "clinic")
    assert told.answer == "rewritten"
    assert "PREPARE s (bytea) AS" in told.server
    assert told.uses == (("literal at character 65", "tag of public.patients.ssn (ssn)"),)
    opened = "opened: public.patients.ssn as text"
    assert told.columns == (("statement 1, column 1", opened), ("statement 2, column 1", opened))
    assert "Ada" not in repr(told)


def test_cursors_copies_and_merge() -> None:
    declared = explain(PLANNER, b"DECLARE c CURSOR FOR SELECT ssn FROM patients", "clinic")
    assert declared.columns == (("column 1", "opened: public.patients.ssn as text"),)
    copied = explain(PLANNER, b"COPY patients (city, ssn) FROM STDIN", "clinic")
    assert copied.columns == (("column city", "unprotected"), ("column ssn", "each value sealed for public.patients.ssn"))
    read = explain(PLANNER, b"COPY (SELECT ssn FROM patients) TO STDOUT", "clinic")
    assert [use for _, use in read.columns] == ["opened: public.patients.ssn as text"]
    merged = explain(
        PLANNER, b"MERGE INTO patients p USING visits v ON p.id = v.id WHEN MATCHED THEN UPDATE SET ssn = $1", "clinic"
    )
    assert merged.uses == (("$1 at character 88", "sealed for public.patients.ssn"),)


def test_a_default_is_explained_without_its_key() -> None:
    told = explain(PLANNER, b"ALTER TABLE patients ALTER ssn SET DEFAULT 'Ada'", "clinic")
    assert told.answer in ("rewritten", "refused")
    assert "Ada" not in repr(told)


def test_what_does_not_parse_is_the_servers_unless_it_names_something_protected() -> None:
    forwarded = explain(PLANNER, b"SELEC 1 SET", "clinic")
    assert forwarded.answer == "forwarded"
    assert "does not parse" in forwarded.note
    refused = explain(PLANNER, b"SELEC ssn FROM patients", "clinic")
    assert (refused.answer, refused.sqlstate, refused.position) == ("refused", "42601", 1)


def test_another_search_path() -> None:
    told = explain(PLANNER, b"SELECT ssn FROM patients", "clinic", ("pg_catalog", "elsewhere"))
    assert (told.answer, told.sqlstate) == ("refused", "42P01")
