"""What a refusal says of an index that would answer: not what leads to the same refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import NoIndexAnswers
from phiproxy.plan.cache import Planner
from phiproxy.plan.ciphers import Ciphers
from phiproxy.policy.protection import Slot, SlotState
from phiproxy.policy.types import parse_type
from phiproxy.sql.indexhints import waiting
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import INDEXED, VIEW, refusal

CANNOT = "which this version cannot do yet"
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


def test_a_range() -> None:
    condition = "notes >= '2001-01-01' AND notes < '2002-01-01'"
    added = hint_of(condition, with_column("notes", "date"))
    assert added.startswith("Add `extract('year',notes)`")
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
    assert error.hint.endswith("Select notes, change it in the application, and give the result.")
    error = refusal("UPDATE patients SET notes = jsonb_build_object('a', id)", VIEW, document)
    assert error.hint == "Give a jsonb parameter, a jsonb literal, NULL or DEFAULT."


def test_a_rotated_index_answers_by_its_old_slot() -> None:
    assert waiting([slot(0, "@", "active"), slot(1, "@"), slot(2, "lower(@)"), slot(3, "upper(@)", "dropped")]) == {"lower(@)"}
    assert refusal("SELECT 1 FROM patients WHERE upper(full_name) = 'X'", VIEW, INDEXED).hint


@pytest.mark.parametrize("key", ["notes", "notes jsonb_path_ops", "(notes -> 'a')"])
def test_no_index_is_suggested_for_what_is_inside_of_a_document(key: str) -> None:
    """An index on equality, once added, would be refused again."""
    error = refusal(f"CREATE INDEX i ON patients USING gin ({key})", VIEW, with_column("notes", "jsonb"))
    assert "have no gin index" in error.message
    assert "keep what you search for in a column of its own" in (error.hint or "")
