"""The shape of a statement that a record shows: no constant in it, whatever it is spelled like."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.sql.text.audit_text import MAX_SHAPE, visible_shape

SECRET = "078-05-1120"


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("select  SSN from public.patients\nwhere mrn='1' AND id = $1", "SELECT ssn FROM public.patients WHERE mrn = ? AND id = ?"),
        ("SELECT a FROM t WHERE b IN ('1', '2',\n 3)", "SELECT a FROM t WHERE b IN (?, …)"),
        ("INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y'), (3, 'z')", "INSERT INTO t(a, b) VALUES (?, …), …"),
        ("insert into t values ($1, DEFAULT), ($2, NULL)", "INSERT INTO t VALUES (?, DEFAULT), (?, NULL)"),
        (r"SELECT x'1f', b'1', 1.5e3, .5, 0x10, 1_000, -3, E'\'a', U&'\0041', N'x', $$x$$", "SELECT ?, …, - ?, …, n ?, …"),
        ('SELECT a::text, "Full Name", count(*) FROM t -- c\n/* d */', 'SELECT a::text, "Full Name", count(*) FROM t'),
        ("SELECT b[1]", "SELECT b[?]"),
        ("EXECUTE find('078-05-1120')", "EXECUTE find(?)"),
    ],
)  # fmt: skip
def test_shapes(text: str, shape: str) -> None:
    assert visible_shape(text.encode()) == shape


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT 1 FROM patients WHERE ssn = '{SECRET}'",
        f"SELECT 1 FROM patients WHERE ssn = E'{SECRET}' -- {SECRET}",
        f"SELECT 1 FROM patients /* {SECRET} */ WHERE ssn = $x${SECRET}$x$",
        f'SELECT 1 FROM patients WHERE ssn = "{SECRET}"',
        f"SELECT 1 FROM patients WHERE ssn = 'a''{SECRET}'",
        f"SELECT 1 FROM patients WHERE ssn = U&'{SECRET}'",
        f"SELECT 1 FROM patients WHERE ssn = '{SECRET}",
        f'SELECT 1 FROM patients WHERE ssn = U&"{SECRET}"',
    ],
)
def test_no_constant_of_a_refused_statement_is_in_its_shape(text: str) -> None:
    assert SECRET not in visible_shape(text.encode(), {"patients", "ssn"})


def test_a_word_that_may_be_a_value_is_left_out_of_a_refused_statement() -> None:
    names = {"patients", "full_name"}
    shape = "SELECT pg_catalog.upper(p.full_name) FROM patients WHERE full_name = ?"
    assert visible_shape(f"{shape[:-1]}alice".encode(), names, {"upper"}) == shape
    assert visible_shape(b'SELECT full_name FROM patients WHERE full_name = U&"alice"', names).endswith("= ?")


@pytest.mark.parametrize("value", ["alice.smith@example.org", "alice.smith", 'alice."smith"', "alice (smith)", "smith(alice)"])
def test_no_part_of_a_value_that_was_not_quoted_is_shown(value: str) -> None:
    shape = visible_shape(f"SELECT 1 FROM patients WHERE full_name = {value}".encode(), {"patients", "full_name"}, {"upper"})
    assert not set(re.findall("[a-z]+", shape.rsplit("= ", 1)[1]))


def test_a_long_text_has_the_shape_of_its_beginning() -> None:
    text = b"INSERT INTO patients VALUES " + b", ".join(b"(%d, '%s')" % (i, SECRET.encode()) for i in range(5000))
    shape = visible_shape(text)
    assert shape.startswith("INSERT INTO patients VALUES (?, …), …")
    assert SECRET not in shape
    assert len(shape) < 100
    assert visible_shape(b"SELECT " + b"aaaaaaaaaa, " * 400 + b"1").endswith("…")
    assert len(visible_shape(b"SELECT " + b"aaaaaaaaaa, " * 400 + b"1")) == MAX_SHAPE
    assert visible_shape(b"-- no shape\n" + text) == ""


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0'\\"), min_size=6))
def test_what_is_in_quotes_is_never_shown(value: str) -> None:
    shape = visible_shape(f"SELECT ssn FROM patients WHERE ssn = '{value}'".encode())
    assert shape in ("SELECT ssn FROM patients WHERE ssn = ?", "")
