"""What rules note of a statement: rows apart, casts taken away, the keys of its tree."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.rewrite.common_changes import DropCast
from phiproxy.sql.rules import RULES
from phiproxy.sql.text.parse import parse
from tests.clinic_model import CATALOG, PATH, PATIENTS, PROTECTION

SSN = PATIENTS.columns["ssn"]


def analysis(text: str = "SELECT ssn::varchar(3) FROM patients") -> Analysis:
    (statement,) = parse(text.encode())
    return Analysis(text.encode(), Context(PROTECTION, CATALOG, PATH, "clinic"), statement, RULES)


def test_rows_are_numbered_apart() -> None:
    a = analysis()
    assert a.new_row() != a.new_row()


def test_a_cast_that_changes_the_value_stays_and_is_refused() -> None:
    a = analysis()
    cast = a.statement.body["targetList"][0]["ResTarget"]["val"]
    with pytest.raises(StatementRefused, match="cast of") as refused:
        a.strip([cast], SSN)
    assert refused.value.position == a.at(len("SELECT ssn::")), "the type is what is wrong"
    assert not a.rewrites
    a.drop_casts([cast, cast])
    assert [rewrite.cast for rewrite in a.rewrites.every(DropCast)] == [cast]


def test_the_keys_say_which_nodes_there_are() -> None:
    assert "TypeCast" in analysis().keys
    assert "FuncCall" not in analysis().keys


def test_what_is_looked_at_together_has_one_group() -> None:
    a = analysis()
    with a.together():
        group = a.group
        with a.together():
            assert a.group == group != 0
    assert a.group == 0


def test_a_refusal_without_a_position_gets_that_of_the_node() -> None:
    a = analysis()
    target = a.statement.body["targetList"][0]["ResTarget"]
    with pytest.raises(StatementRefused) as refused, a.positioned(target):
        raise StatementRefused("no", hint="Do not.")
    assert refused.value.position == 8
