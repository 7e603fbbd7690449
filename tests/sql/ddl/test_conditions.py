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


def typed(**types: str) -> Planner:
    """Return a planner that knows some columns as of other types."""
    tables = tuple(
        dataclasses.replace(
            t, columns={n: dataclasses.replace(c, type=builtin(types[n]) if n in types else c.type) for n, c in t.columns.items()}
        )
        for t in PROTECTION.tables
    )
    return planner(protection=dataclasses.replace(PROTECTION, tables=tables))


BLANK = ["rtrim", ["value"]]
TRUTH = ["truth", ["value"]]
MOMENT = ["moment", ["value"]]


@pytest.mark.parametrize(
    ("type_", "check", "condition"),
    [
        ("bpchar", "ssn <> 'a '", ["<>", BLANK, ["constant", "a"]]),
        ("bpchar", "ssn <> 'a '::text", ["<>", BLANK, ["constant", "a "]]),
        ("bpchar", "ssn::text = 'a '", ["=", BLANK, ["constant", "a "]]),
        ("bpchar", "ssn ~ 'a' AND length(ssn) > 1", ["and", ["~", ["value"], "a"], [">", ["length", BLANK], ["constant", 1]]]),
        ("bpchar", "octet_length(ssn) > 1", [">", ["octet_length", ["value"]], ["constant", 1]]),
        ("bool", "ssn", TRUTH),
        ("bool", "NOT ssn", ["not", TRUTH]),
        ("bool", "ssn = 'true'", ["=", TRUTH, ["truth", ["constant", "t"]]]),
        ("bool", "ssn IS TRUE", ["not", ["distinct", TRUTH, ["constant", True]]]),
        ("bool", "ssn IS NOT FALSE", ["distinct", TRUTH, ["constant", False]]),
        ("bool", "ssn IS UNKNOWN", ["null", TRUTH]),
        ("float8", "ssn > 2.50", [">", ["double", ["value"]], ["double", ["constant", "2.50"]]]),
        ("float4", "ssn > -1", [">", ["single", ["value"]], ["double", ["constant", "-1"]]]),
        ("timestamp", "ssn > '2001-02-03'", [">", MOMENT, ["moment", ["constant", "2001-02-03 00:00:00"]]]),
        ("timestamptz", "ssn > '2001-02-03 00:30+01'", [">", MOMENT, ["moment", ["constant", "2001-02-02 23:30:00+00"]]]),
        ("time", "ssn < time '12:30'", ["<", MOMENT, ["moment", ["constant", "12:30:00"]]]),
        ("bytea", "length(ssn) < 9", ["<", ["octets", ["value"]], ["constant", 9]]),
        ("bytea", r"ssn <> '\xAB'", ["<>", ["value"], ["constant", r"\xab"]]),
        ("uuid", "ssn <> 'A0000000-0000-0000-0000-000000000000'",
         ["<>", ["value"], ["constant", "a0000000-0000-0000-0000-000000000000"]]),
    ],
)  # fmt: skip
def test_other_types(type_: str, check: str, condition: list[Any]) -> None:
    found = sealed(check, typed(ssn=type_))
    assert (["and", *found] if len(found) > 1 else found[0]) == condition


@pytest.mark.parametrize(
    ("type_", "check"),
    [("bpchar", "ssn > 'a'"), ("bpchar", "ssn = 5"), ("bool", "ssn > 5"), ("bool", "ssn = 'maybe'"), ("float8", "ssn > '2'"),
     ("float8", "ssn > 1e400"), ("float8", "ssn > length('x')"), ("timestamp", "ssn > now()"), ("timestamp", "ssn > 'now'"),
     ("timestamp", "ssn > '2001-02-03 00:00+01'"), ("timestamp", "ssn > date '2001-02-03'"),
     ("timestamptz", "ssn > '2001-02-03 00:00'"),
     ("time", "ssn > '25:00'"), ("bytea", "ssn = 'abc'"), ("uuid", "ssn = 'x'"), ("interval", "ssn > '1 day'"),
     ("timestamp", "ssn > 'infinity'"), ("timestamp", "ssn = '1/2/2000'")]
)  # fmt: skip
def test_other_types_refused(type_: str, check: str) -> None:
    with pytest.raises(StatementRefused):
        sealed(check, typed(ssn=type_))


def test_an_identity_without_a_free_slot() -> None:
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


def test_numbers_and_dates() -> None:
    made = typed(ssn="date", mrn="numeric")
    day, number = ["day", ["value"]], ["number", ["value"]]
    for check, condition in (
        ("ssn >= '1900-01-01'", [">=", day, ["day", ["constant", "1900-01-01"]]]),
        ("ssn < date '2100-01-01'", ["<", day, ["day", ["constant", "2100-01-01"]]]),
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
