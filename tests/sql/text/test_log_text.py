"""What a log may hold of a statement: nothing that could be a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.sql.text.log_text import LONGEST, without_values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT notes FROM patients WHERE ssn = '123-45-6789' -- Ada", "SELECT notes FROM patients WHERE ssn = ?"),
        ("/* Ada */ SELECT 1", "SELECT ?"),
        ("SELECT a\n  FROM t", "SELECT a FROM t"),
        ("SELECT 0x1F, 1_000, 1e5, .5, 5., E'a\\'b', $$x$$, $q$y$q$, B'1', X'F', U&'d'", "SELECT ?, …"),
        ("SELECT N'x', n'y'", "SELECT N?, n?"),
        ("SELECT $1, a.b FROM t WHERE c IN (1, 2, -3) AND d = $2", "SELECT $1, a.b FROM t WHERE c IN (?, …, -?) AND d = $2"),
        ('SELECT "Full Name", "Smith 1", U&"x" FROM "T"', 'SELECT "Full Name", ?, … FROM "T"'),
        ("SET app.tenant = smith", "SET app.tenant = ?"),
        ("SET LOCAL app.tenant TO smith, 'x'; SELECT 1", "SET LOCAL app.tenant TO ?, …; SELECT ?"),
        ("UPDATE t SET a = b WHERE c = 'x'", "UPDATE t SET a = b WHERE c = ?"),
        ("SELECT 'ä' AS ö", "SELECT ? AS ö"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert without_values(text.encode()) == shown


@pytest.mark.parametrize("text", [b"SELECT 'open", b"SELECT $$open", b"SELECT \xff", b"SELECT 1, " * 10_000])
def test_what_is_not_read_is_not_shown(text: bytes) -> None:
    assert without_values(text) is None


def test_what_is_long_is_cut() -> None:
    shown = without_values(b"SELECT " + b"a + " * 1000 + b"b")
    assert shown is not None
    assert len(shown) == LONGEST


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=5), st.integers(10**6, 10**12))
def test_no_value_is_in_it(secret: str, number: int) -> None:
    quoted = secret.replace("'", "''")
    spelled = secret.replace("\\", "\\\\").replace("'", "\\'")
    dollar = f"$q${secret.replace('$', '')}$q$"
    comment = secret.replace("*", "").replace("/", "")
    shown = without_values(f"SELECT '{quoted}', E'{spelled}', {dollar}, {number}, -{number} /* {comment} */ FROM x".encode())
    assert shown is not None
    assert shown.startswith("SELECT ?, …")
    assert shown.endswith(" FROM x")
    assert secret not in shown.removeprefix("SELECT ?, …").removesuffix(" FROM x")
    assert str(number) not in shown
