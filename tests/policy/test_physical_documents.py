"""What a document is on disk, as SQL; that PostgreSQL reads it so is shown in tests/integration/test_document_fields.py."""

from dataclasses import replace

import pytest

from phiproxy.policy.physical_columns import tag
from phiproxy.policy.physical_documents import (
    document_pattern,
    fields_with_index,
    lacks_leaf_tag,
    leaf_tag,
    quoted,
    reached,
)
from phiproxy.policy.protection import Slot
from tests.clinic_model import protected
from tests.records_model import DOC, FIELDS


@pytest.mark.parametrize(("text", "sql"), [("a", "'a'"), ("it's", "'it''s'"), ("a\\b'", "E'a\\\\b'''")])
def test_constants(text: str, sql: str) -> None:
    assert quoted(text) == sql


def test_what_stands_at_a_path() -> None:
    assert reached("d", ("a", "b"), text=True) == "pg_catalog.jsonb_extract_path_text(d, VARIADIC ARRAY['a'::text, 'b'::text])"
    assert reached("d", ("a",), text=False) == "pg_catalog.jsonb_extract_path(d, VARIADIC ARRAY['a'::text])"


def test_the_tag_of_a_field() -> None:
    text = "pg_catalog.jsonb_extract_path_text(fields, VARIADIC ARRAY['ssn'::text])"
    assert tag(FIELDS[0], FIELDS[0].slots[1]) == (
        f"pg_catalog.decode(pg_catalog.substring(pg_catalog.split_part({text}, ':'::text, 2), 57, 32), 'hex'::text)"
    )
    partial = replace(FIELDS[0].slots[0], total=False)
    assert tag(FIELDS[0], partial).startswith("NULLIF(pg_catalog.decode(")
    as_json = leaf_tag("x", Slot(0, "@", 1, "active", form="jsonb"))
    assert "jsonb_extract_path_text(x, VARIADIC ARRAY[]::text[])" in as_json


def test_the_fields_that_have_an_index() -> None:
    assert [field.number for field, _ in fields_with_index(DOC)] == [41, 42, 44, 45]
    assert fields_with_index(protected("t", "c", 1)) == []


def test_conditions_over_stored_fields() -> None:
    assert "<= '01' ELSE" in lacks_leaf_tag("doc", ("ssn",), 1)
    assert document_pattern(0xA1B2C3D4) == '"phi1:f5500101[0-9a-f]{2}a1b2c3d4'
