"""Output names as the server makes them, or None where the model does not say."""

from __future__ import annotations

import pytest

from phiproxy.sql.resolve.outputs_without_as import output_name
from phiproxy.sql.text.parse import only, parse


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a", "a"),
        ("t.a", "a"),
        ("a::text", "a"),
        ("lower(a)", "lower"),
        ("'x'::text", "text"),
        ("1", "?column?"),
        ("a + 1", "?column?"),
        ("a = b", "?column?"),
        ("NULLIF(a, b)", "nullif"),
        ("COALESCE(a, b)", "coalesce"),
        ("ARRAY[1]", "array"),
        ("a IS NULL", "?column?"),
        ("CASE WHEN a THEN 1 END", "case"),
        ("CASE WHEN a THEN 1 ELSE b END", "b"),
        ("CASE WHEN a THEN b ELSE 'x'::text END", "case"),
        ("(SELECT b)", "b"),
        ("(SELECT 1 AS c UNION SELECT 2)", "c"),
        ("ARRAY(SELECT b)", "array"),
        ("EXISTS (SELECT b)", "exists"),
        ("(VALUES (1))", "column1"),
        ("(SELECT *)", None),
        ("t.a['b'][0]", "a"),
        ("(a).b", "b"),
        ("(a).b[1]", "b"),
        ("(a || b)[1]", "?column?"),
        ("a -> 'b'", "?column?"),
    ],
)
def test_an_output_is_named_as_postgresql_names_it(text: str, name: str | None) -> None:
    (statement,) = parse(f"SELECT {text}".encode())
    assert output_name(only(statement.body["targetList"][0])[1]["val"]) == name
