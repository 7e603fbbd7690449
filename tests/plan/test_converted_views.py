"""A view that computes is put together again of what the server has of it and of its rest."""

from __future__ import annotations

import pytest

from phiproxy.errors import SealError
from phiproxy.plan.converted_views import in_clear, listed_table
from phiproxy.policy.view_rests import Input, ViewRest

SEALED = "'\\xf5500101'::bytea AS phi_view_0"
FAILS = "CASE WHEN (current_setting('phiproxy.computes'::text) = ''::text) THEN NULL::text ELSE NULL::text END"
OF_TABLE = ("SELECT id, upper(ssn) AS loud FROM (SELECT s.c1, s.c2 FROM ", ' AS s) AS "t" ("id", "ssn")')
INPUTS = (Input(0, "", "int4", -1), Input("phi_view_1", "c:public.t.ssn", "text", -1))
COLUMNS = ("id", "loud", "phi_view_0", "phi_view_1")


def stored(source: str) -> str:
    return f" SELECT s.c1 AS id,\n    {FAILS} AS loud,\n    {SEALED},\n    s.c2 AS phi_view_1\n   FROM ( {source}) s(c1, c2)"


def rest(parts: tuple[str, ...], inputs: tuple[Input, ...] = INPUTS) -> ViewRest:
    return ViewRest(parts, inputs, (True, False), "each")


@pytest.mark.parametrize(
    ("source", "behind", "expected"),
    [
        ("SELECT t.id, t.ssn FROM public.t", "", "public.t"),
        ("SELECT id, ssn FROM public.t", "", "public.t"),  # as PostgreSQL 16 prints it
        ("SELECT t.id, t.ssn FROM ONLY public.persons t", "", "ONLY public.persons AS t"),
        ("SELECT t.id, t.ssn FROM public.t WHERE (t.city < 'x (y'::text)", " WHERE true", "public.t WHERE (t.city < 'x (y'::text)"),
        ("SELECT t.id, t.ssn FROM public.t", " WHERE length(ssn) > 3", "public.t WHERE length(ssn) > 3"),
    ],
)
def test_over_one_table_it_is_what_it_was(source: str, behind: str, expected: str) -> None:
    made = in_clear(stored(source), COLUMNS, rest((OF_TABLE[0], OF_TABLE[1] + behind)))
    assert made == f"SELECT id, upper(ssn) AS loud FROM {expected}"


@pytest.mark.parametrize(
    ("source", "behind"),
    [
        ("SELECT t.id, t.number AS ssn FROM public.t", ""),  # the column has been renamed
        ("SELECT u.id, u.ssn FROM public.u", ""),  # so has the table
        ("SELECT t.id, t.ssn FROM public.t WHERE (t.id > 1)", " WHERE true AND length(ssn) > 3"),
        ("SELECT t.id, t.ssn FROM public.t LIMIT 3", ""),
        ("SELECT t.id, t.ssn FROM public.t, public.u", ""),
        ("SELECT t.id, lower(t.ssn) AS ssn FROM public.t", ""),
    ],
)
def test_over_anything_else_its_source_stands_in_it(source: str, behind: str) -> None:
    made = in_clear(stored(source), COLUMNS, rest((OF_TABLE[0], OF_TABLE[1] + behind)))
    item = f"(SELECT s.c1 AS c1, s.c2 AS c2 FROM ({source}) AS s (c1, c2))"
    assert made == f"{OF_TABLE[0]}{item}{OF_TABLE[1]}{behind}"


@pytest.mark.parametrize(
    ("query", "names", "of"),
    [
        (stored("SELECT t.id, t.ssn FROM public.t"), COLUMNS, rest(OF_TABLE, (INPUTS[0], Input("phi_view_2", "", "text", -1)))),
        (stored("SELECT t.id, t.ssn FROM public.t"), COLUMNS, rest(OF_TABLE, (Input(1, "", "int4", -1), INPUTS[1]))),
        (stored("SELECT t.id, t.ssn FROM public.t"), COLUMNS, ViewRest(OF_TABLE, INPUTS, (True,), "each")),
        (stored("SELECT t.id, t.ssn FROM public.t"), COLUMNS[:3], rest(OF_TABLE)),
        ("SELECT t.id FROM public.t", ("id",), rest(OF_TABLE)),
    ],
)
def test_what_the_proxy_has_not_made_is_not_put_together(query: str, names: tuple[str, ...], of: ViewRest) -> None:
    with pytest.raises(SealError):
        in_clear(query, names, of)


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("SELECT p.b FROM public.t p(a, b)", True),
        ("SELECT 1 FROM (SELECT j.b FROM (public.t JOIN public.u ON true) j(a, b)) s", True),
        ("SELECT p.b FROM ONLY public.t p(a, b) UNION SELECT 'x'", True),
        ("SELECT p.ssn FROM public.t p, public.u q(a)", False),
        ("SELECT s.a FROM (SELECT t.id FROM public.t) s(a), unnest('{1}'::int[]) u(a)", False),
    ],
)
def test_a_list_of_names_behind_an_alias(query: str, *, listed: bool) -> None:
    assert listed_table(query, {("public", "t"), ("public", "v")}) == (("public", "t") if listed else None)
