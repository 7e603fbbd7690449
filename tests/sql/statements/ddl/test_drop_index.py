"""DROP INDEX, where a foreign key was given an index of its own for the one that goes."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import PathNeeded, StatementRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.policy.catalog import CatalogColumn, CatalogIndex
from tests.clinic_model import CATALOG, PATH, PROTECTION

KEY = "phi_tag_key_patients_ssn"
TAGS = CatalogColumn("phi_tag_ssn_0", 20, 17, -1, generated=True)
INDEXES = (
    CatalogIndex("own", unique=True, constraint=False, columns=("ssn",)),
    CatalogIndex("plain", unique=False, constraint=False, columns=("ssn",)),
    CatalogIndex("cities", unique=True, constraint=False, columns=("city",)),
    CatalogIndex(KEY, unique=True, constraint=False, columns=("phi_tag_ssn_0",)),
)


def planned(text: str, *others: CatalogIndex, path: tuple[str, ...] | None = PATH) -> str:
    """Return what the server sees of a statement, beside more indexes."""
    patients = CATALOG.by_name["public", "patients"]
    archived = dataclasses.replace(CATALOG.by_name["archive", "patients"], indexes=INDEXES[:1])
    table = dataclasses.replace(patients, columns=(*patients.columns, TAGS), indexes=(*INDEXES, *others))
    rest = tuple(r for r in CATALOG.relations if r.name != "patients")
    planner = Planner(PROTECTION, dataclasses.replace(CATALOG, relations=(table, archived, *rest)), Ciphers(Keyring(lambda: 0.0)))
    return planner.statement(text.encode(), (), View(path, "clinic", catalog_fresh=True)).sql.decode()


@pytest.mark.parametrize("text", ["DROP INDEX own", "DROP INDEX IF EXISTS nosuch, public.own RESTRICT"])
def test_the_index_of_a_foreign_key_goes_first(text: str) -> None:
    dropped = planned(text)
    assert dropped.index(f"DROP INDEX public.{KEY}") < dropped.index(text)
    assert "CASCADE" not in dropped


def test_or_takes_the_foreign_key_with_it() -> None:
    assert f"DROP INDEX public.{KEY} CASCADE" in planned("DROP INDEX own CASCADE")


@pytest.mark.parametrize(
    "text",
    ["DROP INDEX plain", "DROP INDEX CONCURRENTLY cities", "DROP INDEX archive.own", "DROP INDEX nosuch", "DROP SEQUENCE own"],
)
def test_others_go_as_they_are(text: str) -> None:
    assert planned(text) == text


def test_another_index_that_is_left_serves_as_well() -> None:
    assert planned("DROP INDEX own", CatalogIndex("other", unique=True, constraint=False, columns=("ssn",))) == "DROP INDEX own"


def test_the_path_says_which_is_meant() -> None:
    assert planned("DROP INDEX own", path=("pg_catalog", "archive", "public")) == "DROP INDEX own"
    with pytest.raises(PathNeeded):
        planned("DROP INDEX own", path=None)


def test_not_in_several_transactions() -> None:
    with pytest.raises(StatementRefused) as caught:
        planned("DROP INDEX CONCURRENTLY own")
    assert caught.value.hint == "Leave CONCURRENTLY out."
