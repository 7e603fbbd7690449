"""unnest: its columns, and the rows of its elements."""

from __future__ import annotations

import pytest

from phiproxy.sql.values.uses import Search, Store
from tests.sql.ask import PLANNER, VIEW, ask, refusal, tag


def uses(statement: str) -> list[object]:
    plan = PLANNER.statement(statement.encode(), (), VIEW)
    return [use for use, _, _ in plan.outputs]


def test_elements_side_by_side_go_to_one_row() -> None:
    one, two = uses("INSERT INTO patients (ssn, notes) SELECT * FROM unnest($1::text[], $2::text[])")
    assert isinstance(one, Store)
    assert isinstance(two, Store)
    assert one.elements
    assert one.row == two.row
    own_uses = uses("INSERT INTO patients (ssn, notes) SELECT * FROM unnest(ARRAY[$1, $2], ARRAY[$3, $4])")
    assert [use.row for use in own_uses if isinstance(use, Store)] == [1, 2, 1, 2] or len(own_uses) == 4


def test_compared_elements_are_tags() -> None:
    (use,) = uses("DELETE FROM patients p USING unnest($1::text[]) u (s) WHERE p.ssn = u.s")
    assert isinstance(use, Search)
    assert use.elements


def test_elements_are_cut_by_a_cast_of_the_array() -> None:
    (use,) = uses("INSERT INTO patients (ssn) SELECT u FROM unnest($1::varchar(3)[]) u")
    assert isinstance(use, Store)
    assert use.given is not None
    assert [to.max_length for to in use.given.casts] == [3]


@pytest.mark.parametrize(
    "client",
    [
        "INSERT INTO patients (ssn) SELECT u FROM unnest(string_to_array('x', ',')) u",
        "INSERT INTO patients (ssn) SELECT u FROM unnest($1::text[]) u ORDER BY u",
        "INSERT INTO patients (ssn) SELECT unnest(ARRAY[now()::text])",
        "INSERT INTO patients (ssn) SELECT u.unnest FROM unnest($1::text[], $2::point[]) u",
        "INSERT INTO patients (ssn) SELECT x.a FROM unnest($1::text[], (SELECT array_agg(ssn) FROM patients)) x (a, b)",
    ],
)
def test_an_array_that_the_server_computes_is_not_unnested_into_a_column(client: str) -> None:
    assert ask(client) == "0A000"


def test_a_column_is_named_as_the_server_names_it() -> None:
    assert ask("INSERT INTO patients (ssn) SELECT u.u FROM unnest($1::text[]) u").startswith("INSERT")
    assert ask("INSERT INTO patients (ssn) SELECT unnest FROM unnest($1::text[])").startswith("INSERT")
    assert ask("INSERT INTO patients (ssn) SELECT ssn FROM unnest($1::text[]) u") == "42703"
    assert ask("INSERT INTO patients (ssn) SELECT unnest FROM unnest($1::text[], $2::text[])") == "42702"


JOIN = "SELECT p.id FROM public.patients p JOIN {} AS u (s) ON p.ssn = u.s"


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("unnest($1::text[])", "unnest($1)"),
        ("pg_catalog.unnest('{a}'::varchar[])", "pg_catalog.unnest($1)"),
        ("unnest(ARRAY[$1, 'a']::text[])", "unnest(ARRAY[$1, $2]::bytea[])"),
    ],
)
def test_elements_that_are_compared_become_tags(client: str, server: str) -> None:
    assert ask(JOIN.format(client)) == JOIN.format(server).replace("p.ssn", tag("p.ssn"))


def test_an_unnested_parameter_is_described_with_its_own_type() -> None:
    plan = PLANNER.statement(JOIN.format("unnest($1::varchar[])").encode(), (), VIEW)
    assert (plan.oids, plan.describe_parameters((1001,))) == ((1001,), [1015])


def test_a_parameter_needs_a_type_as_in_postgresql() -> None:
    refused = refusal(JOIN.format("unnest($1)"))
    assert (refused.sqlstate, refused.position) == ("42725", JOIN.index("{") + 1)
    plan = PLANNER.statement(JOIN.format("unnest($1)").encode(), (1009,), VIEW)
    assert plan.describe_parameters((1001,)) == [1009]


@pytest.mark.parametrize("client", ["unnest('{a}')", "unnest(ARRAY['a', city])", "generate_series(1, 2)"])
def test_refused_in_a_join(client: str) -> None:
    assert ask(JOIN.format(client)) == "0A000"


def test_arrays_of_arrays_are_none_of_given_values() -> None:
    assert ask(JOIN.format("unnest(ARRAY['{a}'::text[], '{b}'])")) == "0A000"
