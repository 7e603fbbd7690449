"""A function for blind indexes is one row of the table: policies, schemas, ``check``, plans, constraints and hints then know it."""

from __future__ import annotations

from pathlib import Path

import pytest

from phiproxy.errors import ConfigError
from phiproxy.index import function_table
from phiproxy.index.function_table import FUNCTIONS, PLAIN_TEXTS, Row, Step
from phiproxy.policy.check_evaluation import compiled
from phiproxy.policy.load import json_schemas
from phiproxy.sql.policy_files import load_policy
from tests.commands.conftest import Clinic
from tests.sql.ask import refusal
from tests.sql.statements.ddl.build import sealed


def _reversed(value: bytes) -> bytes:
    return value.decode()[::-1].encode()


ROW = Row(
    "reverse(@)",
    PLAIN_TEXTS,
    lambda *_: Step("text", _reversed),
    hints={"citext": "; write …::text"},
    never_fails=True,
    in_checks=True,
)


@pytest.fixture
def reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row."""
    monkeypatch.setitem(FUNCTIONS, "reverse", ROW)


def test_without_the_row_it_is_refused(clinic: Clinic) -> None:
    clinic.policy.write_text(clinic.policy.read_text().replace("indexes: [ssn]", "indexes: [ssn, reverse(ssn)]"))
    code, _, err = clinic.run("keys", "init")
    assert code != 0
    assert "reverse() is not among the functions that an index may use: lower(@)" in err


@pytest.mark.usefixtures("reverse")
def test_policy_registry_ddl_check_and_plans_use_it(clinic: Clinic) -> None:
    clinic.policy.write_text(clinic.policy.read_text().replace("indexes: [ssn]", "indexes: [ssn, reverse(ssn)]"))
    clinic.ok("keys", "init")
    clinic.sql(clinic.ok("ddl"))
    assert "`reverse(ssn)`" in clinic.ok("check")
    plan = clinic.ok("explain", "SELECT reverse(ssn) FROM patients WHERE reverse(ssn) = '321'")
    assert 'SELECT ssn AS "reverse" FROM "public".patients WHERE pg_catalog.substring(ssn, 29, 16) = $1' in plan
    assert "tag of public.patients.ssn (reverse(ssn))" in plan


@pytest.mark.usefixtures("reverse")
def test_messages_and_schemas_name_it(tmp_path: Path) -> None:
    policy = "database: d\ndeployment: d\ntables: {{a.b: {{columns: {{c: {{type: {type}, indexes: ['{index}']}}}}}}}}\n"
    for type_name, index, said in (
        ("text", "md5(c)", r"md5\(\) is not among the functions that an index may use: .*, reverse\(@\)$"),
        ("citext", "reverse(c)", r"reverse\(\) takes bpchar, text, varchar, and @ is citext; write …::text$"),
    ):
        (tmp_path / "p.yaml").write_text(policy.format(type=type_name, index=index))
        with pytest.raises(ConfigError, match=said):
            load_policy(tmp_path / "p.yaml").complaints()
    definitions = json_schemas()["policy.schema.json"]["$defs"]
    for model in ("Column", "Domain"):
        assert definitions[model]["properties"]["indexes"]["items"]["description"].endswith(", reverse(@)")
    assert "reverse" in function_table.names()


@pytest.mark.usefixtures("reverse")
def test_a_statement_that_it_would_answer_is_told_so() -> None:
    unindexed = refusal("SELECT id FROM patients WHERE reverse(full_name) = 'x'").hint or ""
    assert unindexed.startswith("Add `reverse(full_name)` to the indexes of public.patients.full_name in the policy")
    misused = refusal("SELECT reverse(VARIADIC full_name) FROM patients").hint or ""
    assert misused.startswith("A blind index answers reverse(full_name, …)")


@pytest.mark.usefixtures("reverse")
def test_a_constraint_may_use_it() -> None:
    (condition,) = sealed("reverse(ssn) = 'ab'")
    assert condition == ["=", ["index", "reverse(@)", "text", ["value"]], ["constant", "ab"]]
    assert [compiled(condition)(value) for value in ("ba", "ab")] == [True, False]
