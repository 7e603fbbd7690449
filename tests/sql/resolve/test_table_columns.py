"""Columns of a table as a source's, made when they are asked for."""

from phiproxy.policy.catalog import CatalogColumn
from phiproxy.sql.resolve.protected_values import CLEAR
from phiproxy.sql.resolve.scope import SourceColumn
from phiproxy.sql.resolve.table_columns import TableColumns, named
from tests.clinic_model import CATALOG

COLUMNS = CATALOG.by_name["public", "patients"].columns


def test_each_is_made_once_and_not_before_it_is_asked_for() -> None:
    made: list[str] = []

    def make(column: CatalogColumn) -> SourceColumn:
        made.append(column.name)
        return SourceColumn(column.name, CLEAR)

    columns = TableColumns(COLUMNS, make)
    assert len(columns) == len(COLUMNS)
    assert not made
    (ssn,) = columns.named("ssn")
    assert columns.named("ssn")[0] is ssn
    assert not columns.named("nothing")
    assert made == ["ssn"]
    assert [c.name for c in columns] == [c.name for c in COLUMNS]
    assert [c.name for c in columns[1:3]] == [c.name for c in COLUMNS[1:3]]
    assert sorted(made) == sorted(c.name for c in COLUMNS)


def test_a_subquery_may_have_several_of_one_name() -> None:
    columns = (SourceColumn("a", CLEAR), SourceColumn("b", CLEAR), SourceColumn("a", CLEAR))
    assert named(columns, "a") == [columns[0], columns[2]]
