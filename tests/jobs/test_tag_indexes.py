"""Definitions of indexes as the server prints them: which slot they go by, and the same by another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.jobs.relations import Part
from phiproxy.jobs.tag_indexes import NEXT, OLD, by_other_slot, goes_by, next_name
from phiproxy.policy.protection import ProtectedColumn
from tests.clinic_model import protected

PART = Part(("public", "patients"), 1, "o", 5, (), hidden=False)


@pytest.mark.parametrize(
    ("column", "definition", "moved"),
    [
        ("ssn", 'CREATE UNIQUE INDEX k ON public.patients USING btree ("substring"(ssn, 13, 16))', '"substring"(ssn, 29, 16)'),
        (
            "ssn",
            "CREATE INDEX k ON ONLY public.p USING btree (n, NULLIF(\"substring\"(ssn, 13, 16), '\\x00'::bytea))",
            '"substring"(ssn, 29, 16)',
        ),
        (
            "Full name",
            'CREATE INDEX k ON public.p USING hash ("substring"("Full name", 13, 16))',
            '"substring"("Full name", 29, 16)',
        ),
    ],
)
def test_an_index_by_another_slot(column: str, definition: str, moved: str) -> None:
    _moves(definition, replace(protected("patients", "ssn", 1), name=column), moved)


def _moves(definition: str, column: ProtectedColumn, moved: str) -> None:
    assert goes_by(definition, column, 0)
    assert not goes_by(definition, column, 1)
    assert not goes_by(definition, replace(column, name="n"), 0)
    other = by_other_slot(definition, column, 0, 1)
    assert moved in other
    assert goes_by(other, column, 1)
    assert by_other_slot(other, column, 1, 0) == definition


@pytest.mark.parametrize(
    ("path", "array"),
    [("$.ssn", "'ssn'::text"), ('$.name."it\'s \\\\"', "'name'::text, E'it''s \\\\'::text")],
)
def test_an_index_on_a_field_by_another_slot(path: str, array: str) -> None:
    tags = f"split_part(jsonb_extract_path_text(doc, VARIADIC ARRAY[{array}]), ':'::text, 2)"
    definition = f"CREATE INDEX k ON public.t USING btree (decode(\"substring\"({tags}, 25, 32), 'hex'::text), id)"
    field = replace(protected("t", "doc", 1), path=path)
    _moves(definition, field, f'"substring"({tags}, 57, 32)')
    assert not goes_by(definition, replace(field, path="$.other"), 0)


def test_names_beside_are_no_longer_than_names_may_be() -> None:
    names = {next_name(PART, "x" * 63), next_name(PART, "x" * 62 + "y"), next_name(PART, "x" * 63, OLD)}
    assert len(names) == 3
    assert all(len(name) <= 63 and name.startswith((NEXT, OLD)) for name in names)
    assert next_name(PART, "k") == next_name(PART, "k")
