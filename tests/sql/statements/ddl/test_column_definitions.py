"""One protected column's definition."""

from __future__ import annotations

import pytest

from phiproxy.errors import KeyNeeded
from phiproxy.sql.statements.ddl.column_definitions import declared_type
from phiproxy.sql.text.parse import parse
from tests.sql.statements.ddl.build import plan, refused


def declared(text: str) -> str | None:
    type_ = declared_type(
        parse(f"SELECT NULL::{text}".encode())[0].body["targetList"][0]["ResTarget"]["val"]["TypeCast"]["typeName"]
    )
    return type_.name if type_ is not None else None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("text", "text"),
        ("pg_catalog.text", "text"),
        ("varchar(12)", "varchar(12)"),
        ("character varying", "varchar"),
        ("int", "int4"),
        ("text[]", "text[]"),
        ("other.text", None),
        ("int4range", None),
    ],
)
def test_a_declared_type_is_one_that_can_be_protected_or_none(text: str, name: str | None) -> None:
    assert declared(text) == name


def test_a_default_is_sealed_before_it_is_sent() -> None:
    with pytest.raises(KeyNeeded):
        plan("CREATE TABLE visits (mrn varchar(12) DEFAULT 'none' NOT NULL)")


def test_no_value_is_in_a_refusal() -> None:
    error = refused("CREATE TABLE visits (mrn varchar(12) DEFAULT 'secret' || 'x')")
    assert "secret" not in error.public_text + (error.hint or "")


@pytest.mark.parametrize("collation", ['"C"', "pg_catalog.ucs_basic", '"default"'])
def test_collations_by_which_bytes_decide(collation: str) -> None:
    assert b"COLLATE" not in plan(f"CREATE TABLE visits (mrn varchar(12) COLLATE {collation})").sql


@pytest.mark.parametrize(
    "statement",
    [
        'CREATE TABLE visits (mrn varchar(12) COLLATE "ignore_case")',
        "ALTER TABLE patients ADD COLUMN ssn text COLLATE public.nd",
        'ALTER TABLE patients ALTER COLUMN ssn TYPE text COLLATE "de-x-icu"',
    ],
)
def test_other_collations_are_refused(statement: str) -> None:
    assert "equal by the database's default collation" in str(refused(statement))
