"""Constant paths over documents: which are read, and of which the server reads nothing that is sealed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.access.rules import Masked, in_part
from phiproxy.access.shows import DENY, NULL, Show
from phiproxy.errors import PhiproxyError
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.expressions.document_paths import spelled_path
from phiproxy.sql.rewrite.references_and_markers import select_tree
from phiproxy.sql.text.parse import only
from tests import records_model
from tests.fixtures import model
from tests.plan.rings import full_ring


@pytest.mark.parametrize(
    ("expression", "steps", "text"),
    [
        ("d -> 'a'", "key a", False),
        ("d ->> 'a'", "key a", True),
        ("d -> 'a'::text -> 0 ->> 'b'", "key a, position 0, key b", True),
        ("d #> '{a,0,\"b c\"}'", "either a, either 0, either b c", False),
        ("d #>> ARRAY['a', 'b']", "either a, either b", True),
        ("d #>> '{a}'::text[] ", "either a", True),
        ("d['a'][0]", "either a, either 0", False),
        ("(d -> 'a')['b'] #>> '{c}'", "key a, either b, either c", True),
        ("jsonb_extract_path(d, 'a', 'b')", "either a, either b", False),
        ("pg_catalog.jsonb_extract_path_text(d, VARIADIC ARRAY['a'::text])", "either a", True),
    ],
)
def test_paths(expression: str, steps: str, text: bool) -> None:
    node = only(select_tree(f"SELECT {expression} FROM t")["targetList"][0])[1]["val"]
    path = spelled_path(node, lambda names: names[-1])
    assert path is not None
    assert ", ".join(f"{step.kind} {step.name}" for step in path.steps) == steps
    assert path.text is text


@pytest.mark.parametrize(
    "expression",
    [
        "d",
        "d.*",
        "d -> $1",
        "d -> a",
        "d ->> 'a' -> 'b'",
        "d #> a",
        "d #> '{a,NULL}'",
        "d #> '{}'",
        "d #> '{{a},{b}}'",
        "d #> '{a'",
        "d['a':'b']",
        "d[1:2]",
        "d[x]",
        "jsonb_extract_path(d)",
        "jsonb_extract_path(d, VARIADIC a)",
        "jsonb_extract_path(d, 'a', b)",
        "lower(d)",
        "d || 'a'",
        "('{}'::jsonb) -> 'a'",
        "f(d) -> 'a'",
        "- d",
    ],
)
def test_what_is_no_path(expression: str) -> None:
    node = only(select_tree(f"SELECT {expression} FROM t")["targetList"][0])[1]["val"]
    assert spelled_path(node, lambda names: names[-1]) is None


def _planner(document: ProtectedColumn = records_model.DOC) -> Planner:
    own = model.planner()
    table = replace(records_model.RECORDS, columns={**records_model.RECORDS.columns, "fields": document})
    protection = replace(own.protection, tables=(*own.protection.tables, table))
    catalog = replace(own.catalog, relations=(*own.catalog.relations, records_model.RELATION))
    return Planner(protection, catalog, Ciphers(full_ring(protection=protection)))


OPEN, CLOSED = _planner(), _planner(records_model.SEALED)
MASKED = _planner(replace(records_model.DOC, masked=Masked(NULL)))


def what(planner: Planner, expression: str) -> str:
    """Return "clear", or as what an expression is shown, or "refused"."""
    text = f"SELECT {expression} FROM public.records".encode()
    try:
        planner.statement(text, (), model.VIEW)
        (answer,) = planner.answers(text, model.VIEW)
    except PhiproxyError as refused:
        return f"refused {refused.sqlstate}"
    (reveal,) = answer.outputs or (None,)
    return "clear" if reveal is None else f"{reveal.column.label} as {reveal.type.name}"


_TAKEN = ["fields -> 'ward'", "fields ->> 'ssn'", "fields ? 'ssn'", "fields -> 'name'", "1 + id - id"]


@pytest.mark.parametrize("expression", _TAKEN)
def test_of_a_document_of_which_a_role_sees_a_mask_nothing_is_taken(expression: str) -> None:
    assert what(MASKED, expression) == ("clear" if "id" in expression else "refused 42501")
    assert what(MASKED, "fields") == "public.records.fields as jsonb"


def _masked(show: Show, *paths: str) -> Planner:
    return _planner(replace(records_model.DOC, masked=in_part((path, Masked(show)) for path in paths)))


@pytest.mark.parametrize("show", [NULL, DENY])
def test_of_a_document_of_which_a_role_sees_some_fields_masked_the_others_are_taken(show: Show) -> None:
    """What is masked, holds what is, or is in it, is only shown, or not where it is denied; all else is as for others."""
    masked = _masked(show, "$.name.family", "$.history[*].note")
    shown = "refused 42501" if show.denies else "public.records.fields as jsonb"
    assert what(masked, "fields") == shown
    assert what(masked, "fields - 'ssn'") == what(masked, "fields || '{}'") == "refused 42501"
    others = ("->> 'ward'", "->> 'ssn'", "-> 'ssn'", "-> 'meta'", "-> 'history' -> 0 -> 'on'", "-> 'tags' ? 'x'")
    for expression in (f"fields {path}" for path in others):
        assert what(masked, expression) == what(OPEN, expression)
    for path in ("'name'", "'name' -> 'family'", "'history'", "'history' -> 0", "'history' -> 0 -> 'note'"):
        for taken in (f"fields -> {path}", f"(fields -> {path})::jsonb"):
            assert what(masked, taken) == ("refused 42501" if show.denies else what(OPEN, taken))
        for use in ("fields -> {} = '1'", "(fields -> {}) IS NULL", "upper((fields -> {})::text)", "COALESCE(fields -> {}, '1')"):
            assert what(masked, use.format(path)) == "refused 42501"
    keys, beside = "fields -> 'name' ? 'family'", _masked(show, "$.history[*].note")
    assert what(masked, keys) == what(masked, "fields ? 'ssn'") == what(beside, "fields ? 'ssn'") == "refused 42501"
    assert what(beside, keys) == what(OPEN, keys) == "clear"


def test_what_is_denied_hides_no_other_field_that_is_masked() -> None:
    masked = _planner(replace(records_model.DOC, masked=in_part([("$.ssn", Masked(DENY)), ("$.name.family", Masked(NULL))])))
    assert what(masked, "fields") == what(masked, "fields ->> 'ssn'") == "refused 42501"
    assert what(masked, "fields ->> 'name'") == what(OPEN, "fields ->> 'name'")


def test_a_path_of_another_constant_is_not_taken_for_one_that_was_seen() -> None:
    """Texts of one shape share their analysis, but not where a constant is a path."""
    for expression in ("'x' = fields ->> '%s'", "fields -> 'name' ->> '%s'", "fields #>> '{%s}'"):
        for _ in range(3):
            assert what(OPEN, expression % "ward") == "clear"
            assert what(OPEN, expression % "ssn") == what(OPEN, expression % "ssn" + " ")
    assert what(OPEN, "fields ->> 'ssn'") != "clear"


@pytest.mark.parametrize(
    ("expression", "open_", "closed"),
    [
        ("fields -> 'ward'", "clear", "clear"),
        ("fields -> 'ward' -> 'x' ->> 0", "clear", "clear"),
        ("fields ->> 'city'", "clear", "public.records.fields$.city as text"),
        ("fields -> 'list' -> 3", "clear", "public.records.fields$.list[*] as jsonb"),
        ("fields #> '{list,3}'", "clear", "refused 0A000"),
        ("fields -> 'meta'", "clear", "public.records.fields$.meta as jsonb"),
        ("fields -> 'meta' -> 'at'", "clear", "clear"),
        ("fields ->> 'ssn'", "public.records.fields$.ssn as text", "public.records.fields$.ssn as text"),
        ("fields -> 'ssn'", "public.records.fields$.ssn as jsonb", "public.records.fields$.ssn as jsonb"),
        ("fields -> 'name'", "public.records.fields$.name as jsonb", "public.records.fields$.name as jsonb"),
        ("fields -> 'name' -> 'given'", "clear", "public.records.fields$.name.given as jsonb"),
        ("fields -> 'name' -> 0", "clear", "clear"),
        ("fields -> 0", "clear", "clear"),
        ("fields #> '{history,0}'", "public.records.fields$.history[*] as jsonb", "public.records.fields$.history[*] as jsonb"),
        ("fields -> 'history' -> 'note'", "clear", "clear"),
        (
            "fields #>> '{history,-1,note}'",
            "public.records.fields$.history[*].note as text",
            "public.records.fields$.history[*].note as text",
        ),
        # Inside of what is sealed as a whole: a JSON string counts as an array of itself.
        ("fields -> 'extra' -> 'a'", "refused 0A000", "refused 0A000"),
        ("fields -> 'ssn' -> 0", "refused 0A000", "refused 0A000"),
        ("fields -> lower('ssn')", "refused 0A000", "refused 0A000"),
        ("jsonb_each(fields)", "refused 0A000", "refused 0A000"),
        ("fields @> '{}'", "refused 0A000", "refused 0A000"),
        (
            "lower(fields -> 'name' ->> 'family')",
            "lower(public.records.fields$.name.family) as text",
            "lower(public.records.fields$.name.family) as text",
        ),
    ],
)
def test_what_a_path_gives(expression: str, open_: str, closed: str) -> None:
    assert (what(OPEN, expression), what(CLOSED, expression)) == (open_, closed)
