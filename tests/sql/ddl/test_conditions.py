"""CHECK constraints: which parts are the server's, which are sealed, which are refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from phiproxy.sql.meaning import Define
from tests.sql.ddl.build import VIEW, marked, planner, refused

LENGTH = ["length", ["value"]]
ADD = "ALTER TABLE patients ADD CONSTRAINT c CHECK ({}) NOT VALID"


def sealed(check: str) -> list[Any]:
    """Return the conditions that are sealed for a CHECK."""
    (meaning,) = planner().meanings(ADD.format(check).encode(), VIEW)
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
