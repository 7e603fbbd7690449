"""A field of a row of FROM is its column."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, columns, tag


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("SELECT (p).ssn FROM public.patients p", 'SELECT "p"."ssn" FROM public.patients p'),
        ("SELECT ((p)) . ssn AS x FROM public.patients p", 'SELECT "p"."ssn" AS x FROM public.patients p'),
        ("SELECT (p).* FROM public.patients p", 'SELECT "p".* FROM public.patients p'),
        ("SELECT (l).msg, p.ssn FROM public.patients p, log l", "SELECT (l).msg, p.ssn FROM public.patients p, log l"),
        (
            "DELETE FROM public.patients p WHERE (p).ssn = $1 RETURNING (p).id",
            f"""DELETE FROM public.patients p WHERE {tag('"p"."ssn"')} = $1 RETURNING "p"."id\"""",
        ),
        (
            "SELECT 1 FROM public.patients p JOIN public.visits v ON (p).mrn = (v).mrn",
            f"""SELECT 1 FROM public.patients p JOIN public.visits v ON {tag('"p"."mrn"')} = {tag('"v"."mrn"')}""",
        ),
    ],
)
def test_a_field_is_a_column(client: str, server: str) -> None:
    assert ask(client) == server


def test_the_inner_row_is_meant() -> None:
    inner = "SELECT (p).mrn FROM public.visits p WHERE (p).id = 1"
    assert columns(f"SELECT ({inner}) FROM public.patients p") == ["mrn"]


@pytest.mark.parametrize(
    ("client", "code"),
    [("SELECT (p).nope FROM public.patients p", "42703"), ("SELECT (p.ssn).x FROM public.patients p", "42809")],
)
def test_only_a_row_has_fields_and_only_its_own(client: str, code: str) -> None:
    assert ask(client) == code
