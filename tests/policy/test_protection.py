"""The run-time view of what is protected: look-ups by name, the slot that answers, the length of varchar(n)."""

from __future__ import annotations

from dataclasses import replace

from phiproxy.access.rules import Masked, in_part
from phiproxy.access.shows import DENY, read_show
from phiproxy.policy.protection import DeclaredType, ProtectedTable, Protection, Slot
from tests.clinic_model import PATIENTS, PROTECTION, VISITS, protected
from tests.records_model import RECORDS


def test_tables_and_names_are_found_by_name() -> None:
    assert PROTECTION.by_name["public", "patients"] is PATIENTS
    assert PROTECTION.table_names == {"patients", "visits"}
    assert {"ssn", "diagnosis"} <= PROTECTION.column_names
    assert "city" not in PROTECTION.column_names


def test_only_an_active_slot_of_the_same_expression_answers() -> None:
    slots = (Slot(0, "@", 1, "dropped"), Slot(1, "lower(@)", 1, "active"), Slot(2, "@", 2, "building"), Slot(3, "@", 3, "active"))
    column = protected("patients", "ssn", 1, slots=slots)
    assert column.slot_for("@") == slots[3]
    assert column.slot_for("lower(@)") == slots[1]
    assert column.slot_for("upper(@)") is None
    assert protected("patients", "ssn", 1, slots=slots[:3]).slot_for("@") is None


def test_max_length_is_that_of_the_typmod() -> None:
    assert DeclaredType("varchar(12)", 1043, 16).max_length == 12
    assert DeclaredType("varchar", 1043).max_length is None
    assert DeclaredType("text", 25).max_length is None


def test_the_label_names_schema_table_and_column() -> None:
    assert protected("patients", "ssn", 1).label == "public.patients.ssn"


def test_equal_columns_have_equal_hashes() -> None:
    ssn = protected("patients", "ssn", 1)
    assert ssn == protected("patients", "ssn", 1)
    assert hash(ssn) == hash(protected("patients", "ssn", 1))
    assert len({ssn, protected("patients", "ssn", 1), protected("patients", "ssn", 2), protected("visits", "ssn", 1)}) == 3


def test_what_may_move() -> None:
    def table(name: str, **numbers: int) -> ProtectedTable:
        made = {column: protected(name, column, number) for column, number in numbers.items()}
        return ProtectedTable("public", name, made)

    tables = (table("a", ssn=1, mrn=2), table("b", ssn=1, mrn=2), table("c", ssn=3, mrn=2))
    protection = Protection(1, "clinic", "d", "phiproxy", tables)
    a, b, c = (("public", name) for name in "abc")
    assert protection.may_move(a, ("id", "ssn", "mrn"), b)
    assert protection.may_move(a, ("id", "mrn"), c)
    assert protection.may_move(("public", "x"), ("id",), a)
    assert not protection.may_move(a, ("ssn",), c)
    assert not protection.may_move(a, ("ssn",), ("public", "x"))
    assert not protection.may_move(("public", "x"), ("ssn",), a)


def test_what_is_masked_and_in_clear_yet_is_refused() -> None:
    column, other = PATIENTS.columns["ssn"], PATIENTS.columns["notes"]
    filling = replace(PROTECTION, clear=(replace(PATIENTS, columns={"ssn": column}),))
    filling = replace(filling, tables=(replace(PATIENTS, columns={"notes": other}), VISITS))
    masked = Masked(read_show("null"))
    seen = filling.as_seen(frozenset({(("public", "patients", "ssn"), masked), (("public", "visits", "mrn"), masked)}))
    patients, visits = seen.by_name["public", "patients"], seen.by_name["public", "visits"]
    assert patients.refused is not None
    assert "in clear yet" in patients.refused.why
    assert visits.refused is None
    assert [c.label for c in seen.masked] == ["public.visits.mrn"]
    whole = replace(filling, tables=()).as_seen(frozenset({(("public", "patients", "ssn"), masked)}))
    assert [(t.name, t.refused is not None) for t in whole.tables if t.schema == "public"] == [("patients", True)]
    assert filling.as_seen(frozenset()).by_name["public", "patients"].refused is None


def test_statistics_are_refused_to_those_who_see_masks() -> None:
    masked = frozenset({(("public", "patients", "ssn"), Masked(read_show("null")))})
    assert PROTECTION.as_seen(masked).by_name["pg_catalog", "pg_stats"].refused is not None
    assert ("pg_catalog", "pg_stats") not in PROTECTION.as_seen(frozenset()).by_name


def test_of_a_document_fields_are_masked_and_the_whole_where_a_rule_says_so() -> None:
    records = replace(PROTECTION, tables=(RECORDS,))
    ssn, whole = (("public", "records", "fields$.ssn"), Masked(read_show("null"))), (("public", "records", "fields"), Masked(DENY))
    (column,) = records.as_seen(frozenset({ssn})).masked
    assert column.masked == in_part([("$.ssn", ssn[1])])
    (column,) = records.as_seen(frozenset({ssn, whole})).masked
    assert column.masked == whole[1]
    document = RECORDS.columns["fields"].document
    assert document is not None
    partly = replace(RECORDS.columns["fields"], document=document.without([("ssn",)]))
    filling = replace(records, tables=(replace(RECORDS, columns={"fields": partly}),), clear=(RECORDS,))
    refused = filling.as_seen(frozenset({ssn})).by_name["public", "records"].refused
    assert refused is not None
    assert refused.why == "public.records.fields$.ssn is masked for this role, and in clear yet"
