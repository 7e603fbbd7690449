"""What depends on a primary key, beyond what tests/fixtures/sql/grouping.sql tells."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.catalog import CatalogIndex, Relation
from phiproxy.sql.resolve.functional_dependencies import Outputs, Selected, combined_in
from phiproxy.sql.resolve.protected_values import CLEAR
from phiproxy.sql.resolve.scope import Scope
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import ask, tag

KEY = CatalogIndex("patients_pkey", unique=True, constraint=True, columns=("id",), key=True)
QUERY = "SELECT DISTINCT id, ssn, notes FROM patients"


def answer(patients: Relation, statement: str = QUERY) -> str:
    """Return what becomes of a statement where the table of patients is this one."""
    others = (r for r in CATALOG.relations if r.oid != patients.oid)
    catalog = dataclasses.replace(CATALOG, relations=(patients, *others))
    return ask(statement, planner=Planner(PROTECTION, catalog, Ciphers(Keyring(lambda: 0.0))))


PATIENTS = dataclasses.replace(CATALOG.by_name["public", "patients"], indexes=(KEY,))


def test_what_a_key_decides_is_not_compared() -> None:
    assert answer(PATIENTS) == f'SELECT DISTINCT ON (1, {tag("ssn")}) id, ssn, notes FROM "public".patients'
    renamed = answer(PATIENTS, "SELECT DISTINCT number, n FROM patients AS p (number, s, f, m, n)")
    assert renamed == 'SELECT DISTINCT ON (1) number, n FROM "public".patients AS p (number, s, f, m, n)'


@pytest.mark.parametrize(
    "patients",
    [
        dataclasses.replace(PATIENTS, indexes=()),
        dataclasses.replace(PATIENTS, indexes=(dataclasses.replace(KEY, key=False),)),
        dataclasses.replace(PATIENTS, indexes=(dataclasses.replace(KEY, columns=("id", "city")),)),
        dataclasses.replace(PATIENTS, indexes=(dataclasses.replace(KEY, columns=()),)),
        dataclasses.replace(PATIENTS, parent=True),  # of tables that inherit from it, whose keys are their own
    ],
)
def test_what_no_key_decides_is_refused(patients: Relation) -> None:
    assert answer(patients) == "0A000"


def test_a_partitioned_table_has_one_key() -> None:
    assert answer(dataclasses.replace(PATIENTS, kind="p", parent=True)) != "0A000"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT DISTINCT id + 0, notes FROM patients",
        "SELECT DISTINCT a.id, b.notes FROM patients a, patients b",
        "SELECT DISTINCT city AS id, notes FROM patients",
        "SELECT DISTINCT s.id, s.notes FROM (SELECT id, notes FROM patients) s",
        "SELECT DISTINCT id, p.notes FROM patients p FULL JOIN log USING (id)",
        "SELECT DISTINCT number, n FROM patients AS p (a, s, f, m, n, number)",
    ],
)
def test_what_is_no_bare_key_of_the_same_table_is_refused(statement: str) -> None:
    assert answer(PATIENTS, statement) == "0A000"


TREE = """WITH RECURSIVE t AS (SELECT id, notes FROM patients WHERE id = 1
UNION SELECT p.id, p.notes FROM patients p JOIN t ON p.id = t.id + 1) SELECT * FROM t"""


def test_a_recursive_union_beside_the_key_stays_as_it_is() -> None:
    sent = answer(PATIENTS, TREE)
    assert sent == TREE.replace("FROM patients", 'FROM "public".patients')
    assert answer(dataclasses.replace(PATIENTS, kind="p", parent=True), TREE) == sent


@pytest.mark.parametrize(
    "patients",
    [
        dataclasses.replace(PATIENTS, indexes=()),
        dataclasses.replace(PATIENTS, indexes=(dataclasses.replace(KEY, key=False),)),
        dataclasses.replace(PATIENTS, indexes=(dataclasses.replace(KEY, columns=("id", "city")),)),
        dataclasses.replace(PATIENTS, indexes=(dataclasses.replace(KEY, columns=("id", "ssn")),)),
        dataclasses.replace(PATIENTS, parent=True),  # of tables that inherit from it, whose keys are their own
    ],
)
def test_a_recursive_union_without_the_key_is_refused(patients: Relation) -> None:
    assert answer(patients, TREE) == "0A000"


def test_a_key_of_envelopes_decides_nothing() -> None:
    of_ssn = dataclasses.replace(PATIENTS, indexes=(dataclasses.replace(KEY, columns=("ssn",)),))
    assert answer(of_ssn, "SELECT DISTINCT ssn, notes FROM patients") == "0A000"


def test_the_outputs_of_a_query_tell_whose_rows_it_combines() -> None:
    selected = Selected([], [], Scope(()))
    assert combined_in(Outputs([("a", CLEAR)], [selected, None])) == (selected, None)
    assert Outputs([("a", CLEAR)], [selected]) == [("a", CLEAR)]
    assert combined_in([("a", CLEAR)]) == (None,), "of a query that says nothing, its rows are its own"
