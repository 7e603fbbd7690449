"""Taint: a protected value in any other place of its statement, whether a rule looked there or not."""

from __future__ import annotations

import pytest

from phiproxy.sql.taint import says
from tests.sql.ask import ask


def test_a_literal_says_itself_and_its_elements() -> None:
    values = {b"a", b"b c"}
    assert says(b"a", values)
    assert says(b'{x,"b c"}', values)
    assert says(b" [0:0]={a}", values)
    assert not says(b"{aa,{a}", values)
    assert not says(b"xa", values)


@pytest.mark.parametrize(
    "elsewhere",
    [
        "city = 's'",
        "city = ANY ('{x,s}')",
        "(ARRAY['s'])[1] = city",
        "id IN (WITH RECURSIVE t (i) AS (SELECT 1 UNION ALL SELECT i FROM t) CYCLE i SET c TO 's' DEFAULT 'n' USING p"
        " SELECT i FROM t)",
    ],
)
def test_a_protected_value_elsewhere(elsewhere: str) -> None:
    assert ask(f"SELECT id FROM public.patients WHERE ssn = 's' AND {elsewhere}") == "0A000"
    assert ask(f"SELECT id FROM public.patients WHERE ssn = 'r' AND {elsewhere}") != "0A000"


def test_what_is_not_the_same_value_stays() -> None:
    assert ask("SELECT id FROM public.patients WHERE ssn = 's' AND city = 'ss' AND city <> ANY ('{t}')") != "0A000"
