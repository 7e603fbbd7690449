"""Name resolution as the server's: one owner, none, two, or a source that may own more."""

from __future__ import annotations

import pytest

from phiproxy.errors import AmbiguousColumn, StatementRefused, UndefinedColumn, UndefinedTable
from phiproxy.sql.scope import CLEAR, Protected, Scope, Source, SourceColumn, find_source, resolve
from tests.clinic_model import PATIENTS

SSN = Protected(PATIENTS.columns["ssn"], PATIENTS.columns["ssn"].type)


def source(alias: str, *, opaque: bool = False, schema: str | None = None, **columns: object) -> Source:
    """Return a source whose columns are Clear where they are True, else protected."""
    return Source(alias, tuple(SourceColumn(n, CLEAR if c is True else SSN) for n, c in columns.items()), schema, opaque)


P = source("p", schema="public", id=True, ssn=False)
V = source("v", id=True, room=True)


def test_one_owner_none_and_two() -> None:
    scope = Scope((P, V))
    assert resolve(scope, ["ssn"], 1) is SSN
    assert resolve(scope, ["p", "ssn"], 1) is SSN
    assert resolve(scope, ["room"], 1) is CLEAR
    with pytest.raises(AmbiguousColumn):
        resolve(scope, ["id"], 1)
    with pytest.raises(UndefinedColumn):
        resolve(scope, ["nope"], 1)
    with pytest.raises(UndefinedTable):
        resolve(scope, ["q", "ssn"], 1)


def test_the_inner_level_hides_the_outer_one() -> None:
    inner = Scope((source("s", ssn=True),), Scope((P,)))
    assert resolve(inner, ["ssn"], 1) is CLEAR
    assert resolve(inner, ["p", "ssn"], 1) is SSN
    assert resolve(Scope((V,), Scope((P,))), ["ssn"], 1) is SSN


def test_a_source_of_unknown_columns_might_own_the_name() -> None:
    opaque = source("f", opaque=True)
    assert resolve(Scope((P, opaque)), ["ssn"], 1) is SSN
    assert resolve(Scope((V, opaque)), ["x"], 1) is CLEAR
    with pytest.raises(StatementRefused) as caught:
        resolve(Scope((opaque,), Scope((P,))), ["ssn"], 1)
    assert caught.value.hint


def test_a_whole_row_is_refused_only_where_something_protected_is_in_it() -> None:
    assert resolve(Scope((V,)), ["v"], 1) is CLEAR
    with pytest.raises(StatementRefused):
        resolve(Scope((P,)), ["p"], 1)


def test_a_schema_qualifies_a_table_without_alias() -> None:
    assert find_source(Scope((P,)), "p", "public", 1) is P
    with pytest.raises(UndefinedTable):
        find_source(Scope((P,)), "p", "other", 1)


def test_system_columns_are_clear() -> None:
    assert resolve(Scope((P,)), ["ctid"], 1) is CLEAR
    assert resolve(Scope((P,)), ["p", "xmin"], 1) is CLEAR
