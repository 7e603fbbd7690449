"""The closed table of functions; each against PostgreSQL in tests/integration/test_formulas.py."""

from __future__ import annotations

import pytest

from phiproxy.errors import InvalidEncoding
from phiproxy.index.characters import Characters, UnknownCharacter
from phiproxy.sql.values.formula import Formula


def constants(*values: bytes | None) -> tuple[Formula, ...]:
    return tuple(Formula(value=v) for v in values)


@pytest.mark.parametrize(
    ("function", "values", "result"),
    [
        ("btrim", (b" a ",), b"a"),
        ("btrim", (b"xyax", b"xy"), b"a"),
        ("ltrim", (b"\t a", b""), b"\t a"),
        ("rtrim", ("aé".encode(), "é".encode()), b"a"),
        ("||", (b"a", b"b"), b"ab"),
        ("||", (b"a", None), None),
        ("concat", (b"a", None, b"b"), b"ab"),
        ("concat", (None,), b""),
        ("coalesce", (None, b"x"), b"x"),
        ("nullif", (b"x", b"x"), None),
        ("nullif", (b"x", None), b"x"),
        ("nullif", (None, None), None),
    ],
)
def test_a_function_gives_what_postgresql_gives(function: str, values: tuple[bytes | None, ...], result: bytes | None) -> None:
    assert Formula(function, constants(*values)).evaluate(()) == result


def test_a_formula_is_evaluated_with_the_values_of_its_parameters() -> None:
    formula = Formula("||", (Formula("cast", (Formula(number=2),), limit=2), *constants(b"x")))
    assert formula.evaluate((None, "éaé".encode())) == "éax".encode()
    assert [p.number for p in formula.parameters()] == [2]
    assert list(formula.constants()) == [b"x"]
    with pytest.raises(InvalidEncoding):
        formula.evaluate((None, b"\xff"))


def test_case_beyond_ascii_is_refused_without_the_value() -> None:
    with pytest.raises(UnknownCharacter) as caught:
        Formula("index", constants("é".encode()), expression="upper(@)").evaluate(())
    assert "é" not in str(caught.value)
    assert caught.value.sqlstate == "0A000"


def test_case_by_the_tables_of_the_database() -> None:
    formula = Formula("index", constants("Éß".encode()), expression="upper(@)", characters=Characters("icu"))
    assert formula.evaluate(()) == "ÉSS".encode()
    assert Formula("index", constants(None), expression="lower(@)").evaluate(()) is None


def test_a_function_of_an_index() -> None:
    formula = Formula("index", (Formula(number=1),), expression="left(lower(@),3)")
    assert formula.evaluate((b"SMITH",)) == b"smi"
    assert formula.evaluate((None,)) is None


def test_the_same_of_other_constants() -> None:
    formula = Formula("||", (Formula(value=b"a"), Formula("btrim", (Formula(value=b" b "),))))
    other = formula.of_constants(iter([b"x", b"  y"]))
    assert (formula.evaluate(()), other.evaluate(())) == (b"ab", b"xy")
    assert list(other.constants()) == [b"x", b"  y"]
    assert Formula(number=1).of_constants(iter([])) == Formula(number=1)
