"""The spelling of index expressions: what is written alike is spelled alike; and hints of an index that would answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import ConfigError, NoIndexAnswers
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.plan.without_engine import WITH_ENGINE
from phiproxy.policy.column_types import parse_type
from phiproxy.policy.protection import Slot, SlotState
from phiproxy.sql.values.index_spelling import spell, waiting
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import INDEXED, VIEW, refusal


@pytest.mark.parametrize(
    "text",
    [
        "ssn",
        "SSN",
        '"ssn"',
        "ssn::text",
        "(ssn)",
        "((ssn)::text)::varchar",
        " ssn ",
        "ssn::pg_catalog.text",
        "ssn::character varying",
    ],
)
def test_the_column_under_casts_is_the_column(text: str) -> None:
    assert spell(text, "ssn", "text") == "@"


@pytest.mark.parametrize(
    "text",
    [
        "ssn::varchar(3)", '"SSN"', "other", "", "ssn || 'x'", "(ssn", "ssn)", "ssn::", "::text",
        "ssn::text::", "value", "'ssn'", "ssn::(text)", "a.ssn", "lower(m)", "lower(ssn) a", "lower(ssn), ssn",
        "lower(ssn) FROM t", "concat(ssn, ssn)", "'@'", "lower('ssn')", 'ssn COLLATE "C"', "lower(ssn",
        "count(DISTINCT ssn)", "lower(VARIADIC ssn)", "lower(x => ssn)", "lower(*)", "*", "ssn.lower", "left(ssn, $1)",
        "lower(t.ssn)", "lower(ssn) WHERE true", "NULL", "lower(ssn); SELECT ssn", "ssn UNION SELECT 1",
    ],
)  # fmt: skip
def test_what_is_no_expression_over_the_column(text: str) -> None:
    with pytest.raises(ConfigError, match=r"index|among the functions|cast"):
        spell(text, "ssn", "text")


def test_a_quoted_name_keeps_its_case() -> None:
    assert spell('"My Col"::text', "My Col", "text") == "@"
    with pytest.raises(ConfigError):
        spell("MyCol", "MyCol", "text")


@pytest.mark.parametrize(
    ("texts", "spelling"),
    [
        (["lower(n)", "LOWER(n)", "pg_catalog.lower((n)::text)", "(lower(n::varchar))::text", 'lower("n")'], "lower(@)"),
        (["left(lower(n), 3)", "left( LOWER(n) , 3 )"], "left(lower(@),3)"),
        (["substr(n, 1, 3)", "substring(n, 1, 3)", "substring(n from 1 for 3)", "SUBSTRING(n FOR 3 FROM 1)"], "left(@,3)"),
        (
            [r"regexp_replace(n, '\D', '', 'g')", r"regexp_replace(n, E'\\D', '', 'g')", r"regexp_replace(n, $$\D$$, '', 'g')"],
            r"regexp_replace(@,'\D','','g')",
        ),
        (["trim(n)", "trim(both from n)", "btrim(n)", "trim(both ' ' from n)", "btrim(n, ' ')"], "btrim(@)"),
        (["ltrim(n, '''')", "trim(leading '''' from n)"], "ltrim(@,'''')"),
        (["left(n, -1)"], "left(@,-1)"),
        (["soundex(n)", "public.soundex(n)"], "soundex(@)"),
    ],
)
def test_each_way_to_write_an_expression_has_one_spelling(texts: list[str], spelling: str) -> None:
    assert {spell(text, "n", "text") for text in texts} == {spelling}


@pytest.mark.parametrize(
    ("texts", "type_name", "spelling"),
    [
        (["extract(year from n)", "EXTRACT(YEAR FROM n)", "pg_catalog.extract('Year', n)"], "date", "extract('year',@)"),
        (["date_part('year', n)", "date_part('YEAR', n)"], "date", "date_part('year',@)"),
        (
            ["date_trunc('month', n::timestamp)", "date_trunc('MONTH', CAST(n AS timestamp))"],
            "date",
            "date_trunc('month',@::timestamp)",
        ),
        (["date_trunc('month', n)", "date_trunc('month', n::timestamp)"], "timestamp", "date_trunc('month',@)"),
        (
            ["date_trunc('day', n AT TIME ZONE 'UTC')", "date_trunc('day', timezone('UTC', n))"],
            "timestamptz",
            "date_trunc('day',timezone('UTC',@))",
        ),
    ],
)
def test_expressions_over_other_types(texts: list[str], type_name: str, spelling: str) -> None:
    assert {spell(text, "n", type_name) for text in texts} == {spelling}


CANNOT = "phiproxy reindex public.patients."
THERE = "is there and answers nothing yet"


def with_column(name: str, type_name: str, *slots: Slot) -> Planner:
    """The clinic with another type, and other slots, of one column."""
    table = PROTECTION.by_name["public", "patients"]
    column = replace(table.columns[name], type=parse_type(type_name), slots=slots)
    other = replace(table, columns={**table.columns, name: column})
    protection = replace(PROTECTION, tables=tuple(other if t is table else t for t in PROTECTION.tables))
    return Planner(protection, CATALOG, Ciphers(Keyring(lambda: 0.0)))


def slot(number: int, expression: str, state: SlotState = "building") -> Slot:
    return Slot(number, expression, 1, state)


def hint_of(condition: str, planner: Planner) -> str:
    error = refusal(f"SELECT 1 FROM patients WHERE {condition}", VIEW, planner)
    assert isinstance(error, NoIndexAnswers)
    return error.hint or ""


@pytest.mark.parametrize(
    ("condition", "added"),
    [
        ("notes = 'x'", "`notes`"),
        ("notes LIKE 'abc%'", "`left(notes,3)`"),
        ("notes LIKE '%abc'", "`right(notes,3)`"),
        ("notes ILIKE 'Abc'", "`lower(notes)`"),
        ("notes LIKE $1", "`notes` or `left(notes,n)` or `right(notes,n)`"),
    ],
)
def test_an_index_that_is_not_there(condition: str, added: str) -> None:
    hint = hint_of(condition, with_column("notes", "text"))
    assert hint.startswith(f"Add {added} to the indexes of public.patients.notes in the policy, then run phiproxy keys init.")
    assert CANNOT in hint


@pytest.mark.parametrize(
    ("condition", "expression", "shown"),
    [
        ("notes = 'x'", "@", "notes"),
        ("notes LIKE 'abc%'", "left(@,3)", "left(notes,3)"),
        ("notes LIKE $1", "right(@,4)", "notes"),
        ("upper(notes) = 'X'", "upper(@)", "upper(notes)"),
    ],
)
def test_one_that_is_there_and_was_added_to_a_filled_column(condition: str, expression: str, shown: str) -> None:
    """To add it to the policy, where it is, would change nothing."""
    hint = hint_of(condition, with_column("notes", "text", slot(0, expression)))
    if expression == "right(@,4)":
        assert "Add" in hint, "another index would answer as well"
        return
    assert f"The index on {shown} {THERE}" in hint
    assert "Add" not in hint


def test_a_range_is_told_which_index_would_answer_it() -> None:
    condition = "notes >= '2001-01-01' AND notes < '2002-01-01'"
    added = hint_of(condition, with_column("notes", "date"))
    assert added.startswith("Add `extract(year from notes)`")
    assert CANNOT in added
    assert THERE in hint_of(condition, with_column("notes", "date", slot(0, "extract('year',@)")))


@pytest.mark.parametrize("condition", ["notes ILIKE '%x%'", "notes LIKE '%x%'", "notes LIKE 'a_c'", "notes ~ 'x'"])
def test_a_pattern_that_no_index_could_answer(condition: str) -> None:
    """With an index and without one: none is suggested."""
    for planner in (with_column("notes", "text"), with_column("notes", "text", slot(0, "@", "active"))):
        hint = hint_of(condition, planner)
        assert "Add" not in hint
        assert "An index can answer" in hint


def test_a_value_made_of_the_column_itself() -> None:
    document = with_column("notes", "jsonb")
    error = refusal("UPDATE patients SET notes = jsonb_set(notes, '{a}', '1')", VIEW, document)
    assert error.hint is not None
    assert error.hint.endswith(f"Select notes, change it in the application, and give the result. {WITH_ENGINE}")
    error = refusal("UPDATE patients SET notes = jsonb_build_object('a', id)", VIEW, document)
    assert error.hint == f"Give a literal or a parameter (of type jsonb), NULL or DEFAULT. {WITH_ENGINE}"


def test_a_rotated_index_answers_by_its_old_slot() -> None:
    assert waiting([slot(0, "@", "active"), slot(1, "@"), slot(2, "lower(@)"), slot(3, "upper(@)", "dropped")]) == {"lower(@)"}
    assert refusal("SELECT 1 FROM patients WHERE upper(full_name) = 'X'", VIEW, INDEXED).hint


@pytest.mark.parametrize("key", ["notes", "notes jsonb_path_ops", "(notes -> 'a')"])
def test_no_index_is_suggested_for_what_is_inside_of_a_document(key: str) -> None:
    """An index on equality, once added, would be refused again."""
    error = refusal(f"CREATE INDEX i ON patients USING gin ({key})", VIEW, with_column("notes", "jsonb"))
    assert "have no gin index" in error.message
    assert "keep what you search for in a column of its own" in (error.hint or "")
