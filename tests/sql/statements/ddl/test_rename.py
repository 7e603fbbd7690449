"""RENAME of columns and constraints."""

from __future__ import annotations

import pytest

from tests.sql.statements.ddl.build import physical, plan, refused


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("ALTER TABLE patients RENAME COLUMN city TO town", "ALTER TABLE public.patients RENAME COLUMN city TO town"),
        ("ALTER TABLE patients RENAME CONSTRAINT patients_ssn_key TO k", "ALTER INDEX public.patients_ssn_key RENAME TO k"),
        (
            "ALTER TABLE patients RENAME CONSTRAINT patients_pkey TO k",
            "ALTER TABLE public.patients RENAME CONSTRAINT patients_pkey TO k",
        ),
    ],
)
def test_what_is_not_protected_may_be_renamed(text: str, server: str) -> None:
    assert physical(text) == server
    assert plan(text).effects.tag == b"ALTER TABLE"


def test_plaintext_does_not_become_a_protected_column() -> None:
    assert "are not encrypted" in refused("ALTER TABLE patients RENAME COLUMN city TO ssn").message


@pytest.mark.parametrize(
    "change", ["RENAME ssn TO full_name", "RENAME COLUMN ssn TO social", "RENAME TO clients", "SET SCHEMA archive"]
)
def test_names_that_the_policy_does_not_say(change: str) -> None:
    assert "renamed_to:" in (refused(f"ALTER TABLE patients {change}").hint or "")
