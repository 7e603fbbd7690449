"""A table of documents with sealed fields for unit tests, without a database: ``records (id, ssn text, fields jsonb)``."""

from __future__ import annotations

from phiproxy.documents.field_paths import parse_path
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.protection import DeclaredType, DocumentFields, ProtectedColumn, ProtectedTable, Slot
from phiproxy.wire.oids import BYTEA_OID, JSONB_OID
from tests.clinic_model import protected

JSONB = DeclaredType.builtin("jsonb")
_SSN = (Slot(0, "@", 1, "active"), Slot(1, "right(@,4)", 1, "active"))
_FAMILY = (Slot(0, "lower(@)", 1, "active"),)


def field(number: int, path: str, type_name: str, slots: tuple[Slot, ...] = (), pad: int | None = None) -> ProtectedColumn:
    """Return a field of the document."""
    identity = f"c:public.records.fields{path}"
    type_ = DeclaredType.builtin(type_name)
    return ProtectedColumn(
        "public", "records", "fields", identity, number, "t:public.records", type_, pad, slots, "clinic-test", path=path
    )


FIELDS = (
    field(41, "$.ssn", "text", _SSN),
    field(42, "$.name.family", "text", _FAMILY),
    field(43, "$.history[*].note", "text", pad=64),
    field(44, "$.age", "int4", (Slot(0, "@", 1, "active"),)),
    field(45, "$.extra", "jsonb"),
)


def document(*fields: ProtectedColumn, others_sealed: bool = False, clear: tuple[str, ...] = ()) -> ProtectedColumn:
    """Return a document column with these fields."""
    paths = tuple(parse_path(f.path) for f in fields)
    own = DocumentFields(fields, paths, others_sealed, tuple(map(parse_path, clear)))
    names = ("public", "records", "fields", "c:public.records.fields", 40, "t:public.records")
    return ProtectedColumn(*names, JSONB, None, (), "clinic-test", document=own)


DOC = document(*FIELDS)
SEALED = document(*FIELDS, others_sealed=True, clear=("$.ward", "$.meta.at"))
RECORDS = ProtectedTable("public", "records", {"ssn": protected("records", "ssn", 39), "fields": DOC})
RELATION = Relation(
    140,
    "public",
    "records",
    "r",
    (CatalogColumn("id", 1, 23, -1), CatalogColumn("ssn", 2, BYTEA_OID, -1), CatalogColumn("fields", 3, JSONB_OID, -1)),
)
