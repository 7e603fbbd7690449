"""Which columns are taken for health data, by name and type."""

import pytest

from phiproxy.ops.likely_columns import KINDS, Proposal, propose
from phiproxy.ops.table_survey import SurveyedColumn


def column(name: str, type_name: str = "text", table: str = "patients", **rest: object) -> SurveyedColumn:
    fields: dict[str, object] = {
        "schema": "public",
        "owner": "app",
        "row_security": False,
        "special": None,
        "references": None,
        "in_long_key": False,
        "filled": False,
        "rows": None,
        "distinct": None,
        **rest,
    }
    return SurveyedColumn(table=table, name=name, type=type_name, **fields)  # type: ignore[arg-type]


def one(name: str, type_name: str = "text", **rest: object) -> Proposal | None:
    proposals = propose([column(name, type_name, **rest)])  # type: ignore[arg-type]
    return proposals[0] if proposals else None


@pytest.mark.parametrize(
    "name", ["ssn", "SSN", "patientSsn", "social_security_number", "work_phone", "phone2", "address_line_1", "EMail"]
)
def test_spellings_of_a_name(name: str) -> None:
    proposal = one(name if name != "social_security_number" else "social_security")
    assert proposal is not None
    assert proposal.obstacle is None


@pytest.mark.parametrize(
    ("name", "type_name"),
    [
        ("id", "integer"),
        ("created_at", "timestamp with time zone"),
        ("email_verified", "boolean"),
        ("phone_type", "text"),
        ("notes", "boolean"),
        ("notes", "integer"),
        ("first_name", "date"),
        ("address", "uuid"),
        ("status", "text"),
    ],
)
def test_what_is_not_taken_for_it(name: str, type_name: str) -> None:
    assert one(name, type_name) is None


def test_a_name_alone_is_one_in_a_table_of_persons() -> None:
    assert one("name", table="patients") is not None
    assert one("name", table="wards") is None
    assert one("name", table="clientAccounts") is not None


def test_a_kind_whose_names_overlap_another_comes_first_or_says_the_same() -> None:
    names = [name for kind in KINDS for name in kind.names]
    assert len(names) == len(set(names))


def test_an_index_only_where_the_type_has_it() -> None:
    birth = one("date_of_birth", "date")
    assert birth is not None
    assert birth.indexes == ("@",)
    number = one("phone", "bigint")
    assert number is not None
    assert number.indexes == ("@",)
    name = one("last_name", "character varying(40)")
    assert name is not None
    assert (name.indexes, name.type) == (("@", "lower(@)"), "varchar(40)")


def test_no_index_where_few_values_would_be_told_by_their_frequencies() -> None:
    few = one("zip", rows=50_000, distinct=120)
    assert few is not None
    assert few.indexes == ()
    assert "only 120 distinct values" in few.reason
    small = one("zip", rows=500, distinct=120)  # a table of a few hundred rows says nothing of those to come
    assert small is not None
    assert small.indexes == ("@",)


@pytest.mark.parametrize(
    ("rest", "obstacle"),
    [
        ({"special": "a generated column"}, "it is a generated column"),
        ({"in_long_key": True}, "it is part of a foreign key over several columns"),
        ({"type_name": "xml"}, "type xml cannot be protected"),
    ],
)
def test_what_stands_against_it(rest: dict[str, object], obstacle: str) -> None:
    proposal = one("notes", **rest)  # type: ignore[arg-type]
    assert proposal is not None
    assert proposal.obstacle == obstacle


def test_a_number_of_a_person_in_several_tables_is_a_domain() -> None:
    proposals = propose([column("mrn"), column("mrn", table="visits"), column("phone"), column("phone", table="visits")])
    assert [p.domain for p in proposals] == ["mrn", "mrn", None, None]


def test_of_different_types_it_is_none() -> None:
    proposals = propose([column("mrn"), column("mrn", "integer", table="visits")])
    assert [p.domain for p in proposals] == [None, None]


def test_a_foreign_key_is_dropped_by_whoever_protects_its_columns() -> None:
    """Also the column that nothing but the key makes likely, and the third one of the domain."""
    patients = ("public", "patients", "mrn")
    columns = [column("mrn"), column("holder", table="cards", references=patients), column("mrn", table="visits")]
    proposals = propose(columns)
    assert [p.domain for p in proposals] == ["mrn"] * 3
    assert {p.obstacle for p in proposals} == {"a foreign key joins it: drop that first, and add it again through the proxy"}
    assert proposals[1].reason == "a foreign key joins it with patients.mrn"


def test_a_key_to_what_is_not_health_data_says_nothing() -> None:
    ids = ("public", "patients", "id")
    assert propose([column("id", "integer"), column("patient_id", "integer", table="visits", references=ids)]) == []
