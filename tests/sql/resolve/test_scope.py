"""Name resolution as the server's: one owner, none, two, or a source that may own more."""

from __future__ import annotations

import pytest

from phiproxy.errors import AmbiguousColumn, StatementRefused, UndefinedColumn, UndefinedTable
from phiproxy.sql.resolve.protected_values import CLEAR, Protected
from phiproxy.sql.resolve.scope import Merged, Scope, Source, SourceColumn, find_source, joined_of, resolve
from tests.clinic_model import PATIENTS

SSN = Protected(PATIENTS.columns["ssn"], PATIENTS.columns["ssn"].type)


def source(alias: str, *, opaque: bool = False, schema: str | None = None, **columns: object) -> Source:
    """Return a source whose columns are Clear where they are True, else protected."""
    return Source(alias, tuple(SourceColumn(n, CLEAR if c is True else SSN) for n, c in columns.items()), schema, opaque)


P = source("p", schema="public", id=True, ssn=False)
V = source("v", id=True, room=True)


def test_one_owner_none_and_two() -> None:
    scope = Scope((P, V))
    assert resolve(scope, ["ssn"], 1).value is SSN
    assert resolve(scope, ["p", "ssn"], 1).value is SSN
    assert resolve(scope, ["room"], 1).value is CLEAR
    with pytest.raises(AmbiguousColumn):
        resolve(scope, ["id"], 1)
    with pytest.raises(UndefinedColumn):
        resolve(scope, ["nope"], 1)
    with pytest.raises(UndefinedTable):
        resolve(scope, ["q", "ssn"], 1)


def test_the_inner_level_hides_the_outer_one() -> None:
    inner = Scope((source("s", ssn=True),), Scope((P,)))
    assert resolve(inner, ["ssn"], 1).value is CLEAR
    assert resolve(inner, ["p", "ssn"], 1).value is SSN
    assert resolve(Scope((V,), Scope((P,))), ["ssn"], 1).value is SSN


def test_a_source_of_unknown_columns_might_own_the_name() -> None:
    opaque = source("f", opaque=True)
    assert resolve(Scope((P, opaque)), ["ssn"], 1).value is SSN
    assert resolve(Scope((V, opaque)), ["x"], 1).value is CLEAR
    with pytest.raises(StatementRefused) as caught:
        resolve(Scope((opaque,), Scope((P,))), ["ssn"], 1)
    assert caught.value.hint


def test_a_whole_row_is_refused_only_where_something_protected_is_in_it() -> None:
    assert resolve(Scope((V,)), ["v"], 1).value is CLEAR
    with pytest.raises(StatementRefused):
        resolve(Scope((P,)), ["p"], 1)


def test_a_schema_qualifies_a_table_without_alias() -> None:
    assert find_source(Scope((P,)), "p", "public", 1) is P
    with pytest.raises(UndefinedTable):
        find_source(Scope((P,)), "p", "other", 1)


def test_system_columns_are_clear() -> None:
    assert resolve(Scope((P,)), ["ctid"], 1).value is CLEAR
    assert resolve(Scope((P,)), ["p", "xmin"], 1).value is CLEAR


def test_a_merged_column_hides_those_of_its_join_and_no_others() -> None:
    merged = Merged(SourceColumn("id", SSN, (("p", "id"), ("v", "id"))), (P, V))
    assert resolve(Scope((P, V), merged=(merged,)), ["id"], 1) is merged.column
    assert resolve(Scope((P, V), merged=(merged,)), ["v", "id"], 1).value is CLEAR
    with pytest.raises(AmbiguousColumn):
        resolve(Scope((P, V, source("w", id=True)), merged=(merged,)), ["id"], 1)


def test_a_merged_column_is_named_by_its_sources_or_refused() -> None:
    merged = Merged(SourceColumn("id", SSN, (("p", "id"),)), (P, V))
    outer = Scope((P, V), merged=(merged,))
    assert resolve(Scope((source("w"),), outer), ["id"], 1) is merged.column
    with pytest.raises(StatementRefused):
        resolve(Scope((source("p"),), outer), ["id"], 1)


def test_star_names_each_column_in_full() -> None:
    assert [c.spelled for c in joined_of(V).star] == [(("v", "id"),), (("v", "room"),)]
