"""Conditions over one value: what the closed table makes of an expression, and what it has no place for.

What they judge on data is in ``integration/test_checks.py``.
"""

from __future__ import annotations

from typing import Any

import pytest

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.check_evaluation import compiled
from phiproxy.sql.statements.ddl.check_conditions import READ, canonical
from tests.sql.statements.ddl.build import ADD_CHECK, refused, sealed, typed

LENGTH = ["length", ["value"]]


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
def test_a_condition_is_what_the_closed_table_says(check: str, condition: list[Any]) -> None:
    assert sealed(check) == [condition]


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
def test_a_condition_over_another_type_compares_as_that_type(type_: str, check: str, condition: list[Any]) -> None:
    conditions = sealed(check, typed(ssn=type_))
    assert (["and", *conditions] if len(conditions) > 1 else conditions[0]) == condition


@pytest.mark.parametrize(
    ("type_", "check"),
    [("bpchar", "ssn > 'a'"), ("bpchar", "ssn = 5"), ("bool", "ssn > 5"), ("bool", "ssn = 'maybe'"), ("float8", "ssn > '2'"),
     ("float8", "ssn > 1e400"), ("float8", "ssn > length('x')"), ("timestamp", "ssn > now()"), ("timestamp", "ssn > 'now'"),
     ("timestamp", "ssn > '2001-02-03 00:00+01'"), ("timestamp", "ssn > date '2001-02-03'"),
     ("timestamptz", "ssn > '2001-02-03 00:00'"),
     ("time", "ssn > '25:00'"), ("bytea", "ssn = 'abc'"), ("uuid", "ssn = 'x'"), ("interval", "ssn > '1 day'"),
     ("timestamp", "ssn > 'infinity'"), ("timestamp", "ssn = '1/2/2000'")]
)  # fmt: skip
def test_a_constant_that_is_not_of_the_type_is_refused(type_: str, check: str) -> None:
    with pytest.raises(StatementRefused):
        sealed(check, typed(ssn=type_))


def test_numbers_and_dates_are_compared_by_value() -> None:
    typed_planner = typed(ssn="date", mrn="numeric")
    day, number = ["day", ["value"]], ["number", ["value"]]
    for check, condition in (
        ("ssn >= '1900-01-01'", [">=", day, ["day", ["constant", "1900-01-01"]]]),
        ("ssn < date '2100-01-01'", ["<", day, ["day", ["constant", "2100-01-01"]]]),
        ("mrn > 0", [">", number, ["constant", 0]]),
        ("mrn <> -2.5", ["<>", number, ["number", ["constant", "-2.5"]]]),
    ):
        assert sealed(check, typed_planner) == [condition]
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
            sealed(check, typed_planner)


@pytest.mark.parametrize(
    "check",
    ["ssn < 'a'", "ssn = city", "ssn = mrn", "city = 'x' OR ssn = 'y'", "ssn || 'a' = 'b'", "ssn ~ '(a*)*'", "ssn ~ city",
     "ssn ~~* 'a'", "length(ssn) = '3'", "ssn = 3", "ssn", "soundex(ssn) = 'a'", "ssn SIMILAR TO 'a'", "ssn = current_user",
     "ssn = 'a' COLLATE \"C\"", "ssn::int = 3", "CASE WHEN ssn = 'a' THEN true END", "length(DISTINCT ssn) = 1",
     "app.length(ssn) = 1"]
)  # fmt: skip
def test_what_is_not_in_the_closed_table_is_refused(check: str) -> None:
    error = refused(ADD_CHECK.format(check))
    assert error.sqlstate == "0A000"
    assert error.hint
    assert error.position


@pytest.mark.parametrize(
    ("kind", "text", "read"),
    [
        ("bool", "TRUE", "t"),
        ("bytea", r"\xAB", r"\xab"),
        ("date", "2001-02-03", "2001-02-03"),
        ("time", "24:00", "24:00:00"),
        ("timestamp", "2001-02-03T04:05:06.50", "2001-02-03 04:05:06.5"),
        ("timestamptz", "2001-02-03 04:05+05:30", "2001-02-02 22:35:00+00"),
        ("uuid", "A" * 8 + "-0000-0000-0000-" + "0" * 12, "a" * 8 + "-0000-0000-0000-" + "0" * 12),
    ],
)
def test_a_constant_is_sealed_in_canonical_form(kind: str, text: str, read: str) -> None:
    assert canonical(kind, text) == read


@pytest.mark.parametrize("text", ["", "now", "1/2/2001", "2001-2-3", "2001-02-30", "12:61", "infinity", "epoch", "yes "])
def test_a_constant_that_depends_on_settings_is_not_taken(text: str) -> None:
    for kind in READ:
        with pytest.raises((ValueError, ValueRefused)):
            canonical(kind, text)


LEFT = ["index", "left(@,2)", "text", ["value"]]


@pytest.mark.parametrize(
    ("check", "condition"),
    [
        ("left(ssn, 2) = 'ab'", ["=", LEFT, ["constant", "ab"]]),
        ("pg_catalog.left(ssn::text, 2) IN ('ab')", ["or", ["=", LEFT, ["constant", "ab"]]]),
        ("length(substr(ssn, 1, 2)) > 1", [">", ["length", LEFT], ["constant", 1]]),
        ("substring(ssn from 2) <> ''", ["<>", ["index", "substring(@,2)", "text", ["value"]], ["constant", ""]]),
    ],
)
def test_a_function_of_blind_indexes_is_a_term_of_a_condition(check: str, condition: list[Any]) -> None:
    assert sealed(check) == [condition]


@pytest.mark.parametrize(
    "check",
    [
        "left(lower(ssn), 2) = 'ab'",
        "soundex(ssn) = 'A100'",
        r"regexp_replace(ssn, '\D', '', 'g') <> ''",
        "left(ssn, 2) > 'a'",
        "reverse(ssn) = 'a'",
        "left(ssn, id) = 'a'",
        "extract(year from ssn) = 1",
    ],
)
def test_what_is_not_understood(check: str) -> None:
    with pytest.raises(StatementRefused):
        sealed(check)


def test_a_part_that_is_null_is_no_violation() -> None:
    judge = compiled(["=", ["number", ["index", "extract('month',@)", "date", ["value"]]], ["constant", 1]])
    assert [judge(value) for value in ("2000-01-31", "2000-02-01", "infinity", None)] == [True, False, None, None]
