from __future__ import annotations

from functools import partial

import pytest

from phiproxy.sql.text.rewritten_backslashes import either_way
from tests.harness.costs import cpu_seconds_of

# With the setting off, and what means the same whatever it is.
OFF = [
    (r"SELECT 'a''b'", r"SELECT 'a''b'"),
    (r"SELECT 'a\'b'", r"SELECT E'a\'b'"),
    (r"SELECT 'a\\', 'b'", r"SELECT E'a\\', 'b'"),
    (r"SELECT 'a\\''', b", r"SELECT E'a\\''', b"),
    ("SELECT 'a' -- 'x\n 'b\\n'", "SELECT E'a' -- 'x\n 'b\\n'"),
    ("SELECT 'a' 'b\\n'", "SELECT 'a' E'b\\n'"),
    (r"SELECT N'a\'b', n 'c\d'", r"SELECT nchar E'a\'b', n E'c\d'"),
    (r"SELECT E'a\'b', 'c'", r"SELECT E'a\'b', 'c'"),
    (r"SELECT $$a'\$$, 'b\c'", r"SELECT $$a'\$$, E'b\c'"),
    (r"SELECT $a$ $b$ '\ $$ $a$, $1$$'\'$$", r"SELECT $a$ $b$ '\ $$ $a$, $1$$'\'$$"),
    (r"SELECT a$b$ '\t' $b$", r"SELECT a$b$ E'\t' $b$"),
    (r"""SELECT "a''\", 'b\c'""", r"""SELECT "a''\", E'b\c'"""),
    ("SELECT 1 -- it's \\\n, 'b\\c'", "SELECT 1 -- it's \\\n, E'b\\c'"),
    (r"SELECT /* ' /* \' */ ' */ 'b\c'", r"SELECT /* ' /* \' */ ' */ E'b\c'"),
    (r"SELECT /* ' \'", r"SELECT /* ' \'"),
    (r"SELECT B'01', X'f', '\x'", r"SELECT B'01', X'f', E'\x'"),
    (r"SELECT U&'\0041', U&" + r'"\0041", ' + r"'\x'", r"SELECT U&'\0041', U&" + r'"\0041", ' + r"E'\x'"),
    (r"SELECT 'never ends\'", r"SELECT E'never ends\'"),
    ("SELECT 'é\\'é'", "SELECT E'é\\'é'"),
]
ON = [
    (r"SELECT 'a\b', E'c\d', 'e'", r"SELECT E'a\\b', E'c\d', 'e'"),
    (r"SELECT 'a\', 'b'", r"SELECT E'a\\', 'b'"),
    ("SELECT 'a\\'\n'b\\', 'c'", "SELECT E'a\\\\'\n'b\\\\', 'c'"),
    (r"SELECT '\x00'::bytea, N'\'", r"SELECT E'\\x00'::bytea, nchar E'\\'"),
]


@pytest.mark.parametrize(("text", "spelled"), OFF)
def test_where_it_is_off(text: str, spelled: str) -> None:
    assert either_way(text.encode(), conforming=False)[0] == spelled.encode()


@pytest.mark.parametrize(("text", "spelled"), ON)
def test_where_it_is_on(text: str, spelled: str) -> None:
    always, edits = either_way(text.encode(), conforming=True)
    assert always == spelled.encode()
    assert either_way(always, conforming=True) == (always, [])
    for start, end, instead in reversed(edits):
        text = text[:start] + instead.decode() + text[end:]
    assert text == spelled


def test_what_is_long_takes_no_longer_than_it_must() -> None:
    for text in (
        b"SELECT '\\" + b"'\n" * 100_000,
        b"/*" * 100_000 + b"\\",
        b"$a" * 100_000 + b"\\",
        b"SELECT '" + b"\\a" * 500_000 + b"'",
    ):
        either_way(text, conforming=False)
        either_way(text, conforming=True)


def test_a_long_literal_without_an_end_takes_little_time() -> None:
    for text in (b"'" + rb"\'" * 30_000, b"'" + rb"\'" * 30_000 + b"\\"):
        assert cpu_seconds_of(partial(either_way, text, conforming=False)) < 1
