"""Several statements as one: quoting, comments, and the proof."""

from __future__ import annotations

import pytest

from phiproxy.plan.statement_plan import map_position
from tests.sql.statements.ddl.build import VIEW, physical, plan, planner, refused


def test_the_quotes_are_in_nothing_that_they_quote() -> None:
    sql = physical("CREATE TABLE visits (mrn varchar(12) UNIQUE, room text DEFAULT $phi$x$phi$)")
    assert sql.startswith("DO $phi_$BEGIN EXECUTE $phi_sql_$")
    assert sql.endswith("END$phi_$")


def test_comments_beside_what_is_sealed_are_blanked() -> None:
    sql = physical("/* secret */ CREATE TABLE /* secret */ visits (mrn varchar(12) /* secret */, room text -- secret\n)")
    assert "secret" not in sql


def test_blanks_around_a_block_are_no_part_of_it() -> None:
    assert physical("\n CREATE TABLE visits (mrn varchar(12) UNIQUE)\n\n").startswith("\n DO $phi$")


def test_positions_in_the_clients_own_part_are_mapped_back() -> None:
    text = "CREATE TABLE visits (mrn varchar(12), room nosuchtype)"
    planned = plan(text)
    at = planned.sql.decode().index("nosuchtype") + 1
    assert map_position(planned.sql, planned.text, planned.edits, at) == text.index("nosuchtype") + 1


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE patients ALTER ssn SET DEFAULT 'a b', ALTER city SET DEFAULT '{}'",
        "ALTER TABLE patients ALTER ssn SET DEFAULT 'a b', ALTER city SET DEFAULT '{{x,\"{}\"}}'",
        "ALTER TABLE patients ADD CHECK (ssn <> 'a b' AND city <> '{}')",
        "ALTER TABLE patients ADD CONSTRAINT \"{}\" CHECK (ssn <> 'a b')",
        "CREATE TABLE visits (mrn varchar(12), diagnosis text CHECK (diagnosis <> 'a b'), room text DEFAULT '{}')",
    ],
)
def test_a_text_that_is_sealed_is_nowhere_else(text: str) -> None:
    assert refused(text.format("a b")).public_text.startswith(
        ("phiproxy: a literal of this definition", "phiproxy: a name in this")
    )
    (answer,) = planner().answers(text.format("a c").encode(), VIEW)
    assert answer.definition
