"""Unique indexes over tags, and the slots that they need."""

from __future__ import annotations

import pytest

from tests.sql.ddl.build import physical, refused


def test_included_columns_and_nulls_stay() -> None:
    text = "ALTER TABLE patients ADD CONSTRAINT u UNIQUE NULLS NOT DISTINCT (ssn, city) INCLUDE (id)"
    assert physical(text) == (
        "CREATE UNIQUE INDEX u ON public.patients ((pg_catalog.substring(ssn, 13, 16)), city) INCLUDE (id) NULLS NOT DISTINCT"
    )


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE patients ADD UNIQUE (notes)",
        "ALTER TABLE patients ADD UNIQUE (city) INCLUDE (ssn), ADD UNIQUE (ssn) INCLUDE (mrn)",
        "ALTER TABLE patients ADD UNIQUE (ssn) WITH (fillfactor = 10)",
    ],
)
def test_refused(text: str) -> None:
    assert refused(text).sqlstate == "0A000"
