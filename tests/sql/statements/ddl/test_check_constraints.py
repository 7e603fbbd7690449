"""CHECK constraints: which parts are for the server, and which are sealed."""

from __future__ import annotations

import dataclasses
import re

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.policy.plaintext_guards import guard, guard_name
from tests.clinic_model import PROTECTION
from tests.sql.statements.ddl.build import ADD_CHECK, marked, planner, sealed


def server(check: str) -> str:
    """Return what the server sees of a CHECK, with sealed conditions as ``<condition>``."""
    shown = marked(ADD_CHECK.format(check)).removeprefix("ALTER TABLE public.patients ADD CONSTRAINT c ").removesuffix(" NOT VALID")
    return re.sub(
        r"position\(pg_catalog\.substring\('.x00'::bytea, 13, 16\) IN pg_catalog\.substring\(\w+, 13, 4080\)\) = 0",
        "<condition>",
        shown,
    )


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("city <> '' AND ssn IS NOT NULL", "CHECK (city <> '' AND ssn IS NOT NULL)"),
        ("ssn IS NULL OR city = 'x'", "CHECK (ssn IS NULL OR city = 'x')"),
        ("city <> '' AND ssn <> ''", "CHECK (city <> '' AND (<condition>))"),
        (
            "(city <> '' AND (ssn <> '')) AND (mrn <> '' AND true)",
            "CHECK ((city <> '' AND ((<condition>))) AND ((<condition>) AND true))",
        ),
        ("length(ssn) BETWEEN 1 AND 3 AND id BETWEEN 1 AND 3", "CHECK ((<condition>) AND id BETWEEN 1 AND 3)"),
        ("ssn IS DISTINCT FROM NULL", "CHECK ((ssn IS NOT NULL AND <condition>))"),
        ("(ssn = 'a' OR ssn = 'b') AND city = 'c'", "CHECK (((<condition>)) AND city = 'c')"),
    ],
)  # fmt: skip
def test_each_part_is_for_the_server_or_sealed(check: str, told: str) -> None:
    assert server(check) == told


def test_a_condition_that_is_sealed_already_stays() -> None:
    column = PROTECTION.by_name["public", "visits"].columns["mrn"]
    sealed_check = (
        "CONSTRAINT c CHECK (((id > 0) AND (POSITION((pg_catalog.\"substring\"('\\xf550010100'::bytea, 13, 16))"
        ' IN ("substring"(mrn, 13, 4080))) = 0)))'
    )
    guarded = f"mrn bytea DEFAULT '\\xf5500101'::bytea, CONSTRAINT {guard_name('mrn')} {guard(column)}"
    text = f"CREATE TABLE public.visits (id int, {guarded}, {sealed_check})"
    assert marked(text) == text


def test_a_column_without_a_free_slot_cannot_mark_what_fails() -> None:
    last = PROTECTION.by_name["public", "patients"].columns["ssn"].slots[0]
    tables = tuple(
        dataclasses.replace(
            t,
            columns={
                n: dataclasses.replace(c, slots=(*c.slots, dataclasses.replace(last, number=254))) for n, c in t.columns.items()
            },
        )
        for t in PROTECTION.tables
    )
    with pytest.raises(StatementRefused, match="no place is left"):
        sealed("ssn <> ''", planner(protection=dataclasses.replace(PROTECTION, tables=tables)))
