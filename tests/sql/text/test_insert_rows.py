"""Rows of long INSERTs: where they are found, which of them are alike, and what is left alone."""

from __future__ import annotations

import pytest

from phiproxy.sql.text.insert_rows import Bulk, find_bulk
from phiproxy.sql.text.parse import parse


def found(text: str) -> Bulk:
    bulk = find_bulk(text.encode())
    assert bulk is not None
    return bulk


ROWS = [f"({i}, 'a{i}, (', NULL)" for i in range(20)]


def test_a_row_of_each_form_is_analysed_and_two_at_least() -> None:
    bulk = found("INSERT INTO t VALUES " + ", ".join(ROWS))
    assert bulk.short.text == b"INSERT INTO t VALUES (0, 'a0, (', NULL), (1, 'a1, (', NULL)"
    assert bulk.is_as_expected(parse(bulk.short.text))
    assert set(bulk.form) == {0}
    others = ROWS[:5] + ["(-5, lower('x'), ((NULL)))"] + ROWS[5:] + ["(7,'x',DEFAULT)"] * 20
    bulk = found("insert into t\nvalues" + " ,\n".join(others) + " RETURNING id + 1, ('x')")
    assert [others[i] for i in bulk.analysed] == [ROWS[0], ROWS[1], others[5], "(7,'x',DEFAULT)"]
    assert bulk.short.text.endswith(b"(7,'x',DEFAULT) RETURNING id + 1, ('x')")
    assert bulk.is_as_expected(parse(bulk.short.text))
    assert [bulk.form[i] for i in (0, 1, 5, 6, -1)] == [0, 0, 2, 0, 3]


def test_parameters_are_marks_and_the_same_ones_make_a_form() -> None:
    rows = ["($1, 'x', $2)", "($3, 'y', $4)", *(f"(${i}, 'z', ${i})" for i in range(5, 23))]
    bulk = found("INSERT INTO t VALUES " + ", ".join(rows))
    assert bulk.short.text == b"INSERT INTO t VALUES ($1, 'x', $2), ($3, 'y', $4), ($5, 'z', $5)"
    assert bulk.form == [0, 0, *[2] * 18]
    assert bulk.short.shape.constants == (b"$1", b"'x'", b"$2", b"$3", b"'y'", b"$4", b"$5", b"'z'", b"$5")


def test_an_insert_among_other_statements() -> None:
    text = "SELECT ';INSERT INTO t VALUES (1)'; INSERT INTO u VALUES (1), (2); INSERT INTO t VALUES {}; SELECT 'x'"
    bulk = found(text.format(", ".join(ROWS)))
    assert bulk.short.text.decode() == text.format(", ".join(ROWS[:2]))
    assert bulk.is_as_expected(parse(bulk.short.text))


def test_rows_of_a_query_in_from() -> None:
    text = "INSERT INTO t (a) SELECT p0::VARCHAR(12), p1::int[] FROM (VALUES {}) AS v(p0, p1, n) ORDER BY n RETURNING id"
    bulk = found(text.format(", ".join(f"($%d::text, $%d, {i})" % (2 * i + 1, 2 * i + 2) for i in range(20))))
    assert bulk.short.text.decode() == text.format("($1::text, $2, 0), ($3::text, $4, 1)")
    assert bulk.is_as_expected(parse(bulk.short.text))
    assert [bulk.long.shape.constants[i] for i in range(4)] == [b"12", b"$1", b"$2", b"0"]


def test_offsets_are_told_in_the_long_text() -> None:
    text = "INSERT INTO t VALUES " + ", ".join([*ROWS[:9], "('é')", *ROWS[9:]]) + " RETURNING x"
    bulk = found(text)
    raw = text.encode()
    for word in (b"INTO", b"'a0, ('", b"'a1, ('", "'é'".encode(), b"RETURNING", b"VALUES"):
        assert bulk.offset(bulk.short.text.index(word)) == raw.index(word)
    assert bulk.offset(len(bulk.short.text)) == len(raw)
    assert bulk.offset(0) == 0


def test_more_rows_can_be_analysed() -> None:
    bulk = found("INSERT INTO t VALUES " + ", ".join([*ROWS, "(1)"]))
    assert bulk.analysed == [0, 1, 20]
    more = bulk.with_rows({7, 20})
    assert more.analysed == [0, 1, 7, 20]
    assert more.short.text.endswith(b"VALUES (0, 'a0, (', NULL), (1, 'a1, (', NULL), (7, 'a7, (', NULL), (1)")
    assert [more.form[i] for i in (0, 7, 20)] == [0, 0, 3]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "INSERT INTO t VALUES ('x')",
        "INSERT INTO t SELECT 'x'",
        "INSERT INTO t VALUES " + ", ".join(ROWS[:15]),
        "INSERT INTO t VALUES " + ", ".join(f"('x'{', NULL' * i})" for i in range(40)),
        "INSERT INTO t VALUES " + ", ".join(ROWS) + " -- that was it",
        "INSERT INTO t VALUES " + ", ".join(f"(E'{i}')" for i in range(40)),
        "INSERT INTO t (a['x']) VALUES " + ", ".join(ROWS),
        "WITH q AS (SELECT 1) INSERT INTO t VALUES " + ", ".join(ROWS),
        "INSERT INTO t VALUES " + ", ".join(['("f"(1))'] * 40),
    ],
)
def test_what_has_few_rows_or_other_clauses_is_analysed_whole(text: str) -> None:
    assert find_bulk(text.encode()) is None


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t SELECT * FROM (VALUES {}) v, u",
        "INSERT INTO t SELECT DISTINCT * FROM (VALUES {}) v",
        "INSERT INTO t SELECT (SELECT max(a) FROM (VALUES {}) w(a)) FROM (VALUES (1), (2)) v",
        "INSERT INTO t VALUES {} LIMIT 3",
        "INSERT INTO t VALUES {}, (\"f\"('x')), ('x')",
        "INSERT INTO t VALUES {} UNION ALL SELECT 'x'",
    ],
)
def test_what_is_more_than_rows_is_seen_in_the_tree(text: str) -> None:
    bulk = find_bulk(text.replace("{}", ", ".join(ROWS)).encode())
    assert bulk is None or not bulk.is_as_expected(parse(bulk.short.text))


def test_rows_whose_parameters_have_other_types_are_of_other_forms() -> None:
    text = "INSERT INTO t VALUES " + ", ".join(f"(${2 * i + 1}, ${2 * i + 2})" for i in range(20))
    declared = [23, 25] * 19 + [20]
    bulk = find_bulk(text.encode(), declared)
    assert bulk is not None
    assert bulk.analysed == [0, 1, 19]
    assert bulk.form == [0] * 19 + [2]
    undeclared = find_bulk(text.encode())
    assert undeclared is not None
    assert undeclared.analysed == [0, 1]
