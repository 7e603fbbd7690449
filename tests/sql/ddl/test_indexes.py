"""CREATE INDEX."""

from __future__ import annotations

import pytest

from tests.sql.ddl.build import TAG, physical, refused

SSN = f"({TAG.format('ssn')})"


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("CREATE INDEX ON patients (ssn)", f"CREATE INDEX patients_ssn_idx ON public.patients ({SSN})"),
        (
            "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON patients USING btree"
            ' (ssn COLLATE "C" text_pattern_ops DESC, city) INCLUDE (id) WHERE active',
            "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON public.patients USING btree"
            f" ({SSN}, city) INCLUDE (id) WHERE active",
        ),
        ("CREATE INDEX i ON patients USING hash ((ssn))", f"CREATE INDEX i ON public.patients USING hash ({SSN})"),
        ("CREATE INDEX i ON patients (city, lower(city))", "CREATE INDEX i ON public.patients (city, lower(city))"),
        ('CREATE INDEX i ON public.patients USING btree ("substring"(ssn, 13, 16))',) * 2,
    ],
)
def test_indexes(text: str, server: str) -> None:
    assert physical(text) == server


@pytest.mark.parametrize(
    "text",
    [
        "CREATE INDEX i ON patients (lower(ssn))",
        "CREATE INDEX i ON patients (notes)",
        "CREATE INDEX i ON patients USING gin (ssn gin_trgm_ops)",
        "CREATE INDEX i ON patients (id) WHERE ssn IS NOT NULL",
        "CREATE INDEX i ON patients (id) INCLUDE (ssn)",
        "CREATE INDEX i ON patients (substring(ssn, 13, 15))",
    ],
)
def test_refused(text: str) -> None:
    error = refused(text)
    assert error.sqlstate == "0A000"
    assert error.hint


def test_the_hint_is_the_line_to_add() -> None:
    assert refused("CREATE INDEX i ON patients (notes)").hint == (
        "Add `notes` to the indexes of public.patients.notes in the policy, then run phiproxy keys init."
    )
