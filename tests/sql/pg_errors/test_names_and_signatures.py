"""Where a column is found, and where an expression begins."""

from __future__ import annotations

import pytest

from phiproxy.sql.pg_errors.names_and_signatures import Column, Level, Source, first, resolve
from phiproxy.sql.text.parse import Node, only, parse

OUTER = Level([Source("o", (Column("a", 23), Column("b", 25)), "public")])
INNER = Level([Source("i", (Column("b", 16), Column("c", 25), Column("c", 23)))], outer=OUTER)


@pytest.mark.parametrize(
    ("names", "type_"),
    [
        (["a"], 23),
        (["b"], 16),
        (["o", "b"], 25),
        (["public", "o", "b"], 25),
        (["other", "o", "b"], None),
        (["c"], None),
        (["i", "a"], None),
        (["z"], None),
    ],
)
def test_the_innermost_owns_it(names: list[str], type_: int | None) -> None:
    owner = resolve(INNER, names)
    assert (owner and owner[2].type) == type_


def test_behind_what_is_not_known_nothing_is_seen() -> None:
    assert resolve(Level([Source("f", (), opaque=True)], outer=OUTER), ["a"]) is None


def test_a_merged_column_comes_first() -> None:
    level = Level(INNER.sources, [Column("b", 1082)])
    owner = resolve(level, ["b"])
    assert owner is not None
    assert (owner[1], owner[2].type) == (None, 1082)


def expression(text: str) -> Node:
    return dict(only(parse(f"SELECT {text}".encode())[0].body["targetList"][0])[1]["val"])


@pytest.mark.parametrize(
    ("text", "at"),
    [("a + 1", "a"), ("f(x)", "f"), ("CAST(a AS int)", "CAST"), ("date '2001-02-03'", "'2001"), ("(a, b) IN (SELECT 1, 2)", "(a")],
)
def test_an_expression_begins_where_postgresql_points(text: str, at: str) -> None:
    assert f"SELECT {text}"[first(expression(text)) :].startswith(at)
