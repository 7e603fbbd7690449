"""Long constants are left out of what PostgreSQL's lexer and parser are given; that these find the same is in ``test_parse``."""

from __future__ import annotations

import tracemalloc

import pytest
from pglast.parser import parse_sql_json

from phiproxy.sql.text import long_constants
from phiproxy.sql.text import parse as parsing
from phiproxy.sql.text.long_constants import shortened
from phiproxy.sql.text.parse import parse

LONG = b"x" * 5_000


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_constants, "LONG_TEXT", 4_096)


def test_long_constants_are_left_out() -> None:
    text = b"""INSERT INTO "t" (a, b, c) VALUES ('%b', 'x''%b', $1), ('s', '', 1)""" % (b"--" * 3_000, b'"' * 5_000)
    shorter = shortened(text)
    assert shorter is not None
    assert shorter.text == b"""INSERT INTO "t" (a, b, c) VALUES ('\x010', '\x011', $1), ('s', '', 1)"""
    assert [text[begin:end][:3] for begin, end in shorter.constants.values()] == [b"---", b"x''"]
    for part in (b"INSERT", b"', '", b"$1", b"'s'", b", 1)"):
        assert text[shorter.offset(shorter.text.index(part)) :].startswith(part)


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT E'%b'", b"SELECT U&'%b'", b"SELECT X'%b'", b"SELECT '%b' -- '", b"SELECT $$ '%b' $$", b"""SELECT '%b', "a'b" """,
        b"SELECT '%b", b"SELECT '%b'\n'continued'", b"SELECT 'continued'\n'%b'", b"SELECT '%b', '\x01'", b"SELECT '%b' /* ' */",
    ],
)  # fmt: skip
def test_a_text_in_which_a_quote_may_be_something_else_is_left_as_it_is(text: bytes) -> None:
    assert shortened(text % LONG) is None


def test_many_short_constants_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_constants, "_constants", lambda text: pytest.fail(f"{len(text)} bytes are looked at"))
    assert shortened(b"INSERT INTO t VALUES " + b", ".join([b"('a', 'b', 1)"] * 10_000)) is None


def test_quotes_within_a_constant_take_no_memory() -> None:
    text = b"SELECT '%b', '%b'" % (b"''" * 100_000, LONG)

    def taken() -> int:
        tracemalloc.start()
        try:
            assert shortened(text) is not None
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert min(taken() for _ in range(5)) < 2 * len(text)  # other threads of the process may take some meanwhile


def test_the_parser_is_not_given_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    def counted(text: str) -> str:
        given.append(len(text))
        return str(parse_sql_json(text))

    monkeypatch.setattr(parsing, "parse_sql_json", counted)
    (statement,) = parse(b"INSERT INTO t VALUES ('%b')" % (LONG * 100))
    assert given == [27]
    assert LONG.decode() * 100 in str(statement.body)
