"""policy.yaml: what a column is, which identities are wanted, what is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from phiproxy.policy.model import Policy
from phiproxy.policy.registry_layout import WantedIdentity
from phiproxy.sql.values.index_spelling import spell


def read(tables: dict[str, Any], **more: Any) -> Policy:
    data = {"database": "clinic", "deployment": "clinic-test", "tables": tables, **more}
    return Policy.model_validate(data, context={"base": "."}).spelled_by(spell)


def columns(**described: Any) -> dict[str, Any]:
    return {"public.patients": {"columns": described}}


MRN = {"mrn": {"type": "varchar(12)", "indexes": ["value"], "distinct": 1000, "pad": 16}}


def test_identities() -> None:
    policy = read(
        {
            "public.patients": {
                "columns": {
                    "ssn": {"type": "text", "indexes": ["ssn"]},
                    "mrn": {"domain": "mrn"},
                    "x": {"type": "text", "id": "old"},
                }
            },
            '"My Schema"."user"': {"columns": {'"Col"': {"type": "varchar"}, "mrn": {"domain": "mrn"}}},
        },
        domains=MRN,
    )
    assert policy.complaints() == []
    assert policy.wanted_identities() == [
        WantedIdentity("c:public.patients.ssn", "t:public.patients", "text", ("@",), (("public", "patients", "ssn"),)),
        WantedIdentity("d:mrn", "d:mrn", "varchar(12)", ("@",), (("public", "patients", "mrn"), ("My Schema", "user", "mrn"))),
        WantedIdentity("c:old", "t:public.patients", "text", (), (("public", "patients", "x"),)),
        WantedIdentity('c:"My Schema"."user"."Col"', 't:"My Schema"."user"', "varchar", (), (("My Schema", "user", "Col"),)),
    ]


def test_columns_of_a_domain_share_its_description() -> None:
    (column,) = read(columns(mrn={"domain": "mrn"}), domains=MRN).columns()
    assert (column.identity, column.scope, column.pad, column.distinct) == ("d:mrn", "d:mrn", 16, {"@": 1000})
    assert column.type.max_length == 12
    assert column.label == "public.patients.mrn"


def test_distinct_as_a_map() -> None:
    (column,) = read(columns(a={"type": "text", "indexes": ["a::text"], "distinct": {"a::text": 7}})).columns()
    assert column.distinct == {"@": 7}


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ({"domain": "mrn", "pad": 8}, "a domain has nothing else: move pad"),
        ({}, "needs a type or a domain"),
        ({"type": "public.Mood"}, "unknown type"),
        ({"type": "wibble(3)"}, "unknown type"),
        ({"type": "text", "pad": 1}, "greater than or equal to 2"),
        ({"type": "text", "pad": 65537}, "less than or equal to 65536"),
        ({"type": "text", "distinct": 0}, "greater than or equal to 1"),
        ({"type": "text", "nonsense": 1}, "Extra inputs"),
        ({"type": "text", "id": ""}, "at least 1 character"),
    ],
)
def test_refused_columns(column: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        read(columns(a=column), domains=MRN)


@pytest.mark.parametrize("key", ["patients", "db.public.patients", "Public.T", "public.", "a b.c"])
def test_refused_table_names(key: str) -> None:
    with pytest.raises(ValidationError):
        read({key: {"columns": {"a": {"type": "text"}}}})


def test_refused_column_name() -> None:
    with pytest.raises(ValidationError, match="not a column name"):
        read(columns(**{"a.b": {"type": "text"}}))


def test_where_a_tenant_comes_from() -> None:
    assert read({}).tenant is None
    role = read({}, tenant={"from": "role", "keks": {"acme": "rsa:acme.pem"}}).tenant
    assert role is not None
    assert (role.from_, role.name, role.keks) == ("role", None, {"acme": "rsa:acme.pem"})
    parameter = read({}, tenant={"from": "parameter", "name": "app.tenant"}).tenant
    assert parameter is not None
    assert parameter.name == "app.tenant"


@pytest.mark.parametrize(
    ("tenant", "said"),
    [
        ({"from": "parameter"}, "needs the parameter's name"),
        ({"from": "role", "name": "app.tenant"}, "from the role takes none"),
        ({"from": "parameter", "name": "tenant"}, "pattern"),
        ({"from": "role", "keks": {"acme": "local:a?passphrase=hunter2"}}, "never written here"),
        ({"from": "elsewhere"}, "role"),
    ],
)
def test_tenants_that_cannot_be(tenant: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        read({}, tenant=tenant)
    assert "hunter2" not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        (columns(a={"domain": "nope"}), "there is no domain 'nope'"),
        (columns(a={"type": "text", "indexes": ["reverse(a)"]}), r"reverse\(\) is not among the functions"),
        (columns(a={"type": "text", "indexes": ["value"]}), "'value' is no index expression"),
        (columns(a={"type": "text", "indexes": ["a", "a::text"]}), "the same index again"),
        (columns(a={"type": "text", "distinct": {"x": 1}}), "'x' is not one of the indexes"),
        (columns(a={"type": "text", "id": "public.patients.b"}, b={"type": "text"}), "already that of"),
        (columns(**{"a": {"type": "text"}, '"a"': {"type": "text"}}), "already protected as"),
    ],
)
def test_complaints(tables: dict[str, Any], text: str) -> None:
    (complaint,) = [c for c in read(tables).complaints() if c.text][:1]
    assert complaint.location[:2] == ("tables", "public.patients")
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(complaint.text)


def test_a_place_that_is_not_known_is_that_of_its_surroundings() -> None:
    policy = read({}).located("p.yaml", {("tables",): "p.yaml:3:1"})
    assert policy.at("tables", "x", "columns", "y") == "p.yaml:3:1"
    assert policy.at("domains") == "p.yaml"


def test_names_of_what_is_to_be_renamed() -> None:
    tables = {
        "public.patients": {
            "renamed_to": "public.clients",
            "columns": {"ssn": {"type": "text", "indexes": ["ssn"], "renamed_to": "social"}, "mrn": {"domain": "mrn"}},
        }
    }
    policy = read(tables, domains=MRN)
    assert policy.complaints() == []
    found = {(c.table, c.name): (c.identity, c.scope, c.expressions) for c in policy.columns()}
    ssn, mrn = ("c:public.patients.ssn", "t:public.patients", ("@",)), ("d:mrn", "d:mrn", ("@",))
    assert found == {
        ("patients", "ssn"): ssn,
        ("patients", "social"): ssn,
        ("clients", "ssn"): ssn,
        ("clients", "social"): ssn,
        ("patients", "mrn"): mrn,
        ("clients", "mrn"): mrn,
    }
    assert [len(w.columns) for w in policy.wanted_identities()] == [4, 2]
    (complaint,) = read(columns(a={"type": "text", "renamed_to": "b"}, b={"type": "text"})).complaints()
    assert "already protected as" in complaint.text


def test_what_a_policy_lets_go() -> None:
    policy = read(
        {
            "public.patients": {
                "columns": {"ssn": {"type": "text"}},
                "released": ["notes", '"A.b"'],
                "renamed_to": "public.people",
            },
            "public.old": {"released": ["ssn"]},
            '"My Schema".patients': {"clear": True},
        }
    )
    assert policy.complaints() == []
    boundary = policy.boundary([("public", "x", "y")])
    assert boundary.registered == {("public", "x", "y")}
    assert boundary.released == {
        *(("public", table, column) for table in ("patients", "people") for column in ("notes", "A.b")),
        ("public", "old", "ssn"),
    }
    assert boundary.clear == {("My Schema", "patients")}
    assert [c.label for c in policy.columns()] == ["public.patients.ssn", "public.people.ssn"]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({}, "a table needs `columns`, `released` or `clear: true`"),
        ({"clear": False}, "a table needs `columns`, `released` or `clear: true`"),
        ({"clear": True, "columns": {"a": {"type": "text"}}}, "leave out `columns` or `clear`"),
        ({"clear": True, "renamed_to": "public.b"}, "`renamed_to` is of a table with protected columns"),
        ({"released": ["a.b"]}, "is not a column name"),
    ],
)
def test_tables_that_say_nothing_or_two_things(table: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        read({"public.patients": table})


def test_what_is_protected_is_not_let_go() -> None:
    (complaint,) = read({"public.patients": {"columns": {"ssn": {"type": "text"}}, "released": ["a", '"ssn"']}}).complaints()
    assert complaint.location == ("tables", "public.patients", "released", 1)
    assert complaint.text == "public.patients.ssn is protected: it cannot be released too"
