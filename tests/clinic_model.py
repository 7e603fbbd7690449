"""A small clinic for unit tests, without a database: protection and catalogue as they would be read."""

from __future__ import annotations

from dataclasses import replace

from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, ProtectedTable, Protection, Slot

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
PROTECTION = Protection(1, "clinic", "clinic-test", "phiproxy", (PATIENTS, VISITS))
INDEXED = replace(
    PROTECTION,
    tables=(
        replace(PATIENTS, columns={**PATIENTS.columns, "full_name": protected("patients", "full_name", 2, slots=NAMED)}),
        VISITS,
    ),
)


def relation(oid: int, schema: str, name: str, *columns: str, kind: str = "r") -> Relation:
    """Return a relation with text-like columns in this order."""
    return Relation(oid, schema, name, kind, tuple(CatalogColumn(c, i + 1, 25, -1) for i, c in enumerate(columns)))


# Of the functions and operators that the tests call with a protected column, those that take texts, as PostgreSQL's catalogue says.
TAKES_TEXT = frozenset(
    """
    strpos regexp_match regexp_matches regexp_like regexp_count regexp_instr repeat lpad rpad ascii bit_length char_length
    character_length quote_literal quote_nullable to_date to_number to_timestamp to_tsvector hashtext
    array_agg btrim char concat convert convert_to count current_setting date_part date_trunc decode encode
    extract first_value format initcap json_build_object json_populate_record jsonb_build_object lag left length
    like lower ltrim max md5 min mode num_nulls octet_length overlay pg_typeof position quote_ident rank
    regexp_replace replace reverse right set_config soundex starts_with string_agg string_to_array substr
    substring text texteq timezone to_json to_jsonb upper varchar json_agg jsonb_agg num_nonnulls run_sql
    metaphone dmetaphone json_object_agg any_value concat_ws split_part translate !~ !~* !~~ !~~* - -> ->> < <= <>
    <@ = > >= ? @> @@ ^@ || ~ ~* ~<=~ ~<~ ~>=~ ~>~ ~~ ~~*
    """.split()  # noqa: SIM905 - read as text
)

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
    takes_text=TAKES_TEXT,
    ascii_case=True,
)
PATH = ("pg_catalog", "public")
