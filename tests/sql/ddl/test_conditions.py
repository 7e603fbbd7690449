"""CHECK constraints: which parts are the server's, which are sealed, which are refused."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.plan.cache import Planner
from phiproxy.policy.guards import guard, guard_name
from phiproxy.policy.types import builtin
from phiproxy.sql.meaning import Define
from tests.clinic_model import PROTECTION
from tests.sql.ddl.build import VIEW, marked, planner, refused

LENGTH = ["length", ["value"]]
ADD = "ALTER TABLE patients ADD CONSTRAINT c CHECK ({}) NOT VALID"


def sealed(check: str, made: Planner | None = None) -> list[Any]:
    """Return the conditions that are sealed for a CHECK."""
    (meaning,) = (made or planner()).meanings(ADD.format(check).encode(), VIEW)
    found = [o.literal for o in meaning.occurrences if isinstance(o.use, Define)]
    return [json.loads(text or b"")["condition"] for text in found]


def server(check: str) -> str:
    """Return what the server sees of a CHECK, with sealed conditions as ``<condition>``."""
    shown = marked(ADD.format(check)).removeprefix("ALTER TABLE public.patients ADD CONSTRAINT c ").removesuffix(" NOT VALID")
    return re.sub(
        r"position\(pg_catalog\.substring\('.x00'::bytea, 13, 16\) IN pg_catalog\.substring\(\w+, 13, 4080\)\) = 0",
        "<condition>",
        shown,
    )


@pytest.mark.parametrize(
    ("check", "condition"),
    [
        ("ssn <> ''", ["<>", ["value"], ["constant", ""]]),
        ("'' <> (ssn)::text", ["<>", ["constant", ""], ["value"]]),
        ("length(ssn) BETWEEN 1 AND 9", ["and", [">=", LENGTH, ["constant", 1]], ["<=", LENGTH, ["constant", 9]]]),
        ("ssn IN ('a', 'b')", ["or", ["=", ["value"], ["constant", "a"]], ["=", ["value"], ["constant", "b"]]]),
        ("ssn NOT IN ('a')", ["not", ["or", ["=", ["value"], ["constant", "a"]]]]),
        ("ssn = ANY (ARRAY['a'::text])", ["or", ["=", ["value"], ["constant", "a"]]]),
        ("ssn ~ '^[0-9]+$' OR ssn IS NULL", ["or", ["~", ["value"], "^[0-9]+$"], ["null", ["value"]]]),
        ("NOT ssn !~* 'a'", ["not", ["!~*", ["value"], "a"]]),
        ("ssn LIKE 'a%' AND NOT false", ["~~", ["value"], "a%"]),
        ("ssn NOT LIKE 'a!%' ESCAPE '!'", ["!~~", ["value"], "a!%", "!"]),
        ("ssn IS DISTINCT FROM 'a'", ["distinct", ["value"], ["constant", "a"]]),
        ("ssn IS NOT DISTINCT FROM 'a'", ["not", ["distinct", ["value"], ["constant", "a"]]]),
        ("trim(both from ssn) = upper(ssn)", ["=", ["btrim", ["value"]], ["upper", ["value"]]]),
        ("pg_catalog.length(ssn) >= 3", [">=", ["length", ["value"]], ["constant", 3]]),
    ],
)  # fmt: skip
def test_the_closed_table(check: str, condition: list[Any]) -> None:
    assert sealed(check) == [condition]


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
def test_what_the_server_sees(check: str, told: str) -> None:
    assert server(check) == told


def test_physical_form_passes_as_it_is() -> None:
    column = PROTECTION.by_name["public", "visits"].columns["mrn"]
    sealed_check = (
        "CONSTRAINT c CHECK (((id > 0) AND (POSITION((pg_catalog.\"substring\"('\\xf550010100'::bytea, 13, 16))"
        ' IN ("substring"(mrn, 13, 4080))) = 0)))'
    )
    guarded = f"mrn bytea DEFAULT '\\xf5500101'::bytea, CONSTRAINT {guard_name('mrn')} {guard(column)}"
    text = f"CREATE TABLE public.visits (id int, {guarded}, {sealed_check})"
    assert marked(text) == text


def test_numbers_and_dates() -> None:
    types = {"ssn": builtin("date"), "mrn": builtin("numeric")}
    tables = tuple(
        dataclasses.replace(t, columns={n: dataclasses.replace(c, type=types.get(n, c.type)) for n, c in t.columns.items()})
        for t in PROTECTION.tables
    )
    made = planner(protection=dataclasses.replace(PROTECTION, tables=tables))
    day, number = ["day", ["value"]], ["number", ["value"]]
    for check, condition in (
        ("ssn >= '1900-01-01'", [">=", day, ["constant", "1900-01-01"]]),
        ("ssn < date '2100-01-01'", ["<", day, ["constant", "2100-01-01"]]),
        ("mrn > 0", [">", number, ["constant", 0]]),
        ("mrn <> -2.5", ["<>", number, ["number", ["constant", "-2.5"]]]),
    ):
        assert sealed(check, made) == [condition]
    for check in (
        "ssn > '1/2/2000'",
        "ssn > 'now'",
        "ssn > '2000-02-31'",
        "ssn > 5",
        "mrn > '5'",
        "length(mrn) > 2",
        "ssn LIKE '2%'",
    ):
        with pytest.raises(StatementRefused):
            sealed(check, made)


@pytest.mark.parametrize(
    "check",
    ["ssn < 'a'", "ssn = city", "ssn = mrn", "city = 'x' OR ssn = 'y'", "ssn || 'a' = 'b'", "ssn ~ '(a*)*'", "ssn ~ city",
     "ssn ~~* 'a'", "length(ssn) = '3'", "ssn = 3", "ssn", "soundex(ssn) = 'a'", "ssn SIMILAR TO 'a'", "ssn = current_user",
     "ssn = 'a' COLLATE \"C\"", "ssn::int = 3", "CASE WHEN ssn = 'a' THEN true END", "length(DISTINCT ssn) = 1",
     "app.length(ssn) = 1"]
)  # fmt: skip
def test_refused(check: str) -> None:
    error = refused(ADD.format(check))
    assert error.sqlstate == "0A000"
    assert error.hint
    assert error.position
