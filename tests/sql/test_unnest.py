"""unnest: its columns, and the rows of its elements."""

from __future__ import annotations

import pytest

from phiproxy.sql.meaning import Search, Store
from tests.sql.ask import PLANNER, VIEW, ask


def uses(statement: str) -> list[object]:
    plan = PLANNER.statement(statement.encode(), (), VIEW)
    return [use for use, _, _ in plan.outputs]


def test_elements_side_by_side_go_to_one_row() -> None:
    one, two = uses("INSERT INTO patients (ssn, notes) SELECT * FROM unnest($1::text[], $2::text[])")
    assert isinstance(one, Store)
    assert isinstance(two, Store)
    assert one.elements
    assert one.row == two.row
    found = uses("INSERT INTO patients (ssn, notes) SELECT * FROM unnest(ARRAY[$1, $2], ARRAY[$3, $4])")
    assert [use.row for use in found if isinstance(use, Store)] == [1, 2, 1, 2] or len(found) == 4


def test_compared_elements_are_tags() -> None:
    (use,) = uses("DELETE FROM patients p USING unnest($1::text[]) u (s) WHERE p.ssn = u.s")
    assert isinstance(use, Search)
    assert use.elements


@pytest.mark.parametrize(
    "client",
    [
        "INSERT INTO patients (ssn) SELECT u FROM unnest(string_to_array('x', ',')) u",
        "INSERT INTO patients (ssn) SELECT u FROM unnest($1::text[]) u ORDER BY u",
        "INSERT INTO patients (ssn) SELECT u FROM unnest($1::varchar(3)[]) u",
        "INSERT INTO patients (ssn) SELECT unnest(ARRAY[now()::text])",
        "INSERT INTO patients (ssn) SELECT u.unnest FROM unnest($1::text[], $2::my_type[]) u",
        "INSERT INTO patients (ssn) SELECT x.a FROM unnest($1::text[], (SELECT array_agg(ssn) FROM patients)) x (a, b)",
    ],
)
def test_refused(client: str) -> None:
    assert ask(client) == "0A000"


def test_a_column_is_named_as_the_server_names_it() -> None:
    assert ask("INSERT INTO patients (ssn) SELECT u.u FROM unnest($1::text[]) u").startswith("INSERT")
    assert ask("INSERT INTO patients (ssn) SELECT unnest FROM unnest($1::text[])").startswith("INSERT")
    assert ask("INSERT INTO patients (ssn) SELECT ssn FROM unnest($1::text[]) u") == "42703"
    assert ask("INSERT INTO patients (ssn) SELECT unnest FROM unnest($1::text[], $2::text[])") == "42702"
