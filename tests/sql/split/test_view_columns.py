"""The columns of a view over expressions that replaces one: they stay where they are."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.split.view_definition import define_view, is_over_expressions
from phiproxy.sql.text.parse import parse
from tests.sql.split.test_view_definition import LABELS, context, defined, rest_of


def test_one_that_is_replaced_leaves_the_columns_where_they_are() -> None:
    text = b"CREATE OR REPLACE VIEW labels AS SELECT id, notes || '' AS label, city, id + 1 AS next FROM patients"
    (statement,) = parse(text)
    of = context(rest_of(LABELS))
    assert is_over_expressions(statement, text, of, ())
    answer = define_view(statement, text, of)
    assert answer is not None
    (sealed,) = answer.occurrences
    names = b'("id", "label", "city", "phi_view_0", "phi_view_1", "next")'
    assert names in sealed.lead
    assert sealed.trail.startswith(b", s.c2, ")


def test_no_column_may_be_left_out() -> None:
    text = b"CREATE OR REPLACE VIEW labels AS SELECT id, notes || '' AS label FROM patients"
    (statement,) = parse(text)
    with pytest.raises(StatementRefused, match="cannot drop columns from view"):
        define_view(statement, text, context(rest_of(LABELS)))


@pytest.mark.parametrize(
    ("expression", "type_name"),
    [
        (b"upper(mrn)", b"text"),
        (b"mrn || ''", b"text"),
        (b"(ssn || '')::varchar(5)", b"varchar(5)"),
        (b"length(ssn)", b"integer"),
        (b"ssn > 'a'", b"boolean"),
        (b"now() - now() + length(ssn) * interval '1 day'", b"interval"),
        (b"string_to_array(ssn, '-')", b"text[]"),
        (b"'x'", b"text"),
    ],
)
def test_a_computed_column_has_its_type(expression: bytes, type_name: bytes) -> None:
    answer = defined(f"CREATE VIEW v AS SELECT upper(notes) AS u, {expression.decode()} AS x FROM patients")
    assert answer is not None
    assert b"NULL::" + type_name + b" END" in answer.occurrences[0].lead
