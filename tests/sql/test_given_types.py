"""Types of columns of given values, and what each of them becomes."""

from __future__ import annotations

from phiproxy.policy.types import builtin, named_type
from phiproxy.sql.given_types import conversions, type_of
from phiproxy.sql.parse import Node, parse
from phiproxy.sql.scope import ListColumn
from phiproxy.sql.sinks import as_sink

TEXT = builtin("text")


def column(*values: str, of_values: bool = True) -> ListColumn:
    nodes: list[Node] = [t["ResTarget"]["val"] for t in parse(f"SELECT {', '.join(values)}".encode())[0].body["targetList"]]
    return ListColumn([as_sink(node) for node in nodes], list(range(len(nodes))), of_values=of_values)


def ways(of: ListColumn, *steps: str) -> list[list[str]]:
    found, _ = conversions(of, [named_type(name) for name in steps], TEXT)
    return [[to.name for to in way] for way in found.values()]


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
