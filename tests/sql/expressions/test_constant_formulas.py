"""Which expressions the proxy evaluates itself."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import PhiproxyError
from phiproxy.index.characters import Characters
from phiproxy.plan.planner import Planner
from phiproxy.sql.values.formula import Formula
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import PLANNER, VIEW, ask, tag


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("'a' || 'B'", b"aB"),
        ("lower('aB')::varchar", b"ab"),
        ("(('a') || ((trim(both 'x' from 'xbx'))))::character varying(1)", b"a"),
        ("pg_catalog.upper(coalesce(NULL, 'x'))", b"X"),
        ("NULLIF('x', '')", b"x"),
        ("CAST(concat('a'::text, NULL, 'b') AS varchar(2))", b"ab"),
        ("U&'!0061' UESCAPE '!' || 'b'", b"ab"),
        ("'b' || U&'!0061' UESCAPE '!'", b"ba"),
    ],
)
def test_an_expression_of_constants_is_stored_as_its_value(value: str, stored: bytes) -> None:
    plan = PLANNER.statement(f"UPDATE patients SET ssn = {value} WHERE id = 1".encode(), (), VIEW)
    assert plan.sql.decode().replace("(", "").replace(")", "") == 'UPDATE "public".patients SET ssn = $1 WHERE id = 1'
    assert [literal for _, _, literal in plan.outputs] == [stored]


def test_parameters_are_not_sent() -> None:
    plan = PLANNER.statement(b"UPDATE patients SET ssn = $1 || $2::varchar, city = $3", (), VIEW)
    assert plan.sql == b'UPDATE "public".patients SET ssn = $4, city = $3'
    assert plan.described == (25, 1043, None)
    assert isinstance(plan.outputs[3][2], Formula)


def test_what_is_null_is_written() -> None:
    assert ask("UPDATE patients SET ssn = 'a' || NULL") == 'UPDATE "public".patients SET ssn = NULL::bytea'


@pytest.mark.parametrize(
    "value",
    [
        "initcap($1)",
        "x.lower($1)", "$1 || 5", "$1 || city", "concat($1, 'x')", "lower(ssn)",
        "lower('É')", "$1 OPERATOR(x.||) 'y'", "$1 || $1::varchar", "reverse('a')", "lower($1)::char(3)",
    ],
)  # fmt: skip
def test_an_expression_that_the_server_would_compute_is_refused(value: str) -> None:
    assert ask(f"UPDATE patients SET ssn = {value}") == "0A000"


@pytest.mark.parametrize("changes", [{"ascii_case": False}, {"replaced": frozenset({"lower"})}])
def test_what_the_database_means_by_it_is_asked(changes: dict[str, object]) -> None:
    own_planner = Planner(PROTECTION, dataclasses.replace(CATALOG, **changes), PLANNER.ciphers)  # type: ignore[arg-type]
    with pytest.raises(PhiproxyError) as caught:
        own_planner.statement(b"UPDATE patients SET ssn = lower($1)", (), VIEW)
    assert caught.value.sqlstate == "0A000"


def test_case_beyond_ascii_is_computed_where_the_collation_was_compared() -> None:
    protection = dataclasses.replace(PROTECTION, characters=Characters("simple"))
    own_planner = Planner(protection, dataclasses.replace(CATALOG, ascii_case=False), PLANNER.ciphers)
    plan = own_planner.statement("UPDATE patients SET ssn = lower('É' || left('ßa', 1))".encode(), (), VIEW)
    assert [literal for _, _, literal in plan.outputs] == ["éß".encode()]


def test_beside_what_is_protected_nothing_changes() -> None:
    assert ask("UPDATE patients SET ssn = $1 WHERE city = lower($2) || 'É'") == (
        "UPDATE \"public\".patients SET ssn = $1 WHERE city = lower($2) || 'É'"
    )
    assert ask("SELECT id FROM patients WHERE city = lower('É') AND ssn = $1").endswith("= $1")


@pytest.mark.parametrize(
    ("condition", "server"),
    [
        ("ssn = left($1, 3)", f"{tag('ssn')} = $2"),
        ("ssn = right('abc', 2)", f"{tag('ssn')} = $1"),
        (r"ssn = regexp_replace($1, '\D', '', 'g')", f"{tag('ssn')} = $2"),
        ("ssn = substr(lower($1), 1, 3)", f"{tag('ssn')} = $2"),
        ("ssn = soundex('Smyth')", f"{tag('ssn')} = $1"),
    ],
)
def test_functions_of_blind_indexes_are_computed_of_given_values(condition: str, server: str) -> None:
    assert ask(f"SELECT 1 FROM patients WHERE {condition}") == f'SELECT 1 FROM "public".patients WHERE {server}'


@pytest.mark.parametrize("condition", ["ssn = left($1, $2)", "ssn = public.left('x', 1)"])
def test_what_is_no_function_of_an_index(condition: str) -> None:
    assert ask(f"SELECT 1 FROM patients WHERE {condition}") == "0A000"


def test_what_is_no_text_is_no_value_of_one() -> None:
    assert ask("SELECT 1 FROM patients WHERE ssn = length('x')") == "42883"  # PostgreSQL: operator does not exist: text = integer
