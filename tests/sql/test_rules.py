"""What stands in no table of rules is refused; and DDL for which no rule says how."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.expressions.expression import query
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.rules import RULES
from phiproxy.sql.text.parse import Statement
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.sql.statements.ddl.build import plan, refused


def test_a_query_without_a_rule_is_refused() -> None:
    a = Analysis(b"VALUE", Context(PROTECTION, CATALOG, PATH, "clinic"), Statement("PLAssignStmt", {}, 0, 5, (0, 5)), RULES)
    with pytest.raises(StatementRefused):
        query(a, "PLAssignStmt", {}, Scope(()))


@pytest.mark.parametrize(
    "text",
    [
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM patients'",
        "CREATE RULE r AS ON INSERT TO log DO ALSO DELETE FROM patients",
        "CREATE PUBLICATION p FOR TABLE patients",
    ],
)
def test_ddl_without_a_rule_is_refused(text: str) -> None:
    assert refused(text).sqlstate == "0A000"


def test_the_registry_is_not_for_clients() -> None:
    assert refused("ALTER TABLE phiproxy.root_key ADD patients int").sqlstate == "42501"


def test_ddl_that_names_nothing_protected_goes_on_as_it_is() -> None:
    planned = plan("CREATE TABLE log2 (ssn text)")
    assert planned.identity
    assert planned.effects.catalog_changed
