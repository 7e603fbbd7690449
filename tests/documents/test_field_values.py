"""What a field of a type may hold, and that it comes back as it was."""

import pytest

from phiproxy.documents.field_values import field_values, kind_of
from phiproxy.errors import ValueRefused
from phiproxy.policy.column_types import parse_type
from phiproxy.types.json_types import Value


@pytest.mark.parametrize(
    ("type_name", "value", "plain"),
    [
        ("text", "Zoë\n", "Zoë\n".encode()),
        ("text", "", b""),
        ("bool", True, b"t"),
        ("bool", False, b"f"),
        ("int", b"-34", b"-34"),
        ("bigint", b"9223372036854775807", b"9223372036854775807"),
        ("numeric", b"1.00", b"1.00"),
        ("numeric", b"1" * 100, b"1" * 100),
        ("date", "1969-07-20", b"1969-07-20"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("jsonb", {"a": [b"1.50", None, "x"]}, b'{"a": [1.50, null, "x"]}'),
        ("jsonb", "x", b'"x"'),
    ],
)
def test_both_ways(type_name: str, value: Value, plain: bytes) -> None:
    values = field_values(parse_type(type_name))
    assert values.sealed(value) == plain
    assert values.opened(plain) == value


@pytest.mark.parametrize(
    ("type_name", "value", "sqlstate"),
    [
        ("text", b"5", "22P02"),
        ("text", True, "22P02"),
        ("text", ["a"], "22P02"),
        ("bool", "true", "22P02"),
        ("int", b"1.5", "22P02"),
        ("int", b"1.0", "22P02"),
        ("int", "5", "22P02"),
        ("int", True, "22P02"),
        ("smallint", b"40000", "22003"),
        ("date", "20 July 1969", "22P02"),
        ("date", "1969-13-01", "22008"),
        ("date", "1969", "0A000"),
        ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "22P02"),
        ("numeric", {"a": b"1"}, "22P02"),
    ],
)
def test_another_kind_is_refused(type_name: str, value: Value, sqlstate: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        field_values(parse_type(type_name)).sealed(value)
    assert refused.value.sqlstate == sqlstate


def test_kinds() -> None:
    values: list[Value] = [None, True, "x", b"1", [], {}]
    assert [kind_of(value) for value in values] == ["null", "boolean", "string", "number", "array", "object"]
