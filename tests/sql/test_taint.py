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


@pytest.mark.parametrize(
    "text",
    [
        """SELECT count(*) AS "S" FROM public.patients WHERE ssn = 'S'""",
        """SELECT count(*) FILTER (WHERE ssn = '9-9') AS "9-9" FROM public.patients""",
        """SELECT 1 FROM public.patients "a b" WHERE ssn = 'a b'""",
        """WITH "é" AS (SELECT 1) SELECT id FROM public.patients WHERE ssn = 'é'""",
        """SELECT U&"\\00e9".id FROM public.patients U&"\\00e9" WHERE ssn = 'é'""",
    ],
)
def test_a_name_that_is_a_protected_value(text: str) -> None:
    assert ask(text) == "0A000"
    assert ask(text.replace("ssn = '", "ssn = '-")) != "0A000"


def test_a_name_without_quotes_is_no_value() -> None:
    assert ask("SELECT s.id AS ssn FROM public.patients s WHERE ssn IN ('s', 'ssn')") != "0A000"


def test_what_is_not_the_same_value_stays() -> None:
    assert ask("SELECT id FROM public.patients WHERE ssn = 's' AND city = 'ss' AND city <> ANY ('{t}')") != "0A000"
