"""Types of expressions, and what values become on their way: manual 10.2 to 10.5."""

from __future__ import annotations

import pytest

from phiproxy.errors import DatatypeMismatch, StatementRefused, UndefinedOperator
from phiproxy.policy.column_types import array_of, builtin, named_type
from phiproxy.sql.values.type_resolution import (
    Part,
    check_apart,
    common_type,
    compare_listed,
    compare_pair,
    compare_with_column,
    merged,
)


def part(name: str | None) -> Part:
    return Part(None if name is None else named_type(name))


def names(one: Part) -> list[str]:
    return [to.name for to in one.steps]


def choice(*parts: Part, casts: tuple[str, ...] = ()) -> Part:
    return Part(parts=list(parts), merges=True, casts=tuple(map(named_type, casts)))


def test_the_common_type_is_select_common_types() -> None:
    assert common_type([builtin("int4"), builtin("numeric")]).name == "numeric"
    assert common_type([named_type("varchar(3)"), builtin("text")]).name == "varchar"
    assert common_type([builtin("date"), None, builtin("timestamp")]).name == "timestamp"
    assert common_type([None, None]).name == common_type([]).name == "text"
    assert common_type([named_type("char(3)"), named_type("char(5)")]).name == "bpchar"
    with pytest.raises(DatatypeMismatch):
        common_type([builtin("date"), builtin("int4")])


def test_a_length_stays_where_all_have_it() -> None:
    assert merged([named_type("char(3)"), named_type("char(3)")]).name == "char(3)"
    assert merged([named_type("char(3)"), None]).name == "bpchar"


def test_values_become_what_their_choice_is_and_then_what_it_becomes() -> None:
    inner, outer = [part("int4"), part("numeric(6,3)"), part(None)], part("float4")
    whole = choice(choice(*inner), outer, casts=("text",))
    owner = whole.resolve()
    assert owner is not None
    assert owner.name == "text"
    assert [names(one) for one in inner] == [["numeric", "float4", "text"], ["float4", "text"], ["numeric", "float4", "text"]]
    assert names(outer) == ["text"]


def test_unknown_is_text_in_a_choice_and_where_it_settles() -> None:
    one, other = part(None), part(None)
    assert choice(one, other).resolve() == builtin("text")
    assert (names(one), names(other)) == (["text"], ["text"])
    single = part(None)
    assert single.resolve() is None
    assert Part(parts=[part(None)], settles=True).resolve() == builtin("text")


def test_operands_without_a_type_are_of_the_other_s() -> None:
    left, right = part("varchar(5)"), part(None)
    assert compare_pair(left, right).at.name == "text"
    assert (names(left), names(right)) == ([], ["text"])
    with pytest.raises(UndefinedOperator):
        compare_pair(part("date"), choice(part(None), part(None)))


def test_nullif_is_of_the_type_of_its_left_operand() -> None:
    types = (
        ("int4", "float8", "float8"),
        ("int4", "int8", "int4"),
        ("char(3)", "text", "text"),
        ("char(3)", None, "char(3)"),
        ("float4", "numeric", "float4"),
    )
    for one, other, result in types:
        whole = Part(nullif=(part(one), part(other))).resolve()
        assert whole is not None
        assert whole.name == result


def test_a_list_becomes_one_type_where_there_is_one() -> None:
    """``real IN (0.1, 0.2)`` compares reals, ``real IN (0.1)`` double precision."""
    left, rights = part("float4"), [part("numeric"), part("numeric")]
    assert [result.at.name for result in compare_listed(left, rights)] == ["float4", "float4"]
    assert [names(right) for right in rights] == [["float4"], ["float4"]]
    assert compare_pair(part("float4"), part("numeric")).at.name == "float8"
    left, rights = part("date"), [part("int4"), part(None)]
    with pytest.raises(UndefinedOperator):
        compare_listed(left, rights)


def test_values_are_compared_as_the_column_s_tags_are_or_not_at_all() -> None:
    listed = part("varchar(3)")
    point = compare_pair(part("text"), listed).at
    compare_with_column(named_type("char(6)"), [listed], [point])
    assert names(listed) == ["text"], "of which the blanks count, as they would not beside a char"
    number = part("numeric")
    number.resolve()
    with pytest.raises(StatementRefused):
        compare_with_column(builtin("float4"), [number], [builtin("numeric")])
    with pytest.raises(StatementRefused):
        check_apart(builtin("int4"), [builtin("float4")])
    check_apart(builtin("int4"), [builtin("int8"), builtin("numeric")])


def test_arrays_are_compared_with_arrays() -> None:
    assert compare_pair(Part(array_of(builtin("int4"))), part(None)).at.name == "int4[]"


def test_what_a_column_has_no_operator_with_is_a_refusal() -> None:
    """As in ``CASE WHEN id < 4 THEN codes ELSE $1 END = $2``, the column a varchar[], the parameter a text[]."""
    given = part("text[]")
    given.resolve()
    with pytest.raises(StatementRefused) as caught:
        compare_with_column(named_type("varchar[]"), [given], [named_type("text[]")])
    assert caught.value.sqlstate == "0A000"
