"""The clinic of tests/clinic_model.py before its second table is made, and questions about DDL."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import PhiproxyError
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.policy.catalog import CatalogIndex
from phiproxy.policy.column_types import builtin
from phiproxy.policy.plaintext_guards import guard, guard_name
from phiproxy.policy.protection import Protection
from phiproxy.sql.rewrite.apply_edits import Rendered
from phiproxy.sql.rewrite.references_and_markers import marker
from phiproxy.sql.values.uses import Define
from tests.clinic_model import CATALOG, PATH, PROTECTION

_INDEXES = (CatalogIndex("patients_pkey", True, True), CatalogIndex("patients_ssn_key", True, False))
_RELATIONS = tuple(
    dataclasses.replace(r, indexes=_INDEXES) if r.qualified == "public.patients" else r
    for r in CATALOG.relations
    if r.qualified != "public.visits"
)
VIEW = View(PATH, "clinic", catalog_fresh=True)
ADD_CHECK = "ALTER TABLE patients ADD CONSTRAINT c CHECK ({}) NOT VALID"
TAG = "pg_catalog.substring({}, 13, 16)"


def planner(version: int = 160000, protection: Protection = PROTECTION) -> Planner:
    """Return a planner of a server version; without keys, so that it can seal nothing."""
    catalog = dataclasses.replace(CATALOG, relations=_RELATIONS, server_version=version)
    return Planner(protection, catalog, Ciphers(Keyring(lambda: 0.0)))


def plan(text: str, version: int = 160000) -> StatementPlan:
    """Return the plan of one statement."""
    return planner(version).statement(text.encode(), (), VIEW)


def marked(text: str) -> str:
    """Return what the server sees, with a mark for each value that would be sealed."""
    (answer,) = planner().answers(text.encode(), VIEW)
    return Rendered(text.encode(), answer.edits, answer.occurrences).fill(lambda _i, o: marker(o)).decode()


def physical(text: str, version: int = 160000) -> str:
    """Return what the server sees, with each guard as ``<guard c>``."""
    sql = plan(text, version).sql.decode()
    for table in PROTECTION.tables:
        for column in table.columns.values():
            sql = sql.replace(f"CONSTRAINT {guard_name(column.name)} {guard(column)}", f"<guard {column.name}>")
    return sql


def refused(text: str) -> PhiproxyError:
    """Return the refusal of a statement."""
    try:
        plan(text)
    except PhiproxyError as error:
        return error
    raise AssertionError("not refused")


def sealed(check: str, own_planner: Planner | None = None) -> list[Any]:
    """Return the conditions that are sealed for a CHECK."""
    (answer,) = (own_planner or planner()).answers(ADD_CHECK.format(check).encode(), VIEW)
    literals = [o.literal for o in answer.occurrences if isinstance(o.use, Define)]
    return [json.loads(text or b"")["condition"] for text in literals]


def typed(**types: str) -> Planner:
    """Return a planner that knows some columns as of other types."""
    tables = tuple(
        dataclasses.replace(
            t, columns={n: dataclasses.replace(c, type=builtin(types[n]) if n in types else c.type) for n, c in t.columns.items()}
        )
        for t in PROTECTION.tables
    )
    return planner(protection=dataclasses.replace(PROTECTION, tables=tables))
