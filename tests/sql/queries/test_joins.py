"""JOIN … USING and NATURAL over protected columns, and aliases of joins."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, columns, tag

P, V = "public.patients p", "public.visits v"
ON = f"""ON {tag('"p"."mrn"')} = {tag('"v"."mrn"')}"""


@pytest.mark.parametrize(
    ("kind", "merged"),
    [
        ("JOIN", '"p"."mrn"'),
        ("INNER JOIN", '"p"."mrn"'),
        ("LEFT JOIN", '"p"."mrn"'),
        ("RIGHT OUTER JOIN", '"v"."mrn"'),
        ("FULL JOIN", 'COALESCE("p"."mrn", "v"."mrn") AS "mrn"'),
    ],
)
def test_a_merged_column_is_named_by_its_sides(kind: str, merged: str) -> None:
    assert ask(f"SELECT mrn FROM {P} {kind} {V} USING (mrn)") == f"SELECT {merged} FROM {P} {kind} {V} {ON}"


def test_natural_gets_its_condition_behind_the_right_side() -> None:
    one, two = "(SELECT mrn FROM public.patients) p", "(SELECT mrn, room FROM public.visits) v"
    client = f"SELECT room FROM {one} NATURAL LEFT JOIN {two} WHERE mrn = $1"
    server = f"""SELECT room FROM {one}  LEFT JOIN {two} {ON} WHERE {tag('"p"."mrn"')} = $1"""
    assert ask(client) == server


def test_star_begins_with_what_was_merged() -> None:
    client = f"SELECT * FROM {P} JOIN {V} USING (mrn, id)"
    assert ask(client).startswith('SELECT "p"."mrn", "p"."id", ')
    assert columns(client)[:2] == ["mrn", None]
    assert len(columns(client)) == len(columns(f"SELECT * FROM {P}, {V}")) - 2


def test_joins_on_the_right_side_have_their_conditions_first() -> None:
    sql = ask(f"SELECT 1 FROM {P} JOIN {V} JOIN public.visits w USING (mrn) USING (mrn)")
    inner = f"""ON {tag('"v"."mrn"')} = {tag('"w"."mrn"')}"""
    assert sql == f"SELECT 1 FROM {P} JOIN {V} JOIN public.visits w {inner} {ON}"


def test_a_join_over_unprotected_columns_stays_as_it_is() -> None:
    client = f"SELECT id, j.* FROM {P} JOIN {V} USING (id) AS j"
    assert ask(client) == client


def test_an_alias_hides_the_sides() -> None:
    client = f"SELECT j.ssn FROM ({P} JOIN {V} ON true) AS j"
    assert ask(client) == client
    assert ask(f"SELECT p.ssn FROM ({P} JOIN {V} ON true) AS j") == "42P01"


@pytest.mark.parametrize(
    ("client", "code"),
    [
        (f"SELECT 1 FROM {P} JOIN log l USING (ssn)", "42703"),
        (f"SELECT 1 FROM {P} JOIN {V} USING (nope)", "42703"),
        (f"SELECT 1 FROM {P} JOIN (SELECT diagnosis AS ssn FROM public.visits) v USING (ssn)", "0A000"),
        (f"SELECT 1 FROM ({P} JOIN public.patients q ON true) JOIN {V} USING (mrn)", "42702"),
        (f"SELECT id FROM {P} JOIN {V} USING (mrn)", "42702"),
    ],
)
def test_using_needs_one_such_column_on_each_side(client: str, code: str) -> None:
    assert ask(client) == code
