"""Shapes: what counts as a constant, what makes a text shapeless, and that the lexer of PostgreSQL agrees."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.sql.text.parse import parse, tokens
from phiproxy.sql.text.shape import _ANY, _PIECE, Shape, free_constants, literal_value, numbers_of_gaps, shape_of


def constants(text: bytes) -> list[bytes] | None:
    shape = shape_of(text)
    return None if shape is None else list(shape.constants)


def free(text: bytes) -> list[bytes]:
    shape = shape_of(text)
    assert shape is not None
    offsets = free_constants(parse(text))
    return [c for c, start in zip(shape.constants, shape.starts, strict=True) if start in offsets]


def test_literals_and_numbers_are_constants() -> None:
    assert constants(b"SELECT a1, 'it''s', \"o'k 5\" FROM t1 WHERE b = 12 AND c = 1.50 AND d=$1") == [b"'it''s'", b"12", b"1.50"]
    assert literal_value(b"'it''s'") == b"it's"
    assert constants("SELECT 'é', é1 FROM t".encode()) == ["'é'".encode()]


def test_parameters_are_marks_where_they_are_wanted() -> None:
    text = b'SELECT $1, a$2, "$3", 5$4, $5a, $0, $65535, $123456, ($7)::text, $8$, 9'
    shape = shape_of(text[:-6] + b"9", parameters=True)
    assert shape is not None
    assert shape.constants == (b"$1", b"$65535", b"$7", b"9")
    other = shape_of(text[:-6] + b"9")
    assert other is not None
    assert other.constants == (b"9",)
    assert shape_of(text, parameters=True) is None  # a dollar quote begins
    two = shape_of(b"SELECT $1 + $2", parameters=True), shape_of(b"SELECT $3 + $4", parameters=True)
    assert two[0] is not None
    assert two[1] is not None
    assert two[0].key == two[1].key


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT E'x'",
        b"SELECT e'x'",
        b"SELECT N'x'",
        b"SELECT U&'x'",
        b"SELECT B'1'",
        b"SELECT $$x$$",
        b"SELECT $a$x$a$",
        b"SELECT 'a'\n'b'",
        b"SELECT 1 -- x",
        b"SELECT /* x */ 1",
        b"SELECT 'open",
        b'SELECT "open',
    ],
)
def test_other_forms_have_no_shape(text: bytes) -> None:
    assert shape_of(text) is None


@pytest.mark.parametrize(
    "text", [b"SELECT 1e5", b"SELECT 0x1F", b"SELECT 1_000", b"SELECT .5", b"SELECT t.a1", b"SELECT $1", b"SELECT 5."]
)
def test_numbers_that_are_part_of_something_stay_in_the_gap(text: bytes) -> None:
    assert constants(text) == []


def test_these_are_told_of_the_gaps() -> None:
    text = b"""SELECT 1e5, .5, 5., 47.13e-2, 0x1F, 1_000, t.a1, $1, "2 000", x4713 FROM t WHERE a = 'x' AND b = 7"""
    shape = shape_of(text)
    assert shape is not None
    assert shape.constants == (b"'x'", b"7")
    assert numbers_of_gaps(shape) == {b"1e5", b".5", b"5.", b"47.13e-2", b"0x1F", b"1_000"}


def test_the_key_says_the_kinds_and_the_gaps() -> None:
    one, two = shape_of(b"SELECT 'a', 1"), shape_of(b"SELECT 'b''c', 22")
    other, text = shape_of(b"SELECT 1, 'a'"), shape_of(b"SELECT  'a', 1")
    assert one is not None
    assert two is not None
    assert other is not None
    assert text is not None
    assert one.key == two.key
    assert one.key not in (other.key, text.key)


words = st.sampled_from(
    ["a", "t1", '"q x"', '"it\'s"', ",", " ", "=", "(", ")", "'x'", "'it''s'", "''", "12", "3.5", "$1", "é", ".", "-", "e5"]
)


@given(st.lists(words, max_size=12))
def test_every_constant_is_one_to_postgres(parts: list[str]) -> None:
    text = " ".join(parts).encode()
    shape = shape_of(text)
    if shape is None:
        return
    lexed = {(t.start, t.end) for t in tokens(text) if t.name in ("SCONST", "ICONST", "FCONST")}
    ours = {(start, start + len(c)) for start, c in zip(shape.starts, shape.constants, strict=True)}
    assert ours <= lexed
    rebuilt = b"".join(g + c for g, c in zip(shape.gaps, [*shape.constants, b""], strict=True))
    assert rebuilt == text


def test_free_are_values_where_values_stand() -> None:
    assert free(b"SELECT id FROM t WHERE a = 'x' AND b IN (1, 2) AND c BETWEEN 3 AND 4 LIMIT 5 OFFSET 6") == [
        b"'x'", b"1", b"2", b"3", b"4", b"5", b"6",
    ]  # fmt: skip
    assert free(b"INSERT INTO t (a, b) VALUES ('x', 1), ('y', 2) RETURNING 3") == [b"'x'", b"1", b"'y'", b"2", b"3"]
    assert free(b"UPDATE t SET a = 'x', b = CASE WHEN c = 'z' THEN 1 ELSE 2 END WHERE d = 3::int") == [
        b"'x'", b"'z'", b"1", b"2", b"3",
    ]  # fmt: skip
    assert free(b"SELECT id FROM t WHERE a ->> 'x' = 'y' AND b OPERATOR(pg_catalog.->) 'z' = 3") == [b"'y'", b"3"]
    assert free(b"WITH w AS (SELECT 1) DELETE FROM t USING w WHERE t.a = 'x'") == [b"1", b"'x'"]


def test_the_key_says_the_types_of_numbers() -> None:
    def key(number: str) -> bytes:
        shape = shape_of(f"SELECT coalesce(a, {number})".encode())
        assert shape is not None
        return shape.key

    same = [
        ["0", "7", "2147483647"],
        ["2147483648"],
        ["2147483649", "9223372036854775807"],
        ["9223372036854775808"],
        ["1.5", "9223372036854775809"],
    ]
    assert [len({key(n) for n in numbers}) for numbers in same] == [1] * len(same)
    assert len({key(numbers[0]) for numbers in same}) == len(same)


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT a FROM t ORDER BY 1",
        b"SELECT 'x', count(*) FROM t GROUP BY 1",
        b"SELECT DISTINCT 'x' FROM t",
        b"SELECT right(a, 4) FROM t",
        b"SELECT a::varchar(12) FROM t",
        b"SELECT 1 UNION SELECT 2",
        b"SELECT -5",
        b"SET x TO 'y'",
        b"SELECT a[1] FROM t",
        b"SELECT a -> 'x' -> 0 ->> 'y' FROM t",
        b"SELECT a #>> '{x}'::text[] FROM t",
        b"SELECT id FROM t WHERE a #> ARRAY['x', 'y'] IS NULL",
        b"UPDATE t SET a = a #- '{x}'",
    ],
)
def test_constants_that_may_mean_more_are_not_free(text: bytes) -> None:
    assert free(text) == []


# The same rules without the set of first bytes: slow, and plain to read.
REFERENCE = re.compile(
    rb"""
      "[^"]*"
    | (?P<string> (?<![\w$&\x80-\xff]) '[^']*+(?:''[^']*+)*+' (?!\s*') )
    | (?P<number> (?<![\w$.\x80-\xff]) (?<![0-9.][eE][-+]) \d++(?:\.\d++)? (?![\w.$\x80-\xff]) )
    | (?P<other> -- | /\* | \$(?!\d) | ['"] )
    """,
    re.VERBOSE,
)
PIECES = [
    b"'",
    b'"',
    b"''",
    b"-",
    b"--",
    b"/*",
    b"/",
    b"*",
    b"$",
    b"$1",
    b"1",
    b"23",
    b".",
    b"a",
    b"E",
    b"1e",
    b"U&",
    b" ",
    b"\n",
    b"_",
    b"\xc3\xa4",
]


@given(st.lists(st.sampled_from(PIECES), max_size=10).map(b"".join))
def test_the_search_finds_what_the_plain_rules_find(text: bytes) -> None:
    pieces = [m for m in REFERENCE.finditer(text) if m.lastgroup is not None]
    shape = shape_of(text)
    if any(m.lastgroup == "other" for m in pieces):
        assert shape is None
    else:
        assert isinstance(shape, Shape)
        assert [(m.start(), m[0]) for m in pieces] == list(zip(shape.starts, shape.constants, strict=True))


def test_a_text_without_constants_is_told_by_what_any_would_have() -> None:
    for letters in product("a1$.-/*'\" e\u00e9", repeat=4):
        text = f"x {''.join(letters)} y".encode()
        taken_out = {piece.lastgroup for piece in _PIECE.finditer(text)} - {None, "parameter"}
        shape = shape_of(text)
        assert (shape is None) == ("other" in taken_out), text
        assert shape is None or (shape.constants == ()) == (not taken_out), text
        assert _ANY.search(text) is not None or not taken_out, text
        assert shape is None or shape.constants or shape == Shape((text,), (), (), text), text
