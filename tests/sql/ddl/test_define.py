"""Which DDL is brought into physical form, and which only refused."""

from __future__ import annotations

import pytest

from tests.sql.ddl.build import plan, refused


@pytest.mark.parametrize(
    "text",
    [
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM patients'",
        "CREATE RULE r AS ON INSERT TO log DO ALSO DELETE FROM patients",
        "CREATE PUBLICATION p FOR TABLE patients",
    ],
)
def test_no_rule_says_how(text: str) -> None:
    assert refused(text).sqlstate == "0A000"


def test_the_registry_is_not_for_clients() -> None:
    assert refused("ALTER TABLE phiproxy.root_key ADD patients int").sqlstate == "42501"


def test_ddl_that_names_nothing_protected_is_left_alone() -> None:
    made = plan("CREATE TABLE log2 (ssn text)")
    assert made.identity
    assert made.effects.catalog_changed
