"""What can become an envelope or a tag: parameters, string literals and NULL, under casts that change nothing."""

from __future__ import annotations

import pytest

from phiproxy.sql.text.parse import Node, only, parse
from phiproxy.sql.values.operands import as_operand, peel, text_cast


def expression(text: str) -> Node:
    (statement,) = parse(f"SELECT {text}".encode())
    value: Node = only(statement.body["targetList"][0])[1]["val"]
    return value


@pytest.mark.parametrize(
    ("text", "kind", "casts"),
    [
        ("$1", "param", 0),
        ("$2::text", "param", 1),
        ("CAST($1 AS varchar)", "param", 1),
        ("$1::character varying::pg_catalog.text", "param", 2),
        ("'x'", "literal", 0),
        ("text 'x'", "literal", 1),
        ("E'a\\nb'", "literal", 0),
        ("NULL", "null", 0),
        ("NULL::varchar", "null", 1),
        ("5", "constant", 0),
        ("(-1.5)::numeric(3,1)", "constant", 1),
        ("true", "constant", 0),
        ("$1::int", "param", 1),
        ("date '2001-02-03'", "literal", 1),
        ("$1::text[]", "param", 1),
        ("'x'::char(3)", "literal", 1),
        ("$1::bpchar", "param", 1),
    ],
)
def test_parameters_and_constants_under_casts_are_operands(text: str, kind: str, casts: int) -> None:
    operand = as_operand(expression(text))
    assert operand is not None
    assert (operand.kind, len(operand.casts)) == (kind, casts)


@pytest.mark.parametrize("text", ["'x'::varchar(3)[]", "'a' || 'b'", "1 + 1", "$1::wibble", "lower('x')", "N'x'", "char 'x'", "c"])
def test_what_the_server_computes_is_no_operand(text: str) -> None:
    assert as_operand(expression(text)) is None


def test_the_value_of_a_literal_is_decoded() -> None:
    for text, value in (("E'a\\'b'", b"a'b"), ("$$a'b$$", b"a'b"), ("U&'d\\0061ta'", b"data"), ("'é'", "é".encode())):
        operand = as_operand(expression(text))
        assert operand is not None
        assert operand.literal == value


def test_peel_leaves_casts_that_change_something() -> None:
    node, casts = peel(expression("c::text::varchar(3)"))
    assert casts == ()
    assert only(node)[0] == "TypeCast"
    assert text_cast(only(expression("c::text"))[1]) is not None
    assert text_cast(only(expression("c::int"))[1]) is None
