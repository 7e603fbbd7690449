"""Every example in the docstrings of ``phiproxy.sql`` is true, and no rule is without one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from phiproxy.sql.passes import PASSES
from phiproxy.sql.pg_errors.verdict import RULES as PG_ERRORS
from phiproxy.sql.rules import RULES
from tests.sql.examples import Example, agrees, becomes, examples, modules, read

ALL = {module: list(examples(module)) for module in modules()}
FOLDERS = ("expressions", "queries", "writes", "statements")


def _name(example: Example) -> str:
    return f"{example.module.removeprefix('phiproxy.sql.')}: {example.statement}"


@pytest.mark.parametrize("example", [pytest.param(e, id=_name(e)) for of in ALL.values() for e in of])
def test_an_example_is_what_the_planner_renders(example: Example) -> None:
    engine = example.module.endswith(".computed_defaults")
    answer = becomes(example.statement, example.answer, before_visits=".ddl." in example.module, engine=engine)
    assert agrees(example.answer, answer), answer


def test_every_module_of_rules_has_an_example() -> None:
    assert [module for module, of in ALL.items() if module.split(".")[2] in FOLDERS and not of] == []


def _rules(table: Any) -> list[Callable[..., Any]]:
    return [rule for field in dataclasses.fields(table) for rule in getattr(table, field.name).values()]


@pytest.mark.parametrize("rule", {id(rule): rule for rule in (*PASSES, *_rules(RULES), *_rules(PG_ERRORS))}.values())
def test_every_pass_and_every_rule_has_an_example(rule: Callable[..., Any]) -> None:
    assert list(read(inspect.getdoc(rule) or "")), f"{rule.__module__}.{rule.__name__}"


def test_an_example_is_a_paragraph_with_an_arrow() -> None:
    docstring = """Words, with an → arrow inside.

    SELECT 1,
      2
    → SELECT
      3

    SELECT 4

    SELECT 5
    → refused 42601
    """
    assert list(read(docstring)) == [("SELECT 1, 2", "SELECT 3"), ("SELECT 5", "refused 42601")]


@pytest.mark.parametrize(
    ("answer", "sql", "true"),
    [
        ("SELECT id FROM patients", 'SELECT id FROM "public".patients', True),
        ('SELECT id FROM "public".patients', 'SELECT id FROM "public".patients', True),
        ("CREATE … (id int)", "CREATE TABLE t (id int)", True),
        ("unchanged", "refused 0A000", False),
        ("SELECT id FROM patients WHERE tag(ssn) = $1", "SELECT id FROM patients WHERE tag(ssn) = tag($1)", False),
    ],
)
def test_an_example_that_says_something_else_is_not_true(answer: str, sql: str, true: bool) -> None:
    assert agrees(answer, sql) is true
