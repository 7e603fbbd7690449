"""What a value is on its way to a protected column."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import DatatypeMismatch, StatementRefused, UndefinedOperator
from phiproxy.policy.column_types import builtin, named_type
from phiproxy.sql.text.parse import Node, only, parse
from phiproxy.sql.values.accepted_types import OWN, CannotCoerce, changes_nothing, given, operand_type, read_as
from phiproxy.sql.values.operands import as_operand
from phiproxy.sql.values.uses import Given, Search, Store
from tests.clinic_model import PATIENTS

SSN = PATIENTS.columns["ssn"]
BORN = dataclasses.replace(SSN, type=builtin("date"))
AGE = dataclasses.replace(SSN, type=builtin("int4"))


def used(text: str, use: Store | Search, type_oid: int = OWN) -> tuple[Given | None, int]:
    (statement,) = parse(f"SELECT {text}".encode())
    node: Node = only(statement.body["targetList"][0])[1]["val"]
    operand = as_operand(node)
    assert operand is not None
    read, oid = given(operand, use, type_oid)
    return read.given, oid


def search(column: object = BORN) -> Search:
    assert isinstance(column, type(SSN))
    return Search(column, SSN.slots[0], column.type)


def test_text_for_text_is_read_as_it_is() -> None:
    assert used("'x'", Store(SSN, 1)) == (None, 25)
    assert used("$1::varchar", search(SSN)) == (None, 1043)


def test_a_literal_is_what_stands_beside_it() -> None:
    assert used("'2001-02-03'", Store(BORN, 1)) == (Given(builtin("date")), 1082)
    assert used("'2001-02-03'::timestamp", search())[0] == Given(builtin("timestamp"), (builtin("timestamp"),))
    assert used("$1", search()) == (Given(), 1082)
    assert used("$1::date", search()) == (Given(None, (builtin("date"),)), 1082)
    assert used("-5", search(AGE)) == (Given(builtin("numeric")), 1700)


@pytest.mark.parametrize(
    ("text", "use", "error"),
    [
        ("5", Store(BORN, 1), DatatypeMismatch),
        ("'x'::text", Store(BORN, 1), DatatypeMismatch),
        ("5", search(), UndefinedOperator),
        ("true", search(SSN), UndefinedOperator),
        ("5::date", Store(BORN, 1), CannotCoerce),
        ("'x'::bytea", Store(SSN, 1), StatementRefused),
    ],
)
def test_what_postgresql_would_not_take(text: str, use: Store | Search, error: type[StatementRefused]) -> None:
    with pytest.raises(error):
        used(text, use)


def test_a_parameter_is_settled_when_its_type_is_known() -> None:
    assert read_as(search(), builtin("timestamp")).given == Given(builtin("timestamp"))
    assert read_as(search(SSN), builtin("varchar")).given is None
    with pytest.raises(UndefinedOperator):
        read_as(search(), builtin("int4"))


def test_types_beside_each_other() -> None:
    assert operand_type(named_type("varchar(3)")).name == "text"
    assert operand_type(builtin("cidr")).name == "inet"


def test_casts_that_change_nothing() -> None:
    pairs = {("date", "date"): True, ("date", "text"): False, ("numeric(5,2)", "numeric"): True, ("numeric", "numeric(5,2)"): False}
    assert {pair: changes_nothing(*map(named_type, pair)) for pair in pairs} == pairs
