"""Foreign keys over hidden tag columns."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.policy.catalog import CatalogColumn, CatalogIndex, Relation
from phiproxy.policy.physical_columns import hidden_name
from phiproxy.sql.statements.ddl.foreign_keys import hidden_columns, key_indexes
from tests.clinic_model import protected
from tests.sql.statements.ddl.build import physical, refused


def test_what_a_column_of_another_domain_or_of_none_refers_to() -> None:
    for text in (
        "CREATE TABLE visits (id int, mrn varchar(12) REFERENCES patients (ssn))",
        "CREATE TABLE visits (id int, room text REFERENCES patients (ssn))",
        "CREATE TABLE visits (id int, mrn varchar(12), FOREIGN KEY (mrn) REFERENCES log (notes))",
    ):
        assert "domain" in (refused(text).hint or "")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ALTER TABLE patients ADD FOREIGN KEY (ssn, mrn) REFERENCES patients (ssn, mrn)", "UNIQUE (ssn, mrn) first"),
        ("ALTER TABLE patients ADD FOREIGN KEY (ssn, id) REFERENCES patients (id, ssn)", "one domain"),
        ("ALTER TABLE patients ADD FOREIGN KEY (ssn) REFERENCES patients", "Write them out."),
        ("ALTER TABLE patients ADD FOREIGN KEY (ssn) REFERENCES patients (ssn) ON UPDATE CASCADE", "ON DELETE CASCADE, work"),
        ("ALTER TABLE patients ADD FOREIGN KEY (ssn) REFERENCES patients (ssn) ON DELETE SET NULL", "UPDATE the rows before"),
        ("ALTER TABLE patients ADD FOREIGN KEY (mrn) REFERENCES patients (mrn)", "UNIQUE (mrn) first"),
    ],
)
def test_a_key_that_tags_cannot_stand_for_is_refused_with_a_hint(text: str, hint: str) -> None:
    assert hint in (refused(text).hint or "")


def test_an_unprotected_key_stays() -> None:
    text = "ALTER TABLE public.patients ADD FOREIGN KEY (city) REFERENCES archive.patients (city)"
    assert physical(text) == text


def test_the_generated_columns_of_a_column_are_known_by_name() -> None:
    column = protected("patients", "ssn", 1)
    name = hidden_name(column, 0)
    assert name == "phi_tag_ssn_0"
    assert len(hidden_name(dataclasses.replace(column, name="n" * 63), 0)) == 63
    table = Relation(
        1, "public", "patients", "r", (CatalogColumn(name, 2, 17, -1, generated=True),), indexes=(CatalogIndex("i", True, False),)
    )
    assert hidden_columns(table, column) == [(name, 0)]


def test_the_indexes_that_foreign_keys_depend_on() -> None:
    column = protected("patients", "ssn", 1)
    tags = hidden_name(column, 0)
    indexes = (
        CatalogIndex("phi_tag_key_patients_ssn", True, False, (tags,)),
        CatalogIndex("phi_tag_key_patients_ssn_city", True, False, ("city", tags)),
        CatalogIndex("phi_tag_idx_patients_ssn_0_stored", False, False, (tags,)),
        CatalogIndex("own", True, False, (tags,)),
    )
    table = Relation(1, "public", "patients", "r", (CatalogColumn(tags, 2, 17, -1, generated=True),), indexes=indexes)
    assert key_indexes(table, {"ssn": column}, ("ssn",)) == ["phi_tag_key_patients_ssn"]
    assert key_indexes(table, {"ssn": column}, ("ssn", "city")) == ["phi_tag_key_patients_ssn_city"]
    assert key_indexes(table, {"ssn": column}, ("city",)) == []
