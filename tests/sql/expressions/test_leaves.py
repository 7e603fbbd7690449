"""What an expression is made of, and of which types."""

from __future__ import annotations

import pytest

from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.expressions.leaves import Term, term
from phiproxy.sql.resolve.protected_values import Protected
from phiproxy.sql.resolve.scope import Scope, Source, SourceColumn
from phiproxy.sql.rules import RULES
from phiproxy.sql.text.parse import parse
from tests.clinic_model import PATH
from tests.fixtures.model import planner


def made(text: str) -> Term:
    """Return an expression over people and stays as a term."""
    statement = f"SELECT {text}".encode()
    tables = planner().protection.by_name
    (parsed,) = parse(statement)
    a = Analysis(statement, Context(planner().protection, planner().catalog, PATH, "clinic"), parsed, RULES)
    sources = tuple(
        Source(name, tuple(SourceColumn(c.name, Protected(c, c.type)) for c in tables["public", name].columns.values()))
        for name in ("people", "stays")
    )
    return term(a, parsed.body["targetList"][0]["ResTarget"]["val"], Scope(sources))


@pytest.mark.parametrize(
    ("text", "type_", "steps"),
    [
        ("bed", "int4", [[]]),
        ("bed::int", "int4", [[]]),
        ("coalesce(bed, 5)", "int4", [[], []]),
        ("coalesce(bed, 2.5, '7')", "numeric", [["numeric"], [], ["numeric"]]),
        ("coalesce('x', $1)", "text", [["text"], ["text"]]),
        ("coalesce(coalesce(1, 2.5), 1::float8)", "float8", [["numeric", "float8"], ["float8"], []]),
        ("CASE WHEN bed = 1 THEN code END", "varchar", [["varchar"], []]),
        ("CASE WHEN bed = 1 THEN 1::int8 ELSE bed END", "int8", [["int8"], []]),
        ("nullif(bed, 1::float8)", "float8", [["float8"], []]),
    ],
)
def test_each_part_of_a_term_becomes_the_type_of_the_whole(text: str, type_: str, steps: list[list[str]]) -> None:
    whole_term = made(text)
    whole = whole_term.part.resolve()
    assert whole is not None
    assert whole.name.partition("(")[0] == type_
    assert [[to.name for to in part.steps] for part in whole_term.part.values()] == steps


def test_a_single_leaf_is_nothing_else() -> None:
    assert made("bed").single is not None
    assert made("coalesce(bed, 1)").single is None
    assert made("coalesce(bed, random())").unprotected is not None


def test_casts_to_a_column_s_own_type_are_seen_through() -> None:
    for text in ("people.born::date", "CAST(bed AS int)", "code::varchar(20)"):
        single = made(text).single
        assert single is not None
        assert len(single.casts) == 1
        assert isinstance(single.value, Protected)
