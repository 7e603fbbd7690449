"""Where values are put in documents with sealed fields: by the policy alone it is said what is sealed there, or it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.access.rules import Masked
from phiproxy.access.shows import NULL
from phiproxy.errors import PhiproxyError
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.protection import Check, ProtectedColumn
from phiproxy.sql.values.uses import Store
from phiproxy.sql.writes.document_places import member_place
from tests import records_model
from tests.fixtures import model
from tests.plan.rings import full_ring


def _planner(document: ProtectedColumn) -> Planner:
    own = model.planner()
    table = replace(records_model.RECORDS, columns={**records_model.RECORDS.columns, "fields": document})
    protection = replace(own.protection, tables=(*own.protection.tables, table))
    catalog = replace(own.catalog, relations=(*own.catalog.relations, records_model.RELATION))
    return Planner(protection, catalog, Ciphers(full_ring(protection=protection)))


OPEN, CLOSED = _planner(records_model.DOC), _planner(records_model.SEALED)


def where(planner: Planner, change: str) -> str:
    """Return where what a change gives is sealed, "clear", or as what it is refused."""
    try:
        plan = planner.statement(f"UPDATE public.records SET {change}".encode(), (), model.VIEW)
    except PhiproxyError as refused:
        return f"refused {refused.sqlstate}"
    stored = [use.column for use, _, _ in plan.outputs if isinstance(use, Store)]
    return " ".join(f"{column.label.removeprefix('public.records.')} as {column.type.name}" for column in stored) or "clear"


NO = "refused 0A000"
# A path, and where it leads to in a document of which all but fields is in clear, and in one of which others are sealed.
PATHS = [
    ("ssn", "fields$.ssn", "fields$.ssn"),
    ("name,family", "fields$.name.family", "fields$.name.family"),
    ("name", "fields", "fields"),
    ("name,given", "clear", "fields"),
    ("name,0", "clear", "fields"),
    ("history", "fields", "fields"),
    ("history,0", "fields", "fields"),
    ("history,-1,note", "fields$.history[*].note", "fields$.history[*].note"),
    ("history,0,on", "clear", "fields"),
    ("history,x", NO, NO),
    ("extra", "fields$.extra", "fields$.extra"),
    ("extra,a", NO, NO),
    ("ssn,0", NO, NO),
    ("ward", "clear", "clear"),
    ("ward,0,x", "clear", "clear"),
    ("meta", "clear", "fields"),
    ("meta,at,3", "clear", "clear"),
    ("more", "clear", "fields"),
    ("more,x", "clear", "fields"),
    ("more,0", "clear", NO),
]


@pytest.mark.parametrize(("path", "in_open", "in_closed"), PATHS)
def test_where_a_path_leads(path: str, in_open: str, in_closed: str) -> None:
    for planner, expected in ((OPEN, in_open), (CLOSED, in_closed)):
        told = expected if expected in ("clear", NO) else f"{expected} as jsonb"
        for setter in ("jsonb_set", "jsonb_insert", "jsonb_set_lax"):
            assert where(planner, f"fields = {setter}(fields, '{{{path}}}', $1::jsonb)") == told
        text = told.replace("jsonb", "text")
        assert where(planner, f"fields = jsonb_set(fields, '{{{path}}}', to_jsonb($1::text))") == text


# Where a subscript makes what is not there, that has to be what the policy says.
@pytest.mark.parametrize(
    ("path", "in_open", "in_closed"), [one if one[0] != "name,0" else ("name,0", NO, NO) for one in PATHS if "-" not in one[0]]
)
def test_where_subscripts_lead(path: str, in_open: str, in_closed: str) -> None:
    subscripts = "".join(f"['{step}']" for step in path.split(","))
    for planner, expected in ((OPEN, in_open), (CLOSED, in_closed)):
        assert where(planner, f"fields{subscripts} = $1") == (expected if expected in ("clear", NO) else f"{expected} as jsonb")


@pytest.mark.parametrize("step", ["0", "-1", " 1", "+1", "2147483647"])
def test_an_array_is_made_where_the_text_is_an_integer(step: str) -> None:
    assert where(OPEN, f"fields['history']['{step}']['note'] = $1") == "fields$.history[*].note as jsonb"


@pytest.mark.parametrize("step", ["2147483648", "99999999999", "1 ", "+-1", "--1", "²", "1_0"])
def test_an_object_would_be_made_where_it_only_looks_like_one(step: str) -> None:
    for planner in (OPEN, CLOSED):
        assert where(planner, f"fields['history']['{step}']['note'] = $1") == NO


@pytest.mark.parametrize(
    ("change", "becomes"),
    [
        ("fields = fields || $1", "fields as jsonb"),
        ("fields = fields || $1::text", "refused 42804"),
        ("fields = $1::jsonb || $2", "fields as jsonb fields as jsonb"),
        ("fields = jsonb_set(fields, '{ssn}', $1::text)", "refused 42883"),
        ("fields = jsonb_set(fields, '{ssn}', to_jsonb($1))", "refused 42804"),
        ("fields = jsonb_set(fields, '{ssn}', to_jsonb($1::date))", NO),
        ("fields = jsonb_set(fields, '{}', $1)", NO),
        ("fields = jsonb_set(fields, NULL, $1)", NO),
        ("fields = jsonb_set($1, '{ssn}', $2)", "fields as jsonb fields$.ssn as jsonb"),
        ("fields = jsonb_set($1::text, '{ssn}', $2)", "refused 42883"),
        ("fields = jsonb_set(target => fields, path => '{ssn}', new_value => $1)", NO),
        ("fields = fields || jsonb_build_object('ssn', $1)", NO),
        ("fields = fields || jsonb_build_object('ssn', 'x', 'age', 1.5, 'extra', true)",
         "fields$.ssn as text fields$.age as numeric fields$.extra as bool"),
        ("fields = fields || jsonb_build_object('extra', jsonb_build_object('a', 1))", NO),
        ("fields = fields || jsonb_build_object('ssn')", NO),
        ("fields = fields || jsonb_build_object('ssn', $1::text, 'ward', to_jsonb($1::text))", NO),
        ("fields = fields - 'extra'", "clear"),
        ("fields = $1 - 'extra'", NO),
        ("fields = fields - ssn", NO),
        ("fields = CASE WHEN id = 1 THEN fields - 'a' ELSE jsonb_set(fields, '{age}', '1') END", NO),
        ("fields = CASE WHEN id = 1 THEN fields END || '{}'", NO),
        ("fields['ssn'] = DEFAULT", NO),
        ("fields['a':'b'] = $1", NO),
        ("fields[$1] = $2", NO),
        ("(fields['ssn'], id) = ($1, 2)", NO),
    ],
)  # fmt: skip
def test_what_is_understood(change: str, becomes: str) -> None:
    assert where(OPEN, change) == becomes


def test_a_path_of_another_constant_is_not_taken_for_one_that_was_seen() -> None:
    """Texts of one shape share their analysis, but not where a constant is a path."""
    for change in ("fields = fields #- '{%s,a}'", "fields = jsonb_set(fields, '{%s,a}', '1')", "fields['%s']['a'] = '1'"):
        for _ in range(3):
            assert where(OPEN, change % "ward") == "clear"
            assert where(OPEN, change % "extra") == NO


def test_documents_in_arrays_and_what_a_constraint_holds_are_not_changed() -> None:
    in_array = records_model.document(records_model.field(45, "$[*].x", "text"))
    for change in ("fields = fields - 'a'", "fields['a'] = '1'", "fields = fields || $1"):
        assert where(_planner(in_array), change) == NO
    entry: dict[str, object] = {"val": {"ParamRef": {}}, "indirection": []}
    assert member_place(records_model.DOC, entry) is not None
    assert member_place(replace(records_model.DOC, checks=(Check("c", b"x"),)), entry) is None


def test_nothing_is_put_into_what_a_role_does_not_see() -> None:
    masked = _planner(replace(records_model.DOC, masked=Masked(NULL)))
    for change in ("fields['ward'] = '1'", "fields = fields - 'ssn'", "fields['ssn'] = $1", "fields = fields || $1"):
        assert where(masked, change) == "refused 42501"
