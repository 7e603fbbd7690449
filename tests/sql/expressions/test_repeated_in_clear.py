"""Taint: a protected value in any other place of its statement, whether a rule looked there or not."""

from __future__ import annotations

from functools import partial

import pytest

from phiproxy.sql.expressions.repeated_in_clear import ProtectedValues, telling_number
from tests.harness.costs import cpu_seconds_of
from tests.sql.ask import ask


def one_row(*values: bytes) -> ProtectedValues:
    """Return protected values of a statement without rows."""
    return ProtectedValues([(value, None) for value in values], lambda place: place)


def test_a_text_is_repeated_by_itself_and_by_an_array_with_it() -> None:
    values = one_row(b"a", b"b c")
    assert values.repeated_by(b"a", None)
    assert values.repeated_by(b'{x,"b c"}', None)
    assert values.repeated_by(b" [0:0]={a}", None)
    assert not values.repeated_by(b"{aa,{a}", None)
    assert not values.repeated_by(b"xa", None)


@pytest.mark.parametrize("spelled", [b"4713", b"-4713", b" 04713.00 ", b"47.13e2", b"0x1269", b"+4713.", b"4_713", b" -0x12_69 "])
def test_a_number_is_one_in_every_spelling(spelled: bytes) -> None:
    assert telling_number(spelled) == telling_number(b"4713")
    assert one_row(b"4713").repeated_by_number(spelled, None)
    assert one_row(spelled).repeated_by(b"4713", None)


@pytest.mark.parametrize(
    "spelled", [b"471", b"0.5", b"", b"NaN", b"4713a", b"1e99999", b"99.5", b"0000", b"0e5", b"0o9", b"4__713", b"."]
)
def test_what_is_no_number_or_a_short_one_tells_nothing(spelled: bytes) -> None:
    assert telling_number(spelled) is None


@pytest.mark.parametrize("literal", [b"1" * 100_000 + b"x", b"1" + b"0" * 130_000, b"0x" + b"f" * 100_000, b"1_" * 50_000])
def test_long_literals_take_little_time(literal: bytes) -> None:
    assert cpu_seconds_of(partial(telling_number, literal)) < 1


def test_numbers_of_another_row_are_not_repeated() -> None:
    values = ProtectedValues([(b"1980", 3), (b"4713", None)], lambda place: place)
    assert values.repeated_by_number(b"1980", 3)
    assert values.repeated_by_number(b"1980", None)
    assert not values.repeated_by_number(b"1980", 4)
    assert values.repeated_by_number(b"4713", 4)


@pytest.mark.parametrize(
    "elsewhere",
    [
        "city = 's'",
        "city = ANY ('{x,s}')",
        "(ARRAY['s'])[1] = city",
        "id IN (WITH RECURSIVE t (i) AS (SELECT 1 UNION ALL SELECT i FROM t) CYCLE i SET c TO 's' DEFAULT 'n' USING p"
        " SELECT i FROM t)",
    ],
)
def test_a_protected_value_elsewhere(elsewhere: str) -> None:
    assert ask(f"SELECT id FROM public.patients WHERE ssn = 's' AND {elsewhere}") == "0A000"
    assert ask(f"SELECT id FROM public.patients WHERE ssn = 'r' AND {elsewhere}") != "0A000"


@pytest.mark.parametrize(
    "text",
    [
        """SELECT count(*) AS "S" FROM public.patients WHERE ssn = 'S'""",
        """SELECT count(*) FILTER (WHERE ssn = '9-9') AS "9-9" FROM public.patients""",
        """SELECT 1 FROM public.patients "a b" WHERE ssn = 'a b'""",
        """WITH "é" AS (SELECT 1) SELECT id FROM public.patients WHERE ssn = 'é'""",
        """SELECT U&"\\00e9".id FROM public.patients U&"\\00e9" WHERE ssn = 'é'""",
        """SELECT id FROM public.patients, (VALUES (1)) x ("CAN-1") WHERE ssn = 'CAN-1'""",
        """WITH t ("CAN-1") AS (SELECT 1) SELECT id FROM public.patients WHERE ssn = 'CAN-1'""",
        """SELECT id, rank() OVER "CAN-1" FROM public.patients WHERE ssn = 'CAN-1' WINDOW "CAN-1" AS (ORDER BY id)""",
        """DECLARE "CAN-1" CURSOR FOR SELECT id FROM public.patients WHERE ssn = 'CAN-1'""",
        """PREPARE "CAN-1" AS SELECT id FROM public.patients WHERE ssn = 'CAN-1'""",
    ],
)
def test_a_name_that_is_a_protected_value(text: str) -> None:
    assert ask(text) == "0A000"
    assert ask(text.replace("ssn = '", "ssn = '-")) != "0A000"


@pytest.mark.parametrize(
    "text",
    [
        """PREPARE "{}" AS INSERT INTO public.patients (ssn) VALUES (lower('CAN-1'))""",
        """SELECT 1 AS "{}" FROM public.patients WHERE ssn = ANY ('{{x,CAN-1}}') OR ssn = 'x'""",
    ],
)
def test_a_name_that_is_a_part_of_a_protected_value(text: str) -> None:
    assert ask(text.format("CAN-1")) == "0A000"
    assert ask(text.format("CAN-2")) != "0A000"


@pytest.mark.parametrize(
    "text",
    [
        """SELECT id AS "4713" FROM public.patients WHERE ssn = '{}.0'""",
        """PREPARE "4713.0" AS SELECT id FROM public.patients WHERE ssn = '{}'""",
    ],
)
def test_a_name_that_is_a_protected_number(text: str) -> None:
    assert ask(text.format("4713")) == "0A000"
    assert ask(text.format("4714")) != "0A000"


def test_a_name_without_quotes_is_no_value() -> None:
    assert ask("SELECT s.id AS ssn FROM public.patients s WHERE ssn IN ('s', 'ssn')") != "0A000"


def test_what_is_not_the_same_value_stays() -> None:
    assert ask("SELECT id FROM public.patients WHERE ssn = 's' AND city = 'ss' AND city <> ANY ('{t}')") != "0A000"


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("UPDATE public.patients SET ssn = '4713', id = 4713", True),
        ("UPDATE public.patients SET ssn = '4713', city = '4713.0'", True),
        ("UPDATE public.patients SET ssn = '-4713', id = - 4713", True),
        ("SELECT id FROM public.patients WHERE ssn = '4713' LIMIT 4713", True),
        ("SELECT id FROM public.patients WHERE ssn = '471' LIMIT 471", False),
        ("UPDATE public.patients SET ssn = '4713', id = 4714", False),
        ("INSERT INTO public.patients (id, ssn) VALUES (4713, '4713')", True),
        ("INSERT INTO public.patients (id, ssn) VALUES (1, '4713'), (4713, '471')", False),
        ("INSERT INTO public.patients (id, ssn) VALUES (1, '471'), (4713, '4713')", True),
        ("INSERT INTO public.patients (id, ssn) VALUES (1, '4713'), (2, '1') RETURNING 4713", True),
    ],
)
def test_a_number_that_is_a_protected_value(statement: str, refused: bool) -> None:
    assert (ask(statement) == "0A000") is refused


def test_what_is_there_may_be_named_whatever_it_is_called() -> None:
    assert ask("""SELECT "ssn", 'City' AS city FROM public.patients AS "Full Name" WHERE ssn = 'Full Name'""") == "0A000"
    assert ask("""SELECT id FROM public.patients WHERE ssn = '+' AND id + 1 = 2""") != "0A000"
