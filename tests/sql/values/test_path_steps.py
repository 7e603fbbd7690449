"""Constant steps in the trees of operators and subscripts."""

from __future__ import annotations

import pytest

from phiproxy.index.spelling import Constant
from phiproxy.sql.text.parse import Node, only, parse
from phiproxy.sql.values.path_steps import Bound, path_operator, steps_of, subscripts


def _tree(text: str) -> Node:
    (statement,) = parse(f"SELECT {text}".encode())
    tree: Node = only(statement.body["targetList"][0])[1]["val"]
    return tree


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("d -> 'a'", ["a"]),
        ("d ->> 'a'::text", ["a"]),
        ("d -> 0", [0]),
        ("d -> -1", [-1]),
        ("d -> 1::int", [1]),
        ("d -> '1'::int", None),
        ("d -> 'a'::varchar(1)", None),
        ("d -> 1.5", None),
        ("d -> $1", None),
        ("d -> b", None),
        ("d #> '{a,\"b c\",0}'", ["a", "b c", "0"]),
        ("d #>> '{}'::text[]", []),
        ("d #> ARRAY['a', 'b'::text]", ["a", "b"]),
        ("d #> ARRAY['a', NULL]", None),
        ("d #> ARRAY['a', b]", None),
        ("d #> '{a,NULL}'", None),
        ("d #> '{{a,b}}'", None),
        ("d #> '{a'", None),
        ("d #> 5", None),
    ],
)
def test_steps_of_operators(text: str, steps: list[str | int] | None) -> None:
    body = only(_tree(text))[1]
    operator = path_operator(body, lambda names: names[-1])
    assert operator == text.split()[1]
    found = steps_of(operator, body["rexpr"])
    assert found == (None if steps is None else [Constant(step) for step in steps])


@pytest.mark.parametrize(
    ("text", "steps"),
    [("d['a'][0]", ["a", "0"]), ("d[-1]", ["-1"]), ("d['a':'b']", None), ("d[$1]", None), ("(d).a", None)],
)
def test_subscripts(text: str, steps: list[str] | None) -> None:
    found = subscripts(only(_tree(text))[1]["indirection"])
    assert found == (None if steps is None else [Constant(step) for step in steps])


@pytest.mark.parametrize("text", ["d = 'a'", "d @> 'a'", "- 1 < 2", "d IN ('a')"])
def test_other_operators(text: str) -> None:
    assert path_operator(only(_tree(text))[1], lambda names: names[-1]) == ""


def test_an_operator_of_somebodys_own() -> None:
    assert path_operator(only(_tree("d -> 'a'"))[1], lambda _names: "") == ""


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("d -> $1", [Bound("a", 1)]),
        ("d ->> $2::varchar", [Bound("a", 2)]),
        ("d -> $1::int", None),
        ("d -> $1::varchar(3)", None),
        ("d #> ARRAY['a', $1]", None),
        ("d #> $1", None),
        ("d -> 'a'", [Constant("a")]),
    ],
)
def test_parameters_as_steps(text: str, steps: list[Constant] | None) -> None:
    body = only(_tree(text))[1]
    assert steps_of(path_operator(body, lambda names: names[-1]), body["rexpr"], bound=True) == steps
    assert subscripts(only(_tree("d[$1]['b'][0]"))[1]["indirection"], bound=True) == [Bound("a", 1), Constant("b"), Constant("0")]
