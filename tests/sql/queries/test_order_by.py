"""Nothing protected sorts, and the refusal says what would work."""

from __future__ import annotations

import pytest

from tests.sql.ask import INDEXED, VIEW, ask, refusal

ORDERED = "What is encrypted has no order. "


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("SELECT id FROM patients ORDER BY ssn", "ssn"),
        ("SELECT ssn AS s FROM patients ORDER BY id, s DESC", "s DESC"),
        ("SELECT id FROM patients ORDER BY coalesce(ssn, '')", "coalesce"),
        ("SELECT id FROM patients ORDER BY lower(ssn)", "lower"),
        ("SELECT ssn FROM patients GROUP BY ssn ORDER BY ssn", "ssn"),
        ("SELECT id, rank() OVER (PARTITION BY ssn ORDER BY ssn) FROM patients", "ssn)"),
        ("SELECT array_agg(id ORDER BY ssn) FROM patients", "ssn"),
        ("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM patients", "ssn"),
        ("SELECT greatest(city, ssn) FROM patients", "ssn"),
        ("SELECT least(ssn, 'x') FROM patients", "ssn"),
        ("SELECT max(ssn) FROM patients", "ssn"),
        ("SELECT id FROM patients WHERE (ssn, id) < ('x', 1)", "ssn"),
    ],
)
def test_refused_with_what_would_work(statement: str, place: str) -> None:
    refused = refusal(statement)
    assert refused.sqlstate == "0A000"
    assert refused.position == statement.rindex(place) + 1
    assert refused.hint is not None
    assert refused.hint.startswith(ORDERED)
    assert "unprotected column" in refused.hint or "application" in refused.hint


def test_an_index_on_an_expression_gives_it_no_order() -> None:
    refused = refusal("SELECT id FROM patients ORDER BY lower(full_name)", VIEW, INDEXED)
    assert refused.hint is not None
    assert refused.hint.startswith(ORDERED + "Sort by an unprotected column, or by full_name in the application.")


def test_other_columns_sort_beside_protected_ones() -> None:
    statement = (
        "SELECT ssn, rank() OVER (ORDER BY city), greatest(city, 'x') AS g FROM public.patients ORDER BY lower(city), g, "
        "ssn IS NULL, id LIMIT 1"
    )
    assert ask(statement) == statement


@pytest.mark.parametrize("expression", ["reverse(ssn)", "md5(ssn)"])
def test_nor_is_it_computed_with(expression: str) -> None:
    refused = refusal(f"SELECT {expression} FROM patients")
    assert refused.hint is not None
    assert refused.hint.startswith("The server cannot compute with what is encrypted. Select ssn")
