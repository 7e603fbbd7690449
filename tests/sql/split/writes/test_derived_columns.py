"""Beside what PostgreSQL may find to be NULL when it plans, nothing is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.signatures import Function, Rows, Signatures
from phiproxy.sql.context import Context
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Refused, Split
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.text.parse import parse
from phiproxy.wire.oids import TEXT_OID
from tests.fixtures.model import VIEW, planner

DERIVED = "INSERT INTO visits (diagnosis) SELECT q.w || nextval('numbers') FROM (SELECT {} AS w FROM visits) q"
READ = "INSERT INTO visits (diagnosis) SELECT room || nextval('numbers') FROM visits"
SET = "UPDATE visits SET diagnosis = room || nextval('numbers')"
CONFLICT = "INSERT INTO visits AS v (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET diagnosis = v.room || nextval('numbers')"
MERGE = (
    "MERGE INTO visits v USING (VALUES (1)) s (id) ON v.id = s.id"
    " WHEN MATCHED THEN UPDATE SET diagnosis = v.room || nextval('numbers')"
)


def _split(text: str, catalog: Catalog) -> Split | None:
    there, encoded = planner(15), text.encode()
    context = Context(there.protection, catalog, VIEW.path, VIEW.database, default_text=there.ciphers.default_text)
    (statement,) = parse(encoded)
    outcome = analyse(statement, encoded, context)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, StatementRefused)
    return split_statement(statement, encoded, context, outcome.error)


def _with_function(catalog: Catalog) -> Catalog:
    assert catalog.signatures is not None
    rows = Rows({}, {}, {"own": (Function((TEXT_OID,), 0, 0, "f", TEXT_OID, "i"),)}, {})
    return replace(catalog, signatures=Signatures((*catalog.signatures.parts, rows)))


def _with_virtual(catalog: Catalog) -> Catalog:
    visits = next(one for one in catalog.relations if one.name == "visits")
    changed = replace(visits, columns=tuple(replace(one, virtual=one.name == "room") for one in visits.columns))
    return replace(catalog, relations=tuple(changed if one is visits else one for one in catalog.relations))


def test_a_function_of_the_databases_own_may_be_null() -> None:
    catalog = planner(15).catalog
    assert _split(DERIVED.format("upper(room)"), catalog) is not None
    assert _split(DERIVED.format("own(room)"), _with_function(catalog)) is None


@pytest.mark.parametrize("statement", [DERIVED.format("room"), READ, SET, CONFLICT, MERGE])
def test_a_virtual_column_may_be_null(statement: str) -> None:
    catalog = planner(15).catalog
    assert _split(statement, catalog) is not None
    assert _split(statement, _with_virtual(catalog)) is None
