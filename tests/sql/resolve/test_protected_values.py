"""Columns of given values, their types and their groups; values of their own."""

from __future__ import annotations

from phiproxy.policy.column_types import builtin, named_type
from phiproxy.sql.resolve.protected_values import (
    Clear,
    ListColumn,
    ListGroup,
    Protected,
    conversions,
    group_key,
    list_groups,
    own_value,
    type_of,
)
from phiproxy.sql.text.parse import Node, parse
from phiproxy.sql.values.operands import as_operand
from tests.clinic_model import PATIENTS

SSN = PATIENTS.columns["ssn"]


def test_a_column_of_a_union_stores_the_values_of_its_parts() -> None:
    parts = ListColumn([None], [1]), ListColumn([None], [2])
    whole = ListColumn([], [], parts=(ListColumn([], [], parts=parts[:1]), parts[1]))
    assert list(whole.leaves()) == list(parts)
    whole.store(SSN, 7)
    assert [part.group.stored_by for part in parts] == [{7}, {7}]
    assert [bool(part.users) for part in (whole, *parts)] == [True, False, False]


def test_the_columns_of_one_list_have_one_group() -> None:
    group = ListGroup()
    columns = [ListColumn([], [], group=group), ListColumn([], [], group=group), ListColumn([], [])]
    assert list_groups([*columns, Clear()]) == [group, columns[2].group]


def test_two_outputs_of_one_column_are_grouped_by_apart() -> None:
    value = Protected(SSN, SSN.type, tags=((0, "phi_tag_ssn_0"),))
    own = own_value(value)
    assert isinstance(own, Protected)
    assert (own.column, own.tags) == (SSN, ())
    assert group_key(own) != group_key(value) == group_key(value)
    assert group_key(value, "lower(@)") != group_key(value)


TEXT = builtin("text")


def column(*values: str, of_values: bool = True) -> ListColumn:
    nodes: list[Node] = [t["ResTarget"]["val"] for t in parse(f"SELECT {', '.join(values)}".encode())[0].body["targetList"]]
    return ListColumn([as_operand(node) for node in nodes], list(range(len(nodes))), of_values=of_values)


def ways(of: ListColumn, *steps: str) -> list[list[str]]:
    steps_by_value, _ = conversions(of, [named_type(name) for name in steps], TEXT)
    return [[to.name for to in way] for way in steps_by_value.values()]


def test_values_share_one_type() -> None:
    mixed = column("1", "2.5::numeric(6,3)", "$1", "1::float8")
    assert type_of(mixed) == builtin("float8")
    assert ways(mixed) == [["float8"], ["float8"], ["float8"], []]
    assert ways(mixed, "int4") == [["float8", "int4"], ["float8", "int4"], ["float8", "int4"], ["int4"]]


def test_values_without_a_type() -> None:
    assert type_of(column("'x'", "$1")) == TEXT
    assert type_of(column("$1", of_values=False)) is None
    assert ways(column("$1", of_values=False)) == [["text"]]
    assert ways(column("$1", of_values=False), "date") == [["date"]]
    assert ways(column("$1"), "date") == [["text", "date"]]


def test_what_union_all_puts_together() -> None:
    one, other = column("$1", of_values=False), column("5", of_values=False)
    union = ListColumn([], [], parts=(one, other), of_values=True)
    assert type_of(union) == builtin("int4")
    assert ways(union) == [["int4"], []]
    cast = ListColumn([], [], parts=(union,), cast_to=(builtin("int8"),))
    assert type_of(cast) == builtin("int8")
    assert ways(cast) == [["int4", "int8"], ["int8"]]
    assert type_of(ListColumn([], [], parts=(column("'2001-02-03'::date"), column("5")))) is None
