"""Relations as the server finds them: CTEs first, then the path; a foreign database is not one."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import NotPermitted, PathNeeded, StatementRefused, UndefinedTable
from phiproxy.policy.catalog import Relation
from phiproxy.sql.analysis import Analysis, Context, rename
from phiproxy.sql.meaning import Meaning
from phiproxy.sql.scope import CLEAR, Source, SourceColumn
from tests.clinic_model import CATALOG, PATH, PROTECTION


def analysis(path: tuple[str, ...] | None = PATH) -> Analysis:
    return Analysis(b"", Context(PROTECTION, CATALOG, path, "clinic"), Meaning("select", 0, 0))


def test_a_relation_is_found_by_the_path_and_remembered_as_qualified() -> None:
    a = analysis(("archive", "public"))
    found = a.relation({"relname": "patients"})
    assert isinstance(found, Relation)
    assert found.schema == "archive"
    assert [schema for _, schema in a.qualified] == ["archive"]


def test_a_cte_hides_it_but_not_a_target() -> None:
    a = analysis()
    a.ctes.append({"patients": Source("patients", (), None)})
    assert isinstance(a.relation({"relname": "patients"}), Source)
    assert isinstance(a.relation({"relname": "patients"}, target=True), Relation)


def test_what_is_not_found() -> None:
    with pytest.raises(UndefinedTable):
        analysis().relation({"relname": "nope"})
    with pytest.raises(PathNeeded):
        analysis(None).relation({"relname": "patients"})
    with pytest.raises(NotPermitted):
        analysis().relation({"relname": "root_key", "schemaname": "phiproxy"})
    with pytest.raises(StatementRefused):
        analysis().relation({"relname": "patients", "schemaname": "public", "catalogname": "other"})


def test_an_alias_renames_the_first_columns() -> None:
    source = Source("t", (SourceColumn("a", CLEAR), SourceColumn("b", CLEAR)))
    renamed = rename(source, {"colnames": [{"String": {"sval": "x"}}]})
    assert [c.name for c in renamed.columns] == ["x", "b"]
    assert rename(source, {}) is source


def test_rows_are_numbered_apart() -> None:
    a = analysis()
    assert a.new_row() != a.new_row()


def test_only_the_session_says_which_temporary_tables_hide_a_protected_one() -> None:
    hidden = dataclasses.replace(CATALOG, relations=(*CATALOG.relations, Relation(900, "pg_temp_3", "patients", "r", ())))
    gone = Analysis(b"", Context(PROTECTION, hidden, ("pg_temp_3", *PATH), "clinic"), Meaning("select", 0, 0))
    assert gone.target_relation({"relname": "patients"}).schema == "public"
    with pytest.raises(UndefinedTable):
        gone.relation({"relname": "patients", "schemaname": "pg_temp"})
    there = Context(PROTECTION, CATALOG, ("pg_temp_3", *PATH), "clinic", temporary=frozenset({"patients"}))
    a = Analysis(b"", there, Meaning("select", 0, 0))
    for schema in ({}, {"schemaname": "pg_temp"}):
        assert a.target_relation({"relname": "patients", **schema}).schema == "pg_temp"
    listed_last = dataclasses.replace(there, path=(*PATH, "pg_temp_3"))
    assert Analysis(b"", listed_last, Meaning("select", 0, 0)).target_relation({"relname": "patients"}).schema == "public"
    found = a.relation({"relname": "patients", "schemaname": "public"})
    assert isinstance(found, Relation)
    assert found.schema == "public"
