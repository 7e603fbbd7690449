"""Texts to statements: spans in bytes, positions in characters, and syntax errors that quote no literal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast.parser import ParseError

from phiproxy.errors import StatementRefused, SyntaxRefused
from phiproxy.sql.text import long_constants
from phiproxy.sql.text.parse import (
    char_position,
    children,
    comments,
    let_go,
    messages,
    only,
    parse,
    reference_to,
    tokens,
    without_locations,
)


def test_statements_have_their_spans_in_bytes() -> None:
    text = "SELECT 'é'; SELECT 2".encode()
    first, second = parse(text)
    assert text[first.start : first.end] == "SELECT 'é'".encode()
    assert text[second.start : second.end].strip() == b"SELECT 2"
    assert parse(b" -- nothing\n") == []


@pytest.mark.parametrize(
    ("text", "position"),
    [("SELECT FROM WHERE", 13), ("é SELECT", 1), ("SELECT 'é' FROM WHERE x", 17)],
)
def test_a_syntax_error_has_postgresqls_position(text: str, position: int) -> None:
    with pytest.raises(SyntaxRefused) as caught:
        parse(text.encode())
    assert caught.value.sqlstate == "42601"
    assert caught.value.position == position


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 '123-45-6789'",
        "SELECT 1 E'123-45-6789'",
        "SELECT 1 U&'123-45-6789'",
        "SELECT 1 $$123-45-6789$$",
        "SELECT * FROM t WHERE a = = 'x' 123456789 = 5 '123-45-6789'",
        "SELECT '123-45-6789",
        'SELECT 1 x "123-45-6789"',
        "SELECT a b 123-45-6789",
    ],
)
def test_a_syntax_error_quotes_no_literal(text: str) -> None:
    with pytest.raises(SyntaxRefused) as caught:
        parse(text.encode())
    assert "123" not in caught.value.public_text


def test_what_cannot_be_analysed_is_refused() -> None:
    with pytest.raises(StatementRefused):
        parse(b"SELECT '\xff'")
    with pytest.raises(StatementRefused):
        parse(b"SELECT " + b"1, " * 120_000 + b"1")
    assert parse(b"SELECT '" + b"x" * 2_000_000 + b"'")
    with pytest.raises(StatementRefused):
        parse(b"SELECT " + b"(" * 20_000 + b"1" + b")" * 20_000)


@given(st.text(alphabet="aé€😀 '", max_size=30))
def test_tokens_and_comments_are_spans_of_bytes(inside: str) -> None:
    literal = "'" + inside.replace("'", "''") + "'"
    text = f"SELECT {literal} /* {inside.replace('*', '')} */ AS x".encode()
    text_tokens = tokens(text)
    assert text[text_tokens[1].start : text_tokens[1].end] == literal.encode()
    (comment,) = comments(text)
    assert text[comment.start : comment.end].startswith(b"/*")
    assert text[text_tokens[-1].start : text_tokens[-1].end] == b"x"


_PARTS = [
    "a",
    '"b"',
    '"it\'s"',
    "1",
    "$1",
    "$$d'$$",
    "'",
    "''",
    "'s'",
    "E'a\\'b'",
    "e",
    "-- c'\n",
    "/* d' */",
    "é",
    " ",
    ",",
    "x" * 30,
    "'" + "y" * 30,
]


@given(st.lists(st.sampled_from(_PARTS), max_size=12))
def test_long_constants_are_left_out_of_a_scan_and_change_no_token(parts: list[str]) -> None:
    text = "".join(parts).encode()
    try:
        expected = tokens(text)
    except ParseError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_constants, "LONG_TEXT", 20)
        patch.setattr(long_constants, "LONG_CONSTANT", 20)
        assert tokens(text) == expected


_LONG = ["'" + "y" * 30 + "'", "'" + "é''" + "z" * 25 + "'", "''", "'s'", "U&'" + "\\0041" * 6 + "'", "X'" + "1F" * 12 + "'"]


@given(
    st.lists(st.sampled_from(_LONG), min_size=6, max_size=6),
    st.sampled_from([
        "SELECT a, {}, 'b'::text, t.c FROM t WHERE x = {} AND t.y IN (1, {}); SELECT {}; UPDATE t SET a = {}, b = 1 WHERE c = {}",
        "INSERT INTO t VALUES ({}, $1), ({}, 2) ON CONFLICT (a) DO UPDATE SET b = {}; COMMENT ON TABLE t IS {} ; SET x TO {}, {}",
        "DO {}; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS {}; SELECT {}\n{}, E{}, date {}",
        "SELECT {} -- '\n, {}, {}, {}, {}, {}",
    ]),
)  # fmt: skip
def test_long_constants_are_left_out_of_a_parse_and_change_no_tree(constants: list[str], form: str) -> None:
    text = form.format(*constants).encode()
    try:
        expected = parse(text)
    except StatementRefused as refused:
        expected, said = None, (str(refused), refused.position)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_constants, "LONG_TEXT", 20)
        patch.setattr(long_constants, "LONG_CONSTANT", 20)
        if expected is not None:
            assert parse(text) == expected
            return
        with pytest.raises(StatementRefused) as found:
            parse(text)
    assert (str(found.value), found.value.position) == said


@given(st.text(alphabet="aé€😀", max_size=20), st.integers(0, 20))
def test_positions_count_characters_from_one(text: str, index: int) -> None:
    index = min(index, len(text))
    assert char_position(text.encode(), len(text[:index].encode())) == index + 1


def test_trees_are_walked_and_compared_without_their_places() -> None:
    (one,), (two,) = parse(b"SELECT a, b"), parse(b"SELECT   a,    b")
    assert one.body != two.body
    assert without_locations(one.body) == without_locations(two.body)
    assert [only(n)[0] for n in children(one.body)] == ["ResTarget", "ResTarget"]
    assert sum("fields" in m for m in messages(one.body)) == 2


def test_a_tree_that_is_let_go_is_empty() -> None:
    (tree,) = parse(b"SELECT a, (SELECT b FROM t)")
    inner = [*messages(tree.body)]
    let_go(tree.body)
    assert inner == [{}] * len(inner)


def test_a_reference_to_a_column_or_a_whole_row_is_found() -> None:
    where = parse(b"SELECT 1 WHERE lower(t.ssn) = 'x' AND city = 'ssn'")[0].body["whereClause"]
    assert reference_to(where, {"ssn"}) is not None
    assert reference_to(where, {"name"}) is None
    assert reference_to(where, ()) is None
    assert reference_to(parse(b"SELECT t.*")[0].body, {"name"}) is not None
