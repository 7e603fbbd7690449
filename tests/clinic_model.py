"""A small clinic for unit tests, without a database: protection and catalogue as they would be read."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.protection import Boundary, DeclaredType, ProtectedColumn, ProtectedTable, Protection, Slot
from phiproxy.policy.signature_queries import rows
from phiproxy.policy.signatures import Function, Rows, Signatures

TEXT = DeclaredType("text", 25)
VARCHAR12 = DeclaredType("varchar(12)", 1043, 16)
ACTIVE = (Slot(0, "@", 1, "active"),)
NAMED = (
    *ACTIVE,
    *(Slot(i, e, 1, "active") for i, e in enumerate(("lower(@)", "left(@,3)", "left(lower(@),3)"), start=1)),
    Slot(4, "soundex(@)", 1, "building"),
)


def protected(
    table: str, name: str, number: int, *, type_: DeclaredType = TEXT, slots: tuple[Slot, ...] = ACTIVE, domain: str | None = None
) -> ProtectedColumn:
    """Return a protected column of schema public."""
    identity = f"d:{domain}" if domain else f'c:"public"."{table}"."{name}"'
    scope = f"d:{domain}" if domain else f"t:public.{table}"
    return ProtectedColumn("public", table, name, identity, number, scope, type_, None, slots, "clinic-test")


PATIENTS = ProtectedTable(
    "public",
    "patients",
    {
        "ssn": protected("patients", "ssn", 1),
        "full_name": protected("patients", "full_name", 2),
        "mrn": protected("patients", "mrn", 3, type_=VARCHAR12, domain="mrn"),
        "notes": protected("patients", "notes", 4, slots=()),
    },
)
VISITS = ProtectedTable(
    "public",
    "visits",
    {
        "mrn": protected("visits", "mrn", 3, type_=VARCHAR12, domain="mrn"),
        "diagnosis": protected("visits", "diagnosis", 5),
    },
)
# Also named as a protected table, and in clear, as its policy says.
BOUNDARY = Boundary(clear=frozenset({("archive", "patients")}))
PROTECTION = Protection(1, "clinic", "clinic-test", "phiproxy", (PATIENTS, VISITS), boundary=BOUNDARY)
INDEXED = replace(
    PROTECTION,
    tables=(
        replace(PATIENTS, columns={**PATIENTS.columns, "full_name": protected("patients", "full_name", 2, slots=NAMED)}),
        VISITS,
    ),
)


def relation(oid: int, schema: str, name: str, *columns: str, kind: str = "r") -> Relation:
    """Return a relation with these columns, which are texts but for those of ``_TYPES``."""
    own = tuple(CatalogColumn(c, i + 1, _TYPES.get(c, 25), -1) for i, c in enumerate(columns))
    return Relation(oid, schema, name, kind, own, row_type=oid + 50_000)


_TYPES = {"id": 23, "patient_id": 23, "visits_count": 23, "active": 16, "n": 20, "oid": 26, "Ward": 23}


# What a server of version 15 has: the answer to ``phiproxy.policy.signature_queries.SERVER``.
ANSWER = Path(__file__).parent / "fixtures" / "signatures.json.gz"
_OWN = {
    "read_ssn": (Function((23,), 0, 0, "f", 20),),
    "pairs": (Function((), 0, 0, "f", 2249),),
    "run_sql": (Function((25,), 0, 0, "f", 25),),
    "severity": (Function((25,), 0, 0, "f", 23),),
    "soundex": (Function((25,), 0, 0, "f", 25),),
    "metaphone": (Function((25, 23), 0, 0, "f", 25),),
    **dict.fromkeys(("dmetaphone", "dmetaphone_alt"), (Function((25,), 0, 0, "f", 25),)),
}
SIGNATURES = Signatures((rows(gzip.decompress(ANSWER.read_bytes()).decode()), Rows({}, {}, _OWN, {})))

CATALOG = Catalog(
    1,
    150000,
    (
        relation(100, "public", "patients", "id", "ssn", "full_name", "mrn", "notes", "city", "active"),
        relation(101, "public", "visits", "id", "patient_id", "mrn", "diagnosis", "room"),
        relation(102, "public", "log", "id", "msg", "notes"),
        relation(103, "archive", "patients", "id", "ssn", "city"),
        relation(104, "public", "patient_names", "id", "full_name", kind="v"),
        relation(105, "phiproxy", "root_key", "id"),
        relation(1, "pg_catalog", "pg_class", "oid", "relname"),
        relation(2, "pg_catalog", "pg_settings", "name", "setting"),
    ),
    {"patient_names": "view over public.patients", "read_ssn": "function whose body names public.patients"},
    collations=frozenset({"C", "POSIX", "default", "en-x-icu"}),
    ascii_case=True,
    signatures=SIGNATURES,
)
PATH = ("pg_catalog", "public")
