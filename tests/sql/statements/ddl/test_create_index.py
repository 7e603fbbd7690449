"""CREATE INDEX."""

from __future__ import annotations

import pytest

from phiproxy.policy.physical_columns import tag
from phiproxy.policy.protection import Slot
from phiproxy.sql.statements.ddl.create_index import _is_tag
from phiproxy.sql.text.parse import only, parse
from tests.clinic_model import protected
from tests.fixtures import model
from tests.sql.statements.ddl.build import TAG, physical, refused

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
def test_an_index_on_a_listed_expression_is_one_on_its_tags(text: str, server: str) -> None:
    assert physical(text) == server


def test_the_name_is_the_one_that_postgresql_would_have_chosen() -> None:
    sql = physical("CREATE INDEX ON patients (ssn, (ssn), lower(city), city, lower(city))")
    assert sql.startswith("CREATE INDEX patients_ssn_ssn1_lower_city_lower1_idx ON")


def test_an_operator_has_no_name_in_it() -> None:
    planner = model.planner()
    plan = planner.statement(b"CREATE INDEX ON charts ((doc->>'ssn'), (doc->'name'->>'family'), (doc['age']))", (), model.VIEW)
    assert plan.sql.startswith(b"CREATE INDEX charts_expr_expr1_doc_idx ON public.charts ((NULLIF(")


def test_a_tag_of_a_partial_expression_is_one_however_it_is_spelled() -> None:
    slot = Slot(2, "extract('month',@)", 1, "active", total=False)
    column = protected("patients", "born", 1, slots=(slot,))
    (statement,) = parse(f"CREATE INDEX i ON t ({tag(column, slot)}, ({tag(column, slot).replace('pg_catalog.', '')}))".encode())
    for key in statement.body["indexParams"]:
        assert _is_tag(only(key)[1]["expr"], column)
    (other,) = parse(b"CREATE INDEX i ON t (substring(born, 45, 16), (NULLIF(substring(born, 45, 16), '\\x00'::bytea)))")
    assert not any(_is_tag(only(key)[1]["expr"], column) for key in other.body["indexParams"])


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
def test_an_index_on_anything_else_protected_is_refused(text: str) -> None:
    error = refused(text)
    assert error.sqlstate == "0A000"
    assert error.hint


def test_the_hint_is_the_line_to_add() -> None:
    assert refused("CREATE INDEX i ON patients (notes)").hint == (
        "Add `notes` to the indexes of public.patients.notes in the policy, then run phiproxy keys init. If the column holds"
        " values, phiproxy reindex public.patients.notes then gives them its tags."
    )
