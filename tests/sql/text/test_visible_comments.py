"""Comments: what of them may reach the server of a statement that touches something protected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.sql.text.visible_comments import shown_comment
from tests.sql.ask import ask

NAMES = {"patients", "p", "patients_ssn_key"}
TRACE = "traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'"


def shown(comment: str, *values: str, bound: bool = False) -> str:
    """Return what is left of a comment, without the blanks."""
    left = shown_comment(comment.encode(), {v.encode() for v in values}, NAMES, bound=bound)
    assert len(left) == len(comment.encode())
    return left.decode().strip()


@pytest.mark.parametrize(
    "hint",
    [
        "/*+ SeqScan(p) */",
        "/*+ IndexScan(p patients_ssn_key) HashJoin(p patients) */",
        "/*+Leading((p patients))*/",
        "/*+ Rows(p patients #10) Parallel(p 4 hard) */",
        "/*+ Set(enable_seqscan off) Set(random_page_cost 1.1) */",
    ],
)
@pytest.mark.parametrize("bound", [False, True])
def test_hints_about_names_of_the_statement_stay(hint: str, bound: bool) -> None:
    assert shown(hint, "CANC03", bound=bound) == hint


@pytest.mark.parametrize(
    "hint",
    [
        "/*+ CANC03 */",
        "/*+ SeqScan(CANC03) */",
        "/*+ SeqScan(p) CANC03 */",
        "/*+ Set(application_name CANC03) */",
        "/*+ Parallel(p 4713 hard) */",
        "/*+ IndexScanRegexp(p 'CANC03') */",
        "/*+ */",
    ],
)
def test_hints_that_might_hold_a_value_do_not(hint: str) -> None:
    assert shown(hint) == ""


def test_a_number_that_is_a_protected_value_takes_the_hint_away() -> None:
    assert shown("/*+ Rows(p patients #4713) */", "4713") == ""


def test_pairs_of_sqlcommenter_stay_whose_form_is_known() -> None:
    django = f"/*db_driver='django.db.backends.postgresql',framework='django%3A5.2.1',route='%2Fpatients%2FCANC01',{TRACE}*/"
    assert shown(django, bound=True) == f"/*db_driver='django.db.backends.postgresql',framework='django%3A5.2.1',{TRACE}*/"


@pytest.mark.parametrize(
    "comment",
    [
        "/*route='%2Fpatients%2FCANC01'*/",
        "/*action='CANC01'*/",
        "/*framework='CANC01'*/",
        "/*db_driver='psycopg:CANC01'*/",
        "/*traceparent='CANC01'*/",
        "/*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' CANC01*/",
        "/* plain words */",
        "-- framework='django'",
        "/*application='CANC01'*/",
        "/*tracestate='vendor%3DCANC01'*/",
    ],
)
def test_all_else_is_blanked(comment: str) -> None:
    assert shown(comment, bound=True) == ""


@pytest.mark.parametrize("pair", ["application='wards'", "tracestate='vendor%3Dt61rcWkgMzE%2Crojo%3D00f067aa0ba902b7'"])
def test_free_values_stay_where_every_protected_value_is_there_to_be_compared(pair: str) -> None:
    assert shown(f"/*{pair}*/", "CANC01") == f"/*{pair}*/"
    assert shown(f"/*{pair}*/", "CANC01", bound=True) == ""
    assert shown(f"/*{pair},{TRACE}*/", "ward", "00f067aa0ba902b7") == ""


@given(st.text(max_size=60))
def test_any_comment_keeps_its_length_and_its_lines(inside: str) -> None:
    comment = f"/*{inside.replace('*/', '')}*/".encode("utf-8", "surrogatepass")
    left = shown_comment(comment, {b"x"}, NAMES, bound=False)
    assert len(left) == len(comment)
    assert [i for i, c in enumerate(left) if c in b"\r\n"] == [i for i, c in enumerate(comment) if c in b"\r\n"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM public.patients WHERE ssn = $1 /*route='%2Fpatients%2FCANC01'*/",
        "SELECT id FROM public.patients WHERE ssn = $1 /*+ CANC01 */",
        "SELECT id FROM public.patients WHERE ssn = 'CANC01' /*route='CANC%301'*/",
        "SELECT id FROM public.patients WHERE mrn = ANY ('{x,CANC01}') /*application='CANC01'*/",
        "SELECT ssn FROM public.patients -- CANC01",
    ],
)
def test_no_value_is_left_in_a_statement(statement: str) -> None:
    server = ask(statement)
    assert server.startswith("SELECT")
    assert "CANC" not in server
