"""Documents that are in clear in part, with what may be confused with them: how statements over them are split."""

from __future__ import annotations

import dataclasses
from unittest.mock import patch

from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import Catalog, CatalogColumn, CatalogIndex, Relation
from phiproxy.policy.protection import ProtectedTable
from phiproxy.sql.context import Context
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Refused, Split
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.text.parse import parse
from phiproxy.wire.oids import BYTEA_OID, INT4_OID, JSONB_OID, TEXT_OID
from tests.clinic_model import CATALOG, PATH, PROTECTION, VISITS, protected
from tests.records_model import DOC, SEALED, document

_TYPES = {"id": INT4_OID, "ssn": BYTEA_OID, "ward": TEXT_OID}
_KEY = CatalogIndex("records_pkey", unique=True, constraint=True, columns=("id",), key=True)


def _relation(oid: int, schema: str, name: str, *columns: str, kind: str = "r") -> Relation:
    own = tuple(CatalogColumn(c, n, _TYPES.get(c, JSONB_OID), -1) for n, c in enumerate(columns, start=1))
    return Relation(oid, schema, name, kind, own, indexes=(_KEY,) if kind == "r" else ())


# In the other schema all but the ward is sealed.
_CLOSED = dataclasses.replace(SEALED, name="closed")
_WHOLE = dataclasses.replace(document(others_sealed=True), name="whole")
_OTHER = dataclasses.replace(SEALED, schema="other")
_RECORDS = ProtectedTable(
    "public", "records", {"ssn": protected("records", "ssn", 39), "fields": DOC, "closed": _CLOSED, "whole": _WHOLE}
)
_PROTECTION = dataclasses.replace(PROTECTION, tables=(_RECORDS, VISITS, ProtectedTable("other", "records", {"fields": _OTHER})))
_CATALOG: Catalog = dataclasses.replace(
    CATALOG,
    relations=(
        *(one for one in CATALOG.relations if one.name == "visits"),
        _relation(140, "public", "records", "id", "ssn", "fields", "closed", "whole", "ward"),
        _relation(141, "other", "records", "id", "fields"),
        _relation(142, "public", "swapped", "id", "fields", "closed", kind="v"),
    ),
    views={142: "SELECT records.id, records.closed AS fields, records.fields AS closed FROM public.records;"},
    reaching={"swapped": "view over public.records"},
)


def records_split(text: str) -> tuple[Split | None, StatementRefused]:
    """Return how a refused statement is split, and its refusal, whose hint may say why it is not.

    As where the server does not put anything into documents by its place (``writes.document_places``).
    """
    encoded = text.encode()
    context = Context(_PROTECTION, _CATALOG, PATH, "clinic")
    (statement,) = parse(encoded)
    with patch("phiproxy.sql.writes.assignment.changed_document", return_value=False):
        outcome = analyse(statement, encoded, context)
    assert isinstance(outcome, Refused), "it is answered"
    assert isinstance(outcome.error, StatementRefused)
    return split_statement(statement, encoded, context, outcome.error), outcome.error
