"""Expressions over types, to one function each."""

import pytest

from phiproxy.errors import ConfigError
from phiproxy.index.transform import short_type, transform


@pytest.mark.parametrize(
    ("expression", "type_name", "result", "value", "answer"),
    [
        ("@", "varchar(12)", "varchar(12)", "Ä ", "Ä "),
        ("lower(@)", "text", "text", "Smith", "smith"),
        ("left(lower(@),3)", "varchar(30)", "text", "Smith", "smi"),
        ("right(@,4)", "char(11)", "text", "123-45-678 ", "-678"),
        ("btrim(@)", "citext", "text", " x ", "x"),
        ("length(@)", "text", "int4", "äöü", "3"),
    ],
)
def test_a_composition(expression: str, type_name: str, result: str, value: str, answer: str) -> None:
    found = transform(expression, type_name)
    assert (found.expression, found.normaliser, found.total, found.result) == (expression, 1, True, result)
    assert found.apply(value.encode()) == answer.encode()


@pytest.mark.parametrize(
    ("expression", "type_name", "what"),
    [
        ("md5(@)", "text", r"md5\(\) is not among the functions that an index may use: lower\(@\), "),
        ("lower(@)", "int4", r"lower\(\) takes bpchar, citext, text, varchar, and @ is int4"),
        ("lower(length(@))", "text", r"lower\(length\(@\)\): lower\(\) takes .*, and length\(@\) is int4"),
        ("left(@)", "text", r"left\(@\): an index is written left\(@,n\)"),
        ("left(@,'a')", "text", "'a' does not fit there"),
        ("left(@,3000000000)", "text", "3000000000 does not fit there"),
        ("left(3,@)", "text", r"an index is written left\(@,n\)"),
        ("left(@,@)", "text", r"an index is written left\(@,n\)"),
        ("lower('x')", "text", "'x' is no index expression"),
        ("substring(@,1,-1)", "text", "a negative length is an error of substring"),
        ("'x'", "text", "'x' is no index expression"),
        ("@", "json", "PostgreSQL has no equality of it"),
    ],
)
def test_what_is_not_in_the_table(expression: str, type_name: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        transform(expression, type_name)


def test_types_by_their_short_names() -> None:
    names = ["character varying(3)", "TIMESTAMP (3) WITH TIME ZONE", "int", "date", "numeric(3,2)", "ext.citext"]
    assert [short_type(name) for name in names] == ["varchar", "timestamptz", "int4", "date", "numeric", "citext"]
