"""CREATE INDEX over fields of documents."""

from __future__ import annotations

import pytest

from phiproxy.errors import PhiproxyError
from phiproxy.policy.physical_columns import tag
from tests.fixtures.model import VIEW, planner
from tests.records_model import FIELDS

SSN, FAMILY, _, AGE, _ = FIELDS
BY_SSN, BY_DIGITS, BY_FAMILY, BY_AGE = (
    tag(SSN, SSN.slots[0]),
    tag(SSN, SSN.slots[1]),
    tag(FAMILY, FAMILY.slots[0]),
    tag(AGE, AGE.slots[0]),
)


@pytest.mark.parametrize(
    ("keys", "server"),
    [
        ("(fields->>'ssn')", f"({BY_SSN})"),
        ("(fields #>> '{ssn}')", f"({BY_SSN})"),
        ("jsonb_extract_path_text(fields, 'ssn')", f"({BY_SSN})"),
        ("right(fields->>'ssn', 4), id", f"({BY_DIGITS}), id"),
        ("lower(fields->'name'->>'family')", f"({BY_FAMILY})"),
        ("(fields->>'age')", f"({BY_AGE})"),
        ("((fields->>'age')::int), (fields->>'ward')", f"({BY_AGE}), (fields->>'ward')"),
        (f"({BY_SSN.replace('pg_catalog.', '')})",) * 2,  # as pg_dump has it
    ],
)
def test_an_index_on_a_field_is_one_on_its_tags(keys: str, server: str) -> None:
    assert planner().statement(f"CREATE INDEX i ON records ({keys})".encode(), (), VIEW).sql.decode() == (
        f"CREATE INDEX i ON public.records ({server})"
    )


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ("(fields->'ssn')", "is of one of its fields"),
        ("(fields->'name')", "is of one of its fields"),
        ("(fields->>'extra')", "is of one of its fields"),
        ("(fields->'history'->0->>'note')", "is of one of its fields"),
        ("((fields->>'age')::text)", "has no blind index for value::text"),
        ("((fields->>'ssn') || (fields->>'ssn'))", "is of one of its fields"),
        ("(fields->>ssn)", "is of one of its fields"),
        ("reverse(fields->>'ssn')", "is of one of its fields"),
        ("lower(fields->>'ssn')", "has no blind index for lower(value)"),
        ("(fields->'name'->>'family')", "has no blind index for value"),
    ],
)
def test_what_else_is_refused(keys: str, why: str) -> None:
    with pytest.raises(PhiproxyError, match="index") as refused:
        planner().statement(f"CREATE INDEX i ON records ({keys})".encode(), (), VIEW)
    assert refused.value.sqlstate == "0A000"
    assert why in refused.value.message
    assert refused.value.hint
